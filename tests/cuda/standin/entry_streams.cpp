// Entry points of the stand-in for the CUDA driver: copies, streams, events, capture and graphs.
//
// A stream's work runs when somebody synchronises (or polls, one piece a poll), in that thread: what isn't
// waited for has not happened. Copies from and to ordinary host memory behave as the driver documents them:
// the source is read at once, and a copy to the host is complete on return; those of pinned memory run when
// the stream does.
#include <chrono>
#include <cstring>
#include <thread>

#include "tests/cuda/standin/entry.h"

namespace standin {

std::shared_ptr<Stream> stream_of(const Call& call, CUstream s) {
  Device& d = call.dev();
  if (!s || s == CU_STREAM_LEGACY) return d.null_stream;
  for (const auto& own : d.streams)
    if (own.get() == reinterpret_cast<Stream*>(s)) return own;
  return nullptr;
}

static uint64_t this_thread() { return std::hash<std::thread::id>()(std::this_thread::get_id()); }

CUresult forbidden_by_capture(const Call& call) {
  for (Capture* c : call.machine.captures) {
    const bool forbids = c->mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
                         (c->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && c->thread == this_thread());
    if (!forbids) continue;
    c->broken = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return CUDA_SUCCESS;
}

namespace {

// At least one piece of work, so that polling ends.
bool progress(Machine& m, Stream& s, uint64_t ticket) {
  if (s.done >= ticket) return true;
  m.drain(s, s.done + 1);
  return false;
}

CUresult breaks(Stream& s) {
  if (!s.capture) return CUDA_SUCCESS;
  s.capture->broken = true;
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

enum Side { kDevice, kPinned, kPageable };
Side side_of(const Call& call, const void* p) {
  const Allocation* a = call.machine.memory.find(p);
  return !a ? kPageable : a->device >= 0 ? kDevice : kPinned;
}

CUresult copy(const Call& call, void* to, const void* from, size_t n, CUstream raw, bool to_device,
              bool from_device, bool wait) {
  if (n == 0) return CUDA_SUCCESS;
  const auto s = stream_of(call, raw);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (wait)
    if (const CUresult r = forbidden_by_capture(call)) return r;
  const Side to_side = side_of(call, to), from_side = side_of(call, from);
  const bool fine = (to_device ? to_side != kPageable && inside(call, to, n) : to_side != kDevice) &&
                    (from_device ? from_side != kPageable && inside(call, from, n) : from_side != kDevice);
  if (!fine) {
    complain("a copy of " + std::to_string(n) + " bytes between " + call.machine.memory.describe(from) +
             " and " + call.machine.memory.describe(to));
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (s->capture && (to_side == kPageable || from_side == kPageable)) {
    s->capture->broken = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  Machine& m = call.machine;
  std::shared_ptr<std::string> staged;
  if (from_side == kPageable) staged = std::make_shared<std::string>(static_cast<const char*>(from), n);
  m.push(s, [&m, to, from, n, staged, to_side, from_side]() -> CUresult {
    ++m.copies;
    for (const auto& [p, side] : {std::pair<const void*, Side>{to, to_side}, {from, from_side}}) {
      const Allocation* a = side == kPageable ? nullptr : m.memory.find(p);
      if (side != kPageable && (!a || a->begin + a->bytes < static_cast<const char*>(p) + n)) {
        complain("a copy uses memory that was freed before it ran");
        return CUDA_ERROR_ILLEGAL_ADDRESS;
      }
    }
    std::memmove(to, staged ? staged->data() : from, n);
    return CUDA_SUCCESS;
  });
  if (s->capture) return CUDA_SUCCESS;
  return wait || to_side == kPageable ? m.drain(*s, s->issued) : CUDA_SUCCESS;
}

const void* pointer(CUdeviceptr p) { return reinterpret_cast<const void*>(p); }
void* writable(CUdeviceptr p) { return reinterpret_cast<void*>(p); }

template <class T>
CUresult fill(const Call& call, CUdeviceptr p, T value, size_t n, CUstream raw, bool wait) {
  if (n == 0) return CUDA_SUCCESS;
  const auto s = stream_of(call, raw);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (wait)
    if (const CUresult r = forbidden_by_capture(call)) return r;
  if (p % sizeof(T) != 0 || !inside(call, pointer(p), n * sizeof(T))) return CUDA_ERROR_INVALID_VALUE;
  Machine& m = call.machine;
  return m.push(s, [&m, p, value, n]() -> CUresult {
    const Allocation* a = m.memory.find(pointer(p));
    if (!a) {
      complain("a fill of memory that was freed before it ran");
      return CUDA_ERROR_ILLEGAL_ADDRESS;
    }
    for (size_t i = 0; i < n; ++i) static_cast<T*>(writable(p))[i] = value;
    return CUDA_SUCCESS;
  });
}

}  // namespace
}  // namespace standin

using namespace standin;

STANDIN_API cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t n) {
  const Call call("cuMemcpyHtoD");
  return call.error ? call.error : copy(call, writable(to), from, n, nullptr, true, false, true);
}
STANDIN_API cuMemcpyDtoH(void* to, CUdeviceptr from, size_t n) {
  const Call call("cuMemcpyDtoH");
  return call.error ? call.error : copy(call, to, pointer(from), n, nullptr, false, true, true);
}
STANDIN_API cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t n) {
  const Call call("cuMemcpyDtoD");
  return call.error ? call.error : copy(call, writable(to), pointer(from), n, nullptr, true, true, false);
}
STANDIN_API cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t n, CUstream s) {
  const Call call("cuMemcpyHtoDAsync");
  return call.error ? call.error : copy(call, writable(to), from, n, s, true, false, false);
}
STANDIN_API cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t n, CUstream s) {
  const Call call("cuMemcpyDtoHAsync");
  return call.error ? call.error : copy(call, to, pointer(from), n, s, false, true, false);
}
STANDIN_API cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
  const Call call("cuMemcpyDtoDAsync");
  return call.error ? call.error : copy(call, writable(to), pointer(from), n, s, true, true, false);
}
STANDIN_API cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
  const Call call("cuMemcpyAsync");
  return call.error ? call.error
                    : copy(call, writable(to), pointer(from), n, s, side_of(call, pointer(to)) == kDevice,
                           side_of(call, pointer(from)) == kDevice, false);
}
STANDIN_API cuMemsetD8(CUdeviceptr p, unsigned char v, size_t n) {
  const Call call("cuMemsetD8");
  return call.error ? call.error : fill(call, p, v, n, nullptr, true);
}
STANDIN_API cuMemsetD32(CUdeviceptr p, unsigned v, size_t n) {
  const Call call("cuMemsetD32");
  return call.error ? call.error : fill(call, p, v, n, nullptr, true);
}
STANDIN_API cuMemsetD8Async(CUdeviceptr p, unsigned char v, size_t n, CUstream s) {
  const Call call("cuMemsetD8Async");
  return call.error ? call.error : fill(call, p, v, n, s, false);
}
STANDIN_API cuMemsetD32Async(CUdeviceptr p, unsigned v, size_t n, CUstream s) {
  const Call call("cuMemsetD32Async");
  return call.error ? call.error : fill(call, p, v, n, s, false);
}

// Streams
STANDIN_API cuStreamCreateWithPriority(CUstream* out, unsigned flags, int) {
  const Call call("cuStreamCreate");
  if (call.error) return call.error;
  auto s = std::make_shared<Stream>();
  s->device = call.device;
  s->blocking = !(flags & CU_STREAM_NON_BLOCKING);
  *out = reinterpret_cast<CUstream>(s.get());
  call.dev().streams.push_back(std::move(s));
  return CUDA_SUCCESS;
}
STANDIN_API cuStreamCreate(CUstream* out, unsigned flags) {
  return cuStreamCreateWithPriority(out, flags, 0);
}

STANDIN_API cuStreamDestroy(CUstream raw) {
  const Call call("cuStreamDestroy");
  if (call.error && call.error != call.dev().sticky) return call.error;
  const auto s = stream_of(call, raw);
  if (!s || s == call.dev().null_stream) return CUDA_ERROR_INVALID_HANDLE;
  if (s->capture) {
    s->capture->broken = true;
    for (Stream*& other : s->capture->streams)
      if (other == s.get()) other = nullptr;
    // Without the stream it began on it can't be ended any more.
    if (Capture* c = s->capture; c->origin == s.get()) {
      for (Stream* other : c->streams)
        if (other) other->capture = nullptr;
      call.machine.captures.erase(c);
      delete c;
    }
    s->capture = nullptr;
  }
  call.machine.drain(*s, s->issued);
  auto& all = call.dev().streams;
  for (size_t i = 0; i < all.size(); ++i)
    if (all[i] == s) all.erase(all.begin() + static_cast<long>(i));
  return call.error;
}

STANDIN_API cuStreamSynchronize(CUstream raw) {
  const Call call("cuStreamSynchronize");
  if (call.error) return call.error;
  const auto s = stream_of(call, raw);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (const CUresult r = breaks(*s)) return r;
  if (const CUresult r = forbidden_by_capture(call)) return r;
  if (s == call.dev().null_stream) return call.machine.drain_device(call.device);
  return call.machine.drain(*s, s->issued);
}

STANDIN_API cuStreamQuery(CUstream raw) {
  const Call call("cuStreamQuery");
  if (call.error) return call.error;
  const auto s = stream_of(call, raw);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (const CUresult r = breaks(*s)) return r;
  if (!progress(call.machine, *s, s->issued))
    return call.dev().sticky ? call.dev().sticky : CUDA_ERROR_NOT_READY;
  return call.dev().sticky;
}

STANDIN_API cuStreamWaitEvent(CUstream raw, CUevent event, unsigned) {
  const Call call("cuStreamWaitEvent");
  if (call.error) return call.error;
  const auto s = stream_of(call, raw);
  auto* e = reinterpret_cast<Event*>(event);
  if (!s || !e) return CUDA_ERROR_INVALID_HANDLE;
  if (e->capture && call.machine.captures.count(e->capture)) {
    if (s->capture && s->capture != e->capture) return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    if (!s->capture) {
      s->capture = e->capture;
      s->joined = true;
      e->capture->streams.push_back(s.get());
    }
    // Whoever waits for it carries on its work.
    if (e->captured_on != s.get()) {
      s->joined = s.get() == e->capture->origin;
      for (Stream* other : e->capture->streams)
        if (other == e->captured_on && e->ticket == e->capture->graph.work.size()) other->joined = true;
    }
    return CUDA_SUCCESS;
  }
  if (s->capture) {
    if (!e->stream) return CUDA_SUCCESS;
    s->capture->broken = true;
    return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  }
  if (e->stream && e->stream != s) call.machine.push_wait(s, e->stream, e->ticket);
  return CUDA_SUCCESS;
}

// Events
STANDIN_API cuEventCreate(CUevent* out, unsigned flags) {
  const Call call("cuEventCreate");
  if (call.error) return call.error;
  auto* e = new Event;
  e->timing = !(flags & CU_EVENT_DISABLE_TIMING);
  ++call.machine.events;
  *out = reinterpret_cast<CUevent>(e);
  return CUDA_SUCCESS;
}

STANDIN_API cuEventDestroy(CUevent e) {
  const Call call("cuEventDestroy");
  if (call.error && call.error != call.dev().sticky) return call.error;
  delete reinterpret_cast<Event*>(e);
  --call.machine.events;
  return call.error;
}

STANDIN_API cuEventRecord(CUevent event, CUstream raw) {
  const Call call("cuEventRecord");
  if (call.error) return call.error;
  const auto s = stream_of(call, raw);
  auto* e = reinterpret_cast<Event*>(event);
  if (!s || !e) return CUDA_ERROR_INVALID_HANDLE;
  if (s->capture) {
    e->capture = s->capture;
    e->captured_on = s.get();
    e->ticket = s->capture->graph.work.size();
    e->stream = nullptr;
    return CUDA_SUCCESS;
  }
  auto time = std::make_shared<std::atomic<uint64_t>>(0);
  call.machine.push(s, [time]() -> CUresult {
    *time = static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
    return CUDA_SUCCESS;
  });
  e->capture = nullptr;
  e->stream = s;
  e->ticket = s->issued;
  e->time_ns = std::move(time);
  return CUDA_SUCCESS;
}

STANDIN_API cuEventSynchronize(CUevent event) {
  const Call call("cuEventSynchronize");
  if (call.error) return call.error;
  auto* e = reinterpret_cast<Event*>(event);
  if (e->capture) return CUDA_ERROR_CAPTURED_EVENT;
  return e->stream ? call.machine.drain(*e->stream, e->ticket) : CUDA_SUCCESS;
}

STANDIN_API cuEventQuery(CUevent event) {
  const Call call("cuEventQuery");
  if (call.error) return call.error;
  auto* e = reinterpret_cast<Event*>(event);
  if (e->capture) return CUDA_ERROR_CAPTURED_EVENT;
  if (e->stream && !progress(call.machine, *e->stream, e->ticket))
    return call.dev().sticky ? call.dev().sticky : CUDA_ERROR_NOT_READY;
  return call.dev().sticky;
}

#undef cuEventElapsedTime
static CUresult elapsed(float* ms, CUevent a, CUevent b) {
  const Call call("cuEventElapsedTime");
  if (call.error) return call.error;
  const auto *x = reinterpret_cast<Event*>(a), *y = reinterpret_cast<Event*>(b);
  if (!x->timing || !y->timing || !x->stream || !y->stream) return CUDA_ERROR_INVALID_HANDLE;
  if (x->stream->done < x->ticket || y->stream->done < y->ticket) return CUDA_ERROR_NOT_READY;
  *ms = static_cast<float>(static_cast<double>(*y->time_ns) - static_cast<double>(*x->time_ns)) * 1e-6f;
  return CUDA_SUCCESS;
}
STANDIN_API cuEventElapsedTime(float* ms, CUevent a, CUevent b) { return elapsed(ms, a, b); }
STANDIN_API cuEventElapsedTime_v2(float* ms, CUevent a, CUevent b) { return elapsed(ms, a, b); }

// Capture and graphs
STANDIN_API cuStreamBeginCapture(CUstream raw, CUstreamCaptureMode mode) {
  const Call call("cuStreamBeginCapture");
  if (call.error) return call.error;
  const auto s = stream_of(call, raw);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (s == call.dev().null_stream) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (s->capture) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  auto* c = new Capture;
  c->origin = s.get();
  c->mode = mode;
  c->thread = this_thread();
  c->streams = {s.get()};
  s->capture = c;
  s->joined = true;
  call.machine.captures.insert(c);
  return CUDA_SUCCESS;
}

STANDIN_API cuStreamEndCapture(CUstream raw, CUgraph* out) {
  const Call call("cuStreamEndCapture");
  *out = nullptr;
  if (call.error == CUDA_ERROR_NOT_INITIALIZED || call.error == CUDA_ERROR_INVALID_CONTEXT) return call.error;
  const auto s = stream_of(call, raw);
  if (!s || !s->capture || s->capture->origin != s.get()) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  Capture* c = s->capture;
  CUresult r = call.error ? call.error : c->broken ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
  for (Stream* other : c->streams) {
    if (!other) continue;
    if (!r && other != s.get() && !other->joined) r = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    other->capture = nullptr;
    other->joined = true;
  }
  call.machine.captures.erase(c);
  if (!r) {
    *out = reinterpret_cast<CUgraph>(new Graph(std::move(c->graph)));
    ++call.machine.graphs;
  }
  delete c;
  return r;
}

STANDIN_API cuStreamIsCapturing(CUstream raw, CUstreamCaptureStatus* out) {
  const Call call("cuStreamIsCapturing");
  if (call.error) return call.error;
  const auto s = stream_of(call, raw);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  *out = !s->capture          ? CU_STREAM_CAPTURE_STATUS_NONE
         : s->capture->broken ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                              : CU_STREAM_CAPTURE_STATUS_ACTIVE;
  return CUDA_SUCCESS;
}

STANDIN_API cuGraphInstantiateWithFlags(CUgraphExec* out, CUgraph g, unsigned long long) {
  const Call call("cuGraphInstantiate");
  if (call.error) return call.error;
  *out = reinterpret_cast<CUgraphExec>(new Graph(*reinterpret_cast<Graph*>(g)));
  ++call.machine.graph_execs;
  return CUDA_SUCCESS;
}

STANDIN_API cuGraphLaunch(CUgraphExec g, CUstream raw) {
  const Call call("cuGraphLaunch");
  if (call.error) return call.error;
  const auto s = stream_of(call, raw);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  ++call.machine.graph_launches;
  const Graph* graph = reinterpret_cast<Graph*>(g);
  return call.machine.push(s, [work = graph->work]() -> CUresult {
    for (const auto& w : work)
      if (const CUresult r = w()) return r;
    return CUDA_SUCCESS;
  });
}

STANDIN_API cuGraphExecDestroy(CUgraphExec g) {
  const Call call("cuGraphExecDestroy");
  if (call.error && call.error != call.dev().sticky) return call.error;
  delete reinterpret_cast<Graph*>(g);
  --call.machine.graph_execs;
  return call.error;
}
STANDIN_API cuGraphDestroy(CUgraph g) {
  const Call call("cuGraphDestroy");
  if (call.error && call.error != call.dev().sticky) return call.error;
  delete reinterpret_cast<Graph*>(g);
  --call.machine.graphs;
  return call.error;
}
STANDIN_API cuGraphGetNodes(CUgraph g, CUgraphNode*, size_t* n) {
  const Call call("cuGraphGetNodes");
  if (call.error) return call.error;
  *n = reinterpret_cast<Graph*>(g)->work.size();
  return CUDA_SUCCESS;
}
