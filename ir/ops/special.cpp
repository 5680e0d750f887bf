// Ops that passes and the executor know by name.
#include "ir/ops/common.h"

namespace graphc {
namespace {

Inferred infer_assign(InferContext& c) {
  if (!(c.operand(0) == c.operand(1)))
    return call_error(c, "the variable is {} and can't be set to {}", c.operand(0).to_string(),
                      c.operand(1).to_string());
  return std::vector<TensorType>{};
}

Inferred infer_optimize(InferContext& c) {
  if (c.operand(0).rank() != 0) return call_error(c, "the loss must be a scalar");
  auto number = [&](std::string_view name) { return c.attrs.find(name)->second.as_float(); };
  auto text = [&](std::string_view name) { return c.attrs.find(name)->second.as_string(); };
  if (std::string a = text("algorithm"); a != "sgd" && a != "adam" && a != "adamw")
    return call_error(c, "algorithm=\"{}\" isn't known; there are \"sgd\", \"adam\", \"adamw\"", a);
  if (std::string s = text("schedule"); s != "constant" && s != "cosine" && s != "step")
    return call_error(c, "schedule=\"{}\" isn't known; there are \"constant\", \"cosine\", \"step\"", s);
  for (std::string_view name : {"lr", "momentum", "weight_decay", "eps", "clip_norm", "final", "gamma"})
    if (!(number(name) >= 0)) return call_error(c, "{}={} must not be negative", name, number(name));
  for (std::string_view name : {"beta1", "beta2"})
    if (!(number(name) >= 0 && number(name) < 1))
      return call_error(c, "{}={} must be in 0..1", name, number(name));
  for (std::string_view name : {"accumulate", "every"}) {
    const Attr& a = c.attrs.find(name)->second;
    if (!a.as_dim().is_constant() || a.as_int() < 1)
      return call_error(c, "{}={} must be at least 1", name, a.to_string());
  }
  for (std::string_view name : {"schedule_steps", "warmup"}) {
    const Attr& a = c.attrs.find(name)->second;
    if (!a.as_dim().is_constant() || a.as_int() < 0)
      return call_error(c, "{}={} must not be negative", name, a.to_string());
  }
  if (c.attrs.find("nesterov")->second.as_bool() && number("momentum") == 0)
    return call_error(c, "nesterov=true needs a momentum");
  return std::vector<TensorType>{};
}

Inferred infer_fusion(InferContext& c) {
  return internal_error("fusion: its results' types are its region's; make it with create_raw");
}

}  // namespace

const OpDef ops::assign{.name = "assign",
                        .doc =
                            "Sets a variable. It is written at the end of the step, in program order; "
                            "reading it gives its value at the "
                            "start.",
                        .operands = {{"variable"}, {"value"}},
                        .infer = infer_assign,
                        .no_gradient = true,
                        .has_effect = true,
                        .order_matters = true};

const OpDef ops::optimize{
    .name = "optimize",
    .doc =
        "Minimises a loss: the gradient pass replaces it by backward, clipping and the update of the "
        "parameters "
        "whose path matches `params`. sgd: Sutskever et al. 2013; adam: Kingma, Ba 2014; adamw: Loshchilov, "
        "Hutter "
        "2017; all as PyTorch computes them.",
    .operands = {{"loss", kFloats}},
    .attrs = {{"algorithm", AttrKind::kString, "\"sgd\"", "\"sgd\", \"adam\" or \"adamw\""},
              {"lr", AttrKind::kFloat, "0.001", "the learning rate"},
              {"momentum", AttrKind::kFloat, "0.0", "sgd: the factor of the running sum of gradients"},
              {"nesterov", AttrKind::kBool, "false", "sgd: look ahead"},
              {"weight_decay", AttrKind::kFloat, "0.0", "sgd, adam: added to the gradient; adamw: decoupled"},
              {"beta1", AttrKind::kFloat, "0.9", "adam: decay of the first moment"},
              {"beta2", AttrKind::kFloat, "0.999", "adam: decay of the second moment"},
              {"eps", AttrKind::kFloat, "1e-8", "adam: added to the root of the second moment"},
              {"clip_norm", AttrKind::kFloat, "0.0", "the largest norm of all gradients together; 0: any"},
              {"accumulate", AttrKind::kInt, "1", "the number of steps whose mean gradient makes one update"},
              {"schedule", AttrKind::kString, "\"constant\"", "\"constant\", \"cosine\" or \"step\""},
              {"schedule_steps", AttrKind::kInt, "0", "cosine: the number of updates down to `final`"},
              {"warmup", AttrKind::kInt, "0", "updates over which the rate rises linearly to lr"},
              {"final", AttrKind::kFloat, "0.0", "cosine: the rate at the end"},
              {"every", AttrKind::kInt, "1", "step: updates between two reductions"},
              {"gamma", AttrKind::kFloat, "0.1", "step: the factor of a reduction"},
              {"params", AttrKind::kString, "\"*\"", "glob of the paths of the parameters it updates"}},
    .infer = infer_optimize,
    .no_gradient = true,
    .has_effect = true};

const OpDef ops::fusion{.name = "fusion",
                        .doc =
                            "A region that a backend compiles as one kernel; its arguments are the operands, "
                            "one to one. `kind` says "
                            "what its core is: map, rows, columns, contraction, window or scatter.",
                        .operands = {{"xs", kAnyType, Arity::kVariadic}},
                        .attrs = {{"kind", AttrKind::kString, kRequired, "what the region's core is"}},
                        .infer = infer_fusion};

}  // namespace graphc
