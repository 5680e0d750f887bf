// The known name nearest to a misspelt one, for messages.
//
//   NearestName nearest("rleu");
//   for (const OpDef* op : all_ops()) nearest.offer(op->name);
//   nearest.hint()   // "; did you mean 'relu'?", or "" if none is near
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace graphc {

// By edit distance, in which a transposition counts one and a wrong case nothing.
class NearestName {
 public:
  explicit NearestName(std::string_view wanted) : wanted_(wanted) {}
  void offer(std::string_view candidate);
  template <class Range>
  NearestName& offer_all(const Range& names) {
    for (const auto& n : names) offer(n);
    return *this;
  }
  const std::string& best() const { return best_; }
  // "; did you mean 'relu'?" or ""
  std::string hint() const;

 private:
  std::string_view wanted_;
  std::string best_;
  int distance_ = 1 << 20;
};

// NearestName(name).offer_all(known).hint()
std::string nearest_hint(std::string_view name, std::span<const std::string> known);

}  // namespace graphc
