// gradient: a training function with `optimize` becomes the whole step: forward, backward, clipping, update
// of parameters and optimizer state, counters.
//
//   before:  func @Net.train(%x: f32[8, 4], %t: f32[8, 1]) -> (loss.sum: f32, loss.count: i64) {
//              %0 = matmul(%x, @w)
//              %1 = mse(%0, %t)
//              optimize(%1) {algorithm="sgd", lr=0.1, ..}
//              ..
//   after:     %0 = dot_general(%x, @w) ..
//              %2 = sub(%0, %t)                    # mse, expanded: its backward shares %2
//              ..
//              %7 = dot_general(%x, %6) ..         # d loss / d w
//              %9 = sub(@w, mul(%7, %8))
//              assign(@w, %9)
//              assign(@opt.step, %10)
//
// Reverse mode over the block: walking it backwards, each node's rule turns the cotangents of its results
// into those of its operands; contributions to one value are added up. The rule is the record's own (`grad`),
// else the derivative of its scalar tree, else that of its expansion. Only values between the parameters and
// the loss get one. The updates themselves are in passes/optimizer.cpp.
#include "passes/gradient.h"

#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "ir/builder.h"
#include "ir/grad.h"
#include "passes/expand.h"

namespace graphc {
namespace {

using Cotangents = std::unordered_map<const Value*, Value*>;

// Values that depend differentiably on wrt, given the nodes of the block in order.
std::unordered_set<const Value*> dependents(const Block& block, std::span<Value* const> wrt) {
  std::unordered_set<const Value*> active;
  for (const Value* v : wrt)
    if (is_float(v->type.dtype)) active.insert(v);
  for (const auto& n : block.nodes) {
    if (n->op->no_gradient) continue;
    bool any = false;
    for (const Value* v : n->operands) any = any || active.contains(v);
    if (!any) continue;
    for (const auto& r : n->results)
      if (is_float(r->type.dtype)) active.insert(r.get());
  }
  return active;
}

// Nodes that loss depends on through active values.
std::unordered_set<const Node*> path_to(const Block& block, const Value* loss,
                                        const std::unordered_set<const Value*>& active) {
  std::unordered_set<const Value*> wanted{loss};
  std::unordered_set<const Node*> path;
  for (size_t i = block.nodes.size(); i-- > 0;) {
    const Node& n = *block.nodes[i];
    if (n.op->no_gradient) continue;
    bool any = false;
    for (const auto& r : n.results) any = any || (wanted.contains(r.get()) && active.contains(r.get()));
    if (!any) continue;
    path.insert(&n);
    for (const Value* v : n.operands)
      if (active.contains(v)) wanted.insert(v);
  }
  return path;
}

void accumulate(Builder& b, Cotangents& cotangents, const Value* v, Value* g) {
  Value*& slot = cotangents[v];
  slot = slot ? b.add(slot, g) : g;
}

}  // namespace

Result<std::vector<Value*>> append_gradient(Module& m, Block& block, Value*& loss,
                                            std::span<Value* const> wrt) {
  if (!is_float(loss->type.dtype) || !loss->type.num_elements().is_constant(1))
    return invalid(
        fmt::format("a loss is one floating-point number, this one is {}: reduce it with mean or sum",
                    loss->type.to_string()));
  std::vector<Value*> targets(wrt.begin(), wrt.end());
  {
    const auto active = dependents(block, targets);
    const auto path = path_to(block, loss, active);
    const auto map = expand_composites(m, block, [&](const Node& n, bool inner) {
      const bool has_rule = n.op->grad || n.op->scalar || n.op->no_gradient;
      return !has_rule && (inner || path.contains(&n));
    });
    for (Value*& v : targets)
      if (auto it = map.find(v); it != map.end()) v = it->second;
    if (auto it = map.find(loss); it != map.end()) loss = it->second;
  }
  const auto active = dependents(block, targets);
  const auto path = path_to(block, loss, active);

  // The rules append to the block that is being walked: walk a list of the nodes as they are now.
  std::vector<Node*> forward;
  forward.reserve(path.size());
  for (const auto& n : block.nodes)
    if (path.contains(n.get())) forward.push_back(n.get());

  Builder b(m, block);
  Cotangents cotangents;
  cotangents[loss] = b.full_like(1, loss);
  for (size_t i = forward.size(); i-- > 0;) {
    Node& n = *forward[i];
    b.loc = n.loc;
    GradCall call;
    bool arrives = false;
    for (const auto& r : n.results) {
      auto it = cotangents.find(r.get());
      call.cotangents.push_back(it == cotangents.end() ? nullptr : it->second);
      arrives = arrives || call.cotangents.back();
      call.results.push_back(r.get());
      call.types.push_back(r->type);
    }
    if (!arrives) continue;
    call.op = n.op;
    call.operands = n.operands;
    call.attrs = n.attrs;
    const std::vector<Value*> grads = default_grad(b, call);
    if (grads.empty())
      return unsupported(
          fmt::format("{} has no gradient{}: keep it out of the way to the loss or put "
                      "stop_gradient around it",
                      n.op->name, n.loc >= 0 ? fmt::format(" ({})", m.loc_to_string(n.loc)) : ""));
    for (size_t k = 0; k < grads.size() && k < n.operands.size(); ++k)
      if (grads[k] && active.contains(n.operands[k]))
        accumulate(b, cotangents, n.operands[k], b.cast(grads[k], n.operands[k]->type.dtype));
  }
  std::vector<Value*> out;
  for (const Value* v : targets) {
    auto it = cotangents.find(v);
    out.push_back(it == cotangents.end() ? nullptr : it->second);
  }
  return out;
}

}  // namespace graphc
