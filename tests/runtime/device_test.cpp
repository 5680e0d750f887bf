// Programs on devices with memory of their own, streams and captures (mock_device.h).
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <regex>
#include <thread>

#include "runtime/base/thread_pool.h"
#include "runtime/executor.h"
#include "runtime/train.h"
#include "tests/base/temp_dir.h"
#include "tests/runtime/count_allocations.h"
#include "tests/runtime/mock_device.h"
#include "tests/runtime/sample_program.h"

namespace graphc {
namespace {

using mock::Capture;
using mock::state;

// The device of a session: an id of the mock, "plain" for its device 0 without streams, "fake" for the host.
Program on_device(Program p, const std::string& device) {
  if (device != "fake")
    for (Exec& e : p.execs) e.backend = "mock";
  return p;
}

// sample_program, its scaling step through 16 bytes of workspace a row where the device can say so
Program wide_program(const std::string& device) {
  Program p = sample_program();
  if (device == "plain") return p;
  p.execs[2].blob = p.own("wide 16");
  p.functions[0].steps[2].symbols = {SizeExpr::symbol(0)};
  return p;
}

struct Session {
  ThreadPool pool{2};
  BackendRegistry registry{{.pool = &pool, .log = {}}};
  std::shared_ptr<const Model> model;
  std::shared_ptr<Variables> variables;

  explicit Session(const std::string& device, Program p = sample_program()) {
    EXPECT_TRUE(registry.add(fake::api()).ok());
    EXPECT_TRUE(registry.add(device == "plain" ? mock::plain_api() : mock::api()).ok());
    ModelOptions options;
    if (device != "plain" && device != "fake") options.devices["mock"] = device;
    auto m = Model::create(on_device(std::move(p), device), registry, options);
    EXPECT_TRUE(m.ok()) << (m.ok() ? "" : m.error().message);
    model = *m;
    variables = *Variables::create(model, {.seed = 5, .pool = &pool});
  }
  std::unique_ptr<Context> context(const char* f, const ContextOptions& o = {}) {
    auto c = Context::create(model, f, variables, o);
    EXPECT_TRUE(c.ok()) << (c.ok() ? "" : c.error().message);
    return *std::move(c);
  }
};

std::vector<float> random_floats(std::mt19937& rng, int64_t n) {
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = std::uniform_real_distribution<float>(-1, 1)(rng);
  return v;
}

Status set(Context& c, size_t input, std::vector<int64_t> shape, const std::vector<float>& x) {
  return c.set_input(input, {DType::kF32, shape, x.data()});
}

std::vector<float> values(const TensorRef& t) {
  const auto* p = static_cast<const float*>(t.data);
  return {p, p + t.numel()};
}

std::string message(const Status& s) { return s.ok() ? "ok" : s.error().message; }

// Runs "infer" with n rows of random numbers and checks all outputs.
void infer_rows(Context& c, std::mt19937& rng, int64_t n) {
  const auto x = random_floats(rng, n * 4);
  ASSERT_EQ(message(set(c, 0, {n, 4}, x)), "ok");
  ASSERT_EQ(message(c.run()), "ok");
  double total = 0;
  std::vector<float> want;
  for (const float v : x) total += want.emplace_back(3 * (v + 2 * v));
  ASSERT_EQ(values(c.output(0)), want);
  ASSERT_EQ(values(c.output(2)), want);
  ASSERT_EQ(values(c.output(1))[0], static_cast<float>(total));
}

class OnDevice : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { mock::reset(), live_ = state().live; }
  void TearDown() override {
    EXPECT_EQ(state().misuse, std::vector<std::string>());
    EXPECT_EQ(state().live, live_);
  }
  int64_t live_ = 0;
};
using Devices = OnDevice;
using MockDevice = OnDevice;

// Training and inference, sizes that change, values set and read in between: all as on the host.
TEST_P(Devices, EqualTheHost) {
  Session a("fake"), b(GetParam());
  std::mt19937 rng(1);
  std::unique_ptr<Context> contexts[2][2] = {{a.context("infer"), a.context("train")},
                                             {b.context("infer"), b.context("train")}};
  const Session* sessions[2] = {&a, &b};
  for (int k = 0; k < 200; ++k) {
    SCOPED_TRACE(k);
    const int64_t n = std::vector<int64_t>{3, 64, 7, 3, 200, 65}[rng() % 6];
    const auto x = random_floats(rng, n * 4), g = random_floats(rng, 4), w = random_floats(rng, 4);
    const int what = static_cast<int>(rng() % 8);
    std::vector<std::vector<float>> got[2];
    for (int s = 0; s < 2; ++s) {
      Variables& v = *sessions[s]->variables;
      Context& infer = *contexts[s][0];
      Context& train = *contexts[s][1];
      const std::vector<int64_t> four{4};
      if (what == 0) {
        ASSERT_EQ(message(v.set(0, {DType::kF32, four, w.data()})), "ok");
      } else if (what == 1) {
        static_cast<float*>(*v.data(0))[rng() % 1] += 1;
      } else if (what < 5) {
        ASSERT_EQ(message(set(infer, 0, {n, 4}, x)), "ok");
        ASSERT_EQ(message(infer.run()), "ok");
        for (size_t i = 0; i < 3; ++i) got[s].push_back(values(infer.output(i)));
      } else {
        ASSERT_EQ(message(set(train, 0, {n, 4}, x)), "ok");
        ASSERT_EQ(message(set(train, 1, {4}, g)), "ok");
        ASSERT_EQ(message(train.run()), "ok");
        for (size_t i = 0; i < 2; ++i) got[s].push_back(values(train.output(i)));
      }
      if (k % 5 == 4)
        for (size_t i = 0; i < 3; ++i) got[s].push_back(values(*v.get(i)));
    }
    ASSERT_EQ(got[0], got[1]);
  }
  TempDir dir;
  ASSERT_TRUE(write_safetensors(dir / "a", *a.variables->saved()).ok());
  ASSERT_TRUE(write_safetensors(dir / "b", *b.variables->saved()).ok());
  EXPECT_EQ(*read_file(dir / "a"), *read_file(dir / "b"));
}

// The whole of training: epochs, validation, checkpoints.
TEST_P(Devices, TrainAsTheHost) {
  TempDir dir;
  std::string files[2];
  for (const bool host : {true, false}) {
    Session s(host ? "fake" : GetParam(), regression_program(12, "0.5"));
    const DataSources data = *open_training_data("shapes,n=100,size=12,noise=0.05");
    const std::string to = dir / (host ? "host" : "device");
    const auto r = train(s.model, s.variables, data, {.epochs = 2, .batch = 16, .checkpoint_dir = to});
    ASSERT_TRUE(r.ok()) << r.error().message;
    files[host] = *read_file(to + "/last.safetensors");
  }
  EXPECT_EQ(files[0], files[1]);
}

TEST_P(Devices, AWarmRunAllocatesNothing) {
  Session s(GetParam(), wide_program(GetParam()));
  auto infer = s.context("infer"), train = s.context("train");
  std::mt19937 rng(2);
  const auto x = random_floats(rng, 400), g = random_floats(rng, 4);
  const std::vector<int64_t> xs{100, 4}, gs{4};
  const auto step = [&] {
    Status s = infer->set_input(0, {DType::kF32, xs, x.data()});
    if (s.ok()) s = infer->run();
    if (s.ok()) s = train->set_input(0, {DType::kF32, xs, x.data()});
    if (s.ok()) s = train->set_input(1, {DType::kF32, gs, g.data()});
    if (s.ok()) s = train->run();
    ASSERT_TRUE(s.ok()) << s.error().message;
  };
  step(), step();
  const int64_t before = allocations, on_device = state().calls[mock::kAlloc];
  for (int i = 0; i < 100; ++i) step();
  EXPECT_EQ(allocations, before);
  EXPECT_EQ(state().calls[mock::kAlloc], on_device);
  EXPECT_EQ(state().calls[mock::kEvent], std::string(GetParam()) == "plain" ? 0 : 2);
}

TEST_P(Devices, ConcurrentInferenceOnOneModel) {
  Session s(GetParam());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 rng(t);
      auto c = s.context("infer");
      for (int k = 0; k < 25; ++k) infer_rows(*c, rng, 1 + static_cast<int64_t>(rng() % 50));
    });
  for (auto& t : threads) t.join();
}

TEST_P(Devices, SearchForNaN) {
  Session s(GetParam());
  auto c = s.context("infer");
  std::vector<float> x{1, 2, 3, 4};
  ASSERT_EQ(message(set(*c, 0, {1, 4}, x)), "ok");
  EXPECT_EQ(*c->run_checked(true), "");
  EXPECT_EQ(values(c->output(0)), (std::vector<float>{9, 18, 27, 36}));
  EXPECT_EQ(values(c->output(2)), (std::vector<float>{9, 18, 27, 36}));
  x = {3e38f, -3e38f, 0, 0};
  ASSERT_EQ(message(set(*c, 0, {1, 4}, x)), "ok");
  EXPECT_EQ(*c->run_checked(false), "step 3 (kernel sum) made the first NaN in its result f32");
  x = {3e38f, 0, 0, 0};
  ASSERT_EQ(message(set(*c, 0, {1, 4}, x)), "ok");
  EXPECT_EQ(*c->run_checked(false), "");
  EXPECT_EQ(*c->run_checked(true),
            "step 0 (double (a.graph:3:5)) made the first infinity in its result f32[1, 4]");
  std::mt19937 rng(3);
  infer_rows(*c, rng, 4);
}

TEST_P(Devices, ProfileTimesEveryStep) {
  Session s(GetParam());
  auto c = s.context("infer", {.profile = true});
  std::mt19937 rng(4);
  for (int i = 0; i < 3; ++i) infer_rows(*c, rng, 5);
  EXPECT_EQ(c->captured(), 0u);
  for (const StepProfile& p : c->profile()) EXPECT_EQ(p.runs, 3u) << p.label;
}

// What the k-th call of every kind does when it fails: an error, and all goes on afterwards.
TEST_P(Devices, EveryFaultIsAnErrorAndTheNextRunWorks) {
  const char* const names[] = {"allocate", "copy", "execute", "fell over", "stream", "event",
                               "record",   "wait", "begin",   "end",       "launch"};
  static_assert(std::size(names) == mock::kPoints);
  int faults = 0;
  for (int point = 0; point < mock::kPoints; ++point) {
    for (int64_t k = 1;; ++k) {
      SCOPED_TRACE(testing::Message() << names[point] << " " << k);
      mock::reset();
      Session s(GetParam(), wide_program(GetParam()));
      auto infer = s.context("infer"), train = s.context("train");
      std::mt19937 rng(static_cast<unsigned>(k));
      const auto g = random_floats(rng, 4);
      std::vector<std::string> errors;
      state().fail_in[point] = k;
      for (const int64_t n : {5, 5, 5, 20}) {
        const auto x = random_floats(rng, n * 4);
        for (Context* c : {infer.get(), train.get()}) {
          Status st = set(*c, 0, {n, 4}, x);
          if (st.ok() && c == train.get()) st = set(*c, 1, {4}, g);
          if (st.ok()) st = c->run();
          if (!st.ok()) errors.push_back(st.error().message);
        }
      }
      const bool failed = state().fail_in[point] == 0;
      state().fail_in[point] = 0;
      ASSERT_EQ(errors.size(), failed ? 1u : 0u);
      if (!failed) break;
      ++faults;
      EXPECT_NE(errors[0].find(names[point]), std::string::npos) << errors[0];
      const bool later = std::string(GetParam()) != "plain";
      if (point == mock::kExecute || (point == mock::kKernel && !later)) {
        EXPECT_EQ(errors[0].find("step "), 0u) << errors[0];
      }
      if (point == mock::kCopy) {
        const std::regex form(
            "(variable 'w'|variable 'steps'|variable 'one'|variable 'rng.seed'|input '[xg]'|output "
            "'(y|total|copy|loss.sum|loss.count)'|a copy at the end of function "
            "'(infer|train)'): .*");
        EXPECT_TRUE(std::regex_match(errors[0], form)) << errors[0];
      }
      if (point == mock::kKernel && later) {
        EXPECT_NE(errors[0].find("', one of its steps 0..3: "), std::string::npos) << errors[0];
      }
      for (int i = 0; i < 3; ++i) infer_rows(*infer, rng, 20);
      // the state as well: one more step of training
      std::vector<float> w = values(*s.variables->get(0));
      ASSERT_EQ(message(set(*train, 0, {5, 4}, random_floats(rng, 20))), "ok");
      ASSERT_EQ(message(set(*train, 1, {4}, g)), "ok");
      ASSERT_EQ(message(train->run()), "ok");
      for (size_t i = 0; i < 4; ++i) w[i] = w[i] - 0.5f * g[i];
      EXPECT_EQ(values(*s.variables->get(0)), w);
    }
    ASSERT_EQ(state().misuse, std::vector<std::string>());
    ASSERT_EQ(state().live, live_);
  }
  EXPECT_GT(faults, 20);
}

INSTANTIATE_TEST_SUITE_P(All, Devices, testing::Values("0", "1", "plain", "host"),
                         [](const auto& info) { return std::string("on_") + info.param; });

TEST_F(MockDevice, InputsGoUpOnlyIfTheyWereSet) {
  Session s("0");
  auto c = s.context("train");
  std::mt19937 rng(5);
  const auto g = random_floats(rng, 4);
  ASSERT_EQ(message(set(*c, 0, {5, 4}, random_floats(rng, 20))), "ok");
  ASSERT_EQ(message(set(*c, 1, {4}, g)), "ok");
  const auto copies = [&] {
    const int64_t before = state().calls[mock::kCopy];
    EXPECT_EQ(message(c->run()), "ok");
    return state().calls[mock::kCopy] - before;
  };
  EXPECT_EQ(copies(), 4 + 2 + 1 + 2);  // variables, inputs, the copy at the end, outputs
  EXPECT_EQ(copies(), 1 + 2);
  EXPECT_EQ(copies(), 2);  // the copy at the end is in the capture
  ASSERT_EQ(message(set(*c, 1, {4}, g)), "ok");
  EXPECT_EQ(copies(), 1 + 2);
  ASSERT_EQ(message(s.variables->set(0, {DType::kF32, std::vector<int64_t>{4}, g.data()})), "ok");
  EXPECT_EQ(copies(), 1 + 2);
  ASSERT_TRUE(s.variables->get(0).ok());  // comes down, and needn't go up again
  EXPECT_EQ(copies(), 2);
}

TEST_F(MockDevice, TheSecondRunIsCaptured) {
  Session s("0");
  auto c = s.context("infer");
  std::mt19937 rng(6);
  const auto runs = [&](int64_t n) {  // executes and launches of a run
    const auto before = state().calls;
    infer_rows(*c, rng, n);
    return std::pair(state().calls[mock::kExecute] - before[mock::kExecute],
                     state().calls[mock::kLaunch] - before[mock::kLaunch]);
  };
  using P = std::pair<int64_t, int64_t>;
  EXPECT_EQ(runs(20), P(4, 0));
  EXPECT_EQ(runs(20), P(4, 1));  // recorded, then done
  EXPECT_EQ(runs(20), P(0, 1));
  EXPECT_EQ(runs(7), P(4, 0));  // other sizes, other plan; the buffers stay
  EXPECT_EQ(runs(7), P(4, 1));
  EXPECT_EQ(runs(20), P(0, 1));
  EXPECT_EQ(c->captured(), 2u);
  EXPECT_EQ(runs(21), P(4, 0));  // the buffers grow: what was captured names the old ones
  EXPECT_EQ(c->captured(), 0u);
  EXPECT_EQ(runs(20), P(4, 0));
  EXPECT_EQ(runs(20), P(4, 1));
  EXPECT_EQ(runs(20), P(0, 1));
  for (int64_t n = 1; n <= 12; ++n) runs(n), runs(n);
  EXPECT_EQ(c->captured(), 8u);
  EXPECT_EQ(runs(5), P(0, 1));
  EXPECT_EQ(runs(4), P(4, 0));  // gone, as the least recently used
}

TEST_F(MockDevice, WithoutCaptureItRunsPlainly) {
  const auto calls = [&](Capture capture, const ContextOptions& options) {
    mock::reset();
    state().capture = capture;
    Session s("0");
    auto c = s.context("infer", options);
    std::mt19937 rng(7);
    for (int i = 0; i < 5; ++i) infer_rows(*c, rng, 20);
    EXPECT_EQ(c->captured(), 0u);
    EXPECT_EQ(state().calls[mock::kLaunch], 0);
    return state().calls[mock::kExecute];
  };
  EXPECT_EQ(calls(Capture::kNo, {}), 20);
  EXPECT_EQ(calls(Capture::kBeginRefuses, {}), 20);
  EXPECT_EQ(calls(Capture::kEndRefuses, {}), 24);  // recorded once, for nothing
  EXPECT_EQ(calls(Capture::kExecuteRefuses, {}), 21);
  EXPECT_EQ(calls(Capture::kYes, {.capture = false}), 20);
  EXPECT_EQ(calls(Capture::kYes, {.sync = true}), 20);
  EXPECT_EQ(calls(Capture::kYes, {.profile = true}), 20);
}

TEST_F(MockDevice, ErrorsWhileRunningNameTheStepIfAsked) {
  Program p = sample_program();
  p.execs[2].blob = p.own("fail");
  Session s("0", p);
  std::mt19937 rng(8);
  for (const bool sync : {false, true}) {
    auto c = s.context("infer", {.sync = sync});
    ASSERT_EQ(message(set(*c, 0, {2, 4}, random_floats(rng, 8))), "ok");
    for (int i = 0; i < 3; ++i)
      EXPECT_EQ(
          message(c->run()),
          sync ? "step 2 (kernel scale 3): backend 'mock': wait: backend 'mock': kernel: index 7 is out "
                 "of range 0..5"
               : "function 'infer', one of its steps 0..3: backend 'mock': wait: backend 'mock': kernel: "
                 "index 7 is out of range 0..5; with --sync the message says which");
    // of another function of the same model
    auto t = s.context("train");
    ASSERT_EQ(message(set(*t, 0, {2, 4}, random_floats(rng, 8))), "ok");
    ASSERT_EQ(message(set(*t, 1, {4}, random_floats(rng, 4))), "ok");
    EXPECT_EQ(message(t->run()), "ok");
  }
}

TEST_F(MockDevice, WorkspaceOfTheSizesCountsAndIsShared) {
  for (const char* device : {"fake", "0", "host"}) {
    SCOPED_TRACE(device);
    Program p = wide_program(device);
    p.execs[1].blob = p.own("wide 100");
    p.functions[0].steps[0].symbols = {SizeExpr::symbol(0)};
    Session s(device, p);
    auto c = s.context("infer");
    std::mt19937 rng(9);
    const auto x = random_floats(rng, 40);
    ASSERT_EQ(message(set(*c, 0, {10, 4}, x)), "ok");
    ASSERT_EQ(message(c->run()), "ok");
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(values(c->output(0))[i], 3 * (x[i] + 3 * x[i]));
    // inputs, three outputs, the arena, and the larger of two workspaces
    const uint64_t rows = 10 * 16, all = rows + 2 * rows + 4 + c->arena_bytes() + 10 * 100;
    EXPECT_EQ(c->memory_bytes(), all);
    const uint64_t budget = all + s.variables->bytes();
    auto enough = s.context("infer", {.max_memory_bytes = budget});
    ASSERT_EQ(message(set(*enough, 0, {10, 4}, x)), "ok");
    EXPECT_EQ(message(enough->run()), "ok");
    auto tight = s.context("infer", {.max_memory_bytes = budget - 1});
    ASSERT_EQ(message(set(*tight, 0, {10, 4}, x)), "ok");
    const Status st = tight->run();
    ASSERT_FALSE(st.ok());
    EXPECT_EQ(st.error().code, ErrorCode::kNoMemory);
    EXPECT_EQ(st.error().message.find("the steps' workspace needs 1000 bytes, beside "), 0u) << message(st);
  }
}

TEST_F(MockDevice, OutOfMemorySaysForWhat) {
  Session s("0");
  std::mt19937 rng(10);
  auto c = s.context("infer");
  ASSERT_EQ(message(set(*c, 0, {2, 4}, random_floats(rng, 8))), "ok");
  state().fail_in[mock::kAlloc] = 1;
  EXPECT_EQ(
      message(c->run()),
      "output 'y' needs 32 bytes, beside 64 in use: backend 'mock': allocate 32 bytes: buf_alloc failed "
      "as asked");
  state().fail_in[mock::kAlloc] = 1;
  const auto v = Variables::create(s.model);
  ASSERT_FALSE(v.ok());
  EXPECT_EQ(v.error().code, ErrorCode::kNoMemory);
  EXPECT_EQ(v.error().message.find("the model's parameters and state need 1024 bytes: backend 'mock': "), 0u)
      << v.error().message;
  EXPECT_FALSE(Variables::create(s.model, {.max_memory_bytes = 31}).ok());
  // an input that couldn't grow isn't set any more
  state().fail_in[mock::kAlloc] = 1;
  EXPECT_NE(message(set(*c, 0, {50, 4}, random_floats(rng, 200))), "ok");
  EXPECT_EQ(message(c->run()), "input 'x' (f32[N, 4]) is not set");
  infer_rows(*c, rng, 50);
}

TEST_F(MockDevice, IsChosenById) {
  BackendRegistry registry;
  ASSERT_TRUE(registry.add(mock::api()).ok());
  const Program p = on_device(sample_program(), "0");
  EXPECT_TRUE(Model::create(p, registry, {.devices = {{"mock", "1"}}}).ok());
  EXPECT_EQ(Model::create(p, registry, {.devices = {{"mock", "7"}}}).error().message,
            "backend 'mock': open device '7': there is no '7'");
  EXPECT_EQ((*registry.device("mock"))->info().id, "0");
  EXPECT_EQ((*registry.device("mock", "1"))->info().memspaces, uint32_t{GC_MEM_DEVICE});
  EXPECT_EQ(*registry.device("mock"), *registry.device("mock", "0"));
}

TEST_F(MockDevice, BesideAnotherDeviceIsRefused) {
  Program p = sample_program();
  p.execs[0].backend = p.execs[3].backend = "mock";
  BackendRegistry registry;
  ASSERT_TRUE(registry.add(mock::api()).ok());
  ASSERT_TRUE(registry.add(fake::api()).ok());
  const auto m = Model::create(p, registry);
  ASSERT_FALSE(m.ok());
  EXPECT_EQ(
      m.error().message,
      "the program runs on 'mock' (step 1 of 'infer' (kernel add)) and 'fake' (step 0 of 'infer' (double "
      "(a.graph:3:5))); 'mock' has memory of its own, and a program on it can't run on another device as "
      "well: compile the whole model for one");
  // devices on host memory may be mixed, streams or not
  auto both = Model::create(p, registry, {.devices = {{"mock", "host"}}});
  ASSERT_TRUE(both.ok()) << both.error().message;
  auto variables = Variables::create(*both);
  auto c = Context::create(*both, "infer", *variables);
  std::mt19937 rng(11);
  for (const int64_t n : {3, 3, 3, 50, 3}) infer_rows(**c, rng, n);
}

}  // namespace
}  // namespace graphc
