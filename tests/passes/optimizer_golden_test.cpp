// The updates that the gradient pass builds, against PyTorch's optimizers, clipping and schedules
// (optimizer_golden.json, made by make_optimizer_golden.py), step by step.
#include <cmath>
#include <fstream>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "ir/interpret.h"
#include "ir/parse.h"
#include "passes/passes.h"

namespace graphc {
namespace {

using nlohmann::json;

HostTensor tensor(const json& values, std::vector<int64_t> shape) {
  HostTensor t = HostTensor::zeros(DType::kF32, std::move(shape));
  t.f = values.get<std::vector<double>>();
  EXPECT_EQ(t.size(), static_cast<int64_t>(t.f.size()));
  return t;
}

std::string settings_text(const json& settings) {
  std::string out;
  for (const auto& [name, v] : settings.items()) {
    const std::string value = v.is_string()         ? v.dump()
                              : v.is_number_float() ? float_to_string(v.get<double>())
                                                    : v.dump();
    out += (out.empty() ? "" : ", ") + name + "=" + value;
  }
  return out;
}

void near(const HostTensor& got, const json& want, const std::string& what) {
  const auto expected = want.get<std::vector<double>>();
  ASSERT_EQ(got.f.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(got.f[i], expected[i], 1e-11 * (1 + std::abs(expected[i]))) << what << " element " << i;
}

class OptimizerGolden : public testing::TestWithParam<const char*> {};

TEST_P(OptimizerGolden, StepsLikePyTorch) {
  std::ifstream in(std::string(GRAPHC_SOURCE_DIR) + "/tests/passes/optimizer_golden.json");
  const json cases = json::parse(in)["cases"];
  ASSERT_GE(cases.size(), 18u);
  for (const json& c : cases) {
    const std::string name = c["name"].get<std::string>();
    const std::string text = fmt::format(R"(graphc 1 core
param @w: f32[4, 3] = zeros()
param @b: f32[3] = zeros()
func @Net.train(%x: f32[5, 4], %t: f32[5, 3]) -> (loss: f32) {{
  %0 = matmul(%x, @w) : f32[5, 3]
  %1 = add(%0, @b) : f32[5, 3]
  %2 = mse(%1, %t) : f32
  optimize(%2) {{{}}}
  return %2
}}
)",
                                         settings_text(c["settings"]));
    auto m = parse_core(text, name);
    ASSERT_TRUE(m.ok()) << m.error().message;
    PassManager pm;
    pm.options.verify_each = true;
    auto passes = parse_pass_list(GetParam());
    ASSERT_TRUE(passes.ok());
    for (Pass& p : *passes) pm.add(std::move(p));
    const Status s = pm.run(**m);
    ASSERT_TRUE(s.ok()) << s.error().message;
    auto vars = initial_variables(**m, 1);
    ASSERT_TRUE(vars.ok());
    (*vars)["w"] = tensor(c["w"], {4, 3});
    (*vars)["b"] = tensor(c["b"], {3});
    double before = 0;
    for (size_t step = 0; step < c["x"].size(); ++step) {
      auto out = interpret(**m, *(*m)->funcs[0], {tensor(c["x"][step], {5, 4}), tensor(c["t"][step], {5, 3})},
                           *vars);
      ASSERT_TRUE(out.ok()) << out.error().message;
      const std::string what = fmt::format("{}, step {}", name, step);
      near(vars->at("w"), c["w_after"][step], what + " @w");
      near(vars->at("b"), c["b_after"][step], what + " @b");
      ASSERT_EQ(vars->at("opt.step").i[0], static_cast<int64_t>(step) + 1) << what;
      before += std::abs(vars->at("w").f[0] - c["w"][0].get<double>());
    }
    ASSERT_GT(before, 1e-3) << name << ": the parameters moved";
  }
}

INSTANTIATE_TEST_SUITE_P(Passes, OptimizerGolden, testing::Values("gradient", "pipeline"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace graphc
