// What a Context resolves for one set of sizes: where every tensor lies and what every step is called with.
// A part of the executor; nobody else includes this.
#pragma once

#include "runtime/arena.h"
#include "runtime/executor.h"

namespace graphc {

enum class Where : uint8_t { kInput, kOutput, kVariable, kArena, kWorkspace };

// Where a buffer's bytes are once sizes are known.
struct Place {
  Where where = Where::kArena;
  uint32_t index = 0;
  uint64_t offset = 0, bytes = 0;
};

std::string spec_string(const TensorSpec& t, std::span<const std::string> names);  // "f32[N, 4]"

// Everything resolved for one set of symbol values: run() walks `steps`.
struct Context::Plan {
  struct BoundTensor {
    Place place;
    uint32_t device;
  };
  struct BoundStep {
    gc_run run{};
    gc_exec* exec = nullptr;
    gc_error* (*execute)(gc_exec*, gc_stream*, const gc_run*) = nullptr;
    uint32_t device = 0;
    Place workspace;
    bool has_workspace = false;  // planned by the program or, of kind kWorkspace, the context's
  };
  struct BoundCopy {
    Place src, dst;
    uint64_t bytes;
  };
  std::vector<int64_t> symbols;
  std::vector<BoundStep> steps;
  std::vector<gc_tensor> tensors;
  std::vector<BoundTensor> bound;  // beside tensors
  std::vector<int64_t> numbers;    // shapes, strides and symbols of all tensors and steps
  std::vector<BoundCopy> copies;
  std::vector<std::vector<int64_t>> output_shapes;
  std::vector<uint64_t> input_bytes, output_bytes;
  ArenaPlan arena;
  uint64_t workspace_bytes =
      0;  // of the context's own, for the steps whose workspace the program doesn't plan
  uint64_t generation = 0;

  // All steps and copies as one, once they ran plainly with these buffers.
  DeviceCapture captured;
  bool ran = false;
  bool refused = false;  // the device can't capture them
};

// Checks everything that depends on sizes, and fills a plan but for the buffers' handles.
struct Context::PlanBuilder {
  const Context& c;
  Plan& plan;
  const Function& f;
  std::vector<Place> places;
  // per tensor: first index of its shape in plan.numbers; strides follow if it has them
  std::vector<size_t> number_at;
  std::vector<size_t> symbol_at;

  Status build();

 private:
  Result<int64_t> eval(const SizeExpr& e) const { return e.eval(plan.symbols); }
  Result<uint64_t> spec_bytes(const TensorSpec& t, std::vector<int64_t>* shape) const;
  Status place_buffers();
  Status tensor(const TensorView& v, uint32_t device);
  Status step(size_t s);
  Status workspace(const Step& st, const DeviceExec& exec, Plan::BoundStep* b);
  void fix_pointers();
};

}  // namespace graphc
