// scatter_add: gradients of embeddings and gathers.
#include "tests/regions/judge.h"

namespace graphc {
namespace {

TEST(JUDGED(Scatter), EmbeddingGradient) {
  Dim n = Dim::symbol("N");
  for (int64_t tokens : {0, 1, 7, 200})
    for (int64_t width : {1, 3, 16, 64, 100}) {
      SCOPED_TRACE(::testing::Message() << tokens << " " << width);
      JudgedCase c("scatter");
      Value *ids = c.arg({DType::kI32, {n}}), *dy = c.f32({n, width});
      c.int_hi = 19;  // many repeated
      c.result(
          c.b.create(ops::scatter_add, {c.b.full(0.0, DType::kF32, {40, width}), ids, dy}, {{"axis", 0}}));
      c.check({{"N", tokens}});
      if (HasFailure()) return;
    }
}

TEST(JUDGED(Scatter), AddsToAnOperand) {
  JudgedCase c("scatter");
  Value *x = c.f32({10, 33}), *ids = c.arg({DType::kI64, {4, 5}}), *src = c.f32({4, 5, 33});
  c.int_hi = 9;
  c.result(c.b.create(ops::scatter_add, {x, ids, src}, {{"axis", 0}}));
  c.check();
}

TEST(JUDGED(Scatter), AlongAnInnerAxis) {
  for (int axis : {1, 2}) {
    SCOPED_TRACE(axis);
    JudgedCase c("scatter");
    Shape xs = {3, 8, 20}, ss = xs;
    ss[axis] = 15;
    Value *x = c.f32(xs), *ids = c.arg({DType::kI32, {15}}), *src = c.f32(ss);
    c.int_hi = axis == 1 ? 7 : 19;
    c.result(c.b.create(ops::scatter_add, {x, ids, src}, {{"axis", axis}}));
    c.check();
    if (HasFailure()) return;
  }
}

TEST(JUDGED(Scatter), PrologueAndEpilogue) {
  Dim n = Dim::symbol("N");
  JudgedCase c("scatter");
  Value *ids = c.arg({DType::kI32, {n, 6}}), *dy = c.f32({n, 6, 40}), *other = c.f32({30, 40});
  c.int_hi = 29;
  Value* s = c.b.create(ops::scatter_add, {c.b.full(0.0, DType::kF32, {30, 40}), ids, c.b.mul(dy, 0.25)},
                        {{"axis", 0}});
  c.result(c.b.add(c.b.mul(s, 3.0), other));
  c.result(s);
  c.check({{"N", 9}});
}

// More rows than one pass of the sort tells apart, more indices than one block takes.
TEST(JUDGED(Scatter), ManyRowsAndIndices) {
  Dim n = Dim::symbol("N"), v = Dim::symbol("V");
  for (int64_t tokens : {40, 1100})
    for (bool known : {true, false}) {
      SCOPED_TRACE(::testing::Message() << tokens << known);
      JudgedCase c("scatter");
      Value *x = c.f32({known ? Dim(700) : v, 4}), *ids = c.arg({DType::kI32, {n}}), *dy = c.f32({n, 4});
      c.int_hi = 699;
      c.result(c.b.create(ops::scatter_add, {x, ids, dy}, {{"axis", 0}}));
      c.share = {0};
      c.check(known ? Sizes{{"N", tokens}} : Sizes{{"N", tokens}, {"V", 700}});
      if (HasFailure()) return;
    }
}

TEST(JUDGED(Scatter), DTypes) {
  for (DType t : {DType::kF16, DType::kBF16, DType::kF64, DType::kI8, DType::kI32, DType::kI64}) {
    SCOPED_TRACE(dtype_name(t));
    JudgedCase c("scatter");
    Value *x = c.arg({t, {9, 20}}), *ids = c.arg({DType::kI32, {12}}), *src = c.arg({t, {12, 20}});
    c.int_hi = 8;
    c.tolerance = t == DType::kF16 || t == DType::kBF16 ? 1e-2 : c.tolerance;
    c.result(c.b.create(ops::scatter_add, {x, ids, src}, {{"axis", 0}}));
    c.check();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace graphc
