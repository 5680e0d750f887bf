// Whole programs for a card, on the stand-in: the text that NVRTC would get runs, with every access checked,
// under the driver's own calls. Outputs against the reference in f64; training against the host's.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "runtime/base/thread_pool.h"
#include "runtime/data/dataset.h"
#include "runtime/executor.h"
#include "runtime/train.h"
#include "tests/cuda/standin/cuda_api.h"
#include "tools/driver/backends.h"
#include "tools/driver/compile.h"

namespace graphc {
namespace {

struct Example {
  const char* name;
  std::map<std::string, std::string> set;
  double tolerance = 2e-5;
};
void PrintTo(const Example& e, std::ostream* out) { *out << e.name; }

Result<Program> compiled(const std::string& name, const std::string& target, const FunctionSet& functions,
                         const std::map<std::string, std::string>& set) {
  CompileOptions o;
  o.target = target;
  o.functions = functions;
  o.set = set;
  GC_TRY(CompiledModel m, compile_file(std::string(GRAPHC_SOURCE_DIR) + "/examples/" + name + ".graph", o));
  EXPECT_EQ(m.warnings, "");
  return std::move(m.lowered.program);
}

struct Loaded {
  std::shared_ptr<const Model> model;
  std::shared_ptr<Variables> variables;
};

Result<Loaded> load(Program p, uint64_t seed) {
  GC_TRY(const std::unique_ptr<BackendRegistry> backends, execution_backends(nullptr));
  Loaded l;
  GC_TRY(l.model, Model::create(std::move(p), *backends));
  GC_TRY(l.variables, Variables::create(l.model, {.seed = seed}));
  return l;
}

// Random inputs, the same for every program of the example.
Status fill(Context& c, std::mt19937_64& rng) {
  const Function& f = c.function();
  for (size_t i = 0; i < f.inputs.size(); ++i) {
    std::vector<int64_t> shape;
    for (const SizeExpr& e : f.inputs[i].shape) {
      if (e.as_const() < 0) return invalid("a size isn't fixed");
      shape.push_back(e.as_const());
    }
    GC_TRY(void* const data, c.prepare_input(i, f.inputs[i].dtype, shape));
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    for (int64_t k = 0; k < n; ++k) {
      if (is_float(f.inputs[i].dtype))
        store_from_double(f.inputs[i].dtype, data, static_cast<size_t>(k),
                          std::normal_distribution<double>()(rng));
      else
        store_from_int(f.inputs[i].dtype, data, static_cast<size_t>(k), static_cast<int64_t>(rng() % 6));
    }
  }
  return {};
}

// |a - b| / |b| in the 2-norm.
double distance(const TensorRef& a, const TensorRef& b) {
  double d = 0, n = 0;
  const size_t count = b.bytes() / dtype_size(b.dtype);
  for (size_t i = 0; i < count; ++i) {
    const double x = load_as_double(a.dtype, a.data, i), y = load_as_double(b.dtype, b.data, i);
    if (std::isnan(x) && std::isnan(y)) continue;
    d += (x - y) * (x - y);
    n += y * y;
  }
  return std::isnan(d) ? 1e300 : std::sqrt(d / (n > 0 ? n : 1));
}

class CudaProgram : public ::testing::TestWithParam<Example> {};

TEST_P(CudaProgram, InfersAsTheReferenceDoes) {
  const Example& e = GetParam();
  std::unique_ptr<Context> contexts[2];
  Loaded loaded[2];
  for (int side = 0; side < 2; ++side) {
    auto p = compiled(e.name, side ? "reference" : "cuda:sm_90", {.infer = true}, e.set);
    ASSERT_TRUE(p.ok()) << p.error().message;
    auto l = load(*std::move(p), 3);
    ASSERT_TRUE(l.ok()) << l.error().message;
    loaded[side] = *l;
    auto c = Context::create(l->model, "infer", l->variables);
    ASSERT_TRUE(c.ok()) << c.error().message;
    contexts[side] = *std::move(c);
    // the first run goes plainly, the second is captured, the third replays it
    for (int run = 0; run < (side ? 1 : 3); ++run) {
      std::mt19937_64 rng(5);
      ASSERT_TRUE(fill(*contexts[side], rng).ok());
      Status s = contexts[side]->run();
      ASSERT_TRUE(s.ok()) << s.error().message;
    }
  }
  for (size_t o = 0; o < contexts[0]->function().outputs.size(); ++o)
    EXPECT_LE(distance(contexts[0]->output(o), contexts[1]->output(o)), e.tolerance)
        << contexts[0]->function().outputs[o].name;
}

// One training step; then every parameter and every piece of state.
TEST_P(CudaProgram, TrainsAsTheReferenceDoes) {
  const Example& e = GetParam();
  std::unique_ptr<Context> contexts[2];
  Loaded loaded[2];
  for (int side = 0; side < 2; ++side) {
    auto p = compiled(e.name, side ? "reference" : "cuda:sm_90", {.train = true}, e.set);
    ASSERT_TRUE(p.ok()) << p.error().message;
    auto l = load(*std::move(p), 3);
    ASSERT_TRUE(l.ok()) << l.error().message;
    loaded[side] = *l;
    auto c = Context::create(l->model, "train", l->variables);
    ASSERT_TRUE(c.ok()) << c.error().message;
    contexts[side] = *std::move(c);
    std::mt19937_64 rng(6);
    ASSERT_TRUE(fill(*contexts[side], rng).ok());
    Status s = contexts[side]->run();
    ASSERT_TRUE(s.ok()) << s.error().message;
  }
  EXPECT_LE(distance(contexts[0]->output(0), contexts[1]->output(0)), e.tolerance) << "the loss";
  const std::vector<ProgramVariable>& specs = loaded[1].variables->specs();
  double d = 0, n = 0;  // of all gradients' first moments (or whatever the optimizer keeps) and parameters
  for (size_t i = 0; i < specs.size(); ++i) {
    auto got = loaded[0].variables->get(i), want = loaded[1].variables->get(i);
    ASSERT_TRUE(got.ok() && want.ok());
    if (!is_float(specs[i].dtype) || specs[i].kind == VariableRole::kConst) continue;
    const size_t count = want->bytes() / dtype_size(want->dtype);
    for (size_t k = 0; k < count; ++k) {
      const double x = load_as_double(got->dtype, got->data, k),
                   y = load_as_double(want->dtype, want->data, k);
      d += (x - y) * (x - y);
      n += y * y;
    }
  }
  EXPECT_LE(std::sqrt(d / n), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Examples, CudaProgram,
                         ::testing::Values(Example{"mlp", {{"N", "3"}}}, Example{"mnist_cnn", {{"N", "2"}}},
                                           Example{"shapes", {{"N", "2"}}},
                                           Example{"chargpt", {{"N", "1"}, {"T", "9"}}}),
                         [](const auto& info) { return std::string(info.param.name); });

// Twenty steps of a convolutional network on real batches: the same losses as the host's.
TEST(CudaTraining, FollowsTheHost) {
  std::vector<double> losses[2];
  for (int side = 0; side < 2; ++side) {
    auto p = compiled("shapes", side ? "cpu" : "cuda:sm_90", {.train = true}, {});
    if (!p.ok() && side && p.error().code == ErrorCode::kUnsupported) GTEST_SKIP() << p.error().message;
    ASSERT_TRUE(p.ok()) << p.error().message;
    auto l = load(*std::move(p), 7);
    ASSERT_TRUE(l.ok()) << l.error().message;
    auto data = open_training_data("shapes:80");
    ASSERT_TRUE(data.ok()) << data.error().message;
    data->val = DataSource();
    TrainOptions t;
    t.epochs = 2;
    t.batch = 8;
    t.on_step = [&, side](int64_t, double loss) { losses[side].push_back(loss); };
    auto r = train(l->model, l->variables, *data, t);
    ASSERT_TRUE(r.ok()) << r.error().message;
  }
  ASSERT_EQ(losses[0].size(), 20u);
  ASSERT_EQ(losses[1].size(), 20u);
  for (size_t i = 0; i < 20; ++i)
    EXPECT_NEAR(losses[0][i], losses[1][i], 1e-3 * (1 + losses[1][i])) << "step " << i;
}

TEST(CudaTraining, TheSameBitsOnEveryRun) {
  auto p = compiled("mlp", "cuda:sm_90", {.train = true}, {{"N", "8"}});
  ASSERT_TRUE(p.ok()) << p.error().message;
  std::vector<std::vector<std::byte>> first;
  for (int run = 0; run < 2; ++run) {
    auto l = load(*p, 11);
    ASSERT_TRUE(l.ok()) << l.error().message;
    auto c = Context::create(l->model, "train", l->variables);
    ASSERT_TRUE(c.ok()) << c.error().message;
    std::mt19937_64 rng(12);
    for (int step = 0; step < 4; ++step) {
      ASSERT_TRUE(fill(**c, rng).ok());
      Status s = (*c)->run();
      ASSERT_TRUE(s.ok()) << s.error().message;
    }
    std::vector<std::vector<std::byte>> now;
    for (size_t i = 0; i < l->variables->specs().size(); ++i) {
      auto v = l->variables->get(i);
      ASSERT_TRUE(v.ok());
      const auto* bytes = static_cast<const std::byte*>(v->data);
      now.emplace_back(bytes, bytes + v->bytes());
    }
    if (run == 0)
      first = now;
    else
      EXPECT_EQ(now, first);
  }
}

// Each allocation and each kernel failing in turn: an error that names the step or what needed memory,
// nothing left behind, and the next run works.
TEST(CudaFaults, EveryAllocationAndLaunch) {
  auto p = compiled("mlp", "cuda:sm_90", {.infer = true}, {{"N", "2"}});
  ASSERT_TRUE(p.ok()) << p.error().message;
  const auto once = [&]() -> Status {
    GC_TRY(const Loaded l, load(*p, 1));
    GC_TRY(const std::unique_ptr<Context> c, Context::create(l.model, "infer", l.variables, {.sync = true}));
    std::mt19937_64 rng(1);
    GC_CHECK(fill(*c, rng));
    GC_CHECK(c->run());
    return c->run();
  };
  ASSERT_TRUE(once().ok());
  for (const char* what : {"cuMemAlloc", "cuMemHostAlloc", "cuModuleLoadData", "cuStreamCreate",
                           "cuLaunchKernel", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync"}) {
    // All that this model runs is done by cuBLASLt where that is willing.
    if (auto* refuse =
            reinterpret_cast<void (*)(int)>(CudaLibraries::get().cublaslt.symbol("standin_cublaslt_refuse")))
      refuse(std::string_view(what) == "cuLaunchKernel");
    int failures = 0;
    for (int k = 1; k < 40; ++k) {
      standin_set("FAIL", fmt::format("{}:{}", what, k));
      const Status s = once();
      standin_set("FAIL", "");
      if (s.ok()) break;
      ++failures;
      EXPECT_FALSE(s.error().message.empty());
      EXPECT_TRUE(s.error().code == ErrorCode::kNoMemory || s.error().code == ErrorCode::kDevice ||
                  s.error().code == ErrorCode::kUnsupported)
          << what << ": " << s.error().message;
      if (std::string_view(what) == "cuLaunchKernel")
        EXPECT_NE(s.error().message.find("mlp.graph:"), std::string::npos) << s.error().message;
      const Status next = once();
      EXPECT_TRUE(next.ok()) << what << " " << k << ": " << next.error().message;
    }
    EXPECT_GT(failures, 0) << what << " was never called";
  }
  EXPECT_EQ(standin_count("allocations"), 0u);
}

}  // namespace
}  // namespace graphc
