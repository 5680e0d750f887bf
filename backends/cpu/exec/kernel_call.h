// The calling convention between the execution half and emitted kernels.
#pragma once

#include <cstdint>

namespace graphc {

// What a kernel is called with. `buffers` are the kernel's arguments in order, aligned to their element size
// at least; `symbols` its size parameters in order; `scratch` scratch_bytes() of memory owned by the calling
// thread, 64-byte aligned (may be null if that is 0). begin..end is the part of the collapsed parallel range,
// 0..parallel_extent(), to do; calls on disjoint parts may run at the same time.
struct KernelCall {
  void* const* buffers = nullptr;
  const int64_t* symbols = nullptr;
  void* scratch = nullptr;
  int64_t begin = 0, end = 0;
};
using KernelFn = void (*)(const KernelCall*);

}  // namespace graphc
