#include "tools/graphc/session.h"

#include <fmt/format.h>

#include <chrono>

#include "tools/driver/backends.h"

namespace graphc::cli {

void add_compile_options(Command& command, ModelArgs& a, const std::string& file) {
  command.positional("FILE", a.file, file)
      .option("--target", a.target, "cpu, reference, cuda (this machine's card) or cuda:CARD (h200, sm_90a, ./card.txt)", "NAME")
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

Result<CompileOptions> compile_options(const ModelArgs& a, const FunctionSet& functions) {
  GC_CHECK(check_weights_map(a));
  CompileOptions o;
  o.target = a.target;
  o.model = a.model;
  o.functions = functions;
  GC_TRY(o.set, parse_set(a.set));
  o.opt_level = a.opt_level;
  o.strict = a.strict;
  o.weights = a.weights;
  o.weights_map = a.weights_map;
  return o;
}

namespace {

void model_options(Command& command, ModelArgs& a) {
  add_compile_options(command, a, "a model (.graph) or an artefact (.gcx)");
  add_session_options(command, a);
}

Result<Session> open_model(const ModelArgs& a, const FunctionSet& functions) {
  if (a.file.ends_with(".gcx")) return open_artefact(a, functions, execution_backends);
  GC_CHECK(check_file(a.file));
  if (!a.max_memory.empty()) GC_CHECK(parse_bytes(a.max_memory));  // before the work
  Session s;
  GC_TRY(const CompileOptions options, compile_options(a, functions));
  const auto begin = std::chrono::steady_clock::now();
  GC_TRY(CompiledModel compiled, compile_file(a.file, options));
  s.compile_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  print_warnings(compiled.warnings);
  GC_CHECK(start_session(s, std::move(compiled.lowered.program), a, execution_backends));
  return s;
}

std::string model_file(const std::string& name) { return "examples/" + name + ".graph"; }

}  // namespace

const Opener kModelOpener{model_options, open_model, model_file};

}  // namespace graphc::cli
