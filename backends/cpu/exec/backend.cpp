#include "backends/cpu/exec/backend.h"

#include <fmt/format.h>

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "backends/cpu/exec/cpu_exec.h"
#include "backends/host/host_device.h"

namespace graphc {
namespace {

// The table's functions have no context of their own: one compiler a program, set by make_cpu_table.
const CpuCompiler* the_compiler = nullptr;

struct Exec {
  HostPlugin host;
  std::string blob;  // as saved; empty in one that was loaded
  std::unique_ptr<CpuExec> exec;
};
Exec& exec_of(gc_exec* e) { return *reinterpret_cast<Exec*>(e); }

gc_error* no_compiler(const HostPlugin& host) {
  return host.error(GC_UNIMPLEMENTED, "this program runs artefacts and has no compiler for the cpu");
}

gc_error* finish(const HostPlugin& host, KernelBlob blob, bool keep, gc_exec** out) {
  auto e = std::make_unique<Exec>();
  e->host = host;
  if (keep) e->blob = encode_blob(blob);
  auto loaded = CpuExec::load(std::move(blob));
  if (!loaded.ok()) {
    const bool foreign = loaded.error().code == ErrorCode::kUnsupported;
    return foreign ? host.error(GC_STALE, loaded.error().message) : host.error(loaded.error());
  }
  e->exec = *std::move(loaded);
  *out = reinterpret_cast<gc_exec*>(e.release());
  return nullptr;
}

gc_error* claim(gc_device* d, const gc_graph* g, void (*cb)(void*, const gc_claim*), void* arg) {
  const HostPlugin& host = host_plugin(d);
  if (!the_compiler) return no_compiler(host);
  return guarded(host, [&]() -> gc_error* {
    const auto nodes = the_compiler->claim(g->ir, host_features());
    gc_claim c{};
    c.struct_size = sizeof c;
    std::vector<uint32_t> all;
    if (nodes.ok()) {
      all.resize(*nodes);
      std::iota(all.begin(), all.end(), 0u);
      c.nodes = all.data();
      c.num_nodes = all.size();
    } else if (nodes.error().code == ErrorCode::kUnsupported) {
      c.flags = GC_CLAIM_REJECT;
      c.reason = nodes.error().message.c_str();
    } else {
      return host.error(nodes.error());
    }
    cb(arg, &c);
    return nullptr;
  });
}

gc_error* compile(gc_device* d, const gc_graph* g, const gc_kv* options, size_t n, gc_exec** out) {
  const HostPlugin& host = host_plugin(d);
  if (!the_compiler) return no_compiler(host);
  return guarded(host, [&]() -> gc_error* {
    CpuFeatures features = host_features();
    for (size_t i = 0; i < n; ++i) {
      if (std::string_view(options[i].key) != "features")
        return host.error(GC_INVALID, fmt::format("the cpu has no option '{}'", options[i].key));
      auto parsed = CpuFeatures::parse(options[i].value);
      if (!parsed.ok()) return host.error(parsed.error());
      features = *parsed;
    }
    if (Status s = check_baseline(features); !s.ok()) return host.error(s.error());
    auto blob = the_compiler->compile(g->ir, features);
    if (!blob.ok()) return host.error(blob.error());
    return finish(host, *std::move(blob), true, out);
  });
}

gc_error* emit(gc_device* d, const gc_graph* g, const char* form, const gc_sink* sink) {
  const HostPlugin& host = host_plugin(d);
  return guarded(host, [&]() -> gc_error* {
    auto text = the_compiler->emit(g->ir, host_features(), form);
    if (!text.ok()) return host.error(text.error());
    if (sink->write(sink->ctx, text->data(), text->size()) != 0)
      return host.error(GC_UNKNOWN, "the sink refused the bytes");
    return nullptr;
  });
}

const void* extension(gc_plugin*, const char* name, uint32_t version) {
  static const gc_ext_emit ext{sizeof(gc_ext_emit), "loops,llvm,asm", emit};
  return the_compiler && std::string_view(name) == "graphc.emit" && version == 1 ? &ext : nullptr;
}

gc_error* load(gc_device* d, gc_span bytes, const gc_graph*, gc_exec** out) {
  const HostPlugin& host = host_plugin(d);
  return guarded(host, [&]() -> gc_error* {
    auto blob = decode_blob({static_cast<const char*>(bytes.data), bytes.size}, "cpu");
    if (!blob.ok()) return host.error(blob.error());
    return finish(host, *std::move(blob), false, out);
  });
}

gc_error* save(gc_exec* raw, const gc_sink* sink) {
  const Exec& e = exec_of(raw);
  if (e.blob.empty()) return e.host.error(GC_UNIMPLEMENTED, "a loaded executable can't be saved again");
  if (sink->write(sink->ctx, e.blob.data(), e.blob.size()) != 0)
    return e.host.error(GC_UNKNOWN, "the sink refused the bytes");
  return nullptr;
}

// Fills `out` from the tensors; nullptr, or what is wrong.
const char* to_refs(const gc_tensor* tensors, size_t n, const std::vector<KernelBlob::Tensor>& types,
                    CpuExec::TensorRef* out) {
  for (size_t i = 0; i < n; ++i) {
    const gc_tensor& t = tensors[i];
    if (t.strides) return "a tensor isn't dense";
    const DType dtype = types[i].dtype;
    if (t.dl_bits != 8 * dtype_size(dtype)) return "a tensor has another dtype";
    uint64_t bytes = dtype_size(dtype);
    for (uint32_t k = 0; k < t.rank; ++k) {
      if (t.shape[k] < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(t.shape[k]), &bytes))
        return "a tensor's size overflows";
    }
    std::byte* data = tensor_data(t, bytes);
    if (!data) return "a tensor reaches outside its buffer";
    out[i] = {data, {t.shape, t.rank}};
  }
  return nullptr;
}

gc_error* execute(gc_exec* raw, gc_stream*, const gc_run* run) {
  const Exec& e = exec_of(raw);
  const KernelBlob& blob = e.exec->blob();
  return guarded(e.host, [&]() -> gc_error* {
    if (run->num_in != blob.operands.size() || run->num_out != blob.results.size())
      return e.host.error(GC_INVALID, "the number of tensors isn't that of the graph");
    // grows to the largest executable's count, once a thread
    thread_local std::vector<CpuExec::TensorRef> refs;
    if (refs.size() < run->num_in + run->num_out) refs.resize(run->num_in + run->num_out);
    const char* wrong = to_refs(run->in, run->num_in, blob.operands, refs.data());
    if (!wrong) wrong = to_refs(run->out, run->num_out, blob.results, refs.data() + run->num_in);
    if (wrong) return e.host.error(GC_INVALID, wrong);
    std::span<const int64_t> symbols;
    if (GC_HAS(gc_run, run, num_symbols)) symbols = {run->symbols, run->num_symbols};
    const gc_host* h = e.host.table;
    std::span<std::byte> workspace;
    if (run->workspace) {
      const HostBuffer& b = host_buffer(run->workspace);
      const auto bytes = e.exec->workspace_bytes(symbols);
      if (!bytes.ok()) return e.host.error(bytes.error());
      if (run->workspace_offset > b.size || *bytes > b.size - run->workspace_offset)
        return e.host.error(GC_INVALID, "the workspace is smaller than exec_workspace asks for");
      workspace = {b.data + run->workspace_offset, *bytes};
    }
    return e.host.error(e.exec->run({refs.data(), run->num_in}, {refs.data() + run->num_in, run->num_out},
                                    symbols, {h->parallel_for, h->ctx}, workspace));
  });
}

gc_error* enumerate(gc_plugin*, void (*cb)(void*, const gc_device_info*), void* arg) {
  const std::string arch = host_features().to_string();
  const std::string name = host_cpu_name();
  gc_device_info info{};
  info.struct_size = sizeof info;
  info.id = "0";
  info.name = name.c_str();
  info.arch = arch.c_str();
  info.kind = GC_DEVICE_CPU;
  info.memspaces = GC_MEM_HOST;
  info.min_align = 64;
  info.dl_type = 1;  // kDLCPU
  cb(arg, &info);
  return nullptr;
}

}  // namespace

gc_plugin_api make_cpu_table(const CpuCompiler* compiler) {
  if (compiler) the_compiler = compiler;
  gc_plugin_api t{};
  fill_host_device(t);
  t.ir_min = t.ir_max = compiler ? compiler->ir_version : 0;
  t.name = "cpu";
  t.version = "1";
  t.enumerate = enumerate;
  t.extension = extension;
  t.claim = claim;
  t.compile = compile;
  t.exec_destroy = [](gc_exec* e) { delete &exec_of(e); };
  t.exec_info = [](gc_exec* e, gc_exec_info* info) -> gc_error* {
    info->workspace_bytes = exec_of(e).exec->planned_workspace_bytes();
    info->workspace_align = 64;
    info->flags = 0;
    return nullptr;
  };
  t.exec_workspace = [](gc_exec* raw, const int64_t* symbols, size_t n, uint64_t* bytes) -> gc_error* {
    const Exec& e = exec_of(raw);
    return guarded(e.host, [&]() -> gc_error* {
      const auto needed = e.exec->workspace_bytes({symbols, n});
      if (!needed.ok()) return e.host.error(needed.error());
      *bytes = *needed;
      return nullptr;
    });
  };
  t.exec_save = save;
  t.exec_load = load;
  t.execute = execute;
  return t;
}

const gc_plugin_api* cpu_execution_backend() {
  static const gc_plugin_api table = make_cpu_table(nullptr);
  return &table;
}

}  // namespace graphc
