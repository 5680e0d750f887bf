#include "tests/ops/differentiate.h"

#include <unordered_map>

#include "ir/grad.h"
#include "ir/interpret.h"

namespace graphc {
namespace {

// The gradients of one call; empty if it has neither a rule nor an expansion.
std::vector<Value*> differentiate(Builder& b, const GradCall& call) {
  std::vector<Value*> grads = default_grad(b, call);
  if (!grads.empty() || call.operands.empty()) return grads;
  if (!call.op->expand) return {};
  size_t begin = b.block().nodes.size();
  std::vector<Value*> outputs = call.op->expand(b, call);
  size_t end = b.block().nodes.size();
  std::unordered_map<Value*, Value*> sums;
  auto accumulate = [&](Value* v, Value* g) {
    if (!g || !is_float(v->type.dtype)) return;
    Value*& s = sums[v];
    s = s ? b.add(s, g) : g;
  };
  for (size_t i = 0; i < outputs.size(); ++i) accumulate(outputs[i], call.cotangents[i]);
  for (size_t k = end; k-- > begin;) {
    Node* n = b.block().nodes[k].get();
    GradCall inner;
    inner.op = n->op;
    inner.operands = n->operands;
    inner.attrs = n->attrs;
    bool any = false;
    for (auto& r : n->results) {
      inner.types.push_back(r->type);
      inner.results.push_back(r.get());
      auto it = sums.find(r.get());
      inner.cotangents.push_back(it == sums.end() ? nullptr : it->second);
      any = any || inner.cotangents.back();
    }
    if (!any) continue;
    std::vector<Value*> g = differentiate(b, inner);
    for (size_t i = 0; i < g.size(); ++i) accumulate(n->operands[i], g[i]);
  }
  for (Value* v : call.operands) {
    auto it = sums.find(v);
    grads.push_back(it == sums.end() ? nullptr : it->second);
  }
  return grads;
}

}  // namespace

HostTensor random_tensor(const TensorType& type, SampleRng& rng, double lo, double hi, int64_t int_lo,
                         int64_t int_hi) {
  HostTensor t = HostTensor::zeros(type.dtype, *static_shape(type.shape));
  for (double& v : t.f) v = rng.uniform(lo, hi);
  for (int64_t& v : t.i)
    v = type.dtype == DType::kBool ? rng.range(0, 1) : wrap_int(type.dtype, rng.range(int_lo, int_hi));
  return t;
}

std::vector<HostTensor> sample_operands(const Sample& s, SampleRng& rng) {
  std::vector<HostTensor> out;
  for (const TensorType& t : s.operands) out.push_back(random_tensor(t, rng, s.lo, s.hi, s.int_lo, s.int_hi));
  return out;
}

Result<OpGradient> op_gradient(const OpDef& op, const std::vector<HostTensor>& operands, const Attrs& attrs,
                               const std::vector<HostTensor>& cotangents) {
  Module module;
  Func* f = module.add_func("gradient");
  Builder b(module, f->body);
  GradCall call;
  call.op = &op;
  std::vector<HostTensor> inputs = operands;
  auto add = [&](const HostTensor& t) {
    return f->body.add_arg({t.dtype, Shape(t.shape.begin(), t.shape.end())});
  };
  for (const HostTensor& t : operands) call.operands.push_back(add(t));
  std::vector<Value*> given;
  for (const HostTensor& t : cotangents) given.push_back(add(t)), inputs.push_back(t);
  GC_TRY(Node * forward, b.try_create_node(op, call.operands, attrs));
  call.attrs = forward->attrs;
  for (size_t i = 0; i < forward->results.size(); ++i) {
    call.types.push_back(forward->result(i)->type);
    call.results.push_back(forward->result(i));
    call.cotangents.push_back(is_float(call.types[i].dtype) && i < given.size() ? given[i] : nullptr);
  }
  std::vector<Value*> grads = differentiate(b, call);
  OpGradient out;
  out.has_rule = !grads.empty() || operands.empty();
  grads.resize(operands.size(), nullptr);
  for (size_t i = 0; i < operands.size(); ++i) {
    out.given.push_back(grads[i] != nullptr);
    if (grads[i] && !(grads[i]->type == call.operands[i]->type))
      return internal_error(std::string(op.name) + ": the gradient of operand " + std::to_string(i) + " is " +
                            grads[i]->type.to_string() + ", the operand " +
                            call.operands[i]->type.to_string());
    f->body.results.push_back(grads[i] ? grads[i] : call.operands[i]);
  }
  VariableValues none;
  GC_TRY(out.grads, interpret(module, *f, inputs, none));
  for (size_t i = 0; i < operands.size(); ++i)
    if (!grads[i]) out.grads[i] = HostTensor::zeros(operands[i].dtype, operands[i].shape);
  return out;
}

}  // namespace graphc
