// A library's call for the core of a region whose epilogue the library lacks: the core's result goes into a
// workspace, and kernels after the call (RegionCall::after_steps) do the rest.
#pragma once

#include <functional>

#include "backends/cuda/targets.h"
#include "backends/kernels/lowered_region.h"
#include "ir/graph.h"

namespace graphc::cuda {

// Adds workspace and kernels to `lowered`, which holds the region's kernels, and gives the call. `plan`: the
// call that writes core's result, dense, into the workspace of that number. kUnsupported with the reason.
Result<RegionCall> call_and_kernels(const Func& region, const Node& core, const CudaTarget& target,
                                    LoweredRegion& lowered,
                                    const std::function<Result<RegionCall>(int workspace)>& plan);

}  // namespace graphc::cuda
