// The pass manager: what a broken pass meets. Passes that break the module on purpose stand among real ones.
#include "passes/pass_manager.h"

#include <thread>

#include <gtest/gtest.h>

#include "ir/builder.h"
#include "ir/op.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "passes/passes.h"
#include "runtime/base/file.h"
#include "tests/base/temp_dir.h"

namespace graphc {
namespace {

constexpr const char* kText = R"(graphc 1 core
param @w: f32[4] = uniform() {hi=0.5, lo=-0.5}
const @flags: bool[3] = data [true, false, true]
state @s: f32[4] = zeros()
func @Net[N](%x: f32[N, 4]) -> (y: f32[N, 4]) {
  %0 = mul(%x, @w) : f32[N, 4]
  %1 = mul(%x, @w) : f32[N, 4]
  %2 = add(%0, %1) : f32[N, 4] loc(!0)
  assign(@s, @w)
  return %2
}
!0 = "net.graph":7:3
)";

std::unique_ptr<Module> sample() {
  auto m = parse_core(kText, "net");
  EXPECT_TRUE(m.ok()) << m.error().message;
  return std::move(*m);
}

// What a pass can do wrong; `names` is a part of the verifier's message.
struct Break {
  const char* name;
  std::function<void(Module&)> run;
  const char* names;
};

const Break kBreaks[] = {
    {"wrong type", [](Module& m) { m.funcs[0]->body.nodes[0]->result()->type.shape = {7}; }, "mul"},
    {"wrong dtype", [](Module& m) { m.funcs[0]->body.nodes[0]->result()->type.dtype = DType::kF64; }, "mul"},
    {"dropped attribute",
     [](Module& m) {
       Builder b(m, m.funcs[0]->body);
       b.sum(m.funcs[0]->body.nodes[0]->result(), {0});
       m.funcs[0]->body.nodes.back()->attrs.erase("axes");
     },
     "axes"},
    {"unknown attribute", [](Module& m) { m.funcs[0]->body.nodes[0]->attrs["colour"] = Attr(int64_t{3}); },
     "colour"},
    {"use before definition",
     [](Module& m) { std::swap(m.funcs[0]->body.nodes[0], m.funcs[0]->body.nodes[1]); }, "net.graph:7:3"},
    {"lost operand", [](Module& m) { m.funcs[0]->body.nodes[0]->operands.pop_back(); }, "mul"},
    {"foreign value",
     [](Module& m) {
       static const std::unique_ptr<Module> other = sample();
       m.funcs[0]->body.nodes[0]->operands[0] = other->funcs[0]->body.args[0].get();
     },
     "mul"},
    {"result names", [](Module& m) { m.funcs[0]->result_names.push_back("z"); }, "result"},
    {"assign to a constant",
     [](Module& m) {
       for (auto& n : m.funcs[0]->body.nodes)
         if (n->op == &ops::assign) n->operands[0] = n->operands[1] = &m.find_variable("flags")->value;
     },
     "flags"},
};

TEST(PassManager, EachBreakIsCaughtAtThePassThatMadeIt) {
  for (const Break& k : kBreaks) {
    std::unique_ptr<Module> m = sample();
    bool after = false;
    PassManager pm;
    pm.options.verify_each = true;
    pm.add("cse", cse);
    pm.add("broken", [&](Module& x) {
      k.run(x);
      return ok_status();
    });
    pm.add("after", [&](Module&) {
      after = true;
      return ok_status();
    });
    const Status s = pm.run(*m);
    ASSERT_FALSE(s.ok()) << k.name;
    EXPECT_EQ(s.error().code, ErrorCode::kInternal) << k.name;
    EXPECT_NE(s.error().message.find("pass broken made an invalid module"), std::string::npos)
        << k.name << ": " << s.error().message;
    EXPECT_NE(s.error().message.find(k.names), std::string::npos) << k.name << ": " << s.error().message;
    EXPECT_NE(s.error().message.find("@Net"), std::string::npos) << k.name << ": " << s.error().message;
    EXPECT_FALSE(after) << k.name << ": the passes behind a broken one don't run";
    EXPECT_EQ(pm.timings().size(), 2u);
  }
}

TEST(PassManager, InvalidBeforeTheFirstPass) {
  std::unique_ptr<Module> m = sample();
  m->funcs[0]->body.nodes[0]->operands.pop_back();
  PassManager pm;
  pm.options.verify_each = true;
  pm.add("cse", cse);
  const Status s = pm.run(*m);
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("before the first pass"), std::string::npos) << s.error().message;
}

TEST(PassManager, WithoutVerifyingABreakGoesUnnoticed) {
  std::unique_ptr<Module> m = sample();
  PassManager pm;
  pm.add("broken", [](Module& x) {
    x.funcs[0]->result_names.push_back("z");
    return ok_status();
  });
  EXPECT_TRUE(pm.run(*m).ok());
}

// cse that leaves a wrong type behind, once it has merged two nodes.
Status broken_cse(Module& m) {
  const size_t before = count_uses(m.funcs[0]->body).size();
  GC_CHECK(cse(m));
  if (count_uses(m.funcs[0]->body).size() != before)
    m.funcs[0]->body.nodes[0]->result()->type.dtype = DType::kI32;
  return ok_status();
}

TEST(PassManager, ReproducerReplays) {
  TempDir dir;
  std::unique_ptr<Module> m = sample();
  // Large data doesn't travel: a reproducer is one file that parses.
  Variable* big = m->add_variable("big", VariableKind::kConst, {DType::kBool, {40}}, "");
  big->data = std::make_shared<const std::vector<std::byte>>(40, std::byte{1});
  PassManager pm;
  pm.options.verify_each = true;
  pm.options.reproducer_dir = dir.path();
  pm.add("canonicalize", canonicalize);
  std::string before;
  pm.add("look", [&](Module& x) {
    before = print(*x.funcs[0]);
    return ok_status();
  });
  pm.add("cse", broken_cse);
  pm.add("dce", dce);
  const Status s = pm.run(*m);
  ASSERT_FALSE(s.ok());
  const std::string path = dir.path() + "/graphc-reproducer-cse.graph";
  EXPECT_NE(s.error().message.find("reproducer: " + path), std::string::npos) << s.error().message;

  auto text = read_file(path);
  ASSERT_TRUE(text.ok()) << text.error().message;
  EXPECT_NE(text->find("# error: pass cse made an invalid module"), std::string::npos) << *text;
  EXPECT_NE(text->find("graphc-opt --verify-each " + path), std::string::npos) << *text;
  ASSERT_TRUE(is_core_text(*text));
  auto again = parse_core(*text, path);
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(print(*(*again)->funcs[0]), before);

  // graphc-opt reads the passes from the text: the real cse is fine with it, the broken one fails as before.
  auto passes = parse_pass_list(passes_of_reproducer(*text));
  ASSERT_TRUE(passes.ok()) << passes.error().message;
  ASSERT_EQ(passes->size(), 1u);
  EXPECT_EQ((*passes)[0].name, "cse");
  std::unique_ptr<Module> copy = clone(**again);
  EXPECT_TRUE((*passes)[0].run(*copy).ok());
  PassManager replay;
  replay.options.verify_each = true;
  replay.add("cse", broken_cse);
  const Status same = replay.run(**again);
  ASSERT_FALSE(same.ok());
  EXPECT_EQ(s.error().message.find(same.error().message), 0u) << same.error().message;
}

TEST(PassManager, ReproducerOfAPassThatReportsFailure) {
  TempDir dir;
  std::unique_ptr<Module> m = sample();
  PassManager pm;
  pm.options.reproducer_dir = dir.path();
  pm.add("fuse", [](Module&) -> Status { return internal_error("no region for it"); });
  const Status s = pm.run(*m);
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("pass fuse: no region for it"), std::string::npos) << s.error().message;
  auto text = read_file(dir.path() + "/graphc-reproducer-fuse.graph");
  ASSERT_TRUE(text.ok()) << text.error().message;
  EXPECT_EQ(passes_of_reproducer(*text), " fuse");
}

TEST(PassManager, TheUsersMistakeLeavesNoReproducer) {
  TempDir dir;
  std::unique_ptr<Module> m = sample();
  PassManager pm;
  pm.options.reproducer_dir = dir.path();
  pm.add("gradient", [](Module&) -> Status { return invalid("optimizer 'adagrad' isn't known"); });
  const Status s = pm.run(*m);
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, ErrorCode::kInvalid);
  EXPECT_FALSE(read_file(dir.path() + "/graphc-reproducer-gradient.graph").ok());
}

TEST(PassManager, AReproducerThatCannotBeWrittenIsSaid) {
  std::unique_ptr<Module> m = sample();
  PassManager pm;
  pm.options.reproducer_dir = "/nowhere/at/all";
  pm.add("fuse", [](Module&) -> Status { return internal_error("no region for it"); });
  const Status s = pm.run(*m);
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("no region for it"), std::string::npos) << s.error().message;
  EXPECT_NE(s.error().message.find("no reproducer"), std::string::npos) << s.error().message;
}

TEST(PassManager, PrintsAfterEachPass) {
  std::unique_ptr<Module> m = sample();
  std::string seen;
  PassManager pm;
  pm.options.print_after_all = true;
  pm.options.print = [&](std::string_view t) { seen += t; };
  pm.add("cse", cse);
  pm.add("dce", dce);
  ASSERT_TRUE(pm.run(*m).ok());
  const size_t first = seen.find("# after cse\n"), second = seen.find("# after dce\n");
  ASSERT_NE(first, std::string::npos);
  ASSERT_NE(second, std::string::npos);
  EXPECT_LT(first, second);
  EXPECT_NE(seen.find("add(%0, %0)"), std::string::npos) << seen;
  EXPECT_NE(seen.find("loc(!0)"), std::string::npos) << seen;
  // each dump can be cut out and parsed
  const std::string dump = seen.substr(first, second - first);
  auto again = parse_core(dump, "dump");
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(print(**again), print(*m));

  seen.clear();
  pm.options.print_locations = false;
  ASSERT_TRUE(pm.run(*m).ok());
  EXPECT_EQ(seen.find("loc("), std::string::npos) << seen;
}

TEST(PassManager, Times) {
  std::unique_ptr<Module> m = sample();
  PassManager pm;
  pm.add("cse", cse);
  pm.add("slow", [](Module&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return ok_status();
  });
  for (int run = 0; run < 2; ++run) {  // a second run starts its list anew
    ASSERT_TRUE(pm.run(*m).ok());
    ASSERT_EQ(pm.timings().size(), 2u);
    EXPECT_EQ(pm.timings()[0].name, "cse");
    EXPECT_EQ(pm.timings()[1].name, "slow");
    EXPECT_GE(pm.timings()[1].ms, 20);
    EXPECT_LT(pm.timings()[0].ms, pm.timings()[1].ms);
  }
}

TEST(PassList, NamesAndErrors) {
  auto list = parse_pass_list(" cse , dce,\r");
  ASSERT_TRUE(list.ok());
  ASSERT_EQ(list->size(), 2u);
  EXPECT_EQ((*list)[1].name, "dce");
  EXPECT_EQ(parse_pass_list("pipeline")->size(), build_pipeline({}).passes().size());
  EXPECT_EQ(parse_pass_list("pipeline-O0")->size(), build_pipeline({.opt_level = 0}).passes().size());
  auto bad = parse_pass_list("cse,inline");
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code, ErrorCode::kUsage);
  EXPECT_NE(bad.error().message.find("inline"), std::string::npos);
  EXPECT_NE(bad.error().message.find("canonicalize"), std::string::npos);
}

}  // namespace
}  // namespace graphc
