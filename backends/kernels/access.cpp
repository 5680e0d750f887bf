#include "backends/kernels/access.h"

#include <unordered_set>

#include <fmt/format.h>

namespace graphc {

Dim product(const Shape& shape, size_t begin, size_t end) {
  Dim n(1);
  for (size_t i = begin; i < end; ++i) n *= shape[i];
  return n;
}

Dim product(const Shape& shape) { return product(shape, 0, shape.size()); }

Dim linear_index(const Shape& shape, const Coords& at) {
  Dim i(0);
  for (size_t a = 0; a < shape.size(); ++a) i = i * shape[a] + at[a];
  return i;
}

Coords delinearize(const Shape& shape, const Dim& linear, const DimRanges& ranges) {
  Coords at(shape.size());
  for (const Dim& d : shape)  // no position at all: whatever is asked never runs
    if (d.is_constant(0)) return Coords(shape.size(), Dim(0));
  Dim rest = linear;
  // innermost first; the outermost non-trivial axis takes what is left without a modulo
  size_t first = 0;
  while (first < shape.size() && shape[first].is_constant(1)) at[first++] = 0;
  for (size_t a = shape.size(); a-- > first;) {
    if (shape[a].is_constant(1)) {
      at[a] = 0;
    } else if (a == first) {
      at[a] = ranges.simplify(rest);
    } else {
      Dim q = ranges.simplify(floordiv(rest, shape[a]));
      at[a] = ranges.simplify(rest - q * shape[a]);
      rest = q;
    }
  }
  return at;
}

Coords reshape_coords(const Shape& from, const Coords& at, const Shape& to, const DimRanges& ranges) {
  if (from == to) return at;
  Coords out(to.size(), Dim(0));
  size_t i = 0, j = 0;
  while (true) {
    while (i < from.size() && from[i].is_constant(1)) ++i;
    while (j < to.size() && to[j].is_constant(1)) ++j;
    if (i >= from.size() || j >= to.size()) break;
    // the smallest groups [i, ie) and [j, je) of equal product
    size_t ie = i + 1, je = j + 1;
    Dim a = from[i], b = to[j];
    bool equal = a == b;
    if (!equal) {
      // grow the shorter side; with symbols try every pair, smallest first
      equal = false;
      for (size_t x = i + 1; x <= from.size() && !equal; ++x)
        for (size_t y = j + 1; y <= to.size() && !equal; ++y)
          if (product(from, i, x) == product(to, j, y)) {
            ie = x;
            je = y;
            equal = true;
          }
      if (!equal) {  // same number of elements, but not as polynomials: take all that is left
        ie = from.size();
        je = to.size();
      }
    }
    Shape group_from(from.begin() + i, from.begin() + ie), group_to(to.begin() + j, to.begin() + je);
    Coords group_at(at.begin() + i, at.begin() + ie);
    Coords part = group_from == group_to
                      ? group_at
                      : delinearize(group_to, ranges.simplify(linear_index(group_from, group_at)), ranges);
    for (size_t y = j; y < je; ++y) out[y] = part[y - j];
    i = ie;
    j = je;
  }
  return out;
}

namespace {
void walk(const Expr& e, std::unordered_set<const ScalarNode*>& seen, std::vector<Access>& out) {
  if (!e || !seen.insert(e.get()).second) return;
  if (e.op() == ScalarOp::kLoad) {
    out.push_back({Access::kLoad, e->buffer, e->index[0]});
    for (const Dim& g : e->guards) out.push_back({Access::kGuard, -1, g});
  }
  if (e.op() == ScalarOp::kIndex) out.push_back({Access::kIndexValue, -1, e->index[0]});
  for (const Expr& a : e->args) walk(a, seen, out);
}
}  // namespace

std::vector<Access> accesses(const Kernel& kernel) {
  std::vector<Access> out;
  std::unordered_set<const ScalarNode*> seen;
  for_each_stmt(kernel.body, [&](const Stmt& s) {
    walk(s.value, seen, out);
    for (const Reduction& r : s.reductions) walk(r.value, seen, out);
    if (s.kind == StmtKind::kStore) out.push_back({Access::kStore, s.buffer, s.index[0]});
    for (const Dim& g : s.guards) out.push_back({Access::kGuard, -1, g});
  });
  return out;
}

std::optional<Dim> coefficient(const Dim& address, std::string_view var) {
  auto l = address.linear_in(var);
  if (!l) return std::nullopt;
  return l->first;
}

bool collapsible(const std::vector<Access>& a, std::string_view outer, std::string_view inner,
                 const Dim& inner_size) {
  for (const Access& x : a) {
    auto co = coefficient(x.address, outer), ci = coefficient(x.address, inner);
    if (!co || !ci || *co != *ci * inner_size) return false;
    if (co->uses(inner)) return false;
  }
  return true;
}

const std::string& AxisGroups::var(size_t g, const std::vector<std::string>& vars) const {
  static const std::string kNone;
  auto [b, e] = group[g];
  for (int i = e; i-- > b;)
    if (!sizes[i].is_constant(1)) return vars[i];
  return b < e ? vars[b] : kNone;
}

Coords AxisGroups::coords(const Coords& group_vars, const DimRanges& ranges) const {
  Coords at(sizes.size(), Dim(0));
  for (size_t g = 0; g < group.size(); ++g) {
    auto [b, e] = group[g];
    if (b == e) continue;
    Coords part = delinearize(Shape(sizes.begin() + b, sizes.begin() + e), group_vars[g], ranges);
    for (int i = b; i < e; ++i) at[i] = part[i - b];
  }
  return at;
}

AxisGroups collapse(const Shape& sizes, const std::vector<std::string>& vars, const std::vector<Access>& a) {
  AxisGroups g;
  g.sizes = sizes;
  int n = static_cast<int>(sizes.size());
  if (n == 0) {
    g.group = {{0, 0}};
    g.group_sizes = {Dim(1)};
    return g;
  }
  int begin = 0;
  int last = -1;  // the last axis of the group that isn't of size 1
  for (int i = 0; i < n; ++i) {
    bool joins =
        i == begin || sizes[i].is_constant(1) || last < 0 || collapsible(a, vars[last], vars[i], sizes[i]);
    if (!joins) {
      g.group.emplace_back(begin, i);
      begin = i;
      last = -1;
    }
    if (!sizes[i].is_constant(1)) last = i;
  }
  g.group.emplace_back(begin, n);
  for (auto [b, e] : g.group) g.group_sizes.push_back(product(sizes, b, e));
  return g;
}

AxisGroups uncollapsed(const Shape& sizes) {
  AxisGroups g;
  g.sizes = sizes;
  for (int i = 0; i < static_cast<int>(sizes.size()); ++i) {
    g.group.emplace_back(i, i + 1);
    g.group_sizes.push_back(sizes[i]);
  }
  if (g.group.empty()) {
    g.group = {{0, 0}};
    g.group_sizes = {Dim(1)};
  }
  return g;
}

Coords trial_coords(DimRanges& ranges, const Shape& sizes, std::string_view prefix,
                    std::vector<std::string>& names) {
  Coords at;
  for (size_t i = 0; i < sizes.size(); ++i) {
    names.push_back(fmt::format("{}.{}", prefix, i));
    ranges.set(names.back(), 0, sizes[i] - 1);
    at.push_back(sizes[i].is_constant(1) ? Dim(0) : Dim::symbol(names.back()));
  }
  return at;
}

namespace {
int64_t op_cost(ScalarOp op) {
  switch (op) {
    case ScalarOp::kConst:
    case ScalarOp::kArg:
    case ScalarOp::kVar: return 0;
    case ScalarOp::kExp:
    case ScalarOp::kLog:
    case ScalarOp::kSin:
    case ScalarOp::kCos:
    case ScalarOp::kErf: return 15;
    case ScalarOp::kExpm1:
    case ScalarOp::kLog1p:
    case ScalarOp::kTanh: return 20;
    case ScalarOp::kTan:
    case ScalarOp::kPow:
    case ScalarOp::kAtan2: return 40;
    case ScalarOp::kPhilox: return 80;
    case ScalarOp::kDiv:
    case ScalarOp::kSqrt:
    case ScalarOp::kRsqrt:
    case ScalarOp::kFloorDiv:
    case ScalarOp::kRem: return 4;
    default: return 1;
  }
}
int64_t cost(const Expr& e, std::unordered_set<const ScalarNode*>& seen) {
  if (!e || !seen.insert(e.get()).second) return 0;
  int64_t c = op_cost(e.op());
  for (const Expr& a : e->args) c += cost(a, seen);
  return c;
}
}  // namespace

int64_t expr_cost(const Expr& e) {
  std::unordered_set<const ScalarNode*> seen;
  return cost(e, seen);
}

int64_t body_cost(const Kernel& kernel) {
  std::unordered_set<const ScalarNode*> seen;
  int64_t c = 0;
  for_each_stmt(kernel.body, [&](const Stmt& s) {
    c += cost(s.value, seen) + (s.kind == StmtKind::kStore);
    for (const Reduction& r : s.reductions) c += 1 + cost(r.value, seen);
  });
  return c;
}

}  // namespace graphc
