// From a fusion region to loop programs: what the templates give and the way into them.
//
//   GC_TRY(LoweredRegion lowered, lower_region(func, {features, "k0"}));
//   for (const KernelStep& s : lowered.steps) ...            // run in order, each over its parallel range
//
// `func` is a fusion region as a function: its name is the kind ("map", "rows", "columns", "contraction",
// "window", "scatter"), its arguments are the fusion's operands, its results the fusion's results.
#pragma once

#include <string>
#include <vector>

#include "backends/cpu/exec/features.h"
#include "ir/graph.h"
#include "ir/loops/loops.h"
#include "runtime/base/result.h"

namespace graphc {

// Where an argument of a kernel comes from.
enum class KernelArgKind : uint8_t { kOperand, kResult, kWorkspace };
struct KernelArg {
  KernelArgKind kind = KernelArgKind::kOperand;
  int index = 0;
  friend bool operator==(const KernelArg&, const KernelArg&) = default;
};

struct KernelStep {
  Kernel kernel;
  std::vector<KernelArg> args;  // one per argument buffer of the kernel
  // Iterations of the collapsed parallel range that are worth handing to a thread at once. Depends on shapes
  // only. A range of at most `grain` runs on the calling thread.
  Dim grain = 1;
};

// After step `step` the i64 in workspace `low` must be at least 0 and that in `high` less than `size`: they are
// the bounds of what `op` is about to index with.
struct IndexCheck {
  int step = 0;
  int low = 0, high = 0;
  Dim size;
  std::string op;
};

// The kernels of a region. A workspace buffer is memory that the steps of one run share.
struct LoweredRegion {
  std::vector<KernelStep> steps;
  std::vector<Dim> workspace_bytes;  // per workspace buffer, multiples of 64
  std::vector<IndexCheck> checks;
};

struct LowerOptions {
  CpuFeatures features;
  std::string name = "kernel";  // kernels are called name, name_1, ...
};

// Errors: kUnsupported with the reason for a region that no template covers; overflow of sizes.
Result<LoweredRegion> lower_region(const Func& region, const LowerOptions& options);

// The templates (one file each); func as above. Called through lower_region.
Result<LoweredRegion> lower_map(const Func& region, const LowerOptions& options);
Result<LoweredRegion> lower_reduce(const Func& region, const LowerOptions& options);  // rows and columns
Result<LoweredRegion> lower_contraction(const Func& region, const LowerOptions& options);
Result<LoweredRegion> lower_window(const Func& region, const LowerOptions& options);
Result<LoweredRegion> lower_scatter(const Func& region, const LowerOptions& options);

}  // namespace graphc
