// From a .graph file to a Program, in one call.
//
//   CompileOptions o;
//   o.functions = {.infer = true};
//   GC_TRY(CompiledModel m, compile_file("net.graph", o));
//   GC_CHECK(save_program(m.lowered.program, "net.gcx"));
//
// Equal texts and options give byte-identical artefacts on equal CPUs.
#pragma once

#include <string>

#include "passes/pass_manager.h"
#include "tools/driver/function_set.h"
#include "tools/driver/lower.h"
#include "tools/driver/source.h"

namespace graphc {

struct CompileOptions {
  std::string target = "cpu";  // as Target::parse takes it
  std::string model;
  FunctionSet functions;
  std::map<std::string, std::string> set;
  int opt_level = 2;
  bool strict = false;  // what the target rejects is an error, not the reference's work
  std::string weights;      // a safetensors file whose tensors become initial values
  std::string weights_map;  // a file of WeightsMap rules; "": none
  int threads = 0;          // that compile; 0: one a CPU
};

struct CompiledModel {
  std::unique_ptr<Module> module;  // after the passes; `lowered` points into it
  Lowered lowered;                 // with the program
  std::string model;
  std::optional<TrainSpec> train;
  std::string warnings;  // diagnostics, and a line for each fallback
  std::vector<PassManager::Timing> timings;
};

Result<CompiledModel> compile_file(const std::string& path, const CompileOptions& options);
Result<CompiledModel> compile_model(ModelSource source, const CompileOptions& options);

// Runs the pass pipeline on the functions asked for; the others are dropped. After an internal error it runs
// once more to leave a reproducer for graphc-opt in the current folder; the message names it.
Status run_pipeline(Module& m, const std::string& model, const CompileOptions& options,
                    std::vector<PassManager::Timing>* timings = nullptr);

}  // namespace graphc
