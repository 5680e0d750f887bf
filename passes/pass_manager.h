// PassManager: an ordered list of named passes over a module. Around each one it can time, verify and print;
// when a pass fails internally, or leaves IR the verifier refuses, it writes a reproducer that
// `graphc-opt FILE` replays.
//
//   PassManager pm = build_pipeline({});                 // passes/passes.h
//   pm.options.verify_each = true;
//   GC_CHECK(pm.run(module));
//   for (const PassManager::Timing& t : pm.timings()) fmt::print("{:8.3f} ms  {}\n", t.ms, t.name);
//
// A reproducer is the core text as it was before the failing pass, headed by comments:
//   # passes: cse
//   # error: pass cse made an invalid module: ..
//   # replay: graphc-opt --verify-each graphc-reproducer-cse.graph
// The values of large constants and weights are left out (zeros).
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "runtime/base/result.h"

namespace graphc {

struct Pass {
  std::string name;
  std::function<Status(Module&)> run;
};

struct PassManagerOptions {
  bool verify_each = false;
  bool print_after_all = false;  // to `print`; core text, headed by the pass's name
  bool print_locations = true;
  std::function<void(std::string_view)> print;  // default: stderr
  // Where a pass that fails internally leaves its reproducer ("graphc-reproducer-<pass>.graph"); empty: none
  // is written. Costs a copy of the module at the start; after a failure the passes before run again on it.
  // What the user can mend (an unknown optimizer) leaves none.
  std::string reproducer_dir;
};

class PassManager {
 public:
  struct Timing {
    std::string name;
    double ms = 0;
  };
  PassManagerOptions options;

  void add(std::string name, std::function<Status(Module&)> run) {
    passes_.push_back({std::move(name), std::move(run)});
  }
  void add(Pass pass) { passes_.push_back(std::move(pass)); }
  const std::vector<Pass>& passes() const { return passes_; }

  // Stops at the first failure. The error names the pass and, if there is one, the reproducer's path; its
  // code is kInternal where the verifier refused what a pass made.
  Status run(Module& module);
  const std::vector<Timing>& timings() const { return timings_; }

 private:
  std::vector<Pass> passes_;
  std::vector<Timing> timings_;
};

// What a reproducer's "# passes:" line names, "" if none of the first comments is one.
std::string passes_of_reproducer(std::string_view text);

}  // namespace graphc
