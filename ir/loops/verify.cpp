#include "ir/loops/verify.h"

#include <algorithm>

#include <fmt/format.h>

#include "ir/loops/text.h"
#include "ir/loops/verifier.h"

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

}  // namespace

Status Verifier::run() {
  plan_threads();
  GC_CHECK(signature());
  GC_CHECK(shared_memory());
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

Status Verifier::error(std::string what) const {
  if (current_)
    return invalid(fmt::format("kernel @{}: {}, in `{}`", k_.name, what, describe_stmt(k_, *current_)));
  return invalid(fmt::format("kernel @{}: {}", k_.name, what));
}

Status Verifier::add_name(const std::string& n) {
  if (!valid_name(n)) return error(fmt::format("'{}' is no valid name", n));
  if (!names_.insert(n).second) return error(fmt::format("the name {} is taken", n));
  scope_.push_back(n);
  return ok_status();
}

void Verifier::leave(size_t mark) {
  while (scope_.size() > mark) {
    const std::string& n = scope_.back();
    names_.erase(n);
    symbols_.erase(n);
    values_.erase(n);
    ranges_.erase(n);
    lane_values_.erase(n);
    alternatives_.erase(n);
    depends_.erase(n);
    level_.erase(n);
    if (int id = k_.find_buffer(n); id >= 0) live_.erase(id);
    scope_.pop_back();
  }
}

Status Verifier::signature() {
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
    const int64_t threads = distributed_.count(static_cast<int>(i)) ? std::max(width_, 1) : 1;
    for (const Dim& d : b.shape) {
      bool constant_needed = b.kind != BufferKind::kArg && b.kind != BufferKind::kScratch;
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
    if (b.kind == BufferKind::kRegister && elements > kMaxRegisters * threads)
      return error(fmt::format("register buffer %{} has more than {} elements{}", b.name, kMaxRegisters,
                               threads > 1 ? " for a thread" : ""));
    if (b.kind == BufferKind::kStack && elements > kMaxStackBytes / static_cast<int64_t>(dtype_size(b.type)))
      return error(fmt::format("stack buffer %{} is larger than 256 KiB; use scratch", b.name));
    if (b.alias >= 0) {
      if (b.kind != BufferKind::kArg || b.alias >= static_cast<int>(i) ||
          k_.buffers[static_cast<size_t>(b.alias)].kind != BufferKind::kArg)
        return error(fmt::format("%{} may only alias an earlier argument", b.name));
    }
  }
  return ok_status();
}

Status Verifier::loop_head(const Stmt& s) {
  if (s.hi.empty()) return error("a loop needs an upper bound");
  if (s.step < 1) return error("a step is at least 1");
  GC_CHECK(dim(s.lo));
  GC_CHECK(dims(s.hi));
  if (lane_varying(s.lo) ||
      std::any_of(s.hi.begin(), s.hi.end(), [&](const Dim& d) { return lane_varying(d); }))
    return error("the bounds depend on lanes");
  GC_CHECK(thread_head(s));
  if (s.loop.kind == LoopKind::kVector) {
    if (vector_) return error(fmt::format("it is inside the vector loop {}", vector_->name));
    if (s.loop.width < 1 || s.loop.unroll < 1) return error("width and unroll are at least 1");
    if (s.step != 1) return error("a vector loop's step is 1");
  }
  if (s.loop.kind == LoopKind::kUnroll) {
    if (!only(s.lo, {SymbolKind::kUnroll}) ||
        !std::all_of(s.hi.begin(), s.hi.end(), [&](const Dim& d) { return only(d, {SymbolKind::kUnroll}); }))
      return error("an unrolled loop's bounds aren't constant");
  }
  return ok_status();
}

Status Verifier::enter(const Stmt& s) {
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
    case LoopKind::kThread: symbols_[s.name] = SymbolKind::kThread; break;
    case LoopKind::kWarp: symbols_[s.name] = SymbolKind::kWarp; break;
    case LoopKind::kSerial: symbols_[s.name] = SymbolKind::kLoop; break;
  }
  return ok_status();
}

// An access in a loop that may run zero times can't be said to be out of bounds.
bool Verifier::enter_extent(const Stmt& s) {
  bool before = loop_may_be_empty_;
  bool runs = true;
  for (const Dim& h : s.hi) runs &= ranges_.provably_less(s.lo, h);
  loop_may_be_empty_ |= !runs;
  return before;
}

Status Verifier::block(const StmtList& list) {
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

Status Verifier::define(const std::string& name, DType t, bool lanes, const Expr* value) {
  GC_CHECK(add_name(name));
  values_[name] = t;
  if (lanes) lane_values_.insert(name);
  if (t == DType::kI64) {
    symbols_[name] = SymbolKind::kData;
    level_[name] = level();
    Dim lo(kUnknownLow);
    std::optional<Dim> hi;
    if (value) index_range(*value, &lo, &hi);
    ranges_.set(name, lo, hi);
  }
  return ok_status();
}

Status Verifier::statement(const Stmt& s) {
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
    case StmtKind::kBarrier: return thread_statement(s);
    case StmtKind::kDeclare: return declare(s);
    case StmtKind::kFor: return for_loop(s);
    case StmtKind::kReduce: return reduce(s);
    case StmtKind::kDot: return dot(s);
    case StmtKind::kPrefetch: {
      if (s.buffer < 0 || s.buffer >= static_cast<int>(k_.buffers.size()) || !live_.count(s.buffer))
        return error("there is no such buffer");
      if (k_.buffers[static_cast<size_t>(s.buffer)].kind == BufferKind::kRegister)
        return error("registers can't be prefetched");
      if (s.index.size() != k_.buffers[static_cast<size_t>(s.buffer)].shape.size())
        return error("the index has the wrong rank");
      return dims(s.index);  // may point anywhere
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
  }
  return ok_status();
}

Status Verifier::for_loop(const Stmt& s) {
  if (s.loop.kind == LoopKind::kParallel)
    return error("a parallel loop must be outermost, alone in the body of the kernel or of a parallel loop");
  GC_CHECK(loop_head(s));
  size_t mark = scope_.size();
  GC_CHECK(enter(s));
  const Stmt*& around = loop_around(s.loop.kind);
  const Stmt* outer = std::exchange(around, &s);
  bool empty = enter_extent(s);
  GC_CHECK(block(s.body));
  loop_may_be_empty_ = empty;
  around = outer;
  leave(mark);
  return ok_status();
}

Status Verifier::reduce(const Stmt& s) {
  if (s.reductions.empty()) return error("a reduce needs a result");
  if (s.loop.kind == LoopKind::kParallel) return error("a reduce can't be parallel");
  if (s.loop.kind == LoopKind::kWarp) return error("a reduce can't run over the groups of a warp loop");
  GC_CHECK(loop_head(s));
  size_t mark = scope_.size();
  GC_CHECK(enter(s));
  const Stmt*& around = loop_around(s.loop.kind);
  const Stmt* outer = std::exchange(around, &s);
  bool empty = enter_extent(s);
  for (const Stmt& inner : s.body) {
    current_ = &inner;
    GC_CHECK(statement(inner));
  }
  current_ = &s;
  bool lanes = false;
  for (const Reduction& r : s.reductions) GC_CHECK(expr(r.value, &lanes));
  loop_may_be_empty_ = empty;
  around = outer;
  leave(mark);
  for (const Reduction& r : s.reductions)
    GC_CHECK(define(r.name, r.value.type(), vector_ != nullptr, nullptr));
  return ok_status();
}

Status Verifier::declare(const Stmt& s) {
  if (s.buffer < 0 || s.buffer >= static_cast<int>(k_.buffers.size()))
    return error("there is no such buffer");
  const LoopBuffer& b = k_.buffers[static_cast<size_t>(s.buffer)];
  if (b.kind == BufferKind::kArg) return error("arguments aren't declared in the body");
  if (!declared_ever_.insert(s.buffer).second) return error(fmt::format("%{} is declared twice", b.name));
  GC_CHECK(add_name(b.name));
  if (s.value && (s.value.op() != ScalarOp::kConst || s.value.type() != b.type))
    return error("the initial value is a constant of the buffer's type");
  if (s.value && b.kind == BufferKind::kScratch) return error("scratch has no initial value");
  if (gpu_) GC_CHECK(thread_declare(s));
  if (vector_) {
    if (b.kind != BufferKind::kRegister)
      return error("inside a vector loop only register buffers can be declared");
    private_.insert(s.buffer);
  }
  live_.insert(s.buffer);
  return ok_status();
}

Status Verifier::dot(const Stmt& s) {
  GC_CHECK(thread_statement(s));
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
  bool int8 = (ta == DType::kU8 || ta == DType::kI8) && tb == DType::kI8 && tc == DType::kI32 && s.group == 4;
  if (!bf16 && !int8) return error("dot is bf16 x bf16 into f32 by 2, or u8 or i8 x i8 into i32 by 4");
  return ok_status();
}

void index_range(const Expr& e, Dim* lo, std::optional<Dim>* hi) {
  auto bound = [&](const Expr& b) -> std::optional<Dim> {
    if (b.op() == ScalarOp::kConst) return Dim(b->int_value);
    if (b.op() == ScalarOp::kIndex) return b->index[0];
    return {};
  };
  if (e.op() == ScalarOp::kIndex) {
    *lo = e->index[0];
    *hi = e->index[0];
  }
  if (e.op() != ScalarOp::kMax && e.op() != ScalarOp::kMin) return;
  for (int side = 0; side < 2; ++side) {
    auto b = bound(e->args[static_cast<size_t>(side)]);
    if (!b) continue;
    index_range(e->args[static_cast<size_t>(1 - side)], lo, hi);
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

Status verify_kernel(const Kernel& k, VerifyReport* report) { return Verifier(k, report).run(); }

}  // namespace graphc
