#include "backends/cpu/kernels/lowering.h"

#include <fmt/format.h>

#include "backends/cpu/kernels/index_checks.h"
#include "backends/cpu/kernels/region_builder.h"

namespace graphc {

Result<LoweredRegion> lower_region(const Func& region, const LowerOptions& options) {
  using Template = Result<LoweredRegion> (*)(const Func&, const LowerOptions&);
  static constexpr std::pair<std::string_view, Template> kTemplates[] = {
      {"map", lower_map},
      {"rows", lower_reduce},
      {"columns", lower_reduce},
      {"window", lower_window},
      {"contraction", lower_contraction},
      {"scatter", lower_scatter},
  };
  bool empty = !region.body.results.empty();
  for (const Value* r : region.body.results) empty = empty && product(r->type.shape).is_constant(0);
  for (const auto& [kind, lower] : kTemplates)
    if (region.name == kind) {
      if (empty) {  // a kernel that does nothing
        GC_TRY(KernelStep step, RegionBuilder(region, options.name, {}, {}, {}).finish());
        LoweredRegion out;
        out.steps.push_back(std::move(step));
        return out;
      }
      GC_TRY(LoweredRegion out, lower(region, options));
      GC_CHECK(add_index_checks(region, options, out));
      for (const KernelStep& s : out.steps) {
        bool overflow = s.grain.overflowed() || parallel_extent(s.kernel).overflowed();
        for (const LoopBuffer& b : s.kernel.buffers)
          for (const Dim& d : b.shape) overflow |= d.overflowed();
        if (overflow) return unsupported("the sizes of this region leave 64-bit integers");
      }
      return out;
    }
  return unsupported(fmt::format("the cpu backend has no template for regions of kind '{}'", region.name));
}

}  // namespace graphc
