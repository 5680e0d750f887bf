#include "ir/builder.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>

namespace graphc {

Result<Node*> Builder::try_create_node(const OpDef& op, std::vector<Value*> operands, Attrs attrs) {
  std::vector<TensorType> types;
  types.reserve(operands.size());
  for (Value* v : operands) types.push_back(v->type);
  GC_TRY(std::vector<TensorType> results, infer_types(op, types, attrs));
  return create_raw(op, std::move(operands), std::move(attrs), std::move(results));
}

Node* Builder::create_raw(const OpDef& op, std::vector<Value*> operands, Attrs attrs,
                          std::vector<TensorType> types) {
  auto n = std::make_unique<Node>();
  n->op = &op;
  n->operands = std::move(operands);
  n->attrs = std::move(attrs);
  n->loc = loc;
  for (size_t i = 0; i < types.size(); ++i) {
    auto v = std::make_unique<Value>();
    v->type = std::move(types[i]);
    v->node = n.get();
    v->index = static_cast<int>(i);
    n->results.push_back(std::move(v));
  }
  block_.nodes.push_back(std::move(n));
  return block_.nodes.back().get();
}

Node* Builder::create_node(const OpDef& op, std::vector<Value*> operands, Attrs attrs) {
  auto r = try_create_node(op, std::move(operands), std::move(attrs));
  if (!r.ok()) {
    fmt::print(stderr, "graphc: internal error: {} [{}]\n", r.error().message, module_.loc_to_string(loc));
    std::abort();
  }
  return *r;
}

Value* Builder::create(const OpDef& op, std::vector<Value*> operands, Attrs attrs) {
  return create_node(op, std::move(operands), std::move(attrs))->result();
}

Value* Builder::full(double value, DType dtype, Shape shape) {
  Attr v = is_float(dtype)         ? Attr(value)
           : dtype == DType::kBool ? Attr(value != 0)
                                   : Attr(static_cast<int64_t>(value));
  return create(ops::full, {}, {{"dtype", dtype}, {"shape", Attr::dims(shape)}, {"value", v}});
}

Value* Builder::iota(Shape shape, int axis, DType dtype) {
  return create(ops::iota, {}, {{"axis", axis}, {"dtype", dtype}, {"shape", Attr::dims(shape)}});
}

Value* Builder::reshape(Value* x, Shape shape) {
  if (x->type.shape == shape) return x;
  return create(ops::reshape, {x}, {{"shape", Attr::dims(shape)}});
}

Value* Builder::expand(Value* x, Shape shape) {
  if (x->type.shape == shape) return x;
  return create(ops::expand, {x}, {{"shape", Attr::dims(shape)}});
}

Value* Builder::transpose(Value* x, std::vector<int64_t> perm) {
  bool identity = true;
  for (size_t i = 0; i < perm.size(); ++i) identity &= perm[i] == static_cast<int64_t>(i);
  if (identity) return x;
  return create(ops::transpose, {x}, {{"perm", Attr::ints(perm)}});
}

Value* Builder::slice(Value* x, int axis, Dim start, Dim stop, int64_t step) {
  return create(ops::slice, {x}, {{"axis", axis}, {"start", start}, {"stop", stop}, {"step", step}});
}

Value* Builder::concat(std::vector<Value*> xs, int axis) {
  if (xs.size() == 1) return xs[0];
  return create(ops::concat, std::move(xs), {{"axis", axis}});
}

Value* Builder::pad(Value* x, std::vector<Dim> lo_hi, double value, std::vector<int64_t> interior) {
  if (interior.empty()) interior.assign(x->type.rank(), 0);
  return create(ops::pad, {x},
                {{"pads", Attr::dims(lo_hi)}, {"value", value}, {"interior", Attr::ints(interior)}});
}

Value* Builder::gather(Value* table, Value* ids, int axis) {
  return create(ops::gather, {table, ids}, {{"axis", axis}});
}

Value* Builder::cast(Value* x, DType dtype) {
  if (x->type.dtype == dtype) return x;
  return create(ops::cast, {x}, {{"dtype", dtype}});
}

Value* Builder::stop_gradient(Value* x) { return create(ops::stop_gradient, {x}); }

Value* Builder::scalar(ScalarOp op, std::vector<Value*> xs) {
  const OpDef* def = find_op(scalar_op_name(op));
  return create(*def, std::move(xs));
}

namespace {

Value* emit_expr(Builder& b, const Expr& e, const std::vector<Value*>& xs,
                 std::unordered_map<const ScalarNode*, Value*>& done) {
  if (auto it = done.find(e.get()); it != done.end()) return it->second;
  Value* v = nullptr;
  switch (e.op()) {
    case ScalarOp::kArg: v = xs[e->int_value]; break;
    case ScalarOp::kConst:
      v = b.full(is_float(e.type()) ? e->float_value : static_cast<double>(e->int_value), e.type());
      break;
    case ScalarOp::kCast: v = b.cast(emit_expr(b, e->args[0], xs, done), e.type()); break;
    default: {
      std::vector<Value*> operands;
      for (const Expr& a : e->args) operands.push_back(emit_expr(b, a, xs, done));
      v = b.scalar(e.op(), std::move(operands));
    }
  }
  done[e.get()] = v;
  return v;
}

}  // namespace

Value* Builder::from_expr(const Expr& e, const std::vector<Value*>& xs) {
  std::unordered_map<const ScalarNode*, Value*> done;
  return emit_expr(*this, e, xs, done);
}

Value* Builder::sum(Value* x, std::vector<int64_t> axes, bool keepdims) {
  if (axes.empty()) return x;
  return create(ops::sum, {x}, {{"axes", Attr::ints(axes)}, {"keepdims", keepdims}});
}

Value* Builder::max(Value* x, std::vector<int64_t> axes, bool keepdims) {
  if (axes.empty()) return x;
  return create(ops::max, {x}, {{"axes", Attr::ints(axes)}, {"keepdims", keepdims}});
}

Value* Builder::mean(Value* x, std::vector<int64_t> axes, bool keepdims) {
  return div(sum(x, axes, keepdims), count(x, axes, x->type.dtype));
}

Value* Builder::sum_to(Value* x, const Shape& shape) {
  if (x->type.shape == shape) return x;
  size_t offset = x->type.shape.size() - shape.size();
  std::vector<int64_t> axes;
  for (size_t i = 0; i < x->type.shape.size(); ++i)
    if (i < offset || (shape[i - offset] != x->type.shape[i] && shape[i - offset].is_constant(1)))
      axes.push_back(static_cast<int64_t>(i));
  return reshape(sum(x, axes, false), shape);
}

Value* Builder::count(Value* x, const std::vector<int64_t>& axes, DType dtype) {
  Dim n(1);
  for (int64_t a : axes) n *= x->type.shape[a];
  return dim_value(n, dtype);
}

Value* Builder::dim_value(const Dim& d, DType dtype) {
  if (d.is_constant()) return full(static_cast<double>(d.constant()), dtype);
  return create(ops::size_of, {}, {{"dim", d}, {"dtype", dtype}});
}

Value* Builder::dot_general(Value* a, Value* b, std::vector<int64_t> a_batch, std::vector<int64_t> b_batch,
                            std::vector<int64_t> a_contract, std::vector<int64_t> b_contract) {
  return create(ops::dot_general, {a, b},
                {{"a_batch", Attr::ints(a_batch)},
                 {"b_batch", Attr::ints(b_batch)},
                 {"a_contract", Attr::ints(a_contract)},
                 {"b_contract", Attr::ints(b_contract)}});
}

}  // namespace graphc
