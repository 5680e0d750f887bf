// graphc-opt: reads core text, runs passes on it, prints core text. The tool of the pass tests, and what
// replays a reproducer (its first lines name the passes). A surface file is elaborated first.
//
//   graphc-opt net.core.graph --passes=cse,dce --verify-each --time
//   graphc-opt examples/mnist_cnn.graph --train --passes=pipeline --no-loc --plan
#include <cstdio>
#include <sstream>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "frontend/frontend.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "passes/passes.h"
#include "passes/plan_memory.h"
#include "runtime/base/file.h"

using namespace graphc;

namespace {

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalid: return 1;
    case ErrorCode::kUsage: return 2;
    case ErrorCode::kInternal: return 3;
    default: return 4;
  }
}

int fail(const Error& e) {
  fmt::print(stderr, "graphc-opt: {}\n", e.message);
  return exit_code(e.code);
}

Result<std::unique_ptr<Module>> elaborate(const std::string& file, bool train,
                                          const std::vector<std::string>& set) {
  auto f = GraphFile::load(file);
  ElaborateOptions options;
  options.training = train;
  for (const std::string& s : set) {
    const size_t eq = s.find('=');
    if (eq == std::string::npos) return Error{ErrorCode::kUsage, "--set takes NAME=VALUE, not " + s};
    options.set[s.substr(0, eq)] = s.substr(eq + 1);
  }
  auto e = f->elaborate(options);
  if (!e) return invalid(f->report());
  return std::move(e->module);
}

int run(const std::string& file, std::string passes, const PassManagerOptions& options, bool time, bool plan,
        bool no_loc, bool train, const std::vector<std::string>& set) {
  auto text = read_file(file == "-" ? "/dev/stdin" : file);
  if (!text.ok()) return fail(text.error());
  ParseOptions parse_options;
  const size_t slash = file.rfind('/');
  parse_options.directory = slash == std::string::npos ? "." : file.substr(0, slash);
  auto module = is_core_text(*text) ? parse_core(*text, file, parse_options) : elaborate(file, train, set);
  if (!module.ok()) return fail(module.error());
  if (passes.empty()) passes = passes_of_reproducer(*text);
  auto list = parse_pass_list(passes);
  if (!list.ok()) return fail(list.error());
  PassManager pm;
  pm.options = options;
  for (Pass& p : *list) pm.add(std::move(p));
  const Status status = pm.run(**module);
  if (time)
    for (const auto& t : pm.timings()) fmt::print(stderr, "{:9.3f} ms  {}\n", t.ms, t.name);
  if (!status.ok()) return fail(status.error());
  fmt::print("{}", print(**module, {.locations = !no_loc}));
  if (plan) {
    for (const auto& f : (*module)->funcs) {
      auto p = plan_memory(*f);
      if (!p.ok()) return fail(p.error());
      std::istringstream lines(to_string(*p, *f));
      for (std::string line; std::getline(lines, line);) fmt::print("# {}\n", line);
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Runs passes over core text and prints the result.\n"
      "Example: graphc-opt net.graph --passes=canonicalize,cse,fuse --no-loc"};
  std::string file, passes, reproducer_dir;
  PassManagerOptions options;
  bool time = false, plan = false, no_loc = false;
  app.add_option("file", file, "core text; - for standard input")->required();
  app.add_option(
      "--passes", passes,
      "comma-separated passes, in order; `pipeline` and `pipeline-O0` name the whole. Without it: those "
      "that the file's `# passes:` line names");
  std::vector<std::string> set;
  bool train = false;
  app.add_flag("--train", train, "surface files: with the training and evaluation functions");
  app.add_option("--set", set, "surface files: NAME=VALUE, a size or setting");
  app.add_flag("--verify-each", options.verify_each, "verify before the first pass and after each");
  app.add_flag("--print-after-all", options.print_after_all, "print the module after each pass, to stderr");
  app.add_flag("--time", time, "print each pass's time, to stderr");
  app.add_flag("--plan", plan, "print the memory plan of each function as comments; needs fused functions");
  app.add_flag("--no-loc", no_loc, "leave locations out");
  app.add_option("--reproducer-dir", options.reproducer_dir, "where a failing pass leaves what replays it");
  CLI11_PARSE(app, argc, argv);
  options.print_locations = !no_loc;
  return run(file, passes, options, time, plan, no_loc, train, set);
}
