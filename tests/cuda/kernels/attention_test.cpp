// Attention and its gradient: tails, masks, layouts, 16-bit types, symbolic sizes; and NVRTC's opinion of the
// kernels, with spills and local memory as errors.
#include "backends/cuda/compile.h"
#include "backends/cuda/emit_cuda.h"
#include "backends/cuda/exec/libraries.h"
#include "backends/cuda/nvrtc.h"
#include "tests/cuda/kernels/kernel_case.h"

namespace graphc::cuda {
namespace {

struct Form {
  Shape batch = {2, 3};
  Dim t = 5, s = 5;
  int64_t e = 8, v = 8;
  bool causal = false;
  double scale = 0;
  DType type = DType::kF32;
  DType mask_type = DType::kF32;
  std::optional<Shape> mask;
};

// A region of attention or its gradient, with q, k, v and the rest as operands.
struct AttentionCase : KernelCase {
  AttentionCase(const Form& f, bool gradient) : KernelCase("attention"), form(f) {
    auto with = [&](std::vector<Dim> more) {
      Shape s = f.batch;
      s.insert(s.end(), more.begin(), more.end());
      return s;
    };
    std::vector<Value*> operands{arg({f.type, with({f.t, f.e})}), arg({f.type, with({f.s, f.e})}),
                                 arg({f.type, with({f.s, f.v})})};
    if (gradient) {
      operands.push_back(arg({f.type, with({f.t, f.v})}));
      operands.push_back(f32(with({f.t})));
      operands.push_back(f32(with({f.t})));
    }
    if (f.mask) operands.push_back(arg({f.mask_type, *f.mask}));
    core = b.create_node(gradient ? ops::attention_grad : ops::attention, operands,
                         {{"causal", f.causal}, {"scale", f.scale}});
  }
  AttentionCase& all() {
    for (const auto& r : core->results) result(r.get());
    return *this;
  }
  Form form;
  Node* core;
};

void both(const Form& f, const Sizes& sizes = {}) {
  for (bool gradient : {false, true}) {
    SCOPED_TRACE(gradient ? "gradient" : "forward");
    AttentionCase c(f, gradient);
    c.all();
    c.tolerance = 2e-5;
    c.check(sizes);
  }
}

TEST(CudaAttention, SmallAndPlain) { both({}); }
TEST(CudaAttention, Causal) { both({.causal = true}); }
TEST(CudaAttention, CausalOverTiles) {
  both({.batch = {1, 2}, .t = 75, .s = 75, .e = 16, .v = 16, .causal = true});
}
TEST(CudaAttention, MoreQueriesThanKeys) { both({.batch = {2}, .t = 70, .s = 33, .causal = true}); }
TEST(CudaAttention, MoreKeysThanQueries) { both({.batch = {2}, .t = 7, .s = 67, .causal = true}); }
TEST(CudaAttention, OneQuery) { both({.t = 1, .s = 40}); }
TEST(CudaAttention, NoBatch) { both({.batch = {}, .t = 9, .s = 11}); }
TEST(CudaAttention, OddVectors) { both({.batch = {2}, .t = 34, .s = 37, .e = 5, .v = 7, .scale = 0.3}); }
TEST(CudaAttention, VectorsOfOne) { both({.batch = {2}, .t = 34, .s = 37, .e = 1, .v = 1}); }
TEST(CudaAttention, GptHeads) { both({.batch = {1, 2}, .t = 65, .s = 65, .e = 64, .v = 64, .causal = true}); }
TEST(CudaAttention, UnequalVectors) { both({.batch = {2}, .t = 35, .s = 40, .e = 24, .v = 40}); }
TEST(CudaAttention, LongVectors) {
  both({.batch = {1}, .t = 35, .s = 40, .e = 128, .v = 128, .causal = true});
  both({.batch = {1}, .t = 35, .s = 40, .e = 80, .v = 96});
  both({.batch = {1}, .t = 20, .s = 18, .e = 127, .v = 121});
}
TEST(CudaAttention, BoolMask) {
  both({.t = 6, .s = 40, .mask_type = DType::kBool, .mask = Shape{2, 1, 6, 40}});
}
TEST(CudaAttention, AddedMask) {
  both({.t = 36, .s = 35, .scale = 0.5, .mask = Shape{36, 35}});
  both({.t = 36, .s = 35, .causal = true, .mask = Shape{3, 1, 35}});
}
TEST(CudaAttention, Bf16AndF16) {
  both({.batch = {2}, .t = 34, .s = 34, .e = 16, .v = 16, .causal = true, .type = DType::kBF16});
  both({.batch = {2},
        .t = 34,
        .s = 34,
        .e = 16,
        .v = 16,
        .type = DType::kF16,
        .mask_type = DType::kF16,
        .mask = Shape{34, 34}});
}
TEST(CudaAttention, SymbolicSizes) {
  const Dim n = Dim::symbol("N"), t = Dim::symbol("T"), s = Dim::symbol("S");
  const Form f{.batch = {n, 2}, .t = t, .s = s, .e = 16, .v = 16};
  both(f, {{"N", 2}, {"T", 3}, {"S", 70}});
  both(f, {{"N", 1}, {"T", 65}, {"S", 1}});
  both(f, {{"N", 0}, {"T", 65}, {"S", 1}});
  Form causal = f;
  causal.causal = true;
  causal.s = t;
  causal.batch = {n, 2};
  both(causal, {{"N", 2}, {"T", 67}});
}

// Heads split from one projection, the output merged: as GPT-2 has it.
TEST(CudaAttention, HeadsByIndexMaps) {
  const Dim n = Dim::symbol("N"), t = Dim::symbol("T");
  for (bool gradient : {false, true}) {
    SCOPED_TRACE(gradient);
    KernelCase c("attention");
    Value* qkv = c.b.transpose(c.f32({n, t, 3, 4, 16}), {2, 0, 3, 1, 4});
    std::vector<Value*> operands;
    for (int i = 0; i < 3; ++i) operands.push_back(c.b.reshape(c.b.slice(qkv, 0, i, i + 1), {n, 4, t, 16}));
    if (gradient) {
      operands.push_back(c.b.transpose(c.f32({n, t, 4, 16}), {0, 2, 1, 3}));
      operands.push_back(c.f32({n, 4, t}));
      operands.push_back(c.f32({n, 4, t}));
    }
    Node* core =
        c.b.create_node(gradient ? ops::attention_grad : ops::attention, operands, {{"causal", true}});
    if (gradient) {
      std::vector<Value*> parts;
      for (int i = 0; i < 3; ++i) parts.push_back(c.b.reshape(core->result(i), {1, n, 4, t, 16}));
      c.result(c.b.transpose(c.b.concat(parts, 0), {1, 3, 0, 2, 4}));
    } else {
      c.result(c.b.transpose(core->result(0), {0, 2, 1, 3}));
      c.result(core->result(1));
    }
    c.tolerance = 2e-5;
    c.check({{"N", 2}, {"T", 37}});
  }
}

TEST(CudaAttention, KeysOfSharedHeadsAndAnEpilogue) {
  KernelCase c("attention");
  Value *q = c.f32({2, 6, 10, 8}), *kv = c.f32({2, 2, 1, 12, 8}), *rest = c.f32({2, 6, 10, 8});
  Value* shared = c.b.reshape(c.b.expand(kv, {2, 2, 3, 12, 8}), {2, 6, 12, 8});
  Value* y = c.b.create_node(ops::attention, {q, shared, shared}, {})->result(0);
  c.result(c.b.add(y, rest));
  c.check();
}

TEST(CudaAttention, SomeGradientsOnly) {
  for (int only : {0, 1, 2}) {
    AttentionCase c({.batch = {2}, .t = 12, .s = 9}, true);
    c.result(c.core->result(only));
    c.tolerance = 2e-5;
    c.check();
  }
}

TEST(CudaAttention, WhatItDoesNotTake) {
  auto target = CudaTarget::parse("h200");
  for (const Form& f : {Form{.e = 129}, Form{.v = 200}, Form{.type = DType::kF64}, Form{.e = 8, .v = 300}}) {
    if (f.type == DType::kF64) {
      KernelCase c("attention");
      Value* x = c.arg({DType::kF64, {2, 4, 8}});
      c.result(c.b.create_node(ops::attention, {x, x, x}, {})->result(0));
      EXPECT_FALSE(lower_region(c.func(), {*target, "k"}).ok());
      continue;
    }
    AttentionCase c(f, false);
    c.all();
    auto r = lower_region(c.func(), {*target, "k"});
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.error().code, ErrorCode::kUnsupported);
  }
}

TEST(CudaAttention, CompilesWithoutSpills) {
#ifdef GRAPHC_STANDIN
  GTEST_SKIP() << "the stand-in knows no registers";
#endif
  if (!CudaLibraries::get().nvrtc.loaded()) GTEST_SKIP() << "no NVRTC";
  const Dim n = Dim::symbol("N"), t = Dim::symbol("T");
  auto target = CudaTarget::parse("h200");
  for (const Form& f : {Form{.batch = {8, 12}, .t = 1024, .s = 1024, .e = 64, .v = 64, .causal = true},
                        Form{.batch = {n, 12}, .t = t, .s = t, .e = 64, .v = 64, .causal = true},
                        Form{.batch = {n}, .t = t, .s = t, .e = 128, .v = 128, .mask = Shape{t, t}},
                        Form{.batch = {n}, .t = t, .s = t, .e = 80, .v = 80, .type = DType::kBF16}})
    for (bool gradient : {false, true}) {
      AttentionCase c(f, gradient);
      c.all();
      auto p = region_program(c.func(), *target);
      ASSERT_TRUE(p.ok()) << p.error().message;
      for (const char* arch : {"sm_80", "sm_90a", "sm_100", "sm_120"}) {
        auto binary = compile_cuda({"attention.cu", p->text}, {.arch = arch, .strict = true});
        ASSERT_TRUE(binary.ok()) << arch << "\n"
                                 << binary.error().message << "\n"
                                 << p->text.substr(p->kernels_at);
        EXPECT_EQ(binary->log, "") << arch;
      }
    }
}

}  // namespace
}  // namespace graphc::cuda
