// graphc: one file per command beside this one.
#include "tools/graphc/command.h"

int main(int argc, char** argv) {
  using namespace graphc::cli;
  CommandLine program;
  add_check(program);
  add_fmt(program);
  add_compile(program);
  add_run(program);
  add_bench(program);
  add_train(program);
  add_eval(program);
  add_explain(program);
  add_ops(program);
  add_devices(program);
  return program.run(argc, argv);
}
