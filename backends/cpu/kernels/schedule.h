// How much work makes a task.
#pragma once

#include <algorithm>

#include "ir/dim.h"

namespace graphc {

// Work of one task in simple vector operations: some 10 microseconds, well above the cost of handing it out.
inline constexpr int64_t kTaskCost = 32768;

// Iterations per task, where one iteration handles `elements` elements at `cost` operations per vector.
inline Dim task_grain(const Dim& elements, int64_t cost, int lanes) {
  int64_t task_elements = kTaskCost * lanes / (cost < 1 ? 1 : cost);
  if (auto c = elements.as_constant()) return Dim(*c > 0 ? std::max<int64_t>(1, task_elements / *c) : 1);
  return floordiv(Dim(task_elements), elements) + 1;
}

}  // namespace graphc
