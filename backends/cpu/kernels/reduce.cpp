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
#include <optional>
#include <unordered_set>

#include "backends/cpu/kernels/lowering.h"
#include "backends/cpu/kernels/schedule.h"
#include "backends/kernels/reduce_form.h"
#include "backends/kernels/region_builder.h"

namespace graphc {
namespace {

class ReduceTemplate {
 public:
  ReduceTemplate(const Func& region, const LowerOptions& options)
      : region_(region), options_(options), lanes_(options.features.lanes(4)) {}

  Result<LoweredRegion> lower() {
    GC_TRY(f_, reduce_form(region_, "cpu"));
    vars_.assign(f_.groups.size(), Dim(0));
    LoweredRegion out;
    if (should_split()) {
      GC_CHECK(partial_kernel(out));
      GC_CHECK(combine_kernel(out));
    } else {
      RegionBuilder b(region_, options_.name, f_.roots, {}, f_.results);
      reader_.emplace(f_, b);
      over_kept(b, 0, [&] { levels(b); });
      Dim per_iteration =
          f_.by_row ? product(f_.reduced_sizes) : product(f_.reduced_sizes) * Dim(column_block());
      GC_TRY(KernelStep step, b.finish(task_grain(per_iteration, f_.cost, lanes_)));
      out.steps.push_back(std::move(step));
    }
    return out;
  }

 private:
  // Reduces the jobs over the reduced groups from the r-th on; `lo` and `hi` bound the outermost.
  std::vector<Expr> reduce_over(RegionBuilder& b, const std::vector<const ReduceJob*>& jobs, size_t r,
                                const Dim& lo, const Dim& hi, const std::optional<Dim>& limit) {
    std::vector<ReduceOp> ops;
    for (const ReduceJob* j : jobs) ops.push_back(j->op);
    if (r == f_.reduced.size()) {  // nothing is reduced: axes of size 1
      std::vector<Expr> out;
      Coords at = f_.coords(b.ranges(), vars_);
      for (const ReduceJob* j : jobs) out.push_back(b.k().let("s", reader_->value(*j, at)));
      return out;
    }
    int g = f_.reduced[r];
    bool last = r + 1 == f_.reduced.size();
    LoopSpec spec = serial();
    if (last && f_.by_row) spec = vector(lanes_, f_.cost > 40 ? 1 : jobs.size() > 2 ? 2 : 4);
    return b.reduce(
        "s", ops, spec, "x", lo, hi,
        [&](Dim v) {
          vars_[g] = v;
          if (!last) return reduce_over(b, jobs, r + 1, 0, f_.groups[f_.reduced[r + 1]].size, {});
          std::vector<Expr> out;
          Coords at = f_.coords(b.ranges(), vars_);
          for (const ReduceJob* j : jobs) out.push_back(reader_->value(*j, at));
          return out;
        },
        limit);
  }

  // All levels for the current kept variables, then the results.
  void levels(RegionBuilder& b) {
    const Coords row = f_.coords(b.ranges(), vars_);
    for (int l = 0; l < f_.levels; ++l) {
      std::vector<const ReduceJob*> jobs;
      for (const ReduceJob& j : f_.jobs)
        if (j.level == l) jobs.push_back(&j);
      if (jobs.empty()) continue;
      Dim hi = f_.reduced.empty() ? Dim(1) : f_.groups[f_.reduced[0]].size;
      std::vector<Expr> sums = reduce_over(b, jobs, 0, 0, hi, {});
      for (size_t i = 0; i < jobs.size(); ++i) reader_->finish(*jobs[i], row, sums[i]);
    }
    if (!f_.full_results.empty()) full_pass(b, 0);
    for (int g : f_.reduced) vars_[g] = 0;
    if (!f_.row_results.empty())
      b.scoped([&] { reader_->write(f_.row_results, f_.coords(b.ranges(), vars_)); });
  }

  void full_pass(RegionBuilder& b, size_t r) {
    if (r == f_.reduced.size()) {
      b.scoped([&] { reader_->write(f_.full_results, f_.coords(b.ranges(), vars_)); });
      return;
    }
    int g = f_.reduced[r];
    bool last = r + 1 == f_.reduced.size();
    b.loop(last && f_.by_row ? vector(lanes_, f_.cost > 40 ? 1 : 2) : serial(), "y", 0, f_.groups[g].size,
           [&](Dim v) {
             vars_[g] = v;
             full_pass(b, r + 1);
           });
  }

  int column_block() const {
    if (f_.by_row) return 1;
    auto c = f_.groups[f_.kept.back()].size.as_constant();
    int wide = f_.cost > 40 ? 1 : !c || *c >= 4 * lanes_ ? 4 : *c >= 2 * lanes_ ? 2 : 1;
    return wide * lanes_;
  }

  // Loops over the kept axes.
  void over_kept(RegionBuilder& b, size_t i, const std::function<void()>& body) {
    if (i == f_.kept.size()) {
      b.scoped(body);
      return;
    }
    int g = f_.kept[i];
    Dim size = f_.groups[g].size;
    if (f_.by_row || i + 1 < f_.kept.size()) {
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
    for (size_t r = 1; r < f_.reduced.size(); ++r) rest *= f_.groups[f_.reduced[r]].size;
    int64_t inner = rest.as_constant().value_or(256);
    int64_t elements = f_.by_row ? 16384 : 16384 / column_block();
    return std::max<int64_t>(1, elements / std::max<int64_t>(1, inner));
  }

  bool should_split() const {
    if (f_.levels != 1 || !f_.full_results.empty() || f_.reduced.empty()) return false;
    for (const ReduceJob& j : f_.jobs)
      if (j.node->op->name == "argmax") return false;
    auto kept = product(f_.kept_sizes).as_constant();
    int64_t items = kept ? (*kept + column_block() - 1) / column_block() : 1 << 20;
    auto size = f_.groups[f_.reduced[0]].size.as_constant();
    return items < 8 && (!size || *size >= 2 * chunk());
  }

  Status partial_kernel(LoweredRegion& out) {
    Dim chunks = ceildiv(f_.groups[f_.reduced[0]].size, chunk());
    Dim rows = product(f_.kept_sizes);
    std::vector<RegionBuilder::Workspace> ws;
    std::vector<const Value*> operands;
    for (size_t i = 0; i < f_.jobs.size(); ++i) {
      operands.push_back(f_.jobs[i].node->operands[0]);
      const DType t = f_.jobs[i].type;
      ws.push_back({static_cast<int>(i), t, chunks * rows, true});
      out.workspace_bytes.push_back(ceildiv(chunks * rows * static_cast<int64_t>(dtype_size(t)), 64) * 64);
    }
    workspaces_ = ws;
    RegionBuilder b(region_, options_.name, operands, {}, {}, ws);
    reader_.emplace(f_, b);
    std::vector<const ReduceJob*> jobs;
    for (const ReduceJob& j : f_.jobs) jobs.push_back(&j);
    b.loop(parallel(), "p", 0, chunks, [&](Dim p) {
      over_kept(b, 0, [&] {
        Dim lo = p * chunk(), size = f_.groups[f_.reduced[0]].size;
        std::vector<Expr> sums = reduce_over(b, jobs, 0, lo, lo + chunk(), size);
        Coords kept;
        for (int g : f_.kept) kept.push_back(vars_[g]);
        for (size_t i = 0; i < jobs.size(); ++i)
          b.k().store(b.workspace(static_cast<int>(i)),
                      {b.simplify(p * rows + linear_index(f_.kept_sizes, kept))}, sums[i]);
      });
    });
    GC_TRY(KernelStep step, b.finish(1));
    out.steps.push_back(std::move(step));
    return ok_status();
  }

  Status combine_kernel(LoweredRegion& out) {
    Dim chunks = ceildiv(f_.groups[f_.reduced[0]].size, chunk());
    Dim rows = product(f_.kept_sizes);
    std::unordered_set<const Value*> cut;
    for (const ReduceJob& j : f_.jobs) cut.insert(j.node->result());
    for (auto& w : workspaces_) w.written = false;
    RegionBuilder b(region_, options_.name + "_combine", f_.roots, cut, f_.results, workspaces_);
    reader_.emplace(f_, b);
    b.loop(rows.is_constant(1) ? serial() : vector(lanes_), "c", 0, rows, [&](Dim c) {
      for (int g : f_.reduced) vars_[g] = 0;
      Coords kept = delinearize(f_.kept_sizes, c, b.ranges());
      for (size_t i = 0; i < f_.kept.size(); ++i) vars_[f_.kept[i]] = kept[i];
      const Coords row = f_.coords(b.ranges(), vars_);
      std::vector<ReduceOp> ops;
      for (const ReduceJob& j : f_.jobs) ops.push_back(j.op);
      std::vector<Expr> sums = b.reduce("s", ops, serial(), "p", 0, chunks, [&](Dim p) {
        std::vector<Expr> v;
        for (size_t i = 0; i < f_.jobs.size(); ++i)
          v.push_back(b.workspace(static_cast<int>(i)).load({p * rows + c}));
        return v;
      });
      for (size_t i = 0; i < f_.jobs.size(); ++i) reader_->finish(f_.jobs[i], row, sums[i]);
      reader_->write(f_.row_results, row);
    });
    GC_TRY(KernelStep step, b.finish(1));
    out.steps.push_back(std::move(step));
    return ok_status();
  }

  const Func& region_;
  const LowerOptions& options_;
  int lanes_;
  ReduceForm f_;
  Coords vars_;                         // of the groups
  std::optional<ReduceReader> reader_;  // of the kernel being built
  std::vector<RegionBuilder::Workspace> workspaces_;
};

}  // namespace

Result<LoweredRegion> lower_reduce(const Func& region, const LowerOptions& options) {
  return ReduceTemplate(region, options).lower();
}

}  // namespace graphc
