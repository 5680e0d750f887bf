// What backends that compute on the host share: the plugin and device objects, host memory as buffers, and
// errors across the table. A backend of this kind fills in enumerate, claim, compile and execute itself.
//
//   gc_plugin_api t{};
//   fill_host_device(t);                       // create, destroy, open, close, buf_*, copy
//   t.execute = [](gc_exec* e, gc_stream*, const gc_run* r) -> gc_error* {
//     const Host& host = ...;
//     return guarded(host, [&] { ... });
//   };
//
// The device is synchronous; its id is "0". gc_plugin and gc_device are both a HostPlugin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <string_view>

#include "backends/graphc_plugin.h"
#include "runtime/base/result.h"

namespace graphc {

// The table the host handed in, and errors made with it.
struct HostPlugin {
  const gc_host* table = nullptr;

  gc_error* error(int32_t code, std::string_view message) const {
    return table->error_new(table->ctx, code, message.data(), message.size());
  }
  gc_error* error(const Error& e) const;
  // NULL if s is ok.
  gc_error* error(const Status& s) const { return s.ok() ? nullptr : error(s.error()); }
};
inline const HostPlugin& host_plugin(gc_plugin* p) { return *reinterpret_cast<HostPlugin*>(p); }
inline const HostPlugin& host_plugin(gc_device* d) { return *reinterpret_cast<HostPlugin*>(d); }

// A piece of host memory; what gc_buffer is in these backends.
struct HostBuffer {
  std::byte* data = nullptr;
  uint64_t size = 0;
  bool owned = false;
};
inline HostBuffer& host_buffer(gc_buffer* b) { return *reinterpret_cast<HostBuffer*>(b); }

// Calls f() -> gc_error*; nothing throws across the table.
template <class F>
gc_error* guarded(const HostPlugin& host, F&& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return host.error(GC_NO_MEMORY, "out of memory");
  } catch (const std::exception&) {
    return host.error(GC_INTERNAL, "an unexpected failure in the backend");
  }
}

// Where a tensor of `bytes` bytes lies; nullptr if that reaches outside its buffer.
std::byte* tensor_data(const gc_tensor& t, uint64_t bytes);

// Sets the version, create, destroy, open, close, buf_alloc, buf_free, buf_import and copy.
void fill_host_device(gc_plugin_api& t);

}  // namespace graphc
