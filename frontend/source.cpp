#include "frontend/source.h"

#include <fmt/format.h>

#include <algorithm>

namespace graphc {

uint32_t SourceMap::add(std::string name, std::string text) {
  files_.push_back({std::move(name), std::move(text), {}});
  return static_cast<uint32_t>(files_.size());
}

size_t SourceMap::line_index(Pos p) const {
  const File& f = files_[p.file - 1];
  if (f.line_starts.empty()) {
    f.line_starts.push_back(0);
    for (size_t i = f.text.find('\n'); i != std::string::npos; i = f.text.find('\n', i + 1))
      f.line_starts.push_back(static_cast<uint32_t>(i + 1));
  }
  auto it = std::upper_bound(f.line_starts.begin(), f.line_starts.end(), p.offset);
  return static_cast<size_t>(it - f.line_starts.begin()) - 1;
}

LineCol SourceMap::line_col(Pos p) const {
  if (!p.known()) return {};
  const size_t line = line_index(p);
  const File& f = files_[p.file - 1];
  int col = 1;
  const size_t end = std::min<size_t>(p.offset, f.text.size());
  for (size_t i = f.line_starts[line]; i < end; ++i)
    if ((static_cast<unsigned char>(f.text[i]) & 0xC0) != 0x80) ++col;
  return {static_cast<int>(line) + 1, col};
}

std::string_view SourceMap::line_at(Pos p, uint32_t* start) const {
  const size_t line = line_index(p);
  const File& f = files_[p.file - 1];
  const size_t begin = f.line_starts[line];
  size_t end = line + 1 < f.line_starts.size() ? f.line_starts[line + 1] - 1 : f.text.size();
  if (end > begin && f.text[end - 1] == '\r') --end;
  if (start) *start = static_cast<uint32_t>(begin);
  return std::string_view(f.text).substr(begin, end - begin);
}

std::string SourceMap::show(Pos p) const {
  if (!p.known()) return "<unknown>";
  const LineCol lc = line_col(p);
  return fmt::format("{}:{}:{}", name(p.file), lc.line, lc.col);
}

std::string printable(std::string_view s) {
  std::string out;
  for (size_t i = 0; i < s.size();) {
    const auto c = static_cast<unsigned char>(s[i]);
    if (c == '\t' || (c >= 0x20 && c < 0x7F)) {
      out += s[i++];
      continue;
    }
    const int more = c >= 0xF0 && c < 0xF5 ? 3 : c >= 0xE0 ? 2 : c >= 0xC2 ? 1 : 0;
    bool valid = more > 0 && c < 0xF5 && i + more < s.size();
    for (int k = 1; valid && k <= more; ++k) valid = (static_cast<unsigned char>(s[i + k]) & 0xC0) == 0x80;
    // U+0080..U+009F are control characters as well
    if (valid && c == 0xC2 && static_cast<unsigned char>(s[i + 1]) < 0xA0) valid = false;
    if (valid) {
      out.append(s.substr(i, more + 1));
      i += more + 1;
    } else {
      out += '?';
      ++i;
    }
  }
  return out;
}

std::string quoted(std::string_view text) {
  constexpr size_t kMax = 40;
  if (text.size() <= kMax) return "'" + printable(text) + "'";
  return "'" + printable(text.substr(0, kMax)) + "...'";
}

}  // namespace graphc
