#include "ir/loops/interpreter.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <unordered_map>

#include <fmt/format.h>

#include "ir/loops/races.h"
#include "ir/loops/text.h"

namespace graphc {
namespace {

struct Memory {
  std::vector<int64_t> shape;
  int64_t size = 0;
  void* external = nullptr;        // arguments
  std::vector<ScalarValue> local;  // the others
  std::vector<bool> defined;
  std::shared_ptr<RaceLog> log;  // null: only read; arguments that are the same memory share it
  bool distributed = false;      // a register buffer of all threads: the first index says whose
};

class Interpreter {
 public:
  Interpreter(const Kernel& k, const LoopInterpretOptions& o) : k_(k), o_(o) {}

  Status run(std::span<void* const> buffers, std::span<const int64_t> params) {
    if (params.size() != k_.params.size())
      return invalid(fmt::format("kernel @{} takes {} size parameters, not {}", k_.name, k_.params.size(),
                                 params.size()));
    if (static_cast<int>(buffers.size()) != k_.num_args())
      return invalid(
          fmt::format("kernel @{} takes {} buffers, not {}", k_.name, k_.num_args(), buffers.size()));
    for (size_t i = 0; i < params.size(); ++i) dims_[k_.params[i]] = params[i];
    memory_.resize(k_.buffers.size());
    for (size_t i = 0; i < buffers.size(); ++i) {
      GC_CHECK(shape_of(static_cast<int>(i)));
      memory_[i].external = buffers[i];
    }
    if (o_.check_races) log_arguments();
    plan_threads();
    block(k_.body);
    return error_.empty() ? ok_status() : Status(invalid(fmt::format("kernel @{}: {}", k_.name, error_)));
  }

 private:
  bool failed() const { return !error_.empty(); }
  void fail(std::string what) {
    if (error_.empty())
      error_ = current_ ? fmt::format("{} (in `{}`)", what, describe_stmt(k_, *current_)) : std::move(what);
  }

  // An argument that is written is watched, and so is one that is the same memory.
  void log_arguments() {
    for (size_t i = 0; i < k_.buffers.size(); ++i) {
      const LoopBuffer& b = k_.buffers[i];
      if (b.kind != BufferKind::kArg || !b.written) continue;
      Memory& m = memory_[i];
      const size_t n = static_cast<size_t>(m.size);
      if (b.alias >= 0 && b.alias < static_cast<int>(i)) {
        Memory& other = memory_[static_cast<size_t>(b.alias)];
        if (other.external == m.external && other.size == m.size &&
            dtype_size(k_.buffers[static_cast<size_t>(b.alias)].type) == dtype_size(b.type)) {
          if (!other.log) other.log = std::make_shared<RaceLog>(n, false);
          m.log = other.log;
        }
      }
      if (!m.log) m.log = std::make_shared<RaceLog>(n, false);
    }
  }

  void plan_threads() {
    gpu_ = uses_threads(k_);
    int groups = 1;
    for_each_stmt(k_.body, [&](const Stmt& s) {
      if (s.loop.kind == LoopKind::kWarp) groups = s.loop.width;
    });
    now_.width = block_threads(k_);
    width_ = std::max(1, now_.width / std::max(1, groups));
  }

  Status shape_of(int id) {
    Memory& m = memory_[static_cast<size_t>(id)];
    m.shape.clear();
    m.size = 1;
    for (const Dim& d : k_.buffers[static_cast<size_t>(id)].shape) {
      auto n = d.evaluate(dims_);
      if (!n || *n < 0 || __builtin_mul_overflow(m.size, *n, &m.size))
        return invalid(fmt::format("kernel @{}: the shape of %{} has no value", k_.name,
                                   k_.buffers[static_cast<size_t>(id)].name));
      m.shape.push_back(*n);
    }
    return ok_status();
  }

  int64_t dim(const Dim& d) {
    if (d.is_constant()) return d.constant();
    if (auto s = d.as_symbol()) {
      if (auto it = dims_.find(*s); it != dims_.end()) return it->second;
    }
    auto v = d.evaluate(dims_);
    if (!v) fail(fmt::format("the index {} has no value", d.to_string()));
    return v.value_or(0);
  }

  bool holds(const std::vector<Dim>& guards) {
    for (const Dim& g : guards)
      if (dim(g) < 0) return false;
    return true;
  }

  // The flat index; -1 after an error.
  int64_t locate(int id, const std::vector<Dim>& index) {
    const Memory& m = memory_[static_cast<size_t>(id)];
    if (index.size() != m.shape.size()) {
      fail(fmt::format("%{} has rank {}", k_.buffers[static_cast<size_t>(id)].name, m.shape.size()));
      return -1;
    }
    int64_t flat = 0;
    for (size_t i = 0; i < index.size(); ++i) {
      int64_t v = dim(index[i]);
      if (v < 0 || v >= m.shape[i]) {
        fail(fmt::format("index {} = {} of %{} is outside 0..{}", index[i].to_string(), v,
                         k_.buffers[static_cast<size_t>(id)].name, m.shape[i]));
        return -1;
      }
      if (i == 0 && m.distributed && (!thread_ || v != now_.thread % width_)) {
        fail(fmt::format("%{}[{}, ..] belongs to thread {}, {} touches it",
                         k_.buffers[static_cast<size_t>(id)].name, v, v,
                         thread_ ? fmt::format("thread {}", now_.thread % width_) : "uniform code"));
        return -1;
      }
      flat = flat * m.shape[i] + v;
    }
    return flat;
  }

  ScalarValue read(int id, int64_t i) {
    Memory& m = memory_[static_cast<size_t>(id)];
    const LoopBuffer& b = k_.buffers[static_cast<size_t>(id)];
    size_t at = static_cast<size_t>(i);
    if (m.log)
      if (auto race = m.log->read(at, now_))
        fail(fmt::format("race: element {} of %{} {}", i, b.name, *race));
    if (m.external) {
      ScalarValue v;
      if (is_float(b.type))
        v.d = load_as_double(b.type, m.external, at);
      else
        v.i = load_as_int(b.type, m.external, at);
      return v;
    }
    if (!m.defined[at]) fail(fmt::format("element {} of %{} is read before it is written", i, b.name));
    return m.local[at];
  }

  void write(int id, int64_t i, ScalarValue v) {
    Memory& m = memory_[static_cast<size_t>(id)];
    const LoopBuffer& b = k_.buffers[static_cast<size_t>(id)];
    size_t at = static_cast<size_t>(i);
    if (m.log)
      if (auto race = m.log->write(at, now_))
        fail(fmt::format("race: element {} of %{} {}", i, b.name, *race));
    if (m.external) {
      if (is_float(b.type))
        store_from_double(b.type, m.external, at, v.d);
      else
        store_from_int(b.type, m.external, at, v.i);
      return;
    }
    if (b.type == DType::kF16) v.d = f16_to_f32(f64_to_f16(v.d));
    if (b.type == DType::kBF16) v.d = bf16_to_f32(f64_to_bf16(v.d));
    m.local[at] = v;
    m.defined[at] = true;
  }

  ScalarValue eval(const Expr& e) {
    const ScalarNode& n = *e;
    switch (n.op) {
      case ScalarOp::kConst: return {n.float_value, n.int_value};
      case ScalarOp::kArg: fail("an operand of a region"); return {};
      case ScalarOp::kVar: return values_[n.name];
      case ScalarOp::kIndex: return {0, dim(n.index[0])};
      case ScalarOp::kLoad: {
        if (!holds(n.guards)) return eval(n.args[0]);
        int64_t i = locate(n.buffer, n.index);
        return i < 0 ? ScalarValue{} : read(n.buffer, i);
      }
      default: break;
    }
    if (auto it = memo_.find(&n); it != memo_.end()) return it->second;
    ScalarValue v[5];
    for (size_t i = 0; i < n.args.size() && i < 5; ++i) v[i] = eval(n.args[i]);
    ScalarValue r = eval_scalar_op(n.op, n.type, n.args[n.op == ScalarOp::kSelect ? 1 : 0].type(), v);
    memo_[&n] = r;  // keeps shared subtrees from being walked again and again
    return r;
  }
  ScalarValue eval_fresh(const Expr& e) {
    memo_.clear();
    return eval(e);
  }

  void bind(const std::string& name, DType t, ScalarValue v) {
    values_[name] = v;
    if (t == DType::kI64) dims_[name] = v.i;
  }

  // Runs body(c) for every iteration, c being its number. Different threads' iterations come thread by
  // thread.
  template <class F>
  void loop(const Stmt& s, F body) {
    int64_t lo = dim(s.lo), hi = std::numeric_limits<int64_t>::max();
    for (const Dim& d : s.hi) hi = std::min(hi, dim(d));
    const int64_t count = hi > lo ? (hi - lo + s.step - 1) / s.step : 0;
    const Actor before = now_;
    auto run = [&](int64_t c) {
      dims_[s.name] = lo + c * s.step;
      body(c);
    };
    switch (s.loop.kind) {
      case LoopKind::kSerial:
      case LoopKind::kUnroll:
        for (int64_t c = 0; c < count && !failed(); ++c) run(c);
        break;
      case LoopKind::kParallel:
        for (int64_t c = 0; c < count && !failed(); ++c) {
          now_.iteration = ++iterations_;
          now_.epoch = ++epochs_;
          run(o_.reverse ? count - 1 - c : c);
        }
        break;
      case LoopKind::kVector:
        // lanes run one after another: a private buffer must be written before it is read in every one of
        // them
        for (int64_t c = 0; c < count && !failed(); ++c) {
          if (c % s.loop.width == 0) ++chunks_;
          now_.chunk = chunks_;
          now_.lane = c % s.loop.width;
          run(c);
        }
        break;
      case LoopKind::kThread:
        if (thread_) return fail(fmt::format("the thread loop {} is inside of another one", s.name));
        thread_ = true;
        now_.loop = ++loops_;
        spread(s.loop.width, count, [&](int64_t t, int64_t c) {
          now_.thread = before.thread + static_cast<int>(t);
          now_.width = 1;
          now_.item = c;
          run(c);
        });
        thread_ = false;
        break;
      case LoopKind::kWarp:
        if (thread_ || warp_) return fail(fmt::format("the warp loop {} is inside of another one", s.name));
        warp_ = true;
        spread(s.loop.width, count, [&](int64_t g, int64_t c) {
          now_.thread = static_cast<int>(g) * width_;
          now_.width = width_;
          run(c);
        });
        warp_ = false;
        break;
    }
    now_ = before;
  }

  // f(w, c): worker w of `workers` runs the iterations w, w + workers, ..
  template <class F>
  void spread(int64_t workers, int64_t count, F f) {
    const int64_t busy = std::min(workers, count);
    for (int64_t i = 0; i < busy; ++i) {
      const int64_t w = o_.reverse ? busy - 1 - i : i;
      for (int64_t c = w; c < count && !failed(); c += workers) f(w, c);
    }
  }

  void block(const StmtList& list) {
    for (const Stmt& s : list) {
      if (failed()) return;
      statement(s);
    }
  }

  void statement(const Stmt& s) {
    const Stmt* outer = current_;
    current_ = &s;
    switch (s.kind) {
      case StmtKind::kLet: bind(s.name, s.value.type(), eval_fresh(s.value)); break;
      case StmtKind::kStore: {
        if (!holds(s.guards)) break;
        ScalarValue v = eval_fresh(s.value);
        int64_t i = locate(s.buffer, s.index);
        if (i >= 0 && !failed()) write(s.buffer, i, v);
        break;
      }
      case StmtKind::kFor: loop(s, [&](int64_t) { block(s.body); }); break;
      case StmtKind::kIf: block(holds(s.guards) ? s.body : s.orelse); break;
      case StmtKind::kPrefetch: break;
      case StmtKind::kBarrier:
        if (thread_ || warp_) fail("not every thread comes to this barrier");
        now_.epoch = ++epochs_;
        break;
      case StmtKind::kDeclare: declare(s); break;
      case StmtKind::kReduce: reduce(s); break;
      case StmtKind::kDot: dot(s); break;
    }
    current_ = outer;
  }

  void declare(const Stmt& s) {
    if (Status st = shape_of(s.buffer); !st.ok()) return fail(st.error().message);
    Memory& m = memory_[static_cast<size_t>(s.buffer)];
    const BufferKind kind = k_.buffers[static_cast<size_t>(s.buffer)].kind;
    if (m.size > (int64_t{1} << 28)) return fail("the buffer is too large to interpret");
    const size_t n = static_cast<size_t>(m.size);
    m.local.assign(n, s.value ? eval_fresh(s.value) : ScalarValue{});
    m.defined.assign(n, static_cast<bool>(s.value));
    m.distributed = gpu_ && kind == BufferKind::kRegister && !thread_;
    if (kind == BufferKind::kShared) {
      if (thread_ || warp_) return fail("not every thread comes to this declaration of shared memory");
      // It is the same memory every time: what was done to it before the last barrier counts.
      if (o_.check_races && !m.log) m.log = std::make_shared<RaceLog>(n, true);
    } else if (o_.check_races) {
      m.log = std::make_shared<RaceLog>(n, false);
    }
  }

  static ScalarValue combine(const Reduction& r, ScalarValue a, ScalarValue b) {
    constexpr ScalarOp kOps[] = {ScalarOp::kAdd, ScalarOp::kMul, ScalarOp::kMax, ScalarOp::kMin};
    const ScalarValue v[2] = {a, b};
    return eval_scalar_op(kOps[static_cast<int>(r.op)], r.value.type(), r.value.type(), v);
  }

  // unroll chunks of `width` accumulators to one value: the tree of loops.h.
  static ScalarValue tree(const Reduction& r, std::vector<ScalarValue> v, size_t width, size_t unroll,
                          bool threads) {
    while (unroll > 1) {
      const size_t half = (unroll + 1) / 2;
      for (size_t i = 0; i + half * width < unroll * width; ++i) v[i] = combine(r, v[i], v[i + half * width]);
      unroll = half;
    }
    constexpr size_t kWarp = 32;
    if (threads && width > kWarp) {  // neighbours first
      std::vector<ScalarValue> sums;
      for (size_t i = 0; i < width; i += kWarp)
        sums.push_back(tree(r, {v.begin() + static_cast<int64_t>(i), v.begin() + static_cast<int64_t>(i + kWarp)},
                            kWarp, 1, false));
      width = sums.size();
      v = std::move(sums);
    }
    std::vector<ScalarValue> odd;  // of a width that isn't a power of two
    while (width > 1) {
      if (width % 2) odd.push_back(v[width - 1]);
      width /= 2;
      for (size_t i = 0; i < width; ++i) v[i] = combine(r, v[i], v[i + width]);
    }
    for (; !odd.empty(); odd.pop_back()) v[0] = combine(r, v[0], odd.back());
    return v[0];
  }

  void reduce(const Stmt& s) {
    const bool wide = s.loop.kind == LoopKind::kVector || s.loop.kind == LoopKind::kThread;
    const int64_t width = wide ? s.loop.width : 1, unroll = wide ? s.loop.unroll : 1;
    std::vector<std::vector<ScalarValue>> acc;
    for (const Reduction& r : s.reductions)
      acc.emplace_back(static_cast<size_t>(width * unroll), identity(r.op, r.value.type()));
    int64_t lo = dim(s.lo), hi = std::numeric_limits<int64_t>::max();
    for (const Dim& d : s.hi) hi = std::min(hi, dim(d));
    const int64_t whole = hi > lo ? (hi - lo) / (width * unroll) * (width * unroll) : 0;
    loop(s, [&](int64_t c) {
      block(s.body);
      memo_.clear();
      const size_t at = static_cast<size_t>(c < whole ? c % (width * unroll) : (c - whole) % width);
      for (size_t i = 0; i < acc.size(); ++i)
        acc[i][at] = combine(s.reductions[i], acc[i][at], eval(s.reductions[i].value));
    });
    for (size_t i = 0; i < acc.size(); ++i)
      bind(s.reductions[i].name, s.reductions[i].value.type(),
           tree(s.reductions[i], std::move(acc[i]), static_cast<size_t>(width), static_cast<size_t>(unroll),
                s.loop.kind == LoopKind::kThread));
  }

  void dot(const Stmt& s) {
    if (!holds(s.guards)) return;
    int64_t at = locate(s.buffer, s.index);
    if (at < 0) return;
    ScalarValue sum = read(s.buffer, at);
    bool f = is_float(k_.buffers[static_cast<size_t>(s.buffer)].type);
    for (int p = 0; p < s.group && !failed(); ++p) {
      std::vector<Dim> ia = s.a_index, ib = s.b_index;
      ia.push_back(Dim(p));
      ib.push_back(Dim(p));
      int64_t pa = locate(s.a, ia), pb = locate(s.b, ib);
      if (pa < 0 || pb < 0) return;
      ScalarValue a = read(s.a, pa), b = read(s.b, pb);
      if (f)
        sum.d += a.d * b.d;
      else
        sum.i = wrap_int(k_.buffers[static_cast<size_t>(s.buffer)].type, sum.i + a.i * b.i);
    }
    if (!failed()) write(s.buffer, at, sum);
  }

  static ScalarValue identity(ReduceOp op, DType t) {
    ScalarValue v;
    double inf = std::numeric_limits<double>::infinity();
    if (is_float(t)) {
      v.d = op == ReduceOp::kAdd ? -0.0 : op == ReduceOp::kMul ? 1 : op == ReduceOp::kMax ? -inf : inf;
      return v;
    }
    if (op == ReduceOp::kMul) v.i = 1;
    if (t == DType::kBool) {
      if (op == ReduceOp::kMin) v.i = 1;
      return v;
    }
    int bits = static_cast<int>(dtype_size(t)) * 8;
    bool is_signed = is_signed_int(t);
    int64_t lowest =
        is_signed ? (bits == 64 ? std::numeric_limits<int64_t>::min() : -(int64_t{1} << (bits - 1))) : 0;
    uint64_t all = bits == 64 ? ~0ull : (1ull << bits) - 1;
    if (op == ReduceOp::kMax) v.i = lowest;
    if (op == ReduceOp::kMin) v.i = static_cast<int64_t>(is_signed ? all >> 1 : all);
    return v;
  }

  const Kernel& k_;
  const LoopInterpretOptions& o_;
  std::map<std::string, int64_t, std::less<>> dims_;
  std::unordered_map<std::string, ScalarValue> values_;
  std::unordered_map<const ScalarNode*, ScalarValue> memo_;
  std::vector<Memory> memory_;
  Actor now_;
  int64_t iterations_ = 0, chunks_ = 0, epochs_ = 0, loops_ = 0;
  bool gpu_ = false;                    // the kernel has threads
  int width_ = 1;                       // threads of the block, or of a group of a warp loop
  bool thread_ = false, warp_ = false;  // inside of such a loop
  const Stmt* current_ = nullptr;
  std::string error_;
};

}  // namespace

Status interpret_kernel(const Kernel& k, std::span<void* const> buffers, std::span<const int64_t> params,
                        const LoopInterpretOptions& options) {
  return Interpreter(k, options).run(buffers, params);
}

}  // namespace graphc
