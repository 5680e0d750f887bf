// Which steps of a region a library can do: the compile half of cuBLASLt and cuDNN. Whether it is legal is
// decided here, from the region and tables of what the libraries document; neither library nor card is asked.
// The execution half (backends/cuda/exec/library_call.h) resolves a call on the card, where it may still be
// refused: the kernels are always there.
#pragma once

#include <string>

#include "backends/cuda/targets.h"
#include "backends/kernels/lowered_region.h"
#include "ir/graph.h"

namespace graphc::cuda {

// Adds to `lowered`, the region's kernels, the call that can stand for all of them, or to lowered.not_called
// a line for each library, why not. An error is only ever about sizes that leave 64 bits.
Status add_library_calls(const Func& region, const CudaTarget& target, LoweredRegion& lowered);

// What was decided, as comment lines for a reader of the kernels:
//   // steps 0..0: cublaslt does them, where it is, then steps 1..1 run
//   //   matmul in=f32 out=f32 m=N n=32 k=512 batch=1 a=operand0 ..
//   // cublaslt doesn't: it has no epilogue with exp
std::string library_notes(const LoweredRegion& lowered);

// A region of kind "contraction" around one dot_general as one cublasLtMatmul: batch, transposes and leading
// dimensions from how operands lie in memory; bias, residual, scale, ReLU, GELU (and its input as a second
// result), the gradient of GELU. The call is spelled as backends/cuda/exec/cublaslt_call.h says. kUnsupported
// with the reason.
Result<RegionCall> cublaslt_call(const Func& region);
// The same for a region with an epilogue that cuBLASLt lacks: its product alone, into a new workspace, and
// the epilogue as kernels after it (RegionCall::after_steps). Adds both to `lowered`, which holds the
// region's kernels. Only where sums are so long that this is worth it.
Result<RegionCall> cublaslt_product_call(const Func& region, const CudaTarget& target,
                                         LoweredRegion& lowered);

// A region of kind "contraction" around one convolution, or a gradient of one, as an operation graph of
// cuDNN's: spelled as backends/cuda/exec/cudnn_graph.h says, covered as cudnn.cpp says. kUnsupported with the
// reason.
Result<RegionCall> cudnn_call(const Func& region);
// The same for a region whose epilogue cuDNN lacks: the convolution alone, into a new workspace, and the
// epilogue as kernels after it, both added to `lowered`. Only where sums are long.
Result<RegionCall> cudnn_convolution_call(const Func& region, const CudaTarget& target,
                                          LoweredRegion& lowered);

}  // namespace graphc::cuda
