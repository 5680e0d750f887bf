// A CUDA driver without a card, as far as cuDNN asks for one when it makes plans from a card's properties:
// modules load (nothing), functions have no attributes, there is no device, and everything else is refused.
// cuDNN and NVRTC look some functions up by name and others through cuGetProcAddress.
#include <cstring>

namespace {

constexpr int kSuccess = 0, kNotInitialised = 3, kUnknownSymbol = 500;

int refuse() { return kNotInitialised; }
int accept() { return kSuccess; }
int zero(int* value) {
  *value = 0;
  return kSuccess;
}
int one(int* value) {
  *value = 1;
  return kSuccess;
}
int handle(void** out) {
  *out = reinterpret_cast<void*>(0x1000);
  return kSuccess;
}

}  // namespace

// Their callers pass more than they take, which does no harm.
#define NAMED(name, function)                                                       \
  extern "C" __attribute__((visibility("default"))) int name(void* a) {             \
    return reinterpret_cast<int (*)(void*)>(reinterpret_cast<void*>(&function))(a); \
  }
#define EACH_FUNCTION(F)                                                                                    \
  F(cuInit, accept)                                                                                         \
  F(cuDeviceGetCount, zero)                                                                                 \
  F(cuFuncGetAttribute, zero)                                                                               \
  F(cuKernelGetAttribute, zero)                                                                             \
  F(cuFuncSetAttribute, accept) F(cuKernelSetAttribute, accept) F(cuKernelGetFunction, handle)              \
      F(cuLibraryLoadData, handle) F(cuLibraryGetKernel, handle) F(cuLibraryGetModule, handle)              \
          F(cuLibraryUnload, accept) F(cuModuleLoadData, handle) F(cuModuleLoadDataEx, handle)              \
              F(cuModuleGetFunction, handle) F(cuModuleUnload, accept)                                      \
                  F(cuOccupancyMaxActiveBlocksPerMultiprocessor, one) F(cuOccupancyMaxActiveClusters, one)  \
                      F(cuOccupancyMaxPotentialClusterSize, one) F(cuGetExportTable, refuse) F(             \
                          cuGetErrorName, refuse) F(cuGetErrorString, refuse) F(cuCtxGetCurrent, refuse)    \
                          F(cuCtxGetLimit, refuse) F(cuCtxPopCurrent, refuse) F(cuCtxPushCurrent, refuse)   \
                              F(cuStreamGetCtx, refuse) F(cuLinkCreate, refuse) F(cuLinkAddData, refuse)    \
                                  F(cuLinkComplete, refuse) F(cuLinkDestroy, refuse) F(cuDeviceGet, refuse) \
                                      F(cuLaunchKernel, refuse) F(cuLaunchCooperativeKernel, refuse)        \
                                          F(cuLaunchKernelEx, refuse) F(cuLibraryLoadFromFile, refuse)
EACH_FUNCTION(NAMED)

extern "C" __attribute__((visibility("default"))) int cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}

extern "C" __attribute__((visibility("default"))) int cuGetProcAddress_v2(const char* name, void** out, int,
                                                                          unsigned long long, int* status) {
  if (status) *status = 0;
  *out = reinterpret_cast<void*>(&refuse);
#define LISTED(listed, function) \
  if (std::strcmp(name, #listed) == 0) *out = reinterpret_cast<void*>(&listed);
  EACH_FUNCTION(LISTED)
  if (std::strcmp(name, "cuDriverGetVersion") == 0) *out = reinterpret_cast<void*>(&cuDriverGetVersion);
  if (std::strncmp(name, "cuGetProcAddress", 16) == 0) *out = reinterpret_cast<void*>(&cuGetProcAddress_v2);
  return std::strncmp(name, "cu", 2) == 0 ? kSuccess : kUnknownSymbol;
}
