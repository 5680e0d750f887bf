// The CUDA driver as a table of functions and its errors as ours. Built against CUDA's headers; libcuda is
// opened at run time (libraries.h), by the names that drivers for CUDA 12.0 and newer have.
//
//   GC_TRY(std::shared_ptr<const CudaDriver> cuda, CudaDriver::open(CudaLibraries::open()));
//   GC_CHECK(cuda->check(cuda->mem_alloc(&p, bytes), "allocating"));
#pragma once

#include <cuda.h>

#include <memory>
#include <string>

#include "backends/cuda/exec/libraries.h"
#include "runtime/base/result.h"

namespace graphc {

struct CudaDriver {
  decltype(&::cuInit) init;
  decltype(&::cuDriverGetVersion) driver_version;
  decltype(&::cuGetErrorName) error_name;
  decltype(&::cuGetErrorString) error_string;
  decltype(&::cuDeviceGet) device_get;
  decltype(&::cuDevicePrimaryCtxRetain) context_retain;
  decltype(&::cuDevicePrimaryCtxRelease) context_release;
  decltype(&::cuCtxSetCurrent) context_set;
  decltype(&::cuMemAlloc) mem_alloc;
  decltype(&::cuMemFree) mem_free;
  decltype(&::cuMemGetInfo) mem_info;
  decltype(&::cuMemHostAlloc) host_alloc;
  decltype(&::cuMemFreeHost) host_free;
  decltype(&::cuMemHostGetDevicePointer) host_pointer;
  decltype(&::cuMemcpyHtoDAsync) to_device;
  decltype(&::cuMemcpyDtoHAsync) to_host;
  decltype(&::cuMemcpyDtoDAsync) on_device;
  decltype(&::cuModuleLoadData) module_load;
  decltype(&::cuModuleUnload) module_unload;
  decltype(&::cuModuleGetFunction) module_function;
  decltype(&::cuLaunchKernel) launch;
  decltype(&::cuStreamCreateWithPriority) stream_create;
  decltype(&::cuStreamDestroy) stream_destroy;
  decltype(&::cuStreamSynchronize) stream_synchronize;
  decltype(&::cuStreamWaitEvent) stream_wait;
  decltype(&::cuEventCreate) event_create;
  decltype(&::cuEventDestroy) event_destroy;
  decltype(&::cuEventRecord) event_record;
  decltype(&::cuEventQuery) event_query;
  decltype(&::cuEventSynchronize) event_synchronize;
  decltype(&::cuStreamBeginCapture) capture_begin;
  decltype(&::cuStreamEndCapture) capture_end;
  decltype(&::cuGraphInstantiateWithFlags) graph_instantiate;
  decltype(&::cuGraphLaunch) graph_launch;
  decltype(&::cuGraphDestroy) graph_destroy;
  decltype(&::cuGraphExecDestroy) graph_exec_destroy;
  int version = 0;  // 13000: for CUDA 13.0

  // Starts the driver. kDevice: there is none, it is too old, or it shows no card; the message says which.
  static Result<std::shared_ptr<const CudaDriver>> open(const CudaLibraries& libraries);

  // "an illegal memory access was encountered (CUDA_ERROR_ILLEGAL_ADDRESS)"
  std::string describe(CUresult r) const;
  // kNoMemory or kDevice, "<what>: <describe>".
  Status check(CUresult r, std::string_view what) const;
  // After these nothing works in this process any more.
  static bool is_sticky(CUresult r);
};

}  // namespace graphc
