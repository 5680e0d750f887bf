#include "ir/ops/pattern.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

namespace graphc {

Result<PatternTerm> parse_pattern_term(std::string_view text) {
  PatternTerm term;
  bool in_group = false;
  for (size_t i = 0; i < text.size();) {
    char c = text[i];
    if (std::isspace(static_cast<unsigned char>(c))) {
      ++i;
      continue;
    }
    if (c == '(') {
      if (in_group) return invalid(fmt::format("'(' inside a group in \"{}\"", text));
      in_group = true;
      term.push_back({{}, true});
      ++i;
      continue;
    }
    if (c == ')') {
      if (!in_group) return invalid(fmt::format("')' without '(' in \"{}\"", text));
      in_group = false;
      ++i;
      continue;
    }
    std::string name;
    if (text.substr(i, 3) == "...") {
      name = "...";
      i += 3;
    } else {
      size_t start = i;
      while (i < text.size() && (std::isalnum(static_cast<unsigned char>(text[i])) || text[i] == '_')) ++i;
      name = std::string(text.substr(start, i - start));
      if (name.empty()) return invalid(fmt::format("'{}' isn't part of a pattern, in \"{}\"", c, text));
      if (std::isdigit(static_cast<unsigned char>(name[0])) && name != "1")
        return invalid(fmt::format("the only number in a pattern is 1, got {} in \"{}\"", name, text));
    }
    if (name == "1") {
      if (!in_group) term.push_back({});
      continue;
    }
    for (const PatternAxis& a : term)
      if (std::find(a.names.begin(), a.names.end(), name) != a.names.end())
        return invalid(fmt::format("'{}' appears twice in \"{}\"", name, text));
    if (in_group)
      term.back().names.push_back(name);
    else
      term.push_back({{name}, false});
  }
  if (in_group) return invalid(fmt::format("'(' without ')' in \"{}\"", text));
  return term;
}

Result<PatternSides> split_arrow(std::string_view pattern) {
  size_t at = pattern.find("->");
  if (at == std::string_view::npos || pattern.find("->", at + 2) != std::string_view::npos)
    return invalid(fmt::format("the pattern \"{}\" needs exactly one ->", pattern));
  return PatternSides{pattern.substr(0, at), pattern.substr(at + 2)};
}

}  // namespace graphc
