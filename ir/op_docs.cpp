#include "ir/op_docs.h"

#include <algorithm>

#include <fmt/format.h>

namespace graphc {
namespace {

std::string types_text(DTypeSet s) {
  if (s == kAnyType) return "any dtype";
  if (s == kNumbers) return "numbers";
  if (s == kFloats) return "floats";
  if (s == kInts) return "integers";
  if (s == (kInts | kBools)) return "integers or bool";
  if (s == (kFloats | kBools)) return "floats or bool";
  std::string out;
  for (int i = 0; i < kNumDTypes; ++i)
    if (s & (1u << i)) out += (out.empty() ? "" : ", ") + std::string(dtype_name(static_cast<DType>(i)));
  return out;
}

// Words of `text` in lines of at most 96 characters.
std::string wrapped(std::string_view text, std::string_view indent) {
  std::string out, line(indent);
  while (!text.empty()) {
    size_t space = text.find(' ');
    std::string_view word = text.substr(0, space);
    if (line.size() + word.size() > 96 && line.size() > indent.size()) {
      out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
      line = indent;
    }
    line += word;
    line += ' ';
    text = space == std::string_view::npos ? "" : text.substr(space + 1);
  }
  return out + line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
}

}  // namespace

std::string op_signature(const OpDef& op) {
  std::string s(op.name);
  s += "(";
  bool first = true;
  auto add = [&](std::string_view t) {
    s += first ? "" : ", ";
    s += t;
    first = false;
  };
  for (int i = 0; i < op.num_operands(); ++i) {
    const OperandDef& d = op.operands[i];
    add(std::string(d.name) + (d.arity == Arity::kOptional ? "?" : d.arity == Arity::kVariadic ? ".." : ""));
  }
  for (int i = 0; i < op.num_attrs(); ++i)
    add(op.attrs[i].fallback == kRequired ? std::string(op.attrs[i].name)
                                          : fmt::format("{}={}", op.attrs[i].name, op.attrs[i].fallback));
  return s + ")";
}

std::string describe_op(const OpDef& op) {
  std::string out = op_signature(op) + "\n" + wrapped(op.doc, "    ");
  for (int i = 0; i < op.num_operands(); ++i)
    out += fmt::format("      {:<18}{}\n", op.operands[i].name, types_text(op.operands[i].types));
  for (int i = 0; i < op.num_attrs(); ++i)
    out += fmt::format("      {:<18}{}\n", op.attrs[i].name, op.attrs[i].doc);
  if (!op.free_attrs.empty()) out += fmt::format("      {:<18}{}\n", "NAME=..", op.free_attrs);
  return out;
}

}  // namespace graphc
