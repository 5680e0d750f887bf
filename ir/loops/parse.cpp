// Loop programs from text, by recursive descent.
#include "ir/loops/text.h"

#include <charconv>
#include <cmath>
#include <map>

#include <fmt/format.h>

namespace graphc {
namespace {

constexpr int kMaxDepth = 512;

class Parser {
 public:
  explicit Parser(std::string_view s) : s_(s) {}

  Result<Kernel> kernel() {
    GC_CHECK(expect("kernel"));
    GC_CHECK(expect("@"));
    GC_TRY(k_.name, identifier());
    GC_CHECK(expect("("));
    while (!eat(")")) {
      LoopBuffer b;
      b.written = eat_word("mut");
      GC_CHECK(buffer_type(&b));
      if (eat_word("alias")) {
        GC_TRY(std::string other, name());
        b.alias = k_.find_buffer(other);
        if (b.alias < 0) return error(fmt::format("%{} is no earlier argument", other));
      }
      k_.buffers.push_back(std::move(b));
      if (!eat(",") && peek() != ')') return error("expected ',' or ')'");
    }
    if (eat_word("params")) {
      GC_CHECK(expect("("));
      while (!eat(")")) {
        GC_TRY(std::string p, identifier());
        k_.params.push_back(std::move(p));
        if (!eat(",") && peek() != ')') return error("expected ',' or ')'");
      }
    }
    GC_CHECK(expect("{"));
    GC_CHECK(block(&k_.body, 0));
    skip();
    if (i_ != s_.size()) return error("expected nothing after the kernel");
    return std::move(k_);
  }

 private:
  Error error(std::string what) const {
    size_t line = 1;
    for (size_t j = 0; j < i_ && j < s_.size(); ++j) line += s_[j] == '\n';
    return invalid(fmt::format("loop program, line {}: {}", line, what));
  }
  void skip() {
    while (i_ < s_.size() && (s_[i_] == ' ' || s_[i_] == '\n' || s_[i_] == '\t' || s_[i_] == '\r')) ++i_;
  }
  char peek() {
    skip();
    return i_ < s_.size() ? s_[i_] : '\0';
  }
  bool eat(std::string_view t) {
    skip();
    if (s_.substr(i_, t.size()) != t) return false;
    i_ += t.size();
    return true;
  }
  static bool word_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  }
  bool at_word(std::string_view t) {
    skip();
    return s_.substr(i_, t.size()) == t && (i_ + t.size() >= s_.size() || !word_char(s_[i_ + t.size()]));
  }
  // The `if` of a guard; on the next line it is a statement of its own.
  bool eat_guard() {
    skip();
    for (size_t j = i_; j > 0 && !word_char(s_[j - 1]) && s_[j - 1] != ')' && s_[j - 1] != ']'; --j)
      if (s_[j - 1] == '\n') return false;
    return eat_word("if");
  }
  bool eat_word(std::string_view t) {
    if (!at_word(t)) return false;
    i_ += t.size();
    return true;
  }
  Status expect(std::string_view t) {
    if (eat(t)) return ok_status();
    return error(fmt::format("expected '{}'", t));
  }
  Result<std::string> identifier() {
    skip();
    size_t b = i_;
    while (i_ < s_.size() && word_char(s_[i_])) ++i_;
    if (b == i_ || (s_[b] >= '0' && s_[b] <= '9')) {
      i_ = b;
      return error("expected a name");
    }
    return std::string(s_.substr(b, i_ - b));
  }
  Result<std::string> name() {
    GC_CHECK(expect("%"));
    return identifier();
  }
  Result<int> buffer() {
    GC_TRY(std::string n, name());
    int id = -1;
    for (size_t j = k_.buffers.size(); j-- > 0 && id < 0;)  // the latest of that name
      if (k_.buffers[j].name == n) id = static_cast<int>(j);
    if (id < 0) return error(fmt::format("%{} is no buffer", n));
    return id;
  }
  Result<int64_t> integer() {
    skip();
    size_t b = i_;
    if (i_ < s_.size() && s_[i_] == '-') ++i_;
    while (i_ < s_.size() && s_[i_] >= '0' && s_[i_] <= '9') ++i_;
    std::string t(s_.substr(b, i_ - b));
    if (t.empty() || t == "-" || t.size() > 19) return error("expected an integer");
    return static_cast<int64_t>(std::strtoll(t.c_str(), nullptr, 10));
  }

  // An index expression up to one of the terminators, outside parentheses.
  Result<Dim> dim(std::initializer_list<std::string_view> ends) {
    skip();
    size_t b = i_;
    int depth = 0;
    for (; i_ < s_.size(); ++i_) {
      if (s_[i_] == '(') ++depth;
      bool stop = false;
      if (depth == 0)
        for (std::string_view e : ends)
          stop |= s_.substr(i_, e.size()) == e && (e != "step " || (i_ > b && s_[i_ - 1] == ' '));
      if (stop || s_[i_] == '\n') break;
      if (s_[i_] == ')' && depth-- == 0) break;
    }
    size_t e = i_;
    while (e > b && s_[e - 1] == ' ') --e;
    auto d = parse_dim(s_.substr(b, e - b));
    if (!d.ok()) return error(d.error().message);
    return d;
  }
  Result<std::vector<Dim>> index() {
    std::vector<Dim> out;
    GC_CHECK(expect("["));
    while (!eat("]")) {
      GC_TRY(Dim d, dim({",", "]"}));
      out.push_back(std::move(d));
      if (!eat(",") && peek() != ']') return error("expected ',' or ']'");
    }
    return out;
  }
  Result<std::vector<Dim>> guards() {
    std::vector<Dim> out;
    do {
      GC_TRY(Dim d, dim({">="}));
      GC_CHECK(expect(">="));
      GC_TRY(int64_t zero, integer());
      if (zero != 0) return error("conditions compare with 0");
      out.push_back(std::move(d));
    } while (eat(","));
    return out;
  }
  Result<DType> dtype() {
    GC_TRY(std::string t, identifier());
    auto d = dtype_from_name(t);
    if (!d) return error(fmt::format("'{}' is no element type", t));
    return *d;
  }
  Status buffer_type(LoopBuffer* b) {
    GC_TRY(b->name, name());
    GC_CHECK(expect(":"));
    GC_TRY(b->type, dtype());
    GC_TRY(b->shape, index());
    return ok_status();
  }

  bool at_number() {
    char c = peek();
    if (c >= '0' && c <= '9') return true;
    if (at_word("inf") || at_word("nan")) return true;
    return c == '-' && i_ + 1 < s_.size() &&
           ((s_[i_ + 1] >= '0' && s_[i_ + 1] <= '9') || s_.substr(i_ + 1, 3) == "inf");
  }
  // A number; of type t if given, else f32 or i64 by its spelling.
  Result<Expr> number(std::optional<DType> t) {
    skip();
    if (eat_word("true")) return Expr::int_constant(1, DType::kBool);
    if (eat_word("false")) return Expr::int_constant(0, DType::kBool);
    if (!at_number()) return error("expected a number");
    size_t b = i_;
    bool real = false;
    if (s_[i_] == '-') ++i_;
    if (s_.substr(i_, 3) == "inf" || s_.substr(i_, 3) == "nan") {
      i_ += 3;
      real = true;
    } else {
      for (; i_ < s_.size(); ++i_) {
        char c = s_[i_];
        if (c == '.' || c == 'e')
          real = true;
        else if ((c == '-' || c == '+') ? s_[i_ - 1] != 'e' : !(c >= '0' && c <= '9'))
          break;
      }
    }
    std::string text(s_.substr(b, i_ - b));
    DType type = t ? *t : real ? DType::kF32 : DType::kI64;
    auto wrong = [&] {
      i_ = b;
      return error(fmt::format("'{}' is no {}", text, dtype_name(type)));
    };
    const char* end = text.data() + text.size();
    if (is_float(type)) {
      char* stop = nullptr;
      double v = std::strtod(text.c_str(), &stop);
      return stop == end ? Result<Expr>(Expr::constant(v, type)) : wrong();
    }
    if (real) return wrong();
    int64_t v = 0;
    uint64_t u = 0;
    auto r =
        type == DType::kU64 ? std::from_chars(text.data(), end, u) : std::from_chars(text.data(), end, v);
    if (type == DType::kU64) v = static_cast<int64_t>(u);
    bool fits = type == DType::kBool ? v == 0 || v == 1 : wrap_int(type, v) == v;
    if (r.ec != std::errc() || r.ptr != end || !fits) return wrong();
    return Expr::int_constant(v, type);
  }

  Result<Expr> primary(int depth) {
    if (depth > kMaxDepth) return error(fmt::format("an expression is nested more than {} deep", kMaxDepth));
    if (eat("(")) {
      GC_TRY(Expr e, expr(depth + 1));
      GC_CHECK(expect(")"));
      return e;
    }
    if (peek() == '%') {
      GC_TRY(std::string n, name());
      auto it = types_.find(n);
      if (it == types_.end()) return error(fmt::format("%{} is unknown", n));
      return Expr::var(n, it->second);
    }
    if (at_number() || at_word("true") || at_word("false")) return number({});
    GC_TRY(std::string f, identifier());
    if (f == "load") {
      GC_TRY(int b, buffer());
      GC_TRY(std::vector<Dim> ix, index());
      DType t = k_.buffers[static_cast<size_t>(b)].type;
      std::vector<Dim> g;
      double otherwise = 0;
      if (eat_word("where")) {
        GC_TRY(g, guards());
        GC_CHECK(expect("else"));
        GC_TRY(Expr o, number_or_typed(t));
        otherwise = is_float(t) ? o->float_value : static_cast<double>(o->int_value);
        if (!is_float(t) && double_to_int(t, otherwise) != o->int_value)
          return error("a load's alternative is an integer that a double can hold");
      }
      return Expr::load(b, t, std::move(ix), std::move(g), otherwise);
    }
    GC_CHECK(expect("("));
    if (f == "index") {
      GC_TRY(Dim d, dim({}));
      GC_CHECK(expect(")"));
      return Expr::index(std::move(d));
    }
    if (f == "cast") {
      GC_TRY(Expr e, expr(depth + 1));
      GC_CHECK(expect(","));
      GC_TRY(DType t, dtype());
      GC_CHECK(expect(")"));
      return Expr::make(ScalarOp::kCast, t, {e});
    }
    if (auto t = dtype_from_name(f)) {
      if (at_number()) {
        size_t save = i_;
        auto e = number(*t);
        if (e.ok() && eat(")")) return e;
        i_ = save;  // f64(1.0 + %x) is a cast after all
        GC_TRY(Expr whole, expr(depth + 1));
        if (!e.ok() && whole.op() == ScalarOp::kConst) return e;
        GC_CHECK(expect(")"));
        return Expr::make(ScalarOp::kCast, *t, {whole});
      }
      GC_TRY(Expr e, expr(depth + 1));
      GC_CHECK(expect(")"));
      return Expr::make(ScalarOp::kCast, *t, {e});
    }
    auto op = scalar_op_from_name(f);
    if (!op) return error(fmt::format("'{}' is no function", f));
    std::vector<Expr> args;
    while (!eat(")")) {
      GC_TRY(Expr e, expr(depth + 1));
      args.push_back(std::move(e));
      if (!eat(",") && peek() != ')') return error("expected ',' or ')'");
    }
    size_t want = *op == ScalarOp::kPhilox                          ? 5
                  : *op == ScalarOp::kSelect                        ? 3
                  : *op == ScalarOp::kIsNan || *op < ScalarOp::kAdd ? 1
                                                                    : 2;
    if (args.size() != want) return error(fmt::format("{} takes {} operands, not {}", f, want, args.size()));
    DType t = args[*op == ScalarOp::kSelect ? 1 : 0].type();
    if (*op == ScalarOp::kIsNan || (*op >= ScalarOp::kEq && *op <= ScalarOp::kGe)) t = DType::kBool;
    if (*op == ScalarOp::kPhilox) t = DType::kU32;
    return Expr::make(*op, t, std::move(args));
  }
  Result<Expr> number_or_typed(DType t) {
    size_t save = i_;
    if (auto n = identifier(); n.ok() && dtype_from_name(*n) && eat("(")) {
      GC_TRY(Expr e, number(t));
      GC_CHECK(expect(")"));
      return e;
    }
    i_ = save;
    return number(t);
  }
  Result<Expr> expr(int depth = 0) {
    GC_TRY(Expr a, primary(depth));
    constexpr std::pair<std::string_view, ScalarOp> kOps[] = {
        {"==", ScalarOp::kEq}, {"!=", ScalarOp::kNe}, {"<=", ScalarOp::kLe}, {">=", ScalarOp::kGe},
        {"<", ScalarOp::kLt},  {">", ScalarOp::kGt},  {"+", ScalarOp::kAdd}, {"-", ScalarOp::kSub},
        {"*", ScalarOp::kMul}, {"/", ScalarOp::kDiv}};
    for (auto& [text, op] : kOps) {
      if (!eat(text)) continue;
      GC_TRY(Expr b, primary(depth));
      bool comparison = op >= ScalarOp::kEq && op <= ScalarOp::kGe;
      return Expr::make(op, comparison ? DType::kBool : a.type(), {a, b});
    }
    return a;
  }

  Result<ReduceOp> reduce_op() {
    for (ReduceOp op : {ReduceOp::kAdd, ReduceOp::kMul, ReduceOp::kMax, ReduceOp::kMin})
      if (eat_word(reduce_op_name(op))) return op;
    return error("expected add, mul, max or min");
  }
  Status loop_head(Stmt* s) {
    if (eat_word("serial"))
      s->loop.kind = LoopKind::kSerial;
    else if (eat_word("parallel"))
      s->loop.kind = LoopKind::kParallel;
    else if (eat_word("unroll"))
      s->loop.kind = LoopKind::kUnroll;
    else if (at_word("vector") || at_word("thread") || at_word("warp")) {
      GC_TRY(std::string kind, identifier());
      s->loop.kind = kind == "vector"   ? LoopKind::kVector
                     : kind == "thread" ? LoopKind::kThread
                                        : LoopKind::kWarp;
      GC_CHECK(expect("<"));
      GC_TRY(int64_t w, integer());
      GC_CHECK(expect(">"));
      int64_t u = 1;
      if (kind != "warp" && eat_word("unroll")) {
        GC_TRY(u, integer());
      }
      if (w < 1 || w > 1024 || u < 1 || u > 64)
        return error(kind == "warp" ? "warp width 1..1024" : kind + " width 1..1024, unroll 1..64");
      s->loop.width = static_cast<int>(w);
      s->loop.unroll = static_cast<int>(u);
    } else {
      return error("expected a statement");
    }
    GC_TRY(s->name, identifier());
    GC_CHECK(expect("in"));
    GC_TRY(s->lo, dim({".."}));
    GC_CHECK(expect(".."));
    if (eat("min(")) {
      do {
        GC_TRY(Dim d, dim({","}));
        s->hi.push_back(std::move(d));
      } while (eat(","));
      GC_CHECK(expect(")"));
    } else {
      GC_TRY(Dim d, dim({"{", "step "}));
      s->hi.push_back(std::move(d));
    }
    if (eat_word("step")) {
      GC_TRY(s->step, integer());
      if (s->step < 1) return error("a step is at least 1");
    }
    return ok_status();
  }

  bool at_let() {  // %a = or %a, %b =
    size_t save = i_;
    bool let = false;
    while (eat("%")) {
      if (!identifier().ok()) break;
      if (eat(",")) continue;
      let = peek() == '=' && s_.substr(i_, 2) != "==";
      break;
    }
    i_ = save;
    return let;
  }

  Status block(StmtList* out, int depth, Stmt* reduce = nullptr) {
    if (depth > 64) return error("loops are nested more than 64 deep");
    while (!eat("}")) {
      if (i_ >= s_.size()) return error("'}' is missing");
      if (reduce && (eat_word("yield") || (out->empty() && !at_statement()))) {
        for (size_t j = 0; j < reduce->reductions.size(); ++j) {
          if (j) GC_CHECK(expect(","));
          GC_TRY(reduce->reductions[j].value, expr());
        }
        return expect("}");
      }
      Stmt s;
      GC_CHECK(statement(&s, depth));
      out->push_back(std::move(s));
    }
    if (reduce) return error("the reduce yields nothing");
    return ok_status();
  }

  bool at_statement() {
    if (peek() == '%') return at_let();
    for (std::string_view w :
         {"store", "if", "prefetch", "dot", "register", "stack", "scratch", "shared", "barrier", "serial",
          "parallel", "unroll", "vector", "thread", "warp", "yield"})
      if (at_word(w)) return true;
    return false;
  }

  Status statement(Stmt* s, int depth) {
    if (peek() == '%') {
      std::vector<std::string> names;
      do {
        GC_TRY(std::string n, name());
        names.push_back(std::move(n));
      } while (eat(","));
      GC_CHECK(expect("="));
      if (eat_word("reduce")) {
        s->kind = StmtKind::kReduce;
        for (size_t j = 0; j < names.size(); ++j) {
          if (j) GC_CHECK(expect(","));
          GC_TRY(ReduceOp op, reduce_op());
          s->reductions.push_back({names[j], op, {}});
        }
        GC_CHECK(loop_head(s));
        GC_CHECK(expect("{"));
        GC_CHECK(block(&s->body, depth + 1, s));
        for (const Reduction& r : s->reductions) types_[r.name] = r.value.type();
        return ok_status();
      }
      if (names.size() != 1) return error("only a reduce has several results");
      s->kind = StmtKind::kLet;
      s->name = names[0];
      GC_TRY(s->value, expr());
      types_[s->name] = s->value.type();
      return ok_status();
    }
    if (eat_word("store")) {
      s->kind = StmtKind::kStore;
      GC_TRY(s->buffer, buffer());
      GC_TRY(s->index, index());
      GC_CHECK(expect("="));
      GC_TRY(s->value, expr());
      if (eat_guard()) {
        GC_TRY(s->guards, guards());
      }
      return ok_status();
    }
    if (eat_word("prefetch")) {
      s->kind = StmtKind::kPrefetch;
      GC_TRY(s->buffer, buffer());
      GC_TRY(s->index, index());
      return ok_status();
    }
    if (eat_word("dot")) {
      s->kind = StmtKind::kDot;
      GC_TRY(s->buffer, buffer());
      GC_TRY(s->index, index());
      GC_CHECK(expect("+="));
      GC_TRY(s->a, buffer());
      GC_TRY(s->a_index, index());
      GC_CHECK(expect("*"));
      GC_TRY(s->b, buffer());
      GC_TRY(s->b_index, index());
      GC_CHECK(expect("group"));
      GC_TRY(int64_t group, integer());
      if (group < 1 || group > 64) return error("a dot's group is 1..64");
      s->group = static_cast<int>(group);
      if (eat_guard()) {
        GC_TRY(s->guards, guards());
      }
      return ok_status();
    }
    if (eat_word("if")) {
      s->kind = StmtKind::kIf;
      GC_TRY(s->guards, guards());
      GC_CHECK(expect("{"));
      GC_CHECK(block(&s->body, depth + 1));
      if (eat_word("else")) {
        GC_CHECK(expect("{"));
        GC_CHECK(block(&s->orelse, depth + 1));
      }
      return ok_status();
    }
    if (eat_word("barrier")) {
      s->kind = StmtKind::kBarrier;
      return ok_status();
    }
    for (BufferKind kind :
         {BufferKind::kRegister, BufferKind::kStack, BufferKind::kScratch, BufferKind::kShared}) {
      if (!eat_word(buffer_kind_name(kind))) continue;
      s->kind = StmtKind::kDeclare;
      LoopBuffer b;
      b.kind = kind;
      b.written = true;
      GC_CHECK(buffer_type(&b));
      if (eat("=")) {
        GC_TRY(s->value, number_or_typed(b.type));
      }
      s->buffer = static_cast<int>(k_.buffers.size());
      k_.buffers.push_back(std::move(b));
      return ok_status();
    }
    s->kind = StmtKind::kFor;
    GC_CHECK(loop_head(s));
    GC_CHECK(expect("{"));
    return block(&s->body, depth + 1);
  }

  std::string_view s_;
  size_t i_ = 0;
  Kernel k_;
  std::map<std::string, DType> types_;
};

}  // namespace

Result<Kernel> parse_kernel(std::string_view text) { return Parser(text).kernel(); }

}  // namespace graphc
