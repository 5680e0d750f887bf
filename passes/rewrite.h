// The one way passes rewrite a block: walk it once in order and build it anew.
#pragma once

#include <optional>
#include <unordered_map>
#include <vector>

#include "ir/builder.h"

namespace graphc {

// What to put in a node's place: its results' substitutes (made with the builder, or existing values), or
// nullopt to keep it. Substitutes have the results' types.
using Replacement = std::optional<std::vector<Value*>>;

// Calls visit(node, builder) for every node of `block` in order, with operands already renamed. Nodes the
// builder makes land right before the node's place; they are not visited. Returns whether anything was
// replaced.
//
//   rewrite(m, f->body, [](Node& n, Builder& b) -> Replacement {
//     if (n.op == &ops::stop_gradient) return {{n.operands[0]}};
//     return std::nullopt;
//   });
template <class Visit>
bool rewrite(Module& m, Block& block, Visit&& visit) {
  std::vector<std::unique_ptr<Node>> old = std::move(block.nodes);
  block.nodes.clear();
  block.nodes.reserve(old.size());
  std::unordered_map<const Value*, Value*> map;
  auto rename = [&map](Value*& v) {
    if (auto it = map.find(v); it != map.end()) v = it->second;
  };
  for (std::unique_ptr<Node>& n : old) {
    if (!map.empty())
      for (Value*& v : n->operands) rename(v);
    Builder b(m, block);
    b.loc = n->loc;
    Replacement r = visit(*n, b);
    if (!r) {
      block.nodes.push_back(std::move(n));
      continue;
    }
    for (size_t i = 0; i < r->size(); ++i)
      if ((*r)[i]) map[n->result(static_cast<int>(i))] = (*r)[i];
  }
  for (Value*& v : block.results) rename(v);
  return !map.empty();
}

// The constant a value is everywhere, if it comes from `full`: its value as a double (integers above 2^53
// give nullopt).
std::optional<double> splat_value(const Value* v);

}  // namespace graphc
