#include "backends/cuda/exec/driver.h"

#include <fmt/format.h>

namespace graphc {
namespace {

constexpr int kOldest = 12000;

}  // namespace

std::string CudaDriver::describe(CUresult r) const {
  const char *name = nullptr, *text = nullptr;
  error_name(r, &name);
  error_string(r, &text);
  if (!name) return fmt::format("CUDA error {}", static_cast<int>(r));
  return text ? fmt::format("{} ({})", text, name) : std::string(name);
}

Status CudaDriver::check(CUresult r, std::string_view what) const {
  if (r == CUDA_SUCCESS) return {};
  return Error{r == CUDA_ERROR_OUT_OF_MEMORY ? ErrorCode::kNoMemory : ErrorCode::kDevice,
               fmt::format("{}: {}", what, describe(r))};
}

bool CudaDriver::is_sticky(CUresult r) {
  switch (r) {
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE: return true;
    default: return false;
  }
}

Result<std::shared_ptr<const CudaDriver>> CudaDriver::open(const CudaLibraries& libraries) {
  const CudaLibrary& l = libraries.driver;
  if (!l.loaded()) return Error{ErrorCode::kDevice, l.problem};
  auto d = std::make_shared<CudaDriver>();
  std::string missing;
  const auto find = [&](auto& f, const char* name) {
    f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(l.symbol(name));
    if (!f && missing.empty()) missing = name;
  };
// Two steps, so that cuda.h's renaming (cuMemAlloc is cuMemAlloc_v2) comes first.
#define GC_TEXT_(x) #x
#define GC_TEXT(x) GC_TEXT_(x)
#define GC_FIND(member, function) find(d->member, GC_TEXT(function))
  GC_FIND(init, cuInit);
  GC_FIND(driver_version, cuDriverGetVersion);
  GC_FIND(error_name, cuGetErrorName);
  GC_FIND(error_string, cuGetErrorString);
  GC_FIND(device_get, cuDeviceGet);
  GC_FIND(context_retain, cuDevicePrimaryCtxRetain);
  GC_FIND(context_release, cuDevicePrimaryCtxRelease);
  GC_FIND(context_set, cuCtxSetCurrent);
  GC_FIND(mem_alloc, cuMemAlloc);
  GC_FIND(mem_free, cuMemFree);
  GC_FIND(mem_info, cuMemGetInfo);
  GC_FIND(host_alloc, cuMemHostAlloc);
  GC_FIND(host_free, cuMemFreeHost);
  GC_FIND(host_pointer, cuMemHostGetDevicePointer);
  GC_FIND(to_device, cuMemcpyHtoDAsync);
  GC_FIND(to_host, cuMemcpyDtoHAsync);
  GC_FIND(on_device, cuMemcpyDtoDAsync);
  GC_FIND(module_load, cuModuleLoadData);
  GC_FIND(module_unload, cuModuleUnload);
  GC_FIND(module_function, cuModuleGetFunction);
  GC_FIND(launch, cuLaunchKernel);
  GC_FIND(stream_create, cuStreamCreateWithPriority);
  GC_FIND(stream_destroy, cuStreamDestroy);
  GC_FIND(stream_synchronize, cuStreamSynchronize);
  GC_FIND(stream_wait, cuStreamWaitEvent);
  GC_FIND(event_create, cuEventCreate);
  GC_FIND(event_destroy, cuEventDestroy);
  GC_FIND(event_record, cuEventRecord);
  GC_FIND(event_query, cuEventQuery);
  GC_FIND(event_synchronize, cuEventSynchronize);
  GC_FIND(capture_begin, cuStreamBeginCapture);
  GC_FIND(capture_end, cuStreamEndCapture);
  GC_FIND(graph_instantiate, cuGraphInstantiateWithFlags);
  GC_FIND(graph_launch, cuGraphLaunch);
  GC_FIND(graph_destroy, cuGraphDestroy);
  GC_FIND(graph_exec_destroy, cuGraphExecDestroy);
#undef GC_FIND
#undef GC_TEXT
#undef GC_TEXT_
  if (d->driver_version && d->driver_version(&d->version) == CUDA_SUCCESS && d->version < kOldest)
    return Error{
        ErrorCode::kDevice,
        fmt::format("the NVIDIA driver ({}) is for CUDA {}.{}; graphc needs one for CUDA {}.{} or newer: "
                    "update the driver",
                    l.path, d->version / 1000, d->version % 1000 / 10, kOldest / 1000, kOldest % 1000 / 10)};
  if (!missing.empty())
    return Error{
        ErrorCode::kDevice,
        fmt::format("{} is no usable CUDA driver: it has no {}; update the driver", l.path, missing)};
  const CUresult r = d->init(0);
  if (r == CUDA_ERROR_NO_DEVICE)
    return Error{ErrorCode::kDevice, "the CUDA driver shows no card (CUDA_VISIBLE_DEVICES?)"};
  GC_CHECK(d->check(r, "the CUDA driver doesn't start"));
  return std::shared_ptr<const CudaDriver>(std::move(d));
}

}  // namespace graphc
