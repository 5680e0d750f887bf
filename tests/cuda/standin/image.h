// What the stand-in's NVRTC hands out as machine code: the text itself, behind a line that says for what.
// Both libraries include this.
//
//   cubin: "\x7fSTANDIN cubin sm_90a softmax.cu\n" + text
//   PTX:   "// STANDIN .version 8.0 .target sm_80 softmax.cu\n" + text
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace standin {

struct Image {
  bool ptx = false;
  std::string arch;  // "sm_90a"
  std::string name;  // of the program, for messages
  std::string_view text;
};

inline std::string make_image(bool ptx, const std::string& arch, const std::string& name,
                              const std::string& text) {
  return (ptx ? "// STANDIN .version 8.0 .target " : "\x7fSTANDIN cubin ") + arch + " " + name + "\n" + text;
}

// A driver gets an address and no length: the text ends at the first NUL.
inline std::optional<Image> parse_image(const char* bytes) {
  const std::string_view s(bytes);
  Image i;
  std::string_view rest;
  for (const bool ptx : {false, true}) {
    const std::string_view head = ptx ? "// STANDIN .version 8.0 .target " : "\x7fSTANDIN cubin ";
    if (s.substr(0, head.size()) != head) continue;
    i.ptx = ptx;
    rest = s.substr(head.size());
  }
  const size_t space = rest.find(' '), line = rest.find('\n');
  if (space >= line || line == std::string_view::npos) return std::nullopt;
  i.arch = rest.substr(0, space);
  i.name = rest.substr(space + 1, line - space - 1);
  i.text = rest.substr(line + 1);
  return i;
}

// "sm_90a" -> 90
inline int arch_number(std::string_view arch) {
  int v = 0;
  for (const char c : arch)
    if (c >= '0' && c <= '9') v = 10 * v + (c - '0');
  return v;
}

}  // namespace standin
