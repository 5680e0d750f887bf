// Template "contraction", outer form: C[m, n] += A[m, k] * B[k, n] with vectors along n.
//
//   parallel batch, block of n (NC columns), block of m (MB rows)
//     for each block of k (KC)
//       pack B [KC x NC] through the reader, vectors along n: padding, strides and im2col happen here
//       pack A [MB x KC] if it can't be broadcast from where it lies
//       for each tile of NR columns (its B panel stays in L1), for each tile of MR rows
//         MR x NR accumulators in registers, one rank-1 update per k
//     epilogue by the writer: straight from the tile if there is one block of k, else from the block of C
//
// Where n is a little more than whole vectors the last columns go by vectors along k.
//
// The input gradient of a strided convolution is one such contraction for each phase of the input.
//
// If several blocks of rows need the same B, and it isn't too large, a kernel of its own packs all of it
// first.
//
// The order in which k is added up depends on KC only, so results don't depend on threads or blocks of m and
// n. The dot form (vectors along k) is in contraction_dot.cpp.
#include <fmt/format.h>

#include "backends/cpu/kernels/contraction_outer.h"
#include "backends/cpu/kernels/lowering.h"

namespace graphc {

Result<LoweredRegion> lower_outer_form(const ContractionPlan& plan, const Func& region,
                                       const LowerOptions& options) {
  LoweredRegion out;
  OuterForm whole(plan, region, options);
  const int64_t packed = whole.packed_elements();
  if (packed == 0) {
    GC_TRY(KernelStep step, whole.kernel());
    out.steps.push_back(std::move(step));
    return out;
  }
  const int64_t bytes = packed * static_cast<int64_t>(dtype_size(plan.acc_type));
  out.workspace_bytes.push_back(Dim((bytes + 63) / 64 * 64));
  for (OuterPart part : {OuterPart::kPack, OuterPart::kMultiply}) {
    GC_TRY(KernelStep step, OuterForm(plan, region, options, part, packed).kernel());
    out.steps.push_back(std::move(step));
  }
  return out;
}

namespace {

// Nothing to add up: every element is 0 before the epilogue.
Result<LoweredRegion> lower_zeros(const ContractionPlan& p, const Func& region, const LowerOptions& options) {
  const ContractionForm& f = p.form;
  std::vector<const Value*> roots(p.roots.begin(), p.roots.begin() + static_cast<int64_t>(p.results.size()));
  RegionBuilder b(region, options.name, roots, p.cut, p.results);
  const int lanes = options.features.lanes(4);
  b.loop(parallel(), "b", 0, product(f.batch), [&](Dim batch) {
    b.loop(parallel(), "m", 0, p.m_total, [&](Dim m) {
      Coords n;
      std::function<void()> nest = [&] {
        bool last = n.size() + 1 == f.n.size();
        b.loop(last ? vector(lanes) : serial(), "n", 0, f.n[n.size()], [&](Dim v) {
          n.push_back(v);
          if (last)
            write_results(b, region, p,
                          f.at_c(delinearize(f.batch, batch, b.ranges()), delinearize(f.m, m, b.ranges()), n),
                          Expr::constant(0, p.acc_type));
          else
            nest();
          n.pop_back();
        });
      };
      nest();
    });
  });
  LoweredRegion out;
  GC_TRY(KernelStep step, b.finish(task_grain(p.n_total, 4, lanes)));
  out.steps.push_back(std::move(step));
  return out;
}

}  // namespace

Result<LoweredRegion> lower_contraction(const Func& region, const LowerOptions& options) {
  GC_TRY(const Node* core, contraction_core(region));
  LoweredRegion all;
  for (const std::vector<int64_t>& phase : contraction_phases(*core)) {
    GC_TRY(ContractionPlan plan, plan_contraction(region, core, phase, options));
    LowerOptions named = options;
    for (int64_t r : phase) named.name += fmt::format("_{}", r);
    auto lower = !phase.empty() && product(plan.form.k).is_constant(0) ? lower_zeros
                 : plan.dot                                            ? lower_dot_form
                                                                       : lower_outer_form;
    GC_TRY(LoweredRegion part, lower(plan, region, named));
    for (KernelStep& s : part.steps) all.steps.push_back(std::move(s));
    // run one after the other, so that they share their workspace
    for (size_t i = 0; i < part.workspace_bytes.size(); ++i) {
      if (i == all.workspace_bytes.size())
        all.workspace_bytes.push_back(part.workspace_bytes[i]);
      else if (part.workspace_bytes[i].constant() > all.workspace_bytes[i].constant())
        all.workspace_bytes[i] = part.workspace_bytes[i];
    }
  }
  return all;
}

}  // namespace graphc
