// Statements of the CUDA emitter.
#include <algorithm>

#include <fmt/format.h>

#include "backends/cuda/emit_internal.h"
#include "backends/cuda/kernels/vectors.h"
#include "ir/loops/verify.h"

namespace graphc {
namespace cuda {
void KernelPrinter::open(std::string_view text) {
  line(fmt::format("{}{{", text.empty() ? "" : std::string(text) + " "));
  ++indent_;
  wide_loads_.emplace_back();
}

void KernelPrinter::close() {
  wide_loads_.pop_back();
  --indent_;
  line("}");
}

void KernelPrinter::enter(const Stmt& s) { ranges_.set(s.name, s.lo, s.hi[0] - 1); }

std::string KernelPrinter::least(const std::vector<Dim>& his) {
  std::string s = dim(his[0]);
  for (size_t i = 1; i < his.size(); ++i)
    s = fmt::format("gc_least<{}>({}, {})", index_type(), s, dim(his[i]));
  return s;
}

void KernelPrinter::begin_statement(const std::vector<Expr>& roots) {
  memo_.clear();
  uses_.clear();
  before_.clear();
  inside_.clear();
  statement_loads_.clear();
  for (const Expr& e : roots) count(e);
}

bool KernelPrinter::varies(const Dim& d) const {
  bool v = false;
  d.for_each_symbol(
      [&](const std::string& s) { v |= s == vector_->var || vector_->lane_values.contains(s); });
  return v;
}

bool KernelPrinter::varies(const Expr& e) const {
  if (!vector_ || !e) return false;
  std::unordered_set<const ScalarNode*> seen;
  std::function<bool(const Expr&)> walk = [&](const Expr& x) -> bool {
    if (!seen.insert(x.get()).second) return false;
    if (x.op() == ScalarOp::kVar) return vector_->lane_values.contains(x->name);
    if (x.op() == ScalarOp::kLoad && lane_private_.contains(x->buffer)) return true;
    for (const Dim& d : x->index)
      if (varies(d)) return true;
    for (const Dim& d : x->guards)
      if (varies(d)) return true;
    return std::any_of(x->args.begin(), x->args.end(), walk);
  };
  return walk(e);
}

void KernelPrinter::flush(bool lanes, const std::vector<std::string>& text) {
  for (const std::string& s : before_) line(s);
  if (!lanes) {
    for (const std::string& s : inside_) line(s);
    for (const std::string& s : text) line(s);
    return;
  }
  line("#pragma unroll");
  open(fmt::format("for (int l = 0; l < {}; ++l)", vector_->width));
  for (const std::string& s : inside_) line(s);
  for (const std::string& s : text) line(s);
  close();
}

// An index expression, or the least or largest of some, as wide as index arithmetic is.
std::optional<std::string> KernelPrinter::index_text(const Expr& e) {
  switch (e.op()) {
    case ScalarOp::kIndex: return dim(e->index[0]);
    case ScalarOp::kConst:
      if (e.type() != DType::kI64 || e->int_value > INT32_MAX || e->int_value < INT32_MIN)
        return std::nullopt;
      return integer(e->int_value);
    case ScalarOp::kMax:
    case ScalarOp::kMin: {
      if (e.type() != DType::kI64) return std::nullopt;
      const auto a = index_text(e->args[0]);
      const auto b = a ? index_text(e->args[1]) : std::nullopt;
      if (!b) return std::nullopt;
      return fmt::format("gc_{}<{}>({}, {})", e.op() == ScalarOp::kMax ? "max" : "min", index_type(), *a, *b);
    }
    default: return std::nullopt;
  }
}

void KernelPrinter::let(const Stmt& s) {
  begin_statement({s.value});
  const bool lanes = varies(s.value);
  const std::optional<std::string> index = index_text(s.value);
  const std::string value = index ? *index : expr(s.value), name = ident(s.name);
  const std::string_view type = index ? index_type() : value_type(s.value.type());
  if (index) {
    indices_.insert(s.name);
  } else if (s.value.type() == DType::kI64) {
    data_.insert(s.name);
  }
  if (s.value.type() == DType::kI64) know(ranges_, s.name, s.value);
  if (!lanes) {
    flush(false, {fmt::format("const {} {} = {};", type, name, value)});
    return;
  }
  line(fmt::format("{} {}[{}];", type, name, vector_->width));
  flush(true, {fmt::format("{}[l] = {};", name, value)});
  names_[s.name] = name + "[l]";
  vector_->lane_values.insert(s.name);
}

void KernelPrinter::store(const Stmt& s) {
  const LoopBuffer& b = k_.buffers[static_cast<size_t>(s.buffer)];
  // a store in uniform code is one thread's
  const bool once = threads_ && !in_thread_ && b.kind != BufferKind::kRegister;
  begin_statement({s.value});
  const std::string guard = condition(s.guards);
  if (once) {
    // the value by all, the store by the first
    const std::string value = to_memory(b.type, expr(s.value));
    const std::string at = element(s.buffer, s.index);
    flush(false, {fmt::format("if ({} == 0{}{}) {} = {};", in_warp_ ? "lane" : "tid",
                              guard.empty() ? "" : " && ", guard, at, value)});
    return;
  }
  if (const auto base = wide_base(s.buffer, s.index, s.guards)) {
    const std::string value = to_memory(b.type, expr(s.value));
    const std::string v = fmt::format("v{}", next_++);
    line(fmt::format("gc_vec<{}, {}> {};", memory_type(b.type), vector_->width, v));
    flush(true, {fmt::format("{}[l] = {};", v, value)});
    line(fmt::format("{}gc_store(&{}[{}], {});", guard.empty() ? "" : "if (" + guard + ") ", ident(b.name),
                     *base, v));
    return;
  }
  bool lanes = vector_ && (varies(s.value) || lane_private_.contains(s.buffer));
  if (vector_) {
    for (const Dim& d : s.index) lanes |= varies(d);
    for (const Dim& d : s.guards) lanes |= varies(d);
  }
  const std::string value = to_memory(b.type, expr(s.value));
  const std::string at = element(s.buffer, s.index);
  flush(lanes, {fmt::format("{}{} = {};", guard.empty() ? "" : "if (" + guard + ") ", at, value)});
}

void KernelPrinter::declare(const Stmt& s) {
  const LoopBuffer& b = k_.buffers[static_cast<size_t>(s.buffer)];
  int64_t n = 1;
  const bool distributed = b.kind == BufferKind::kRegister && threads_ && !in_thread_;
  if (distributed) distributed_.insert(s.buffer);
  for (size_t i = distributed ? 1 : 0; i < b.shape.size(); ++i) n *= b.shape[i].constant();
  if (vector_) {
    lane_private_.insert(s.buffer);
    n *= vector_->width;
  }
  const std::string name = ident(b.name);
  switch (b.kind) {
    case BufferKind::kShared:
      line(fmt::format("__shared__ __align__(16) {} {}[{}];", memory_type(b.type), name,
                       std::max<int64_t>(1, n)));
      break;
    case BufferKind::kRegister:
    case BufferKind::kStack:
      line(fmt::format("{} {}[{}];", memory_type(b.type), name, std::max<int64_t>(1, n)));
      break;
    default: fail(fmt::format("%{}: scratch memory isn't for this device", b.name)); return;
  }
  if (!s.value) return;
  const std::string value =
      to_memory(b.type, constant_text(b.type, s.value->float_value, s.value->int_value));
  line("#pragma unroll");
  line(fmt::format("for (int i = 0; i < {}; ++i) {}[i] = {};", n, name, value));
}

void KernelPrinter::block(const StmtList& list) {
  for (const Stmt& s : list)
    if (error_.empty()) statement(s);
}

void KernelPrinter::statement(const Stmt& s) {
  switch (s.kind) {
    case StmtKind::kLet: let(s); break;
    case StmtKind::kStore: store(s); break;
    case StmtKind::kDeclare: declare(s); break;
    case StmtKind::kFor: loop(s); break;
    case StmtKind::kReduce: reduce(s); break;
    case StmtKind::kBarrier: line("__syncthreads();"); break;
    case StmtKind::kPrefetch: break;  // a hint
    case StmtKind::kDot: fail("dot isn't for this device"); break;
    case StmtKind::kIf: {
      const std::string c = condition(s.guards);
      if (c.empty()) return block(s.body);
      open(fmt::format("if ({})", c));
      block(s.body);
      close();
      if (!s.orelse.empty()) {
        open("else");
        block(s.orelse);
        close();
      }
      break;
    }
  }
}

void KernelPrinter::plain_loop(const Stmt& s, std::string_view pragma) {
  const std::string v = ident(s.name);
  if (!pragma.empty()) line(pragma);
  const std::string step = s.step == 1 ? "++" + v : fmt::format("{} += {}", v, s.step);
  open(fmt::format("for ({} {} = {}; {} < {}; {})", index_type(), v, dim(s.lo), v, least(s.hi), step));
  enter(s);
}

void KernelPrinter::loop(const Stmt& s) {
  switch (s.loop.kind) {
    case LoopKind::kSerial:
    case LoopKind::kUnroll:
      plain_loop(s, s.loop.kind == LoopKind::kUnroll ? "#pragma unroll" : "");
      block(s.body);
      close();
      break;
    case LoopKind::kVector: vector_loop(s, [&] { block(s.body); }); break;
    case LoopKind::kThread: thread_loop(s, [&] { block(s.body); }); break;
    case LoopKind::kWarp: {
      // The loop itself is the whole block's: a group that has nothing left leaves it. (A loop variable of
      // the group's own makes ptxas fear for the shuffles inside, and save registers around them.)
      const std::string v = ident(s.name), hi = least(s.hi);
      const Dim extent = ranges_.simplify(s.hi[0] - s.lo);
      if (ranges_.provably_nonnegative(Dim(s.loop.width) - extent)) {
        open(fmt::format("if (const {} {} = {} + group; {} < {})", index_type(), v, dim(s.lo), v, hi));
      } else {
        open(fmt::format("for ({0} {1}_b = {2}; {1}_b < {3}; {1}_b += {4})", index_type(), v, dim(s.lo), hi,
                         s.loop.width));
        line(fmt::format("const {0} {1} = {1}_b + group;", index_type(), v));
        line(fmt::format("if ({} >= {}) break;", v, hi));
      }
      enter(s);
      in_warp_ = true;
      block(s.body);
      in_warp_ = false;
      close();
      break;
    }
    case LoopKind::kParallel: fail("a parallel loop inside a block"); break;
  }
}

void KernelPrinter::thread_loop(const Stmt& s, const std::function<void()>& body) {
  const std::string v = ident(s.name), me = in_warp_ ? "lane" : "tid";
  const Dim extent = ranges_.simplify(s.hi[0] - s.lo);
  const std::string first = s.lo.is_constant(0) ? me : fmt::format("{} + {}", dim(s.lo), me);
  if (s.hi.size() == 1 && extent.is_constant(s.loop.width)) {
    open("");
    line(fmt::format("const {} {} = {};", index_type(), v, first));
  } else if (ranges_.provably_nonnegative(Dim(s.loop.width) - extent)) {
    open(fmt::format("if (const {} {} = {}; {} < {})", index_type(), v, first, v, least(s.hi)));
  } else {
    if (s.loop.unroll > 1) line(fmt::format("#pragma unroll {}", s.loop.unroll));
    open(fmt::format("for ({} {} = {}; {} < {}; {} += {})", index_type(), v, first, v, least(s.hi), v,
                     s.loop.width));
  }
  enter(s);
  in_thread_ = true;
  body();
  in_thread_ = false;
  close();
}

// Whether the loop is a whole number of chunks whose statements can run lane by lane one after the other.
// Else it runs element by element.
bool KernelPrinter::runs_by_chunks(const Stmt& s) const {
  if (vector_ || s.loop.width == 1) return false;
  for (const Dim& h : s.hi)
    if (!is_multiple(ranges_.simplify(h - s.lo), s.loop.width)) return false;
  bool plain = true;
  for_each_stmt(s.body, [&](const Stmt& x) {
    plain &= x.kind != StmtKind::kIf && x.kind != StmtKind::kBarrier && x.kind != StmtKind::kDot;
    if (x.kind == StmtKind::kFor || x.kind == StmtKind::kReduce) plain &= x.loop.kind != LoopKind::kVector;
  });
  return plain;
}

void KernelPrinter::vector_loop(const Stmt& s, const std::function<void()>& body) {
  const int w = s.loop.width;
  if (!runs_by_chunks(s)) {
    plain_loop(s, "");
    body();
    close();
    return;
  }
  const std::string start = ident(s.name) + "0";
  const Dim extent = ranges_.simplify(s.hi[0] - s.lo);
  if (s.hi.size() == 1 && extent.is_constant(w)) {
    open("");
    line(fmt::format("const {} {} = {};", index_type(), start, dim(s.lo)));
  } else {
    if (s.loop.unroll > 1) line(fmt::format("#pragma unroll {}", s.loop.unroll));
    open(fmt::format("for ({} {} = {}; {} < {}; {} += {})", index_type(), start, dim(s.lo), start,
                     least(s.hi), start, w));
  }
  ranges_.set(start, s.lo, s.hi[0] - w);
  enter(s);
  vector_ = Vector{s.name, start, w, s.lo, {}};
  names_[s.name] = fmt::format("({} + l)", start);
  body();
  for (const std::string& n : vector_->lane_values) names_.erase(n);
  names_.erase(s.name);
  lane_private_.clear();
  vector_.reset();
  close();
}

void KernelPrinter::head(const std::string& name, std::string_view comment) {
  std::set<int> shares;
  for (size_t i = 0; i < k_.buffers.size(); ++i)
    if (const int a = k_.buffers[i].alias; a >= 0) {
      shares.insert(static_cast<int>(i));
      shares.insert(a);
    }
  std::string args;
  const int num_args = k_.num_args();
  for (int i = 0; i < num_args; ++i) {
    const LoopBuffer& b = k_.buffers[static_cast<size_t>(i)];
    args += fmt::format("{}{}{}*{} {}", args.empty() ? "" : ", ", b.written ? "" : "const ",
                        memory_type(b.type), shares.contains(i) ? "" : " __restrict__", ident(b.name));
  }
  for (const std::string& p : k_.params) args += fmt::format("{}i64 size_{}", args.empty() ? "" : ", ", p);
  if (!comment.empty()) line(fmt::format("// {}", comment));
  open(fmt::format("extern \"C\" __global__ void __launch_bounds__({}) {}({})", block_threads(k_), name,
                   args));
  for (const std::string& p : k_.params)
    line(fmt::format("const {} {} = ({})size_{};", index_type(), ident(p), index_type(), p));
}

Result<std::string> KernelPrinter::print(const std::string& name, std::string_view comment) {
  threads_ = uses_threads(k_);
  for (size_t i = 0; i < k_.buffers.size(); ++i) {
    const LoopBuffer& b = k_.buffers[i];
    if (b.kind != BufferKind::kArg || b.written) written_.insert(static_cast<int>(i));
  }
  // what may be the same memory as something written is written
  for (size_t i = 0; i < k_.buffers.size(); ++i)
    if (const int a = k_.buffers[i].alias; a >= 0) {
      const bool w = written_.contains(static_cast<int>(i)) || written_.contains(a);
      if (w) written_.insert({static_cast<int>(i), a});
    }
  bool warps = false;
  for_each_stmt(k_.body, [&](const Stmt& s) {
    if (s.kind != StmtKind::kFor && s.kind != StmtKind::kReduce) return;
    if (s.loop.kind == LoopKind::kThread) width_ = s.loop.width;
    warps |= s.loop.kind == LoopKind::kWarp;
  });
  head(name, comment);
  if (threads_) line("const int tid = (int)threadIdx.x;");
  if (warps) line(fmt::format("const int lane = tid % {0}, group = tid / {0};", width_));
  // the grid: one collapsed range, the first loop slowest
  std::vector<const Stmt*> nest;
  const StmtList* body = &k_.body;
  while (body->size() == 1 && (*body)[0].kind == StmtKind::kFor &&
         (*body)[0].loop.kind == LoopKind::kParallel) {
    nest.push_back(&(*body)[0]);
    body = &(*body)[0].body;
  }
  std::vector<std::string> at(nest.size());
  std::string rest = "blockIdx.x";
  for (size_t i = nest.size(); i-- > 0;) {
    const Stmt& s = *nest[i];
    const std::string extent = dim(ceildiv(s.hi[0] - s.lo, s.step));
    std::string index = i == 0 ? rest : fmt::format("{} % (u32)({})", rest, extent);
    if (i > 0) rest = fmt::format("{} / (u32)({})", rest, extent);
    index = fmt::format("({})({})", index_type(), index);
    if (s.step != 1) index += "*" + integer(s.step);
    if (!s.lo.is_constant(0)) index = fmt::format("{} + {}", dim(s.lo), index);
    at[i] = fmt::format("const {} {} = {};", index_type(), ident(s.name), index);
  }
  for (size_t i = 0; i < nest.size(); ++i) {
    line(at[i]);
    enter(*nest[i]);
  }
  block(*body);
  close();
  if (!error_.empty()) return unsupported(fmt::format("kernel @{}: {}", k_.name, error_));
  return std::move(out_);
}

}  // namespace cuda

Result<CudaKernel> emit_cuda(const Kernel& kernel, const DimRanges& ranges, std::string_view comment) {
  GC_CHECK(verify_kernel(kernel));
  const cuda::IndexWidth width = cuda::index_width(kernel, ranges);
  CudaKernel out;
  out.name = kernel.name;
  out.threads = block_threads(kernel);
  out.narrow_if = width.narrow_if;
  if (width.narrow) {
    GC_TRY(out.text, cuda::KernelPrinter(kernel, ranges, false).print(kernel.name, comment));
  }
  if (width.always()) return out;
  const std::string name = width.narrow ? kernel.name + "_wide" : kernel.name;
  GC_TRY(const std::string text, cuda::KernelPrinter(kernel, ranges, true).print(name, comment));
  if (width.narrow) {
    out.wide_name = name;
    out.text += "\n";
  }
  out.text += text;
  return out;
}

}  // namespace graphc
