// Expressions: compile-time arithmetic, names, operators on tensors, indexing.
#include <fmt/format.h>

#include <cmath>

#include "frontend/elaborate.h"

namespace graphc {

using syntax::ExprKind;
using syntax::Op;

namespace {

constexpr size_t kMaxList = 1'000'000;
constexpr size_t kMaxString = 64 << 10;

int64_t floor_div(int64_t a, int64_t b) {
  if (b == -1) return static_cast<int64_t>(0 - static_cast<uint64_t>(a));
  const int64_t q = a / b;
  return q - (a % b != 0 && (a < 0) != (b < 0));
}

const OpDef* tensor_op(Op op) {
  switch (op) {
    case Op::kAdd: return &ops::add;
    case Op::kSub: return &ops::sub;
    case Op::kMul: return &ops::mul;
    case Op::kDiv: return &ops::div;
    case Op::kFloorDiv: return &ops::floor_div;
    case Op::kMod: return &ops::rem;
    case Op::kMatMul: return &ops::matmul;
    case Op::kPow: return &ops::pow;
    case Op::kEq: return &ops::eq;
    case Op::kNe: return &ops::ne;
    case Op::kLt: return &ops::lt;
    case Op::kLe: return &ops::le;
    case Op::kGt: return &ops::gt;
    case Op::kGe: return &ops::ge;
    case Op::kAnd: return &ops::and_;
    case Op::kOr: return &ops::or_;
    default: return nullptr;
  }
}

bool is_comparison(Op op) { return op >= Op::kEq && op <= Op::kGe; }

}  // namespace

Val Elaborator::eval(const syntax::Expr& e, Env& env, std::string_view target) {
  constexpr int kMaxEvalDepth =
      1500;  // bounded stack: a tree has at most Ast::kMaxDepth levels, blocks add up
  if (++depth_ > kMaxEvalDepth) {
    --depth_;
    return error(e.pos, "the program nests too deep; give parts of the expressions names");
  }
  struct Leave {
    int& d;
    ~Leave() { --d; }
  } leave{depth_};
  switch (e.kind) {
    case ExprKind::kInt: return Val::integer(Dim(e.i));
    case ExprKind::kFloat: return Val::number(e.f);
    case ExprKind::kStr: return Val::string(e.text);
    case ExprKind::kBool: return Val::boolean(e.i != 0);
    case ExprKind::kName: return eval_name(e, env);
    case ExprKind::kType: {
      if (!e.type->has_dims) return Val::dtype_of(e.type->dtype);
      auto t = eval_type(*e.type, env);
      if (!t) return Val::error();
      Val v = Val::of(Val::kType);
      v.type = std::make_shared<const TensorType>(*std::move(t));
      return v;
    }
    case ExprKind::kList: {
      std::vector<Val> items;
      bool bad = false;
      for (const syntax::Expr* a : e.args) {
        items.push_back(eval(*a, env));
        bad |= items.back().is_error();
      }
      if (bad) return Val::error();
      Val v = Val::of_list(std::move(items));
      if (v.nesting > Val::kMaxNesting)
        return error(e.pos, fmt::format("lists nest more than {} deep", Val::kMaxNesting));
      return v;
    }
    case ExprKind::kUnary: return unary(e.op, eval(*e.args[0], env), e.pos, env);
    case ExprKind::kBinary: {
      Val a = eval(*e.args[0], env);
      // compile-time logic doesn't look at its second operand if the first decides
      if (a.kind == Val::kBool && ((e.op == Op::kAnd && !a.flag) || (e.op == Op::kOr && a.flag))) return a;
      Val b = eval(*e.args[1], env);
      return binary(e.op, std::move(a), std::move(b), e.pos, env);
    }
    case ExprKind::kCond: {
      const auto c = condition(*e.args[1], env, "if");
      if (!c) return Val::error();
      return eval(*e.args[*c ? 0 : 2], env);
    }
    case ExprKind::kCall: return eval_call(e, env, target);
    case ExprKind::kIndex: return eval_index(eval(*e.args[0], env), e, env);
    case ExprKind::kAttr: return eval_attr(e, env);
    case ExprKind::kPipe: return eval_pipe(e, env, target);
  }
  return Val::error();
}

Val Elaborator::constant_of(const FileUnit& unit, std::string_view name, Pos pos) {
  const syntax::ConstDef* def = unit.consts.at(name);
  if (auto it = consts_.find(def); it != consts_.end()) return it->second;
  if (&unit == &units_.root()) {
    if (auto it = overrides.find(name); it != overrides.end()) {
      taken_.insert(it->first);
      return it->second;
    }
  }
  if (!evaluating_.insert(def).second)
    return error(pos, fmt::format("the constant {} is defined by itself", quoted(def->name)));
  Env env;
  env.unit = &unit;
  Val v = eval(*def->value, env);
  evaluating_.erase(def);
  if (v.is_tensor() || v.kind == Val::kConfig)
    v = error(def->value->pos, fmt::format("a constant is a compile-time value, not {}", v.describe()));
  consts_[def] = v;
  return v;
}

Val Elaborator::eval_name(const syntax::Expr& e, Env& env) {
  const std::string& name = e.text;
  if (auto it = env.layers.find(name); it != env.layers.end()) {
    if (!it->second) return Val::error();
    Val v = Val::of(Val::kLayer);
    v.layer = it->second;
    return v;
  }
  if (auto it = env.names.find(name); it != env.names.end()) return it->second;
  if (env.unbound.count(name) && env.early)
    return error(e.pos, fmt::format("the layer's parameter depends on the size {}, which is known once the "
                                    "layer has been applied; apply it first",
                                    quoted(name)));
  if (env.unbound.count(name))
    return error(e.pos,
                 fmt::format("the size {} isn't bound yet: an input must have it alone as one of its sizes",
                             quoted(name)));
  if (env.unit->consts.count(name)) return constant_of(*env.unit, name, e.pos);
  if (name == "training") return Val::boolean(training_);
  if (BlockRef b = units_.find_block(*env.unit, name); b.def) return configure(b, nullptr, e.pos, env);
  if (env.unit->imports.count(name))
    return error(e.pos,
                 fmt::format("{} is an imported file; its blocks are named {}.Block", quoted(name), name));
  if (const OpDef* op = find_op(name))
    return error(e.pos, fmt::format("{} is an op, not a value; apply it, as in {}(x) or x |> {}",
                                    quoted(name), op->name, op->name));
  NearestName near(name);
  for (const auto& [n, v] : env.names) near.offer(n);
  for (const auto& [n, v] : env.layers) near.offer(n);
  for (const auto& [n, v] : env.unit->consts) near.offer(n);
  std::vector<Note> notes;
  if (near.best().empty() && env.def && name.size() == 1 && name[0] >= 'A' && name[0] <= 'Z')
    notes.push_back({fmt::format("sizes are declared in brackets, as in '{}[{}]'", env.def->name, name), {}});
  return error(e.pos, fmt::format("unknown name {}{}", quoted(name), near.hint()), std::move(notes));
}

Val Elaborator::eval_attr(const syntax::Expr& e, Env& env) {
  const syntax::Expr& base = *e.args[0];
  if (base.kind == ExprKind::kName && !env.names.count(base.text) && !env.layers.count(base.text)) {
    if (auto it = env.unit->imports.find(base.text); it != env.unit->imports.end()) {
      const FileUnit& unit = *it->second;
      if (auto b = unit.blocks.find(e.text); b != unit.blocks.end())
        return configure({b->second, &unit}, nullptr, e.pos, env);
      if (unit.consts.count(e.text)) return constant_of(unit, e.text, e.pos);
      NearestName near(e.text);
      for (const auto& [n, d] : unit.blocks) near.offer(n);
      for (const auto& [n, d] : unit.consts) near.offer(n);
      return error(e.pos, fmt::format("{} has no block or constant {}{}", quoted(unit.loc_name),
                                      quoted(e.text), near.hint()));
    }
  }
  Val v = eval(base, env);
  if (v.is_error()) return v;
  if (v.kind == Val::kLayer) {
    const std::string path = v.text.empty() ? e.text : v.text + "." + e.text;
    if (Variable* var = layer_variable(*v.layer, path, e.pos, env)) return Val::of_tensor(&var->value);
    // a block inside the layer?
    const std::string prefix = v.layer->path.text + "." + path + ".";
    for (const auto& [p, pos] : v.layer->declared)
      if (p.starts_with(prefix)) {
        v.text = path;
        return v;
      }
    NearestName near(path);
    for (const auto& [p, pos] : v.layer->declared)
      near.offer(std::string_view(p).substr(std::min(p.size(), v.layer->path.text.size() + 1)));
    for (const syntax::Stmt* s : v.layer->config.block.def->body)
      if (s->kind == syntax::StmtKind::kParam || s->kind == syntax::StmtKind::kState) near.offer(s->name);
    return error(e.pos, fmt::format("the layer, a {}, has no parameter {}{}", v.layer->config.block.def->name,
                                    quoted(path), near.hint()));
  }
  if (v.is_tensor())
    return error(
        e.pos,
        fmt::format(
            "a tensor has no attribute {}; its sizes are bound in the brackets behind the block's name",
            quoted(e.text)));
  return error(e.pos, fmt::format("{} has no attribute {}", v.describe(), quoted(e.text)));
}

Val Elaborator::eval_index(Val base, const syntax::Expr& e, Env& env) {
  for (size_t k = 1; k < e.args.size(); ++k) {
    const Val index = eval(*e.args[k], env);
    if (base.is_error() || index.is_error()) return Val::error();
    if (base.kind != Val::kList && !base.is_tensor())
      return error(e.args[k]->pos, fmt::format("{} can't be indexed", base.describe()));
    if (index.kind != Val::kInt)
      return error(
          e.args[k]->pos,
          index.is_tensor()
              ? fmt::format(
                    "an index is a compile-time integer; to select by a tensor write gather(x, ids, axis={})",
                    k - 1)
              : fmt::format("an index is an integer, not {}", index.describe()));
    if (base.is_tensor()) {
      base = index_tensor(base.tensor, index.i, e.args[k]->pos, env);
      continue;
    }
    if (!index.i.is_constant())
      return error(e.args[k]->pos,
                   fmt::format("a list's index is known at compile time, {} isn't", index.show()));
    const int64_t n = static_cast<int64_t>(base.list->size());
    int64_t i = index.i.constant();
    if (i < 0) i += n;
    if (i < 0 || i >= n)
      return error(e.args[k]->pos, fmt::format("the index {} is outside a list of {}", index.show(), n));
    Val element = (*base.list)[i];
    base = std::move(element);
  }
  return base;
}

Val Elaborator::index_tensor(Value* x, const Dim& i, Pos pos, Env& env) {
  std::vector<Note> notes;
  if (x->type.rank() == 0)
    return error(pos, fmt::format("a scalar ({}) has nothing to index", x->type.to_string()));
  const Dim& size = x->type.shape[0];
  Dim at = i;
  if (at.is_constant() && at.constant() < 0) at = at + size;
  const bool outside = (size.is_constant() && at.is_constant() && at.constant() >= size.constant()) ||
                       (at.is_constant() && at.constant() < 0);
  if (outside) {
    derive(x, "the value", 3, notes);
    return error(pos,
                 fmt::format("the index {} is outside an axis of size {}", i.to_string(), size.to_string()),
                 std::move(notes));
  }
  const Val part =
      make_node(ops::slice, {x}, {{"axis", 0}, {"start", at}, {"stop", at + 1}, {"step", 1}}, pos, env);
  if (part.is_error()) return part;
  Shape shape(x->type.shape.begin() + 1, x->type.shape.end());
  return make_node(ops::reshape, {part.tensor}, {{"shape", Attr::dims(shape)}}, pos, env);
}

Val Elaborator::unary(Op op, Val a, Pos pos, Env& env) {
  if (a.is_error()) return a;
  if (op == Op::kNot) {
    if (a.kind == Val::kBool) return Val::boolean(!a.flag);
    if (a.is_tensor() && a.tensor->type.dtype == DType::kBool)
      return make_node(ops::not_, {a.tensor}, {}, pos, env);
    return error(pos, fmt::format("'not' takes a bool, not {}", a.describe()));
  }
  if (a.is_tensor()) {
    if (a.tensor->type.dtype == DType::kBool)
      return error(pos, fmt::format("'{}' takes numbers, not {}", op_spelling(op), a.describe()));
    return op == Op::kNeg ? make_node(ops::neg, {a.tensor}, {}, pos, env) : a;
  }
  if (!a.is_number())
    return error(pos, fmt::format("'{}' takes a number, not {}", op_spelling(op), a.describe()));
  if (op == Op::kPos) return a;
  if (a.kind == Val::kFloat) return Val::number(-a.f);
  return Val::integer(-a.i);
}

Val Elaborator::binary(Op op, Val a, Val b, Pos pos, Env& env) {
  if (a.is_error() || b.is_error()) return Val::error();
  for (const Val* v : {&a, &b}) {
    if (v->kind == Val::kConfig || v->kind == Val::kLayer)
      return error(pos, fmt::format("'{}' can't take {}", op_spelling(op), v->describe()));
  }
  if (a.is_tensor() || b.is_tensor()) return tensor_binary(op, a, b, pos, env);
  return constant_binary(op, a, b, pos);
}

Val Elaborator::compare(Op op, const Val& a, const Val& b, Pos pos) {
  const bool equality = op == Op::kEq || op == Op::kNe;
  auto verdict = [&](int sign) {
    switch (op) {
      case Op::kEq: return Val::boolean(sign == 0);
      case Op::kNe: return Val::boolean(sign != 0);
      case Op::kLt: return Val::boolean(sign < 0);
      case Op::kLe: return Val::boolean(sign <= 0);
      case Op::kGt: return Val::boolean(sign > 0);
      default: return Val::boolean(sign >= 0);
    }
  };
  if (a.kind == Val::kInt && b.kind == Val::kInt) {
    const Dim d = a.i - b.i;
    if (d.is_constant()) return verdict(d.constant() < 0 ? -1 : d.constant() > 0);
    if (ranges_.provably_nonnegative(d - 1)) return verdict(1);
    if (ranges_.provably_nonnegative(-d - 1)) return verdict(-1);
    if (op == Op::kGe && ranges_.provably_nonnegative(d)) return Val::boolean(true);
    if (op == Op::kLt && ranges_.provably_nonnegative(d)) return Val::boolean(false);
    if (op == Op::kLe && ranges_.provably_nonnegative(-d)) return Val::boolean(true);
    if (op == Op::kGt && ranges_.provably_nonnegative(-d)) return Val::boolean(false);
    return error(pos, fmt::format("whether {} {} {} isn't known at compile time", a.show(), op_spelling(op),
                                  b.show()));
  }
  if (a.is_number() && b.is_number()) {
    const auto x = a.as_double(), y = b.as_double();
    if (!x || !y)
      return error(pos, fmt::format("whether {} {} {} isn't known at compile time", a.show(), op_spelling(op),
                                    b.show()));
    return verdict(*x < *y ? -1 : *x > *y);
  }
  if (a.kind == Val::kStr && b.kind == Val::kStr) return verdict(a.text.compare(b.text));
  if (equality && a.kind == b.kind) {
    if (a.kind == Val::kBool) return verdict(a.flag != b.flag);
    if (a.kind == Val::kDType) return verdict(a.dtype != b.dtype);
    if (a.kind == Val::kList) {
      if (a.list->size() != b.list->size()) return verdict(1);
      for (size_t k = 0; k < a.list->size(); ++k) {
        const Val same = compare(Op::kEq, (*a.list)[k], (*b.list)[k], pos);
        if (same.is_error()) return same;
        if (!same.flag) return verdict(1);
      }
      return verdict(0);
    }
  }
  return error(pos,
               fmt::format("'{}' can't compare {} with {}", op_spelling(op), a.describe(), b.describe()));
}

Val Elaborator::constant_binary(Op op, const Val& a, const Val& b, Pos pos) {
  if (is_comparison(op)) return compare(op, a, b, pos);
  auto wrong = [&] {
    return error(pos, fmt::format("'{}' can't take {} and {}", op_spelling(op), a.describe(), b.describe()));
  };
  if (op == Op::kAnd || op == Op::kOr) {
    if (a.kind != Val::kBool || b.kind != Val::kBool) return wrong();
    return Val::boolean(op == Op::kAnd ? a.flag && b.flag : a.flag || b.flag);
  }
  if (op == Op::kAdd && a.kind == Val::kStr && b.kind == Val::kStr) {
    if (a.text.size() + b.text.size() > kMaxString)
      return error(pos, fmt::format("a string of more than {} bytes", kMaxString));
    return Val::string(a.text + b.text);
  }
  if (op == Op::kAdd && a.kind == Val::kList && b.kind == Val::kList) {
    if (a.list->size() + b.list->size() > kMaxList)
      return error(pos, fmt::format("a list of more than {} elements", kMaxList));
    steps_ += static_cast<int64_t>(a.list->size() + b.list->size());
    std::vector<Val> both = *a.list;
    both.insert(both.end(), b.list->begin(), b.list->end());
    return Val::of_list(std::move(both));
  }
  if (!a.is_number() || !b.is_number() || op == Op::kMatMul) return wrong();
  if (a.kind == Val::kInt && b.kind == Val::kInt) {
    Dim r;
    switch (op) {
      case Op::kAdd: r = a.i + b.i; break;
      case Op::kSub: r = a.i - b.i; break;
      case Op::kMul: r = a.i * b.i; break;
      case Op::kDiv:
        return error(pos, "'/' isn't defined on integers; '//' rounds down, 1.0 * a / b gives a float");
      case Op::kFloorDiv:
      case Op::kMod:
        if (b.i.is_constant(0))
          return error(pos, fmt::format("division by zero: {} {} 0", a.show(), op_spelling(op)));
        if (a.i.is_constant() && b.i.is_constant()) {
          const int64_t q = floor_div(a.i.constant(), b.i.constant());
          r = op == Op::kFloorDiv ? Dim(q) : Dim(a.i.constant()) - Dim(b.i.constant()) * Dim(q);
        } else {
          r = op == Op::kFloorDiv ? floordiv(a.i, b.i) : mod(a.i, b.i);
        }
        break;
      case Op::kPow: {
        if (!b.i.is_constant()) return error(pos, "an exponent must be known at compile time");
        int64_t n = b.i.constant();
        if (n < 0) {
          if (!a.i.is_constant()) return wrong();
          return Val::number(std::pow(static_cast<double>(a.i.constant()), static_cast<double>(n)));
        }
        if (a.i.is_constant(0) || a.i.is_constant(1)) return n == 0 ? Val::integer(1) : a;
        if (a.i.is_constant(-1)) return Val::integer(n % 2 ? -1 : 1);
        if (n > (a.i.is_constant() ? 63 : 8))
          return error(pos, fmt::format("{} ** {} is too large", a.show(), b.show()));
        r = Dim(1);
        for (; n > 0; --n) r = r * a.i;
        break;
      }
      default: return wrong();
    }
    if (r.overflowed())
      return error(pos,
                   fmt::format("{} {} {} is too large for an integer", a.show(), op_spelling(op), b.show()));
    if (!r.is_constant() && r.terms().size() > 1000)
      return error(pos, "a size expression of more than 1000 terms");
    return Val::integer(std::move(r));
  }
  const auto x = a.as_double(), y = b.as_double();
  if (!x || !y)
    return error(pos, fmt::format("'{}' with a float needs a number known at compile time, not {}",
                                  op_spelling(op), (x ? b : a).show()));
  switch (op) {
    case Op::kAdd: return Val::number(*x + *y);
    case Op::kSub: return Val::number(*x - *y);
    case Op::kMul: return Val::number(*x * *y);
    case Op::kDiv:
      if (*y == 0) return error(pos, fmt::format("division by zero: {} / {}", a.show(), b.show()));
      return Val::number(*x / *y);
    case Op::kFloorDiv:
      if (*y == 0) return error(pos, fmt::format("division by zero: {} // {}", a.show(), b.show()));
      return Val::number(std::floor(*x / *y));
    case Op::kMod:
      if (*y == 0) return error(pos, fmt::format("division by zero: {} % {}", a.show(), b.show()));
      return Val::number(*x - *y * std::floor(*x / *y));
    case Op::kPow: {
      const double r = std::pow(*x, *y);
      if (std::isnan(r)) return error(pos, fmt::format("{} ** {} isn't a real number", a.show(), b.show()));
      return Val::number(r);
    }
    default: return wrong();
  }
}

Val Elaborator::make_node(const OpDef& op, std::vector<Value*> operands, Attrs attrs, Pos pos, Env& env) {
  constexpr size_t kMaxNodes = 1'000'000;  // LoadLimits
  if (!builder_) return error(pos, fmt::format("{}: tensors can't be computed here", op.name));
  if (builder_->block().nodes.size() >= kMaxNodes)
    return error(pos, fmt::format("the function has more than {} nodes", kMaxNodes));
  builder_->loc = loc_of(pos, env);
  const std::vector<Value*> in = operands;
  auto node = builder_->try_create_node(op, std::move(operands), std::move(attrs));
  if (!node.ok()) {
    std::vector<Note> notes;
    for (size_t k = 0; k < in.size() && k < 3; ++k) {
      const int declared = op.num_operands();
      const std::string_view name = op.operands[std::min<int>(static_cast<int>(k), declared - 1)].name;
      derive(in[k], in.size() > 1 && op.variadic() ? fmt::format("operand {}", k + 1) : std::string(name),
             in.size() == 1 ? 3 : 2, notes);
    }
    return error(pos, node.error().message, std::move(notes));
  }
  const auto& results = (*node)->results;
  for (const auto& r : results) origins_[r.get()] = {pos, op.name, in.empty() ? nullptr : in[0]};
  if (results.size() == 1) return Val::of_tensor(results[0].get());
  std::vector<Val> all;
  for (const auto& r : results) all.push_back(Val::of_tensor(r.get()));
  Val v = Val::of_list(std::move(all));
  v.multi = true;
  return v;
}

Val Elaborator::literal(const Val& v, DType dtype, Pos pos, Env& env) {
  if (v.is_error() || v.is_tensor()) return v;
  auto misfit = [&](std::string_view why) {
    return error(pos, fmt::format("the number {} doesn't fit {}{}", v.show(), dtype_name(dtype), why));
  };
  Attr value;
  if (v.kind == Val::kBool) {
    if (dtype != DType::kBool)
      return error(pos, fmt::format("{} where {} is wanted", v.show(), dtype_name(dtype)));
    value = Attr(v.flag);
  } else if (v.kind == Val::kInt && !v.i.is_constant()) {
    if (dtype == DType::kBool) return error(pos, fmt::format("the size {} where a bool is wanted", v.show()));
    return make_node(ops::size_of, {}, {{"dim", v.i}, {"dtype", dtype}}, pos, env);
  } else if (v.kind == Val::kInt && is_int(dtype)) {
    const int64_t n = v.i.constant();
    const bool fits = dtype == DType::kU64 ? n >= 0 : wrap_int(dtype, n) == n;
    if (!fits) return misfit("");
    value = Attr(n);
  } else if (v.is_number() && is_float(dtype)) {
    const double d = *v.as_double();
    const double largest = dtype == DType::kF16    ? 65504.0
                           : dtype == DType::kBF16 ? 3.3895313892515355e38
                           : dtype == DType::kF32  ? 3.4028234663852886e38
                                                   : HUGE_VAL;
    if (std::isfinite(d) && std::fabs(d) > largest) return misfit("");
    value = Attr(d);
  } else if (v.kind == Val::kFloat) {
    return misfit(dtype == DType::kBool ? "" : "; write an integer, or cast the tensor");
  } else {
    return error(pos, fmt::format("{} where a tensor of {} is wanted", v.describe(), dtype_name(dtype)));
  }
  Val r =
      make_node(ops::full, {}, {{"dtype", dtype}, {"shape", Attr(Attr::List{})}, {"value", value}}, pos, env);
  if (r.is_tensor()) origins_.erase(r.tensor);  // the text shows the number itself
  return r;
}

Val Elaborator::tensor_binary(Op op, const Val& a, const Val& b, Pos pos, Env& env) {
  const OpDef* def = tensor_op(op);
  for (const Val* v : {&a, &b})
    if (!v->is_tensor() && !v->is_number() && v->kind != Val::kBool)
      return error(pos,
                   fmt::format("'{}' can't take {} and {}", op_spelling(op), a.describe(), b.describe()));
  if (op == Op::kMatMul && !(a.is_tensor() && b.is_tensor()))
    return error(
        pos, fmt::format("'@' multiplies matrices; it can't take {}", (a.is_tensor() ? b : a).describe()));
  const DType dtype = (a.is_tensor() ? a : b).tensor->type.dtype;
  if (op == Op::kPow && a.is_tensor() && b.kind == Val::kInt && b.i.is_constant(2) && dtype != DType::kBool)
    return make_node(ops::square, {a.tensor}, {}, pos, env);
  const Val x = literal(a, dtype, pos, env), y = literal(b, dtype, pos, env);
  if (x.is_error() || y.is_error()) return Val::error();
  const TensorType &s = x.tensor->type, &t = y.tensor->type;
  std::vector<Note> notes;
  if (s.dtype != t.dtype) {
    derive(x.tensor, "the left side", 2, notes);
    derive(y.tensor, "the right side", 2, notes);
    return error(
        pos,
        fmt::format("'{}' of {} and {}: dtypes aren't converted silently; write cast(.., {}) or cast(.., {})",
                    op_spelling(op), s.to_string(), t.to_string(), dtype_name(s.dtype), dtype_name(t.dtype)),
        std::move(notes));
  }
  if (op == Op::kDiv && !is_float(s.dtype))
    return error(pos, fmt::format("'/' isn't defined on {}; '//' rounds down, cast(.., f32) makes floats",
                                  dtype_name(s.dtype)));
  const bool logic = op == Op::kAnd || op == Op::kOr;
  if (logic != (s.dtype == DType::kBool) && !is_comparison(op))
    return error(pos, fmt::format("'{}' takes {}, not {} and {}", op_spelling(op),
                                  logic ? "bools" : "numbers", s.to_string(), t.to_string()));
  if (op != Op::kMatMul) {
    auto shape = broadcast_shapes(s.shape, t.shape);
    if (!shape.ok()) {
      derive(x.tensor, "the left side", 3, notes);
      derive(y.tensor, "the right side", 3, notes);
      return error(pos,
                   fmt::format("'{}' of {} and {}: {}", op_spelling(op), s.to_string(), t.to_string(),
                               shape.error().message),
                   std::move(notes));
    }
  }
  return make_node(*def, {x.tensor, y.tensor}, {}, pos, env);
}

}  // namespace graphc
