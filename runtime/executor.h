// Runs programs.
//
//   GC_TRY(std::shared_ptr<const Model> model, Model::load("net.gcx", registry));
//   GC_TRY(std::shared_ptr<Variables> variables, Variables::create(model, {.seed = 0}));
//   GC_TRY(std::unique_ptr<Context> context, Context::create(model, "infer", variables));
//   GC_CHECK(context->set_input("image", image));
//   GC_CHECK(context->run());
//   TensorRef logits = context->output(0);
//
// Model is immutable and thread-safe; Context belongs to one thread at a time. Contexts may share Variables:
// a training and an evaluation context see the same parameters; many inference contexts may run at a time on
// one Variables. Once sizes are bound, a run() with the same sizes allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backends/registry.h"
#include "runtime/base/nearest.h"
#include "runtime/base/result.h"
#include "runtime/base/safetensors.h"
#include "runtime/program.h"
#include "runtime/tensor.h"

namespace graphc {

class ThreadPool;

class Model {
 public:
  // Verifies the program and loads its executables through the registry, which may go away afterwards (the
  // pool it was given may not).
  static Result<std::shared_ptr<const Model>> create(Program program, BackendRegistry& registry);
  static Result<std::shared_ptr<const Model>> load(const std::string& path, BackendRegistry& registry,
                                                   const LoadLimits& limits = {});
  const Program& program() const { return program_; }

 private:
  friend class Variables;
  friend class Context;
  Model() = default;
  Program program_;
  std::vector<std::shared_ptr<Device>> devices_;
  std::vector<DeviceExec> execs_;
  std::vector<uint32_t> exec_device_;  // index into devices_
};

// One piece of host memory and what each device calls it.
struct Region {
  HostMemory memory;
  std::byte* data = nullptr;
  size_t capacity = 0;
  std::vector<DeviceBuffer> buffers;  // one a device of the model
};

struct VariablesOptions {
  uint64_t seed = 0;  // of the initialisers, and the value of a variable "rng.seed"
  ThreadPool* pool = nullptr;
  uint64_t max_memory_bytes = uint64_t{1} << 40;  // what would need more is an error before it is allocated
};

// Storage of a program's variables: parameters, state, constants.
class Variables {
 public:
  static Result<std::shared_ptr<Variables>> create(std::shared_ptr<const Model> model,
                                                   const VariablesOptions& options = {});

  const std::vector<ProgramVariable>& specs() const;
  TensorRef get(size_t i) const;
  void* data(size_t i) { return regions_[i].data; }
  uint64_t bytes() const;  // of all variables that are no constants in the artefact

  // Sets variable i; dtype and shape must agree.
  Status set(size_t i, const TensorRef& value);
  // By name from a safetensors file. Float dtypes are converted; anything else that doesn't fit is an error,
  // and so are unknown and missing names, with the nearest known one. What a checkpoint
  // holds; other weights go through apply_weights (weights.h).
  Status load(const SafetensorsFile& file, const std::string& path);
  // Parameters and state, for a checkpoint; views of the storage.
  std::vector<SafetensorsTensor> saved() const;

 private:
  friend class Context;
  Variables() = default;
  std::shared_ptr<const Model> model_;
  HostMemory memory_;  // of all variables that aren't used where they lie in the artefact
  std::vector<Region> regions_;
};

struct ContextOptions {
  uint64_t max_memory_bytes = uint64_t{1} << 40;  // variables, inputs, outputs and arena
  bool profile = false;                           // time every step
};

struct StepProfile {
  std::string label;
  uint64_t runs = 0, nanoseconds = 0;
};

class Context {
 public:
  static Result<std::unique_ptr<Context>> create(std::shared_ptr<const Model> model,
                                                 std::string_view function,
                                                 std::shared_ptr<Variables> variables,
                                                 const ContextOptions& options = {});
  ~Context();

  const Function& function() const { return *function_; }
  Variables& variables() { return *variables_; }

  // Checks name, dtype, rank and fixed sizes, and copies the data.
  Status set_input(std::string_view name, const TensorRef& value);
  Status set_input(size_t i, const TensorRef& value);
  // The same without the copy: the caller fills the returned storage before run().
  Result<void*> prepare_input(size_t i, DType dtype, std::span<const int64_t> shape);
  // For symbols no input fixes.
  Status set_symbol(std::string_view name, int64_t value);

  // Binds sizes if they changed: symbols from the inputs' shapes, ranges, buffer bounds, arena offsets. run()
  // does it.
  Status bind();
  Status run();
  // run() that looks at every float result: names the first step that made a NaN, or without one (and if
  // infinite_too) the first that made an infinity; "" if all are finite. Slow; for finding out why a loss is
  // NaN.
  Result<std::string> run_checked(bool infinite_too);

  // Valid after run() until the next set_input, prepare_input or run.
  TensorRef output(size_t i) const;
  int64_t output_index(std::string_view name) const;  // or -1

  std::span<const int64_t> symbols() const { return symbols_; }  // the sizes, after bind()
  uint64_t arena_bytes() const;                                  // after bind()
  uint64_t live_bytes() const;                                   // lower bound of any arena
  uint64_t memory_bytes() const;                                 // inputs, outputs and arena, as allocated
  std::vector<StepProfile> profile() const;

 private:
  struct Plan;
  struct PlanBuilder;
  Context() = default;
  Error input_error(size_t i, DType dtype, std::span<const int64_t> shape, std::string_view why) const;
  Status bind_symbols();
  Status grow(Region& region, uint64_t bytes, std::string_view what);
  void resolve(Plan& plan);
  Status run_step(size_t s);
  void end_copies();
  std::byte* address(const void* place);  // of a Place (context.cpp)

  std::shared_ptr<const Model> model_;
  std::shared_ptr<Variables> variables_;
  const Function* function_ = nullptr;
  ContextOptions options_;
  std::vector<Region> inputs_, outputs_;
  Region arena_;
  std::vector<std::vector<int64_t>> input_shapes_;
  std::vector<bool> input_set_;
  std::vector<int64_t> symbols_, given_symbols_;  // given: -1 = not set
  std::vector<std::string> symbol_names_;
  bool shapes_changed_ = true;
  uint64_t generation_ = 0;                   // counts reallocations: plans resolve their buffers again
  std::vector<std::unique_ptr<Plan>> plans_;  // most recently used first, at most kMaxPlans
  Plan* plan_ = nullptr;
  std::vector<uint64_t> step_ns_, step_runs_;
  uint64_t run_id_ = 0;
};

}  // namespace graphc
