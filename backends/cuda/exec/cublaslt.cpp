#include "backends/cuda/exec/cublaslt.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

namespace graphc {
namespace {

using Epilogue = CublasLtCall::Epilogue;
constexpr size_t kMaxPlans = 64;
constexpr int kCandidates = 8;

cudaDataType_t cuda_type(DType t) {
  switch (t) {
    case DType::kF64: return CUDA_R_64F;
    case DType::kF16: return CUDA_R_16F;
    case DType::kBF16: return CUDA_R_16BF;
    default: return CUDA_R_32F;
  }
}

cublasComputeType_t compute_type(const CublasLtCall& c) {
  if (c.in == DType::kF64) return CUBLAS_COMPUTE_64F;
  return c.in == DType::kF32 ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F;
}

// What algorithms may do inside.
uint64_t allowed_arithmetic(const CublasLtCall& c) {
  switch (c.in) {
    case DType::kF64:
      return CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_DMMA |
             CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_64F | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_64F;
    case DType::kF32:
      return CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F |
             CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F;
    default:
      return CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA |
             CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16F |
             CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF | CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F;
  }
}

cublasLtEpilogue_t epilogue_of(const CublasLtCall& c) {
  const bool bias = c.bias >= 0, aux = c.aux.arg >= 0;
  switch (c.epilogue) {
    case Epilogue::kRelu: return bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case Epilogue::kGelu:
      if (aux) return bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
      return bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    case Epilogue::kDgelu: return CUBLASLT_EPILOGUE_DGELU;
    case Epilogue::kNone: break;
  }
  return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

// The largest power of two up to 256 that divides it.
uint32_t alignment(const void* p) {
  const auto v = reinterpret_cast<uintptr_t>(p);
  return v == 0 ? 256 : static_cast<uint32_t>(std::min<uintptr_t>(256, v & (~v + 1)));
}

}  // namespace

Result<std::shared_ptr<const CublasLt>> CublasLt::create(const CudaLibraries& libraries) {
  const CudaLibrary& l = libraries.cublaslt;
  if (!l.loaded()) return unsupported(l.problem);
  auto lt = std::make_shared<CublasLt>();
  std::string missing;
  const auto take = [&](auto& f, const char* name) {
    f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(l.symbol(name));
    if (!f) missing = name;
  };
  take(lt->create_handle, "cublasLtCreate");
  take(lt->destroy_handle, "cublasLtDestroy");
  take(lt->status_name, "cublasLtGetStatusName");
  take(lt->layout_create, "cublasLtMatrixLayoutCreate");
  take(lt->layout_destroy, "cublasLtMatrixLayoutDestroy");
  take(lt->layout_set, "cublasLtMatrixLayoutSetAttribute");
  take(lt->desc_create, "cublasLtMatmulDescCreate");
  take(lt->desc_destroy, "cublasLtMatmulDescDestroy");
  take(lt->desc_set, "cublasLtMatmulDescSetAttribute");
  take(lt->preference_create, "cublasLtMatmulPreferenceCreate");
  take(lt->preference_destroy, "cublasLtMatmulPreferenceDestroy");
  take(lt->preference_set, "cublasLtMatmulPreferenceSetAttribute");
  take(lt->heuristic, "cublasLtMatmulAlgoGetHeuristic");
  take(lt->matmul, "cublasLtMatmul");
  if (!missing.empty())
    return unsupported(fmt::format("{} has no {}: cuBLASLt 12 or newer is needed", l.path, missing));
  if (const cublasStatus_t s = lt->create_handle(&lt->handle); s != CUBLAS_STATUS_SUCCESS) {
    lt->handle = nullptr;
    return unsupported(fmt::format("cuBLASLt ({}) doesn't start: {}", l.path, lt->status_name(s)));
  }
  return std::shared_ptr<const CublasLt>(std::move(lt));
}

CublasLt::~CublasLt() {
  if (handle) destroy_handle(handle);
}

// What is the same for all runs with the same sizes and alignments.
struct CublasLtMatmul::Plan {
  using Layout = std::shared_ptr<cublasLtMatrixLayoutOpaque_t>;
  Layout a, b, c, d;
  cublasLtMatmulAlgo_t algorithm{};
};

Status CublasLtMatmul::check(cublasStatus_t s, std::string_view what) const {
  if (s == CUBLAS_STATUS_SUCCESS) return {};
  const std::string text = fmt::format("cuBLASLt: {}: {} ({})", what, lt_->status_name(s), call_.to_string());
  if (s == CUBLAS_STATUS_NOT_SUPPORTED || s == CUBLAS_STATUS_INVALID_VALUE ||
      s == CUBLAS_STATUS_ARCH_MISMATCH)
    return unsupported(text);
  return Error{ErrorCode::kDevice, text};
}

Result<CublasLtMatmul::Pointers> CublasLtMatmul::pointers(std::span<const CUdeviceptr> buffers,
                                                          std::span<const int64_t> sizes) const {
  const auto at = [&](const CublasLtCall::Matrix& m, DType type) -> void* {
    if (m.arg < 0) return nullptr;
    const CUdeviceptr p = buffers[static_cast<size_t>(m.arg)];
    return reinterpret_cast<void*>(p + static_cast<CUdeviceptr>(m.offset.value(sizes)) * dtype_size(type));
  };
  Pointers p;
  p.a = at(call_.a, call_.in);
  p.b = at(call_.b, call_.in);
  p.c = at(call_.c, call_.out);
  p.d = at(call_.d, call_.out);
  p.aux = at(call_.aux, call_.out);
  if (call_.bias >= 0) p.bias = reinterpret_cast<void*>(buffers[static_cast<size_t>(call_.bias)]);
  // In place is for C alone, where it lies as D does.
  const bool aux_out = call_.epilogue == Epilogue::kGelu && p.aux;
  const bool c_in_place = p.c == p.d && call_.c.ld == call_.d.ld && call_.c.stride == call_.d.stride;
  for (const void* other : {p.a, p.b, p.bias, p.aux, c_in_place ? nullptr : p.c})
    if (other == p.d) return unsupported("cuBLASLt: a result lies where an operand does");
  for (const void* other : {p.a, p.b, p.bias, p.c})
    if (aux_out && other == p.aux) return unsupported("cuBLASLt: a result lies where an operand does");
  return p;
}

Status CublasLtMatmul::describe(cublasLtMatmulDesc_t desc, const Pointers& p,
                                std::span<const int64_t> sizes) const {
  const auto set = [&](cublasLtMatmulDescAttributes_t what, const auto& value) {
    return check(lt_->desc_set(desc, what, &value, sizeof value), "describing a product");
  };
  // D' = B' A': what is first to us is second to it, and what lies transposed to us does to it.
  const cublasOperation_t first = call_.b.trans ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t second = call_.a.trans ? CUBLAS_OP_T : CUBLAS_OP_N;
  GC_CHECK(set(CUBLASLT_MATMUL_DESC_TRANSA, first));
  GC_CHECK(set(CUBLASLT_MATMUL_DESC_TRANSB, second));
  GC_CHECK(set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(call_)));
  if (p.bias) GC_CHECK(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias));
  if (!p.aux) return {};
  GC_CHECK(set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.aux));
  GC_CHECK(set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, call_.aux.ld.value(sizes)));
  return set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, call_.aux.stride.value(sizes));
}

Result<std::shared_ptr<const CublasLtMatmul::Plan>> CublasLtMatmul::search(const Pointers& p,
                                                                           std::span<const int64_t> sizes,
                                                                           uint64_t workspace_bytes) const {
  ++searches_;
  const int64_t m = call_.m.value(sizes), n = call_.n.value(sizes), k = call_.k.value(sizes);
  const int64_t batch = call_.batch.value(sizes);
  if (k == 0) return unsupported("cuBLASLt: sums of no products");
  if (batch > INT32_MAX) return unsupported("cuBLASLt: more matrices than it counts");
  if (call_.aux.arg >= 0 && (call_.aux.ld.value(sizes) % 8 != 0 || call_.aux.stride.value(sizes) % 8 != 0))
    return unsupported("cuBLASLt: gelu's input needs rows of a multiple of 8");
  auto plan = std::make_shared<Plan>();
  // Row-major rows are column-major columns.
  const auto layout = [&](const CublasLtCall::Matrix& x, DType type, int64_t rows, int64_t columns,
                          Plan::Layout& out) -> Status {
    if (x.trans) std::swap(rows, columns);
    if (x.ld.value(sizes) < columns) return unsupported("cuBLASLt: rows overlap");
    cublasLtMatrixLayout_t raw = nullptr;
    GC_CHECK(check(lt_->layout_create(&raw, cuda_type(type), static_cast<uint64_t>(columns),
                                      static_cast<uint64_t>(rows), x.ld.value(sizes)),
                   "a matrix"));
    out = Plan::Layout(raw, lt_->layout_destroy);
    const auto count = static_cast<int32_t>(batch);
    const int64_t stride = x.stride.value(sizes);
    GC_CHECK(
        check(lt_->layout_set(raw, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count), "a batch"));
    return check(lt_->layout_set(raw, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
                 "a batch");
  };
  GC_CHECK(layout(call_.a, call_.in, m, k, plan->a));
  GC_CHECK(layout(call_.b, call_.in, k, n, plan->b));
  GC_CHECK(layout(call_.d, call_.out, m, n, plan->d));
  GC_CHECK(layout(p.c ? call_.c : call_.d, call_.out, m, n, plan->c));

  cublasLtMatmulDesc_t desc = nullptr;
  const cudaDataType_t scale = call_.in == DType::kF64 ? CUDA_R_64F : CUDA_R_32F;
  GC_CHECK(check(lt_->desc_create(&desc, compute_type(call_), scale), "describing a product"));
  const std::unique_ptr<std::remove_pointer_t<cublasLtMatmulDesc_t>, decltype(lt_->desc_destroy)> owned_desc(
      desc, lt_->desc_destroy);
  GC_CHECK(describe(desc, p, sizes));
  cublasLtMatmulPreference_t preference = nullptr;
  GC_CHECK(check(lt_->preference_create(&preference), "preferences"));
  const std::unique_ptr<std::remove_pointer_t<cublasLtMatmulPreference_t>, decltype(lt_->preference_destroy)>
      owned_preference(preference, lt_->preference_destroy);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
    return check(lt_->preference_set(preference, what, &value, sizeof value), "preferences");
  };
  GC_CHECK(prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(workspace_bytes)));
  GC_CHECK(
      prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}));
  GC_CHECK(prefer(CUBLASLT_MATMUL_PREF_IMPL_MASK, allowed_arithmetic(call_)));
  GC_CHECK(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.b)));
  GC_CHECK(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.a)));
  GC_CHECK(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(p.c ? p.c : p.d)));
  GC_CHECK(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p.d)));

  cublasLtMatmulHeuristicResult_t found[kCandidates] = {};
  int count = 0;
  GC_CHECK(check(lt_->heuristic(lt_->handle, desc, plan->b.get(), plan->a.get(), plan->c.get(), plan->d.get(),
                                preference, kCandidates, found, &count),
                 "no algorithm"));
  for (int i = 0; i < count; ++i)
    if (found[i].state == CUBLAS_STATUS_SUCCESS && found[i].workspaceSize <= workspace_bytes) {
      plan->algorithm = found[i].algo;
      return std::shared_ptr<const Plan>(std::move(plan));
    }
  return unsupported(fmt::format("cuBLASLt: no algorithm ({})", call_.to_string()));
}

Result<std::shared_ptr<const CublasLtMatmul::Plan>> CublasLtMatmul::plan(const Pointers& p,
                                                                         std::span<const int64_t> sizes,
                                                                         uint64_t workspace_bytes) const {
  std::vector<int64_t> key(sizes.begin(), sizes.end());
  key.push_back(static_cast<int64_t>(workspace_bytes));
  for (const void* x : {p.a, p.b, p.c, p.d, p.bias, p.aux}) key.push_back(alignment(x));
  const std::lock_guard guard(mutex_);
  if (const auto it = plans_.find(key); it != plans_.end()) return it->second;
  if (plans_.size() >= kMaxPlans) plans_.clear();
  return plans_.emplace(std::move(key), search(p, sizes, workspace_bytes)).first->second;
}

Status CublasLtMatmul::prepare(std::span<const int64_t> sizes, uint64_t workspace_bytes) const {
  for (const CallSize* s : {&call_.m, &call_.n, &call_.batch})
    if (s->value(sizes) == 0) return {};
  // never looked at, and all different
  const int last = std::max({call_.a.arg, call_.b.arg, call_.c.arg, call_.d.arg, call_.aux.arg, call_.bias});
  std::vector<CUdeviceptr> addresses(static_cast<size_t>(last) + 1);
  for (size_t i = 0; i < addresses.size(); ++i) addresses[i] = (i + 1) * 256;
  GC_TRY(const Pointers p, pointers(addresses, sizes));
  GC_TRY(const auto ready, plan(p, sizes, workspace_bytes));
  return {};
}

Status CublasLtMatmul::run(CUstream stream, std::span<const CUdeviceptr> buffers,
                           std::span<const int64_t> sizes, CUdeviceptr workspace,
                           uint64_t workspace_bytes) const {
  for (const CallSize* s : {&call_.m, &call_.n, &call_.batch})
    if (s->value(sizes) == 0) return {};
  GC_TRY(const Pointers p, pointers(buffers, sizes));
  GC_TRY(const std::shared_ptr<const Plan> plan, this->plan(p, sizes, workspace_bytes));
  cublasLtMatmulDesc_t desc = nullptr;
  const bool f64 = call_.in == DType::kF64;
  GC_CHECK(check(lt_->desc_create(&desc, compute_type(call_), f64 ? CUDA_R_64F : CUDA_R_32F),
                 "describing a product"));
  const std::unique_ptr<std::remove_pointer_t<cublasLtMatmulDesc_t>, decltype(lt_->desc_destroy)> owned(
      desc, lt_->desc_destroy);
  GC_CHECK(describe(desc, p, sizes));
  const double scales64[2] = {call_.alpha, call_.beta};
  const float scales32[2] = {static_cast<float>(call_.alpha), static_cast<float>(call_.beta)};
  const void* alpha = f64 ? static_cast<const void*>(&scales64[0]) : &scales32[0];
  const void* beta = f64 ? static_cast<const void*>(&scales64[1]) : &scales32[1];
  return check(lt_->matmul(lt_->handle, desc, alpha, p.b, plan->b.get(), p.a, plan->a.get(), beta,
                           p.c ? p.c : p.d, plan->c.get(), p.d, plan->d.get(), &plan->algorithm,
                           reinterpret_cast<void*>(workspace), workspace_bytes, stream),
               "a product");
}

}  // namespace graphc
