// canonicalize: one form for equal things, so that later passes have less to know.
//
//   before:  %0 = full() {dtype=f32, shape=[], value=1.0}      after:  %0 = transpose(%x) {perm=[2, 0, 1]}
//            %1 = mul(%0, %x)                                          %1 = neg(%0)
//            %2 = transpose(%1) {perm=[1, 0, 2]}                       return %1
//            %3 = transpose(%2) {perm=[2, 1, 0]}
//            %4 = neg(%3)
//            return %4
//
// * constants stand second in commutative ops; x*1, x/1, x-0, -(-x), x**1 are x (x+0 only for integers:
//   -0.0 + 0.0 is 0.0); division by a power of two is a multiplication; where with a constant or with equal
//   branches decides
// * reshape, expand, transpose, slice, pad, concat, cast that change nothing go; chains of reshapes, of
//   transposes and of expands become one; a transpose that only moves axes of size 1 is a reshape
// * the transpose of a dot_general that swaps its operands' free axes is the dot_general of the operands
//   swapped, if nothing else uses that
// * an expand that only feeds broadcasting scalar ops goes
// * reductions over no axes or over axes of size 1 are reshapes
// Everything here is exact: no rounding changes.
#include <cmath>

#include "ir/op.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace graphc {
namespace {

using Values = std::vector<Value*>;

bool is_splat(const Value* v, double c) {
  auto s = splat_value(v);
  return s && *s == c && !(c == 0 && std::signbit(*s));
}

bool commutative(const OpDef* op) {
  return op == &ops::add || op == &ops::mul || op == &ops::and_ || op == &ops::or_ || op == &ops::xor_ ||
         op == &ops::eq || op == &ops::ne;
}

// x as the replacement of n, if it has n's type (n may have broadcast it).
Replacement same(const Node& n, Value* x) {
  if (x->type == n.result()->type) return Values{x};
  return std::nullopt;
}

Replacement scalar_identities(Node& n, Builder& b) {
  const OpDef* op = n.op;
  const DType t = n.result()->type.dtype;
  if (commutative(op) && splat_value(n.operands[0]) && !splat_value(n.operands[1]))
    std::swap(n.operands[0], n.operands[1]);  // in place: the node stays
  if (n.operands.size() == 2) {
    Value *x = n.operands[0], *y = n.operands[1];
    if (op == &ops::mul && is_splat(y, 1)) return same(n, x);
    if (op == &ops::div && is_splat(y, 1)) return same(n, x);
    if (op == &ops::sub && is_splat(y, 0)) return same(n, x);
    if (op == &ops::add && is_int(t) && is_splat(y, 0)) return same(n, x);
    if (op == &ops::pow && is_splat(y, 1)) return same(n, x);
    if (op == &ops::pow && is_splat(y, 2) && x->type == n.result()->type) return Values{b.mul(x, x)};
    if (op == &ops::div && is_float(t)) {
      auto c = splat_value(y);
      int e = 0;
      if (c && std::abs(std::frexp(*c, &e)) == 0.5 && std::abs(e) < 14)
        return Values{b.mul(x, b.full(1 / *c, t, y->type.shape))};
    }
    if (op == &ops::add && y->node && y->node->op == &ops::neg && is_float(t))
      return Values{b.sub(x, y->node->operands[0])};
  }
  if (op == &ops::neg && n.operands[0]->node && n.operands[0]->node->op == &ops::neg)
    return same(n, n.operands[0]->node->operands[0]);
  if (op == &ops::where) {
    if (n.operands[1] == n.operands[2]) return same(n, n.operands[1]);
    if (auto c = splat_value(n.operands[0])) return same(n, n.operands[*c != 0 ? 1 : 2]);
  }
  if (op == &ops::cast) return same(n, n.operands[0]);
  // x op expand(y): broadcasting does it, unless the expand makes the result's shape
  for (size_t i = 0; i < n.operands.size(); ++i) {
    Value* v = n.operands[i];
    if (!v->node || v->node->op != &ops::expand) continue;
    Shape shape;
    bool ok = true;
    for (size_t j = 0; j < n.operands.size() && ok; ++j) {
      const Value* w = j == i ? v->node->operands[0] : n.operands[j];
      auto s = broadcast_shapes(shape, w->type.shape);
      ok = s.ok();
      if (ok) shape = *s;
    }
    if (ok && shape == n.result()->type.shape) n.operands[i] = v->node->operands[0];
  }
  return std::nullopt;
}

// The transpose that puts a dot_general's free axes of b before those of a is the product of b and a.
Value* swap_free_axes(Builder& b, const Node& dot, const std::vector<int64_t>& perm) {
  const auto a_batch = dot.attr("a_batch").as_ints(), b_batch = dot.attr("b_batch").as_ints();
  const auto a_contract = dot.attr("a_contract").as_ints(), b_contract = dot.attr("b_contract").as_ints();
  Value *x = dot.operands[0], *y = dot.operands[1];
  const auto batch = static_cast<int64_t>(a_batch.size());
  const int64_t x_free = x->type.rank() - batch - static_cast<int64_t>(a_contract.size());
  const int64_t y_free = y->type.rank() - batch - static_cast<int64_t>(b_contract.size());
  if (x_free == 0 || y_free == 0) return nullptr;
  for (int64_t i = 0; i < static_cast<int64_t>(perm.size()); ++i) {
    const int64_t from = i < batch ? i : i < batch + y_free ? i + x_free : i - y_free;
    if (perm[i] != from) return nullptr;
  }
  return b.dot_general(y, x, b_batch, a_batch, b_contract, a_contract);
}

using Uses = std::unordered_map<const Value*, int>;

Replacement movement(Node& n, Builder& b, const Uses& uses) {
  Value* x = n.operands.empty() ? nullptr : n.operands[0];
  const Node* in = x ? x->node : nullptr;
  const Shape& out = n.result()->type.shape;
  if (n.op == &ops::reshape) {
    if (x->type.shape == out) return Values{x};
    if (in && in->op == &ops::reshape) return Values{b.reshape(in->operands[0], out)};
  } else if (n.op == &ops::expand) {
    if (x->type.shape == out) return Values{x};
    if (in && in->op == &ops::expand) return Values{b.expand(in->operands[0], out)};
  } else if (n.op == &ops::transpose) {
    const std::vector<int64_t> perm = n.attr("perm").as_ints();
    if (in && in->op == &ops::transpose) {
      const std::vector<int64_t> inner = in->attr("perm").as_ints();
      std::vector<int64_t> both;
      for (int64_t p : perm) both.push_back(inner[p]);
      return Values{b.transpose(in->operands[0], both)};
    }
    if (auto it = uses.find(x); in && in->op == &ops::dot_general && it != uses.end() && it->second == 1)
      if (Value* swapped = swap_free_axes(b, *in, perm)) return Values{swapped};
    // only axes of size 1 move against the others: the memory order stays
    int64_t last = -1;
    bool ordered = true;
    for (int64_t p : perm) {
      if (x->type.shape[p].is_constant(1)) continue;
      ordered = ordered && p > last;
      last = p;
    }
    if (ordered) return Values{b.reshape(x, out)};
  } else if (n.op == &ops::slice) {
    if (x->type.shape == out && n.attr("step").as_dim().is_constant(1)) return Values{x};
  } else if (n.op == &ops::pad) {
    bool none = true;
    for (const Dim& d : n.attr("pads").as_dims()) none = none && d.is_constant(0);
    for (const Dim& d : n.attr("interior").as_dims()) none = none && d.is_constant(0);
    if (none) return Values{x};
  } else if (n.op == &ops::concat) {
    if (n.operands.size() == 1) return Values{x};
  }
  return std::nullopt;
}

Replacement reductions(Node& n, Builder& b) {
  if (n.op != &ops::sum && n.op != &ops::prod && n.op != &ops::max && n.op != &ops::min &&
      n.op != &ops::all && n.op != &ops::any)
    return std::nullopt;
  Value* x = n.operands[0];
  for (int64_t a : n.attr("axes").as_ints())
    if (!x->type.shape[a].is_constant(1)) return std::nullopt;
  if (x->type.dtype != n.result()->type.dtype) return std::nullopt;
  return Values{b.reshape(x, n.result()->type.shape)};
}

}  // namespace

Status canonicalize(Module& m) {
  for (auto& f : m.funcs) {
    for (int sweep = 0; sweep < 4; ++sweep) {
      const Uses uses = count_uses(f->body);
      const bool changed = rewrite(m, f->body, [&uses](Node& n, Builder& b) -> Replacement {
        if (n.results.size() != 1 || n.region) return std::nullopt;
        if (n.op->scalar) return scalar_identities(n, b);
        if (auto r = movement(n, b, uses)) return r;
        return reductions(n, b);
      });
      if (!changed) break;
    }
  }
  return dce(m);  // what the rewrites left without a user
}

}  // namespace graphc
