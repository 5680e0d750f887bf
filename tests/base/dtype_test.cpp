#include "runtime/base/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

namespace graphc {
namespace {

TEST(DType, NamesRoundTrip) {
  for (int i = 0; i < kNumDTypes; ++i) {
    const auto t = static_cast<DType>(i);
    EXPECT_EQ(dtype_from_name(dtype_name(t)), t);
  }
  EXPECT_FALSE(dtype_from_name("f8"));
  EXPECT_EQ(dtype_size(DType::kBF16), 2u);
}

// Every 16-bit float survives the way through f32 and f64.
TEST(DType, SixteenBitFloatsRoundTrip) {
  for (uint32_t b = 0; b < 65536; ++b) {
    const auto h = static_cast<uint16_t>(b);
    const float f = f16_to_f32(h), g = bf16_to_f32(h);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(f))));
    } else {
      ASSERT_EQ(f32_to_f16(f), h);
      ASSERT_EQ(f64_to_f16(f), h);
    }
    if (std::isnan(g)) {
      EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(g))));
    } else {
      ASSERT_EQ(f32_to_bf16(g), h);
      ASSERT_EQ(f64_to_bf16(g), h);
    }
  }
}

// The rounded value is the nearer neighbour; on a tie the one with the even mantissa.
template <class Down, class Up>
void check_nearest_even(Down down, Up up, double x) {
  const uint16_t h = down(x);
  const double v = up(h);
  if (std::isinf(v)) return;
  const uint16_t mag = h & 0x7fff, sign = h & 0x8000;
  for (const int step : {-1, 1}) {
    if (mag == 0 && step < 0) continue;
    const double w = up(static_cast<uint16_t>(sign | (mag + step)));
    const double dv = std::fabs(x - v), dw = std::fabs(x - w);
    ASSERT_LE(dv, dw) << x;
    if (dv == dw) {
      ASSERT_EQ(h & 1, 0) << x;
    }
  }
}

TEST(DType, RoundsToNearestEven) {
  std::mt19937_64 rng(1);
  for (int i = 0; i < 200000; ++i) {
    const int e = static_cast<int>(rng() % 45) - 30;
    double x = std::ldexp(1.0 + static_cast<double>(rng() >> 11) * 0x1p-53, e);
    if (i % 4 == 0) x = std::ldexp(static_cast<double>(rng() % 4096), e - 12);  // many exact ties
    if (i & 1) x = -x;
    check_nearest_even(f64_to_f16, f16_to_f32, x);
    check_nearest_even(f64_to_bf16, bf16_to_f32, x);
    check_nearest_even([](double v) { return f32_to_f16(static_cast<float>(v)); }, f16_to_f32,
                       static_cast<float>(x));
    ASSERT_EQ(f32_to_bf16(static_cast<float>(x)), f64_to_bf16(static_cast<float>(x)));
  }
}

TEST(DType, RoundsOnceAtTheEdges) {
  // 1 + 2^-11 + 2^-40 is above the tie; through f32 it would become the tie and round down.
  EXPECT_EQ(f64_to_f16(1 + 0x1p-11 + 0x1p-40), 0x3c01);
  EXPECT_EQ(f64_to_f16(1 + 0x1p-11), 0x3c00);
  EXPECT_EQ(f64_to_f16(65519.99), 0x7bff);
  EXPECT_EQ(f64_to_f16(65520.0), 0x7c00);
  EXPECT_EQ(f64_to_f16(-0x1p-25), 0x8000);  // tie between 0 and the smallest subnormal
  EXPECT_EQ(f64_to_f16(0x1.0000001p-25), 0x0001);
  EXPECT_EQ(f64_to_f16(0x1p-15), 0x0200);
  EXPECT_EQ(f64_to_bf16(0x1p-133), 0x0001);
  EXPECT_EQ(f32_to_f16(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
}

TEST(DType, FloatToIntTruncatesAndSaturates) {
  EXPECT_EQ(double_to_int(DType::kI8, -3.9), -3);
  EXPECT_EQ(double_to_int(DType::kI8, 300), 127);
  EXPECT_EQ(double_to_int(DType::kI8, -129), -128);
  EXPECT_EQ(double_to_int(DType::kU8, -1), 0);
  EXPECT_EQ(double_to_int(DType::kI32, NAN), 0);
  EXPECT_EQ(double_to_int(DType::kI64, 1e30), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(double_to_int(DType::kI64, -INFINITY), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(static_cast<uint64_t>(double_to_int(DType::kU64, 0x1p63 + 4096)), (uint64_t{1} << 63) + 4096);
  EXPECT_EQ(static_cast<uint64_t>(double_to_int(DType::kU64, 1e30)), std::numeric_limits<uint64_t>::max());
}

TEST(DType, IntegersWrapAndRoundTrip) {
  EXPECT_EQ(wrap_int(DType::kI8, 130), -126);
  EXPECT_EQ(wrap_int(DType::kU8, -1), 255);
  EXPECT_EQ(wrap_int(DType::kU16, 65536 + 7), 7);
  std::mt19937_64 rng(2);
  for (int i = 0; i < kNumDTypes; ++i) {
    const auto t = static_cast<DType>(i);
    if (is_float(t)) continue;
    alignas(8) char buffer[32];
    for (int k = 0; k < 100; ++k) {
      const auto v = static_cast<int64_t>(rng());
      store_from_int(t, buffer, 2, v);
      ASSERT_EQ(load_as_int(t, buffer, 2), wrap_int(t, v)) << dtype_name(t);
    }
  }
}

TEST(DType, IntegersRoundOnceToFloats) {
  uint16_t h;
  store_from_int(DType::kBF16, &h, 0, (int64_t{1} << 62) + (int64_t{1} << 54) + 1);  // just above a tie
  EXPECT_EQ(bf16_to_f32(h), 0x1p62f + 0x1p55f);
  store_from_int(DType::kBF16, &h, 0, (int64_t{1} << 62) + (int64_t{1} << 54));  // the tie
  EXPECT_EQ(bf16_to_f32(h), 0x1p62f);
  store_from_int(DType::kF16, &h, 0, -2049);
  EXPECT_EQ(f16_to_f32(h), -2048);
}

}  // namespace
}  // namespace graphc
