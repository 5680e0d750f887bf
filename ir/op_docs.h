// Documentation of ops, printed from their records (`graphc ops`).
#pragma once

#include <string>

#include "ir/op.h"

namespace graphc {

// "conv2d(x, w, bias?, stride=1, pad=0, dilation=1, groups=1)"
std::string op_signature(const OpDef& op);
// The signature, the record's doc, and a line for each setting; for scalar ops the tree.
std::string describe_op(const OpDef& op);

}  // namespace graphc
