// CUDA C++ to machine code by NVRTC, which needs neither a card nor a driver.
//
//   CudaSource source{"softmax.cu", text};
//   GC_TRY(CudaBinary b, compile_cuda(source, {.arch = "sm_90a"}));
//   b.cubin    // ELF for that architecture
//
// Thread-safe; programs compile in parallel.
#pragma once

#include <string>
#include <vector>

#include "runtime/base/disk_cache.h"
#include "runtime/base/result.h"

namespace graphc {

struct CudaSource {
  std::string name;  // appears in messages and, through -lineinfo, in profiles
  std::string text;
};

struct CudaCompileOptions {
  std::string arch = "sm_80";  // "sm_90a": a cubin; "compute_80": PTX for later cards
  bool line_info = true;
  // Register spills and local memory are errors: they mean a kernel that is slow in silence.
  bool strict = false;
};

struct CudaBinary {
  std::string code;  // cubin or PTX
  std::string log;   // warnings
  bool cached = false;
};

// kDevice: NVRTC isn't there. kUnsupported: it doesn't know the architecture. kInternal: the text is wrong,
// which is ours to answer for; the message holds NVRTC's log. With a cache, equal sources, options and
// versions of NVRTC are compiled once; what NVRTC had to say about them isn't kept.
Result<CudaBinary> compile_cuda(const CudaSource& source, const CudaCompileOptions& options,
                                const DiskCache* cache = nullptr);

}  // namespace graphc
