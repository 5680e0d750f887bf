#include "backends/kernels/index_checks.h"

#include <fmt/format.h>

#include <set>

#include "ir/builder.h"
#include "ir/op.h"

namespace graphc {
namespace {

// Whether ids are iota's numbers, moved about, and those are all below size.
bool known_in_range(const Value* ids, const Dim& size, const DimRanges& ranges) {
  while (ids->node && (ids->node->op == &ops::reshape || ids->node->op == &ops::expand ||
                       ids->node->op == &ops::transpose || ids->node->op == &ops::cast))
    ids = ids->node->operands[0];
  if (!ids->node || ids->node->op != &ops::iota) return false;
  const Dim& n = ids->type.shape[static_cast<size_t>(ids->node->attr("axis").as_int())];
  return ranges.provably_nonnegative(size - n);
}

void mark_needed(const Value* v, std::set<const Node*>& needed) {
  if (!v->node || !needed.insert(v->node).second) return;
  for (const Value* x : v->node->operands) mark_needed(x, needed);
}

// The region's code up to `ids`, then its smallest and largest element.
std::unique_ptr<Module> bounds_region(const Func& region, const Value* ids) {
  std::set<const Node*> needed;
  mark_needed(ids, needed);
  auto m = std::make_unique<Module>();
  Func* f = m->add_func("rows");
  f->symbols = region.symbols;
  std::unordered_map<const Value*, Value*> map;
  for (const auto& a : region.body.args) map[a.get()] = f->body.add_arg(a->type, a->name);
  Builder b(*m, f->body);
  for (const auto& n : region.body.nodes) {
    if (!needed.contains(n.get())) continue;
    std::vector<Value*> operands;
    for (const Value* x : n->operands) operands.push_back(map.at(x));
    map[n->result()] = b.create(*n->op, operands, n->attrs);
  }
  Value* x = b.cast(map.at(ids), DType::kI64);
  if (x->type.shape.empty()) x = b.reshape(x, {1});
  std::vector<int64_t> axes;
  for (int64_t i = 0; i < x->type.rank(); ++i) axes.push_back(i);
  const Attrs attrs = {{"axes", Attr::ints(axes)}, {"keepdims", Attr(false)}};
  f->body.results = {b.create(ops::min, {x}, attrs), b.create(ops::max, {x}, attrs)};
  f->result_names = {"low", "high"};
  return m;
}

}  // namespace

Status add_index_checks(const Func& region, const std::string& name, const RegionTemplate& rows,
                        LoweredRegion& lowered) {
  std::vector<KernelStep> front;
  std::set<std::pair<const Value*, std::string>> seen;
  const DimRanges ranges = region.ranges();
  for (const auto& n : region.body.nodes) {
    if (n->op != &ops::gather && n->op != &ops::scatter_add) continue;
    const Value* ids = n->operands[1];
    const Dim& size = n->operands[0]->type.shape[static_cast<size_t>(n->attr("axis").as_int())];
    if (known_in_range(ids, size, ranges) || !seen.insert({ids, size.to_string()}).second) continue;
    const std::unique_ptr<Module> m = bounds_region(region, ids);
    GC_TRY(LoweredRegion bounds, rows.lower(*m->funcs[0], fmt::format("{}_index{}", name, front.size())));
    const int base = static_cast<int>(lowered.workspace_bytes.size());
    lowered.workspace_bytes.insert(lowered.workspace_bytes.end(), {Dim(64), Dim(64)});
    const int own = static_cast<int>(lowered.workspace_bytes.size());
    lowered.workspace_bytes.insert(lowered.workspace_bytes.end(), bounds.workspace_bytes.begin(),
                                   bounds.workspace_bytes.end());
    for (KernelStep& s : bounds.steps) {
      for (KernelArg& a : s.args) {
        if (a.kind == KernelArgKind::kResult)
          a = {KernelArgKind::kWorkspace, base + a.index};
        else if (a.kind == KernelArgKind::kWorkspace)
          a.index += own;
      }
      front.push_back(std::move(s));
    }
    lowered.checks.push_back(
        {static_cast<int>(front.size()) - 1, base, base + 1, size, std::string(n->op->name)});
  }
  lowered.steps.insert(lowered.steps.begin(), std::make_move_iterator(front.begin()),
                       std::make_move_iterator(front.end()));
  return {};
}

}  // namespace graphc
