// Reductions over axes.
#include <cmath>
#include <limits>

#include "ir/ops/common.h"
#include "ir/ops/host.h"

namespace graphc {
namespace {

bool keepdims(const Attrs& a) { return a.find("keepdims")->second.as_bool(); }

Inferred infer_extremum(InferContext& c) {
  GC_TRY(std::vector<int64_t> axes, canonical_axes(c, "axes", c.operand(0).rank()));
  for (int64_t a : axes)
    if (c.operand(0).shape[a].is_constant(0))
      return call_error(c, "axis {} has size 0, and nothing has no {}", a, c.op.name);
  return std::vector<TensorType>{
      {c.operand(0).dtype, reduced_shape(c.operand(0).shape, axes, keepdims(c.attrs))}};
}

// Calls f(result index, operand index) in row-major order of the operand.
template <class F>
void for_each_reduced(const HostTensor& x, const std::vector<int64_t>& axes, F f) {
  std::vector<int64_t> kept, strides(x.shape.size(), 0);
  for (int64_t a : other_axes(x.rank(), axes)) kept.push_back(a);
  int64_t step = 1;
  for (size_t i = kept.size(); i-- > 0; step *= x.shape[kept[i]]) strides[kept[i]] = step;
  for_each_strided(x.shape, strides, 0, [&](int64_t k, int64_t at) { f(at, k); });
}

enum class Kind { kSum, kProd, kMax, kMin, kAll, kAny };

template <Kind kind>
Status eval_reduce(EvalContext& e) {
  const HostTensor& x = e.operand(0);
  HostTensor& y = e.results[0];
  auto axes = e.call.attr("axes").as_ints();
  constexpr bool extremum = kind == Kind::kMax || kind == Kind::kMin;
  if (extremum && x.size() == 0 && y.size() > 0)
    return invalid(
        fmt::format("{}: nothing to choose from in {} elements of a size-0 axis", e.call.op->name, x.size()));
  if (is_float(x.dtype)) {
    constexpr double inf = std::numeric_limits<double>::infinity();
    std::fill(y.f.begin(), y.f.end(),
              kind == Kind::kProd  ? 1.0
              : kind == Kind::kMax ? -inf
              : kind == Kind::kMin ? inf
                                   : 0.0);
    for_each_reduced(x, axes, [&](int64_t at, int64_t k) {
      double &a = y.f[at], v = x.f[k];
      if constexpr (kind == Kind::kSum) a += v;
      if constexpr (kind == Kind::kProd) a *= v;
      if constexpr (kind == Kind::kMax) a = std::isnan(a) || a >= v ? a : v;
      if constexpr (kind == Kind::kMin) a = std::isnan(a) || a <= v ? a : v;
    });
    return ok_status();
  }
  std::vector<bool> seen(extremum ? y.i.size() : 0, false);
  if (kind == Kind::kProd || kind == Kind::kAll) std::fill(y.i.begin(), y.i.end(), 1);
  bool is_u64 = x.dtype == DType::kU64;
  auto less = [&](int64_t a, int64_t b) {
    return is_u64 ? static_cast<uint64_t>(a) < static_cast<uint64_t>(b) : a < b;
  };
  for_each_reduced(x, axes, [&](int64_t at, int64_t k) {
    int64_t &a = y.i[at], v = x.i[k];
    if constexpr (kind == Kind::kSum) a = wrap_int(y.dtype, static_cast<int64_t>(uint64_t(a) + uint64_t(v)));
    if constexpr (kind == Kind::kProd) a = wrap_int(y.dtype, static_cast<int64_t>(uint64_t(a) * uint64_t(v)));
    if constexpr (kind == Kind::kAll) a = a && v;
    if constexpr (kind == Kind::kAny) a = a || v;
    if constexpr (extremum) {
      if (!seen[at] || (kind == Kind::kMax ? less(a, v) : less(v, a))) a = v;
      seen[at] = true;
    }
  });
  return ok_status();
}

std::vector<Value*> sum_grad(Builder& b, const GradCall& c) {
  const Shape& in = c.operand(0)->type.shape;
  return {b.expand(restore_axes(b, c.cotangent(), in, c.attr("axes").as_ints()), in)};
}

// The product of the others without dividing by 0: P = product of the nonzero elements; an element is P / x
// where there is no zero, P at the only zero, else 0.
std::vector<Value*> prod_grad(Builder& b, const GradCall& c) {
  Value* x = c.operand(0);
  auto axes = c.attr("axes").as_ints();
  Value* zero = b.full(0, x->type.dtype);
  Value* one = b.full(1, x->type.dtype);
  Value* is_zero = b.compare(ScalarOp::kEq, x, zero);
  Value* nonzero = b.where(is_zero, one, x);
  Value* p = axes.empty() ? nonzero
                          : b.create(ops::prod, {nonzero}, {{"axes", Attr::ints(axes)}, {"keepdims", true}});
  Value* zeros = b.sum(b.cast(is_zero, x->type.dtype), axes, true);
  Value* at_zero = b.where(b.compare(ScalarOp::kEq, zeros, one), p, zero);
  Value* elsewhere = b.where(b.compare(ScalarOp::kEq, zeros, zero), b.div(p, nonzero), zero);
  Value* others = b.where(is_zero, b.expand(at_zero, x->type.shape), elsewhere);
  return {b.mul(others, restore_axes(b, c.cotangent(), x->type.shape, axes))};
}

// The first of equals gets it: compare the position with that of argmax over the reduced axes as one.
std::vector<Value*> extremum_grad(Builder& b, const GradCall& c, bool largest) {
  Value* x = c.operand(0);
  auto axes = c.attr("axes").as_ints();
  if (axes.empty()) return {b.reshape(c.cotangent(), x->type.shape)};
  int rank = x->type.rank();
  std::vector<int64_t> perm = other_axes(rank, axes);
  int kept = static_cast<int>(perm.size());
  perm.insert(perm.end(), axes.begin(), axes.end());
  Value* t = b.transpose(x, perm);
  Shape turned = t->type.shape, flat(turned.begin(), turned.begin() + kept);
  Dim n(1);
  for (int i = kept; i < rank; ++i) n *= turned[i];
  flat.push_back(n);
  t = b.reshape(t, flat);
  Value* at = b.create(ops::argmax, {largest ? t : b.neg(t)}, {{"axis", kept}, {"keepdims", true}});
  Shape one(flat.begin(), flat.end() - 1);
  one.push_back(Dim(1));
  Value* dy = b.reshape(c.cotangent(), one);
  Value* dx = b.where(index_equals(b, flat, kept, at), dy, b.full(0, x->type.dtype));
  std::vector<int64_t> inverse(rank);
  for (int i = 0; i < rank; ++i) inverse[perm[i]] = i;
  return {b.transpose(b.reshape(dx, turned), inverse)};
}
std::vector<Value*> max_grad(Builder& b, const GradCall& c) { return extremum_grad(b, c, true); }
std::vector<Value*> min_grad(Builder& b, const GradCall& c) { return extremum_grad(b, c, false); }

Inferred infer_argmax(InferContext& c) {
  const TensorType& x = c.operand(0);
  GC_TRY(int axis, canonical_axis(c, "axis", x.rank()));
  if (x.shape[axis].is_constant(0))
    return call_error(c, "axis {} has size 0, and nothing has no maximum", axis);
  DType dtype = c.attrs.find("dtype")->second.as_dtype();
  if (dtype != DType::kI32 && dtype != DType::kI64)
    return call_error(c, "dtype={} must be i32 or i64", dtype_name(dtype));
  return std::vector<TensorType>{{dtype, reduced_shape(x.shape, {axis}, keepdims(c.attrs))}};
}

Status eval_argmax(EvalContext& e) {
  const HostTensor& x = e.operand(0);
  HostTensor& y = e.results[0];
  size_t axis = static_cast<size_t>(e.call.attr("axis").as_int());
  int64_t outer = product(x.shape, 0, axis), size = x.shape[axis], inner = product(x.shape, axis + 1);
  if (size == 0 && outer * inner > 0) return invalid("argmax: nothing to choose from along a size-0 axis");
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t j = 0; j < inner; ++j) {
      int64_t best = 0;
      for (int64_t k = 1; k < size; ++k) {
        int64_t at = (o * size + k) * inner + j, top = (o * size + best) * inner + j;
        bool better = is_float(x.dtype) ? !std::isnan(x.f[top]) && (std::isnan(x.f[at]) || x.f[at] > x.f[top])
                      : x.dtype == DType::kU64
                          ? static_cast<uint64_t>(x.i[at]) > static_cast<uint64_t>(x.i[top])
                          : x.i[at] > x.i[top];
        if (better) best = k;
      }
      y.i[o * inner + j] = best;
    }
  return ok_status();
}

// --- samples ---

std::vector<Sample> reduce_samples_of(SampleRng& rng, DType dtype, bool size_zero) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape shape = sample_shape_number(rng, i);
    if (i == 1 && !size_zero) shape = {Dim(0), Dim(3)};
    int rank = static_cast<int>(shape.size());
    std::vector<int64_t> axes;
    if (i == 1)
      axes = {1};
    else if (i % 4)
      for (int a = 0; a < rank; ++a)
        if (rng.range(0, 1)) axes.push_back(rng.range(0, 1) ? a : a - rank);
    samples.push_back({.operands = {{dtype, shape}},
                       .attrs = {{"axes", Attr::ints(axes)}, {"keepdims", rng.range(0, 1) == 1}}});
  }
  return samples;
}
std::vector<Sample> sum_samples(SampleRng& rng) { return reduce_samples_of(rng, DType::kF32, true); }
std::vector<Sample> extremum_samples(SampleRng& rng) { return reduce_samples_of(rng, DType::kF32, false); }
std::vector<Sample> bool_samples(SampleRng& rng) { return reduce_samples_of(rng, DType::kBool, true); }
std::vector<Sample> argmax_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape shape = i == 0   ? Shape{Dim(5)}
                  : i == 1 ? Shape{Dim(0), Dim(3)}
                           : sample_shape(rng, rng.range(1, 4));
    int64_t rank = static_cast<int64_t>(shape.size());
    samples.push_back({.operands = {f32(shape)},
                       .attrs = {{"axis", i == 1 ? int64_t{-1} : rng.range(-rank, rank - 1)},
                                 {"keepdims", rng.range(0, 1) == 1}}});
  }
  return samples;
}

}  // namespace

#define GC_REDUCE_ATTRS                                                                    \
  {                                                                                        \
    {"axes", AttrKind::kInts, "[]", "the axes to reduce; none given means all of them"}, { \
      "keepdims", AttrKind::kBool, "false", "whether the reduced axes stay, with size 1"   \
    }                                                                                      \
  }

const OpDef ops::sum{.name = "sum",
                     .doc = "The sum over axes; of nothing 0.",
                     .operands = {{"x", kNumbers}},
                     .attrs = GC_REDUCE_ATTRS,
                     .infer = infer_reduction,
                     .evaluate = eval_reduce<Kind::kSum>,
                     .grad = sum_grad,
                     .samples = sum_samples};
const OpDef ops::prod{.name = "prod",
                      .doc = "The product over axes; of nothing 1.",
                      .operands = {{"x", kNumbers}},
                      .attrs = GC_REDUCE_ATTRS,
                      .infer = infer_reduction,
                      .evaluate = eval_reduce<Kind::kProd>,
                      .grad = prod_grad,
                      .samples = sum_samples};
const OpDef ops::max{
    .name = "max",
    .doc =
        "The largest element over axes; NaN if one is. The first of equals gets the gradient. Two "
        "operands: maximum.",
    .operands = {{"x", kNumbers}},
    .attrs = GC_REDUCE_ATTRS,
    .infer = infer_extremum,
    .evaluate = eval_reduce<Kind::kMax>,
    .grad = max_grad,
    .samples = extremum_samples};
const OpDef ops::min{
    .name = "min",
    .doc =
        "The smallest element over axes; NaN if one is. The first of equals gets the gradient. Two "
        "operands: minimum.",
    .operands = {{"x", kNumbers}},
    .attrs = GC_REDUCE_ATTRS,
    .infer = infer_extremum,
    .evaluate = eval_reduce<Kind::kMin>,
    .grad = min_grad,
    .samples = extremum_samples};
const OpDef ops::all{.name = "all",
                     .doc = "Whether all elements over axes are true; of nothing true.",
                     .operands = {{"x", kBools}},
                     .attrs = GC_REDUCE_ATTRS,
                     .infer = infer_reduction,
                     .evaluate = eval_reduce<Kind::kAll>,
                     .no_gradient = true,
                     .samples = bool_samples};
const OpDef ops::any{.name = "any",
                     .doc = "Whether any element over axes is true; of nothing false.",
                     .operands = {{"x", kBools}},
                     .attrs = GC_REDUCE_ATTRS,
                     .infer = infer_reduction,
                     .evaluate = eval_reduce<Kind::kAny>,
                     .no_gradient = true,
                     .samples = bool_samples};
#undef GC_REDUCE_ATTRS

const OpDef ops::argmax{
    .name = "argmax",
    .doc = "The index of the largest element along an axis: the first of equals, or the first NaN.",
    .operands = {{"x", kNumbers}},
    .attrs = {{"axis", AttrKind::kInt, "-1", "the axis to search"},
              {"keepdims", AttrKind::kBool, "false", "whether the axis stays, with size 1"},
              {"dtype", AttrKind::kDType, "i32", "the dtype of the indices"}},
    .infer = infer_argmax,
    .evaluate = eval_argmax,
    .no_gradient = true,
    .samples = argmax_samples};

}  // namespace graphc
