// Surface text -> syntax tree, by recursive descent with two tokens of look-ahead. The grammar is
// LANGUAGE.md's; each function of parser.cpp carries its rule. After an error in a statement the parser goes
// on with the next one, so one run reports several. No input overflows the stack or runs away: nesting is
// counted, and everything stops after Diagnostics::kMaxErrors.
#pragma once

#include <memory>

#include "frontend/ast.h"
#include "frontend/diagnostic.h"

namespace graphc::syntax {

inline constexpr size_t kMaxSourceBytes = 64u << 20;
inline constexpr size_t kMaxSyntaxNodes = 4u << 20;

// Parses a file of the map. The tree is usable for elaboration only if diags gained no error.
std::unique_ptr<Ast> parse_source(const SourceMap& sources, uint32_t file, Diagnostics& diags);

}  // namespace graphc::syntax
