// Random graphs on the cpu, -O0 and -O2, against the interpreter in f64 (RELIABILITY, row 2): the error of
// the fused program is at most 4 times that of the unfused one or some rounding of the values' scale,
// integers are equal, and a run on three threads gives the bits that one thread gives.
//
// A graph that the cpu refuses with an error is reported and counted; wrong results and crashes there are
// none.
//
// A failure names its seed; GRAPHC_SEED=n runs that one alone and prints the graph. GRAPHC_LONG_TESTS runs
// more.
#include <cmath>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "ir/print.h"
#include "passes/passes.h"
#include "runtime/base/thread_pool.h"
#include "runtime/executor.h"
#include "tests/passes/random_graph.h"
#include "tools/driver/backends.h"
#include "tools/driver/lower.h"

namespace graphc {
namespace {

constexpr double kEps = 1.1920929e-07;

struct Outcome {
  std::vector<HostTensor> results;
  VariableValues variables;
};

HostTensor initial(const RandomGraph& g, const std::string& name, DType t,
                   const std::vector<int64_t>& shape) {
  auto it = g.variables.find(name);
  return it == g.variables.end() ? HostTensor::zeros(t, shape) : it->second;
}

Result<Outcome> run_on_cpu(const RandomGraph& g, int opt_level, int threads) {
  const std::unique_ptr<Module> m = clone(*g.module);
  PassManager passes = build_pipeline({.opt_level = opt_level});
  passes.options.verify_each = true;
  GC_CHECK(passes.run(*m));
  GC_TRY(const std::unique_ptr<BackendRegistry> compilers, compiler_backends(Target{"cpu", ""}, nullptr));
  LoweringOptions options;  // no fallback: the cpu has to take everything
  options.names = {{m->funcs[0]->name, "f"}};
  GC_TRY(Lowered lowered, lower(*m, options, *compilers));
  ThreadPool pool(threads);
  GC_TRY(const std::unique_ptr<BackendRegistry> backends, execution_backends(&pool));
  GC_TRY(const std::shared_ptr<const Model> model, Model::create(std::move(lowered.program), *backends));
  GC_TRY(const std::shared_ptr<Variables> variables, Variables::create(model, {.seed = 0, .pool = &pool}));
  for (size_t i = 0; i < variables->specs().size(); ++i) {
    const ProgramVariable& v = variables->specs()[i];
    const HostTensor t = initial(g, v.name, v.dtype, v.shape);
    const std::vector<std::byte> bytes = t.to_bytes();
    GC_CHECK(variables->set(i, TensorRef(v.dtype, v.shape, bytes.data())));
  }
  GC_TRY(const std::unique_ptr<Context> context, Context::create(model, "f", variables));
  for (size_t i = 0; i < g.inputs.size(); ++i) {
    const std::vector<std::byte> bytes = g.inputs[i].to_bytes();
    GC_CHECK(context->set_input(i, TensorRef(g.inputs[i].dtype, g.inputs[i].shape, bytes.data())));
  }
  GC_CHECK(context->run());
  Outcome out;
  for (size_t i = 0; i < context->function().outputs.size(); ++i) {
    const TensorRef t = context->output(i);
    out.results.push_back(HostTensor::from_bytes(t.dtype, {t.shape.begin(), t.shape.end()}, t.data));
  }
  for (size_t i = 0; i < variables->specs().size(); ++i) {
    const ProgramVariable& v = variables->specs()[i];
    GC_TRY(const TensorRef value, variables->get(i));
    out.variables[v.name] = HostTensor::from_bytes(v.dtype, v.shape, value.data);
  }
  return out;
}

Result<Outcome> run_in_f64(const RandomGraph& g) {
  const std::unique_ptr<Module> m = clone(*g.module);
  GC_CHECK(gradient(*m));  // nothing to do where there is no `optimize`
  Outcome out{{}, g.variables};
  for (const auto& v : m->variables)
    out.variables.try_emplace(v->name,
                              HostTensor::zeros(v->value.type.dtype, *static_shape(v->value.type.shape)));
  GC_TRY(out.results, interpret(*m, *m->funcs[0], g.inputs, out.variables));
  return out;
}

// Errors of all float tensors, each relative to its scale (at least 1), as one vector.
struct Errors {
  double squares = 0, largest = 0;
  int64_t count = 0;
  std::string broken;  // types, shapes, integers, NaN
  double mean() const { return count ? std::sqrt(squares / static_cast<double>(count)) : 0; }

  void add(const HostTensor& got, const HostTensor& want, const std::string& what) {
    if (got.dtype != want.dtype || got.shape != want.shape) {
      broken = what + ": type or shape";
      return;
    }
    double scale = 1;
    for (double v : want.f) scale = std::max(scale, std::abs(v));
    for (int64_t i = 0; i < want.size(); ++i) {
      if (!is_float(want.dtype)) {
        if (got.i[i] != want.i[i]) broken = fmt::format("{}[{}]: {}, not {}", what, i, got.i[i], want.i[i]);
        continue;
      }
      const double e = std::abs(got.f[i] - want.f[i]) / scale;
      if (!std::isfinite(e)) broken = fmt::format("{}[{}]: {}, not {}", what, i, got.f[i], want.f[i]);
      squares += e * e;
      largest = std::max(largest, e);
      ++count;
    }
  }
};

Errors errors(const Outcome& got, const Outcome& want) {
  Errors e;
  if (got.results.size() != want.results.size()) {
    e.broken = "number of results";
    return e;
  }
  for (size_t i = 0; i < want.results.size(); ++i)
    e.add(got.results[i], want.results[i], fmt::format("result {}", i));
  for (const auto& [name, v] : got.variables) e.add(v, want.variables.at(name), "@" + name);
  return e;
}

bool same_bits(const Outcome& a, const Outcome& b) {
  for (size_t i = 0; i < a.results.size(); ++i)
    if (a.results[i].to_bytes() != b.results[i].to_bytes()) return false;
  for (const auto& [name, v] : a.variables)
    if (v.to_bytes() != b.variables.at(name).to_bytes()) return false;
  return true;
}

// "", or the error that a graph was refused with.
void compare(uint64_t seed, bool train, std::string& refused) {
  RandomGraphOptions options;
  options.nodes = 5 + static_cast<int>(seed % 12);
  options.train = train;
  options.smooth = true;
  const RandomGraph g = random_graph(seed, options);
  const std::string name = fmt::format("seed {}{}", seed, train ? " (training)" : "");
  if (std::getenv("GRAPHC_SEED")) std::puts(print(*g.module).c_str());
  auto want = run_in_f64(g);
  ASSERT_TRUE(want.ok()) << name << ": " << want.error().message;
  auto plain = run_on_cpu(g, 0, 3);
  auto fused = run_on_cpu(g, 2, 3);
  if (!fused.ok() || !plain.ok()) {
    refused =
        fused.ok() ? name + ", -O0: " + plain.error().message : name + ", -O2: " + fused.error().message;
    return;
  }
  const Errors e0 = errors(*plain, *want), e2 = errors(*fused, *want);
  ASSERT_EQ(e0.broken, "") << name << ", -O0";
  ASSERT_EQ(e2.broken, "") << name << ", -O2";
  // Both can't be wrong alike: no graph of this size amplifies rounding that much.
  ASSERT_LT(e0.largest, 1e-3) << name;
  ASSERT_LE(e2.mean(), std::max(4 * e0.mean(), 8 * kEps)) << name << ": -O0 has " << e0.mean();
  ASSERT_LE(e2.largest, std::max(8 * e0.largest, 32 * kEps)) << name << ": -O0 has " << e0.largest;
  if (seed % 4 != 0) return;
  auto single = run_on_cpu(g, 2, 1);
  ASSERT_TRUE(single.ok()) << name << ": " << single.error().message;
  ASSERT_TRUE(same_bits(*single, *fused)) << name << ": one thread and three differ";
}

void sweep(int count, bool train) {
  std::string refused;
  if (const char* s = std::getenv("GRAPHC_SEED")) {
    compare(std::strtoull(s, nullptr, 10), train, refused);
    EXPECT_EQ(refused, "");
    return;
  }
  if (std::getenv("GRAPHC_LONG_TESTS")) count *= 20;
  int refusals = 0;
  for (int seed = 0; seed < count && !testing::Test::HasFatalFailure(); ++seed) {
    refused.clear();
    compare(static_cast<uint64_t>(seed), train, refused);
    if (refused.empty()) continue;
    ++refusals;
    fmt::print("refused: {}\n", refused.substr(0, 300));
  }
  EXPECT_LE(refusals, count / 50) << "of " << count;
}

TEST(RandomOnCpu, Inference) { sweep(40, false); }
TEST(RandomOnCpu, TrainingStep) { sweep(20, true); }

}  // namespace
}  // namespace graphc
