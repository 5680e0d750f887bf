#include "backends/host/host_device.h"

#include <cstring>

namespace graphc {

gc_error* HostPlugin::error(const Error& e) const {
  switch (e.code) {
    case ErrorCode::kInvalid:
    case ErrorCode::kUsage: return error(GC_INVALID, e.message);
    case ErrorCode::kNoMemory: return error(GC_NO_MEMORY, e.message);
    case ErrorCode::kUnsupported: return error(GC_UNIMPLEMENTED, e.message);
    case ErrorCode::kCancelled: return error(GC_CANCELLED, e.message);
    default: return error(GC_INTERNAL, e.message);
  }
}

std::byte* tensor_data(const gc_tensor& t, uint64_t bytes) {
  static std::byte nothing{};
  if (bytes == 0 && !t.buf) return &nothing;
  const HostBuffer& b = host_buffer(t.buf);
  return t.offset <= b.size && bytes <= b.size - t.offset ? b.data + t.offset : nullptr;
}

void fill_host_device(gc_plugin_api& t) {
  t.struct_size = sizeof t;
  t.abi_major = GC_ABI_MAJOR;
  t.abi_minor = GC_ABI_MINOR;
  t.vendor = "graphc";
  t.create = [](const gc_host* h, const gc_kv*, size_t, gc_plugin** out) -> gc_error* {
    auto* p = new (std::nothrow) HostPlugin{h};
    if (!p) return HostPlugin{h}.error(GC_NO_MEMORY, "out of memory");
    *out = reinterpret_cast<gc_plugin*>(p);
    return nullptr;
  };
  t.destroy = [](gc_plugin* p) { delete reinterpret_cast<HostPlugin*>(p); };
  t.open = [](gc_plugin* p, const char* id, const gc_kv*, size_t, gc_device** out) -> gc_error* {
    const HostPlugin& host = host_plugin(p);
    if (id && *id && std::string_view(id) != "0") return host.error(GC_INVALID, "the only device is 0");
    auto* d = new (std::nothrow) HostPlugin(host);
    if (!d) return host.error(GC_NO_MEMORY, "out of memory");
    *out = reinterpret_cast<gc_device*>(d);
    return nullptr;
  };
  t.close = [](gc_device* d) { delete reinterpret_cast<HostPlugin*>(d); };
  t.buf_alloc = [](gc_device* d, uint32_t, uint64_t size, uint64_t align, gc_buffer** out) -> gc_error* {
    const gc_host* h = host_plugin(d).table;
    auto* data = static_cast<std::byte*>(h->alloc(h->ctx, size, align));
    auto* b = data ? new (std::nothrow) HostBuffer{data, size, true} : nullptr;
    if (!b) {
      if (data) h->free(h->ctx, data, size);
      return host_plugin(d).error(GC_NO_MEMORY, "out of memory");
    }
    *out = reinterpret_cast<gc_buffer*>(b);
    return nullptr;
  };
  t.buf_free = [](gc_device* d, gc_buffer* raw) {
    const gc_host* h = host_plugin(d).table;
    HostBuffer* b = &host_buffer(raw);
    if (b->owned) h->free(h->ctx, b->data, b->size);
    delete b;
  };
  t.buf_import = [](gc_device* d, const gc_external* e, gc_buffer** out) -> gc_error* {
    if (e->kind != GC_EXTERNAL_HOST)
      return host_plugin(d).error(GC_UNIMPLEMENTED, "only host memory can be imported");
    auto* b = new (std::nothrow) HostBuffer{static_cast<std::byte*>(e->handle), e->size, false};
    if (!b) return host_plugin(d).error(GC_NO_MEMORY, "out of memory");
    *out = reinterpret_cast<gc_buffer*>(b);
    return nullptr;
  };
  t.copy = [](gc_device*, gc_stream*, const gc_copy* c) -> gc_error* {
    const std::byte* from =
        (c->src ? host_buffer(c->src).data : static_cast<const std::byte*>(c->src_host)) + c->src_off;
    std::byte* to = (c->dst ? host_buffer(c->dst).data : static_cast<std::byte*>(c->dst_host)) + c->dst_off;
    std::memmove(to, from, c->size);
    return nullptr;
  };
}

}  // namespace graphc
