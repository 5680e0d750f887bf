// graphc explain
#include <fmt/format.h>

#include <algorithm>

#include "passes/cost.h"
#include "tools/driver/backends.h"
#include "tools/graphc/session.h"

namespace graphc::cli {
namespace {

struct Options {
  ModelArgs model;
  bool train = false, placement = false;
};

const char* why_kind(const std::string& kind) {
  if (kind == "map") return "elementwise ops and index maps over one space, in one loop";
  if (kind == "rows") return "reductions over the innermost axes with what is elementwise around them";
  if (kind == "columns") return "reductions over outer axes with what is elementwise around them";
  if (kind == "contraction") return "one matrix product or convolution; what surrounds it runs on its tiles";
  if (kind == "window") return "one pooling with what is elementwise around it";
  if (kind == "attention") return "attention or its gradient, without the matrix of scores";
  if (kind == "scatter") return "one scatter_add";
  return "";
}

std::string place(const MemoryPlan& plan, const Value* v) {
  const PlanBuffer& b = plan.buffers[static_cast<size_t>(plan.buffer_of.at(v))];
  switch (b.home) {
    case PlanBuffer::kInput: return "input";
    case PlanBuffer::kOutput: return "output";
    case PlanBuffer::kVariable: return fmt::format("@{}, in place", b.variable->name);
    case PlanBuffer::kArena: break;
  }
  const std::string at = b.offset ? fmt::format("arena at {}", *b.offset) : "arena";
  return at;
}

// The target's own words on how it runs a step, each line indented.
Status explain_placement(Device& device, const LoweredExec& e) {
  gc_graph g{};
  g.struct_size = sizeof g;
  g.ir = {e.ir.data(), e.ir.size()};
  GC_TRY(const std::string text, device.emit(g, "placement"));
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    fmt::print("       {}\n", text.substr(at, end - at));
    at = end + 1;
  }
  return {};
}

Status explain(const LoweredFunction& f, const Lowered& l, Device* device) {
  std::string arena = "sized when it runs";
  if (f.plan.is_static) arena = bytes_text(static_cast<double>(f.plan.arena_bytes));
  fmt::print("function {}: {} steps, arena {}\n", f.name, f.plan.steps.size(), arena);
  for (size_t i = 0; i < f.plan.steps.size(); ++i) {
    const Node& n = *f.plan.steps[i];
    const LoweredExec& e = l.execs[static_cast<size_t>(f.exec_of[i])];
    fmt::print("\n{:>4} {} on {}  {}\n", i + 1, e.kind, e.backend, e.label);
    if (!e.rejection.empty()) fmt::print("       not on the target: {}\n", e.rejection);
    fmt::print("       {} ops: {}; {} FLOP\n", n.region->nodes.size(), why_kind(e.kind),
               node_cost(n).flops.to_string());
    if (e.uses > 1) fmt::print("       its code is used {} times\n", e.uses);
    if (device && e.backend == device->backend()) GC_CHECK(explain_placement(*device, e));
    for (const auto& r : n.results) {
      std::string in_place;
      for (const Value* v : n.operands)
        if (f.plan.buffer_of.at(v) == f.plan.buffer_of.at(r.get())) in_place = " over an operand, in place";
      fmt::print("       writes {}: {}{}\n", r->type.to_string(), place(f.plan, r.get()), in_place);
    }
  }
  if (!f.plan.copies.empty()) fmt::print("\n     {} copies at the end\n", f.plan.copies.size());
  fmt::print("\n");
  return {};
}

Status run(const Options& o) {
  GC_CHECK(check_file(o.model.file));
  GC_TRY(const CompileOptions options,
         compile_options(o.model, {.infer = !o.train, .eval = false, .train = o.train}));
  GC_TRY(const CompiledModel m, compile_file(o.model.file, options));
  print_warnings(m.warnings);
  std::unique_ptr<BackendRegistry> compilers;
  std::shared_ptr<Device> device;
  if (o.placement) {
    GC_TRY(const Target target, Target::parse(o.model.target));
    if (target.backend != "cuda")
      return Error{ErrorCode::kUsage, "--placement tells of launches and library calls of --target cuda"};
    GC_TRY(compilers, compiler_backends(target, nullptr));
    GC_TRY(device, compilers->device(target.backend, target.device));
  }
  for (const LoweredFunction& f : m.lowered.functions) GC_CHECK(explain(f, m.lowered, device.get()));
  return {};
}

}  // namespace

void add_explain(CommandLine& program) {
  auto o = std::make_shared<Options>();
  Command c =
      program.command("explain", "what runs where, what is fused and where results lie, by source line");
  add_compile_options(c, o->model);
  c.flag("--train", o->train, "the training step instead of inference")
      .flag("--placement", o->placement,
            "with --target cuda: launches, library calls, and why there are none")
      .example("explain examples/mnist_cnn.graph --set N=1")
      .action([o] { return run(*o); });
}

}  // namespace graphc::cli
