// From a module whose functions hold fusion, reshape and assign nodes only (the end of the pass pipeline) to
// a runtime Program: every distinct fusion is offered to the target's backend and compiled once, in parallel;
// the memory plan becomes buffers and views.
//
//   LoweringOptions o{.target = "cpu", .names = {{"Net", "infer"}}};
//   GC_TRY(Lowered l, lower(*module, o, compilers));
//   GC_CHECK(save_program(l.program, "net.gcx"));
//
// Equal modules and options give equal programs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "backends/registry.h"
#include "ir/graph.h"
#include "passes/plan_memory.h"
#include "runtime/program.h"

namespace graphc {

struct LoweringOptions {
  std::string target = "cpu";  // a backend
  std::string device;          // of the target; "": its first
  std::string fallback;  // backend for what the target rejects; empty: a rejection is an error
  std::vector<std::pair<std::string, std::string>> names;  // module function -> program function, in order
  Device::Options backend_options;
  int threads = 0;  // that compile at a time; 0: one a CPU
};

// One executable, for `graphc explain` and --emit.
struct LoweredExec {
  std::string label;
  std::string kind;
  std::string backend;
  std::string rejection;      // why the target didn't take it, if it didn't
  std::vector<std::byte> ir;  // what was compiled
  uint64_t workspace_bytes = 0;
  int uses = 0;
};

struct LoweredFunction {
  std::string name;  // in the program
  const Func* func = nullptr;
  MemoryPlan plan;
  std::vector<int> exec_of;  // by step: index into execs
};

struct Lowered {
  Program program;  // without meta
  std::vector<LoweredExec> execs;
  std::vector<LoweredFunction> functions;
};

// `m` must live as long as the result's functions are used.
Result<Lowered> lower(const Module& m, const LoweringOptions& options, BackendRegistry& compilers);

// A fusion's region as a module of its own: one function, named after the fusion's kind, with the symbols the
// region uses. What a backend's claim and compile receive.
std::unique_ptr<Module> extract_fusion(const Node& fusion, const Func& f);

// The symbols of types and attributes of a fusion's region, in the order f declares them.
std::vector<SymbolDef> used_symbols(const Node& fusion, const Func& f);

// `symbols` gives each symbol's index.
SizeExpr to_size_expr(const Dim& d, const std::map<std::string, int64_t, std::less<>>& symbols);

}  // namespace graphc
