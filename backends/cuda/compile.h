// The compiler half as functions: a fusion region to kernels for a CUDA target. Needs NVRTC, neither a card
// nor a driver.
//
//   GC_TRY(CudaTarget target, CudaTarget::parse("h200"));
//   GC_TRY(KernelBlob blob, cuda::compile_region(func, target));
#pragma once

#include <string>

#include "backends/cuda/targets.h"
#include "backends/host/kernel_blob.h"
#include "backends/kernels/lowered_region.h"
#include "ir/graph.h"

namespace graphc::cuda {

// A region's kernels before they are compiled.
struct RegionProgram {
  LoweredRegion lowered;
  std::string text;       // CUDA C++, prelude included
  size_t kernels_at = 0;  // where in it the kernels begin
  KernelBlob blob;        // all but the images
};

// Kernels are called name, name_1, .. kUnsupported with the reason if no template covers the region.
Result<RegionProgram> region_program(const Func& region, const CudaTarget& target,
                                     const std::string& name = "k");

// A cubin for the target's architecture and PTX for later cards (compute_80). Thread-safe; equal regions,
// targets and NVRTC versions give equal blobs.
Result<KernelBlob> compile_program(RegionProgram program, const CudaTarget& target);
Result<KernelBlob> compile_region(const Func& region, const CudaTarget& target);  // both in one

}  // namespace graphc::cuda
