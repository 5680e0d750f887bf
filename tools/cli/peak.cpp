#include "tools/cli/peak.h"

#include <algorithm>
#include <chrono>

#include "backends/cpu/exec/features.h"

namespace graphc::cli {
namespace {

constexpr int kAccumulators = 12, kRounds = 200'000;

typedef float Lanes8 __attribute__((vector_size(32)));
typedef float Lanes16 __attribute__((vector_size(64)));

// Independent multiply-adds in registers: as many as hide the latency on every machine there is. All in one
// statement, so that no compiler can put anything between them; the numbers go nowhere.
template <class Vector>
[[gnu::always_inline]] inline void multiply_adds() {
  Vector c0{}, c1{}, c2{}, c3{}, c4{}, c5{}, c6{}, c7{}, c8{}, c9{}, c10{}, c11{}, a{};
  for (int r = 0; r < kRounds; ++r)
    asm volatile(
        "vfmadd231ps %12, %12, %0\n vfmadd231ps %12, %12, %1\n vfmadd231ps %12, %12, %2\n"
        "vfmadd231ps %12, %12, %3\n vfmadd231ps %12, %12, %4\n vfmadd231ps %12, %12, %5\n"
        "vfmadd231ps %12, %12, %6\n vfmadd231ps %12, %12, %7\n vfmadd231ps %12, %12, %8\n"
        "vfmadd231ps %12, %12, %9\n vfmadd231ps %12, %12, %10\n vfmadd231ps %12, %12, %11"
        : "+x"(c0), "+x"(c1), "+x"(c2), "+x"(c3), "+x"(c4), "+x"(c5), "+x"(c6), "+x"(c7), "+x"(c8), "+x"(c9),
          "+x"(c10), "+x"(c11)
        : "x"(a));
}
[[gnu::target("avx2,fma")]] void multiply_adds_256() { multiply_adds<Lanes8>(); }
[[gnu::target("avx512f")]] void multiply_adds_512() { multiply_adds<Lanes16>(); }

}  // namespace

Peak measure_peak(ThreadPool& pool) {
  const bool wide = host_features().avx512();
  const double flops_a_task = 2.0 * kAccumulators * kRounds * (wide ? 16 : 8);
  // Several tasks a thread, so that a thread that wakes late doesn't halve the figure; the best round counts.
  const int64_t tasks = 8 * pool.threads();
  double best = 0;
  for (int repeat = 0; repeat < 7; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    pool.parallel_for(tasks, 1, [&](int64_t, int64_t) { wide ? multiply_adds_512() : multiply_adds_256(); });
    const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, flops_a_task * static_cast<double>(tasks) / s);
  }
  return {best};
}

}  // namespace graphc::cli
