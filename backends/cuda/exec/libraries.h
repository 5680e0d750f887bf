// NVIDIA's libraries, opened at run time: driver, NVRTC, cuDNN, cuBLASLt. What isn't there is a line of
// `graphc devices` and an error of what needs it, never a failure to start.
//
//   const CudaLibraries& libs = CudaLibraries::get();
//   if (!libs.nvrtc.loaded()) return unsupported(libs.nvrtc.problem);
//
// Searched, in this order: the folder in GRAPHC_CUDA_LIBRARIES (then nothing else), the system's loader,
// $CUDA_HOME and $CUDA_PATH, /usr/local/cuda, and the nvidia-* packages of an active Python environment
// ($VIRTUAL_ENV, $CONDA_PREFIX).
#pragma once

#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace graphc {

struct CudaLibrary {
  std::string name;     // "NVRTC"
  std::string path;     // as loaded; empty: it isn't there
  std::string version;  // "13.0"
  std::string problem;  // why it isn't there, and what was looked for
  void* handle = nullptr;
  bool loaded() const { return handle != nullptr; }
  void* symbol(const char* name) const;  // null if it has none
};

struct CudaLibraries {
  CudaLibrary driver, nvrtc, cudnn, cublaslt;

  // Opened once a process; thread-safe.
  static const CudaLibraries& get();
  // Opens anew, all or some of them: mapping cuBLASLt and cuDNN takes as long as compiling a network from the
  // cache. The others are as if they weren't there.
  enum Which : unsigned { kDriver = 1, kNvrtc = 2, kMath = 4, kAll = 7 };
  static CudaLibraries open(unsigned which = kAll);
  std::vector<const CudaLibrary*> all() const { return {&driver, &nvrtc, &cudnn, &cublaslt}; }
};

struct CudaCard {
  std::string id;    // "0", the number that CUDA_VISIBLE_DEVICES leaves
  std::string name;  // "NVIDIA H200"
  std::string arch;  // "sm_90a"
  int multiprocessors = 0;
  long long memory_bytes = 0;
  // Figures for a profile; 0 where the driver doesn't tell.
  long long shared_bytes_per_block = 0, l2_bytes = 0, memory_bytes_per_second = 0, clock_mhz = 0;
};
// The cards the driver shows; an error says why there are none.
Result<std::vector<CudaCard>> cuda_cards(const CudaLibraries& libraries);

}  // namespace graphc
