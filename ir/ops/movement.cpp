// Data movement: constants, index maps, gather and scatter.
#include <algorithm>
#include <cstring>

#include "ir/ops/common.h"
#include "ir/ops/host.h"

namespace graphc {
namespace {

// Results are moved as 8-byte elements, whichever vector holds them.
int64_t* bits(HostTensor& t) {
  return is_float(t.dtype) ? reinterpret_cast<int64_t*>(t.f.data()) : t.i.data();
}
const int64_t* bits(const HostTensor& t) {
  return is_float(t.dtype) ? reinterpret_cast<const int64_t*>(t.f.data()) : t.i.data();
}

const Attr& attr(const InferContext& c, std::string_view name) { return c.attrs.find(name)->second; }

Status check_sizes(const InferContext& c, const Shape& shape) {
  for (const Dim& d : shape)
    if (d.is_constant() && d.constant() < 0)
      return call_error(c, "shape={} has a negative size", shape_to_string(shape));
  return ok_status();
}

// --- full, iota, size_of ---

Inferred infer_full(InferContext& c) {
  Shape shape = attr(c, "shape").as_dims();
  GC_CHECK(check_sizes(c, shape));
  DType dtype = attr(c, "dtype").as_dtype();
  Attr& v = c.attrs.find("value")->second;
  double d = v.is_bool() ? v.as_bool() : v.is_float() ? v.as_float() : static_cast<double>(v.as_int());
  if (is_float(dtype)) {
    v = Attr(d);
  } else if (dtype == DType::kBool) {
    if (d != 0 && d != 1) return call_error(c, "value={} isn't a bool", v.to_string());
    v = Attr(d != 0);
  } else {
    int64_t i = v.is_int() ? v.as_int() : double_to_int(dtype, d);
    if ((!v.is_int() && static_cast<double>(i) != d) || (dtype != DType::kU64 && wrap_int(dtype, i) != i))
      return call_error(c, "value={} can't be held by {}", v.to_string(), dtype_name(dtype));
    v = Attr(i);
  }
  return std::vector<TensorType>{{dtype, shape}};
}

Status eval_full(EvalContext& e) {
  const Attr& v = e.call.attr("value");
  HostTensor& y = e.results[0];
  std::fill(y.f.begin(), y.f.end(), v.is_float() ? v.as_float() : 0);
  std::fill(y.i.begin(), y.i.end(), v.is_bool() ? v.as_bool() : v.is_int() ? v.as_int() : 0);
  return ok_status();
}

Inferred infer_iota(InferContext& c) {
  Shape shape = attr(c, "shape").as_dims();
  GC_CHECK(check_sizes(c, shape));
  GC_TRY([[maybe_unused]] int axis, canonical_axis(c, "axis", static_cast<int>(shape.size())));
  DType dtype = attr(c, "dtype").as_dtype();
  if (dtype == DType::kBool) return call_error(c, "dtype=bool can't count");
  return std::vector<TensorType>{{dtype, shape}};
}

Status eval_iota(EvalContext& e) {
  HostTensor& y = e.results[0];
  size_t axis = static_cast<size_t>(e.call.attr("axis").as_int());
  int64_t size = y.shape[axis], inner = product(y.shape, axis + 1);
  for (int64_t k = 0, n = y.size(); k < n; ++k) {
    int64_t i = k / inner % size;
    y.set(k, {static_cast<double>(i), wrap_int(y.dtype, i)});
  }
  return ok_status();
}

Inferred infer_size_of(InferContext& c) {
  DType dtype = attr(c, "dtype").as_dtype();
  if (dtype == DType::kBool) return call_error(c, "dtype=bool can't hold a size");
  return std::vector<TensorType>{{dtype, {}}};
}

Status eval_size_of(EvalContext& e) {
  int64_t n = e.call.attr("dim").as_int();
  e.results[0].set(0, {static_cast<double>(n), n});
  return ok_status();
}

// --- expand, reshape, transpose ---

Inferred infer_expand(InferContext& c) {
  const Shape& in = c.operand(0).shape;
  Shape shape = attr(c, "shape").as_dims();
  if (shape.size() < in.size())
    return call_error(c, "shape={} has fewer axes than the operand", shape_to_string(shape));
  size_t offset = shape.size() - in.size();
  for (size_t i = 0; i < shape.size(); ++i) {
    bool keep = shape[i].is_constant(-1);
    if (keep && i < offset)
      return call_error(c, "-1 keeps a size, but axis {} of shape={} is new", i, shape_to_string(shape));
    if (keep) shape[i] = in[i - offset];
    if (i >= offset && shape[i] != in[i - offset] && !in[i - offset].is_constant(1))
      return call_error(c, "size {} can't become {} (axis {}): only a 1 repeats", in[i - offset].to_string(),
                        shape[i].to_string(), i);
  }
  GC_CHECK(check_sizes(c, shape));
  c.attrs.find("shape")->second = Attr::dims(shape);
  return std::vector<TensorType>{{c.operand(0).dtype, shape}};
}

Status eval_expand(EvalContext& e) {
  const HostTensor& x = e.operand(0);
  HostTensor& y = e.results[0];
  const int64_t* from = bits(x);
  int64_t* to = bits(y);
  for_each_strided(y.shape, broadcast_strides(x.shape, y.shape), 0,
                   [&](int64_t k, int64_t at) { to[k] = from[at]; });
  return ok_status();
}

std::vector<Value*> expand_grad(Builder& b, const GradCall& c) {
  return {b.sum_to(c.cotangent(), c.operand(0)->type.shape)};
}

Inferred infer_reshape(InferContext& c) {
  Shape shape = attr(c, "shape").as_dims();
  Dim total = c.operand(0).num_elements(), known(1);
  int inferred = -1;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i].is_constant(-1)) {
      if (inferred >= 0) return call_error(c, "shape={} has more than one -1", shape_to_string(shape));
      inferred = static_cast<int>(i);
    } else {
      known *= shape[i];
    }
  }
  if (inferred >= 0) {
    auto q = exact_quotient(total, known);
    if (!q)
      return call_error(c, "{} elements don't divide evenly into shape={}", total.to_string(),
                        shape_to_string(shape));
    shape[inferred] = *q;
  } else if (known != total) {
    return call_error(c, "{} elements can't be shape={}, which has {}", total.to_string(),
                      shape_to_string(shape), known.to_string());
  }
  GC_CHECK(check_sizes(c, shape));
  c.attrs.find("shape")->second = Attr::dims(shape);
  return std::vector<TensorType>{{c.operand(0).dtype, shape}};
}

Status eval_copy(EvalContext& e) {
  e.results[0].f = e.operand(0).f;
  e.results[0].i = e.operand(0).i;
  return ok_status();
}

std::vector<Value*> reshape_grad(Builder& b, const GradCall& c) {
  return {b.reshape(c.cotangent(), c.operand(0)->type.shape)};
}

Inferred infer_transpose(InferContext& c) {
  const TensorType& x = c.operand(0);
  GC_TRY(std::vector<int64_t> perm, constant_ints(c, "perm"));
  std::vector<bool> seen(x.rank(), false);
  bool good = static_cast<int>(perm.size()) == x.rank();
  for (int64_t& p : perm) {
    if (p < 0) p += x.rank();
    good = good && p >= 0 && p < x.rank() && !seen[p];
    if (good) seen[p] = true;
  }
  if (!good)
    return call_error(c, "perm={} must name each of the {} axes once", attr(c, "perm").to_string(), x.rank());
  Shape shape;
  for (int64_t p : perm) shape.push_back(x.shape[p]);
  c.attrs.find("perm")->second = Attr::ints(perm);
  return std::vector<TensorType>{{x.dtype, shape}};
}

Status eval_transpose(EvalContext& e) {
  const HostTensor& x = e.operand(0);
  HostTensor& y = e.results[0];
  auto own = strides_of(x.shape);
  std::vector<int64_t> strides;
  for (int64_t p : e.call.attr("perm").as_ints()) strides.push_back(own[p]);
  const int64_t* from = bits(x);
  int64_t* to = bits(y);
  for_each_strided(y.shape, strides, 0, [&](int64_t k, int64_t at) { to[k] = from[at]; });
  return ok_status();
}

std::vector<Value*> transpose_grad(Builder& b, const GradCall& c) {
  std::vector<int64_t> perm = c.attr("perm").as_ints(), inverse(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) inverse[perm[i]] = static_cast<int64_t>(i);
  return {b.transpose(c.cotangent(), inverse)};
}

// --- slice, pad, concat ---

Inferred infer_slice(InferContext& c) {
  const TensorType& x = c.operand(0);
  GC_TRY(int axis, canonical_axis(c, "axis", x.rank()));
  const Dim& size = x.shape[axis];
  Attr &start = c.attrs.find("start")->second, &stop = c.attrs.find("stop")->second;
  const Attr& step = attr(c, "step");
  if (!step.as_dim().is_constant() || step.as_int() < 1)
    return call_error(c, "step={} must be a constant of at least 1 (flip reverses an axis)",
                      step.to_string());
  for (Attr* a : {&start, &stop})
    if (a->as_dim().is_constant() && a->as_int() < 0) *a = Attr(size + a->as_dim());
  Dim from = start.as_dim(), to = stop.as_dim();
  auto outside = [&](const Dim& d) {
    return d.is_constant() && (d.constant() < 0 || (size.is_constant() && d.constant() > size.constant()));
  };
  if (outside(from) || outside(to))
    return call_error(c, "{}..{} leaves axis {}, which has size {}", from.to_string(), to.to_string(), axis,
                      size.to_string());
  Dim length = to - from;
  if (length.is_constant() && length.constant() < 0)
    return call_error(c, "start={} lies beyond stop={} (axis {} has size {})", from.to_string(),
                      to.to_string(), axis, size.to_string());
  TensorType y = x;
  y.shape[axis] = ceildiv(length, Dim(step.as_int()));
  return std::vector<TensorType>{y};
}

Status eval_slice(EvalContext& e) {
  const HostTensor& x = e.operand(0);
  HostTensor& y = e.results[0];
  size_t axis = static_cast<size_t>(e.call.attr("axis").as_int());
  int64_t start = e.call.attr("start").as_int(), stop = e.call.attr("stop").as_int();
  if (start < 0 || start > stop || stop > x.shape[axis])
    return invalid(
        fmt::format("slice: {}..{} leaves axis {}, which has size {}", start, stop, axis, x.shape[axis]));
  auto strides = strides_of(x.shape);
  int64_t base = start * strides[axis];
  strides[axis] *= e.call.attr("step").as_int();
  const int64_t* from = bits(x);
  int64_t* to = bits(y);
  for_each_strided(y.shape, strides, base, [&](int64_t k, int64_t at) { to[k] = from[at]; });
  return ok_status();
}

std::vector<Value*> slice_grad(Builder& b, const GradCall& c) {
  const Shape& in = c.operand(0)->type.shape;
  int64_t axis = c.attr("axis").as_int(), step = c.attr("step").as_int();
  Dim start = c.attr("start").as_dim(), n = c.types[0].shape[axis];
  if (n.is_constant(0)) return {b.full_like(0, c.operand(0))};
  std::vector<Dim> pads(2 * in.size(), Dim(0));
  std::vector<int64_t> interior(in.size(), 0);
  interior[axis] = step - 1;
  pads[2 * axis] = start;
  pads[2 * axis + 1] = step == 1 ? in[axis] - start - n : in[axis] - start - (n - 1) * Dim(step) - 1;
  return {b.pad(c.cotangent(), pads, 0, interior)};
}

Inferred infer_pad(InferContext& c) {
  const TensorType& x = c.operand(0);
  if (attr(c, "mode").as_string() != "constant")
    return call_error(c, "mode=\"{}\" isn't known; \"constant\" is", attr(c, "mode").as_string());
  Shape pads = attr(c, "pads").as_dims();
  size_t rank = x.shape.size();
  if (pads.size() != 2 * rank)
    return call_error(c, "pads={} must hold {} numbers: lo, hi axis by axis", attr(c, "pads").to_string(),
                      2 * rank);
  GC_TRY(std::vector<int64_t> interior, constant_ints(c, "interior"));
  if (interior.empty()) interior.assign(rank, 0);
  if (interior.size() != rank)
    return call_error(c, "interior={} must hold one number for each of the {} axes",
                      attr(c, "interior").to_string(), rank);
  TensorType y = x;
  for (size_t i = 0; i < rank; ++i) {
    if (interior[i] < 0) return call_error(c, "interior={} must not be negative", interior[i]);
    Dim spread = x.shape[i].is_constant(0) ? Dim(0) : x.shape[i] + (x.shape[i] - 1) * Dim(interior[i]);
    y.shape[i] = spread + pads[2 * i] + pads[2 * i + 1];
    if (y.shape[i].is_constant() && y.shape[i].constant() < 0)
      return call_error(c, "pads {} and {} cut more than axis {} has ({})", pads[2 * i].to_string(),
                        pads[2 * i + 1].to_string(), i, spread.to_string());
  }
  c.attrs.find("interior")->second = Attr::ints(interior);
  return std::vector<TensorType>{y};
}

Status eval_pad(EvalContext& e) {
  const HostTensor& x = e.operand(0);
  HostTensor& y = e.results[0];
  auto pads = e.call.attr("pads").as_ints(), interior = e.call.attr("interior").as_ints();
  double value = e.call.attr("value").as_float();
  for (int64_t k = 0, n = y.size(); k < n; ++k)
    y.set(k, {value, is_float(y.dtype) ? 0 : double_to_int(y.dtype, value)});
  auto strides = strides_of(y.shape);
  size_t rank = x.shape.size();
  std::vector<int64_t> index(rank, 0);
  for (int64_t k = 0, n = x.size(); k < n; ++k) {
    int64_t at = 0;
    bool inside = true;
    for (size_t a = 0; a < rank; ++a) {
      int64_t i = pads[2 * a] + index[a] * (interior[a] + 1);
      inside = inside && i >= 0 && i < y.shape[a];
      at += i * strides[a];
    }
    if (inside) y.set(at, x.get(k));
    for (size_t a = rank; a-- > 0;) {
      if (++index[a] < x.shape[a]) break;
      index[a] = 0;
    }
  }
  return ok_status();
}

// Cuts the pads off again, then takes every (interior + 1)-th element.
std::vector<Value*> pad_grad(Builder& b, const GradCall& c) {
  std::vector<Dim> pads = c.attr("pads").as_dims();
  std::vector<int64_t> interior = c.attr("interior").as_ints();
  for (const Dim& d : c.operand(0)->type.shape)
    if (d.is_constant(0)) return {b.full_like(0, c.operand(0))};
  for (Dim& p : pads) p = -p;
  Value* dx = b.pad(c.cotangent(), pads);
  for (size_t i = 0; i < interior.size(); ++i)
    if (interior[i] > 0) {
      Dim spread = dx->type.shape[i];
      dx = b.slice(dx, static_cast<int>(i), Dim(0), spread, interior[i] + 1);
      // ceildiv(d + (d-1) k, k+1) is d, which a symbolic size may not show: say so.
      if (dx->type.shape[i] != c.operand(0)->type.shape[i]) dx = b.reshape(dx, c.operand(0)->type.shape);
    }
  return {dx};
}

Inferred infer_concat(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  TensorType y = c.operand(0);
  GC_TRY(int axis, canonical_axis(c, "axis", y.rank()));
  for (int i = 1; i < c.num_operands(); ++i) {
    const TensorType& x = c.operand(i);
    if (x.rank() != y.rank())
      return call_error(c, "operands 0 and {} have ranks {} and {}", i, y.rank(), x.rank());
    for (int a = 0; a < y.rank(); ++a)
      if (a != axis && x.shape[a] != y.shape[a])
        return call_error(c, "operands 0 and {} differ at axis {} ({} and {}); only axis {} may differ", i, a,
                          y.shape[a].to_string(), x.shape[a].to_string(), axis);
    y.shape[axis] += x.shape[axis];
  }
  return std::vector<TensorType>{y};
}

Status eval_concat(EvalContext& e) {
  HostTensor& y = e.results[0];
  size_t axis = static_cast<size_t>(e.call.attr("axis").as_int());
  int64_t outer = product(y.shape, 0, axis), row = product(y.shape, axis), at = 0;
  for (const HostTensor* x : e.operands) {
    int64_t part = product(x->shape, axis);
    for (int64_t o = 0; o < outer && part; ++o)
      std::memcpy(bits(y) + o * row + at, bits(*x) + o * part, static_cast<size_t>(part) * 8);
    at += part;
  }
  return ok_status();
}

std::vector<Value*> concat_grad(Builder& b, const GradCall& c) {
  int axis = static_cast<int>(c.attr("axis").as_int());
  std::vector<Value*> grads;
  Dim at(0);
  for (Value* x : c.operands) {
    Dim end = at + x->type.shape[axis];
    grads.push_back(b.slice(c.cotangent(), axis, at, end));
    at = end;
  }
  return grads;
}

// --- gather, scatter_add ---

Shape gathered_shape(const Shape& table, const Shape& ids, int axis) {
  Shape s(table.begin(), table.begin() + axis);
  s.insert(s.end(), ids.begin(), ids.end());
  s.insert(s.end(), table.begin() + axis + 1, table.end());
  return s;
}

Inferred infer_gather(InferContext& c) {
  GC_TRY(int axis, canonical_axis(c, "axis", c.operand(0).rank()));
  return std::vector<TensorType>{
      {c.operand(0).dtype, gathered_shape(c.operand(0).shape, c.operand(1).shape, axis)}};
}

Status check_ids(std::string_view op, const HostTensor& ids, int64_t size) {
  for (int64_t id : ids.i)
    if (id < 0 || id >= size) return invalid(fmt::format("{}: index {} is outside 0..{}", op, id, size - 1));
  return ok_status();
}

Status eval_gather(EvalContext& e) {
  const HostTensor &table = e.operand(0), &ids = e.operand(1);
  size_t axis = static_cast<size_t>(e.call.attr("axis").as_int());
  int64_t outer = product(table.shape, 0, axis), size = table.shape[axis],
          inner = product(table.shape, axis + 1);
  if (outer * inner > 0) GC_CHECK(check_ids("gather", ids, size));
  int64_t n = ids.size();
  for (int64_t o = 0; o < outer && inner; ++o)
    for (int64_t k = 0; k < n; ++k)
      std::memcpy(bits(e.results[0]) + (o * n + k) * inner, bits(table) + (o * size + ids.i[k]) * inner,
                  static_cast<size_t>(inner) * 8);
  return ok_status();
}

std::vector<Value*> gather_grad(Builder& b, const GradCall& c) {
  Value* zeros = b.full_like(0, c.operand(0));
  return {b.create(ops::scatter_add, {zeros, c.operand(1), c.cotangent()}, {{"axis", c.attr("axis")}}),
          nullptr};
}

Inferred infer_scatter_add(InferContext& c) {
  const TensorType &x = c.operand(0), &index = c.operand(1), &src = c.operand(2);
  if (src.dtype != x.dtype)
    return call_error(c, "x and src have the dtypes {} and {}; cast one", dtype_name(x.dtype),
                      dtype_name(src.dtype));
  GC_TRY(int axis, canonical_axis(c, "axis", x.rank()));
  Shape wanted = gathered_shape(x.shape, index.shape, axis);
  if (src.shape != wanted)
    return call_error(c, "src must have the shape {} (x's with axis {} replaced by the index's), not {}",
                      shape_to_string(wanted), axis, shape_to_string(src.shape));
  return std::vector<TensorType>{x};
}

Status eval_scatter_add(EvalContext& e) {
  const HostTensor &x = e.operand(0), &ids = e.operand(1), &src = e.operand(2);
  HostTensor& y = e.results[0];
  y.f = x.f, y.i = x.i;
  size_t axis = static_cast<size_t>(e.call.attr("axis").as_int());
  int64_t outer = product(x.shape, 0, axis), size = x.shape[axis], inner = product(x.shape, axis + 1),
          n = ids.size();
  if (outer * inner > 0) GC_CHECK(check_ids("scatter_add", ids, size));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t k = 0; k < n; ++k)
      for (int64_t j = 0; j < inner; ++j) {
        int64_t to = (o * size + ids.i[k]) * inner + j, from = (o * n + k) * inner + j;
        if (is_float(y.dtype))
          y.f[to] += src.f[from];
        else
          y.i[to] = wrap_int(y.dtype, static_cast<int64_t>(static_cast<uint64_t>(y.i[to]) +
                                                           static_cast<uint64_t>(src.i[from])));
      }
  return ok_status();
}

std::vector<Value*> scatter_add_grad(Builder& b, const GradCall& c) {
  return {c.cotangent(), nullptr,
          b.gather(c.cotangent(), c.operand(1), static_cast<int>(c.attr("axis").as_int()))};
}

Expr identity_tree(std::span<const Expr> x, const Attrs&) { return x[0]; }

// --- samples ---

std::vector<Sample> shape_attr_samples(SampleRng& rng, Attrs attrs, bool axis) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Sample s;
    s.attrs = attrs;
    Shape shape = sample_shape_number(rng, i);
    if (axis && shape.empty()) shape = {Dim(3)};
    s.attrs["shape"] = Attr::dims(shape);
    if (axis) s.attrs["axis"] = Attr(rng.range(-static_cast<int64_t>(shape.size()), shape.size() - 1));
    samples.push_back(s);
  }
  return samples;
}
std::vector<Sample> full_samples(SampleRng& rng) {
  return shape_attr_samples(rng, {{"value", 1.5}, {"dtype", DType::kF32}}, false);
}
std::vector<Sample> iota_samples(SampleRng& rng) {
  return shape_attr_samples(rng, {{"dtype", DType::kF32}}, true);
}
std::vector<Sample> size_of_samples(SampleRng& rng) {
  std::vector<Sample> samples(kSampleCount);
  for (Sample& s : samples) s.attrs = {{"dim", rng.range(0, 1000)}};
  return samples;
}
std::vector<Sample> expand_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape shape = sample_shape_number(rng, i);
    samples.push_back(
        {.operands = {f32(sample_broadcast(rng, shape))}, .attrs = {{"shape", Attr::dims(shape)}}});
  }
  return samples;
}
std::vector<Sample> reshape_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape shape = sample_shape_number(rng, i), to;
    if (i == 1)
      to = {Dim(0), Dim(7)};
    else if (i % 2)
      to = {Dim(-1)};
    else
      to = Shape(shape.rbegin(), shape.rend());
    samples.push_back({.operands = {f32(shape)}, .attrs = {{"shape", Attr::dims(to)}}});
  }
  return samples;
}
std::vector<Sample> transpose_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape shape = sample_shape_number(rng, i);
    std::vector<int64_t> perm = all_axes(static_cast<int>(shape.size()));
    for (size_t k = perm.size(); k > 1; --k) std::swap(perm[k - 1], perm[rng.range(0, k - 1)]);
    samples.push_back({.operands = {f32(shape)}, .attrs = {{"perm", Attr::ints(perm)}}});
  }
  return samples;
}
std::vector<Sample> slice_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape shape = i == 0 ? Shape{Dim(5)} : sample_shape_number(rng, i);
    int64_t axis = rng.range(0, shape.size() - 1);
    if (i > 2) shape[axis] = Dim(rng.range(1, 7));
    int64_t n = shape[axis].constant(), start = rng.range(0, n), stop = rng.range(start, n);
    samples.push_back(
        {.operands = {f32(shape)},
         .attrs = {{"axis", axis}, {"start", start}, {"stop", stop}, {"step", rng.range(1, 3)}}});
  }
  return samples;
}
std::vector<Sample> pad_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape shape = sample_shape_number(rng, i);
    std::vector<int64_t> pads, interior;
    for (const Dim& d : shape) {
      pads.push_back(rng.range(d.constant() > 1 ? -1 : 0, 2));
      pads.push_back(rng.range(0, 2));
      interior.push_back(i % 3 == 0 ? rng.range(0, 2) : 0);
    }
    samples.push_back(
        {.operands = {f32(shape)},
         .attrs = {{"pads", Attr::ints(pads)}, {"interior", Attr::ints(interior)}, {"value", 0.5}}});
  }
  return samples;
}
std::vector<Sample> concat_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape shape = i == 0 ? Shape{Dim(2)} : sample_shape_number(rng, i);
    int64_t axis = rng.range(0, shape.size() - 1), n = rng.range(1, 4);
    Sample s{.attrs = {{"axis", axis}}};
    for (int64_t k = 0; k < n; ++k) {
      s.operands.push_back(f32(shape));
      s.operands.back().shape[axis] = Dim(rng.range(0, 3));
    }
    samples.push_back(s);
  }
  return samples;
}
std::vector<Sample> gather_like_samples(SampleRng& rng, bool scatter) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape shape = i == 0   ? Shape{Dim(4)}
                  : i == 1 ? Shape{Dim(3), Dim(0)}
                           : sample_shape(rng, rng.range(1, 3));
    Shape ids = i == 0 ? Shape{} : i == 2 ? Shape{Dim(0)} : sample_shape(rng, rng.range(0, 2));
    int64_t axis = i == 1 ? 0 : rng.range(0, shape.size() - 1);
    Sample s{.operands = {f32(shape), i32(ids)}, .attrs = {{"axis", axis}}};
    s.int_hi = shape[axis].constant() - 1;
    if (scatter) s.operands.push_back(f32(gathered_shape(shape, ids, static_cast<int>(axis))));
    samples.push_back(s);
  }
  return samples;
}
std::vector<Sample> gather_samples(SampleRng& rng) { return gather_like_samples(rng, false); }
std::vector<Sample> scatter_add_samples(SampleRng& rng) { return gather_like_samples(rng, true); }

}  // namespace

const OpDef ops::full{.name = "full",
                      .doc = "A tensor filled with one value.",
                      .attrs = {{"shape", AttrKind::kInts, kRequired, "the shape of the result"},
                                {"value", AttrKind::kNumber, kRequired, "the value of every element"},
                                {"dtype", AttrKind::kDType, "f32", "the dtype of the result"}},
                      .infer = infer_full,
                      .evaluate = eval_full,
                      .no_gradient = true,
                      .samples = full_samples};

const OpDef ops::iota{.name = "iota",
                      .doc = "0, 1, 2, .. along an axis, the same along the others.",
                      .attrs = {{"shape", AttrKind::kInts, kRequired, "the shape of the result"},
                                {"axis", AttrKind::kInt, "0", "the axis to count along"},
                                {"dtype", AttrKind::kDType, "i32", "the dtype of the result"}},
                      .infer = infer_iota,
                      .evaluate = eval_iota,
                      .no_gradient = true,
                      .samples = iota_samples};

const OpDef ops::size_of{.name = "size_of",
                         .doc = "A scalar that holds a size, which may be symbolic.",
                         .attrs = {{"dim", AttrKind::kInt, kRequired, "the size, e.g. N or 2*N+1"},
                                   {"dtype", AttrKind::kDType, "i64", "the dtype of the result"}},
                         .infer = infer_size_of,
                         .evaluate = eval_size_of,
                         .no_gradient = true,
                         .samples = size_of_samples};

const OpDef ops::expand{
    .name = "expand",
    .doc = "Repeats axes of size 1 (and adds leading axes) up to the given shape; -1 keeps a size.",
    .operands = {{"x"}},
    .attrs = {{"shape", AttrKind::kInts, kRequired, "the shape of the result"}},
    .infer = infer_expand,
    .evaluate = eval_expand,
    .grad = expand_grad,
    .samples = expand_samples};

const OpDef ops::reshape{
    .name = "reshape",
    .doc =
        "The same elements in the same order with another shape; one size may be -1, which is "
        "then inferred.",
    .operands = {{"x"}},
    .attrs = {{"shape", AttrKind::kInts, kRequired, "the shape of the result"}},
    .infer = infer_reshape,
    .evaluate = eval_copy,
    .grad = reshape_grad,
    .samples = reshape_samples};

const OpDef ops::transpose{.name = "transpose",
                           .doc = "Permutes the axes: axis i of the result is axis perm[i] of x.",
                           .operands = {{"x"}},
                           .attrs = {{"perm", AttrKind::kInts, kRequired, "each axis of x once"}},
                           .infer = infer_transpose,
                           .evaluate = eval_transpose,
                           .grad = transpose_grad,
                           .samples = transpose_samples};

const OpDef ops::slice{.name = "slice",
                       .doc =
                           "The elements start, start + step, .. below stop along one axis. Negative start "
                           "and stop count from the "
                           "end; leaving the axis is an error.",
                       .operands = {{"x"}},
                       .attrs = {{"axis", AttrKind::kInt, kRequired, "the axis to cut"},
                                 {"start", AttrKind::kInt, kRequired, "the first index"},
                                 {"stop", AttrKind::kInt, kRequired, "the index after the last"},
                                 {"step", AttrKind::kInt, "1", "every how many elements, at least 1"}},
                       .infer = infer_slice,
                       .evaluate = eval_slice,
                       .grad = slice_grad,
                       .samples = slice_samples};

const OpDef ops::pad{
    .name = "pad",
    .doc =
        "Surrounds x with a value; negative pads cut off. interior=k puts k values between neighbours along "
        "an "
        "axis.",
    .operands = {{"x"}},
    .attrs = {{"pads", AttrKind::kInts, kRequired, "lo0, hi0, lo1, hi1, .. for all axes"},
              {"mode", AttrKind::kString, "\"constant\"", "what to pad with"},
              {"value", AttrKind::kFloat, "0.0", "the value to pad with"},
              {"interior", AttrKind::kInts, "[]", "values between neighbours, axis by axis"}},
    .infer = infer_pad,
    .evaluate = eval_pad,
    .grad = pad_grad,
    .samples = pad_samples};

const OpDef ops::concat{.name = "concat",
                        .doc = "Joins tensors along an axis; the other sizes must agree.",
                        .operands = {{"xs", kAnyType, Arity::kVariadic}},
                        .attrs = {{"axis", AttrKind::kInt, "0", "the axis to join along"}},
                        .infer = infer_concat,
                        .evaluate = eval_concat,
                        .grad = concat_grad,
                        .samples = concat_samples};

const OpDef ops::gather{.name = "gather",
                        .doc =
                            "Takes slices of a table by index: the result's shape is the table's with `axis` "
                            "replaced by the shape of "
                            "ids. An index out of range is an error.",
                        .operands = {{"table"}, {"ids", dtype_bit(DType::kI32) | dtype_bit(DType::kI64)}},
                        .attrs = {{"axis", AttrKind::kInt, "0", "the axis of the table that ids index"}},
                        .infer = infer_gather,
                        .evaluate = eval_gather,
                        .grad = gather_grad,
                        .samples = gather_samples};

const OpDef ops::scatter_add{.name = "scatter_add",
                             .doc =
                                 "x with the slices of src added at the indices along an axis, in order; the "
                                 "converse of gather. src has the "
                                 "shape of gather(x, index, axis). An index out of range is an error.",
                             .operands = {{"x", kNumbers},
                                          {"index", dtype_bit(DType::kI32) | dtype_bit(DType::kI64)},
                                          {"src", kNumbers}},
                             .attrs = {{"axis", AttrKind::kInt, "0", "the axis of x that the indices mean"}},
                             .infer = infer_scatter_add,
                             .evaluate = eval_scatter_add,
                             .grad = scatter_add_grad,
                             .samples = scatter_add_samples};

const OpDef ops::stop_gradient{.name = "stop_gradient",
                               .doc = "x itself, through which no gradient passes.",
                               .operands = {{"x"}},
                               .infer = infer_same,
                               .scalar = identity_tree,
                               .no_gradient = true,
                               .samples = unary_samples};

}  // namespace graphc
