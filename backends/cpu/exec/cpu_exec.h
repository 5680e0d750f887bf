// A loaded executable: kernels in memory and the steps that call them. Immutable; run may be called from
// several threads at a time. A warm run allocates nothing: scratch memory belongs to the threads and grows to
// what was ever needed; workspace is the caller's.
#pragma once

#include <memory>
#include <span>

#include "backends/cpu/exec/kernel_image.h"
#include "backends/host/kernel_blob.h"

namespace graphc {

class CpuExec {
 public:
  // How the steps' ranges are shared out: gc_host.parallel_for.
  struct Parallel {
    void (*run)(void* ctx, int64_t n, int64_t grain, void (*body)(void* arg, int64_t b, int64_t e),
                void* arg);
    void* ctx;
  };
  struct TensorRef {
    void* data;
    std::span<const int64_t> shape;
  };

  static Result<std::unique_ptr<CpuExec>> load(KernelBlob blob);

  const KernelBlob& blob() const { return blob_; }
  // Of all workspaces together, if that doesn't depend on a symbol, so that it can be planned; else 0.
  uint64_t planned_workspace_bytes() const;
  // Of all workspaces together, for these symbols.
  Result<uint64_t> workspace_bytes(std::span<const int64_t> symbols) const;
  // Operands and results in order, dense; symbols in the blob's order. Shapes are checked. `workspace`:
  // 64-byte aligned, workspace_bytes(symbols) of it; for callers that give less, memory of the calling thread
  // is used instead.
  Status run(std::span<const TensorRef> operands, std::span<const TensorRef> results,
             std::span<const int64_t> symbols, const Parallel& parallel,
             std::span<std::byte> workspace = {}) const;

 private:
  KernelBlob blob_;
  KernelImage image_;
  std::vector<KernelFn> kernels_;  // per step
};

}  // namespace graphc
