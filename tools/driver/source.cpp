#include "tools/driver/source.h"

#include <fmt/format.h>

#include <charconv>

#include "ir/parse.h"
#include "ir/print.h"
#include "runtime/base/file.h"
#include "runtime/base/sha256.h"

namespace graphc {
namespace {

// Sizes for core text, which has no other settings.
Status set_sizes(Module& m, const std::map<std::string, std::string>& set) {
  for (const auto& [name, text] : set) {
    int64_t value = 0;
    const auto r = std::from_chars(text.data(), text.data() + text.size(), value);
    if (r.ec != std::errc() || r.ptr != text.data() + text.size())
      return Error{ErrorCode::kUsage,
                   fmt::format("--set {}={}: core text has sizes only, which are numbers", name, text)};
    bool found = false;
    for (const auto& f : m.funcs)
      for (const SymbolDef& s : f->symbols)
        if (s.name == name) {
          found = true;
          GC_CHECK(bind_symbols(*f, {{name, value}}));
          break;
        }
    if (!found) return invalid(fmt::format("--set {}: no function has a size of this name", name));
  }
  return {};
}

Result<ModelSource> from_core(const std::string& path, const SourceOptions& options) {
  ModelSource out;
  GC_TRY(out.module, read_core(path));
  std::string names;
  for (const auto& f : out.module->funcs) {
    if (f->name.ends_with(".eval") || f->name.ends_with(".train")) continue;
    names += (names.empty() ? "" : ", ") + f->name;
    if (options.model.empty() ? out.model.empty() : f->name == options.model) out.model = f->name;
  }
  if (out.model.empty())
    return invalid(fmt::format("{}: there is no model{}; it has {}", path,
                               options.model.empty() ? "" : " " + options.model,
                               names.empty() ? "no functions" : names));
  if (const Func* train = out.module->find_func(out.model + ".train")) {
    const Func* infer = out.module->find_func(out.model);
    TrainSpec spec;
    for (size_t i = infer->body.args.size(); i < train->body.args.size(); ++i)
      spec.inputs.push_back(train->body.args[i]->name);
    for (const std::string& r : train->result_names)
      if (r.ends_with(".sum") && r != "loss.sum") spec.metrics.push_back(r.substr(0, r.size() - 4));
    out.train = std::move(spec);
  }
  GC_CHECK(set_sizes(*out.module, options.set));
  return out;
}

}  // namespace

Result<ModelSource> load_model(const std::string& path, const SourceOptions& options) {
  ModelSource out;
  GC_TRY(const std::string text, read_file(path, LoadLimits().max_graph_bytes));
  if (is_core_text(text)) {  // told apart by its first line
    GC_TRY(out, from_core(path, options));
  } else {
    const std::unique_ptr<GraphFile> file = GraphFile::from_text(path, text);
    std::optional<Elaborated> e;
    if (file->ok()) {
      ElaborateOptions elaborate;
      elaborate.model = options.model;
      elaborate.training = options.training;
      elaborate.set = options.set;
      e = file->elaborate(elaborate);
      if (e && e->train && options.training_if_any && !options.training) {
        elaborate.training = true;
        e = file->elaborate(elaborate);
      }
    }
    if (!e) return invalid(file->report());
    out.module = std::move(e->module);
    out.model = std::move(e->model);
    out.train = std::move(e->train);
    out.warnings = file->report();
  }
  if (options.training && (!out.train || !out.module->find_func(out.model + ".train")))
    return invalid(fmt::format("{}: the model {} has no training recipe; add 'train {} {{ .. }}' to the file",
                               path, out.model, out.model));
  const std::string core = print(*out.module, {.locations = false});
  out.core_hash = to_hex(sha256(core.data(), core.size()));
  return out;
}

}  // namespace graphc
