// Reads core text (ir/print.h) into a verified module. Errors are one message with file, line and column and
// the line itself:
//
//   net.graph:4:12: error: %5 isn't defined here
//     4 |   %0 = add(%5, %x) : f32[N, 4]
//       |            ^
//
// Attributes that the text leaves out get the record's defaults, so hand-written tests stay short; types of
// results come from the text and are compared with what inference makes of the operands. Every input, however
// broken, gives a module or an error; limits are those of LoadLimits.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "ir/graph.h"
#include "runtime/base/limits.h"

namespace graphc {

struct ParseOptions {
  // Folder that the data files of large constants are looked for in; empty: such a text is an error.
  std::string directory;
  LoadLimits limits;
};

// `file` is the name that messages show.
Result<std::unique_ptr<Module>> parse_core(std::string_view text, std::string file,
                                           const ParseOptions& options = {});

// Reads what write_core (ir/print.h) wrote.
Result<std::unique_ptr<Module>> read_core(const std::string& path, const LoadLimits& limits = {});

// Whether a text is core: its first line that isn't a comment is "graphc N core".
bool is_core_text(std::string_view text);

}  // namespace graphc
