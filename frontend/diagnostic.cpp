#include "frontend/diagnostic.h"

#include <fmt/format.h>

#include <algorithm>

namespace graphc {
namespace {

// The source line cut to a window around the caret, so that a line of 64 MiB stays readable.
std::string source_excerpt(const SourceMap& sources, Pos pos) {
  constexpr size_t kBefore = 80, kWidth = 120;
  uint32_t start = 0;
  const std::string_view line = sources.line_at(pos, &start);
  const size_t at = std::min<size_t>(pos.offset - start, line.size());
  size_t begin = at > kBefore ? at - kBefore : 0;
  auto continuation = [&](size_t i) {
    return i < line.size() && (static_cast<unsigned char>(line[i]) & 0xC0) == 0x80;
  };
  while (begin > 0 && continuation(begin)) --begin;
  if (line.size() <= kWidth) begin = 0;
  size_t end = std::min(line.size(), begin + kWidth);
  while (continuation(end)) ++end;
  std::string shown = begin > 0 ? "..." : "";
  std::string caret = begin > 0 ? "   " : "";
  shown += printable(line.substr(begin, end - begin));
  if (end < line.size()) shown += "...";
  for (const char c : printable(line.substr(begin, at - begin))) {
    if (c == '\t')
      caret += '\t';
    else if ((static_cast<unsigned char>(c) & 0xC0) != 0x80)
      caret += ' ';
  }
  const int number = sources.line_col(pos).line;
  const std::string gutter = fmt::format("{:>4}", number);
  return fmt::format("{} | {}\n{} | {}^\n", gutter, shown, std::string(gutter.size(), ' '), caret);
}


}  // namespace

void Diagnostics::add(Diagnostic d) {
  if (d.severity == Severity::kError && full()) return;
  for (const Diagnostic& o : all_)
    if (o.pos == d.pos && o.severity == d.severity && o.message == d.message) return;
  if (d.severity == Severity::kError) ++errors_;
  all_.push_back(std::move(d));
}

std::string Diagnostics::render(const Diagnostic& d) const {
  std::string out = fmt::format("{}{}: {}\n", d.pos.known() ? sources_->show(d.pos) + ": " : "",
                                d.severity == Severity::kError ? "error" : "warning", d.message);
  if (d.pos.known()) out += source_excerpt(*sources_, d.pos);
  for (const Note& n : d.notes) {
    out += n.chain ? "  " : "  note: ";
    out += n.message;
    if (n.pos.known()) out += fmt::format(" ({})", sources_->show(n.pos));
    out += '\n';
  }
  return out;
}

std::string Diagnostics::render() const {
  std::string out;
  for (const Diagnostic& d : all_) out += render(d);
  if (full()) out += fmt::format("stopped after {} errors\n", kMaxErrors);
  return out;
}

}  // namespace graphc
