// Reverse mode over single ops, as the gradient pass does it: a record's rule, or that of its expansion. And
// random operands for the samples of records.
#pragma once

#include <vector>

#include "ir/builder.h"
#include "ir/interpret.h"
#include "ir/op.h"

namespace graphc {

// Operands of a sample, drawn from its ranges.
std::vector<HostTensor> sample_operands(const Sample& sample, SampleRng& rng);
HostTensor random_tensor(const TensorType& type, SampleRng& rng, double lo = -2, double hi = 2,
                         int64_t int_lo = 0, int64_t int_hi = 3);

struct OpGradient {
  bool has_rule = true;           // false: neither a rule nor an expansion
  std::vector<bool> given;        // per operand: whether there is a gradient
  std::vector<HostTensor> grads;  // zeros where there isn't
};
// d sum(results * cotangents) / d operand; cotangents of results that aren't floats are ignored.
Result<OpGradient> op_gradient(const OpDef& op, const std::vector<HostTensor>& operands, const Attrs& attrs,
                               const std::vector<HostTensor>& cotangents);

}  // namespace graphc
