// graphc eval
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "runtime/progress.h"
#include "runtime/train.h"
#include "tools/cli/session.h"

namespace graphc::cli {
namespace {

struct Options {
  ModelArgs model;
  std::string data;
  int64_t batch = 64;
  bool json = false;
};

void print_json(const EvalResult& r, const std::vector<std::string>& classes) {
  nlohmann::ordered_json j;
  j["samples"] = r.samples;
  j["seconds"] = r.seconds;
  for (const MetricSum& m : r.metrics) j["metrics"][m.name] = m.value();
  if (r.confusion) {
    const ConfusionMatrix& c = *r.confusion;
    j["accuracy"] = c.accuracy();
    for (int64_t i = 0; i < c.classes(); ++i) {
      const ConfusionMatrix::Scores s = c.scores(i);
      nlohmann::ordered_json one;
      one["class"] =
          static_cast<size_t>(i) < classes.size() ? classes[static_cast<size_t>(i)] : fmt::format("{}", i);
      one["precision"] = s.precision;
      one["recall"] = s.recall;
      one["f1"] = s.f1;
      one["support"] = s.support;
      for (int64_t k = 0; k < c.classes(); ++k) one["predicted"].push_back(c.at(i, k));
      j["classes"].push_back(std::move(one));
    }
  }
  fmt::print("{}\n", j.dump(2));
}

Status run(const Options& o, const Opener& opener) {
  if (o.data.empty())
    return Error{ErrorCode::kUsage, "eval needs --data SPEC, for instance idx:DIR or shapes:1024"};
  if (o.model.weights.empty() && !o.model.file.ends_with(".gcx"))
    return Error{ErrorCode::kUsage, "eval needs --weights FILE, for instance the checkpoint of graphc train"};
  GC_TRY(const DataSource data, open_eval_data(o.data));
  GC_TRY(const Session s, opener.open(o.model, {.infer = false, .eval = true, .train = false}));
  const InterruptGuard guard;
  EvalOptions e;
  e.batch = o.batch;
  e.interactive = on_terminal();
  e.interrupted = &InterruptGuard::flag();
  e.context = s.context;
  GC_TRY(const EvalResult r, evaluate(s.model, s.variables, data, e));
  const std::vector<std::string>& classes = data.set->classes();
  if (o.json) {
    print_json(r, classes);
    return {};
  }
  fmt::print("{} samples  {}  {:.1f} s\n", group_digits(r.samples), format_metrics(r.metrics), r.seconds);
  if (r.confusion) fmt::print("\n{}\n{}", r.confusion->report(classes), r.confusion->table(classes));
  return {};
}

}  // namespace

void add_eval(CommandLine& program, const Opener& opener) {
  auto o = std::make_shared<Options>();
  Command c = program.command("eval", "metrics of a trained model; for classifiers a report");
  opener.options(c, o->model);
  c.option("--data", o->data, "what to evaluate on: idx:DIR, shapes:1024", "SPEC")
      .option("--batch", o->batch, "samples at a time", 1, int64_t{1} << 30)
      .flag("--json", o->json, "print an object")
      .example("eval " + opener.model_file("shapes") +
               " --data shapes:1024,seed=2 --weights "
               "build/shapes/last.safetensors")
      .action([o, opener] { return run(*o, opener); });
}

}  // namespace graphc::cli
