// The table's memory, copies, streams, events and captures.
#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "backends/cuda/exec/handles.h"

namespace graphc::cuda_table {
namespace {

gc_error* buf_alloc(gc_device* raw, uint32_t space, uint64_t size, uint64_t align, gc_buffer** out) {
  DeviceHandle& d = of(raw);
  return guarded(d.host, [&]() -> gc_error* {
    const uint64_t bit = space < 32 ? uint64_t{1} << space : 0;
    if (bit != GC_MEM_DEVICE && bit != GC_MEM_PINNED)
      return d.host.error(GC_INVALID, "a card has device memory and pinned host memory, nothing else");
    auto b = d.device->allocate(bit == GC_MEM_PINNED, size, align);
    if (!b.ok()) return to_error(d.host, b.error());
    *out = reinterpret_cast<gc_buffer*>((*std::move(b)).release());
    return nullptr;
  });
}

void buf_free(gc_device* raw, gc_buffer* b) {
  of(raw).device->release(of(b));
  delete &of(b);
}

gc_error* buf_import(gc_device* raw, const gc_external* e, gc_buffer** out) {
  DeviceHandle& d = of(raw);
  if (e->kind != GC_EXTERNAL_DEVICE)
    return d.host.error(GC_UNIMPLEMENTED, "a card can use memory of its own only; copy the data there");
  auto* b = new (std::nothrow) CudaBuffer{reinterpret_cast<CUdeviceptr>(e->handle), e->size, 0, nullptr};
  if (!b) return d.host.error(GC_NO_MEMORY, "out of memory");
  *out = reinterpret_cast<gc_buffer*>(b);
  return nullptr;
}

gc_error* buf_export(gc_device*, gc_buffer* raw, gc_external* e) {
  const CudaBuffer& b = of(raw);
  e->kind = b.pinned ? GC_EXTERNAL_HOST : GC_EXTERNAL_DEVICE;
  e->handle = b.pinned ? b.pinned : reinterpret_cast<void*>(b.pointer);
  e->size = b.size;
  return nullptr;
}

gc_error* stats(gc_device* raw, uint64_t* free_bytes, uint64_t* peak_bytes) {
  DeviceHandle& d = of(raw);
  return guarded(d.host, [&] { return to_error(d.host, d.device->memory_info(free_bytes, peak_bytes)); });
}

// One end of a copy: an address of the host (pinned memory too) or of the card.
struct End {
  std::byte* host = nullptr;
  CUdeviceptr device = 0;
};

Result<End> end_of(gc_buffer* raw, const void* host, uint64_t offset, uint64_t size) {
  if (!raw) return End{const_cast<std::byte*>(static_cast<const std::byte*>(host)) + offset, 0};
  const CudaBuffer& b = of(raw);
  if (offset > b.size || size > b.size - offset)
    return invalid(
        fmt::format("a copy of {} bytes at {} reaches outside of a buffer of {}", size, offset, b.size));
  if (b.pinned) return End{static_cast<std::byte*>(b.pinned) + offset, 0};
  return End{nullptr, b.pointer + offset};
}

Status copy_on(CudaDevice& d, CudaStream& s, const gc_copy& c) {
  GC_TRY(const End from, end_of(c.src, c.src_host, c.src_off, c.size));
  GC_TRY(const End to, end_of(c.dst, c.dst_host, c.dst_off, c.size));
  const CudaDriver& cuda = d.driver();
  if (from.host && to.host) {
    if (s.capturing) return unsupported("a copy within host memory can't be captured");
    GC_CHECK(d.check(cuda.stream_synchronize(s.raw), "waiting for the card"));
    std::memmove(to.host, from.host, c.size);
    return {};
  }
  const CUresult r = from.host ? cuda.to_device(to.device, from.host, c.size, s.raw)
                     : to.host ? cuda.to_host(to.host, from.device, c.size, s.raw)
                               : cuda.on_device(to.device, from.device, c.size, s.raw);
  return d.check(r, fmt::format("a copy of {} bytes", c.size));
}

gc_error* copy(gc_device* raw, gc_stream* stream, const gc_copy* c) {
  DeviceHandle& d = of(raw);
  return guarded(d.host, [&]() -> gc_error* {
    const auto all = [&]() -> Status {
      GC_CHECK(d.device->enter());
      if (c->size == 0) return {};
      if (stream) return copy_on(*d.device, *of(stream).stream, *c);
      GC_CHECK(d.device->wait_for_streams());
      GC_TRY(CudaStream* const own, d.device->own_stream());
      GC_CHECK(copy_on(*d.device, *own, *c));
      return d.device->wait(*own);
    };
    return to_error(d.host, all());
  });
}

gc_error* stream_create(gc_device* raw, int32_t priority, gc_stream** out) {
  DeviceHandle& d = of(raw);
  return guarded(d.host, [&]() -> gc_error* {
    auto s = d.device->create_stream(-priority);  // the driver's smaller numbers come first
    if (!s.ok()) return to_error(d.host, s.error());
    *out = reinterpret_cast<gc_stream*>(new StreamHandle{d, *std::move(s)});
    return nullptr;
  });
}

void stream_destroy(gc_stream* raw) {
  StreamHandle& s = of(raw);
  s.d.device->destroy(*s.stream);
  delete &s;
}

gc_error* event_create(gc_device* raw, gc_event** out) {
  DeviceHandle& d = of(raw);
  return guarded(d.host, [&]() -> gc_error* {
    if (Status s = d.device->enter(); !s.ok()) return to_error(d.host, s);
    auto e = std::unique_ptr<EventHandle>(new EventHandle{d, nullptr, {}});
    Status s = d.device->check(d.device->driver().event_create(&e->raw, CU_EVENT_DISABLE_TIMING), "an event");
    if (!s.ok()) return to_error(d.host, s);
    *out = reinterpret_cast<gc_event*>(e.release());
    return nullptr;
  });
}

void event_destroy(gc_event* raw) {
  EventHandle& e = of(raw);
  e.d.device->enter_anyway();
  e.d.device->driver().event_destroy(e.raw);
  delete &e;
}

gc_error* event_record(gc_event* raw, gc_stream* stream) {
  EventHandle& e = of(raw);
  return guarded(e.d.host, [&]() -> gc_error* {
    if (Status s = e.d.device->enter(); !s.ok()) return to_error(e.d.host, s);
    CudaStream& s = *of(stream).stream;
    e.records.assign(s.records.begin(), s.records.end());
    return to_error(e.d.host,
                    e.d.device->check(e.d.device->driver().event_record(e.raw, s.raw), "recording an event"));
  });
}

gc_error* stream_wait(gc_stream* raw, gc_event* event) {
  StreamHandle& s = of(raw);
  return guarded(s.d.host, [&]() -> gc_error* {
    if (Status st = s.d.device->enter(); !st.ok()) return to_error(s.d.host, st);
    return to_error(s.d.host,
                    s.d.device->check(s.d.device->driver().stream_wait(s.stream->raw, of(event).raw, 0),
                                      "waiting for an event on a stream"));
  });
}

gc_error* event_wait(gc_event* raw, uint64_t timeout_ns) {
  EventHandle& e = of(raw);
  return guarded(e.d.host, [&]() -> gc_error* {
    CudaDevice& d = *e.d.device;
    if (Status s = d.enter(); !s.ok()) return to_error(e.d.host, s);
    CUresult r = CUDA_SUCCESS;
    if (timeout_ns == UINT64_MAX) {
      r = d.driver().event_synchronize(e.raw);
    } else {
      using Clock = std::chrono::steady_clock;
      const Clock::time_point start = Clock::now();
      while ((r = d.driver().event_query(e.raw)) == CUDA_ERROR_NOT_READY) {
        const auto waited =
            std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
        if (static_cast<uint64_t>(waited) >= timeout_ns)
          return e.d.host.error(GC_TIMEOUT, "the card is still at work");
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      }
    }
    if (Status s = d.check(r, "waiting for the card"); !s.ok()) return to_error(e.d.host, s);
    return to_error(e.d.host, d.take_errors(e.records));
  });
}

// Captures
gc_error* begin(gc_stream* raw) {
  StreamHandle& s = of(raw);
  return guarded(s.d.host, [&]() -> gc_error* {
    if (Status st = s.d.device->enter(); !st.ok()) return to_error(s.d.host, st);
    // Other threads go on as they like meanwhile.
    Status st = s.d.device->check(
        s.d.device->driver().capture_begin(s.stream->raw, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
        "beginning a capture");
    s.stream->capturing = st.ok();
    return to_error(s.d.host, st);
  });
}

gc_error* end(gc_stream* raw, gc_captured** out) {
  StreamHandle& s = of(raw);
  *out = nullptr;
  return guarded(s.d.host, [&]() -> gc_error* {
    CudaDevice& d = *s.d.device;
    const CudaDriver& cuda = d.driver();
    d.enter_anyway();
    CUgraph graph = nullptr;
    const CUresult ended = cuda.capture_end(s.stream->raw, &graph);
    s.stream->capturing = false;
    if (Status st = d.check(ended, "ending a capture"); !st.ok()) {
      if (graph) cuda.graph_destroy(graph);
      return to_error(s.d.host, st);
    }
    auto c = std::unique_ptr<CapturedHandle>(new (std::nothrow)
                                                 CapturedHandle{s.d, nullptr, s.stream->records[0]});
    const CUresult made = c ? cuda.graph_instantiate(&c->raw, graph, 0) : CUDA_ERROR_OUT_OF_MEMORY;
    cuda.graph_destroy(graph);
    if (Status st = d.check(made, "a graph of what was captured"); !st.ok()) return to_error(s.d.host, st);
    *out = reinterpret_cast<gc_captured*>(c.release());
    return nullptr;
  });
}

gc_error* launch(gc_captured* raw, gc_stream* stream) {
  CapturedHandle& c = of(raw);
  return guarded(c.d.host, [&]() -> gc_error* {
    if (Status st = c.d.device->enter(); !st.ok()) return to_error(c.d.host, st);
    CudaStream& s = *of(stream).stream;
    bool known = false;
    for (const auto& r : s.records) known = known || r == c.record;
    if (!known) s.records.push_back(c.record);
    return to_error(c.d.host,
                    c.d.device->check(c.d.device->driver().graph_launch(c.raw, s.raw), "launching a graph"));
  });
}

void destroy(gc_captured* raw) {
  CapturedHandle& c = of(raw);
  c.d.device->enter_anyway();
  c.d.device->driver().graph_exec_destroy(c.raw);
  delete &c;
}

}  // namespace

void add_memory(gc_plugin_api& t) {
  t.buf_alloc = buf_alloc;
  t.buf_free = buf_free;
  t.buf_import = buf_import;
  t.buf_export = buf_export;
  t.copy = copy;
  t.stats = stats;
}

void add_streams(gc_plugin_api& t) {
  t.stream_create = stream_create;
  t.stream_destroy = stream_destroy;
  t.event_create = event_create;
  t.event_destroy = event_destroy;
  t.event_record = event_record;
  t.stream_wait = stream_wait;
  t.event_wait = event_wait;
}

const gc_ext_capture* capture_extension() {
  static const gc_ext_capture ext{sizeof(gc_ext_capture), begin, end, launch, destroy};
  return &ext;
}

}  // namespace graphc::cuda_table
