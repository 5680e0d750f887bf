#include "backends/cuda/libraries/product_call.h"

#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "backends/cuda/kernels/lowering.h"
#include "ir/op.h"

namespace graphc::cuda {
namespace {

// What is left of a region when its product is given: a region of kind "map" with the product as its last
// operand.
std::unique_ptr<Module> rest_of(const Func& region, const Node& core) {
  auto m = std::make_unique<Module>();
  Func* rest = m->add_func("map");
  rest->symbols = region.symbols;
  rest->result_names = region.result_names;
  std::unordered_map<const Value*, Value*> image;
  for (const auto& a : region.body.args) image[a.get()] = rest->body.add_arg(a->type, a->name);
  image[core.result()] = rest->body.add_arg(core.result()->type, "product");
  std::unordered_set<const Node*> needed;
  const auto need = [&](auto&& self, const Value* v) -> void {
    if (!v->node || v->node == &core || !needed.insert(v->node).second) return;
    for (const Value* o : v->node->operands) self(self, o);
  };
  for (const Value* r : region.body.results) need(need, r);
  for (const auto& n : region.body.nodes) {
    if (!needed.contains(n.get())) continue;
    auto copy = std::make_unique<Node>();
    copy->op = n->op;
    copy->attrs = n->attrs;
    for (const Value* o : n->operands) copy->operands.push_back(image.at(o));
    for (const auto& r : n->results) {
      auto v = std::make_unique<Value>();
      v->type = r->type;
      v->node = copy.get();
      v->index = r->index;
      image[r.get()] = v.get();
      copy->results.push_back(std::move(v));
    }
    rest->body.nodes.push_back(std::move(copy));
  }
  for (const Value* r : region.body.results) rest->body.results.push_back(image.at(r));
  return m;
}

}  // namespace

Result<RegionCall> call_and_kernels(const Func& region, const Node& core, const CudaTarget& target,
                                    LoweredRegion& lowered,
                                    const std::function<Result<RegionCall>(int workspace)>& plan) {
  for (const Value* r : region.body.results)
    if (r == core.result()) return unsupported("what is between core and epilogue is a result as well");
  const auto workspace = static_cast<int>(lowered.workspace_bytes.size());
  GC_TRY(RegionCall call, plan(workspace));
  const auto rest = rest_of(region, core);
  const Func& map = *rest->find_func("map");
  GC_TRY(LoweredRegion after, lower_region(map, {target, lowered.steps[0].kernel.name + "_after"}));
  if (!after.workspace_bytes.empty() || !after.checks.empty())
    return unsupported("its epilogue is more than elementwise work");
  const auto product = static_cast<int>(region.body.args.size());
  for (KernelStep& step : after.steps)
    for (KernelArg& a : step.args)
      if (a == KernelArg{KernelArgKind::kOperand, product}) a = {KernelArgKind::kWorkspace, workspace};
  const TensorType& type = core.result()->type;
  lowered.workspace_bytes.push_back(
      64 * ceildiv(type.num_elements() * static_cast<int64_t>(dtype_size(type.dtype)), 64));
  call.first_step = 0;
  call.last_step = static_cast<int>(lowered.steps.size());
  call.after_steps = static_cast<int>(after.steps.size());
  for (KernelStep& step : after.steps) lowered.steps.push_back(std::move(step));
  return call;
}

}  // namespace graphc::cuda
