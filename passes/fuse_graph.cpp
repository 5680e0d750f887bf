#include "passes/fuse_graph.h"

#include <algorithm>

namespace graphc {

NodeClass classify(const OpDef* op) {
  using namespace ops;
  if (op->scalar) return NodeClass::kElement;
  if (op == &full || op == &iota || op == &size_of || op == &rng_key) return NodeClass::kFree;
  if (op == &ops::reshape) return NodeClass::kView;
  if (op == &ops::expand || op == &transpose || op == &slice || op == &pad || op == &concat ||
      op == &gather || op == &random_bits)
    return NodeClass::kIndexMap;
  if (op == &sum || op == &prod || op == &max || op == &min || op == &all || op == &any || op == &argmax)
    return NodeClass::kReduce;
  if (op == &dot_general || op == &convolution || op == &convolution_input_grad ||
      op == &convolution_weight_grad)
    return NodeClass::kContract;
  if (op == &reduce_window || op == &reduce_window_grad) return NodeClass::kWindow;
  if (op == &ops::attention || op == &attention_grad) return NodeClass::kAttention;
  if (op == &scatter_add) return NodeClass::kScatter;
  if (op == &assign) return NodeClass::kAssign;
  return NodeClass::kUnknown;
}

namespace {

double tree_cost(const Expr& e, int depth = 0) {
  if (depth > 40) return 100;
  double c = 0;
  switch (e->op) {
    case ScalarOp::kConst:
    case ScalarOp::kArg: return 0;
    case ScalarOp::kDiv:
    case ScalarOp::kSqrt:
    case ScalarOp::kRsqrt: c = 4; break;
    case ScalarOp::kExp:
    case ScalarOp::kExpm1:
    case ScalarOp::kLog:
    case ScalarOp::kLog1p:
    case ScalarOp::kTanh:
    case ScalarOp::kSin:
    case ScalarOp::kCos: c = 12; break;
    case ScalarOp::kTan:
    case ScalarOp::kErf:
    case ScalarOp::kAtan2: c = 16; break;
    case ScalarOp::kPow: c = 30; break;
    case ScalarOp::kFloorDiv:
    case ScalarOp::kRem: c = 8; break;
    default: c = 1;
  }
  for (const Expr& a : e->args) c += tree_cost(a, depth + 1);
  return c;
}

}  // namespace

double element_cost(const Node& n) {
  if (n.op->scalar) {
    std::vector<Expr> args;
    for (size_t i = 0; i < n.operands.size(); ++i)
      args.push_back(Expr::arg(static_cast<int>(i), n.operands[i]->type.dtype));
    return tree_cost(n.op->scalar(args, n.attrs));
  }
  if (n.op == &ops::random_bits) return 14;
  if (n.op == &ops::gather) return 2;
  if (n.op == &ops::concat) return static_cast<double>(n.operands.size());
  if (n.op == &ops::pad) return 1;
  return 0;
}

NominalSizes::NominalSizes(const Func& f) {
  for (const SymbolDef& s : f.symbols) {
    int64_t v = std::max<int64_t>(32, s.min);
    if (s.max) v = std::min(v, *s.max);
    sizes_[s.name] = v;
  }
}

double NominalSizes::elements(const Shape& s) const {
  double n = 1;
  for (const Dim& d : s) {
    if (d.is_constant())
      n *= static_cast<double>(d.constant());
    else
      n *= static_cast<double>(d.evaluate(sizes_).value_or(32));
  }
  return n;
}

std::string_view region_kind_name(RegionKind k) {
  switch (k) {
    case RegionKind::kMap: return "map";
    case RegionKind::kRows: return "rows";
    case RegionKind::kColumns: return "columns";
    case RegionKind::kContraction: return "contraction";
    case RegionKind::kWindow: return "window";
    case RegionKind::kScatter: return "scatter";
    case RegionKind::kAttention: return "attention";
  }
  return "?";
}

int FuseGraph::root(int node) const {
  while (node >= 0 && cls[node] == NodeClass::kView && group_of[node] < 0 && !floating[node])
    node = producers[node][0];
  return node;
}

FuseGraph::FuseGraph(Func& f) : func(f), sizes(f) {
  const size_t n = f.body.nodes.size();
  nodes.reserve(n);
  for (auto& node : f.body.nodes) {
    index[node.get()] = static_cast<int>(nodes.size());
    nodes.push_back(node.get());
  }
  cls.resize(n), cost.resize(n), elements.resize(n), producers.resize(n), users.resize(n);
  pinned.assign(n, false), floating.assign(n, false), sink_only.assign(n, false);
  group_of.assign(n, -1), form.assign(n, Form::kFull);
  // Trees of equal ops cost the same: ask once per op where there are no attributes to depend on.
  std::unordered_map<const OpDef*, double> by_op;
  for (size_t i = 0; i < n; ++i) {
    const Node& node = *nodes[i];
    cls[i] = classify(node.op);
    if (node.attrs.empty()) {
      auto [it, fresh] = by_op.try_emplace(node.op, 0.0);
      if (fresh) it->second = element_cost(node);
      cost[i] = it->second;
    } else {
      cost[i] = element_cost(node);
    }
    elements[i] = node.results.empty() ? 0 : sizes.elements(node.result()->type.shape);
    for (const Value* v : node.operands) {
      const int p = v->node ? index.at(v->node) : -1;
      producers[i].push_back(p);
      if (p >= 0 && (users[p].empty() || users[p].back() != static_cast<int>(i)))
        users[p].push_back(static_cast<int>(i));
    }
  }
  for (const Value* v : f.body.results)
    if (v->node) pinned[index.at(v->node)] = true;
  // What splits heads on the way to attention is an index map of its readers, a reshape as well: but for a
  // view of memory, which costs nothing.
  std::vector<bool> for_attention(n);
  for (size_t i = n; i-- > 0;) {
    if (pinned[i] || users[i].empty() || producers[i].empty()) continue;
    const int p = producers[i][0];
    const bool of_map = cls[i] == NodeClass::kView && p >= 0 && cls[p] == NodeClass::kIndexMap;
    if (cls[i] != NodeClass::kIndexMap && !of_map) continue;
    for_attention[i] = std::ranges::all_of(
        users[i], [&](int u) { return cls[u] == NodeClass::kAttention || for_attention[u]; });
    if (for_attention[i]) cls[i] = NodeClass::kIndexMap;
  }

  for (size_t i = 0; i < n; ++i)
    if (cls[i] == NodeClass::kAssign && producers[i][1] >= 0) pinned[producers[i][1]] = true;
  hard = pinned;

  // Floating: free, or computed from free values alone at a moderate price.
  std::vector<double> chain(n, 0);
  for (size_t i = 0; i < n; ++i) {
    if (cls[i] == NodeClass::kAssign) continue;
    const bool movable =
        cls[i] == NodeClass::kElement || cls[i] == NodeClass::kIndexMap || cls[i] == NodeClass::kView;
    bool all = cls[i] == NodeClass::kFree || (movable && !producers[i].empty());
    double c = cost[i];
    if (movable)
      for (int p : producers[i]) {
        all = all && p >= 0 && floating[p];
        if (p >= 0) c += chain[p];
      }
    chain[i] = c;
    floating[i] = all && c <= 40 && !hard[i];
  }
  for (size_t i = 0; i < n; ++i)
    if (cls[i] == NodeClass::kView && !floating[i] && producers[i][0] >= 0) hard[producers[i][0]] = true;
  // A view needs memory under it; so does a scatter's index.
  for (size_t i = 0; i < n; ++i) {
    const bool needs = (cls[i] == NodeClass::kView && !floating[i]) || cls[i] == NodeClass::kScatter;
    if (!needs) continue;
    for (int p : producers[i])
      if (p >= 0 && floating[p] && (cls[i] == NodeClass::kView || nodes[p]->op != &ops::full))
        floating[p] = false;
  }
  for (size_t i = 0; i < n; ++i)
    for (int p : producers[i])
      if (floating[i] && (p >= 0 && !floating[p])) floating[i] = false;
  for (size_t i = n; i-- > 0;) {
    if (cls[i] != NodeClass::kElement || hard[i] || users[i].empty() || floating[i]) continue;
    bool all = true;
    for (int u : users[i])
      all = all && (cls[u] == NodeClass::kReduce || (cls[u] == NodeClass::kElement && sink_only[u] &&
                                                     type(u).shape == type(static_cast<int>(i)).shape));
    sink_only[i] = all;
  }
}

}  // namespace graphc
