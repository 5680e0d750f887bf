#include "backends/reference/reference.h"

#include <fmt/format.h>

#include <cstring>
#include <map>
#include <new>
#include <optional>
#include <span>

#include "ir/interpret.h"
#include "ir/op.h"
#include "ir/serialize.h"

namespace graphc {
namespace {

// The table's opaque types. Not defined under their own names, which other backends in the program define as
// well.
struct Host {
  const gc_host* table;
  gc_error* error(int32_t code, std::string_view message) const {
    return table->error_new(table->ctx, code, message.data(), message.size());
  }
  gc_error* error(const Error& e) const {
    switch (e.code) {
      case ErrorCode::kInvalid:
      case ErrorCode::kUsage: return error(GC_INVALID, e.message);
      case ErrorCode::kNoMemory: return error(GC_NO_MEMORY, e.message);
      case ErrorCode::kUnsupported: return error(GC_UNIMPLEMENTED, e.message);
      case ErrorCode::kCancelled: return error(GC_CANCELLED, e.message);
      default: return error(GC_INTERNAL, e.message);
    }
  }
};
struct Buffer {
  std::byte* data;
  uint64_t size;
  bool owned;
};
struct Exec {
  Host host;
  std::vector<std::byte> ir;
  std::unique_ptr<Module> module;
  const Func* func() const { return module->funcs[0].get(); }
};

Host* host_of(gc_plugin* p) { return reinterpret_cast<Host*>(p); }
Host* host_of(gc_device* d) { return reinterpret_cast<Host*>(d); }
Buffer* buffer(gc_buffer* b) { return reinterpret_cast<Buffer*>(b); }
Exec* exec(gc_exec* e) { return reinterpret_cast<Exec*>(e); }

// Nothing throws across the table.
template <class F>
gc_error* guarded(const Host& host, F&& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return host.error(GC_NO_MEMORY, "out of memory");
  } catch (const std::exception&) {
    return host.error(GC_INTERNAL, "an unexpected failure in the reference backend");
  }
}

gc_error* make_exec(const Host& host, gc_span ir, gc_exec** out) {
  return guarded(host, [&]() -> gc_error* {
    const std::span bytes(static_cast<const std::byte*>(ir.data), ir.size);
    auto m = deserialize(bytes);
    if (!m.ok()) return host.error(m.error());
    if ((*m)->funcs.size() != 1 || !(*m)->variables.empty())
      return host.error(GC_INVALID, "a graph is one function without variables");
    for (const auto& n : (*m)->funcs[0]->body.nodes)
      if (n->op->has_effect)
        return host.error(GC_INVALID, fmt::format("{} can't be in a graph", n->op->name));
    auto e = std::make_unique<Exec>();
    e->host = host;
    e->ir.assign(bytes.begin(), bytes.end());
    e->module = *std::move(m);
    *out = reinterpret_cast<gc_exec*>(e.release());
    return nullptr;
  });
}

// Calls f(dense index, byte offset) for every element in row-major order.
template <class F>
void for_each_element(const gc_tensor& t, size_t element_size, F&& f) {
  int64_t n = 1;
  for (uint32_t d = 0; d < t.rank; ++d) n *= t.shape[d];
  for (int64_t i = 0; i < n; ++i) {
    int64_t where = i;
    if (t.strides) {
      where = 0;
      int64_t rest = i;
      for (uint32_t d = t.rank; d-- > 0;) {
        where += rest % t.shape[d] * t.strides[d];
        rest /= t.shape[d];
      }
    }
    f(static_cast<size_t>(i) * element_size, static_cast<size_t>(where) * element_size);
  }
}

bool has_type(const gc_tensor& t, DType dtype) {
  const uint8_t code = dtype == DType::kBool   ? GC_DL_BOOL
                       : dtype == DType::kBF16 ? GC_DL_BFLOAT
                       : is_float(dtype)       ? GC_DL_FLOAT
                       : is_signed_int(dtype)  ? GC_DL_INT
                                               : GC_DL_UINT;
  return t.dl_code == code && t.dl_bits == 8 * dtype_size(dtype) && t.dl_lanes == 1;
}

// The type's sizes where they are constants must be the tensor's.
bool has_shape(const gc_tensor& t, const TensorType& type) {
  if (t.rank != type.shape.size()) return false;
  for (uint32_t d = 0; d < t.rank; ++d)
    if (t.shape[d] < 0 || (type.shape[d].is_constant() && type.shape[d].constant() != t.shape[d]))
      return false;
  return true;
}

gc_error* execute(gc_exec* raw, gc_stream*, const gc_run* run) {
  const Exec& e = *exec(raw);
  const Host& host = e.host;
  return guarded(host, [&]() -> gc_error* {
    const Func* func = e.func();
    if (run->num_in != func->body.args.size() || run->num_out != func->body.results.size())
      return host.error(GC_INVALID, "the number of tensors isn't that of the graph");
    std::unique_ptr<Module> bound;
    if (!func->symbols.empty()) {
      if (!GC_HAS(gc_run, run, num_symbols) || run->num_symbols != func->symbols.size())
        return host.error(GC_INVALID, "the number of symbols isn't that of the graph");
      std::map<std::string, int64_t, std::less<>> sizes;
      for (size_t i = 0; i < func->symbols.size(); ++i) sizes[func->symbols[i].name] = run->symbols[i];
      bound = clone(*e.module);
      if (Status s = bind_symbols(*bound->funcs[0], sizes); !s.ok()) return host.error(s.error());
      func = bound->funcs[0].get();
    }
    std::vector<HostTensor> inputs;
    for (size_t i = 0; i < run->num_in; ++i) {
      const gc_tensor& t = run->in[i];
      const TensorType& type = func->body.args[i]->type;
      if (!has_type(t, type.dtype) || !has_shape(t, type))
        return host.error(GC_INVALID, fmt::format("input {} isn't {}", i, type.to_string()));
      const std::vector<int64_t> shape(t.shape, t.shape + t.rank);
      int64_t n = 1;
      for (const int64_t d : shape) n *= d;
      const size_t size = dtype_size(type.dtype);
      std::vector<std::byte> dense(static_cast<size_t>(n) * size);
      const std::byte* from = buffer(t.buf)->data + t.offset;
      for_each_element(t, size,
                       [&](size_t to, size_t at) { std::memcpy(dense.data() + to, from + at, size); });
      inputs.push_back(HostTensor::from_bytes(type.dtype, shape, dense.data()));
    }
    VariableValues none;
    auto results = interpret(bound ? *bound : *e.module, *func, inputs, none);
    if (!results.ok()) return host.error(results.error());
    for (size_t i = 0; i < run->num_out; ++i) {
      const gc_tensor& t = run->out[i];
      const HostTensor& r = (*results)[i];
      if (!has_type(t, r.dtype) || r.shape != std::vector<int64_t>(t.shape, t.shape + t.rank))
        return host.error(GC_INVALID, fmt::format("output {} has another type or shape", i));
      const std::vector<std::byte> dense = r.to_bytes();
      const size_t size = dtype_size(r.dtype);
      std::byte* to = buffer(t.buf)->data + t.offset;
      for_each_element(t, size,
                       [&](size_t from, size_t at) { std::memcpy(to + at, dense.data() + from, size); });
    }
    return nullptr;
  });
}

gc_error* claim(gc_device* d, const gc_graph* g, void (*cb)(void*, const gc_claim*), void* arg) {
  const Host& host = *host_of(d);
  gc_exec* probe = nullptr;
  if (gc_error* e = make_exec(host, g->ir, &probe)) return e;
  std::vector<uint32_t> nodes(exec(probe)->func()->body.nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) nodes[i] = static_cast<uint32_t>(i);
  delete exec(probe);
  gc_claim c{};
  c.struct_size = sizeof c;
  c.nodes = nodes.data();
  c.num_nodes = nodes.size();
  c.est_seconds = 1;  // the last choice of all
  cb(arg, &c);
  return nullptr;
}

gc_plugin_api make_table() {
  gc_plugin_api t{};
  t.struct_size = sizeof t;
  t.abi_major = GC_ABI_MAJOR;
  t.abi_minor = GC_ABI_MINOR;
  t.ir_min = t.ir_max = kIrVersion;
  t.name = "reference";
  t.vendor = "graphc";
  t.version = "1";
  t.create = [](const gc_host* h, const gc_kv*, size_t, gc_plugin** out) -> gc_error* {
    auto* p = new (std::nothrow) Host{h};
    if (!p) return Host{h}.error(GC_NO_MEMORY, "out of memory");
    *out = reinterpret_cast<gc_plugin*>(p);
    return nullptr;
  };
  t.destroy = [](gc_plugin* p) { delete host_of(p); };
  t.enumerate = [](gc_plugin*, void (*cb)(void*, const gc_device_info*), void* arg) -> gc_error* {
    gc_device_info info{};
    info.struct_size = sizeof info;
    info.id = "0";
    info.name = "interpreter in f64";
    info.arch = "any";
    info.kind = GC_DEVICE_CPU;
    info.memspaces = GC_MEM_HOST;
    info.min_align = 1;
    info.dl_type = 1;  // kDLCPU
    cb(arg, &info);
    return nullptr;
  };
  t.open = [](gc_plugin* p, const char* id, const gc_kv*, size_t, gc_device** out) -> gc_error* {
    const Host& host = *host_of(p);
    if (id && *id && std::string_view(id) != "0") return host.error(GC_INVALID, "the only device is 0");
    auto* d = new (std::nothrow) Host(host);
    if (!d) return host.error(GC_NO_MEMORY, "out of memory");
    *out = reinterpret_cast<gc_device*>(d);
    return nullptr;
  };
  t.close = [](gc_device* d) { delete host_of(d); };
  t.buf_alloc = [](gc_device* d, uint32_t, uint64_t size, uint64_t align, gc_buffer** out) -> gc_error* {
    const gc_host* h = host_of(d)->table;
    auto* data = static_cast<std::byte*>(h->alloc(h->ctx, size, align));
    auto* b = data ? new (std::nothrow) Buffer{data, size, true} : nullptr;
    if (!b) {
      if (data) h->free(h->ctx, data, size);
      return host_of(d)->error(GC_NO_MEMORY, "out of memory");
    }
    *out = reinterpret_cast<gc_buffer*>(b);
    return nullptr;
  };
  t.buf_free = [](gc_device* d, gc_buffer* raw) {
    const gc_host* h = host_of(d)->table;
    Buffer* b = buffer(raw);
    if (b->owned) h->free(h->ctx, b->data, b->size);
    delete b;
  };
  t.buf_import = [](gc_device* d, const gc_external* e, gc_buffer** out) -> gc_error* {
    if (e->kind != GC_EXTERNAL_HOST)
      return host_of(d)->error(GC_UNIMPLEMENTED, "only host memory can be imported");
    auto* b = new (std::nothrow) Buffer{static_cast<std::byte*>(e->handle), e->size, false};
    if (!b) return host_of(d)->error(GC_NO_MEMORY, "out of memory");
    *out = reinterpret_cast<gc_buffer*>(b);
    return nullptr;
  };
  t.copy = [](gc_device*, gc_stream*, const gc_copy* c) -> gc_error* {
    const std::byte* from =
        (c->src ? buffer(c->src)->data : static_cast<const std::byte*>(c->src_host)) + c->src_off;
    std::byte* to = (c->dst ? buffer(c->dst)->data : static_cast<std::byte*>(c->dst_host)) + c->dst_off;
    std::memmove(to, from, c->size);
    return nullptr;
  };
  t.claim = claim;
  t.compile = [](gc_device* d, const gc_graph* g, const gc_kv*, size_t, gc_exec** out) {
    return make_exec(*host_of(d), g->ir, out);
  };
  t.exec_destroy = [](gc_exec* e) { delete exec(e); };
  t.exec_info = [](gc_exec*, gc_exec_info* info) -> gc_error* {
    info->workspace_bytes = 0;
    info->workspace_align = 1;
    info->flags = 0;
    return nullptr;
  };
  t.exec_save = [](gc_exec* e, const gc_sink* sink) -> gc_error* {
    if (sink->write(sink->ctx, exec(e)->ir.data(), exec(e)->ir.size()) != 0)
      return exec(e)->host.error(GC_UNKNOWN, "the sink refused the bytes");
    return nullptr;
  };
  t.exec_load = [](gc_device* d, gc_span blob, const gc_graph*, gc_exec** out) {
    return make_exec(*host_of(d), blob, out);
  };
  t.execute = execute;
  return t;
}

}  // namespace

const gc_plugin_api* reference_backend() {
  static const gc_plugin_api table = make_table();
  return &table;
}

}  // namespace graphc
