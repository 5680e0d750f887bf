// graphc run
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/base/npy.h"
#include "tools/cli/feed_args.h"

namespace graphc::cli {
namespace {

struct Options {
  ModelArgs model;
  std::vector<std::string> inputs, outputs;
};

// "logits: f32[1, 10] = [0.1, -0.2, ..]  min -0.31  mean 0.02  max 0.27"
void print_tensor(const std::string& name, const TensorRef& t) {
  constexpr int64_t kShown = 10;
  std::string values;
  const int64_t n = t.numel();
  double lo = INFINITY, hi = -INFINITY, sum = 0;
  int64_t bad = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double v = load_as_double(t.dtype, t.data, static_cast<size_t>(i));
    if (i < kShown) values += fmt::format("{}{:.6g}", i ? ", " : "", v);
    if (!std::isfinite(v)) {
      ++bad;
      continue;
    }
    lo = std::min(lo, v);
    hi = std::max(hi, v);
    sum += v;
  }
  if (n > kShown) values += ", ..";
  if (!t.shape.empty()) values = "[" + values + "]";
  fmt::print("{}: {} = {}", name, type_string(t.dtype, t.shape), values);
  if (n > kShown && n > bad)
    fmt::print("  min {:.6g}  mean {:.6g}  max {:.6g}", lo, sum / static_cast<double>(n - bad), hi);
  if (bad > 0) fmt::print("  {} not finite", bad);
  fmt::print("\n");
}

Status write(const std::string& path, const TensorRef& t) {
  const Bytes bytes{static_cast<const std::byte*>(t.data), t.bytes()};
  return atomic_write(path, format_npy(t.dtype, t.shape, bytes));
}

Status run(const Options& o, const Opener& opener) {
  GC_TRY(const Session s, opener.open(o.model, {.infer = true}));
  GC_TRY(const std::unique_ptr<Context> context,
         Context::create(s.model, "infer", s.variables, s.context));
  const Function& f = context->function();
  std::vector<std::string> names;
  for (const TensorSpec& t : f.outputs) names.push_back(t.name);
  // checked before the work
  std::vector<std::pair<size_t, std::string>> files;
  for (const std::string& text : o.outputs) {
    const size_t eq = text.find('=');
    if (eq == std::string::npos) {
      for (size_t i = 0; i < names.size(); ++i) files.emplace_back(i, text + "/" + names[i] + ".npy");
      GC_CHECK(make_directories(text));
      continue;
    }
    const auto at = std::find(names.begin(), names.end(), text.substr(0, eq));
    if (at == names.end())
      return invalid(fmt::format("--output {}: the model has no output of this name; it has: {}",
                                 text.substr(0, eq), fmt::join(names, ", ")));
    files.emplace_back(at - names.begin(), text.substr(eq + 1));
  }
  GC_CHECK(set_inputs(*context, s, o.inputs, o.model.seed));
  GC_CHECK(context->run());
  if (files.empty())
    for (size_t i = 0; i < names.size(); ++i) print_tensor(names[i], context->output(i));
  for (const auto& [i, path] : files) GC_CHECK(write(path, context->output(i)));
  return {};
}

}  // namespace

void add_run(CommandLine& program, const Opener& opener) {
  auto o = std::make_shared<Options>();
  Command c =
      program.command("run", "runs a model or an artefact once; prints its outputs or writes them as .npy");
  opener.options(c, o->model);
  add_input_option(c, o->inputs);
  c.option("--output", o->outputs, "a directory for <output>.npy, or NAME=FILE.npy", "DIR|NAME=FILE")
      .example("run " + opener.model_file("mlp") + " --set N=2 --input random --output out")
      .action([o, opener] { return run(*o, opener); });
}

}  // namespace graphc::cli
