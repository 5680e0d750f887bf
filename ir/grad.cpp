#include "ir/grad.h"

namespace graphc {

Expr scalar_tree(const OpDef& op, const std::vector<DType>& operands, const Attrs& attrs) {
  std::vector<Expr> args;
  for (size_t i = 0; i < operands.size(); ++i) args.push_back(Expr::arg(static_cast<int>(i), operands[i]));
  return op.scalar(args, attrs);
}

Expr cotangent_times(const Expr& d, const Expr& cotangent) {
  if (d.is_constant(0)) return d;
  if (d.is_constant(1)) return cotangent;
  if (d.op() == ScalarOp::kNeg) return -cotangent_times(d->args[0], cotangent);
  if (d.op() == ScalarOp::kSelect) {
    Expr a = cotangent_times(d->args[1], cotangent), b = cotangent_times(d->args[2], cotangent);
    return select(d->args[0], a, b);
  }
  return cotangent * d;
}

std::vector<Value*> default_grad(Builder& b, const GradCall& call) {
  const OpDef& op = *call.op;
  std::vector<Value*> none(call.operands.size(), nullptr);
  if (op.no_gradient) return none;
  if (op.grad) return op.grad(b, call);
  if (!op.scalar) return {};
  std::vector<DType> types;
  for (Value* v : call.operands) types.push_back(v->type.dtype);
  Expr tree = scalar_tree(op, types, call.attrs);
  Value* dy = call.cotangent();
  if (!is_float(tree.type()) || !dy) return none;
  std::vector<Value*> xs = call.operands, grads = none;
  int n = static_cast<int>(xs.size());
  xs.push_back(dy);
  Expr cotangent = Expr::arg(n, dy->type.dtype);
  for (int i = 0; i < n; ++i) {
    if (!is_float(types[i])) continue;
    Expr g = cotangent_times(derivative(tree, i), cotangent);
    if (g.is_constant(0)) continue;
    grads[i] = b.sum_to(b.expand(b.from_expr(g, xs), dy->type.shape), call.operands[i]->type.shape);
  }
  return grads;
}

}  // namespace graphc
