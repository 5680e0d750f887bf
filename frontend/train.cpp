// Train sections: loss and metrics become results, optimizers become `optimize` nodes, the rest goes into the
// TrainSpec.
#include <fmt/format.h>

#include <algorithm>

#include "frontend/elaborate.h"
#include "frontend/parser.h"

namespace graphc {

using syntax::ExprKind;
using syntax::TrainDef;
using syntax::TrainEntry;

namespace {

// A call whose arguments are settings alone: adam(lr=0.001), cosine(steps=100).
struct SettingDef {
  std::string_view name;
  AttrKind kind;
  const char* fallback;  // as core text; null: required
};
struct CallDef {
  std::string_view name;
  std::vector<SettingDef> settings;
};

const std::vector<CallDef>& optimizers() {
  static const std::vector<CallDef> defs = {{"sgd",
                                             {{"lr", AttrKind::kFloat, nullptr},
                                              {"momentum", AttrKind::kFloat, "0"},
                                              {"nesterov", AttrKind::kBool, "false"},
                                              {"weight_decay", AttrKind::kFloat, "0"}}},
                                            {"adam",
                                             {{"lr", AttrKind::kFloat, "1e-3"},
                                              {"betas", AttrKind::kFloats, "0.9 0.999"},
                                              {"eps", AttrKind::kFloat, "1e-8"},
                                              {"weight_decay", AttrKind::kFloat, "0"}}},
                                            {"adamw",
                                             {{"lr", AttrKind::kFloat, "1e-3"},
                                              {"betas", AttrKind::kFloats, "0.9 0.999"},
                                              {"eps", AttrKind::kFloat, "1e-8"},
                                              {"weight_decay", AttrKind::kFloat, "0.01"}}}};
  return defs;
}
const std::vector<CallDef>& schedules() {
  static const std::vector<CallDef> defs = {
      {"constant", {}},
      {"cosine",
       {{"steps", AttrKind::kInt, nullptr},
        {"warmup", AttrKind::kInt, "0"},
        {"final", AttrKind::kFloat, "0"}}},
      {"step", {{"every", AttrKind::kInt, nullptr}, {"gamma", AttrKind::kFloat, "0.1"}}}};
  return defs;
}

// Turns v into the kind; false if it isn't of it.
bool to_kind(const Val& v, AttrKind kind, Attr& out) {
  switch (kind) {
    case AttrKind::kInt:
      if (v.kind != Val::kInt || !v.i.is_constant()) return false;
      out = Attr(v.i);
      return true;
    case AttrKind::kFloat:
      if (!v.as_double()) return false;
      out = Attr(*v.as_double());
      return true;
    case AttrKind::kBool:
      if (v.kind != Val::kBool) return false;
      out = Attr(v.flag);
      return true;
    case AttrKind::kFloats: {
      if (v.kind != Val::kList) return false;
      std::vector<double> l;
      for (const Val& x : *v.list) {
        if (!x.as_double()) return false;
        l.push_back(*x.as_double());
      }
      out = Attr::floats(l);
      return true;
    }
    default: return false;
  }
}

Attr fallback(const SettingDef& d) {
  const std::string_view s = d.fallback;
  switch (d.kind) {
    case AttrKind::kInt: return Attr(static_cast<int64_t>(std::stoll(d.fallback)));
    case AttrKind::kBool: return Attr(s == "true");
    case AttrKind::kFloats: return Attr::floats({0.9, 0.999});
    default: return Attr(std::stod(d.fallback));
  }
}

std::string_view kind_words(AttrKind k) {
  return k == AttrKind::kInt      ? "an integer"
         : k == AttrKind::kBool   ? "true or false"
         : k == AttrKind::kFloats ? "a list of numbers"
                                  : "a number";
}

}  // namespace

std::optional<Attrs> Elaborator::named_call(const syntax::Expr& e, Env& env, std::string_view what,
                                            std::string& name) {
  const auto& defs = what == "optimizer" ? optimizers() : schedules();
  const syntax::Expr* callee = e.kind == ExprKind::kCall ? e.args[0] : &e;
  std::string known;
  for (const CallDef& d : defs) known += (known.empty() ? "" : ", ") + std::string(d.name);
  if (callee->kind != ExprKind::kName) {
    error(e.pos, fmt::format("{} {} is one of {}, with its settings", what == "optimizer" ? "an" : "a", what,
                             known));
    return std::nullopt;
  }
  const CallDef* def = nullptr;
  NearestName near(callee->text);
  for (const CallDef& d : defs) {
    near.offer(d.name);
    if (d.name == callee->text) def = &d;
  }
  if (!def) {
    error(callee->pos,
          fmt::format("unknown {} {}{}; known are {}", what, quoted(callee->text), near.hint(), known));
    return std::nullopt;
  }
  name = def->name;
  Attrs attrs;
  size_t position = 0;
  for (const syntax::Arg& a : e.call_args) {
    const SettingDef* s = nullptr;
    std::string takes;
    NearestName close(a.name);
    for (const SettingDef& d : def->settings) {
      takes += (takes.empty() ? "" : ", ") + std::string(d.name);
      close.offer(d.name);
      if (d.name == a.name) s = &d;
    }
    if (a.name.empty() && position < def->settings.size()) s = &def->settings[position++];
    if (!s) {
      error(a.pos, a.name.empty()
                       ? fmt::format("{} takes {} settings ({})", name, def->settings.size(), takes)
                       : fmt::format("{} has no setting {}{}; it takes {}", name, quoted(a.name),
                                     close.hint(), takes.empty() ? "none" : takes));
      return std::nullopt;
    }
    const Val v = eval(*a.value, env);
    if (v.is_error()) return std::nullopt;
    Attr attr;
    if (!to_kind(v, s->kind, attr)) {
      error(a.value->pos,
            fmt::format("{} of {} must be {}, not {}", s->name, name, kind_words(s->kind), v.describe()));
      return std::nullopt;
    }
    if (!attrs.emplace(std::string(s->name), std::move(attr)).second) {
      error(a.pos, fmt::format("{} of {} is given twice", s->name, name));
      return std::nullopt;
    }
  }
  for (const SettingDef& s : def->settings) {
    if (auto it = overrides.find(s.name); it != overrides.end()) {
      Attr attr;
      if (!to_kind(it->second, s.kind, attr)) {
        error(e.pos, fmt::format("{} of {} is set to {}; it must be {}", s.name, name, it->second.describe(),
                                 kind_words(s.kind)));
        return std::nullopt;
      }
      taken_.insert(it->first);
      attrs.insert_or_assign(std::string(s.name), std::move(attr));
    }
    if (attrs.count(s.name)) continue;
    if (!s.fallback) {
      error(e.pos, fmt::format("{} needs {}", name, s.name));
      return std::nullopt;
    }
    attrs.emplace(std::string(s.name), fallback(s));
  }
  return attrs;
}

// The attributes of the optimize node of one optimizer, without clip, accumulate and schedule.
std::optional<Attrs> Elaborator::optimizer_attrs(const TrainEntry& e, Env& env, bool) {
  std::string algorithm;
  auto given = named_call(*e.value, env, "optimizer", algorithm);
  if (!given) return std::nullopt;
  Attrs attrs{{"algorithm", Attr(algorithm)}, {"params", Attr(e.key == "group" ? e.name : std::string("*"))}};
  for (auto& [name, value] : *given) {
    const double number = value.is_float() ? value.as_float() : 0;
    if (value.is_float() && number < 0) {
      error(e.value->pos, fmt::format("{} of {} can't be negative", name, algorithm));
      return std::nullopt;
    }
    if (name != "betas") {
      attrs.emplace(name, value);
      continue;
    }
    const auto betas = value.as_floats();
    if (betas.size() != 2 || betas[0] < 0 || betas[0] >= 1 || betas[1] < 0 || betas[1] >= 1) {
      error(e.value->pos, fmt::format("betas of {} are two numbers in [0, 1)", algorithm));
      return std::nullopt;
    }
    attrs.emplace("beta1", Attr(betas[0]));
    attrs.emplace("beta2", Attr(betas[1]));
  }
  return attrs;
}

bool Elaborator::apply_schedule(const TrainEntry& e, Env& env, Attrs& attrs) {
  std::string name;
  auto given = named_call(*e.value, env, "schedule", name);
  if (!given) return false;
  attrs.insert_or_assign("schedule", Attr(name));
  for (auto& [key, value] : *given) {
    if (value.is_int() && value.as_int() < (key == "warmup" ? 0 : 1)) {
      error(e.value->pos, fmt::format("{} of {} must be at least {}", key, name, key == "warmup" ? 0 : 1));
      return false;
    }
    attrs.insert_or_assign(key == "steps" ? "schedule_steps" : key, value);
  }
  return true;
}

void Elaborator::read_train(const TrainDef& train, TrainSpec& spec) {
  Env env;
  env.unit = &units_.root();
  std::map<std::string, Pos> seen;
  bool loss = false, optimizer = false;
  // an override for `set`, clip and accumulate
  auto value_of = [&](const TrainEntry& e, const std::string& name) {
    if (auto it = overrides.find(name); it != overrides.end()) {
      taken_.insert(it->first);
      return it->second;
    }
    return eval(*e.value, env);
  };
  for (const TrainEntry& e : train.entries) {
    const bool named = e.key == "input" || e.key == "metric" || e.key == "group" || e.key == "set";
    if (named && e.name.empty()) {
      error(e.pos, fmt::format("'{}' needs a name, as in '{} {} = ..'", e.key, e.key,
                               e.key == "group" ? "\"head.*\"" : "acc"));
      continue;
    }
    if (!named && !e.name.empty() && !(e.key == "clip" && e.name == "norm")) {
      error(e.name_pos, fmt::format("'{}' takes no name, {} stands there", e.key, quoted(e.name)));
      continue;
    }
    auto [it, fresh] = seen.emplace(named ? e.key + " " + e.name : e.key, e.pos);
    if (!fresh) {
      error(e.pos, fmt::format("'{}{}' is given twice", e.key, named ? " " + e.name : ""),
            {{"the first", it->second}});
      continue;
    }
    if (e.key == "input") {
      spec.inputs.push_back(e.name);
    } else if (e.key == "metric") {
      if (e.name == "loss") error(e.name_pos, "a metric can't be called loss");
      spec.metrics.push_back(e.name);
    } else if (e.key == "loss") {
      loss = true;
    } else if (e.key == "optimizer") {
      optimizer = true;
      optimizer_attrs(e, env, true);
    } else if (e.key == "group") {
      optimizer_attrs(e, env, false);
    } else if (e.key == "schedule") {
      Attrs ignored;
      apply_schedule(e, env, ignored);
    } else if (e.key == "precision") {
      const Val v = eval(*e.value, env);
      const std::string name = v.kind == Val::kDType ? std::string(dtype_name(v.dtype))
                               : v.kind == Val::kStr ? v.text
                                                     : "";
      if (name != "f32" && name != "bf16" && name != "f16") {
        if (!v.is_error())
          error(e.value->pos, fmt::format("precision is f32, bf16 or f16, not {}", v.describe()));
      } else {
        spec.precision = name;
      }
    } else if (e.key == "clip") {
      const Val v = value_of(e, "clip");
      if (v.is_error()) continue;
      if (!v.as_double() || !(*v.as_double() > 0))
        error(e.value->pos, fmt::format("clip is the greatest norm of the gradient, a number above 0, not {}",
                                        v.describe()));
      else
        spec.clip_norm = *v.as_double();
    } else if (e.key == "accumulate") {
      const Val v = value_of(e, "accumulate");
      if (v.is_error()) continue;
      if (v.kind != Val::kInt || !v.i.is_constant() || v.i.constant() < 1)
        error(e.value->pos,
              fmt::format("accumulate is the number of batches a step, at least 1, not {}", v.describe()));
      else
        spec.accumulate = v.i.constant();
    } else if (e.key == "set") {
      const Val v = value_of(e, e.name);
      if (v.is_error()) continue;
      if (auto a = to_attr(v))
        spec.settings.insert_or_assign(e.name, *std::move(a));
      else
        error(e.value->pos, fmt::format("'set {}' takes a compile-time value, not {}", e.name, v.describe()));
    }
  }
  if (!loss)
    error(train.pos,
          fmt::format("the train section of {} has no loss; write 'loss = cross_entropy(..)' or the like",
                      train.model));
  if (!optimizer)
    error(train.pos,
          fmt::format(
              "the train section of {} has no optimizer; write 'optimizer = adam(lr=0.001)' or the like",
              train.model));
}

void Elaborator::build_train(const TrainDef& train, Mode mode, Func& f, Env& env,
                             const std::vector<Val>& outputs) {
  TrainSpec spec;
  read_train(train, spec);  // its messages were given once already, at the same places
  if (!diags_.ok()) return;
  const auto& args = f.body.args;
  const Dim batch = args.empty() || args[0]->type.shape.empty() ? Dim(1) : args[0]->type.shape[0];
  auto count_of = [&](DType t, Pos pos) { return literal(Val::integer(batch), t, pos, env); };
  auto add_result = [&](const std::string& name, Value* v) {
    f.body.results.push_back(v);
    f.result_names.push_back(name);
  };
  const Value* loss = nullptr;
  auto scalar_of = [&](const TrainEntry& e, std::string_view what) -> Value* {
    Val v = eval(*e.value, env);
    if (v.is_error()) return nullptr;
    std::vector<Note> notes;
    if (!v.is_tensor()) {
      error(e.value->pos, fmt::format("{} is a scalar tensor, not {}", what, v.describe()));
      return nullptr;
    }
    const TensorType& t = v.tensor->type;
    if (t.rank() != 0) {
      derive(v.tensor, what, 3, notes);
      error(e.value->pos,
            fmt::format("{} must be a scalar, not {}; take the mean or the sum", what, t.to_string()),
            std::move(notes));
      return nullptr;
    }
    if (!is_float(t.dtype)) {
      if (e.key == "loss") {
        error(e.value->pos, fmt::format("the loss must be a float, not {}", t.to_string()));
        return nullptr;
      }
      v = make_node(ops::cast, {v.tensor}, {{"dtype", DType::kF32}}, e.pos, env);
      if (v.is_error()) return nullptr;
    }
    return v.tensor;
  };
  auto add_pair = [&](const std::string& name, Value* v, Pos pos) {
    const Val count = count_of(v->type.dtype, pos);
    if (count.is_error()) return false;
    const Val sum = make_node(ops::mul, {v, count.tensor}, {}, pos, env);
    if (sum.is_error()) return false;
    add_result(name + ".sum", sum.tensor);
    add_result(name + ".count", count.tensor);
    return true;
  };
  // the loss first, whatever the order in the text; a metric may name it
  for (const TrainEntry& e : train.entries)
    if (e.key == "loss") {
      Value* v = scalar_of(e, "the loss");
      if (!v || !add_pair("loss", v, e.pos)) return;
      loss = v;
      env.names.insert_or_assign("loss", Val::of_tensor(v));
    }
  for (const TrainEntry& e : train.entries)
    if (e.key == "metric") {
      Value* v = scalar_of(e, fmt::format("the metric {}", e.name));
      if (!v || !add_pair(e.name, v, e.pos)) return;
    }
  if (mode != Mode::kTrain || !loss) return;
  // groups come before the optimizer of all: the first whose pattern matches a parameter updates it
  for (const bool groups : {true, false})
    for (const TrainEntry& e : train.entries) {
      if (e.key != (groups ? "group" : "optimizer")) continue;
      auto attrs = optimizer_attrs(e, env, !groups);
      if (!attrs) return;
      attrs->insert_or_assign("clip_norm", Attr(spec.clip_norm));
      attrs->insert_or_assign("accumulate", Attr(spec.accumulate));
      for (const TrainEntry& s : train.entries)
        if (s.key == "schedule" && !apply_schedule(s, env, *attrs)) return;
      builder_->loc = loc_of(e.pos, env);
      auto node = builder_->try_create_node(ops::optimize, {const_cast<Value*>(loss)}, *std::move(attrs));
      if (!node.ok()) {
        error(e.pos, node.error().message);
        return;
      }
    }
}

std::optional<Val> Elaborator::parse_override(const std::string& name, const std::string& text) {
  const uint32_t file =
      units_.sources.add(fmt::format("--set {}", printable(name)), "graphc 1\nconst V = " + text + "\n");
  units_.by_file.resize(file + 1, &units_.root());
  auto ast = syntax::parse_source(units_.sources, file, diags_);
  if (!diags_.ok() || ast->consts.size() != 1) return std::nullopt;
  Env env;
  env.unit = &units_.root();
  Val v = eval(*ast->consts[0].value, env);
  if (v.is_error()) return std::nullopt;
  return v;
}

}  // namespace graphc
