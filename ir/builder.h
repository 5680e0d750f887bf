// Builder: appends nodes to a block, with inferred types. Expansions, gradients and passes are written with
// it.
//
//   Value* y = b.add(b.mul(x, w), b.full(1.0, x->type.dtype));
//   Value* s = b.sum(y, {1}, /*keepdims=*/true);
//
// Operands of scalar ops broadcast. create() aborts with the op's message on a type error: compiler code is
// expected to be right; for user input use try_create().
#pragma once

#include "ir/op.h"

namespace graphc {

class Builder {
 public:
  Builder(Module& module, Block& block) : module_(module), block_(block) {}
  Module& module() { return module_; }
  Block& block() { return block_; }
  LocId loc = -1;  // given to every node made

  Result<Node*> try_create_node(const OpDef& op, std::vector<Value*> operands, Attrs attrs = {});
  Node* create_node(const OpDef& op, std::vector<Value*> operands, Attrs attrs = {});
  Value* create(const OpDef& op, std::vector<Value*> operands, Attrs attrs = {});  // the only result
  // A node with given result types, without inference: fusion and clones.
  Node* create_raw(const OpDef& op, std::vector<Value*> operands, Attrs attrs, std::vector<TensorType> types);

  // Constants and data movement. Shapes are results'.
  Value* full(double value, DType dtype, Shape shape = {});
  Value* full_like(double value, Value* x) { return full(value, x->type.dtype, x->type.shape); }
  Value* iota(Shape shape, int axis, DType dtype);
  Value* reshape(Value* x, Shape shape);                  // no node if the shape is x's
  Value* expand(Value* x, Shape shape);                   // broadcast, aligned at the end
  Value* transpose(Value* x, std::vector<int64_t> perm);  // result axis i is x's axis perm[i]
  Value* slice(Value* x, int axis, Dim start, Dim stop, int64_t step = 1);
  Value* concat(std::vector<Value*> xs, int axis);
  Value* pad(Value* x, std::vector<Dim> lo_hi, double value = 0, std::vector<int64_t> interior = {});
  Value* gather(Value* table, Value* ids, int axis);
  Value* cast(Value* x, DType dtype);  // no node if it is x's
  Value* stop_gradient(Value* x);

  // Elementwise by scalar op; broadcasting.
  Value* scalar(ScalarOp op, std::vector<Value*> xs);
  Value* add(Value* a, Value* b) { return scalar(ScalarOp::kAdd, {a, b}); }
  Value* sub(Value* a, Value* b) { return scalar(ScalarOp::kSub, {a, b}); }
  Value* mul(Value* a, Value* b) { return scalar(ScalarOp::kMul, {a, b}); }
  Value* div(Value* a, Value* b) { return scalar(ScalarOp::kDiv, {a, b}); }
  Value* neg(Value* a) { return scalar(ScalarOp::kNeg, {a}); }
  Value* exp(Value* a) { return scalar(ScalarOp::kExp, {a}); }
  Value* log(Value* a) { return scalar(ScalarOp::kLog, {a}); }
  Value* sqrt(Value* a) { return scalar(ScalarOp::kSqrt, {a}); }
  Value* rsqrt(Value* a) { return scalar(ScalarOp::kRsqrt, {a}); }
  Value* maximum(Value* a, Value* b) { return scalar(ScalarOp::kMax, {a, b}); }
  Value* minimum(Value* a, Value* b) { return scalar(ScalarOp::kMin, {a, b}); }
  Value* where(Value* c, Value* a, Value* b) { return scalar(ScalarOp::kSelect, {c, a, b}); }
  Value* compare(ScalarOp op, Value* a, Value* b) { return scalar(op, {a, b}); }
  Value* add(Value* a, double b) { return add(a, full(b, a->type.dtype)); }
  Value* sub(Value* a, double b) { return sub(a, full(b, a->type.dtype)); }
  Value* mul(Value* a, double b) { return mul(a, full(b, a->type.dtype)); }
  Value* div(Value* a, double b) { return div(a, full(b, a->type.dtype)); }
  // A tree over xs (kArg i is xs[i]) as nodes, one a primitive; equal subtrees once.
  Value* from_expr(const Expr& e, const std::vector<Value*>& xs);

  // Reductions; axes >= 0.
  Value* sum(Value* x, std::vector<int64_t> axes, bool keepdims = false);
  Value* max(Value* x, std::vector<int64_t> axes, bool keepdims = false);
  Value* mean(Value* x, std::vector<int64_t> axes, bool keepdims = false);
  // Sums x down to a shape that broadcasts to x's: the gradient of broadcasting.
  Value* sum_to(Value* x, const Shape& shape);
  // The number of elements along axes, as a scalar of a float dtype (symbolic sizes through the op
  // `size_of`).
  Value* count(Value* x, const std::vector<int64_t>& axes, DType dtype);
  Value* dim_value(const Dim& d, DType dtype);  // a scalar holding a size

  // result axes: batch, then a's free axes, then b's
  Value* dot_general(Value* a, Value* b, std::vector<int64_t> a_batch, std::vector<int64_t> b_batch,
                     std::vector<int64_t> a_contract, std::vector<int64_t> b_contract);

 private:
  Module& module_;
  Block& block_;
};

}  // namespace graphc
