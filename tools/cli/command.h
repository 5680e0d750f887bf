// What the commands of graphc and graphc-run share: declaring options, printing errors, exit codes.
//
//   void add_fmt(CommandLine& program) {
//     auto o = std::make_shared<Options>();
//     program.command("fmt", "formats a .graph file")
//         .positional("FILE", o->file, "the file")
//         .flag("-i,--in-place", o->in_place, "rewrite the file")
//         .example("fmt -i net.graph")
//         .action([o] { return run(*o); });
//   }
//
// CLI11 stays in command.cpp. Exit codes (CLI.md): 0 fine, 1 the input is wrong, 2 wrong usage, 3 an internal
// error, 4 the device or a resource failed, 130 interrupted by Ctrl-C.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace CLI {
class App;
}

namespace graphc::cli {

class Command {
 public:
  explicit Command(CLI::App* app, std::function<Status()>* chosen) : app_(app), chosen_(chosen) {}
  Command& positional(const std::string& name, std::string& target, const std::string& help,
                      bool required = true);
  Command& option(const std::string& names, std::string& target, const std::string& help,
                  const std::string& placeholder = "TEXT");
  Command& option(const std::string& names, int64_t& target, const std::string& help, int64_t lo = 0,
                  int64_t hi = INT64_MAX);
  Command& option(const std::string& names, int& target, const std::string& help, int lo = 0,
                  int hi = INT32_MAX);
  Command& option(const std::string& names, uint64_t& target, const std::string& help);
  // may be given several times
  Command& option(const std::string& names, std::vector<std::string>& target, const std::string& help,
                  const std::string& placeholder = "TEXT");
  Command& flag(const std::string& names, bool& target, const std::string& help);
  Command& example(const std::string& text);  // what follows the program's name
  Command& action(std::function<Status()> f);
  // whether an option was given
  std::function<bool()> given(const std::string& name) const;

 private:
  CLI::App* app_;
  std::function<Status()>* chosen_;
};

class CommandLine {
 public:
  // name: as messages begin. default_command: what `NAME FILE ..` means, if FILE is no command; may be "".
  CommandLine(std::string name, const std::string& about, std::string default_command = "");
  ~CommandLine();
  Command command(const std::string& name, const std::string& help);
  int run(int argc, char** argv);

 private:
  std::string default_;
  std::unique_ptr<CLI::App> app_;
  std::function<Status()> chosen_;
};

// "graphc: error: ..." or, if the message is a list of diagnostics, as it is. Returns the exit code.
int report(const Error& e);
int exit_code(ErrorCode code);
// The exit code after everything was printed: 0, or 4 where the standard output is full or closed.
int flush_output();
// Diagnostics that don't stop the work.
void print_warnings(const std::string& text);

// --set NAME=VALUE
Result<std::map<std::string, std::string>> parse_set(const std::vector<std::string>& set);
// An input file must be there: a missing one is the user's mistake, not the machine's.
Status check_file(const std::string& path);
// The command as it was typed, quoted where a shell needs it.
const std::string& command_line();
// Control characters and bytes that are no UTF-8 as '?': names in foreign files mustn't steer the terminal.
std::string printable(std::string_view text);
bool on_terminal();  // stderr, for progress bars

// "1.5 MiB"
std::string bytes_text(double bytes);

}  // namespace graphc::cli
