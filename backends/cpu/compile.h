// The compiler half as a function: a fusion region to a blob of machine code.
//
//   GC_TRY(KernelBlob blob, compile_region(func, host_features()));
//   GC_TRY(std::unique_ptr<CpuExec> e, CpuExec::load(blob));
#pragma once

#include "backends/cpu/exec/features.h"
#include "backends/cpu/kernels/lowering.h"
#include "backends/host/kernel_blob.h"
#include "ir/graph.h"

namespace graphc {

// Thread-safe; equal regions and features give equal blobs. kUnsupported with the reason if no template
// covers the region.
Result<KernelBlob> compile_region(const Func& region, const CpuFeatures& features);

// Why the backend can't take the region; ok if it can.
Status can_compile(const Func& region, const CpuFeatures& features);

}  // namespace graphc
