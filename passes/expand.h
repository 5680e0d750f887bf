// Expansion of composites, as a helper of passes and as the pass `expand`.
#pragma once

#include <functional>
#include <unordered_map>

#include "ir/builder.h"

namespace graphc {

// Whether to expand a composite; `inner`: it comes from another one's expansion.
using WantExpansion = std::function<bool(const Node&, bool inner)>;

// Rebuilds `block` with every composite node for which `want` says true replaced by its expansion, and those
// in the expansion likewise. Returns the map from dropped values to those that stand for them.
std::unordered_map<const Value*, Value*> expand_composites(Module& m, Block& block,
                                                           const WantExpansion& want);

}  // namespace graphc
