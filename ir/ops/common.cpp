#include "ir/ops/common.h"

#include <algorithm>

namespace graphc {

std::string call_text(const InferContext& c) {
  std::string s(c.op.name);
  s += "(";
  for (int i = 0; i < c.num_operands(); ++i) s += (i ? ", " : "") + c.operand(i).to_string();
  return s + ")";
}

Status check_same_dtype(const InferContext& c, int first, int last) {
  if (last < 0) last = c.num_operands() - 1;
  for (int i = first + 1; i <= last; ++i) {
    DType a = c.operand(first).dtype, b = c.operand(i).dtype;
    if (a == b) continue;
    return call_error(
        c, "dtypes {} and {} differ and nothing is promoted implicitly; cast one, e.g. cast(.., {})",
        dtype_name(a), dtype_name(b), dtype_name(is_float(b) && !is_float(a) ? b : a));
  }
  return ok_status();
}

namespace {

Result<Shape> broadcast_operands(const InferContext& c) {
  Shape shape = c.num_operands() ? c.operand(0).shape : Shape{};
  for (int i = 1; i < c.num_operands(); ++i) {
    auto s = broadcast_shapes(shape, c.operand(i).shape);
    if (!s.ok()) return call_error(c, "{}", s.error().message);
    shape = *s;
  }
  return shape;
}

}  // namespace

Inferred infer_elementwise(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  GC_TRY(Shape shape, broadcast_operands(c));
  return std::vector<TensorType>{{c.operand(0).dtype, std::move(shape)}};
}

Inferred infer_comparison(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  GC_TRY(Shape shape, broadcast_operands(c));
  return std::vector<TensorType>{{DType::kBool, std::move(shape)}};
}

Inferred infer_same(InferContext& c) { return std::vector<TensorType>{c.operand(0)}; }

namespace {

Result<int64_t> one_axis(const InferContext& c, std::string_view name, const Attr& a, int rank) {
  if (!a.as_dim().is_constant())
    return call_error(c, "'{}' must be a constant, got {}", name, a.as_dim().to_string());
  int64_t axis = a.as_int();
  if (axis < -rank || axis >= rank) {
    if (rank == 0) return call_error(c, "{}={} names an axis, but a scalar has none", name, axis);
    return call_error(c, "{}={} is outside {}..{}, the axes of rank {}", name, axis, -rank, rank - 1, rank);
  }
  return axis < 0 ? axis + rank : axis;
}

}  // namespace

Result<int> canonical_axis(InferContext& c, std::string_view name, int rank) {
  Attr& a = c.attrs.find(name)->second;
  GC_TRY(int64_t axis, one_axis(c, name, a, rank));
  a = Attr(axis);
  return static_cast<int>(axis);
}

Result<std::vector<int64_t>> canonical_axes(InferContext& c, std::string_view name, int rank) {
  Attr& a = c.attrs.find(name)->second;
  std::vector<int64_t> axes;
  for (const Attr& x : a.as_list()) {
    GC_TRY(int64_t axis, one_axis(c, name, x, rank));
    axes.push_back(axis);
  }
  if (axes.empty()) axes = all_axes(rank);
  std::sort(axes.begin(), axes.end());
  if (auto twice = std::adjacent_find(axes.begin(), axes.end()); twice != axes.end())
    return call_error(c, "{}={} names axis {} twice", name, a.to_string(), *twice);
  a = Attr::ints(axes);
  return axes;
}

Result<std::vector<int64_t>> constant_ints(const InferContext& c, std::string_view name) {
  const Attr& a = c.attrs.find(name)->second;
  std::vector<int64_t> out;
  for (const Attr& x : a.as_list()) {
    if (!x.as_dim().is_constant())
      return call_error(c, "'{}' must hold constants, got {}", name, x.as_dim().to_string());
    out.push_back(x.as_int());
  }
  return out;
}

Result<std::vector<int64_t>> canonical_repeated(InferContext& c, std::string_view name, int n,
                                                int64_t least) {
  GC_TRY(std::vector<int64_t> v, constant_ints(c, name));
  if (v.size() == 1) v.assign(n, v[0]);
  if (static_cast<int>(v.size()) != n)
    return call_error(c, "{}={} must be one number or {}, one for each spatial axis", name,
                      c.attrs.find(name)->second.to_string(), n);
  for (int64_t x : v)
    if (x < least) return call_error(c, "{}={} must be at least {}", name, x, least);
  c.attrs.find(name)->second = Attr::ints(v);
  return v;
}

Result<std::vector<int64_t>> canonical_pads(InferContext& c, std::string_view name, int n) {
  GC_TRY(std::vector<int64_t> v, constant_ints(c, name));
  if (v.size() == 1) v.assign(2 * n, v[0]);
  if (static_cast<int>(v.size()) == n && n > 0) {
    std::vector<int64_t> both;
    for (int64_t x : v) both.insert(both.end(), {x, x});
    v = both;
  }
  if (static_cast<int>(v.size()) != 2 * n)
    return call_error(c,
                      "{}={} must be one number, {} (one for each spatial axis) or {} (lo, hi axis by axis)",
                      name, c.attrs.find(name)->second.to_string(), n, 2 * n);
  for (int64_t x : v)
    if (x < 0) return call_error(c, "{}={} must not be negative", name, x);
  c.attrs.find(name)->second = Attr::ints(v);
  return v;
}

Result<Dim> window_extent(const InferContext& c, int axis, const Dim& in, int64_t size, int64_t stride,
                          int64_t lo, int64_t hi, int64_t dilation) {
  int64_t span = dilation * (size - 1) + 1;
  Dim room = in + lo + hi - span;
  if (room.is_constant() && room.constant() < 0)
    return call_error(c, "a window of {}{} along axis {} doesn't fit into {}{}", size,
                      dilation > 1 ? fmt::format(" (dilation {}: {} wide)", dilation, span) : "", axis,
                      in.to_string(), lo + hi > 0 ? fmt::format(" padded by {} and {}", lo, hi) : "");
  return floordiv(room, Dim(stride)) + 1;
}

std::optional<Dim> exact_quotient(const Dim& a, const Dim& b) {
  if (a == b) return Dim(1);
  if (b.is_constant(0)) return std::nullopt;
  if (b.is_constant(1)) return a;
  Dim q = floordiv(a, b);
  if (q.overflowed() || q * b != a) return std::nullopt;
  return q;
}

std::vector<int64_t> all_axes(int rank) {
  std::vector<int64_t> axes;
  for (int i = 0; i < rank; ++i) axes.push_back(i);
  return axes;
}

std::vector<int64_t> other_axes(int rank, const std::vector<int64_t>& axes) {
  std::vector<int64_t> out;
  for (int i = 0; i < rank; ++i)
    if (std::find(axes.begin(), axes.end(), i) == axes.end()) out.push_back(i);
  return out;
}

Shape with_ones(Shape shape, const std::vector<int64_t>& axes) {
  for (int64_t a : axes) shape[a] = Dim(1);
  return shape;
}

Value* restore_axes(Builder& b, Value* reduced, const Shape& shape, const std::vector<int64_t>& axes) {
  return b.reshape(reduced, with_ones(shape, axes));
}

Value* along_axis(Builder& b, Value* x, int axis, int rank) {
  Shape s(rank, Dim(1));
  s[axis] = x->type.shape[0];
  return b.reshape(x, s);
}

Value* index_equals(Builder& b, const Shape& shape, int axis, Value* ids) {
  return b.compare(ScalarOp::kEq, b.iota(shape, axis, ids->type.dtype), ids);
}

Shape reduced_shape(const Shape& in, const std::vector<int64_t>& axes, bool keepdims) {
  if (keepdims) return with_ones(in, axes);
  Shape s;
  for (int64_t i : other_axes(static_cast<int>(in.size()), axes)) s.push_back(in[i]);
  return s;
}

Inferred infer_reduction(InferContext& c) {
  GC_TRY(std::vector<int64_t> axes, canonical_axes(c, "axes", c.operand(0).rank()));
  bool keepdims = c.attrs.find("keepdims")->second.as_bool();
  return std::vector<TensorType>{{c.operand(0).dtype, reduced_shape(c.operand(0).shape, axes, keepdims)}};
}

}  // namespace graphc
