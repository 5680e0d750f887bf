// A stand-in for cuDNN: the part of the backend API that backends/cuda/exec/cudnn.cpp uses, computed on the
// CPU in double when the stand-in driver's stream gets there. It has engines for the graphs that the real one
// has some for in that layout (tests/cuda/cudnn asks it) and refuses others; asks for as much workspace where
// the real one turns tensors, and writes into it.
//
// Its first suggestions are those that tempt: for f32 an engine that rounds inputs to TF32, then one whose
// sums differ from run to run. The caller has to skip them.
//
//   standin_cudnn_count("execute")   plans put on streams; "plan": made; "restore": taken back;
//   "descriptors": alive standin_cudnn_refuse(1)          from now on there are no engines
#include <cudnn_graph.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/base/dtype.h"
#include "tests/cuda/standin/foreign.h"

#define CUDNN_API extern "C" __attribute__((visibility("default")))

struct cudnnContext {
  CUstream stream = nullptr;
};

namespace {

std::atomic<unsigned long long> g_executed{0}, g_planned{0}, g_restored{0};
std::atomic<bool> g_refuse{false};

// --- what is computed ---

struct Tensor {
  int64_t id = 0;
  int type = 0;
  bool is_virtual = false;
  std::vector<int64_t> extents, strides;

  int64_t elements() const {
    int64_t n = 1;
    for (int64_t e : extents) n *= e;
    return n;
  }
  int64_t bytes_each() const { return type == CUDNN_DATA_DOUBLE ? 8 : type == CUDNN_DATA_FLOAT ? 4 : 2; }
  int64_t span() const {
    int64_t last = 0;
    for (size_t i = 0; i < extents.size(); ++i) last += (extents[i] - 1) * strides[i];
    return (last + 1) * bytes_each();
  }
  // Position in memory of the element at row-major position i of its extents.
  int64_t at(int64_t i) const {
    int64_t p = 0;
    for (size_t k = extents.size(); k-- > 0; i /= extents[k]) p += i % extents[k] * strides[k];
    return p;
  }
  bool channels_last() const { return extents[1] > 1 && strides[1] == 1; }
};

double load(const void* p, int type, int64_t i) {
  switch (type) {
    case CUDNN_DATA_DOUBLE: return static_cast<const double*>(p)[i];
    case CUDNN_DATA_FLOAT: return static_cast<const float*>(p)[i];
    case CUDNN_DATA_HALF: return graphc::f16_to_f32(static_cast<const uint16_t*>(p)[i]);
    default: return graphc::bf16_to_f32(static_cast<const uint16_t*>(p)[i]);
  }
}
void store(void* p, int type, int64_t i, double v) {
  switch (type) {
    case CUDNN_DATA_DOUBLE: static_cast<double*>(p)[i] = v; break;
    case CUDNN_DATA_FLOAT: static_cast<float*>(p)[i] = static_cast<float>(v); break;
    case CUDNN_DATA_HALF: static_cast<uint16_t*>(p)[i] = graphc::f64_to_f16(v); break;
    default: static_cast<uint16_t*>(p)[i] = graphc::f64_to_bf16(v);
  }
}
double tf32(double v) {
  auto x = static_cast<float>(v);
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  bits = (bits + 0x1000) & ~uint32_t{0x1fff};
  std::memcpy(&x, &bits, 4);
  return x;
}

struct Operation {
  int kind = 0;  // 0 forward, 1 data, 2 filter; 10 + cudnnPointwiseMode_t
  int a = 0, b = -1, out = 0;
  std::vector<int64_t> stride, dilation, before, after;
};
enum Engine : int64_t { kTf32, kUnsteady, kExact };

struct Plan {
  std::vector<Tensor> tensors;
  std::vector<Operation> operations;
  int64_t engine = kExact, device = 0;

  bool supported() const {
    const Operation& c = operations[0];
    if (c.kind > 2) return false;
    std::vector<int> after;
    for (size_t i = 1; i < operations.size(); ++i) {
      const Operation& o = operations[i];
      if (o.kind < 10 || o.a != operations[i - 1].out) return false;
      const bool full = o.b >= 0 && tensors[o.b].extents == tensors[o.out].extents;
      after.push_back(o.kind == 10 + CUDNN_POINTWISE_ADD            ? (full ? 'a' : 'b')
                      : o.kind == 10 + CUDNN_POINTWISE_MUL && !full ? 's'
                      : o.kind == 10 + CUDNN_POINTWISE_RELU_FWD     ? 'r'
                                                                    : '?');
    }
    const std::string text(after.begin(), after.end());
    for (const Operation& o : operations)
      if (tensors[o.out].is_virtual == (&o == &operations.back())) return false;
    for (int t : {c.a, c.b, operations.back().out})
      if (tensors[t].type != tensors[c.a].type) return false;
    for (size_t i = 0; i < c.before.size(); ++i)
      if (c.before[i] != c.after[i]) return false;
    if (text.empty()) return true;
    if (turns() == 0 && tensors[c.a].type != CUDNN_DATA_FLOAT)
      return c.kind < 2 && text.find('?') == std::string::npos;
    return c.kind == 0 && (text == "b" || text == "br" || text == "ab" || text == "abr");
  }
  // Bytes of the tensors that are turned to channels-last.
  int64_t turns() const {
    int64_t n = 0;
    for (int t : {operations[0].a, operations[0].b, operations.back().out}) {
      const Tensor& x = tensors[t];
      if (x.type != CUDNN_DATA_FLOAT && !x.channels_last() && x.extents[1] > 1)
        n += x.elements() * x.bytes_each();
    }
    return n;
  }

  void convolve(const Operation& o, std::vector<std::vector<double>>& v) const {
    // x, w, y of the convolution, whichever of them is the result
    const int ix = o.kind == 1 ? o.out : o.a, iw = o.kind == 2 ? o.out : o.b,
              iy = o.kind == 0   ? o.out
                   : o.kind == 1 ? o.a
                                 : o.b;
    const Tensor &x = tensors[ix], &w = tensors[iw], &y = tensors[iy];
    const size_t axes = o.stride.size();
    const int64_t groups = x.extents[1] / w.extents[1], per_group = y.extents[1] / groups;
    v[o.out].assign(static_cast<size_t>(tensors[o.out].elements()), 0);
    int64_t window = 1, places = 1;
    for (size_t i = 0; i < axes; ++i) {
      window *= w.extents[2 + i];
      places *= y.extents[2 + i];
    }
    const auto rounded = [&](double d) { return engine == kTf32 ? tf32(d) : d; };
    for (int64_t n = 0; n < y.extents[0]; ++n)
      for (int64_t k = 0; k < y.extents[1]; ++k)
        for (int64_t place = 0; place < places; ++place)
          for (int64_t c = 0; c < w.extents[1]; ++c)
            for (int64_t tap = 0; tap < window; ++tap) {
              int64_t p = place, t = tap, position = 0, scale = 1;
              bool inside = true;
              for (size_t i = axes; i-- > 0;) {
                const int64_t at =
                    p % y.extents[2 + i] * o.stride[i] + t % w.extents[2 + i] * o.dilation[i] - o.before[i];
                inside = inside && at >= 0 && at < x.extents[2 + i];
                position += at * scale;
                scale *= x.extents[2 + i];
                p /= y.extents[2 + i];
                t /= w.extents[2 + i];
              }
              if (!inside) continue;
              const size_t px = static_cast<size_t>(
                  (n * x.extents[1] + k / per_group * w.extents[1] + c) * scale + position);
              const size_t pw = static_cast<size_t>((k * w.extents[1] + c) * window + tap);
              const size_t py = static_cast<size_t>((n * y.extents[1] + k) * places + place);
              if (o.kind == 0) v[iy][py] += rounded(v[ix][px]) * rounded(v[iw][pw]);
              if (o.kind == 1) v[ix][px] += rounded(v[iy][py]) * rounded(v[iw][pw]);
              if (o.kind == 2) v[iw][pw] += rounded(v[ix][px]) * rounded(v[iy][py]);
            }
  }

  void pointwise(const Operation& o, std::vector<std::vector<double>>& v) const {
    const Tensor& out = tensors[o.out];
    v[o.out].resize(static_cast<size_t>(out.elements()));
    const auto element = [&](int t, int64_t i) {
      const Tensor& x = tensors[t];
      int64_t p = 0, scale = 1;
      for (size_t k = out.extents.size(); k-- > 0; i /= out.extents[k]) {
        if (x.extents[k] > 1) p += i % out.extents[k] * scale;
        scale *= x.extents[k];
      }
      return v[t][static_cast<size_t>(p)];
    };
    for (int64_t i = 0; i < out.elements(); ++i) {
      const double a = element(o.a, i), b = o.b >= 0 ? element(o.b, i) : 0;
      double r = a;
      switch (o.kind - 10) {
        case CUDNN_POINTWISE_ADD: r = a + b; break;
        case CUDNN_POINTWISE_SUB: r = a - b; break;
        case CUDNN_POINTWISE_MUL: r = a * b; break;
        case CUDNN_POINTWISE_RELU_FWD: r = a > 0 || std::isnan(a) ? a : 0; break;
        case CUDNN_POINTWISE_TANH_FWD: r = std::tanh(a); break;
        case CUDNN_POINTWISE_SIGMOID_FWD: r = 1 / (1 + std::exp(-a)); break;
        default: break;
      }
      v[o.out][static_cast<size_t>(i)] = r;
    }
  }

  CUresult run(const std::map<int64_t, void*>& pointers, void* workspace) const {
    static std::atomic<int> runs{0};
    for (const Tensor& t : tensors)
      if (!t.is_virtual && !standin::inside(pointers.at(t.id), static_cast<unsigned long long>(t.span())))
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    if (const int64_t n = turns(); n > 0) {
      if (!standin::inside(workspace, static_cast<unsigned long long>(n))) return CUDA_ERROR_ILLEGAL_ADDRESS;
      std::memset(workspace, 0xA5, static_cast<size_t>(n));
    }
    std::vector<std::vector<double>> v(tensors.size());
    std::set<int> written;
    for (const Operation& o : operations) written.insert(o.out);
    for (size_t i = 0; i < tensors.size(); ++i) {
      const Tensor& t = tensors[i];
      if (t.is_virtual || written.count(static_cast<int>(i))) continue;
      v[i].resize(static_cast<size_t>(t.elements()));
      for (int64_t k = 0; k < t.elements(); ++k)
        v[i][static_cast<size_t>(k)] = load(pointers.at(t.id), t.type, t.at(k));
    }
    for (const Operation& o : operations) o.kind < 10 ? convolve(o, v) : pointwise(o, v);
    const Operation& last = operations.back();
    const Tensor& y = tensors[last.out];
    const double unsteady = engine == kUnsteady ? 1 + 1e-3 * ++runs : 1;
    for (int64_t k = 0; k < y.elements(); ++k)
      store(pointers.at(y.id), y.type, y.at(k), v[last.out][static_cast<size_t>(k)] * unsteady);
    return CUDA_SUCCESS;
  }

  std::string text() const {
    std::ostringstream s;
    s << "standin-cudnn " << engine << ' ' << device << ' ' << tensors.size() << ' ' << operations.size();
    const auto list = [&](const std::vector<int64_t>& l) {
      s << ' ' << l.size();
      for (int64_t x : l) s << ' ' << x;
    };
    for (const Tensor& t : tensors) {
      s << ' ' << t.id << ' ' << t.type << ' ' << t.is_virtual;
      list(t.extents);
      list(t.strides);
    }
    for (const Operation& o : operations) {
      s << ' ' << o.kind << ' ' << o.a << ' ' << o.b << ' ' << o.out;
      for (const auto* l : {&o.stride, &o.dilation, &o.before, &o.after}) list(*l);
    }
    return s.str();
  }
  static bool parse(const std::string& text, Plan& p) {
    std::istringstream s(text);
    std::string word;
    size_t tensors = 0, operations = 0;
    s >> word >> p.engine >> p.device >> tensors >> operations;
    if (word != "standin-cudnn" || !s || tensors > 64 || operations > 64) return false;
    const auto list = [&](std::vector<int64_t>& l) {
      size_t n = 0;
      s >> n;
      l.resize(n > 16 ? 0 : n);
      for (int64_t& x : l) s >> x;
    };
    p.tensors.resize(tensors);
    p.operations.resize(operations);
    for (Tensor& t : p.tensors) {
      s >> t.id >> t.type >> t.is_virtual;
      list(t.extents);
      list(t.strides);
    }
    for (Operation& o : p.operations) {
      s >> o.kind >> o.a >> o.b >> o.out;
      for (auto* l : {&o.stride, &o.dilation, &o.before, &o.after}) list(*l);
    }
    return static_cast<bool>(s);
  }
};

// --- descriptors: what was set, until they are finalized ---

struct Descriptor {
  cudnnBackendDescriptorType_t type;
  bool final = false;
  struct Attribute {
    cudnnBackendAttributeType_t type;
    int64_t count;
    std::vector<char> bytes;
  };
  std::map<int, Attribute> attributes;
  Plan plan;  // of a plan; of an engine and a configuration: what it would be

  template <class T>
  std::vector<T> get(int name) const {
    const auto found = attributes.find(name);
    if (found == attributes.end()) return {};
    std::vector<T> v(found->second.bytes.size() / sizeof(T));
    std::memcpy(v.data(), found->second.bytes.data(), v.size() * sizeof(T));
    return v;
  }
  template <class T>
  T one(int name, T otherwise = {}) const {
    const auto v = get<T>(name);
    return v.size() == 1 ? v[0] : otherwise;
  }
};

std::mutex g_mutex;
std::set<void*> g_alive;
Descriptor* of(cudnnBackendDescriptor_t raw) {
  std::lock_guard lock(g_mutex);
  return g_alive.count(raw) ? static_cast<Descriptor*>(raw) : nullptr;
}
Descriptor* finished(cudnnBackendDescriptor_t raw, cudnnBackendDescriptorType_t type) {
  Descriptor* d = of(raw);
  return d && d->final && d->type == type ? d : nullptr;
}

size_t size_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    case CUDNN_TYPE_CHAR: return 1;
    case CUDNN_TYPE_FLOAT: return sizeof(float);
    case CUDNN_TYPE_INT32: return 4;
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE: return 8;
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return sizeof(void*);
    default: return 4;  // enumerations
  }
}

constexpr int kForward[] = {
    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y};
constexpr int kData[] = {
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX};
constexpr int kFilter[] = {
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW};

int tensor_index(Plan& p, void* raw) {
  Descriptor* d = finished(raw, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  if (!d) return -1;
  Tensor t;
  t.id = d->one<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
  for (size_t i = 0; i < p.tensors.size(); ++i)
    if (p.tensors[i].id == t.id) return static_cast<int>(i);
  t.type = d->one<int>(CUDNN_ATTR_TENSOR_DATA_TYPE);
  t.is_virtual = d->one<uint8_t>(CUDNN_ATTR_TENSOR_IS_VIRTUAL) != 0;
  t.extents = d->get<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
  t.strides = d->get<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
  p.tensors.push_back(std::move(t));
  return static_cast<int>(p.tensors.size()) - 1;
}

bool broadcasts(const Tensor& from, const Tensor& to) {
  for (size_t i = 0; i < to.extents.size(); ++i)
    if (from.extents.size() != to.extents.size() ||
        (from.extents[i] != to.extents[i] && from.extents[i] != 1))
      return false;
  return true;
}

// The plan of a graph; false if it isn't one.
bool read_graph(const Descriptor& graph, Plan& p) {
  for (void* raw : graph.get<void*>(CUDNN_ATTR_OPERATIONGRAPH_OPS)) {
    const Descriptor* d = of(raw);
    if (!d || !d->final) return false;
    Operation o;
    const int* names = nullptr;
    switch (d->type) {
      case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        names = kForward;
        o.kind = 0;
        break;
      case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        names = kData;
        o.kind = 1;
        break;
      case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        names = kFilter;
        o.kind = 2;
        break;
      case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: break;
      default: return false;
    }
    if (names) {
      const Descriptor* c = finished(d->one<void*>(names[0]), CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
      if (!c) return false;
      o.stride = c->get<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
      o.dilation = c->get<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS);
      o.before = c->get<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
      o.after = c->get<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS);
      o.a = tensor_index(p, d->one<void*>(names[1]));
      o.b = tensor_index(p, d->one<void*>(names[2]));
      o.out = tensor_index(p, d->one<void*>(names[3]));
      if (o.a < 0 || o.b < 0 || o.out < 0) return false;
      const Tensor& x = p.tensors[o.kind == 1 ? o.out : o.a];
      const Tensor& w = p.tensors[o.kind == 2 ? o.out : o.b];
      const Tensor& y = p.tensors[o.kind == 0 ? o.out : o.kind == 1 ? o.a : o.b];
      const size_t rank = o.stride.size() + 2;
      if (x.extents.size() != rank || w.extents.size() != rank || y.extents.size() != rank ||
          o.before.size() + 2 != rank || o.after.size() + 2 != rank || o.dilation.size() + 2 != rank ||
          rank < 4)
        return false;
      if (x.extents[0] != y.extents[0] || w.extents[0] != y.extents[1] || x.extents[1] % w.extents[1] != 0)
        return false;
      for (size_t i = 0; i + 2 < rank; ++i)
        if ((x.extents[2 + i] + o.before[i] + o.after[i] - o.dilation[i] * (w.extents[2 + i] - 1) - 1) /
                    o.stride[i] +
                1 !=
            y.extents[2 + i])
          return false;
    } else {
      const Descriptor* m = finished(d->one<void*>(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR),
                                     CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
      if (!m) return false;
      o.kind = 10 + m->one<int>(CUDNN_ATTR_POINTWISE_MODE);
      o.a = tensor_index(p, d->one<void*>(CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
      if (void* b = d->one<void*>(CUDNN_ATTR_OPERATION_POINTWISE_BDESC)) {
        o.b = tensor_index(p, b);
        if (o.b < 0) return false;
      }
      o.out = tensor_index(p, d->one<void*>(CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
      if (o.a < 0 || o.out < 0 || !broadcasts(p.tensors[o.a], p.tensors[o.out]) ||
          (o.b >= 0 && !broadcasts(p.tensors[o.b], p.tensors[o.out])))
        return false;
    }
    p.operations.push_back(std::move(o));
  }
  return !p.operations.empty();
}

cudnnStatus_t finalize(Descriptor& d) {
  switch (d.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: {
      const auto extents = d.get<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS),
                 strides = d.get<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
      if (extents.size() < 3 || extents.size() > 8 || strides.size() != extents.size())
        return CUDNN_STATUS_BAD_PARAM;
      for (int64_t e : extents)
        if (e < 1) return CUDNN_STATUS_BAD_PARAM;
      return d.one<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID) > 0 ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
    }
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      return read_graph(d, d.plan) ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR: {
      const Descriptor* g = finished(d.one<void*>(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH),
                                     CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
      const Descriptor* card =
          finished(d.one<void*>(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP), CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
      if (!g || !card) return CUDNN_STATUS_BAD_PARAM;
      d.plan = g->plan;
      d.plan.device = card->one<int32_t>(CUDNN_ATTR_DEVICEPROP_DEVICE_ID);
      return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: {
      const Descriptor* card =
          finished(d.one<void*>(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP), CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
      if (!card) return CUDNN_STATUS_BAD_PARAM;
      if (Descriptor* c = finished(d.one<void*>(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG),
                                   CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)) {
        d.plan = c->plan;
        ++g_planned;
        return CUDNN_STATUS_SUCCESS;
      }
      if (g_refuse) return CUDNN_STATUS_NOT_SUPPORTED;
      const auto json = d.get<char>(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
      if (!Plan::parse(std::string(json.begin(), json.end()), d.plan)) return CUDNN_STATUS_BAD_PARAM;
      ++g_restored;
      return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
      return d.get<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).size() ==
                     d.get<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).size()
                 ? CUDNN_STATUS_SUCCESS
                 : CUDNN_STATUS_BAD_PARAM;
    default: return d.attributes.empty() ? CUDNN_STATUS_BAD_PARAM : CUDNN_STATUS_SUCCESS;
  }
}

}  // namespace

CUDNN_API unsigned long long standin_cudnn_count(const char* what) {
  const std::string w = what;
  if (w == "execute") return g_executed;
  if (w == "plan") return g_planned;
  if (w == "restore") return g_restored;
  std::lock_guard lock(g_mutex);
  return g_alive.size();
}
CUDNN_API void standin_cudnn_refuse(int on) { g_refuse = on != 0; }

CUDNN_API size_t cudnnGetVersion() { return 99900; }
CUDNN_API const char* cudnnGetErrorString(cudnnStatus_t s) {
  return s == CUDNN_STATUS_SUCCESS     ? "CUDNN_STATUS_SUCCESS"
         : s == CUDNN_STATUS_BAD_PARAM ? "CUDNN_STATUS_BAD_PARAM"
                                       : "CUDNN_STATUS_NOT_SUPPORTED";
}
CUDNN_API void cudnnGetLastErrorString(char* text, size_t n) {
  if (n > 0) text[0] = 0;
}
CUDNN_API cudnnStatus_t cudnnCreate(cudnnHandle_t* h) {
  *h = new cudnnContext;
  return CUDNN_STATUS_SUCCESS;
}
CUDNN_API cudnnStatus_t cudnnDestroy(cudnnHandle_t h) {
  delete h;
  return CUDNN_STATUS_SUCCESS;
}
CUDNN_API cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t stream) {
  h->stream = reinterpret_cast<CUstream>(stream);
  return CUDNN_STATUS_SUCCESS;
}

CUDNN_API cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                                     cudnnBackendDescriptor_t* out) {
  auto* d = new Descriptor{type, false, {}, {}};
  std::lock_guard lock(g_mutex);
  g_alive.insert(d);
  *out = d;
  return CUDNN_STATUS_SUCCESS;
}
CUDNN_API cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t raw) {
  std::lock_guard lock(g_mutex);
  if (g_alive.erase(raw) == 0) return CUDNN_STATUS_BAD_PARAM;
  delete static_cast<Descriptor*>(raw);
  return CUDNN_STATUS_SUCCESS;
}
CUDNN_API cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t raw,
                                                 cudnnBackendAttributeName_t name,
                                                 cudnnBackendAttributeType_t type, int64_t count,
                                                 const void* values) {
  Descriptor* d = of(raw);
  if (!d || d->final || count < 0) return CUDNN_STATUS_BAD_PARAM;
  const auto* bytes = static_cast<const char*>(values);
  d->attributes[name] = {type, count,
                         std::vector<char>(bytes, bytes + static_cast<size_t>(count) * size_of(type))};
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
    for (void* other : d->get<void*>(name)) {
      const Descriptor* o = of(other);
      if (!o || !o->final) return CUDNN_STATUS_BAD_PARAM;
    }
  return CUDNN_STATUS_SUCCESS;
}
CUDNN_API cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t raw) {
  Descriptor* d = of(raw);
  if (!d || d->final) return CUDNN_STATUS_BAD_PARAM;
  const cudnnStatus_t s = finalize(*d);
  d->final = s == CUDNN_STATUS_SUCCESS;
  return s;
}

CUDNN_API cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const raw,
                                                 cudnnBackendAttributeName_t name,
                                                 cudnnBackendAttributeType_t, int64_t requested,
                                                 int64_t* count, void* out) {
  Descriptor* d = of(raw);
  if (!d || !d->final) return CUDNN_STATUS_BAD_PARAM;
  const auto filled = [&](void* slot, cudnnBackendDescriptorType_t type, int64_t engine) {
    Descriptor* s = of(slot);
    if (!s || s->type != type || s->final) return false;
    s->plan = d->plan;
    s->plan.engine = engine;
    s->final = true;
    return true;
  };
  switch (static_cast<int>(name)) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: {
      *count = 0;
      if (g_refuse || !d->plan.supported()) return CUDNN_STATUS_SUCCESS;
      const bool f32 = d->plan.tensors[d->plan.operations[0].a].type == CUDNN_DATA_FLOAT;
      for (int64_t engine = f32 ? kTf32 : kUnsteady; engine <= kExact && *count < requested; ++engine)
        if (!filled(static_cast<void**>(out)[(*count)++], CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, engine))
          return CUDNN_STATUS_BAD_PARAM;
      return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_ATTR_ENGINECFG_ENGINE:
      *count = 1;
      return filled(*static_cast<void**>(out), CUDNN_BACKEND_ENGINE_DESCRIPTOR, d->plan.engine)
                 ? CUDNN_STATUS_SUCCESS
                 : CUDNN_STATUS_BAD_PARAM;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
      *count = 1;
      *static_cast<int64_t*>(out) = d->plan.engine;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
      *count = d->plan.engine == kExact ? 0 : 1;
      if (*count > requested) return CUDNN_STATUS_BAD_PARAM;
      if (*count == 1)
        *static_cast<cudnnBackendNumericalNote_t*>(out) = d->plan.engine == kTf32
                                                              ? CUDNN_NUMERICAL_NOTE_TENSOR_CORE
                                                              : CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      *count = 1;
      *static_cast<int64_t*>(out) = d->plan.turns();
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION: {
      const std::string text = d->plan.text();
      *count = static_cast<int64_t>(text.size()) + 1;
      if (requested >= *count) std::memcpy(out, text.c_str(), text.size() + 1);
      return CUDNN_STATUS_SUCCESS;
    }
    default: return CUDNN_STATUS_NOT_SUPPORTED;
  }
}

CUDNN_API cudnnStatus_t cudnnBackendExecute(cudnnHandle_t h, cudnnBackendDescriptor_t plan,
                                            cudnnBackendDescriptor_t pack) {
  const Descriptor* p = finished(plan, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  const Descriptor* v = finished(pack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  if (!p || !v) return CUDNN_STATUS_BAD_PARAM;
  struct Work {
    Plan plan;
    std::map<int64_t, void*> pointers;
    void* workspace;
  };
  auto work = std::make_unique<Work>(Work{p->plan, {}, v->one<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE)});
  const auto ids = v->get<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = v->get<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  for (size_t i = 0; i < ids.size(); ++i) work->pointers[ids[i]] = pointers[i];
  for (const Tensor& t : p->plan.tensors)
    if (!t.is_virtual &&
        (!work->pointers.count(t.id) || reinterpret_cast<uintptr_t>(work->pointers[t.id]) % 16 != 0))
      return CUDNN_STATUS_BAD_PARAM;
  ++g_executed;
  const CUresult r = standin::enqueue(
      h->stream,
      [](void* w) {
        auto* x = static_cast<Work*>(w);
        return x->plan.run(x->pointers, x->workspace);
      },
      work.release(), [](void* w) { delete static_cast<Work*>(w); });
  return r == CUDA_SUCCESS ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}
