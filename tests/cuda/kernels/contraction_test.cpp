// Contractions by every schedule and tile: layouts, tails, symbolic sizes, prologues, epilogues, convolutions
// in three directions.
#include "backends/cuda/kernels/contraction_plan.h"

#include <regex>
#include <set>

#include "backends/cuda/emit_cuda.h"
#include "backends/cuda/exec/libraries.h"
#include "backends/cuda/nvrtc.h"
#include "tests/cuda/kernels/kernel_case.h"

namespace graphc::cuda {
namespace {

using Choices = std::vector<ContractionChoice>;

CudaTarget h200() {
  auto t = CudaTarget::parse("h200");
  EXPECT_TRUE(t.ok());
  return t.ok() ? *t : CudaTarget{};
}

std::string sort_of(const ContractionChoice& c) {
  ContractionChoice d = c;
  d.splits = std::min(d.splits, 2);
  return d.to_string();
}

// What lower_contraction has to choose from (of the first phase): one of every sort.
Choices choices_of(KernelCase& c) {
  Choices all;
  std::set<std::string> seen;
  auto lowered = lower_contraction_by(c.func(), {h200(), "k"}, [&](const Choices& given) {
    if (all.empty())
      for (const ContractionChoice& x : given)
        if (seen.insert(sort_of(x)).second) all.push_back(x);
    return given.front();
  });
  EXPECT_TRUE(lowered.ok()) << lowered.error().message;
  return all;
}

void check_as(KernelCase& c, const Sizes& sizes, const std::string& choice) {
  SCOPED_TRACE(choice);
  c.lower = [&](const Func& f, const LowerOptions& o) {
    return lower_contraction_by(f, o, [&](const Choices& given) {
      for (const ContractionChoice& x : given)
        if (sort_of(x) == choice) return x;
      return given.front();
    });
  };
  c.check(sizes);
}

// The choice of the cost model, and `others` more: other ones every time.
void check_some(KernelCase& c, const Sizes& sizes = {}, size_t others = 1) {
  static size_t turn = 0;
  c.lower = lower_region;
  c.check(sizes);
  const Choices all = choices_of(c);
  for (size_t i = 0; i < others && !::testing::Test::HasFailure(); ++i) {
    turn += 7;
    check_as(c, sizes, sort_of(all[turn % all.size()]));
  }
}

TEST(CudaContraction, EverySchedule) {
  std::set<ContractionSchedule> seen;
  for (int64_t k : {11, 40}) {
    KernelCase c("contraction");
    Value *x = c.f32({19, k}), *w = c.f32({37, k}), *bias = c.f32({37}), *rest = c.f32({19, 37});
    Value* y = c.b.add(c.b.dot_general(c.b.mul(x, 0.5), w, {}, {}, {1}, {1}), bias);
    c.result(c.b.add(c.b.maximum(y, c.b.full(0.0, DType::kF32)), rest));
    c.result(y);
    c.share = {3, -1};
    for (const ContractionChoice& choice : choices_of(c)) {
      if (k > 30 && choice.bm * choice.bn > 1024) continue;
      seen.insert(choice.schedule);
      check_as(c, {}, sort_of(choice));
      if (HasFailure()) return;
    }
  }
  EXPECT_EQ(seen.size(), 4u);
}

TEST(CudaContraction, SharesOfK) {
  KernelCase c("contraction");
  const Dim n = Dim::symbol("N");
  Value *x = c.f32({n, 10, 9}), *w = c.f32({n, 10, 21}), *rest = c.f32({9, 21});
  c.result(c.b.sub(rest, c.b.mul(c.b.dot_general(x, w, {}, {}, {0, 1}, {0, 1}), 0.1)));
  c.share = {2};
  int split = 0;
  for (int64_t size : {0, 1, 15}) {
    Choices all;
    // every way to share, by shares of all sizes: 2, 4, ..
    auto lowered = lower_contraction_by(c.func(), {h200(), "k"}, [&](const Choices& given) {
      all = given;
      return given.front();
    });
    ASSERT_TRUE(lowered.ok());
    for (const ContractionChoice& choice : all) {
      if (choice.splits == 1 || choice.splits == 4 || choice.bm * choice.bn > 512) continue;
      ++split;
      SCOPED_TRACE(choice.to_string());
      c.lower = [&](const Func& f, const LowerOptions& o) {
        return lower_contraction_by(f, o, [&](const Choices&) { return choice; });
      };
      c.check({{"N", size}});
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(split, 0);
}

template <class Op>
Value* un(KernelCase& c, const Op& op, Value* x) {
  return c.b.create(op, {x});
}

struct Gemm {
  int64_t m, k, n;
};

TEST(CudaContraction, AllLayouts) {
  for (Gemm g : {Gemm{1, 1, 1},
                 {1, 5, 3},
                 {3, 7, 17},
                 {14, 64, 32},
                 {33, 40, 70},
                 {5, 200, 10},
                 {1, 300, 1},
                 {2, 3, 200},
                 {130, 16, 50},
                 {65, 33, 129}})
    for (bool ta : {false, true})
      for (bool tb : {false, true}) {
        SCOPED_TRACE(::testing::Message()
                     << g.m << "x" << g.k << "x" << g.n << (ta ? " at" : "") << (tb ? " bt" : ""));
        KernelCase c("contraction");
        Value* a = c.f32(ta ? Shape{g.k, g.m} : Shape{g.m, g.k});
        Value* w = c.f32(tb ? Shape{g.n, g.k} : Shape{g.k, g.n});
        c.result(c.b.dot_general(a, w, {}, {}, {ta ? 0 : 1}, {tb ? 1 : 0}));
        check_some(c);
        if (HasFailure()) return;
      }
}

// An epilogue that is too long to be written out for every element of a tile.
TEST(CudaContraction, LongEpilogueAndPrologue) {
  for (int64_t m : {4, 50}) {
    KernelCase c("contraction");
    Value *x = c.f32({m, 20}), *w = c.f32({90, 20}), *bias = c.f32({90}), *rest = c.f32({m, 90});
    Value* y = c.b.add(c.b.dot_general(un(c, ops::tanh, x), c.b.exp(w), {}, {}, {1}, {1}), bias);
    Value* z = c.b.mul(un(c, ops::tanh, un(c, ops::sin, y)), c.b.exp(c.b.mul(un(c, ops::erf, y), 0.25)));
    c.result(c.b.add(un(c, ops::tanh, un(c, ops::cos, z)), rest));
    c.result(c.b.exp(un(c, ops::sin, z)));
    check_some(c, {}, 3);
    if (HasFailure()) return;
  }
}

TEST(CudaContraction, Batched) {
  KernelCase c("contraction");
  Value *q = c.f32({2, 3, 20, 16}), *k = c.f32({2, 3, 25, 16});
  c.result(c.b.mul(c.b.dot_general(q, k, {0, 1}, {0, 1}, {3}, {3}), 0.25));
  check_some(c, {}, 3);
  KernelCase d("contraction");
  Value *p = d.f32({2, 3, 20, 25}), *v = d.f32({2, 3, 25, 16});
  d.result(d.b.dot_general(p, v, {0, 1}, {0, 1}, {3}, {2}));
  check_some(d, {}, 3);
  // a matrix that is the same for the whole batch
  KernelCase e("contraction");
  Value *x = e.f32({3, 10, 12}), *w = e.f32({12, 9});
  e.result(e.b.dot_general(x, e.b.expand(w, {3, 12, 9}), {0}, {0}, {2}, {1}));
  check_some(e, {}, 3);
}

TEST(CudaContraction, SymbolicSizes) {
  Dim n = Dim::symbol("N"), t = Dim::symbol("T");
  for (Sizes s : {Sizes{{"N", 1}, {"T", 1}},
                  {{"N", 5}, {"T", 33}},
                  {{"N", 70}, {"T", 20}},
                  {{"N", 3}, {"T", 0}},
                  {{"N", 0}, {"T", 40}}}) {
    SCOPED_TRACE(::testing::Message() << s["N"] << " " << s["T"]);
    {
      KernelCase c("contraction");
      Value *x = c.f32({n, 40}), *w = c.f32({30, 40}), *bias = c.f32({30});
      c.result(c.b.add(c.b.dot_general(x, w, {}, {}, {1}, {1}), bias));
      check_some(c, s);
    }
    {
      KernelCase c("contraction");
      Value *x = c.f32({n, t}), *w = c.f32({t, 30});
      c.result(c.b.dot_general(x, w, {}, {}, {1}, {0}));
      check_some(c, s);
    }
    {
      KernelCase c("contraction");
      Value *x = c.f32({n, t}), *w = c.f32({n, 30});
      c.result(c.b.dot_general(x, w, {}, {}, {0}, {0}));
      check_some(c, s);
    }
    {
      KernelCase c("contraction");
      Value *q = c.f32({n, t, 16}), *k = c.f32({n, t, 16});
      c.result(c.b.dot_general(q, k, {0}, {0}, {2}, {2}));
      check_some(c, s);
    }
    if (HasFailure()) return;
  }
}

// The gradients of a strided convolution over a batch of unknown size, with an epilogue at the same index.
TEST(CudaContraction, StridedGradientsOfSymbolicBatches) {
  Dim n = Dim::symbol("N");
  for (Sizes s : {Sizes{{"N", 1}}, {{"N", 3}}})
    for (int64_t k : {1, 3}) {
      Attrs attrs = {{"stride", Attr::ints({2, 2})},
                     {"pad", Attr::ints({k / 2, k / 2, k / 2, k / 2})},
                     {"dilation", Attr::ints({1, 1})},
                     {"groups", Attr(1)},
                     {"shape", Attr::dims({n, 6, 9, 8})}};
      KernelCase c("contraction");
      Value *dy = c.f32({n, 11, 5, 4}), *w = c.f32({11, 6, k, k}), *x = c.f32({n, 6, 9, 8});
      Value* dx = c.b.create(ops::convolution_input_grad, {dy, w}, attrs);
      Value* zero = c.b.full(0.0, DType::kF32);
      c.result(c.b.where(c.b.compare(ScalarOp::kGt, x, zero), dx, zero));
      c.result(c.b.add(dx, x));
      check_some(c, s);
      KernelCase d("contraction");
      attrs["shape"] = Attr::dims({11, 6, k, k});
      Value *x2 = d.f32({n, 6, 9, 8}), *dy2 = d.f32({n, 11, 5, 4}), *old = d.f32({11, 6, k, k});
      d.result(d.b.sub(old, d.b.mul(d.b.create(ops::convolution_weight_grad, {x2, dy2}, attrs), 0.1)));
      d.share = {2};
      check_some(d, s, 4);
      if (HasFailure()) return;
    }
}

TEST(CudaContraction, FewRowsOverSymbolicSums) {
  Dim n = Dim::symbol("N"), t = Dim::symbol("T");
  for (Sizes s : {Sizes{{"N", 1}, {"T", 1}}, {{"N", 3}, {"T", 50}}, {{"N", 20}, {"T", 19}}})
    for (int64_t m : {1, 3, 4, 20}) {
      KernelCase c("contraction");
      Value *x = c.f32({n, t, m}), *mean = c.f32({}), *dy = c.f32({n, t, 9});
      c.result(c.b.dot_general(c.b.sub(x, mean), dy, {}, {}, {0, 1}, {0, 1}));
      check_some(c, s);
      if (HasFailure()) return;
    }
}

TEST(CudaContraction, DTypes) {
  for (DType t : {DType::kF16, DType::kBF16, DType::kF64, DType::kI32, DType::kI64, DType::kU8}) {
    SCOPED_TRACE(dtype_name(t));
    for (bool tb : {false, true}) {
      KernelCase c("contraction");
      c.int_lo = t == DType::kU8 ? 0 : -3;
      Value *x = c.arg({t, {9, 100}}), *w = c.arg({t, tb ? Shape{40, 100} : Shape{100, 40}});
      c.result(c.b.dot_general(x, w, {}, {}, {1}, {tb ? 1 : 0}));
      check_some(c, {}, 2);
      if (HasFailure()) return;
    }
  }
}

struct Conv {
  int64_t n, c, o, h, w, kh, kw, stride, pad, dilation, groups;
};

TEST(CudaContraction, ConvolutionsInThreeDirections) {
  const Conv convs[] = {
      {2, 3, 8, 9, 11, 3, 3, 1, 1, 1, 1},  {1, 1, 6, 12, 13, 5, 5, 1, 0, 1, 1},
      {2, 4, 6, 9, 9, 3, 3, 2, 1, 1, 1},   {1, 6, 9, 8, 10, 3, 2, 1, 2, 2, 3},
      {2, 8, 8, 7, 7, 3, 3, 1, 1, 1, 8},   {1, 20, 30, 6, 7, 1, 1, 1, 0, 1, 1},
      {1, 10, 20, 7, 7, 1, 1, 2, 0, 1, 1}, {1, 3, 6, 15, 14, 7, 7, 2, 3, 1, 1},
      {2, 6, 4, 15, 11, 3, 3, 3, 1, 2, 2}, {1, 3, 5, 9, 9, 2, 2, 3, 0, 1, 1},
      {3, 4, 8, 5, 6, 3, 3, 1, 1, 1, 4},
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
      KernelCase c("contraction");
      Value *x = c.f32(xs), *w = c.f32(ws), *bias = c.f32({v.o, 1, 1});
      Value* y = c.b.create(ops::convolution, {x, w}, attrs);
      ys = y->type.shape;
      c.result(c.b.maximum(c.b.add(y, bias), c.b.full(0.0, DType::kF32)));
      check_some(c);
      if (HasFailure()) return;
    }
    {
      KernelCase c("contraction");
      Value *dy = c.f32(ys), *w = c.f32(ws);
      Attrs with = attrs;
      with["shape"] = Attr::dims(xs);
      c.result(c.b.create(ops::convolution_input_grad, {dy, w}, with));
      check_some(c);
      if (HasFailure()) return;
    }
    {
      KernelCase c("contraction");
      Value *x = c.f32(xs), *dy = c.f32(ys);
      Attrs with = attrs;
      with["shape"] = Attr::dims(ws);
      c.result(c.b.create(ops::convolution_weight_grad, {x, dy}, with));
      check_some(c);
      if (HasFailure()) return;
    }
  }
}

TEST(CudaContraction, SymbolicBatchAndImage) {
  Dim n = Dim::symbol("N"), h = Dim::symbol("H");
  for (Sizes s : {Sizes{{"N", 1}, {"H", 5}}, {{"N", 3}, {"H", 11}}, {{"N", 0}, {"H", 20}}}) {
    Attrs attrs = {{"stride", Attr::ints({1, 1})},
                   {"pad", Attr::ints({1, 1, 1, 1})},
                   {"dilation", Attr::ints({1, 1})},
                   {"groups", Attr(1)}};
    KernelCase c("contraction");
    Value *x = c.f32({n, 3, h, h}), *w = c.f32({8, 3, 3, 3});
    c.result(c.b.create(ops::convolution, {x, w}, attrs));
    check_some(c, s, 4);
    KernelCase d("contraction");
    Value *x2 = d.f32({n, 3, 12, 12}), *dy = d.f32({n, 8, 12, 12});
    attrs["shape"] = Attr::dims({8, 3, 3, 3});
    d.result(d.b.create(ops::convolution_weight_grad, {x2, dy}, attrs));
    check_some(d, s, 4);
    if (HasFailure()) return;
  }
}

// The bytes that ptxas says are spilled; 0 if the message is about something else.
int spilled(const std::string& message) {
  std::smatch m;
  return std::regex_search(message, m, std::regex("(\\d+) bytes spill stores")) ? std::stoi(m[1]) : 0;
}

// No tile needs more registers than there are: f64's need the most. ptxas spills a word or two to get to a
// round number of them.
TEST(CudaContraction, NothingSpills) {
  if (!CudaLibraries::get().nvrtc.loaded()) GTEST_SKIP() << "NVRTC isn't there";
  KernelCase c("contraction");
  Value *x = c.arg({DType::kF64, {Dim::symbol("N"), 6, 28, 28}}), *w = c.arg({DType::kF64, {9, 6, 3, 3}});
  Value* y = c.b.create(ops::convolution, {x, w},
                        {{"stride", Attr::ints({2, 2})},
                         {"pad", Attr::ints({1, 1, 1, 1})},
                         {"dilation", Attr::ints({1, 1})},
                         {"groups", Attr(1)}});
  c.result(c.b.maximum(c.b.add(y, c.arg({DType::kF64, {9, 1, 1}})), c.b.full(0.0, DType::kF64)));
  DimRanges ranges;
  ranges.set("N", 0, 1000);
  for (const ContractionChoice& choice : choices_of(c)) {
    if (choice.schedule == ContractionSchedule::kDot) continue;
    SCOPED_TRACE(choice.to_string());
    auto lowered = lower_contraction_by(c.func(), {h200(), "k"}, [&](const Choices&) { return choice; });
    ASSERT_TRUE(lowered.ok()) << lowered.error().message;
    std::string text = cuda_prelude();
    for (const KernelStep& s : lowered->steps) {
      auto e = emit_cuda(s.kernel, ranges);
      ASSERT_TRUE(e.ok()) << e.error().message;
      text += e->text;
    }
    auto b = compile_cuda({"k.cu", text}, {.arch = "sm_90a", .strict = true});
    if (b.ok()) continue;
    const int bytes = spilled(b.error().message);
    EXPECT_TRUE(bytes > 0 && bytes <= 32) << b.error().message;
  }
}

}  // namespace
}  // namespace graphc::cuda
