#include "passes/alias.h"

#include <unordered_set>

#include "ir/op.h"

namespace graphc {
namespace {

bool is_reduction(const OpDef* op) {
  return op == &ops::sum || op == &ops::prod || op == &ops::max || op == &ops::min || op == &ops::all ||
         op == &ops::any || op == &ops::argmax;
}

// Whether argument `a` of the region is only ever read at the element that is being computed: follows it
// through elementwise nodes of its own shape and through reshapes.
bool read_in_step(const Node& fusion, const Value* a) {
  const bool rows = fusion.attr("kind").as_string() == "rows";
  std::unordered_set<const Value*> tracked{a};
  for (const auto& n : fusion.region->nodes) {
    bool any = false;
    for (const Value* v : n->operands) any = any || tracked.contains(v);
    if (!any) continue;
    if (n->op->scalar) {
      // a broadcast reads one element again and again
      for (const Value* v : n->operands)
        if (tracked.contains(v) && v->type.shape != n->result()->type.shape) return false;
      tracked.insert(n->result());
    } else if (n->op == &ops::reshape) {
      tracked.insert(n->result());
    } else if (rows && is_reduction(n->op)) {
      // A row is reduced before its results are stored, and only its own row.
    } else {
      return false;
    }
  }
  return true;
}

bool sizes_match(const Node& fusion, int result, int operand) {
  const TensorType& r = fusion.result(result)->type;
  const TensorType& o = fusion.operands[operand]->type;
  return dtype_size(r.dtype) == dtype_size(o.dtype) && r.num_elements() == o.num_elements();
}

}  // namespace

bool may_alias(const Node& fusion, int result, int operand) {
  return sizes_match(fusion, result, operand) && read_in_step(fusion, fusion.region->args[operand].get());
}

std::vector<std::vector<int>> alias_candidates(const Node& fusion) {
  std::vector<std::vector<int>> out(fusion.results.size());
  for (size_t k = 0; k < fusion.operands.size(); ++k) {
    std::vector<int> fitting;
    for (size_t r = 0; r < fusion.results.size(); ++r)
      if (sizes_match(fusion, static_cast<int>(r), static_cast<int>(k)))
        fitting.push_back(static_cast<int>(r));
    if (fitting.empty() || !read_in_step(fusion, fusion.region->args[k].get())) continue;
    for (int r : fitting) out[r].push_back(static_cast<int>(k));
  }
  return out;
}

}  // namespace graphc
