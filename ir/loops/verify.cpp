#include "ir/loops/verify.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include <fmt/format.h>

#include "ir/loops/text.h"

namespace graphc {
namespace {

constexpr int64_t kUnknownLow = -(int64_t{1} << 40);
constexpr int kMaxRegisters = 4096;
constexpr int64_t kMaxStackBytes = 256 << 10;

bool valid_name(const std::string& n) {
  auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !n.empty() && letter(n[0]) &&
         std::all_of(n.begin(), n.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

// A name that Dims may use, and what its value is.
enum class SymbolKind { kParam, kLoop, kUnroll, kParallel, kVector, kData };

class Verifier {
 public:
  Verifier(const Kernel& k, VerifyReport* report) : k_(k), report_(report) {}

  Status run() {
    GC_CHECK(signature());
    const StmtList* body = &k_.body;
    // the parallel nest
    int nested = 0;
    while (body->size() == 1 && (*body)[0].kind == StmtKind::kFor &&
           (*body)[0].loop.kind == LoopKind::kParallel) {
      const Stmt& s = (*body)[0];
      current_ = &s;
      if (s.hi.size() != 1) return error("a parallel loop has one upper bound");
      GC_CHECK(loop_head(s));
      if (ranges_.provably_nonnegative(s.lo - s.hi[0])) loop_may_be_empty_ = true;
      if (Status st = enter(s); !st.ok()) return st;
      body = &s.body;
      ++nested;
    }
    GC_CHECK(block(*body));
    for (size_t i = 0; i < k_.buffers.size(); ++i)
      if (k_.buffers[i].kind != BufferKind::kArg && !declared_ever_.count(static_cast<int>(i)))
        return error(fmt::format("buffer %{} is declared nowhere", k_.buffers[i].name));
    return ok_status();
  }

 private:
  Status error(std::string what) const {
    if (current_)
      return invalid(fmt::format("kernel @{}: {}, in `{}`", k_.name, what, describe_stmt(k_, *current_)));
    return invalid(fmt::format("kernel @{}: {}", k_.name, what));
  }

  Status add_name(const std::string& n) {
    if (!valid_name(n)) return error(fmt::format("'{}' is no valid name", n));
    if (!names_.insert(n).second) return error(fmt::format("the name {} is taken", n));
    scope_.push_back(n);
    return ok_status();
  }
  void leave(size_t mark) {
    while (scope_.size() > mark) {
      const std::string& n = scope_.back();
      names_.erase(n);
      symbols_.erase(n);
      values_.erase(n);
      ranges_.erase(n);
      lane_values_.erase(n);
      alternatives_.erase(n);
      depends_.erase(n);
      if (int id = k_.find_buffer(n); id >= 0) live_.erase(id);
      scope_.pop_back();
    }
  }

  Status signature() {
    if (!valid_name(k_.name)) return error(fmt::format("'{}' is no valid name", k_.name));
    for (const std::string& p : k_.params) {
      GC_CHECK(add_name(p));
      symbols_[p] = SymbolKind::kParam;
    }
    bool others = false;
    std::set<std::string> buffer_names;
    for (size_t i = 0; i < k_.buffers.size(); ++i) {
      const LoopBuffer& b = k_.buffers[i];
      if (!valid_name(b.name)) return error(fmt::format("'{}' is no valid name", b.name));
      if (!buffer_names.insert(b.name).second) return error(fmt::format("two buffers are named %{}", b.name));
      if (b.kind == BufferKind::kArg) {
        if (others) return error(fmt::format("argument %{} follows a local buffer", b.name));
        GC_CHECK(add_name(b.name));
        live_.insert(static_cast<int>(i));
      } else {
        others = true;
      }
      if (b.shape.size() > 8) return error(fmt::format("%{} has a rank above 8", b.name));
      int64_t elements = 1;
      for (const Dim& d : b.shape) {
        bool constant_needed = b.kind == BufferKind::kRegister || b.kind == BufferKind::kStack;
        if (d.overflowed()) return error(fmt::format("the shape of %{} overflows", b.name));
        if (constant_needed && !d.is_constant())
          return error(fmt::format("the shape of %{} must be constant", b.name));
        if (d.is_constant() && d.constant() < 0)
          return error(fmt::format("the shape of %{} is negative", b.name));
        if (constant_needed && __builtin_mul_overflow(elements, d.constant(), &elements))
          return error(fmt::format("the shape of %{} overflows", b.name));
        Status bad;
        d.for_each_symbol([&](const std::string& s) {
          auto it = symbols_.find(s);
          if (it == symbols_.end() || it->second != SymbolKind::kParam)
            bad = error(fmt::format("the shape of %{} uses {}, which is no parameter", b.name, s));
        });
        GC_CHECK(bad);
      }
      if (b.kind == BufferKind::kRegister && elements > kMaxRegisters)
        return error(fmt::format("register buffer %{} has more than {} elements", b.name, kMaxRegisters));
      if (b.kind == BufferKind::kStack &&
          elements > kMaxStackBytes / static_cast<int64_t>(dtype_size(b.type)))
        return error(fmt::format("stack buffer %{} is larger than 256 KiB; use scratch", b.name));
      if (b.alias >= 0) {
        if (b.kind != BufferKind::kArg || b.alias >= static_cast<int>(i) ||
            k_.buffers[static_cast<size_t>(b.alias)].kind != BufferKind::kArg)
          return error(fmt::format("%{} may only alias an earlier argument", b.name));
      }
    }
    return ok_status();
  }

  // ---- index expressions

  Status dim(const Dim& d) {
    if (d.overflowed()) return error("an index overflows");
    Status bad;
    d.for_each_symbol([&](const std::string& s) {
      if (bad.ok() && !symbols_.count(s))
        bad = error(fmt::format("the index {} uses {}, which isn't in scope", d.to_string(), s));
    });
    return bad;
  }
  Status dims(const std::vector<Dim>& ds) {
    for (const Dim& d : ds) GC_CHECK(dim(d));
    return ok_status();
  }
  bool lane_varying(const Dim& d) const {
    bool v = false;
    d.for_each_symbol(
        [&](const std::string& s) { v |= (vector_ && s == vector_->name) || lane_values_.count(s); });
    return v;
  }
  bool only(const Dim& d, std::initializer_list<SymbolKind> kinds) const {
    bool ok = true;
    d.for_each_symbol([&](const std::string& s) {
      auto it = symbols_.find(s);
      ok &= it != symbols_.end() && std::find(kinds.begin(), kinds.end(), it->second) != kinds.end();
    });
    return ok;
  }

  // d >= 0, from the ranges, from a guard g with d - g >= 0, or by one of several upper bounds of a loop.
  bool nonnegative(const Dim& d, const std::vector<Dim>& guards) const {
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

  Status access(int id, const std::vector<Dim>& index, const std::vector<Dim>& guards, bool write,
                size_t missing = 0) {
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

  Status register_index(int id, const std::vector<Dim>& index) {
    const LoopBuffer& b = k_.buffers[static_cast<size_t>(id)];
    bool is_private = private_.count(id);
    for (const Dim& d : index) {
      Dim rest = d;
      if (vector_ && d.uses(vector_->name)) {
        auto linear = d.linear_in(vector_->name);
        if (is_private)
          return error(fmt::format("%{} belongs to one lane, its index can't use {}", b.name, vector_->name));
        if (!linear || !linear->first.is_constant() || !vector_->lo.is_constant() ||
            vector_->hi.size() != 1 || !only(vector_->hi[0], {SymbolKind::kUnroll}))
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
  Status race(int id, const std::vector<Dim>& index, const std::vector<Dim>& guards) {
    const LoopBuffer& b = k_.buffers[static_cast<size_t>(id)];
    auto uses = [&](const std::string& name, bool lane) {
      auto one = [&](const Dim& d) {
        bool data = false;
        bool depends = false;
        d.for_each_symbol([&](const std::string& s) {
          if (auto it = depends_.find(s); it != depends_.end()) depends |= it->second.count(name) > 0;
          data |= lane ? lane_values_.count(s) > 0 : symbols_.at(s) == SymbolKind::kData;
        });
        return d.uses(name) || depends || data;
      };
      auto any = [&](const std::vector<Dim>& ds) { return std::any_of(ds.begin(), ds.end(), one); };
      return any(index) || any(guards) || any(conditions_) || any(alternative_conditions_);
    };
    if (vector_ && !private_.count(id) && !uses(vector_->name, true)) {
      Dim extent = vector_->hi[0] - vector_->lo;
      if (!extent.is_constant() || extent.constant() > 1)
        return error(fmt::format("all lanes of {} write the same element of %{}", vector_->name, b.name));
    }
    if (b.kind != BufferKind::kArg) return ok_status();
    for (const Stmt* p : parallel_) {
      bool single = (p->hi[0] - p->lo).is_constant() && (p->hi[0] - p->lo).constant() <= p->step;
      if (!single && !uses(p->name, false))
        return error(fmt::format("all iterations of {} write the same element of %{}", p->name, b.name));
    }
    return ok_status();
  }

  // ---- expressions

  Status expr(const Expr& e, bool* lanes) {
    if (!e) return error("an expression is missing");
    std::unordered_map<const ScalarNode*, bool> seen;
    return node(e, seen, lanes, 0);
  }

  Status node(const Expr& e, std::unordered_map<const ScalarNode*, bool>& seen, bool* lanes, int depth) {
    if (!e) return error("an operand is missing");
    if (depth > 2000) {
      current_ = nullptr;  // too deep to be shown
      return error("an expression is nested more than 2000 deep");
    }
    if (auto it = seen.find(e.get()); it != seen.end()) {
      *lanes |= it->second;
      return ok_status();
    }
    const ScalarNode& n = *e;
    bool mine = false;
    switch (n.op) {
      case ScalarOp::kConst: break;
      case ScalarOp::kArg: return error("an operand of a region is left in the program");
      case ScalarOp::kVar: {
        auto it = values_.find(n.name);
        if (it == values_.end()) return error(fmt::format("%{} isn't in scope", n.name));
        if (it->second != n.type)
          return error(
              fmt::format("%{} is {}, used as {}", n.name, dtype_name(it->second), dtype_name(n.type)));
        mine = lane_values_.count(n.name) > 0;
        break;
      }
      case ScalarOp::kIndex:
        if (n.index.size() != 1 || n.type != DType::kI64) return error("index() is one i64");
        GC_CHECK(dim(n.index[0]));
        mine = lane_varying(n.index[0]);
        break;
      case ScalarOp::kLoad: {
        GC_CHECK(dims(n.guards));
        GC_CHECK(access(n.buffer, n.index, n.guards, false));
        if (k_.buffers[static_cast<size_t>(n.buffer)].type != n.type)
          return error(fmt::format("%{} is loaded as {}", k_.buffers[static_cast<size_t>(n.buffer)].name,
                                   dtype_name(n.type)));
        if (n.args.size() != 1 || n.args[0].op() != ScalarOp::kConst || n.args[0].type() != n.type)
          return error("a load's alternative is a constant of its type");
        for (const Dim& d : n.index) mine |= lane_varying(d);
        for (const Dim& d : n.guards) mine |= lane_varying(d);
        mine |= private_.count(n.buffer) > 0;
        break;
      }
      default: {
        for (const Expr& a : n.args) GC_CHECK(node(a, seen, &mine, depth + 1));
        GC_CHECK(types(n));
        break;
      }
    }
    seen[e.get()] = mine;
    *lanes |= mine;
    return ok_status();
  }

  Status types(const ScalarNode& n) {
    auto bad = [&](std::string_view why) { return error(fmt::format("{}: {}", scalar_op_name(n.op), why)); };
    auto arity = [&](size_t c) { return n.args.size() == c; };
    auto t = [&](size_t i) { return n.args[i].type(); };
    if (n.op == ScalarOp::kCast) return arity(1) ? ok_status() : bad("takes one operand");
    if (n.op == ScalarOp::kIsNan)
      return arity(1) && n.type == DType::kBool ? ok_status() : bad("takes one operand and gives bool");
    if (n.op == ScalarOp::kSelect)
      return arity(3) && t(0) == DType::kBool && t(1) == n.type && t(2) == n.type
                 ? ok_status()
                 : bad("takes a bool and two values of its type");
    if (n.op == ScalarOp::kPhilox) {
      bool ok = arity(5) && n.type == DType::kU32 && t(4) == DType::kI64;
      for (size_t i = 0; ok && i < 4; ++i) ok = t(i) == DType::kU32;
      return ok ? ok_status() : bad("takes four u32 and an i64");
    }
    if (n.op >= ScalarOp::kEq && n.op <= ScalarOp::kGe)
      return arity(2) && t(0) == t(1) && n.type == DType::kBool ? ok_status()
                                                                : bad("compares two values of one type");
    bool two = n.op >= ScalarOp::kAdd && n.op <= ScalarOp::kShr;
    if (!arity(two ? 2 : 1)) return bad(two ? "takes two operands" : "takes one operand");
    for (const Expr& a : n.args)
      if (a.type() != n.type)
        return bad(fmt::format("gives {}, its operand is {}", dtype_name(n.type), dtype_name(a.type())));
    bool float_only = (n.op >= ScalarOp::kExp && n.op <= ScalarOp::kErf) || n.op == ScalarOp::kAtan2;
    bool int_only = n.op == ScalarOp::kNot || (n.op >= ScalarOp::kAnd && n.op <= ScalarOp::kShr);
    if (float_only && !is_float(n.type)) return bad("needs a float");
    if (int_only && is_float(n.type)) return bad("needs an integer or bool");
    return ok_status();
  }

  // ---- statements

  Status loop_head(const Stmt& s) {
    if (s.hi.empty()) return error("a loop needs an upper bound");
    if (s.step < 1) return error("a step is at least 1");
    GC_CHECK(dim(s.lo));
    GC_CHECK(dims(s.hi));
    if (lane_varying(s.lo) ||
        std::any_of(s.hi.begin(), s.hi.end(), [&](const Dim& d) { return lane_varying(d); }))
      return error("the bounds depend on lanes");
    if (s.loop.kind == LoopKind::kVector) {
      if (vector_) return error(fmt::format("it is inside the vector loop {}", vector_->name));
      if (s.loop.width < 1 || s.loop.unroll < 1) return error("width and unroll are at least 1");
      if (s.step != 1) return error("a vector loop's step is 1");
    }
    if (s.loop.kind == LoopKind::kUnroll) {
      if (!only(s.lo, {SymbolKind::kUnroll}) || !std::all_of(s.hi.begin(), s.hi.end(), [&](const Dim& d) {
            return only(d, {SymbolKind::kUnroll});
          }))
        return error("an unrolled loop's bounds aren't constant");
    }
    return ok_status();
  }

  Status enter(const Stmt& s) {
    GC_CHECK(add_name(s.name));
    std::set<std::string>& on = depends_[s.name];
    on.clear();
    auto depend = [&](const std::string& symbol) {
      on.insert(symbol);
      if (auto it = depends_.find(symbol); it != depends_.end())
        on.insert(it->second.begin(), it->second.end());
    };
    s.lo.for_each_symbol(depend);
    for (const Dim& h : s.hi) h.for_each_symbol(depend);
    Dim hi = s.hi[0] - 1;
    ranges_.set(s.name, s.lo, hi);
    if (s.hi.size() > 1) {
      auto& a = alternatives_[s.name];
      a.clear();
      for (const Dim& h : s.hi) a.emplace_back(s.lo, h);
    } else {
      alternatives_.erase(s.name);
    }
    switch (s.loop.kind) {
      case LoopKind::kParallel:
        symbols_[s.name] = SymbolKind::kParallel;
        parallel_.push_back(&s);
        break;
      case LoopKind::kVector: symbols_[s.name] = SymbolKind::kVector; break;
      case LoopKind::kUnroll: symbols_[s.name] = SymbolKind::kUnroll; break;
      case LoopKind::kThread:
      case LoopKind::kWarp:
      case LoopKind::kSerial: symbols_[s.name] = SymbolKind::kLoop; break;
    }
    return ok_status();
  }

  Status block(const StmtList& list) {
    size_t mark = scope_.size();
    for (const Stmt& s : list) {
      const Stmt* outer = current_;
      current_ = &s;
      GC_CHECK(statement(s));
      current_ = outer;
    }
    leave(mark);
    return ok_status();
  }

  Status define(const std::string& name, DType t, bool lanes, const Expr* value) {
    GC_CHECK(add_name(name));
    values_[name] = t;
    if (lanes) lane_values_.insert(name);
    if (t == DType::kI64) {
      symbols_[name] = SymbolKind::kData;
      Dim lo(kUnknownLow);
      std::optional<Dim> hi;
      if (value) clamp(*value, &lo, &hi);
      ranges_.set(name, lo, hi);
    }
    return ok_status();
  }

  // The range of maximum(minimum(.., hi), lo), in either order, and of min and max alone.
  void clamp(const Expr& e, Dim* lo, std::optional<Dim>* hi) {
    auto bound = [&](const Expr& b) -> std::optional<Dim> {
      if (b.op() == ScalarOp::kConst) return Dim(b->int_value);
      if (b.op() == ScalarOp::kIndex) return b->index[0];
      return {};
    };
    if (e.op() != ScalarOp::kMax && e.op() != ScalarOp::kMin) return;
    for (int side = 0; side < 2; ++side) {
      auto b = bound(e->args[static_cast<size_t>(side)]);
      if (!b) continue;
      clamp(e->args[static_cast<size_t>(1 - side)], lo, hi);
      // the outer bound wins where the two contradict each other
      if (e.op() == ScalarOp::kMax) {
        *lo = *b;
        if (*hi && (*hi)->is_constant() && b->is_constant() && (*hi)->constant() < b->constant()) *hi = *b;
      } else {
        *hi = *b;
        if (lo->is_constant() && b->is_constant() && lo->constant() > b->constant()) *lo = *b;
      }
      return;
    }
  }

  Status statement(const Stmt& s) {
    switch (s.kind) {
      case StmtKind::kLet: {
        bool lanes = false;
        GC_CHECK(expr(s.value, &lanes));
        return define(s.name, s.value.type(), lanes, &s.value);
      }
      case StmtKind::kStore: {
        bool lanes = false;
        GC_CHECK(expr(s.value, &lanes));
        GC_CHECK(dims(s.guards));
        GC_CHECK(access(s.buffer, s.index, s.guards, true));
        const LoopBuffer& b = k_.buffers[static_cast<size_t>(s.buffer)];
        if (s.value.type() != b.type)
          return error(fmt::format("a {} is stored to %{}, which is {}", dtype_name(s.value.type()), b.name,
                                   dtype_name(b.type)));
        return ok_status();
      }
      case StmtKind::kBarrier: return ok_status();
      case StmtKind::kPrefetch: {
        if (s.buffer < 0 || s.buffer >= static_cast<int>(k_.buffers.size()) || !live_.count(s.buffer))
          return error("there is no such buffer");
        if (k_.buffers[static_cast<size_t>(s.buffer)].kind == BufferKind::kRegister)
          return error("registers can't be prefetched");
        if (s.index.size() != k_.buffers[static_cast<size_t>(s.buffer)].shape.size())
          return error("the index has the wrong rank");
        return dims(s.index);  // may point anywhere
      }
      case StmtKind::kDeclare: {
        if (s.buffer < 0 || s.buffer >= static_cast<int>(k_.buffers.size()))
          return error("there is no such buffer");
        const LoopBuffer& b = k_.buffers[static_cast<size_t>(s.buffer)];
        if (b.kind == BufferKind::kArg) return error("arguments aren't declared in the body");
        if (!declared_ever_.insert(s.buffer).second)
          return error(fmt::format("%{} is declared twice", b.name));
        GC_CHECK(add_name(b.name));
        if (s.value && (s.value.op() != ScalarOp::kConst || s.value.type() != b.type))
          return error("the initial value is a constant of the buffer's type");
        if (s.value && b.kind == BufferKind::kScratch) return error("scratch has no initial value");
        if (vector_) {
          if (b.kind != BufferKind::kRegister)
            return error("inside a vector loop only register buffers can be declared");
          private_.insert(s.buffer);
        }
        live_.insert(s.buffer);
        return ok_status();
      }
      case StmtKind::kIf: {
        if (s.guards.empty()) return error("an if needs a condition");
        GC_CHECK(dims(s.guards));
        size_t n = conditions_.size();
        conditions_.insert(conditions_.end(), s.guards.begin(), s.guards.end());
        GC_CHECK(block(s.body));
        conditions_.resize(n);
        // That one of several conditions fails proves nothing of an index, but it is conditional.
        size_t alternatives = alternative_conditions_.size();
        if (s.guards.size() == 1)
          conditions_.push_back(Dim(-1) - s.guards[0]);
        else
          alternative_conditions_.insert(alternative_conditions_.end(), s.guards.begin(), s.guards.end());
        GC_CHECK(block(s.orelse));
        conditions_.resize(n);
        alternative_conditions_.resize(alternatives);
        return ok_status();
      }
      case StmtKind::kFor: {
        if (s.loop.kind == LoopKind::kParallel)
          return error(
              "a parallel loop must be outermost, alone in the body of the kernel or of a parallel loop");
        GC_CHECK(loop_head(s));
        size_t mark = scope_.size();
        GC_CHECK(enter(s));
        const Stmt* outer = vector_;
        if (s.loop.kind == LoopKind::kVector) vector_ = &s;
        bool empty = enter_extent(s);
        GC_CHECK(block(s.body));
        loop_may_be_empty_ = empty;
        vector_ = outer;
        leave(mark);
        return ok_status();
      }
      case StmtKind::kReduce: {
        if (s.reductions.empty()) return error("a reduce needs a result");
        if (s.loop.kind == LoopKind::kParallel) return error("a reduce can't be parallel");
        GC_CHECK(loop_head(s));
        size_t mark = scope_.size();
        GC_CHECK(enter(s));
        const Stmt* outer = vector_;
        if (s.loop.kind == LoopKind::kVector) vector_ = &s;
        bool empty = enter_extent(s);
        for (const Stmt& inner : s.body) {
          current_ = &inner;
          GC_CHECK(statement(inner));
        }
        current_ = &s;
        bool lanes = false;
        for (const Reduction& r : s.reductions) GC_CHECK(expr(r.value, &lanes));
        loop_may_be_empty_ = empty;
        vector_ = outer;
        leave(mark);
        for (const Reduction& r : s.reductions)
          GC_CHECK(define(r.name, r.value.type(), vector_ != nullptr, nullptr));
        return ok_status();
      }
      case StmtKind::kDot: {
        if (!vector_) return error("dot stands in a vector loop");
        GC_CHECK(dims(s.guards));
        if (s.group != 2 && s.group != 4) return error("dot's group is 2 or 4");
        for (auto [id, ix] : {std::pair{s.a, &s.a_index}, std::pair{s.b, &s.b_index}}) {
          if (id < 0 || id >= static_cast<int>(k_.buffers.size())) return error("there is no such buffer");
          const LoopBuffer& b = k_.buffers[static_cast<size_t>(id)];
          if (b.kind == BufferKind::kRegister) return error("dot reads memory");
          if (b.shape.empty() || !b.shape.back().is_constant(s.group))
            return error(fmt::format("the last extent of %{} isn't the group, {}", b.name, s.group));
          GC_CHECK(access(id, *ix, s.guards, false, 1));
        }
        GC_CHECK(access(s.buffer, s.index, s.guards, true));
        DType ta = k_.buffers[static_cast<size_t>(s.a)].type, tb = k_.buffers[static_cast<size_t>(s.b)].type,
              tc = k_.buffers[static_cast<size_t>(s.buffer)].type;
        bool bf16 = ta == DType::kBF16 && tb == DType::kBF16 && tc == DType::kF32 && s.group == 2;
        bool int8 =
            (ta == DType::kU8 || ta == DType::kI8) && tb == DType::kI8 && tc == DType::kI32 && s.group == 4;
        if (!bf16 && !int8) return error("dot is bf16 x bf16 into f32 by 2, or u8 or i8 x i8 into i32 by 4");
        return ok_status();
      }
    }
    return ok_status();
  }

  // An access in a loop that may run zero times can't be said to be out of bounds.
  bool enter_extent(const Stmt& s) {
    bool before = loop_may_be_empty_;
    bool runs = true;
    for (const Dim& h : s.hi) runs &= ranges_.provably_less(s.lo, h);
    loop_may_be_empty_ |= !runs;
    return before;
  }

  const Kernel& k_;
  VerifyReport* report_;
  const Stmt* current_ = nullptr;
  std::set<std::string> names_;
  std::vector<std::string> scope_;
  std::map<std::string, SymbolKind, std::less<>> symbols_;
  std::map<std::string, DType> values_;
  std::set<std::string> lane_values_;
  std::set<int> live_, declared_ever_, private_;
  DimRanges ranges_;
  std::map<std::string, std::vector<std::pair<Dim, Dim>>> alternatives_;
  std::map<std::string, std::set<std::string>> depends_;  // loop variables whose bounds use others
  std::vector<Dim> conditions_;                           // of the ifs around: each is >= 0
  std::vector<Dim> alternative_conditions_;               // of the else branches around: some of them is < 0
  std::vector<const Stmt*> parallel_;
  const Stmt* vector_ = nullptr;
  bool loop_may_be_empty_ = false;
};

}  // namespace

Status verify_kernel(const Kernel& k, VerifyReport* report) { return Verifier(k, report).run(); }

}  // namespace graphc
