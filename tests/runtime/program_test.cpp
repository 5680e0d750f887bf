// Size expressions, arena planning, the .gcx file.
#include "runtime/program.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "runtime/arena.h"
#include "runtime/base/sha256.h"
#include "tests/base/temp_dir.h"
#include "tests/runtime/sample_program.h"

namespace graphc {
namespace {

TEST(SizeExpr, EvaluatesAndPrints) {
  const SizeExpr n = SizeExpr::symbol(0), t = SizeExpr::symbol(1);
  const SizeExpr e = SizeExpr::floor_div(n * SizeExpr(4) + SizeExpr(1), 2) * t + SizeExpr(-3);
  const std::vector<std::string> names{"N", "T"};
  EXPECT_EQ(e.str(names), "(N*4+1)//2*T+-3");
  std::mt19937 rng(1);
  for (int i = 0; i < 100; ++i) {
    const std::vector<int64_t> s{1 + static_cast<int64_t>(rng() % 1000),
                                 1 + static_cast<int64_t>(rng() % 1000)};
    EXPECT_EQ(*e.eval(s), (4 * s[0] + 1) / 2 * s[1] - 3);
    EXPECT_EQ(*SizeExpr::from_code(e.code(), 2)->eval(s), *e.eval(s));
  }
  EXPECT_EQ(SizeExpr(7).as_const(), 7);
  EXPECT_EQ(t.as_symbol(), 1);
  EXPECT_EQ(*(SizeExpr::floor_div(SizeExpr(-3), 2) + SizeExpr(5)).eval({}), 3);  // floors: -2 + 5
  const std::vector<int64_t> big{int64_t{1} << 40};
  EXPECT_EQ((n * n).eval(big).error().message, "a size is too large for 64 bits");
  EXPECT_EQ((n * SizeExpr(-1)).eval(big).error().message, "a size is negative: -1099511627776");
  EXPECT_FALSE(SizeExpr::floor_div(n, 0).eval(big).ok());
}

TEST(SizeExpr, RandomCodeNeverRunsAway) {
  std::mt19937_64 rng(2);
  const std::vector<int64_t> symbols{3, 5};
  int good = 0;
  for (int i = 0; i < 100000; ++i) {
    std::vector<int64_t> code(rng() % 12);
    for (auto& c : code) c = static_cast<int64_t>(rng() % 7) - 1;
    const auto e = SizeExpr::from_code(code, symbols.size());
    if (!e.ok()) continue;
    ++good;
    (void)e->eval(symbols).ok();
    EXPECT_FALSE(e->str({}).empty());
  }
  EXPECT_GT(good, 100);
  std::vector<int64_t> deep;
  for (int i = 0; i < 65; ++i) deep.insert(deep.end(), {0, 1});
  deep.insert(deep.end(), 64, 2);
  EXPECT_FALSE(SizeExpr::from_code(deep, 0).ok());
}

void check_plan(const std::vector<ArenaItem>& items, const ArenaPlan& plan) {
  for (size_t i = 0; i < items.size(); ++i) {
    ASSERT_GE(plan.offsets[i], 0);
    ASSERT_EQ(plan.offsets[i] % kArenaAlign, 0);
    ASSERT_LE(plan.offsets[i] + items[i].bytes, plan.bytes);
    if (items[i].offset >= 0) {
      ASSERT_EQ(plan.offsets[i], items[i].offset);
    }
    for (size_t j = 0; j < i; ++j) {
      const bool together = items[i].first <= items[j].last && items[j].first <= items[i].last;
      const bool apart = plan.offsets[i] + items[i].bytes <= plan.offsets[j] ||
                         plan.offsets[j] + items[j].bytes <= plan.offsets[i];
      ASSERT_TRUE(!together || apart || items[i].bytes == 0 || items[j].bytes == 0);
    }
  }
}

TEST(Arena, NoTwoLiveBuffersOverlap) {
  std::mt19937 rng(3);
  for (int k = 0; k < 300; ++k) {
    std::vector<ArenaItem> items(rng() % 60);
    for (auto& a : items) {
      a.bytes = rng() % 4 == 0 ? 0 : 1 + rng() % 5000;
      a.first = rng() % 40;
      a.last = a.first + rng() % 6;
    }
    const auto plan = plan_arena(items);
    ASSERT_TRUE(plan.ok());
    check_plan(items, *plan);
    // The plan as fixed offsets passes the check and stays; with two live items moved together it doesn't.
    for (size_t i = 0; i < items.size(); ++i) items[i].offset = plan->offsets[i];
    const auto fixed = plan_arena(items);
    ASSERT_TRUE(fixed.ok()) << fixed.error().message;
    check_plan(items, *fixed);
    for (size_t i = 1; i < items.size(); ++i) {
      auto broken = items;
      broken[i].offset = broken[0].offset;
      broken[i].first = broken[0].first;
      broken[i].last = std::max(broken[i].last, broken[i].first);
      if (broken[i].bytes && broken[0].bytes) {
        ASSERT_FALSE(plan_arena(broken).ok());
      }
    }
  }
}

// Activations of a training step: forward values live until their backward step, in reverse order.
TEST(Arena, TrainingStepIsPackedTightly) {
  std::mt19937 rng(4);
  std::vector<ArenaItem> items;
  const uint32_t layers = 50;
  for (uint32_t i = 0; i < layers; ++i) {
    const int64_t bytes = (1 + rng() % 32) * 4096;
    items.push_back({bytes, i, 2 * layers - 1 - i, -1});
    items.push_back({bytes, 2 * layers - 1 - i, 2 * layers - i, -1});
  }
  const auto plan = plan_arena(items);
  ASSERT_TRUE(plan.ok());
  check_plan(items, *plan);
  EXPECT_LE(static_cast<double>(plan->bytes), 1.1 * static_cast<double>(plan->live_bytes));
}

TEST(Arena, RefusesSizesThatOverflow) {
  const std::vector<ArenaItem> items{{int64_t{1} << 61, 0, 0, -1}, {int64_t{1} << 61, 0, 0, -1}};
  EXPECT_EQ(plan_arena(items).error().message, "the arena's size overflows");
}

TEST(Program, RoundTripsWithEqualBytes) {
  TempDir dir;
  const Program p = sample_program();
  ASSERT_TRUE(verify_program(p).ok()) << verify_program(p).error().message;
  const std::string a = *serialise_program(p), b = *serialise_program(sample_program());
  EXPECT_EQ(a, b);
  ASSERT_TRUE(save_program(p, dir / "p.gcx").ok());
  const auto q = load_program(dir / "p.gcx");
  ASSERT_TRUE(q.ok()) << q.error().message;
  EXPECT_EQ(*serialise_program(*q), a);
  EXPECT_EQ(q->directory, dir.path());
  EXPECT_EQ(q->meta.cpu_features, p.meta.cpu_features);
  EXPECT_EQ(q->meta.provenance, p.meta.provenance);
  EXPECT_EQ(q->functions[0].steps[0].label, "double (a.graph:3:5)");
  EXPECT_EQ(q->execs[1].blob.size(), 7u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(q->execs[1].blob.data()) % 64, 0u);
  EXPECT_EQ(q->variable("steps"), 1);
  EXPECT_EQ(q->variable("nope"), -1);
}

TEST(Program, EveryPrefixAndFlipIsNoticed) {
  const std::string good = *serialise_program(sample_program());
  std::vector<uint64_t> words(good.size() / 8 + 2);
  const auto noticed = [&](std::string_view text) {
    std::memcpy(words.data(), text.data(), text.size());
    return !parse_program({reinterpret_cast<const std::byte*>(words.data()), text.size()}, "t").ok();
  };
  EXPECT_FALSE(noticed(good));
  for (size_t n = 0; n < good.size(); ++n) ASSERT_TRUE(noticed(std::string_view(good).substr(0, n))) << n;
  EXPECT_TRUE(noticed(good + '\0'));
  std::mt19937_64 rng(5);
  for (int k = 0; k < 10000; ++k) {
    std::string text = good;
    for (uint64_t flips = 1 + rng() % 4; flips > 0; --flips)
      text[rng() % text.size()] ^= static_cast<char>(1 << rng() % 8);
    if (text != good) {
      ASSERT_TRUE(noticed(text));
    }
  }
}

// Flips behind the hash: what a wrong or hostile writer could make. Nothing may crash; what passes is
// consistent.
TEST(Program, FlipsWithARightHashAreHarmless) {
  const std::string good = *serialise_program(sample_program());
  std::mt19937_64 rng(6);
  int accepted = 0;
  for (int k = 0; k < 10000; ++k) {
    std::string body = good.substr(0, good.size() - 32);
    for (uint64_t flips = 1 + rng() % 3; flips > 0; --flips)
      body[rng() % body.size()] ^= static_cast<char>(1 << rng() % 8);
    const Sha256::Digest d = sha256(body.data(), body.size());
    body.append(reinterpret_cast<const char*>(d.data()), d.size());
    std::vector<uint64_t> words(body.size() / 8 + 1);
    std::memcpy(words.data(), body.data(), body.size());
    const auto p = parse_program({reinterpret_cast<const std::byte*>(words.data()), body.size()}, "t");
    if (p.ok()) {
      ++accepted;
      ASSERT_TRUE(verify_program(*p).ok());
    }
  }
  EXPECT_GT(accepted, 100);  // labels, names, constants
}

// One corruption for each rule.
TEST(Program, VerifierNamesWhatIsWrong) {
  const auto message = [](auto&& corrupt) {
    Program p = sample_program();
    corrupt(p);
    const Status s = verify_program(p);
    const std::string m = s.ok() ? "ok" : s.error().message;
    const size_t at = m.find("malformed: ");
    return at == std::string::npos ? m : m.substr(at + 11);
  };
  EXPECT_EQ(message([](Program&) {}), "ok");
  EXPECT_EQ(message([](Program& p) { p.symbols[0].min = 9999; }), "symbol 'N' has the range 9999..1000");
  EXPECT_EQ(message([](Program& p) { p.variables[1].name = "w"; }), "two variables are named 'w'");
  EXPECT_EQ(message([](Program& p) { p.variables[0].dtype = static_cast<DType>(77); }),
            "variable 'w': unknown dtype");
  EXPECT_EQ(message([](Program& p) { p.variables[0].kind = static_cast<VariableRole>(3); }),
            "variable 'w': unknown kind");
  EXPECT_EQ(message([](Program& p) { p.variables[2].shape = {2}; }),
            "variable 'one': 4 bytes of data where its shape needs 8");
  EXPECT_EQ(message([](Program& p) { p.variables[0].init->name = "he"; }).substr(0, 44),
            "variable 'w': unknown initialiser 'he'; ther");
  EXPECT_EQ(message([](Program& p) { p.execs[0].backend = ""; }), "an executable names no backend");
  EXPECT_EQ(message([](Program& p) { p.functions[1].name = "infer"; }), "two functions are named 'infer'");
  EXPECT_EQ(message([](Program& p) { p.functions[0].steps[1].exec = 8; }),
            "step 1: there is no executable 8");
  EXPECT_EQ(message([](Program& p) { p.functions[0].steps[1].inputs[0].buffer = 7; }),
            "step 1: there is no buffer 7");
  EXPECT_EQ(message([](Program& p) { p.functions[0].steps[1].inputs[0].shape.assign(9, 1); }),
            "step 1: the program is malformed: rank 9 is above 8");
  EXPECT_EQ(message([](Program& p) { p.functions[0].steps[1].inputs[0].strides = {1}; }),
            "step 1: a tensor's strides don't fit its rank");
  EXPECT_EQ(message([](Program& p) { p.functions[0].steps[1].inputs[0].offset = SizeExpr::symbol(1); }),
            "step 1: the program is malformed: a size expression names a symbol that isn't there");
  EXPECT_EQ(message([](Program& p) { p.functions[0].steps[2].outputs[0].buffer = 0; }),
            "step 2: input 'x' is written");
  EXPECT_EQ(message([](Program& p) { p.functions[1].steps[2].outputs[0].buffer = 4; }),
            "step 2: constant 'one' is written");
  EXPECT_EQ(message([](Program& p) { p.functions[0].steps[3].workspace = 1; }),
            "step 3: its workspace doesn't lie in the arena");
  EXPECT_EQ(message([](Program& p) { p.functions[0].buffers[3].last_step = 0; }),
            "step 1: buffer 3 is used outside its life, step 0 to 0");
  EXPECT_EQ(message([](Program& p) { p.functions[0].buffers[3].last_step = 4; }),
            "buffer 3 lives from step 0 to 4 of 4");
  EXPECT_EQ(message([](Program& p) { p.functions[0].buffers[3].offset = 4; }), "buffer 3 has the offset 4");
  EXPECT_EQ(message([](Program& p) { p.functions[0].buffers[5].index = 5; }),
            "buffer 5 is an alias of something else than a buffer of its own");
  EXPECT_EQ(message([](Program& p) { p.functions[0].buffers[2].index = 0; }), "output 0 has two buffers");
  EXPECT_EQ(message([](Program& p) { p.functions[0].buffers[0].index = 9; }),
            "a buffer names input 9, there are 1");
  EXPECT_EQ(message([](Program& p) { p.functions[0].steps[1].inputs[0].buffer = 4; }),
            "step 1: buffer 4 is read before it is written");
  EXPECT_EQ(message([](Program& p) { p.functions[0].copies.clear(); }), "output 'copy' is never written");
  EXPECT_EQ(message([](Program& p) { p.functions[0].copies[0].src = 3; }),
            "a copy at the end: buffer 3 is used outside its life, step 0 to 1");
}

}  // namespace
}  // namespace graphc
