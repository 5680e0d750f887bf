// graphc bench
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "backends/cpu/exec/features.h"
#include "tools/cli/feed_args.h"
#include "tools/cli/peak.h"

namespace graphc::cli {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

struct Options {
  ModelArgs model;
  std::vector<std::string> inputs;
  int repeat = 0, warmup = 3, top = 10;
  bool json = false, profile = false, train = false;
};

double percentile(const std::vector<double>& sorted, double p) {
  return sorted[static_cast<size_t>(p * static_cast<double>(sorted.size() - 1) + 0.5)];
}

void print_profile(const Context& context, int top) {
  std::vector<StepProfile> steps = context.profile();
  std::sort(steps.begin(), steps.end(),
            [](const StepProfile& a, const StepProfile& b) { return a.nanoseconds > b.nanoseconds; });
  double total = 0;
  for (const StepProfile& s : steps) total += static_cast<double>(s.nanoseconds);
  fmt::print("\n{:>10} {:>6}  step\n", "ms", "share");
  for (size_t i = 0; i < steps.size() && i < static_cast<size_t>(top); ++i)
    fmt::print("{:>10.4f} {:>5.1f}%  {}\n",
               static_cast<double>(steps[i].nanoseconds) * 1e-6 /
                   static_cast<double>(std::max<uint64_t>(1, steps[i].runs)),
               100 * static_cast<double>(steps[i].nanoseconds) / total, steps[i].label);
}

Status run(const Options& o, const Opener& opener) {
  const FunctionSet functions{.infer = !o.train, .eval = false, .train = o.train};
  const bool text = !o.model.file.ends_with(".gcx");
  GC_TRY(const Session s, opener.open(o.model, functions));
  double warm_compile = 0;
  if (text) {  // what has been compiled once in this process: no libraries to load any more
    GC_TRY(const Session again, opener.open(o.model, functions));
    warm_compile = again.compile_seconds;
  }
  ContextOptions options = s.context;
  options.profile = o.profile;
  GC_TRY(const std::unique_ptr<Context> context,
         Context::create(s.model, o.train ? "train" : "infer", s.variables, options));
  GC_CHECK(set_inputs(*context, s, o.inputs, o.model.seed));
  for (int i = 0; i < std::max(1, o.warmup); ++i) GC_CHECK(context->run());
  std::vector<double> ms;
  const Clock::time_point begin = Clock::now();
  while (o.repeat > 0 ? static_cast<int>(ms.size()) < o.repeat : seconds_since(begin) < 1 || ms.size() < 5) {
    const Clock::time_point t = Clock::now();
    GC_CHECK(context->run());
    ms.push_back(1000 * seconds_since(t));
  }
  std::sort(ms.begin(), ms.end());
  const double median = percentile(ms, 0.5), p10 = percentile(ms, 0.1), p90 = percentile(ms, 0.9);
  const Function& f = context->function();
  const std::span<const int64_t> symbols = context->symbols();
  GC_TRY(const int64_t flops, f.flops.eval(symbols));
  GC_TRY(const int64_t bytes, f.bytes.eval(symbols));
  // A card has a peak of its own, which nobody has measured here.
  const DeviceInfo* card = s.model->device_apart();
  const Peak peak = card ? Peak{} : measure_peak(*s.pool);
  const uint64_t memory = context->memory_bytes() + s.variables->bytes();
  const double rate = static_cast<double>(flops) / (median * 1e-3),
               traffic = static_cast<double>(bytes) / (median * 1e-3);
  const std::string machine =
      card ? fmt::format("{} ({})", card->name, card->arch)
           : fmt::format("{} ({})", host_cpu_name(), host_features().avx512() ? "AVX-512" : "AVX2");
  if (o.json) {
    nlohmann::ordered_json j;
    j["median_ms"] = median;
    j["p10_ms"] = p10;
    j["p90_ms"] = p90;
    j["runs"] = ms.size();
    j["threads"] = s.pool->threads();
    j["compile_cold_s"] = s.compile_seconds;
    j["compile_warm_s"] = warm_compile;
    j["flops"] = flops;
    j["bytes"] = bytes;
    j["flops_per_second"] = rate;
    j["bytes_per_second"] = traffic;
    if (!card) {
      j["peak_flops_per_second"] = peak.flops;
      j["share_of_peak"] = rate / peak.flops;
    }
    j["peak_memory_bytes"] = memory;
    j["machine"] = machine;
    fmt::print("{}\n", j.dump(2));
    return {};
  }
  fmt::print("median {:.4g} ms  (p10 {:.4g}, p90 {:.4g}; {} runs, {} threads)\n", median, p10, p90, ms.size(),
             s.pool->threads());
  fmt::print("{:.4g} GFLOP, {:.4g} GFLOP/s, ", static_cast<double>(flops) * 1e-9, rate * 1e-9);
  if (!card) fmt::print("{:.0f} % of this machine's f32 peak of {:.4g}; ", 100 * rate / peak.flops, peak.flops * 1e-9);
  fmt::print("{:.4g} GB/s between steps\n", traffic * 1e-9);
  fmt::print("memory {}", bytes_text(static_cast<double>(memory)));
  if (text) fmt::print(", compiled in {:.3f} s (again: {:.3f} s)", s.compile_seconds, warm_compile);
  fmt::print("\n{}\n", machine);
  if (o.profile) print_profile(*context, o.top);
  return {};
}

}  // namespace

void add_bench(CommandLine& program, const Opener& opener) {
  auto o = std::make_shared<Options>();
  Command c = program.command(
      "bench", "times a model: median, rates, share of the machine's peak, memory, compile time");
  opener.options(c, o->model);
  add_input_option(c, o->inputs);
  c.option("--repeat", o->repeat, "runs; 0: as many as fit in a second")
      .option("--warmup", o->warmup, "runs before")
      .flag("--train", o->train, "a training step instead of inference")
      .flag("--profile", o->profile, "the slowest steps as well")
      .option("--top", o->top, "how many steps --profile shows", 1)
      .flag("--json", o->json, "print an object")
      .example("bench " + opener.model_file("resnet50") + " --set N=1 --threads 2")
      .action([o, opener] { return run(*o, opener); });
}

}  // namespace graphc::cli
