// A backend of a page for tests of the runtime: f32 on host memory; the blob's text is the program.
//   "add"  out = in0 + in1            "scale 2.5"  out = 2.5 * in0         "sum"   out[] = sum of in0
//   "acc"  out += in0                 "symbols"    out[i] = symbols[i]     "scratch N"  out = in0 through N
//   bytes workspace "sgd LR" out = in0 - LR * in1     "fail"       an error                "stale"      can't
//   be loaded       "wide W" out = 3 * in0 through W bytes of workspace for each of symbols[0], and
//   exec_workspace
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "backends/graphc_plugin.h"

struct gc_plugin {
  const gc_host* host;
};
struct gc_device {
  const gc_host* host;
};
struct gc_buffer {
  char* p;
  uint64_t size;
};
struct gc_exec {
  const gc_host* host;
  std::string op;
  double value = 0;
};

namespace graphc::fake {

inline std::atomic<int> live_objects{0};

inline gc_error* error(const gc_host* h, int32_t code, const std::string& s) {
  return h->error_new(h->ctx, code, s.data(), s.size());
}

inline int64_t numel(const gc_tensor& t) {
  int64_t n = 1;
  for (uint32_t i = 0; i < t.rank; ++i) n *= t.shape[i];
  return n;
}
// element i in row-major order, through strides if there are any
inline float& at(const gc_tensor& t, int64_t i) {
  int64_t where = i;
  if (t.strides) {
    where = 0;
    for (uint32_t d = t.rank; d-- > 0;) {
      where += i % t.shape[d] * t.strides[d];
      i /= t.shape[d];
    }
  }
  return reinterpret_cast<float*>(t.buf->p + t.offset)[where];
}

// Softmax regression, in f32 and one fixed order.
inline void linear(const gc_run* r, double lr) {
  const gc_tensor &x = r->in[0], &label = r->in[1], &w = r->in[2];
  const int64_t n = x.shape[0], dim = w.shape[0], classes = w.shape[1];
  const bool step = lr != 0;
  std::vector<float> grad(static_cast<size_t>(dim * classes), 0.0f), p(static_cast<size_t>(classes));
  double loss = 0, hits = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t truth = reinterpret_cast<const int32_t*>(label.buf->p + label.offset)[i];
    for (int64_t c = 0; c < classes; ++c) {
      p[c] = 0;
      for (int64_t d = 0; d < dim; ++d) p[c] += at(x, i * dim + d) * at(w, d * classes + c);
      if (!step) at(r->out[0], i * classes + c) = p[c];
    }
    const int64_t arg = std::max_element(p.begin(), p.end()) - p.begin();
    hits += arg == truth;
    const float top = p[arg];
    float sum = 0;
    for (float& v : p) sum += v = std::exp(v - top);
    loss -= std::log(p[truth] / sum);
    for (int64_t c = 0; c < classes; ++c)
      for (int64_t d = 0; d < dim; ++d)
        grad[d * classes + c] += (p[c] / sum - (c == truth)) * at(x, i * dim + d);
  }
  if (step)
    for (int64_t k = 0; k < dim * classes; ++k)
      at(r->out[0], k) = at(w, k) - static_cast<float>(lr) * grad[k] / static_cast<float>(n);
  at(r->out[1], 0) = static_cast<float>(loss);
  at(r->out[2], 0) = static_cast<float>(n);
  at(r->out[3], 0) = static_cast<float>(hits);
  at(r->out[4], 0) = static_cast<float>(n);
}

inline gc_error* execute(gc_exec* e, gc_stream*, const gc_run* r) {
  if (e->op == "fail") return error(e->host, GC_INVALID, "index 7 is out of range 0..5");
  const gc_tensor& out = r->out[0];
  const int64_t n = numel(out);
  if (e->op == "linear" || e->op == "lineval") {
    linear(r, e->value);
    return nullptr;
  }
  if (e->op == "sum") {
    double s = 0;
    for (int64_t i = 0; i < numel(r->in[0]); ++i) s += at(r->in[0], i);
    at(out, 0) = static_cast<float>(s);
    return nullptr;
  }
  if (e->op == "scratch" || e->op == "wide") {
    if (!r->workspace) return error(e->host, GC_INTERNAL, "no workspace");
    auto* w = reinterpret_cast<float*>(r->workspace->p + r->workspace_offset);
    for (int64_t i = 0; i < n; ++i) w[i] = at(r->in[0], i);
    for (int64_t i = 0; i < n; ++i) at(out, i) = e->op == "wide" ? 3 * w[i] : w[i];
    return nullptr;
  }
  struct Args {
    gc_exec* e;
    const gc_run* r;
  } args{e, r};
  e->host->parallel_for(
      e->host->ctx, n, 64,
      [](void* p, int64_t b, int64_t end) {
        auto [e, r] = *static_cast<Args*>(p);
        for (int64_t i = b; i < end; ++i) {
          float& o = at(r->out[0], i);
          if (e->op == "add")
            o = at(r->in[0], i) + at(r->in[1], i);
          else if (e->op == "scale")
            o = static_cast<float>(e->value) * at(r->in[0], i);
          else if (e->op == "acc")
            o += at(r->in[0], i);
          else if (e->op == "sgd")
            o = at(r->in[0], i) - static_cast<float>(e->value) * at(r->in[1], i);
          else if (e->op == "symbols")
            o = static_cast<float>(r->symbols[i]);
        }
      },
      &args);
  return nullptr;
}

inline uint64_t workspace_bytes(const gc_exec& e, const int64_t* symbols, size_t n) {
  if (e.op == "wide" && n > 0) return static_cast<uint64_t>(e.value) * static_cast<uint64_t>(symbols[0]);
  return e.op == "scratch" ? static_cast<uint64_t>(e.value) : 0;
}

inline const gc_plugin_api* api() {
  static const gc_plugin_api table = [] {
    gc_plugin_api t{};
    t.struct_size = sizeof(t);
    t.abi_major = GC_ABI_MAJOR;
    t.abi_minor = GC_ABI_MINOR;
    t.name = "fake";
    t.vendor = "tests";
    t.version = "1";
    t.create = [](const gc_host* h, const gc_kv*, size_t, gc_plugin** out) -> gc_error* {
      ++live_objects;
      *out = new gc_plugin{h};
      return nullptr;
    };
    t.destroy = [](gc_plugin* p) { --live_objects, delete p; };
    t.enumerate = [](gc_plugin*, void (*cb)(void*, const gc_device_info*), void* arg) -> gc_error* {
      gc_device_info info{};
      info.struct_size = sizeof(info);
      info.id = "0";
      info.memspaces = GC_MEM_HOST;
      cb(arg, &info);
      return nullptr;
    };
    t.open = [](gc_plugin* p, const char* id, const gc_kv*, size_t, gc_device** out) -> gc_error* {
      if (std::string(id) != "0") return error(p->host, GC_INVALID, "no such device");
      ++live_objects;
      *out = new gc_device{p->host};
      return nullptr;
    };
    t.close = [](gc_device* d) { --live_objects, delete d; };
    t.buf_alloc = [](gc_device* d, uint32_t, uint64_t, uint64_t, gc_buffer**) -> gc_error* {
      return error(d->host, GC_UNIMPLEMENTED, "import only");
    };
    t.buf_free = [](gc_device*, gc_buffer* b) { --live_objects, delete b; };
    t.buf_import = [](gc_device*, const gc_external* e, gc_buffer** out) -> gc_error* {
      ++live_objects;
      *out = new gc_buffer{static_cast<char*>(e->handle), e->size};
      return nullptr;
    };
    t.copy = [](gc_device* d, gc_stream*, const gc_copy*) -> gc_error* {
      return error(d->host, GC_UNIMPLEMENTED, "");
    };
    t.claim = [](gc_device* d, const gc_graph*, void (*)(void*, const gc_claim*), void*) -> gc_error* {
      return error(d->host, GC_UNIMPLEMENTED, "no compiler");
    };
    t.compile = [](gc_device* d, const gc_graph*, const gc_kv*, size_t, gc_exec**) -> gc_error* {
      return error(d->host, GC_UNIMPLEMENTED, "no compiler");
    };
    t.exec_destroy = [](gc_exec* e) { --live_objects, delete e; };
    t.exec_info = [](gc_exec* e, gc_exec_info* info) -> gc_error* {
      info->workspace_bytes = workspace_bytes(*e, nullptr, 0);
      return nullptr;
    };
    t.exec_workspace = [](gc_exec* e, const int64_t* symbols, size_t n, uint64_t* bytes) -> gc_error* {
      *bytes = workspace_bytes(*e, symbols, n);
      return nullptr;
    };
    t.exec_load = [](gc_device* d, gc_span blob, const gc_graph*, gc_exec** out) -> gc_error* {
      std::istringstream in(std::string(static_cast<const char*>(blob.data), blob.size));
      gc_exec e{d->host, "", 0};
      in >> e.op >> e.value;
      if (e.op == "stale") return error(d->host, GC_STALE, "made for another machine: it lacks avx512f");
      ++live_objects;
      *out = new gc_exec(e);
      return nullptr;
    };
    t.execute = execute;
    return t;
  }();
  return &table;
}

}  // namespace graphc::fake
