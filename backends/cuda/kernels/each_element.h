// The plainest schedule: one thread per element of a shape, neighbours in memory by neighbouring threads.
#pragma once

#include <algorithm>
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

// A value of type i64 under a name, kept within 0..last: the emitter then knows that index arithmetic with it
// fits into 32 bits, and nothing out of bounds is touched whatever the data.
inline Dim let_within(RegionBuilder& b, std::string_view name, const Expr& value, const Dim& last) {
  const Expr hi = last.is_constant() ? Expr::int_constant(last.constant(), DType::kI64) : Expr::index(last);
  const Dim d = b.k().let_index(name, maximum(minimum(hi, value), Expr::int_constant(0, DType::kI64)));
  if (const auto s = d.as_symbol()) b.ranges().set(*s, 0, last);
  return d;
}

// delinearize, every coordinate under a name of its own: no quotient is written out twice, and what is known
// of a coordinate is its axis' size.
inline Coords split_index(RegionBuilder& b, const Shape& shape, const Dim& linear) {
  Coords at(shape.size(), Dim(0));
  if (std::ranges::any_of(shape, [](const Dim& d) { return d.is_constant(0); })) return at;
  size_t first = 0;
  while (first < shape.size() && shape[first].is_constant(1)) ++first;
  const auto named = [&](const Dim& d, const Dim& size) {
    const Dim s = b.simplify(d);
    return s.is_constant() || s.as_symbol() ? s : let_within(b, "at", Expr::index(s), b.simplify(size - 1));
  };
  Dim rest = linear;
  for (size_t a = shape.size(); a-- > first;) {
    if (shape[a].is_constant(1)) continue;
    if (a == first) {
      at[a] = named(rest, shape[a]);
      break;
    }
    const Dim q = named(floordiv(rest, shape[a]), product(shape, first, a));
    at[a] = named(rest - q * shape[a], shape[a]);
    rest = q;
  }
  return at;
}

// d, unless it is known to be >= 0, joins the guards.
inline void add_guard(RegionBuilder& b, std::vector<Dim>& guards, const Dim& d) {
  Dim s = b.simplify(d);
  if (!b.ranges().provably_nonnegative(s)) guards.push_back(std::move(s));
}

}  // namespace graphc::cuda
