#include "tools/graphc/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>

#include "runtime/weights.h"
#include "tools/driver/backends.h"

namespace graphc::cli {
namespace {

Status check_functions(const Program& p, const std::string& file, const FunctionSet& functions) {
  const auto check = [&](bool wanted, const char* name, const char* how) -> Status {
    if (!wanted || p.function(name)) return {};
    return invalid(fmt::format("'{}' has no function '{}': compile it {}", file, name, how));
  };
  GC_CHECK(check(functions.infer, "infer", "anew"));
  GC_CHECK(check(functions.eval, "eval", "with --train"));
  return check(functions.train, "train", "with --train");
}

// What --set means for an artefact: values of its symbolic sizes.
Result<std::map<std::string, int64_t>> sizes_of(const Program& p, const std::vector<std::string>& set) {
  std::map<std::string, int64_t> out;
  GC_TRY(const auto values, parse_set(set));
  for (const auto& [name, text] : values) {
    std::vector<std::string> known;
    for (const Symbol& s : p.symbols) known.push_back(s.name);
    if (std::find(known.begin(), known.end(), name) == known.end())
      return invalid(fmt::format("--set {}: the artefact has the sizes: {}; everything else is compiled in",
                                 name, known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", "))));
    int64_t value = 0;
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc() || end != text.data() + text.size() || value < 0)
      return Error{ErrorCode::kUsage, fmt::format("--set {}={}: a size is a whole number", name, text)};
    out[name] = value;
  }
  return out;
}

}  // namespace

void add_compile_options(Command& command, ModelArgs& a) {
  command.positional("FILE", a.file, "the model's .graph file, or an artefact (.gcx) where that makes sense")
      .option("--target", a.target, "backend: cpu or reference", "NAME")
      .option("--model", a.model, "which model, if the file has several", "NAME")
      .option("--set", a.set, "NAME=VALUE: a size, a constant, a setting of the recipe", "NAME=VALUE")
      .option("-O,--opt-level", a.opt_level, "0: as written, 2: fused", 0, 2)
      .flag("--strict", a.strict,
            "an op that the target can't compile is an error, not the reference's work");
  std::vector<std::pair<std::string, std::function<bool()>>> given;
  for (const char* name : {"--target", "--model", "--opt-level", "--strict"})
    given.emplace_back(name, command.given(name));
  a.for_text_only = [given] {
    for (const auto& [name, is_given] : given)
      if (is_given()) return name;
    return std::string();
  };
}

void add_model_options(Command& command, ModelArgs& a) {
  add_compile_options(command, a);
  command.option("--weights", a.weights, "a safetensors file or checkpoint", "FILE")
      .option("--threads", a.threads, "threads; 0: one a CPU", 0, 1024)
      .option("--seed", a.seed, "of initial values, dropout and the data's order")
      .option("--max-memory", a.max_memory, "refuse to use more: 2GiB, 512MiB", "SIZE");
}

Result<uint64_t> parse_bytes(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [at, ec] = std::from_chars(text.data(), end, value);
  std::string unit(at, end);
  if (unit.ends_with("iB")) unit.resize(unit.size() - 2);
  if (unit.ends_with("B")) unit.resize(unit.size() - 1);
  const size_t power = unit.empty() ? 0 : std::string("KMGT").find(unit) + 1;
  if (ec != std::errc() || value <= 0 || unit.size() > 1 || (!unit.empty() && power == 0))
    return Error{ErrorCode::kUsage, fmt::format("'{}' is no size; write for instance 2GiB or 512MiB", text)};
  return static_cast<uint64_t>(value * static_cast<double>(uint64_t{1} << (10 * power)));
}

Result<CompileOptions> compile_options(const ModelArgs& a, const FunctionSet& functions) {
  CompileOptions o;
  o.target = a.target;
  o.model = a.model;
  o.functions = functions;
  GC_TRY(o.set, parse_set(a.set));
  o.opt_level = a.opt_level;
  o.strict = a.strict;
  o.weights = a.weights;
  return o;
}

Result<Session> open_session(const ModelArgs& a, const FunctionSet& functions) {
  Session s;
  if (!a.max_memory.empty()) {
    GC_TRY(s.max_memory, parse_bytes(a.max_memory));
  }
  GC_CHECK(check_file(a.file));
  Program program;
  if (a.file.ends_with(".gcx")) {
    if (const std::string option = a.for_text_only(); !option.empty())
      return Error{ErrorCode::kUsage,
                   fmt::format("{} is for .graph files: '{}' is compiled already", option, a.file)};
    GC_TRY(program, load_program(a.file));
    GC_TRY(s.sizes, sizes_of(program, a.set));
    GC_CHECK(check_functions(program, a.file, functions));
    if (!a.weights.empty()) GC_CHECK(apply_weights(program, a.weights));
  } else {
    GC_TRY(const CompileOptions options, compile_options(a, functions));
    const auto begin = std::chrono::steady_clock::now();
    GC_TRY(CompiledModel compiled, compile_file(a.file, options));
    s.compile_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    print_warnings(compiled.warnings);
    if (compiled.train) s.settings = compiled.train->settings;
    program = std::move(compiled.lowered.program);
  }
  s.pool = std::make_unique<ThreadPool>(a.threads);
  GC_TRY(const std::unique_ptr<BackendRegistry> registry, execution_backends(s.pool.get()));
  GC_TRY(s.model, Model::create(std::move(program), *registry));
  GC_TRY(s.variables, Variables::create(s.model, {.seed = a.seed, .pool = s.pool.get()}));
  return s;
}

}  // namespace graphc::cli
