// graphc fmt: one way to write a .graph file. Works on tokens, so comments stay where they are; the author's
// line breaks stay too. Two spaces of indentation a level, spaces around operators (not around ** and ..),
// `name=value` in calls, at most one blank line. format(format(x)) == format(x), and the tokens of the result
// are those of the source.
#pragma once

#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace graphc {

// Errors: a text that doesn't parse, with its rendered diagnostics (file_name is what they show).
Result<std::string> format_source(std::string_view text, std::string_view file_name);

}  // namespace graphc
