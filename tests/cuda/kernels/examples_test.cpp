// Every fusion of the examples has kernels; those of the small examples compute what the interpreter does.
#include "backends/cuda/emit_cuda.h"
#include "backends/cuda/kernels/contraction_plan.h"

#include <set>

#include "frontend/frontend.h"
#include "ir/print.h"
#include "passes/passes.h"
#include "tests/cuda/kernels/kernel_case.h"

namespace graphc::cuda {
namespace {

std::unique_ptr<Module> compiled(const std::string& example, std::map<std::string, std::string> set,
                                 int opt_level) {
  auto file = GraphFile::load(std::string(GRAPHC_SOURCE_DIR) + "/examples/" + example + ".graph");
  ElaborateOptions options;
  options.training = true;
  options.set = std::move(set);
  auto e = file->elaborate(options);
  EXPECT_TRUE(e) << file->report();
  if (!e) return nullptr;
  Status s = build_pipeline({.opt_level = opt_level, .extra_kinds = {"attention"}}).run(*e->module);
  EXPECT_TRUE(s.ok()) << s.error().message;
  return std::move(e->module);
}

// Calls f once for equal fusions.
int each_distinct(const Module& m,
                  const std::function<void(const Node&, const Func&, const std::string&)>& f) {
  std::set<std::string> seen;
  for (const auto& func : m.funcs)
    for (const auto& n : func->body.nodes) {
      if (n->op->name != "fusion") continue;
      KernelCase c(*n, *func);
      std::string text = print(c.func());
      if (seen.insert(text).second) f(*n, *func, text);
    }
  return static_cast<int>(seen.size());
}

class CudaExamples : public ::testing::TestWithParam<const char*> {};

TEST_P(CudaExamples, EveryFusionHasKernels) {
  int regions = 0;
  for (int opt_level : {2, 0})
    for (const auto& set : {std::map<std::string, std::string>{}, {{"N", "8"}}}) {
      auto m = compiled(GetParam(), set, opt_level);
      ASSERT_TRUE(m);
      regions += each_distinct(*m, [](const Node& n, const Func& func, const std::string& text) {
        for (const char* card : {"h200", "a100"}) {
          auto target = CudaTarget::parse(card);
          ASSERT_TRUE(target.ok()) << target.error().message;
          KernelCase c(n, func);
          auto lowered = lower_region(c.func(), {*target, "k"});
          ASSERT_TRUE(lowered.ok()) << "@" << func.name << ": " << lowered.error().message << "\n" << text;
          for (const KernelStep& s : lowered->steps) {
            KernelCase::verified(s.kernel);
            auto emitted = emit_cuda(s.kernel, c.func().ranges(), "");
            ASSERT_TRUE(emitted.ok()) << emitted.error().message << "\n" << print_kernel(s.kernel);
          }
          if (HasFailure()) FAIL() << text;
        }
      });
    }
  EXPECT_GT(regions, 0);
}

INSTANTIATE_TEST_SUITE_P(All, CudaExamples,
                         ::testing::Values("mnist_cnn", "mlp", "cnn_224", "resnet50", "gpt2", "chargpt",
                                           "shapes"),
                         [](const auto& i) { return std::string(i.param); });

// Whether the interpreter is quick enough: multiply-adds, or elements in and out.
bool quick(const Func& region, const Sizes& sizes) {
  if (region.name == "contraction") {
    auto core = contraction_core(region);
    if (!core.ok()) return true;
    auto plan = plan_contraction(region, *core, {});
    return plan.ok() && (plan->batch * plan->m * plan->n * plan->k).evaluate(sizes).value_or(0) < 100'000;
  }
  int64_t elements = 0;
  const auto add = [&](const TensorType& t) {
    elements += product(t.shape).evaluate(sizes).value_or(1 << 20);
  };
  for (const auto& a : region.body.args) add(a->type);
  for (const Value* r : region.body.results) add(r->type);
  return elements < 20'000;
}

class CudaExampleRuns : public ::testing::TestWithParam<const char*> {};

TEST_P(CudaExampleRuns, ComputesWhatTheInterpreterDoes) {
  auto m = compiled(GetParam(), {}, 2);
  ASSERT_TRUE(m);
  each_distinct(*m, [](const Node& n, const Func& func, const std::string& text) {
    if (HasFailure()) return;
    SCOPED_TRACE(text);
    Sizes sizes;
    for (const SymbolDef& s : func.symbols) sizes[s.name] = std::max<int64_t>(s.min, s.name == "T" ? 5 : 2);
    KernelCase c(n, func);
    if (!quick(c.func(), sizes)) return;
    c.tolerance = 2e-5;
    c.lo = 0.05;  // variances and counts are positive
    c.check(sizes);
  });
}
INSTANTIATE_TEST_SUITE_P(Small, CudaExampleRuns, ::testing::Values("mnist_cnn", "mlp", "chargpt", "shapes"),
                         [](const auto& i) { return std::string(i.param); });

}  // namespace
}  // namespace graphc::cuda
