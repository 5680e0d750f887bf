// Helpers for the `samples` of op records: random small shapes, always with rank 0, a size 0 and broadcasting
// among them. Samples are drawn from a seeded generator, so tests are the same in every run.
#pragma once

#include "ir/op.h"

namespace graphc {

inline constexpr int kSampleCount = 24;

// Sizes 1..max_dim of the given rank.
Shape sample_shape(SampleRng& rng, int rank, int64_t max_dim = 4);
// The shapes of samples 0, 1, 2, ..: rank 0, a size 0, a single element, then random ranks 1..4.
Shape sample_shape_number(SampleRng& rng, int number);
// A shape that broadcasts to `shape`: axes replaced by 1, leading axes dropped.
Shape sample_broadcast(SampleRng& rng, const Shape& shape);

// kSampleCount samples of an elementwise op with `operands` operands that broadcast.
std::vector<Sample> elementwise_samples(SampleRng& rng, int operands, DType dtype = DType::kF32,
                                        double lo = -2, double hi = 2, int64_t int_lo = 0,
                                        int64_t int_hi = 3);
inline std::vector<Sample> unary_samples(SampleRng& rng) { return elementwise_samples(rng, 1); }
inline std::vector<Sample> binary_samples(SampleRng& rng) { return elementwise_samples(rng, 2); }
inline std::vector<Sample> positive_samples(SampleRng& rng) {
  return elementwise_samples(rng, 1, DType::kF32, 0.3, 3);
}

inline TensorType f32(Shape shape) { return {DType::kF32, std::move(shape)}; }
inline TensorType i32(Shape shape) { return {DType::kI32, std::move(shape)}; }

}  // namespace graphc
