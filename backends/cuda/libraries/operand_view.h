// How a value of a region lies in memory, where it does: an operand of the region seen through transposes,
// slices, broadcasts and reshapes, each of which only changes strides.
//
//   transpose(%0: f32[N, T, 12, 64]) {perm=[0, 2, 1, 3]}      arg 0, shape [N, 12, T, 64], strides [768*T,
//   64, 768, 1]
#pragma once

#include <optional>
#include <vector>

#include "ir/graph.h"
#include "runtime/base/result.h"

namespace graphc::cuda {

struct OperandView {
  int arg = -1;               // of the region
  DType dtype = DType::kF32;  // as it lies there
  bool cast = false;          // and is cast, without loss, to the value's type
  Shape shape, strides;       // per axis, in elements; 0: broadcast
  Dim offset = 0;
};
// kUnsupported with the reason: it is computed in the region, or doesn't lie there with strides.
Result<OperandView> operand_view(const Func& region, const Value* v);

// Axes run as one: neighbours are `stride` elements apart. Axes of size 1 don't matter; size 1: nor does the
// stride.
struct AxisRun {
  Dim size = 1, stride = 0;
};
// nullopt: the axes, in this order, aren't equally spaced.
std::optional<AxisRun> run_of_axes(const OperandView& v, const std::vector<int64_t>& axes,
                                   const DimRanges& ranges);

}  // namespace graphc::cuda
