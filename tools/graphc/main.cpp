// graphc: one file per command beside this one.
#include "tools/graphc/session.h"

int main(int argc, char** argv) {
  using namespace graphc::cli;
  CommandLine program("graphc", "graphc compiles, trains and runs models written in .graph files");
  add_check(program);
  add_fmt(program);
  add_compile(program);
  add_run(program, kModelOpener);
  add_bench(program, kModelOpener);
  add_train(program, kModelOpener);
  add_eval(program, kModelOpener);
  add_explain(program);
  add_ops(program);
  add_devices(program);
  return program.run(argc, argv);
}
