// Template "rows" and "columns": reductions over some axes of a common space, with elementwise work and index
// maps before, between and after them.
//
//   rows (the innermost axis is reduced)          columns (the innermost axis is kept)
//     parallel kept                                 parallel outer kept, block of the inner kept axis
//       for each level: one reduce, vectors           vector over the block
//         along the innermost axis, all                 for each level: one serial reduce
//         reductions of the level at once
//       vector: full-size results                     full-size results
//       row results                                   results
//
// Reductions that need others' results are on a later level (softmax: max, then sum). argmax is a maximum
// and, one level later, the least position that holds it. If there are few results and long reductions, the
// outermost reduced axis is cut into chunks (by shape, so that any number of threads gives the same bits):
// a first kernel writes partial results to workspace, a second combines them in order.
#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "backends/cpu/kernels/lowering.h"
#include "backends/cpu/kernels/schedule.h"
#include "backends/kernels/region_builder.h"

namespace graphc {
namespace {

constexpr double kNoPosition = 9.0e15;  // past every index, exact in an i64

struct Job {
  const Node* node;
  ReduceOp op;
  int phase = 0;  // argmax: 0 the maximum, 1 the position
  int level = 0;
};

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

class ReduceTemplate {
 public:
  ReduceTemplate(const Func& region, const LowerOptions& options)
      : region_(region), options_(options), lanes_(options.features.lanes(4)) {}

  Result<LoweredRegion> lower() {
    GC_CHECK(analyse());
    GC_CHECK(group_axes());
    LoweredRegion out;
    if (should_split()) {
      GC_CHECK(partial_kernel(out));
      GC_CHECK(combine_kernel(out));
    } else {
      RegionBuilder b(region_, options_.name, roots_, {}, results_);
      nest(b);
      Dim per_iteration = by_row_ ? product(reduced_sizes()) : product(reduced_sizes()) * Dim(column_block());
      GC_TRY(KernelStep step, b.finish(task_grain(per_iteration, cost_, lanes_)));
      out.steps.push_back(std::move(step));
    }
    return out;
  }

 private:
  Status analyse() {
    roots_.assign(region_.body.results.begin(), region_.body.results.end());
    for (size_t i = 0; i < roots_.size(); ++i) results_.push_back(static_cast<int>(i));
    std::map<const Value*, int> level;
    for (const auto& n : region_.body.nodes) {
      int l = 0;
      for (const Value* v : n->operands) l = std::max(l, level[v]);
      if (is_reduction(*n)) {
        const Shape& s = n->operands[0]->type.shape;
        if (jobs_.empty()) {
          space_ = s;
          axes_ = axes_of(*n);
        } else if (s != space_ || axes_of(*n) != axes_) {
          return unsupported("the reductions of a region don't share one space and the same axes");
        }
        DType t = n->operands[0]->type.dtype;
        bool arg = n->op->name == "argmax";
        jobs_.push_back({n.get(), op_of(n->op->name), 0, l});
        if (arg) jobs_.push_back({n.get(), ReduceOp::kMin, 1, l + 1});
        if (t == DType::kBool && n->op->name != "any" && n->op->name != "all")
          return unsupported(fmt::format("'{}' of bool isn't supported by the cpu backend", n->op->name));
        l += arg ? 2 : 1;
      }
      for (const auto& r : n->results) level[r.get()] = l;
      levels_ = std::max(levels_, l);
    }
    if (jobs_.empty()) return unsupported("a reduction region without a reduction");
    Shape kept;
    for (size_t i = 0; i < space_.size(); ++i) {
      bool r = std::find(axes_.begin(), axes_.end(), static_cast<int64_t>(i)) != axes_.end();
      is_reduced_.push_back(r);
      if (!r) kept_shape_.push_back(space_[i]);
    }
    Dim rows = product(kept_shape_), full = product(space_);
    for (int r : results_) {
      Dim n = product(roots_[r]->type.shape);
      if (n == rows)
        row_results_.push_back(r);
      else if (n == full)
        full_results_.push_back(r);
      else
        return unsupported("a result of the reduction region is neither of the full nor of the reduced size");
    }
    return ok_status();
  }

  // Adjacent axes of one kind (kept or reduced) that all accesses allow to run as one.
  Status group_axes() {
    RegionBuilder t(region_, "trial", roots_, {}, results_);
    std::vector<std::string> vars;
    Coords at = trial_coords(t.ranges(), space_, "s", vars);
    for (const Job& j : jobs_) {
      if (j.phase == 0) t.k().let("t", t.element(j.node->operands[0], at));
      bind_result(t, j.node, kept_of(at), Expr::constant(0, j.node->result()->type.dtype));
    }
    write(t, full_results_, at);
    write(t, row_results_, at);
    GC_TRY(KernelStep dry, t.finish());
    cost_ = body_cost(dry.kernel);
    std::vector<Access> touched = accesses(dry.kernel);
    int last = -1;
    for (size_t i = 0; i < space_.size(); ++i) {
      if (space_[i].is_constant(1)) continue;
      bool joins = last >= 0 && is_reduced_[last] == is_reduced_[i] &&
                   collapsible(touched, vars[last], vars[i], space_[i]);
      // axes of size 1 between them don't matter
      if (joins)
        groups_.back().axes.push_back(static_cast<int>(i));
      else
        groups_.push_back({{static_cast<int>(i)}, Dim(1), is_reduced_[i]});
      groups_.back().size *= space_[i];
      last = static_cast<int>(i);
    }
    for (size_t g = 0; g < groups_.size(); ++g)
      (groups_[g].reduced ? reduced_ : kept_).push_back(static_cast<int>(g));
    by_row_ = kept_.empty() || (!reduced_.empty() && reduced_.back() > kept_.back());
    vars_.assign(groups_.size(), Dim(0));
    return ok_status();
  }

  Shape reduced_sizes() const {
    Shape s;
    for (int g : reduced_) s.push_back(groups_[g].size);
    return s;
  }
  Shape kept_sizes() const {
    Shape s;
    for (int g : kept_) s.push_back(groups_[g].size);
    return s;
  }

  // Coordinates in the space for the group variables.
  Coords coords(const DimRanges& ranges) const {
    Coords at(space_.size(), Dim(0));
    for (size_t g = 0; g < groups_.size(); ++g) {
      Shape sizes;
      for (int a : groups_[g].axes) sizes.push_back(space_[a]);
      Coords part = delinearize(sizes, vars_[g], ranges);
      for (size_t i = 0; i < sizes.size(); ++i) at[groups_[g].axes[i]] = part[i];
    }
    return at;
  }
  Coords kept_of(const Coords& at) const {
    Coords k;
    for (size_t i = 0; i < at.size(); ++i)
      if (!is_reduced_[i]) k.push_back(at[i]);
    return k;
  }

  void write(RegionBuilder& b, const std::vector<int>& which, const Coords& at) {
    std::vector<std::pair<int, Coords>> stores;
    bool full = &which == &full_results_;
    for (int r : which)
      stores.emplace_back(r,
                          full ? reshape_coords(space_, at, roots_[r]->type.shape, b.ranges())
                               : reshape_coords(kept_shape_, kept_of(at), roots_[r]->type.shape, b.ranges()));
    if (!stores.empty()) b.store_results(stores);
  }

  // The reduction's result at the kept coordinates `here` is e.
  void bind_result(RegionBuilder& b, const Node* n, Coords here, Expr e) {
    std::string_view op = n->op->name;
    DType type = n->result()->type.dtype;
    if (op == "any" || op == "all")
      e = e.type() == DType::kBool ? e : not_equal(e, Expr::int_constant(0, e.type()));
    else
      e = cast(e, type);
    bool keep = n->attr("keepdims").as_bool();
    auto reduced = is_reduced_;
    b.bind(n->result(), [&b, here, e, keep, reduced, kept = kept_shape_](const Coords& asked) {
      size_t k = 0;
      bool same = true;
      for (size_t i = 0; i < asked.size(); ++i) {
        if (keep && reduced[i]) continue;
        same = same && k < here.size() &&
               (kept[k].is_constant(1) || b.simplify(asked[i]) == b.simplify(here[k]));
        ++k;
      }
      if (!same) b.fail("a region needs a reduction's result at another index than the one being computed");
      return e;
    });
  }

  // What job j combines at the current coordinates.
  Expr value(RegionBuilder& b, const Job& j, const Coords& at) {
    const Value* x = j.node->operands[0];
    Expr e = b.element(x, at);
    std::string_view op = j.node->op->name;
    if (op == "any" || op == "all") return cast(e, DType::kI32);
    if (op == "argmax") {
      e = cast(e, accumulator_type(e.type()));
      if (j.phase == 0) return e;
      Expr best = maxima_.at(j.node);
      Expr found = equal(e, best);
      if (is_float(e.type())) found = bit_or(found, is_nan(e));
      int64_t axis = axes_[0];
      return select(found, Expr::index(b.simplify(at[axis])),
                    Expr::int_constant(static_cast<int64_t>(kNoPosition), DType::kI64));
    }
    return cast(e, accumulator_type(e.type()));
  }

  // Reduces the jobs over the reduced groups from the r-th on; `first_lo/hi` bound the outermost.
  std::vector<Expr> reduce_over(RegionBuilder& b, const std::vector<const Job*>& jobs, size_t r,
                                const Dim& lo, const Dim& hi, const std::optional<Dim>& limit) {
    std::vector<ReduceOp> ops;
    for (const Job* j : jobs) ops.push_back(j->op);
    if (r == reduced_.size()) {  // nothing is reduced: axes of size 1
      std::vector<Expr> out;
      Coords at = coords(b.ranges());
      for (const Job* j : jobs) out.push_back(b.k().let("s", value(b, *j, at)));
      return out;
    }
    int g = reduced_[r];
    bool last = r + 1 == reduced_.size();
    LoopSpec spec = serial();
    if (last && by_row_) spec = vector(lanes_, cost_ > 40 ? 1 : jobs.size() > 2 ? 2 : 4);
    return b.reduce(
        "s", ops, spec, "x", lo, hi,
        [&](Dim v) {
          vars_[g] = v;
          if (!last) return reduce_over(b, jobs, r + 1, 0, groups_[reduced_[r + 1]].size, {});
          std::vector<Expr> out;
          Coords at = coords(b.ranges());
          for (const Job* j : jobs) out.push_back(value(b, *j, at));
          return out;
        },
        limit);
  }

  // All levels for the current kept variables, then the results.
  void levels(RegionBuilder& b) {
    Coords here = kept_of(coords(b.ranges()));
    for (int l = 0; l < levels_; ++l) {
      std::vector<const Job*> jobs;
      for (const Job& j : jobs_)
        if (j.level == l) jobs.push_back(&j);
      if (jobs.empty()) continue;
      Dim hi = reduced_.empty() ? Dim(1) : groups_[reduced_[0]].size;
      std::vector<Expr> sums = reduce_over(b, jobs, 0, 0, hi, {});
      for (size_t i = 0; i < jobs.size(); ++i) finish_job(b, *jobs[i], here, sums[i]);
    }
    if (!full_results_.empty()) full_pass(b, 0);
    for (int g : reduced_) vars_[g] = 0;
    if (!row_results_.empty()) b.scoped([&] { write(b, row_results_, coords(b.ranges())); });
  }

  void finish_job(RegionBuilder& b, const Job& j, const Coords& here, const Expr& sum) {
    if (j.node->op->name == "argmax" && j.phase == 0) {
      maxima_[j.node] = sum;
      return;
    }
    bind_result(b, j.node, here, sum);
  }

  void full_pass(RegionBuilder& b, size_t r) {
    if (r == reduced_.size()) {
      b.scoped([&] { write(b, full_results_, coords(b.ranges())); });
      return;
    }
    int g = reduced_[r];
    bool last = r + 1 == reduced_.size();
    b.loop(last && by_row_ ? vector(lanes_, cost_ > 40 ? 1 : 2) : serial(), "y", 0, groups_[g].size,
           [&](Dim v) {
             vars_[g] = v;
             full_pass(b, r + 1);
           });
  }

  int column_block() const {
    if (by_row_) return 1;
    auto c = groups_[kept_.back()].size.as_constant();
    int wide = cost_ > 40 ? 1 : !c || *c >= 4 * lanes_ ? 4 : *c >= 2 * lanes_ ? 2 : 1;
    return wide * lanes_;
  }

  // Loops over the kept axes around `levels`.
  void nest(RegionBuilder& b) {
    over_kept(b, 0, [&] { levels(b); });
  }

  void over_kept(RegionBuilder& b, size_t i, const std::function<void()>& body) {
    if (i == kept_.size()) {
      b.scoped(body);
      return;
    }
    int g = kept_[i];
    Dim size = groups_[g].size;
    if (by_row_ || i + 1 < kept_.size()) {
      b.loop(parallel(), "r", 0, size, [&](Dim v) {
        vars_[g] = v;
        over_kept(b, i + 1, body);
      });
      return;
    }
    int block = column_block();
    b.loop(parallel(), "cb", 0, ceildiv(size, block), [&](Dim cb) {
      b.loop(
          vector(block), "c", cb * block, (cb + 1) * block,
          [&](Dim v) {
            vars_[g] = v;
            over_kept(b, i + 1, body);
          },
          size);
    });
  }

  // ---- few results, long reductions ----

  // Elements of the outermost reduced group in one chunk; 0: don't split.
  int64_t chunk() const {
    Dim rest(1);
    for (size_t r = 1; r < reduced_.size(); ++r) rest *= groups_[reduced_[r]].size;
    int64_t inner = rest.as_constant().value_or(256);
    int64_t elements = by_row_ ? 16384 : 16384 / column_block();
    return std::max<int64_t>(1, elements / std::max<int64_t>(1, inner));
  }

  bool should_split() const {
    if (levels_ != 1 || !full_results_.empty() || reduced_.empty()) return false;
    for (const Job& j : jobs_)
      if (j.node->op->name == "argmax") return false;
    auto kept = product(kept_sizes()).as_constant();
    int64_t items = kept ? (*kept + column_block() - 1) / column_block() : 1 << 20;
    auto size = groups_[reduced_[0]].size.as_constant();
    return items < 8 && (!size || *size >= 2 * chunk());
  }

  Status partial_kernel(LoweredRegion& out) {
    Dim chunks = ceildiv(groups_[reduced_[0]].size, chunk());
    Dim rows = product(kept_sizes());
    std::vector<RegionBuilder::Workspace> ws;
    std::vector<const Value*> operands;
    for (size_t i = 0; i < jobs_.size(); ++i) {
      const Value* x = jobs_[i].node->operands[0];
      operands.push_back(x);
      std::string_view op = jobs_[i].node->op->name;
      DType t = op == "any" || op == "all" ? DType::kI32 : accumulator_type(x->type.dtype);
      ws.push_back({static_cast<int>(i), t, chunks * rows, true});
      out.workspace_bytes.push_back(ceildiv(chunks * rows * static_cast<int64_t>(dtype_size(t)), 64) * 64);
    }
    workspaces_ = ws;
    RegionBuilder b(region_, options_.name, operands, {}, {}, ws);
    std::vector<const Job*> jobs;
    for (const Job& j : jobs_) jobs.push_back(&j);
    b.loop(parallel(), "p", 0, chunks, [&](Dim p) {
      over_kept(b, 0, [&] {
        Dim lo = p * chunk(), size = groups_[reduced_[0]].size;
        std::vector<Expr> sums = reduce_over(b, jobs, 0, lo, lo + chunk(), size);
        Coords kept;
        for (int g : kept_) kept.push_back(vars_[g]);
        for (size_t i = 0; i < jobs.size(); ++i)
          b.k().store(b.workspace(static_cast<int>(i)),
                      {b.simplify(p * rows + linear_index(kept_sizes(), kept))}, sums[i]);
      });
    });
    GC_TRY(KernelStep step, b.finish(1));
    out.steps.push_back(std::move(step));
    return ok_status();
  }

  Status combine_kernel(LoweredRegion& out) {
    Dim chunks = ceildiv(groups_[reduced_[0]].size, chunk());
    Dim rows = product(kept_sizes());
    std::unordered_set<const Value*> cut;
    for (const Job& j : jobs_) cut.insert(j.node->result());
    for (auto& w : workspaces_) w.written = false;
    RegionBuilder b(region_, options_.name + "_combine", roots_, cut, results_, workspaces_);
    b.loop(rows.is_constant(1) ? serial() : vector(lanes_), "c", 0, rows, [&](Dim c) {
      for (int g : reduced_) vars_[g] = 0;
      Coords kept = delinearize(kept_sizes(), c, b.ranges());
      for (size_t i = 0; i < kept_.size(); ++i) vars_[kept_[i]] = kept[i];
      Coords here = kept_of(coords(b.ranges()));
      std::vector<ReduceOp> ops;
      for (const Job& j : jobs_) ops.push_back(j.op);
      std::vector<Expr> sums = b.reduce("s", ops, serial(), "p", 0, chunks, [&](Dim p) {
        std::vector<Expr> v;
        for (size_t i = 0; i < jobs_.size(); ++i)
          v.push_back(b.workspace(static_cast<int>(i)).load({p * rows + c}));
        return v;
      });
      for (size_t i = 0; i < jobs_.size(); ++i) bind_result(b, jobs_[i].node, here, sums[i]);
      write(b, row_results_, coords(b.ranges()));
    });
    GC_TRY(KernelStep step, b.finish(1));
    out.steps.push_back(std::move(step));
    return ok_status();
  }

  struct Group {
    std::vector<int> axes;
    Dim size;
    bool reduced;
  };
  const Func& region_;
  const LowerOptions& options_;
  int lanes_;
  std::vector<const Value*> roots_;
  std::vector<int> results_, row_results_, full_results_;
  std::vector<Job> jobs_;
  int levels_ = 0;
  Shape space_, kept_shape_;
  std::vector<int64_t> axes_;
  std::vector<bool> is_reduced_;
  std::vector<Group> groups_;
  std::vector<int> kept_, reduced_;  // groups
  bool by_row_ = true;
  int64_t cost_ = 1;
  Coords vars_;  // of the groups
  std::map<const Node*, Expr> maxima_;
  std::vector<RegionBuilder::Workspace> workspaces_;
};

}  // namespace

Result<LoweredRegion> lower_reduce(const Func& region, const LowerOptions& options) {
  return ReduceTemplate(region, options).lower();
}

}  // namespace graphc
