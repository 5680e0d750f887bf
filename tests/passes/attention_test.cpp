// A training step with attention kept whole computes what the expanded one does, and leaves no score matrix.
#include <cmath>

#include <gtest/gtest.h>

#include "frontend/frontend.h"
#include "ir/interpret.h"
#include "ir/print.h"
#include "passes/cost.h"
#include "passes/passes.h"
#include "tests/passes/region_rules.h"

namespace graphc {
namespace {

struct Step {
  std::unique_ptr<Module> module;
  std::vector<HostTensor> results;
  VariableValues values;
};

// A step of Net.train on random data.
Step step(const std::string& text, bool whole) {
  Step s;
  auto file = GraphFile::from_text("net.graph", text);
  ElaborateOptions options;
  options.training = true;
  auto e = file->elaborate(options);
  EXPECT_TRUE(e) << file->report();
  if (!e) return s;
  PipelineOptions pipeline;
  if (whole) pipeline.extra_kinds = {"attention"};
  PassManager pm = build_pipeline(pipeline);
  pm.options.verify_each = true;
  const Status ran = pm.run(*e->module);
  EXPECT_TRUE(ran.ok()) << ran.error().message;
  s.module = std::move(e->module);
  auto vars = initial_variables(*s.module, 3);
  EXPECT_TRUE(vars.ok());
  s.values = *vars;
  SampleRng rng(7);
  const Func* f = s.module->find_func("Net.train");
  EXPECT_EQ(broken_region_rule(*f), "");
  HostTensor x = HostTensor::zeros(DType::kF32, {3, 5, 12}), y = x;
  for (double& v : x.f) v = rng.uniform(-1, 1);
  for (double& v : y.f) v = rng.uniform(-1, 1);
  auto out = interpret(*s.module, *f, {x, y}, s.values);
  EXPECT_TRUE(out.ok()) << out.error().message;
  if (out.ok()) s.results = *out;
  return s;
}

int attentions(const Module& m) {
  int n = 0;
  for (const auto& node : m.find_func("Net.train")->body.nodes)
    n += node->op == &ops::fusion && node->attr("kind").as_string() == "attention";
  return n;
}

void same(const Step& a, const Step& b) {
  ASSERT_EQ(a.results.size(), b.results.size());
  EXPECT_GT(a.results[0].at(0), 0);
  for (size_t i = 0; i < a.results.size(); ++i)
    EXPECT_NEAR(a.results[i].at(0), b.results[i].at(0), 1e-10 * (1 + std::abs(a.results[i].at(0))));
  ASSERT_EQ(a.values.size(), b.values.size());
  for (const auto& [name, v] : a.values)
    for (int64_t i = 0; i < v.size(); ++i)
      ASSERT_NEAR(v.at(i), b.values.at(name).at(i), 1e-9 * (1 + std::abs(v.at(i)))) << name << " " << i;
}

std::string net(const std::string& body) {
  return "graphc 1\nmodel Net[N](x: f32[N, 5, 12]) -> (y: f32[N, 5, 12]) {\n" + body + R"(
}
train Net {
  input t: f32[N, 5, 12]
  loss = mse(y, t)
  optimizer = sgd(lr=0.1)
}
)";
}

TEST(Attention, StepOfMultiHeadAttention) {
  const std::string text = net(R"-(
  qkv = x |> c_attn: Linear(36) |> rearrange("n t (s h e) -> s n h t e", s=3, h=4)
  y = sdpa(qkv[0], qkv[1], qkv[2], causal=true)
  return rearrange(y, "n h t e -> n t (h e)") |> c_proj: Linear(12))-");
  const Step plain = step(text, false), whole = step(text, true);
  same(plain, whole);
  EXPECT_EQ(attentions(*plain.module), 0);
  EXPECT_EQ(attentions(*whole.module), 2);
  // q, k, v, the output and its gradient keep the layout of the projections around.
  int maps = 0;
  for (const auto& n : whole.module->find_func("Net.train")->body.nodes)
    maps += n->op == &ops::fusion && n->attr("kind").as_string() == "map" && n->result()->type.rank() > 2;
  EXPECT_LE(maps, 1) << print(*whole.module);  // the three gradients become one tensor
}

TEST(Attention, LearnedMaskAndScale) {
  const std::string text = net(R"-(
  param bias: f32[5, 5] = normal(0, 0.5)
  h = x |> a: Linear(12)
  y = sdpa(h, x, h |> b: Linear(12), bias, scale=0.7)
  return y)-");
  const Step plain = step(text, false), whole = step(text, true);
  same(plain, whole);
  EXPECT_EQ(attentions(*whole.module), 2);
}

}  // namespace
}  // namespace graphc
