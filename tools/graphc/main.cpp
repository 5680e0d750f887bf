// graphc: one file per command beside this one.
#include "tools/graphc/command.h"

int main(int argc, char** argv) {
  using namespace graphc::cli;
  CommandLine program;
  add_fmt(program);
  add_train(program);
  add_eval(program);
  add_ops(program);
  return program.run(argc, argv);
}
