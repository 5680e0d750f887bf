// fuse: primitives become regions, each of which a backend compiles to one kernel.
//
//   before:  %0 = convolution(%x, @w) ..              after:  %0 = fusion(%x, @w, %b) {kind="contraction"} ..
//            %1 = add(%0, %b)                                 (%1: .., %2: .., %3: ..) {
//            %2 = relu(%1)                                      %4 = convolution(%1, %2) ..
//            return %2                                          %5 = add(%4, %3)
//                                                               %6 = relu(%5)
//                                                               yield %6
//                                                             }
//                                                             return %0
//
// The kinds and what each may hold are listed in docs/adding-a-pass.md ("Regions"). Afterwards the top level
// has fusions, reshapes (views) and assigns only. Two steps:
//
// 1. Grouping (this file): one walk in topological order. An elementwise node joins the group of one of its
//    operands if the group's kind has room for it (an epilogue, another row-shaped or full-sized value, a map
//    over the same space), or a group that reads the same tensors (siblings: the two moments of Adam, several
//    statistics of one gradient); a reduction turns a map over its space into rows or joins rows and columns
//    like its own; the rest opens a group. A TopoOrder of the groups says which joins and merges keep regions
//    convex. Constants, random masks and other free chains float: they belong to no group.
// 2. Regions (fuse_regions.cpp): every value that crosses groups is stored, or its computation is cloned into
//    its consumers where that costs less; groups that are left without results vanish. That is how prologues
//    come about: index maps and cheap arithmetic end up inside the contraction that reads them.
#include <algorithm>

#include <fmt/format.h>

#include "passes/fuse_graph.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace graphc {
namespace {

constexpr int kMaxOuter = 48;  // tensors a region may name; keeps kernels' argument lists sane

class Grouping {
 public:
  explicit Grouping(FuseGraph& g) : g_(g) {}

  Status run(bool join) {
    for (int i = 0; i < static_cast<int>(g_.nodes.size()); ++i) {
      switch (g_.cls[i]) {
        case NodeClass::kAssign: break;
        case NodeClass::kView:
          if (!g_.floating[i] && join) join_row_reshape(i);
          break;
        case NodeClass::kUnknown:
          return internal_error(
              fmt::format("fuse doesn't know how to make a region of {}", g_.nodes[i]->op->name));
        case NodeClass::kFree:
          if (!g_.floating[i]) open(i, RegionKind::kMap);
          break;
        case NodeClass::kContract: open(i, RegionKind::kContraction); break;
        case NodeClass::kWindow: open(i, RegionKind::kWindow); break;
        case NodeClass::kAttention: open(i, RegionKind::kAttention); break;
        case NodeClass::kScatter: open(i, RegionKind::kScatter); break;
        case NodeClass::kReduce:
          if (!join || !join_reduction(i)) open_reduction(i);
          break;
        case NodeClass::kElement:
          if (!g_.floating[i] && !(join && join_element(i))) open(i, RegionKind::kMap);
          break;
        case NodeClass::kIndexMap:
          if (!g_.floating[i] && !(join && (join_expand(i) || join_transpose(i)))) open(i, RegionKind::kMap);
          break;
      }
      if (g_.group_of[i] >= 0) note_reader(i);
    }
    if (join) gather_small_maps();
    return ok_status();
  }

 private:
  const Shape& shape(int i) const { return g_.type(i).shape; }
  Group& group(int id) { return g_.groups[id]; }

  // Groups that a node reads from, through views and floating nodes. Without `except`.
  std::vector<int> sources(int i) const {
    std::vector<int> out;
    auto visit = [&](auto&& self, int p) -> void {
      p = p < 0 ? p : g_.root(p);
      if (p < 0) return;
      if (g_.floating[p]) return;
      const int s = g_.group_of[p];
      if (s >= 0 && std::find(out.begin(), out.end(), s) == out.end()) out.push_back(s);
    };
    for (int p : g_.producers[i]) visit(visit, p);
    return out;
  }

  void put(int i, int id) {
    g_.group_of[i] = id;
    Group& t = group(id);
    t.nodes.push_back(i);
    if (g_.cls[i] == NodeClass::kIndexMap) t.has_index_map = true;
    for (size_t k = 0; k < g_.producers[i].size(); ++k) {
      const int p = g_.producers[i][k];
      if (p < 0 || (!g_.floating[p] && g_.group_of[p] != id)) ++t.num_outer;
    }
  }

  int open(int i, RegionKind kind) {
    const int id = g_.order.add();
    g_.groups.emplace_back();
    group(id).kind = kind;
    group(id).space = shape(i);
    if (kind != RegionKind::kMap) group(id).core = i;
    for (int s : sources(i)) g_.order.add_edge(s, id);
    put(i, id);
    if (kind == RegionKind::kMap && only_variables(i) && g_.elements[i] <= 8192) small_maps_.push_back(id);
    return id;
  }

  // A view is of memory: a region can't read one of what it is itself about to store.
  bool reads_view_of(int i, int id) const {
    for (int p : g_.producers[i]) {
      if (p < 0) continue;
      const int r = g_.root(p);
      if (r != p && r >= 0 && g_.group_of[r] == id) return true;
    }
    return false;
  }

  // Puts i into the group if that keeps the order.
  bool join(int i, int id) {
    Group& t = group(id);
    if (t.num_outer > kMaxOuter || reads_view_of(i, id)) return false;
    std::vector<int> from = sources(i);
    std::erase(from, id);
    if (!from.empty() && !g_.order.add_edges(from, id)) return false;
    put(i, id);
    return true;
  }

  bool merge(int from, int into) {
    Group &a = group(from), &b = group(into);
    if (a.num_outer + b.num_outer > kMaxOuter) return false;
    for (int n : a.nodes)
      if (reads_view_of(n, into)) return false;
    for (int n : b.nodes)
      if (reads_view_of(n, from)) return false;
    if (!g_.order.merge(from, into)) return false;
    for (int n : a.nodes) g_.group_of[n] = into;
    b.nodes.insert(b.nodes.end(), a.nodes.begin(), a.nodes.end());
    std::sort(b.nodes.begin(), b.nodes.end());
    b.has_index_map = b.has_index_map || a.has_index_map;
    b.num_outer += a.num_outer;
    a.nodes.clear();
    return true;
  }

  // --- rows and columns ---

  Shape row_shape(const Group& t, bool keep) const {
    Shape s;
    for (size_t a = 0; a < t.space.size(); ++a) {
      const bool reduced = std::find(t.axes.begin(), t.axes.end(), static_cast<int64_t>(a)) != t.axes.end();
      if (!reduced)
        s.push_back(t.space[a]);
      else if (keep)
        s.push_back(Dim(1));
    }
    return s;
  }
  // Reduced axes lead, so that dropping them keeps the alignment of broadcasting.
  bool axes_lead(const Group& t) const {
    for (size_t k = 0; k < t.axes.size(); ++k)
      if (t.axes[k] != static_cast<int64_t>(k)) return false;
    return true;
  }

  // What node i would be inside the group; nullopt if it doesn't fit.
  std::optional<Form> form_in(int i, int id) const {
    const Group& t = g_.groups[id];
    bool full = false, keep = false, drop = false;
    for (int p : g_.producers[i]) {
      if (p < 0 || g_.group_of[p] != id) continue;
      switch (g_.form[p]) {
        case Form::kFull: full = true; break;
        case Form::kRowKeep: keep = true; break;
        case Form::kRowDrop: drop = true; break;
      }
    }
    const bool can_be_full = t.kind == RegionKind::kRows && shape(i) == t.space;
    if (drop && (full || keep || shape(i) != row_shape(t, false))) {
      if (!axes_lead(t) || !can_be_full) return std::nullopt;
      return Form::kFull;
    }
    if (drop) return Form::kRowDrop;
    if (full) return can_be_full ? std::optional(Form::kFull) : std::nullopt;
    if (keep) {
      if (shape(i) == row_shape(t, true)) return Form::kRowKeep;
      return can_be_full ? std::optional(Form::kFull) : std::nullopt;
    }
    return can_be_full ? std::optional(Form::kFull) : std::nullopt;
  }

  std::vector<int64_t> reduced_axes(int i) const {
    const Node& n = *g_.nodes[i];
    std::vector<int64_t> axes =
        n.op == &ops::argmax ? std::vector<int64_t>{n.attr("axis").as_int()} : n.attr("axes").as_ints();
    std::sort(axes.begin(), axes.end());
    return axes;
  }
  static RegionKind reduce_kind(const Shape& space, const std::vector<int64_t>& axes) {
    const auto innermost = static_cast<int64_t>(space.size()) - 1;
    return std::find(axes.begin(), axes.end(), innermost) != axes.end() ? RegionKind::kRows
                                                                        : RegionKind::kColumns;
  }
  Form reduce_form(int i) const {
    return g_.nodes[i]->attr("keepdims").as_bool() ? Form::kRowKeep : Form::kRowDrop;
  }

  void open_reduction(int i) {
    const Shape& space = g_.nodes[i]->operands[0]->type.shape;
    std::vector<int64_t> axes = reduced_axes(i);
    const int id = open(i, reduce_kind(space, axes));
    group(id).space = space;
    group(id).axes = std::move(axes);
    group(id).core = -1;
    g_.form[i] = reduce_form(i);
  }

  bool same_reduction(const Group& t, RegionKind kind, const Shape& space,
                      const std::vector<int64_t>& axes) const {
    return t.kind == kind && t.axes == axes && t.space == space;
  }

  bool join_reduction(int i) {
    const Shape& space = g_.nodes[i]->operands[0]->type.shape;
    const std::vector<int64_t> axes = reduced_axes(i);
    const RegionKind kind = reduce_kind(space, axes);
    const int p = g_.producers[i][0];
    const int source = p >= 0 && !g_.floating[p] ? g_.group_of[p] : -1;
    auto join_as = [&](int id) {
      if (!join(i, id)) return false;
      g_.form[i] = reduce_form(i);
      return true;
    };
    // Its operand is computed in rows like its own.
    if (source >= 0 && same_reduction(group(source), kind, space, axes) && g_.form[p] == Form::kFull)
      if (join_as(source)) return true;
    // Rows or columns that read the same tensors.
    std::vector<int> readers = near_readers(i);
    // Or that read what its operand is computed from, if nothing else wants the operand.
    if (source >= 0 && g_.sink_only[p] && group(source).kind == RegionKind::kMap)
      for (int n : group(source).nodes)
        for (int id : near_readers(n))
          if (std::find(readers.begin(), readers.end(), id) == readers.end()) readers.push_back(id);
    for (int id : readers)
      if (same_reduction(group(id), kind, space, axes) && id != source) {
        if (source >= 0 && kind == RegionKind::kRows && group(source).kind == RegionKind::kMap &&
            group(source).space == space && p >= 0 && !g_.hard[p])
          merge(source, id);
        if (join_as(id)) return true;
      }
    // Its operand is a map over the same space: that becomes rows.
    if (source >= 0 && kind == RegionKind::kRows && group(source).kind == RegionKind::kMap &&
        group(source).space == space && enough_rows(source, i, axes)) {
      Group& t = group(source);
      t.kind = RegionKind::kRows;
      t.axes = axes;
      for (int n : t.nodes) g_.form[n] = Form::kFull;
      if (join_as(source)) return true;
    }
    return false;
  }

  // Few long rows would take the parallelism from a map whose results others need.
  bool enough_rows(int map, int reduction, const std::vector<int64_t>& axes) const {
    const Group& t = g_.groups[map];
    const double total = g_.sizes.elements(t.space);
    if (total <= 32768) return true;
    Shape rows;
    for (size_t a = 0; a < t.space.size(); ++a)
      if (std::find(axes.begin(), axes.end(), static_cast<int64_t>(a)) == axes.end())
        rows.push_back(t.space[a]);
    if (g_.sizes.elements(rows) >= 8) return true;
    for (int n : t.nodes) {
      if (g_.hard[n]) return false;
      for (int u : g_.users[n])
        if (u != reduction && g_.group_of[u] != map) return false;
    }
    return true;
  }

  // reshape between the two forms of a row's value
  void join_row_reshape(int i) {
    const int p = g_.producers[i][0];
    if (p < 0 || g_.floating[p] || g_.group_of[p] < 0 || g_.hard[i]) return;
    const int id = g_.group_of[p];
    const Group& t = group(id);
    if (t.kind != RegionKind::kRows && t.kind != RegionKind::kColumns) return;
    std::optional<Form> to;
    if (g_.form[p] == Form::kRowDrop && shape(i) == row_shape(t, true)) to = Form::kRowKeep;
    if (g_.form[p] == Form::kRowKeep && shape(i) == row_shape(t, false)) to = Form::kRowDrop;
    if (!to || !join(i, id)) return;
    g_.form[i] = *to;
    bool viewed = false;  // by a reshape that stays outside
    for (int u : g_.users[p])
      viewed = viewed || (u != i && g_.cls[u] == NodeClass::kView && g_.group_of[u] < 0);
    g_.hard[p] = g_.pinned[p] || viewed;
  }

  bool join_expand(int i) {
    if (g_.nodes[i]->op != &ops::expand) return false;
    const int p = g_.producers[i][0];
    if (p < 0 || g_.floating[p]) return false;
    const int id = g_.group_of[p];
    if (id < 0 || group(id).kind != RegionKind::kRows) return false;
    auto f = form_in(i, id);
    if (!f || !join(i, id)) return false;
    g_.form[i] = *f;
    return true;
  }

  // A result of attention may be written transposed, if nobody wants it as it is.
  bool join_transpose(int i) {
    if (g_.nodes[i]->op != &ops::transpose) return false;
    const int p = g_.producers[i][0];
    if (p < 0 || g_.cls[p] != NodeClass::kAttention) return false;
    const Value* v = g_.nodes[i]->operands[0];
    for (const Value* r : g_.func.body.results)
      if (r == v) return false;
    for (int u : g_.users[p])
      for (const Value* o : g_.nodes[u]->operands)
        if (o == v && u != i) return false;
    return join(i, g_.group_of[p]);
  }

  // --- elementwise nodes ---

  // Whether the group has a place for i, given that an operand of i comes from it (or, sibling, not).
  bool fits(int i, int id, bool sibling) const {
    const Group& t = g_.groups[id];
    switch (t.kind) {
      case RegionKind::kMap: return t.space == shape(i);
      case RegionKind::kContraction:
      case RegionKind::kWindow: return !sibling && t.space == shape(i) && !g_.sink_only[i];
      case RegionKind::kAttention:
      case RegionKind::kScatter: return false;
      case RegionKind::kRows: return (!sibling || shape(i) == t.space) && form_in(i, id).has_value();
      case RegionKind::kColumns: return !sibling && form_in(i, id).has_value();
    }
    return false;
  }

  bool join_element(int i) {
    std::vector<int> from;  // groups of operands, the latest first
    for (int p : g_.producers[i])
      if (p >= 0 && !g_.floating[p] && g_.group_of[p] >= 0 &&
          std::find(from.begin(), from.end(), g_.group_of[p]) == from.end())
        from.push_back(g_.group_of[p]);
    // Groups with a core first, then the latest.
    std::sort(from.begin(), from.end(), [this](int a, int b) {
      const bool map_a = group(a).kind == RegionKind::kMap, map_b = group(b).kind == RegionKind::kMap;
      return map_a != map_b ? map_b : g_.order.position(a) > g_.order.position(b);
    });
    int home = -1;
    for (int id : from) {
      if (!fits(i, id, false)) continue;
      const Form f = form_in(i, id).value_or(Form::kFull);
      if (!join(i, id)) continue;
      g_.form[i] = f;
      home = id;
      break;
    }
    if (home < 0) {
      for (int id : near_readers(i)) {
        if (std::find(from.begin(), from.end(), id) != from.end() || !fits(i, id, true)) continue;
        const Form f = form_in(i, id).value_or(Form::kFull);
        if (!join(i, id)) continue;
        g_.form[i] = f;
        home = id;
        break;
      }
    }
    if (home < 0) return false;
    // The other operands' maps can come along.
    for (int id : from) {
      if (id == home || !g_.order.alive(id) || !g_.order.alive(home)) continue;
      home = absorb(id, home);
    }
    return true;
  }

  // Merges a map, or rows like the home's, into the home (or the home, if it is the map, into it). Returns
  // where the nodes of the home are now.
  int absorb(int other, int home) {
    Group &a = group(other), &b = group(home);
    // The form that the map's values get in t; nullopt if t has no place for them.
    auto takes_map = [&](const Group& t, const Group& map) -> std::optional<Form> {
      if (map.kind != RegionKind::kMap) return std::nullopt;
      switch (t.kind) {
        case RegionKind::kMap:
          if (map.space == t.space) return Form::kFull;
          break;
        case RegionKind::kContraction:
        case RegionKind::kWindow:
          if (map.space == t.space && !map.has_index_map && !feeds_core(map, t)) return Form::kFull;
          break;
        case RegionKind::kRows:
          if (map.space == t.space && enough_rows_for(t)) return Form::kFull;
          [[fallthrough]];
        case RegionKind::kColumns:
          if (map.has_index_map) break;
          if (map.space == row_shape(t, false)) return Form::kRowDrop;
          if (map.space == row_shape(t, true)) return Form::kRowKeep;
          break;
        case RegionKind::kAttention:
        case RegionKind::kScatter: break;
      }
      return std::nullopt;
    };
    if (auto f = takes_map(b, a)) {
      const std::vector<int> moved = a.nodes;
      if (!merge(other, home)) return home;
      for (int n : moved) g_.form[n] = *f;
      return home;
    }
    if (auto f = takes_map(a, b)) {
      const std::vector<int> moved = b.nodes;
      if (!merge(home, other)) return home;
      for (int n : moved) g_.form[n] = *f;
      return other;
    }
    if (a.kind == RegionKind::kRows && b.kind == RegionKind::kRows && a.space == b.space && a.axes == b.axes)
      merge(other, home);
    return home;
  }
  // Whether the core reads a value of the map. The map is then a prologue at best (build_regions decides what
  // is cheap enough to compute again with each read), no part of the epilogue.
  bool feeds_core(const Group& map, const Group& t) const {
    for (int n : map.nodes)
      for (int u : g_.users[n])
        if (u == t.core || (g_.group_of[u] < 0 && reaches_core(u, t.core))) return true;
    return false;
  }
  // through views and what floats
  bool reaches_core(int i, int core) const {
    for (int u : g_.users[i])
      if (u == core || (g_.group_of[u] < 0 && reaches_core(u, core))) return true;
    return false;
  }
  bool enough_rows_for(const Group& t) const {
    return g_.sizes.elements(row_shape(t, false)) >= 8 || g_.sizes.elements(t.space) <= 32768;
  }

  // Small maps over variables alone become one per shape: the scales of all batch norms, say.
  void gather_small_maps() {
    std::vector<int> kept;
    for (int id : small_maps_) {
      if (!g_.order.alive(id) || group(id).kind != RegionKind::kMap || !g_.order.is_source(id)) continue;
      bool gone = false;
      for (int into : kept) {
        if (group(into).space != group(id).space) continue;
        gone = merge(id, into);
        if (gone) break;
      }
      if (!gone) kept.push_back(id);
    }
  }

  bool only_variables(int i) const {
    for (int p : g_.producers[i])
      if (p >= 0 && !g_.floating[p] && (p = g_.root(p)) >= 0) {  // a view of a variable is one as well
        const int id = g_.group_of[p];
        if (id < 0 || std::find(small_maps_.begin(), small_maps_.end(), id) == small_maps_.end())
          return false;
      }
    return true;
  }

  // --- who reads what ---

  // Groups that read a tensor i reads as well, the latest first. Only tensors of i's own size count.
  std::vector<int> near_readers(int i) const {
    std::vector<int> out;
    for (const Value* v : g_.nodes[i]->operands) {
      auto it = readers_.find(v);
      if (it == readers_.end()) continue;
      if (g_.nodes[i]->op->scalar && g_.sizes.elements(v->type.shape) != g_.elements[i]) continue;
      const std::vector<int>& all = it->second;
      for (size_t k = all.size(), n = 0; k > 0 && n < 4; --k, ++n) {
        const int id = all[k - 1];
        if (g_.order.alive(id) && std::find(out.begin(), out.end(), id) == out.end()) out.push_back(id);
      }
    }
    std::sort(out.begin(), out.end(),
              [this](int a, int b) { return g_.order.position(a) > g_.order.position(b); });
    return out;
  }
  void note_reader(int i) {
    const int id = g_.group_of[i];
    if (g_.groups[id].kind != RegionKind::kMap && g_.groups[id].kind != RegionKind::kRows &&
        g_.groups[id].kind != RegionKind::kColumns)
      return;
    for (const Value* v : g_.nodes[i]->operands) {
      std::vector<int>& all = readers_[v];
      if (all.empty() || all.back() != id) all.push_back(id);
    }
  }

  FuseGraph& g_;
  std::unordered_map<const Value*, std::vector<int>> readers_;
  std::vector<int> small_maps_;
};

// A constant that has to be in memory (the function's result, a state's new value) gets a node of its own, so
// that other uses of it go on as constants.
void split_hard_constants(Module& m, Block& block) {
  std::vector<std::unique_ptr<Node>> old = std::move(block.nodes);
  block.nodes.clear();
  block.nodes.reserve(old.size());
  Builder b(m, block);
  auto own = [&](Value*& v) {
    if (!v->node || classify(v->node->op) != NodeClass::kFree) return;
    b.loc = v->node->loc;
    v = b.create_raw(*v->node->op, v->node->operands, v->node->attrs, {v->type})->result();
  };
  for (auto& n : old) {
    if (n->op == &ops::assign) own(n->operands[1]);
    if (n->op == &ops::scatter_add) own(n->operands[1]);
    block.nodes.push_back(std::move(n));
  }
  for (Value*& v : block.results) own(v);
}

// Where attention's output is wanted transposed (heads merged), it is written that way only: others read it
// through the inverse.
void write_attention_transposed(Module& m, Block& block) {
  std::unordered_map<const Value*, std::vector<Node*>> users;
  for (auto& n : block.nodes)
    for (const Value* v : n->operands)
      if (v->node && v->node->op == &ops::attention) users[v].push_back(n.get());
  std::unordered_map<const Node*, Node*> moved;  // transposes to put right behind the attention
  for (const auto& [v, all] : users) {
    if (v->index != 0 || std::ranges::find(block.results, v) != block.results.end()) continue;
    const auto is_transpose = [](const Node* n) { return n->op == &ops::transpose; };
    if (all.size() > 1 && std::ranges::count_if(all, is_transpose) == 1)
      moved[v->node] = *std::ranges::find_if(all, is_transpose);
  }
  if (moved.empty()) return;
  std::vector<std::unique_ptr<Node>> old = std::move(block.nodes);
  block.nodes.clear();
  Builder b(m, block);
  std::unordered_map<const Node*, std::unique_ptr<Node>> taken;
  for (const auto& [core, t] : moved)
    for (auto& n : old)
      if (n.get() == t) taken[t] = std::move(n);
  for (auto& n : old) {
    if (!n) continue;
    const auto it = moved.find(n.get());
    block.nodes.push_back(std::move(n));
    if (it == moved.end()) continue;
    Node* t = it->second;
    Value* out = t->operands[0];
    block.nodes.push_back(std::move(taken[t]));
    const std::vector<int64_t> perm = t->attr("perm").as_ints();
    std::vector<int64_t> inverse(perm.size());
    for (size_t i = 0; i < perm.size(); ++i) inverse[static_cast<size_t>(perm[i])] = static_cast<int64_t>(i);
    b.loc = t->loc;
    Value* back = b.transpose(t->result(), inverse);
    for (Node* user : users[out])
      if (user != t) std::ranges::replace(user->operands, out, back);
  }
}

Status fuse_function(Module& m, Func& f, bool join) {
  for (const auto& n : f.body.nodes)
    if (n->op == &ops::fusion) return ok_status();  // already done
  dce_block(f.body);  // a reduction that nobody wants would make rows of what is a map
  split_hard_constants(m, f.body);
  if (join) write_attention_transposed(m, f.body);
  FuseGraph g(f);
  GC_CHECK(Grouping(g).run(join));
  return build_regions(m, g, join);
}

}  // namespace

Status fuse(Module& m) {
  for (auto& f : m.funcs) GC_CHECK(fuse_function(m, *f, true));
  return ok_status();
}

Status unfused(Module& m) {
  for (auto& f : m.funcs) GC_CHECK(fuse_function(m, *f, false));
  return ok_status();
}

}  // namespace graphc
