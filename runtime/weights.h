// Trained weights into a program, before Model::create makes a model of it.
//
//   GC_TRY(Program p, load_program("net.gcx"));
//   GC_CHECK(apply_weights(p, "last.safetensors"));
#pragma once

#include <string>

#include "runtime/program.h"

namespace graphc {

// Makes the tensors of a safetensors file, foreign or a checkpoint of ours, the initial values of the
// program's variables. Floats are converted to the variable's dtype. Names that the model lacks, parameters
// that the file lacks, other shapes and integer dtypes are errors; an optimizer's state and random counters
// (opt.*, rng.*) are taken if the program has them.
Status apply_weights(Program& program, const std::string& path);

}  // namespace graphc
