// expand: composites become primitives, until none is left. Ops whose record is a scalar tree (gelu, relu)
// stay: every backend takes them as they are. stop_gradient is an identity from here on.
//
//   before:  %0 = softmax(%x) {axis=1}      after:  %0 = max(%x) {axes=[1], keepdims=true}
//            return %0                              %1 = sub(%x, %0)
//                                                   %2 = exp(%1)
//                                                   %3 = sum(%2) {axes=[1], keepdims=true}
//                                                   %4 = div(%2, %3)
//                                                   return %4
#include "passes/expand.h"

#include <algorithm>

#include "passes/attention.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace graphc {
namespace {

// Appends nodes to the block, renamed, expanding on the way.
struct Expander {
  Module& module;
  Block& block;
  const WantExpansion& want;
  std::unordered_map<const Value*, Value*> map = {};
  std::vector<std::unique_ptr<Node>> dropped = {};  // alive until the end: their values are keys of map

  Value* image(Value* v) const {
    auto it = map.find(v);
    return it == map.end() ? v : it->second;
  }

  void emit(std::unique_ptr<Node> n, bool inside = false) {
    for (Value*& v : n->operands) v = image(v);
    if (!n->op->expand || !want(*n, inside)) {
      block.nodes.push_back(std::move(n));
      return;
    }
    Call call{n->op, n->operands, n->attrs, {}};
    for (const auto& r : n->results) call.types.push_back(r->type);
    Block body;
    Builder b(module, body);
    b.loc = n->loc;
    std::vector<Value*> results = n->op->expand(b, call);
    for (auto& inner : body.nodes) emit(std::move(inner), true);
    for (size_t i = 0; i < results.size(); ++i) map[n->result(static_cast<int>(i))] = image(results[i]);
    dropped.push_back(std::move(n));
  }
};

}  // namespace

std::unordered_map<const Value*, Value*> expand_composites(Module& m, Block& block,
                                                           const WantExpansion& want) {
  std::vector<std::unique_ptr<Node>> old = std::move(block.nodes);
  block.nodes.clear();
  block.nodes.reserve(old.size() * 2);
  Expander e{m, block, want};
  for (auto& n : old) e.emit(std::move(n));
  for (Value*& v : block.results) v = e.image(v);
  return std::move(e.map);
}

Status expand(Module& m) { return expand_except(m, {}); }

Status expand_except(Module& m, const std::vector<std::string>& kinds) {
  const bool keep = std::find(kinds.begin(), kinds.end(), "attention") != kinds.end();
  for (auto& f : m.funcs) {
    expand_composites(m, f->body, [keep](const Node& n, bool) {
      const bool is_attention = n.op == &ops::attention || n.op == &ops::attention_grad;
      return !(keep && is_attention && kernel_takes_attention(n));
    });
    rewrite(m, f->body, [](Node& n, Builder&) -> Replacement {
      if (n.op == &ops::stop_gradient) return std::vector<Value*>{n.operands[0]};
      return std::nullopt;
    });
  }
  return ok_status();
}

}  // namespace graphc
