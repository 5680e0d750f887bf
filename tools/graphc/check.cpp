// graphc check
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "passes/cost.h"
#include "passes/plan_memory.h"
#include "runtime/progress.h"
#include "tools/cli/describe.h"
#include "tools/graphc/session.h"

namespace graphc::cli {
namespace {

struct Options {
  std::string file, model;
  std::vector<std::string> set;
  bool json = false;
};

using Sizes = std::map<std::string, int64_t, std::less<>>;

// "1.23 GFLOP"
std::string flops_text(double n) {
  static constexpr const char* kUnits[] = {"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"};
  int unit = 0;
  while (n >= 1000 && unit < 5) n /= 1000, ++unit;
  return fmt::format("{:.4g} {}", n, kUnits[unit]);
}

struct FunctionFigures {
  Dim flops;              // as a polynomial
  int64_t flops_at = 0;   // at `sizes`
  int64_t memory_at = 0;  // inputs, outputs and arena
  Sizes sizes;            // the smallest allowed ones
};

// At the smallest allowed sizes, since some figures exist for numbers only.
Result<FunctionFigures> figures(Func& f) {
  FunctionFigures out;
  out.flops = function_cost(f).flops;
  for (const SymbolDef& s : f.symbols) out.sizes[s.name] = std::max<int64_t>(1, s.min);
  const auto at = out.flops.evaluate(out.sizes);
  if (!at) return invalid(fmt::format("@{}: the number of operations overflows", f.name));
  out.flops_at = *at;
  GC_CHECK(bind_symbols(f, out.sizes));
  GC_TRY(const MemoryPlan plan, plan_memory(f));
  out.memory_at = plan.arena_bytes;
  for (const PlanBuffer& b : plan.buffers)
    if (b.home == PlanBuffer::kInput || b.home == PlanBuffer::kOutput) out.memory_at += b.bytes.constant();
  return out;
}

std::string sizes_text(const Sizes& sizes) {
  std::string s;
  for (const auto& [name, value] : sizes) s += fmt::format("{}{}={}", s.empty() ? " at " : ", ", name, value);
  return s;
}

struct Totals {
  int64_t parameters = 0, parameter_bytes = 0, state_bytes = 0;
};
Totals count(const Module& m) {
  Totals t;
  for (const auto& v : m.variables) {
    const int64_t n = v->value.type.num_elements().constant();
    const int64_t bytes = n * static_cast<int64_t>(dtype_size(v->value.type.dtype));
    if (v->kind == VariableKind::kParam) t.parameters += n, t.parameter_bytes += bytes;
    if (v->kind == VariableKind::kState) t.state_bytes += bytes;
  }
  return t;
}

Status run(const Options& o) {
  if (is_describable(o.file)) {
    if (!o.set.empty() || !o.model.empty())
      return Error{ErrorCode::kUsage,
                   fmt::format("--set and --model are for .graph files, not for '{}'", o.file)};
    return describe(o.file, o.json);
  }
  GC_CHECK(check_file(o.file));
  SourceOptions source;
  source.model = o.model;
  GC_TRY(source.set, parse_set(o.set));
  source.training_if_any = true;
  GC_TRY(ModelSource m, load_model(o.file, source));
  const bool training = m.train.has_value();
  print_warnings(m.warnings);
  const Func* infer = m.module->find_func(m.model);
  std::vector<std::string> inputs, outputs;
  for (const auto& a : infer->body.args) inputs.push_back(a->name + ": " + a->type.to_string());
  for (size_t i = 0; i < infer->body.results.size(); ++i)
    outputs.push_back(infer->result_names[i] + ": " + infer->body.results[i]->type.to_string());
  const Totals totals = count(*m.module);

  CompileOptions compile;
  compile.functions = {.infer = true, .eval = false, .train = training};
  GC_CHECK(run_pipeline(*m.module, m.model, compile));
  GC_TRY(const FunctionFigures inference, figures(*m.module->find_func(m.model)));
  std::optional<FunctionFigures> step;
  const Totals with_optimizer = count(*m.module);
  if (training) {
    GC_TRY(step, figures(*m.module->find_func(m.model + ".train")));
  }

  if (o.json) {
    nlohmann::ordered_json j;
    j["model"] = m.model;
    j["inputs"] = inputs;
    j["outputs"] = outputs;
    j["parameters"] = totals.parameters;
    j["parameter_bytes"] = totals.parameter_bytes;
    const auto add = [&](const char* name, const FunctionFigures& f) {
      auto& one = j[name];
      one["sizes"] = std::map<std::string, int64_t>(f.sizes.begin(), f.sizes.end());
      one["flops"] = f.flops_at;
      one["memory_bytes"] = f.memory_at;
    };
    add("inference", inference);
    if (step) add("training_step", *step);
    fmt::print("{}\n", j.dump(2));
    return {};
  }
  fmt::print("model {}\n", m.model);
  for (const std::string& s : inputs) fmt::print("  input   {}\n", s);
  for (const std::string& s : outputs) fmt::print("  output  {}\n", s);
  fmt::print("parameters: {} ({})\n", group_digits(totals.parameters),
             bytes_text(static_cast<double>(totals.parameter_bytes)));
  const auto line = [&](const char* what, const FunctionFigures& f, int64_t variables) {
    fmt::print("{}{}: {}, memory {} + {}\n", what, sizes_text(f.sizes),
               flops_text(static_cast<double>(f.flops_at)), bytes_text(static_cast<double>(variables)),
               bytes_text(static_cast<double>(f.memory_at)));
  };
  line("inference", inference, totals.parameter_bytes + totals.state_bytes);
  if (step) {
    line("training step", *step, with_optimizer.parameter_bytes + with_optimizer.state_bytes);
    std::string text;
    for (const std::string& s : m.train->inputs) text += (text.empty() ? "inputs " : ", ") + s;
    if (!m.train->metrics.empty()) text += fmt::format("; metrics {}", fmt::join(m.train->metrics, ", "));
    fmt::print("recipe: {}\n", text);
  }
  return {};
}

}  // namespace

void add_check(CommandLine& program) {
  auto o = std::make_shared<Options>();
  program.command("check", "checks a model; shows inputs, outputs, parameters, arithmetic and memory")
      .positional("FILE", o->file, "the model's .graph file, an artefact (.gcx) or weights (.safetensors)")
      .option("--model", o->model, "which model, if the file has several", "NAME")
      .option("--set", o->set, "NAME=VALUE: a size, a constant, a setting of the recipe", "NAME=VALUE")
      .flag("--json", o->json, "print an object")
      .example("check examples/resnet50.graph --set N=8")
      .action([o] { return run(*o); });
}

}  // namespace graphc::cli
