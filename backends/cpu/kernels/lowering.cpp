#include "backends/cpu/kernels/lowering.h"

#include <fmt/format.h>

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
  for (const auto& [kind, lower] : kTemplates)
    if (region.name == kind) {
      GC_TRY(LoweredRegion out, lower(region, options));
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
