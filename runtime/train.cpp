#include "runtime/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "runtime/checkpoint.h"
#include "runtime/data/loader.h"
#include "runtime/event_log.h"
#include "runtime/feed.h"
#include "runtime/progress.h"

namespace graphc {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

bool is_set(const std::atomic<bool>* flag) { return flag && flag->load(std::memory_order_relaxed); }

constexpr uint64_t kMaxSnapshot = uint64_t{1} << 30;

// Parameters and state at one point of an epoch, to compute its steps again.
struct Snapshot {
  int64_t batch = 0;
  std::vector<std::vector<std::byte>> bytes;

  static Result<Snapshot> take(const Variables& v, int64_t batch) {
    Snapshot s{batch, {}};
    if (v.bytes() > kMaxSnapshot) return s;
    GC_TRY(const std::vector<SafetensorsTensor> saved, v.saved());
    for (const SafetensorsTensor& t : saved) s.bytes.emplace_back(t.data.begin(), t.data.end());
    return s;
  }
  Status restore(Variables& v) const {
    size_t k = 0;
    for (size_t i = 0; i < v.specs().size(); ++i) {
      if (v.specs()[i].kind == VariableRole::kConst) continue;
      GC_CHECK(v.set(i, TensorRef(v.specs()[i].dtype, v.specs()[i].shape, bytes[k].data())));
      ++k;
    }
    return {};
  }
};

class Trainer {
 public:
  Trainer(const std::shared_ptr<const Model>& model, const std::shared_ptr<Variables>& variables,
          const DataSources& data, const TrainOptions& options)
      : model_(model), variables_(variables), data_(data), o_(options) {}

  Result<TrainResult> run() {
    const Clock::time_point begin = Clock::now();
    if (o_.batch < 1) return invalid("the batch size must be at least 1");
    GC_TRY(context_, Context::create(model_, "train", variables_, o_.context));
    GC_TRY(Feed feed, Feed::create(*context_, *data_.train.set));
    feed_.emplace(std::move(feed));
    GC_TRY(metrics_, MetricReader::create(*context_));
    if (context_->output_index("loss.sum") < 0)
      return internal_error("the train function has no output 'loss.sum'");
    loader_.emplace(
        data_.train.set,
        LoaderOptions{
            .batch = o_.batch, .shuffle = true, .drop_last = data_.train.drop_last, .seed = o_.seed});
    if (loader_->batches() == 0)
      return invalid("with drop_last the data has no whole batch; use a smaller --batch");
    GC_CHECK(open_checkpoints());
    if (!o_.log_dir.empty()) {
      GC_TRY(log_, EventLog::create(o_.log_dir));
    }

    while (position_.epoch < o_.epochs && !steps_done()) {
      GC_TRY(const bool whole, epoch());
      if (whole && !is_set(o_.interrupted)) continue;
      if (whole) {  // interrupted while validating: the epoch is complete and saved
        result_.interrupted = true;
        if (o_.print) o_.print(stopped_line());
        break;
      }
      GC_CHECK(save("last"));
      if (log_) GC_CHECK(log_->flush());
      result_.interrupted = is_set(o_.interrupted);
      if (o_.print) o_.print(stopped_line());
      break;
    }
    result_.epochs = position_.epoch;
    result_.steps = position_.step;
    result_.seconds = seconds_since(begin);
    return result_;
  }

 private:
  bool steps_done() const { return o_.max_steps > 0 && position_.step >= o_.max_steps; }
  std::string path(const std::string& which) const {
    return o_.checkpoint_dir + "/" + which + ".safetensors";
  }

  Status open_checkpoints() {
    position_.sums = metrics_.zeros();
    if (o_.checkpoint_dir.empty()) {
      if (o_.resume) return Error{ErrorCode::kUsage, "--resume needs --checkpoint DIR"};
      return {};
    }
    GC_CHECK(make_directories(o_.checkpoint_dir));
    if (!o_.resume) return {};
    GC_TRY(const CheckpointInfo info,
           load_checkpoint(path("last"), variables_.get(), model_->program().meta.core_hash));
    if (info.seed != o_.seed || info.batch_size != o_.batch || info.data != o_.data_spec)
      return invalid(fmt::format(
          "'{}' was written with --seed {} --batch {} --data {}; resume with the same (now: --seed {} "
          "--batch {} --data {})",
          path("last"), info.seed, info.batch_size, info.data, o_.seed, o_.batch, o_.data_spec));
    position_ = info.position;
    if (position_.sums.size() != metrics_.zeros().size())
      return invalid("the checkpoint's metrics don't fit the model's");
    if (o_.print && (position_.epoch >= o_.epochs || steps_done()))
      o_.print(fmt::format("'{}' has {} epochs and {} steps already: nothing is left to do", path("last"),
                           position_.epoch, position_.step));
    else if (o_.print)
      o_.print(fmt::format("resumed at epoch {}/{}, batch {} of {}, step {}", position_.epoch + 1, o_.epochs,
                           position_.batch, loader_->batches(), position_.step));
    return {};
  }

  Status save(const std::string& which) {
    if (o_.checkpoint_dir.empty()) return {};
    CheckpointInfo info;
    info.position = position_;
    info.seed = o_.seed;
    info.batch_size = o_.batch;
    info.data = o_.data_spec;
    const ProgramMeta& meta = model_->program().meta;
    info.core_hash = meta.core_hash;
    info.provenance = meta.provenance;
    info.provenance["graphc_version"] = meta.graphc_version;
    info.provenance["target"] = meta.target;
    info.provenance["flags"] = meta.flags;
    for (const auto& [k, v] : data_.train.preprocessing) info.provenance["preprocessing." + k] = v;
    std::string classes;
    for (const std::string& c : data_.train.set->classes()) classes += (classes.empty() ? "" : ",") + c;
    if (!classes.empty()) info.provenance["classes"] = classes;
    return save_checkpoint(path(which), *variables_, info);
  }

  // One epoch from position_ on. False: stopped before its end (interrupted, or enough steps).
  Result<bool> epoch() {
    const Clock::time_point begin = Clock::now();
    const std::string label = fmt::format("epoch {}/{}", position_.epoch + 1, o_.epochs);
    loader_->start(position_.epoch, position_.batch);
    GC_TRY(const Snapshot snapshot, Snapshot::take(*variables_, position_.batch));
    ProgressBar bar(o_.interactive, label, loader_->batches(), position_.batch);
    int64_t samples = 0;
    while (const Batch* b = loader_->next()) {
      GC_CHECK(feed_->set(*b));
      GC_CHECK(context_->run());
      if (!metrics_.add(&position_.sums)) {
        bar.clear();
        return diverged(snapshot, b->index);
      }
      ++position_.batch;
      ++position_.step;
      samples += b->size;
      if (o_.on_step) o_.on_step(position_.step, step_loss());
      if (log_) {
        const EventLog::Scalar loss("loss/step", step_loss());
        log_->add(position_.step, {&loss, 1});
      }
      bar.update(position_.batch, samples, o_.interactive ? format_metrics(position_.sums) : std::string());
      const bool last = position_.batch == loader_->batches();
      if (is_set(o_.interrupted) || (steps_done() && !last)) return false;
      if (o_.checkpoint_every > 0 && position_.step % o_.checkpoint_every == 0 && !last)
        GC_CHECK(save("last"));
    }
    bar.clear();
    GC_CHECK(loader_->status());
    const double train_seconds = seconds_since(begin);
    result_.train = position_.sums;
    std::string line = label + "  " + format_metrics(result_.train);
    double loss = 0;
    for (const MetricSum& m : result_.train)
      if (m.name == "loss") loss = m.value();
    if (data_.val.set) {
      EvalOptions eval{.batch = o_.batch,
                       .interactive = o_.interactive,
                       .confusion = false,
                       .interrupted = nullptr,
                       .context = o_.context};
      eval.context.max_memory_bytes -= context_->memory_bytes();
      GC_TRY(const EvalResult v, evaluate(model_, variables_, data_.val, eval));
      result_.val = v.metrics;
      line += "  " + format_metrics(result_.val, "val_");
      for (const MetricSum& m : result_.val)
        if (m.name == "loss") loss = m.value();
    }
    GC_CHECK(log_epoch(static_cast<double>(samples) / std::max(1e-9, train_seconds)));
    ++position_.epoch;
    position_.batch = 0;
    position_.sums = metrics_.zeros();
    const bool best = !position_.has_best || loss < position_.best;
    if (best) position_.best = loss, position_.has_best = true;
    if (best) GC_CHECK(save("best"));
    GC_CHECK(save("last"));
    if (o_.print) o_.print(fmt::format("{}  {:.1f} s", line, seconds_since(begin)));
    return true;
  }

  Status log_epoch(double samples_per_second) {
    if (!log_) return {};
    std::vector<EventLog::Scalar> scalars{{"samples_per_second", samples_per_second}};
    for (const MetricSum& m : result_.train) scalars.emplace_back(m.name + "/train", m.value());
    if (data_.val.set)
      for (const MetricSum& m : result_.val) scalars.emplace_back(m.name + "/val", m.value());
    log_->add(position_.step, scalars);
    return log_->flush();
  }

  double step_loss() const {
    const TensorRef s = context_->output(static_cast<size_t>(context_->output_index("loss.sum")));
    const int64_t c = context_->output_index("loss.count");
    const double count = c < 0 ? 1 : load_as_double(context_->output(c).dtype, context_->output(c).data, 0);
    return load_as_double(s.dtype, s.data, 0) / (count != 0 ? count : 1);
  }

  std::string stopped_line() const {
    std::string line =
        fmt::format("{} in epoch {}/{} after step {}  {}", is_set(o_.interrupted) ? "interrupted" : "stopped",
                    position_.epoch + 1, o_.epochs, position_.step, format_metrics(position_.sums));
    if (!o_.checkpoint_dir.empty()) {
      line += fmt::format("\nsaved {}", path("last"));
      if (!is_set(o_.interrupted))
        line += "; continue with more --steps and --resume";
      else if (!o_.resume_command.empty())
        line += fmt::format("; continue with: {}", o_.resume_command);
    } else {
      line += "\nnothing was saved: there is no --checkpoint DIR";
    }
    return line;
  }

  // Steps are deterministic: from the snapshot on the epoch is computed again up to the step that failed; the
  // last two steps look at every result.
  Error diverged(const Snapshot& snapshot, int64_t bad_batch) {
    std::string text = fmt::format("the loss is {} in epoch {}, batch {} (step {})", step_loss(),
                                   position_.epoch + 1, bad_batch + 1, position_.step + 1);
    if (!snapshot.bytes.empty() && snapshot.restore(*variables_).ok()) {
      loader_->start(position_.epoch, snapshot.batch);
      while (const Batch* b = loader_->next()) {
        if (is_set(o_.interrupted) || !feed_->set(*b).ok()) break;
        if (b->index + 1 < bad_batch) {
          if (!context_->run().ok()) break;
          continue;
        }
        const auto found = context_->run_checked(/*infinite_too=*/b->index == bad_batch);
        if (!found.ok()) break;
        if (!found->empty()) {
          text += fmt::format(": {}{}", *found, b->index == bad_batch ? "" : ", one step before");
          break;
        }
        if (b->index == bad_batch) break;
      }
    }
    return invalid(text + "; a smaller learning rate or clipping may help");
  }

  const std::shared_ptr<const Model>& model_;
  const std::shared_ptr<Variables>& variables_;
  const DataSources& data_;
  const TrainOptions& o_;
  std::unique_ptr<Context> context_;
  std::optional<Feed> feed_;
  std::optional<BatchLoader> loader_;
  std::optional<EventLog> log_;
  MetricReader metrics_;
  TrainPosition position_;
  TrainResult result_;
};

// The integer input [N] and the float output [N, C] of a classifier.
struct ClassifierPorts {
  int64_t label = -1, scores = -1;
};
ClassifierPorts classifier_ports(const Function& f) {
  ClassifierPorts p;
  for (size_t i = 0; i < f.inputs.size(); ++i)
    if (is_int(f.inputs[i].dtype) && f.inputs[i].shape.size() == 1) p.label = static_cast<int64_t>(i);
  for (size_t i = 0; i < f.outputs.size() && p.scores < 0; ++i)
    if (is_float(f.outputs[i].dtype) && f.outputs[i].shape.size() == 2) p.scores = static_cast<int64_t>(i);
  if (p.label < 0 || p.scores < 0 || !(f.inputs[p.label].shape[0] == f.outputs[p.scores].shape[0])) return {};
  return p;
}

}  // namespace

Result<TrainResult> train(const std::shared_ptr<const Model>& model,
                          const std::shared_ptr<Variables>& variables, const DataSources& data,
                          const TrainOptions& options) {
  return Trainer(model, variables, data, options).run();
}

Result<EvalResult> evaluate(const std::shared_ptr<const Model>& model,
                            const std::shared_ptr<Variables>& variables, const DataSource& data,
                            const EvalOptions& options) {
  const Clock::time_point begin = Clock::now();
  GC_TRY(const std::unique_ptr<Context> context,
         Context::create(model, "eval", variables, options.context));
  GC_TRY(Feed feed, Feed::create(*context, *data.set));
  GC_TRY(const MetricReader metrics, MetricReader::create(*context));
  EvalResult result;
  result.metrics = metrics.zeros();
  const ClassifierPorts ports = options.confusion ? classifier_ports(context->function()) : ClassifierPorts{};
  BatchLoader loader(data.set, {.batch = std::max<int64_t>(1, options.batch), .drop_last = data.drop_last});
  loader.start(0);
  ProgressBar bar(options.interactive, "eval", loader.batches());
  while (const Batch* b = loader.next()) {
    if (is_set(options.interrupted)) return Error{ErrorCode::kCancelled, "interrupted"};
    GC_CHECK(feed.set(*b));
    GC_CHECK(context->run());
    if (!metrics.add(&result.metrics)) {
      for (MetricSum& m : result.metrics)
        if (m.name == "loss") m.sum = NAN, m.count = 1;
    }
    result.samples += b->size;
    if (ports.label >= 0) {
      const TensorRef scores = context->output(static_cast<size_t>(ports.scores));
      const int64_t classes = scores.shape[1];
      if (!result.confusion && classes > 0 && classes <= 4096) result.confusion.emplace(classes);
      const auto field = static_cast<size_t>(feed.field_of(static_cast<size_t>(ports.label)));
      const DType label_type = data.set->fields()[field].dtype;
      for (int64_t i = 0; result.confusion && i < b->size; ++i) {
        const int64_t truth = load_as_int(label_type, b->fields[field].data(), static_cast<size_t>(i));
        if (truth < 0 || truth >= classes) continue;  // ignored samples (ignore_index)
        int64_t arg = 0;
        double top = load_as_double(scores.dtype, scores.data, static_cast<size_t>(i * classes));
        for (int64_t c = 1; c < classes; ++c) {
          const double v = load_as_double(scores.dtype, scores.data, static_cast<size_t>(i * classes + c));
          if (v > top || (std::isnan(v) && !std::isnan(top))) top = v, arg = c;
        }
        result.confusion->add(truth, arg);
      }
    }
    bar.update(b->index + 1, result.samples,
               options.interactive ? format_metrics(result.metrics) : std::string());
  }
  bar.clear();
  GC_CHECK(loader.status());
  result.seconds = seconds_since(begin);
  return result;
}

}  // namespace graphc
