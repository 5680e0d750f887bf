// Reductions of the CUDA emitter: of a thread by itself, and over the threads of a block or group.
#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "backends/cuda/emit_internal.h"
#include "backends/cuda/kernels/vectors.h"

namespace graphc::cuda {
namespace {

std::string_view op_struct(ReduceOp op) {
  constexpr std::string_view kNames[] = {"gc_op_add", "gc_op_mul", "gc_op_max", "gc_op_min"};
  return kNames[static_cast<int>(op)];
}

// What combining starts from.
std::string identity(ReduceOp op, DType t) {
  if (t == DType::kBool) return op == ReduceOp::kMul || op == ReduceOp::kMin ? "true" : "false";
  if (is_float(t)) {
    const double inf = std::numeric_limits<double>::infinity();
    switch (op) {
      case ReduceOp::kAdd: return t == DType::kF64 ? "-0.0" : "-0.0f";
      case ReduceOp::kMul: return constant_text(t, 1, 0);
      case ReduceOp::kMax: return constant_text(t, -inf, 0);
      default: return constant_text(t, inf, 0);
    }
  }
  switch (op) {
    case ReduceOp::kAdd: return fmt::format("({})0", value_type(t));
    case ReduceOp::kMul: return fmt::format("({})1", value_type(t));
    case ReduceOp::kMax: return fmt::format("gc_limits<{}>::lo()", value_type(t));
    default: return fmt::format("gc_limits<{}>::hi()", value_type(t));
  }
}

}  // namespace

// into[i] = into[i] op value i, for the current iteration.
void KernelPrinter::accumulate(const Stmt& s, const std::vector<std::string>& into) {
  block(s.body);
  std::vector<Expr> values;
  for (const Reduction& r : s.reductions) values.push_back(r.value);
  begin_statement(values);
  std::vector<std::string> text;
  for (size_t i = 0; i < into.size(); ++i) {
    const Reduction& r = s.reductions[i];
    const std::string value = expr(r.value);
    const bool infix = is_float(r.value.type()) && (r.op == ReduceOp::kAdd || r.op == ReduceOp::kMul);
    text.push_back(infix
                       ? fmt::format("{0} = {0} {1} {2};", into[i], r.op == ReduceOp::kAdd ? "+" : "*", value)
                       : fmt::format("{0} = {1}::of({0}, {2});", into[i], op_struct(r.op), value));
  }
  flush(vector_.has_value(), text);
}

void KernelPrinter::reduce(const Stmt& s) {
  for (const Reduction& r : s.reductions)
    if (r.value.type() == DType::kI64) {
      data_.insert(r.name);
      know(ranges_, r.name, {});
    }
  if (s.loop.kind == LoopKind::kThread) return thread_reduce(s);
  std::vector<std::string> into;
  if (vector_) {  // serial, one result a lane
    const int w = vector_->width;
    for (const Reduction& r : s.reductions) {
      const std::string name = ident(r.name);
      line(fmt::format("{} {}[{}];", value_type(r.value.type()), name, w));
      line("#pragma unroll");
      line(fmt::format("for (int l = 0; l < {}; ++l) {}[l] = {};", w, name, identity(r.op, r.value.type())));
      into.push_back(name + "[l]");
    }
    plain_loop(s, s.loop.kind == LoopKind::kUnroll ? "#pragma unroll" : "");
    accumulate(s, into);
    close();
    for (const Reduction& r : s.reductions) {
      names_[r.name] = ident(r.name) + "[l]";
      vector_->lane_values.insert(r.name);
    }
    return;
  }
  const bool chunks = s.loop.kind == LoopKind::kVector && runs_by_chunks(s);
  if (!chunks) {
    for (const Reduction& r : s.reductions) {
      into.push_back(ident(r.name));
      line(fmt::format("{} {} = {};", value_type(r.value.type()), into.back(),
                       identity(r.op, r.value.type())));
    }
    plain_loop(s, s.loop.kind == LoopKind::kUnroll ? "#pragma unroll" : "");
    accumulate(s, into);
    close();
    return;
  }
  const int w = s.loop.width;
  for (const Reduction& r : s.reductions) {
    const std::string part = ident(r.name) + "_l";
    line(fmt::format("{} {}[{}];", value_type(r.value.type()), part, w));
    line("#pragma unroll");
    line(fmt::format("for (int l = 0; l < {}; ++l) {}[l] = {};", w, part, identity(r.op, r.value.type())));
    into.push_back(part + "[l]");
  }
  vector_loop(s, [&] { accumulate(s, into); });
  for (const Reduction& r : s.reductions)
    line(fmt::format("const {} {} = gc_tree<{}, {}>({}_l);", value_type(r.value.type()), ident(r.name),
                     op_struct(r.op), w, ident(r.name)));
}

void KernelPrinter::thread_reduce(const Stmt& s) {
  const int t = s.loop.width, u = s.loop.unroll;
  const std::string me = in_warp_ ? "lane" : "tid", v = ident(s.name);
  std::vector<std::string> into;
  for (const Reduction& r : s.reductions) {
    const std::string part = ident(r.name) + "_p";
    const std::string_view type = value_type(r.value.type());
    if (u == 1) {
      line(fmt::format("{} {} = {};", type, part, identity(r.op, r.value.type())));
    } else {
      line(fmt::format("{} {}[{}];", type, part, u));
      line("#pragma unroll");
      line(fmt::format("for (int u = 0; u < {}; ++u) {}[u] = {};", u, part, identity(r.op, r.value.type())));
    }
    into.push_back(part);
  }
  const auto body = [&](const std::vector<std::string>& to) {
    enter(s);
    in_thread_ = true;
    accumulate(s, to);
    in_thread_ = false;
  };
  const Dim extent = ranges_.simplify(s.hi[0] - s.lo);
  if (u == 1) {
    thread_loop(s, [&] { accumulate(s, into); });
  } else {
    // whole groups of u * t iterations, then what is left into the first accumulator
    std::vector<std::string> group, first;
    for (const std::string& p : into) {
      group.push_back(p + "[u]");
      first.push_back(p + "[0]");
    }
    const std::string base = v + "_b", end = v + "_e", lo = dim(s.lo);
    const int64_t whole = int64_t{u} * t;
    const bool exact = s.hi.size() == 1 && is_multiple(extent, whole);
    line(fmt::format("const {} {} = {};", index_type(), end, least(s.hi)));
    line(fmt::format("{} {} = {};", index_type(), base, lo));
    open(fmt::format("for (; {} + {} <= {}; {} += {})", base, whole, end, base, whole));
    line("#pragma unroll");
    open(fmt::format("for (int u = 0; u < {}; ++u)", u));
    line(fmt::format("const {} {} = {} + u*{} + {};", index_type(), v, base, t, me));
    body(group);
    close();
    close();
    if (!exact) {
      open(fmt::format("for ({} {} = {} + {}; {} < {}; {} += {})", index_type(), v, base, me, v, end, v, t));
      body(first);
      close();
    }
    for (size_t i = 0; i < into.size(); ++i) {
      const Reduction& r = s.reductions[i];
      line(fmt::format("{0}[0] = gc_tree<{1}, {2}>({0});", into[i], op_struct(r.op), u));
      into[i] += "[0]";
    }
  }
  const int group = std::min(t, 32);
  for (size_t i = 0; i < into.size(); ++i) {
    const Reduction& r = s.reductions[i];
    const std::string reduced = fmt::format("gc_group_reduce<{}, {}>({})", op_struct(r.op), group, into[i]);
    if (t <= 32)
      line(fmt::format("const {} {} = {};", value_type(r.value.type()), ident(r.name),
                       t == 1 ? into[i] : reduced));
    else
      line(fmt::format("{} = {};", into[i], reduced));
  }
  if (t <= 32) return;
  const int warps = t / 32;
  for (const Reduction& r : s.reductions)
    line(fmt::format("__shared__ {} {}_w[{}];", value_type(r.value.type()), ident(r.name), warps));
  open("if (tid % 32 == 0)");
  for (size_t i = 0; i < into.size(); ++i)
    line(fmt::format("{}_w[tid / 32] = {};", ident(s.reductions[i].name), into[i]));
  close();
  line("__syncthreads();");
  for (const Reduction& r : s.reductions)
    line(fmt::format("const {} {} = gc_tree<{}, {}>({}_w);", value_type(r.value.type()), ident(r.name),
                     op_struct(r.op), warps, ident(r.name)));
  line("__syncthreads();");
}

}  // namespace graphc::cuda
