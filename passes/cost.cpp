#include "passes/cost.h"

#include "ir/op.h"

namespace graphc {
namespace {

Dim size_in_bytes(const TensorType& t) {
  return t.num_elements() * static_cast<int64_t>(dtype_size(t.dtype));
}

Dim product_at(const Shape& shape, const std::vector<int64_t>& axes) {
  Dim n = 1;
  for (const int64_t a : axes) n *= shape[static_cast<size_t>(a)];
  return n;
}

// Elements of the kernel of one output channel: C / groups x k..
Dim kernel_elements(const Shape& w) {
  Dim n = 1;
  for (size_t i = 1; i < w.size(); ++i) n *= w[i];
  return n;
}

Dim primitive_flops(const Node& n) {
  const OpDef& op = *n.op;
  const TensorType& out = n.results[0]->type;
  const auto shape = [&](size_t i) -> const Shape& { return n.operands[i]->type.shape; };
  if (&op == &ops::dot_general)
    return 2 * out.num_elements() * product_at(shape(0), n.attr("a_contract").as_ints());
  if (&op == &ops::convolution) return 2 * out.num_elements() * kernel_elements(shape(1));
  if (&op == &ops::convolution_input_grad)
    return 2 * n.operands[0]->type.num_elements() * kernel_elements(shape(1));
  if (&op == &ops::convolution_weight_grad)
    return 2 * n.operands[1]->type.num_elements() * kernel_elements(out.shape);
  if (&op == &ops::attention || &op == &ops::attention_grad) {
    // Products of q k^T and p v; the gradient computes scores again and has four more. About five operations
    // for each score beside them.
    const Dim e = shape(0).back(), v = shape(2).back();
    Dim rows = 1;  // of scores, over all heads
    for (size_t i = 0; i + 1 < shape(0).size(); ++i) rows *= shape(0)[i];
    const Dim each = &op == &ops::attention ? 2 * e + 2 * v + 5 : 6 * e + 4 * v + 5;
    return rows * shape(1)[shape(1).size() - 2] * each;
  }
  if (&op == &ops::reduce_window) {
    Dim window = 1;
    for (const int64_t w : n.attr("window").as_ints()) window *= w;
    return out.num_elements() * window;
  }
  if (&op == &ops::reduce_window_grad) return n.operands[1]->type.num_elements();
  if (&op == &ops::sum || &op == &ops::prod || &op == &ops::max || &op == &ops::min || &op == &ops::argmax)
    return is_float(n.operands[0]->type.dtype) ? n.operands[0]->type.num_elements() : Dim(0);
  if (&op == &ops::scatter_add) return n.operands.back()->type.num_elements();
  if (op.scalar && is_float(out.dtype) && !(&op == &ops::where || &op == &ops::cast))
    return out.num_elements();
  return 0;
}

}  // namespace

Cost node_cost(const Node& n) {
  Cost c;
  if (n.op == &ops::assign || n.op == &ops::reshape) return c;
  if (n.region) {
    for (const auto& inner : n.region->nodes) c.flops += primitive_flops(*inner);
  } else {
    c.flops = primitive_flops(n);
  }
  for (const Value* v : n.operands) c.bytes += size_in_bytes(v->type);
  for (const auto& r : n.results) c.bytes += size_in_bytes(r->type);
  return c;
}

Cost function_cost(const Func& f) {
  Cost total;
  for (const auto& n : f.body.nodes) {
    const Cost c = node_cost(*n);
    total.flops += c.flops;
    total.bytes += c.bytes;
  }
  return total;
}

}  // namespace graphc
