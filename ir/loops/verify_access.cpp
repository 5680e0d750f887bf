// The loop verifier's indices: scopes, bounds that can be proved, registers, races that can be decided.
#include <algorithm>

#include <fmt/format.h>

#include "ir/loops/text.h"
#include "ir/loops/verifier.h"

namespace graphc {

Status Verifier::dim(const Dim& d) {
  if (d.overflowed()) return error("an index overflows");
  Status bad;
  d.for_each_symbol([&](const std::string& s) {
    if (bad.ok() && !symbols_.count(s))
      bad = error(fmt::format("the index {} uses {}, which isn't in scope", d.to_string(), s));
  });
  return bad;
}

Status Verifier::dims(const std::vector<Dim>& ds) {
  for (const Dim& d : ds) GC_CHECK(dim(d));
  return ok_status();
}

bool Verifier::lane_varying(const Dim& d) const {
  bool v = false;
  d.for_each_symbol(
      [&](const std::string& s) { v |= (vector_ && s == vector_->name) || lane_values_.count(s); });
  return v;
}

bool Verifier::only(const Dim& d, std::initializer_list<SymbolKind> kinds) const {
  bool ok = true;
  d.for_each_symbol([&](const std::string& s) {
    auto it = symbols_.find(s);
    ok &= it != symbols_.end() && std::find(kinds.begin(), kinds.end(), it->second) != kinds.end();
  });
  return ok;
}

// d >= 0, from the ranges, from a guard g with d - g >= 0, or by one of several upper bounds of a loop.
bool Verifier::nonnegative(const Dim& d, const std::vector<Dim>& guards) const {
  if (ranges_.provably_nonnegative(d)) return true;
  for (const Dim& g : guards)
    if (ranges_.provably_nonnegative(d - g)) return true;
  for (const auto& [name, his] : alternatives_) {
    if (!d.uses(name)) continue;
    DimRanges r = ranges_;
    for (const auto& [lo, hi] : his) {
      r.set(name, lo, hi - 1);
      if (r.provably_nonnegative(d)) return true;
      for (const Dim& g : guards)
        if (r.provably_nonnegative(d - g)) return true;
    }
  }
  return false;
}

Status Verifier::access(int id, const std::vector<Dim>& index, const std::vector<Dim>& guards, bool write,
                        size_t missing) {
  if (id < 0 || id >= static_cast<int>(k_.buffers.size())) return error("there is no such buffer");
  const LoopBuffer& b = k_.buffers[static_cast<size_t>(id)];
  if (!live_.count(id)) return error(fmt::format("buffer %{} isn't in scope", b.name));
  if (index.size() + missing != b.shape.size())
    return error(
        fmt::format("%{} has rank {}, the index {}", b.name, b.shape.size(), index.size() + missing));
  GC_CHECK(dims(index));
  if (write && b.kind == BufferKind::kArg && !b.written)
    return error(fmt::format("argument %{} is not `mut`", b.name));
  if (b.kind == BufferKind::kRegister) GC_CHECK(register_index(id, index));
  std::vector<Dim> known = guards;
  known.insert(known.end(), conditions_.begin(), conditions_.end());
  bool all = true;
  for (size_t i = 0; i < index.size(); ++i) {
    const Dim& n = b.shape[i];
    Dim v = ranges_.simplify(index[i]);
    all &= nonnegative(v, known) && nonnegative(n - 1 - v, known);
    // A guard may be what keeps it in bounds, so only an unguarded access can be shown to be wrong.
    if (known.empty() && alternative_conditions_.empty() && !loop_may_be_empty_) {
      auto hi = ranges_.upper(v), lo = ranges_.lower(v);
      if ((hi && hi->is_constant() && hi->constant() < 0) || (lo && ranges_.provably_nonnegative(*lo - n)))
        return error(fmt::format("index {} of %{} is out of bounds 0..{}", index[i].to_string(), b.name,
                                 n.to_string()));
    }
  }
  if (report_) {
    if (all)
      ++report_->proved;
    else
      report_->unproved.push_back(fmt::format("%{} in `{}`", b.name, describe_stmt(k_, *current_)));
  }
  if (write) GC_CHECK(race(id, index, guards));
  return ok_status();
}

Status Verifier::register_index(int id, const std::vector<Dim>& index) {
  const LoopBuffer& b = k_.buffers[static_cast<size_t>(id)];
  bool is_private = private_.count(id);
  const size_t first = distributed_.count(id) ? 1 : 0;
  if (first) GC_CHECK(distributed_index(id, index[0]));
  for (size_t i = first; i < index.size(); ++i) {
    const Dim& d = index[i];
    Dim rest = d;
    if (vector_ && d.uses(vector_->name)) {
      auto linear = d.linear_in(vector_->name);
      if (is_private)
        return error(fmt::format("%{} belongs to one lane, its index can't use {}", b.name, vector_->name));
      if (!linear || !linear->first.is_constant() || !vector_->lo.is_constant() || vector_->hi.size() != 1 ||
          !only(vector_->hi[0], {SymbolKind::kUnroll}))
        return error(fmt::format("the lane of {} isn't constant in the index of register buffer %{}",
                                 vector_->name, b.name));
      rest = linear->second;
    }
    if (!only(rest, {SymbolKind::kUnroll}))
      return error(fmt::format("the index {} of register buffer %{} isn't constant after unrolling",
                               d.to_string(), b.name));
  }
  return ok_status();
}

// Every iteration of a parallel loop, and every lane, must write elements of its own. An index that doesn't
// use the variable at all (nor data) is written by all of them.
Status Verifier::race(int id, const std::vector<Dim>& index, const std::vector<Dim>& guards) {
  const LoopBuffer& b = k_.buffers[static_cast<size_t>(id)];
  // Whether something of the access may differ between the iterations of a loop; `varies` says of a value
  // from data whether it may.
  auto uses = [&](const std::string& name, const auto& varies) {
    auto one = [&](const Dim& d) {
      bool data = false;
      bool depends = false;
      d.for_each_symbol([&](const std::string& s) {
        if (auto it = depends_.find(s); it != depends_.end()) depends |= it->second.count(name) > 0;
        data |= varies(s);
      });
      return d.uses(name) || depends || data;
    };
    auto any = [&](const std::vector<Dim>& ds) { return std::any_of(ds.begin(), ds.end(), one); };
    return any(index) || any(guards) || any(conditions_) || any(alternative_conditions_);
  };
  auto from_data = [&](Level level) {
    return [this, level](const std::string& s) {
      auto it = level_.find(s);
      return it != level_.end() && it->second >= level;
    };
  };
  auto single = [](const Stmt& s) {
    Dim extent = s.hi[0] - s.lo;
    return extent.is_constant() && extent.constant() <= s.step;
  };
  if (vector_ && !private_.count(id) && !single(*vector_) &&
      !uses(vector_->name, [&](const std::string& s) { return lane_values_.count(s) > 0; }))
    return error(fmt::format("all lanes of {} write the same element of %{}", vector_->name, b.name));
  if (b.kind != BufferKind::kArg && b.kind != BufferKind::kShared) return ok_status();
  if (thread_ && !single(*thread_) && !uses(thread_->name, from_data(kOneThread)))
    return error(fmt::format("all threads of {} write the same element of %{}", thread_->name, b.name));
  if (warp_ && !single(*warp_) && !uses(warp_->name, from_data(kGroup)))
    return error(fmt::format("all groups of {} write the same element of %{}", warp_->name, b.name));
  if (b.kind != BufferKind::kArg) return ok_status();
  for (const Stmt* p : parallel_)
    if (!single(*p) && !uses(p->name, from_data(kBlock)))
      return error(fmt::format("all iterations of {} write the same element of %{}", p->name, b.name));
  return ok_status();
}

}  // namespace graphc
