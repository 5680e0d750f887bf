#include "tools/cli/command.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <new>
#include <regex>
#include <system_error>

#include "runtime/executor.h"
#include "runtime/version.h"

namespace graphc::cli {
namespace {
std::string program_name = "graphc";
}

Command& Command::positional(const std::string& name, std::string& target, const std::string& help,
                             bool required) {
  CLI::Option* o = app_->add_option(name, target, help);
  o->type_name("");
  if (required) o->required();
  return *this;
}
Command& Command::option(const std::string& names, std::string& target, const std::string& help,
                         const std::string& placeholder) {
  app_->add_option(names, target, help)->type_name(placeholder);
  return *this;
}
Command& Command::option(const std::string& names, int64_t& target, const std::string& help, int64_t lo,
                         int64_t hi) {
  app_->add_option(names, target, help)
      ->check(CLI::Range(lo, hi).description(""))
      ->type_name("N")
      ->capture_default_str();
  return *this;
}
Command& Command::option(const std::string& names, int& target, const std::string& help, int lo, int hi) {
  app_->add_option(names, target, help)
      ->check(CLI::Range(lo, hi).description(""))
      ->type_name("N")
      ->capture_default_str();
  return *this;
}
Command& Command::option(const std::string& names, uint64_t& target, const std::string& help) {
  // CLI11 would take the nearest number that fits.
  const auto parse = [names, &target](const std::string& text) {
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), target);
    if (ec != std::errc() || end != text.data() + text.size())
      throw CLI::ConversionError(names + " = " + text);
  };
  app_->add_option_function<std::string>(names, parse, help)
      ->type_name("N")
      ->default_str(std::to_string(target));
  return *this;
}
Command& Command::option(const std::string& names, std::vector<std::string>& target, const std::string& help,
                         const std::string& placeholder) {
  app_->add_option(names, target, help)
      ->type_name(placeholder)
      ->take_all()
      ->expected(1, 1 << 20)
      ->allow_extra_args(false);
  return *this;
}
Command& Command::flag(const std::string& names, bool& target, const std::string& help) {
  app_->add_flag(names, target, help);
  return *this;
}
Command& Command::example(const std::string& text) {
  app_->footer("Example:\n  " + program_name + " " + text);
  return *this;
}
Command& Command::action(std::function<Status()> f) {
  app_->callback([chosen = chosen_, f = std::move(f)] { *chosen = f; });
  return *this;
}
std::function<bool()> Command::given(const std::string& name) const {
  const CLI::Option* o = app_->get_option(name);
  return [o] { return o->count() > 0; };
}

CommandLine::CommandLine(std::string name, const std::string& about, std::string default_command)
    : default_(std::move(default_command)) {
  app_ = std::make_unique<CLI::App>(about, name);
  program_name = name;
  app_->require_subcommand(1);
  app_->set_version_flag("--version", [name] { return fmt::format("{} {}", name, kGraphcVersion); });
  app_->footer(name +
               " COMMAND --help says more. Exit codes: 0 fine, 1 the input is wrong, 2 wrong usage, 3 an "
               "internal\n"
               "error, 4 the device or a resource failed, 130 interrupted.");
}
CommandLine::~CommandLine() = default;

Command CommandLine::command(const std::string& name, const std::string& help) {
  return Command(app_->add_subcommand(name, help), &chosen_);
}

namespace {

std::string typed;

// Never throws, unlike fmt::print, and there is nowhere to complain to.
void print_error(const std::string& text) { std::fputs(printable(text).c_str(), stderr); }

// A file that is opened while a standard stream is closed must not take its number: results would be written
// into it.
void keep_standard_streams() {
  for (int fd = 0; fd < 3; ++fd)
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF) (void)!::open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* o : app.get_options()) {
    for (const std::string& n : o->get_lnames()) names.push_back("--" + n);
    for (const std::string& n : o->get_snames()) names.push_back("-" + n);
  }
  return names;
}

// CLI11's errors in our words.
std::string usage_error(const CLI::App& app, const CLI::ParseError& e) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  const CLI::App& command = chosen.empty() ? app : *chosen[0];
  for (const std::string& word : command.remaining()) {
    const std::string name = word.substr(0, word.find('='));
    if (word.size() > 1 && word[0] == '-')
      return fmt::format("there is no option '{}'{}", name, nearest_hint(name, option_names(command)));
  }
  if (chosen.empty()) {
    std::vector<std::string> commands;
    for (const CLI::App* c : app.get_subcommands([](const CLI::App*) { return true; }))
      commands.push_back(c->get_name());
    for (const std::string& word : app.remaining())
      return fmt::format("there is no command '{}'{}", word, nearest_hint(word, commands));
    return "a command is missing";
  }
  for (const std::string& word : command.remaining())
    return fmt::format("'{}' is one argument too many", word);
  // "--threads: Value two not in range 0 to 1024", "Could not convert: --seed = two"
  const std::string text = e.what();
  std::smatch m;
  static const std::regex range("(-[-a-zA-Z,]*): Value (.*) not in range (-?[0-9]+) to ([0-9]+)");
  static const std::regex convert("Could not convert: (-[-a-zA-Z,]*) = (.*)");
  if (std::regex_match(text, m, range))
    return m[4].length() > 9 ? fmt::format("{} takes a whole number from {} on, not '{}'", m[1].str(),
                                           m[3].str(), m[2].str())
                             : fmt::format("{} takes a whole number from {} to {}, not '{}'", m[1].str(),
                                           m[3].str(), m[4].str(), m[2].str());
  if (std::regex_match(text, m, convert))
    return fmt::format("{} takes a whole number, not '{}'", m[1].str(), m[2].str());
  return text;
}

}  // namespace

const std::string& command_line() { return typed; }

int CommandLine::run(int argc, char** argv) {
  keep_standard_streams();
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows too large is an error of write
  for (int i = 0; i < argc; ++i) {
    const std::string a = argv[i];
    const bool plain = !a.empty() && a.find_first_of(" \t\n'\"\\$`*?[](){}<>|&;~#!") == std::string::npos;
    std::string quoted = "'";
    for (const char c : a) quoted += c == '\'' ? "'\\''" : std::string(1, c);
    typed += (i ? " " : "") + (plain ? a : quoted + "'");
  }
  try {
    std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
    if (!words.empty() && words[0] == "help") words = {words.size() > 1 ? words[1] : "--help", "--help"};
    const auto commands = app_->get_subcommands([](const CLI::App*) { return true; });
    const auto is_command = [&](const CLI::App* c) { return c->get_name() == words[0]; };
    const auto is_general = [&] {
      return words[0] == "--help" || words[0] == "-h" || words[0] == "--version";
    };
    // a file or an option, unlike a mistyped command
    if (!default_.empty() && !words.empty() && words[0].find_first_of("-./") != std::string::npos &&
        !is_general() && std::none_of(commands.begin(), commands.end(), is_command))
      words.insert(words.begin(), default_);
    std::reverse(words.begin(), words.end());  // as CLI11 wants them
    app_->parse(std::move(words));
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) {  // --help, --version
      app_->exit(e);
      return flush_output();
    }
    const auto commands = app_->get_subcommands();
    print_error(fmt::format("{0}: error: {1}\n{0} {2}--help lists what there is\n", program_name,
                            usage_error(*app_, e), commands.empty() ? "" : commands[0]->get_name() + " "));
    return 2;
  }
  // Nothing of ours throws on purpose; what the standard library may throw is reported in our own words.
  try {
    const Status s = chosen_();
    if (!s.ok()) return report(s.error());
  } catch (const std::bad_alloc&) {
    return report({ErrorCode::kNoMemory, "out of memory"});
  } catch (const std::system_error& e) {  // of std::thread, or fmt::print at a full or closed stream
    if (!std::ferror(stdout))
      return report({ErrorCode::kNoMemory,
                     fmt::format("the system refused a thread or memory: {}", e.code().message())});
  } catch (const std::exception&) {
    if (!std::ferror(stdout))
      return report(internal_error("an unexpected failure; please report it with the command and the model"));
  }
  return flush_output();
}

int flush_output() {
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return 0;
  return report({ErrorCode::kIo, "can't write to the standard output"});
}

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalid:
    case ErrorCode::kUnsupported: return 1;
    case ErrorCode::kUsage: return 2;
    case ErrorCode::kCancelled: return 130;  // as the shell counts Ctrl-C: 'train && eval' stops here
    case ErrorCode::kInternal: return 3;
    default: return 4;
  }
}

int report(const Error& e) {
  std::fflush(stdout);
  std::string text = e.message;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (text.empty()) return exit_code(e.code);
  if (text.starts_with("error: ")) text.erase(0, 7);  // a diagnostic without a place
  const std::string first = text.substr(0, text.find('\n'));
  // Diagnostics carry their place and severity already.
  const bool diagnostics =
      first.find(": error: ") != std::string::npos || first.find(": warning: ") != std::string::npos;
  if (diagnostics)
    print_error(text + "\n");
  else
    print_error(fmt::format("{}: {}{}\n", program_name,
                            e.code == ErrorCode::kInternal ? "internal error: " : "error: ", text));
  return exit_code(e.code);
}

void print_warnings(const std::string& text) {
  if (!text.empty()) print_error(text + (text.back() == '\n' ? "" : "\n"));
}

Result<std::map<std::string, std::string>> parse_set(const std::vector<std::string>& set) {
  std::map<std::string, std::string> out;
  for (const std::string& s : set) {
    const size_t eq = s.find('=');
    if (eq == std::string::npos || eq == 0)
      return Error{ErrorCode::kUsage, fmt::format("--set takes NAME=VALUE, not '{}'", s)};
    if (!out.emplace(s.substr(0, eq), s.substr(eq + 1)).second)
      return Error{ErrorCode::kUsage, fmt::format("--set {} is given twice", s.substr(0, eq))};
  }
  return out;
}

Status check_file(const std::string& path) {
  if (path.empty()) return invalid("a file's name is empty");
  struct stat st;
  if (::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode))
    return invalid(fmt::format("'{}' is a directory; a file is needed", path));
  if (::access(path.c_str(), F_OK) != 0) return invalid(fmt::format("there is no file '{}'", path));
  if (::access(path.c_str(), R_OK) != 0) return invalid(fmt::format("the file '{}' can't be read", path));
  return {};
}

std::string printable(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t k) {
      return i + k < text.size() ? static_cast<unsigned char>(text[i + k]) : 0u;
    };
    const unsigned c = byte(0);
    size_t length = c < 0x80                ? 1
                    : c >= 0xc2 && c < 0xe0 ? 2
                    : c >= 0xe0 && c < 0xf0 ? 3
                    : c >= 0xf0 && c < 0xf5 ? 4
                                            : 0;
    for (size_t k = 1; k < length; ++k)
      if ((byte(k) & 0xc0) != 0x80) length = 0;
    const bool control = (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f || (c == 0xc2 && byte(1) < 0xa0);
    if (length == 0 || control) {
      out += '?';
      i += std::max<size_t>(1, length);
    } else {
      out += text.substr(i, length);
      i += length;
    }
  }
  return out;
}

bool on_terminal() { return ::isatty(2) != 0; }

std::string bytes_text(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) bytes /= 1024, ++unit;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

}  // namespace graphc::cli
