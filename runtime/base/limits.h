// What every loader refuses, and the checked arithmetic all of them use (RELIABILITY.md, "Limits").
//
//   GC_TRY(uint64_t bytes, checked_bytes(dtype, shape, limits));   // rank, dims and the product are checked
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "runtime/base/dtype.h"
#include "runtime/base/result.h"

namespace graphc {

struct LoadLimits {
  uint64_t max_graph_bytes = uint64_t{64} << 20;   // a .graph text
  uint64_t max_flatbuffer_bytes = 0x7fffffff;      // .gcx, .onnx
  uint64_t max_weight_header_bytes = 100'000'000;  // safetensors' own limit
  uint64_t max_memory_bytes = uint64_t{1} << 40;   // what a load may allocate in all; the caller's budget
  uint32_t max_rank = 8;
  int64_t max_dim = 0x7fffffff;
  uint32_t max_nodes = 1'000'000;
  uint32_t max_values = 4'000'000;
  uint32_t max_node_inputs = 4096;
  uint32_t max_string_bytes = 64 << 10;
  uint32_t max_attr_elements = 1'000'000;
  uint32_t max_nesting = 64;
};

inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t r;
  return __builtin_add_overflow(a, b, &r) ? std::nullopt : std::optional(r);
}
inline std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t r;
  return __builtin_mul_overflow(a, b, &r) ? std::nullopt : std::optional(r);
}

// Number of elements of a shape; an error names what is out of bounds. Rank 0 has one element.
inline Result<uint64_t> checked_numel(std::span<const int64_t> shape, const LoadLimits& limits = {}) {
  if (shape.size() > limits.max_rank)
    return invalid("rank " + std::to_string(shape.size()) + " is above the limit of " +
                   std::to_string(limits.max_rank));
  uint64_t n = 1;
  bool zero = false;
  for (const int64_t d : shape) {
    if (d < 0 || d > limits.max_dim)
      return invalid("dimension " + std::to_string(d) + " is outside 0..2147483647");
    zero |= d == 0;
    // A zero elsewhere must not hide an overflow: other code multiplies in another order.
    const auto p = checked_mul(n, d == 0 ? 1 : static_cast<uint64_t>(d));
    if (!p || *p > uint64_t{1} << 62) return invalid("the number of elements overflows");
    n = *p;
  }
  return zero ? 0 : n;
}

inline Result<uint64_t> checked_bytes(DType t, std::span<const int64_t> shape,
                                      const LoadLimits& limits = {}) {
  GC_TRY(const uint64_t n, checked_numel(shape, limits));
  const auto b = checked_mul(n, dtype_size(t));
  if (!b || *b > uint64_t{1} << 62) return invalid("the size in bytes overflows");
  return *b;
}

}  // namespace graphc
