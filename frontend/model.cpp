// A model's function: symbols, arguments, body, results.
#include <fmt/format.h>

#include "frontend/elaborate.h"

namespace graphc {

void Elaborator::build(const syntax::BlockDef& model, const syntax::TrainDef* train, Mode mode) {
  training_ = mode == Mode::kTrain;
  origins_.clear();
  streams_.clear();
  chain_.clear();
  ranges_ = DimRanges();
  PathSet declared;
  declared_ = &declared;

  func_ = module_.add_func(model.name + (mode == Mode::kEval    ? ".eval"
                                         : mode == Mode::kTrain ? ".train"
                                                                : ""));
  builder_.emplace(module_, func_->body);
  Env env;
  env.unit = &units_.root();
  env.def = &model;
  env.random_owner = &env;
  func_->loc = loc_of(model.pos, env);

  for (const syntax::DimBind& b : model.dims) {
    if (b.variadic) {
      error(b.pos, fmt::format("a model's sizes are single names; '...{}' is for blocks", b.name));
      return;
    }
    if (env.names.count(b.name)) {
      error(b.pos, fmt::format("the size {} is declared twice", quoted(b.name)));
      return;
    }
    SymbolDef symbol{b.name, 0, std::nullopt};
    if (b.lo) {
      const auto lo = eval_dim(*b.lo, env), hi = eval_dim(*b.hi, env);
      if (!lo || !hi) return;
      if (!lo->is_constant() || !hi->is_constant() || lo->constant() > hi->constant()) {
        error(b.pos, fmt::format("the bounds of {} must be integers, the least first, not {}..{}",
                                 quoted(b.name), lo->to_string(), hi->to_string()));
        return;
      }
      symbol.min = lo->constant();
      symbol.max = hi->constant();
    }
    if (auto it = overrides.find(b.name); it != overrides.end()) {
      taken_.insert(it->first);
      const Val& v = it->second;
      if (v.kind != Val::kInt || !v.i.is_constant() || v.i.constant() < 0 || v.i.constant() > INT32_MAX) {
        error(b.pos, fmt::format("the size {} is set to {}; sizes are integers in 0..2147483647",
                                 quoted(b.name), v.describe()));
        return;
      }
      env.names[b.name] = v;
      if (!check_bounds(b, v, env, b.pos)) return;
      continue;
    }
    env.names[b.name] = Val::integer(Dim::symbol(b.name));
    ranges_.set(b.name, Dim(symbol.min), symbol.max ? std::optional<Dim>(Dim(*symbol.max)) : std::nullopt);
    func_->symbols.push_back(std::move(symbol));
  }

  // names are kept as views of the tree's strings
  auto add_input = [&](const std::string& name, const syntax::TypeExpr& type_expr, Pos pos, Env& to) {
    if (to.names.count(name)) {
      error(pos, fmt::format("the input {} has the name of a size or of another input", quoted(name)));
      return false;
    }
    auto type = eval_type(type_expr, env);
    if (!type) return false;
    Value* v = func_->body.add_arg(*std::move(type), name);
    origins_[v] = {pos, "an input", nullptr};
    to.names[name] = Val::of_tensor(v);
    return true;
  };
  bool inputs_ok = true;
  for (const syntax::Field& f : model.inputs) inputs_ok &= add_input(f.name, *f.type, f.pos, env);
  Env section;  // what the train section sees: sizes, inputs, results
  section.unit = env.unit;
  section.random_owner = &section;
  section.path.text = "train";
  section.names = env.names;
  if (train && mode != Mode::kInference)
    for (const syntax::TrainEntry& e : train->entries)
      if (e.key == "input") inputs_ok &= add_input(e.name, *e.type, e.name_pos, section);
  for (const syntax::DimBind& b : model.dims) {
    if (!inputs_ok || !env.names.count(b.name) || env.names[b.name].i.is_constant()) continue;
    bool bound = false;
    for (const auto& a : func_->body.args)
      for (const Dim& d : a->type.shape) bound |= d.as_symbol() == std::string_view(b.name);
    if (!bound)
      error(b.pos, fmt::format("no input has the size {} alone, so that it can't be told from the inputs",
                               quoted(b.name)));
  }
  if (!inputs_ok) return;
  for (const syntax::DimBind& b : model.dims)
    if (env.names.count(b.name) == 0) return;

  if (run_body(model.body, env) != Flow::kReturn) {
    if (!diags_.full()) error(model.pos, fmt::format("the model {} ends without a return", model.name));
    return;
  }
  std::vector<Val> outputs = std::move(env.results);
  if (stopped_) return;
  for (const Val& v : outputs)
    if (v.is_error()) return;
  if (outputs.size() != model.results.size()) {
    error(env.return_pos, fmt::format("{} returns {} value{}, its declaration says {}", model.name,
                                      outputs.size(), outputs.size() == 1 ? "" : "s", model.results.size()));
    return;
  }
  for (size_t k = 0; k < outputs.size(); ++k) {
    const syntax::Field& f = model.results[k];
    Val& v = outputs[k];
    if (v.is_number()) v = literal(v, f.type->dtype, env.return_pos, env);
    if (v.is_error()) return;
    if (!v.is_tensor()) {
      error(env.return_pos, fmt::format("{} returns a tensor, not {}", model.name, v.describe()));
      return;
    }
    if (!match_type(*f.type, v.tensor, env, env.return_pos, f.name.empty() ? "the result" : f.name,
                    fmt::format("{}'s result", model.name)))
      return;
    const std::string name = !f.name.empty()             ? f.name
                             : model.results.size() == 1 ? "output"
                                                         : fmt::format("output{}", k);
    // a view, not of a temporary: the key lives as long as the syntax tree
    section.names.insert_or_assign(f.name.empty() ? std::string_view("output") : std::string_view(f.name), v);
    if (mode == Mode::kTrain) continue;
    func_->body.results.push_back(v.tensor);
    func_->result_names.push_back(name);
  }
  if (train && mode != Mode::kInference) build_train(*train, mode, *func_, section, outputs);
}

std::vector<std::string> Elaborator::unused_overrides() const {
  std::vector<std::string> names;
  for (const auto& [n, v] : overrides)
    if (!taken_.count(n)) names.push_back(n);
  return names;
}

}  // namespace graphc
