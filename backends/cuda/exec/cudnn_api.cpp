#include "backends/cuda/exec/cudnn_api.h"

#include <fmt/format.h>

namespace graphc {

Result<CudnnApi> CudnnApi::load(const CudaLibrary& library) {
  if (!library.loaded()) return unsupported(library.problem);
  CudnnApi a;
  bool all = true;
  const auto get = [&](auto& f, const char* name) {
    f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(library.symbol(name));
    all &= f != nullptr;
  };
  get(a.create, "cudnnCreate");
  get(a.destroy, "cudnnDestroy");
  get(a.set_stream, "cudnnSetStream");
  get(a.error_string, "cudnnGetErrorString");
  get(a.last_error_string, "cudnnGetLastErrorString");
  get(a.create_descriptor, "cudnnBackendCreateDescriptor");
  get(a.destroy_descriptor, "cudnnBackendDestroyDescriptor");
  get(a.finalize, "cudnnBackendFinalize");
  get(a.set_attribute, "cudnnBackendSetAttribute");
  get(a.get_attribute, "cudnnBackendGetAttribute");
  get(a.execute, "cudnnBackendExecute");
  if (!all) return unsupported(fmt::format("{} is no cuDNN 9: functions are missing", library.path));
  return a;
}

Status CudnnApi::check(cudnnStatus_t s, std::string_view what) const {
  if (s == CUDNN_STATUS_SUCCESS) return {};
  char text[512] = {};
  last_error_string(text, sizeof text - 1);
  return unsupported(fmt::format("{}: {}{}{}", what, error_string(s), text[0] ? ": " : "", text));
}

CudnnBuilder::CudnnBuilder(const CudnnApi& api, cudnnBackendDescriptorType_t type, std::string what)
    : api_(api), what_(std::move(what)) {
  cudnnBackendDescriptor_t raw = nullptr;
  status_ = api.check(api.create_descriptor(type, &raw), what_);
  if (status_.ok()) d_ = CudnnDescriptor(raw, [destroy = api.destroy_descriptor](void* d) { destroy(d); });
}

void CudnnBuilder::set(cudnnBackendAttributeName_t name, const std::vector<CudnnDescriptor>& d) {
  std::vector<void*> raw;
  for (const CudnnDescriptor& one : d) {
    raw.push_back(one.get());
    keep_.push_back(one);
  }
  put(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<int64_t>(raw.size()), raw.data());
}

void CudnnBuilder::put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                       const void* values) {
  if (status_.ok())
    status_ = api_.check(api_.set_attribute(d_.get(), name, type, count, values),
                         fmt::format("{}, attribute {}", what_, static_cast<int>(name)));
}

Result<CudnnDescriptor> CudnnBuilder::finish() {
  GC_CHECK(status_);
  GC_CHECK(api_.check(api_.finalize(d_.get()), what_));
  // The owner of all holds the descriptor and what it was made of.
  struct Owned {
    std::vector<CudnnDescriptor> keep;
    CudnnDescriptor d;  // goes first
  };
  auto owned = std::make_shared<Owned>(Owned{std::move(keep_), d_});
  return CudnnDescriptor(owned, owned->d.get());
}

}  // namespace graphc
