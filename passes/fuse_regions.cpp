// The second half of fuse: which values are stored, and the regions made of the groups. See fuse.cpp.
#include <algorithm>
#include <unordered_set>

#include "ir/builder.h"
#include "passes/fuse_graph.h"

namespace graphc {
namespace {

// Relative prices, in bytes moved: an addition's share, and what running one more kernel costs.
constexpr double kBytesPerOp = 0.5;
constexpr double kKernelBytes = 20000;
constexpr int kMaxClonedNodes = 24;
constexpr double kMaskWeight = 4;
constexpr double kCheap = 2;  // what a contraction or a window may compute again whenever it reads

// A value's computation back to what is in memory.
struct Chain {
  bool ok = true;
  double cost = 0;  // of one element
  int nodes = 0;
  bool index_maps = false;           // other than broadcasts
  bool irregular = false;            // gather, concat, pad, random bits
  std::vector<int> to_store;         // small values and reductions that have to be stored for it
  std::vector<const Value*> leaves;  // tensors it reads
};

class Regions {
 public:
  Regions(Module& m, FuseGraph& g, bool may_clone) : m_(m), g_(g), may_clone_(may_clone) {}

  Status run() {
    prepare();
    for (int i = 0; i < count(); ++i) decide(i);
    build();
    emit();
    return ok_status();
  }

 private:
  int count() const { return static_cast<int>(g_.nodes.size()); }
  bool is_core(int i) const {
    return g_.cls[i] == NodeClass::kReduce || g_.cls[i] == NodeClass::kContract ||
           g_.cls[i] == NodeClass::kWindow || g_.cls[i] == NodeClass::kScatter ||
           g_.cls[i] == NodeClass::kAttention;
  }
  bool is_outer_view(int i) const {
    return g_.cls[i] == NodeClass::kView && !g_.floating[i] && g_.group_of[i] < 0;
  }

  void prepare() {
    stored_.assign(count(), false);
    exports_.assign(g_.groups.size(), 0);
    reads_.resize(g_.groups.size());
    for (int i = 0; i < count(); ++i) {
      const int id = g_.group_of[i];
      if (id < 0) continue;
      bool outside = g_.hard[i];
      for (int u : g_.users[i]) outside = outside || g_.group_of[u] != id;
      exports_[id] += outside;
      for (const Value* v : g_.nodes[i]->operands) reads_[id].insert(v);
    }
  }

  // --- decisions ---

  void walk(int i, int top, Chain& c) {
    if (!c.ok) return;
    if (++c.nodes > kMaxClonedNodes) {
      c.ok = false;
      return;
    }
    // what is one value for all elements is computed once
    c.cost += g_.elements[i] <= 1 && g_.elements[top] > 1 ? 0 : g_.cost[i];
    if (g_.cls[i] == NodeClass::kIndexMap || g_.cls[i] == NodeClass::kView) {
      const OpDef* op = g_.nodes[i]->op;
      if (op != &ops::expand && op != &ops::random_bits) c.index_maps = true;
      if (op == &ops::gather || op == &ops::concat || op == &ops::pad || op == &ops::random_bits)
        c.irregular = true;
    }
    for (size_t k = 0; k < g_.producers[i].size(); ++k) {
      const int p = g_.producers[i][k];
      const Value* v = g_.nodes[i]->operands[k];
      if (p < 0 || is_outer_view(p) || (!g_.floating[p] && stored_[p])) {
        if (std::find(c.leaves.begin(), c.leaves.end(), v) == c.leaves.end()) c.leaves.push_back(v);
        continue;
      }
      const bool small = g_.elements[p] * 8 <= g_.elements[top];
      if (is_core(p) || (small && !g_.floating[p] && g_.cost[p] >= 1)) {
        if (!small) {
          c.ok = false;  // then better store the top itself
          return;
        }
        if (std::find(c.to_store.begin(), c.to_store.end(), p) == c.to_store.end()) c.to_store.push_back(p);
        continue;
      }
      walk(p, top, c);
    }
  }

  // Whether the chain may be computed inside group `id`, by users of node i there; adds what that costs.
  bool allowed_in(int i, int id, const Chain& c, double& price) {
    const Group& t = g_.groups[id];
    bool by_core = false, beside = false;
    for (int u : g_.users[i])
      if (g_.group_of[u] == id) (u == t.core ? by_core : beside) = true;
    double elements = g_.sizes.elements(t.space);
    if (t.kind == RegionKind::kScatter) return false;
    if (t.kind == RegionKind::kContraction || t.kind == RegionKind::kWindow ||
        t.kind == RegionKind::kAttention) {
      int full = 0;
      for (const Value* v : c.leaves) full += g_.sizes.elements(v->type.shape) * 2 > g_.elements[i];
      if (by_core) {
        if (c.cost > kCheap || c.irregular || full > 1 || !c.to_store.empty()) return false;
        if (t.kind == RegionKind::kWindow && c.index_maps) return false;
        elements = 2 * g_.elements[i];
      }
      if (beside && (c.index_maps || c.irregular)) return false;
    }
    price += c.cost * kBytesPerOp * elements;
    for (const Value* v : c.leaves)
      if (!reads_[id].contains(v))  // attention reads just the heads it needs of a tensor of all
        price += t.kind == RegionKind::kAttention
                     ? std::min(g_.sizes.bytes(v->type), g_.sizes.bytes(g_.type(i)))
                     : g_.sizes.bytes(v->type);
    for (int p : c.to_store) price += g_.sizes.bytes(g_.type(p));
    return true;
  }

  void decide(int i) {
    const int id = g_.group_of[i];
    if (id < 0) return;
    if (g_.hard[i]) {
      stored_[i] = true;
      return;
    }
    std::vector<int> readers;
    for (int u : g_.users[i])
      if (g_.group_of[u] != id && g_.group_of[u] >= 0 &&
          std::find(readers.begin(), readers.end(), g_.group_of[u]) == readers.end())
        readers.push_back(g_.group_of[u]);
    if (readers.empty()) return;  // used in its own group only
    stored_[i] = true;
    if (is_core(i) || !may_clone_) return;
    stored_[i] = false;
    Chain c;
    walk(i, i, c);
    double again = 0;
    bool ok = c.ok && (readers.size() == 1 || c.cost <= 10);
    for (int r : readers) ok = ok && allowed_in(i, r, c, again);
    double keep = g_.sizes.bytes(g_.type(i)) * static_cast<double>(1 + readers.size());
    // A mask is small to move, but lies beside what it was made from, mostly all the way to the backward
    // pass: it counts as if it had the size of that.
    if (g_.type(i).dtype == DType::kBool) keep *= kMaskWeight;
    if (g_.groups[id].kind == RegionKind::kMap && exports_[id] == 1) {
      keep += kKernelBytes;
      for (const Value* v : c.leaves) keep += g_.sizes.bytes(v->type);
    }
    if (!ok || again > keep) {
      stored_[i] = true;
      return;
    }
    for (int p : c.to_store) stored_[p] = true;
    for (int r : readers)
      for (const Value* v : c.leaves) reads_[r].insert(v);
  }

  // --- regions ---

  struct Built {
    std::unique_ptr<Node> node;
    std::vector<const Value*> results;  // whose values these are
  };

  void need(const Value* v) {
    while (v->node) {
      const int i = g_.index.at(v->node);
      needed_.insert(v);
      if (!is_outer_view(i)) return;
      v = g_.nodes[i]->operands[0];
    }
  }

  void build() {
    for (const Value* v : g_.func.body.results) need(v);
    for (int i = 0; i < count(); ++i)
      if (g_.cls[i] == NodeClass::kAssign) need(g_.nodes[i]->operands[1]);
    order_ = g_.order.in_order();
    built_.resize(g_.groups.size());
    for (size_t k = order_.size(); k-- > 0;) build_group(order_[k]);
  }

  void build_group(int id) {
    std::vector<int> nodes = g_.groups[id].nodes;
    std::sort(nodes.begin(), nodes.end());
    std::vector<const Value*> results;
    for (int i : nodes)
      if (stored_[i])
        for (const auto& r : g_.nodes[i]->results)
          if (needed_.contains(r.get())) results.push_back(r.get());
    if (results.empty()) return;
    auto fusion = std::make_unique<Node>();
    fusion->op = &ops::fusion;
    fusion->attrs["kind"] = Attr(region_kind_name(g_.groups[id].kind));
    fusion->region = std::make_unique<Block>();
    std::unordered_map<const Value*, Value*> inside;
    for (const Value* r : results) {
      fusion->region->results.push_back(evaluate(r, id, *fusion, inside));
      auto v = std::make_unique<Value>();
      v->type = r->type;
      v->node = fusion.get();
      v->index = static_cast<int>(fusion->results.size());
      fusion->results.push_back(std::move(v));
    }
    const int core = g_.groups[id].core;
    fusion->loc = core >= 0 ? g_.nodes[core]->loc : results.front()->node->loc;
    for (const Value* v : fusion->operands) need(v);
    built_[id] = {std::move(fusion), std::move(results)};
  }

  Value* read(Value* v, int id, Node& fusion, std::unordered_map<const Value*, Value*>& inside) {
    if (auto it = inside.find(v); it != inside.end()) return it->second;
    const int p = v->node ? g_.index.at(v->node) : -1;
    const bool outer = p < 0 || is_outer_view(p) || (!g_.floating[p] && g_.group_of[p] != id && stored_[p]);
    if (!outer) return evaluate(v, id, fusion, inside);
    fusion.operands.push_back(v);
    return inside[v] = fusion.region->add_arg(v->type);
  }

  Value* evaluate(const Value* v, int id, Node& fusion, std::unordered_map<const Value*, Value*>& inside) {
    if (auto it = inside.find(v); it != inside.end()) return it->second;
    const Node& from = *v->node;
    auto n = std::make_unique<Node>();
    n->op = from.op;
    n->attrs = from.attrs;
    n->loc = from.loc;
    for (Value* o : from.operands) n->operands.push_back(read(o, id, fusion, inside));
    for (const auto& result : from.results) {
      auto r = std::make_unique<Value>();
      r->type = result->type;
      r->node = n.get();
      r->index = result->index;
      inside[result.get()] = r.get();
      n->results.push_back(std::move(r));
    }
    fusion.region->nodes.push_back(std::move(n));
    return inside.at(v);
  }

  // --- the new block ---

  void emit() {
    Block& block = g_.func.body;
    old_ = std::move(block.nodes);
    block.nodes.clear();
    for (int id : order_) {
      Built& b = built_[id];
      if (!b.node) continue;
      for (Value*& v : b.node->operands) v = emitted(v);
      for (size_t k = 0; k < b.results.size(); ++k)
        image_[b.results[k]] = b.node->result(static_cast<int>(k));
      block.nodes.push_back(std::move(b.node));
    }
    for (int i = 0; i < count(); ++i) {
      if (g_.cls[i] != NodeClass::kAssign) continue;
      Node& n = *g_.nodes[i];
      n.operands[1] = emitted(n.operands[1]);
      block.nodes.push_back(std::move(old_[i]));
    }
    for (Value*& v : block.results) v = emitted(v);
  }

  // The new value; views are put into the block when they are first asked for.
  Value* emitted(Value* v) {
    if (auto it = image_.find(v); it != image_.end()) return it->second;
    if (!v->node || !g_.index.contains(v->node)) return v;
    const int i = g_.index.at(v->node);
    if (!is_outer_view(i)) return v;
    Node& n = *g_.nodes[i];
    n.operands[0] = emitted(n.operands[0]);
    image_[v] = v;
    g_.func.body.nodes.push_back(std::move(old_[i]));
    return v;
  }

  Module& m_;
  FuseGraph& g_;
  bool may_clone_;
  std::vector<bool> stored_;
  std::unordered_set<const Value*> needed_;
  std::vector<int> exports_;                             // by group: nodes that others use
  std::vector<std::unordered_set<const Value*>> reads_;  // by group
  std::vector<int> order_;
  std::vector<Built> built_;
  std::vector<std::unique_ptr<Node>> old_;
  std::unordered_map<const Value*, Value*> image_;
};

}  // namespace

Status build_regions(Module& m, FuseGraph& g, bool may_clone) { return Regions(m, g, may_clone).run(); }

}  // namespace graphc
