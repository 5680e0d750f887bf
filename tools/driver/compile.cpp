#include "tools/driver/compile.h"

#include <fmt/format.h>

#include <algorithm>

#include "passes/passes.h"
#include "runtime/base/safetensors.h"
#include "runtime/executor.h"
#include "runtime/tensor.h"
#include "tools/driver/backends.h"

namespace graphc {

const char* const kGraphcVersion = "0.1.0";

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
  PassManager passes = build_pipeline({.opt_level = options.opt_level});
  passes.options.verify_each = options.verify_each;
  GC_CHECK(passes.run(m));
  if (timings) *timings = passes.timings();
  return {};
}

Status apply_weights(Program& program, const std::string& path) {
  GC_TRY(SafetensorsFile opened, SafetensorsFile::open(path));
  auto file = std::make_shared<SafetensorsFile>(std::move(opened));
  std::vector<std::string> known;
  for (const ProgramVariable& v : program.variables)
    if (v.kind != VariableRole::kConst) known.push_back(v.name);
  const auto hint = [](const std::string& near) {
    return near.empty() ? std::string() : fmt::format("; did you mean '{}'?", near);
  };
  for (const SafetensorsTensor& t : file->tensors()) {
    const int64_t i = program.variable(t.name);
    if (i < 0 && (t.name.starts_with("opt.") || t.name.starts_with("rng."))) continue;
    if (i < 0 || program.variables[static_cast<size_t>(i)].kind == VariableRole::kConst)
      return invalid(
          fmt::format("'{}': the model has no '{}'{}", path, t.name, hint(nearest_name(t.name, known))));
    ProgramVariable& v = program.variables[static_cast<size_t>(i)];
    const bool convertible = t.dtype == v.dtype || (is_float(t.dtype) && is_float(v.dtype));
    if (!convertible || t.shape != v.shape)
      return invalid(fmt::format("'{}': '{}' is {}, the model's is {}", path, t.name,
                                 type_string(t.dtype, t.shape), type_string(v.dtype, v.shape)));
    if (t.data.empty()) continue;
    v.init.reset();
    if (t.dtype == v.dtype) {
      v.data = t.data;
      continue;
    }
    const size_t n = t.data.size() / dtype_size(t.dtype);
    std::string converted(n * dtype_size(v.dtype), '\0');
    for (size_t k = 0; k < n; ++k)
      store_from_double(v.dtype, converted.data(), k, load_as_double(t.dtype, t.data.data(), k));
    v.data = program.own(std::move(converted));
  }
  for (const ProgramVariable& v : program.variables)
    if (v.kind == VariableRole::kParam && !file->find(v.name)) {
      std::vector<std::string> given;
      for (const SafetensorsTensor& t : file->tensors()) given.push_back(t.name);
      return invalid(
          fmt::format("'{}' lacks the parameter '{}'{}", path, v.name, hint(nearest_name(v.name, given))));
    }
  program.keep_alive.push_back(std::move(file));
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
  CompiledModel out;
  out.model = source.model;
  out.train = std::move(source.train);
  out.warnings = std::move(source.warnings);
  out.module = std::move(source.module);
  GC_CHECK(run_pipeline(*out.module, out.model, options, &out.timings));

  GC_TRY(const std::unique_ptr<BackendRegistry> compilers, compiler_backends(options.target, nullptr));
  LowerOptions lower_options;
  lower_options.target = options.target;
  lower_options.fallback = options.strict ? "" : "reference";
  lower_options.threads = options.threads;
  for (const Part& p : parts_of(out.model, options.functions))
    lower_options.names.emplace_back(p.func, p.name);
  GC_TRY(out.lowered, lower(*out.module, lower_options, *compilers));
  for (const LoweredExec& e : out.lowered.execs)
    if (e.backend != options.target)
      out.warnings +=
          fmt::format("warning: {}: runs on the slow {} backend, because {} can't compile it: {}\n", e.label,
                      e.backend, options.target, e.rejection);

  Program& p = out.lowered.program;
  p.meta.graphc_version = kGraphcVersion;
  p.meta.target = options.target;
  p.meta.flags = flags_of(options);
  p.meta.core_hash = source.core_hash;
  p.meta.provenance["model"] = out.model;
  if (!options.weights.empty()) GC_CHECK(apply_weights(p, options.weights));
  return out;
}

}  // namespace graphc
