// Pooling, forward and backward, with elementwise work around it.
#include "tests/regions/judge.h"

namespace graphc {
namespace {

struct Pool {
  Shape x;
  std::vector<int64_t> window, stride, pad, dilation;
};

Attrs attrs_of(const Pool& p, const char* kind) {
  return {{"kind", kind},
          {"window", Attr::ints(p.window)},
          {"stride", Attr::ints(p.stride)},
          {"pad", Attr::ints(p.pad)},
          {"dilation", Attr::ints(p.dilation)}};
}

std::vector<Pool> pools() {
  return {
      {{2, 3, 24, 24}, {2, 2}, {2, 2}, {0, 0, 0, 0}, {1, 1}},
      {{2, 5, 8, 8}, {2, 2}, {2, 2}, {0, 0, 0, 0}, {1, 1}},
      {{1, 4, 33, 35}, {3, 3}, {2, 2}, {1, 1, 1, 1}, {1, 1}},
      {{1, 2, 9, 11}, {3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}},
      {{2, 2, 13, 12}, {3, 2}, {2, 3}, {1, 0, 0, 1}, {1, 1}},
      {{1, 3, 15, 17}, {3, 3}, {1, 2}, {2, 2, 0, 0}, {2, 2}},
      {{1, 1, 7, 7}, {7, 7}, {1, 1}, {0, 0, 0, 0}, {1, 1}},
      {{1, 2, 20, 20}, {5, 5}, {3, 3}, {2, 2, 2, 2}, {1, 1}},
      {{3, 50}, {4}, {2}, {1, 2}, {1}},
      {{50}, {3}, {1}, {0, 0}, {1}},
      {{2, 2, 5, 6, 7}, {2, 2, 2}, {2, 1, 2}, {0, 0, 1, 0, 0, 1}, {1, 1, 1}},
      {{2, 3, 1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}},
      {{0, 3, 8, 8}, {2, 2}, {2, 2}, {0, 0, 0, 0}, {1, 1}},
      {{1, 2, 11, 10}, {2, 2}, {3, 3}, {0, 0, 0, 0}, {1, 1}},  // gaps between windows
      {{1, 2, 13, 12}, {9, 9}, {1, 2}, {4, 4, 3, 3}, {1, 1}},  // many taps
      {{1, 2, 23, 21}, {6, 5}, {5, 5}, {2, 0, 1, 1}, {1, 1}},  // many phases
      {{1, 1, 90}, {70}, {20}, {8, 9}, {1}},
  };
}

std::string describe(const Pool& p, const char* kind) {
  std::string s = kind + std::string(" x") + shape_to_string(p.x);
  auto list = [&](const char* name, const std::vector<int64_t>& v) {
    s += std::string(" ") + name;
    for (int64_t i : v) s += " " + std::to_string(i);
  };
  list("window", p.window);
  list("stride", p.stride);
  list("pad", p.pad);
  list("dilation", p.dilation);
  return s;
}

TEST(JUDGED(Window), Forward) {
  for (const Pool& p : pools())
    for (const char* kind : {"max", "sum"}) {
      SCOPED_TRACE(describe(p, kind));
      JudgedCase c("window");
      c.result(c.b.create(ops::reduce_window, {c.f32(p.x)}, attrs_of(p, kind)));
      c.check();
      if (HasFailure()) return;
    }
}

TEST(JUDGED(Window), Backward) {
  for (const Pool& p : pools())
    for (const char* kind : {"max", "sum"}) {
      SCOPED_TRACE(describe(p, kind));
      JudgedCase c("window");
      JudgedCase shape("window");
      Shape ys = shape.b.create(ops::reduce_window, {shape.f32(p.x)}, attrs_of(p, kind))->type.shape;
      Value *x = c.f32(p.x), *dy = c.f32(ys);
      c.result(c.b.create(ops::reduce_window_grad, {x, dy}, attrs_of(p, kind)));
      c.check();
      if (HasFailure()) return;
    }
}

TEST(JUDGED(Window), EqualMaximaNaNAndInfinity) {
  Pool p{{1, 2, 12, 20}, {3, 3}, {2, 1}, {1, 1, 1, 1}, {1, 1}};
  JudgedCase c("window"), d("window");
  Value* x = c.f32(p.x);
  Value* y = c.b.create(ops::reduce_window, {x}, attrs_of(p, "max"));
  c.result(y);
  Value *x2 = d.f32(p.x), *dy = d.f32(y->type.shape);
  d.result(d.b.create(ops::reduce_window_grad, {x2, dy}, attrs_of(p, "max")));
  HostTensor in = HostTensor::zeros(DType::kF32, {1, 2, 12, 20});
  std::mt19937 rng(5);
  for (int64_t i = 0; i < in.size(); ++i) {
    uint32_t r = rng() % 30;
    in.f[i] = r == 0  ? std::nan("")
              : r < 8 ? -std::numeric_limits<double>::infinity()
                      : static_cast<double>(r % 3);
  }
  c.inputs = {in};
  c.check();
  std::vector<HostTensor> drawn = d.draw({});
  d.inputs = {in, drawn[1]};
  d.check();
}

TEST(JUDGED(Window), PrologueAndEpilogue) {
  Dim n = Dim::symbol("N");
  Pool p{{n, 6, 24, 24}, {2, 2}, {2, 2}, {0, 0, 0, 0}, {1, 1}};
  for (int64_t size : {1, 5}) {
    JudgedCase c("window");
    Value *x = c.f32(p.x), *bias = c.f32({6, 1, 1});
    Value* y = c.b.create(ops::reduce_window, {c.b.maximum(c.b.add(x, bias), c.b.full(0.0, DType::kF32))},
                          attrs_of(p, "max"));
    c.result(y);
    c.result(c.b.mul(y, 2.0));
    c.check({{"N", size}});
    JudgedCase a("window");
    x = a.f32(p.x);
    a.result(a.b.div(a.b.create(ops::reduce_window, {x}, attrs_of(p, "sum")), 4.0));
    a.check({{"N", size}});
    // the gradient of relu behind that of the pool
    JudgedCase d("window");
    x = d.f32(p.x);
    Value* dy = d.f32({n, 6, 12, 12});
    Value* g = d.b.create(ops::reduce_window_grad, {x, d.b.mul(dy, 0.5)}, attrs_of(p, "max"));
    d.result(
        d.b.where(d.b.compare(ScalarOp::kGt, x, d.b.full(0.0, DType::kF32)), g, d.b.full(0.0, DType::kF32)));
    d.check({{"N", size}});
    if (HasFailure()) return;
  }
}

TEST(JUDGED(Window), SymbolicImage) {
  Dim n = Dim::symbol("N"), h = Dim::symbol("H");
  for (Sizes s :
       {Sizes{{"N", 1}, {"H", 3}}, {{"N", 2}, {"H", 20}}, {{"N", 3}, {"H", 37}}, {{"N", 0}, {"H", 9}}}) {
    SCOPED_TRACE(s["H"]);
    Pool p{{n, 2, h, h}, {3, 3}, {2, 2}, {1, 1, 1, 1}, {1, 1}};
    JudgedCase c("window");
    Value* y = c.b.create(ops::reduce_window, {c.f32(p.x)}, attrs_of(p, "max"));
    c.result(y);
    c.check(s);
    JudgedCase d("window");
    Value *x = d.f32(p.x), *dy = d.f32(y->type.shape);
    d.result(d.b.create(ops::reduce_window_grad, {x, dy}, attrs_of(p, "max")));
    d.check(s);
    if (HasFailure()) return;
  }
}

TEST(JUDGED(Window), DTypes) {
  Pool p{{2, 3, 9, 40}, {3, 3}, {2, 1}, {1, 1, 1, 1}, {1, 1}};
  for (DType t : {DType::kF16, DType::kBF16, DType::kF64})
    for (const char* kind : {"max", "sum"}) {
      SCOPED_TRACE(::testing::Message() << dtype_name(t) << " " << kind);
      JudgedCase c("window");
      Value* y = c.b.create(ops::reduce_window, {c.arg({t, p.x})}, attrs_of(p, kind));
      c.result(y);
      c.check();
      JudgedCase d("window");
      Value *x = d.arg({t, p.x}), *dy = d.arg({t, y->type.shape});
      d.result(d.b.create(ops::reduce_window_grad, {x, dy}, attrs_of(p, kind)));
      d.check();
      if (HasFailure()) return;
    }
}

}  // namespace
}  // namespace graphc
