// dce: drops nodes that neither a result nor an effect needs.
//
//   before:  %0 = exp(%x)            after:  %0 = neg(%x)
//            %1 = neg(%x)                    return %0
//            return %1
//
// An effect is what the op's record says (assign, optimize). Arguments and variables stay: they are the
// program's signature.
#include <unordered_set>

#include "ir/op.h"
#include "passes/passes.h"

namespace graphc {

void dce_block(Block& block) {
  std::unordered_set<const Value*> live(block.results.begin(), block.results.end());
  std::vector<bool> keep(block.nodes.size());
  for (size_t i = block.nodes.size(); i-- > 0;) {
    const Node& n = *block.nodes[i];
    bool needed = n.op->has_effect;
    for (const auto& r : n.results) needed = needed || live.contains(r.get());
    if (!needed) continue;
    keep[i] = true;
    live.insert(n.operands.begin(), n.operands.end());
  }
  size_t out = 0;
  for (size_t i = 0; i < block.nodes.size(); ++i) {
    if (!keep[i]) continue;
    if (block.nodes[i]->region) dce_block(*block.nodes[i]->region);
    if (out != i) block.nodes[out] = std::move(block.nodes[i]);
    ++out;
  }
  block.nodes.resize(out);
}

Status dce(Module& m) {
  for (auto& f : m.funcs) dce_block(f->body);
  return ok_status();
}

}  // namespace graphc
