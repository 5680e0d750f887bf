// What cuBLASLt is asked to do for a region, and why it isn't asked.
#include <gtest/gtest.h>

#include "backends/cuda/compile.h"
#include "backends/cuda/exec/cublaslt_call.h"
#include "backends/cuda/libraries/library_calls.h"
#include "tests/cuda/libraries/matmul_regions.h"

namespace graphc::cuda {
namespace {

// The call's text with its sizes written in: "m=N*T".
std::string call_of(const MatmulRegion& r) {
  const auto call = cublaslt_call(r.func());
  if (!call.ok()) return "refused: " + call.error().message;
  const auto parsed = CublasLtCall::parse(call->call, call->args.size(), call->sizes.size());
  EXPECT_TRUE(parsed.ok()) << parsed.error().message;
  if (parsed.ok()) {
    EXPECT_EQ(parsed->to_string(), call->call);
  }
  std::string s = call->call;
  for (size_t i = call->sizes.size(); i-- > 0;) {
    const std::string word = "$" + std::to_string(i);
    for (size_t at; (at = s.find(word)) != std::string::npos;)
      s.replace(at, word.size(), call->sizes[i].to_string());
  }
  for (size_t i = call->args.size(); i-- > 0;) {
    const std::string word = "%" + std::to_string(i);
    const KernelArg& a = call->args[i];
    const std::string name = (a.kind == KernelArgKind::kResult ? "r" : "a") + std::to_string(a.index);
    for (size_t at; (at = s.find(word)) != std::string::npos;) s.replace(at, word.size(), name);
  }
  return s;
}

const Dim N = Dim::symbol("N"), T = Dim::symbol("T");

TEST(CublasLtPlan, LinearLayer) {
  MatmulRegion r;
  Value *x = r.f32({N, T, 768}), *w = r.f32({2304, 768}), *b = r.f32({2304});
  r.result(r.b.add(r.b.dot_general(x, w, {}, {}, {2}, {1}), b));
  EXPECT_EQ(
      call_of(r),
      "matmul in=f32 out=f32 m=N*T n=2304 k=768 batch=1 a=a0 a_ld=768 b=a1 b_ld=768 b_trans=1 d=r0 d_ld=2304 "
      "bias=a2");
}

TEST(CublasLtPlan, ResidualScaleAndActivation) {
  MatmulRegion r;
  Value *x = r.f32({N, 64}), *w = r.f32({64, 32}), *b = r.f32({1, 32}), *res = r.f32({N, 32});
  Value* y = r.b.add(r.b.mul(r.b.dot_general(x, w, {}, {}, {1}, {0}), 0.5), b);
  r.result(r.b.create(ops::relu, {r.b.sub(y, r.b.mul(res, 2.0))}));
  EXPECT_EQ(call_of(r),
            "matmul in=f32 out=f32 m=N n=32 k=64 batch=1 a=a0 a_ld=64 b=a1 b_ld=32 c=a3 c_ld=32 d=r0 d_ld=32 "
            "alpha=0.5 "
            "beta=-2 bias=a2 epilogue=relu");
}

TEST(CublasLtPlan, WeightGradientAddsToWhatIsThere) {
  MatmulRegion r;
  Value *dy = r.f32({N, T, 2304}), *x = r.f32({N, T, 768}), *g = r.f32({2304, 768});
  r.result(r.b.add(r.b.dot_general(dy, x, {}, {}, {0, 1}, {0, 1}), g));
  EXPECT_EQ(call_of(r),
            "matmul in=f32 out=f32 m=2304 n=768 k=N*T batch=1 a=a0 a_ld=2304 a_trans=1 b=a1 b_ld=768 c=a2 "
            "c_ld=768 d=r0 "
            "d_ld=768 beta=1");
}

TEST(CublasLtPlan, BatchesAndViews) {
  MatmulRegion r;  // q k' of attention, the mask shared by the batch
  Value *q = r.f32({N, 12, T, 64}), *k = r.f32({N, 12, T, 64}), *mask = r.f32({T, T});
  r.result(r.b.add(r.b.mul(r.b.dot_general(q, k, {0, 1}, {0, 1}, {3}, {3}), 0.125), mask));
  EXPECT_EQ(call_of(r),
            "matmul in=f32 out=f32 m=T n=T k=64 batch=12*N a=a0 a_ld=64 a_stride=64*T b=a1 b_ld=64 b_trans=1 "
            "b_stride=64*T c=a2 c_ld=T d=r0 d_ld=T d_stride=T*T alpha=0.125 beta=1");

  MatmulRegion heads;  // heads of one sequence as slices of its rows, one key for all of them
  Value *qkv = heads.f32({T, 3, 12, 64}), *one = heads.f32({T, 64});
  Value* h = heads.b.transpose(heads.b.reshape(heads.b.slice(qkv, 1, 1, 2), {T, 12, 64}), {1, 0, 2});
  heads.result(heads.b.dot_general(h, heads.b.expand(one, {12, T, 64}), {0}, {0}, {2}, {2}));
  EXPECT_EQ(call_of(heads), "refused: an operand is a reshape of something with gaps or in another order");

  MatmulRegion sliced;
  Value *all = sliced.f32({T, 36, 64}), *key = sliced.f32({T, 64});
  h = sliced.b.transpose(sliced.b.slice(all, 1, 12, 24), {1, 0, 2});
  sliced.result(sliced.b.dot_general(h, sliced.b.expand(key, {12, T, 64}), {0}, {0}, {2}, {2}));
  EXPECT_EQ(call_of(sliced),
            "matmul in=f32 out=f32 m=T n=T k=64 batch=12 a=a0 a_ld=2304 a_stride=64 a_offset=768 b=a1 "
            "b_ld=64 b_trans=1 "
            "d=r0 d_ld=T d_stride=T*T");

  MatmulRegion apart;
  Value *p = apart.f32({N, T, 12, 64}), *v = apart.f32({N, 12, T, 64});
  apart.result(apart.b.dot_general(apart.b.transpose(p, {0, 2, 1, 3}), v, {0, 1}, {0, 1}, {3}, {3}));
  EXPECT_EQ(call_of(apart), "refused: operand a's batch axes aren't equally spaced in memory");
}

TEST(CublasLtPlan, Vectors) {
  MatmulRegion r;
  Value *x = r.f32({64}), *w = r.f32({32, 64});
  r.result(r.b.dot_general(w, x, {}, {}, {1}, {0}));
  EXPECT_EQ(call_of(r),
            "matmul in=f32 out=f32 m=32 n=1 k=64 batch=1 a=a1 a_ld=64 b=a0 b_ld=64 b_trans=1 d=r0 d_ld=1");
}

TEST(CublasLtPlan, GeluAndItsInput) {
  MatmulRegion r;
  Value *x = r.arg(DType::kBF16, {N, 64}), *w = r.arg(DType::kBF16, {32, 64}), *b = r.arg(DType::kBF16, {32});
  Value* pre = r.b.add(r.b.dot_general(x, w, {}, {}, {1}, {1}), b);
  r.result(pre);
  r.result(r.gelu(pre));
  EXPECT_EQ(call_of(r),
            "matmul in=bf16 out=bf16 m=N n=32 k=64 batch=1 a=a0 a_ld=64 b=a1 b_ld=64 b_trans=1 d=r1 d_ld=32 "
            "bias=a2 "
            "epilogue=gelu aux=r0 aux_ld=32");
}

TEST(CublasLtPlan, CastsAroundTheProduct) {
  MatmulRegion r;  // f32 sums of bf16 products, rounded once
  Value *x = r.arg(DType::kBF16, {N, 64}), *w = r.arg(DType::kBF16, {64, 32});
  Value* y = r.b.dot_general(r.b.cast(x, DType::kF32), r.b.cast(w, DType::kF32), {}, {}, {1}, {0});
  r.result(r.b.cast(r.b.create(ops::relu, {y}), DType::kBF16));
  EXPECT_EQ(
      call_of(r),
      "matmul in=bf16 out=bf16 m=N n=32 k=64 batch=1 a=a0 a_ld=64 b=a1 b_ld=32 d=r0 d_ld=32 epilogue=relu");
}

TEST(CublasLtPlan, GeluGradientHoweverItIsWritten) {
  const auto with = [](bool tanh, bool rearranged) {
    auto r = std::make_unique<MatmulRegion>();
    Value *dy = r->f32({N, 64}), *w = r->f32({64, 32}), *x = r->f32({N, 32});
    const Expr at = Expr::arg(0, DType::kF32);
    Attrs attrs = {{"approx", Attr(tanh ? "tanh" : "none")}};
    Expr slope = derivative(ops::gelu.scalar(std::span(&at, 1), attrs), 0);
    if (rearranged) {
      const Expr t = graphc::tanh(0.7978845608028654 * at + 0.035677408136300125 * at * at * at);
      slope = 0.5 * ((1.0 + t) + at * (1.0 - t * t) * (0.7978845608028654 + 0.10703222440890037 * at * at));
    }
    r->result(r->b.mul(r->b.from_expr(slope, {x}), r->b.dot_general(dy, w, {}, {}, {1}, {0})));
    return r;
  };
  const std::string want =
      "matmul in=f32 out=f32 m=N n=32 k=64 batch=1 a=a0 a_ld=64 b=a1 b_ld=32 d=r0 d_ld=32 epilogue=dgelu "
      "aux=a2 "
      "aux_ld=32";
  EXPECT_EQ(call_of(*with(true, false)), want);
  EXPECT_EQ(call_of(*with(true, true)), want);
  EXPECT_EQ(call_of(*with(false, false)),
            "refused: the product is multiplied by a tensor that isn't gelu's gradient");
}

TEST(CublasLtPlan, RefusalsSayWhy) {
  const auto refusal = [](auto&& build) {
    MatmulRegion r;
    Value *x = r.f32({N, 64}), *w = r.f32({64, 36});
    build(r, r.b.dot_general(x, w, {}, {}, {1}, {0}));
    return call_of(r);
  };
  EXPECT_EQ(refusal([](MatmulRegion& r, Value* y) { r.result(r.gelu(y, "none")); }),
            "refused: gelu by the error function: cuBLASLt's is the tanh form");
  EXPECT_EQ(refusal([](MatmulRegion& r, Value* y) { r.result(r.b.exp(y)); }),
            "refused: it has no epilogue with exp");
  EXPECT_EQ(refusal([](MatmulRegion& r, Value* y) {
              r.result(r.b.add(y, r.f32({N, 1})));
            }),
            "refused: f32[N, 1] is added: neither a result's shape nor one value a column");
  EXPECT_EQ(
      refusal([](MatmulRegion& r, Value* y) { r.result(r.b.add(r.b.add(y, r.f32({36})), r.f32({36}))); }),
      "refused: two biases are added, one is possible");
  EXPECT_EQ(refusal([](MatmulRegion& r, Value* y) {
              r.result(r.b.add(r.b.add(y, r.f32({N, 36})), r.f32({N, 36})));
            }),
            "refused: two tensors are added, one is possible");
  EXPECT_EQ(refusal([](MatmulRegion& r, Value* y) { r.result(r.b.add(y, r.b.mul(r.f32({36}), 2.0))); }),
            "refused: the bias is scaled");
  EXPECT_EQ(refusal([](MatmulRegion& r, Value* y) {
              r.result(y);
              r.result(r.b.create(ops::relu, {y}));
            }),
            "refused: what goes into relu is wanted as well: cuBLASLt gives its signs as bits");
  EXPECT_EQ(refusal([](MatmulRegion& r, Value* y) {
              r.result(y);
              r.result(r.gelu(y));
            }),
            "refused: gelu's input needs rows of a multiple of 8, not 36");
  EXPECT_EQ(refusal([](MatmulRegion& r, Value* y) {
              r.result(y);
              r.result(r.b.exp(y));
            }),
            "refused: it has no epilogue with exp");
  EXPECT_EQ(refusal([](MatmulRegion& r, Value* y) { r.result(r.b.cast(y, DType::kBF16)); }),
            "refused: f32 operands and a result of bf16 aren't among the types that it combines");
  MatmulRegion computed;
  Value *x = computed.f32({N, 64}), *w = computed.f32({64, 36});
  computed.result(computed.b.dot_general(computed.b.exp(x), w, {}, {}, {1}, {0}));
  EXPECT_EQ(call_of(computed), "refused: an operand is computed in the region, by exp");
  MatmulRegion ints;
  Value *i = ints.arg(DType::kI32, {N, 64}), *j = ints.arg(DType::kI32, {64, 36});
  ints.result(ints.b.dot_general(i, j, {}, {}, {1}, {0}));
  EXPECT_EQ(call_of(ints),
            "refused: i32 operands and a result of i32 aren't among the types that it combines");
}

// A compiled region carries the call, or the reason, beside its kernels.
TEST(CublasLtPlan, BelongsToTheExecutable) {
  MatmulRegion r;
  Value *x = r.f32({N, 64}), *w = r.f32({64, 32});
  Value* y = r.b.dot_general(x, w, {}, {}, {1}, {0});
  r.result(y);
  const CudaTarget target = *CudaTarget::parse("h200");
  const auto p = region_program(r.func(), target);
  ASSERT_TRUE(p.ok()) << p.error().message;
  EXPECT_FALSE(p->blob.steps.empty());
  ASSERT_EQ(p->blob.calls.size(), 1u);
  EXPECT_EQ(p->blob.calls[0].last_step, p->blob.steps.size());
  EXPECT_EQ(p->blob.calls[0].workspace_bytes.evaluate(std::vector<int64_t>{5}), 32 << 20);
  EXPECT_EQ(p->blob.calls[0].sizes[0].evaluate(std::vector<int64_t>{5}), 5);
  MatmulRegion no;
  no.result(no.b.exp(no.b.dot_general(no.f32({N, 64}), no.f32({64, 32}), {}, {}, {1}, {0})));
  const auto q = region_program(no.func(), target);
  ASSERT_TRUE(q.ok()) << q.error().message;
  EXPECT_TRUE(q->blob.calls.empty());
  ASSERT_FALSE(q->lowered.not_called.empty());
  EXPECT_EQ(q->lowered.not_called[0], "cublaslt: it has no epilogue with exp");
}

// An epilogue that cuBLASLt lacks is a kernel after the product, where sums are long.
TEST(CublasLtPlan, EpilogueApart) {
  const auto program = [](int64_t k) {
    auto r = std::make_unique<MatmulRegion>();
    Value *x = r->f32({N, k}), *w = r->f32({k, 32});
    Value* y = r->b.dot_general(x, w, {}, {}, {1}, {0});
    r->result(r->b.mul(y, r->f32({N, 32})));
    return region_program(r->func(), *CudaTarget::parse("h200"));
  };
  const auto p = program(512);
  ASSERT_TRUE(p.ok()) << p.error().message;
  ASSERT_EQ(p->blob.calls.size(), 1u);
  const KernelBlob::LibraryCall& c = p->blob.calls[0];
  EXPECT_EQ(c.call, "matmul in=f32 out=f32 m=$0 n=32 k=512 batch=1 a=%0 a_ld=512 b=%1 b_ld=32 d=%2 d_ld=32");
  ASSERT_EQ(c.after_steps, 1u);
  ASSERT_EQ(c.last_step + 1, p->blob.steps.size());
  const KernelBlob::Step& after = p->blob.steps.back();
  EXPECT_EQ(after.kernel, "k_after");
  const KernelBlob::Arg& product = c.args[2];
  EXPECT_EQ(product.kind, KernelBlob::kWorkspace);
  EXPECT_EQ(p->blob.workspace_bytes[product.index].evaluate(std::vector<int64_t>{5}), 5 * 32 * 4);
  bool reads = false;
  for (const KernelBlob::Arg& a : after.args) reads |= a.kind == product.kind && a.index == product.index;
  EXPECT_TRUE(reads);
  EXPECT_EQ(p->lowered.not_called[0],
            "cublaslt: the product is multiplied by a tensor that isn't gelu's gradient");
  EXPECT_TRUE(
      library_notes(p->lowered)
          .starts_with(
              "// steps 0..0: cublaslt does them, where it is, then steps 1..1 run\n"
              "//   matmul in=f32 out=f32 m=N n=32 k=512 batch=1 a=operand0 a_ld=512 b=operand1 b_ld=32 "
              "d=workspace0 d_ld=32\n"
              "// cublaslt doesn't: the product is multiplied by a tensor that isn't gelu's gradient\n"))
      << library_notes(p->lowered);
  const auto q = program(64);
  ASSERT_TRUE(q.ok()) << q.error().message;
  EXPECT_TRUE(q->blob.calls.empty());
}

TEST(CublasLtCall, HostileTextIsRefused) {
  const std::string good =
      "matmul in=f32 out=f32 m=$0 n=128 k=784 batch=1 a=%0 a_ld=784 b=%1 b_ld=784 b_trans=1 d=%2 d_ld=128";
  ASSERT_TRUE(CublasLtCall::parse(good, 3, 1).ok());
  EXPECT_FALSE(CublasLtCall::parse(good, 2, 1).ok());
  EXPECT_FALSE(CublasLtCall::parse(good, 3, 0).ok());
  for (const char* bad : {" x=1", " m=3", " epilogue=silu", " epilogue=dgelu", " d_trans=1", " alpha=nan",
                          " a", " aux=%2 aux_ld=128", " bias=3", " a_offset=-1"})
    EXPECT_FALSE(CublasLtCall::parse(good + bad, 3, 1).ok()) << bad;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string cut = good.substr(0, i);
    const auto r = CublasLtCall::parse(cut, 3, 1);
    EXPECT_TRUE(!r.ok() || cut.find(" d_ld=1") != std::string::npos) << cut;
  }
}

}  // namespace
}  // namespace graphc::cuda
