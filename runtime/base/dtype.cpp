#include "runtime/base/dtype.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace graphc {
namespace {

struct Info {
  std::string_view name;
  uint8_t size;
};
constexpr Info kInfo[kNumDTypes] = {{"bool", 1}, {"i8", 1},  {"i16", 2}, {"i32", 4}, {"i64", 8},
                                    {"u8", 1},   {"u16", 2}, {"u32", 4}, {"u64", 8}, {"f16", 2},
                                    {"bf16", 2}, {"f32", 4}, {"f64", 8}};

template <class T>
T load(const void* p, size_t i) {
  T v;
  std::memcpy(&v, static_cast<const char*>(p) + i * sizeof(T), sizeof(T));
  return v;
}
template <class T>
void store(void* p, size_t i, T v) {
  std::memcpy(static_cast<char*>(p) + i * sizeof(T), &v, sizeof(T));
}

// Rounds x to nearest even in a 16-bit float with `mant` mantissa bits (10: f16, 7: bf16), once, subnormals
// included.
uint16_t round_to_16(double x, int mant) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  const uint16_t sign = static_cast<uint16_t>(bits >> 48 & 0x8000);
  const int exp_bits = 15 - mant;
  const int bias = (1 << (exp_bits - 1)) - 1;
  const uint16_t inf = static_cast<uint16_t>(((1 << exp_bits) - 1) << mant);
  const int raw = static_cast<int>(bits >> 52 & 0x7ff);
  const uint64_t frac = bits & ((uint64_t{1} << 52) - 1);
  if (raw == 0x7ff) {
    if (frac == 0) return sign | inf;
    return static_cast<uint16_t>(sign | inf | (1u << (mant - 1)) |
                                 (frac >> (52 - mant)));  // quiet, payload's top kept
  }
  if (raw == 0) return sign;  // f64 subnormals are far below half of the smallest bf16 subnormal
  const int e = raw - 1023;
  const int emin = 1 - bias;
  if (e > bias) return sign | inf;
  const uint64_t sig = frac | uint64_t{1} << 52;
  const int shift = 52 - mant + (e < emin ? emin - e : 0);
  if (shift > 54) return sign;
  uint64_t q = sig >> shift;
  const uint64_t rest = sig & ((uint64_t{1} << shift) - 1), half = uint64_t{1} << (shift - 1);
  if (rest > half || (rest == half && (q & 1))) ++q;
  // A carry out of the mantissa moves into the exponent by itself.
  const uint64_t code = e < emin ? q : (static_cast<uint64_t>(e + bias - 1) << mant) + q;
  return static_cast<uint16_t>(sign | (code >= inf ? inf : code));
}

template <class T>
int64_t saturate(double v) {
  if (std::isnan(v)) return 0;
  v = std::trunc(v);
  // As doubles both bounds are exact or one above the largest value (i64, u64), so >= is right.
  const double lo = static_cast<double>(std::numeric_limits<T>::min());
  const double hi = static_cast<double>(std::numeric_limits<T>::max());
  if (v <= lo) return static_cast<int64_t>(std::numeric_limits<T>::min());
  if (v >= hi) return static_cast<int64_t>(std::numeric_limits<T>::max());
  return static_cast<int64_t>(static_cast<T>(v));
}

// int64 -> double rounded to odd, so that a second rounding to a narrower float is right.
double int_to_double_odd(int64_t v) {
  const bool neg = v < 0;
  uint64_t m = neg ? 0 - static_cast<uint64_t>(v) : static_cast<uint64_t>(v);
  if (m >> 53) {
    const uint64_t low = m & 0x7ff;
    m = (m & ~uint64_t{0x7ff}) | (low != 0 ? 0x800 : 0);
  }
  const double d = static_cast<double>(m);
  return neg ? -d : d;
}

}  // namespace

std::string_view dtype_name(DType t) { return kInfo[static_cast<int>(t)].name; }
size_t dtype_size(DType t) { return kInfo[static_cast<int>(t)].size; }

std::optional<DType> dtype_from_name(std::string_view s) {
  for (int i = 0; i < kNumDTypes; ++i)
    if (kInfo[i].name == s) return static_cast<DType>(i);
  return std::nullopt;
}

uint16_t f64_to_f16(double x) { return round_to_16(x, 10); }
uint16_t f64_to_bf16(double x) { return round_to_16(x, 7); }
uint16_t f32_to_f16(float x) { return round_to_16(x, 10); }

uint16_t f32_to_bf16(float x) {
  const uint32_t b = std::bit_cast<uint32_t>(x);
  if ((b & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(b >> 16 | 0x40);
  return static_cast<uint16_t>((b + 0x7fff + (b >> 16 & 1)) >> 16);
}
float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

float f16_to_f32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t e = h >> 10 & 0x1f, m = h & 0x3ff;
  if (e == 0x1f) return std::bit_cast<float>(sign | 0x7f800000 | m << 13);
  if (e == 0) {
    const float v = static_cast<float>(m) * 0x1p-24f;
    return sign ? -v : v;
  }
  return std::bit_cast<float>(sign | (e + 112) << 23 | m << 13);
}

double load_as_double(DType t, const void* p, size_t i) {
  switch (t) {
    case DType::kBool: return load<uint8_t>(p, i) != 0;
    case DType::kI8: return load<int8_t>(p, i);
    case DType::kI16: return load<int16_t>(p, i);
    case DType::kI32: return load<int32_t>(p, i);
    case DType::kI64: return static_cast<double>(load<int64_t>(p, i));
    case DType::kU8: return load<uint8_t>(p, i);
    case DType::kU16: return load<uint16_t>(p, i);
    case DType::kU32: return load<uint32_t>(p, i);
    case DType::kU64: return static_cast<double>(load<uint64_t>(p, i));
    case DType::kF16: return f16_to_f32(load<uint16_t>(p, i));
    case DType::kBF16: return bf16_to_f32(load<uint16_t>(p, i));
    case DType::kF32: return load<float>(p, i);
    case DType::kF64: return load<double>(p, i);
  }
  return 0;
}

void store_from_double(DType t, void* p, size_t i, double v) {
  switch (t) {
    case DType::kF16: return store(p, i, f64_to_f16(v));
    case DType::kBF16: return store(p, i, f64_to_bf16(v));
    case DType::kF32: return store(p, i, static_cast<float>(v));
    case DType::kF64: return store(p, i, v);
    default: return store_from_int(t, p, i, double_to_int(t, v));
  }
}

int64_t load_as_int(DType t, const void* p, size_t i) {
  switch (t) {
    case DType::kBool: return load<uint8_t>(p, i) != 0;
    case DType::kI8: return load<int8_t>(p, i);
    case DType::kI16: return load<int16_t>(p, i);
    case DType::kI32: return load<int32_t>(p, i);
    case DType::kI64:
    case DType::kU64: return load<int64_t>(p, i);
    case DType::kU8: return load<uint8_t>(p, i);
    case DType::kU16: return load<uint16_t>(p, i);
    case DType::kU32: return load<uint32_t>(p, i);
    default: return double_to_int(DType::kI64, load_as_double(t, p, i));
  }
}

void store_from_int(DType t, void* p, size_t i, int64_t v) {
  switch (t) {
    case DType::kBool: return store<uint8_t>(p, i, v != 0);
    case DType::kI8:
    case DType::kU8: return store(p, i, static_cast<uint8_t>(v));
    case DType::kI16:
    case DType::kU16: return store(p, i, static_cast<uint16_t>(v));
    case DType::kI32:
    case DType::kU32: return store(p, i, static_cast<uint32_t>(v));
    case DType::kI64:
    case DType::kU64: return store(p, i, v);
    case DType::kF16: return store(p, i, f64_to_f16(int_to_double_odd(v)));
    case DType::kBF16: return store(p, i, f64_to_bf16(int_to_double_odd(v)));
    case DType::kF32: return store(p, i, static_cast<float>(v));
    case DType::kF64: return store(p, i, static_cast<double>(v));
  }
}

int64_t double_to_int(DType t, double v) {
  switch (t) {
    case DType::kBool: return v != 0;
    case DType::kI8: return saturate<int8_t>(v);
    case DType::kI16: return saturate<int16_t>(v);
    case DType::kI32: return saturate<int32_t>(v);
    case DType::kU8: return saturate<uint8_t>(v);
    case DType::kU16: return saturate<uint16_t>(v);
    case DType::kU32: return saturate<uint32_t>(v);
    case DType::kU64: return saturate<uint64_t>(v);
    default: return saturate<int64_t>(v);
  }
}

int64_t wrap_int(DType t, int64_t v) {
  switch (t) {
    case DType::kBool: return v != 0;
    case DType::kI8: return static_cast<int8_t>(v);
    case DType::kI16: return static_cast<int16_t>(v);
    case DType::kI32: return static_cast<int32_t>(v);
    case DType::kU8: return static_cast<uint8_t>(v);
    case DType::kU16: return static_cast<uint16_t>(v);
    case DType::kU32: return static_cast<uint32_t>(v);
    default: return v;
  }
}

}  // namespace graphc
