#include "backends/kernels/reduce_form.h"

#include <algorithm>

#include <fmt/format.h>

namespace graphc {
namespace {

constexpr double kNoPosition = 9.0e15;  // past every index, exact in an i64

bool is_reduction(const Node& n) {
  static constexpr std::string_view kOps[] = {"sum", "prod", "max", "min", "all", "any", "argmax"};
  return std::find(std::begin(kOps), std::end(kOps), n.op->name) != std::end(kOps);
}

ReduceOp op_of(std::string_view name) {
  if (name == "sum") return ReduceOp::kAdd;
  if (name == "prod") return ReduceOp::kMul;
  if (name == "min" || name == "all") return ReduceOp::kMin;
  return ReduceOp::kMax;
}

std::vector<int64_t> axes_of(const Node& n) {
  if (n.op->name == "argmax") return {n.attr("axis").as_int()};
  return n.attr("axes").as_ints();
}

Status find_jobs(ReduceForm& f, std::string_view backend, bool wide_argmax) {
  f.roots.assign(f.region->body.results.begin(), f.region->body.results.end());
  for (size_t i = 0; i < f.roots.size(); ++i) f.results.push_back(static_cast<int>(i));
  std::map<const Value*, int> level;
  for (const auto& n : f.region->body.nodes) {
    int l = 0;
    for (const Value* v : n->operands) l = std::max(l, level[v]);
    if (is_reduction(*n)) {
      const Shape& s = n->operands[0]->type.shape;
      if (f.jobs.empty()) {
        f.space = s;
        f.axes = axes_of(*n);
      } else if (s != f.space || axes_of(*n) != f.axes) {
        return unsupported("the reductions of a region don't share one space and the same axes");
      }
      const DType t = n->operands[0]->type.dtype;
      const std::string_view op = n->op->name;
      const bool logic = op == "any" || op == "all";
      if (t == DType::kBool && !logic)
        return unsupported(fmt::format("'{}' of bool isn't supported by the {} backend", op, backend));
      // The second pass over an argmax looks for what the first has found. Where both compute it, memory in
      // between must not round what isn't rounded yet.
      const bool wide = wide_argmax && op == "argmax" && is_float(t) && n->operands[0]->node;
      f.jobs.push_back({n.get(), op_of(op), 0, l,
                        logic  ? DType::kI32
                        : wide ? DType::kF64
                               : accumulator_type(t)});
      if (op == "argmax") f.jobs.push_back({n.get(), ReduceOp::kMin, 1, ++l, DType::kI64});
      ++l;
    }
    for (const auto& r : n->results) level[r.get()] = l;
    f.levels = std::max(f.levels, l);
  }
  if (f.jobs.empty()) return unsupported("a reduction region without a reduction");
  for (size_t i = 0; i < f.space.size(); ++i) {
    const bool r = std::find(f.axes.begin(), f.axes.end(), static_cast<int64_t>(i)) != f.axes.end();
    f.is_reduced.push_back(r);
    if (!r) f.kept_shape.push_back(f.space[i]);
  }
  const Dim rows = product(f.kept_shape), full = product(f.space);
  for (int r : f.results) {
    const Dim n = product(f.roots[static_cast<size_t>(r)]->type.shape);
    if (n == rows)
      f.row_results.push_back(r);
    else if (n == full)
      f.full_results.push_back(r);
    else
      return unsupported("a result of the reduction region is neither of the full nor of the reduced size");
  }
  return ok_status();
}

Status group_axes(ReduceForm& f) {
  RegionBuilder t(*f.region, "trial", f.roots, {}, f.results);
  ReduceReader r(f, t);
  std::vector<std::string> vars;
  const Coords at = trial_coords(t.ranges(), f.space, "s", vars);
  for (const ReduceJob& j : f.jobs) {
    if (j.phase == 0) t.k().let("t", t.element(j.node->operands[0], at));
    r.finish(j, at, Expr::constant(0, j.type));
  }
  r.write(f.full_results, at);
  r.write(f.row_results, at);
  GC_TRY(KernelStep dry, t.finish());
  f.cost = body_cost(dry.kernel);
  const std::vector<Access> touched = accesses(dry.kernel);
  int last = -1;
  for (size_t i = 0; i < f.space.size(); ++i) {
    if (f.space[i].is_constant(1)) continue;
    const bool joins = last >= 0 && f.is_reduced[static_cast<size_t>(last)] == f.is_reduced[i] &&
                       collapsible(touched, vars[static_cast<size_t>(last)], vars[i], f.space[i]);
    if (joins)
      f.groups.back().axes.push_back(static_cast<int>(i));
    else
      f.groups.push_back({{static_cast<int>(i)}, Dim(1), f.is_reduced[i]});
    f.groups.back().size *= f.space[i];
    last = static_cast<int>(i);
  }
  for (size_t g = 0; g < f.groups.size(); ++g) {
    (f.groups[g].reduced ? f.reduced : f.kept).push_back(static_cast<int>(g));
    (f.groups[g].reduced ? f.reduced_sizes : f.kept_sizes).push_back(f.groups[g].size);
  }
  f.by_row = f.kept.empty() || (!f.reduced.empty() && f.reduced.back() > f.kept.back());
  return ok_status();
}

}  // namespace

Coords ReduceForm::coords(const DimRanges& ranges, const Coords& vars) const {
  Coords at(space.size(), Dim(0));
  for (size_t g = 0; g < groups.size(); ++g) {
    Shape sizes;
    for (int a : groups[g].axes) sizes.push_back(space[static_cast<size_t>(a)]);
    const Coords part = delinearize(sizes, vars[g], ranges);
    for (size_t i = 0; i < sizes.size(); ++i) at[static_cast<size_t>(groups[g].axes[i])] = part[i];
  }
  return at;
}

Coords ReduceForm::kept_of(const Coords& at) const {
  Coords k;
  for (size_t i = 0; i < at.size(); ++i)
    if (!is_reduced[i]) k.push_back(at[i]);
  return k;
}

Result<ReduceForm> reduce_form(const Func& region, std::string_view backend, bool wide_argmax) {
  ReduceForm f;
  f.region = &region;
  GC_CHECK(find_jobs(f, backend, wide_argmax));
  GC_CHECK(group_axes(f));
  return f;
}

Expr ReduceReader::value(const ReduceJob& j, const Coords& at, const std::vector<Dim>& guards) {
  const Expr e = b_.element(j.node->operands[0], at, guards);
  if (j.phase == 0) return cast(e, j.type);
  const Expr best = maxima_.at(j.node)(f_.kept_of(at)), x = cast(e, best.type());
  Expr found = equal(x, best);
  if (is_float(x.type())) found = bit_or(found, is_nan(x));
  return select(found, Expr::index(b_.simplify(at[static_cast<size_t>(f_.axes[0])])),
                Expr::int_constant(static_cast<int64_t>(kNoPosition), DType::kI64));
}

void ReduceReader::finish(const ReduceJob& j, const Coords& at, const Expr& sum) {
  bind(j, f_.kept_of(at), [sum](const Coords&) { return sum; });
}

void ReduceReader::finish(const ReduceJob& j, std::function<Expr(const Coords&)> f) {
  bind(j, std::nullopt, std::move(f));
}

void ReduceReader::bind(const ReduceJob& j, std::optional<Coords> here,
                        std::function<Expr(const Coords&)> f) {
  if (j.node->op->name == "argmax" && j.phase == 0) {
    maxima_[j.node] = std::move(f);
    return;
  }
  const std::string_view op = j.node->op->name;
  const bool logic = op == "any" || op == "all";
  const bool keep = j.node->attr("keepdims").as_bool();
  const DType type = j.node->result()->type.dtype;
  b_.bind(j.node->result(), [this, here, f, logic, keep, type](const Coords& asked) {
    Coords kept;
    bool same = true;
    for (size_t i = 0; i < asked.size(); ++i) {
      if (keep && f_.is_reduced[i]) continue;
      const size_t k = kept.size();
      same = same && (!here || (k < here->size() && (f_.kept_shape[k].is_constant(1) ||
                                                     b_.simplify(asked[i]) == b_.simplify((*here)[k]))));
      kept.push_back(asked[i]);
    }
    if (!same) b_.fail("a region needs a reduction's result at another index than the one being computed");
    const Expr e = f(kept);
    return logic ? not_equal(e, Expr::int_constant(0, e.type())) : cast(e, type);
  });
}

void ReduceReader::write(const std::vector<int>& which, const Coords& at) {
  const bool full = &which == &f_.full_results;
  std::vector<std::pair<int, Coords>> stores;
  for (int r : which) {
    const Shape& to = f_.roots[static_cast<size_t>(r)]->type.shape;
    stores.emplace_back(r, full ? reshape_coords(f_.space, at, to, b_.ranges())
                                : reshape_coords(f_.kept_shape, f_.kept_of(at), to, b_.ranges()));
  }
  if (!stores.empty()) b_.store_results(stores);
}

}  // namespace graphc
