// Templates "rows" and "columns": which schedule, of which sizes.
#include <algorithm>
#include <limits>

#include "backends/cuda/kernels/reduce_plan.h"
#include "backends/cuda/kernels/vectors.h"

namespace graphc::cuda {
namespace {

constexpr int kRegisters =
    64;  // of a thread, for elements that later passes read again; half as many in large blocks
constexpr int64_t kPartBytes = 40 << 10;  // of shared memory, for partial sums of columns

int next_power(int64_t n) {
  int p = 1;
  while (p < n && p < 1024) p *= 2;
  return p;
}

// What the passes read, by a dry run.
struct Trial {
  int width = 1;
  std::vector<ReducePlan::Kept> repeated;  // by more than one pass, and different for every element
};

Result<Trial> try_passes(const ReduceForm& f, std::vector<std::string>& names) {
  RegionBuilder t(*f.region, "trial", f.roots, {}, f.results);
  ReduceReader r(f, t);
  Shape sizes;
  for (const auto& g : f.groups) sizes.push_back(g.size);
  const Coords at = f.coords(t.ranges(), trial_coords(t.ranges(), sizes, "g", names));
  Trial out;
  std::vector<ReducePlan::Kept> before, now;
  const auto same = [](const ReducePlan::Kept& a) {
    return [&a](const ReducePlan::Kept& b) { return a.operand == b.operand && a.address == b.address; };
  };
  t.keep([&](const Value* v, const Dim& address, const std::vector<Dim>& guards) {
    const bool varies = std::ranges::all_of(f.reduced, [&](int g) {
      const auto c = coefficient(address, names[static_cast<size_t>(g)]);
      return c && !c->is_constant(0);
    });
    if (guards.empty() && varies && std::ranges::none_of(now, same({v, address})))
      now.push_back({v, address});
    return Expr();
  });
  const auto pass_ends = [&] {
    for (const auto& k : now) {
      if (std::ranges::none_of(before, same(k)))
        before.push_back(k);
      else if (std::ranges::none_of(out.repeated, same(k)))
        out.repeated.push_back(k);
    }
    now.clear();
  };
  for (int l = 0; l < f.levels; ++l) {
    t.scoped([&] {
      for (const ReduceJob& j : f.jobs)
        if (j.level == l) t.k().let("t", r.value(j, at));
    });
    pass_ends();
    for (const ReduceJob& j : f.jobs)
      if (j.level == l) r.finish(j, at, Expr::constant(0, j.type));
  }
  t.scoped([&] { r.write(f.full_results, at); });
  pass_ends();
  t.keep({});
  t.scoped([&] { r.write(f.row_results, at); });
  GC_TRY(KernelStep dry, t.finish());
  if (!f.groups.empty()) out.width = vector_width(dry.kernel, names.back(), f.groups.back().size);
  return out;
}

void plan_rows(const ReduceForm& f, const CudaTarget& target, const Trial& trial, ReducePlan& p) {
  const auto rows = product(f.kept_sizes).as_constant(), length = p.length.as_constant();
  const int64_t elements = length ? *length * p.width : 0;
  const int64_t sm = std::max<int64_t>(1, target.multiprocessors);
  // the longest a row can be
  std::optional<int64_t> bound = length;
  if (!bound)
    if (const auto hi = f.region->ranges().upper(p.length)) bound = hi->as_constant();
  p.unroll = f.cost > 40 ? 1 : f.jobs.size() > 2 ? 2 : 4;
  if (length && elements <= 4) {
    p.schedule = ReduceSchedule::kThread;
    return;
  }
  if (rows && *rows * 2 <= sm && (!length || elements >= 16384)) {
    p.schedule = ReduceSchedule::kBlock;
    p.threads = 256;
    p.chunk = length ? std::max<int64_t>(4096 / p.width, *length * std::max<int64_t>(1, *rows) / (4 * sm))
                     : 16384 / p.width;
    return;
  }
  if (length && elements <= 1024) {
    p.schedule = ReduceSchedule::kGroup;
    p.threads = std::min(32, next_power(*length));
    if (p.threads > 1 && p.threads * 2 > *length * 3) p.threads /= 2;
    p.groups = 256 / p.threads;
    if (rows)
      while (p.groups > 1 && p.groups * p.threads > 64 && *rows < p.groups * sm) p.groups /= 2;
  } else {
    p.schedule = ReduceSchedule::kBlock;
    p.threads = length  ? std::clamp(next_power(*length / 4), 128, 512)
                : bound ? std::clamp(next_power(*bound / 8), 128, 512)
                        : 256;
  }
  if (!bound || *bound <= 0) return;
  const int64_t slots = (*bound - 1) / p.threads + 1;
  p.unroll = static_cast<int>(std::min<int64_t>(p.unroll, next_power(slots)));
  if (trial.repeated.empty()) return;
  const int64_t most = (p.threads > 256 ? kRegisters / 2 : kRegisters) / (slots * p.width);
  for (const auto& k : trial.repeated)
    if (static_cast<int64_t>(p.keep.size()) < most) p.keep.push_back(k);
  if (!p.keep.empty()) p.slots = static_cast<int>(slots);
}

void plan_columns(const ReduceForm& f, const CudaTarget& target, ReducePlan& p) {
  const auto length = p.length.as_constant();
  const int64_t sm = std::max<int64_t>(1, target.multiprocessors);
  int64_t bytes = 0;
  for (const ReduceJob& j : f.jobs) bytes += 256 * static_cast<int64_t>(dtype_size(j.type));
  if ((length && *length <= 16) || bytes > kPartBytes || f.kept.empty()) {
    p.schedule = ReduceSchedule::kThread;
    return;
  }
  while (bytes * p.width > kPartBytes) p.width /= 2;
  p.schedule = ReduceSchedule::kColumns;
  p.threads = 256;
  const auto columns = f.kept_sizes.back().as_constant();
  p.lanes = columns ? std::min(32, next_power((*columns + p.width - 1) / p.width)) : 32;
  const int rows = p.threads / p.lanes, block = p.lanes * p.width;
  const auto others = product(f.kept_sizes, 0, f.kept_sizes.size() - 1).as_constant();
  if (!columns || !others) return;
  const int64_t blocks = std::max<int64_t>(1, (*columns + block - 1) / block * *others);
  if (blocks >= 2 * sm || (length && *length < 32 * rows)) return;
  const int64_t chunk = length ? *length * blocks / (4 * sm) : 0;
  p.chunk = std::max<int64_t>(16 * rows, (chunk + rows - 1) / rows * rows);
}

}  // namespace

Result<ReducePlan> plan_reduce(const ReduceForm& f, const CudaTarget& target) {
  ReducePlan p;
  GC_TRY(const Trial trial, try_passes(f, p.names));
  p.width = trial.width;
  p.reduced = f.reduced_sizes;
  if (f.by_row && !p.reduced.empty()) p.reduced.back() = floordiv(p.reduced.back(), p.width);
  p.length = product(p.reduced);
  if (f.by_row)
    plan_rows(f, target, trial, p);
  else
    plan_columns(f, target, p);
  return p;
}

void set_vars(const ReduceForm& f, const std::vector<int>& which, const Coords& at, Coords& vars) {
  vars.resize(f.groups.size());
  for (size_t i = 0; i < which.size(); ++i) vars[static_cast<size_t>(which[i])] = at[i];
}

Expr combine(ReduceOp op, const Expr& a, const Expr& b) {
  switch (op) {
    case ReduceOp::kAdd: return a + b;
    case ReduceOp::kMul: return a * b;
    case ReduceOp::kMax: return maximum(a, b);
    default: return minimum(a, b);
  }
}

Expr identity_of(ReduceOp op, DType t) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  if (is_float(t)) {
    const double values[] = {-0.0, 1, -kInf, kInf};
    return Expr::constant(values[static_cast<int>(op)], t);
  }
  const int bits = static_cast<int>(dtype_size(t)) * 8;
  const bool sign = is_signed_int(t);
  const uint64_t all = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  switch (op) {
    case ReduceOp::kAdd: return Expr::int_constant(0, t);
    case ReduceOp::kMul: return Expr::int_constant(1, t);
    case ReduceOp::kMax:
      return Expr::int_constant(!sign ? 0 : static_cast<int64_t>(~uint64_t{0} << (bits - 1)), t);
    default: return Expr::int_constant(static_cast<int64_t>(sign ? all >> 1 : all), t);
  }
}

Result<LoweredRegion> lower_reduce(const Func& region, const LowerOptions& options) {
  GC_TRY(const ReduceForm f, reduce_form(region, "cuda", true));
  GC_TRY(const ReducePlan p, plan_reduce(f, options.target));
  if (p.chunk > 0) return reduce_by_chunks(f, p, options.target, options.name);
  LoweredRegion out;
  const auto one = [&]() -> Result<KernelStep> {
    switch (p.schedule) {
      case ReduceSchedule::kThread: return reduce_by_thread(f, p, options.target, options.name);
      case ReduceSchedule::kColumns: return reduce_by_columns(f, p, options.name);
      default: return reduce_by_rows(f, p, options.name);
    }
  };
  GC_TRY(KernelStep step, one());
  out.steps.push_back(std::move(step));
  return out;
}

}  // namespace graphc::cuda
