// Element types and the conversions between them (round to nearest even; LANGUAGE.md "Corners": float to int truncates and
// saturates, NaN gives 0; integers wrap).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace graphc {

enum class DType : uint8_t { kBool, kI8, kI16, kI32, kI64, kU8, kU16, kU32, kU64, kF16, kBF16, kF32, kF64 };
inline constexpr int kNumDTypes = 13;

std::string_view dtype_name(DType t);                       // "f32"
std::optional<DType> dtype_from_name(std::string_view s);
size_t dtype_size(DType t);                                 // bytes an element; bool is one byte, 0 or 1
inline bool is_float(DType t) { return t >= DType::kF16; }
inline bool is_int(DType t) { return t >= DType::kI8 && t <= DType::kU64; }
inline bool is_signed_int(DType t) { return t >= DType::kI8 && t <= DType::kI64; }

uint16_t f32_to_f16(float x);
float f16_to_f32(uint16_t bits);
uint16_t f32_to_bf16(float x);
float bf16_to_f32(uint16_t bits);
// double straight to a 16-bit float, rounded once
uint16_t f64_to_f16(double x);
uint16_t f64_to_bf16(double x);

// Reads or writes element i of an array of type t as double. Exact for all types but i64 and u64 above 2^53.
double load_as_double(DType t, const void* p, size_t i);
void store_from_double(DType t, void* p, size_t i, double v);
// The same for integers and bool, exact. Floats are converted as cast does.
int64_t load_as_int(DType t, const void* p, size_t i);
void store_from_int(DType t, void* p, size_t i, int64_t v);

// float -> integer of type t: truncates, saturates, NaN gives 0. Returned as the bits of an int64 (u64: reinterpret).
int64_t double_to_int(DType t, double v);
// wraps v to the range of t, e.g. wrap_int(kI8, 130) == -126
int64_t wrap_int(DType t, int64_t v);

}  // namespace graphc
