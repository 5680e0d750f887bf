// Elaboration: what programs mean. Core text is compared without locations.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <set>

#include "frontend/format.h"
#include "frontend/frontend.h"
#include "frontend/unit.h"
#include "ir/op.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "runtime/base/file.h"

namespace graphc {
namespace {

const std::string kExamples = GRAPHC_SOURCE_DIR "/examples/";

// Elaborates; on errors the report is the failure's text and module is null.
struct Program {
  std::unique_ptr<GraphFile> file;
  std::optional<Elaborated> e;
  explicit Program(std::unique_ptr<GraphFile> f, const ElaborateOptions& o = {}) : file(std::move(f)) {
    e = file->elaborate(o);
    EXPECT_TRUE(e.has_value()) << file->report();
    if (!e) return;
    const Status ok = verify(*e->module);
    EXPECT_TRUE(ok.ok()) << ok.error().message << print(*e->module);
    const std::string text = print(*e->module);
    auto again = parse_core(text, "t.core");
    EXPECT_TRUE(again.ok()) << again.error().message;
    if (again.ok()) {
      EXPECT_EQ(print(**again), text);
    }
  }
  explicit Program(const std::string& text, const ElaborateOptions& o = {})
      : Program(GraphFile::from_text("t.graph", "graphc 1\n" + text), o) {}

  int64_t parameters() const {
    int64_t n = 0;
    for (const auto& v : e->module->variables)
      if (v->kind == VariableKind::kParam) n += v->value.type.num_elements().constant();
    return n;
  }
  std::string paths() const {
    std::string s;
    for (const auto& v : e->module->variables)
      if (!v->name.starts_with("rng.")) s += (s.empty() ? "" : " ") + v->name;
    return s;
  }
  // The names of the ops of a function, in order.
  std::string ops(std::string_view func) const {
    std::string s;
    for (const auto& n : e->module->find_func(func)->body.nodes)
      s += (s.empty() ? "" : " ") + std::string(n->op->name);
    return s;
  }
  std::string core() const {
    PrintOptions o;
    o.locations = false;
    return print(*e->module, o);
  }
  std::string result(std::string_view func = "M", int k = 0) const {
    return e->module->find_func(func)->body.results[k]->type.to_string();
  }
};

ElaborateOptions training() {
  ElaborateOptions o;
  o.training = true;
  return o;
}

std::string first_error(const std::string& text, const ElaborateOptions& o = {}) {
  auto f = GraphFile::from_text("t.graph", "graphc 1\n" + text);
  EXPECT_FALSE(f->elaborate(o).has_value());
  const std::string report = f->report();
  return report.substr(0, report.find('\n'));
}

// ---- examples

TEST(Examples, ParameterCounts) {
  const std::map<std::string, int64_t> known = {{"mnist_cnn", 421642},  {"mlp", 109386},
                                                {"cnn_224", 1047882},   {"chargpt", 867072},
                                                {"resnet50", 25557032}, {"gpt2", 124439808}};
  for (const auto& [name, count] : known) {
    Program p(GraphFile::load(kExamples + name + ".graph"), training());
    ASSERT_TRUE(p.e) << name;
    EXPECT_EQ(p.parameters(), count) << name;
    EXPECT_EQ(p.file->report(), "") << name;
    EXPECT_TRUE(p.e->module->find_func(p.e->model + ".train")) << name;
  }
}

TEST(Examples, AllElaborateAndAreFormatted) {
  int examples = 0;
  for (const char* folder : {"/examples", "/frontend/std"})
    for (const auto& entry : std::filesystem::directory_iterator(std::string(GRAPHC_SOURCE_DIR) + folder)) {
      if (entry.path().extension() != ".graph") continue;
      auto text = read_file(entry.path().string());
      ASSERT_TRUE(text.ok());
      auto formatted = format_source(*text, entry.path().string());
      ASSERT_TRUE(formatted.ok()) << formatted.error().message;
      if (std::getenv("GRAPHC_UPDATE")) {
        ASSERT_TRUE(atomic_write(entry.path().string(), *formatted).ok());
      }
      EXPECT_EQ(*formatted, *text) << entry.path();
      if (std::string(folder) == "/examples") {
        ++examples;
        Program p(GraphFile::load(entry.path().string()), training());
      }
    }
  EXPECT_GE(examples, 6);
}

TEST(Examples, Gpt2IsFast) {
  const auto start = std::chrono::steady_clock::now();
  auto f = GraphFile::load(kExamples + "gpt2.graph");
  ASSERT_TRUE(f->elaborate({}));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(150));
}

TEST(Examples, PublishedPaths) {
  Program gpt(GraphFile::load(kExamples + "gpt2.graph"));
  const Module& m = *gpt.e->module;
  ASSERT_TRUE(m.find_variable("h.3.attn.c_attn.weight"));
  EXPECT_EQ(m.find_variable("h.3.attn.c_attn.weight")->value.type.to_string(), "f32[2304, 768]");
  EXPECT_TRUE(m.find_variable("h.11.ln_2.bias"));
  EXPECT_TRUE(m.find_variable("wte.weight"));
  Program resnet(GraphFile::load(kExamples + "resnet50.graph"));
  EXPECT_TRUE(resnet.e->module->find_variable("stage.2.5.c.bn.running_var"));
  EXPECT_TRUE(resnet.e->module->find_variable("stage.0.0.skip.conv.weight"));
  EXPECT_FALSE(resnet.e->module->find_variable("stage.0.1.skip.conv.weight"));
}

// ---- meaning

TEST(Elaborate, CoreText) {
  Program p(R"(
model M[N in 1..64](x: f32[N, 4]) -> (y: f32[N, 3]) {
  return x |> fc: Linear(3) |> relu
}
)");
  EXPECT_EQ(p.core(), R"(graphc 1 core
param @fc.weight: f32[3, 4] = kaiming_uniform() {a=2.2360679}
param @fc.bias: f32[3] = uniform() {hi=0.5, lo=-0.5}
func @M[N in 1..64](%x: f32[N, 4]) -> (y: f32[N, 3]) {
  %0 = dot_general(%x, @fc.weight) {a_batch=[], a_contract=[1], b_batch=[], b_contract=[1]} : f32[N, 3]
  %1 = add(%0, @fc.bias) : f32[N, 3]
  %2 = relu(%1) : f32[N, 3]
  return %2
}
)");
}

TEST(Elaborate, LocationsNameTheChain) {
  Program p("model M[N](x: f32[N, 4]) -> f32[N, 3] {\n  return x |> fc: Linear(3)\n}\n");
  const Module& m = *p.e->module;
  const Node& dot = *m.find_func("M")->body.nodes[0];
  const std::string at = m.loc_to_string(dot.loc);
  EXPECT_TRUE(at.starts_with("std/nn.graph:")) << at;
  EXPECT_TRUE(at.ends_with(", in t.graph:3:19")) << at;
}

TEST(Elaborate, PathsOfLabelsTargetsAndLoops) {
  Program p(R"(
block P[N, D](n: int = 1)(x: f32[N, D]) -> f32[N, D] {
  param w: f32[n] = zeros()
  return x * w[0]
}
block Q[N, D]()(x: f32[N, D]) -> f32[N, D] {
  x = x |> inner: P
  for k in [5, 6] {
    param v: f32 = zeros()
    x = x + v
  }
  return x
}
model M[N](x: f32[N, 4]) -> f32[N, 4] {
  first = P(2)(x)
  y = first |> Dropout(0.5) |> P
  for a in 2..4 { for b in 0..2 { y = y |> lab: P } }
  for a in 0..2 { t = P()(y) }
  return t |> q: Q
}
)");
  EXPECT_EQ(p.paths(),
            "first.w y.w lab.0.0.w lab.0.1.w lab.1.0.w lab.1.1.w t.0.w t.1.w q.inner.w q.v.0 q.v.1");
}

TEST(Elaborate, LayersShareTheirParameters) {
  Program p(R"(
model M[N](x: f32[N, 4]) -> f32[N, 4] {
  layer fc = Linear(4)
  for i in 0..3 { x = fc(x) }
  layer emb = Embedding(10, 4)
  y = x @ transpose(emb.weight, [1, 0])
  z = emb(cast(argmax(y, axis=1), i32))
  return (x |> fc) + z
}
)");
  EXPECT_EQ(p.paths(), "fc.weight fc.bias emb.weight");
  EXPECT_EQ(
      first_error("model M[N](x: f32[N, 4]) -> f32[N, _] {\n  layer fc = Linear(5)\n  return fc(fc(x))\n}\n"),
      "t.graph:4:10: error: 'fc.weight' is f32[5, 5] here, but was made as f32[5, 4]");
}

TEST(Elaborate, NestedParametersOfALayer) {
  Program p(R"(
block B[N, D]()(x: f32[N, D]) -> f32[N, D] {
  return x |> fc: Linear(D)
}
model M[N](x: f32[N, 4]) -> f32[N, 4] {
  layer b = B
  y = b(x)
  return y @ b.fc.weight
}
)");
  EXPECT_EQ(p.paths(), "b.fc.weight b.fc.bias");
}

TEST(Elaborate, CompileTimeControl) {
  Program p(R"(
const WIDTHS = [3, 2 + 2, 2**3]
block Maybe[N, D](bias: bool, pad: int = 7)(x: f32[N, D]) -> f32[N, D] {
  if bias {
    param bias: f32[D] = zeros()
    x = x + bias
  }
  return x |> pad([0, 0, 0, pad]) |> slice(axis=1, start=0, stop=D)
}
model M[N](x: f32[N, 4]) -> f32[N, _] {
  sizes = [0, 0, 0]
  for i, w in WIDTHS { sizes[i] = w * 2 if i != 1 else w }
  for s in sizes { x = x |> fc: Linear(s, bias=false) }
  assert sizes == [6, 4, 16] and not false, "sizes"
  x = x |> yes: Maybe(true) |> no: Maybe(false)
  if sizes[-1] > 100 or training { return x }
  else if sizes[0] == 6 { return x |> last: Linear(sizes[0] // 4 + -7 % 4, bias=false) }
  return x
}
)");
  EXPECT_EQ(p.paths(), "fc.0.weight fc.1.weight fc.2.weight yes.bias last.weight");
  EXPECT_EQ(p.result(), "f32[N, 2]");
}

TEST(Elaborate, Arithmetic) {
  auto value = [](const std::string& e) {
    Program p("model M(x: f32) -> f32 { return x + (" + e + ") }\n");
    for (const auto& n : p.e->module->find_func("M")->body.nodes)
      if (n->op->name == "full") return n->attr("value").to_string();
    return std::string("?");
  };
  EXPECT_EQ(value("7 // 2 * 1.0"), "3.0");
  EXPECT_EQ(value("-7 // 2"), "-4.0");
  EXPECT_EQ(value("-7 % 4 + 0.5"), "1.5");
  EXPECT_EQ(value("2**-1"), "0.5");
  EXPECT_EQ(value("-2**2"), "-4.0");
  EXPECT_EQ(value("2**3**2"), "512.0");
  EXPECT_EQ(value("sqrt(16) + maximum(1, 3)"), "7.0");
  EXPECT_EQ(value("1 if \"a\" + \"b\" == \"ab\" else 2"), "1.0");
  auto message = [](const std::string& e) {
    return first_error("model M(x: f32) -> f32 { return x + (" + e + ") }\n");
  };
  EXPECT_TRUE(message("1 // 0").ends_with("division by zero: 1 // 0"));
  EXPECT_TRUE(message("7 / 2").find("'//' rounds down") != std::string::npos);
  EXPECT_TRUE(message("9223372036854775807 + 1").ends_with("is too large for an integer"));
  EXPECT_TRUE(message("2**64").ends_with("2 ** 64 is too large"));
  EXPECT_TRUE(message("\"a\" + 1").ends_with("'+' can't take the string \"a\" and the integer 1"));
}

TEST(Elaborate, OperatorsOnTensors) {
  Program p(R"(
model M[N](x: f32[N, 4], i: i32[N, 4], b: bool[N, 4], w: f32[4, 5]) -> (y: f32[N, 4], j: i32[N, 4], c: bool[N, 4], m: f32[N, 5], s: f32[4]) {
  y = 2 * -x / 3 - x**2 + x**0.5 + x % 2 + x // 2
  j = i // 2 + i % 3 - 1
  c = (x > 0 and b) or not (i == 3)
  return y, j, c, x @ w, w[3] |> slice(axis=0, start=0, stop=4) |> sum(axes=[]) |> expand([4])
}
)");
  EXPECT_EQ(p.result("M", 3), "f32[N, 5]");
}

TEST(Elaborate, LiteralsTakeTheOtherDtype) {
  Program p(
      "model M(x: f16[4], i: u8[4]) -> (y: f16[4], j: u8[4], z: f16[4]) { return x * 2, i + 255, maximum(0, "
      "x) }\n");
  for (const auto& n : p.e->module->find_func("M")->body.nodes)
    if (n->op->name == "full") {
      EXPECT_NE(n->attr("dtype").as_dtype(), DType::kF32);
    }
  EXPECT_TRUE(first_error("model M(x: f16[4]) -> f16[4] { return x * 70000 }\n")
                  .ends_with("the number 70000 doesn't fit f16"));
  EXPECT_TRUE(first_error("model M(x: i32[4]) -> i32[4] { return x * 1.5 }\n").find("doesn't fit i32") !=
              std::string::npos);
}

TEST(Elaborate, SymbolicSizes) {
  Program p(R"(
block Mean[...B, D]()(x: f32[...B, D]) -> f32[...B] {
  return sum(x, axes=[-1]) / D
}
model M[N, T in 1..8](x: f32[N, T, 2*T]) -> (y: f32[N, T], z: f32[N, 2*T*T]) {
  if T >= 1 and T < 9 { y = x |> Mean }
  return y, reshape(x, [N, -1])
}
)");
  EXPECT_EQ(p.result(), "f32[N, T]");
  EXPECT_EQ(p.ops("M"), "sum size_of div reshape");
  ElaborateOptions o;
  o.set["T"] = "2 + 2";
  o.set["N"] = "1";
  Program fixed("model M[N, T in 1..8](x: f32[N, T]) -> f32[N, T] { return relu(x) }\n", o);
  EXPECT_EQ(fixed.result(), "f32[1, 4]");
  EXPECT_TRUE(fixed.e->module->find_func("M")->symbols.empty());
  o.set["T"] = "9";
  EXPECT_EQ(first_error("model M[N, T in 1..8](x: f32[N, T]) -> f32[N, T] { return relu(x) }\n", o),
            "t.graph:2:12: error: the size T = 9 lies outside 1..8");
  o.set = {{"K", "9"}};
  EXPECT_EQ(first_error("model M[N](x: f32[N]) -> f32[N] { return relu(x) }\n", o),
            "t.graph:2:7: error: --set K: the program has no size, constant or setting of that name");
}

TEST(Elaborate, SeveralResults) {
  Program p(R"(
block Two[N, D]()(x: f32[N, D]) -> (a: f32[N, D], b: f32[N]) {
  return relu(x), sum(x, axes=[1])
}
model M[N](x: f32[N, 4]) -> (p: f32[N, 4], q: f32[N], r: f32[N, 2]) {
  a, b = x |> Two
  c = a |> Two |> relu
  halves = split(c, 2, axis=1)
  return c, b, halves[1]
}
)");
  EXPECT_EQ(p.result("M", 2), "f32[N, 2]");
  EXPECT_TRUE(first_error("block Two[N]()(x: f32[N]) -> (a: f32[N], b: f32[N]) { return x, x }\nmodel "
                          "M[N](x: f32[N]) -> f32[N] {\n  a = x |> Two\n  return a\n}\n")
                  .find("has 2 results") != std::string::npos);
}

TEST(Elaborate, OpsTakeOperandsAndSettingsInTheirOrder) {
  Program p(R"(
model M[N](x: f32[N, 3, 8, 8], w: f32[4, 3, 3, 3]) -> f32[N, 4, 2, 2] {
  a = conv2d(x, w, pad=1) |> max_pool(2, 2)
  b = x |> conv2d(w, pad=[1, 1]) |> max_pool(window=2)
  c = concat(a, b, axis=0) + concat([a, b], axis=0)
  d = einsum("n c h w, n c h w -> n c h w", a, b) |> rearrange("n c (h a) (w b) -> n c h w a b", a=2, b=2)
  e = d |> sum([4, 5])
  return where(a[0, 0, 0, 0] > 0, e, 0.0) + sum(c)
}
)");
  EXPECT_EQ(p.result(), "f32[N, 4, 2, 2]");
}

TEST(Elaborate, Imports) {
  const std::string folder = testing::TempDir() + "/graphc_imports/";
  ASSERT_TRUE(make_directories(folder + "nn").ok());
  ASSERT_TRUE(
      atomic_write(
          folder + "nn/extra.graph",
          "graphc 1\nimport \"../main.graph\" as up\nblock B[N]()(x: f32[N]) -> f32[N] { return x }\n")
          .ok());
  ASSERT_TRUE(atomic_write(folder + "nn/good.graph",
                           "graphc 1\nimport \"more.graph\" as more\nconst K = 3\nblock Scale[N, D](k: int = "
                           "K)(x: f32[N, D]) -> f32[N, D] {\n  param w: f32[k] = ones()\n"
                           "  return x * w[0] |> more.Twice\n}\n")
                  .ok());
  ASSERT_TRUE(atomic_write(folder + "nn/more.graph",
                           "graphc 1\nimport \"good.graph\" as good\nblock Twice[N, D]()(x: f32[N, D]) -> "
                           "f32[N, D] { return x * 2 * good.K }\n")
                  .ok());
  ASSERT_TRUE(atomic_write(folder + "main.graph",
                           "graphc 1\nimport \"nn/good.graph\" as nn\nmodel M[N](x: f32[N, 4]) -> f32[N, 4] "
                           "{\n  y = nn.Scale(2)(x)\n"
                           "  return y |> s: nn.Scale |> t: nn.Scale(nn.K + 1)\n}\n")
                  .ok());
  Program p(GraphFile::load(folder + "main.graph"));
  EXPECT_EQ(p.paths(), "y.w s.w t.w");
  EXPECT_EQ(p.e->module->find_variable("s.w")->value.type.to_string(), "f32[3]");
  auto climbs = GraphFile::load(folder + "nn/extra.graph");
  EXPECT_NE(climbs->report().find("can't import '../main.graph'"), std::string::npos);
  EXPECT_NE(GraphFile::load(folder + "nothing.graph")->report().find("nothing.graph"), std::string::npos);
}

// ---- training

const char* const kTrained = R"(
model M[N](x: f32[N, 4]) -> (y: f32[N, 2]) {
  x = x |> bn: BatchNorm1d |> Dropout(0.5) |> fc: Linear(2)
  return x |> Dropout(0.25)
}
train M {
  input t: f32[N, 2]
  metric err = mean(abs(y - t))
  loss = mse(y, t)
  optimizer = adam(lr=0.01)
  group "fc.*" = sgd(0.5, momentum=0.9)
  schedule = cosine(steps=100, warmup=5)
  clip = 2
  accumulate = 4
  precision = bf16
  set epochs = 3
}
)";

TEST(Training, ThreeFunctions) {
  Program p(kTrained, training());
  const Module& m = *p.e->module;
  EXPECT_EQ(p.ops("M"), "batch_norm dot_general add");
  EXPECT_EQ(m.find_func("M.eval")->result_names,
            (std::vector<std::string>{"y", "loss.sum", "loss.count", "err.sum", "err.count"}));
  const Func& train = *m.find_func("M.train");
  EXPECT_EQ(train.result_names, (std::vector<std::string>{"loss.sum", "loss.count", "err.sum", "err.count"}));
  EXPECT_EQ(train.body.args.size(), 2u);
  EXPECT_EQ(p.ops("M.train"),
            "batch_norm assign assign full add assign rng_key dropout dot_general add rng_key dropout mse "
            "size_of mul sub abs mean size_of mul optimize optimize");
  std::set<int64_t> streams;
  for (const auto& n : train.body.nodes)
    if (n->op->name == "rng_key") streams.insert(n->attr("stream").as_int());
  EXPECT_EQ(streams.size(), 2u);
  const Node& first = *train.body.nodes[train.body.nodes.size() - 2];
  EXPECT_EQ(first.attr("params").as_string(), "fc.*");
  EXPECT_EQ(first.attr("algorithm").as_string(), "sgd");
  EXPECT_EQ(first.attr("momentum").as_float(), 0.9);
  EXPECT_EQ(first.attr("schedule").as_string(), "cosine");
  EXPECT_EQ(first.attr("warmup").as_int(), 5);
  EXPECT_EQ(first.attr("clip_norm").as_float(), 2.0);
  EXPECT_EQ(first.attr("accumulate").as_int(), 4);
  EXPECT_EQ(train.body.nodes.back()->attr("params").as_string(), "*");
  ASSERT_TRUE(p.e->train);
  EXPECT_EQ(p.e->train->precision, "bf16");
  EXPECT_EQ(p.e->train->settings.at("epochs").as_int(), 3);
  EXPECT_EQ(p.e->train->inputs, std::vector<std::string>{"t"});
  EXPECT_EQ(p.e->train->metrics, std::vector<std::string>{"err"});
}

TEST(Training, Overrides) {
  ElaborateOptions o = training();
  o.set = {{"lr", "0.25"}, {"epochs", "7"}, {"clip", "0.5"}, {"N", "8"}};
  Program p(kTrained, o);
  EXPECT_EQ(p.e->module->find_func("M.train")->body.nodes.back()->attr("lr").as_float(), 0.25);
  EXPECT_EQ(p.e->module->find_func("M.train")->body.nodes.back()->attr("clip_norm").as_float(), 0.5);
  EXPECT_EQ(p.e->train->settings.at("epochs").as_int(), 7);
  EXPECT_EQ(p.result("M"), "f32[8, 2]");
}

TEST(Training, EqualTextGivesEqualCore) {
  Program a(kTrained, training()), b(kTrained, training());
  EXPECT_EQ(print(*a.e->module), print(*b.e->module));
}

TEST(Training, ChoosesTheModel) {
  const std::string two =
      "graphc 1\nmodel A(x: f32[4]) -> f32[4] { return x }\nmodel B(x: f32[4]) -> f32[4] { return x * 2 }\n";
  auto f = GraphFile::from_text("t.graph", two);
  EXPECT_FALSE(f->elaborate({}));
  EXPECT_NE(f->report().find("several models (A, B)"), std::string::npos);
  ElaborateOptions o;
  o.model = "B";
  EXPECT_TRUE(GraphFile::from_text("t.graph", two)->elaborate(o));
  auto trained =
      GraphFile::from_text("t.graph", two + "train B {\n  loss = mean(output)\n  optimizer = sgd(0.1)\n}\n");
  auto e = trained->elaborate({});
  ASSERT_TRUE(e) << trained->report();
  EXPECT_EQ(e->model, "B");
}

// ---- robustness

TEST(Robustness, DamagedProgramsNeverCrash) {
  uint64_t seed = 7;
  auto random = [&](size_t n) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<size_t>(seed >> 33) % n;
  };
  std::vector<std::string> texts{"graphc 1\n" + std::string(kTrained)};
  for (const char* name : {"gpt2", "resnet50", "chargpt", "cnn_224"}) {
    auto text = read_file(kExamples + name + ".graph");
    ASSERT_TRUE(text.ok());
    texts.push_back(*text);
  }
  // whole tokens move, so that many programs still parse and go wrong later
  for (const std::string& text : texts) {
    std::vector<std::string> words;
    for (size_t i = 0; i < text.size();) {
      size_t e = i + 1;
      if (std::isalnum(static_cast<unsigned char>(text[i])))
        while (e < text.size() && std::isalnum(static_cast<unsigned char>(text[e]))) ++e;
      words.push_back(text.substr(i, e - i));
      i = e;
    }
    for (int round = 0; round < 400; ++round) {
      std::vector<std::string> damaged = words;
      for (size_t k = 0, n = 1 + random(2); k < n; ++k) {
        const size_t at = 4 + random(damaged.size() - 4);
        switch (random(4)) {
          case 0: damaged.erase(damaged.begin() + static_cast<long>(at)); break;
          case 1: damaged[at] = damaged[4 + random(damaged.size() - 4)]; break;
          case 2: damaged[at] = std::to_string(random(9)); break;
          default: std::swap(damaged[at], damaged[4 + random(damaged.size() - 4)]);
        }
      }
      std::string s;
      for (const std::string& w : damaged) s += w;
      auto f = GraphFile::from_text("t.graph", s);
      auto e = f->elaborate(training());
      EXPECT_EQ(e.has_value(), f->ok());
      if (e) {
        const Status ok = verify(*e->module);
        EXPECT_TRUE(ok.ok()) << ok.error().message << "\n" << s;
      }
    }
  }
}

TEST(Robustness, GrowthIsBounded) {
  const auto start = std::chrono::steady_clock::now();
  for (const char* body : {"  s = [1]\n  for i in 0..100 { s = s + s }\n  return x * s[0]\n",
                           "  s = [1]\n  for i in 0..1000000 { s = [s] }\n  return x\n",
                           "  s = \"ab\"\n  for i in 0..100 { s = s + s }\n  return x\n",
                           "  for i in 0..2000000 { x = x + 1 }\n  return x\n",
                           "  s = 3\n  for i in 0..100 { s = s * s }\n  return x * s\n",
                           "  for i in 0..100 { for j in 0..100 { for k in 0..100 { for l in 0..100 { y = 1 "
                           "} } } }\n  return x\n"}) {
    auto f = GraphFile::from_text(
        "t.graph", std::string("graphc 1\nmodel M[N](x: f32[N]) -> f32[N] {\n") + body + "}\n");
    EXPECT_FALSE(f->elaborate({}).has_value()) << body;
    EXPECT_LT(f->report().size(), 5000u);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

}  // namespace
}  // namespace graphc
