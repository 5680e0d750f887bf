// The optimised step computes what the plain one does: both are run by the reference interpreter, on random
// data.
#include <cmath>

#include <gtest/gtest.h>

#include "frontend/frontend.h"
#include "ir/interpret.h"
#include "ir/verify.h"
#include "passes/passes.h"
#include "passes/plan_memory.h"

namespace graphc {
namespace {

constexpr const char* kNet = R"(graphc 1
model Net[N](image: f32[N, 2, 8, 8]) -> (logits: f32[N, 5]) {
  x = image |> c1: Conv2d(4, 3, pad=1) |> bn: BatchNorm2d |> relu |> max_pool(2)
  x = x |> flatten(from=1) |> fc1: Linear(12) |> gelu |> Dropout(0.3)
  return x |> fc2: Linear(5)
}
train Net {
  input label: i32[N]
  loss = cross_entropy(logits, label)
  metric acc = accuracy(logits, label)
  optimizer = OPTIMIZER
}
)";

void compare(const HostTensor& a, const HostTensor& b, const std::string& what) {
  ASSERT_EQ(a.shape, b.shape) << what;
  for (int64_t i = 0; i < a.size(); ++i)
    ASSERT_LE(std::abs(a.at(i) - b.at(i)), 1e-8 * (1 + std::abs(a.at(i)))) << what << " element " << i;
}

void same_step(const std::string& optimizer) {
  std::string text = kNet;
  text.replace(text.find("OPTIMIZER"), 9, optimizer);
  std::map<std::string, HostTensor> results[2];
  VariableValues values[2];
  for (int level : {0, 1}) {
    auto file = GraphFile::from_text("net.graph", text);
    ElaborateOptions options;
    options.training = true;
    auto e = file->elaborate(options);
    ASSERT_TRUE(e) << file->report();
    PassManager pm = build_pipeline({.opt_level = level == 0 ? 0 : 2});
    pm.options.verify_each = true;
    const Status s = pm.run(*e->module);
    ASSERT_TRUE(s.ok()) << s.error().message;
    auto vars = initial_variables(*e->module, 3);
    ASSERT_TRUE(vars.ok()) << vars.error().message;
    values[level] = *vars;
    SampleRng rng(7);
    HostTensor x = HostTensor::zeros(DType::kF32, {3, 2, 8, 8});
    for (double& v : x.f) v = rng.uniform(-1, 1);
    HostTensor label = HostTensor::zeros(DType::kI32, {3});
    for (int64_t& v : label.i) v = rng.range(0, 4);
    const Func* f = e->module->find_func("Net.train");
    ASSERT_TRUE(f);
    auto plan = plan_memory(*f);
    ASSERT_TRUE(plan.ok()) << plan.error().message;
    for (int step = 0; step < 3; ++step) {
      auto out = interpret(*e->module, *f, {x, label}, values[level]);
      ASSERT_TRUE(out.ok()) << out.error().message;
      for (size_t i = 0; i < out->size(); ++i)
        results[level][f->result_names[i] + std::to_string(step)] = (*out)[i];
    }
  }
  ASSERT_EQ(results[0].size(), results[1].size());
  ASSERT_GT(results[0].at("loss.sum0").at(0), 0);
  ASSERT_NE(results[0].at("loss.sum0").at(0), results[0].at("loss.sum2").at(0));
  for (const auto& [name, v] : results[0]) compare(v, results[1].at(name), name);
  ASSERT_EQ(values[0].size(), values[1].size());
  for (const auto& [name, v] : values[0]) compare(v, values[1].at(name), name);
}

TEST(Pipeline, AdamStep) { same_step("adam(lr=0.01)"); }
TEST(Pipeline, SgdStep) { same_step("sgd(lr=0.1, momentum=0.9, nesterov=true, weight_decay=0.01)"); }

}  // namespace
}  // namespace graphc
