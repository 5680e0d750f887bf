#include "frontend/frontend.h"

#include <fmt/format.h>

#include "frontend/elaborate.h"
#include "frontend/parser.h"
#include "runtime/base/file.h"

namespace graphc {

struct GraphFile::Impl {
  std::unique_ptr<Units> units;
  std::vector<ModelInfo> models;
  bool linted = false;

  const syntax::TrainDef* train_of(std::string_view model) const {
    for (const syntax::TrainDef& t : units->root().ast->trains)
      if (t.model == model) return &t;
    return nullptr;
  }
  const syntax::BlockDef* model(std::string_view name) const {
    for (const syntax::BlockDef& b : units->root().ast->blocks)
      if (b.is_model && b.name == name) return &b;
    return nullptr;
  }

  void index() {
    Diagnostics& diags = *units->diags;
    for (const syntax::BlockDef& b : units->root().ast->blocks)
      if (b.is_model) models.push_back({b.name, train_of(b.name) != nullptr});
    std::map<std::string_view, Pos> seen;
    for (const syntax::TrainDef& t : units->root().ast->trains) {
      if (!model(t.model)) {
        NearestName near(t.model);
        for (const ModelInfo& m : models) near.offer(m.name);
        diags.error(t.pos, fmt::format("there is no model {} to train{}", quoted(t.model), near.hint()));
      }
      auto [it, fresh] = seen.emplace(t.model, t.pos);
      if (!fresh)
        diags.error(t.pos, fmt::format("{} has two train sections", quoted(t.model)),
                    {{"the first", it->second}});
    }
  }

  // The model to elaborate, or null and a message.
  const syntax::BlockDef* choose(const std::string& wanted) {
    Diagnostics& diags = *units->diags;
    const Pos start{units->root().ast->file, 0};
    std::string names;
    std::vector<std::string_view> trained;
    for (const ModelInfo& m : models) {
      names += (names.empty() ? "" : ", ") + m.name;
      if (m.has_train) trained.push_back(m.name);
    }
    if (models.empty()) {
      diags.error(start, "the file defines no model; write 'model Net[N](x: f32[N, 4]) -> f32[N, 2] { .. }'");
      return nullptr;
    }
    if (!wanted.empty()) {
      const syntax::BlockDef* m = model(wanted);
      NearestName near(wanted);
      for (const ModelInfo& x : models) near.offer(x.name);
      if (!m)
        diags.error(start,
                    fmt::format("the file has no model {}{}; it has {}", quoted(wanted), near.hint(), names));
      return m;
    }
    if (models.size() == 1) return model(models[0].name);
    if (trained.size() == 1) return model(trained[0]);
    diags.error(start, fmt::format("the file has several models ({}); choose one with --model NAME", names));
    return nullptr;
  }
};

GraphFile::GraphFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GraphFile::~GraphFile() = default;

std::unique_ptr<GraphFile> GraphFile::from_text(std::string name, std::string text) {
  auto impl = std::make_unique<Impl>();
  impl->units = load_units(name, std::move(text));
  impl->index();
  return std::unique_ptr<GraphFile>(new GraphFile(std::move(impl)));
}

std::unique_ptr<GraphFile> GraphFile::load(const std::string& path) {
  auto text = read_file(path, syntax::kMaxSourceBytes);
  if (text.ok()) return from_text(path, *std::move(text));
  auto impl = std::make_unique<Impl>();
  impl->units = std::make_unique<Units>();
  impl->units->diags = std::make_unique<Diagnostics>(impl->units->sources);
  impl->units->diags->error({}, text.error().message);
  return std::unique_ptr<GraphFile>(new GraphFile(std::move(impl)));
}

bool GraphFile::ok() const { return impl_->units->diags->ok(); }
int GraphFile::errors() const { return impl_->units->diags->errors(); }
int GraphFile::warnings() const { return impl_->units->diags->warnings(); }
std::string GraphFile::report() const { return impl_->units->diags->render(); }
const std::vector<ModelInfo>& GraphFile::models() const { return impl_->models; }

std::optional<Elaborated> GraphFile::elaborate(const ElaborateOptions& options) {
  Diagnostics& diags = *impl_->units->diags;
  if (!diags.ok()) return std::nullopt;
  const syntax::BlockDef* model = impl_->choose(options.model);
  if (!model) return std::nullopt;
  if (!impl_->linted) {
    impl_->linted = true;
    for (const auto& unit : impl_->units->files)
      if (!unit->is_std) warn_unused(*unit, diags);
  }
  const syntax::TrainDef* train = impl_->train_of(model->name);
  Elaborated out;
  out.module = std::make_unique<Module>();
  out.model = model->name;
  Elaborator elaborator(*impl_->units, *out.module);
  for (const auto& [name, text] : options.set) {
    auto v = elaborator.parse_override(name, text);
    if (!v) return std::nullopt;
    elaborator.overrides.insert_or_assign(name, *std::move(v));
  }
  elaborator.build(*model, train, Elaborator::Mode::kInference);
  if (train) {
    out.train.emplace();
    elaborator.read_train(*train, *out.train);
    if (diags.ok() && options.training) {
      elaborator.build(*model, train, Elaborator::Mode::kEval);
      if (diags.ok()) elaborator.build(*model, train, Elaborator::Mode::kTrain);
    }
  } else if (options.training && diags.ok()) {
    diags.error(model->pos,
                fmt::format("{} has no train section; write 'train {} {{ .. }}' with a loss and an optimizer",
                            model->name, model->name));
  }
  if (diags.ok())
    for (const std::string& name : elaborator.unused_overrides())
      diags.error(model->pos,
                  fmt::format("--set {}: the program has no size, constant or setting of that name",
                              printable(name)));
  if (!diags.ok()) return std::nullopt;
  return out;
}

}  // namespace graphc
