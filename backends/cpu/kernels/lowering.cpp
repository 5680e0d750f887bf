#include "backends/cpu/kernels/lowering.h"

namespace graphc {

Result<LoweredRegion> lower_region(const Func& region, const LowerOptions& options) {
  using Template = Result<LoweredRegion> (*)(const Func&, const LowerOptions&);
  const auto with = [&](Template lower) {
    return [&options, lower](const Func& f, const std::string& name) {
      return lower(f, {options.features, name});
    };
  };
  const RegionTemplate templates[] = {
      {"map", with(lower_map)},
      {"rows", with(lower_reduce)},
      {"columns", with(lower_reduce)},
      {"window", with(lower_window)},
      {"contraction", with(lower_contraction)},
      {"scatter", with(lower_scatter)},
  };
  return lower_by_templates(region, options.name, "cpu", templates);
}

}  // namespace graphc
