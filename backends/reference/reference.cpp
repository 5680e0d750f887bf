#include "backends/reference/reference.h"

#include <fmt/format.h>

#include <cstring>
#include <map>
#include <memory>
#include <span>

#include "backends/host/host_device.h"
#include "backends/registry.h"
#include "ir/interpret.h"
#include "ir/op.h"
#include "ir/serialize.h"

namespace graphc {
namespace {

struct Exec {
  HostPlugin host;
  std::vector<std::byte> ir;
  std::unique_ptr<Module> module;
  const Func* func() const { return module->funcs[0].get(); }
};

Exec* exec(gc_exec* e) { return reinterpret_cast<Exec*>(e); }

gc_error* make_exec(const HostPlugin& host, gc_span ir, gc_exec** out) {
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
  const HostPlugin& host = e.host;
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
      if (gc_dtype(t) != type.dtype || !has_shape(t, type))
        return host.error(GC_INVALID, fmt::format("input {} isn't {}", i, type.to_string()));
      const std::vector<int64_t> shape(t.shape, t.shape + t.rank);
      int64_t n = 1;
      for (const int64_t d : shape) n *= d;
      const size_t size = dtype_size(type.dtype);
      std::vector<std::byte> dense(static_cast<size_t>(n) * size);
      const std::byte* from = tensor_data(t, dense.size());
      if (!from) return host.error(GC_INVALID, fmt::format("input {} reaches outside its buffer", i));
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
      if (gc_dtype(t) != r.dtype || r.shape != std::vector<int64_t>(t.shape, t.shape + t.rank))
        return host.error(GC_INVALID, fmt::format("output {} has another type or shape", i));
      const std::vector<std::byte> dense = r.to_bytes();
      const size_t size = dtype_size(r.dtype);
      std::byte* to = tensor_data(t, dense.size());
      if (!to) return host.error(GC_INVALID, fmt::format("output {} reaches outside its buffer", i));
      for_each_element(t, size,
                       [&](size_t from, size_t at) { std::memcpy(to + at, dense.data() + from, size); });
    }
    return nullptr;
  });
}

gc_error* claim(gc_device* d, const gc_graph* g, void (*cb)(void*, const gc_claim*), void* arg) {
  const HostPlugin& host = host_plugin(d);
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
  fill_host_device(t);
  t.ir_min = t.ir_max = kIrVersion;
  t.name = "reference";
  t.version = "1";
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
  t.claim = claim;
  t.compile = [](gc_device* d, const gc_graph* g, const gc_kv*, size_t, gc_exec** out) {
    return make_exec(host_plugin(d), g->ir, out);
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
    return make_exec(host_plugin(d), blob, out);
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
