// Sizes that depend on symbolic dims, as a tiny postfix program: what the compiler's size polynomials become
// in an artefact, evaluated when sizes are bound.
//
//   SizeExpr bytes = SizeExpr::symbol(0) * SizeExpr(4 * 784);   // 4*784*N
//   Result<int64_t> b = bytes.eval(symbols);                    // overflow, division by <= 0 and negative
//   results are errors
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace graphc {

class SizeExpr {
 public:
  enum Op : int64_t {
    kConst = 0,
    kSymbol = 1,
    kAdd = 2,
    kMul = 3,
    kFloorDiv = 4
  };  // kConst, kSymbol: one operand follows

  SizeExpr(int64_t value = 0) : code_{kConst, value} {}
  static SizeExpr symbol(int64_t index);
  static SizeExpr floor_div(const SizeExpr& a, const SizeExpr& b);
  friend SizeExpr operator+(const SizeExpr& a, const SizeExpr& b);
  friend SizeExpr operator*(const SizeExpr& a, const SizeExpr& b);
  friend bool operator==(const SizeExpr&, const SizeExpr&) = default;

  // From stored code; checked: known operations, symbols below num_symbols, one result, stack at most 64
  // deep.
  static Result<SizeExpr> from_code(std::span<const int64_t> code, size_t num_symbols);
  std::span<const int64_t> code() const { return code_; }

  // Value if it is a plain number, symbol's index if it is a plain symbol; else -1.
  int64_t as_const() const { return code_.size() == 2 && code_[0] == kConst ? code_[1] : -1; }
  int64_t as_symbol() const { return code_.size() == 2 && code_[0] == kSymbol ? code_[1] : -1; }

  // The values must number at least the symbols used. Allocates only for an error's message.
  Result<int64_t> eval(std::span<const int64_t> symbols) const;
  std::string str(std::span<const std::string> names) const;  // "(4*N+1)//2", for messages

 private:
  std::vector<int64_t> code_;
};

}  // namespace graphc
