// Dim: an integer polynomial with floor division over named symbols. Tensor sizes are Dims over the program's
// symbols (N, T); index expressions of loop programs are Dims over symbols and loop variables.
//
//   Dim n = Dim::symbol("N");
//   Dim h = floordiv(n * 4 + 2, 2);            // 2*N + 1
//   (n + 1 == 1 + n)                           // true: one canonical form
//   h.to_string()                              // "2*N+1"
//
// The canonical form folds (x//a+b)//c to (x+a*b)//(a*c) and takes multiples of the divisor out of a floor
// division. Symbols are assumed >= 0. Arithmetic that leaves int64 makes the result overflowed(), which every
// loader and verifier refuses.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace graphc {

class Dim;
struct DimAtom;  // a symbol, or a floor division of two Dims
using DimAtomRef = std::shared_ptr<const DimAtom>;
using DimMonomial = std::vector<DimAtomRef>;  // sorted product of atoms, repeated for powers

struct DimTerm {
  DimMonomial atoms;
  int64_t coefficient = 0;
};

class Dim {
 public:
  Dim() = default;
  Dim(int64_t constant) : constant_(constant) {}  // implicit: sizes are written as numbers
  Dim(int constant) : constant_(constant) {}
  static Dim symbol(std::string_view name);

  bool is_constant() const { return !terms_ && !overflow_; }
  int64_t constant() const { return constant_; }  // the constant term; the value if is_constant()
  bool is_constant(int64_t v) const { return is_constant() && constant_ == v; }
  std::optional<int64_t> as_constant() const {
    return is_constant() ? std::optional(constant_) : std::nullopt;
  }
  // the name if this is a single symbol with coefficient 1
  std::optional<std::string_view> as_symbol() const;
  bool overflowed() const { return overflow_; }

  const std::vector<DimTerm>& terms() const;  // without the constant; sorted
  // Calls f for each symbol that occurs, also inside floor divisions (repeats possible).
  void for_each_symbol(const std::function<void(const std::string&)>& f) const;
  bool uses(std::string_view symbol) const;

  // If this == a * symbol + rest with neither a nor rest depending on symbol: {a, rest}. nullopt if it isn't
  // linear in symbol.
  std::optional<std::pair<Dim, Dim>> linear_in(std::string_view symbol) const;

  Dim substitute(const std::map<std::string, Dim, std::less<>>& values) const;
  // Every symbol must be bound; nullopt otherwise or on overflow or division by zero.
  std::optional<int64_t> evaluate(const std::map<std::string, int64_t, std::less<>>& values) const;

  std::string to_string() const;  // "2*N+1", "(N+1)//2"; parse_dim reads it back
  uint64_t hash() const;

  friend Dim operator+(const Dim& a, const Dim& b);
  friend Dim operator-(const Dim& a, const Dim& b);
  friend Dim operator*(const Dim& a, const Dim& b);
  friend Dim floordiv(const Dim& a, const Dim& b);  // b == 0 gives an overflowed Dim
  friend bool operator==(const Dim& a, const Dim& b);
  friend int compare(const Dim& a, const Dim& b);  // a total order, for sorting

 private:
  static Dim from_terms(std::vector<DimTerm> terms, int64_t constant, bool overflow);
  int64_t constant_ = 0;
  bool overflow_ = false;
  std::shared_ptr<const std::vector<DimTerm>> terms_;
};

struct DimAtom {
  std::string name;  // the symbol; empty for a floor division
  Dim num, den;
};

Dim floordiv(const Dim& a, const Dim& b);
int compare(const Dim& a, const Dim& b);
inline bool operator!=(const Dim& a, const Dim& b) { return !(a == b); }
inline Dim operator-(const Dim& a) { return Dim(0) - a; }
inline Dim& operator+=(Dim& a, const Dim& b) { return a = a + b; }
inline Dim& operator-=(Dim& a, const Dim& b) { return a = a - b; }
inline Dim& operator*=(Dim& a, const Dim& b) { return a = a * b; }
inline Dim mod(const Dim& a, const Dim& b) { return a - b * floordiv(a, b); }
inline Dim ceildiv(const Dim& a, const Dim& b) { return floordiv(a + b - 1, b); }

// "2*N+1", "(N+1)//2", with + - * // % and parentheses, identifiers and decimal integers.
Result<Dim> parse_dim(std::string_view text);

// What is known of symbols and loop variables: lo <= v <= hi, both inclusive, possibly in terms of other
// symbols. Symbols that aren't listed are only known to be >= 0 (or >= 1 with set(name, 1, nullopt)).
class DimRanges {
 public:
  void set(std::string_view name, Dim lo, std::optional<Dim> hi);
  void erase(std::string_view name);
  // A Dim that is <= (>=) d for all allowed values, with the listed variables that have bounds eliminated;
  // nullopt if unknown.
  std::optional<Dim> lower(const Dim& d) const;
  std::optional<Dim> upper(const Dim& d) const;
  bool provably_nonnegative(const Dim& d) const;
  bool provably_less(const Dim& a, const Dim& b) const { return provably_nonnegative(b - a - 1); }
  // Rewrites floor divisions (and so mods) that the ranges decide: (16*a + b)//16 -> a if 0 <= b < 16.
  Dim simplify(const Dim& d) const;

 private:
  struct Range {
    Dim lo;
    std::optional<Dim> hi;
  };
  std::map<std::string, Range, std::less<>> ranges_;
  std::optional<Dim> bound(const Dim& d, bool upper, int depth) const;
  bool nonnegative(const Dim& d, int depth) const;
  bool bounded_nonnegative(const Dim& d) const;
};

}  // namespace graphc
