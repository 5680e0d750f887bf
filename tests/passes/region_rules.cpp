#include "tests/passes/region_rules.h"

#include <algorithm>
#include <unordered_set>

#include <fmt/format.h>

#include "ir/op.h"
#include "ir/print.h"
#include "passes/fuse_graph.h"

namespace graphc {
namespace {

std::vector<int64_t> reduced_axes(const Node& n) {
  std::vector<int64_t> axes =
      n.op == &ops::argmax ? std::vector<int64_t>{n.attr("axis").as_int()} : n.attr("axes").as_ints();
  std::sort(axes.begin(), axes.end());
  return axes;
}

Shape row_shape(const Shape& space, const std::vector<int64_t>& axes, bool keep) {
  Shape s;
  for (size_t a = 0; a < space.size(); ++a)
    if (std::find(axes.begin(), axes.end(), static_cast<int64_t>(a)) == axes.end())
      s.push_back(space[a]);
    else if (keep)
      s.push_back(Dim(1));
  return s;
}

std::string check_reductions(const Node& fusion, bool rows) {
  const Node* first = nullptr;
  for (const auto& n : fusion.region->nodes) {
    if (classify(n->op) != NodeClass::kReduce) continue;
    const auto axes = reduced_axes(*n);
    const bool innermost = std::find(axes.begin(), axes.end(), n->operands[0]->type.rank() - 1) != axes.end();
    if (innermost != rows)
      return rows ? "rows that keep the innermost axis" : "columns that reduce the innermost axis";
    if (!first) first = n.get();
    if (n->operands[0]->type.shape != first->operands[0]->type.shape || axes != reduced_axes(*first))
      return "reductions of different spaces or axes";
  }
  if (!first) return "no reduction";
  const Shape& space = first->operands[0]->type.shape;
  const auto axes = reduced_axes(*first);
  for (const Value* r : fusion.region->results) {
    const Shape& s = r->type.shape;
    const bool row = s == row_shape(space, axes, true) || s == row_shape(space, axes, false);
    if (!row && !(rows && s == space))
      return "a result that is neither of row shape nor (in rows) of the space's";
  }
  return "";
}

// One core, behind it elementwise nodes of its result's shape only.
std::string check_core(const Node& fusion, NodeClass core_class) {
  const Node* core = nullptr;
  std::unordered_set<const Value*> behind;
  for (const auto& n : fusion.region->nodes) {
    const NodeClass c = classify(n->op);
    if (c == core_class) {
      if (core) return "two cores";
      core = n.get();
      behind.insert(n->result());
      continue;
    }
    bool after = false;
    for (const Value* v : n->operands) after = after || behind.contains(v);
    if (!after) continue;
    if (c != NodeClass::kElement) return fmt::format("{} behind the core", n->op->name);
    if (n->result()->type.shape != core->result()->type.shape) return "an epilogue of another shape";
    behind.insert(n->result());
  }
  if (!core) return "no core";
  for (const Value* r : fusion.region->results)
    if (r->type.shape != core->result()->type.shape) return "a result of another shape than the core's";
  return "";
}

std::string check_fusion(const Node& fusion) {
  const std::string& kind = fusion.attr("kind").as_string();
  int contracts = 0, windows = 0, scatters = 0, reduces = 0, attentions = 0;
  for (const auto& n : fusion.region->nodes) {
    const NodeClass c = classify(n->op);
    if (c == NodeClass::kUnknown || c == NodeClass::kAssign)
      return fmt::format("{} in a region", n->op->name);
    contracts += c == NodeClass::kContract, windows += c == NodeClass::kWindow;
    attentions += c == NodeClass::kAttention;
    scatters += c == NodeClass::kScatter, reduces += c == NodeClass::kReduce;
  }
  const bool contraction = kind == "contraction", window = kind == "window", scatter = kind == "scatter";
  if (contracts != (contraction ? 1 : 0) || windows != (window ? 1 : 0) || scatters != (scatter ? 1 : 0))
    return fmt::format("{} contractions, {} windows and {} scatters", contracts, windows, scatters);
  if (attentions != (kind == "attention" ? 1 : 0)) return fmt::format("{} attentions", attentions);
  if (reduces && kind != "rows" && kind != "columns") return "a reduction";
  if (fusion.region->results.empty()) return "no results";
  if (kind == "rows" || kind == "columns") return check_reductions(fusion, kind == "rows");
  if (contraction) return check_core(fusion, NodeClass::kContract);
  if (window) return check_core(fusion, NodeClass::kWindow);
  if (scatter) return fusion.region->results.size() == 1 ? "" : "several results";
  if (kind == "attention") return "";
  if (kind != "map") return "an unknown kind";
  for (const Value* r : fusion.region->results)
    if (!(r->type.num_elements() == fusion.region->results[0]->type.num_elements()))
      return "results of different sizes";
  return "";
}

}  // namespace

std::string broken_region_rule(const Func& f) {
  for (const auto& n : f.body.nodes) {
    if (n->op == &ops::assign || n->op == &ops::reshape) continue;
    std::string broken = n->op == &ops::fusion ? check_fusion(*n) : "not a fusion, a view or an assign";
    if (!broken.empty()) return fmt::format("@{}: {}\n{}", f.name, broken, print(*n));
  }
  return "";
}

}  // namespace graphc
