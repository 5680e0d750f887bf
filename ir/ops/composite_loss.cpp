// Losses and metrics. All are scalars: means over the batch (over all elements where there are no classes).
#include <limits>

#include "ir/ops/common.h"

namespace graphc {
namespace {

const Attr& attr(const InferContext& c, std::string_view name) { return c.attrs.find(name)->second; }
constexpr DTypeSet kIds = dtype_bit(DType::kI32) | dtype_bit(DType::kI64);

Inferred scalar_result(const InferContext& c) { return std::vector<TensorType>{{c.operand(0).dtype, {}}}; }

// --- cross_entropy, nll_loss ---

Shape without_axis(Shape s, int axis) {
  s.erase(s.begin() + axis);
  return s;
}

Inferred infer_class_loss(InferContext& c) {
  const TensorType &x = c.operand(0), &target = c.operand(1);
  std::string_view what = c.op.operands[0].name;
  GC_TRY(int axis, canonical_axis(c, "axis", x.rank()));
  if (x.shape[axis].is_constant(0)) return call_error(c, "there are no classes along axis {}", axis);
  if (is_float(target.dtype)) {
    if (!(target == x))
      return call_error(c, "as probabilities the target must be {} like the {}; as ids it must be i32 or i64",
                        x.to_string(), what);
  } else if (target.shape != without_axis(x.shape, axis)) {
    return call_error(c, "class ids must have the shape {}: that of the {} without the class axis {}",
                      shape_to_string(without_axis(x.shape, axis)), what, axis);
  }
  if (c.num_operands() > 2 && !(c.operand(2) == TensorType{x.dtype, {x.shape[axis]}}))
    return call_error(c, "weight must be {}, one for each class",
                      TensorType{x.dtype, {x.shape[axis]}}.to_string());
  if (c.op.find_attr("label_smoothing")) {
    double s = attr(c, "label_smoothing").as_float();
    if (!(s >= 0 && s <= 1)) return call_error(c, "label_smoothing={} must be in 0..1", s);
  }
  if (!attr(c, "ignore_index").as_dim().is_constant())
    return call_error(c, "ignore_index must be a constant");
  return scalar_result(c);
}

// What forward and backward share, for class ids. Row values have the logits' shape with the class axis 1.
struct Rows {
  Value* hit;     // bool, full shape: the class is the target
  Value* valid;   // bool rows: not ignored
  Value* weight;  // rows: the target's class weight, 0 where ignored
  Value* total;   // scalar: sum of weight
};

Rows class_rows(Builder& b, const Call& c) {
  Value *x = c.operand(0), *target = c.operand(1);
  DType dtype = x->type.dtype;
  int axis = static_cast<int>(c.attr("axis").as_int()), rank = x->type.rank();
  Value* ids = b.reshape(target, with_ones(x->type.shape, {axis}));
  Value* zero = b.full(0, dtype);
  Value* ignored = b.full(static_cast<double>(c.attr("ignore_index").as_int()), ids->type.dtype);
  Rows r;
  r.hit = index_equals(b, x->type.shape, axis, ids);
  r.valid = b.compare(ScalarOp::kNe, ids, ignored);
  if (has(c, 2)) {
    Value* w = b.sum(b.where(r.hit, along_axis(b, c.operand(2), axis, rank), zero), {axis}, true);
    r.weight = b.where(r.valid, w, zero);
  } else {
    r.weight = b.cast(r.valid, dtype);
  }
  r.total = b.sum(r.weight, all_axes(rank));
  return r;
}

// NaN for ids that are neither ignored nor a class: a wrong label must not pass as a right answer.
Value* poison(Builder& b, const Call& c, Value* rows) {
  Value* x = c.operand(0);
  int axis = static_cast<int>(c.attr("axis").as_int());
  Value* ids = b.reshape(c.operand(1), rows->type.shape);
  Value* n = b.dim_value(x->type.shape[axis], ids->type.dtype);
  Value* inside = b.scalar(ScalarOp::kAnd, {b.compare(ScalarOp::kGe, ids, b.full(0, ids->type.dtype)),
                                            b.compare(ScalarOp::kLt, ids, n)});
  return b.where(inside, rows, b.full(std::numeric_limits<double>::quiet_NaN(), x->type.dtype));
}

Value* log_probabilities(Builder& b, const Call& c) {
  Value* x = c.operand(0);
  int64_t axis = c.attr("axis").as_int();
  Value* d = b.sub(x, b.max(x, {axis}, true));
  return b.sub(d, b.log(b.sum(b.exp(d), {axis}, true)));
}

double smoothing(const Call& c) {
  auto it = c.attrs.find("label_smoothing");
  return it == c.attrs.end() ? 0 : it->second.as_float();
}

Value* class_weights(Builder& b, const Call& c) {
  return has(c, 2) ? along_axis(b, c.operand(2), static_cast<int>(c.attr("axis").as_int()),
                                c.operand(0)->type.rank())
                   : nullptr;
}

// target (1 - s) + s / C
Value* smoothed(Builder& b, const Call& c) {
  Value* q = c.operand(1);
  double s = smoothing(c);
  if (s == 0) return q;
  Value* classes = b.dim_value(q->type.shape[c.attr("axis").as_int()], q->type.dtype);
  return b.add(b.mul(q, 1 - s), b.div(b.full(s, q->type.dtype), classes));
}

// The same times the class weights.
Value* soft_target(Builder& b, const Call& c) {
  Value *q = smoothed(b, c), *w = class_weights(b, c);
  return w ? b.mul(q, w) : q;
}

Value* batch_size(Builder& b, const Call& c) {
  Value* x = c.operand(0);
  return b.count(x, other_axes(x->type.rank(), {c.attr("axis").as_int()}), x->type.dtype);
}

std::vector<Value*> class_loss(Builder& b, const Call& c, Value* logp) {
  int64_t axis = c.attr("axis").as_int();
  auto everything = all_axes(logp->type.rank());
  DType dtype = logp->type.dtype;
  if (is_float(c.operand(1)->type.dtype))
    return {b.div(b.neg(b.sum(b.mul(soft_target(b, c), logp), everything)), batch_size(b, c))};
  Rows r = class_rows(b, c);
  double s = smoothing(c);
  Value* zero = b.full(0, dtype);
  Value* row = b.mul(b.neg(b.sum(b.where(r.hit, logp, zero), {axis}, true)), r.weight);
  if (s > 0) {
    Value* w = class_weights(b, c);
    Value* others = b.neg(b.sum(w ? b.mul(logp, w) : logp, {axis}, true));
    Value* factor = b.div(b.full(s, dtype), b.dim_value(logp->type.shape[axis], dtype));
    row = b.add(b.mul(row, 1 - s), b.mul(others, factor));
  }
  row = b.where(r.valid, poison(b, c, row), zero);
  return {b.div(b.sum(row, everything), r.total)};
}
std::vector<Value*> expand_cross_entropy(Builder& b, const Call& c) {
  return class_loss(b, c, log_probabilities(b, c));
}
std::vector<Value*> expand_nll_loss(Builder& b, const Call& c) { return class_loss(b, c, c.operand(0)); }

// softmax - target, weighted: no reduction beyond those of the forward.
std::vector<Value*> cross_entropy_grad(Builder& b, const GradCall& c) {
  std::vector<Value*> grads(c.operands.size(), nullptr);
  int64_t axis = c.attr("axis").as_int();
  Value *logp = log_probabilities(b, c), *p = b.exp(logp), *dy = c.cotangent();
  DType dtype = logp->type.dtype;
  double s = smoothing(c);
  Value* w = class_weights(b, c);
  if (is_float(c.operand(1)->type.dtype)) {
    Value *q = soft_target(b, c), *scale = b.div(dy, batch_size(b, c));
    grads[0] = b.mul(b.sub(b.mul(p, b.sum(q, {axis}, true)), q), scale);
    Value* dq = b.mul(logp, b.mul(scale, s - 1));
    grads[1] = w ? b.mul(dq, w) : dq;
    if (w) {
      grads[2] =
          b.sum(b.mul(b.mul(smoothed(b, c), logp), b.neg(scale)), other_axes(logp->type.rank(), {axis}));
    }
    return grads;
  }
  Rows r = class_rows(b, c);
  Value* scale = b.div(dy, r.total);
  Value* row = b.mul(r.weight, s > 0 ? b.mul(scale, 1 - s) : scale);
  grads[0] = b.mul(b.sub(p, b.cast(r.hit, dtype)), row);
  if (s > 0) {
    Value* factor = b.mul(scale, b.div(b.full(s, dtype), b.dim_value(logp->type.shape[axis], dtype)));
    Value* spread = w ? b.sub(b.mul(p, b.sum(w, {axis}, true)), w)
                      : b.sub(b.mul(p, b.dim_value(logp->type.shape[axis], dtype)), 1);
    grads[0] = b.add(grads[0], b.where(r.valid, b.mul(spread, factor), b.full(0, dtype)));
  }
  // d loss / d weight[k] = (sum over rows of class k of (1 - s) (-logp) - loss, and of all rows' s / C
  // (-logp)) / total
  if (w) {
    Value* hit = b.where(r.hit, b.sub(b.mul(logp, s - 1), c.results[0]), b.full(0, dtype));
    if (s > 0) {
      Value* share = b.div(b.full(s, dtype), b.dim_value(logp->type.shape[axis], dtype));
      hit = b.sub(hit, b.mul(logp, share));
    }
    hit = b.mul(b.where(r.valid, hit, b.full(0, dtype)), scale);
    grads[2] = b.sum(hit, other_axes(logp->type.rank(), {axis}));
  }
  return grads;
}

// --- elementwise losses ---

Inferred infer_pairwise(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  if (c.operand(0).shape != c.operand(1).shape)
    return call_error(c, "{} and {} must have one shape", c.op.operands[0].name, c.op.operands[1].name);
  return scalar_result(c);
}

using PairTree = Expr (*)(const Expr&, const Expr&, const Attrs&);
template <PairTree tree>
std::vector<Value*> expand_pairwise(Builder& b, const Call& c) {
  Value* x = c.operand(0);
  DType t = x->type.dtype;
  Value* e = b.from_expr(tree(Expr::arg(0, t), Expr::arg(1, t), c.attrs), {x, c.operand(1)});
  return {b.mean(e, all_axes(x->type.rank()))};
}

double number(const Attrs& a, std::string_view name) { return a.find(name)->second.as_float(); }
Expr mse_tree(const Expr& x, const Expr& y, const Attrs&) {
  Expr d = x - y;
  return d * d;
}
Expr l1_tree(const Expr& x, const Expr& y, const Attrs&) { return abs(x - y); }
Expr huber_tree(const Expr& x, const Expr& y, const Attrs& a) {
  double delta = number(a, "delta");
  Expr d = abs(x - y);
  return select(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta));
}
Expr smooth_l1_tree(const Expr& x, const Expr& y, const Attrs& a) {
  double beta = number(a, "beta");
  Expr d = abs(x - y);
  if (beta == 0) return d;
  return select(d < beta, d * d * (0.5 / beta), d - 0.5 * beta);
}
// The logarithms are limited to -100, as PyTorch's are.
Expr bce_tree(const Expr& p, const Expr& y, const Attrs&) {
  return -(y * maximum(log(p), -100.0) + (1.0 - y) * maximum(log1p(-p), -100.0));
}
// max(x, 0) - x y + log(1 + exp(-|x|))
Expr bce_with_logits_tree(const Expr& x, const Expr& y, const Attrs&) {
  return maximum(0.0, x) - x * y + log1p(exp(-abs(x)));
}

Inferred infer_positive(InferContext& c) {
  const AttrDef& a = c.op.attrs[0];
  double v = attr(c, a.name).as_float();
  if (!(v >= 0) || (v == 0 && a.name == "delta")) return call_error(c, "{}={} must be positive", a.name, v);
  return infer_pairwise(c);
}

// (sigmoid(x) - y) / n; the tree's derivative would miss x = 0, where |x| has a kink.
std::vector<Value*> bce_with_logits_grad(Builder& b, const GradCall& c) {
  Value *x = c.operand(0), *y = c.operand(1);
  Value* scale = b.div(c.cotangent(), b.count(x, all_axes(x->type.rank()), x->type.dtype));
  Value* p = b.create(ops::sigmoid, {x});
  return {b.mul(b.sub(p, y), scale), b.mul(b.neg(x), scale)};
}

// --- metrics ---

Inferred infer_accuracy(InferContext& c) {
  const TensorType& x = c.operand(0);
  GC_TRY(int axis, canonical_axis(c, "axis", x.rank()));
  if (c.operand(1).shape != without_axis(x.shape, axis))
    return call_error(c, "class ids must have the shape {}: that of the logits without the class axis {}",
                      shape_to_string(without_axis(x.shape, axis)), axis);
  if (x.shape[axis].is_constant(0)) return call_error(c, "there are no classes along axis {}", axis);
  if (c.op.find_attr("k")) {
    const Attr& k = attr(c, "k");
    if (!k.as_dim().is_constant() || k.as_int() < 1)
      return call_error(c, "k={} must be at least 1", k.to_string());
  }
  return std::vector<TensorType>{{DType::kF32, {}}};
}

std::vector<Value*> expand_accuracy(Builder& b, const Call& c) {
  Value* target = c.operand(1);
  Value* best =
      b.create(ops::argmax, {c.operand(0)}, {{"axis", c.attr("axis")}, {"dtype", target->type.dtype}});
  Value* right = b.cast(b.compare(ScalarOp::kEq, best, target), DType::kF32);
  return {b.mean(right, all_axes(right->type.rank()))};
}

// The target is among the k best if fewer than k classes are ahead of it (larger, or equal and earlier).
std::vector<Value*> expand_top_k_accuracy(Builder& b, const Call& c) {
  Value* x = c.operand(0);
  int axis = static_cast<int>(c.attr("axis").as_int()), rank = x->type.rank();
  Value* ids = b.reshape(c.operand(1), with_ones(x->type.shape, {axis}));
  Value* hit = index_equals(b, x->type.shape, axis, ids);
  Value* own = b.sum(b.where(hit, x, b.full(0, x->type.dtype)), {axis}, true);
  Value* earlier = b.compare(ScalarOp::kLt, b.iota(x->type.shape, axis, ids->type.dtype), ids);
  Value* ahead =
      b.scalar(ScalarOp::kOr, {b.compare(ScalarOp::kGt, x, own),
                               b.scalar(ScalarOp::kAnd, {b.compare(ScalarOp::kEq, x, own), earlier})});
  Value* place = b.sum(b.cast(ahead, DType::kI32), {axis}, true);
  Value* found = b.sum(b.cast(hit, DType::kI32), {axis}, true);
  Value* right = b.scalar(
      ScalarOp::kAnd,
      {b.compare(ScalarOp::kLt, place, b.full(static_cast<double>(c.attr("k").as_int()), DType::kI32)),
       b.compare(ScalarOp::kGt, found, b.full(0, DType::kI32))});
  return {b.mean(b.cast(right, DType::kF32), all_axes(rank))};
}

// --- samples ---

std::vector<Sample> class_samples(SampleRng& rng, bool losses) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape shape = i == 0 ? Shape{Dim(4)} : sample_shape(rng, rng.range(1, 3));
    int64_t rank = static_cast<int64_t>(shape.size()), axis = rng.range(0, rank - 1),
            n = shape[axis].constant();
    if (i == 1 && !losses) shape = {Dim(0), Dim(3)}, axis = 1, n = 3;
    Sample s{.operands = {f32(shape)}, .attrs = {{"axis", axis}}, .int_lo = 0, .int_hi = n - 1};
    bool soft = losses && i % 4 == 3;
    s.operands.push_back(soft ? f32(shape) : i32(without_axis(shape, static_cast<int>(axis))));
    if (i % 2) s.operands[1].dtype = soft ? DType::kF32 : DType::kI64;
    if (soft) s.lo = 0.1, s.hi = 2;
    if (losses && i % 3 == 0) s.operands.push_back(f32({Dim(n)})), s.lo = 0.1, s.hi = 2;
    samples.push_back(s);
  }
  return samples;
}
std::vector<Sample> cross_entropy_samples(SampleRng& rng) {
  auto samples = class_samples(rng, true);
  for (size_t i = 0; i < samples.size(); ++i) {
    if (i % 5 == 2) samples[i].attrs["label_smoothing"] = Attr(0.1);
    if (i % 6 == 4 && samples[i].operands[0].shape[0].constant() > 1)
      samples[i].int_lo = -1, samples[i].attrs["ignore_index"] = Attr(-1);
  }
  return samples;
}
std::vector<Sample> nll_loss_samples(SampleRng& rng) {
  auto samples = class_samples(rng, true);
  std::vector<Sample> ids;
  for (Sample& s : samples) {
    if (is_float(s.operands[1].dtype))
      s.operands[1] = i32(without_axis(s.operands[0].shape, static_cast<int>(s.attrs["axis"].as_int())));
    ids.push_back(s);
  }
  return ids;
}
std::vector<Sample> accuracy_samples(SampleRng& rng) { return class_samples(rng, false); }
std::vector<Sample> top_k_samples(SampleRng& rng) {
  auto samples = class_samples(rng, false);
  for (Sample& s : samples) s.attrs["k"] = Attr(rng.range(1, 3));
  return samples;
}
// Pairs of one shape; a mean of nothing is NaN, so size 0 is left to mean's own samples.
std::vector<Sample> pairs(SampleRng& rng, double lo, double hi) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape s = sample_shape_number(rng, i == 1 ? 3 : i);
    samples.push_back({.operands = {f32(s), f32(s)}, .lo = lo, .hi = hi});
  }
  return samples;
}
std::vector<Sample> pair_samples(SampleRng& rng) { return pairs(rng, -2, 2); }
std::vector<Sample> probability_samples(SampleRng& rng) { return pairs(rng, 0.05, 0.95); }

}  // namespace

const OpDef ops::cross_entropy{
    .name = "cross_entropy",
    .doc =
        "-log softmax(logits)[target], averaged over the batch as PyTorch does: over targets that aren't "
        "ignore_index, weighted by their class. The target holds class ids, or probabilities with the "
        "logits' shape. "
        "An id that is no class makes the loss NaN.",
    .operands = {{"logits", kFloats}, {"target", kIds | kFloats}, {"weight", kFloats, Arity::kOptional}},
    .attrs = {{"axis", AttrKind::kInt, "-1", "the axis of the classes"},
              {"label_smoothing", AttrKind::kFloat, "0.0", "the share given to all classes alike"},
              {"ignore_index", AttrKind::kInt, "-100", "the id of targets to leave out"}},
    .infer = infer_class_loss,
    .expand = expand_cross_entropy,
    .grad = cross_entropy_grad,
    .samples = cross_entropy_samples};

const OpDef ops::nll_loss{
    .name = "nll_loss",
    .doc = "-logp[target] averaged over the batch: cross_entropy of logarithms of probabilities.",
    .operands = {{"logp", kFloats}, {"target", kIds}, {"weight", kFloats, Arity::kOptional}},
    .attrs = {{"axis", AttrKind::kInt, "-1", "the axis of the classes"},
              {"ignore_index", AttrKind::kInt, "-100", "the id of targets to leave out"}},
    .infer = infer_class_loss,
    .expand = expand_nll_loss,
    .samples = nll_loss_samples};

#define GC_PAIR_LOSS(id, text, tree, samples_, summary)             \
  const OpDef ops::id{.name = text,                                 \
                      .doc = summary,                               \
                      .operands = {{"x", kFloats}, {"y", kFloats}}, \
                      .infer = infer_pairwise,                      \
                      .expand = expand_pairwise<tree>,              \
                      .samples = samples_};
GC_PAIR_LOSS(mse, "mse", mse_tree, pair_samples, "The mean of (x - y)^2 over all elements.")
GC_PAIR_LOSS(l1, "l1", l1_tree, pair_samples, "The mean of |x - y| over all elements, as a loss.")
GC_PAIR_LOSS(mae, "mae", l1_tree, pair_samples, "The mean of |x - y| over all elements, as a metric.")
GC_PAIR_LOSS(
    bce, "bce", bce_tree, probability_samples,
    "Binary cross-entropy of probabilities x with targets y, averaged over all elements; logarithms are "
    "limited to -100.")
#undef GC_PAIR_LOSS

const OpDef ops::huber{
    .name = "huber",
    .doc = "The mean of d^2/2 where d = |x - y| <= delta, else delta (d - delta/2). Huber 1964.",
    .operands = {{"x", kFloats}, {"y", kFloats}},
    .attrs = {{"delta", AttrKind::kFloat, "1.0", "where it becomes linear"}},
    .infer = infer_positive,
    .expand = expand_pairwise<huber_tree>,
    .samples = pair_samples};
const OpDef ops::smooth_l1{.name = "smooth_l1",
                           .doc = "The mean of d^2 / (2 beta) where d = |x - y| < beta, else d - beta/2.",
                           .operands = {{"x", kFloats}, {"y", kFloats}},
                           .attrs = {{"beta", AttrKind::kFloat, "1.0", "where it becomes linear"}},
                           .infer = infer_positive,
                           .expand = expand_pairwise<smooth_l1_tree>,
                           .samples = pair_samples};
const OpDef ops::bce_with_logits{
    .name = "bce_with_logits",
    .doc =
        "Binary cross-entropy of sigmoid(x) with targets y, without overflow: the mean of max(x, 0) - x y + "
        "log(1 + exp(-|x|)).",
    .operands = {{"x", kFloats}, {"y", kFloats}},
    .infer = infer_pairwise,
    .expand = expand_pairwise<bce_with_logits_tree>,
    .grad = bce_with_logits_grad,
    .samples = pair_samples};

const OpDef ops::accuracy{
    .name = "accuracy",
    .doc =
        "The share of rows whose largest logit is at the target's class; of equals the first "
        "counts.",
    .operands = {{"logits", kFloats}, {"target", kIds}},
    .attrs = {{"axis", AttrKind::kInt, "-1", "the axis of the classes"}},
    .infer = infer_accuracy,
    .expand = expand_accuracy,
    .no_gradient = true,
    .samples = accuracy_samples};
const OpDef ops::top_k_accuracy{.name = "top_k_accuracy",
                                .doc = "The share of rows whose target is among the k largest logits.",
                                .operands = {{"logits", kFloats}, {"target", kIds}},
                                .attrs = {{"k", AttrKind::kInt, kRequired, "how many places count"},
                                          {"axis", AttrKind::kInt, "-1", "the axis of the classes"}},
                                .infer = infer_accuracy,
                                .expand = expand_top_k_accuracy,
                                .no_gradient = true,
                                .samples = top_k_samples};

}  // namespace graphc
