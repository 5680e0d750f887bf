#include "runtime/executor.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <random>
#include <thread>

#include "runtime/base/thread_pool.h"
#include "tests/base/temp_dir.h"
#include "tests/runtime/count_allocations.h"
#include "tests/runtime/sample_program.h"

namespace graphc {
namespace {

struct Fixture {
  ThreadPool pool{2};
  BackendRegistry registry{{.pool = &pool, .log = {}}};
  std::shared_ptr<const Model> model;
  std::shared_ptr<Variables> variables;

  explicit Fixture(Program p = sample_program(), uint64_t seed = 0) {
    EXPECT_TRUE(registry.add(fake::api()).ok());
    auto m = Model::create(std::move(p), registry);
    EXPECT_TRUE(m.ok()) << (m.ok() ? "" : m.error().message);
    model = *m;
    variables = *Variables::create(model, {.seed = seed, .pool = &pool});
  }
  std::unique_ptr<Context> context(const char* f, const ContextOptions& o = {}) {
    auto c = Context::create(model, f, variables, o);
    EXPECT_TRUE(c.ok()) << (c.ok() ? "" : c.error().message);
    return *std::move(c);
  }
};

std::vector<float> random_floats(std::mt19937& rng, size_t n) {
  std::vector<float> v(n);
  for (float& x : v) x = std::uniform_real_distribution<float>(-1, 1)(rng);
  return v;
}
const float* floats(const TensorRef& t) { return static_cast<const float*>(t.data); }

TEST(Executor, RunsForChangingSizes) {
  Fixture f;
  auto c = f.context("infer");
  std::mt19937 rng(1);
  for (const int64_t n : {3, 64, 3, 1, 200, 64, 65, 66, 67, 3}) {
    const std::vector<int64_t> shape{n, 4};
    const auto x = random_floats(rng, n * 4);
    ASSERT_TRUE(c->set_input("x", {DType::kF32, shape, x.data()}).ok());
    const Status s = c->run();
    ASSERT_TRUE(s.ok()) << s.error().message;
    const TensorRef y = c->output(0), copy = c->output(2);
    ASSERT_EQ(std::vector<int64_t>(y.shape.begin(), y.shape.end()), shape);
    double total = 0;
    for (int64_t i = 0; i < n * 4; ++i) {
      const float want = 3 * (x[i] + 2 * x[i]);
      ASSERT_EQ(floats(y)[i], want);
      ASSERT_EQ(floats(copy)[i], want);
      total += want;
    }
    EXPECT_EQ(floats(c->output(1))[0], static_cast<float>(total));
  }
  EXPECT_EQ(c->output_index("total"), 1);
  EXPECT_EQ(c->output_index("none"), -1);
  EXPECT_GE(c->arena_bytes(), c->live_bytes());
}

TEST(Executor, TrainingUpdatesStateSeenByAllContexts) {
  Fixture f(sample_program(), 7);
  auto c = f.context("train");
  std::mt19937 rng(2);
  const auto x = random_floats(rng, 20), g = random_floats(rng, 4);
  const std::vector<int64_t> xs{5, 4}, gs{4};
  std::vector<float> w(4);
  std::memcpy(w.data(), *f.variables->data(0), 16);
  EXPECT_NE(w[0], w[1]);
  ASSERT_TRUE(c->set_input("x", {DType::kF32, xs, x.data()}).ok());
  ASSERT_TRUE(c->set_input("g", {DType::kF32, gs, g.data()}).ok());
  for (int step = 1; step <= 10; ++step) {
    ASSERT_TRUE(c->run().ok());
    for (int i = 0; i < 4; ++i) {
      w[i] = w[i] - 0.5f * g[i];
      ASSERT_EQ(floats(*f.variables->get(0))[i], w[i]);
    }
    ASSERT_EQ(floats(*f.variables->get(1))[0], step);
    ASSERT_EQ(floats(c->output(1))[0], 5);  // the symbol N reached the executable
  }
  EXPECT_EQ(load_as_int(DType::kU64, *f.variables->data(3), 0), 7);
  float one = *floats(*f.variables->get(2));
  EXPECT_EQ(one, 1);
}

TEST(Executor, WarmRunAllocatesNothing) {
  Fixture f;
  auto infer = f.context("infer"), train = f.context("train");
  std::mt19937 rng(3);
  const auto x = random_floats(rng, 400), g = random_floats(rng, 4);
  const std::vector<int64_t> xs{100, 4}, gs{4};
  const auto step = [&] {
    const bool ok = infer->set_input(0, {DType::kF32, xs, x.data()}).ok() && infer->run().ok() &&
                    train->set_input(0, {DType::kF32, xs, x.data()}).ok() &&
                    train->set_input(1, {DType::kF32, gs, g.data()}).ok() && train->run().ok();
    ASSERT_TRUE(ok);
  };
  step();
  const int64_t before = allocations.load();
  for (int i = 0; i < 100; ++i) step();
  EXPECT_EQ(allocations.load(), before);
}

TEST(Executor, InputErrorsSayWhatWasExpected) {
  Fixture f;
  auto c = f.context("train");
  const float data[64] = {};
  const auto set = [&](const char* name, DType t, std::vector<int64_t> shape) {
    const Status s = c->set_input(name, {t, shape, data});
    return s.ok() ? std::string("ok") : s.error().message;
  };
  EXPECT_EQ(c->run().error().message, "input 'x' (f32[N, 4]) is not set");
  EXPECT_EQ(set("xx", DType::kF32, {2, 4}),
            "there is no input 'xx'; the model has 'x', 'g'; did you mean 'x'?");
  EXPECT_EQ(set("x", DType::kI32, {2, 4}),
            "input 'x' must be f32[N, 4], got i32[2, 4]: the dtype must be f32");
  EXPECT_EQ(set("x", DType::kF32, {8}), "input 'x' must be f32[N, 4], got f32[8]: the rank must be 2");
  EXPECT_EQ(set("x", DType::kF32, {2, 5}),
            "input 'x' must be f32[N, 4], got f32[2, 5]: dimension 1 must be 4");
  EXPECT_EQ(set("x", DType::kF32, {0, 4}), "ok");
  EXPECT_EQ(set("g", DType::kF32, {4}), "ok");
  EXPECT_EQ(c->run().error().message, "input 'x' makes N = 0, the model allows 1..1000");
  ASSERT_TRUE(c->set_symbol("N", 3).ok());
  EXPECT_EQ(set("x", DType::kF32, {2, 4}), "ok");
  EXPECT_EQ(
      c->run().error().message,
      "input 'x' must be f32[N, 4], got f32[2, 4]: dimension 0 is N = 2, but the given value has N = 3");
  EXPECT_FALSE(c->set_symbol("M", 3).ok());
  EXPECT_EQ(Context::create(f.model, "eval", f.variables).error().message,
            "the program has no function 'eval', only 'infer', 'train'");
}

TEST(Executor, ErrorsOfABackendNameTheStep) {
  Program p = sample_program();
  p.execs[2].blob = p.own("fail");
  Fixture f(p);
  auto c = f.context("infer");
  std::mt19937 rng(4);
  const auto x = random_floats(rng, 8);
  const std::vector<int64_t> shape{2, 4};
  ASSERT_TRUE(c->set_input(0, {DType::kF32, shape, x.data()}).ok());
  EXPECT_EQ(c->run().error().message,
            "step 2 (kernel scale 3): backend 'fake': execute: index 7 is out of range 0..5");
}

TEST(Executor, LoadErrors) {
  BackendRegistry registry;
  Program p = sample_program();
  EXPECT_EQ(Model::create(p, registry).error().message, "there is no backend 'fake'; this program has: none");
  ASSERT_TRUE(registry.add(fake::api()).ok());
  EXPECT_EQ(registry.add(fake::api()).error().message, "there are two backends named 'fake'");
  p.execs[3].blob = p.own("stale");
  EXPECT_EQ(Model::create(p, registry).error().message,
            "'kernel sum': backend 'fake': load an executable: made for another machine: it lacks avx512f; "
            "compile the model "
            "again on this machine with this version");
  gc_plugin_api other = *fake::api();
  other.name = "old";
  other.abi_major = 9;
  EXPECT_EQ(registry.add(&other).error().message,
            "backend 'old' speaks ABI 9.0, this graphc 1.0: rebuild the backend");
  other = *fake::api();
  other.name = "short";
  other.struct_size = offsetof(gc_plugin_api, execute);
  EXPECT_EQ(registry.add(&other).error().message, "backend 'short' lacks the required function 'execute'");
  other = *fake::api();
  other.name = "long";
  other.struct_size += 64;
  EXPECT_TRUE(registry.add(&other).ok());
}

TEST(Executor, BoundsAreCheckedWhenSizesAreKnown) {
  const auto message = [](auto&& corrupt) {
    Program p = sample_program();
    corrupt(p);
    Fixture f(p);
    auto c = f.context("infer");
    const std::vector<int64_t> shape{3, 4};
    const float data[12] = {};
    EXPECT_TRUE(c->set_input(0, {DType::kF32, shape, data}).ok());
    const Status s = c->run();
    return s.ok() ? std::string("ok") : s.error().message;
  };
  EXPECT_EQ(message([](Program&) {}), "ok");
  EXPECT_EQ(message([](Program& p) { p.functions[0].steps[1].outputs[0].offset = 4; }),
            "function 'infer', step 1 (kernel add): f32[3, 4] at byte 4 leaves buffer 4 of 48 bytes");
  EXPECT_EQ(message([](Program& p) {
              p.functions[0].steps[1].inputs[0].strides = {8, 1};
            }),
            "function 'infer', step 1 (kernel add): f32[3, 4] at byte 0 leaves buffer 0 of 48 bytes");
  EXPECT_EQ(message([](Program& p) {
              p.functions[0].steps[3].inputs[0] = {1, 2, DType::kF32, {1}, {}};
            }),
            "function 'infer', step 3 (kernel sum): f32[1] at byte 2 is not aligned");
  EXPECT_EQ(message([](Program& p) { p.functions[0].buffers[5].alias_offset = 1; }),
            "function 'infer': buffer 5 leaves the buffer 3 it lies in");
  EXPECT_EQ(message([](Program& p) { p.functions[0].buffers[1].bytes = 4; }),
            "function 'infer': buffer 1 has 4 bytes, what it stands for has 48");
  EXPECT_EQ(
      message([](Program& p) { p.functions[0].buffers[3].offset = p.functions[0].buffers[4].offset = 0; }),
      "buffers at the fixed offsets 0 and 0 overlap while both are alive");
  EXPECT_EQ(message([](Program& p) { p.functions[0].copies[0].bytes = 64; }),
            "function 'infer': a copy at the end leaves its buffers");
  EXPECT_EQ(message([](Program& p) {
              p.functions[0].buffers.push_back({ProgramBuffer::kArena, 0, 48, 0, 1, 1, -1});
              p.functions[0].steps[1].exec = 4;
              p.functions[0].steps[1].workspace = 7;
            }),
            "function 'infer', step 1 (kernel scratch 64): the executable needs 64 bytes of workspace, the "
            "program gives 48");
}

TEST(Executor, WorkspaceAndStrides) {
  Program p = sample_program();
  Function& f = p.functions[0];
  // step 2 reads buffer 4 transposed through a workspace: y = (x + 2x) seen with strides, N = 4
  f.buffers.push_back({ProgramBuffer::kArena, 0, 64, 0, 2, 2, -1});
  f.steps[2].exec = 4;
  f.steps[2].workspace = 7;
  f.steps[2].inputs[0].strides = {1, 4};
  Fixture fx(p);
  auto c = fx.context("infer", {.profile = true});
  std::mt19937 rng(5);
  const auto x = random_floats(rng, 16);
  const std::vector<int64_t> shape{4, 4};
  ASSERT_TRUE(c->set_input(0, {DType::kF32, shape, x.data()}).ok());
  const Status s = c->run();
  ASSERT_TRUE(s.ok()) << s.error().message;
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) EXPECT_EQ(floats(c->output(0))[i * 4 + j], x[j * 4 + i] + 2 * x[j * 4 + i]);
  EXPECT_EQ(c->profile()[2].label, "kernel scratch 64");
  EXPECT_EQ(c->profile()[2].runs, 1u);
}

TEST(Executor, MemoryBudget) {
  Fixture f;
  auto c = f.context("infer", {.max_memory_bytes = 1 << 12});
  const std::vector<float> x(4000, 1.0f);
  std::vector<int64_t> shape{1000, 4};
  const Status s = c->set_input(0, {DType::kF32, shape, x.data()});
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, ErrorCode::kNoMemory);
  shape = {10, 4};
  ASSERT_TRUE(c->set_input(0, {DType::kF32, shape, x.data()}).ok());
  ASSERT_TRUE(c->run().ok());
  EXPECT_LE(c->memory_bytes(), uint64_t{1} << 12);
}

TEST(Executor, ConcurrentInferenceOnOneModel) {
  Fixture f;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 rng(t);
      auto c = f.context("infer");
      for (int k = 0; k < 50; ++k) {
        const std::vector<int64_t> shape{1 + static_cast<int64_t>(rng() % 100), 4};
        const auto x = random_floats(rng, shape[0] * 4);
        if (!c->set_input(0, {DType::kF32, shape, x.data()}).ok() || !c->run().ok()) ++wrong;
        for (size_t i = 0; i < x.size(); ++i) wrong += floats(c->output(0))[i] != 3 * (x[i] + 2 * x[i]);
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST(Executor, NothingIsLeaked) {
  const int before = fake::live_objects.load();
  {
    Fixture f;
    auto c = f.context("infer");
    const std::vector<int64_t> shape{3, 4};
    const float data[12] = {};
    ASSERT_TRUE(c->set_input(0, {DType::kF32, shape, data}).ok());
    ASSERT_TRUE(c->run().ok());
    EXPECT_GT(fake::live_objects.load(), before);
  }
  EXPECT_EQ(fake::live_objects.load(), before);
}

TEST(Variables, SaveLoadAndMessages) {
  TempDir dir;
  Fixture a(sample_program(), 1), b(sample_program(), 2);
  const std::string path = dir / "w.safetensors";
  ASSERT_TRUE(write_safetensors(path, *a.variables->saved()).ok());
  const auto file = SafetensorsFile::open(path, SafetensorsFile::kHashed);
  ASSERT_TRUE(file.ok());
  EXPECT_NE(std::memcmp(*a.variables->data(0), *b.variables->data(0), 16), 0);
  ASSERT_TRUE(b.variables->load(*file, path).ok());
  EXPECT_EQ(std::memcmp(*a.variables->data(0), *b.variables->data(0), 16), 0);
  EXPECT_EQ(file->tensors().size(), 3u);  // the constant isn't saved

  std::vector<uint16_t> half{0x3c00, 0x4000, 0xc000, 0x0000};
  const std::vector<std::byte> bytes(16);
  const auto load = [&](std::vector<SafetensorsTensor> t) {
    EXPECT_TRUE(write_safetensors(path, t).ok());
    const auto f = SafetensorsFile::open(path);
    const Status s = b.variables->load(*f, "f");
    return s.ok() ? std::string("ok") : s.error().message;
  };
  const SafetensorsTensor w{"w", DType::kF16, {4}, std::as_bytes(std::span(half))};
  std::vector<SafetensorsTensor> all = *a.variables->saved();
  for (SafetensorsTensor& t : all)
    if (t.name == "w") t = w;
  EXPECT_EQ(load(all), "ok");
  EXPECT_EQ(floats(*b.variables->get(0))[2], -2);
  EXPECT_EQ(load({w}), "'f' lacks 'steps'");
  EXPECT_EQ(load({w, {"step", DType::kF32, {4}, bytes}}),
            "'f': the model has no 'step'; did you mean 'steps'?");
  EXPECT_EQ(load({{"w", DType::kF32, {2, 2}, bytes}}), "'f': 'w' is f32[2, 2], the model's is f32[4]");
  EXPECT_EQ(load({{"w", DType::kI32, {4}, bytes}}), "'f': 'w' is i32[4], the model's is f32[4]");
}

TEST(Variables, ExternalFilesStayBeneathTheArtefact) {
  TempDir dir;
  const std::vector<float> values{1, -2, 3, -4};
  ASSERT_TRUE(make_directories(dir / "net").ok());
  const SafetensorsTensor w{"weights", DType::kF32, {4}, std::as_bytes(std::span(values))};
  ASSERT_TRUE(write_safetensors(dir / "net/w.safetensors", {w}).ok());
  ASSERT_TRUE(write_safetensors(dir / "outside.safetensors", {w}).ok());
  ASSERT_EQ(::symlink("../outside.safetensors", (dir / "net/link.safetensors").c_str()), 0);
  BackendRegistry registry;
  ASSERT_TRUE(registry.add(fake::api()).ok());
  const auto message = [&](const char* file, const char* tensor) {
    Program p = sample_program();
    p.variables[0].init.reset();
    p.variables[0].external_file = file;
    p.variables[0].external_tensor = tensor;
    EXPECT_TRUE(save_program(p, dir / "net/p.gcx").ok());
    const auto model = Model::load(dir / "net/p.gcx", registry);
    EXPECT_TRUE(model.ok());
    const auto v = Variables::create(*model);
    if (!v.ok()) return v.error().message;
    EXPECT_EQ(std::memcmp(*(*v)->data(0), values.data(), 16), 0);
    return std::string("ok");
  };
  EXPECT_EQ(message("w.safetensors", "weights"), "ok");
  EXPECT_EQ(message("w.safetensors", "bias"), "variable 'w': 'bias' in 'w.safetensors' is missing");
  EXPECT_NE(message("../outside.safetensors", "weights").find("leaves the directory"), std::string::npos);
  EXPECT_NE(message((dir / "outside.safetensors").c_str(), "weights").find("leaves the directory"),
            std::string::npos);
  EXPECT_NE(message("link.safetensors", "weights").find("leaves the directory"), std::string::npos);
}

}  // namespace
}  // namespace graphc
