#include "tests/backends/region_case.h"

namespace graphc {
namespace {

struct Gemm {
  int64_t m, k, n;
};

TEST(CpuContraction, GemmAllLayouts) {
  for (Gemm g : {Gemm{1, 1, 1},
                 {1, 5, 3},
                 {3, 7, 17},
                 {14, 64, 32},
                 {33, 100, 70},
                 {64, 300, 130},
                 {5, 784, 10},
                 {1, 300, 1},
                 {40, 1200, 20},
                 {2, 3, 500},
                 {300, 16, 50},
                 {100, 130, 70},
                 {130, 65, 16},
                 {97, 700, 33},
                 {20, 100, 35},
                 {150, 600, 20}})
    for (bool ta : {false, true})
      for (bool tb : {false, true}) {
        SCOPED_TRACE(::testing::Message()
                     << g.m << "x" << g.k << "x" << g.n << (ta ? " at" : "") << (tb ? " bt" : ""));
        RegionCase c("contraction");
        Value* a = c.f32(ta ? Shape{g.k, g.m} : Shape{g.m, g.k});
        Value* w = c.f32(tb ? Shape{g.n, g.k} : Shape{g.k, g.n});
        Value* y = c.b.dot_general(a, w, {}, {}, {ta ? 0 : 1}, {tb ? 1 : 0});
        c.result(y);
        c.check();
        if (HasFailure()) return;
      }
}

TEST(CpuContraction, EpilogueAndPrologue) {
  for (int64_t m : {1, 4, 50})
    for (int64_t k : {20, 700}) {
      SCOPED_TRACE(::testing::Message() << m << " " << k);
      RegionCase c("contraction");
      Value *x = c.f32({m, k}), *w = c.f32({90, k}), *bias = c.f32({90}), *res = c.f32({m, 90});
      Value* y = c.b.dot_general(c.b.mul(x, 0.5), w, {}, {}, {1}, {1});
      Value* z = c.b.add(y, bias);
      c.result(c.b.add(c.b.maximum(z, c.b.full(0.0, DType::kF32)), res));
      c.result(z);
      c.check();
      if (HasFailure()) return;
    }
}

TEST(CpuContraction, Batched) {
  RegionCase c("contraction");
  Value *q = c.f32({2, 3, 20, 16}), *k = c.f32({2, 3, 25, 16});
  c.result(c.b.mul(c.b.dot_general(q, k, {0, 1}, {0, 1}, {3}, {3}), 0.25));
  c.check();
  RegionCase d("contraction");
  Value *p = d.f32({2, 3, 20, 25}), *v = d.f32({2, 3, 25, 16});
  d.result(d.b.dot_general(p, v, {0, 1}, {0, 1}, {3}, {2}));
  d.check();
}

TEST(CpuContraction, SymbolicSizes) {
  Dim n = Dim::symbol("N"), t = Dim::symbol("T");
  for (Sizes s : {Sizes{{"N", 1}, {"T", 1}},
                  {{"N", 5}, {"T", 33}},
                  {{"N", 70}, {"T", 300}},
                  {{"N", 3}, {"T", 0}},
                  {{"N", 0}, {"T", 40}}}) {
    SCOPED_TRACE(::testing::Message() << s["N"] << " " << s["T"]);
    {
      RegionCase c("contraction");
      Value *x = c.f32({n, 40}), *w = c.f32({30, 40}), *bias = c.f32({30});
      c.result(c.b.add(c.b.dot_general(x, w, {}, {}, {1}, {1}), bias));
      c.check(s);
    }
    {
      RegionCase c("contraction");
      Value *x = c.f32({n, t}), *w = c.f32({t, 30});
      c.result(c.b.dot_general(x, w, {}, {}, {1}, {0}));
      c.check(s);
    }
    {
      RegionCase c("contraction");
      Value *x = c.f32({n, t}), *w = c.f32({n, 30});
      c.result(c.b.dot_general(x, w, {}, {}, {0}, {0}));
      c.check(s);
    }
    {
      RegionCase c("contraction");
      Value *q = c.f32({n, t, 16}), *k = c.f32({n, t, 16});
      c.result(c.b.dot_general(q, k, {0}, {0}, {2}, {2}));
      c.check(s);
    }
    if (HasFailure()) return;
  }
}

// The gradients of a strided convolution over a batch of unknown size, with an epilogue at the same index.
TEST(CpuContraction, StridedGradientsOfSymbolicBatches) {
  Dim n = Dim::symbol("N");
  for (Sizes s : {Sizes{{"N", 1}}, {{"N", 3}}})
    for (int64_t k : {1, 3}) {
      Attrs attrs = {{"stride", Attr::ints({2, 2})},
                     {"pad", Attr::ints({k / 2, k / 2, k / 2, k / 2})},
                     {"dilation", Attr::ints({1, 1})},
                     {"groups", Attr(1)},
                     {"shape", Attr::dims({n, 20, 15, 14})}};
      RegionCase c("contraction");
      Value *dy = c.f32({n, 33, 8, 7}), *w = c.f32({33, 20, k, k}), *x = c.f32({n, 20, 15, 14});
      Value* dx = c.b.create(ops::convolution_input_grad, {dy, w}, attrs);
      Value* zero = c.b.full(0.0, DType::kF32);
      c.result(c.b.where(c.b.compare(ScalarOp::kGt, x, zero), dx, zero));
      c.result(c.b.add(dx, x));
      c.check(s);
      RegionCase d("contraction");
      attrs["shape"] = Attr::dims({33, 20, k, k});
      Value *x2 = d.f32({n, 20, 15, 14}), *dy2 = d.f32({n, 33, 8, 7}), *old = d.f32({33, 20, k, k});
      d.result(d.b.sub(old, d.b.mul(d.b.create(ops::convolution_weight_grad, {x2, dy2}, attrs), 0.1)));
      d.check(s);
      if (HasFailure()) return;
    }
}

TEST(CpuContraction, FewRowsOverSymbolicSums) {
  Dim n = Dim::symbol("N"), t = Dim::symbol("T");
  for (Sizes s : {Sizes{{"N", 1}, {"T", 1}}, {{"N", 3}, {"T", 50}}, {{"N", 70}, {"T", 90}}})
    for (int64_t m : {1, 3, 4, 20}) {
      RegionCase c("contraction");
      Value *x = c.f32({n, t, m}), *mean = c.f32({}), *dy = c.f32({n, t, 9});
      c.result(c.b.dot_general(c.b.sub(x, mean), dy, {}, {}, {0, 1}, {0, 1}));
      c.check(s);
      RegionCase d("contraction");
      x = d.f32({n, t, m}), dy = d.f32({n, t, 9});
      d.result(d.b.dot_general(x, dy, {}, {}, {0, 1}, {0, 1}));
      d.check(s);
      if (HasFailure()) return;
    }
}

TEST(CpuContraction, DTypes) {
  for (DType t : {DType::kF16, DType::kBF16, DType::kF64, DType::kI32}) {
    SCOPED_TRACE(dtype_name(t));
    for (bool tb : {false, true}) {
      RegionCase c("contraction");
      c.int_lo = -3;
      Value *x = c.arg({t, {9, 100}}), *w = c.arg({t, tb ? Shape{40, 100} : Shape{100, 40}});
      c.result(c.b.dot_general(x, w, {}, {}, {1}, {tb ? 1 : 0}));
      c.check();
      if (HasFailure()) return;
    }
  }
}

struct Conv {
  int64_t n, c, o, h, w, kh, kw, stride, pad, dilation, groups;
};

TEST(CpuContraction, ConvolutionsInThreeDirections) {
  const Conv convs[] = {
      {2, 3, 8, 9, 11, 3, 3, 1, 1, 1, 1},    {1, 1, 6, 28, 28, 5, 5, 1, 0, 1, 1},
      {2, 4, 6, 9, 9, 3, 3, 2, 1, 1, 1},     {1, 6, 9, 8, 10, 3, 2, 1, 2, 2, 3},
      {2, 8, 8, 7, 7, 3, 3, 1, 1, 1, 8},     {1, 20, 40, 14, 14, 1, 1, 1, 0, 1, 1},
      {1, 20, 40, 14, 14, 1, 1, 2, 0, 1, 1}, {1, 3, 16, 40, 40, 7, 7, 2, 3, 1, 1},
      {1, 40, 33, 14, 14, 3, 3, 1, 1, 1, 1}, {3, 64, 64, 7, 7, 3, 3, 1, 1, 1, 1},
      {3, 20, 35, 9, 9, 1, 1, 1, 0, 1, 1},   {2, 5, 40, 13, 13, 3, 3, 2, 1, 1, 1},
      {1, 70, 70, 14, 14, 3, 3, 1, 1, 1, 1}, {2, 6, 4, 15, 11, 3, 3, 3, 1, 2, 2},
      {1, 3, 5, 9, 9, 2, 2, 3, 0, 1, 1},
  };
  for (const Conv& v : convs) {
    SCOPED_TRACE(::testing::Message() << "n" << v.n << " c" << v.c << " o" << v.o << " " << v.h << "x" << v.w
                                      << " k" << v.kh << "x" << v.kw << " s" << v.stride << " p" << v.pad
                                      << " d" << v.dilation << " g" << v.groups);
    Attrs attrs = {{"stride", Attr::ints({v.stride, v.stride})},
                   {"pad", Attr::ints({v.pad, v.pad, v.pad, v.pad})},
                   {"dilation", Attr::ints({v.dilation, v.dilation})},
                   {"groups", Attr(v.groups)}};
    Shape xs = {v.n, v.c, v.h, v.w}, ws = {v.o, v.c / v.groups, v.kh, v.kw};
    Shape ys;
    {
      RegionCase c("contraction");
      Value *x = c.f32(xs), *w = c.f32(ws), *bias = c.f32({v.o, 1, 1});
      Value* y = c.b.create(ops::convolution, {x, w}, attrs);
      ys = y->type.shape;
      c.result(c.b.maximum(c.b.add(y, bias), c.b.full(0.0, DType::kF32)));
      c.check();
      if (HasFailure()) return;
    }
    {
      RegionCase c("contraction");
      Value *dy = c.f32(ys), *w = c.f32(ws);
      Attrs with = attrs;
      with["shape"] = Attr::dims(xs);
      c.result(c.b.create(ops::convolution_input_grad, {dy, w}, with));
      c.check();
      if (HasFailure()) return;
    }
    {
      RegionCase c("contraction");
      Value *x = c.f32(xs), *dy = c.f32(ys);
      Attrs with = attrs;
      with["shape"] = Attr::dims(ws);
      c.result(c.b.create(ops::convolution_weight_grad, {x, dy}, with));
      c.check();
      if (HasFailure()) return;
    }
  }
}

TEST(CpuContraction, SymbolicBatchAndImage) {
  Dim n = Dim::symbol("N"), h = Dim::symbol("H");
  for (Sizes s : {Sizes{{"N", 1}, {"H", 5}}, {{"N", 3}, {"H", 20}}, {{"N", 0}, {"H", 20}}}) {
    Attrs attrs = {{"stride", Attr::ints({1, 1})},
                   {"pad", Attr::ints({1, 1, 1, 1})},
                   {"dilation", Attr::ints({1, 1})},
                   {"groups", Attr(1)}};
    RegionCase c("contraction");
    Value *x = c.f32({n, 3, h, h}), *w = c.f32({8, 3, 3, 3});
    c.result(c.b.create(ops::convolution, {x, w}, attrs));
    c.check(s);
    RegionCase d("contraction");
    Value *x2 = d.f32({n, 3, 12, 12}), *dy = d.f32({n, 8, 12, 12});
    attrs["shape"] = Attr::dims({8, 3, 3, 3});
    d.result(d.b.create(ops::convolution_weight_grad, {x2, dy}, attrs));
    d.check(s);
    if (HasFailure()) return;
  }
}

// Blocks of columns that are no multiple of a tile, beside each other on several threads.
TEST(CpuContraction, BlocksEndInsideATile) {
  RegionCase c("contraction");
  Value *x = c.f32({Dim::symbol("N"), 1, 28, 28}), *w = c.f32({16, 1, 3, 3});
  c.result(c.b.create(ops::convolution, {x, w},
                      {{"stride", Attr::ints({1, 1})},
                       {"pad", Attr::ints({1, 1, 1, 1})},
                       {"dilation", Attr::ints({1, 1})},
                       {"groups", Attr(1)}}));
  c.check({{"N", 64}});
}

}  // namespace
}  // namespace graphc
