#include "backends/cuda/emit_cuda.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "backends/cuda/emit_internal.h"
#include "backends/cuda/kernels/vectors.h"
#include "ir/loops/verify.h"
#include "runtime/base/embedded_file.h"

namespace graphc {

std::vector<EmbeddedFile> cuda_texts();

namespace {
std::string text_of(std::string_view name) {
  for (const EmbeddedFile& f : cuda_texts())
    if (f.name == name) return std::string(f.text);
  return "";
}
}  // namespace

std::string cuda_prelude() { return text_of("prelude.cuh"); }
std::string cuda_index_check() { return text_of("check_index.cuh"); }

namespace cuda {
namespace {

// Names that mean something to C++, CUDA or the prelude.
bool reserved(std::string_view n) {
  static const std::set<std::string_view> kWords = {
      "alignas", "and",      "asm",      "auto",     "bool",    "break",     "case",     "catch",
      "char",    "class",    "const",    "continue", "default", "delete",    "do",       "double",
      "else",    "enum",     "explicit", "export",   "extern",  "false",     "float",    "for",
      "friend",  "goto",     "if",       "inline",   "int",     "long",      "mutable",  "namespace",
      "new",     "not",      "operator", "or",       "private", "protected", "public",   "register",
      "return",  "short",    "signed",   "sizeof",   "static",  "struct",    "switch",   "template",
      "this",    "throw",    "true",     "try",      "typedef", "typename",  "union",    "unsigned",
      "using",   "virtual",  "void",     "volatile", "while",   "xor",       "tid",      "lane",
      "group",   "block",    "i64",      "u64",      "u32",     "threadIdx", "blockIdx", "blockDim",
      "gridDim", "warpSize", "exp",      "log",      "sin",     "cos",       "tan",      "pow",
      "sqrt",    "floor",    "ceil",     "abs",      "erf",     "tanh",      "l",        "main",
      "y0",      "y1",       "j0",       "j1",       "jn",      "yn"};
  return kWords.contains(n) || n.starts_with("gc_") || n.starts_with("GC_") || n.find("__") != n.npos ||
         n.starts_with("_");
}

}  // namespace

std::string KernelPrinter::ident(std::string_view name) {
  return reserved(name) ? fmt::format("k_{}", name) : std::string(name);
}

void KernelPrinter::line(std::string_view text) {
  out_.append(static_cast<size_t>(indent_) * 2, ' ');
  out_.append(text);
  out_.push_back('\n');
}

void KernelPrinter::fail(std::string what) {
  if (error_.empty()) error_ = std::move(what);
}

// ---- index expressions

Dim KernelPrinter::flat_index(int buffer, const std::vector<Dim>& index) const {
  const LoopBuffer& b = k_.buffers[static_cast<size_t>(buffer)];
  Dim flat(0);
  for (size_t i = distributed_.contains(buffer) ? 1 : 0; i < index.size(); ++i)
    flat = flat * b.shape[i] + index[i];
  return ranges_.simplify(flat);
}

std::string KernelPrinter::symbol(const std::string& name) const {
  const auto it = names_.find(name);
  const std::string text = it != names_.end() ? it->second : ident(name);
  return !wide_ && data_.contains(name) ? "(int)" + text : text;
}

std::string KernelPrinter::value(const std::string& name) const {
  const auto it = names_.find(name);
  const std::string text = it != names_.end() ? it->second : ident(name);
  return !wide_ && indices_.contains(name) ? "(i64)" + text : text;
}

std::string KernelPrinter::term(const DimTerm& t, bool first) {
  const int64_t c = t.coefficient;
  std::string s = first ? (c < 0 ? "-" : "") : c < 0 ? " - " : " + ";
  const int64_t size = c < 0 ? -c : c;
  bool factor = size != 1;
  if (factor) s += integer(size);
  for (const DimAtomRef& a : t.atoms) {
    if (factor) s += "*";
    factor = true;
    if (!a->name.empty()) {
      s += symbol(a->name);
      continue;
    }
    const bool positive = ranges_.provably_nonnegative(a->num) && ranges_.provably_nonnegative(a->den - 1);
    s += fmt::format("{}<{}>({}, {})", positive ? "gc_quotient" : "gc_floordiv", index_type(), dim(a->num),
                     dim(a->den));
  }
  return s;
}

std::string KernelPrinter::integer(int64_t v) const {
  return wide_ ? fmt::format("{}ll", v) : fmt::format("{}", v);
}

std::string KernelPrinter::dim(const Dim& d0) {
  const Dim d = ranges_.simplify(d0);
  if (d.overflowed()) {
    fail("an index overflows");
    return "0";
  }
  std::string s;
  for (const DimTerm& t : d.terms()) s += term(t, s.empty());
  if (s.empty()) return integer(d.constant());
  if (d.constant()) s += d.constant() < 0 ? " - " + integer(-d.constant()) : " + " + integer(d.constant());
  return s;
}

std::string KernelPrinter::condition(const std::vector<Dim>& guards) {
  std::string s;
  for (const Dim& g0 : guards) {
    const Dim g = ranges_.simplify(g0);
    if (ranges_.provably_nonnegative(g)) continue;
    // a - b >= 0 reads better as a comparison
    Dim plus(std::max<int64_t>(0, g.constant())), minus(std::max<int64_t>(0, -g.constant()));
    for (const DimTerm& t : g.terms()) {
      Dim one(t.coefficient < 0 ? -t.coefficient : t.coefficient);
      for (const DimAtomRef& a : t.atoms)
        one *= a->name.empty() ? floordiv(a->num, a->den) : Dim::symbol(a->name);
      (t.coefficient < 0 ? minus : plus) += one;
    }
    s += fmt::format("{}{} >= {}", s.empty() ? "" : " && ", dim(plus), dim(minus));
  }
  return s;
}

// ---- expressions

std::string_view memory_type(DType t) {
  switch (t) {
    case DType::kBool: return "unsigned char";
    case DType::kI8: return "signed char";
    case DType::kI16: return "short";
    case DType::kI32: return "int";
    case DType::kI64: return "i64";
    case DType::kU8: return "unsigned char";
    case DType::kU16: return "unsigned short";
    case DType::kU32: return "u32";
    case DType::kU64: return "u64";
    case DType::kF16: return "gc_f16";
    case DType::kBF16: return "gc_bf16";
    case DType::kF32: return "float";
    default: return "double";
  }
}

std::string_view value_type(DType t) {
  if (t == DType::kBool) return "bool";
  return t == DType::kF16 || t == DType::kBF16 ? "float" : memory_type(t);
}

std::string constant_text(DType t, double f, int64_t i) {
  if (t == DType::kBool) return i ? "true" : "false";
  if (is_float(t)) {
    const bool narrow = t != DType::kF64;
    if (f != f) return narrow ? "GC_NAN_F" : "GC_NAN";
    if (f > 1.7e308 || f < -1.7e308)
      return fmt::format("{}{}", f < 0 ? "-" : "", narrow ? "GC_INF_F" : "GC_INF");
    if (narrow && (static_cast<float>(f) > 3.402823466e38f || static_cast<float>(f) < -3.402823466e38f))
      return fmt::format("{}GC_INF_F", f < 0 ? "-" : "");
    std::string s = narrow ? fmt::format("{}", static_cast<float>(f)) : fmt::format("{}", f);
    if (s.find_first_of(".e") == s.npos) s += ".0";
    if (narrow) s += "f";
    return f < 0 || s[0] == '-' ? "(" + s + ")" : s;
  }
  switch (t) {
    case DType::kI64:
      return i == INT64_MIN ? "(-9223372036854775807ll - 1)"
                            : fmt::format("{}{}ll{}", i < 0 ? "(" : "", i, i < 0 ? ")" : "");
    case DType::kU64: return fmt::format("{}ull", static_cast<uint64_t>(i));
    case DType::kU32: return fmt::format("{}u", static_cast<uint32_t>(i));
    case DType::kI32:
      return i == INT32_MIN ? "(-2147483647 - 1)"
                            : fmt::format("{}{}{}", i < 0 ? "(" : "", i, i < 0 ? ")" : "");
    default: return fmt::format("({})({})", value_type(t), i);
  }
}

namespace {
// Reads a value of memory type.
std::string from_memory(DType t, std::string text) {
  if (t == DType::kBool) return fmt::format("({} != 0)", text);
  return t == DType::kF16 || t == DType::kBF16 ? fmt::format("gc_value({})", text) : text;
}
}  // namespace

std::string to_memory(DType t, const std::string& text) {
  if (t == DType::kBool) return fmt::format("(unsigned char)({})", text);
  if (t == DType::kF16) return fmt::format("gc_to_f16({})", text);
  if (t == DType::kBF16) return fmt::format("gc_to_bf16({})", text);
  return text;
}

std::optional<std::string> KernelPrinter::wide_base(int buffer, const std::vector<Dim>& index,
                                                    const std::vector<Dim>& guards) {
  if (!vector_ || k_.buffers[static_cast<size_t>(buffer)].kind == BufferKind::kRegister) return std::nullopt;
  for (const Dim& g : guards)
    if (g.uses(vector_->var) && !ranges_.provably_nonnegative(g)) return std::nullopt;
  const Dim flat = flat_index(buffer, index);
  const auto linear = flat.linear_in(vector_->var);
  if (!linear || !linear->first.is_constant(1)) return std::nullopt;
  // nothing in it may differ between lanes otherwise
  bool varies = false;
  linear->second.for_each_symbol([&](const std::string& s) { varies |= vector_->lane_values.contains(s); });
  if (varies) return std::nullopt;
  // a multiple of the width: chunks begin at lo + width * i
  const Dim base = ranges_.simplify(linear->second + vector_->lo);
  if (!is_multiple(base, vector_->width)) return std::nullopt;
  return dim(linear->second + Dim::symbol(vector_->start));
}

std::string KernelPrinter::element(int buffer, const std::vector<Dim>& index) {
  const std::string& name = k_.buffers[static_cast<size_t>(buffer)].name;
  const std::string at = dim(flat_index(buffer, index));
  if (lane_private_.contains(buffer)) return fmt::format("{}[({})*{} + l]", ident(name), at, vector_->width);
  return fmt::format("{}[{}]", ident(name), at);
}

std::string KernelPrinter::load(const ScalarNode& n) {
  const LoopBuffer& b = k_.buffers[static_cast<size_t>(n.buffer)];
  const std::string otherwise = constant_text(n.type, n.args[0]->float_value, n.args[0]->int_value);
  if (const auto base = wide_base(n.buffer, n.index, n.guards)) {
    const std::string key = fmt::format("{}[{}] {}", b.name, *base, condition(n.guards));
    const std::string* name = nullptr;
    for (const auto& scope : wide_loads_)
      if (const auto it = scope.find(key); it != scope.end()) name = &it->second;
    if (!name) {
      const std::string v = fmt::format("v{}", next_++);
      const std::string type = fmt::format("gc_vec<{}, {}>", memory_type(b.type), vector_->width);
      const std::string guard = condition(n.guards);
      const std::string value = fmt::format("gc_load<{}>(&{}[{}])", vector_->width, ident(b.name), *base);
      if (guard.empty()) {
        before_.push_back(fmt::format("const {} {} = {};", type, v, value));
      } else {
        before_.push_back(fmt::format("{} {};", type, v));
        before_.push_back(fmt::format("if ({}) {} = {};", guard, v, value));
        before_.push_back(fmt::format("else for (int i = 0; i < {}; ++i) {}[i] = {};", vector_->width, v,
                                      to_memory(n.type, otherwise)));
      }
      // remembered where nothing can change it
      auto& scope = written_.contains(n.buffer) ? statement_loads_ : wide_loads_.back();
      name = &(scope[key] = v);
      if (&scope == &statement_loads_) return from_memory(n.type, v + "[l]");
    }
    return from_memory(n.type, *name + "[l]");
  }
  const std::string text = from_memory(n.type, element(n.buffer, n.index));
  const std::string guard = condition(n.guards);
  return guard.empty() ? text : fmt::format("({} ? {} : {})", guard, text, otherwise);
}

std::string KernelPrinter::math(ScalarOp op, DType t, const std::string& a, const std::string& b) {
  const char* f = t == DType::kF64 ? "" : "f";
  switch (op) {
    case ScalarOp::kNeg: return fmt::format("(-{})", a);
    case ScalarOp::kAbs: return fmt::format("fabs{}({})", f, a);
    case ScalarOp::kSign: return fmt::format("gc_sign({})", a);
    case ScalarOp::kExp: return fmt::format("exp{}({})", f, a);
    case ScalarOp::kExpm1: return fmt::format("expm1{}({})", f, a);
    case ScalarOp::kLog: return fmt::format("log{}({})", f, a);
    case ScalarOp::kLog1p: return fmt::format("log1p{}({})", f, a);
    case ScalarOp::kSqrt: return fmt::format("sqrt{}({})", f, a);
    case ScalarOp::kRsqrt: return fmt::format("rsqrt{}({})", f, a);
    case ScalarOp::kSin: return fmt::format("sin{}({})", f, a);
    case ScalarOp::kCos: return fmt::format("cos{}({})", f, a);
    case ScalarOp::kTan: return fmt::format("tan{}({})", f, a);
    case ScalarOp::kTanh: return fmt::format("tanh{}({})", f, a);
    case ScalarOp::kErf: return fmt::format("erf{}({})", f, a);
    case ScalarOp::kFloor: return fmt::format("floor{}({})", f, a);
    case ScalarOp::kCeil: return fmt::format("ceil{}({})", f, a);
    case ScalarOp::kRound: return fmt::format("rint{}({})", f, a);
    case ScalarOp::kAdd: return fmt::format("({} + {})", a, b);
    case ScalarOp::kSub: return fmt::format("({} - {})", a, b);
    case ScalarOp::kMul: return fmt::format("({} * {})", a, b);
    case ScalarOp::kDiv: return fmt::format("({} / {})", a, b);
    case ScalarOp::kFloorDiv: return fmt::format("floor{}({} / {})", f, a, b);
    case ScalarOp::kRem: return fmt::format("gc_rem({}, {})", a, b);
    case ScalarOp::kPow: return fmt::format("pow{}({}, {})", f, a, b);
    case ScalarOp::kMax: return fmt::format("gc_max({}, {})", a, b);
    case ScalarOp::kMin: return fmt::format("gc_min({}, {})", a, b);
    case ScalarOp::kAtan2: return fmt::format("atan2{}({}, {})", f, a, b);
    default: fail(fmt::format("'{}' has no meaning on {}", scalar_op_name(op), dtype_name(t))); return "0";
  }
}

std::string KernelPrinter::int_math(ScalarOp op, DType t, const std::string& a, const std::string& b) {
  const auto call = [&](const char* f) {
    return b.empty() ? fmt::format("{}({})", f, a) : fmt::format("{}<{}>({}, {})", f, value_type(t), a, b);
  };
  const auto infix = [&](const char* o) { return fmt::format("({})({} {} {})", value_type(t), a, o, b); };
  switch (op) {
    case ScalarOp::kNeg: return fmt::format("gc_ineg<{}>({})", value_type(t), a);
    case ScalarOp::kAbs: return is_signed_int(t) ? fmt::format("gc_iabs<{}>({})", value_type(t), a) : a;
    case ScalarOp::kSign:
      return is_signed_int(t) ? fmt::format("gc_isign<{}>({})", value_type(t), a)
                              : fmt::format("({})({} != 0)", value_type(t), a);
    case ScalarOp::kNot: return fmt::format("({})(~{})", value_type(t), a);
    case ScalarOp::kFloor:
    case ScalarOp::kCeil:
    case ScalarOp::kRound: return a;
    case ScalarOp::kAdd: return call("gc_iadd");
    case ScalarOp::kSub: return call("gc_isub");
    case ScalarOp::kMul: return call("gc_imul");
    case ScalarOp::kDiv:
    case ScalarOp::kFloorDiv: return call("gc_ifloordiv");
    case ScalarOp::kRem: return call("gc_irem");
    case ScalarOp::kMax: return call("gc_max");
    case ScalarOp::kMin: return call("gc_min");
    case ScalarOp::kAnd: return infix("&");
    case ScalarOp::kOr: return infix("|");
    case ScalarOp::kXor: return infix("^");
    case ScalarOp::kShl: return call("gc_ishl");
    case ScalarOp::kShr: return call("gc_ishr");
    case ScalarOp::kPow: return call("gc_ipow");
    default: fail(fmt::format("'{}' has no meaning on {}", scalar_op_name(op), dtype_name(t))); return "0";
  }
}

std::string KernelPrinter::cast_text(const std::string& x, DType from, DType to) {
  if (is_float(to)) {
    std::string v = x;
    if (to == DType::kF64) return fmt::format("(double){}", x);
    const bool half = to == DType::kF16 || to == DType::kBF16;
    // 16-bit floats from wide integers go through double and round once, as the reference does
    if (from == DType::kF64)
      v = half ? fmt::format("gc_to_odd({})", x) : fmt::format("(float){}", x);
    else if (!is_float(from))
      v = half && dtype_size(from) >= 4 ? fmt::format("gc_to_odd((double){})", x)
                                        : fmt::format("(float){}", x);
    return half ? fmt::format("gc_value({})", to_memory(to, v)) : v;
  }
  if (to == DType::kBool) return fmt::format("({} != 0)", x);
  if (is_float(from)) return fmt::format("gc_to_int<{}>({})", value_type(to), x);
  return fmt::format("({}){}", value_type(to), x);
}

// Subexpressions that are used several times are named before the statement (or, if they differ by lane,
// inside its loop over lanes).
std::string KernelPrinter::expr(const Expr& e) {
  if (const auto it = memo_.find(e.get()); it != memo_.end()) return it->second;
  const ScalarNode& n = *e;
  std::string s;
  switch (n.op) {
    case ScalarOp::kConst: s = constant_text(n.type, n.float_value, n.int_value); break;
    case ScalarOp::kArg: fail("an operand of a region is left in the program"); return "0";
    case ScalarOp::kVar: s = value(n.name); break;
    case ScalarOp::kIndex: s = fmt::format("(i64)({})", dim(n.index[0])); break;
    case ScalarOp::kLoad: s = load(n); break;
    default: {
      std::vector<std::string> v;
      for (const Expr& a : n.args) v.push_back(expr(a));
      const DType t = n.args[0].type();
      if (n.op == ScalarOp::kSelect) {
        s = fmt::format("({} ? {} : {})", v[0], v[1], v[2]);
      } else if (n.op == ScalarOp::kCast) {
        s = cast_text(v[0], t, n.type);
      } else if (n.op == ScalarOp::kPhilox) {
        s = fmt::format("gc_philox({}, {}, {}, {}, {})", v[0], v[1], v[2], v[3], v[4]);
      } else if (n.op == ScalarOp::kIsNan) {
        s = is_float(t) ? fmt::format("({0} != {0})", name_it(t, v[0])) : "false";
      } else if (n.op >= ScalarOp::kEq && n.op <= ScalarOp::kGe) {
        constexpr const char* kOps[] = {"==", "!=", "<", "<=", ">", ">="};
        s = fmt::format("({} {} {})", v[0], kOps[static_cast<int>(n.op) - static_cast<int>(ScalarOp::kEq)],
                        v[1]);
      } else if (t == DType::kBool) {
        switch (n.op) {
          case ScalarOp::kAnd:
          case ScalarOp::kMul:
          case ScalarOp::kMin: s = fmt::format("({} && {})", v[0], v[1]); break;
          case ScalarOp::kOr:
          case ScalarOp::kAdd:
          case ScalarOp::kMax: s = fmt::format("({} || {})", v[0], v[1]); break;
          case ScalarOp::kXor:
          case ScalarOp::kSub: s = fmt::format("({} != {})", v[0], v[1]); break;
          case ScalarOp::kNot: s = fmt::format("(!{})", v[0]); break;
          default:
            s = fmt::format("({} != 0)", int_math(n.op, DType::kU8, "(unsigned char)" + v[0],
                                                  v.size() > 1 ? "(unsigned char)" + v[1] : ""));
        }
      } else if (is_float(t)) {
        s = math(n.op, t, v[0], v.size() > 1 ? v[1] : "");
      } else {
        s = int_math(n.op, t, v[0], v.size() > 1 ? v[1] : "");
      }
      const auto uses = uses_.find(e.get());
      if (uses != uses_.end() && uses->second > 1) s = name_it(n.type, s);
    }
  }
  if (n.op == ScalarOp::kLoad)
    if (const auto uses = uses_.find(e.get()); uses != uses_.end() && uses->second > 1)
      s = name_it(n.type, s);
  memo_[e.get()] = s;
  return s;
}

std::string KernelPrinter::name_it(DType t, const std::string& text) {
  const auto simple = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; };
  if (std::all_of(text.begin(), text.end(), simple)) return text;
  const std::string name = fmt::format("s{}", next_++);
  inside_.push_back(fmt::format("const {} {} = {};", value_type(t), name, text));
  return name;
}

void KernelPrinter::count(const Expr& e) {
  if (!e) return;
  if (++uses_[e.get()] > 1) return;
  for (const Expr& a : e->args) count(a);
}

}  // namespace cuda
}  // namespace graphc
