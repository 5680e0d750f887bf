#include "ir/samples.h"

namespace graphc {

Shape sample_shape(SampleRng& rng, int rank, int64_t max_dim) {
  Shape s;
  for (int i = 0; i < rank; ++i) s.push_back(Dim(rng.range(1, max_dim)));
  return s;
}

Shape sample_shape_number(SampleRng& rng, int number) {
  if (number == 0) return {};
  if (number == 1) return {Dim(2), Dim(0), Dim(3)};
  if (number == 2) return {Dim(1)};
  return sample_shape(rng, static_cast<int>(rng.range(1, 4)));
}

Shape sample_broadcast(SampleRng& rng, const Shape& shape) {
  int64_t drop = rng.range(0, static_cast<int64_t>(shape.size()));
  Shape s(shape.begin() + drop, shape.end());
  for (Dim& d : s)
    if (rng.range(0, 2) == 0) d = Dim(1);
  return s;
}

std::vector<Sample> elementwise_samples(SampleRng& rng, int operands, DType dtype, double lo, double hi,
                                        int64_t int_lo, int64_t int_hi) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Sample s;
    s.lo = lo, s.hi = hi, s.int_lo = int_lo, s.int_hi = int_hi;
    Shape shape = sample_shape_number(rng, i);
    int full = static_cast<int>(rng.range(0, operands - 1));  // this one has the full shape
    for (int k = 0; k < operands; ++k)
      s.operands.push_back({dtype, k == full || i % 3 == 0 ? shape : sample_broadcast(rng, shape)});
    samples.push_back(std::move(s));
  }
  return samples;
}

}  // namespace graphc
