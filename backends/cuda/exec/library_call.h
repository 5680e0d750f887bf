// Calls of libraries that stand for steps of an executable (KernelBlob::calls). On a card each is resolved
// when the executable is loaded: to an algorithm or plan of the library that is there. Where that doesn't
// work, the kernels run.
#pragma once

#include <memory>
#include <span>

#include "backends/cuda/exec/device.h"
#include "backends/host/kernel_blob.h"

namespace graphc {

// What one call needs when it runs.
struct CudaCallArgs {
  std::span<const CUdeviceptr> buffers;  // in the order of LibraryCall::args
  std::span<const int64_t> sizes;        // of LibraryCall::sizes
  CUdeviceptr workspace = 0;             // of LibraryCall::workspace_bytes, aligned to 256
  uint64_t workspace_bytes = 0;
};

// A call, resolved. Immutable; runs on several streams at a time.
class CudaLibraryCall {
 public:
  virtual ~CudaLibraryCall() = default;
  // Puts it on the stream; allocates nothing and waits for nothing, so that it can be captured. kUnsupported:
  // these sizes don't work, the kernels are to run.
  virtual Status run(CudaStream& stream, const CudaCallArgs& args) const = 0;
};

// kUnsupported with the reason: the library isn't there or refuses; the kernels are to run.
Result<std::unique_ptr<CudaLibraryCall>> resolve_library_call(CudaDevice& device, const KernelBlob& blob,
                                                              const KernelBlob::LibraryCall& call);

}  // namespace graphc
