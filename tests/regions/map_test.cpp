// Elementwise regions, with the movements of data that fuse puts into them.
#include "tests/regions/judge.h"

namespace graphc {
namespace {

TEST(JUDGED(Map), ElementwiseChainWithTails) {
  for (int64_t n : {0, 1, 7, 16, 33, 1000, 10000, 100000}) {
    SCOPED_TRACE(n);
    JudgedCase c("map");
    Value *x = c.f32({n}), *y = c.f32({n});
    Value* s = c.b.add(c.b.mul(x, y), 0.5);
    c.result(c.b.maximum(s, c.b.full(0.0, DType::kF32)));
    c.result(c.b.sub(s, x));
    c.check();
  }
}

TEST(JUDGED(Map), BroadcastOverSymbolicRows) {
  for (int64_t n : {0, 1, 5, 67}) {
    JudgedCase c("map");
    Value *x = c.f32({Dim::symbol("N"), 10}), *bias = c.f32({10}), *column = c.f32({Dim::symbol("N"), 1});
    c.result(c.b.mul(c.b.add(x, bias), column));
    c.check({{"N", n}});
  }
}

TEST(JUDGED(Map), SymbolicInnermostAxis) {
  for (int64_t t : {1, 3, 50, 5000, 20000}) {
    JudgedCase c("map");
    Value *x = c.f32({3, Dim::symbol("T")}), *y = c.f32({3, 1});
    c.result(c.b.add(x, y));
    c.check({{"T", t}});
  }
}

TEST(JUDGED(Map), Transposes) {
  for (int64_t n : {1, 5, 33, 130}) {
    JudgedCase c("map");
    Value* x = c.f32({3, n, 70});
    c.result(c.b.mul(c.b.transpose(x, {0, 2, 1}), 2.0));
    c.check();
  }
  JudgedCase c("map");
  Value* x = c.f32({Dim::symbol("N"), 4, 5, 6});
  c.result(c.b.transpose(x, {0, 2, 3, 1}));
  c.check({{"N", 3}});
}

TEST(JUDGED(Map), ReshapeSliceConcatPad) {
  JudgedCase c("map");
  Value *x = c.f32({4, 6, 5}), *y = c.f32({4, 2, 5});
  Value* r = c.b.reshape(c.b.slice(x, 1, 1, 6, 2), {12, 5});
  Value* k = c.b.concat({x, y}, 1);
  c.result(c.b.reshape(c.b.pad(r, {1, 2, 0, 3}, 0.25), {15, 8}));
  c.check();
  JudgedCase d("map");
  x = d.f32({4, 6, 5}), y = d.f32({4, 2, 5});
  k = d.b.concat({x, y, d.b.mul(x, 3.0)}, 1);
  d.result(d.b.add(k, 1.0));
  d.check();
  JudgedCase e("map");
  x = e.f32({Dim::symbol("N"), 7});
  e.result(e.b.pad(e.b.exp(x), {2, -1, 1, 1}, 7.0, {1, 2}));
  e.check({{"N", 4}});
}

TEST(JUDGED(Map), GatherAndIota) {
  JudgedCase c("map");
  Value *table = c.f32({9, 20}), *ids = c.arg({DType::kI32, {4, 3}});
  c.int_hi = 8;
  c.result(c.b.gather(table, ids, 0));
  c.check();
  JudgedCase d("map");
  Value* labels = d.arg({DType::kI64, {Dim::symbol("N"), 1}});
  Value* classes = d.b.iota({Dim::symbol("N"), 10}, 1, DType::kI64);
  d.result(d.b.where(d.b.compare(ScalarOp::kEq, classes, labels), d.b.full(1.0, DType::kF32),
                     d.b.full(0.0, DType::kF32)));
  d.int_hi = 9;
  d.check({{"N", 6}});
}

TEST(JUDGED(Map), RandomBitsAndUniform) {
  JudgedCase c("map");
  Value* key = c.arg({DType::kU32, {4}});
  c.int_hi = 0xFFFFFFFFll;
  Value* bits = c.b.create(ops::random_bits, {key}, {{"shape", Attr::dims({3, 50})}});
  c.result(bits);
  c.check();
}

TEST(JUDGED(Map), DTypes) {
  for (DType t : {DType::kF16, DType::kBF16, DType::kF64, DType::kI8, DType::kU8, DType::kI32, DType::kI64,
                  DType::kU32}) {
    SCOPED_TRACE(dtype_name(t));
    JudgedCase c("map");
    Value *x = c.arg({t, {3, 21}}), *y = c.arg({t, {21}});
    c.int_lo = is_signed_int(t) ? -50 : 0;
    c.int_hi = 60;
    Value* s = c.b.add(c.b.mul(x, y), x);
    c.result(s);
    c.result(c.b.cast(s, DType::kF32));
    c.result(c.b.compare(ScalarOp::kLt, x, y));
    c.check();
  }
}

TEST(JUDGED(Map), ActivationRecords) {
  JudgedCase c("map");
  Value* x = c.f32({5, 37});
  c.lo = -4;
  c.hi = 4;
  for (const OpDef* op : {&ops::gelu, &ops::silu, &ops::sigmoid, &ops::relu, &ops::tanh, &ops::erf})
    c.result(c.b.create(*op, {x}));
  c.check();
}

}  // namespace
}  // namespace graphc
