// graphc train
#include <fmt/format.h>

#include "runtime/progress.h"
#include "runtime/train.h"
#include "tools/cli/session.h"

namespace graphc::cli {
namespace {

struct Options {
  ModelArgs model;
  std::string data, val, checkpoint, log;
  int64_t epochs = 10, batch = 64, steps = 0, checkpoint_every = 0;
  bool resume = false;
  std::function<bool()> epochs_given, batch_given;
};

// The command line decides, then the recipe's `set epochs = 3`, then the default.
int64_t setting(const Session& s, const char* name, int64_t value, bool given) {
  const auto it = s.settings.find(name);
  return given || it == s.settings.end() ? value : it->second;
}

Status run(const Options& o, const Opener& opener) {
  if (o.data.empty())
    return Error{ErrorCode::kUsage, "train needs --data SPEC, for instance idx:DIR or shapes:4096"};
  if (o.resume && !o.model.weights.empty())
    return Error{ErrorCode::kUsage, "--resume continues with the checkpoint's weights; leave out --weights"};
  GC_TRY(DataSources data, open_training_data(o.data));
  if (!o.val.empty()) {
    GC_TRY(DataSources val, open_training_data(o.val));
    data.val = std::move(val.train);
  }
  GC_TRY(const Session s,
         opener.open(o.model, {.infer = false, .eval = data.val.set != nullptr, .train = true}));

  const InterruptGuard guard;
  TrainOptions t;
  t.epochs = setting(s, "epochs", o.epochs, o.epochs_given());
  t.batch = setting(s, "batch", o.batch, o.batch_given());
  t.max_steps = o.steps;
  t.seed = o.model.seed;
  t.checkpoint_dir = o.checkpoint;
  t.checkpoint_every = o.checkpoint_every;
  t.resume = o.resume;
  t.data_spec = o.data;
  t.log_dir = o.log;
  t.interactive = on_terminal();
  t.print = [](std::string_view line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
  };
  t.interrupted = &InterruptGuard::flag();
  t.resume_command = command_line() + (o.resume ? "" : " --resume");
  t.context = s.context;
  GC_TRY(const TrainResult r, train(s.model, s.variables, data, t));
  if (r.interrupted) return Error{ErrorCode::kCancelled, ""};  // the trainer has said so
  if (!o.checkpoint.empty()) fmt::print("weights: {}/last.safetensors\n", o.checkpoint);
  return {};
}

}  // namespace

void add_train(CommandLine& program, const Opener& opener) {
  auto o = std::make_shared<Options>();
  Command c = program.command("train", "trains a model by the recipe in its file");
  opener.options(c, o->model);
  c.option("--data", o->data, "what to train on: idx:DIR, shapes:4096", "SPEC")
      .option("--val", o->val, "what to validate on after each epoch; idx:DIR has its own (t10k-*)", "SPEC")
      .option("--epochs", o->epochs, "passes over the data", 1)
      .option("--batch", o->batch, "samples a step", 1, int64_t{1} << 30)
      .option("--steps", o->steps, "stop after so many steps in all; 0: no limit")
      .option("--checkpoint", o->checkpoint, "write last.safetensors and best.safetensors here", "DIR")
      .option("--checkpoint-every", o->checkpoint_every, "also after so many steps; 0: after epochs only")
      .option("--log", o->log, "write event files for TensorBoard here", "DIR")
      .flag("--resume", o->resume, "continue from DIR/last.safetensors")
      .example("train " + opener.model_file("shapes") +
               " --data shapes:4096 --epochs 3 --checkpoint build/shapes")
      .action([o, opener] { return run(*o, opener); });
  o->epochs_given = c.given("--epochs");
  o->batch_given = c.given("--batch");
}

}  // namespace graphc::cli
