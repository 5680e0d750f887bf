// The training loop and evaluation over a program's "train" and "eval" functions (conventions: program.h).
//
//   GC_TRY(DataSources data, open_training_data("shapes"));
//   GC_TRY(TrainResult r, train(model, variables, data, {.epochs = 3}));
//   // epoch 1/3  loss=0.4121 acc=0.8640  val_loss=0.1210 val_acc=0.9650  2.4 s
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/dataset.h"
#include "runtime/executor.h"
#include "runtime/metrics.h"

namespace graphc {

struct TrainOptions {
  int64_t epochs = 10;
  int64_t max_steps = 0;  // stop after so many steps in all; 0: no such limit
  int64_t batch = 64;
  uint64_t seed = 0;  // of the data order; that of initial values and random ops is the Variables' business
  std::string checkpoint_dir;    // "": none are written. last.safetensors after every epoch, best.safetensors
                                 // of the best
  int64_t checkpoint_every = 0;  // also after so many steps
  bool resume = false;           // continue from checkpoint_dir/last.safetensors
  std::string data_spec;         // for the checkpoint
  std::string log_dir;       // "": none; event files for TensorBoard: loss of every step, metrics per epoch
  bool interactive = false;  // a progress bar on stderr
  std::function<void(std::string_view line)> print;  // a line an epoch, without newline; null: silent
  const std::atomic<bool>* interrupted = nullptr;    // set: finish the step, save, return
  std::string resume_command;                        // what to type, for the message after an interruption
  ContextOptions context;  // memory, synchronisation
  // After every step: total steps so far, loss of the step. For logs and tests.
  std::function<void(int64_t step, double loss)> on_step;
};

struct TrainResult {
  bool interrupted = false;
  int64_t epochs = 0, steps = 0;      // in all, those before a resume included
  std::vector<MetricSum> train, val;  // of the last whole epoch
  double seconds = 0;
};

// A NaN or infinite loss is an error that names the step and, found by computing the epoch's last steps
// again, the first operation whose result wasn't finite.
Result<TrainResult> train(const std::shared_ptr<const Model>& model,
                          const std::shared_ptr<Variables>& variables, const DataSources& data,
                          const TrainOptions& options);

struct EvalOptions {
  int64_t batch = 64;
  bool interactive = false;
  bool confusion = true;  // count classes if the model is a classifier
  const std::atomic<bool>* interrupted = nullptr;
  ContextOptions context;  // memory, synchronisation
};

struct EvalResult {
  std::vector<MetricSum> metrics;
  // Of a classifier: an integer input [N] beside an output of floats [N, C].
  std::optional<ConfusionMatrix> confusion;
  int64_t samples = 0;
  double seconds = 0;
};

Result<EvalResult> evaluate(const std::shared_ptr<const Model>& model,
                            const std::shared_ptr<Variables>& variables, const DataSource& data,
                            const EvalOptions& options = {});

}  // namespace graphc
