// Random numbers: pure functions of a key and an index (runtime/base/philox.h). The frontend gives each
// random op its key.
#include "ir/ops/common.h"
#include "runtime/base/philox.h"

namespace graphc {
namespace {

const Attr& attr(const InferContext& c, std::string_view name) { return c.attrs.find(name)->second; }

Inferred infer_rng_key(InferContext& c) {
  for (const TensorType& t : c.operands)
    if (t.rank() != 0) return call_error(c, "seed and step must be scalars");
  return std::vector<TensorType>{{DType::kU32, {Dim(4)}}};
}

Status eval_rng_key(EvalContext& e) {
  uint64_t seed = static_cast<uint64_t>(e.operand(0).i[0]), step = static_cast<uint64_t>(e.operand(1).i[0]);
  uint64_t stream = static_cast<uint64_t>(e.call.attr("stream").as_int());
  e.results[0].i = {static_cast<int64_t>(seed & 0xffffffff), static_cast<int64_t>(seed >> 32),
                    static_cast<int64_t>(stream & 0xffffffff), static_cast<int64_t>(step & 0xffffffff)};
  return ok_status();
}

Status check_key(const InferContext& c) {
  if (c.operand(0).shape != Shape{Dim(4)})
    return call_error(c, "the key must be u32[4], as rng_key makes it");
  return ok_status();
}

Result<Shape> random_shape(InferContext& c) {
  GC_CHECK(check_key(c));
  Shape shape = attr(c, "shape").as_dims();
  for (const Dim& d : shape)
    if (d.is_constant() && d.constant() < 0)
      return call_error(c, "shape={} has a negative size", shape_to_string(shape));
  return shape;
}

Inferred infer_random_bits(InferContext& c) {
  GC_TRY(Shape shape, random_shape(c));
  return std::vector<TensorType>{{DType::kU32, shape}};
}

Status eval_random_bits(EvalContext& e) {
  const auto& k = e.operand(0).i;
  PhiloxKey key{static_cast<uint32_t>(k[0]), static_cast<uint32_t>(k[1]), static_cast<uint32_t>(k[2]),
                static_cast<uint32_t>(k[3])};
  auto& y = e.results[0].i;
  for (size_t i = 0; i < y.size(); ++i) y[i] = philox_bits(key, i);
  return ok_status();
}

Inferred infer_random_float(InferContext& c) {
  GC_TRY(Shape shape, random_shape(c));
  DType dtype = attr(c, "dtype").as_dtype();
  if (!is_float(dtype)) return call_error(c, "dtype={} must be a float", dtype_name(dtype));
  return std::vector<TensorType>{{dtype, shape}};
}

DType wide(DType t) { return t == DType::kF64 ? t : DType::kF32; }

// (bits >> 8) * 2^-24 + offset
Value* unit(Builder& b, Value* bits, DType dtype, double offset) {
  Expr x = Expr::arg(0, DType::kU32);
  Expr u = cast(shr(x, 8.0), dtype) * 0x1p-24;
  return b.from_expr(offset != 0 ? u + offset : u, {bits});
}

std::vector<Value*> expand_uniform(Builder& b, const Call& c) {
  const TensorType& t = c.types[0];
  double lo = c.attr("lo").as_float(), hi = c.attr("hi").as_float();
  Value* bits = b.create(ops::random_bits, {c.operand(0)}, {{"shape", Attr::dims(t.shape)}});
  Value* u = unit(b, bits, wide(t.dtype), 0);
  if (hi - lo != 1) u = b.mul(u, hi - lo);
  if (lo != 0) u = b.add(u, lo);
  return {b.cast(u, t.dtype)};
}

// Box, Muller 1958: sqrt(-2 log u) cos(2 pi v), u in (0, 1].
std::vector<Value*> expand_normal(Builder& b, const Call& c) {
  const TensorType& t = c.types[0];
  Shape two = t.shape;
  two.insert(two.begin(), Dim(2));
  Value* bits = b.create(ops::random_bits, {c.operand(0)}, {{"shape", Attr::dims(two)}});
  DType dtype = wide(t.dtype);
  Value* u = unit(b, b.reshape(b.slice(bits, 0, Dim(0), Dim(1)), t.shape), dtype, 0x1p-24);
  Value* v = unit(b, b.reshape(b.slice(bits, 0, Dim(1), Dim(2)), t.shape), dtype, 0);
  Expr x = Expr::arg(0, dtype), y = Expr::arg(1, dtype);
  Expr z = sqrt(-2.0 * log(x)) * cos(6.283185307179586 * y);
  Value* r = b.from_expr(z * c.attr("std").as_float() + c.attr("mean").as_float(), {u, v});
  return {b.cast(r, t.dtype)};
}

std::vector<Sample> rng_key_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i)
    samples.push_back({.operands = {{DType::kU64, {}}, {DType::kI64, {}}},
                       .attrs = {{"stream", rng.range(0, 100)}},
                       .int_lo = 0,
                       .int_hi = int64_t{1} << 40});
  return samples;
}
std::vector<Sample> key_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i)
    samples.push_back({.operands = {{DType::kU32, {Dim(4)}}},
                       .attrs = {{"shape", Attr::dims(sample_shape_number(rng, i))}},
                       .int_lo = 0,
                       .int_hi = 0xffffffff});
  return samples;
}

}  // namespace

const OpDef ops::rng_key{
    .name = "rng_key",
    .doc = "The key of one random op in one step: {low(seed), high(seed), stream, low(step)}.",
    .operands = {{"seed", dtype_bit(DType::kU64)}, {"step", dtype_bit(DType::kI64)}},
    .attrs = {{"stream", AttrKind::kInt, kRequired, "the number of the random op in the program"}},
    .infer = infer_rng_key,
    .evaluate = eval_rng_key,
    .no_gradient = true,
    .samples = rng_key_samples};

const OpDef ops::random_bits{.name = "random_bits",
                             .doc =
                                 "32 random bits for each element: element i is word 0 of Philox4x32-10 with "
                                 "the counter {i, key[2], key[3]} "
                                 "and the key {key[0], key[1]}. Salmon et al. 2011.",
                             .operands = {{"key", dtype_bit(DType::kU32)}},
                             .attrs = {{"shape", AttrKind::kInts, kRequired, "the shape of the result"}},
                             .infer = infer_random_bits,
                             .evaluate = eval_random_bits,
                             .no_gradient = true,
                             .samples = key_samples};

const OpDef ops::random_uniform{
    .name = "random_uniform",
    .doc = "Uniformly distributed in lo <= x < hi: lo + (hi - lo) * (bits >> 8) * 2^-24.",
    .operands = {{"key", dtype_bit(DType::kU32)}},
    .attrs = {{"shape", AttrKind::kInts, kRequired, "the shape of the result"},
              {"lo", AttrKind::kFloat, "0.0", "the lower limit"},
              {"hi", AttrKind::kFloat, "1.0", "the upper limit"},
              {"dtype", AttrKind::kDType, "f32", "the dtype of the result"}},
    .infer = infer_random_float,
    .expand = expand_uniform,
    .no_gradient = true,
    .samples = key_samples};

const OpDef ops::random_normal{.name = "random_normal",
                               .doc = "Normally distributed, by the method of Box and Muller (1958).",
                               .operands = {{"key", dtype_bit(DType::kU32)}},
                               .attrs = {{"shape", AttrKind::kInts, kRequired, "the shape of the result"},
                                         {"mean", AttrKind::kFloat, "0.0", "the mean"},
                                         {"std", AttrKind::kFloat, "1.0", "the standard deviation"},
                                         {"dtype", AttrKind::kDType, "f32", "the dtype of the result"}},
                               .infer = infer_random_float,
                               .expand = expand_normal,
                               .no_gradient = true,
                               .samples = key_samples};

}  // namespace graphc
