// Core text: the one printed form of the IR (LANGUAGE.md, "Core"). ir/parse.h reads it back; for every module
// that the verifier accepts, print(parse(print(m))) equals print(m) byte for byte, names, locations and float
// bits included.
//
//   graphc 1 core
//   param @fc.weight: f32[10, 4] = kaiming_uniform() {a=2.2360679}
//   const @c: f32[2] = data [0.5, 0x7fc00000]
//   func @Net[N in 1..64](%x: f32[N, 4]) -> (y: f32[N, 10]) {
//     %0 = dot_general(%x, @fc.weight) {a_batch=[], a_contract=[1], b_batch=[], b_contract=[1]} : f32[N, 10]
//     loc(!0) return %0
//   }
//   !0 = "net.graph":3:22
//
// Names that aren't plain (letters, digits, _ and .) are quoted: @"odd name", %"0". Unnamed values are
// numbered, anew in every region. Floats print as the shortest text that reads back as the same bits, NaN and
// infinities by bits. A node without results has neither `=` nor types.
#pragma once

#include <string>
#include <string_view>

#include "ir/graph.h"

namespace graphc {

struct PrintOptions {
  bool locations = true;  // loc(..) and the table of locations
  // Variables with data of more than 16 elements refer to the safetensors file of this name (a plain file
  // name, beside the text), by the SHA-256 of their bytes. Empty: their data is left out, and the header says
  // `partial`, which the parser refuses.
  std::string sidecar;
};
inline constexpr size_t kMaxInlineData = 16;

std::string print(const Module& module, const PrintOptions& options = {});
// One function alone, without locations: for messages and debugging.
std::string print(const Func& func);
// One node of a function as a line without its number, for messages: "conv2d(%x, @w) {..} : f32[N, 8]".
std::string print(const Node& node);

// Writes the text to `path` and, if any variable needs it, its data to the path with the extension
// .safetensors; read_core (ir/parse.h) reads both back.
Status write_core(const Module& module, const std::string& path, bool locations = true);

// Rules of names and literals that printer, parser and verifier share.
bool is_plain_name(std::string_view s);        // letters, digits, _ and ., not first a digit
bool is_symbol_name(std::string_view s);       // what a size can be called: plain and not a reserved word
std::string quote_string(std::string_view s);  // "..." with \" \\ \n \t \xNN

}  // namespace graphc
