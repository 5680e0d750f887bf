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

int edit_distance(std::string_view a, std::string_view b) {
  const size_t n = a.size(), m = b.size();
  std::vector<int> before(m + 1), last(m + 1), row(m + 1);
  for (size_t j = 0; j <= m; ++j) last[j] = static_cast<int>(j);
  for (size_t i = 1; i <= n; ++i) {
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= m; ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[m];
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

void NearestName::offer(std::string_view c) {
  constexpr size_t kLongest = 64;
  if (c.empty() || c.size() > kLongest || wanted_.size() > kLongest) return;
  const int allowed = std::max<int>(1, static_cast<int>(std::min(wanted_.size(), c.size())) / 3);
  const int gap = static_cast<int>(std::max(wanted_.size(), c.size()) - std::min(wanted_.size(), c.size()));
  if (gap > allowed || gap >= distance_) return;
  int d = edit_distance(wanted_, c);
  // a wrong case alone is the nearest miss there is
  if (d > 0 && wanted_.size() == c.size() &&
      std::equal(c.begin(), c.end(), wanted_.begin(), [](char x, char y) {
        return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
      }))
    d = 0;
  if (d > allowed || d >= distance_) return;
  if (wanted_.size() == 1 && d > 0) return;  // every one-letter name is near every other
  distance_ = d;
  best_ = c;
}

std::string NearestName::hint() const { return best_.empty() ? "" : "; did you mean '" + best_ + "'?"; }

}  // namespace graphc
