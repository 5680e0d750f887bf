#include <fmt/format.h>

#include "backends/cuda/exec/cudnn.h"

namespace graphc {
namespace {

constexpr size_t kPlansKept = 16;  // of one call, for different sizes

}  // namespace

Result<std::unique_ptr<CudnnCall>> CudnnCall::create(std::shared_ptr<Cudnn> cudnn, std::string_view text,
                                                     size_t num_sizes, size_t num_buffers) {
  GC_TRY(CudnnGraph graph, CudnnGraph::parse(text, num_sizes, num_buffers));
  return std::unique_ptr<CudnnCall>(new CudnnCall(std::move(cudnn), std::move(graph)));
}

Result<std::shared_ptr<const CudnnPlan>> CudnnCall::plan(std::span<const int64_t> sizes,
                                                         uint64_t workspace_bytes) const {
  std::vector<int64_t> key(sizes.begin(), sizes.end());
  key.push_back(static_cast<int64_t>(workspace_bytes));
  const std::lock_guard lock(mutex_);
  if (const auto found = plans_.find(key); found != plans_.end()) return found->second;
  const auto make = [&]() -> Result<std::shared_ptr<const CudnnPlan>> {
    GC_TRY(const CudnnGraph bound, graph_.bind(sizes));
    return cudnn_->plan(bound, workspace_bytes);
  };
  if (plans_.size() >= kPlansKept) plans_.erase(plans_.begin());
  return plans_.emplace(std::move(key), make()).first->second;
}

Status CudnnCall::prepare(std::span<const int64_t> sizes, uint64_t workspace_bytes) const {
  const auto p = plan(sizes, workspace_bytes);
  return p.ok() ? Status() : Status(p.error());
}

Status CudnnCall::run(void* stream, std::span<const uint64_t> buffers, std::span<const int64_t> sizes,
                      uint64_t workspace, uint64_t workspace_bytes) const {
  if (!CudnnPlan::accepts(buffers)) return unsupported("a buffer doesn't begin at a multiple of 16 bytes");
  const CudnnGraph::Operation& core = graph_.operations.front();
  const int result = graph_.tensors[static_cast<size_t>(graph_.operations.back().output)].buffer;
  for (const int i : core.inputs) {
    const int operand = graph_.tensors[static_cast<size_t>(i)].buffer;
    if (operand >= 0 && buffers[static_cast<size_t>(operand)] == buffers[static_cast<size_t>(result)])
      return unsupported("the result takes the place of an operand");
  }
  GC_TRY(const std::shared_ptr<const CudnnPlan> p, plan(sizes, workspace_bytes));
  return cudnn_->execute(*p, stream, buffers, workspace);
}

}  // namespace graphc
