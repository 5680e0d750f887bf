// Statistics, softmax, normalisations, dropout. Gradients are overridden where the expansion's own
// would be less stable or do more passes.
#include <cmath>
#include <limits>

#include "ir/ops/common.h"

namespace graphc {
namespace {

const Attr& attr(const InferContext& c, std::string_view name) { return c.attrs.find(name)->second; }
std::vector<int64_t> axes_of(const Call& c) { return c.attr("axes").as_ints(); }
bool keepdims(const Call& c) { return c.attr("keepdims").as_bool(); }

// --- mean, var, std, logsumexp ---

std::vector<Value*> expand_mean(Builder& b, const Call& c) {
  return {b.mean(c.operand(0), axes_of(c), keepdims(c))};
}

Value* deviation(Builder& b, Value* x, const std::vector<int64_t>& axes) {
  return b.sub(x, b.mean(x, axes, true));
}
Value* degrees(Builder& b, const Call& c) {
  return b.sub(b.count(c.operand(0), axes_of(c), c.operand(0)->type.dtype), c.attr("correction").as_float());
}

Value* build_var(Builder& b, const Call& c) {
  Value* d = deviation(b, c.operand(0), axes_of(c));
  return b.div(b.sum(b.mul(d, d), axes_of(c), keepdims(c)), degrees(b, c));
}
std::vector<Value*> expand_var(Builder& b, const Call& c) { return {build_var(b, c)}; }
std::vector<Value*> expand_std(Builder& b, const Call& c) { return {b.sqrt(build_var(b, c))}; }

// d var / d x = 2 (x - mean) / (n - correction); the mean's own part sums to 0.
Value* var_backward(Builder& b, const Call& c, Value* dy) {
  Value* x = c.operand(0);
  Value* scale = b.div(b.mul(restore_axes(b, dy, x->type.shape, axes_of(c)), 2), degrees(b, c));
  return b.mul(deviation(b, x, axes_of(c)), scale);
}
std::vector<Value*> var_grad(Builder& b, const GradCall& c) { return {var_backward(b, c, c.cotangent())}; }
// 0 where the deviation is 0, as in PyTorch
std::vector<Value*> std_grad(Builder& b, const GradCall& c) {
  Value* y = c.results[0];
  Value* zero = b.full(0, y->type.dtype);
  Value* d = b.div(c.cotangent(), b.mul(y, 2));
  return {var_backward(b, c, b.where(b.compare(ScalarOp::kEq, y, zero), zero, d))};
}

// The maximum, with infinities replaced by 0 so that subtracting it leaves them alone.
Value* finite_max(Builder& b, Value* x, const std::vector<int64_t>& axes) {
  Value* m = b.stop_gradient(b.max(x, axes, true));
  Value* magnitude = b.scalar(ScalarOp::kAbs, {m});
  Value* infinite =
      b.compare(ScalarOp::kEq, magnitude, b.full(std::numeric_limits<double>::infinity(), x->type.dtype));
  return b.where(infinite, b.full(0, x->type.dtype), m);
}

std::vector<Value*> expand_logsumexp(Builder& b, const Call& c) {
  Value* x = c.operand(0);
  Value* m = finite_max(b, x, axes_of(c));
  Value* y = b.add(b.log(b.sum(b.exp(b.sub(x, m)), axes_of(c), true)), m);
  return {b.reshape(y, c.types[0].shape)};
}
std::vector<Value*> logsumexp_grad(Builder& b, const GradCall& c) {
  Value* x = c.operand(0);
  auto back = [&](Value* v) { return restore_axes(b, v, x->type.shape, axes_of(c)); };
  return {b.mul(b.exp(b.sub(x, back(c.results[0]))), back(c.cotangent()))};
}

Inferred infer_nonempty_statistic(InferContext& c) {
  GC_TRY(auto y, infer_reduction(c));
  for (int64_t a : attr(c, "axes").as_ints())
    if (c.operand(0).shape[a].is_constant(0))
      return call_error(c, "axis {} has size 0, which has no maximum", a);
  return y;
}

// --- softmax, log_softmax ---

Inferred infer_softmax(InferContext& c) {
  GC_TRY(int axis, canonical_axis(c, "axis", c.operand(0).rank()));
  if (c.operand(0).shape[axis].is_constant(0))
    return call_error(c, "axis {} has size 0, and nothing has no {}", axis, c.op.name);
  return infer_same(c);
}

std::vector<Value*> expand_softmax(Builder& b, const Call& c) {
  Value* x = c.operand(0);
  int64_t axis = c.attr("axis").as_int();
  Value* e = b.exp(b.sub(x, b.max(x, {axis}, true)));
  return {b.div(e, b.sum(e, {axis}, true))};
}
std::vector<Value*> softmax_grad(Builder& b, const GradCall& c) {
  int64_t axis = c.attr("axis").as_int();
  Value *y = c.results[0], *dy = c.cotangent();
  return {b.mul(y, b.sub(dy, b.sum(b.mul(dy, y), {axis}, true)))};
}

Value* build_log_softmax(Builder& b, Value* x, int64_t axis) {
  Value* d = b.sub(x, b.max(x, {axis}, true));
  return b.sub(d, b.log(b.sum(b.exp(d), {axis}, true)));
}
std::vector<Value*> expand_log_softmax(Builder& b, const Call& c) {
  return {build_log_softmax(b, c.operand(0), c.attr("axis").as_int())};
}
std::vector<Value*> log_softmax_grad(Builder& b, const GradCall& c) {
  Value* dy = c.cotangent();
  return {b.sub(dy, b.mul(b.exp(c.results[0]), b.sum(dy, {c.attr("axis").as_int()}, true)))};
}

// --- layer_norm, rms_norm ---

Status check_eps(const InferContext& c) {
  if (!(attr(c, "eps").as_float() >= 0)) return call_error(c, "eps must not be negative");
  return ok_status();
}

// The axes from `axis` on; weight and bias have their shape.
Inferred infer_trailing_norm(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  GC_CHECK(check_eps(c));
  const TensorType& x = c.operand(0);
  GC_TRY(int axis, canonical_axis(c, "axis", x.rank()));
  Shape inner(x.shape.begin() + axis, x.shape.end());
  for (int i = 1; i < c.num_operands(); ++i)
    if (c.operand(i).shape != inner)
      return call_error(c, "{} must have the shape {} of the normalised axes, not {}", c.op.operands[i].name,
                        shape_to_string(inner), shape_to_string(c.operand(i).shape));
  return infer_same(c);
}

std::vector<int64_t> from_axis(const Call& c) {
  std::vector<int64_t> axes;
  for (int64_t a = c.attr("axis").as_int(); a < c.operand(0)->type.rank(); ++a) axes.push_back(a);
  return axes;
}

// The same nodes in forward and backward, so that they are shared. With centred=false (rms_norm) no mean.
struct Normalised {
  Value *xhat, *rstd;
};
Normalised normalise(Builder& b, Value* x, const std::vector<int64_t>& axes, double eps, bool centred) {
  Value* d = centred ? deviation(b, x, axes) : x;
  Value* rstd = b.rsqrt(b.add(b.mean(b.mul(d, d), axes, true), eps));
  return {b.mul(d, rstd), rstd};
}

std::vector<Value*> expand_trailing_norm(Builder& b, const Call& c, bool centred) {
  Value* y = normalise(b, c.operand(0), from_axis(c), c.attr("eps").as_float(), centred).xhat;
  if (has(c, 1)) y = b.mul(y, c.operand(1));
  if (has(c, 2)) y = b.add(y, c.operand(2));
  return {y};
}
std::vector<Value*> expand_layer_norm(Builder& b, const Call& c) { return expand_trailing_norm(b, c, true); }
std::vector<Value*> expand_rms_norm(Builder& b, const Call& c) { return expand_trailing_norm(b, c, false); }

// dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy weight. Ba, Kiros, Hinton 2016.
Value* norm_backward(Builder& b, const Normalised& n, Value* g, const std::vector<int64_t>& axes,
                     bool centred) {
  Value* dx = b.sub(g, b.mul(n.xhat, b.mean(b.mul(g, n.xhat), axes, true)));
  if (centred) dx = b.sub(dx, b.mean(g, axes, true));
  return b.mul(n.rstd, dx);
}

std::vector<Value*> trailing_norm_grad(Builder& b, const GradCall& c, bool centred) {
  Value *x = c.operand(0), *dy = c.cotangent();
  auto axes = from_axis(c);
  Normalised n = normalise(b, x, axes, c.attr("eps").as_float(), centred);
  Value* g = has(c, 1) ? b.mul(dy, c.operand(1)) : dy;
  std::vector<Value*> grads = {norm_backward(b, n, g, axes, centred)};
  if (has(c, 1)) grads.push_back(b.sum_to(b.mul(dy, n.xhat), c.operand(1)->type.shape));
  if (has(c, 2)) grads.push_back(b.sum_to(dy, c.operand(2)->type.shape));
  return grads;
}
std::vector<Value*> layer_norm_grad(Builder& b, const GradCall& c) { return trailing_norm_grad(b, c, true); }
std::vector<Value*> rms_norm_grad(Builder& b, const GradCall& c) { return trailing_norm_grad(b, c, false); }

// --- group_norm ---

Inferred infer_group_norm(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  GC_CHECK(check_eps(c));
  const TensorType& x = c.operand(0);
  if (x.rank() < 2) return call_error(c, "x must be [N, C, ..]");
  const Attr& g = attr(c, "groups");
  if (!g.as_dim().is_constant() || g.as_int() < 1 || !exact_quotient(x.shape[1], g.as_dim()))
    return call_error(c, "{} channels don't divide into groups={}", x.shape[1].to_string(), g.to_string());
  for (int i = 1; i < c.num_operands(); ++i)
    if (c.operand(i).shape != Shape{x.shape[1]})
      return call_error(c, "{} must be [{}], one for each channel", c.op.operands[i].name,
                        x.shape[1].to_string());
  return infer_same(c);
}

std::vector<Value*> expand_group_norm(Builder& b, const Call& c) {
  Value* x = c.operand(0);
  const Shape& shape = x->type.shape;
  Dim groups = c.attr("groups").as_dim();
  Shape split = {shape[0], groups, *exact_quotient(shape[1], groups)};
  split.insert(split.end(), shape.begin() + 2, shape.end());
  std::vector<int64_t> axes;
  for (int64_t a = 2; a < static_cast<int64_t>(split.size()); ++a) axes.push_back(a);
  Value* y = b.reshape(normalise(b, b.reshape(x, split), axes, c.attr("eps").as_float(), true).xhat, shape);
  int rank = x->type.rank();
  if (has(c, 1)) y = b.mul(y, along_axis(b, c.operand(1), 1, rank));
  if (has(c, 2)) y = b.add(y, along_axis(b, c.operand(2), 1, rank));
  return {y};
}

// --- batch_norm ---

Inferred infer_batch_norm(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  GC_CHECK(check_eps(c));
  const TensorType& x = c.operand(0);
  if (x.rank() < 2) return call_error(c, "x must be [N, C, ..]");
  TensorType channel{x.dtype, {x.shape[1]}};
  for (int i = 1; i < c.num_operands(); ++i)
    if (!(c.operand(i) == channel))
      return call_error(c, "{} must be {}, one for each channel", c.op.operands[i].name, channel.to_string());
  if (!attr(c, "training").as_bool()) return infer_same(c);
  return std::vector<TensorType>{x, channel, channel};
}

std::vector<int64_t> batch_axes(Value* x) { return other_axes(x->type.rank(), {1}); }

std::vector<Value*> expand_batch_norm(Builder& b, const Call& c) {
  Value* x = c.operand(0);
  int rank = x->type.rank();
  auto channels = [&](Value* v) { return along_axis(b, v, 1, rank); };
  double eps = c.attr("eps").as_float();
  if (!c.attr("training").as_bool()) {
    // One scale and one shift per channel, from values that don't change during the step: what is left for
    // each element is a multiplication and an addition.
    Value* scale = b.rsqrt(b.add(channels(c.operand(2)), eps));
    if (has(c, 3)) scale = b.mul(scale, channels(c.operand(3)));
    Value* shift = b.mul(channels(c.operand(1)), scale);
    if (has(c, 4)) return {b.add(b.mul(x, scale), b.sub(channels(c.operand(4)), shift))};
    return {b.sub(b.mul(x, scale), shift)};
  }
  auto axes = batch_axes(x);
  Value* mean = b.mean(x, axes, true);
  Value* d = b.sub(x, mean);
  Value* var = b.mean(b.mul(d, d), axes, true);
  Value* y = b.mul(d, b.rsqrt(b.add(var, eps)));
  // What is remembered: the unbiased variance.
  double momentum = c.attr("momentum").as_float();
  Value* n = b.count(x, axes, x->type.dtype);
  const Shape& channel = c.types[1].shape;
  auto update = [&](Value* old, Value* now) {
    return b.add(b.mul(old, 1 - momentum), b.mul(b.reshape(b.stop_gradient(now), channel), momentum));
  };
  Value* unbiased = b.mul(var, b.div(n, b.sub(n, 1)));
  std::vector<Value*> results = {update(c.operand(1), mean), update(c.operand(2), unbiased)};
  if (has(c, 3)) y = b.mul(y, channels(c.operand(3)));
  if (has(c, 4)) y = b.add(y, channels(c.operand(4)));
  results.insert(results.begin(), y);
  return results;
}

// As layer_norm's over the batch axes; in inference the statistics are constants of x. No gradient passes
// through the remembered statistics. Ioffe, Szegedy 2015.
std::vector<Value*> batch_norm_grad(Builder& b, const GradCall& c) {
  std::vector<Value*> grads(c.operands.size(), nullptr);
  Value *x = c.operand(0), *dy = c.cotangent();
  if (!dy) return grads;
  int rank = x->type.rank();
  auto axes = batch_axes(x);
  auto channels = [&](Value* v) { return along_axis(b, v, 1, rank); };
  auto per_channel = [&](Value* v) { return b.sum(v, axes); };
  double eps = c.attr("eps").as_float();
  bool training = c.attr("training").as_bool();
  Value* g = has(c, 3) ? b.mul(dy, channels(c.operand(3))) : dy;
  Value* xhat;
  if (training) {
    Normalised n = normalise(b, x, axes, eps, true);
    xhat = n.xhat;
    grads[0] = norm_backward(b, n, g, axes, true);
  } else {
    Value* d = b.sub(x, channels(c.operand(1)));
    Value* rstd = b.rsqrt(b.add(channels(c.operand(2)), eps));
    xhat = b.mul(d, rstd);
    grads[0] = b.mul(g, rstd);
    grads[1] = b.neg(per_channel(grads[0]));
    grads[2] = per_channel(b.mul(b.mul(g, d), b.mul(b.mul(rstd, b.mul(rstd, rstd)), -0.5)));
  }
  if (has(c, 3)) grads[3] = per_channel(b.mul(dy, xhat));
  if (has(c, 4)) grads[4] = per_channel(dy);
  return grads;
}

// --- dropout, embedding ---

Inferred infer_dropout(InferContext& c) {
  double p = attr(c, "p").as_float();
  if (!(p >= 0 && p <= 1)) return call_error(c, "p={} must be a probability, in 0..1", p);
  if (c.operand(1).shape != Shape{Dim(4)})
    return call_error(c, "the key must be u32[4], as rng_key makes it");
  return infer_same(c);
}

// An element is kept if its uniform number is >= p. Compared as integers: (bits >> 8) >= p 2^24.
Value* dropout_of(Builder& b, const Call& c, Value* x) {
  double p = c.attr("p").as_float();
  DType dtype = x->type.dtype;
  if (p == 0) return x;
  Value* bits = b.create(ops::random_bits, {c.operand(1)}, {{"shape", Attr::dims(x->type.shape)}});
  Expr keep = shr(Expr::arg(0, DType::kU32), 8.0) >= std::ceil(p * 0x1p24);
  Value* scaled = p == 1 ? x : b.mul(x, 1 / (1 - p));
  return b.where(b.from_expr(keep, {bits}), scaled, b.full(0, dtype));
}
std::vector<Value*> expand_dropout(Builder& b, const Call& c) { return {dropout_of(b, c, c.operand(0))}; }
std::vector<Value*> dropout_grad(Builder& b, const GradCall& c) {
  return {dropout_of(b, c, c.cotangent()), nullptr};
}

Inferred infer_embedding(InferContext& c) {
  const TensorType &ids = c.operand(0), &weight = c.operand(1);
  if (weight.rank() != 2) return call_error(c, "weight must be [number of ids, width]");
  TensorType y{weight.dtype, ids.shape};
  y.shape.push_back(weight.shape[1]);
  return std::vector<TensorType>{y};
}
std::vector<Value*> expand_embedding(Builder& b, const Call& c) {
  return {b.gather(c.operand(1), c.operand(0), 0)};
}

// --- samples ---

std::vector<Sample> statistic_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape shape = sample_shape_number(rng, i);
    int rank = static_cast<int>(shape.size());
    std::vector<int64_t> axes;
    if (i == 1)
      axes = {-1};
    else if (i % 4)
      for (int a = 0; a < rank; ++a)
        if (rng.range(0, 1)) axes.push_back(a);
    samples.push_back({.operands = {f32(shape)},
                       .attrs = {{"axes", Attr::ints(axes)}, {"keepdims", rng.range(0, 1) == 1}}});
  }
  return samples;
}
// var and std: some with the correction, some without; more than one element where there is one
std::vector<Sample> var_samples(SampleRng& rng) {
  auto samples = statistic_samples(rng);
  for (size_t i = 0; i < samples.size(); ++i) {
    int64_t n = 1;
    auto axes = samples[i].attrs["axes"].as_ints();
    const Shape& s = samples[i].operands[0].shape;
    for (size_t a = 0; a < s.size(); ++a)
      for (int64_t x : axes.empty() ? all_axes(static_cast<int>(s.size())) : axes)
        if (x == static_cast<int64_t>(a)) n *= s[a].constant();
    samples[i].attrs["correction"] = Attr(n > 1 && i % 2 ? 1.0 : 0.0);
  }
  return samples;
}
std::vector<Sample> std_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (Sample& s : var_samples(rng)) {
    bool wide = true;  // a deviation of 0 has a kink
    auto axes = s.attrs["axes"].as_ints();
    const Shape& shape = s.operands[0].shape;
    if (axes.empty()) axes = all_axes(static_cast<int>(shape.size()));
    int64_t n = 1;
    for (int64_t a : axes) n *= shape[a < 0 ? a + shape.size() : a].constant();
    wide = n != 1;
    if (!wide) s.operands[0].shape = {Dim(3), Dim(4)}, s.attrs["axes"] = Attr::ints({1});
    samples.push_back(s);
  }
  return samples;
}
std::vector<Sample> logsumexp_samples(SampleRng& rng) {
  auto samples = statistic_samples(rng);
  samples[1].operands[0].shape = {Dim(0), Dim(3)};
  return samples;
}
std::vector<Sample> softmax_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape shape = i == 0   ? Shape{Dim(5)}
                  : i == 1 ? Shape{Dim(0), Dim(3)}
                           : sample_shape(rng, rng.range(1, 4));
    int64_t rank = static_cast<int64_t>(shape.size());
    samples.push_back(
        {.operands = {f32(shape)}, .attrs = {{"axis", i == 1 ? 1 : rng.range(-rank, rank - 1)}}});
  }
  return samples;
}
std::vector<Sample> trailing_norm_samples(SampleRng& rng, int max_operands) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape shape = i == 1 ? Shape{Dim(0), Dim(3)} : sample_shape(rng, rng.range(1, 4));
    if (i != 1) shape.back() = Dim(rng.range(2, 5));
    int64_t axis = i == 1 ? 1 : rng.range(0, shape.size() - 1);
    Shape inner(shape.begin() + axis, shape.end());
    Sample s{.operands = {f32(shape)}, .attrs = {{"axis", axis}, {"eps", 0.01}}};
    for (int k = 1, n = static_cast<int>(rng.range(1, max_operands)); k < n; ++k)
      s.operands.push_back(f32(inner));
    samples.push_back(s);
  }
  return samples;
}
std::vector<Sample> layer_norm_samples(SampleRng& rng) { return trailing_norm_samples(rng, 3); }
std::vector<Sample> rms_norm_samples(SampleRng& rng) { return trailing_norm_samples(rng, 2); }
std::vector<Sample> group_norm_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    int64_t groups = rng.range(1, 3), c = groups * rng.range(1, 2);
    Shape shape = {Dim(i == 1 ? 0 : rng.range(1, 3)), Dim(c), Dim(rng.range(2, 4))};
    if (i % 2) shape.push_back(Dim(rng.range(1, 3)));
    Sample s{.operands = {f32(shape)}, .attrs = {{"groups", groups}, {"eps", 0.01}}};
    for (int k = 0; k < i % 3; ++k) s.operands.push_back(f32({Dim(c)}));
    samples.push_back(s);
  }
  return samples;
}
std::vector<Sample> batch_norm_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    bool training = i % 2 == 0;
    int64_t c = rng.range(1, 3);
    Shape shape = {Dim(i == 1 ? 0 : rng.range(2, 3)), Dim(c)};
    for (int64_t k = rng.range(0, 2); k > 0; --k) shape.push_back(Dim(rng.range(1, 3)));
    Sample s{.operands = {f32(shape), f32({Dim(c)}), f32({Dim(c)})},
             .attrs = {{"training", training}, {"eps", 0.01}},
             .lo = 0.2,
             .hi = 2};
    for (int k = 0; k < i % 3; ++k) s.operands.push_back(f32({Dim(c)}));
    samples.push_back(s);
  }
  return samples;
}
std::vector<Sample> dropout_samples(SampleRng& rng) {
  auto samples = unary_samples(rng);
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i].operands.push_back({DType::kU32, {Dim(4)}});
    samples[i].attrs["p"] = Attr(i == 3 ? 0.0 : i == 4 ? 1.0 : rng.uniform(0.1, 0.9));
    samples[i].int_hi = 0xffffffff;
  }
  return samples;
}
std::vector<Sample> embedding_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    int64_t n = rng.range(1, 5), d = rng.range(1, 4);
    Shape ids = i == 0 ? Shape{} : i == 1 ? Shape{Dim(0)} : sample_shape(rng, rng.range(1, 2));
    samples.push_back({.operands = {i32(ids), f32({Dim(n), Dim(d)})}, .int_hi = n - 1});
  }
  return samples;
}

}  // namespace

#define GC_AXES                                                                          \
  {"axes", AttrKind::kInts, "[]", "the axes to reduce; none given means all of them"}, { \
    "keepdims", AttrKind::kBool, "false", "whether the reduced axes stay, with size 1"   \
  }

const OpDef ops::mean{.name = "mean",
                      .doc = "The mean over axes.",
                      .operands = {{"x", kFloats}},
                      .attrs = {GC_AXES},
                      .infer = infer_reduction,
                      .expand = expand_mean,
                      .samples = statistic_samples};
const OpDef ops::var{
    .name = "var",
    .doc = "The variance over axes: the sum of squared deviations over n - correction.",
    .operands = {{"x", kFloats}},
    .attrs = {GC_AXES, {"correction", AttrKind::kFloat, "1.0", "1 is unbiased, 0 the plain mean"}},
    .infer = infer_reduction,
    .expand = expand_var,
    .grad = var_grad,
    .samples = var_samples};
const OpDef ops::std_{
    .name = "std",
    .doc = "The standard deviation over axes, the root of var. Where it is 0 the gradient is 0.",
    .operands = {{"x", kFloats}},
    .attrs = {GC_AXES, {"correction", AttrKind::kFloat, "1.0", "1 is unbiased, 0 the plain mean"}},
    .infer = infer_reduction,
    .expand = expand_std,
    .grad = std_grad,
    .samples = std_samples};
const OpDef ops::logsumexp{.name = "logsumexp",
                           .doc = "log(sum(exp(x))) over axes, without overflow.",
                           .operands = {{"x", kFloats}},
                           .attrs = {GC_AXES},
                           .infer = infer_nonempty_statistic,
                           .expand = expand_logsumexp,
                           .grad = logsumexp_grad,
                           .samples = logsumexp_samples};
#undef GC_AXES

const OpDef ops::softmax{.name = "softmax",
                         .doc = "exp(x) / sum(exp(x)) along an axis, without overflow.",
                         .operands = {{"x", kFloats}},
                         .attrs = {{"axis", AttrKind::kInt, "-1", "the axis that sums to 1"}},
                         .infer = infer_softmax,
                         .expand = expand_softmax,
                         .grad = softmax_grad,
                         .samples = softmax_samples};
const OpDef ops::log_softmax{
    .name = "log_softmax",
    .doc = "The logarithm of softmax, exact where softmax is near 0.",
    .operands = {{"x", kFloats}},
    .attrs = {{"axis", AttrKind::kInt, "-1", "the axis whose exponentials sum to 1"}},
    .infer = infer_softmax,
    .expand = expand_log_softmax,
    .grad = log_softmax_grad,
    .samples = softmax_samples};

const OpDef ops::layer_norm{
    .name = "layer_norm",
    .doc =
        "(x - mean) / sqrt(var + eps) over the axes from `axis` on, times weight plus bias. Ba, Kiros, "
        "Hinton 2016.",
    .operands = {{"x", kFloats}, {"weight", kFloats, Arity::kOptional}, {"bias", kFloats, Arity::kOptional}},
    .attrs = {{"axis", AttrKind::kInt, "-1", "the first of the normalised axes"},
              {"eps", AttrKind::kFloat, "1e-5", "added to the variance"}},
    .infer = infer_trailing_norm,
    .expand = expand_layer_norm,
    .grad = layer_norm_grad,
    .samples = layer_norm_samples};
const OpDef ops::rms_norm{
    .name = "rms_norm",
    .doc = "x / sqrt(mean(x^2) + eps) over the axes from `axis` on, times weight. Zhang, Sennrich 2019.",
    .operands = {{"x", kFloats}, {"weight", kFloats, Arity::kOptional}},
    .attrs = {{"axis", AttrKind::kInt, "-1", "the first of the normalised axes"},
              {"eps", AttrKind::kFloat, "1e-6", "added to the mean square"}},
    .infer = infer_trailing_norm,
    .expand = expand_rms_norm,
    .grad = rms_norm_grad,
    .samples = rms_norm_samples};
const OpDef ops::group_norm{
    .name = "group_norm",
    .doc =
        "Normalises x[N, C, ..] over groups of channels and all spatial axes, then weight and bias per "
        "channel. Wu, "
        "He 2018.",
    .operands = {{"x", kFloats}, {"weight", kFloats, Arity::kOptional}, {"bias", kFloats, Arity::kOptional}},
    .attrs = {{"groups", AttrKind::kInt, kRequired, "the number of groups"},
              {"eps", AttrKind::kFloat, "1e-5", "added to the variance"}},
    .infer = infer_group_norm,
    .expand = expand_group_norm,
    .samples = group_norm_samples};

const OpDef ops::batch_norm{
    .name = "batch_norm",
    .doc =
        "Normalises each channel of x[N, C, ..], then weight and bias per channel. training=false: with the "
        "given "
        "statistics. training=true: with those of the batch (biased variance), and two more results: the "
        "statistics moved towards the batch's by `momentum` (unbiased variance). Ioffe, Szegedy 2015.",
    .operands = {{"x", kFloats},
                 {"running_mean", kFloats},
                 {"running_var", kFloats},
                 {"weight", kFloats, Arity::kOptional},
                 {"bias", kFloats, Arity::kOptional}},
    .attrs = {{"training", AttrKind::kBool, "false", "whether to use the batch's statistics"},
              {"momentum", AttrKind::kFloat, "0.1", "weight of the batch in the remembered statistics"},
              {"eps", AttrKind::kFloat, "1e-5", "added to the variance"}},
    .infer = infer_batch_norm,
    .expand = expand_batch_norm,
    .grad = batch_norm_grad,
    .samples = batch_norm_samples};

const OpDef ops::dropout{.name = "dropout",
                         .doc =
                             "Sets each element to 0 with probability p and divides the others by 1 - p. "
                             "Which ones is a function of the "
                             "key and the index. Srivastava et al. 2014.",
                         .operands = {{"x", kFloats}, {"key", dtype_bit(DType::kU32)}},
                         .attrs = {{"p", AttrKind::kFloat, "0.5", "the probability of 0"}},
                         .infer = infer_dropout,
                         .expand = expand_dropout,
                         .grad = dropout_grad,
                         .samples = dropout_samples};

const OpDef ops::embedding{
    .name = "embedding",
    .doc = "The rows of weight[number, width] named by ids. An id out of range is an error.",
    .operands = {{"ids", dtype_bit(DType::kI32) | dtype_bit(DType::kI64)}, {"weight", kFloats}},
    .infer = infer_embedding,
    .expand = expand_embedding,
    .samples = embedding_samples};

}  // namespace graphc
