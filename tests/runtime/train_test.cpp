// The training loop, checkpoints, evaluation.
#include "runtime/train.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <random>
#include <regex>

#include "runtime/base/thread_pool.h"
#include "runtime/checkpoint.h"
#include "runtime/feed.h"
#include "runtime/progress.h"
#include "tests/base/temp_dir.h"
#include "tests/runtime/sample_program.h"

namespace graphc {
namespace {

constexpr int64_t kSize = 12;
const char* const kData = "shapes,n=250,size=12,noise=0.05";

struct Session {
  ThreadPool pool;
  BackendRegistry registry;
  std::shared_ptr<const Model> model;
  std::shared_ptr<Variables> variables;
  DataSources data;

  explicit Session(const std::string& lr = "0.5", int threads = 2)
      : pool(threads), registry(HostOptions{&pool, {}}) {
    EXPECT_TRUE(registry.add(fake::api()).ok());
    auto m = Model::create(regression_program(kSize, lr), registry);
    EXPECT_TRUE(m.ok()) << (m.ok() ? "" : m.error().message);
    model = *m;
    variables = *Variables::create(model, {.seed = 3, .pool = &pool});
    data = *open_training_data(kData);
  }
  Result<TrainResult> run(TrainOptions o) {
    o.data_spec = kData;
    if (o.batch == 64) o.batch = 16;
    return train(model, variables, data, o);
  }
};

TEST(Train, LearnsAndPrintsALineAnEpoch) {
  Session s;
  std::vector<std::string> lines;
  const auto r = s.run({.epochs = 3, .print = [&](std::string_view l) { lines.emplace_back(l); }});
  ASSERT_TRUE(r.ok()) << r.error().message;
  ASSERT_EQ(lines.size(), 3u);
  const std::regex form(
      R"(epoch 2/3  loss=\d\.\d{4} acc=0\.\d{4}  val_loss=\d\.\d{4} val_acc=0\.\d{4}  \d+\.\d s)");
  EXPECT_TRUE(std::regex_match(lines[1], form)) << lines[1];
  EXPECT_EQ(r->epochs, 3);
  EXPECT_EQ(r->steps, 3 * 16);
  EXPECT_EQ(r->train[0].count, 250);  // the smaller last batch counts as what it is
  EXPECT_LT(r->train[0].value(), 1.75);
  EXPECT_GT(r->val[1].value(), 0.25);
  EXPECT_EQ(*static_cast<const float*>((*s.variables->get(1)).data), 48);
}

std::string final_checkpoint(const TempDir& dir) { return *read_file(dir / "last.safetensors"); }

TEST(Train, InterruptedAndResumedEqualsUninterrupted) {
  TempDir whole_dir;
  Session whole;
  ASSERT_TRUE(whole.run({.epochs = 3, .checkpoint_dir = whole_dir.path()}).ok());
  const std::string want = final_checkpoint(whole_dir);
  EXPECT_TRUE(std::filesystem::exists(whole_dir / "best.safetensors"));
  std::mt19937 rng(4);
  for (int k = 0; k < 6; ++k) {
    TempDir dir;
    std::atomic<bool> stop{false};
    std::vector<std::string> lines;
    int64_t step = 0;
    bool resume = false;
    for (int part = 0; part < 50; ++part) {  // stopped again and again
      Session s("0.5", 1 + static_cast<int>(rng() % 3));
      const int64_t stop_at = step + 1 + rng() % 25;
      stop = false;
      const auto r = s.run({.epochs = 3,
                            .checkpoint_dir = dir.path(),
                            .resume = resume,
                            .print = [&](std::string_view l) { lines.emplace_back(l); },
                            .interrupted = &stop,
                            .resume_command = "graphc train --resume",
                            .on_step = [&](int64_t n, double) { stop = n >= stop_at; }});
      ASSERT_TRUE(r.ok()) << r.error().message;
      resume = true;
      step = r->steps;
      if (!r->interrupted) break;
      EXPECT_NE(lines.back().find("continue with: graphc train --resume"), std::string::npos);
    }
    EXPECT_EQ(step, 48);
    EXPECT_EQ(final_checkpoint(dir), want);
  }
}

TEST(Train, KilledAtRandomPointsAndResumed) {
  TempDir whole_dir;
  {
    Session whole;
    ASSERT_TRUE(whole.run({.epochs = 3, .checkpoint_dir = whole_dir.path()}).ok());
  }
  const std::string want = final_checkpoint(whole_dir);
  std::mt19937 rng(5);
  TempDir dir;
  int killed = 0;
  for (int part = 0; part < 200; ++part) {
    const bool resume = std::filesystem::exists(dir / "last.safetensors");
    const bool last = killed >= 10;
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Session s;
      const auto r =
          s.run({.epochs = 3, .checkpoint_dir = dir.path(), .checkpoint_every = 1, .resume = resume});
      ::_exit(r.ok() ? 0 : 1);
    }
    if (!last) {
      ::usleep(static_cast<useconds_t>(rng() % 30000));
      ::kill(child, SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
      ++killed;
    else
      ASSERT_EQ(WEXITSTATUS(status), 0);
    if (WIFEXITED(status) && last) break;
    if (WIFEXITED(status))
      std::filesystem::remove(dir / "last.safetensors");  // it finished: again from the start
  }
  EXPECT_GE(killed, 10);
  EXPECT_EQ(final_checkpoint(dir), want);
}

TEST(Train, StepsLimit) {
  TempDir dir;
  Session s;
  std::vector<std::string> lines;
  const auto r =
      s.run({.epochs = 5, .max_steps = 20, .checkpoint_dir = dir.path(), .print = [&](std::string_view l) {
               lines.emplace_back(l);
             }});
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->steps, 20);
  EXPECT_FALSE(r->interrupted);
  EXPECT_EQ(lines.back().substr(0, 33), "stopped in epoch 2/5 after step 2");
  Session t;
  const auto u = t.run({.epochs = 5, .max_steps = 32, .checkpoint_dir = dir.path(), .resume = true});
  ASSERT_TRUE(u.ok()) << u.error().message;
  EXPECT_EQ(u->steps, 32);
}

TEST(Train, NotANumberStopsAndNamesTheStep) {
  TempDir dir;
  Session s("1e30");
  const auto r = s.run({.epochs = 2, .checkpoint_dir = dir.path()});
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().message.find("the loss is "), std::string::npos) << r.error().message;
  EXPECT_NE(r.error().message.find("step 0 (softmax regression (r.graph:3:5)) made the first"),
            std::string::npos)
      << r.error().message;
  EXPECT_FALSE(std::filesystem::exists(dir / "last.safetensors"));
}

TEST(Train, ResumeChecksThatTheRunIsTheSame) {
  TempDir dir;
  Session s;
  ASSERT_TRUE(s.run({.epochs = 1, .checkpoint_dir = dir.path()}).ok());
  EXPECT_NE(s.run({.epochs = 2, .seed = 9, .checkpoint_dir = dir.path(), .resume = true})
                .error()
                .message.find("resume with the same (now: --seed 9"),
            std::string::npos);
  Session other("0.25");
  EXPECT_NE(other.run({.epochs = 2, .checkpoint_dir = dir.path(), .resume = true})
                .error()
                .message.find("was written by another program"),
            std::string::npos);
  EXPECT_EQ(s.run({.epochs = 2, .resume = true}).error().message, "--resume needs --checkpoint DIR");
  EXPECT_FALSE(s.run({.epochs = 2, .checkpoint_dir = dir / "empty", .resume = true}).ok());
}

TEST(Checkpoint, EveryPrefixAndFlipIsNoticedAndChangesNothing) {
  TempDir dir;
  Session s;
  const std::string path = dir / "c.safetensors";
  CheckpointInfo info;
  info.core_hash = "h";
  info.position = {2, 7, 39, {{"loss", 1.0 / 3, 17}, {"acc", 5, 17}}, 0.1, true};
  info.seed = 0xfedcba9876543210;
  info.provenance = {{"classes", "a,b"}};
  ASSERT_TRUE(save_checkpoint(path, *s.variables, info).ok());
  const auto back = load_checkpoint(path, s.variables.get(), "h");
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(back->position.step, 39);
  EXPECT_EQ(back->position.sums[0].sum, 1.0 / 3);
  EXPECT_EQ(back->position.sums[1].name, "acc");
  EXPECT_EQ(back->position.best, 0.1);
  EXPECT_EQ(back->seed, 0xfedcba9876543210);
  EXPECT_EQ(back->provenance.at("classes"), "a,b");

  const std::string good = *read_file(path), broken = dir / "b.safetensors";
  const std::vector<SafetensorsTensor> saved = *s.variables->saved();
  const std::vector<std::byte> before(saved[0].data.begin(), saved[0].data.end());
  const auto noticed = [&](const std::string& text) {
    FILE* f = std::fopen(broken.c_str(), "wb");
    std::fwrite(text.data(), 1, text.size(), f);
    std::fclose(f);
    return !load_checkpoint(broken, s.variables.get(), "h").ok() &&
           std::memcmp(before.data(), *s.variables->data(0), before.size()) == 0;
  };
  for (size_t n = 0; n < good.size(); n += n < 2000 ? 1 : 37) ASSERT_TRUE(noticed(good.substr(0, n))) << n;
  std::mt19937 rng(7);
  for (int k = 0; k < 10000; ++k) {
    std::string text = good;
    text[rng() % text.size()] ^= static_cast<char>(1 << rng() % 8);
    ASSERT_TRUE(noticed(text));
  }
}

TEST(Evaluate, ReportMatchesTheModel) {
  Session s;
  ASSERT_TRUE(s.run({.epochs = 4}).ok());
  const auto a = evaluate(s.model, s.variables, s.data.val, {.batch = 7});
  const auto b = evaluate(s.model, s.variables, s.data.val, {.batch = 41});
  ASSERT_TRUE(a.ok()) << a.error().message;
  EXPECT_EQ(a->samples, 41);
  ASSERT_TRUE(a->confusion.has_value());
  EXPECT_EQ(a->confusion->total(), 41);
  EXPECT_DOUBLE_EQ(a->confusion->accuracy(), a->metrics[1].value());
  EXPECT_DOUBLE_EQ(a->metrics[1].value(), b->metrics[1].value());
  EXPECT_NEAR(a->metrics[0].value(), b->metrics[0].value(), 1e-5);
}

// Numbers by hand.
TEST(ConfusionMatrix, Scores) {
  ConfusionMatrix m(3);
  const int counts[3][3] = {{5, 1, 0}, {2, 3, 1}, {0, 0, 0}};
  for (int t = 0; t < 3; ++t)
    for (int p = 0; p < 3; ++p)
      for (int k = 0; k < counts[t][p]; ++k) m.add(t, p);
  EXPECT_DOUBLE_EQ(m.scores(0).precision, 5.0 / 7);
  EXPECT_DOUBLE_EQ(m.scores(0).recall, 5.0 / 6);
  EXPECT_DOUBLE_EQ(m.scores(0).f1, 10.0 / 13);
  EXPECT_DOUBLE_EQ(m.scores(2).recall, 0);
  EXPECT_EQ(m.scores(1).support, 6);
  EXPECT_DOUBLE_EQ(m.accuracy(), 8.0 / 12);
  EXPECT_DOUBLE_EQ(m.macro_average().recall, (5.0 / 6 + 0.5) / 3);
  EXPECT_DOUBLE_EQ(m.weighted_average().recall, 8.0 / 12);
  const std::vector<std::string> names{"cat", "dog", "bird"};
  EXPECT_EQ(m.report(names),
            "              precision    recall        f1   support\n"
            "         cat     0.7143    0.8333    0.7692         6\n"
            "         dog     0.7500    0.5000    0.6000         6\n"
            "        bird     0.0000    0.0000    0.0000         0\n"
            "\n"
            "    accuracy                         0.6667        12\n"
            "   macro avg     0.4881    0.4444    0.4564        12\n"
            "weighted avg     0.7321    0.6667    0.6846        12\n");
  EXPECT_EQ(m.table(names),
            "true \\ predicted\n"
            "        cat    dog   bird\n"
            " cat      5      1      0\n"
            " dog      2      3      1\n"
            "bird      0      0      0\n");
}

TEST(Feed, MessagesOnFieldsThatDontFit) {
  Session s;
  Program p = regression_program(kSize, "0.5");
  p.functions[0].inputs[0].name = "pixels";  // not by name: the first field left over, in order
  auto model = *Model::create(p, s.registry);
  auto variables = *Variables::create(model);
  auto context = *Context::create(model, "train", variables);
  const auto f = Feed::create(*context, *s.data.train.set);
  ASSERT_TRUE(f.ok());
  EXPECT_EQ(f->field_of(0), 0);
  EXPECT_EQ(f->field_of(1), 1);
  p.functions[0].inputs.push_back({"weight", DType::kF32, {SizeExpr::symbol(0)}});
  model = *Model::create(p, s.registry);
  variables = *Variables::create(model);
  context = *Context::create(model, "train", variables);
  EXPECT_EQ(Feed::create(*context, *s.data.train.set).error().message,
            "the data has no field for the model's input 'weight'; its fields are 'image' f32[1, 12, 12], "
            "'label' i32");
  const auto wrong = open_training_data("shapes,n=20,size=28");
  EXPECT_EQ(train(s.model, s.variables, *wrong, {.epochs = 1}).error().message,
            "input 'image' must be f32[N, 1, 12, 12], got f32[20, 1, 28, 28]: dimension 2 must be 12");
}

TEST(Progress, Line) {
  EXPECT_EQ(ProgressBar::line("epoch 1/3", 42, 100, 12345.6, 22.2, "loss=0.1203"),
            "epoch 1/3  [########------------]  42%  loss=0.1203  12,345 samples/s  0:23 left");
  EXPECT_EQ(ProgressBar::line("eval", 0, 0, 5, 3725, ""),
            "eval  [--------------------]   0%  5 samples/s  1:02:05 left");
  EXPECT_EQ(group_digits(25557032), "25,557,032");
  EXPECT_EQ(group_digits(-1234), "-1,234");
  EXPECT_EQ(group_digits(999), "999");
}

TEST(Interrupt, FlagIsSetBySignal) {
  InterruptGuard guard;
  EXPECT_FALSE(InterruptGuard::flag());
  ::raise(SIGINT);
  EXPECT_TRUE(InterruptGuard::flag());
}

}  // namespace
}  // namespace graphc
