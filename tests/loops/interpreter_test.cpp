// The interpreter of loop programs against results computed by hand: each kind of statement, and the faults
// it reports.
#include "ir/loops/interpreter.h"

#include <cmath>

#include <gtest/gtest.h>

#include "ir/loops/text.h"

namespace graphc {
namespace {

std::string run(const std::string& text, std::vector<void*> buffers, std::vector<int64_t> params = {},
                const LoopInterpretOptions& options = {}) {
  auto kernel = parse_kernel(text);
  EXPECT_TRUE(kernel.ok()) << kernel.error().message << text;
  if (!kernel.ok()) return "unreadable";
  Status s = interpret_kernel(*kernel, buffers, params, options);
  return s.ok() ? "" : s.error().message;
}

// A kernel over %x: f32[N], mut %y: f32[N] with x = 3, -1, 4, 1, -5, 9, 2, 6 and y = 100, 101, ..
struct Lists {
  std::vector<float> x = {3, -1, 4, 1, -5, 9, 2, 6}, y = {100, 101, 102, 103, 104, 105, 106, 107};
  std::string run_body(const std::string& body, const LoopInterpretOptions& options = {}) {
    return run("kernel @k(%x: f32[N], mut %y: f32[N]) params(N) {\n" + body + "\n}\n", {x.data(), y.data()},
               {8}, options);
  }
};
using Floats = std::vector<float>;

TEST(LoopInterpreter, LetAndStore) {
  Lists l;
  EXPECT_EQ(l.run_body("%a = load %x[2] * 0.5\n%n = index(N-6)\nstore %y[n] = %a + f32(%n)"), "");
  EXPECT_EQ(l.y, (Floats{100, 101, 4, 103, 104, 105, 106, 107}));
}

TEST(LoopInterpreter, Guards) {
  Lists l;
  EXPECT_EQ(l.run_body("serial c in -2..12 {\n"
                       "  store %y[c] = load %x[c-1] where c-1 >= 0 else -7.5 if c >= 0, 5-c >= 0\n}"),
            "");
  EXPECT_EQ(l.y, (Floats{-7.5, 3, -1, 4, 1, -5, 106, 107}));
}

TEST(LoopInterpreter, LoopsOfEachKind) {
  for (std::string head : {"serial", "parallel", "unroll", "vector<4>", "vector<3> unroll 2"}) {
    for (bool reverse : {false, true}) {
      SCOPED_TRACE(head);
      Lists l;
      LoopInterpretOptions options;
      options.reverse = reverse;
      EXPECT_EQ(l.run_body(head + " c in 1..7 { store %y[c] = load %x[c] + 1.0 }", options), "");
      EXPECT_EQ(l.y, (Floats{100, 0, 5, 2, -4, 10, 3, 107}));
    }
  }
  Lists l;
  EXPECT_EQ(l.run_body(
                "serial c in 1..min(N, 6, 9) step 2 { store %y[c] = 0.25 }\nserial d in 3..2 { store %y[d] = "
                "9.0 }"),
            "");
  EXPECT_EQ(l.y, (Floats{100, 0.25, 102, 0.25, 104, 0.25, 106, 107}));
}

TEST(LoopInterpreter, Reductions) {
  for (std::string head : {"serial", "unroll", "vector<4>", "vector<2> unroll 2"}) {
    SCOPED_TRACE(head);
    Lists l;
    EXPECT_EQ(l.run_body("%s, %p, %hi, %lo = reduce add, mul, max, min " + head +
                         " c in 0..8 {\n  %v = load %x[c]\n  yield %v, %v, %v, %v * 2.0\n}\n"
                         "store %y[0] = %s\nstore %y[1] = %p\nstore %y[2] = %hi\nstore %y[3] = %lo"),
              "");
    EXPECT_EQ(l.y, (Floats{19, 6480, 9, -10, 104, 105, 106, 107}));
  }
  // nothing to reduce: the identities
  Lists l;
  EXPECT_EQ(
      l.run_body("%s, %p, %hi, %lo = reduce add, mul, max, min serial c in 0..0 { 1.0, 2.0, 3.0, 4.0 }\n"
                 "store %y[0] = %s\nstore %y[1] = %p\nstore %y[2] = %hi\nstore %y[3] = %lo"),
      "");
  const float inf = INFINITY;
  EXPECT_EQ(l.y, (Floats{0, 1, -inf, inf, 104, 105, 106, 107}));
  // max and min hand NaN on
  l.x[3] = NAN;
  EXPECT_EQ(l.run_body("%hi, %lo = reduce max, min vector<4> c in 0..8 { load %x[c], load %x[c] }\n"
                       "store %y[0] = %hi\nstore %y[1] = %lo"),
            "");
  EXPECT_TRUE(std::isnan(l.y[0]) && std::isnan(l.y[1]));
}

TEST(LoopInterpreter, SerialReductionsGoLeftToRight) {
  std::vector<double> x = {1e16, 1, -1e16, 1}, y = {5};  // right to left gives 0, two accumulators 2
  EXPECT_EQ(run("kernel @k(%x: f64[4], mut %y: f64[1]) {\n%s = reduce add serial c in 0..4 { load %x[c] }\n"
                "store %y[0] = %s\n}\n",
                {x.data(), y.data()}),
            "");
  EXPECT_EQ(y[0], 1);
}

TEST(LoopInterpreter, IntegerReductions) {
  std::vector<int8_t> x = {100, 100, -128, 7}, y(4);
  EXPECT_EQ(run("kernel @k(%x: i8[4], mut %y: i8[4]) {\n"
                "%s, %p = reduce add, mul serial c in 0..2 { load %x[c], load %x[c] }\n"
                "%hi, %lo = reduce max, min serial c in 0..4 { load %x[c], load %x[c] }\n"
                "store %y[0] = %s\nstore %y[1] = %p\nstore %y[2] = %hi\nstore %y[3] = %lo\n}\n",
                {x.data(), y.data()}),
            "");
  EXPECT_EQ(y, (std::vector<int8_t>{-56, 16, 100, -128}));  // 200 and 10000 wrapped
}

TEST(LoopInterpreter, Conditions) {
  Lists l;
  EXPECT_EQ(l.run_body("serial c in 0..8 {\n  if c-2 >= 0, 4-c >= 0 {\n    store %y[c] = 1.0\n  } else {\n"
                       "    store %y[c] = -1.0 if c-6 >= 0\n  }\n}"),
            "");
  EXPECT_EQ(l.y, (Floats{100, 101, 1, 1, 1, 105, -1, -1}));
}

TEST(LoopInterpreter, LocalBuffers) {
  for (std::string kind : {"register", "stack", "scratch"}) {
    SCOPED_TRACE(kind);
    Lists l;
    EXPECT_EQ(l.run_body(kind + " %a: f32[2, 4]\nunroll c in 0..4 {\n  store %a[1, c] = load %x[c]\n"
                                "  store %a[0, c] = load %a[1, c] * 2.0\n}\n"
                                "unroll d in 0..4 { store %y[d] = load %a[0, 3-d] + load %a[1, d] }"),
              "");
    EXPECT_EQ(l.y, (Floats{5, 7, 2, 7, 104, 105, 106, 107}));
    EXPECT_EQ(l.run_body(kind + " %a: f32[4]\nstore %a[1] = 1.0\nstore %y[0] = load %a[2]"),
              "kernel @k: element 2 of %a is read before it is written (in `store %y[0] = load %a[2]`)");
  }
  Lists l;
  EXPECT_EQ(
      l.run_body("serial c in 0..2 {\n  stack %a: bf16[4] = bf16(1.5)\n  store %y[c] = f32(load %a[c])\n"
                 "  store %a[0] = bf16(1.00390625)\n  store %y[c+2] = f32(load %a[0])\n}"),
      "");
  EXPECT_EQ(l.y, (Floats{1.5, 1.5, 1, 1, 104, 105, 106, 107}));  // halfway to the next bf16: to even
}

TEST(LoopInterpreter, DotOfPairs) {
  std::vector<uint16_t> a(2), b(6);
  std::vector<float> c = {10, 20, 30};
  auto set = [](std::vector<uint16_t>& v, std::vector<double> x) {
    for (size_t i = 0; i < x.size(); ++i) store_from_double(DType::kBF16, v.data(), i, x[i]);
  };
  set(a, {2, -3});
  set(b, {1, 2, 0.5, -1, 4, 0});
  EXPECT_EQ(run("kernel @k(%a: bf16[2], %b: bf16[3, 2], mut %c: f32[3]) {\n"
                "vector<4> l in 0..3 { dot %c[l] += %a[] * %b[l] group 2 if 1-l >= 0 }\n}\n",
                {a.data(), b.data(), c.data()}),
            "");
  EXPECT_EQ(c, (Floats{6, 24, 30}));
}

TEST(LoopInterpreter, DotOfFours) {
  std::vector<uint8_t> a = {255, 1, 2, 3};
  std::vector<int8_t> b = {-128, 1, 1, 1, 10, -20, 30, -40};
  std::vector<int32_t> c = {7, -7};
  EXPECT_EQ(run("kernel @k(%a: u8[4], %b: i8[2, 4], mut %c: i32[2]) {\n"
                "vector<4> l in 0..2 { dot %c[l] += %a[] * %b[l] group 4 }\n}\n",
                {a.data(), b.data(), c.data()}),
            "");
  EXPECT_EQ(c, (std::vector<int32_t>{-32627, 2463}));  // 7-32640+6 and -7+2550-20+60-120
}

TEST(LoopInterpreter, IndexFromData) {
  std::vector<int64_t> ids = {2, 0, 2};
  std::vector<float> table = {10, 11, 20, 21, 30, 31}, y(6);
  const std::string text =
      "kernel @k(%i: i64[3], %t: f32[3, 2], mut %y: f32[3, 2]) {\nparallel r in 0..3 {\n  %j = load %i[r]\n"
      "  vector<2> c in 0..2 { store %y[r, c] = load %t[j, c] }\n}\n}\n";
  EXPECT_EQ(run(text, {ids.data(), table.data(), y.data()}), "");
  EXPECT_EQ(y, (Floats{30, 31, 10, 11, 30, 31}));
  ids[1] = -3;
  EXPECT_EQ(run(text, {ids.data(), table.data(), y.data()}),
            "kernel @k: index j = -3 of %t is outside 0..3 (in `store %y[r, c] = load %t[j, c]`)");
}

TEST(LoopInterpreter, Faults) {
  Lists l;
  const Floats before = l.y;
  EXPECT_EQ(l.run_body("store %y[N] = 1.0"),
            "kernel @k: index N = 8 of %y is outside 0..8 (in `store %y[N] = 1.0`)");
  EXPECT_EQ(l.run_body("%a = load %x[N-9]"),
            "kernel @k: index N-9 = -1 of %x is outside 0..8 (in `%a = load %x[N-9]`)");
  EXPECT_EQ(l.y, before);
  EXPECT_EQ(
      l.run_body("parallel c in 0..8 { store %y[c//2] = 1.0 }").find("kernel @k: race: element 0 of %y"), 0u);
  EXPECT_EQ(l.run_body("parallel c in 0..7 { store %y[c+1] = load %y[c] }")
                .find("kernel @k: race: element 1 of %y"),
            0u);
  EXPECT_EQ(l.run_body("vector<4> c in 0..7 { store %y[c+1] = load %y[c] }")
                .find("kernel @k: race: element 1 of %y"),
            0u);
  EXPECT_EQ(l.run_body("serial c in 0..7 { store %y[c+1] = load %y[c] }"), "");
  EXPECT_EQ(run("kernel @k(%x: f32[N]) params(N) {\n}\n", {l.x.data()}),
            "kernel @k takes 1 size parameters, not 0");
  EXPECT_EQ(run("kernel @k(%x: f32[N]) params(N) {\n}\n", {}, {8}), "kernel @k takes 1 buffers, not 0");
  EXPECT_EQ(run("kernel @k(%x: f32[N-9]) params(N) {\n}\n", {l.x.data()}, {8}),
            "kernel @k: the shape of %x has no value");
}

}  // namespace
}  // namespace graphc
