// schedule: orders the fusions of a function so that memory is freed early and state can be written in place.
//
//   before:  %0 = fusion(%x, @w) ..        # d loss / d w, and the updated w
//            %1 = fusion(%y, @w) ..        # reads the old w
//            assign(@w, %0)
//   after:   %1 = fusion(%y, @w) ..
//            %0 = fusion(%x, @w) ..        # nobody reads the old w any more: may be written over it
//            assign(@w, %0)
//
// A list scheduler: of the fusions whose operands are there, one that frees at least as much as it takes goes
// first (a parameter's update, as soon as its gradient exists), else the one that came first. What reads a
// variable comes before what makes its new value, unless that closes a cycle. Views follow their operand,
// assigns come last.
#include <algorithm>
#include <unordered_map>

#include "passes/fuse_graph.h"
#include "passes/passes.h"
#include "passes/topo_order.h"

namespace graphc {
namespace {

void schedule_function(Func& f) {
  Block& block = f.body;
  const NominalSizes sizes(f);
  std::vector<Node*> steps;
  std::unordered_map<const Node*, int> step_of;
  for (const auto& n : block.nodes) {
    if (n->op == &ops::assign || n->op == &ops::reshape) continue;
    step_of[n.get()] = static_cast<int>(steps.size());
    steps.push_back(n.get());
  }
  const int n = static_cast<int>(steps.size());
  // What a value is under its views.
  auto root = [](const Value* v) {
    while (v->node && v->node->op == &ops::reshape) v = v->node->operands[0];
    return v;
  };
  TopoOrder order(100000);
  for (int i = 0; i < n; ++i) order.add();
  std::vector<std::vector<int>> next(n);
  std::vector<int> waiting(n, 0);
  std::unordered_map<const Value*, int> readers_left;  // of fusion results
  std::unordered_map<const Value*, std::vector<int>> reads_variable;
  std::vector<std::vector<const Value*>> inputs(n);  // roots, each once
  for (int i = 0; i < n; ++i) {
    for (const Value* v : steps[i]->operands) {
      const Value* r = root(v);
      if (std::find(inputs[i].begin(), inputs[i].end(), r) != inputs[i].end()) continue;
      inputs[i].push_back(r);
      if (r->variable) reads_variable[r].push_back(i);
      if (!r->node) continue;
      ++readers_left[r];
      const int p = step_of.at(r->node);
      if (order.add_edge(p, i)) next[p].push_back(i);
    }
  }
  for (const Value* v : block.results) readers_left[root(v)] += 1 << 20;  // never freed
  std::unordered_map<const Value*, bool> in_place;  // new values that will live in a variable's own memory
  for (const auto& node : block.nodes) {
    if (node->op != &ops::assign) continue;
    const Value* r = root(node->operands[1]);
    readers_left[r] += 1 << 20;
    if (!r->node) continue;
    const int writer = step_of.at(r->node);
    bool all = true;
    for (int reader : reads_variable[node->operands[0]]) {
      if (reader == writer) continue;
      if (order.add_edge(reader, writer))
        next[reader].push_back(writer);
      else
        all = false;
    }
    in_place[r] = all;
  }
  for (int i = 0; i < n; ++i) {
    std::sort(next[i].begin(), next[i].end());
    next[i].erase(std::unique(next[i].begin(), next[i].end()), next[i].end());
    for (int k : next[i]) ++waiting[k];
  }

  auto growth = [&](int i) {
    double bytes = 0;
    for (const auto& r : steps[i]->results)
      if (!in_place.contains(r.get())) bytes += sizes.bytes(r->type);
    for (const Value* v : inputs[i])
      if (v->node && readers_left[v] == 1) bytes -= sizes.bytes(v->type);
    return bytes;
  };
  std::vector<int> ready, chosen;
  for (int i = 0; i < n; ++i)
    if (waiting[i] == 0) ready.push_back(i);
  while (!ready.empty()) {
    // The ready ones in their first order; freeing ones first, but only among those that read what a step has
    // made (a step that reads inputs only waits until it is wanted).
    std::sort(ready.begin(), ready.end());
    size_t pick = 0;
    for (size_t k = 0; k < ready.size() && k < 64; ++k) {
      bool fed = false;
      for (const Value* v : inputs[ready[k]]) fed = fed || v->node;
      if (fed && growth(ready[k]) <= 0) {
        pick = k;
        break;
      }
    }
    const int i = ready[pick];
    ready.erase(ready.begin() + static_cast<std::ptrdiff_t>(pick));
    chosen.push_back(i);
    for (const Value* v : inputs[i])
      if (v->node) --readers_left[v];
    for (int k : next[i])
      if (--waiting[k] == 0) ready.push_back(k);
  }

  std::unordered_map<const Node*, std::unique_ptr<Node>> owned;
  std::vector<std::unique_ptr<Node>> old = std::move(block.nodes);
  block.nodes.clear();
  std::unordered_map<const Value*, std::vector<Node*>> views;
  std::vector<std::unique_ptr<Node>> last;
  std::vector<Node*> outer_views;
  for (auto& node : old) {
    if (node->op == &ops::assign) {
      last.push_back(std::move(node));
      continue;
    }
    if (node->op == &ops::reshape) {
      views[node->operands[0]].push_back(node.get());
      if (!node->operands[0]->node) outer_views.push_back(node.get());
    }
    Node* key = node.get();
    owned[key] = std::move(node);
  }
  auto emit = [&](auto&& self, Node* node) -> void {
    block.nodes.push_back(std::move(owned[node]));
    for (const auto& r : node->results)
      if (auto it = views.find(r.get()); it != views.end())
        for (Node* v : it->second) self(self, v);
  };
  for (Node* v : outer_views) emit(emit, v);
  for (int i : chosen) emit(emit, steps[i]);
  for (auto& node : last) block.nodes.push_back(std::move(node));
}

}  // namespace

Status schedule(Module& m) {
  for (auto& f : m.funcs) schedule_function(*f);
  return ok_status();
}

}  // namespace graphc
