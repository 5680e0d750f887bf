// Reverse-mode differentiation of a block, and the pass that turns a training function into a whole step.
#pragma once

#include <span>
#include <vector>

#include "ir/graph.h"
#include "runtime/base/result.h"

namespace graphc {

// Appends to `block` the nodes that compute d loss / d wrt[i] and returns those values; nullptr where loss
// doesn't depend on wrt[i]. loss has one element, of a float type. Composites without a rule of their own
// between wrt and loss are expanded in place first, so that forward and backward share values; the block's
// results follow, and so does `loss` if given by its address. Fails, naming op and place, on an op that gives
// no gradient rule and isn't marked no_gradient.
//
//   Value* loss = b.mean(b.mul(e, e), {0, 1});
//   GC_TRY(std::vector<Value*> g, append_gradient(m, f->body, loss, {{x, &w->value}}));
Result<std::vector<Value*>> append_gradient(Module& m, Block& block, Value*& loss,
                                            std::span<Value* const> wrt);

}  // namespace graphc
