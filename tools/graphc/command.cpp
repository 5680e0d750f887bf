#include "tools/graphc/command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <new>

#include "tools/driver/compile.h"

namespace graphc::cli {

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
  app_->add_option(names, target, help)->type_name("N")->capture_default_str();
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
  app_->footer("Example:\n  " + text);
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

CommandLine::CommandLine() {
  app_ =
      std::make_unique<CLI::App>("graphc compiles, trains and runs models written in .graph files", "graphc");
  app_->require_subcommand(1);
  app_->set_version_flag("--version", [] { return fmt::format("graphc {}", kGraphcVersion); });
  app_->footer(
      "graphc COMMAND --help says more. Exit codes: 0 fine, 1 the input is wrong, 2 wrong usage, 3 an "
      "internal\n"
      "error, 4 the device or a resource failed.");
}
CommandLine::~CommandLine() = default;

Command CommandLine::command(const std::string& name, const std::string& help) {
  return Command(app_->add_subcommand(name, help), &chosen_);
}

namespace {
std::string typed;
}  // namespace
const std::string& command_line() { return typed; }

int CommandLine::run(int argc, char** argv) {
  for (int i = 0; i < argc; ++i) {
    const std::string a = argv[i];
    const bool plain = !a.empty() && a.find_first_of(" \t\n'\"\\$`*?[](){}<>|&;~#!") == std::string::npos;
    std::string quoted = "'";
    for (const char c : a) quoted += c == '\'' ? "'\\''" : std::string(1, c);
    typed += (i ? " " : "") + (plain ? a : quoted + "'");
  }
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app_->exit(e);  // --help, --version
    fmt::print(stderr, "graphc: error: {}\n", e.what());
    const auto commands = app_->get_subcommands();
    fmt::print(stderr, "graphc {}--help lists what there is\n",
               commands.empty() ? "" : commands[0]->get_name() + " ");
    return 2;
  }
  // Nothing of ours throws on purpose; what the standard library may throw is reported in our own words.
  try {
    const Status s = chosen_();
    if (!s.ok()) return report(s.error());
  } catch (const std::bad_alloc&) {
    return report({ErrorCode::kNoMemory, "out of memory"});
  } catch (const std::exception&) {
    return report(internal_error("an unexpected failure; please report it with the command and the model"));
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout))
    return report({ErrorCode::kIo, "can't write to the standard output"});
  return 0;
}

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalid:
    case ErrorCode::kUnsupported: return 1;
    case ErrorCode::kUsage: return 2;
    case ErrorCode::kInternal: return 3;
    default: return 4;
  }
}

int report(const Error& e) {
  std::fflush(stdout);
  std::string text = e.message;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const std::string first = text.substr(0, text.find('\n'));
  // Diagnostics carry their place and severity already.
  const bool diagnostics =
      first.find(": error: ") != std::string::npos || first.find(": warning: ") != std::string::npos;
  if (diagnostics)
    fmt::print(stderr, "{}\n", text);
  else
    fmt::print(stderr, "graphc: {}{}\n",
               e.code == ErrorCode::kInternal ? "internal error: " : "error: ", text);
  return exit_code(e.code);
}

void print_warnings(const std::string& text) {
  if (!text.empty()) fmt::print(stderr, "{}{}", text, text.back() == '\n' ? "" : "\n");
}

Result<std::map<std::string, std::string>> parse_set(const std::vector<std::string>& set) {
  std::map<std::string, std::string> out;
  for (const std::string& s : set) {
    const size_t eq = s.find('=');
    if (eq == std::string::npos || eq == 0)
      return Error{ErrorCode::kUsage, fmt::format("--set takes NAME=VALUE, not '{}'", s)};
    out[s.substr(0, eq)] = s.substr(eq + 1);
  }
  return out;
}

Status check_file(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) return invalid(fmt::format("there is no file '{}'", path));
  if (::access(path.c_str(), R_OK) != 0) return invalid(fmt::format("the file '{}' can't be read", path));
  return {};
}

bool on_terminal() { return ::isatty(2) != 0; }

std::string bytes_text(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) bytes /= 1024, ++unit;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

}  // namespace graphc::cli
