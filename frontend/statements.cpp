// Statements: what a body does when it runs at compile time.
#include <fmt/format.h>

#include <algorithm>

#include "frontend/elaborate.h"

namespace graphc {

using syntax::ExprKind;
using syntax::Stmt;
using syntax::StmtKind;

bool Elaborator::step(Pos pos) {
  constexpr int64_t kMaxSteps = 4'000'000;
  if (stopped_) return false;
  if (++steps_ <= kMaxSteps) return true;
  stopped_ = true;
  error(pos, fmt::format("the program takes more than {} compile-time steps; is a loop's range right?",
                         kMaxSteps));
  return false;
}

Elaborator::Flow Elaborator::run_body(const std::vector<Stmt*>& body, Env& env) {
  for (const Stmt* s : body) {
    if (diags_.full() || !step(s->pos)) return Flow::kReturn;
    if (run(*s, env) == Flow::kReturn) {
      if (s != body.back() && s->kind == StmtKind::kReturn && !units_.in_std(s->pos)) {
        const Stmt* next = *(std::find(body.begin(), body.end(), s) + 1);
        diags_.warning(next->pos, "nothing runs after a return");
      }
      return Flow::kReturn;
    }
  }
  return Flow::kNext;
}

Elaborator::Flow Elaborator::run(const Stmt& s, Env& env) {
  switch (s.kind) {
    case StmtKind::kParam:
    case StmtKind::kState: declare(s, env); return Flow::kNext;
    case StmtKind::kLayer: run_layer(s, env); return Flow::kNext;
    case StmtKind::kFor: return run_for(s, env);
    case StmtKind::kIf:
      for (const syntax::Branch& b : s.branches) {
        if (b.cond) {
          const auto c = condition(*b.cond, env, "if");
          if (!c) {
            for (const syntax::Branch& other : s.branches) poison(other.body, env);
            return Flow::kNext;
          }
          if (!*c) continue;
        }
        return run_body(b.body, env);
      }
      return Flow::kNext;
    case StmtKind::kAssert: run_assert(s, env); return Flow::kNext;
    case StmtKind::kReturn:
      env.return_pos = s.pos;
      for (const syntax::Expr* e : s.values) env.results.push_back(eval(*e, env));
      // return f(x), where f has several results
      if (env.results.size() == 1 && env.results[0].kind == Val::kList && env.results[0].multi) {
        const auto list = env.results[0].list;
        env.results = *list;
      }
      return Flow::kReturn;
    case StmtKind::kYield: error(s.pos, "'yield' belongs into the body of a scan"); return Flow::kNext;
    case StmtKind::kAssign: run_assign(s, env); return Flow::kNext;
    case StmtKind::kScan:
      error(s.pos, "scan isn't supported yet");
      for (const syntax::Target& t : s.targets) env.names[t.name] = Val::error();
      return Flow::kNext;
  }
  return Flow::kNext;
}

std::optional<bool> Elaborator::condition(const syntax::Expr& e, Env& env, std::string_view where) {
  const Val v = eval(e, env);
  if (v.is_error()) return std::nullopt;
  if (v.is_tensor()) {
    error(e.pos, fmt::format("'{}' is decided at compile time, its condition can't be a tensor ({}); choose "
                             "between tensors with where(c, a, b)",
                             where, v.show()));
    return std::nullopt;
  }
  if (v.kind != Val::kBool) {
    error(e.pos, fmt::format("the condition of '{}' must be true or false, not {}", where, v.describe()));
    return std::nullopt;
  }
  return v.flag;
}

// What a body that can't be run would have assigned is in error, so that its uses keep silent.
void Elaborator::poison(const std::vector<Stmt*>& body, Env& env) {
  for (const Stmt* s : body) {
    for (const syntax::Target& t : s->targets)
      if (!t.index) env.names[t.name] = Val::error();
    if (s->kind == StmtKind::kParam || s->kind == StmtKind::kState) env.names[s->name] = Val::error();
    if (s->kind == StmtKind::kLayer) env.layers[s->name] = nullptr;
    for (const syntax::Branch& b : s->branches) poison(b.body, env);
    poison(s->body, env);
  }
}

Elaborator::Flow Elaborator::run_for(const Stmt& s, Env& env) {
  auto failed = [&] {
    poison(s.body, env);
    return Flow::kNext;
  };
  int64_t begin = 0, end = 0;
  std::shared_ptr<std::vector<Val>> list;
  const Val first = eval(*s.values[0], env);
  if (s.range) {
    const Val last = eval(*s.values[1], env);
    if (first.is_error() || last.is_error()) return failed();
    for (const auto& [v, e] : {std::pair{&first, s.values[0]}, std::pair{&last, s.values[1]}}) {
      if (v->kind != Val::kInt || !v->i.is_constant()) {
        error(e->pos,
              v->kind == Val::kInt
                  ? fmt::format("the loop runs at compile time, its range can't depend on the size {}",
                                v->show())
                  : fmt::format("the ends of a range are integers, not {}", v->describe()));
        return failed();
      }
    }
    begin = first.i.constant();
    end = last.i.constant();
  } else {
    if (first.is_error()) return failed();
    if (first.kind != Val::kList) {
      error(s.values[0]->pos,
            first.is_tensor()
                ? fmt::format(
                      "a compile-time loop runs over a list or a range, not over a tensor ({}); that is scan",
                      first.show())
                : fmt::format("a loop runs over a list or a range such as 0..12, not {}", first.describe()));
      return failed();
    }
    list = first.list;
    end = static_cast<int64_t>(list->size());
  }
  Val element;
  chain_.push_back({s.pos, nullptr, &s, "", 0, &element});
  env.loops.push_back(0);
  Flow flow = Flow::kNext;
  for (int64_t k = begin; k < end && flow == Flow::kNext; ++k) {
    if (!step(s.pos)) break;
    element = list ? (*list)[k] : Val::integer(Dim(k));
    chain_.back().iteration = env.loops.back() = k - begin;
    if (s.name2.empty()) {
      env.names[s.name] = element;
    } else {
      env.names[s.name] = Val::integer(Dim(k - begin));
      env.names[s.name2] = element;
    }
    flow = run_body(s.body, env);
    if (diags_.full()) break;
  }
  env.loops.pop_back();
  chain_.pop_back();
  return flow;
}

bool Elaborator::read_init(const syntax::Expr& e, Env& env, std::string& name, Attrs& attrs) {
  struct Setting {
    std::string_view name;
    double fallback;
    bool required;
  };
  struct Init {
    std::string_view name;
    std::vector<Setting> settings;
  };
  static const std::vector<Init> kInits = {
      {"zeros", {}},
      {"ones", {}},
      {"constant", {{"value", 0, true}}},
      {"uniform", {{"lo", 0, true}, {"hi", 0, true}}},
      {"normal", {{"std", 1, false}, {"mean", 0, false}}},
      {"trunc_normal", {{"std", 1, true}, {"mean", 0, false}, {"a", -2, false}, {"b", 2, false}}},
      {"kaiming_uniform", {{"a", 2.2360679, false}}},
      {"kaiming_normal", {{"a", 0, false}}},
      {"xavier_uniform", {{"gain", 1, false}}},
      {"xavier_normal", {{"gain", 1, false}}},
      {"orthogonal", {{"gain", 1, false}}},
      {"eye", {}}};
  std::string known;
  for (const Init& i : kInits) known += (known.empty() ? "" : ", ") + std::string(i.name) + "()";
  if (e.kind != ExprKind::kCall || e.args[0]->kind != ExprKind::kName) {
    error(e.pos, fmt::format("a parameter's value is an initialiser: {}", known));
    return false;
  }
  const std::string& called = e.args[0]->text;
  const Init* init = nullptr;
  NearestName near(called);
  for (const Init& i : kInits) {
    near.offer(i.name);
    if (i.name == called) init = &i;
  }
  if (!init) {
    error(e.pos, fmt::format("unknown initialiser {}{}; known are {}", quoted(called), near.hint(), known));
    return false;
  }
  name = called;
  attrs.clear();
  size_t position = 0;
  for (const syntax::Arg& a : e.call_args) {
    const Setting* setting = nullptr;
    if (a.name.empty()) {
      if (position < init->settings.size()) setting = &init->settings[position++];
    } else {
      for (const Setting& s : init->settings)
        if (s.name == a.name) setting = &s;
    }
    if (!setting) {
      std::string takes;
      for (const Setting& s : init->settings) takes += (takes.empty() ? "" : ", ") + std::string(s.name);
      error(a.pos, a.name.empty() ? fmt::format("{} takes {} settings", called, init->settings.size())
                                  : fmt::format("{} has no setting {}; it takes {}", called, quoted(a.name),
                                                takes.empty() ? "none" : takes));
      return false;
    }
    const Val v = eval(*a.value, env);
    if (v.is_error()) return false;
    const auto number = v.as_double();
    if (!number) {
      error(a.value->pos,
            fmt::format("{} of {} must be a number, not {}", setting->name, called, v.describe()));
      return false;
    }
    if (!attrs.emplace(std::string(setting->name), Attr(*number)).second) {
      error(a.pos, fmt::format("{} is given twice", setting->name));
      return false;
    }
  }
  for (const Setting& s : init->settings) {
    if (attrs.count(s.name)) continue;
    if (s.required) {
      error(e.pos, fmt::format("{} needs {}", called, s.name));
      return false;
    }
    attrs.emplace(std::string(s.name), Attr(s.fallback));
  }
  return true;
}

Variable* Elaborator::declare_variable(const Stmt& s, Env& env, VariableKind kind) {
  const auto type = eval_type(*s.type, env);
  if (!type) return nullptr;
  for (const Dim& d : type->shape) {
    if (d.is_constant()) continue;
    error(
        s.pos,
        fmt::format("the shape of {} must be static, but {} depends on a size that is only known at run time",
                    quoted(s.name), type->to_string()));
    return nullptr;
  }
  std::string init;
  Attrs attrs;
  if (!read_init(*s.values[0], env, init, attrs)) return nullptr;
  const bool fan = init.starts_with("kaiming") || init.starts_with("xavier") || init == "orthogonal";
  if (fan && type->rank() < 2) {
    error(s.values[0]->pos, fmt::format("{} needs at least two axes (fan-in and fan-out), {} is {}", init,
                                        quoted(s.name), type->to_string()));
    return nullptr;
  }
  if (init == "eye" && type->rank() != 2) {
    error(s.values[0]->pos, fmt::format("eye needs two axes, {} is {}", quoted(s.name), type->to_string()));
    return nullptr;
  }
  if (!env.path.known) {
    error(env.path.unlabelled,
          fmt::format("{} has parameters and needs a name here: give it a label, as in 'x |> fc: {}(..)', or "
                      "a target of its own",
                      env.path.block, env.path.block),
          {{fmt::format("the {} {}", kind == VariableKind::kParam ? "parameter" : "state", s.name), s.pos}});
    return nullptr;
  }
  const std::string path = (env.path.text.empty() ? "" : env.path.text + ".") + s.name + env.suffix();
  Pos here = s.pos;
  for (size_t k = chain_.size(); units_.in_std(here) && k-- > 0;) here = chain_[k].pos;
  auto [it, fresh] = declared_->emplace(path, here);
  if (!fresh) {
    error(here,
          fmt::format("two parameters have the path {}; give one of the blocks a label of its own",
                      quoted(path)),
          {{"the first", it->second}});
    return nullptr;
  }
  if (Variable* v = module_.find_variable(
          path)) {  // made by another function of the module, or by an earlier application of a layer
    if (!(v->value.type == *type) || v->kind != kind) {
      error(here, fmt::format("{} is {} here, but was made as {}", quoted(path), type->to_string(),
                              v->value.type.to_string()));
      return nullptr;
    }
    return v;
  }
  return module_.add_variable(path, kind, *type, init, attrs, loc_of(s.pos, env));
}

void Elaborator::declare(const Stmt& s, Env& env) {
  const VariableKind kind = s.kind == StmtKind::kParam ? VariableKind::kParam : VariableKind::kState;
  Variable* v = declare_variable(s, env, kind);
  env.names[s.name] = v ? Val::of_tensor(&v->value) : Val::error();
  env.states.erase(s.name);
  if (kind == VariableKind::kState) env.states[s.name] = v;
}

void Elaborator::run_layer(const Stmt& s, Env& env) {
  const Val v = eval(*s.values[0], env);
  env.layers.erase(s.name);
  if (v.is_error()) {
    env.layers[s.name] = nullptr;  // known, in error
    return;
  }
  // `layer act = Dropout` without settings is a bare block
  if (v.kind != Val::kConfig) {
    error(s.values[0]->pos,
          fmt::format("a layer is a block with its settings, as in 'layer fc = Linear(10)', not {}",
                      v.describe()));
    env.layers[s.name] = nullptr;
    return;
  }
  auto layer = std::make_shared<LayerInst>();
  layer->config = *v.config;
  layer->path = env.path;
  layer->path.text += (env.path.text.empty() ? "" : ".") + s.name + env.suffix();
  layer->pos = s.pos;
  layer->loc = loc_of(s.pos, env);
  env.layers[s.name] = std::move(layer);
}

std::string Elaborator::interpolate(const std::string& text, Env& env) const {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t close = text[i] == '{' ? text.find('}', i) : std::string::npos;
    if (close != std::string::npos) {
      auto it = env.names.find(std::string_view(text).substr(i + 1, close - i - 1));
      if (it != env.names.end()) {
        out += it->second.show();
        i = close + 1;
        continue;
      }
    }
    out += text[i++];
  }
  return printable(out);
}

void Elaborator::run_assert(const Stmt& s, Env& env) {
  const auto c = condition(*s.values[0], env, "assert");
  if (!c || *c) return;
  std::vector<Note> notes;
  if (env.def)
    for (const syntax::Field& f : env.def->inputs)
      if (auto it = env.names.find(f.name); it != env.names.end() && it->second.is_tensor())
        derive(it->second.tensor, f.name, 4, notes);
  error(s.pos, s.text.empty() ? "the assertion doesn't hold" : interpolate(s.text, env), std::move(notes));
}

void Elaborator::assign(const syntax::Target& t, Val v, Env& env) {
  if (t.index) {
    auto it = env.names.find(t.name);
    const Val index = eval(*t.index, env);
    if (index.is_error() || v.is_error()) return;
    if (it == env.names.end() || it->second.is_error()) {
      if (it == env.names.end()) error(t.pos, fmt::format("{} has no value yet", quoted(t.name)));
      return;
    }
    if (it->second.kind != Val::kList) {
      error(t.pos, fmt::format("only the elements of compile-time lists can be assigned, {} is {}",
                               quoted(t.name), it->second.describe()));
      return;
    }
    auto fresh = std::make_shared<std::vector<Val>>(*it->second.list);  // others may hold the old list
    const int64_t n = static_cast<int64_t>(fresh->size());
    if (index.kind != Val::kInt || !index.i.is_constant()) {
      error(t.index->pos, fmt::format("an index must be a compile-time integer, not {}", index.describe()));
      return;
    }
    int64_t k = index.i.constant();
    if (k < 0) k += n;
    if (k < 0 || k >= n) {
      error(t.index->pos, fmt::format("the index {} is outside a list of {}", index.show(), n));
      return;
    }
    if (v.nesting >= Val::kMaxNesting) {
      error(t.pos, fmt::format("lists nest more than {} deep", Val::kMaxNesting));
      return;
    }
    it->second.nesting = std::max<uint8_t>(it->second.nesting, v.nesting + 1);
    (*fresh)[k] = std::move(v);
    it->second.list = std::move(fresh);
    return;
  }
  if (v.kind == Val::kConfig) {
    error(t.pos, fmt::format("{} isn't applied to anything; apply it, or write 'layer {} = {}(..)'",
                             v.config->block.def->name, t.name, v.config->block.def->name));
    v = Val::error();
  }
  if (t.type && !v.is_error()) {
    if (!v.is_tensor())
      error(t.type->pos,
            fmt::format("a type is written for tensors only, {} is {}", quoted(t.name), v.describe()));
    else if (!match_type(*t.type, v.tensor, env, t.type->pos, t.name, "type mismatch"))
      v = Val::error();
  }
  if (auto it = env.states.find(t.name); it != env.states.end()) {
    Variable* state = it->second;
    if (!state || v.is_error()) return;
    if (v.is_number()) v = literal(v, state->value.type.dtype, t.pos, env);
    if (v.is_error()) return;
    if (!v.is_tensor() || !(v.tensor->type == state->value.type)) {
      std::vector<Note> notes;
      if (v.is_tensor()) derive(v.tensor, "the value", 3, notes);
      error(t.pos,
            fmt::format("the state {} is {}, it can't become {}", quoted(t.name),
                        state->value.type.to_string(), v.describe()),
            std::move(notes));
      return;
    }
    if (builder_) {
      builder_->loc = loc_of(t.pos, env);
      auto node = builder_->try_create_node(ops::assign, {&state->value, v.tensor});
      if (!node.ok()) error(t.pos, node.error().message);
    }
    return;
  }
  env.layers.erase(t.name);
  env.names[t.name] = std::move(v);
}

void Elaborator::run_assign(const Stmt& s, Env& env) {
  // state isn't written in inference, and what would be written isn't computed
  if (!training_ && !s.targets.empty()) {
    bool all_states = true;
    for (const syntax::Target& t : s.targets) all_states &= !t.index && env.states.count(t.name);
    if (all_states) return;
  }
  std::vector<Val> values;
  if (s.values.size() == 1) {
    Val v = eval(*s.values[0], env, s.targets[0].name);
    if (s.targets.size() == 1) {
      if (v.kind == Val::kList && v.multi && v.flag) {  // a block's results, one target
        error(s.values[0]->pos,
              fmt::format("the block has {} results and needs as many targets", v.list->size()));
        v = Val::error();
      }
      v.multi = false;
      assign(s.targets[0], std::move(v), env);
      return;
    }
    if (v.is_error()) {
      values.assign(s.targets.size(), Val::error());
    } else if (v.kind == Val::kList) {
      values = *v.list;
    } else {
      error(s.pos, fmt::format("{} targets, but one value: {}", s.targets.size(), v.describe()));
      values.assign(s.targets.size(), Val::error());
    }
  } else {
    for (size_t k = 0; k < s.values.size(); ++k)
      values.push_back(
          eval(*s.values[k], env, k < s.targets.size() ? std::string_view(s.targets[k].name) : ""));
  }
  if (values.size() != s.targets.size()) {
    error(s.pos, fmt::format("{} targets, but {} values", s.targets.size(), values.size()));
    for (const syntax::Target& t : s.targets)
      if (!t.index) env.names[t.name] = Val::error();
    return;
  }
  for (size_t k = 0; k < values.size(); ++k) assign(s.targets[k], std::move(values[k]), env);
}

}  // namespace graphc
