// What templates share: trial coordinates and how much work makes a task.
#pragma once

#include <string>
#include <vector>

#include <fmt/format.h>

#include "backends/cpu/kernels/access.h"

namespace graphc {

// Work of one task in simple vector operations: some 10 microseconds, well above the cost of handing it out.
inline constexpr int64_t kTaskCost = 32768;

// Iterations per task, where one iteration handles `elements` elements at `cost` operations per vector.
inline Dim task_grain(const Dim& elements, int64_t cost, int lanes) {
  int64_t task_elements = kTaskCost * lanes / (cost < 1 ? 1 : cost);
  if (auto c = elements.as_constant()) return Dim(*c > 0 ? std::max<int64_t>(1, task_elements / *c) : 1);
  return floordiv(Dim(task_elements), elements) + 1;
}

// One variable per axis, of names no program can use, with their ranges: for a dry run of a template's body.
inline Coords trial_coords(DimRanges& ranges, const Shape& sizes, std::string_view prefix,
                           std::vector<std::string>& names) {
  Coords at;
  for (size_t i = 0; i < sizes.size(); ++i) {
    names.push_back(fmt::format("{}.{}", prefix, i));
    ranges.set(names.back(), 0, sizes[i] - 1);
    at.push_back(sizes[i].is_constant(1) ? Dim(0) : Dim::symbol(names.back()));
  }
  return at;
}

}  // namespace graphc
