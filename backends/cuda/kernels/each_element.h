// The plainest schedule: one thread per element of a shape, neighbours in memory by neighbouring threads.
#pragma once

#include <functional>

#include "backends/cuda/targets.h"
#include "backends/kernels/region_builder.h"

namespace graphc::cuda {

// Threads of a block, fewer where the elements would otherwise not reach every multiprocessor.
inline int element_threads(const Shape& shape, const CudaTarget& target) {
  const auto n = product(shape).as_constant();
  int threads = 256;
  while (n && threads > 64 && *n < threads * target.multiprocessors) threads /= 2;
  return threads;
}

//   parallel p in 0..ceil(n / 256) { thread<256> e in p*256..(p+1)*256 below n { body(coordinates of e) } }
inline void each_element(RegionBuilder& b, const Shape& shape, int threads,
                         const std::function<void(const Coords&)>& body) {
  const Dim n = product(shape);
  if (n.is_constant(1))
    return b.loop(parallel(), "p", 0, 1, [&](Dim) { body(Coords(shape.size(), Dim(0))); });
  b.loop(parallel(), "p", 0, ceildiv(n, threads), [&](Dim p) {
    b.loop(
        thread(threads), "e", p * threads, (p + 1) * threads,
        [&](Dim e) { body(delinearize(shape, e, b.ranges())); }, n);
  });
}

// The iterations p*share .. (p+1)*share of 0..total by the block's threads; one block has no bounds to look
// at.
inline void share_of_block(RegionBuilder& b, LoopSpec spec, std::string_view var, const Dim& p, int64_t share,
                           const Dim& total, const std::function<void(Dim)>& body) {
  const auto n = total.as_constant();
  if (n && *n <= share) return b.loop(spec, var, 0, total, body);
  const std::optional<Dim> limit = n && *n % share == 0 ? std::nullopt : std::optional<Dim>(total);
  b.loop(spec, var, p * share, (p + 1) * share, body, limit);
}

// d, unless it is known to be >= 0, joins the guards.
inline void add_guard(RegionBuilder& b, std::vector<Dim>& guards, const Dim& d) {
  Dim s = b.simplify(d);
  if (!b.ranges().provably_nonnegative(s)) guards.push_back(std::move(s));
}

}  // namespace graphc::cuda
