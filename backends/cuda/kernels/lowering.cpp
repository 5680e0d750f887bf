#include "backends/cuda/kernels/lowering.h"

#include <vector>

namespace graphc::cuda {

Result<LoweredRegion> lower_region(const Func& region, const LowerOptions& options) {
  using Template = Result<LoweredRegion> (*)(const Func&, const LowerOptions&);
  const auto with = [&](std::string_view kind, Template lower) {
    return RegionTemplate{kind, [&options, lower](const Func& f, const std::string& name) {
                            return lower(f, {options.target, name});
                          }};
  };
  const std::vector<RegionTemplate> templates = {
      with("map", lower_map),
      with("rows", lower_reduce),
      with("columns", lower_reduce),
      with("contraction", lower_contraction),
      with("window", lower_window),
      with("scatter", lower_scatter),
      with("attention", lower_attention),
  };
  return lower_by_templates(region, options.name, "cuda", templates);
}

}  // namespace graphc::cuda
