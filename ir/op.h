// Op records: the one definition of each op. Shape inference, reference semantics, lowering, gradient,
// documentation and the conformance samples all come from the record. The records live in ir/ops/*.cpp, the
// list of them in ir/ops.def.
//
//   const OpDef ops::silu{
//       .name = "silu", .doc = "x * sigmoid(x)", .operands = {{"x", kFloats}}, .infer = infer_elementwise,
//       .scalar = [](auto x, const Attrs&) { return x[0] / (1.0 + exp(-x[0])); }, .samples = unary_samples};
//
// A record has exactly one of
//   scalar    a tree over the elements of its operands, which broadcast (aligned at the end, a literal 1
//   repeats); expand    a composite, written with the Builder; evaluate  plain loops, for structural
//   primitives;
// or is one of the few that passes and the executor know by name (assign, optimize, fusion).
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "ir/scalar.h"

namespace graphc {

class Builder;
struct EvalContext;

// Sets of dtypes, as bits 1 << dtype.
using DTypeSet = uint32_t;
inline constexpr DTypeSet dtype_bit(DType t) { return 1u << static_cast<int>(t); }
inline constexpr DTypeSet kBools = dtype_bit(DType::kBool);
inline constexpr DTypeSet kFloats =
    dtype_bit(DType::kF16) | dtype_bit(DType::kBF16) | dtype_bit(DType::kF32) | dtype_bit(DType::kF64);
inline constexpr DTypeSet kInts = 0xFFu << 1;
inline constexpr DTypeSet kNumbers = kFloats | kInts;
inline constexpr DTypeSet kAnyType = kNumbers | kBools;

enum class Arity : uint8_t { kOne, kOptional, kVariadic };

struct OperandDef {
  std::string_view name;
  DTypeSet types = kAnyType;
  Arity arity = Arity::kOne;  // optional and variadic ones come last
};

// kNumber: an integer, a float or a bool, kept as given (the value of `full`, which takes its form from dtype).
enum class AttrKind : uint8_t { kInt, kInts, kFloat, kFloats, kBool, kString, kDType, kNumber };

// A setting of the op, in the order in which a call may give it by position.
struct AttrDef {
  std::string_view name;
  AttrKind kind = AttrKind::kInt;
  std::string_view
      fallback;  // the default as core text ("1", "[]", "\"none\"", "-1e30"); kRequired if there is none
  std::string_view doc;
};
inline constexpr std::string_view kRequired = "<required>";

// What inference sees. It may rewrite attributes into their canonical long form (stride=2 -> [2, 2], axis=-1
// -> 3, shape=[N, -1]
// -> [N, 64]); inferring again from canonical attributes changes nothing (the verifier holds it to that).
struct InferContext {
  const OpDef& op;
  std::vector<TensorType> operands;
  Attrs& attrs;
  const TensorType& operand(int i) const { return operands[i]; }
  int num_operands() const { return static_cast<int>(operands.size()); }
};
using Inferred = Result<std::vector<TensorType>>;

// An application of an op as expansion and gradient rules see it.
struct Call {
  const OpDef* op = nullptr;
  std::vector<Value*> operands;
  Attrs attrs;
  std::vector<TensorType> types;  // of the results
  Value* operand(int i) const { return i < static_cast<int>(operands.size()) ? operands[i] : nullptr; }
  const Attr& attr(std::string_view name) const { return attrs.find(name)->second; }
};
struct GradCall : Call {
  std::vector<Value*> results;  // the forward's values
  std::vector<Value*>
      cotangents;  // d loss / d result; nullptr where no gradient arrives (but never all of them)
  Value* cotangent(int i = 0) const { return cotangents[i]; }
};

// A test case for the conformance and gradient tests: operand types with constant shapes, attributes, the
// range values are drawn from. Integer operands are drawn from [int_lo, int_hi].
struct Sample {
  std::vector<TensorType> operands;
  Attrs attrs;
  double lo = -2, hi = 2;
  int64_t int_lo = 0, int_hi = 3;
};
class SampleRng {  // deterministic; see ir/samples.h for helpers
 public:
  explicit SampleRng(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  uint64_t next();
  int64_t range(int64_t lo, int64_t hi);  // inclusive
  double uniform(double lo, double hi);

 private:
  uint64_t state_;
};

struct OpDef {
  std::string_view name;
  std::string_view doc;  // one paragraph; first sentence is the summary; the source of a formula
  OperandDef operands[8]{};
  AttrDef attrs[18]{};
  Inferred (*infer)(InferContext&) = nullptr;

  Expr (*scalar)(std::span<const Expr> operands, const Attrs& attrs) = nullptr;
  std::vector<Value*> (*expand)(Builder&, const Call&) = nullptr;
  Status (*evaluate)(EvalContext&) = nullptr;  // see ir/interpret.h

  // d loss / d operand for each operand; nullptr where there is none. Ops with scalar get theirs from
  // derivative(), composites from their expansion, unless this overrides. no_gradient: gives none (integers,
  // argmax, stop_gradient, random).
  std::vector<Value*> (*grad)(Builder&, const GradCall&) = nullptr;
  bool no_gradient = false;
  bool has_effect = false;     // assign, optimize: never dead
  bool order_matters = false;  // reads or writes what isn't an operand
  std::string_view
      free_attrs;  // non-empty: unknown integer settings are allowed (rearrange's axis names); documents them

  std::vector<Sample> (*samples)(SampleRng&) =
      nullptr;  // >= 20 shapes, rank 0, size 0 and broadcasting among them

  int num_operands() const;  // declared, optional and variadic ones included
  int min_operands() const;
  bool variadic() const;
  int num_attrs() const;
  const AttrDef* find_attr(std::string_view attr_name) const;
};

namespace ops {
#define GC_OP(id) extern const OpDef id;
#include "ir/ops.def"
#undef GC_OP
}  // namespace ops

const OpDef* find_op(std::string_view name);
std::span<const OpDef* const> all_ops();  // in the order of ops.def

// Checks operand count and dtypes, attribute names and kinds, fills in defaults (and turns an int into a
// float or a one-element into a list where the record asks for it), then calls the op's infer. The error says
// what is wrong in terms of the call.
Result<std::vector<TensorType>> infer_types(const OpDef& op, const std::vector<TensorType>& operands,
                                            Attrs& attrs);

// Numpy-style broadcasting of shapes, aligned at the end. Only a literal 1 repeats; two different symbols are
// an error.
Result<Shape> broadcast_shapes(const Shape& a, const Shape& b);

}  // namespace graphc
