#include "backends/cuda/libraries/library_calls.h"

#include <fmt/format.h>

namespace graphc::cuda {

Status add_library_calls(const Func& region, const CudaTarget&, LoweredRegion& lowered) {
  Result<RegionCall> call = cublaslt_call(region);
  if (!call.ok()) {
    if (call.error().code != ErrorCode::kUnsupported) return call.error();
    lowered.not_called.push_back(fmt::format("cublaslt: {}", call.error().message));
    return ok_status();
  }
  call->first_step = 0;
  call->last_step = static_cast<int>(lowered.steps.size());
  lowered.calls.push_back(*std::move(call));
  return ok_status();
}

}  // namespace graphc::cuda
