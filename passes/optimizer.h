// The update rules of training, as the gradient pass builds them into the step. Formulas are PyTorch's
// (torch.optim.SGD, Adam, AdamW; torch.nn.utils.clip_grad_norm_), computed in f32 (f64 for f64 parameters):
//
//   sgd    g += wd*p;  buf = mu*buf + g;  g = nesterov ? g + mu*buf : buf;           p -= lr*g
//   adam   g += wd*p;  m += (1-b1)(g-m);  v = b2*v + (1-b2)g*g;
//          p -= lr/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + eps)                        t: number of this
//          update, from 1
//   adamw  p *= 1 - lr*wd, then as adam without wd
//   clip   g *= min(1, clip_norm / (norm + 1e-6)), norm over all parameters that are clipped
//
// Slots are state variables "opt.<slot>.<parameter>" (momentum; m, v; grad). "opt.step" counts steps. With
// accumulate = k > 1 every k-th step updates, with the mean of k gradients; schedules and t count updates:
//   warmup     u < warmup:  lr * (u + 1) / warmup, for every schedule
//   cosine     final + (lr - final) * (1 + cos(pi * q)) / 2,  q = clamp((u - warmup) / (steps - warmup), 0,
//   1) step       lr * gamma^(u // every)
// with u the number of updates before this one.
#pragma once

#include <string_view>
#include <vector>

#include "ir/builder.h"

namespace graphc {

// A shell-like pattern: * matches any text, ? one character, everything else itself.
bool glob_match(std::string_view pattern, std::string_view text);

// One `optimize` node and what it updates.
struct UpdateGroup {
  const Node* optimize = nullptr;
  std::vector<Variable*> params;
  std::vector<Value*> grads;  // of params, in order
};

// Appends clipping, updates and the counters' increments to b's block.
Status append_updates(Builder& b, const std::vector<UpdateGroup>& groups);

}  // namespace graphc
