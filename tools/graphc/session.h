// Opening models from text: graphc's Opener, which compiles .graph files and loads .gcx files.
#pragma once

#include "tools/cli/session.h"
#include "tools/driver/compile.h"

namespace graphc::cli {

// Declares FILE and the options that choose what is compiled.
void add_compile_options(Command& command, ModelArgs& args,
                         const std::string& file = "the model's .graph file");

// The options of `args` for the compiler; errors of usage.
Result<CompileOptions> compile_options(const ModelArgs& args, const FunctionSet& functions);

extern const Opener kModelOpener;

void add_check(CommandLine&);
void add_fmt(CommandLine&);
void add_compile(CommandLine&);
void add_ops(CommandLine&);
void add_devices(CommandLine&);
void add_explain(CommandLine&);

}  // namespace graphc::cli
