// A stand-in for cuBLASLt: what backends/cuda/exec/cublaslt.cpp uses of it, computed on the CPU in double
// when the stand-in driver's stream gets there. It refuses what the manual says the real one refuses
// ("cublasLtMatmul()" and cublasLtEpilogue_t), and looks that calls keep what they promised the heuristic:
// alignments, workspace, layouts.
//
// Its suggestions are those that tempt: first algorithms that round inputs to TF32, that accumulate in f16 or
// that add partial sums up in the output's type, each if the preferences let it. The caller has to forbid
// them.
//
//   standin_cublaslt_count("matmul")    products put on streams; "heuristic": searches; "handles": alive
//   standin_cublaslt_refuse(1)          from now on the heuristic finds nothing
#include <cublasLt.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/dtype.h"
#include "tests/cuda/standin/foreign.h"

#define LT_API extern "C" __attribute__((visibility("default")))

namespace {

std::atomic<unsigned long long> g_matmuls{0}, g_searches{0}, g_handles{0};
std::atomic<bool> g_refuse{false};

struct Layout {
  int32_t type;
  uint64_t rows, columns;
  int64_t ld, stride = 0;
  int32_t batch = 1;
};
struct Desc {
  int32_t compute, scale;
  int32_t trans_a = CUBLAS_OP_N, trans_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;
  void* aux = nullptr;
  int64_t aux_ld = 0, aux_stride = 0;
};
struct Preference {
  uint64_t workspace = 0, arithmetic = ~uint64_t{0};
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t align_a = 256, align_b = 256, align_c = 256, align_d = 256;
};

// What an algorithm's 64 bytes hold.
enum Inputs : uint32_t { kExact, kTf32, kF16Sums };
struct Algorithm {
  uint64_t shape;  // a hash of the descriptors that it was found for
  uint32_t inputs, reduction, splits;
  uint32_t align_a, align_b, align_c, align_d;
  uint64_t workspace;
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

template <class T>
bool take(T& to, const void* from, size_t bytes) {
  if (bytes != sizeof to) return false;
  std::memcpy(&to, from, bytes);
  return true;
}

size_t type_bytes(int32_t t) { return t == CUDA_R_64F ? 8 : t == CUDA_R_32F ? 4 : 2; }
double load(const void* p, int32_t t, int64_t i) {
  switch (t) {
    case CUDA_R_64F: return static_cast<const double*>(p)[i];
    case CUDA_R_32F: return static_cast<const float*>(p)[i];
    case CUDA_R_16F: return graphc::f16_to_f32(static_cast<const uint16_t*>(p)[i]);
    default: return graphc::bf16_to_f32(static_cast<const uint16_t*>(p)[i]);
  }
}
void store(void* p, int32_t t, int64_t i, double v) {
  switch (t) {
    case CUDA_R_64F: static_cast<double*>(p)[i] = v; break;
    case CUDA_R_32F: static_cast<float*>(p)[i] = static_cast<float>(v); break;
    case CUDA_R_16F: static_cast<uint16_t*>(p)[i] = graphc::f64_to_f16(v); break;
    default: static_cast<uint16_t*>(p)[i] = graphc::f64_to_bf16(v);
  }
}
double round_to(int32_t t, double v) {
  double out = 0;
  store(&out, t, 0, v);
  return load(&out, t, 0);
}
double tf32(double v) {
  auto x = static_cast<float>(v);
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  bits = (bits + 0x1000) & ~uint32_t{0x1fff};
  std::memcpy(&x, &bits, 4);
  return x;
}

constexpr double kRoot = 0.7978845608028654;  // sqrt(2/pi)
double gelu(double x) { return 0.5 * x * (1 + std::tanh(kRoot * (x + 0.044715 * x * x * x))); }
double gelu_slope(double x) {
  const double t = std::tanh(kRoot * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * kRoot * (1 + 3 * 0.044715 * x * x);
}

bool has_aux(uint32_t e) { return (e & 128) != 0; }
bool has_bias(uint32_t e) { return (e & CUBLASLT_EPILOGUE_BIAS) != 0; }

// Everything that a product is, checked.
struct Product {
  Desc desc;
  Layout a, b, c, d;
  double alpha = 1, beta = 0;
  const void *pa = nullptr, *pb = nullptr, *pc = nullptr;
  void* pd = nullptr;
  void* workspace = nullptr;
  Algorithm algorithm{};

  int64_t m() const { return static_cast<int64_t>(d.rows); }
  int64_t n() const { return static_cast<int64_t>(d.columns); }
  int64_t k() const { return static_cast<int64_t>(desc.trans_a == CUBLAS_OP_N ? a.columns : a.rows); }

  cublasStatus_t check() const {
    const auto op = [](const Layout& x, int32_t trans) {
      return trans == CUBLAS_OP_N ? std::pair(x.rows, x.columns) : std::pair(x.columns, x.rows);
    };
    const auto [am, ak] = op(a, desc.trans_a);
    const auto [bk, bn] = op(b, desc.trans_b);
    if (am != d.rows || bn != d.columns || ak != bk || c.rows != d.rows || c.columns != d.columns)
      return CUBLAS_STATUS_INVALID_VALUE;
    if (am == 0 || bn == 0 || ak == 0) return CUBLAS_STATUS_INVALID_VALUE;
    for (const Layout* x : {&a, &b, &c, &d})
      if (x->ld < static_cast<int64_t>(x->rows) || x->batch != d.batch || x->batch < 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (d.batch > 1 && std::abs(d.stride) < d.ld * n()) return CUBLAS_STATUS_INVALID_VALUE;
    // the table of types, regular layouts
    if (a.type != b.type || c.type != d.type) return CUBLAS_STATUS_NOT_SUPPORTED;
    const bool low = a.type == CUDA_R_16F || a.type == CUDA_R_16BF;
    switch (desc.compute) {
      case CUBLAS_COMPUTE_64F:
      case CUBLAS_COMPUTE_64F_PEDANTIC:
        if (desc.scale != CUDA_R_64F || a.type != CUDA_R_64F || d.type != CUDA_R_64F)
          return CUBLAS_STATUS_NOT_SUPPORTED;
        break;
      case CUBLAS_COMPUTE_32F:
      case CUBLAS_COMPUTE_32F_PEDANTIC:
        if (desc.scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
        if (low ? d.type != a.type && d.type != CUDA_R_32F : a.type != CUDA_R_32F || d.type != CUDA_R_32F)
          return CUBLAS_STATUS_NOT_SUPPORTED;
        break;
      case CUBLAS_COMPUTE_32F_FAST_TF32:
        if (desc.scale != CUDA_R_32F || a.type != CUDA_R_32F || d.type != CUDA_R_32F)
          return CUBLAS_STATUS_NOT_SUPPORTED;
        break;
      default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    switch (desc.epilogue) {
      case CUBLASLT_EPILOGUE_DEFAULT:
      case CUBLASLT_EPILOGUE_RELU:
      case CUBLASLT_EPILOGUE_BIAS:
      case CUBLASLT_EPILOGUE_RELU_BIAS:
      case CUBLASLT_EPILOGUE_GELU:
      case CUBLASLT_EPILOGUE_GELU_BIAS: break;
      case CUBLASLT_EPILOGUE_GELU_AUX:
      case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
      case CUBLASLT_EPILOGUE_DGELU:
        if (!desc.aux || desc.aux_ld < m() || desc.aux_ld % 8 != 0 || desc.aux_stride % 8 != 0)
          return CUBLAS_STATUS_INVALID_VALUE;
        if (d.batch > 1 && desc.aux_stride < desc.aux_ld * n()) return CUBLAS_STATUS_INVALID_VALUE;
        break;
      default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (has_bias(desc.epilogue) && !desc.bias) return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
  }

  uint64_t hash() const {
    uint64_t h = 14695981039346656037u;
    const auto add = [&](uint64_t v) { h = (h ^ v) * 1099511628211u; };
    for (const Layout* x : {&a, &b, &c, &d}) {
      add(static_cast<uint64_t>(x->type));
      add(x->rows);
      add(x->columns);
      for (const int64_t v : {x->ld, x->stride, static_cast<int64_t>(x->batch)})
        add(static_cast<uint64_t>(v));
    }
    for (const int32_t v : {desc.compute, desc.trans_a, desc.trans_b, static_cast<int32_t>(desc.epilogue)})
      add(static_cast<uint64_t>(v));
    return h;
  }

  static bool inside(const Layout& x, const void* p) {
    const int64_t columns = static_cast<int64_t>(x.columns), rows = static_cast<int64_t>(x.rows);
    const int64_t elements = (x.batch - 1) * x.stride + (columns - 1) * x.ld + rows;
    return standin::inside(p, static_cast<unsigned long long>(elements) * type_bytes(x.type));
  }

  CUresult run() {
    Layout aux = d;
    aux.ld = desc.aux_ld;
    aux.stride = desc.aux_stride;
    if (!inside(a, pa) || !inside(b, pb) || !inside(d, pd) || (beta != 0 && !inside(c, pc)) ||
        (has_aux(desc.epilogue) && !inside(aux, desc.aux)) ||
        (has_bias(desc.epilogue) && !standin::inside(desc.bias, d.rows * type_bytes(d.type))) ||
        (algorithm.workspace > 0 && !standin::inside(workspace, algorithm.workspace)))
      return CUDA_ERROR_ILLEGAL_ADDRESS;
    // What is in the workspace is of no use to anybody else.
    if (algorithm.workspace > 0) std::memset(workspace, 0xA5, algorithm.workspace);
    // all sums before any store, as a real product's operands must not overlap its result, but for C
    std::vector<double> out(static_cast<size_t>(m() * n() * d.batch));
    size_t next = 0;
    for (int64_t g = 0; g < d.batch; ++g)
      for (int64_t j = 0; j < n(); ++j)
        for (int64_t i = 0; i < m(); ++i) out[next++] = element(g, i, j);
    next = 0;
    for (int64_t g = 0; g < d.batch; ++g)
      for (int64_t j = 0; j < n(); ++j)
        for (int64_t i = 0; i < m(); ++i) finish(g, i, j, out[next++]);
    return CUDA_SUCCESS;
  }

  double element(int64_t g, int64_t i, int64_t j) const {
    double sum = 0;
    const int64_t share = (k() + algorithm.splits - 1) / algorithm.splits;
    for (int64_t begin = 0; begin < k(); begin += share) {
      double part = 0;
      for (int64_t p = begin; p < std::min(k(), begin + share); ++p) {
        double x =
            load(pa, a.type, g * a.stride + (desc.trans_a == CUBLAS_OP_N ? p * a.ld + i : i * a.ld + p));
        double y =
            load(pb, b.type, g * b.stride + (desc.trans_b == CUBLAS_OP_N ? j * b.ld + p : p * b.ld + j));
        if (algorithm.inputs == kTf32) x = tf32(x), y = tf32(y);
        part += x * y;
        if (algorithm.inputs == kF16Sums) part = round_to(CUDA_R_16F, part);
      }
      sum += algorithm.reduction == CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE ? round_to(d.type, part) : part;
    }
    sum *= alpha;
    if (beta != 0) sum += beta * load(pc, c.type, g * c.stride + j * c.ld + i);
    return sum;
  }

  void finish(int64_t g, int64_t i, int64_t j, double v) const {
    if (has_bias(desc.epilogue)) v += load(desc.bias, d.type, i);
    const int64_t at = g * desc.aux_stride + j * desc.aux_ld + i;
    if (desc.epilogue == CUBLASLT_EPILOGUE_DGELU)
      v *= gelu_slope(load(desc.aux, d.type, at));
    else if (has_aux(desc.epilogue))
      store(desc.aux, d.type, at, v);
    if (desc.epilogue & CUBLASLT_EPILOGUE_RELU) v = std::fmax(v, 0.0);
    if (desc.epilogue & CUBLASLT_EPILOGUE_GELU) v = gelu(v);
    store(pd, d.type, g * d.stride + j * d.ld + i, v);
  }
};

bool aligned(const void* p, uint32_t n) { return reinterpret_cast<uintptr_t>(p) % n == 0; }
template <class T, class Opaque>
T& as(Opaque* p) {
  return *reinterpret_cast<T*>(p);
}

}  // namespace

LT_API unsigned long long standin_cublaslt_count(const char* what) {
  const std::string w = what;
  return w == "matmul" ? g_matmuls.load() : w == "heuristic" ? g_searches.load() : g_handles.load();
}
LT_API void standin_cublaslt_refuse(int on) { g_refuse = on != 0; }

LT_API size_t cublasLtGetVersion() { return 130100; }
LT_API const char* cublasLtGetStatusName(cublasStatus_t s) {
  switch (s) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    default: return "CUBLAS_STATUS";
  }
}

LT_API cublasStatus_t cublasLtCreate(cublasLtHandle_t* out) {
  CUcontext current = nullptr;
  auto* get = standin::driver_function<CUresult(CUcontext*)>("cuCtxGetCurrent");
  if (!get || get(&current) != CUDA_SUCCESS || !current) return CUBLAS_STATUS_NOT_INITIALIZED;
  *out = reinterpret_cast<cublasLtHandle_t>(new int(1));
  ++g_handles;
  return CUBLAS_STATUS_SUCCESS;
}
LT_API cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) {
  delete reinterpret_cast<int*>(h);
  --g_handles;
  return CUBLAS_STATUS_SUCCESS;
}

LT_API cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* out, cudaDataType type,
                                                 uint64_t rows, uint64_t columns, int64_t ld) {
  *out = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, rows, columns, ld});
  return CUBLAS_STATUS_SUCCESS;
}
LT_API cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
  delete reinterpret_cast<Layout*>(l);
  return CUBLAS_STATUS_SUCCESS;
}
LT_API cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l,
                                                       cublasLtMatrixLayoutAttribute_t what,
                                                       const void* value, size_t bytes) {
  Layout& x = as<Layout>(l);
  const bool ok = what == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT            ? take(x.batch, value, bytes)
                  : what == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET ? take(x.stride, value, bytes)
                                                                        : false;
  return ok ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

LT_API cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* out, cublasComputeType_t compute,
                                               cudaDataType_t scale) {
  *out = reinterpret_cast<cublasLtMatmulDesc_t>(new Desc{compute, scale});
  return CUBLAS_STATUS_SUCCESS;
}
LT_API cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
  delete reinterpret_cast<Desc*>(d);
  return CUBLAS_STATUS_SUCCESS;
}
LT_API cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                                     cublasLtMatmulDescAttributes_t what, const void* value,
                                                     size_t bytes) {
  Desc& x = as<Desc>(d);
  bool ok = false;
  switch (what) {
    case CUBLASLT_MATMUL_DESC_TRANSA: ok = take(x.trans_a, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_TRANSB: ok = take(x.trans_b, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: ok = take(x.epilogue, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: ok = take(x.bias, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: ok = take(x.aux, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: ok = take(x.aux_ld, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE: ok = take(x.aux_stride, value, bytes); break;
    default: break;
  }
  return ok ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

LT_API cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* out) {
  *out = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}
LT_API cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
  delete reinterpret_cast<Preference*>(p);
  return CUBLAS_STATUS_SUCCESS;
}
LT_API cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                           cublasLtMatmulPreferenceAttributes_t what,
                                                           const void* value, size_t bytes) {
  Preference& x = as<Preference>(p);
  bool ok = false;
  switch (what) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: ok = take(x.workspace, value, bytes); break;
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: ok = take(x.reductions, value, bytes); break;
    case CUBLASLT_MATMUL_PREF_IMPL_MASK: ok = take(x.arithmetic, value, bytes); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: ok = take(x.align_a, value, bytes); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: ok = take(x.align_b, value, bytes); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: ok = take(x.align_c, value, bytes); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: ok = take(x.align_d, value, bytes); break;
    default: break;
  }
  return ok ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

LT_API cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t desc,
                                                     cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                     cublasLtMatmulPreference_t preference, int wanted,
                                                     cublasLtMatmulHeuristicResult_t results[], int* count) {
  ++g_searches;
  *count = 0;
  if (!h || wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
  Product p;
  p.desc = as<Desc>(desc);
  p.a = as<Layout>(a);
  p.b = as<Layout>(b);
  p.c = as<Layout>(c);
  p.d = as<Layout>(d);
  if (const cublasStatus_t s = p.check(); s != CUBLAS_STATUS_SUCCESS) return s;
  if (g_refuse) return CUBLAS_STATUS_NOT_SUPPORTED;
  const Preference& f = as<Preference>(preference);
  const auto suggest = [&](Inputs inputs, uint32_t reduction, uint32_t splits, uint64_t workspace) {
    if (*count == wanted || workspace > f.workspace) return;
    if (reduction != CUBLASLT_REDUCTION_SCHEME_NONE && (f.reductions & reduction) == 0) return;
    const Algorithm algorithm{p.hash(),  inputs,    reduction, splits,   f.align_a,
                              f.align_b, f.align_c, f.align_d, workspace};
    cublasLtMatmulHeuristicResult_t& r = results[(*count)++];
    std::memset(&r, 0, sizeof r);
    std::memcpy(&r.algo, &algorithm, sizeof algorithm);
    r.workspaceSize = workspace;
    r.state = CUBLAS_STATUS_SUCCESS;
  };
  const bool f32 = p.a.type == CUDA_R_32F, low = type_bytes(p.a.type) == 2;
  const bool pedantic = p.desc.compute == CUBLAS_COMPUTE_32F_PEDANTIC;
  // The real one keeps TF32 to its own compute type; here anything but "pedantic" and the mask lets it in.
  if (f32 && !pedantic && (f.arithmetic & CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32))
    suggest(kTf32, CUBLASLT_REDUCTION_SCHEME_NONE, 1, 0);
  if (low && (f.arithmetic & CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F))
    suggest(kF16Sums, CUBLASLT_REDUCTION_SCHEME_NONE, 1, 0);
  const uint64_t sums = 8u * static_cast<uint64_t>(p.m() * p.n() * p.d.batch);
  if (p.k() >= 64) {
    suggest(kExact, CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE, 4, 0);
    suggest(kExact, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, 2, sums);
  }
  suggest(kExact, CUBLASLT_REDUCTION_SCHEME_NONE, 1, 0);
  return CUBLAS_STATUS_SUCCESS;
}

LT_API cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t desc, const void* alpha,
                                     const void* pa, cublasLtMatrixLayout_t a, const void* pb,
                                     cublasLtMatrixLayout_t b, const void* beta, const void* pc,
                                     cublasLtMatrixLayout_t c, void* pd, cublasLtMatrixLayout_t d,
                                     const cublasLtMatmulAlgo_t* algo, void* workspace,
                                     size_t workspace_bytes, cudaStream_t stream) {
  if (!h || !algo || !alpha || !beta || !pa || !pb || !pc || !pd) return CUBLAS_STATUS_INVALID_VALUE;
  auto p = std::make_unique<Product>();
  p->desc = as<Desc>(desc);
  p->a = as<Layout>(a);
  p->b = as<Layout>(b);
  p->c = as<Layout>(c);
  p->d = as<Layout>(d);
  if (const cublasStatus_t s = p->check(); s != CUBLAS_STATUS_SUCCESS) return s;
  std::memcpy(&p->algorithm, algo, sizeof p->algorithm);
  const Algorithm& x = p->algorithm;
  const bool f64 = p->desc.scale == CUDA_R_64F;
  p->alpha = f64 ? *static_cast<const double*>(alpha) : *static_cast<const float*>(alpha);
  p->beta = f64 ? *static_cast<const double*>(beta) : *static_cast<const float*>(beta);
  p->pa = pa;
  p->pb = pb;
  p->pc = pc;
  p->pd = pd;
  p->workspace = workspace;
  if (x.shape != p->hash() || x.workspace > workspace_bytes || !aligned(pa, x.align_a) ||
      !aligned(pb, x.align_b) || !aligned(pc, x.align_c) || !aligned(pd, x.align_d) ||
      (x.workspace > 0 && !aligned(workspace, 16)))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (pd == pa || pd == pb || (pd == pc && (p->c.ld != p->d.ld || p->c.stride != p->d.stride)))
    return CUBLAS_STATUS_INVALID_VALUE;
  ++g_matmuls;
  const CUresult r = standin::enqueue(
      stream, [](void* w) { return static_cast<Product*>(w)->run(); }, p.release(),
      [](void* w) { delete static_cast<Product*>(w); });
  return r == CUDA_SUCCESS ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
