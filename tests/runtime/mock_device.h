// A backend for tests of the runtime whose devices have memory that the host can't reach: the kernels of the
// fake backend (fake_backend.h), done when they are waited for. Handles of buffers are numbers and no
// addresses; memory is full of NaN until something is copied there. What is put on a stream is done by
// event_wait and reads and writes host memory only then, so that a missing wait or copy and a wrong order
// show in the results. Devices:
//   "0"     memory of its own, and pinned memory
//   "1"     memory of its own only
//   "host"  computes on host memory, with streams
// Calls can be made to fail, all are counted, and what the ABI forbids is written down.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "backends/graphc_plugin.h"

namespace graphc::mock {

enum Point {
  kAlloc,    // buf_alloc, pinned memory included
  kCopy,     // copy
  kExecute,  // execute
  kKernel,   // a kernel while it runs; comes out when it is waited for
  kStream,   // stream_create
  kEvent,    // event_create
  kRecord,   // event_record
  kWait,     // event_wait
  kBegin,    // of the capture
  kEnd,
  kLaunch,
  kPoints
};

// What a backend has of the optional parts, and what it says when it is to capture.
enum class Capture { kYes, kNo, kBeginRefuses, kEndRefuses, kExecuteRefuses };
struct State {
  Capture capture = Capture::kYes;
  std::array<int64_t, kPoints> calls{};    // since reset
  std::array<int64_t, kPoints> fail_in{};  // n: the n-th call from now on fails; 0: none
  int64_t live = 0;  // plugins, devices, buffers, streams, events, executables, captures
  std::vector<std::string> misuse;
};
State& state();
// Clears calls, faults and misuse; `live` stays what it is.
void reset();

const gc_plugin_api* api();        // "mock"
const gc_plugin_api* plain_api();  // "mock" without streams, capture and exec_workspace

}  // namespace graphc::mock
