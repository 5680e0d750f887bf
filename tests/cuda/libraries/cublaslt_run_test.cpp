// cuBLASLt's calls, as planned from regions, run by the stand-in and judged by the interpreter.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "backends/cuda/exec/cublaslt.h"
#include "backends/cuda/libraries/library_calls.h"
#include "ir/interpret.h"
#include "tests/cuda/libraries/matmul_regions.h"
#include "tests/cuda/standin/cuda_api.h"

namespace graphc::cuda {
namespace {

using Sizes = std::map<std::string, int64_t, std::less<>>;
const Dim N = Dim::symbol("N"), T = Dim::symbol("T");

unsigned long long count(const char* what) {
  auto* f = reinterpret_cast<unsigned long long (*)(const char*)>(
      CudaLibraries::get().cublaslt.symbol("standin_cublaslt_count"));
  return f ? f(what) : 0;
}

// A planned region with buffers on the stand-in's card.
class Product {
 public:
  explicit Product(MatmulRegion& r) : region_(r) {
    auto lt = CublasLt::create(CudaLibraries::get());
    EXPECT_TRUE(lt.ok()) << lt.error().message;
    auto call = cublaslt_call(r.func());
    EXPECT_TRUE(call.ok()) << call.error().message;
    if (!lt.ok() || !call.ok()) return;
    call_ = *std::move(call);
    auto parsed = CublasLtCall::parse(call_.call, call_.args.size(), call_.sizes.size());
    EXPECT_TRUE(parsed.ok()) << parsed.error().message;
    product = std::make_unique<CublasLtMatmul>(*lt, *parsed);
    EXPECT_EQ(CUDA(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  }
  ~Product() {
    free_buffers();
    if (stream) CUDA(cuStreamDestroy)(stream);
  }

  // `shift` bytes are what operands and results begin after a boundary of 256.
  Status run(const Sizes& sizes, uint64_t shift = 0) {
    free_buffers();
    std::mt19937_64 rng(7);
    in.clear();
    std::unique_ptr<Module> bound = clone(region_.module());
    Func* func = bound->find_func("contraction");
    EXPECT_TRUE(bind_symbols(*func, sizes).ok());
    for (const auto& a : func->body.args) {
      HostTensor t = HostTensor::zeros(a->type.dtype, *static_shape(a->type.shape));
      for (int64_t i = 0; i < t.size(); ++i) t.f[i] = std::uniform_real_distribution<double>(-1, 1)(rng);
      in.push_back(HostTensor::from_bytes(t.dtype, t.shape, t.to_bytes().data()));
    }
    VariableValues none;
    auto result = interpret(*bound, *func, in, none);
    EXPECT_TRUE(result.ok()) << result.error().message;
    want = *std::move(result);
    for (const HostTensor& t : in) operands_.push_back(put(t.to_bytes(), shift));
    for (const HostTensor& t : want)
      results_.push_back(put(std::vector<std::byte>(t.to_bytes().size(), std::byte{0xA5}), shift));
    workspace_ = put(std::vector<std::byte>(1 << 20), 0);
    sizes_ = sizes;
    return again();
  }
  // The same once more.
  Status again() {
    std::vector<CUdeviceptr> buffers;
    for (const KernelArg& a : call_.args)
      buffers.push_back(
          (a.kind == KernelArgKind::kOperand ? operands_ : results_)[static_cast<size_t>(a.index)]);
    if (in_place >= 0)
      buffers[static_cast<size_t>(product->call().d.arg)] = operands_[static_cast<size_t>(in_place)];
    std::vector<int64_t> values;
    for (const Dim& d : call_.sizes) values.push_back(d.evaluate(sizes_).value());
    return product->run(stream, buffers, values, workspace_, 1 << 20);
  }
  void spoil_results() {
    for (size_t r = 0; r < want.size(); ++r) {
      EXPECT_EQ(CUDA(cuMemsetD8Async)(results_[r], 0xA5, want[r].to_bytes().size(), stream), CUDA_SUCCESS);
    }
  }

  void compare(double tolerance) {
    ASSERT_EQ(CUDA(cuStreamSynchronize)(stream), CUDA_SUCCESS);
    for (size_t r = 0; r < want.size(); ++r) {
      std::vector<std::byte> bytes = want[r].to_bytes();
      if (bytes.empty()) continue;
      const CUdeviceptr from = in_place >= 0 ? operands_[static_cast<size_t>(in_place)] : results_[r];
      ASSERT_EQ(CUDA(cuMemcpyDtoH)(bytes.data(), from, bytes.size()), CUDA_SUCCESS);
      const HostTensor got = HostTensor::from_bytes(want[r].dtype, want[r].shape, bytes.data());
      for (int64_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got.f[i], want[r].f[i], tolerance * (1 + std::fabs(want[r].f[i])))
            << "result " << r << " at " << i;
    }
  }
  void check(const Sizes& sizes, double tolerance = 3e-6) {
    const Status s = run(sizes);
    ASSERT_TRUE(s.ok()) << s.error().message;
    compare(tolerance);
  }

  CUstream stream = nullptr;
  std::unique_ptr<CublasLtMatmul> product;
  std::vector<HostTensor> in, want;
  int in_place = -1;  // the operand that result 0 is written over

 private:
  CUdeviceptr put(const std::vector<std::byte>& bytes, uint64_t shift) {
    CUdeviceptr p = 0;
    EXPECT_EQ(CUDA(cuMemAlloc)(&p, bytes.size() + shift + 1), CUDA_SUCCESS);
    allocated_.push_back(p);
    if (!bytes.empty()) {
      EXPECT_EQ(CUDA(cuMemcpyHtoD)(p + shift, bytes.data(), bytes.size()), CUDA_SUCCESS);
    }
    return p + shift;
  }
  void free_buffers() {
    if (stream) CUDA(cuStreamSynchronize)(stream);
    for (const CUdeviceptr p : allocated_) CUDA(cuMemFree)(p);
    allocated_.clear();
    operands_.clear();
    results_.clear();
  }
  MatmulRegion& region_;
  RegionCall call_;
  Sizes sizes_;
  CUdeviceptr workspace_ = 0;
  std::vector<CUdeviceptr> allocated_, operands_, results_;
};

class CublasLtRun : public ::testing::Test {
 protected:
  CudaSession session;
};

TEST_F(CublasLtRun, EveryLayoutOfOperands) {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      MatmulRegion r;
      Value* a = r.f32(ta ? Shape{70, N} : Shape{N, 70});
      Value* b = r.f32(tb ? Shape{33, 70} : Shape{70, 33});
      r.result(r.b.dot_general(a, b, {}, {}, {ta ? 0 : 1}, {tb ? 1 : 0}));
      Product p(r);
      for (const int64_t n : {1, 5, 40}) p.check({{"N", n}});
    }
}

TEST_F(CublasLtRun, BatchesStridesAndOffsets) {
  MatmulRegion r;
  Value *q = r.f32({N, 3, T, 16}), *k = r.f32({N, 3, T, 16}), *mask = r.f32({T, T});
  r.result(r.b.add(r.b.mul(r.b.dot_general(q, k, {0, 1}, {0, 1}, {3}, {3}), 0.25), mask));
  Product(r).check({{"N", 2}, {"T", 9}});

  MatmulRegion heads;
  Value *all = heads.f32({T, 9, 16}), *key = heads.f32({T, 16});
  Value* h = heads.b.transpose(heads.b.slice(all, 1, 3, 6), {1, 0, 2});
  heads.result(heads.b.dot_general(h, heads.b.expand(key, {3, T, 16}), {0}, {0}, {2}, {2}));
  Product(heads).check({{"T", 7}});

  MatmulRegion vector;
  vector.result(vector.b.dot_general(vector.f32({T, 16}), vector.f32({16}), {}, {}, {1}, {0}));
  Product(vector).check({{"T", 7}});
}

TEST_F(CublasLtRun, EveryEpilogueInEveryType) {
  for (const DType type : {DType::kF32, DType::kF64, DType::kBF16, DType::kF16}) {
    SCOPED_TRACE(dtype_name(type));
    const double tolerance = type == DType::kF64   ? 1e-12
                             : type == DType::kF32 ? 3e-6
                             : type == DType::kF16 ? 3e-3
                                                   : 2e-2;
    for (const bool bias : {false, true})
      for (const bool residual : {false, true})
        for (const std::string act : {"", "relu", "gelu", "gelu+input"}) {
          SCOPED_TRACE(act + (bias ? " bias" : "") + (residual ? " residual" : ""));
          MatmulRegion r;
          Value* y = r.b.dot_general(r.arg(type, {N, 80}), r.arg(type, {24, 80}), {}, {}, {1}, {1});
          if (bias) y = r.b.add(y, r.arg(type, {24}));
          if (residual) y = r.b.add(r.arg(type, {N, 24}), r.b.mul(y, 0.5));
          if (bias && residual) {  // 0.5 * bias isn't to be had
            EXPECT_FALSE(cublaslt_call(r.func()).ok());
            break;
          }
          Value* z = act.empty() ? y : act == "relu" ? r.b.create(ops::relu, {y}) : r.gelu(y);
          r.result(z);
          if (act == "gelu+input") r.result(y);
          Product(r).check({{"N", 13}}, tolerance);
        }
    MatmulRegion r;
    Value *dy = r.arg(type, {N, 80}), *w = r.arg(type, {80, 24}), *x = r.arg(type, {N, 24});
    const Expr at = Expr::arg(0, type);
    const Expr slope = derivative(ops::gelu.scalar(std::span(&at, 1), {{"approx", Attr("tanh")}}), 0);
    r.result(r.b.mul(r.b.dot_general(dy, w, {}, {}, {1}, {0}), r.b.from_expr(slope, {x})));
    Product(r).check({{"N", 13}}, tolerance);
  }
}

TEST_F(CublasLtRun, LowTypesIntoF32) {
  MatmulRegion r;
  Value *x = r.arg(DType::kBF16, {N, 300}), *w = r.arg(DType::kBF16, {300, 24}), *b = r.f32({24});
  Value* y = r.b.dot_general(r.b.cast(x, DType::kF32), r.b.cast(w, DType::kF32), {}, {}, {1}, {0});
  r.result(r.b.add(y, b));
  Product(r).check({{"N", 13}});
}

// Sums of 4000 products: TF32's 10 bits, f16 sums, or partial sums in the result's type would be seen.
TEST_F(CublasLtRun, PrecisionIsKept) {
  MatmulRegion r;
  r.result(r.b.dot_general(r.f32({N, 4000}), r.f32({4000, 3}), {}, {}, {1}, {0}));
  Product(r).check({{"N", 4}}, 2e-6);
  MatmulRegion low;
  low.result(
      low.b.dot_general(low.arg(DType::kF16, {N, 4000}), low.arg(DType::kF16, {4000, 3}), {}, {}, {1}, {0}));
  Product p(low);
  ASSERT_TRUE(p.run({{"N", 64}}).ok());
  for (HostTensor& t : p.want) t = HostTensor::from_bytes(t.dtype, t.shape, t.to_bytes().data());
  p.compare(0);  // rounded once
}

TEST_F(CublasLtRun, AlgorithmsAreKeptForSizesAndAlignments) {
  MatmulRegion r;
  r.result(r.b.dot_general(r.f32({N, 70}), r.f32({70, 8}), {}, {}, {1}, {0}));
  Product p(r);
  p.check({{"N", 4}});
  p.check({{"N", 4}});
  EXPECT_EQ(p.product->searches(), 1);
  p.check({{"N", 5}});
  EXPECT_EQ(p.product->searches(), 2);
  // 12 bytes past a boundary: the algorithms for 256 wouldn't do
  const Status s = p.run({{"N", 4}}, 12);
  ASSERT_TRUE(s.ok()) << s.error().message;
  p.compare(3e-6);
  EXPECT_EQ(p.product->searches(), 3);
}

TEST_F(CublasLtRun, ResidualInPlaceOnlyWhereItMayBe) {
  MatmulRegion r;
  Value *x = r.f32({N, 24}), *w = r.f32({24, 24}), *res = r.f32({N, 24});
  r.result(r.b.add(r.b.dot_general(x, w, {}, {}, {1}, {0}), res));
  Product p(r);
  p.in_place = 2;
  p.check({{"N", 6}});
  p.in_place = 0;
  const Status s = p.run({{"N", 6}});
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(s.error().message, "cuBLASLt: a result lies where an operand does");
}

TEST_F(CublasLtRun, EmptySizes) {
  MatmulRegion r;
  r.result(r.b.dot_general(r.f32({N, T}), r.f32({T, 8}), {}, {}, {1}, {0}));
  Product p(r);
  EXPECT_TRUE(p.run({{"N", 0}, {"T", 4}}).ok());
  const Status s = p.run({{"N", 4}, {"T", 0}});
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().message, "cuBLASLt: sums of no products");
}

TEST_F(CublasLtRun, CapturedAndLaunchedTwice) {
  MatmulRegion r;
  Value *x = r.f32({N, 24}), *w = r.f32({24, 24}), *res = r.f32({N, 24});
  r.result(r.b.add(r.b.dot_general(x, w, {}, {}, {1}, {0}), res));
  Product p(r);
  p.check({{"N", 6}});  // memory is allocated before the capture
  EXPECT_EQ(CUDA(cuStreamBeginCapture)(p.stream, CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_SUCCESS);
  const auto before = count("matmul");
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  const Status s = p.again();
  ASSERT_TRUE(s.ok()) << s.error().message;
  EXPECT_EQ(count("matmul"), before + 1);
  ASSERT_EQ(CUDA(cuStreamEndCapture)(p.stream, &graph), CUDA_SUCCESS);
  ASSERT_EQ(CUDA(cuGraphInstantiateWithFlags)(&exec, graph, 0), CUDA_SUCCESS);
  for (int k = 0; k < 2; ++k) {
    p.spoil_results();
    ASSERT_EQ(CUDA(cuGraphLaunch)(exec, p.stream), CUDA_SUCCESS);
    p.compare(3e-6);
  }
  EXPECT_EQ(count("matmul"), before + 1);
  CUDA(cuGraphExecDestroy)(exec);
  CUDA(cuGraphDestroy)(graph);
}

TEST(CublasLtOpen, NeedsAContextAndTheLibrary) {
  ASSERT_EQ(CUDA(cuInit)(0), CUDA_SUCCESS);
  ASSERT_EQ(CUDA(cuCtxSetCurrent)(nullptr), CUDA_SUCCESS);
  const auto no_context = CublasLt::create(CudaLibraries::get());
  ASSERT_FALSE(no_context.ok());
  EXPECT_EQ(no_context.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(no_context.error().message.find("doesn't start: CUBLAS_STATUS_NOT_INITIALIZED"),
            std::string::npos);
  CudaLibraries none;
  none.cublaslt.problem = "cuBLASLt (libcublasLt.so.13) was not found";
  const auto missing = CublasLt::create(none);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().message, none.cublaslt.problem);
  CudaLibraries other;
  other.cublaslt = CudaLibraries::get().nvrtc;
  EXPECT_FALSE(CublasLt::create(other).ok());
}

}  // namespace
}  // namespace graphc::cuda
