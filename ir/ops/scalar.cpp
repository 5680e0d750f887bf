// The elementwise primitives: one record for each ScalarOp, its tree the op itself. Everything elementwise
// expands or is differentiated into these.
#include "ir/ops/common.h"

namespace graphc {
namespace {

template <ScalarOp op>
Expr unary_tree(std::span<const Expr> x, const Attrs&) {
  return unary(op, x[0]);
}
template <ScalarOp op>
Expr binary_tree(std::span<const Expr> x, const Attrs&) {
  return binary(op, x[0], x[1]);
}
Expr where_tree(std::span<const Expr> x, const Attrs&) { return select(x[0], x[1], x[2]); }
Expr cast_tree(std::span<const Expr> x, const Attrs& a) {
  return cast(x[0], a.find("dtype")->second.as_dtype());
}
Expr is_nan_tree(std::span<const Expr> x, const Attrs&) { return is_nan(x[0]); }

Inferred infer_div(InferContext& c) {
  for (const TensorType& t : c.operands)
    if (!is_float(t.dtype))
      return call_error(c, "/ needs floats; on integers use // (floor_div), or cast to a float dtype first");
  return infer_elementwise(c);
}

Inferred infer_where(InferContext& c) {
  GC_CHECK(check_same_dtype(c, 1));
  Shape shape = c.operand(0).shape;
  for (int i = 1; i < 3; ++i) {
    auto s = broadcast_shapes(shape, c.operand(i).shape);
    if (!s.ok()) return call_error(c, "{}", s.error().message);
    shape = *s;
  }
  return std::vector<TensorType>{{c.operand(1).dtype, shape}};
}

Inferred infer_cast(InferContext& c) {
  return std::vector<TensorType>{{c.attrs.find("dtype")->second.as_dtype(), c.operand(0).shape}};
}

Inferred infer_is_nan(InferContext& c) { return std::vector<TensorType>{{DType::kBool, c.operand(0).shape}}; }

std::vector<Value*> cast_grad(Builder& b, const GradCall& c) {
  DType from = c.operand(0)->type.dtype;
  if (!is_float(from) || !is_float(c.types[0].dtype)) return {nullptr};
  return {b.cast(c.cotangent(), from)};
}

std::vector<Sample> int_unary_samples(SampleRng& rng) {
  return elementwise_samples(rng, 1, DType::kI32, -2, 2, -9, 9);
}
std::vector<Sample> int_binary_samples(SampleRng& rng) {
  return elementwise_samples(rng, 2, DType::kI32, -2, 2, -9, 9);
}
std::vector<Sample> shift_samples(SampleRng& rng) {
  return elementwise_samples(rng, 2, DType::kI32, -2, 2, 0, 31);
}
// floats and integers by turns
std::vector<Sample> number_samples(SampleRng& rng) {
  auto s = binary_samples(rng), i = int_binary_samples(rng);
  s.insert(s.end(), i.begin(), i.begin() + 8);
  return s;
}
// divisors away from 0, bases of pow positive
std::vector<Sample> positive_binary_samples(SampleRng& rng) {
  return elementwise_samples(rng, 2, DType::kF32, 0.3, 3, 1, 5);
}
std::vector<Sample> unit_samples(SampleRng& rng) {
  return elementwise_samples(rng, 1, DType::kF32, -0.9, 1.2);
}
std::vector<Sample> wide_samples(SampleRng& rng) { return elementwise_samples(rng, 1, DType::kF32, -5, 5); }
std::vector<Sample> where_samples(SampleRng& rng) {
  auto samples = elementwise_samples(rng, 3);
  for (Sample& s : samples) s.operands[0].dtype = DType::kBool;
  return samples;
}
std::vector<Sample> cast_samples(SampleRng& rng) {
  constexpr std::pair<DType, DType> kPairs[] = {{DType::kF32, DType::kF64}, {DType::kF64, DType::kF32},
                                                {DType::kI32, DType::kF32}, {DType::kF32, DType::kI32},
                                                {DType::kI64, DType::kI8},  {DType::kBool, DType::kF32},
                                                {DType::kI32, DType::kBool}};
  auto samples = elementwise_samples(rng, 1, DType::kF32, -5, 5, -300, 300);
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i].operands[0].dtype = kPairs[i % std::size(kPairs)].first;
    samples[i].attrs["dtype"] = Attr(kPairs[i % std::size(kPairs)].second);
  }
  return samples;
}

}  // namespace

#define GC_UNARY(id, text, types, op_, samples_, summary)  \
  const OpDef ops::id{.name = text,                        \
                      .doc = summary,                      \
                      .operands = {{"x", types}},          \
                      .infer = infer_same,                 \
                      .scalar = unary_tree<ScalarOp::op_>, \
                      .samples = samples_};
GC_UNARY(neg, "neg", kNumbers, kNeg, unary_samples, "-x.")
GC_UNARY(abs, "abs", kNumbers, kAbs, unary_samples, "The absolute value; its gradient at 0 is 0.")
GC_UNARY(sign, "sign", kNumbers, kSign, unary_samples, "-1, 0 or 1; NaN stays NaN. The gradient is 0.")
GC_UNARY(exp, "exp", kFloats, kExp, unary_samples, "e to the power of x.")
GC_UNARY(expm1, "expm1", kFloats, kExpm1, unary_samples, "exp(x) - 1, exact near 0.")
GC_UNARY(log, "log", kFloats, kLog, positive_samples, "The natural logarithm.")
GC_UNARY(log1p, "log1p", kFloats, kLog1p, unit_samples, "log(1 + x), exact near 0.")
GC_UNARY(sqrt, "sqrt", kFloats, kSqrt, positive_samples, "The square root.")
GC_UNARY(rsqrt, "rsqrt", kFloats, kRsqrt, positive_samples, "1 / sqrt(x).")
GC_UNARY(sin, "sin", kFloats, kSin, wide_samples, "The sine of an angle in radians.")
GC_UNARY(cos, "cos", kFloats, kCos, wide_samples, "The cosine of an angle in radians.")
GC_UNARY(tan, "tan", kFloats, kTan, unit_samples, "The tangent of an angle in radians.")
GC_UNARY(tanh, "tanh", kFloats, kTanh, unary_samples, "The hyperbolic tangent.")
GC_UNARY(erf, "erf", kFloats, kErf, unary_samples,
         "The error function, 2/sqrt(pi) times the integral of exp(-t*t) from 0 to x.")
GC_UNARY(floor, "floor", kFloats, kFloor, wide_samples, "The largest whole number <= x. The gradient is 0.")
GC_UNARY(ceil, "ceil", kFloats, kCeil, wide_samples, "The smallest whole number >= x. The gradient is 0.")
GC_UNARY(round, "round", kFloats, kRound, wide_samples,
         "The nearest whole number, halves to even. The gradient is 0.")
GC_UNARY(not_, "not", kInts | kBools, kNot, int_unary_samples,
         "Logical not of bools, bitwise not of integers.")
#undef GC_UNARY

#define GC_BINARY(id, text, types, op_, infer_, samples_, summary) \
  const OpDef ops::id{.name = text,                                \
                      .doc = summary,                              \
                      .operands = {{"a", types}, {"b", types}},    \
                      .infer = infer_,                             \
                      .scalar = binary_tree<ScalarOp::op_>,        \
                      .samples = samples_};
GC_BINARY(add, "add", kNumbers, kAdd, infer_elementwise, number_samples, "a + b. Integers wrap.")
GC_BINARY(sub, "sub", kNumbers, kSub, infer_elementwise, number_samples, "a - b. Integers wrap.")
GC_BINARY(mul, "mul", kNumbers, kMul, infer_elementwise, number_samples, "a * b. Integers wrap.")
GC_BINARY(div, "div", kNumbers, kDiv, infer_div, positive_binary_samples,
          "a / b of floats. Integers have floor_div.")
GC_BINARY(floor_div, "floor_div", kNumbers, kFloorDiv, infer_elementwise, positive_binary_samples,
          "a // b: the quotient rounded down. An integer divided by 0 gives 0. The gradient is 0.")
GC_BINARY(rem, "rem", kNumbers, kRem, infer_elementwise, positive_binary_samples,
          "a % b: a - b * floor(a / b), with the divisor's sign. For integers a % 0 is 0.")
GC_BINARY(pow, "pow", kNumbers, kPow, infer_elementwise, positive_binary_samples,
          "a to the power of b. For integers by repeated multiplication, wrapping; a negative exponent "
          "rounds down.")
GC_BINARY(maximum, "maximum", kNumbers, kMax, infer_elementwise, number_samples,
          "The larger of a and b; NaN if either is. Of equals the first gets the gradient.")
GC_BINARY(minimum, "minimum", kNumbers, kMin, infer_elementwise, number_samples,
          "The smaller of a and b; NaN if either is. Of equals the first gets the gradient.")
GC_BINARY(atan2, "atan2", kFloats, kAtan2, infer_elementwise, positive_binary_samples,
          "The angle of the point (b, a) in -pi..pi.")
GC_BINARY(and_, "and", kInts | kBools, kAnd, infer_elementwise, int_binary_samples,
          "Logical and of bools, bitwise and of integers.")
GC_BINARY(or_, "or", kInts | kBools, kOr, infer_elementwise, int_binary_samples,
          "Logical or of bools, bitwise or of integers.")
GC_BINARY(xor_, "xor", kInts | kBools, kXor, infer_elementwise, int_binary_samples,
          "Exclusive or of bools, bitwise exclusive or of integers.")
GC_BINARY(shl, "shl", kInts, kShl, infer_elementwise, shift_samples,
          "a shifted left by b bits; 0 if b is negative or not below the width.")
GC_BINARY(shr, "shr", kInts, kShr, infer_elementwise, shift_samples,
          "a shifted right by b bits: arithmetic for signed, logical for unsigned dtypes.")
GC_BINARY(eq, "eq", kAnyType, kEq, infer_comparison, number_samples, "a == b, as bool. NaN equals nothing.")
GC_BINARY(ne, "ne", kAnyType, kNe, infer_comparison, number_samples,
          "a != b, as bool. NaN differs from everything.")
GC_BINARY(lt, "lt", kNumbers, kLt, infer_comparison, number_samples, "a < b, as bool; false with NaN.")
GC_BINARY(le, "le", kNumbers, kLe, infer_comparison, number_samples, "a <= b, as bool; false with NaN.")
GC_BINARY(gt, "gt", kNumbers, kGt, infer_comparison, number_samples, "a > b, as bool; false with NaN.")
GC_BINARY(ge, "ge", kNumbers, kGe, infer_comparison, number_samples, "a >= b, as bool; false with NaN.")
#undef GC_BINARY

const OpDef ops::where{
    .name = "where",
    .doc =
        "Where c is true the element of a, else that of b. A NaN or infinity in the branch not taken reaches "
        "neither the result nor the gradient.",
    .operands = {{"c", kBools}, {"a", kAnyType}, {"b", kAnyType}},
    .infer = infer_where,
    .scalar = where_tree,
    .samples = where_samples};

const OpDef ops::cast{.name = "cast",
                      .doc =
                          "The elements converted to another dtype. Float to integer truncates and "
                          "saturates, NaN gives 0; integers "
                          "wrap; to bool: not equal to 0.",
                      .operands = {{"x", kAnyType}},
                      .attrs = {{"dtype", AttrKind::kDType, kRequired, "the dtype of the result"}},
                      .infer = infer_cast,
                      .scalar = cast_tree,
                      .grad = cast_grad,
                      .samples = cast_samples};

const OpDef ops::is_nan{.name = "is_nan",
                        .doc = "Whether x is NaN, as bool.",
                        .operands = {{"x", kFloats}},
                        .infer = infer_is_nan,
                        .scalar = is_nan_tree,
                        .samples = unary_samples};

}  // namespace graphc
