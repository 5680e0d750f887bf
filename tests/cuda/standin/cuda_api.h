// The driver's functions for tests of the stand-in itself, looked up by name.
//
//   CUDA(cuMemAlloc)(&p, 100);      // cuMemAlloc_v2 of the library that graphc opens
#pragma once

#include <cuda.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "backends/cuda/exec/libraries.h"

namespace graphc {

template <class F>
F* cuda_function(const char* name) {
  void* f = CudaLibraries::get().driver.symbol(name);
  if (!f) {
    ADD_FAILURE() << "the stand-in has no " << name;
    std::abort();
  }
  return reinterpret_cast<F*>(f);
}

#define CUDA_TEXT_(x) #x
#define CUDA_TEXT(x) CUDA_TEXT_(x)
#define CUDA(f) (::graphc::cuda_function<decltype(::f)>(CUDA_TEXT(f)))

inline void standin_set(const std::string& key, const std::string& value) {
  ASSERT_EQ(cuda_function<int(const char*, const char*)>("standin_configure")(key.c_str(), value.c_str()), 0);
}
inline unsigned long long standin_count(const std::string& what) {
  return cuda_function<unsigned long long(const char*)>("standin_count")(what.c_str());
}

// A current context on device 0.
class CudaSession {
 public:
  CudaSession() {
    EXPECT_EQ(CUDA(cuInit)(0), CUDA_SUCCESS);
    CUcontext c = nullptr;
    EXPECT_EQ(CUDA(cuDevicePrimaryCtxRetain)(&c, 0), CUDA_SUCCESS);
    EXPECT_EQ(CUDA(cuCtxSetCurrent)(c), CUDA_SUCCESS);
  }
  ~CudaSession() { CUDA(cuDevicePrimaryCtxRelease)(0); }
};

}  // namespace graphc
