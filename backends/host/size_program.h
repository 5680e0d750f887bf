// Sizes that depend on a program's symbols, as the execution half evaluates them: a program for a stack
// machine, a list of words. (The compiler's Dims stay on its side.)
//
//   {kPush, 4, kSymbol, 0, kMul}        4 * symbols[0]
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace graphc {

class SizeProgram {
 public:
  enum Op : int64_t { kPush, kSymbol, kAdd, kMul, kFloorDiv };

  SizeProgram() : words_{kPush, 0} {}
  explicit SizeProgram(std::vector<int64_t> words) : words_(std::move(words)) {}
  const std::vector<int64_t>& words() const { return words_; }

  // Every operation known, symbols below num_symbols, exactly one value left, a stack of at most 64.
  bool valid(size_t num_symbols) const;
  // nullopt on overflow or division by zero. Only for valid programs.
  std::optional<int64_t> evaluate(std::span<const int64_t> symbols) const;

 private:
  std::vector<int64_t> words_;
};

}  // namespace graphc
