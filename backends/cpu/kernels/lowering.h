// From a fusion region to loop programs: what the templates give and the way into them.
//
//   GC_TRY(LoweredRegion lowered, lower_region(func, {features, "k0"}));
//   for (const KernelStep& s : lowered.steps) ...            // run in order, each over its parallel range
//
// `func` is a fusion region as a function: its name is the kind ("map", "rows", "columns", "contraction",
// "window", "scatter"), its arguments are the fusion's operands, its results the fusion's results.
#pragma once

#include <string>

#include "backends/cpu/exec/features.h"
#include "backends/cpu/kernels/lowering.h"
#include "backends/kernels/lowered_region.h"
#include "ir/graph.h"
#include "runtime/base/result.h"

namespace graphc {

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
