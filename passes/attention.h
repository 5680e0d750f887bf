// What the regions of kind "attention" hold.
#pragma once

#include "ir/op.h"

namespace graphc {

// The longest vectors of q, k and v that a kernel has to take.
inline constexpr int64_t kMaxAttentionVector = 128;

// Whether kernels take this sdpa, attention or attention_grad.
bool kernel_takes_attention(const Node& n);

}  // namespace graphc
