// Reductions that keep the innermost axis, as fuse leaves them.
#include "tests/regions/judge.h"

namespace graphc {
namespace {

const int64_t kWidths[] = {1, 3, 8, 10, 16, 17, 31, 64, 100, 129, 1000};

TEST(JUDGED(Columns), BiasGradient) {
  for (int64_t rows : {1, 2, 7, 64, 1000})
    for (int64_t n : kWidths) {
      SCOPED_TRACE(::testing::Message() << rows << "x" << n);
      JudgedCase c("columns");
      c.result(c.b.sum(c.f32({rows, n}), {0}));
      c.check();
      if (HasFailure()) return;
    }
}

TEST(JUDGED(Columns), SeveralSumsOfOnePass) {
  Dim n = Dim::symbol("N");
  for (int64_t rows : {0, 1, 5, 333, 20000})
    for (int64_t width : {1, 10, 48}) {
      SCOPED_TRACE(::testing::Message() << rows << " " << width);
      JudgedCase c("columns");
      Value *dy = c.f32({n, width}), *x = c.f32({n, width}), *mean = c.f32({n, 1}), *r = c.f32({n, 1});
      Value* h = c.b.mul(c.b.sub(x, mean), r);
      c.result(c.b.sum(dy, {0}));
      c.result(c.b.sum(c.b.mul(dy, h), {0}));
      c.check({{"N", rows}});
      if (HasFailure()) return;
    }
}

TEST(JUDGED(Columns), EpilogueOnTheReducedResult) {
  JudgedCase c("columns");
  Value *x = c.f32({30, 70}), *w = c.f32({70}), *m = c.f32({70});
  Value* s = c.b.div(c.b.sum(x, {0}), 30.0);
  c.result(c.b.sub(w, c.b.mul(s, 0.1)));
  c.result(c.b.add(c.b.mul(m, 0.9), c.b.mul(s, 0.1)));
  c.check();
}

TEST(JUDGED(Columns), LeadingAndMiddleAxes) {
  for (int64_t a : {1, 3, 12})
    for (int64_t w : {1, 5, 33}) {
      SCOPED_TRACE(::testing::Message() << a << " " << w);
      JudgedCase c("columns");
      Value* x = c.f32({a, 4, w});
      c.result(c.b.sum(x, {0, 1}));
      c.check();
      JudgedCase d("columns");
      x = d.f32({2, a, w});
      d.result(d.b.sum(x, {1}, true));
      d.result(d.b.max(x, {1}, true));
      d.check();
      JudgedCase e("columns");
      x = e.f32({a, 3, 2, 5, w});
      e.result(e.b.sum(x, {0, 2}));
      e.check();
      JudgedCase f("columns");
      x = f.f32({a, 6, w, w});
      f.result(f.b.mean(x, {0, 1}));
      f.check();
      if (HasFailure()) return;
    }
}

TEST(JUDGED(Columns), DependentReductions) {
  JudgedCase c("columns");
  Value* x = c.f32({40, 21});
  Value* mean = c.b.mean(x, {0}, true);
  Value* d = c.b.sub(x, mean);
  c.result(c.b.div(c.b.sum(c.b.mul(d, d), {0}, true), 40.0));
  c.result(mean);
  c.check();
  JudgedCase s("columns");
  x = s.f32({9, 40});
  Value* e = s.b.exp(s.b.sub(x, s.b.max(x, {0}, true)));
  s.result(s.b.div(e, s.b.sum(e, {0}, true)));
  s.check();
}

TEST(JUDGED(Columns), ArgmaxOverAnOuterAxis) {
  for (int64_t w : {1, 5, 64}) {
    JudgedCase c("columns");
    Value* x = c.f32({3, 11, w});
    c.result(c.b.create(ops::argmax, {x}, {{"axis", 1}, {"keepdims", false}, {"dtype", DType::kI32}}));
    c.check();
    JudgedCase d("columns");
    x = d.arg({DType::kI32, {30, w}});
    d.result(d.b.create(ops::argmax, {x}, {{"axis", 0}, {"keepdims", true}, {"dtype", DType::kI64}}));
    d.check();
    if (HasFailure()) return;
  }
}

TEST(JUDGED(Columns), EveryReductionOfEveryType) {
  for (DType t : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kI8, DType::kU8, DType::kI32,
                  DType::kI64})
    for (int64_t n : {1, 16, 37}) {
      SCOPED_TRACE(::testing::Message() << dtype_name(t) << " " << n);
      JudgedCase c("columns");
      c.int_lo = is_signed_int(t) ? -3 : 0;
      c.lo = 0.8, c.hi = 1.2;
      Value* x = c.arg({t, {13, n}});
      for (const OpDef* op : {&ops::sum, &ops::prod, &ops::max, &ops::min})
        c.result(c.b.create(*op, {x}, {{"axes", Attr::ints({0})}, {"keepdims", false}}));
      c.check();
      if (HasFailure()) return;
    }
  JudgedCase c("columns");
  Value* x = c.arg({DType::kBool, {13, 20}});
  c.result(c.b.create(ops::all, {x}, {{"axes", Attr::ints({0})}, {"keepdims", false}}));
  c.result(c.b.create(ops::any, {x}, {{"axes", Attr::ints({0})}, {"keepdims", false}}));
  c.check();
}

TEST(JUDGED(Columns), SymbolicSizes) {
  Dim n = Dim::symbol("N"), t = Dim::symbol("T"), w = Dim::symbol("W");
  for (Sizes s : {Sizes{{"N", 1}, {"T", 1}, {"W", 1}},
                  {{"N", 3}, {"T", 7}, {"W", 40}},
                  {{"N", 0}, {"T", 2}, {"W", 9}},
                  {{"N", 11}, {"T", 300}, {"W", 5}}}) {
    SCOPED_TRACE(::testing::Message() << s["N"] << " " << s["T"] << " " << s["W"]);
    JudgedCase c("columns");
    Value *x = c.f32({n, t, w}), *y = c.f32({n, t, 1});
    c.result(c.b.sum(c.b.mul(x, y), {0, 1}));
    c.check(s);
    if (HasFailure()) return;
  }
}

TEST(JUDGED(Columns), GatheredRows) {
  JudgedCase c("columns");
  Value *table = c.f32({20, 30}), *ids = c.arg({DType::kI32, {50}});
  c.int_hi = 19;
  c.result(c.b.sum(c.b.gather(table, ids, 0), {0}));
  c.check();
}

}  // namespace
}  // namespace graphc
