// From a fusion region to loop programs with a GPU schedule (ir/loops/loops.h: parallel = thread blocks,
// warp, thread, shared, barrier).
//
//   GC_TRY(LoweredRegion lowered, cuda::lower_region(func, {target, "k"}));
//   for (const KernelStep& s : lowered.steps) ...            // one launch each, in order
//
// Kernels hold for every size; constants of the target steer tile sizes only. No atomics: any run of the same
// kernels on the same input gives the same bits.
#pragma once

#include <string>

#include "backends/cuda/targets.h"
#include "backends/kernels/lowered_region.h"
#include "ir/graph.h"
#include "runtime/base/result.h"

namespace graphc::cuda {

struct LowerOptions {
  CudaTarget target;
  std::string name = "k";  // kernels are called name, name_1, ...
};

// Errors: kUnsupported with the reason for a region that no template covers; overflow of sizes.
Result<LoweredRegion> lower_region(const Func& region, const LowerOptions& options);

// The templates (one file each). Called through lower_region.
Result<LoweredRegion> lower_map(const Func& region, const LowerOptions& options);
Result<LoweredRegion> lower_reduce(const Func& region, const LowerOptions& options);  // rows and columns
Result<LoweredRegion> lower_contraction(const Func& region, const LowerOptions& options);
Result<LoweredRegion> lower_window(const Func& region, const LowerOptions& options);
Result<LoweredRegion> lower_scatter(const Func& region, const LowerOptions& options);
Result<LoweredRegion> lower_attention(const Func& region, const LowerOptions& options);

}  // namespace graphc::cuda
