#include "backends/kernels/region_builder.h"

#include <algorithm>

#include <fmt/format.h>

namespace graphc {
namespace {

// Operands and nodes that `roots` depend on, `cut` values not walked through.
std::unordered_set<const Value*> reachable(const std::vector<const Value*>& roots,
                                           const std::unordered_set<const Value*>& cut) {
  std::unordered_set<const Value*> seen;
  std::vector<const Value*> work(roots.begin(), roots.end());
  while (!work.empty()) {
    const Value* v = work.back();
    work.pop_back();
    if (cut.count(v) || !seen.insert(v).second) continue;
    if (v->node)
      for (const Value* o : v->node->operands) work.push_back(o);
  }
  return seen;
}

void params_of_type(KernelBuilder& k, const TensorType& t) {
  for (const Dim& d : t.shape) k.params_of(d);
}

void params_of_attr(KernelBuilder& k, const Attr& a) {
  if (a.is_int()) k.params_of(a.as_dim());
  if (a.is_list())
    for (const Attr& x : a.as_list()) params_of_attr(k, x);
}

bool is_leaf(const Expr& e) {
  return e.op() == ScalarOp::kConst || e.op() == ScalarOp::kVar ||
         (e.op() == ScalarOp::kIndex && e->index[0].is_constant());
}

}  // namespace

RegionBuilder::RegionBuilder(const Func& region, std::string kernel_name,
                             const std::vector<const Value*>& roots,
                             const std::unordered_set<const Value*>& cut, const std::vector<int>& results,
                             const std::vector<Workspace>& workspaces)
    : region_(region), k_(std::move(kernel_name)), ranges_(region.ranges()), scopes_(1) {
  // Parameters first and in a fixed order: every symbol of the region, so that all kernels of a region are
  // called with the same list.
  for (const SymbolDef& s : region.symbols) k_.param(s.name);
  for (const auto& a : region.body.args) params_of_type(k_, a->type);
  for (const auto& n : region.body.nodes) {
    for (const auto& r : n->results) params_of_type(k_, r->type);
    for (const auto& [name, attr] : n->attrs) params_of_attr(k_, attr);
  }
  uses_ = count_uses(region.body);
  auto seen = reachable(roots, cut);
  for (size_t i = 0; i < region.body.args.size(); ++i) {
    const Value* a = region.body.args[i].get();
    if (!seen.count(a)) continue;
    operands_[a] = k_.arg(fmt::format("a{}", i), a->type.dtype, {product(a->type.shape)});
    args_.push_back({KernelArgKind::kOperand, static_cast<int>(i)});
  }
  // A result may be written over any operand of as many bytes (passes/alias.h decides).
  for (int r : results) {
    const Value* v = region.body.results[r];
    Buffer out = k_.out(fmt::format("r{}", r), v->type.dtype, {product(v->type.shape)});
    results_[r] = out;
    for (const auto& a : region.body.args)
      if (operands_.count(a.get()) && dtype_size(a->type.dtype) == dtype_size(v->type.dtype) &&
          product(a->type.shape) == product(v->type.shape))
        may_share_.emplace_back(operands_[a.get()].id, out.id);
    args_.push_back({KernelArgKind::kResult, r});
  }
  for (const Workspace& w : workspaces) {
    std::string name = fmt::format("w{}", w.index);
    workspaces_.push_back(w.written ? k_.out(name, w.type, {w.elements})
                                    : k_.arg(name, w.type, {w.elements}));
    args_.push_back({KernelArgKind::kWorkspace, w.index});
  }
}

bool RegionBuilder::may_share(int result) const {
  const int id = results_.at(result).id;
  return std::any_of(may_share_.begin(), may_share_.end(), [&](const auto& p) { return p.second == id; });
}

void RegionBuilder::fail(std::string reason) {
  if (status_.ok()) status_ = unsupported(std::move(reason));
}

void RegionBuilder::bind(const Value* v, std::function<Expr(const Coords&)> f) {
  scopes_.back().bound.emplace_back(v, std::move(f));
}

std::vector<Dim> RegionBuilder::with_guards(const std::vector<Dim>& a, std::vector<Dim> more) const {
  std::vector<Dim> out = a;
  for (Dim& g : more) {
    Dim s = simplify(g);
    if (ranges_.provably_nonnegative(s)) continue;
    if (std::find(out.begin(), out.end(), s) == out.end()) out.push_back(std::move(s));
  }
  return out;
}

Expr RegionBuilder::condition(const std::vector<Dim>& guards) {
  Expr all;
  for (const Dim& g : guards) {
    Expr c = Expr::index(g) >= Expr::int_constant(0, DType::kI64);
    all = all ? bit_and(all, c) : c;
  }
  return all;
}

Expr RegionBuilder::named(const Expr& e) { return is_leaf(e) ? e : k_.let("t", e); }

Expr RegionBuilder::element(const Value* v, const Coords& at, const std::vector<Dim>& guards,
                            const std::optional<double>& otherwise) {
  for (auto s = scopes_.rbegin(); s != scopes_.rend(); ++s) {
    for (const Memo& m : s->memo)
      if (m.v == v && m.at == at && m.guards == guards && m.otherwise == otherwise) return m.e;
    for (auto b = s->bound.rbegin(); b != s->bound.rend(); ++b)
      if (b->first == v) {
        Expr e = b->second(at);
        if (otherwise && !guards.empty())
          e = select(condition(guards), e, Expr::constant(*otherwise, e.type()));
        return e;
      }
  }
  Expr e = read(v, at, guards, otherwise);
  // Values that are used again get a name, so that the expression isn't written out twice.
  auto uses = uses_.find(v);
  if (v->node && uses != uses_.end() && uses->second > 1) e = named(e);
  scopes_.back().memo.push_back({v, at, guards, otherwise, e});
  return e;
}

Expr RegionBuilder::read(const Value* v, const Coords& at, const std::vector<Dim>& guards,
                         const std::optional<double>& otherwise) {
  DType type = v->type.dtype;
  const Shape& shape = v->type.shape;
  if (at.size() != shape.size()) {
    fail(fmt::format("internal: {} coordinates for a value of type {}", at.size(), v->type.to_string()));
    return Expr::constant(0, type);
  }
  if (!v->node) {
    auto it = operands_.find(v);
    if (it == operands_.end()) {
      fail("internal: an operand that the kernel doesn't declare");
      return Expr::constant(0, type);
    }
    const Dim address = simplify(linear_index(shape, at));
    if (kept_)
      if (Expr e = kept_(v, address, guards))
        return otherwise && !guards.empty() ? select(condition(guards), e, Expr::constant(*otherwise, type))
                                            : e;
    // Where a guard fails any element will do, if only it is one, and nobody writes it at the same time.
    const bool anything =
        !otherwise && !guards.empty() &&
        std::ranges::none_of(may_share_, [&](const auto& pair) { return pair.first == it->second.id; });
    if (anything && ranges_.provably_nonnegative(address) && ranges_.provably_less(address, product(shape)))
      return it->second.load({address});
    return it->second.load_where({address}, guards, otherwise.value_or(0));
  }
  const Node& n = *v->node;
  auto operand = [&](int i) { return n.operands[i]; };
  auto pass = [&](const Coords& to) { return element(operand(0), to, guards, otherwise); };
  std::string_view op = n.op->name;
  // Index maps.
  if (op == "expand") {
    const Shape& from = operand(0)->type.shape;
    Coords to(at.end() - from.size(), at.end());
    for (size_t i = 0; i < from.size(); ++i)
      if (from[i].is_constant(1)) to[i] = 0;
    return pass(to);
  }
  if (op == "reshape") return pass(reshape_coords(shape, at, operand(0)->type.shape, ranges_));
  if (op == "transpose") {
    std::vector<int64_t> perm = n.attr("perm").as_ints();
    Coords to(at.size());
    for (size_t i = 0; i < at.size(); ++i) to[perm[i]] = at[i];
    return pass(to);
  }
  if (op == "slice") {
    Coords to = at;
    int64_t axis = n.attr("axis").as_int();
    to[axis] = simplify(n.attr("start").as_dim() + at[axis] * n.attr("step").as_dim());
    return pass(to);
  }
  if (op == "stop_gradient") return pass(at);
  if (op == "pad") {
    const Shape& from = operand(0)->type.shape;
    Shape pads = n.attr("pads").as_dims();
    std::vector<int64_t> interior;
    if (auto it = n.attrs.find("interior"); it != n.attrs.end()) interior = it->second.as_ints();
    const Attr& pv = n.attr("value");
    double fill = pv.is_float()  ? pv.as_float()
                  : pv.is_bool() ? pv.as_bool()
                                 : static_cast<double>(pv.as_int());
    Coords to = at;
    std::vector<Dim> more;
    for (size_t i = 0; i < at.size(); ++i) {
      int64_t step = i < interior.size() ? interior[i] + 1 : 1;
      Dim shifted = at[i] - pads[2 * i];
      if (step != 1) {
        to[i] = simplify(floordiv(shifted, step));
        more.push_back(-mod(shifted, step));
      } else {
        to[i] = simplify(shifted);
      }
      more.push_back(to[i]);
      more.push_back(from[i] - 1 - to[i]);
    }
    std::vector<Dim> all = with_guards(guards, more);
    Expr inner = element(operand(0), to, all, fill);
    // where only the outer guards fail, `otherwise` is asked for and not the padding value
    if (otherwise && *otherwise != fill && !guards.empty())
      inner = select(condition(guards), inner, Expr::constant(*otherwise, type));
    return inner;
  }
  if (op == "concat") {
    int64_t axis = n.attr("axis").as_int();
    Dim offset = shape[axis];
    Expr e;
    for (size_t i = n.operands.size(); i-- > 0;) {
      const Value* x = operand(static_cast<int>(i));
      Dim end = offset;
      offset = offset - x->type.shape[axis];
      Coords to = at;
      to[axis] = simplify(at[axis] - offset);
      Expr part = element(x, to, with_guards(guards, {to[axis], simplify(end - 1 - at[axis])}),
                          std::optional<double>(0));
      e = e ? select(condition({simplify(end - 1 - at[axis])}), part, e) : part;
    }
    if (otherwise && !guards.empty()) e = select(condition(guards), e, Expr::constant(*otherwise, type));
    return e;
  }
  if (op == "gather") {
    int64_t axis = n.attr("axis").as_int();
    const Value* table = operand(0);
    const Value* ids = operand(1);
    size_t ids_rank = ids->type.shape.size();
    Coords id_at(at.begin() + axis, at.begin() + axis + ids_rank);
    Expr id = cast(element(ids, id_at, guards, 0.0), DType::kI64);
    // in range for certain: a bad index reads some row, never other memory
    Expr last = Expr::index(table->type.shape[axis] - 1);
    if (auto c = table->type.shape[axis].as_constant()) last = Expr::int_constant(*c - 1, DType::kI64);
    Expr safe = maximum(minimum(id, last), Expr::int_constant(0, DType::kI64));
    Dim row = k_.let_index("row", safe);
    if (auto s = row.as_symbol()) ranges_.set(*s, 0, table->type.shape[axis] - 1);
    Coords to(at.begin(), at.begin() + axis);
    to.push_back(row);
    to.insert(to.end(), at.begin() + axis + ids_rank, at.end());
    return element(table, to, guards, otherwise);
  }
  // Leaves.
  auto guarded = [&](Expr e) {
    return otherwise && !guards.empty() ? select(condition(guards), e, Expr::constant(*otherwise, type)) : e;
  };
  if (op == "full") {
    const Attr& a = n.attr("value");
    if (a.is_float()) return guarded(Expr::constant(a.as_float(), type));
    if (a.is_bool()) return guarded(Expr::int_constant(a.as_bool(), type));
    if (a.as_dim().is_constant())
      return guarded(is_float(type) ? Expr::constant(static_cast<double>(a.as_int()), type)
                                    : Expr::int_constant(a.as_int(), type));
    return guarded(cast(Expr::index(a.as_dim()), type));
  }
  if (op == "iota") return guarded(cast(Expr::index(simplify(at[n.attr("axis").as_int()])), type));
  if (op == "size_of") return guarded(cast(Expr::index(n.attr("dim").as_dim()), type));
  if (op == "rng_key") {
    Expr seed = cast(element(operand(0), {}), DType::kU64), step = cast(element(operand(1), {}), DType::kI64);
    Expr words[4] = {cast(seed, DType::kU32),
                     cast(binary(ScalarOp::kShr, seed, Expr::int_constant(32, DType::kU64)), DType::kU32),
                     Expr::int_constant(n.attr("stream").as_int() & 0xffffffff, DType::kU32),
                     cast(step, DType::kU32)};
    if (at[0].is_constant()) return guarded(words[at[0].constant() & 3]);
    Expr word = words[3];
    for (int64_t i = 3; i-- > 0;)
      word = select(equal(Expr::index(at[0]), Expr::int_constant(i, DType::kI64)), words[i], word);
    return guarded(word);
  }
  if (op == "random_bits") {
    const Value* key = operand(0);
    Expr w[4];
    for (int i = 0; i < 4; ++i) w[i] = element(key, {Dim(i)});
    return guarded(philox(w[0], w[1], w[2], w[3], Expr::index(simplify(linear_index(shape, at)))));
  }
  // Elementwise, by the record's tree.
  if (!n.op->scalar) {
    fail(fmt::format("the op '{}' can't be read elementwise in a '{}' region", op, region_.name));
    return Expr::constant(0, type);
  }
  bool primitive = n.op->name == "cast" || scalar_op_from_name(op).has_value();
  std::vector<Expr> xs;
  for (const Value* x : n.operands) {
    const Shape& from = x->type.shape;
    Coords to(at.end() - from.size(), at.end());
    for (size_t i = 0; i < from.size(); ++i)
      if (from[i].is_constant(1)) to[i] = 0;
    Expr e = element(x, to, guards, {});
    xs.push_back(primitive ? e : named(e));
  }
  return guarded(n.op->scalar(xs, n.attrs));
}

void RegionBuilder::store_results(const std::vector<std::pair<int, Coords>>& results,
                                  const std::vector<Dim>& guards) {
  std::vector<Expr> values;
  for (const auto& [r, at] : results) {
    Expr e = element(region_.body.results[r], at, guards);
    values.push_back(results.size() > 1 ? named(e) : e);
  }
  for (size_t i = 0; i < results.size(); ++i)
    store_value(results[i].first, results[i].second, values[i], guards);
}

void RegionBuilder::store_value(int result, const Coords& at, const Expr& value,
                                const std::vector<Dim>& guards) {
  k_.store(results_.at(result), {simplify(linear_index(region_.body.results[result]->type.shape, at))}, value,
           guards);
}

void RegionBuilder::scoped(const std::function<void()>& body) {
  scopes_.emplace_back();
  body();
  scopes_.pop_back();
}

void RegionBuilder::loop(LoopSpec spec, std::string_view var, Dim lo, Dim hi,
                         const std::function<void(Dim)>& body, std::optional<Dim> limit, int64_t step) {
  k_.loop(
      spec, var, lo, hi,
      [&](Dim v) {
        std::string name(*v.as_symbol());
        ranges_.set(name, lo, (limit ? *limit : hi) - 1);
        scoped([&] { body(v); });
      },
      limit, step);
}

std::vector<Expr> RegionBuilder::reduce(std::string_view name, std::vector<ReduceOp> ops, LoopSpec spec,
                                        std::string_view var, Dim lo, Dim hi,
                                        const std::function<std::vector<Expr>(Dim)>& body,
                                        std::optional<Dim> limit) {
  return k_.reduce(
      name, std::move(ops), spec, var, lo, hi,
      [&](Dim v) {
        ranges_.set(*v.as_symbol(), lo, (limit ? *limit : hi) - 1);
        std::vector<Expr> values;
        scoped([&] { values = body(v); });
        return values;
      },
      limit);
}

DType accumulator_type(DType t) {
  return t == DType::kF16 || t == DType::kBF16 ? DType::kF32 : t == DType::kBool ? DType::kI32 : t;
}

Result<KernelStep> RegionBuilder::finish(Dim grain) {
  if (!status_.ok()) return status_.error();
  KernelStep s;
  s.kernel = k_.finish();
  // Buffers that may be the same memory form groups, named by their first buffer.
  std::vector<int> root(s.kernel.buffers.size());
  for (size_t i = 0; i < root.size(); ++i) root[i] = static_cast<int>(i);
  auto find = [&](int i) {
    while (root[i] != i) i = root[i];
    return i;
  };
  for (auto [a, b] : may_share_) {
    int x = find(a), y = find(b);
    root[std::max(x, y)] = std::min(x, y);
  }
  for (size_t i = 0; i < root.size(); ++i)
    if (int r = find(static_cast<int>(i)); r != static_cast<int>(i)) s.kernel.buffers[i].alias = r;
  s.args = args_;
  s.grain = std::move(grain);
  return s;
}

}  // namespace graphc
