// Template "contraction": dot_general, convolution and its gradients, with elementwise work before and after,
// as one form (backends/kernels/contraction_form.h), by one of several schedules (contraction_plan.h). The
// input gradient of a strided convolution is one such contraction for each phase of the input.
//
// Where C is small and k long, shares of k go to blocks of their own, and a second kernel adds their sums up
// in order: results depend on shapes and the target, not on how blocks are run.
#include <algorithm>

#include <fmt/format.h>

#include "backends/cuda/kernels/contraction_plan.h"

namespace graphc::cuda {
namespace {

Result<KernelStep> main_kernel(const ContractionPlan& p, const Func& region, const ContractionChoice& c,
                               const CudaTarget& target, const std::string& name) {
  switch (c.schedule) {
    case ContractionSchedule::kTiles: return contraction_tiles(p, region, c, name);
    case ContractionSchedule::kDot: return contraction_dot(p, region, c, name);
    case ContractionSchedule::kColumns: return contraction_columns(p, region, c, name);
    case ContractionSchedule::kDirect: break;
  }
  return contraction_direct(p, region, target, name);
}

}  // namespace

Result<LoweredRegion> lower_contraction_by(const Func& region, const LowerOptions& options,
                                           const PickContraction& pick) {
  GC_TRY(const Node* core, contraction_core(region));
  LoweredRegion out;
  int64_t workspace = 0;
  for (const std::vector<int64_t>& phase : contraction_phases(*core)) {
    GC_TRY(const ContractionPlan plan, plan_contraction(region, core, phase));
    std::string name = options.name;
    for (int64_t r : phase) name += fmt::format("_{}", r);
    if (plan.k.is_constant(0)) {
      GC_TRY(KernelStep step, contraction_combine(plan, region, options.target, 1, name));
      out.steps.push_back(std::move(step));
      continue;
    }
    const ContractionChoice choice = pick(contraction_choices(plan, options.target));
    GC_TRY(KernelStep step, main_kernel(plan, region, choice, options.target, name));
    out.steps.push_back(std::move(step));
    if (choice.splits == 1) continue;
    GC_TRY(KernelStep combine,
           contraction_combine(plan, region, options.target, choice.splits, name + "_combine"));
    out.steps.push_back(std::move(combine));
    // phases run one after the other, so that they share their workspace
    const int64_t bytes =
        partial_elements(plan, choice).constant() * static_cast<int64_t>(dtype_size(plan.acc_type));
    workspace = std::max(workspace, (bytes + 63) / 64 * 64);
  }
  if (workspace > 0) out.workspace_bytes.push_back(Dim(workspace));
  return out;
}

Result<LoweredRegion> lower_contraction(const Func& region, const LowerOptions& options) {
  return lower_contraction_by(region, options,
                              [](const std::vector<ContractionChoice>& choices) { return choices.front(); });
}

}  // namespace graphc::cuda
