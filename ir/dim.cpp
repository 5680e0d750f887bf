#include "ir/dim.h"

#include <algorithm>

#include <fmt/format.h>

namespace graphc {
namespace {

int compare_atoms(const DimAtom& a, const DimAtom& b) {
  if (&a == &b) return 0;
  if (a.name.empty() != b.name.empty()) return a.name.empty() ? 1 : -1;  // symbols before floor divisions
  if (int c = a.name.compare(b.name)) return c < 0 ? -1 : 1;
  if (!a.name.empty()) return 0;
  if (int c = compare(a.num, b.num)) return c;
  return compare(a.den, b.den);
}

int compare_monomials(const DimMonomial& a, const DimMonomial& b) {
  if (a.size() != b.size()) return a.size() > b.size() ? -1 : 1;  // higher degree first
  for (size_t i = 0; i < a.size(); ++i)
    if (int c = compare_atoms(*a[i], *b[i])) return c;
  return 0;
}

bool atom_less(const DimAtomRef& a, const DimAtomRef& b) { return compare_atoms(*a, *b) < 0; }

const std::vector<DimTerm> kNoTerms;

// The quotient of monomials if b divides a.
std::optional<DimMonomial> divide(const DimMonomial& a, const DimMonomial& b) {
  DimMonomial rest;
  size_t j = 0;
  for (const auto& x : a) {
    if (j < b.size() && compare_atoms(*x, *b[j]) == 0)
      ++j;
    else
      rest.push_back(x);
  }
  if (j != b.size()) return std::nullopt;
  return rest;
}

int64_t floor_div(int64_t a, int64_t b) {
  int64_t q = a / b;
  return (a % b != 0 && ((a < 0) != (b < 0))) ? q - 1 : q;
}

}  // namespace

const std::vector<DimTerm>& Dim::terms() const { return terms_ ? *terms_ : kNoTerms; }

Dim Dim::symbol(std::string_view name) {
  auto atom = std::make_shared<DimAtom>();
  atom->name = std::string(name);
  std::vector<DimTerm> t(1);
  t[0].atoms = {std::move(atom)};
  t[0].coefficient = 1;
  return from_terms(std::move(t), 0, false);
}

Dim Dim::from_terms(std::vector<DimTerm> terms, int64_t constant, bool overflow) {
  Dim d;
  d.constant_ = constant;
  d.overflow_ = overflow;
  if (!terms.empty()) d.terms_ = std::make_shared<const std::vector<DimTerm>>(std::move(terms));
  return d;
}

std::optional<std::string_view> Dim::as_symbol() const {
  if (overflow_ || constant_ != 0 || !terms_ || terms_->size() != 1) return std::nullopt;
  const DimTerm& t = (*terms_)[0];
  if (t.coefficient != 1 || t.atoms.size() != 1 || t.atoms[0]->name.empty()) return std::nullopt;
  return t.atoms[0]->name;
}

void Dim::for_each_symbol(const std::function<void(const std::string&)>& f) const {
  for (const DimTerm& t : terms())
    for (const DimAtomRef& a : t.atoms) {
      if (!a->name.empty())
        f(a->name);
      else {
        a->num.for_each_symbol(f);
        a->den.for_each_symbol(f);
      }
    }
}

bool Dim::uses(std::string_view symbol) const {
  for (const DimTerm& t : terms())
    for (const DimAtomRef& a : t.atoms)
      if (a->name.empty() ? (a->num.uses(symbol) || a->den.uses(symbol)) : a->name == symbol) return true;
  return false;
}

Dim operator+(const Dim& a, const Dim& b) {
  int64_t c = 0;
  bool overflow = a.overflow_ || b.overflow_ || __builtin_add_overflow(a.constant_, b.constant_, &c);
  if (!a.terms_ && !b.terms_) {
    Dim d(c);
    d.overflow_ = overflow;
    return d;
  }
  std::vector<DimTerm> out;
  const auto& x = a.terms();
  const auto& y = b.terms();
  out.reserve(x.size() + y.size());
  size_t i = 0, j = 0;
  while (i < x.size() || j < y.size()) {
    int order = i == x.size() ? 1 : j == y.size() ? -1 : compare_monomials(x[i].atoms, y[j].atoms);
    if (order < 0)
      out.push_back(x[i++]);
    else if (order > 0)
      out.push_back(y[j++]);
    else {
      int64_t s = 0;
      overflow |= __builtin_add_overflow(x[i].coefficient, y[j].coefficient, &s);
      if (s != 0) out.push_back({x[i].atoms, s});
      ++i, ++j;
    }
  }
  return Dim::from_terms(std::move(out), c, overflow);
}

Dim operator*(const Dim& a, const Dim& b) {
  bool overflow = a.overflow_ || b.overflow_;
  int64_t c = 0;
  overflow |= __builtin_mul_overflow(a.constant_, b.constant_, &c);
  if (!a.terms_ && !b.terms_) {
    Dim d(c);
    d.overflow_ = overflow;
    return d;
  }
  std::vector<DimTerm> out;
  auto push = [&](const DimMonomial& m, const DimMonomial& n, int64_t p, int64_t q) {
    int64_t k = 0;
    overflow |= __builtin_mul_overflow(p, q, &k);
    if (k == 0) return;
    DimTerm t;
    t.coefficient = k;
    t.atoms.reserve(m.size() + n.size());
    std::merge(m.begin(), m.end(), n.begin(), n.end(), std::back_inserter(t.atoms), atom_less);
    out.push_back(std::move(t));
  };
  const DimMonomial one;
  for (const DimTerm& x : a.terms()) {
    for (const DimTerm& y : b.terms()) push(x.atoms, y.atoms, x.coefficient, y.coefficient);
    if (b.constant_) push(x.atoms, one, x.coefficient, b.constant_);
  }
  if (a.constant_)
    for (const DimTerm& y : b.terms()) push(one, y.atoms, a.constant_, y.coefficient);
  std::sort(out.begin(), out.end(),
            [](const DimTerm& x, const DimTerm& y) { return compare_monomials(x.atoms, y.atoms) < 0; });
  std::vector<DimTerm> merged;
  for (DimTerm& t : out) {
    if (!merged.empty() && compare_monomials(merged.back().atoms, t.atoms) == 0)
      overflow |=
          __builtin_add_overflow(merged.back().coefficient, t.coefficient, &merged.back().coefficient);
    else
      merged.push_back(std::move(t));
  }
  std::erase_if(merged, [](const DimTerm& t) { return t.coefficient == 0; });
  return Dim::from_terms(std::move(merged), c, overflow);
}

Dim operator-(const Dim& a, const Dim& b) { return a + b * Dim(-1); }

bool operator==(const Dim& a, const Dim& b) { return compare(a, b) == 0; }

int compare(const Dim& a, const Dim& b) {
  if (a.overflow_ != b.overflow_) return a.overflow_ ? 1 : -1;
  const auto& x = a.terms();
  const auto& y = b.terms();
  if (a.terms_ != b.terms_) {
    if (x.size() != y.size()) return x.size() < y.size() ? -1 : 1;
    for (size_t i = 0; i < x.size(); ++i) {
      if (int c = compare_monomials(x[i].atoms, y[i].atoms)) return c;
      if (x[i].coefficient != y[i].coefficient) return x[i].coefficient < y[i].coefficient ? -1 : 1;
    }
  }
  return a.constant_ == b.constant_ ? 0 : a.constant_ < b.constant_ ? -1 : 1;
}

Dim floordiv(const Dim& a, const Dim& b) {
  if (a.overflow_ || b.overflow_ || b.is_constant(0)) {
    Dim d(0);
    d.overflow_ = true;
    return d;
  }
  if (b.is_constant(1)) return a;
  if (a.is_constant() && b.is_constant()) {
    if (b.constant_ == -1) return Dim(0) - a;
    return Dim(floor_div(a.constant_, b.constant_));
  }
  if (a == b) return Dim(1);
  // (x//c + k)//d == (x + c*k)//(c*d) for positive constants c, d
  if (b.is_constant() && b.constant_ > 0 && a.terms().size() == 1 && a.terms()[0].coefficient == 1 &&
      a.terms()[0].atoms.size() == 1) {
    const DimAtom& atom = *a.terms()[0].atoms[0];
    if (atom.name.empty() && atom.den.is_constant() && atom.den.constant_ > 0)
      return floordiv(atom.num + atom.den * Dim(a.constant_), atom.den * b);
  }
  // Take out what the divisor divides exactly.
  Dim whole(0), rest(0);
  bool single = b.is_constant() || (b.constant_ == 0 && b.terms().size() == 1);
  if (single) {
    int64_t k = b.is_constant() ? b.constant_ : b.terms()[0].coefficient;
    const DimMonomial m = b.is_constant() ? DimMonomial{} : b.terms()[0].atoms;
    for (const DimTerm& t : a.terms()) {
      auto q = divide(t.atoms, m);
      if (q && t.coefficient % k == 0) {
        if (q->empty())
          whole += Dim(t.coefficient / k);
        else
          whole += Dim::from_terms({{*q, t.coefficient / k}}, 0, false);
      } else {
        rest += Dim::from_terms({t}, 0, false);
      }
    }
    if (b.is_constant() && k > 0) {
      int64_t q = floor_div(a.constant_, k);
      whole += Dim(q);
      rest += Dim(a.constant_ - q * k);
      if (rest.is_constant()) return whole;
    } else {
      rest += Dim(a.constant_);
    }
  } else {
    rest = a;
    // (p*b + r)//b for a multi-term b: take out one exact multiple if a - p*b gets simpler
    if (!a.terms().empty()) {
      const DimTerm &ta = a.terms()[0], &tb = b.terms()[0];
      auto q = divide(ta.atoms, tb.atoms);
      if (q && ta.coefficient % tb.coefficient == 0) {
        int64_t k = ta.coefficient / tb.coefficient;
        Dim p = q->empty() ? Dim(k) : Dim::from_terms({{*q, k}}, 0, false);
        Dim r = a - p * b;
        if (r.terms().size() < a.terms().size()) return p + floordiv(r, b);
      }
    }
  }
  if (rest.is_constant(0)) return whole;
  if (b.is_constant() && b.constant_ > 1) {  // divide numerator and divisor by a common factor
    int64_t g = b.constant_;
    for (const DimTerm& t : rest.terms()) g = std::__gcd(g, std::abs(t.coefficient));
    if (g > 1) {
      Dim reduced(floor_div(rest.constant_, g));
      std::vector<DimTerm> ts = rest.terms();
      for (DimTerm& t : ts) t.coefficient /= g;
      return whole + floordiv(Dim::from_terms(std::move(ts), reduced.constant_, false), Dim(b.constant_ / g));
    }
  }
  auto atom = std::make_shared<DimAtom>();
  atom->num = rest;
  atom->den = b;
  std::vector<DimTerm> t(1);
  t[0].atoms = {std::move(atom)};
  t[0].coefficient = 1;
  return whole + Dim::from_terms(std::move(t), 0, false);
}

std::optional<std::pair<Dim, Dim>> Dim::linear_in(std::string_view symbol) const {
  Dim factor(0), rest(constant_);
  for (const DimTerm& t : terms()) {
    int count = 0;
    DimMonomial others;
    for (const DimAtomRef& a : t.atoms) {
      if (a->name.empty()) {
        if (a->num.uses(symbol) || a->den.uses(symbol)) return std::nullopt;
        others.push_back(a);
      } else if (a->name == symbol) {
        ++count;
      } else {
        others.push_back(a);
      }
    }
    if (count > 1) return std::nullopt;
    if (count == 0)
      rest += from_terms({t}, 0, false);
    else
      factor += others.empty() ? Dim(t.coefficient) : from_terms({{others, t.coefficient}}, 0, false);
  }
  return std::pair{factor, rest};
}

Dim Dim::substitute(const std::map<std::string, Dim, std::less<>>& values) const {
  if (!terms_) return *this;
  Dim out(constant_);
  out.overflow_ = overflow_;
  for (const DimTerm& t : *terms_) {
    Dim product(t.coefficient);
    for (const DimAtomRef& a : t.atoms) {
      if (a->name.empty()) {
        product *= floordiv(a->num.substitute(values), a->den.substitute(values));
      } else if (auto it = values.find(a->name); it != values.end()) {
        product *= it->second;
      } else {
        product *= from_terms({{{a}, 1}}, 0, false);
      }
    }
    out += product;
  }
  return out;
}

std::optional<int64_t> Dim::evaluate(const std::map<std::string, int64_t, std::less<>>& values) const {
  if (overflow_) return std::nullopt;
  int64_t sum = constant_;
  for (const DimTerm& t : terms()) {
    int64_t product = t.coefficient;
    for (const DimAtomRef& a : t.atoms) {
      int64_t v = 0;
      if (a->name.empty()) {
        auto n = a->num.evaluate(values), d = a->den.evaluate(values);
        if (!n || !d || *d == 0 || (*d == -1 && *n == INT64_MIN)) return std::nullopt;
        v = floor_div(*n, *d);
      } else {
        auto it = values.find(a->name);
        if (it == values.end()) return std::nullopt;
        v = it->second;
      }
      if (__builtin_mul_overflow(product, v, &product)) return std::nullopt;
    }
    if (__builtin_add_overflow(sum, product, &sum)) return std::nullopt;
  }
  return sum;
}

std::string Dim::to_string() const {
  if (overflow_) return "<overflow>";
  std::string out;
  auto sign = [&](int64_t& c) {
    if (c < 0) {
      out += '-';
      c = -c;
    } else if (!out.empty())
      out += '+';
  };
  for (const DimTerm& t : terms()) {
    int64_t c = t.coefficient;
    sign(c);
    bool first = true;
    if (c != 1) {
      out += fmt::format("{}", c);
      first = false;
    }
    for (const DimAtomRef& a : t.atoms) {
      if (!first) out += '*';
      first = false;
      if (!a->name.empty()) {
        out += a->name;
        continue;
      }
      std::string n = a->num.to_string(), d = a->den.to_string();
      // a quotient is parenthesised as a factor: 2*(N//3) is not (2*N)//3
      bool alone = t.atoms.size() == 1 && t.coefficient == 1 && terms().size() == 1 && constant_ == 0;
      if (!a->num.as_symbol()) n = "(" + n + ")";
      if (!a->den.is_constant() && !a->den.as_symbol()) d = "(" + d + ")";
      out += alone ? fmt::format("{}//{}", n, d) : fmt::format("({}//{})", n, d);
    }
  }
  if (constant_ != 0 || out.empty()) {
    if (constant_ >= 0 && !out.empty()) out += '+';
    out += fmt::format("{}", constant_);
  }
  return out;
}

uint64_t Dim::hash() const {
  uint64_t h = 0x9E3779B97F4A7C15ull ^ static_cast<uint64_t>(constant_);
  auto mix = [&](uint64_t v) {
    h = (h ^ v) * 0xff51afd7ed558ccdull;
    h ^= h >> 32;
  };
  for (const DimTerm& t : terms()) {
    mix(static_cast<uint64_t>(t.coefficient));
    for (const DimAtomRef& a : t.atoms) {
      if (a->name.empty()) {
        mix(a->num.hash());
        mix(a->den.hash());
      } else
        mix(std::hash<std::string>{}(a->name));
    }
  }
  return h;
}

namespace {

// The number of atoms and terms d prints with, counted up to `limit`.
size_t weight(const Dim& d, size_t limit) {
  size_t n = 1;
  for (const DimTerm& t : d.terms()) {
    ++n;
    for (const DimAtomRef& a : t.atoms) {
      if (n >= limit) return n;
      n += a->name.empty() ? weight(a->num, limit - n) + weight(a->den, limit - n) : 1;
    }
  }
  return n;
}

// A short text can stand for a polynomial of exponential size ((a+b)*(c+d)*..., x%y%z...): refused early.
constexpr size_t kMaxDimWeight = 512;

class DimParser {
 public:
  explicit DimParser(std::string_view s) : s_(s) {}
  Result<Dim> parse() {
    GC_TRY(Dim d, sum(0));
    skip();
    if (i_ != s_.size()) return invalid(fmt::format("unexpected '{}' in the size '{}'", s_[i_], s_));
    if (d.overflowed()) return invalid(fmt::format("the size '{}' is out of range", s_));
    return d;
  }

 private:
  void skip() {
    while (i_ < s_.size() && s_[i_] == ' ') ++i_;
  }
  bool eat(std::string_view t) {
    skip();
    if (s_.substr(i_, t.size()) != t) return false;
    i_ += t.size();
    return true;
  }
  Result<Dim> bounded(Dim d) {
    if (weight(d, kMaxDimWeight) >= kMaxDimWeight)
      return invalid(fmt::format("the size '{:.80}...' has too many terms", s_));
    return d;
  }
  Result<Dim> sum(int depth) {
    GC_TRY(Dim a, term(depth));
    while (true) {
      if (eat("+")) {
        GC_TRY(Dim b, term(depth));
        GC_TRY(a, bounded(a + b));
      } else if (eat("-")) {
        GC_TRY(Dim b, term(depth));
        GC_TRY(a, bounded(a - b));
      } else
        return a;
    }
  }
  Result<Dim> term(int depth) {
    GC_TRY(Dim a, factor(depth));
    while (true) {
      if (eat("*")) {
        GC_TRY(Dim b, factor(depth));
        GC_TRY(a, bounded(a * b));
      } else if (eat("//")) {
        GC_TRY(Dim b, factor(depth));
        GC_TRY(a, bounded(floordiv(a, b)));
      } else if (eat("%")) {
        GC_TRY(Dim b, factor(depth));
        GC_TRY(a, bounded(mod(a, b)));
      } else
        return a;
    }
  }
  Result<Dim> factor(int depth) {
    if (depth > 64) return invalid("a size is nested more than 64 deep");
    skip();
    if (eat("-")) {
      GC_TRY(Dim a, factor(depth + 1));
      return -a;
    }
    if (eat("(")) {
      GC_TRY(Dim a, sum(depth + 1));
      if (!eat(")")) return invalid(fmt::format("')' is missing in the size '{}'", s_));
      return a;
    }
    size_t b = i_;
    auto digit = [&] { return i_ < s_.size() && s_[i_] >= '0' && s_[i_] <= '9'; };
    if (digit()) {
      int64_t v = 0;
      for (; digit(); ++i_)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, s_[i_] - '0', &v))
          return invalid(fmt::format("the number '{}' is too large for a size", s_.substr(b, i_ - b + 1)));
      return Dim(v);
    }
    auto letter = [&](bool first) {
      if (i_ >= s_.size()) return false;
      char c = s_[i_];
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' ||
             (!first && c >= '0' && c <= '9');
    };
    if (letter(true)) {
      while (letter(false)) ++i_;
      return Dim::symbol(s_.substr(b, i_ - b));
    }
    return invalid(fmt::format("expected a size, got '{}'", s_.substr(i_)));
  }
  std::string_view s_;
  size_t i_ = 0;
};

}  // namespace

Result<Dim> parse_dim(std::string_view text) { return DimParser(text).parse(); }

void DimRanges::set(std::string_view name, Dim lo, std::optional<Dim> hi) {
  ranges_[std::string(name)] = Range{std::move(lo), std::move(hi)};
}

void DimRanges::erase(std::string_view name) {
  if (auto it = ranges_.find(name); it != ranges_.end()) ranges_.erase(it);
}

std::optional<Dim> DimRanges::lower(const Dim& d) const { return bound(d, false, 0); }
std::optional<Dim> DimRanges::upper(const Dim& d) const { return bound(d, true, 0); }

// All symbols are >= 0, so a term is monotone in each atom; each listed variable is replaced by the end that
// the sign of its coefficient asks for. Unlisted symbols stay.
std::optional<Dim> DimRanges::bound(const Dim& d, bool upper, int depth) const {
  if (d.is_constant()) return d;
  if (depth > 8) return std::nullopt;
  Dim out(d.constant());
  for (const DimTerm& t : d.terms()) {
    bool want_high = (t.coefficient > 0) == upper;
    Dim product(t.coefficient);
    for (const DimAtomRef& a : t.atoms) {
      if (a->name.empty()) {
        auto n = bound(a->num, want_high, depth + 1);
        if (!n) return std::nullopt;
        if (t.atoms.size() > 1 && !provably_nonnegative(a->num)) return std::nullopt;
        product *= floordiv(*n, a->den);
      } else if (auto it = ranges_.find(a->name); it != ranges_.end()) {
        const Range& r = it->second;
        // a symbol that is only known from below stays as it is where a high end is asked
        std::optional<Dim> end = want_high ? r.hi : std::optional<Dim>(r.lo);
        if (!end || (want_high ? false : r.lo.is_constant() && !r.hi))
          product *= Dim::symbol(a->name);
        else {
          auto e = bound(*end, want_high, depth + 1);
          if (!e) return std::nullopt;
          product *= *e;
        }
      } else {
        product *= Dim::symbol(a->name);
      }
    }
    out += product;
  }
  return out;
}

bool DimRanges::provably_nonnegative(const Dim& d) const { return nonnegative(d, 0); }

bool DimRanges::nonnegative(const Dim& d, int depth) const {
  if (bounded_nonnegative(d)) return true;
  if (depth >= 3) return false;
  // The bound above takes a quotient and its numerator as independent. n//c is (n - r) / c with 0 <= r < c:
  // where a coefficient is a multiple of c that gives a bound that isn't (n - c * (n//c) >= 0).
  for (const DimTerm& t : d.terms()) {
    if (t.atoms.size() != 1 || !t.atoms[0]->name.empty() || !t.atoms[0]->den.is_constant()) continue;
    const int64_t c = t.atoms[0]->den.constant();
    if (c <= 1 || t.coefficient % c != 0) continue;
    const int64_t k = t.coefficient / c;
    Dim least = d - Dim(t.coefficient) * floordiv(t.atoms[0]->num, c) + Dim(k) * t.atoms[0]->num;
    if (k > 0) least = least - k * (c - 1);
    if (nonnegative(least, depth + 1)) return true;
  }
  return false;
}

bool DimRanges::bounded_nonnegative(const Dim& d) const {
  auto lo = lower(d);
  if (!lo || lo->overflowed()) return false;
  // What is left are symbols known only from below: substitute v = lo + v', v' >= 0, and look at the
  // coefficients.
  std::map<std::string, Dim, std::less<>> shift;
  lo->for_each_symbol([&](const std::string& s) {
    auto it = ranges_.find(s);
    if (it != ranges_.end() && it->second.lo.is_constant()) shift[s] = Dim::symbol(s) + it->second.lo;
  });
  Dim shifted = shift.empty() ? *lo : lo->substitute(shift);
  if (shifted.overflowed() || shifted.constant() < 0) return false;
  for (const DimTerm& t : shifted.terms()) {
    if (t.coefficient < 0) return false;
    for (const DimAtomRef& a : t.atoms)
      if (a->name.empty() && !(a->den.is_constant() && a->den.constant() > 0 && a->num.constant() >= 0))
        return false;
  }
  return true;
}

Dim DimRanges::simplify(const Dim& d) const {
  bool has_division = false;
  for (const DimTerm& t : d.terms())
    for (const DimAtomRef& a : t.atoms) has_division |= a->name.empty();
  if (!has_division) return d;
  Dim out(d.constant());
  for (const DimTerm& t : d.terms()) {
    Dim product(t.coefficient);
    for (const DimAtomRef& a : t.atoms) {
      if (!a->name.empty()) {
        product *= Dim::symbol(a->name);
        continue;
      }
      Dim n = simplify(a->num), den = simplify(a->den);
      Dim q = floordiv(n, den);
      // q == whole + rest//den; rest//den is 0 where 0 <= rest < den. Move single terms of the numerator out
      // where they are multiples of den already (floordiv did that), so what is left to test is the remaining
      // quotient itself.
      if (q.terms().size() >= 1) {
        Dim decided(q.constant());
        for (const DimTerm& qt : q.terms()) {
          Dim part(qt.coefficient);
          for (const DimAtomRef& qa : qt.atoms) {
            if (qa->name.empty() && provably_nonnegative(qa->num) && provably_less(qa->num, qa->den))
              part *= Dim(0);
            else if (qa->name.empty())
              part *= floordiv(qa->num, qa->den);
            else
              part *= Dim::symbol(qa->name);
          }
          decided += part;
        }
        q = decided;
      }
      product *= q;
    }
    out += product;
  }
  return out;
}

}  // namespace graphc
