#include "backends/cuda/exec/backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "backends/cuda/exec/handles.h"
#include "backends/cuda/exec/image_choice.h"

namespace graphc {
namespace cuda_table {

void Plugin::find_cards() {
  std::call_once(once, [this] {
    const CudaLibraries libraries = CudaLibraries::open(CudaLibraries::kDriver);
    auto d = CudaDriver::open(libraries);
    if (!d.ok()) {
      problem = d.error().message;
      return;
    }
    auto found = cuda_cards(libraries);
    if (!found.ok()) {
      problem = found.error().message;
      return;
    }
    driver = *std::move(d);
    cards = *std::move(found);
  });
}

gc_error* to_error(const HostPlugin& host, const Error& e) {
  return e.code == ErrorCode::kDevice ? host.error(GC_DEVICE_LOST, e.message) : host.error(e);
}

namespace {

// The table's functions have no context of their own: one compiler a program, set by make_cuda_table.
const CudaCompiler* the_compiler = nullptr;

gc_error* no_compiler(const HostPlugin& host) {
  return host.error(GC_UNIMPLEMENTED, "this program runs artefacts and has no compiler for cuda");
}

gc_error* enumerate(gc_plugin* raw, void (*cb)(void*, const gc_device_info*), void* arg) {
  Plugin& p = of(raw);
  return guarded(p.host, [&]() -> gc_error* {
    p.find_cards();
    for (const CudaCard& c : p.cards) {
      gc_device_info info{};
      info.struct_size = sizeof info;
      info.id = c.id.c_str();
      info.name = c.name.c_str();
      info.arch = c.arch.c_str();
      info.kind = GC_DEVICE_GPU;
      info.memspaces = GC_MEM_DEVICE | GC_MEM_PINNED;
      info.min_align = 256;
      info.mem_bytes = static_cast<uint64_t>(c.memory_bytes);
      info.dl_type = 2;  // kDLCUDA
      info.dl_id = std::atoi(c.id.c_str());
      cb(arg, &info);
    }
    return nullptr;
  });
}

gc_error* open(gc_plugin* raw, const char* id_text, const gc_kv*, size_t, gc_device** out) {
  Plugin& p = of(raw);
  return guarded(p.host, [&]() -> gc_error* {
    p.find_cards();
    const std::string id = id_text ? id_text : "";
    auto d = std::make_unique<DeviceHandle>();
    d->host = p.host;
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    if (std::all_of(id.begin(), id.end(), digit)) {
      if (p.cards.empty()) return p.host.error(GC_DEVICE_LOST, p.problem);
      const auto card = std::find_if(p.cards.begin(), p.cards.end(),
                                     [&](const CudaCard& c) { return id.empty() || c.id == id; });
      if (card == p.cards.end()) {
        std::string there;
        for (const CudaCard& c : p.cards)
          there += fmt::format("{}{} ({})", there.empty() ? "" : ", ", c.id, c.name);
        return p.host.error(GC_DEVICE_LOST, fmt::format("there is no card {}; there are: {}", id, there));
      }
      auto opened = CudaDevice::open_card(p.driver, *card);
      if (!opened.ok()) return to_error(p.host, opened.error());
      d->device = *std::move(opened);
      d->device->log = [h = p.host.table](const std::string& line) {
        if (h->log) h->log(h->ctx, GC_LOG_INFO, line.data(), line.size());
      };
    } else {
      d->device = CudaDevice::open_target(id, p.problem.empty() ? "open a card by its number" : p.problem);
    }
    *out = reinterpret_cast<gc_device*>(d.release());
    return nullptr;
  });
}

gc_error* load_blob(DeviceHandle& d, KernelBlob blob, std::string saved, gc_exec** out) {
  std::unique_ptr<ExecHandle> e(new ExecHandle{d, std::move(saved), {}, nullptr});
  const gc_host* h = d.host.table;
  auto loaded = CudaExec::load(*d.device, std::move(blob), [h](const std::string& line) {
    if (h->log) h->log(h->ctx, GC_LOG_INFO, line.data(), line.size());
  });
  if (!loaded.ok()) {
    if (loaded.error().code == ErrorCode::kUnsupported) return d.host.error(GC_STALE, loaded.error().message);
    return to_error(d.host, loaded.error());
  }
  e->exec = *std::move(loaded);
  *out = reinterpret_cast<gc_exec*>(e.release());
  return nullptr;
}

gc_error* claim(gc_device* raw, const gc_graph* g, void (*cb)(void*, const gc_claim*), void* arg) {
  DeviceHandle& d = of(raw);
  if (!the_compiler) return no_compiler(d.host);
  return guarded(d.host, [&]() -> gc_error* {
    const auto nodes = the_compiler->claim(g->ir, d.device->target());
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
      return to_error(d.host, nodes.error());
    }
    cb(arg, &c);
    return nullptr;
  });
}

gc_error* compile(gc_device* raw, const gc_graph* g, const gc_kv* options, size_t n, gc_exec** out) {
  DeviceHandle& d = of(raw);
  if (!the_compiler) return no_compiler(d.host);
  return guarded(d.host, [&]() -> gc_error* {
    std::string target = d.device->target();
    bool run_here = d.device->has_card();
    for (size_t i = 0; i < n; ++i) {
      if (std::string_view(options[i].key) != "target")
        return d.host.error(GC_INVALID,
                            fmt::format("cuda has no option '{}'; it has: target", options[i].key));
      run_here = run_here && target == options[i].value;
      target = options[i].value;
    }
    auto blob = the_compiler->compile(g->ir, target);
    if (!blob.ok()) return to_error(d.host, blob.error());
    std::string saved = encode_blob(*blob);
    if (run_here) return load_blob(d, *std::move(blob), std::move(saved), out);
    for (KernelBlob::Image& i : blob->images) i.bytes.clear();
    *out = reinterpret_cast<gc_exec*>(new ExecHandle{d, std::move(saved), *std::move(blob), nullptr});
    return nullptr;
  });
}

gc_error* emit(gc_device* raw, const gc_graph* g, const char* form, const gc_sink* sink) {
  DeviceHandle& d = of(raw);
  return guarded(d.host, [&]() -> gc_error* {
    auto text = the_compiler->emit(g->ir, d.device->target(), form);
    if (!text.ok()) return to_error(d.host, text.error());
    if (sink->write(sink->ctx, text->data(), text->size()) != 0)
      return d.host.error(GC_UNKNOWN, "the sink refused the bytes");
    return nullptr;
  });
}

const void* extension(gc_plugin*, const char* name, uint32_t version) {
  static const gc_ext_emit ext{sizeof(gc_ext_emit), "loops,cuda,ptx,placement", emit};
  const std::string_view n = name;
  if (version != 1) return nullptr;
  if (n == "graphc.emit") return the_compiler ? &ext : nullptr;
  return n == "graphc.capture" ? capture_extension() : nullptr;
}

gc_error* load(gc_device* raw, gc_span bytes, const gc_graph*, gc_exec** out) {
  DeviceHandle& d = of(raw);
  return guarded(d.host, [&]() -> gc_error* {
    auto blob = decode_blob({static_cast<const char*>(bytes.data), bytes.size}, "cuda");
    if (!blob.ok()) return to_error(d.host, blob.error());
    return load_blob(d, *std::move(blob), {}, out);
  });
}

gc_error* check(gc_device* raw, gc_span bytes) {
  DeviceHandle& d = of(raw);
  return guarded(d.host, [&]() -> gc_error* {
    if (Status s = d.device->enter(); !s.ok()) return to_error(d.host, s);
    auto blob = decode_blob({static_cast<const char*>(bytes.data), bytes.size}, "cuda");
    if (!blob.ok()) return to_error(d.host, blob.error());
    const CudaCard& card = d.device->card();
    const auto image = choose_cuda_image(*blob, card.name, card.arch);
    return image.ok() ? nullptr : d.host.error(GC_STALE, image.error().message);
  });
}

gc_error* save(gc_exec* raw, const gc_sink* sink) {
  const ExecHandle& e = of(raw);
  if (e.saved.empty()) return e.d.host.error(GC_UNIMPLEMENTED, "a loaded executable can't be saved again");
  if (sink->write(sink->ctx, e.saved.data(), e.saved.size()) != 0)
    return e.d.host.error(GC_UNKNOWN, "the sink refused the bytes");
  return nullptr;
}

gc_error* exec_workspace(gc_exec* raw, const int64_t* symbols, size_t n, uint64_t* bytes) {
  const ExecHandle& e = of(raw);
  return guarded(e.d.host, [&]() -> gc_error* {
    auto b = cuda_workspace_bytes(e.blob(), {symbols, n});
    if (!b.ok()) return to_error(e.d.host, b.error());
    *bytes = *b;
    return nullptr;
  });
}

// Fills `out` from the tensors; nullptr, or what is wrong.
const char* to_refs(const gc_tensor* tensors, size_t n, const std::vector<KernelBlob::Tensor>& types,
                    CudaExec::TensorRef* out) {
  for (size_t i = 0; i < n; ++i) {
    const gc_tensor& t = tensors[i];
    if (t.strides) return "a tensor isn't dense";
    uint64_t bytes = dtype_size(types[i].dtype);
    for (uint32_t d = 0; d < t.rank; ++d)
      if (t.shape[d] < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(t.shape[d]), &bytes))
        return "a tensor's size overflows";
    if (t.dl_bits != dtype_size(types[i].dtype) * 8)
      return "a tensor has another dtype than it was compiled for";
    out[i] = {0, {t.shape, t.rank}};
    if (!t.buf) {
      if (bytes != 0) return "a tensor has no memory";
      continue;
    }
    const CudaBuffer& b = of(t.buf);
    if (t.offset > b.size || bytes > b.size - t.offset) return "a tensor reaches outside of its buffer";
    out[i].data = b.pointer + t.offset;
  }
  return nullptr;
}

gc_error* execute(gc_exec* raw, gc_stream* stream, const gc_run* run) {
  const ExecHandle& e = of(raw);
  const HostPlugin& host = e.d.host;
  CudaDevice& d = *e.d.device;
  return guarded(host, [&]() -> gc_error* {
    if (Status s = d.enter(); !s.ok()) return to_error(host, s);
    if (!e.exec)
      return host.error(GC_INVALID, "this executable was made for another target; load it on a card");
    const KernelBlob& blob = e.blob();
    if (run->num_in != blob.operands.size() || run->num_out != blob.results.size())
      return host.error(GC_INVALID, "called with a wrong number of tensors");
    // of the calling thread, grown once
    thread_local std::vector<CudaExec::TensorRef> refs;
    refs.resize(run->num_in + run->num_out);
    const char* wrong = to_refs(run->in, run->num_in, blob.operands, refs.data());
    if (!wrong) wrong = to_refs(run->out, run->num_out, blob.results, refs.data() + run->num_in);
    if (wrong) return host.error(GC_INVALID, wrong);
    std::span<const int64_t> symbols;
    if (GC_HAS(gc_run, run, num_symbols)) symbols = {run->symbols, run->num_symbols};
    CUdeviceptr workspace = 0;
    uint64_t workspace_size = 0;
    if (run->workspace) {
      const CudaBuffer& b = of(run->workspace);
      if (run->workspace_offset > b.size)
        return host.error(GC_INVALID, "the workspace lies outside of its buffer");
      workspace = b.pointer + run->workspace_offset;
      workspace_size = b.size - run->workspace_offset;
      if (workspace % 256 != 0) return host.error(GC_INVALID, "the workspace isn't aligned to 256 bytes");
    }
    CudaStream* s = nullptr;
    if (stream) {
      s = of(stream).stream.get();
    } else {
      auto own = d.own_stream();
      if (!own.ok()) return to_error(host, own.error());
      s = *own;
    }
    Status status = e.exec->run(*s, {refs.data(), run->num_in}, {refs.data() + run->num_in, run->num_out},
                                symbols, workspace, workspace_size);
    if (!stream) {
      Status done = d.wait(*s);
      if (status.ok()) status = std::move(done);
    }
    return to_error(host, status);
  });
}

}  // namespace
}  // namespace cuda_table

gc_plugin_api make_cuda_table(const CudaCompiler* compiler) {
  using namespace cuda_table;
  if (compiler) the_compiler = compiler;
  gc_plugin_api t{};
  t.struct_size = sizeof t;
  t.abi_major = GC_ABI_MAJOR;
  t.abi_minor = GC_ABI_MINOR;
  t.ir_min = t.ir_max = compiler ? compiler->ir_version : 0;
  t.name = "cuda";
  t.vendor = "graphc";
  t.version = "1";
  t.create = [](const gc_host* h, const gc_kv*, size_t, gc_plugin** out) -> gc_error* {
    auto* p = new (std::nothrow) Plugin;
    if (!p) return HostPlugin{h}.error(GC_NO_MEMORY, "out of memory");
    p->host = HostPlugin{h};
    *out = reinterpret_cast<gc_plugin*>(p);
    return nullptr;
  };
  t.destroy = [](gc_plugin* p) { delete &of(p); };
  t.enumerate = enumerate;
  t.extension = extension;
  t.open = cuda_table::open;
  t.close = [](gc_device* d) { delete &of(d); };
  add_memory(t);
  add_streams(t);
  t.claim = claim;
  t.compile = compile;
  t.exec_destroy = [](gc_exec* e) { delete &of(e); };
  t.exec_info = [](gc_exec* e, gc_exec_info* info) -> gc_error* {
    info->workspace_bytes = cuda_fixed_workspace_bytes(of(e).blob());
    info->workspace_align = 256;
    info->flags = 0;
    return nullptr;
  };
  t.exec_save = save;
  t.exec_check = check;
  t.exec_load = load;
  t.execute = execute;
  t.exec_workspace = exec_workspace;
  return t;
}

const gc_plugin_api* cuda_execution_backend() {
  static const gc_plugin_api table = make_cuda_table(nullptr);
  return &table;
}

}  // namespace graphc
