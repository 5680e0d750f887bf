// --input NAME=FILE.npy|random|zeros: what run and bench give a model.
#pragma once

#include <string>
#include <vector>

#include "tools/cli/session.h"

namespace graphc::cli {

void add_input_option(Command& command, std::vector<std::string>& inputs);

// Sets every input of the context: from a file, zeros, or random values, which are drawn by Philox from the
// seed and the input's name: floats from -1..1, integers from 0..9. A bare `random` or `zeros` means all
// inputs that have no file; without it that is random. Sizes that neither a file nor --set fixes are the
// smallest allowed ones.
Status set_inputs(Context& context, const Session& session, const std::vector<std::string>& inputs,
                  uint64_t seed);

}  // namespace graphc::cli
