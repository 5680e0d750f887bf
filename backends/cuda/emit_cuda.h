// Loop programs with a GPU schedule as CUDA C++, for NVRTC and for people. A plain walk: what is printed is
// what the loop program says.
//
//   GC_TRY(CudaKernel k, emit_cuda(kernel));
//   std::string program = cuda_prelude() + k.text;
//
// A kernel takes all its buffers, then all its size parameters (long long): every argument has eight bytes.
// Blocks and grids are one-dimensional. Pointers are 16-byte aligned.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "ir/loops/loops.h"
#include "runtime/base/result.h"

namespace graphc {

struct CudaKernel {
  std::string text;
  std::string name;
  int threads = 1;  // of a block
  // Index arithmetic is 32 bits wide where that is known to be enough. If it depends on sizes, there are two
  // kernels: `name` may be called where every one of `narrow_if` is below 2^31, else `wide_name`.
  std::string wide_name;  // empty: `name` always holds
  std::vector<Dim> narrow_if;
};

// ranges: of the kernel's size parameters. comment: a line before the kernel (what it computes, where in the
// source). Verifies the kernel first; kUnsupported for what only other devices have (scratch, dot).
Result<CudaKernel> emit_cuda(const Kernel& kernel, const DimRanges& ranges = {},
                             std::string_view comment = {});

// The text before all kernels (prelude.cuh).
std::string cuda_prelude();
// The kernel that checks the bounds of indices (check_index.cuh), for programs that have some.
std::string cuda_index_check();

}  // namespace graphc
