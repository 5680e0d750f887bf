#include "tools/driver/compile.h"

#include <fmt/format.h>

#include <algorithm>

#include "backends/cpu/exec/features.h"
#include "passes/passes.h"
#include "runtime/version.h"
#include "runtime/weights.h"
#include "tools/driver/backends.h"
#include "tools/driver/target.h"

namespace graphc {

namespace {

struct Part {
  std::string func, name;
};
std::vector<Part> parts_of(const std::string& model, const FunctionSet& set) {
  std::vector<Part> out;
  if (set.infer) out.push_back({model, "infer"});
  if (set.eval) out.push_back({model + ".eval", "eval"});
  if (set.train) out.push_back({model + ".train", "train"});
  return out;
}

// What the code depends on, in the words of the options that chose it.
std::string flags_of(const CompileOptions& o) {
  std::string s = fmt::format("-O{}", o.opt_level);
  for (const auto& [k, v] : o.set) s += fmt::format(" --set {}={}", k, v);
  if (o.functions.train) s += " --train";
  if (o.strict) s += " --strict";
  return s;
}

}  // namespace

Status run_pipeline(Module& m, const std::string& model, const CompileOptions& options,
                    std::vector<PassManager::Timing>* timings) {
  const std::vector<Part> parts = parts_of(model, options.functions);
  std::erase_if(m.funcs, [&](const std::unique_ptr<Func>& f) {
    return std::none_of(parts.begin(), parts.end(), [&](const Part& p) { return p.func == f->name; });
  });
  GC_TRY(const Target target, Target::parse(options.target));
  PipelineOptions pipeline{.opt_level = options.opt_level};
  if (target.backend == "cuda") pipeline.extra_kinds = {"attention"};
  PassManager passes = build_pipeline(pipeline);
  passes.options.verify_each = true;  // some ms
  const std::unique_ptr<Module> before = clone(m);
  if (Status s = passes.run(m); !s.ok()) {
    if (s.error().code != ErrorCode::kInternal) return s;
    passes.options.reproducer_dir = ".";
    const Status again = passes.run(*before);
    return again.ok() ? s : again;
  }
  if (timings) *timings = passes.timings();
  return {};
}

Result<CompiledModel> compile_file(const std::string& path, const CompileOptions& options) {
  SourceOptions source;
  source.model = options.model;
  source.training = options.functions.eval || options.functions.train;
  source.set = options.set;
  GC_TRY(ModelSource loaded, load_model(path, source));
  return compile_model(std::move(loaded), options);
}

Result<CompiledModel> compile_model(ModelSource source, const CompileOptions& options) {
  GC_TRY(const Target target, Target::parse(options.target));
  CompiledModel out;
  out.model = source.model;
  out.train = std::move(source.train);
  out.warnings = std::move(source.warnings);
  out.module = std::move(source.module);
  GC_CHECK(run_pipeline(*out.module, out.model, options, &out.timings));

  GC_TRY(const std::unique_ptr<BackendRegistry> compilers, compiler_backends(target, nullptr));
  LoweringOptions lower_options;
  lower_options.target = target.backend;
  lower_options.device = target.device;
  // The reference works on the host's memory, which a card doesn't share.
  lower_options.fallback = options.strict || target.backend == "cuda" ? "" : "reference";
  lower_options.threads = options.threads;
  for (const Part& p : parts_of(out.model, options.functions))
    lower_options.names.emplace_back(p.func, p.name);
  GC_TRY(out.lowered, lower(*out.module, lower_options, *compilers));
  for (const LoweredExec& e : out.lowered.execs)
    if (e.backend != target.backend)
      out.warnings +=
          fmt::format("warning: {}: runs on the slow {} backend, because {} can't compile it: {}\n", e.label,
                      e.backend, target.backend, e.rejection);

  Program& p = out.lowered.program;
  p.meta.graphc_version = kGraphcVersion;
  p.meta.target = target.to_string();
  p.meta.flags = flags_of(options);
  if (target.backend == "cpu") {
    const CpuFeatures& features = host_features();
    for (int i = 0; i < kNumCpuFeatures; ++i)
      if (const auto f = static_cast<CpuFeature>(i); features.has(f))
        p.meta.cpu_features.emplace_back(cpu_feature_name(f));
  }
  p.meta.core_hash = source.core_hash;
  p.meta.provenance["model"] = out.model;
  if (out.train)
    for (const auto& [name, value] : out.train->settings) {
      if (name != "epochs" && name != "batch")
        return invalid(fmt::format("the recipe's `set {}` isn't known; there are: epochs, batch", name));
      if (!value.is_int() || value.as_int() < 1)
        return invalid(fmt::format("the recipe's `set {}` must be a whole number of at least 1", name));
      p.meta.provenance["set." + name] = fmt::format("{}", value.as_int());
    }
  if (!options.weights.empty()) GC_CHECK(apply_weights(p, options.weights, options.weights_map));
  return out;
}

}  // namespace graphc
