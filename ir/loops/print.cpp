// Loop programs to text.
#include "ir/loops/text.h"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

namespace graphc {
namespace {

std::string_view infix(ScalarOp op) {
  switch (op) {
    case ScalarOp::kAdd: return "+";
    case ScalarOp::kSub: return "-";
    case ScalarOp::kMul: return "*";
    case ScalarOp::kDiv: return "/";
    case ScalarOp::kEq: return "==";
    case ScalarOp::kNe: return "!=";
    case ScalarOp::kLt: return "<";
    case ScalarOp::kLe: return "<=";
    case ScalarOp::kGt: return ">";
    case ScalarOp::kGe: return ">=";
    default: return "";
  }
}

std::string dims(const std::vector<Dim>& ds) {
  std::string s;
  for (const Dim& d : ds) s += (s.empty() ? "" : ", ") + d.to_string();
  return s;
}

std::string conditions(const std::vector<Dim>& ds) {
  std::string s;
  for (const Dim& d : ds) s += (s.empty() ? "" : ", ") + d.to_string() + " >= 0";
  return s;
}

class Printer {
 public:
  explicit Printer(const Kernel& k) : k_(k) {}

  std::string buffer(int id) const {
    if (id < 0 || id >= static_cast<int>(k_.buffers.size())) return fmt::format("%<buffer {}>", id);
    return "%" + k_.buffers[static_cast<size_t>(id)].name;
  }

  static std::string number(const ScalarNode& n) {
    if (n.type == DType::kBool) return n.int_value ? "true" : "false";
    std::string v;
    if (is_float(n.type)) {
      v = std::isnan(n.float_value) ? "nan" : fmt::format("{}", n.float_value);
      if (v.find_first_of(".en") == std::string::npos) v += ".0";
    } else {
      v = n.type == DType::kU64 ? fmt::format("{}", static_cast<uint64_t>(n.int_value))
                                : fmt::format("{}", n.int_value);
    }
    return n.type == DType::kF32 || n.type == DType::kI64 ? v : fmt::format("{}({})", dtype_name(n.type), v);
  }

  // Prints broken expressions too: the verifier's messages show them.
  std::string expr(const Expr& e, bool operand = false) const {
    if (!e) return "<missing>";
    const ScalarNode& n = *e;
    const auto arg = [&](size_t i) { return i < n.args.size() ? n.args[i] : Expr(); };
    switch (n.op) {
      case ScalarOp::kConst: return number(n);
      case ScalarOp::kArg: return fmt::format("arg({})", n.int_value);
      case ScalarOp::kVar: return "%" + n.name;
      case ScalarOp::kIndex: return fmt::format("index({})", dims(n.index));
      case ScalarOp::kLoad: {
        std::string s = fmt::format("load {}[{}]", buffer(n.buffer), dims(n.index));
        if (!n.guards.empty()) s += fmt::format(" where {} else {}", conditions(n.guards), expr(arg(0)));
        return s;
      }
      case ScalarOp::kCast:
        // f64(2.5) is a number: a cast of a constant keeps its cast apart
        if (arg(0) && arg(0).op() == ScalarOp::kConst)
          return fmt::format("cast({}, {})", expr(arg(0)), dtype_name(n.type));
        return fmt::format("{}({})", dtype_name(n.type), expr(arg(0)));
      default: break;
    }
    if (std::string_view op = infix(n.op); !op.empty()) {
      std::string s = fmt::format("{} {} {}", expr(arg(0), true), op, expr(arg(1), true));
      return operand ? "(" + s + ")" : s;
    }
    std::string s;
    for (const Expr& a : n.args) s += (s.empty() ? "" : ", ") + expr(a);
    return fmt::format("{}({})", scalar_op_name(n.op), s);
  }

  std::string loop_head(const Stmt& s) const {
    std::string t;
    switch (s.loop.kind) {
      case LoopKind::kSerial: t = "serial"; break;
      case LoopKind::kParallel: t = "parallel"; break;
      case LoopKind::kUnroll: t = "unroll"; break;
      case LoopKind::kVector: t = fmt::format("vector<{}>", s.loop.width); break;
      case LoopKind::kThread: t = fmt::format("thread<{}>", s.loop.width); break;
      case LoopKind::kWarp: t = fmt::format("warp<{}>", s.loop.width); break;
    }
    if ((s.loop.kind == LoopKind::kVector || s.loop.kind == LoopKind::kThread) && s.loop.unroll != 1)
      t += fmt::format(" unroll {}", s.loop.unroll);
    t += fmt::format(" {} in {}..", s.name, s.lo.to_string());
    t += s.hi.size() == 1 ? s.hi[0].to_string() : "min(" + dims(s.hi) + ")";
    if (s.step != 1) t += fmt::format(" step {}", s.step);
    return t;
  }

  // The first line, without a body's brace.
  std::string head(const Stmt& s) const {
    std::string guard = s.guards.empty() ? "" : " if " + conditions(s.guards);
    switch (s.kind) {
      case StmtKind::kLet: return fmt::format("%{} = {}", s.name, expr(s.value));
      case StmtKind::kStore:
        return fmt::format("store {}[{}] = {}{}", buffer(s.buffer), dims(s.index), expr(s.value), guard);
      case StmtKind::kFor: return loop_head(s);
      case StmtKind::kIf: return "if " + conditions(s.guards);
      case StmtKind::kBarrier: return "barrier";
      case StmtKind::kPrefetch: return fmt::format("prefetch {}[{}]", buffer(s.buffer), dims(s.index));
      case StmtKind::kDot:
        return fmt::format("dot {}[{}] += {}[{}] * {}[{}] group {}{}", buffer(s.buffer), dims(s.index),
                           buffer(s.a), dims(s.a_index), buffer(s.b), dims(s.b_index), s.group, guard);
      case StmtKind::kDeclare: {
        if (s.buffer < 0 || s.buffer >= static_cast<int>(k_.buffers.size()))
          return "<declaration of no buffer>";
        const LoopBuffer& b = k_.buffers[static_cast<size_t>(s.buffer)];
        std::string t = fmt::format("{} %{}: {}[{}]", buffer_kind_name(b.kind), b.name, dtype_name(b.type),
                                    dims(b.shape));
        return s.value ? t + " = " + expr(s.value) : t;
      }
      case StmtKind::kReduce: {
        std::string names, ops;
        for (const Reduction& r : s.reductions) {
          names += (names.empty() ? "%" : ", %") + r.name;
          ops += (ops.empty() ? "" : ", ") + std::string(reduce_op_name(r.op));
        }
        return fmt::format("{} = reduce {} {}", names, ops, loop_head(s));
      }
    }
    return "";
  }

  std::string yields(const Stmt& s) const {
    std::string t;
    for (const Reduction& r : s.reductions) t += (t.empty() ? "" : ", ") + expr(r.value);
    return t;
  }

  void block(const StmtList& list, int depth) {
    std::string pad(static_cast<size_t>(depth) * 2, ' ');
    for (const Stmt& s : list) {
      out += pad + head(s);
      if (s.kind == StmtKind::kReduce && s.body.empty()) {
        out += " { " + yields(s) + " }\n";
        continue;
      }
      if (s.kind == StmtKind::kFor || s.kind == StmtKind::kIf || s.kind == StmtKind::kReduce) {
        out += " {\n";
        block(s.body, depth + 1);
        if (s.kind == StmtKind::kReduce) out += pad + "  yield " + yields(s) + "\n";
        out += pad + "}";
        if (!s.orelse.empty()) {
          out += " else {\n";
          block(s.orelse, depth + 1);
          out += pad + "}";
        }
      }
      out += "\n";
    }
  }

  std::string out;

 private:
  const Kernel& k_;
};

}  // namespace

std::string print_kernel(const Kernel& k) {
  Printer p(k);
  std::string args;
  for (const LoopBuffer& b : k.buffers) {
    if (b.kind != BufferKind::kArg) continue;
    args += fmt::format("{}{}%{}: {}[{}]", args.empty() ? "" : ", ", b.written ? "mut " : "", b.name,
                        dtype_name(b.type), dims(b.shape));
    if (b.alias >= 0) args += " alias " + p.buffer(b.alias);
  }
  p.out = fmt::format("kernel @{}({})", k.name, args);
  if (!k.params.empty()) p.out += fmt::format(" params({})", fmt::join(k.params, ", "));
  p.out += " {\n";
  p.block(k.body, 1);
  p.out += "}\n";
  return std::move(p.out);
}

std::string describe_stmt(const Kernel& k, const Stmt& s) { return Printer(k).head(s); }

}  // namespace graphc
