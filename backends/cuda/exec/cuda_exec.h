// A loaded executable: a module on the card and the launches of its steps. Immutable; may run on several
// streams at a time. A run allocates nothing and waits for nothing, so that it can be captured.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/cuda/exec/device.h"
#include "backends/cuda/exec/library_call.h"
#include "backends/host/kernel_blob.h"

namespace graphc {

class CudaExec {
 public:
  struct TensorRef {
    CUdeviceptr data;
    std::span<const int64_t> shape;
  };

  // kUnsupported: the code is for other cards, or the driver is too old for it. `say` gets a line for each
  // library call that can't be made here.
  static Result<std::unique_ptr<CudaExec>> load(CudaDevice& device, KernelBlob blob,
                                                const std::function<void(const std::string&)>& say = {});
  ~CudaExec();

  const KernelBlob& blob() const { return blob_; }
  // Operands and results in order, dense; symbols in the blob's order. Shapes are checked. `workspace`:
  // 256-byte aligned, of at least workspace_bytes(symbols).
  Status run(CudaStream& stream, std::span<const TensorRef> operands, std::span<const TensorRef> results,
             std::span<const int64_t> symbols, CUdeviceptr workspace, uint64_t workspace_size) const;

 private:
  struct Kernel {
    CUfunction narrow = nullptr, wide = nullptr;
  };
  struct Run;
  explicit CudaExec(CudaDevice& device) : device_(device) {}
  Status launch_step(Run& run, size_t i) const;
  Status check_indices(Run& run, size_t i) const;
  Status run_call(Run& run, size_t k) const;
  void say_refused(const KernelBlob::LibraryCall& call, const Error& why) const;

  CudaDevice& device_;
  KernelBlob blob_;
  CUmodule module_ = nullptr;
  std::vector<Kernel> kernels_;  // per step
  CUfunction check_ = nullptr;
  std::vector<int64_t> check_names_;                     // per check: CudaDevice::name_number
  std::vector<std::unique_ptr<CudaLibraryCall>> calls_;  // of the blob; null: the kernels run
  std::unique_ptr<std::atomic<bool>[]> refused_;         // per call: it was, for some sizes, and that is said
  std::function<void(const std::string&)> say_;
};

// Of all workspaces and calls together, each at a multiple of 256. kInvalid if it overflows. The same for
// every card.
Result<uint64_t> cuda_workspace_bytes(const KernelBlob& blob, std::span<const int64_t> symbols);
// The same if it depends on no symbol; else 0.
uint64_t cuda_fixed_workspace_bytes(const KernelBlob& blob);

}  // namespace graphc
