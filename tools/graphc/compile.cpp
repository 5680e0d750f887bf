// graphc compile
#include <fmt/format.h>

#include <cstdio>

#include "ir/print.h"
#include "runtime/program.h"
#include "tools/driver/backends.h"
#include "tools/graphc/session.h"

namespace graphc::cli {
namespace {

struct Options {
  ModelArgs model;
  std::string output, emit;
  bool train = false;
};

Result<std::string> emitted(const Options& o, const CompiledModel& m) {
  if (o.emit == "core") return print(*m.module, {});
  GC_TRY(const Target target, Target::parse(o.model.target));
  GC_TRY(const std::unique_ptr<BackendRegistry> compilers, compiler_backends(target, nullptr));
  GC_TRY(const std::shared_ptr<Device> device, compilers->device(target.backend, target.device));
  std::string text;
  for (const LoweredExec& e : m.lowered.execs) {
    if (e.backend != target.backend) continue;
    gc_graph g{};
    g.struct_size = sizeof g;
    g.ir = {e.ir.data(), e.ir.size()};
    GC_TRY(const std::string one, device->emit(g, o.emit));
    text += fmt::format("# {}: {}\n{}\n", e.kind, e.label, one);
  }
  return text;
}

Status run(const Options& o) {
  GC_CHECK(check_file(o.model.file));
  if (o.model.file.ends_with(".gcx"))
    return Error{ErrorCode::kUsage, fmt::format("'{}' is compiled already", o.model.file)};
  GC_TRY(const CompileOptions options,
         compile_options(o.model, {.infer = true, .eval = o.train, .train = o.train}));
  GC_TRY(const CompiledModel m, compile_file(o.model.file, options));
  print_warnings(m.warnings);
  if (!o.emit.empty()) {
    GC_TRY(const std::string text, emitted(o, m));
    if (!o.output.empty()) return atomic_write(o.output, text);
    std::fwrite(text.data(), 1, text.size(), stdout);
    return {};
  }
  std::string output = o.output;
  if (output.empty()) {
    const size_t slash = o.model.file.rfind('/');
    output = o.model.file.substr(slash == std::string::npos ? 0 : slash + 1);
    if (output.ends_with(".graph")) output.resize(output.size() - 6);
    output += ".gcx";
  }
  GC_CHECK(save_program(m.lowered.program, output));
  size_t steps = 0;
  for (const Function& f : m.lowered.program.functions) steps += f.steps.size();
  fmt::print("{}: {} functions, {} steps, {} kernels for {}\n", output, m.lowered.program.functions.size(),
             steps, m.lowered.execs.size(), o.model.target);
  return {};
}

}  // namespace

void add_compile(CommandLine& program) {
  auto o = std::make_shared<Options>();
  Command c =
      program.command("compile", "compiles a model to a .gcx artefact, which runs without the compiler");
  add_compile_options(c, o->model);
  c.option("-o,--output", o->output, "the artefact; by default MODEL.gcx here", "FILE")
      .option("--weights", o->model.weights, "a safetensors file to put inside", "FILE")
      .option("--weights-map", o->model.weights_map,
              "where names or layouts differ: lines THEIRS = OURS [transpose]", "FILE")
      .flag("--train", o->train, "with the training and evaluation functions")
      .option("--emit", o->emit, "print what is made instead: core, loops; cpu: llvm, asm; cuda: cuda, ptx", "FORM")
      .example("compile examples/mlp.graph -o mlp.gcx")
      .action([o] { return run(*o); });
}

}  // namespace graphc::cli
