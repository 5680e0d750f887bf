#include "ir/loops/loops.h"

#include <algorithm>

#include <fmt/format.h>

namespace graphc {

int Kernel::num_args() const {
  return static_cast<int>(std::count_if(buffers.begin(), buffers.end(),
                                        [](const LoopBuffer& b) { return b.kind == BufferKind::kArg; }));
}

int Kernel::find_buffer(std::string_view n) const {
  for (size_t i = 0; i < buffers.size(); ++i)
    if (buffers[i].name == n) return static_cast<int>(i);
  return -1;
}

Dim parallel_extent(const Kernel& k) {
  Dim extent(1);
  const StmtList* b = &k.body;
  while (b->size() == 1 && (*b)[0].kind == StmtKind::kFor && (*b)[0].loop.kind == LoopKind::kParallel) {
    const Stmt& s = (*b)[0];
    extent *= ceildiv(s.hi[0] - s.lo, s.step);
    b = &s.body;
  }
  return extent;
}

Dim scratch_bytes(const Kernel& k) {
  Dim bytes(0);
  for (const LoopBuffer& b : k.buffers) {
    if (b.kind != BufferKind::kScratch) continue;
    Dim n(static_cast<int64_t>(dtype_size(b.type)));
    for (const Dim& d : b.shape) n *= d;
    bytes += ceildiv(n, 64) * 64;
  }
  return bytes;
}

bool uses_threads(const Kernel& k) {
  bool found = std::any_of(k.buffers.begin(), k.buffers.end(),
                           [](const LoopBuffer& b) { return b.kind == BufferKind::kShared; });
  for_each_stmt(k.body, [&](const Stmt& s) {
    found |=
        s.kind == StmtKind::kBarrier || s.loop.kind == LoopKind::kThread || s.loop.kind == LoopKind::kWarp;
  });
  return found;
}

int block_threads(const Kernel& k) {
  int threads = 1, groups = 1;
  for_each_stmt(k.body, [&](const Stmt& s) {
    if (s.loop.kind == LoopKind::kThread) threads = s.loop.width;
    if (s.loop.kind == LoopKind::kWarp) groups = s.loop.width;
  });
  return threads * groups;
}

int64_t shared_bytes(const Kernel& k) {
  int64_t bytes = 0;
  for (const LoopBuffer& b : k.buffers) {
    if (b.kind != BufferKind::kShared) continue;
    int64_t n = static_cast<int64_t>(dtype_size(b.type));
    for (const Dim& d : b.shape) n *= d.constant();
    bytes += (n + 15) / 16 * 16;
  }
  return bytes;
}

void for_each_stmt(const StmtList& block, const std::function<void(const Stmt&)>& f) {
  for (const Stmt& s : block) {
    f(s);
    for_each_stmt(s.body, f);
    for_each_stmt(s.orelse, f);
  }
}

KernelBuilder::KernelBuilder(std::string name) {
  kernel_.name = std::move(name);
  blocks_.push_back(&kernel_.body);
}

std::string KernelBuilder::fresh(std::string_view name) {
  std::string n(name);
  for (int i = 1; std::find(names_.begin(), names_.end(), n) != names_.end(); ++i)
    n = fmt::format("{}_{}", name, i);
  names_.push_back(n);
  return n;
}

Dim KernelBuilder::param(std::string_view name) {
  if (std::find(kernel_.params.begin(), kernel_.params.end(), name) == kernel_.params.end()) {
    kernel_.params.emplace_back(name);
    names_.emplace_back(name);
  }
  return Dim::symbol(name);
}

void KernelBuilder::params_of(const Dim& d) {
  d.for_each_symbol([&](const std::string& s) { param(s); });
}

Buffer KernelBuilder::add_buffer(LoopBuffer b) {
  b.name = fresh(b.name);
  Buffer h{static_cast<int>(kernel_.buffers.size()), b.type};
  kernel_.buffers.push_back(std::move(b));
  return h;
}

Buffer KernelBuilder::arg(std::string_view name, DType type, std::vector<Dim> shape) {
  return add_buffer({std::string(name), type, BufferKind::kArg, std::move(shape), false, -1});
}

Buffer KernelBuilder::out(std::string_view name, DType type, std::vector<Dim> shape,
                          std::optional<Buffer> alias) {
  return add_buffer(
      {std::string(name), type, BufferKind::kArg, std::move(shape), true, alias ? alias->id : -1});
}

Buffer KernelBuilder::declare(BufferKind kind, std::string_view name, DType type, std::vector<Dim> shape,
                              std::optional<double> init) {
  Buffer b = add_buffer({std::string(name), type, kind, std::move(shape), true, -1});
  Stmt s;
  s.kind = StmtKind::kDeclare;
  s.buffer = b.id;
  if (init) s.value = Expr::constant(*init, type);
  block()->push_back(std::move(s));
  return b;
}

Buffer KernelBuilder::registers(std::string_view name, DType type, std::vector<Dim> shape,
                                std::optional<double> init) {
  return declare(BufferKind::kRegister, name, type, std::move(shape), init);
}

Buffer KernelBuilder::stack(std::string_view name, DType type, std::vector<Dim> shape,
                            std::optional<double> init) {
  return declare(BufferKind::kStack, name, type, std::move(shape), init);
}

Buffer KernelBuilder::scratch(std::string_view name, DType type, std::vector<Dim> shape) {
  return declare(BufferKind::kScratch, name, type, std::move(shape), {});
}

Buffer KernelBuilder::shared(std::string_view name, DType type, std::vector<Dim> shape) {
  return declare(BufferKind::kShared, name, type, std::move(shape), {});
}

Expr KernelBuilder::let(std::string_view name, Expr value) {
  if (value.op() == ScalarOp::kConst || value.op() == ScalarOp::kVar) return value;
  Stmt s;
  s.kind = StmtKind::kLet;
  s.name = fresh(name);
  s.value = std::move(value);
  Expr var = Expr::var(s.name, s.value.type());
  block()->push_back(std::move(s));
  return var;
}

Dim KernelBuilder::let_index(std::string_view name, Expr value) {
  value = cast(value, DType::kI64);
  if (value.op() == ScalarOp::kConst) return Dim(value->int_value);
  if (value.op() == ScalarOp::kIndex) return value->index[0];
  if (value.op() == ScalarOp::kVar) return Dim::symbol(value->name);
  return Dim::symbol(let(name, value)->name);
}

void KernelBuilder::store(const Buffer& b, std::vector<Dim> index, Expr value, std::vector<Dim> guards) {
  Stmt s;
  s.kind = StmtKind::kStore;
  s.buffer = b.id;
  s.index = std::move(index);
  s.value = std::move(value);
  s.guards = std::move(guards);
  block()->push_back(std::move(s));
}

void KernelBuilder::prefetch(const Buffer& b, std::vector<Dim> index) {
  Stmt s;
  s.kind = StmtKind::kPrefetch;
  s.buffer = b.id;
  s.index = std::move(index);
  block()->push_back(std::move(s));
}

void KernelBuilder::barrier() {
  Stmt s;
  s.kind = StmtKind::kBarrier;
  block()->push_back(std::move(s));
}

void KernelBuilder::dot(const Buffer& acc, std::vector<Dim> index, const Buffer& a, std::vector<Dim> a_index,
                        const Buffer& b, std::vector<Dim> b_index, int group, std::vector<Dim> guards) {
  Stmt s;
  s.kind = StmtKind::kDot;
  s.buffer = acc.id;
  s.index = std::move(index);
  s.guards = std::move(guards);
  s.a = a.id;
  s.a_index = std::move(a_index);
  s.b = b.id;
  s.b_index = std::move(b_index);
  s.group = group;
  block()->push_back(std::move(s));
}

namespace {
Stmt loop_stmt(StmtKind kind, LoopSpec spec, std::string var, Dim lo, Dim hi, std::optional<Dim> limit,
               int64_t step) {
  Stmt s;
  s.kind = kind;
  s.name = std::move(var);
  s.loop = spec;
  s.lo = std::move(lo);
  s.hi = {std::move(hi)};
  if (limit && *limit != s.hi[0]) s.hi.push_back(std::move(*limit));
  s.step = step;
  return s;
}
}  // namespace

void KernelBuilder::loop(LoopSpec spec, std::string_view var, Dim lo, Dim hi, const Body& body,
                         std::optional<Dim> limit, int64_t step) {
  Stmt s = loop_stmt(StmtKind::kFor, spec, fresh(var), std::move(lo), std::move(hi), std::move(limit), step);
  blocks_.push_back(&s.body);
  body(Dim::symbol(s.name));
  blocks_.pop_back();
  block()->push_back(std::move(s));
}

std::vector<Expr> KernelBuilder::reduce(std::string_view name, std::vector<ReduceOp> ops, LoopSpec spec,
                                        std::string_view var, Dim lo, Dim hi,
                                        const std::function<std::vector<Expr>(Dim)>& body,
                                        std::optional<Dim> limit, int64_t step) {
  Stmt s =
      loop_stmt(StmtKind::kReduce, spec, fresh(var), std::move(lo), std::move(hi), std::move(limit), step);
  blocks_.push_back(&s.body);
  std::vector<Expr> values = body(Dim::symbol(s.name));
  blocks_.pop_back();
  std::vector<Expr> results;
  for (size_t i = 0; i < ops.size() && i < values.size(); ++i) {
    s.reductions.push_back({fresh(name), ops[i], values[i]});
    results.push_back(Expr::var(s.reductions.back().name, values[i].type()));
  }
  block()->push_back(std::move(s));
  return results;
}

Expr KernelBuilder::reduce(std::string_view name, ReduceOp op, LoopSpec spec, std::string_view var, Dim lo,
                           Dim hi, const std::function<Expr(Dim)>& body, std::optional<Dim> limit,
                           int64_t step) {
  return reduce(
      name, std::vector<ReduceOp>{op}, spec, var, std::move(lo), std::move(hi),
      [&](Dim i) { return std::vector<Expr>{body(i)}; }, std::move(limit), step)[0];
}

void KernelBuilder::if_then(std::vector<Dim> nonnegative, const std::function<void()>& then,
                            const std::function<void()>& otherwise) {
  Stmt s;
  s.kind = StmtKind::kIf;
  s.guards = std::move(nonnegative);
  blocks_.push_back(&s.body);
  then();
  blocks_.pop_back();
  if (otherwise) {
    blocks_.push_back(&s.orelse);
    otherwise();
    blocks_.pop_back();
  }
  block()->push_back(std::move(s));
}

Kernel KernelBuilder::finish() { return std::move(kernel_); }

std::string_view reduce_op_name(ReduceOp op) {
  constexpr std::string_view kNames[] = {"add", "mul", "max", "min"};
  return kNames[static_cast<int>(op)];
}

std::string_view buffer_kind_name(BufferKind k) {
  constexpr std::string_view kNames[] = {"arg", "scratch", "stack", "register", "shared"};
  return kNames[static_cast<int>(k)];
}

}  // namespace graphc
