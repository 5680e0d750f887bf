#include "frontend/parser.h"

#include <fmt/format.h>

#include <algorithm>

#include "frontend/lexer.h"

namespace graphc::syntax {

std::string_view op_spelling(Op op) {
  switch (op) {
    case Op::kAdd:
    case Op::kPos: return "+";
    case Op::kSub:
    case Op::kNeg: return "-";
    case Op::kMul: return "*";
    case Op::kDiv: return "/";
    case Op::kFloorDiv: return "//";
    case Op::kMod: return "%";
    case Op::kMatMul: return "@";
    case Op::kPow: return "**";
    case Op::kEq: return "==";
    case Op::kNe: return "!=";
    case Op::kLt: return "<";
    case Op::kLe: return "<=";
    case Op::kGt: return ">";
    case Op::kGe: return ">=";
    case Op::kAnd: return "and";
    case Op::kOr: return "or";
    case Op::kNot: return "not";
    case Op::kNone: break;
  }
  return "?";
}

std::string_view setting_type_name(Setting::Type t) {
  static constexpr std::string_view kNames[] = {"int", "ints", "float", "floats", "bool", "str", "dtype"};
  return kNames[t];
}

namespace {

std::string describe(const Token& t) {
  switch (t.kind) {
    case Tok::kId:
    case Tok::kInt:
    case Tok::kFloat:
    case Tok::kDType: return quoted(t.text);
    case Tok::kStr: return "a string";
    case Tok::kEnd:
    case Tok::kNewline:
    case Tok::kBad: return std::string(tok_name(t.kind));
    default: return fmt::format("'{}'", tok_name(t.kind));
  }
}

class Parser {
 public:
  Parser(const SourceMap& sources, uint32_t file, Diagnostics& diags, Ast& ast)
      : sources_(sources), lexer_(sources, file, diags), diags_(diags), ast_(ast) {
    t_ = lexer_.next();
    t2_ = lexer_.next();
  }

  void file() {
    skip_newlines();
    if (!header()) return;
    while (t_.kind != Tok::kEnd && !stop()) {
      if (t_.kind == Tok::kNewline) {
        advance();
        continue;
      }
      if (t_.line_start) {
        if (!item()) {
          sync_item();
          continue;
        }
        if (t_.kind != Tok::kNewline && t_.kind != Tok::kEnd && !stop()) {
          if (t_.kind != Tok::kBad)
            error(t_, fmt::format("unexpected {} after an item; an item starts on a new line", describe(t_)));
          sync_item();
        }
      } else {
        sync_item();
      }
    }
  }

 private:
  // ---- tokens
  void advance() {
    t_ = t2_;
    t2_ = lexer_.next();
  }
  bool is(Tok k) const { return t_.kind == k; }
  bool is_word(std::string_view w) const { return t_.kind == Tok::kId && !t_.quoted_id && t_.text == w; }
  bool accept(Tok k) {
    if (!is(k)) return false;
    advance();
    return true;
  }
  bool stop() const { return diags_.full() || too_big_; }
  void error(const Token& at, std::string message) {
    if (at.kind == Tok::kBad) return;  // the lexer has spoken
    if (at.pos == last_error_) return;
    last_error_ = at.pos;
    diags_.error(at.pos, std::move(message));
  }
  bool expect(Tok k, std::string_view where) {
    if (accept(k)) return true;
    error(t_, fmt::format("expected '{}' {}, not {}", tok_name(k), where, describe(t_)));
    return false;
  }
  bool name(std::string& out, Pos& pos, std::string_view what) {
    if (!is(Tok::kId)) {
      const bool reserved = (t_.kind >= Tok::kIf && t_.kind <= Tok::kFalse) || t_.kind == Tok::kDType;
      error(t_, reserved ? fmt::format("expected {}, not {}: it is a reserved word (quote it: `{}`)", what,
                                       describe(t_), t_.text)
                         : fmt::format("expected {}, not {}", what, describe(t_)));
      return false;
    }
    out = t_.text;
    pos = t_.pos;
    advance();
    return true;
  }
  void skip_newlines() {
    while (is(Tok::kNewline)) advance();
  }

  // ---- nesting, counted wherever a function calls itself
  struct Nest {
    Parser& p;
    bool ok;
    explicit Nest(Parser& parser) : p(parser), ok(++p.nesting_ <= Ast::kMaxNesting) {
      if (!ok)
        p.error(p.t_, fmt::format("nested more than {} deep; give inner parts names of their own",
                                  Ast::kMaxNesting));
    }
    ~Nest() { --p.nesting_; }
  };

  Expr* node(ExprKind kind, Pos pos) {
    if (ast_.exprs.size() + ast_.stmts.size() >= kMaxSyntaxNodes && !too_big_) {
      too_big_ = true;
      diags_.error(pos, fmt::format("the file has more than {} expressions and statements", kMaxSyntaxNodes));
    }
    Expr& e = ast_.exprs.emplace_back();
    e.kind = kind;
    e.pos = pos;
    return &e;
  }
  // Sets e's depth from its children; null and a message if the tree has become too deep.
  Expr* finish(Expr* e) {
    int d = 0;
    for (const Expr* a : e->args) d = std::max<int>(d, a->depth);
    for (const Arg& a : e->call_args) d = std::max<int>(d, a.value->depth);
    if (e->type)
      for (const DimExpr& x : e->type->dims)
        if (x.expr) d = std::max<int>(d, x.expr->depth);
    if (d + 1 > Ast::kMaxDepth) {
      if (!(e->pos == last_error_)) {
        last_error_ = e->pos;
        diags_.error(
            e->pos,
            fmt::format("an expression with more than {} operators in a chain; give parts of it names",
                        Ast::kMaxDepth));
      }
      return nullptr;
    }
    e->depth = static_cast<uint16_t>(d + 1);
    return e;
  }

  // ---- items
  bool header() {
    if (is(Tok::kEnd)) {
      error(t_, "the file is empty; it must begin with 'graphc 1'");
      return false;
    }
    if (!is_word("graphc")) {
      error(t_, fmt::format("expected 'graphc 1' at the beginning of the file, not {}", describe(t_)));
      return false;
    }
    advance();
    if (!is(Tok::kInt)) {
      error(t_, fmt::format("expected the language's version after 'graphc', as in 'graphc 1', not {}",
                            describe(t_)));
      return false;
    }
    ast_.version = t_.int_value;
    if (ast_.version != 1) {
      error(t_, fmt::format("version {} of the language isn't known to this graphc; it knows version 1",
                            ast_.version));
      return false;
    }
    advance();
    if (is_word("core")) {
      error(t_,
            "this is core text, what the compiler prints; surface text is expected here ('graphc 1' alone)");
      return false;
    }
    if (!is(Tok::kNewline) && !is(Tok::kEnd)) {
      error(t_, fmt::format("expected the end of the line after 'graphc 1', not {}", describe(t_)));
      sync_item();
    }
    return true;
  }

  bool at_item() const {
    return t_.kind == Tok::kId && !t_.quoted_id && t_.column_one &&
           (t_.text == "block" || t_.text == "model" || t_.text == "train" || t_.text == "import" ||
            t_.text == "const");
  }
  // To the next line that starts an item.
  void sync_item() {
    for (;;) {
      if (is(Tok::kEnd) || stop()) return;
      if (at_item() && t_.line_start) return;
      advance();
    }
  }

  bool item() {
    if (is_word("import")) return import_item();
    if (is_word("const")) return const_item();
    if (is_word("block")) return block_item(false);
    if (is_word("model")) return block_item(true);
    if (is_word("train")) return train_item();
    if (is(Tok::kId)) {
      NearestName near(t_.text);
      for (auto w : {"import", "const", "block", "model", "train"}) near.offer(w);
      error(t_, fmt::format("expected an item (import, const, block, model or train), not {}{}", describe(t_),
                            near.hint()));
    } else {
      error(t_, fmt::format("expected an item (import, const, block, model or train), not {}", describe(t_)));
    }
    return false;
  }

  // import= "import" STR "as" ID
  bool import_item() {
    ImportDef d;
    advance();
    if (!is(Tok::kStr)) {
      error(t_, fmt::format("expected the path of a file in quotes after 'import', not {}", describe(t_)));
      return false;
    }
    d.path = unescape(t_.text);
    d.pos = t_.pos;
    advance();
    if (!is_word("as")) {
      error(t_, fmt::format("expected 'as' and a name after the path, not {}", describe(t_)));
      return false;
    }
    advance();
    Pos p;
    if (!name(d.name, p, "a name after 'as'")) return false;
    ast_.imports.push_back(std::move(d));
    return true;
  }

  // const = "const" ID "=" expr
  bool const_item() {
    ConstDef d;
    advance();
    if (!name(d.name, d.pos, "the constant's name")) return false;
    if (!expect(Tok::kAssign, "after the constant's name")) return false;
    d.value = expr();
    if (!d.value) return false;
    ast_.consts.push_back(std::move(d));
    return true;
  }

  // block = "block" ID [dims] "(" [set{","set}] ")" sig body ; model = "model" ID [dims] sig body
  bool block_item(bool is_model) {
    BlockDef d;
    d.is_model = is_model;
    advance();
    if (!name(d.name, d.pos, is_model ? "the model's name" : "the block's name")) return false;
    if (!(d.name[0] >= 'A' && d.name[0] <= 'Z')) {
      diags_.error(d.pos, fmt::format("the name of a {} begins with a capital; lower-case names are ops: {}",
                                      is_model ? "model" : "block", quoted(d.name)));
    }
    if (is(Tok::kLBracket) && !dims(d.dims)) return false;
    if (!is_model) {
      if (!expect(Tok::kLParen, "before the block's settings (write '()' if it has none)")) return false;
      if (!is(Tok::kRParen)) {
        do {
          if (!setting(d)) return false;
        } while (accept(Tok::kComma));
      }
      if (!expect(Tok::kRParen, "after the settings")) return false;
      if (is(Tok::kArrow)) {
        error(t_,
              "expected the inputs in parentheses: a block has settings, then inputs, as in 'block B(out: "
              "int)(x: f32[N]) -> ..'");
        return false;
      }
    }
    if (!expect(Tok::kLParen, "before the inputs")) return false;
    if (!is(Tok::kRParen) && !fields(d.inputs)) return false;
    if (!expect(Tok::kRParen, "after the inputs")) return false;
    if (!expect(Tok::kArrow, "and the results' types after the inputs")) return false;
    if (accept(Tok::kLParen)) {
      if (!is(Tok::kRParen) && !fields(d.results)) return false;
      if (!expect(Tok::kRParen, "after the results")) return false;
    } else {
      Field f;
      f.pos = t_.pos;
      f.type = type();
      if (!f.type) return false;
      d.results.push_back(std::move(f));
    }
    if (!body(d.body)) return false;
    ast_.blocks.push_back(std::move(d));
    return true;
  }

  // dims  = "[" bind{","bind} "]" ; bind = ["..."] ID ["in" expr ".." expr]
  bool dims(std::vector<DimBind>& out) {
    advance();
    do {
      DimBind b;
      b.variadic = accept(Tok::kEllipsis);
      if (!name(b.name, b.pos, "the name of a size")) return false;
      if (is(Tok::kIn)) {
        advance();
        if (!(b.lo = expr())) return false;
        if (!expect(Tok::kRange, "between the least and the greatest size")) return false;
        if (!(b.hi = expr())) return false;
      }
      out.push_back(std::move(b));
    } while (accept(Tok::kComma));
    return expect(Tok::kRBracket, "after the sizes");
  }

  // set   = ID ":" stype ["=" expr]
  bool setting(BlockDef& d) {
    Setting s;
    if (!name(s.name, s.pos, "a setting's name")) return false;
    if (!expect(Tok::kColon, "and a type after the setting's name")) return false;
    static constexpr std::pair<std::string_view, Setting::Type> kTypes[] = {
        {"int", Setting::kInt},       {"ints", Setting::kInts}, {"float", Setting::kFloat},
        {"floats", Setting::kFloats}, {"bool", Setting::kBool}, {"str", Setting::kStr},
        {"dtype", Setting::kDType}};
    bool found = false;
    if (is(Tok::kId) || is(Tok::kDType)) {
      for (const auto& [text, type] : kTypes)
        if (t_.text == text) s.type = type, found = true;
    }
    if (!found) {
      error(t_,
            fmt::format("expected a setting's type (int, ints, float, floats, bool, str or dtype), not {}",
                        describe(t_)));
      return false;
    }
    advance();
    if (accept(Tok::kAssign) && !(s.value = expr())) return false;
    d.settings.push_back(std::move(s));
    return true;
  }

  // fields= ID ":" type {"," ID ":" type}
  bool fields(std::vector<Field>& out) {
    do {
      Field f;
      if (!name(f.name, f.pos, "a name")) return false;
      if (!expect(Tok::kColon, "and a type after the name")) return false;
      if (!(f.type = type())) return false;
      out.push_back(std::move(f));
    } while (accept(Tok::kComma));
    return true;
  }

  // type  = DTYPE ["[" [dim{","dim}] "]"] ; dim = expr | "_" | "..." ID
  const TypeExpr* type() {
    if (!is(Tok::kDType)) {
      std::string hint;
      if (is(Tok::kId)) {
        NearestName near(t_.text);
        for (int i = 0; i < kNumDTypes; ++i) near.offer(dtype_name(static_cast<DType>(i)));
        hint = t_.text == "float" ? "; did you mean 'f32'?"
               : t_.text == "int" ? "; did you mean 'i32'?"
                                  : near.hint();
      }
      error(t_, fmt::format("expected a type such as f32[N, 10], not {}{}", describe(t_), hint));
      return nullptr;
    }
    TypeExpr& ty = ast_.types.emplace_back();
    ty.pos = t_.pos;
    ty.dtype = t_.dtype;
    advance();
    if (!is(Tok::kLBracket)) return &ty;
    Nest nest(*this);
    if (!nest.ok) return nullptr;
    ty.has_dims = true;
    advance();
    if (accept(Tok::kRBracket)) return &ty;
    do {
      DimExpr d;
      d.pos = t_.pos;
      if (is_word("_")) {
        d.kind = DimExpr::kInfer;
        advance();
      } else if (accept(Tok::kEllipsis)) {
        d.kind = DimExpr::kSpread;
        Pos p;
        if (!name(d.name, p, "the name of the sizes after '...'")) return nullptr;
      } else if (!(d.expr = expr())) {
        return nullptr;
      }
      ty.dims.push_back(std::move(d));
    } while (accept(Tok::kComma));
    if (!expect(Tok::kRBracket, "after the sizes")) return nullptr;
    return &ty;
  }

  // train = "train" ID "{" {NL} {("input" ID ":" type | KEY [ID|STR] "=" expr) {NL}} "}"
  bool train_item() {
    TrainDef d;
    advance();
    if (!name(d.model, d.pos, "the name of the model to train")) return false;
    if (!expect(Tok::kLBrace, "after the model's name")) return false;
    for (skip_newlines(); !is(Tok::kRBrace) && !stop(); skip_newlines()) {
      if (is(Tok::kEnd)) {
        error(t_, "the file ends inside a train section; '}' is missing");
        return false;
      }
      if (at_item()) {
        error(t_, fmt::format("'{}' inside a train section; '}}' is missing before it", t_.text));
        return false;
      }
      if (!train_entry(d))
        sync_line();
      else if (!is(Tok::kNewline) && !is(Tok::kRBrace)) {
        error(t_, fmt::format("expected the end of the line, not {}", describe(t_)));
        sync_line();
      }
    }
    advance();
    ast_.trains.push_back(std::move(d));
    return true;
  }

  bool train_entry(TrainDef& d) {
    static constexpr std::string_view kKeys[] = {"input", "loss",      "metric", "optimizer",  "schedule",
                                                 "group", "precision", "clip",   "accumulate", "set"};
    TrainEntry e;
    e.pos = t_.pos;
    if (!is(Tok::kId) || std::find(std::begin(kKeys), std::end(kKeys), t_.text) == std::end(kKeys)) {
      NearestName near(t_.text);
      near.offer_all(kKeys);
      error(t_, fmt::format("expected one of input, loss, metric, optimizer, schedule, group, precision, "
                            "clip, accumulate, set, not {}{}",
                            describe(t_), is(Tok::kId) ? near.hint() : ""));
      return false;
    }
    e.key = t_.text;
    advance();
    e.name_pos = t_.pos;
    if (e.key == "input") {
      if (!name(e.name, e.name_pos, "the input's name")) return false;
      if (!expect(Tok::kColon, "and a type after the input's name")) return false;
      if (!(e.type = type())) return false;
    } else {
      if (is(Tok::kId)) {
        e.name = t_.text;
        advance();
      } else if (is(Tok::kStr)) {
        e.name = unescape(t_.text);
        advance();
      }
      if (!expect(Tok::kAssign, fmt::format("after '{}'", e.key))) return false;
      if (!(e.value = expr())) return false;
    }
    d.entries.push_back(std::move(e));
    return true;
  }

  // ---- statements
  // To the end of this line, over the bodies that open on it; stops before the '}' that closes the body we
  // are in.
  void sync_line() {
    int depth = 0;
    for (;;) {
      if (is(Tok::kEnd) || stop() || (at_item() && t_.line_start)) return;
      if (is(Tok::kNewline) && depth == 0) return;
      if (is(Tok::kLBrace)) ++depth;
      if (is(Tok::kRBrace) && depth-- == 0) return;
      advance();
    }
  }

  // body  = "{" {NL} [stmt {NL {NL} stmt} {NL}] "}"
  bool body(std::vector<Stmt*>& out) {
    Nest nest(*this);
    if (!nest.ok) return false;
    const Token open = t_;
    if (!expect(Tok::kLBrace, "before a body")) return false;
    for (skip_newlines(); !is(Tok::kRBrace) && !stop(); skip_newlines()) {
      if (is(Tok::kEnd) || (at_item() && t_.line_start)) {
        error(t_, fmt::format("expected '}}' to close the body that opens in line {}, not {}",
                              sources_.line_col(open.pos).line, describe(t_)));
        return false;
      }
      Stmt* s = statement();
      if (s)
        out.push_back(s);
      else
        sync_line();
      if (s && !is(Tok::kNewline) && !is(Tok::kRBrace)) {
        if (is(Tok::kEnd)) continue;
        error(t_, fmt::format("expected the end of the line, not {}", describe(t_)));
        sync_line();
      }
    }
    if (stop()) return false;
    advance();
    return true;
  }

  Stmt* new_stmt(StmtKind kind) {
    Stmt& s = ast_.stmts.emplace_back();
    s.kind = kind;
    s.pos = t_.pos;
    return &s;
  }

  Stmt* statement() {
    switch (t_.kind) {
      case Tok::kParam: return declaration(StmtKind::kParam);
      case Tok::kState: return declaration(StmtKind::kState);
      case Tok::kLayer: return layer();
      case Tok::kFor: return for_stmt();
      case Tok::kIf: return if_stmt();
      case Tok::kAssert: return assert_stmt();
      case Tok::kReturn:
      case Tok::kYield: {
        Stmt* s = new_stmt(is(Tok::kReturn) ? StmtKind::kReturn : StmtKind::kYield);
        advance();
        return exprs(s->values) ? s : nullptr;
      }
      case Tok::kElse: error(t_, "'else' without an 'if' before it"); return nullptr;
      default: return assignment();
    }
  }

  // ("param"|"state") ID ":" type "=" expr
  Stmt* declaration(StmtKind kind) {
    Stmt* s = new_stmt(kind);
    const char* what = kind == StmtKind::kParam ? "param" : "state";
    advance();
    if (!name(s->name, s->pos, fmt::format("a name after '{}'", what))) return nullptr;
    if (!expect(Tok::kColon, "and a type after the name")) return nullptr;
    if (!(s->type = type())) return nullptr;
    if (!expect(Tok::kAssign, "and an initialiser such as zeros() after the type")) return nullptr;
    Expr* e = expr();
    if (!e) return nullptr;
    s->values.push_back(e);
    return s;
  }

  // "layer" ID "=" expr
  Stmt* layer() {
    Stmt* s = new_stmt(StmtKind::kLayer);
    advance();
    if (!name(s->name, s->pos, "the layer's name")) return nullptr;
    if (!expect(Tok::kAssign, "after the layer's name")) return nullptr;
    Expr* e = expr();
    if (!e) return nullptr;
    s->values.push_back(e);
    return s;
  }

  // "for" ID ["," ID] "in" expr [".." expr] body
  Stmt* for_stmt() {
    Stmt* s = new_stmt(StmtKind::kFor);
    Pos p;
    advance();
    if (!name(s->name, p, "the loop's name")) return nullptr;
    if (accept(Tok::kComma) && !name(s->name2, p, "the loop's second name")) return nullptr;
    if (!expect(Tok::kIn, "after the loop's name")) return nullptr;
    Expr* e = expr();
    if (!e) return nullptr;
    s->values.push_back(e);
    if (accept(Tok::kRange)) {
      s->range = true;
      if (!(e = expr())) return nullptr;
      s->values.push_back(e);
    }
    return body(s->body) ? s : nullptr;
  }

  // if    = "if" expr body ["else" (if|body)]
  Stmt* if_stmt() {
    Stmt* s = new_stmt(StmtKind::kIf);
    for (;;) {
      Branch b;
      b.pos = t_.pos;
      advance();  // if
      if (!(b.cond = expr())) return nullptr;
      if (!body(b.body)) return nullptr;
      s->branches.push_back(std::move(b));
      if (!is(Tok::kElse)) return s;
      Branch otherwise;
      otherwise.pos = t_.pos;
      advance();
      if (is(Tok::kIf)) continue;
      if (!body(otherwise.body)) return nullptr;
      s->branches.push_back(std::move(otherwise));
      return s;
    }
  }

  // "assert" expr ["," STR]
  Stmt* assert_stmt() {
    Stmt* s = new_stmt(StmtKind::kAssert);
    advance();
    Expr* e = expr();
    if (!e) return nullptr;
    s->values.push_back(e);
    if (accept(Tok::kComma)) {
      if (!is(Tok::kStr)) {
        error(t_, fmt::format("expected the message of the assert in quotes, not {}", describe(t_)));
        return nullptr;
      }
      s->text = unescape(t_.text);
      advance();
    }
    return s;
  }

  // target{","target} "=" (scan|exprs) ; target = ID ["[" expr "]"] [":" type]
  Stmt* assignment() {
    Stmt* s = new_stmt(StmtKind::kAssign);
    if (!is(Tok::kId)) {
      error(t_, fmt::format("expected a statement, not {}", describe(t_)));
      return nullptr;
    }
    do {
      Target t;
      if (!name(t.name, t.pos, "a name to assign to")) return nullptr;
      if (accept(Tok::kLBracket)) {
        if (!(t.index = expr())) return nullptr;
        if (!expect(Tok::kRBracket, "after the index")) return nullptr;
      }
      if (accept(Tok::kColon) && !(t.type = type())) return nullptr;
      s->targets.push_back(std::move(t));
    } while (accept(Tok::kComma));
    if (!is(Tok::kAssign)) {
      std::string hint;
      if (s->targets.size() == 1 && is(Tok::kId)) {
        NearestName near(s->targets[0].name);
        for (auto w : {"return", "param", "state", "layer", "for", "if", "assert"}) near.offer(w);
        hint = near.hint();
      }
      error(t_, fmt::format("expected '=' after {}, not {}: a statement gives a value a name{}",
                            quoted(s->targets.back().name), describe(t_), hint));
      return nullptr;
    }
    advance();
    if (is(Tok::kScan)) return scan(s) ? s : nullptr;
    return exprs(s->values) ? s : nullptr;
  }

  // scan  = "scan" ID "in" expr "axis" expr ["with" ID "=" expr{"," ID "=" expr}] body
  bool scan(Stmt* s) {
    s->kind = StmtKind::kScan;
    s->pos = t_.pos;
    Pos p;
    advance();
    if (!name(s->name, p, "the name of a step's element")) return false;
    if (!expect(Tok::kIn, "after the element's name")) return false;
    Expr* e = expr();
    if (!e) return false;
    s->values.push_back(e);
    if (!is_word("axis")) {
      error(t_, fmt::format("expected 'axis' and a number after the sequence, not {}", describe(t_)));
      return false;
    }
    advance();
    if (!(e = expr())) return false;
    s->values.push_back(e);
    if (is_word("with")) {
      advance();
      do {
        std::string n;
        if (!name(n, p, "the name of a carried value")) return false;
        if (!expect(Tok::kAssign, "after the carried value's name")) return false;
        if (!(e = expr())) return false;
        s->carried.emplace_back(std::move(n), e);
      } while (accept(Tok::kComma));
    }
    return body(s->body);
  }

  // ---- expressions
  bool exprs(std::vector<Expr*>& out) {
    do {
      Expr* e = expr();
      if (!e) return false;
      out.push_back(e);
    } while (accept(Tok::kComma));
    return true;
  }

  // expr  = cond {"|>" [ID ":"] post}
  Expr* expr() {
    Expr* left = cond();
    while (left && is(Tok::kPipe)) {
      advance();
      Expr* e = node(ExprKind::kPipe, t_.pos);
      if (is(Tok::kId) && t2_.kind == Tok::kColon) {
        e->text = t_.text;
        advance();
        advance();
      }
      Expr* right = post();
      if (!right) return nullptr;
      e->args = {left, right};
      left = finish(e);
    }
    return left;
  }

  // cond  = or ["if" or "else" cond]
  Expr* cond() {
    Expr* value = or_expr();
    if (!value || !is(Tok::kIf)) return value;
    Expr* e = node(ExprKind::kCond, t_.pos);
    advance();
    Expr* c = or_expr();
    if (!c || !expect(Tok::kElse, "in 'a if condition else b'")) return nullptr;
    Nest nest(*this);
    if (!nest.ok) return nullptr;
    Expr* otherwise = cond();
    if (!otherwise) return nullptr;
    e->args = {value, c, otherwise};
    return finish(e);
  }

  template <class Next, class Match>
  Expr* left_chain(Next next, Match match) {
    Expr* left = (this->*next)();
    for (Op op; left && (op = match(t_.kind)) != Op::kNone;) {
      Expr* e = node(ExprKind::kBinary, t_.pos);
      e->op = op;
      advance();
      Expr* right = (this->*next)();
      if (!right) return nullptr;
      e->args = {left, right};
      left = finish(e);
    }
    return left;
  }
  Expr* or_expr() {
    return left_chain(&Parser::and_expr, [](Tok t) { return t == Tok::kOr ? Op::kOr : Op::kNone; });
  }
  Expr* and_expr() {
    return left_chain(&Parser::not_expr, [](Tok t) { return t == Tok::kAnd ? Op::kAnd : Op::kNone; });
  }
  // not   = ["not"] cmp
  Expr* not_expr() {
    if (!is(Tok::kNot)) return cmp();
    Expr* e = node(ExprKind::kUnary, t_.pos);
    e->op = Op::kNot;
    advance();
    if (is(Tok::kNot)) {
      error(t_, "'not not': write the condition itself, or parentheses");
      return nullptr;
    }
    Expr* x = cmp();
    if (!x) return nullptr;
    e->args = {x};
    return finish(e);
  }
  static Op comparison(Tok t) {
    switch (t) {
      case Tok::kEq: return Op::kEq;
      case Tok::kNe: return Op::kNe;
      case Tok::kLt: return Op::kLt;
      case Tok::kLe: return Op::kLe;
      case Tok::kGt: return Op::kGt;
      case Tok::kGe: return Op::kGe;
      default: return Op::kNone;
    }
  }
  // cmp   = sum [("=="|"!="|"<"|"<="|">"|">=") sum]
  Expr* cmp() {
    Expr* left = sum();
    if (!left) return nullptr;
    const Op op = comparison(t_.kind);
    if (op == Op::kNone) return left;
    Expr* e = node(ExprKind::kBinary, t_.pos);
    e->op = op;
    advance();
    Expr* right = sum();
    if (!right) return nullptr;
    if (comparison(t_.kind) != Op::kNone) {
      error(t_, "comparisons don't chain; write 'a < b and b < c'");
      return nullptr;
    }
    e->args = {left, right};
    return finish(e);
  }
  Expr* sum() {
    return left_chain(&Parser::term, [](Tok t) {
      return t == Tok::kPlus ? Op::kAdd : t == Tok::kMinus ? Op::kSub : Op::kNone;
    });
  }
  Expr* term() {
    return left_chain(&Parser::unary, [](Tok t) {
      switch (t) {
        case Tok::kStar: return Op::kMul;
        case Tok::kSlash: return Op::kDiv;
        case Tok::kFloorDiv: return Op::kFloorDiv;
        case Tok::kPercent: return Op::kMod;
        case Tok::kAt: return Op::kMatMul;
        default: return Op::kNone;
      }
    });
  }
  // unary = ("-"|"+") unary | power
  Expr* unary() {
    if (!is(Tok::kMinus) && !is(Tok::kPlus)) return power();
    Nest nest(*this);
    if (!nest.ok) return nullptr;
    Expr* e = node(ExprKind::kUnary, t_.pos);
    e->op = is(Tok::kMinus) ? Op::kNeg : Op::kPos;
    advance();
    Expr* x = unary();
    if (!x) return nullptr;
    e->args = {x};
    return finish(e);
  }
  // power = post ["**" unary]
  Expr* power() {
    Expr* base = post();
    if (!base || !is(Tok::kPower)) return base;
    Nest nest(*this);
    if (!nest.ok) return nullptr;
    Expr* e = node(ExprKind::kBinary, t_.pos);
    e->op = Op::kPow;
    advance();
    Expr* x = unary();
    if (!x) return nullptr;
    e->args = {base, x};
    return finish(e);
  }

  // post  = prim {"(" [arg{","arg}] ")" | "[" exprs "]" | "." ID}
  Expr* post() {
    Expr* e = prim();
    while (e) {
      if (is(Tok::kLParen)) {
        Expr* call = node(ExprKind::kCall, e->pos);
        call->args = {e};
        Nest nest(*this);
        if (!nest.ok) return nullptr;
        advance();
        if (!is(Tok::kRParen)) {
          do {
            if (!arg(call)) return nullptr;
          } while (accept(Tok::kComma));
        }
        if (!expect(Tok::kRParen, "after the arguments")) return nullptr;
        e = finish(call);
      } else if (is(Tok::kLBracket)) {
        Expr* index = node(ExprKind::kIndex, e->pos);
        index->args = {e};
        Nest nest(*this);
        if (!nest.ok) return nullptr;
        advance();
        if (!exprs(index->args)) return nullptr;
        if (!expect(Tok::kRBracket, "after the index")) return nullptr;
        e = finish(index);
      } else if (is(Tok::kDot)) {
        advance();
        Expr* attr = node(ExprKind::kAttr, t_.pos);
        attr->args = {e};
        Pos p;
        if (!name(attr->text, p, "a name after '.'")) return nullptr;
        e = finish(attr);
      } else {
        return e;
      }
    }
    return nullptr;
  }

  // arg   = [ID "="] expr
  bool arg(Expr* call) {
    Arg a;
    a.pos = t_.pos;
    if (is(Tok::kId) && t2_.kind == Tok::kAssign) {
      a.name = t_.text;
      advance();
      advance();
    }
    if (!(a.value = expr())) return false;
    call->call_args.push_back(std::move(a));
    return true;
  }

  // prim  = NUM|STR|"true"|"false"|type|ID|"(" exprs ")"|"[" [exprs] "]"
  Expr* prim() {
    const Token t = t_;
    switch (t.kind) {
      case Tok::kInt:
      case Tok::kFloat: {
        Expr* e = node(t.kind == Tok::kInt ? ExprKind::kInt : ExprKind::kFloat, t.pos);
        e->i = t.int_value;
        e->f = t.float_value;
        advance();
        return e;
      }
      case Tok::kStr: {
        Expr* e = node(ExprKind::kStr, t.pos);
        e->text = unescape(t.text);
        advance();
        return e;
      }
      case Tok::kTrue:
      case Tok::kFalse: {
        Expr* e = node(ExprKind::kBool, t.pos);
        e->i = t.kind == Tok::kTrue;
        advance();
        return e;
      }
      case Tok::kDType: {
        Expr* e = node(ExprKind::kType, t.pos);
        if (!(e->type = type())) return nullptr;
        return finish(e);
      }
      case Tok::kId: {
        Expr* e = node(ExprKind::kName, t.pos);
        e->text = t.text;
        advance();
        return e;
      }
      case Tok::kLParen: {
        Nest nest(*this);
        if (!nest.ok) return nullptr;
        advance();
        std::vector<Expr*> inner;
        if (!exprs(inner)) return nullptr;
        if (!expect(Tok::kRParen, "to close the parenthesis")) return nullptr;
        if (inner.size() == 1) {
          inner[0]->paren = true;
          return inner[0];
        }
        Expr* e = node(ExprKind::kList, t.pos);
        e->args = std::move(inner);
        return finish(e);
      }
      case Tok::kLBracket: {
        Expr* e = node(ExprKind::kList, t.pos);
        Nest nest(*this);
        if (!nest.ok) return nullptr;
        advance();
        if (!is(Tok::kRBracket) && !exprs(e->args)) return nullptr;
        if (!expect(Tok::kRBracket, "to close the list")) return nullptr;
        return finish(e);
      }
      default: error(t, fmt::format("expected an expression, not {}", describe(t))); return nullptr;
    }
  }

  const SourceMap& sources_;
  Lexer lexer_;
  Diagnostics& diags_;
  Ast& ast_;
  Token t_, t2_;
  Pos last_error_;
  int nesting_ = 0;
  bool too_big_ = false;
};

}  // namespace

std::unique_ptr<Ast> parse_source(const SourceMap& sources, uint32_t file, Diagnostics& diags) {
  auto ast = std::make_unique<Ast>();
  ast->file = file;
  const std::string_view text = sources.text(file);
  if (text.size() > kMaxSourceBytes) {
    diags.error({file, 0}, fmt::format("the file has {} bytes; .graph files have at most {}", text.size(),
                                       kMaxSourceBytes));
    return ast;
  }
  Parser parser(sources, file, diags, *ast);
  parser.file();
  return ast;
}

}  // namespace graphc::syntax
