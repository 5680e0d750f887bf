// Gradient rules of single ops; the gradient pass (passes/gradient) walks a function with them.
//
//   std::vector<Value*> g = default_grad(b, call);   // one per operand, nullptr where there is none
//
// In order: a record's own `grad`; nothing for no_gradient; for a scalar tree d tree / d operand times the
// cotangent, summed over the axes that broadcasting repeated.
#pragma once

#include <vector>

#include "ir/builder.h"

namespace graphc {

// d loss / d operand for each operand of the call, built from the forward's operands and results and the
// cotangents. An empty vector means that the op has no rule of its own: differentiate its expansion.
std::vector<Value*> default_grad(Builder& b, const GradCall& call);

// d(tree)/d(arg) * cotangent as one tree; kArg `cotangent_arg` is the cotangent. The factor goes inside
// selects, so that an infinite or NaN cotangent of a branch not taken stays out of the result.
Expr cotangent_times(const Expr& derivative, const Expr& cotangent);

// The tree of a scalar op over arguments of these dtypes.
Expr scalar_tree(const OpDef& op, const std::vector<DType>& operands, const Attrs& attrs);

}  // namespace graphc
