// What an artefact or a safetensors file holds: `check` for files that aren't text.
#pragma once

#include <string>

#include "runtime/base/result.h"
#include "tools/cli/command.h"

namespace graphc::cli {

// Whether describe() knows the file, by its name: .gcx, .safetensors.
bool is_describable(const std::string& path);

// Prints functions, sizes, parameters and provenance of a .gcx; tensors and metadata of a .safetensors.
// Everything a loader checks is checked.
Status describe(const std::string& path, bool json);

// The command `check` of a program without a compiler.
void add_describe(CommandLine& program);

}  // namespace graphc::cli
