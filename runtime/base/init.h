// Initialisers of parameters (LANGUAGE.md "Initialisers"), on the host, one implementation: equal seeds give
// equal bits on every machine, backend and number of threads. Values are a pure function of (seed, path,
// index) through Philox; log, sin and cos are own polynomials in f64, and nothing is contracted to FMA.
//
//   InitSpec s{"kaiming_uniform", {{"a", std::sqrt(5.0)}}};
//   GC_CHECK(initialise(s, DType::kF32, {64, 3, 7, 7}, /*seed=*/0, "conv1.weight", bytes));
//
//   zeros  ones  constant(value)  uniform(lo, hi)  normal(std=1, mean=0)  trunc_normal(std=1, mean=0, a=-2,
//   b=2) kaiming_uniform(a=0)  kaiming_normal(a=0)     gain sqrt(2 / (1 + a^2)) over sqrt(fan_in)     [He et
//   al. 2015] xavier_uniform(gain=1)  xavier_normal(gain=1) [Glorot, Bengio 2010] orthogonal(gain=1) rows or
//   columns orthonormal of shape[0] x rest [Saxe et al. 2013] eye rank 2
//
// a and b of trunc_normal are values, not multiples of std, as PyTorch's are. Fans are PyTorch's: with
// [out, in, k...], fan_in = in * prod(k), fan_out = out * prod(k); rank 0 and 1 have none and are an error.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/dtype.h"
#include "runtime/base/result.h"

namespace graphc {

class ThreadPool;

struct InitSpec {
  std::string name;
  std::vector<std::pair<std::string, double>> attrs;
};

// An unknown initialiser or attribute, a missing or senseless value, or a shape it can't serve. What
// `initialise` would say.
Status check_init(const InitSpec& spec, DType dtype, std::span<const int64_t> shape);

// Fills out (dtype_size x product of shape bytes). Drawn in f64 and rounded once to dtype.
Status initialise(const InitSpec& spec, DType dtype, std::span<const int64_t> shape, uint64_t seed,
                  std::string_view path, void* out, ThreadPool* pool = nullptr);

// The polynomials, for tests. x > 0 and finite; turns in [0, 1).
double init_log(double x);
void init_sincos_turns(double turns, double* sin, double* cos);

}  // namespace graphc
