// What stand-ins for libraries (cuBLASLt, cuDNN) use of the stand-in for the driver: they put work on its
// streams. Functions of libcuda.so.1's stand-in, found by dlsym in the one beside the library.
//
//   auto* work = new Work{..};
//   return standin::enqueue(stream, [](void* w) { return static_cast<Work*>(w)->run(); }, work,
//                           [](void* w) { delete static_cast<Work*>(w); });
#pragma once

#include <cuda.h>
#include <dlfcn.h>

#include <string>

namespace standin {

template <class F>
F* driver_function(const char* name) {
  // the one in this library's own folder: the same as graphc opened, so it is loaded once
  static void* library = [] {
    static const char here = 0;
    Dl_info info{};
    if (!dladdr(&here, &info)) return static_cast<void*>(nullptr);
    const std::string path = info.dli_fname;
    return dlopen((path.substr(0, path.rfind('/') + 1) + "libcuda.so.1").c_str(), RTLD_NOW | RTLD_LOCAL);
  }();
  return library ? reinterpret_cast<F*>(dlsym(library, name)) : nullptr;
}

// `run` is called when the stream gets there, in whatever thread waits for it, with device memory mapped;
// once a launch if the stream is being captured. Its error is the stream's. `release` is called when nothing
// can run it any more, at once if this fails.
inline CUresult enqueue(CUstream stream, CUresult (*run)(void*), void* arg, void (*release)(void*)) {
  auto* f =
      driver_function<CUresult(CUstream, CUresult(*)(void*), void*, void (*)(void*))>("standin_enqueue");
  if (f) return f(stream, run, arg, release);
  release(arg);
  return CUDA_ERROR_NOT_SUPPORTED;
}

// Whether the bytes lie in one live allocation (and a line on stderr if they don't). To be asked while
// running.
inline bool inside(const void* p, unsigned long long bytes) {
  auto* f = driver_function<int(const void*, unsigned long long)>("standin_inside");
  return f && f(p, bytes) != 0;
}

}  // namespace standin
