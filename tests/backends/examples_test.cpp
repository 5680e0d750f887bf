// Every fusion that the default pipeline makes of the examples has a template, and what it compiles to
// computes what the interpreter does.
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "frontend/frontend.h"
#include "ir/loops/verify.h"
#include "ir/print.h"
#include "passes/passes.h"
#include "tests/backends/region_case.h"

namespace graphc {
namespace {

std::unique_ptr<Module> compiled(const std::string& example, std::map<std::string, std::string> set,
                                 int opt_level = 2) {
  auto file = GraphFile::load(std::string(GRAPHC_SOURCE_DIR) + "/examples/" + example + ".graph");
  ElaborateOptions options;
  options.training = true;
  options.set = std::move(set);
  auto e = file->elaborate(options);
  EXPECT_TRUE(e) << file->report();
  if (!e) return nullptr;
  Status s = build_pipeline({.opt_level = opt_level}).run(*e->module);
  EXPECT_TRUE(s.ok()) << s.error().message;
  return std::move(e->module);
}

// Calls f once for equal fusions.
void each_distinct_fusion(const Module& m,
                          const std::function<void(const Node&, const Func&, const std::string&)>& f) {
  std::set<std::string> seen;
  for (const auto& func : m.funcs)
    for (const auto& n : func->body.nodes)
      if (n->op->name == "fusion") {
        RegionCase c(*n, *func);
        std::string text = print(c.func());
        if (seen.insert(text).second) f(*n, *func, text);
      }
}

void every_fusion_lowers(const Module& m) {
  each_distinct_fusion(m, [](const Node& n, const Func& func, const std::string& text) {
    RegionCase c(n, func);
    for (const CpuFeatures& features : {host_features().baseline(), host_features()}) {
      auto lowered = lower_region(c.func(), {features, "k"});
      if (!lowered.ok()) {
        ADD_FAILURE() << "@" << func.name << ": " << lowered.error().message << "\n" << text;
        return;
      }
      for (const KernelStep& s : lowered->steps)
        if (Status st = verify_kernel(s.kernel); !st.ok()) {
          ADD_FAILURE() << "@" << func.name << ": " << st.error().message << "\n" << text;
          return;
        }
    }
  });
}

class CpuExamples : public ::testing::TestWithParam<const char*> {};

TEST_P(CpuExamples, EveryFusionHasATemplate) {
  for (const auto& set : {std::map<std::string, std::string>{}, {{"N", "8"}}}) {
    auto m = compiled(GetParam(), set);
    ASSERT_TRUE(m);
    every_fusion_lowers(*m);
  }
}

TEST_P(CpuExamples, EveryPlainPrimitiveHasATemplate) {
  auto m = compiled(GetParam(), {}, 0);
  ASSERT_TRUE(m);
  every_fusion_lowers(*m);
}

INSTANTIATE_TEST_SUITE_P(All, CpuExamples,
                         ::testing::Values("mnist_cnn", "mlp", "cnn_224", "resnet50", "gpt2", "chargpt",
                                           "shapes"),
                         [](const auto& i) { return std::string(i.param); });

class CpuExampleRuns : public ::testing::TestWithParam<const char*> {};

TEST_P(CpuExampleRuns, EveryFusionComputesWhatTheInterpreterDoes) {
  auto m = compiled(GetParam(), {});
  ASSERT_TRUE(m);
  each_distinct_fusion(*m, [](const Node& n, const Func& func, const std::string& text) {
    if (HasFailure()) return;
    SCOPED_TRACE(text);
    Sizes sizes;
    for (const SymbolDef& s : func.symbols) sizes[s.name] = std::max<int64_t>(s.min, s.name == "T" ? 5 : 3);
    RegionCase c(n, func);
    c.tolerance = 2e-5;
    c.lo = 0.05;  // variances and counts are positive
    c.thread_counts = {1, 2};
    c.check(sizes);
  });
}
INSTANTIATE_TEST_SUITE_P(Small, CpuExampleRuns, ::testing::Values("mnist_cnn", "mlp", "chargpt", "shapes"),
                         [](const auto& i) { return std::string(i.param); });

}  // namespace
}  // namespace graphc
