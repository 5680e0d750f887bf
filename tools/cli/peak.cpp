#include "tools/cli/peak.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>

#include "backends/cpu/exec/features.h"

namespace graphc::cli {
namespace {

constexpr int kAccumulators = 12, kRounds = 200'000;

// Independent multiply-adds in registers: as many as hide the latency on every machine there is.
__attribute__((target("avx2,fma"))) float multiply_add_256() {
  __m256 acc[kAccumulators];
  for (int i = 0; i < kAccumulators; ++i) acc[i] = _mm256_set1_ps(static_cast<float>(i));
  __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int r = 0; r < kRounds; ++r) {
    asm volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 12
    for (int i = 0; i < kAccumulators; ++i) acc[i] = _mm256_fmadd_ps(acc[i], a, b);
  }
  float out[8], sum = 0;
  for (int i = 0; i < kAccumulators; ++i) {
    _mm256_storeu_ps(out, acc[i]);
    sum += out[0];
  }
  return sum;
}
__attribute__((target("avx512f"))) float multiply_add_512() {
  __m512 acc[kAccumulators];
  for (int i = 0; i < kAccumulators; ++i) acc[i] = _mm512_set1_ps(static_cast<float>(i));
  __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int r = 0; r < kRounds; ++r) {
    asm volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 12
    for (int i = 0; i < kAccumulators; ++i) acc[i] = _mm512_fmadd_ps(acc[i], a, b);
  }
  float out[16], sum = 0;
  for (int i = 0; i < kAccumulators; ++i) {
    _mm512_storeu_ps(out, acc[i]);
    sum += out[0];
  }
  return sum;
}

}  // namespace

Peak measure_peak(ThreadPool& pool) {
  const bool wide = host_features().avx512();
  const double flops_a_task = 2.0 * kAccumulators * kRounds * (wide ? 16 : 8);
  const int64_t tasks = pool.threads();
  volatile float sink = 0;
  double best = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    pool.parallel_for(
        tasks, 1, [&](int64_t, int64_t) { sink = sink + (wide ? multiply_add_512() : multiply_add_256()); });
    const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, flops_a_task * static_cast<double>(tasks) / s);
  }
  return {best};
}

}  // namespace graphc::cli
