#include "ir/scalar.h"

#include <cmath>
#include <unordered_map>

#include <fmt/format.h>

#include "runtime/base/philox.h"

namespace graphc {
namespace {

constexpr std::string_view kNames[kNumScalarOps] = {
    "const",   "arg",     "var",   "load",  "index", "neg",  "abs",    "sign",      "exp", "expm1",
    "log",     "log1p",   "sqrt",  "rsqrt", "sin",   "cos",  "tan",    "tanh",      "erf", "floor",
    "ceil",    "round",   "not",   "add",   "sub",   "mul",  "div",    "floor_div", "rem", "pow",
    "maximum", "minimum", "atan2", "and",   "or",    "xor",  "shl",    "shr",       "eq",  "ne",
    "lt",      "le",      "gt",    "ge",    "where", "cast", "is_nan", "philox"};

bool is_comparison(ScalarOp op) { return op >= ScalarOp::kEq && op <= ScalarOp::kGe; }

int bits_of(DType t) { return static_cast<int>(dtype_size(t)) * 8; }

int64_t floor_div_int(int64_t a, int64_t b) {
  if (b == 0)
    return 0;  // the executor reports integer division by zero where it can; the value is defined as 0
  if (b == -1) return static_cast<int64_t>(0 - static_cast<uint64_t>(a));
  int64_t q = a / b;
  return (a % b != 0 && ((a < 0) != (b < 0))) ? q - 1 : q;
}

double nan_max(double a, double b) { return std::isnan(a) ? a : std::isnan(b) ? b : (a >= b ? a : b); }
double nan_min(double a, double b) { return std::isnan(a) ? a : std::isnan(b) ? b : (a <= b ? a : b); }

double eval_float(ScalarOp op, double a, double b) {
  switch (op) {
    case ScalarOp::kNeg: return -a;
    case ScalarOp::kAbs: return std::fabs(a);
    case ScalarOp::kSign: return std::isnan(a) ? a : (a > 0) - (a < 0);
    case ScalarOp::kExp: return std::exp(a);
    case ScalarOp::kExpm1: return std::expm1(a);
    case ScalarOp::kLog: return std::log(a);
    case ScalarOp::kLog1p: return std::log1p(a);
    case ScalarOp::kSqrt: return std::sqrt(a);
    case ScalarOp::kRsqrt: return 1.0 / std::sqrt(a);
    case ScalarOp::kSin: return std::sin(a);
    case ScalarOp::kCos: return std::cos(a);
    case ScalarOp::kTan: return std::tan(a);
    case ScalarOp::kTanh: return std::tanh(a);
    case ScalarOp::kErf: return std::erf(a);
    case ScalarOp::kFloor: return std::floor(a);
    case ScalarOp::kCeil: return std::ceil(a);
    case ScalarOp::kRound: return std::nearbyint(a);
    case ScalarOp::kAdd: return a + b;
    case ScalarOp::kSub: return a - b;
    case ScalarOp::kMul: return a * b;
    case ScalarOp::kDiv: return a / b;
    case ScalarOp::kFloorDiv: return std::floor(a / b);
    case ScalarOp::kRem: {
      double r = std::fmod(a, b);
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    }
    case ScalarOp::kPow: return std::pow(a, b);
    case ScalarOp::kMax: return nan_max(a, b);
    case ScalarOp::kMin: return nan_min(a, b);
    case ScalarOp::kAtan2: return std::atan2(a, b);
    default: return std::nan("");
  }
}

int64_t eval_int(ScalarOp op, DType type, int64_t a, int64_t b) {
  auto u = [](int64_t v) { return static_cast<uint64_t>(v); };
  int bits = bits_of(type);
  bool is_unsigned = !is_signed_int(type);
  uint64_t mask = bits == 64 ? ~0ull : (1ull << bits) - 1;
  switch (op) {
    case ScalarOp::kNeg: return static_cast<int64_t>(0 - u(a));
    case ScalarOp::kAbs: return is_unsigned || a >= 0 ? a : static_cast<int64_t>(0 - u(a));
    case ScalarOp::kSign: return is_unsigned ? a != 0 : (a > 0) - (a < 0);
    case ScalarOp::kNot: return type == DType::kBool ? !a : ~a;
    case ScalarOp::kFloor:
    case ScalarOp::kCeil:
    case ScalarOp::kRound: return a;
    case ScalarOp::kAdd: return static_cast<int64_t>(u(a) + u(b));
    case ScalarOp::kSub: return static_cast<int64_t>(u(a) - u(b));
    case ScalarOp::kMul: return static_cast<int64_t>(u(a) * u(b));
    case ScalarOp::kDiv:
    case ScalarOp::kFloorDiv:
      return is_unsigned ? (b ? static_cast<int64_t>(u(a) / u(b)) : 0) : floor_div_int(a, b);
    case ScalarOp::kRem:
      if (is_unsigned) return b ? static_cast<int64_t>(u(a) % u(b)) : 0;
      return b ? static_cast<int64_t>(u(a) - u(b) * u(floor_div_int(a, b))) : 0;
    case ScalarOp::kMax: return is_unsigned ? (u(a) >= u(b) ? a : b) : (a >= b ? a : b);
    case ScalarOp::kMin: return is_unsigned ? (u(a) <= u(b) ? a : b) : (a <= b ? a : b);
    case ScalarOp::kAnd: return a & b;
    case ScalarOp::kOr: return a | b;
    case ScalarOp::kXor: return a ^ b;
    case ScalarOp::kShl: return b < 0 || b >= bits ? 0 : static_cast<int64_t>(u(a) << b);
    case ScalarOp::kShr:
      if (is_unsigned) return b < 0 || b >= bits ? 0 : static_cast<int64_t>((u(a) & mask) >> b);
      return a >> (b < 0 || b >= bits ? bits - 1 : b);
    case ScalarOp::kPow: {  // by squaring, wrapping; a negative exponent floors
      if (b < 0) return a == 1 ? 1 : a == -1 ? (b % 2 ? -1 : 1) : 0;
      uint64_t r = 1, base = u(a);
      for (uint64_t e = u(b); e; e >>= 1, base *= base)
        if (e & 1) r *= base;
      return static_cast<int64_t>(r);
    }
    default: return 0;
  }
}

}  // namespace

std::string_view scalar_op_name(ScalarOp op) { return kNames[static_cast<int>(op)]; }

std::optional<ScalarOp> scalar_op_from_name(std::string_view name) {
  static const std::unordered_map<std::string_view, ScalarOp> table = [] {
    std::unordered_map<std::string_view, ScalarOp> t;
    for (int i = static_cast<int>(ScalarOp::kNeg); i < kNumScalarOps; ++i)
      t[kNames[i]] = static_cast<ScalarOp>(i);
    return t;
  }();
  auto it = table.find(name);
  return it == table.end() ? std::nullopt : std::optional(it->second);
}

ScalarOp Expr::op() const { return node_->op; }
DType Expr::type() const { return node_->type; }

bool Expr::is_constant(double v) const {
  if (node_->op != ScalarOp::kConst) return false;
  return is_float(node_->type) ? node_->float_value == v && (v != 0 || !std::signbit(node_->float_value))
                               : static_cast<double>(node_->int_value) == v;
}

Expr Expr::make(ScalarOp op, DType type, std::vector<Expr> args) {
  auto n = std::make_shared<ScalarNode>();
  n->op = op;
  n->type = type;
  n->args = std::move(args);
  Expr e;
  e.node_ = std::move(n);
  return e;
}

Expr Expr::constant(double v, DType type) {
  auto n = std::make_shared<ScalarNode>();
  n->type = type;
  if (is_float(type))
    n->float_value = v;
  else
    n->int_value = double_to_int(type, v);
  Expr e;
  e.node_ = std::move(n);
  return e;
}

Expr Expr::int_constant(int64_t v, DType type) {
  auto n = std::make_shared<ScalarNode>();
  n->type = type;
  if (is_float(type))
    n->float_value = static_cast<double>(v);
  else
    n->int_value = type == DType::kBool ? v != 0 : wrap_int(type, v);
  Expr e;
  e.node_ = std::move(n);
  return e;
}

Expr Expr::arg(int i, DType type) {
  auto n = std::make_shared<ScalarNode>();
  n->op = ScalarOp::kArg;
  n->type = type;
  n->int_value = i;
  Expr e;
  e.node_ = std::move(n);
  return e;
}

Expr Expr::var(std::string name, DType type) {
  auto n = std::make_shared<ScalarNode>();
  n->op = ScalarOp::kVar;
  n->type = type;
  n->name = std::move(name);
  Expr e;
  e.node_ = std::move(n);
  return e;
}

Expr Expr::load(int buffer, DType type, std::vector<Dim> index, std::vector<Dim> guards, double otherwise) {
  auto n = std::make_shared<ScalarNode>();
  n->op = ScalarOp::kLoad;
  n->type = type;
  n->buffer = buffer;
  n->index = std::move(index);
  n->guards = std::move(guards);
  n->args = {constant(otherwise, type)};
  Expr e;
  e.node_ = std::move(n);
  return e;
}

Expr Expr::index(Dim d) {
  auto n = std::make_shared<ScalarNode>();
  n->op = ScalarOp::kIndex;
  n->type = DType::kI64;
  n->index = {std::move(d)};
  Expr e;
  e.node_ = std::move(n);
  return e;
}

Expr unary(ScalarOp op, const Expr& x) {
  if (x.op() == ScalarOp::kConst) {
    ScalarValue v{x->float_value, x->int_value};
    ScalarValue r = eval_scalar_op(op, x.type(), x.type(), &v);
    return is_float(x.type()) ? Expr::constant(r.d, x.type()) : Expr::int_constant(r.i, x.type());
  }
  if (op == ScalarOp::kNeg && x.op() == ScalarOp::kNeg) return x->args[0];
  return Expr::make(op, x.type(), {x});
}

Expr binary(ScalarOp op, const Expr& a, const Expr& b) {
  DType type = is_comparison(op) ? DType::kBool : a.type();
  if (a.op() == ScalarOp::kConst && b.op() == ScalarOp::kConst) {
    ScalarValue v[2] = {{a->float_value, a->int_value}, {b->float_value, b->int_value}};
    ScalarValue r = eval_scalar_op(op, type, a.type(), v);
    return is_float(type) ? Expr::constant(r.d, type) : Expr::int_constant(r.i, type);
  }
  bool integer = !is_float(a.type());
  if (op == ScalarOp::kMul && b.is_constant(1)) return a;
  if (op == ScalarOp::kMul && a.is_constant(1)) return b;
  if (op == ScalarOp::kDiv && b.is_constant(1)) return a;
  if (op == ScalarOp::kSub && b.is_constant(0)) return a;
  if (op == ScalarOp::kAdd && integer && b.is_constant(0)) return a;
  if (op == ScalarOp::kAdd && integer && a.is_constant(0)) return b;
  return Expr::make(op, type, {a, b});
}

Expr select(const Expr& c, const Expr& a, const Expr& b) {
  if (c.op() == ScalarOp::kConst) return c->int_value ? a : b;
  return Expr::make(ScalarOp::kSelect, a.type(), {c, a, b});
}

Expr cast(const Expr& x, DType to) {
  if (x.type() == to) return x;
  if (x.op() == ScalarOp::kConst) {
    ScalarValue v{x->float_value, x->int_value};
    ScalarValue r = eval_scalar_op(ScalarOp::kCast, to, x.type(), &v);
    return is_float(to) ? Expr::constant(r.d, to) : Expr::int_constant(r.i, to);
  }
  return Expr::make(ScalarOp::kCast, to, {x});
}

Expr is_nan(const Expr& x) { return Expr::make(ScalarOp::kIsNan, DType::kBool, {x}); }

Expr philox(const Expr& k0, const Expr& k1, const Expr& s0, const Expr& s1, const Expr& counter) {
  return Expr::make(ScalarOp::kPhilox, DType::kU32, {k0, k1, s0, s1, counter});
}

ScalarValue eval_scalar_op(ScalarOp op, DType type, DType arg_type, const ScalarValue* x) {
  ScalarValue r;
  bool f = is_float(arg_type);
  switch (op) {
    case ScalarOp::kSelect: return x[0].i ? x[1] : x[2];
    case ScalarOp::kIsNan: r.i = f && std::isnan(x[0].d); return r;
    case ScalarOp::kPhilox: {
      uint64_t c = static_cast<uint64_t>(x[4].i);
      r.i = philox4x32_10({static_cast<uint32_t>(c), static_cast<uint32_t>(c >> 32),
                           static_cast<uint32_t>(x[2].i), static_cast<uint32_t>(x[3].i)},
                          {static_cast<uint32_t>(x[0].i), static_cast<uint32_t>(x[1].i)})[0];
      return r;
    }
    case ScalarOp::kCast:
      if (is_float(type)) {
        double v = f                         ? x[0].d
                   : arg_type == DType::kU64 ? static_cast<double>(static_cast<uint64_t>(x[0].i))
                                             : static_cast<double>(x[0].i);
        if (type == DType::kF16) v = f16_to_f32(f64_to_f16(v));
        if (type == DType::kBF16) v = bf16_to_f32(f64_to_bf16(v));
        r.d = v;
      } else if (type == DType::kBool) {
        r.i = f ? x[0].d != 0 : x[0].i != 0;
      } else {
        r.i = f ? double_to_int(type, x[0].d) : wrap_int(type, x[0].i);
      }
      return r;
    default: break;
  }
  if (is_comparison(op)) {
    auto cmp = [&](auto a, auto b) -> bool {
      switch (op) {
        case ScalarOp::kEq: return a == b;
        case ScalarOp::kNe: return a != b;
        case ScalarOp::kLt: return a < b;
        case ScalarOp::kLe: return a <= b;
        case ScalarOp::kGt: return a > b;
        default: return a >= b;
      }
    };
    r.i = f                         ? cmp(x[0].d, x[1].d)
          : arg_type == DType::kU64 ? cmp(static_cast<uint64_t>(x[0].i), static_cast<uint64_t>(x[1].i))
                                    : cmp(x[0].i, x[1].i);
    return r;
  }
  bool two = op >= ScalarOp::kAdd && op <= ScalarOp::kShr;
  if (f)
    r.d = eval_float(op, x[0].d, two ? x[1].d : 0);
  else if (type == DType::kBool)
    r.i = eval_int(op, type, x[0].i, two ? x[1].i : 0) != 0;
  else
    r.i = wrap_int(type, eval_int(op, type, x[0].i, two ? x[1].i : 0));
  return r;
}

ScalarValue eval_scalar(const Expr& e, const ScalarValue* args) {
  const ScalarNode& n = *e;
  if (n.op == ScalarOp::kConst) return {n.float_value, n.int_value};
  if (n.op == ScalarOp::kArg) return args[n.int_value];
  ScalarValue v[5];
  for (size_t i = 0; i < n.args.size(); ++i) v[i] = eval_scalar(n.args[i], args);
  return eval_scalar_op(n.op, n.type, n.args[n.op == ScalarOp::kSelect ? 1 : 0].type(), v);
}

namespace {

// Chain rule, one line an op; d is the derivative of the inner tree(s).
Expr derive(const Expr& e, int arg) {
  const ScalarNode& n = *e;
  auto zero = [&] { return Expr::constant(0, n.type); };
  if (n.op == ScalarOp::kArg)
    return n.int_value == arg && is_float(n.type) ? Expr::constant(1, n.type) : zero();
  if (!is_float(n.type) || n.args.empty()) return zero();
  auto plus = [](const Expr& a, const Expr& b) {
    return a.is_constant(0) ? b : b.is_constant(0) ? a : a + b;
  };
  auto times = [](const Expr& a, const Expr& b) {
    return a.is_constant(0) ? a : b.is_constant(0) ? b : a * b;
  };
  const Expr& x = n.args[0];
  if (n.op == ScalarOp::kSelect) {
    Expr a = derive(n.args[1], arg), b = derive(n.args[2], arg);
    return a.is_constant(0) && b.is_constant(0) ? a : select(x, a, b);
  }
  if (n.op == ScalarOp::kCast) {
    if (!is_float(x.type())) return zero();
    return cast(derive(x, arg), n.type);
  }
  Expr dx = derive(x, arg);
  if (n.args.size() == 1) {
    if (dx.is_constant(0)) return zero();
    switch (n.op) {
      case ScalarOp::kNeg: return -dx;
      case ScalarOp::kAbs: return times(sign(x), dx);
      case ScalarOp::kExp: return times(e, dx);
      case ScalarOp::kExpm1: return times(e + 1.0, dx);
      case ScalarOp::kLog: return dx / x;
      case ScalarOp::kLog1p: return dx / (x + 1.0);
      case ScalarOp::kSqrt: return times(dx, 0.5 / e);
      case ScalarOp::kRsqrt: return times(dx, -0.5 * e / x);
      case ScalarOp::kSin: return times(cos(x), dx);
      case ScalarOp::kCos: return times(-sin(x), dx);
      case ScalarOp::kTan: return times(1.0 + e * e, dx);
      case ScalarOp::kTanh: return times(1.0 - e * e, dx);
      case ScalarOp::kErf: return times(1.1283791670955126 * exp(-(x * x)), dx);  // 2/sqrt(pi)
      default: return zero();                                                     // sign, floor, ceil, round
    }
  }
  const Expr& y = n.args[1];
  Expr dy = derive(y, arg);
  if (dx.is_constant(0) && dy.is_constant(0)) return zero();
  auto neg = [](const Expr& a) { return a.is_constant(0) ? a : -a; };
  switch (n.op) {
    case ScalarOp::kAdd: return plus(dx, dy);
    case ScalarOp::kSub: return plus(dx, neg(dy));
    case ScalarOp::kMul: return plus(times(dx, y), times(x, dy));
    case ScalarOp::kDiv:
      return plus(dx.is_constant(0) ? dx : dx / y, neg(dy.is_constant(0) ? dy : times(dy, e / y)));
    case ScalarOp::kRem: return plus(dx, neg(times(floor(x / y), dy)));
    case ScalarOp::kPow: {
      // d x^y = y x^(y-1) dx + x^y log(x) dy; the second term is 0 where x == 0 and y > 0 (as PyTorch), not
      // NaN
      Expr a = dx.is_constant(0) ? dx : times(times(y, pow(x, y - 1.0)), dx);
      Expr b = dy.is_constant(0)
                   ? dy
                   : select(equal(e, 0.0), Expr::constant(0, n.type), times(times(e, log(x)), dy));
      return plus(a, b);
    }
    case ScalarOp::kMax: return select(x >= y, dx, dy);
    case ScalarOp::kMin: return select(x <= y, dx, dy);
    case ScalarOp::kAtan2: {
      Expr d = x * x + y * y;
      return plus(times(dx, y / d), neg(times(dy, x / d)));
    }
    default: return zero();
  }
}

}  // namespace

Expr derivative(const Expr& e, int arg) { return derive(e, arg); }

std::string to_string(const Expr& e) {
  const ScalarNode& n = *e;
  auto list = [&](const std::vector<Dim>& ds) {
    std::string s;
    for (const Dim& d : ds) s += (s.empty() ? "" : ", ") + d.to_string();
    return s;
  };
  switch (n.op) {
    case ScalarOp::kConst:
      if (n.type == DType::kBool) return n.int_value ? "true" : "false";
      return is_float(n.type) ? fmt::format("{}", n.float_value) : fmt::format("{}", n.int_value);
    case ScalarOp::kArg: return fmt::format("x{}", n.int_value);
    case ScalarOp::kVar: return "%" + n.name;
    case ScalarOp::kLoad: return fmt::format("load #{}[{}]", n.buffer, list(n.index));
    case ScalarOp::kIndex: return fmt::format("index({})", n.index[0].to_string());
    case ScalarOp::kCast: return fmt::format("{}({})", dtype_name(n.type), to_string(n.args[0]));
    default: break;
  }
  static const std::map<ScalarOp, std::string_view> infix = {
      {ScalarOp::kAdd, "+"}, {ScalarOp::kSub, "-"}, {ScalarOp::kMul, "*"}, {ScalarOp::kDiv, "/"},
      {ScalarOp::kLt, "<"},  {ScalarOp::kLe, "<="}, {ScalarOp::kGt, ">"},  {ScalarOp::kGe, ">="},
      {ScalarOp::kEq, "=="}, {ScalarOp::kNe, "!="}};
  if (auto it = infix.find(n.op); it != infix.end())
    return fmt::format("({} {} {})", to_string(n.args[0]), it->second, to_string(n.args[1]));
  std::string s;
  for (const Expr& a : n.args) s += (s.empty() ? "" : ", ") + to_string(a);
  return fmt::format("{}({})", scalar_op_name(n.op), s);
}

}  // namespace graphc
