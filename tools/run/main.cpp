// graphc-run: runs, times, evaluates and trains .gcx artefacts where no compiler is installed.
//
//   graphc-run net.gcx --input image=x.npy --output out
//   graphc-run train net.gcx --data idx:DIR --checkpoint ck
#include "backends/cpu/exec/backend.h"
#if GRAPHC_HAS_CUDA
#include "backends/cuda/exec/backend.h"
#endif
#include "tools/cli/describe.h"
#include "tools/cli/session.h"

namespace graphc::cli {
namespace {

Result<std::unique_ptr<BackendRegistry>> backends(ThreadPool* pool) {
  auto registry = std::make_unique<BackendRegistry>(HostOptions{.pool = pool});
  GC_CHECK(registry->add(cpu_execution_backend()));
#if GRAPHC_HAS_CUDA
  GC_CHECK(registry->add(cuda_execution_backend()));
#endif
  return registry;
}

void options(Command& command, ModelArgs& args) {
  command.positional("FILE", args.file, "an artefact that graphc compile made (.gcx)")
      .option("--set", args.set, "NAME=VALUE: a symbolic size", "NAME=VALUE");
  add_session_options(command, args);
}

Result<Session> open(const ModelArgs& args, const FunctionSet& functions) {
  if (args.file.ends_with(".graph"))
    return invalid("'" + args.file +
                   "' is text: compile it with graphc, on any machine, and run the artefact");
  return open_artefact(args, functions, backends);
}

std::string model_file(const std::string& name) { return name + ".gcx"; }

}  // namespace

const Opener kArtefactOpener{options, open, model_file};

}  // namespace graphc::cli

int main(int argc, char** argv) {
  using namespace graphc::cli;
  CommandLine program(
      "graphc-run",
      "graphc-run runs models that graphc has compiled; `graphc-run FILE` means `graphc-run run FILE`",
      "run");
  add_describe(program);
  add_run(program, kArtefactOpener);
  add_bench(program, kArtefactOpener);
  add_train(program, kArtefactOpener);
  add_eval(program, kArtefactOpener);
  return program.run(argc, argv);
}
