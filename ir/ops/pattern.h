// Axis patterns of einsum and rearrange: "n t (s h e) -> s n h t e". Private to ir/ops.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace graphc {

// One axis of a term: names multiplied together; one name usually, several for (a b), none for (), a number
// for 1.
struct PatternAxis {
  std::vector<std::string> names;
  bool group = false;  // written in parentheses
};
using PatternTerm = std::vector<PatternAxis>;

// Reads one side of a rearrange pattern. An axis is a name, "1", a group in parentheses, or "..." (a name of
// its own).
Result<PatternTerm> parse_pattern_term(std::string_view text);

// The two sides of "a -> b"; an error if there isn't exactly one arrow.
struct PatternSides {
  std::string_view left, right;
};
Result<PatternSides> split_arrow(std::string_view pattern);

}  // namespace graphc
