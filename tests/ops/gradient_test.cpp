// Every differentiable op against central finite differences in f64 on its record's samples: a new op is
// tested without a change here.
#include <cmath>

#include <gtest/gtest.h>

#include "ir/grad.h"
#include "tests/ops/differentiate.h"

namespace graphc {
namespace {

// Results whose gradient is dropped on purpose: the statistics that batch_norm remembers.
size_t differentiable_results(const OpDef& op, size_t results) {
  return &op == &ops::batch_norm ? 1 : results;
}

double weighted_sum(const std::vector<HostTensor>& results, const std::vector<HostTensor>& weights) {
  double s = 0;
  for (size_t i = 0; i < weights.size(); ++i)
    for (size_t k = 0; k < weights[i].f.size(); ++k) s += results[i].f[k] * weights[i].f[k];
  return s;
}

class Gradient : public testing::TestWithParam<const OpDef*> {};

TEST_P(Gradient, AgreesWithFiniteDifferences) {
  const OpDef& op = *GetParam();
  if (!op.samples) return;
  SampleRng rng(7);
  auto samples = op.samples(rng);
  int compared = 0;
  for (size_t n = 0; n < samples.size(); ++n) {
    SCOPED_TRACE(n);
    const Sample& sample = samples[n];
    std::vector<HostTensor> operands = sample_operands(sample, rng);
    auto results = interpret_op(op, operands, sample.attrs);
    ASSERT_TRUE(results.ok()) << results.error().message;
    std::vector<HostTensor> weights;
    for (size_t i = 0; i < differentiable_results(op, results->size()); ++i)
      weights.push_back(random_tensor(
          {(*results)[i].dtype, Shape((*results)[i].shape.begin(), (*results)[i].shape.end())}, rng));
    auto gradient = op_gradient(op, operands, sample.attrs, weights);
    ASSERT_TRUE(gradient.ok()) << gradient.error().message;
    if (!gradient->has_rule) {
      EXPECT_EQ(&op, &ops::reduce_window_grad) << "no rule and no expansion";
      continue;
    }
    for (size_t i = 0; i < operands.size(); ++i) {
      if (op.no_gradient) EXPECT_FALSE(gradient->given[i]);
      if (op.no_gradient) continue;
      for (size_t k = 0; k < operands[i].f.size() && k < 40; ++k) {
        constexpr double kEps = 1e-6;
        double at = operands[i].f[k];
        operands[i].f[k] = at + kEps;
        auto above = interpret_op(op, operands, sample.attrs);
        operands[i].f[k] = at - kEps;
        auto below = interpret_op(op, operands, sample.attrs);
        operands[i].f[k] = at;
        ASSERT_TRUE(above.ok() && below.ok());
        double numeric = (weighted_sum(*above, weights) - weighted_sum(*below, weights)) / (2 * kEps);
        double analytic = gradient->grads[i].f[k];
        ASSERT_NEAR(analytic, numeric, 1e-5 + 1e-3 * std::fabs(numeric))
            << "operand " << i << ", element " << k;
        ++compared;
      }
    }
  }
  bool floats = false;
  for (const Sample& s : samples)
    for (const TensorType& t : s.operands) floats = floats || is_float(t.dtype);
  if (floats && !op.no_gradient) EXPECT_GT(compared, 20);
}

INSTANTIATE_TEST_SUITE_P(Ops, Gradient, testing::ValuesIn(all_ops().begin(), all_ops().end()),
                         [](const auto& info) { return std::string(info.param->name); });

// The values where a rule has to choose, or where a tree's own derivative would be inf * 0.
double gradient_at(const OpDef& op, double x, Attrs attrs = {}) {
  HostTensor t = HostTensor::scalar(x, DType::kF64);
  return op_gradient(op, {t}, attrs, {HostTensor::scalar(1, DType::kF64)})->grads[0].f[0];
}

TEST(GradientAt, KinksAndLargeArguments) {
  EXPECT_EQ(gradient_at(ops::relu, 0), 0);
  EXPECT_TRUE(std::isnan(interpret_op(ops::relu, {HostTensor::scalar(NAN)}, {})->at(0).f[0]));
  EXPECT_EQ(gradient_at(ops::abs, 0), 0);
  EXPECT_EQ(gradient_at(ops::sigmoid, -800), 0);
  EXPECT_EQ(gradient_at(ops::sigmoid, 800), 0);
  EXPECT_EQ(gradient_at(ops::silu, -800), 0);
  EXPECT_EQ(gradient_at(ops::silu, 800), 1);
  EXPECT_EQ(gradient_at(ops::elu, 800), 1);
  EXPECT_EQ(gradient_at(ops::clamp, 1, {{"min", -1.0}, {"max", 1.0}}), 1);
  EXPECT_EQ(gradient_at(ops::clamp, 1.5, {{"min", -1.0}, {"max", 1.0}}), 0);
}

HostTensor vector(std::vector<double> v) {
  HostTensor t = HostTensor::zeros(DType::kF64, {static_cast<int64_t>(v.size())});
  t.f = std::move(v);
  return t;
}

TEST(GradientAt, FirstOfEqualsGetsIt) {
  HostTensor one = HostTensor::scalar(1, DType::kF64), x = vector({1, 3, 3, 2});
  EXPECT_EQ(op_gradient(ops::max, {x}, {}, {one})->grads[0].f, (std::vector<double>{0, 1, 0, 0}));
  x = vector({2, 1, 1, 3});
  EXPECT_EQ(op_gradient(ops::min, {x}, {}, {one})->grads[0].f, (std::vector<double>{0, 1, 0, 0}));
  HostTensor a = vector({1}), g = vector({5});
  auto m = op_gradient(ops::maximum, {a, a}, {}, {g});
  EXPECT_EQ(m->grads[0].f[0], 5);
  EXPECT_EQ(m->grads[1].f[0], 0);
  HostTensor image = HostTensor::zeros(DType::kF64, {1, 1, 4});
  image.f = {2, 2, 1, 1};
  HostTensor dy = HostTensor::zeros(DType::kF64, {1, 1, 2});
  dy.f = {3, 4};
  EXPECT_EQ(op_gradient(ops::max_pool, {image}, {{"window", 2}}, {dy})->grads[0].f,
            (std::vector<double>{3, 0, 4, 0}));
}

TEST(GradientAt, ProductsWithZeros) {
  HostTensor one = HostTensor::scalar(1, DType::kF64);
  EXPECT_EQ(op_gradient(ops::prod, {vector({2, 0, 5})}, {}, {one})->grads[0].f,
            (std::vector<double>{0, 10, 0}));
  EXPECT_EQ(op_gradient(ops::prod, {vector({0, 0, 5})}, {}, {one})->grads[0].f,
            (std::vector<double>{0, 0, 0}));
}

TEST(GradientAt, BranchNotTakenStaysOut) {
  // where(x > 0, log(x), 0) at x = 0: the gradient is 0, not 0 * inf.
  HostTensor c = HostTensor::zeros(DType::kBool, {1}), a = vector({1}), b = vector({2});
  auto g = op_gradient(ops::where, {c, a, b}, {}, {vector({INFINITY})});
  EXPECT_EQ(g->grads[1].f[0], 0);
  EXPECT_EQ(g->grads[2].f[0], INFINITY);
}

}  // namespace
}  // namespace graphc
