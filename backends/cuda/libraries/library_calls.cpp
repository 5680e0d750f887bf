#include "backends/cuda/libraries/library_calls.h"

#include <fmt/format.h>

namespace graphc::cuda {

Status add_library_calls(const Func& region, const CudaTarget& target, LoweredRegion& lowered) {
  struct Library {
    const char* name;
    Result<RegionCall> (*call)(const Func& region);
  };
  for (const Library& library : {Library{"cublaslt", cublaslt_call}, Library{"cudnn", cudnn_call}}) {
    Result<RegionCall> call = library.call(region);
    if (!call.ok()) {
      if (call.error().code != ErrorCode::kUnsupported) return call.error();
      lowered.not_called.push_back(fmt::format("{}: {}", library.name, call.error().message));
      continue;
    }
    call->first_step = 0;
    call->last_step = static_cast<int>(lowered.steps.size());
    lowered.calls.push_back(*std::move(call));
    return ok_status();
  }
  Result<RegionCall> product = cublaslt_product_call(region, target, lowered);
  if (product.ok())
    lowered.calls.push_back(*std::move(product));
  else if (product.error().code != ErrorCode::kUnsupported)
    return product.error();
  return ok_status();
}

}  // namespace graphc::cuda
