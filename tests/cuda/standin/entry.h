// What every entry point of the stand-in does first.
#pragma once

#include "tests/cuda/standin/machine.h"

#define STANDIN_API extern "C" __attribute__((visibility("default"))) CUresult

namespace standin {

// Takes the machine's lock, and says whether the call has to fail before it begins: because there was no
// cuInit, no current context, a sticky error, or because STANDIN_FAIL says so.
//
//   const Call call("cuMemAlloc");
//   if (call.error) return call.error;
class Call {
 public:
  enum Needs { kNothing, kInit, kContext };
  explicit Call(const char* function, Needs needs = kContext);
  CUresult error = CUDA_SUCCESS;
  Machine& machine;
  int device = 0;  // of the current context
  Device& dev() const { return machine.devices[static_cast<size_t>(device)]; }

 private:
  std::unique_lock<std::recursive_mutex> guard_;
};

// The device whose primary context is this thread's current one; -1: none.
int& current_device();

// `s` as the driver takes it: 0 and CU_STREAM_LEGACY are the default stream. Null: no stream of this device.
std::shared_ptr<Stream> stream_of(const Call& call, CUstream s);
// CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, breaking the capture, if one forbids this call now.
CUresult forbidden_by_capture(const Call& call);

// memory for checked copies: both must lie in one live allocation each, if they are the device's
bool inside(const Call& call, const void* p, uint64_t bytes);

}  // namespace standin
