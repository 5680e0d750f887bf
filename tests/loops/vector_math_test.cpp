// Emitted elementary functions against the C library in double (long double for f64): f32 over stratified
// values daily, over all 2^32 with GRAPHC_LONG_TESTS=1.
#include <bit>
#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "backends/cpu/emit_llvm.h"
#include "backends/cpu/exec/kernel_image.h"

namespace graphc {
namespace {

struct UnaryCase {
  ScalarOp op;
  double ulp;
  double (*exact)(double);
};
void PrintTo(const UnaryCase& c, std::ostream* out) { *out << scalar_op_name(c.op); }

double rsqrt_exact(double x) { return 1 / std::sqrt(x); }
const UnaryCase kCases[] = {
    {ScalarOp::kExp, 2, std::exp},     {ScalarOp::kExpm1, 2, std::expm1},
    {ScalarOp::kLog, 2, std::log},     {ScalarOp::kLog1p, 2, std::log1p},
    {ScalarOp::kSqrt, 0.5, std::sqrt}, {ScalarOp::kRsqrt, 2, rsqrt_exact},
    {ScalarOp::kSin, 4, std::sin},     {ScalarOp::kCos, 4, std::cos},
    {ScalarOp::kTan, 6, std::tan},     {ScalarOp::kTanh, 6, std::tanh},
    {ScalarOp::kErf, 8, std::erf},     {ScalarOp::kFloor, 0, std::floor},
    {ScalarOp::kCeil, 0, std::ceil},   {ScalarOp::kRound, 0, std::nearbyint},
};

Kernel unary_kernel(const std::string& name, ScalarOp op, DType type, int lanes) {
  KernelBuilder k(name);
  Dim n = k.param("N");
  Buffer x = k.arg("x", type, {n}), y = k.out("y", type, {n});
  k.vector(lanes, "i", 0, n, [&](Dim i) { k.store(y, {i}, unary(op, x.load({i}))); });
  return k.finish();
}

// Distance from the exact value in units of the last place of f32 at the exact value.
double ulp_error(float got, double exact) {
  float nearest = static_cast<float>(exact);
  if (std::isnan(exact)) return std::isnan(got) ? 0 : 1e30;
  if (std::isinf(nearest) || nearest == 0 || std::isnan(got) || std::isinf(got)) {
    if (got == nearest && std::signbit(got) == std::signbit(nearest)) return 0;
    if (std::isnan(got)) return 1e30;
    // at the edges of the range the neighbour counts as one ulp
    if (std::isinf(nearest) || std::isinf(got))
      return std::abs(got) >= 3.4028233e38f && std::abs(exact) >= 3.4028233e38 &&
                     std::signbit(got) == std::signbit(nearest)
                 ? 1
                 : 1e30;
    return std::abs(got) <= 0x1p-149f * 2 && std::signbit(got) == std::signbit(nearest)
               ? std::abs(got) / 0x1p-149
               : 1e30;
  }
  int e;
  std::frexp(exact, &e);
  double unit = std::ldexp(1.0, std::max(e - 24, -149));
  return std::abs(got - exact) / unit;
}

class VectorMath : public ::testing::TestWithParam<std::tuple<UnaryCase, bool>> {};

TEST_P(VectorMath, F32WithinUlp) {
  auto [c, wide] = GetParam();
  if (wide && !host_features().avx512()) GTEST_SKIP() << "no AVX-512 here";
  CpuFeatures f = wide ? host_features() : host_features().baseline();
  Kernel kernel = unary_kernel("f", c.op, DType::kF32, f.lanes(4));
  auto object = compile_kernels({&kernel, 1}, f);
  ASSERT_TRUE(object.ok()) << object.error().message;
  auto image = KernelImage::load(object->bytes);
  ASSERT_TRUE(image.ok()) << image.error().message;
  KernelFn fn = image->find("f");

  const bool all = std::getenv("GRAPHC_LONG_TESTS") != nullptr;
  std::vector<uint32_t> bits;
  std::mt19937 random(42);
  double worst = 0;
  float worst_at = 0;
  auto run = [&] {
    std::vector<float> x(bits.size()), y(bits.size());
    for (size_t i = 0; i < bits.size(); ++i) x[i] = std::bit_cast<float>(bits[i]);
    void* buffers[] = {x.data(), y.data()};
    int64_t n = static_cast<int64_t>(bits.size());
    KernelCall call{buffers, &n, nullptr, 0, 1};
    fn(&call);
    for (size_t i = 0; i < bits.size(); ++i) {
      double e = ulp_error(y[i], c.exact(x[i]));
      if (!(e <= worst)) worst = e, worst_at = x[i];
    }
    bits.clear();
  };
  if (all) {
    for (uint64_t b = 0; b < 1ull << 32; ++b) {
      bits.push_back(static_cast<uint32_t>(b));
      if (bits.size() == 1 << 20) run();
    }
  } else {
    // a value in each of 2^21 strata of the bit patterns (half of the 4M: the two vector widths make it 4M),
    // and corner cases
    for (uint32_t i = 0; i < 1u << 21; ++i) bits.push_back((i << 11) | (random() & 0x7ff));
    for (float v : {0.f,           -0.f,           1.f,
                    -1.f,          INFINITY,       -INFINITY,
                    NAN,           88.72283f,      88.7229f,
                    -87.33654f,    -103.97f,       -104.f,
                    1e-45f,        -1e-45f,        1.17549435e-38f,
                    3.4028235e38f, -3.4028235e38f, 0.5f,
                    1.5f,          2.5f,           1e30f,
                    268435456.f,   0.92773f,       3.14159274f,
                    1.57079637f})
      bits.push_back(std::bit_cast<uint32_t>(v));
    run();
  }
  run();
  EXPECT_LE(worst, c.ulp) << "at " << worst_at;
  RecordProperty("ulp", std::to_string(worst));
  std::printf("%-6s %s: %.3f ulp, worst at %a\n", std::string(scalar_op_name(c.op)).c_str(),
              wide ? "avx512" : "avx2", worst, worst_at);
}

INSTANTIATE_TEST_SUITE_P(All, VectorMath, ::testing::Combine(::testing::ValuesIn(kCases), ::testing::Bool()),
                         [](const auto& info) {
                           return std::string(scalar_op_name(std::get<0>(info.param).op)) +
                                  (std::get<1>(info.param) ? "_avx512" : "_avx2");
                         });

class VectorMathF64 : public ::testing::TestWithParam<UnaryCase> {};
TEST_P(VectorMathF64, WithinRelativeError) {
  const UnaryCase& c = GetParam();
  CpuFeatures f = host_features();
  Kernel kernel = unary_kernel("f", c.op, DType::kF64, f.lanes(8));
  auto object = compile_kernels({&kernel, 1}, f);
  ASSERT_TRUE(object.ok()) << object.error().message;
  auto image = KernelImage::load(object->bytes);
  ASSERT_TRUE(image.ok()) << image.error().message;
  std::mt19937_64 random(7);
  std::vector<double> x, y(200000);
  for (size_t i = 0; i + 8 < y.size(); ++i) {
    double v = std::bit_cast<double>(random());
    if (i % 2)
      v = std::ldexp(static_cast<double>(random() >> 11) * 0x1p-53 - 0.5,
                     static_cast<int>(random() % 24) - 12);
    bool trig = c.op == ScalarOp::kSin || c.op == ScalarOp::kCos || c.op == ScalarOp::kTan;
    if (trig && std::abs(v) > 0x1p40) v = std::fmod(v, 0x1p40);
    x.push_back(v);
  }
  for (double v : {0.0, -0.0, INFINITY + 0.0, -INFINITY + 0.0, NAN + 0.0, 709.78, 1e-310, -745.2})
    x.push_back(v);
  void* buffers[] = {x.data(), y.data()};
  int64_t n = static_cast<int64_t>(x.size());
  KernelCall call{buffers, &n, nullptr, 0, 1};
  image->find("f")(&call);
  for (size_t i = 0; i < x.size(); ++i) {
    double exact = c.exact(x[i]);
    if (std::isnan(exact)) {
      EXPECT_TRUE(std::isnan(y[i])) << x[i];
    } else if (std::isinf(exact) || exact == 0) {
      EXPECT_EQ(y[i], exact) << x[i];
      EXPECT_EQ(std::signbit(y[i]), std::signbit(exact)) << x[i];
    } else {
      // subnormals keep what digits they have
      EXPECT_LE(std::abs(y[i] - exact), 1e-13 * std::abs(exact) + 0x1p-1073)
          << scalar_op_name(c.op) << "(" << x[i] << ")";
    }
    if (HasFailure()) break;
  }
}
INSTANTIATE_TEST_SUITE_P(All, VectorMathF64, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(scalar_op_name(info.param.op)); });

TEST(VectorMathBinary, PowAtan2RemAgainstTheLibrary) {
  for (ScalarOp op : {ScalarOp::kPow, ScalarOp::kAtan2, ScalarOp::kRem}) {
    KernelBuilder k("g");
    Dim n = k.param("N");
    Buffer x = k.arg("x", DType::kF32, {n}), y = k.arg("y", DType::kF32, {n}),
           z = k.out("z", DType::kF32, {n});
    const int lanes = host_features().lanes(4);
    k.vector(lanes, "i", 0, n, [&](Dim i) { k.store(z, {i}, binary(op, x.load({i}), y.load({i}))); });
    Kernel kernel = k.finish();
    auto object = compile_kernels({&kernel, 1}, host_features());
    ASSERT_TRUE(object.ok()) << object.error().message;
    auto image = KernelImage::load(object->bytes);
    ASSERT_TRUE(image.ok()) << image.error().message;
    std::mt19937 random(3);
    std::vector<float> a, b;
    const float corner[] = {0.f,   -0.f,     1.f,       -1.f, 2.f,    -2.f,  3.f,    -3.f, 0.5f,
                            -0.5f, INFINITY, -INFINITY, NAN,  1e-45f, 3e38f, -3e38f, 7.5f};
    for (float u : corner)
      for (float v : corner) a.push_back(u), b.push_back(v);
    for (int i = 0; i < 400000; ++i) {
      float u = std::bit_cast<float>(static_cast<uint32_t>(random())),
            v = std::bit_cast<float>(static_cast<uint32_t>(random()));
      if (i % 4)
        u = std::ldexp(static_cast<float>(random() % 100000) / 100000.f + 0.00001f,
                       static_cast<int>(random() % 12) - 6);
      if (i % 2) v = static_cast<float>(static_cast<int>(random() % 4000) - 2000) / 100.f;
      if (i % 8 == 1) v = std::floor(v);
      if (i % 8 == 1 && i % 3) u = -u;
      a.push_back(u), b.push_back(v);
    }
    std::vector<float> c(a.size());
    void* buffers[] = {a.data(), b.data(), c.data()};
    int64_t count = static_cast<int64_t>(a.size());
    KernelCall call{buffers, &count, nullptr, 0, 1};
    image->find("g")(&call);
    double worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      double exact = op == ScalarOp::kPow ? std::pow(double(a[i]), double(b[i]))
                                          : std::atan2(double(a[i]), double(b[i]));
      if (op == ScalarOp::kRem) {
        exact = std::fmod(double(a[i]), double(b[i]));
        if (exact != 0 && (exact < 0) != (b[i] < 0)) exact += b[i];
      }
      double e = ulp_error(c[i], exact);
      if (e > worst) worst = e, at = i;
    }
    EXPECT_LE(worst, op == ScalarOp::kRem ? 0.5 : 4)
        << scalar_op_name(op) << " of " << a[at] << ", " << b[at] << " gave " << c[at];
  }
}

}  // namespace
}  // namespace graphc
