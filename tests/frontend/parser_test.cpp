// Lexer and parser: what they accept, what they say, and that no input harms them.
#include "frontend/parser.h"

#include <gtest/gtest.h>

#include <chrono>

#include "frontend/lexer.h"

namespace graphc::syntax {
namespace {

struct Parsed {
  SourceMap sources;
  std::unique_ptr<Diagnostics> diags;
  std::unique_ptr<Ast> ast;
  explicit Parsed(std::string text) {
    const uint32_t f = sources.add("t.graph", std::move(text));
    diags = std::make_unique<Diagnostics>(sources);
    ast = parse_source(sources, f, *diags);
  }
  std::string text() const { return diags->render(); }
  std::string first() const { return diags->all().empty() ? "" : diags->all()[0].message; }
};

// An expression as fully bracketed text.
std::string show(const Expr* e) {
  std::string s;
  switch (e->kind) {
    case ExprKind::kInt: return std::to_string(e->i);
    case ExprKind::kFloat: return std::to_string(e->f);
    case ExprKind::kStr: return escape(e->text);
    case ExprKind::kBool: return e->i ? "true" : "false";
    case ExprKind::kName: return e->text;
    case ExprKind::kType: return std::string(dtype_name(e->type->dtype));
    case ExprKind::kUnary: return "(" + std::string(op_spelling(e->op)) + " " + show(e->args[0]) + ")";
    case ExprKind::kBinary:
      return "(" + show(e->args[0]) + " " + std::string(op_spelling(e->op)) + " " + show(e->args[1]) + ")";
    case ExprKind::kCond:
      return "(" + show(e->args[0]) + " if " + show(e->args[1]) + " else " + show(e->args[2]) + ")";
    case ExprKind::kAttr: return show(e->args[0]) + "." + e->text;
    case ExprKind::kPipe:
      return "(" + show(e->args[0]) + " |> " + (e->text.empty() ? "" : e->text + ": ") + show(e->args[1]) +
             ")";
    case ExprKind::kList:
    case ExprKind::kIndex:
      for (size_t i = e->kind == ExprKind::kIndex; i < e->args.size(); ++i)
        s += (s.empty() ? "" : ", ") + show(e->args[i]);
      return (e->kind == ExprKind::kIndex ? show(e->args[0]) : "") + "[" + s + "]";
    case ExprKind::kCall:
      for (const Arg& a : e->call_args)
        s += (s.empty() ? "" : ", ") + (a.name.empty() ? "" : a.name + "=") + show(a.value);
      return show(e->args[0]) + "(" + s + ")";
  }
  return "?";
}

std::string expr(const std::string& text) {
  Parsed p("graphc 1\nconst X = " + text + "\n");
  if (!p.diags->ok()) return p.first();
  return show(p.ast->consts.at(0).value);
}

TEST(Parser, Precedence) {
  EXPECT_EQ(expr("1 + 2 * 3 - 4"), "((1 + (2 * 3)) - 4)");
  EXPECT_EQ(expr("-x**2"), "(- (x ** 2))");
  EXPECT_EQ(expr("2**-x**3"), "(2 ** (- (x ** 3)))");
  EXPECT_EQ(expr("a @ b + c // d % e"), "((a @ b) + ((c // d) % e))");
  EXPECT_EQ(expr("not a == b and c or d"), "(((not (a == b)) and c) or d)");
  EXPECT_EQ(expr("2 if i == 0 and s > 0 else 1"), "(2 if ((i == 0) and (s > 0)) else 1)");
  EXPECT_EQ(expr("a if c else b |> f"), "((a if c else b) |> f)");
  EXPECT_EQ(expr("a if c else b if d else e"), "(a if c else (b if d else e))");
  EXPECT_EQ(expr("x |> a: F(1, k=2) |> g(3)[0].w"), "((x |> a: F(1, k=2)) |> g(3)[0].w)");
  EXPECT_EQ(expr("zeros(f32[N, 4])"), "zeros(f32)");
  EXPECT_EQ(expr("(1, 2.5, \"a\\\"b\")"), "[1, 2.500000, \"a\\\"b\"]");
  EXPECT_EQ(expr("`any:text` + []"), "(any:text + [])");
}

TEST(Parser, NewlinesInsideBracketsAndBeforePipesAndElse) {
  EXPECT_EQ(expr("f(a,\n  b)\n\n  # a comment\n  |> g\n  |> h"), "((f(a, b) |> g) |> h)");
  Parsed p("graphc 1\nmodel M(x: f32) -> f32 {\n  if true { y = x }\n  else { y = x }\n  return y\n}\n");
  EXPECT_EQ(p.text(), "");
  ASSERT_EQ(p.ast->blocks[0].body.size(), 2u);
  EXPECT_EQ(p.ast->blocks[0].body[0]->branches.size(), 2u);
}

TEST(Parser, WholeGrammar) {
  Parsed p(R"(graphc 1
import "nn/extra.graph" as extra
const K = 3

block LSTM[N, T in 1..1024, ...B](hidden: int, p: float = 0.1, ks: ints = [1, 2], act: str = "relu", t: dtype = f32)(x: f32[N, T, ...B]) -> (a: f32[N, _], b: bool) {
  param w: f32[I, 4*hidden] = xavier_uniform()
  state s: f32 = zeros()
  layer wte = Embedding(50257, 768)
  assert hidden > 0, "positive"
  xs = [1, 2]
  xs[0] = 5
  for c in [1, 2] { y = c }
  for s, n in 0..K {
  }
  if a { y = 1 } else if b { y = 2 } else { y = 3 }
  i, f: f32[N], g = split(x, 3)
  ys, h = scan xt in x axis 1 with h = h0, c = c0 {
    yield h
  }
  return ys, h
}
train LSTM {
  input label: i32[N]
  loss = cross_entropy(a, label)
  metric acc = accuracy(a, label)
  group "h.*" = adam(lr=0.1)
}
)");
  EXPECT_EQ(p.text(), "");
  ASSERT_EQ(p.ast->blocks.size(), 1u);
  const BlockDef& b = p.ast->blocks[0];
  EXPECT_EQ(b.dims.size(), 3u);
  EXPECT_TRUE(b.dims[2].variadic);
  EXPECT_EQ(b.settings.size(), 5u);
  EXPECT_EQ(b.results.size(), 2u);
  EXPECT_EQ(b.body.size(), 12u);
  EXPECT_EQ(p.ast->trains[0].entries.size(), 4u);
  EXPECT_EQ(p.ast->trains[0].entries[3].name, "h.*");
}

TEST(Parser, SeveralErrorsInOneRun) {
  Parsed p(
      "graphc 1\nmodel M(x: f32) -> f32 {\n  y = = 1\n  z = x +\n  w = (x\n  return y\n}\nmodel N(x: f32 -> "
      "f32 {\n}\nconst A = 1 1\n");
  EXPECT_EQ(p.diags->errors(), 5) << p.text();
}

TEST(Parser, ErrorsPointAtTheirPlace) {
  Parsed p("graphc 1\nmodel M(x: f32[2]) -> f32[2] {\n\treturn rel u(x)\n}\n");
  EXPECT_EQ(p.text(),
            "t.graph:3:13: error: expected the end of the line, not 'u'\n"
            "   3 | \treturn rel u(x)\n"
            "     | \t           ^\n");
}

TEST(Parser, StopsAfterTwenty) {
  std::string s = "graphc 1\nmodel M(x: f32) -> f32 {\n";
  for (int i = 0; i < 100; ++i) s += "  y = )\n";
  Parsed p(s + "}\n");
  EXPECT_EQ(p.diags->errors(), 20);
  EXPECT_NE(p.text().find("stopped after 20 errors"), std::string::npos);
}

TEST(Parser, HostileInputs) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(Parsed("").first(), "the file is empty; it must begin with 'graphc 1'");
  EXPECT_EQ(Parsed(std::string(1000, '\0')).first(), "a control byte 0x00; .graph files are text");
  EXPECT_EQ(Parsed("graphc 1\nconst X = " + std::string(5000, '(') + "1" + std::string(5000, ')')).first(),
            "nested more than 64 deep; give inner parts names of their own");
  for (const char* open : {"[", "f(", "-", "x[", "f32[", "2**", "1 if 1 else "}) {
    std::string s = "graphc 1\nconst X = ";
    for (int i = 0; i < 100000; ++i) s += open;
    EXPECT_EQ(Parsed(s).first(), "nested more than 64 deep; give inner parts names of their own") << open;
  }
  for (const char* chain : {" + 1", " |> f", ".a", "[0]", "(0)", " and 1"}) {
    std::string s = "graphc 1\nconst X = x";
    for (int i = 0; i < 100000; ++i) s += chain;
    EXPECT_FALSE(Parsed(s).diags->ok()) << chain;
  }
  std::string bodies = "graphc 1\nmodel M(x: f32) -> f32 {\n";
  for (int i = 0; i < 5000; ++i) bodies += "if true {\n";
  EXPECT_FALSE(Parsed(bodies).diags->ok());
  std::string elses = "graphc 1\nmodel M(x: f32) -> f32 {\nif a {}";
  for (int i = 0; i < 100000; ++i) elses += " else if a {}";
  EXPECT_TRUE(Parsed(elses + "\n}").diags->ok());
  EXPECT_EQ(Parsed(std::string(64u << 20, 'x')).first(),
            "a name of 67108864 bytes; names have at most 65536");
  EXPECT_FALSE(Parsed("graphc 1\n" + std::string((64u << 20) - 9, '\n') + "x").diags->ok());
  EXPECT_FALSE(Parsed("graphc 1\n" + std::string(64u << 20, ' ')).diags->ok());
  std::string nul = "graphc 1\n";
  for (int i = 0; i < 1000; ++i) nul += std::string("\0a", 2);
  EXPECT_EQ(Parsed(nul).diags->errors(), 20);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

TEST(Parser, EveryPrefixAndRandomDamage) {
  const std::string text =
      "graphc 1\nblock B[N, ...D](k: int = 3)(x: f32[N, ...D]) -> f32[N, _] {\n  for i, n in [1, 2] { x = x "
      "|> a: C(k**2, s=\"q\") }\n"
      "  if k == 1 or not true { param w: f32[k] = zeros() } else { w = `q`[0] }\n  return x[0], "
      "1.5e-3\n}\ntrain B {\n  loss = mse(a, b)\n}\n";
  ASSERT_TRUE(Parsed(text).diags->ok()) << Parsed(text).text();
  for (size_t n = 0; n < text.size(); ++n) Parsed(text.substr(0, n)).text();
  uint64_t seed = 1;
  for (int i = 0; i < 5000; ++i) {
    std::string s = text;
    for (int k = 0; k < 3; ++k) {
      seed = seed * 6364136223846793005ull + 1442695040888963407ull;
      s[(seed >> 33) % s.size()] = static_cast<char>(seed >> 56);
    }
    Parsed(s).text();
  }
}

TEST(Lexer, Numbers) {
  EXPECT_EQ(expr("9223372036854775808"),
            "'9223372036854775808' is too large for an integer (at most 9223372036854775807)");
  EXPECT_EQ(expr("1e999"), "'1e999' is too large for a number");
  EXPECT_EQ(expr("1e-999"), "0.000000");
  EXPECT_EQ(expr("3x"), "'3x' is neither a number nor a name");
  EXPECT_EQ(expr("1e3"), "1000.000000");
}

TEST(NearestName, FindsTypos) {
  auto near = [](std::string_view w) {
    return NearestName(w).offer_all(std::vector<std::string>{"relu", "Linear", "max_pool"}).best();
  };
  EXPECT_EQ(near("relv"), "relu");
  EXPECT_EQ(near("rleu"), "relu");
  EXPECT_EQ(near("linear"), "Linear");
  EXPECT_EQ(near("maxpool"), "max_pool");
  EXPECT_EQ(near("dropout"), "");
}

}  // namespace
}  // namespace graphc::syntax
