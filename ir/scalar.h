// Expr: the scalar expression trees that op records define their meaning with, that fused regions become, and
// that loop programs are made of. The reference interprets them in double and int64, the emitters print them.
//
//   Expr silu(Expr x) { return x / (1.0 + exp(-x)); }
//   Expr d = derivative(silu(Expr::arg(0, DType::kF32)), 0);
//
// Every operation has a result type; operands of arithmetic have equal types (a number takes the other
// operand's type). f16 and bf16 trees are computed in f32 by the emitters and rounded where the value is
// stored. Corner cases (LANGUAGE.md): integers wrap, // floors and % has the divisor's sign, max/min pass NaN
// on, cast float -> int truncates, saturates, NaN gives 0.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ir/dim.h"
#include "runtime/base/dtype.h"

namespace graphc {

enum class ScalarOp : uint8_t {
  // leaves
  kConst,  // float_value or int_value, by type
  kArg,    // operand number int_value of the op or region
  kVar,    // a value named in a loop program (let, reduce, register)
  kLoad,   // element `index` of the loop program's buffer `buffer`, where all guards hold; else the constant
           // args[0]
  kIndex,  // the value of the index expression index[0], as an i64
  // one operand; result has its type
  kNeg,
  kAbs,
  kSign,
  kExp,
  kExpm1,
  kLog,
  kLog1p,
  kSqrt,
  kRsqrt,
  kSin,
  kCos,
  kTan,
  kTanh,
  kErf,
  kFloor,
  kCeil,
  kRound,
  kNot,
  // two operands; result has their type. kRem is % (divisor's sign); kFloorDiv is // ; kRound is half to even
  kAdd,
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kRem,
  kPow,
  kMax,
  kMin,
  kAtan2,
  kAnd,
  kOr,
  kXor,
  kShl,
  kShr,
  // two operands; result is bool
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kSelect,  // bool, a, b
  kCast,    // to `type`
  kIsNan,   // bool
  // word 0 of philox4x32_10(counter {lo32(args[4]), hi32(args[4]), args[2], args[3]}, key {args[0],
  // args[1]}); u32 x4, i64 -> u32
  kPhilox,
};
inline constexpr int kNumScalarOps = static_cast<int>(ScalarOp::kPhilox) + 1;

std::string_view scalar_op_name(ScalarOp op);  // "add": also the name of the primitive graph op
// The op of that name among kNeg..kPhilox; nullopt otherwise.
std::optional<ScalarOp> scalar_op_from_name(std::string_view name);

struct ScalarNode;

class Expr {
 public:
  Expr() = default;
  static Expr constant(double v, DType type);  // for an integer type v must be integral
  static Expr int_constant(int64_t v, DType type);
  static Expr arg(int i, DType type);
  static Expr var(std::string name, DType type);
  static Expr load(int buffer, DType type, std::vector<Dim> index, std::vector<Dim> guards = {},
                   double otherwise = 0);
  static Expr index(Dim d);
  static Expr make(ScalarOp op, DType type, std::vector<Expr> args);  // no folding, no checks
  explicit operator bool() const { return node_ != nullptr; }
  const ScalarNode& operator*() const { return *node_; }
  const ScalarNode* operator->() const { return node_.get(); }
  const ScalarNode* get() const { return node_.get(); }
  ScalarOp op() const;
  DType type() const;
  bool is_constant(double v) const;

 private:
  std::shared_ptr<const ScalarNode> node_;
};

struct ScalarNode {
  ScalarOp op = ScalarOp::kConst;
  DType type = DType::kF32;
  std::vector<Expr> args;
  double float_value = 0;   // kConst of float type
  int64_t int_value = 0;    // kConst of integer or bool type; kArg
  std::string name;         // kVar
  int buffer = -1;          // kLoad
  std::vector<Dim> index;   // kLoad, kIndex
  std::vector<Dim> guards;  // kLoad: loads only where every one is >= 0
};

// Building with the usual identities folded (x*1, x+0 kept exact: x+0 is folded only for integers; constants
// evaluated in f64).
Expr unary(ScalarOp op, const Expr& x);
Expr binary(ScalarOp op, const Expr& a, const Expr& b);  // types must agree; comparisons give bool
Expr select(const Expr& c, const Expr& a, const Expr& b);
Expr cast(const Expr& x, DType to);
Expr is_nan(const Expr& x);
Expr philox(const Expr& k0, const Expr& k1, const Expr& s0, const Expr& s1, const Expr& counter);

#define GC_EXPR_BINARY(fn, OP)                                                                             \
  inline Expr fn(const Expr& a, const Expr& b) { return binary(ScalarOp::OP, a, b); }                      \
  inline Expr fn(const Expr& a, double b) { return binary(ScalarOp::OP, a, Expr::constant(b, a.type())); } \
  inline Expr fn(double a, const Expr& b) { return binary(ScalarOp::OP, Expr::constant(a, b.type()), b); }
GC_EXPR_BINARY(operator+, kAdd)
GC_EXPR_BINARY(operator-, kSub)
GC_EXPR_BINARY(operator*, kMul)
GC_EXPR_BINARY(operator/, kDiv)
GC_EXPR_BINARY(operator<, kLt)
GC_EXPR_BINARY(operator<=, kLe)
GC_EXPR_BINARY(operator>, kGt)
GC_EXPR_BINARY(operator>=, kGe)
GC_EXPR_BINARY(equal, kEq)
GC_EXPR_BINARY(not_equal, kNe)
GC_EXPR_BINARY(maximum, kMax)
GC_EXPR_BINARY(minimum, kMin)
GC_EXPR_BINARY(pow, kPow)
GC_EXPR_BINARY(floor_div, kFloorDiv)
GC_EXPR_BINARY(rem, kRem)
GC_EXPR_BINARY(atan2, kAtan2)
GC_EXPR_BINARY(bit_and, kAnd)
GC_EXPR_BINARY(bit_or, kOr)
GC_EXPR_BINARY(bit_xor, kXor)
GC_EXPR_BINARY(shl, kShl)
GC_EXPR_BINARY(shr, kShr)
#undef GC_EXPR_BINARY
#define GC_EXPR_UNARY(fn, OP) \
  inline Expr fn(const Expr& a) { return unary(ScalarOp::OP, a); }
GC_EXPR_UNARY(operator-, kNeg)
GC_EXPR_UNARY(abs, kAbs)
GC_EXPR_UNARY(sign, kSign)
GC_EXPR_UNARY(exp, kExp)
GC_EXPR_UNARY(expm1, kExpm1)
GC_EXPR_UNARY(log, kLog)
GC_EXPR_UNARY(log1p, kLog1p)
GC_EXPR_UNARY(sqrt, kSqrt)
GC_EXPR_UNARY(rsqrt, kRsqrt)
GC_EXPR_UNARY(sin, kSin)
GC_EXPR_UNARY(cos, kCos)
GC_EXPR_UNARY(tan, kTan)
GC_EXPR_UNARY(tanh, kTanh)
GC_EXPR_UNARY(erf, kErf)
GC_EXPR_UNARY(floor, kFloor)
GC_EXPR_UNARY(ceil, kCeil)
GC_EXPR_UNARY(round, kRound)
GC_EXPR_UNARY(logical_not, kNot)
#undef GC_EXPR_UNARY

// A scalar at evaluation: floats in d, integers and bool in i.
struct ScalarValue {
  double d = 0;
  int64_t i = 0;
};

// One primitive in exact reference semantics: floats in double (f32's range and rounding are not imitated),
// integers wrapped to `type`. arg_type is the type of the first operand (of the second for kSelect).
ScalarValue eval_scalar_op(ScalarOp op, DType type, DType arg_type, const ScalarValue* args);
// A tree whose leaves are kConst and kArg.
ScalarValue eval_scalar(const Expr& e, const ScalarValue* args);

// d e / d (arg i) as a tree over the same args; nullopt where the tree isn't differentiable in it (integers,
// comparisons give a constant 0). At ties max/min give the gradient to the first of equals; abs, sign, floor
// have derivative 0 at their kinks.
Expr derivative(const Expr& e, int arg);

// "x0 / (exp(-x0) + 1)" for messages and documentation.
std::string to_string(const Expr& e);

}  // namespace graphc
