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
//
// A device that computes on host memory works on what the application fills in and reads. For one that has
// memory of its own (a GPU) inputs, outputs and variables have a side in both: run() copies up what was set
// since the last run and copies the outputs back; variables follow when they are asked for. Its work goes on
// a stream of the context, for which run() waits once, at its end; from the second run of the same sizes on
// the steps are one captured graph, where the device can do that.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
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

struct ModelOptions {
  std::map<std::string, std::string> devices;  // backend -> id of the device; those not named: the first
};

class Model {
 public:
  // Verifies the program and loads its executables through the registry, which may go away afterwards (the
  // pool it was given may not). A program for several devices of which one has memory of its own is refused.
  static Result<std::shared_ptr<const Model>> create(Program program, BackendRegistry& registry,
                                                     const ModelOptions& options = {});
  static Result<std::shared_ptr<const Model>> load(const std::string& path, BackendRegistry& registry,
                                                   const LoadLimits& limits = {},
                                                   const ModelOptions& options = {});
  const Program& program() const { return program_; }
  // The device it runs on, if that has memory of its own; else null.
  const DeviceInfo* device_apart() const { return apart_ ? &apart_->info() : nullptr; }
  const std::string& step_label(const Step& step) const;  // of the step, else of its executable

 private:
  friend class Variables;
  friend class Context;
  Model() = default;
  Program program_;
  std::vector<std::shared_ptr<Device>> devices_;
  Device* apart_ = nullptr;  // the device, if it has memory of its own
  std::vector<DeviceExec> execs_;
  std::vector<uint32_t> exec_device_;  // index into devices_
};

// Of memory on a device apart; CUDA's own allocations and vector accesses ask for no more.
inline constexpr uint64_t kDeviceAlign = 256;

// A piece of memory and what each device calls it: host memory that the devices compute on, or memory of a
// device apart, with a host side to copy from and to where one is needed.
struct Region {
  HostMemory memory;  // this or `pinned` owns the host side
  DeviceBuffer pinned;
  std::byte* data = nullptr;          // the host side
  size_t capacity = 0;                // of either side
  std::vector<DeviceBuffer> buffers;  // one a device of the model; none if it is a part of another buffer
  gc_buffer* whole = nullptr;         // that buffer
  uint64_t offset = 0;                // in it

  gc_buffer* buffer(size_t device) const { return whole ? whole : buffers[device].raw(); }
};

struct VariablesOptions {
  uint64_t seed = 0;  // of the initialisers, and the value of a variable "rng.seed"
  ThreadPool* pool = nullptr;
  uint64_t max_memory_bytes = uint64_t{1} << 40;  // what would need more is an error before it is allocated
};

// Storage of a program's variables: parameters, state, constants. Thread-safe, except that a value may not be
// set or read while a training context runs. Errors below come from copies to and from a device.
class Variables {
 public:
  static Result<std::shared_ptr<Variables>> create(std::shared_ptr<const Model> model,
                                                   const VariablesOptions& options = {});

  const std::vector<ProgramVariable>& specs() const;
  // The value, valid until a context runs.
  Result<TensorRef> get(size_t i) const;
  // The same, to be written to before a context runs.
  Result<void*> data(size_t i);
  // Of all variables that are no constants in the artefact; on a device apart, of all.
  uint64_t bytes() const;

  // Sets variable i; dtype and shape must agree.
  Status set(size_t i, const TensorRef& value);
  // By name from a safetensors file. Float dtypes are converted; anything else that doesn't fit is an error,
  // and so are unknown and missing names, with the nearest known one. What a checkpoint
  // holds; other weights go through apply_weights (weights.h).
  Status load(const SafetensorsFile& file, const std::string& path);
  // Parameters and state, for a checkpoint; views of the storage.
  Result<std::vector<SafetensorsTensor>> saved() const;

 private:
  friend class Context;
  enum class Newer : uint8_t { kNeither, kHost, kDevice };
  Variables() = default;
  Status place_on_device();
  // The host side is up to date afterwards.
  Status fetch(size_t i) const;
  void host_changed(size_t i);
  // For contexts: before and after steps that a device apart does.
  Status upload();
  void device_changed(std::span<const uint32_t> variables);

  std::shared_ptr<const Model> model_;
  HostMemory memory_;  // of all variables that aren't used where they lie in the artefact
  DeviceBuffer device_memory_;
  uint64_t device_bytes_ = 0;
  std::vector<Region> regions_;
  mutable std::mutex mutex_;             // of newer_ and the copies between the sides
  mutable std::vector<Newer> newer_;     // per variable, on a device apart; else empty
  std::atomic<bool> host_newer_{false};  // for any of them
};

struct ContextOptions {
  // Variables, inputs, outputs, arena and workspace. On a device apart: of its memory.
  uint64_t max_memory_bytes = uint64_t{1} << 40;
  bool profile = false;  // time every step; waits after each, as sync does
  bool sync = false;     // wait after every step, so that an error names the step it comes from
  bool capture = true;   // let the device record the steps and do them as one
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
  // The same without the copy: the caller fills the returned storage before run(), and asks again for other
  // data.
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
  // Inputs, outputs, arena and workspace, as allocated; on a device apart, of its memory.
  uint64_t memory_bytes() const;
  // Plans that the device does as one, at most kMaxPlans.
  size_t captured() const;
  std::vector<StepProfile> profile() const;

 private:
  struct Plan;
  struct PlanBuilder;
  static constexpr size_t kMaxPlans = 8;  // full and last batch, in training and validation, and some
  Context() = default;
  Error input_error(size_t i, DType dtype, std::span<const int64_t> shape, std::string_view why) const;
  void find_written();
  Status bind_symbols();
  Status grow(Region& region, uint64_t bytes, std::string_view what, bool host_side = true);
  void resolve(Plan& plan);

  Status begin_run();  // bind, resolve, streams, variables that go up
  Status upload_inputs();
  Status finish_run(Status status);  // what comes back, and waiting for it
  Status work();                     // all steps and copies, plainly or as one
  Status run_steps(bool wait_after_each);
  Status run_step(size_t s);
  Status wait_all();
  Status end_copies();
  Status capture();
  bool may_capture() const;
  Error step_error(size_t s, Error error) const;
  Error run_error(Error error) const;
  Status look(size_t s, std::vector<std::byte>* scratch, std::string* nan, std::string* infinite);
  void forget_streams();
  Region& region(const void* place);  // of a Place (plan.h)

  std::shared_ptr<const Model> model_;
  std::shared_ptr<Variables> variables_;
  const Function* function_ = nullptr;
  ContextOptions options_;
  Device* apart_ = nullptr;  // the model's
  std::vector<Region> inputs_, outputs_;
  Region arena_;
  Region workspace_;  // of one step at a time, where the program plans none
  std::vector<std::vector<int64_t>> input_shapes_;
  std::vector<bool> input_set_, input_new_;       // new: since it was copied to the device
  std::vector<uint32_t> written_;                 // variables that the function changes
  std::vector<int64_t> symbols_, given_symbols_;  // given: -1 = not set
  std::vector<std::string> symbol_names_;
  bool shapes_changed_ = true;
  uint64_t generation_ = 0;                   // counts reallocations: plans resolve their buffers again
  std::vector<DeviceStream> streams_;         // per device; empty: to be made
  std::vector<std::unique_ptr<Plan>> plans_;  // most recently used first
  Plan* plan_ = nullptr;
  std::vector<uint64_t> step_ns_, step_runs_;
  uint64_t run_id_ = 0;
};

}  // namespace graphc
