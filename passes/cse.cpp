// cse: nodes with the same op, operands and attributes become one.
//
//   before:  %0 = exp(%x)            after:  %0 = exp(%x)
//            %1 = exp(%x)                    %1 = add(%0, %0)
//            %2 = add(%0, %1)                return %1
//            return %2
//
// Random ops are equal only if their keys are (every random op of a model has its own), so dropouts are never
// merged. Ops whose order matters, effects and nodes with regions are left alone.
#include <unordered_map>

#include "ir/op.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace graphc {
namespace {

uint64_t mix(uint64_t h, uint64_t v) {
  h ^= v + 0x9E3779B97F4A7C15ull + (h << 6) + (h >> 2);
  return h * 0xBF58476D1CE4E5B9ull;
}

uint64_t hash_attr(const Attr& a) {
  if (a.is_bool()) return a.as_bool();
  if (a.is_int()) return mix(1, a.as_dim().hash());
  if (a.is_float()) return mix(2, std::hash<double>()(a.as_float()));
  if (a.is_string()) return mix(3, std::hash<std::string>()(a.as_string()));
  if (a.is_dtype()) return mix(4, static_cast<uint64_t>(a.as_dtype()));
  uint64_t h = 5;
  for (const Attr& x : a.as_list()) h = mix(h, hash_attr(x));
  return h;
}

uint64_t hash_node(const Node& n) {
  uint64_t h = reinterpret_cast<uintptr_t>(n.op);
  for (const Value* v : n.operands) h = mix(h, reinterpret_cast<uintptr_t>(v));
  for (const auto& [name, a] : n.attrs) h = mix(h, hash_attr(a));
  return h;
}

bool equal_nodes(const Node& a, const Node& b) {
  if (a.op != b.op || a.operands != b.operands || a.results.size() != b.results.size() || a.attrs != b.attrs)
    return false;
  for (size_t i = 0; i < a.results.size(); ++i)
    if (!(a.results[i]->type == b.results[i]->type)) return false;
  return true;
}

}  // namespace

Status cse(Module& m) {
  for (auto& f : m.funcs) {
    std::unordered_multimap<uint64_t, Node*> seen;
    seen.reserve(f->body.nodes.size());
    rewrite(m, f->body, [&](Node& n, Builder&) -> Replacement {
      if (n.op->has_effect || n.op->order_matters || n.region) return std::nullopt;
      const uint64_t h = hash_node(n);
      auto [first, last] = seen.equal_range(h);
      for (auto it = first; it != last; ++it) {
        if (!equal_nodes(*it->second, n)) continue;
        std::vector<Value*> same;
        for (const auto& r : it->second->results) same.push_back(r.get());
        return same;
      }
      seen.emplace(h, &n);
      return std::nullopt;
    });
  }
  return ok_status();
}

}  // namespace graphc
