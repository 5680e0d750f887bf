#include "runtime/base/nearest.h"

#include <algorithm>
#include <cctype>
#include <vector>

namespace graphc {
namespace {

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

void NearestName::offer(std::string_view c) {
  constexpr size_t kLongest = 256;
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

std::string nearest_hint(std::string_view name, std::span<const std::string> known) {
  return NearestName(name).offer_all(known).hint();
}

}  // namespace graphc
