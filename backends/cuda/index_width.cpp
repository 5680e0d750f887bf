#include "backends/cuda/index_width.h"

#include <algorithm>
#include <map>
#include <optional>
#include <unordered_set>

#include "ir/loops/verify.h"

namespace graphc::cuda {
namespace {

class IndexMeasure {
 public:
  IndexMeasure(const Kernel& kernel, const DimRanges& ranges) : k_(kernel), ranges_(ranges) {}

  void measure_kernel();
  // Every one must be below 2^31 for 32-bit index arithmetic.
  const std::vector<Dim>& bounds() const { return bounds_; }
  bool unbounded() const { return unbounded_; }  // an index comes from data that nothing bounds

 private:
  std::optional<Dim> magnitude(const Dim& d);
  void note_bound(const Dim& d);
  void note(const Dim& d);
  void note_expr(const Expr& e, std::unordered_set<const ScalarNode*>& seen);
  void measure(const StmtList& list);
  Dim flat(int buffer, const std::vector<Dim>& index) const {
    const LoopBuffer& b = k_.buffers[static_cast<size_t>(buffer)];
    Dim sum(0);
    for (size_t i = 0; i < index.size(); ++i) sum = sum * b.shape[i] + index[i];
    return ranges_.simplify(sum);
  }

  const Kernel& k_;
  DimRanges ranges_;
  std::map<std::string, std::optional<Dim>, std::less<>> magnitudes_;
  std::vector<Dim> bounds_;
  bool unbounded_ = false;
};

// A bound of |d|, as a polynomial of the parameters: the sum of the terms' bounds, which bounds every
// intermediate result as well.
std::optional<Dim> IndexMeasure::magnitude(const Dim& d) {
  Dim sum(d.constant() < 0 ? -d.constant() : d.constant());
  for (const DimTerm& t : d.terms()) {
    Dim product(t.coefficient < 0 ? -t.coefficient : t.coefficient);
    for (const DimAtomRef& a : t.atoms) {
      if (a->name.empty()) {
        const auto num = magnitude(a->num), den = magnitude(a->den);
        if (!num || !den) return std::nullopt;
        note_bound(*num + *den);
        const auto c = a->den.as_constant();
        product *= c && *c > 1 ? floordiv(*num, *c) + 1 : *num;
      } else {
        const auto it = magnitudes_.find(a->name);
        if (it == magnitudes_.end() || !it->second) return std::nullopt;
        product *= *it->second;
      }
    }
    sum += product;
  }
  return sum;
}

void IndexMeasure::note_bound(const Dim& d) {
  if (std::find(bounds_.begin(), bounds_.end(), d) == bounds_.end()) bounds_.push_back(d);
}

void IndexMeasure::note(const Dim& d) {
  if (const auto m = magnitude(d))
    note_bound(*m);
  else
    unbounded_ = true;
}

void IndexMeasure::note_expr(const Expr& e, std::unordered_set<const ScalarNode*>& seen) {
  if (!e || !seen.insert(e.get()).second) return;
  if (e->op == ScalarOp::kLoad) {
    note(flat(e->buffer, e->index));
    for (const Dim& g : e->guards) note(g);
  }
  if (e->op == ScalarOp::kIndex) note(e->index[0]);
  for (const Expr& a : e->args) note_expr(a, seen);
}

void IndexMeasure::measure_kernel() {
  for (const std::string& p : k_.params) {
    // a size is bounded by what the program's ranges say, else it stands for itself
    const auto hi = ranges_.upper(Dim::symbol(p));
    magnitudes_[p] = hi && hi->is_constant() && hi->constant() < INT32_MAX ? *hi : Dim::symbol(p);
  }
  measure(k_.body);
}

void IndexMeasure::measure(const StmtList& list) {
  for (const Stmt& s : list) {
    std::unordered_set<const ScalarNode*> seen;
    for (const Dim& g : s.guards) note(g);
    if (s.kind == StmtKind::kStore) note(flat(s.buffer, s.index));
    note_expr(s.value, seen);
    if (s.kind == StmtKind::kLet && s.value.type() == DType::kI64) {
      // data: known only if it is kept between two index expressions
      std::optional<Dim> m;
      const auto bound_of = [&](const Expr& e) -> std::optional<Dim> {
        if (e.op() == ScalarOp::kConst) return Dim(e->int_value < 0 ? -e->int_value : e->int_value);
        if (e.op() == ScalarOp::kIndex) return magnitude(e->index[0]);
        return std::nullopt;
      };
      const auto side = [&](const Expr& e, ScalarOp op) -> std::pair<std::optional<Dim>, Expr> {
        if (e.op() != op) return {};
        for (int i = 0; i < 2; ++i)
          if (auto b = bound_of(e->args[static_cast<size_t>(i)]))
            return {b, e->args[static_cast<size_t>(1 - i)]};
        return {};
      };
      for (const auto& [outer, inner] :
           {std::pair(ScalarOp::kMax, ScalarOp::kMin), std::pair(ScalarOp::kMin, ScalarOp::kMax)}) {
        auto [a, rest] = side(s.value, outer);
        if (!a || !rest) continue;
        if (auto [b, x] = side(rest, inner); b) m = *a + *b;
      }
      magnitudes_[s.name] = m;
      if (s.value.op() == ScalarOp::kIndex) magnitudes_[s.name] = magnitude(s.value->index[0]);
      know(ranges_, s.name, s.value);
    }
    if (s.kind == StmtKind::kFor || s.kind == StmtKind::kReduce) {
      note(s.lo);
      std::optional<Dim> m = magnitude(s.lo);
      // below the least upper bound; past it by what a chunk rounds up
      std::optional<Dim> hi;
      for (const Dim& h : s.hi) {
        note(h);
        const auto b = magnitude(h);
        if (b && (!hi || b->is_constant())) hi = b;
      }
      const int64_t slack = s.step + int64_t{s.loop.width} * s.loop.unroll;
      magnitudes_[s.name] = m && hi ? std::optional<Dim>(*m + *hi) : std::nullopt;
      if (magnitudes_[s.name]) note_bound(*magnitudes_[s.name] + slack);
      // the variable itself stays within [lo, hi)
      if (m && m->is_constant() && hi) {
        const bool nonnegative = s.lo.is_constant() && s.lo.constant() >= 0;
        if (nonnegative) magnitudes_[s.name] = *hi;
      } else if (hi && ranges_.provably_nonnegative(s.lo)) {
        magnitudes_[s.name] = *hi;
      }
      for (const Reduction& r : s.reductions)
        if (r.value.type() == DType::kI64) magnitudes_[r.name] = std::nullopt;
    }
    if (s.kind == StmtKind::kFor || s.kind == StmtKind::kReduce) {
      ranges_.set(s.name, s.lo, s.hi[0] - 1);
      measure(s.body);
      for (const Reduction& r : s.reductions) note_expr(r.value, seen);
    } else {
      measure(s.body);
      measure(s.orelse);
    }
  }
}

}  // namespace

void know(DimRanges& ranges, const std::string& name, const Expr& value) {
  constexpr int64_t kUnknownLow = -(int64_t{1} << 40);
  Dim lo(kUnknownLow);
  std::optional<Dim> hi;
  if (value) index_range(value, &lo, &hi);
  if (ranges.provably_nonnegative(lo)) lo = 0;  // shown now, with all that lo is made of
  ranges.set(name, lo, hi);
}

IndexWidth index_width(const Kernel& kernel, const DimRanges& ranges) {
  IndexMeasure m(kernel, ranges);
  m.measure_kernel();
  IndexWidth out;
  if (m.unbounded()) return out;
  for (const Dim& d : m.bounds()) {
    if (d.overflowed() || (d.is_constant() && d.constant() >= int64_t{1} << 31)) return out;
    if (!d.is_constant()) out.narrow_if.push_back(d);
  }
  out.narrow = true;
  // what another bound implies needn't be asked
  std::vector<Dim>& all = out.narrow_if;
  for (size_t i = 0; i < all.size();) {
    bool implied = false;
    for (size_t j = 0; j < all.size() && !implied; ++j)
      implied = i != j && ranges.provably_nonnegative(all[j] - all[i]);
    if (implied)
      all.erase(all.begin() + static_cast<int64_t>(i));
    else
      ++i;
  }
  return out;
}

}  // namespace graphc::cuda
