// plan_memory: gives every value of a scheduled function (fusion, reshape and assign nodes) its memory: one
// arena whose pieces are shared by values that aren't alive together, in-place results, views, and state that
// is updated where it lies.
//
//   GC_TRY(MemoryPlan plan, plan_memory(func));
//   const PlanBuffer& b = plan.buffers[plan.buffer_of.at(value)];
//   if (b.home == PlanBuffer::kArena) address = arena + *b.offset;
//
// before:  %0 = fusion(%x, @w) ..     %1 = reshape(%0) ..   %2 = fusion(%1) ..   return %2
// after:   buffer 0 input x | 1 variable w | 2 arena [0, 1] 25088 B at 0: %0, %1 | 3 output 0: %2
//
// Every value lies at the start of its buffer, dense and row-major. Sharing is decided here: two values with
// the same buffer are the same memory at different times (in place) or a value and its view. With symbolic
// sizes sizes are Dims and arena offsets are left to the runtime, which solves them from the intervals.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "ir/graph.h"
#include "runtime/base/result.h"

namespace graphc {

struct PlanBuffer {
  enum Home { kArena, kInput, kOutput, kVariable };
  Home home = kArena;
  int index = -1;                     // of the input or output
  Variable* variable = nullptr;       // kVariable
  Dim bytes;                          // of the largest value it holds (they are equal but for their types)
  int first_step = 0, last_step = 0;  // both included; only steps (fusions) count
  std::optional<int64_t> offset;      // kArena with static sizes: from the arena's start, a multiple of the alignment
  bool workspace = false;             // scratch of one step
};

// After the last step, in order. From any buffer to an output or a variable's.
struct PlanCopy {
  int src = -1, dst = -1;  // buffers
  Dim bytes;
};

struct MemoryPlan {
  std::vector<PlanBuffer> buffers;
  std::vector<const Node*> steps;                   // the fusions, in order
  std::vector<int> workspace_of;                    // by step: a buffer, or -1
  std::unordered_map<const Value*, int> buffer_of;  // every value of the function that is used or made
  std::vector<PlanCopy> copies;
  int64_t arena_bytes = 0;  // static sizes only
  int64_t live_bytes = 0;   // static sizes only: the largest sum of arena buffers alive in one step
  bool is_static = true;
};

struct PlanOptions {
  // Scratch a backend wants for a step, in bytes; 0 for none.
  std::function<Dim(const Node& fusion)> workspace_bytes;
  int64_t alignment = 64;  // of offsets in the arena
  bool in_place = true;  // false: no value shares memory with another one that is alive or was its operand
};

Result<MemoryPlan> plan_memory(const Func& f, const PlanOptions& options = {});

// A table for tests and `graphc explain`; values are numbered as core text numbers them.
std::string to_string(const MemoryPlan& plan, const Func& f);

// Offsets for buffers alive over [first, last] that may overlap in memory only if not in time: largest first,
// each into the tightest gap. Returns the bytes needed. The runtime holds the same function for sizes it
// learns late (runtime/solve_offsets.h has the same contract).
struct Interval {
  int64_t bytes = 0;
  int first = 0, last = 0;
  int64_t offset = 0;  // result
};
int64_t assign_offsets(std::vector<Interval>& intervals, int64_t alignment = 64);

}  // namespace graphc
