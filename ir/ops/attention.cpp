// Attention: sdpa, what models call; attention and attention_grad, the forms with the row statistics that a
// kernel without score matrix needs. passes/attention.cpp makes them of sdpa where the target has that
// kernel.
#include <cmath>
#include <limits>

#include "ir/ops/common.h"

namespace graphc {
namespace {

const Attr& attr(const InferContext& c, std::string_view name) { return c.attrs.find(name)->second; }

// The type that scores are computed in.
DType score_type(DType t) { return t == DType::kF16 || t == DType::kBF16 ? DType::kF32 : t; }

// Checks q, k, v and the mask (operand number `mask`, if it is there). Gives the shape of the scores.
Result<Shape> check_attention(InferContext& c, int mask_at) {
  GC_CHECK(check_same_dtype(c, 0, 2));
  const Shape &q = c.operand(0).shape, &k = c.operand(1).shape, &v = c.operand(2).shape;
  size_t r = q.size();
  if (r < 2 || k.size() != r || v.size() != r)
    return call_error(c, "q, k and v must be [.., T, E], [.., S, E] and [.., S, V] with equally many axes");
  for (size_t i = 0; i + 2 < r; ++i)
    if (q[i] != k[i] || q[i] != v[i])
      return call_error(c, "q, k and v differ at axis {}: {}, {} and {}", i, q[i].to_string(),
                        k[i].to_string(), v[i].to_string());
  if (q[r - 1] != k[r - 1])
    return call_error(c, "q and k must have equally long vectors, not {} and {}", q[r - 1].to_string(),
                      k[r - 1].to_string());
  if (k[r - 2] != v[r - 2])
    return call_error(c, "k and v must have equally many rows, not {} and {}", k[r - 2].to_string(),
                      v[r - 2].to_string());
  if (k[r - 2].is_constant(0)) return call_error(c, "there are no rows in k and v to attend to");
  if (!(attr(c, "scale").as_float() >= 0)) return call_error(c, "scale must be positive, or 0 for 1/sqrt(E)");
  Shape scores(q.begin(), q.end() - 1);
  scores.push_back(k[r - 2]);
  if (c.num_operands() > mask_at) {
    const TensorType& mask = c.operand(mask_at);
    if (mask.dtype != DType::kBool && mask.dtype != c.operand(0).dtype)
      return call_error(c, "the mask must be bool (true: attend) or {} (added to the scores)",
                        dtype_name(c.operand(0).dtype));
    auto s = broadcast_shapes(scores, mask.shape);
    if (!s.ok() || *s != scores)
      return call_error(c, "the mask must broadcast to the scores' shape {}", shape_to_string(scores));
  }
  return scores;
}

TensorType output_type(const InferContext& c) {
  Shape y = c.operand(0).shape;
  y.back() = c.operand(2).shape.back();
  return {c.operand(0).dtype, y};
}

Inferred infer_sdpa(InferContext& c) {
  GC_CHECK(check_attention(c, 3));
  return std::vector<TensorType>{output_type(c)};
}

Inferred infer_attention(InferContext& c) {
  GC_TRY(Shape scores, check_attention(c, 3));
  scores.pop_back();
  return std::vector<TensorType>{output_type(c), {score_type(c.operand(0).dtype), scores}};
}

Inferred infer_attention_grad(InferContext& c) {
  GC_TRY(Shape rows, check_attention(c, 6));
  rows.pop_back();
  if (c.operand(3) != output_type(c))
    return call_error(c, "d_out must be {} as the output, not {}", output_type(c).to_string(),
                      c.operand(3).to_string());
  const TensorType row{score_type(c.operand(0).dtype), rows};
  for (int i : {4, 5})
    if (c.operand(i) != row)
      return call_error(c, "{} must be {}, not {}", c.op.operands[i].name, row.to_string(),
                        c.operand(i).to_string());
  return std::vector<TensorType>{c.operand(0), c.operand(1), c.operand(2)};
}

// The factor of q k^T, in the given dtype.
Value* scale_of(Builder& b, const Call& c, DType dtype) {
  const double scale = c.attr("scale").as_float();
  if (scale != 0) return b.full(scale, dtype);
  const Dim& e = c.operand(0)->type.shape.back();
  if (auto n = e.as_constant()) return b.full(1 / std::sqrt(static_cast<double>(*n)), dtype);
  return b.rsqrt(b.dim_value(e, dtype));
}

// q k^T scale + mask: -infinity where there is nothing to see.
Value* scores_of(Builder& b, const Call& c, Value* q, Value* k, Value* mask) {
  const DType dtype = q->type.dtype;
  const int r = q->type.rank();
  const auto batch = all_axes(r - 2);
  Value* s = b.mul(b.dot_general(q, k, batch, batch, {r - 1}, {r - 1}), scale_of(b, c, dtype));
  Value* never = b.full(-std::numeric_limits<double>::infinity(), dtype);
  if (mask) s = mask->type.dtype == DType::kBool ? b.where(mask, s, never) : b.add(s, b.cast(mask, dtype));
  if (c.attr("causal").as_bool()) {
    const Dim &rows = s->type.shape[r - 2], &columns = s->type.shape[r - 1];
    Value* seen = b.compare(ScalarOp::kLe, b.iota({Dim(1), columns}, 1, DType::kI32),
                            b.iota({rows, Dim(1)}, 0, DType::kI32));
    s = b.where(seen, s, never);
  }
  return s;
}

// softmax(q k^T scale + mask) v. Vaswani et al. 2017.
std::vector<Value*> expand_sdpa(Builder& b, const Call& c) {
  Value *q = c.operand(0), *k = c.operand(1), *v = c.operand(2);
  const int r = q->type.rank();
  const auto batch = all_axes(r - 2);
  Value* p = b.create(ops::softmax, {scores_of(b, c, q, k, c.operand(3))}, {{"axis", r - 1}});
  return {b.dot_general(p, v, batch, batch, {r - 1}, {r - 2})};
}

std::vector<Value*> expand_attention(Builder& b, const Call& c) {
  const DType dtype = c.operand(0)->type.dtype, wide = score_type(dtype);
  Value *q = b.cast(c.operand(0), wide), *k = b.cast(c.operand(1), wide), *v = b.cast(c.operand(2), wide);
  const int r = q->type.rank();
  const auto batch = all_axes(r - 2);
  Value* s = scores_of(b, c, q, k, c.operand(3));
  Value* p = b.create(ops::softmax, {s}, {{"axis", r - 1}});
  Value* lse = b.create(ops::logsumexp, {s}, {{"axes", Attr::ints({r - 1})}});
  return {b.cast(b.dot_general(p, v, batch, batch, {r - 1}, {r - 2}), dtype), lse};
}

// With p = exp(s - lse) and o = p v, the rows of p sum to 1, and d loss / d s = p (d_out v^T - delta), where
// delta = sum over v's axis of d_out o (and -d_lse is added to it): Dao et al. 2022, appendix B.
struct ScoreGradient {
  Value *p, *ds;
};
ScoreGradient score_gradient(Builder& b, const Call& c, Value* q, Value* k, Value* v, Value* dout, Value* lse,
                             Value* delta, Value* mask) {
  const int r = q->type.rank();
  const auto batch = all_axes(r - 2);
  Value* s = scores_of(b, c, q, k, mask);
  Value* p = b.exp(b.sub(s, restore_axes(b, lse, s->type.shape, {r - 1})));
  Value* dp = b.dot_general(dout, v, batch, batch, {r - 1}, {r - 1});
  return {p, b.mul(p, b.sub(dp, restore_axes(b, delta, s->type.shape, {r - 1})))};
}

std::vector<Value*> expand_attention_grad(Builder& b, const Call& c) {
  const DType dtype = c.operand(0)->type.dtype, wide = score_type(dtype);
  Value* x[4];
  for (int i = 0; i < 4; ++i) x[i] = b.cast(c.operand(i), wide);
  const int r = x[0]->type.rank();
  const auto batch = all_axes(r - 2);
  auto [p, ds] = score_gradient(b, c, x[0], x[1], x[2], x[3], c.operand(4), c.operand(5), c.operand(6));
  ds = b.mul(ds, scale_of(b, c, wide));
  return {b.cast(b.dot_general(ds, x[1], batch, batch, {r - 1}, {r - 2}), dtype),
          b.cast(b.dot_general(ds, x[0], batch, batch, {r - 2}, {r - 2}), dtype),
          b.cast(b.dot_general(p, x[3], batch, batch, {r - 2}, {r - 2}), dtype)};
}

std::vector<Value*> attention_backward(Builder& b, const GradCall& c) {
  Value *q = c.operand(0), *k = c.operand(1), *v = c.operand(2), *mask = c.operand(3);
  Value *out = c.results[0], *lse = c.results[1];
  const DType wide = lse->type.dtype;
  const int r = q->type.rank();
  Value* dout = c.cotangent(0) ? c.cotangent(0) : b.full_like(0, out);
  Value* delta = b.sum(b.mul(b.cast(dout, wide), b.cast(out, wide)), {r - 1});
  if (c.cotangent(1)) delta = b.sub(delta, c.cotangent(1));
  std::vector<Value*> operands{q, k, v, dout, lse, delta};
  if (mask) operands.push_back(mask);
  Node* n = b.create_node(ops::attention_grad, operands, c.attrs);
  std::vector<Value*> grads{n->result(0), n->result(1), n->result(2)};
  if (!mask) return grads;
  grads.push_back(nullptr);
  // Rarely asked for: through the score matrix, which disappears with the rest if nobody does.
  if (mask->type.dtype != DType::kBool)
    grads[3] = b.sum_to(score_gradient(b, c, b.cast(q, wide), b.cast(k, wide), b.cast(v, wide),
                                       b.cast(dout, wide), lse, delta, mask)
                            .ds,
                        mask->type.shape);
  return grads;
}

// --- samples ---

std::vector<Sample> samples_of(SampleRng& rng, bool gradient) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape lead = sample_shape(rng, rng.range(0, 2), 3);
    if (i == 1) lead = {Dim(0)};
    int64_t t = rng.range(1, 4), n = rng.range(1, 4), e = rng.range(1, 4), v = rng.range(1, 4);
    auto with = [&](std::vector<int64_t> more) {
      Shape s = lead;
      for (int64_t d : more) s.push_back(Dim(d));
      return s;
    };
    Sample s{.operands = {f32(with({t, e})), f32(with({n, e})), f32(with({n, v}))},
             .attrs = {{"causal", i % 2 == 0}}};
    if (gradient) {
      s.operands.push_back(f32(with({t, v})));
      s.operands.push_back(f32(with({t})));
      s.operands.push_back(f32(with({t})));
      s.lo = -1, s.hi = 1;  // p = exp(s - lse) of any lse
    }
    if (i % 4 == 3) s.operands.push_back(f32({Dim(t), Dim(n)}));
    if (i % 5 == 0) s.attrs["scale"] = Attr(0.7);
    samples.push_back(s);
  }
  return samples;
}
std::vector<Sample> sdpa_samples(SampleRng& rng) { return samples_of(rng, false); }
std::vector<Sample> attention_grad_samples(SampleRng& rng) { return samples_of(rng, true); }

constexpr OperandDef kMask{"mask", kFloats | kBools, Arity::kOptional};
constexpr AttrDef kCausal{"causal", AttrKind::kBool, "false", "row t sees columns 0..t only"};
constexpr AttrDef kScale{"scale", AttrKind::kFloat, "0.0", "factor of the scores; 0: 1/sqrt(E)"};

}  // namespace

const OpDef ops::sdpa{.name = "sdpa",
                      .doc =
                          "Scaled dot-product attention: softmax(q k^T scale + mask) v over q[.., T, E], "
                          "k[.., S, E], v[.., S, V]. A "
                          "bool mask says where to attend, a float one is added. Vaswani et al. 2017.",
                      .operands = {{"q", kFloats}, {"k", kFloats}, {"v", kFloats}, kMask},
                      .attrs = {kCausal, kScale},
                      .infer = infer_sdpa,
                      .expand = expand_sdpa,
                      .samples = sdpa_samples};

const OpDef ops::attention{
    .name = "attention",
    .doc =
        "sdpa with a second result: the logarithm of each row's sum of exp(scores), from which the gradient "
        "finds the probabilities again. 16-bit types are computed in f32. Dao et al. 2022.",
    .operands = {{"q", kFloats}, {"k", kFloats}, {"v", kFloats}, kMask},
    .attrs = {kCausal, kScale},
    .infer = infer_attention,
    .expand = expand_attention,
    .grad = attention_backward,
    .samples = sdpa_samples};

const OpDef ops::attention_grad{
    .name = "attention_grad",
    .doc =
        "The gradient of attention with respect to q, k and v, from that of its output, the row statistics "
        "lse of the forward pass and delta[.., T], the sums of d_out times output. Dao et al. 2022.",
    .operands = {{"q", kFloats},
                 {"k", kFloats},
                 {"v", kFloats},
                 {"d_out", kFloats},
                 {"lse", kFloats},
                 {"delta", kFloats},
                 kMask},
    .attrs = {kCausal, kScale},
    .infer = infer_attention_grad,
    .expand = expand_attention_grad,
    .samples = attention_grad_samples};

}  // namespace graphc
