// Calls: ops, blocks, layers, pipes.
#include <fmt/format.h>

#include <cmath>

#include "frontend/elaborate.h"

namespace graphc {

using syntax::BlockDef;
using syntax::ExprKind;
using syntax::Setting;

namespace {

// Ops that only the compiler makes.
bool is_internal(const OpDef& op) {
  return &op == &ops::assign || &op == &ops::optimize || &op == &ops::fusion;
}

std::string settings_of(const BlockDef& def) {
  std::string s;
  for (const Setting& x : def.settings) s += (s.empty() ? "" : ", ") + x.name;
  return s.empty() ? "it takes none" : "it takes " + s;
}

}  // namespace

// In call position a name is a layer, then a block, then an op; never a value.
Elaborator::Callee Elaborator::resolve(const syntax::Expr& e, Env& env) {
  Callee c;
  c.pos = e.pos;
  if (e.kind == ExprKind::kName) {
    if (auto it = env.layers.find(e.text); it != env.layers.end()) {
      c.layer = it->second;
      c.kind = c.layer ? Callee::kLayer : Callee::kError;
      return c;
    }
    if (BlockRef b = units_.find_block(*env.unit, e.text); b.def) {
      c.block = b;
      c.kind = Callee::kBlock;
      return c;
    }
    if (const OpDef* op = find_op(e.text); op && !is_internal(*op)) {
      c.op = op;
      c.kind = Callee::kOp;
      return c;
    }
    if (auto it = env.names.find(e.text); it != env.names.end()) {
      if (!it->second.is_error())
        error(
            e.pos,
            fmt::format("{} is {}, it can't be called; a block that is used by name is declared with 'layer'",
                        quoted(e.text), it->second.describe()));
      return c;
    }
    NearestName near(e.text);
    for (const auto& [n, l] : env.layers) near.offer(n);
    for (const auto& [n, d] : env.unit->blocks) near.offer(n);
    for (const auto& [n, d] : units_.std_blocks) near.offer(n);
    for (const OpDef* op : all_ops())
      if (!is_internal(*op)) near.offer(op->name);
    const bool capital = e.text[0] >= 'A' && e.text[0] <= 'Z';
    error(e.pos, fmt::format("unknown {} {}{}", capital ? "block" : "op", quoted(e.text), near.hint()));
    return c;
  }
  const Val v = eval(e, env);
  if (v.is_error()) return c;
  if (v.kind == Val::kConfig) {
    c.config = v.config;
    c.kind = Callee::kConfig;
    return c;
  }
  if (v.kind == Val::kLayer && v.text.empty()) {
    c.layer = v.layer;
    c.kind = Callee::kLayer;
    return c;
  }
  error(e.pos, fmt::format("{} can't be called", v.describe()));
  return c;
}

bool Elaborator::eval_args(const syntax::Expr& call, Env& env, std::vector<Named>& out) {
  bool ok = true;
  for (const syntax::Arg& a : call.call_args) {
    Val v = eval(*a.value, env);
    ok &= !v.is_error();
    out.push_back({a.name, std::move(v), a.pos});
  }
  return ok;
}

Val Elaborator::eval_call(const syntax::Expr& e, Env& env, std::string_view target) {
  const Callee c = resolve(*e.args[0], env);
  std::vector<Named> args;
  switch (c.kind) {
    case Callee::kError: eval_args(e, env, args); return Val::error();
    case Callee::kBlock: return configure(c.block, &e, c.pos, env);
    case Callee::kLayer:
      return eval_args(e, env, args) ? apply_layer(*c.layer, args, env, c.pos) : Val::error();
    case Callee::kOp: return eval_args(e, env, args) ? call_op(*c.op, args, false, c.pos, env) : Val::error();
    case Callee::kConfig:
      // an imported block is named by an attribute, so that its first call configures
      if (e.args[0]->kind == ExprKind::kAttr) return configure(c.config->block, &e, c.pos, env);
      return eval_args(e, env, args) ? instantiate(*c.config, args, target, env, c.pos) : Val::error();
  }
  return Val::error();
}

Val Elaborator::eval_pipe(const syntax::Expr& e, Env& env, std::string_view target) {
  // Pipes chain to the left: walk down to the head, then apply stage by stage, so that a long pipe needs no
  // deep stack.
  std::vector<const syntax::Expr*> stages;
  const syntax::Expr* head = &e;
  while (head->kind == ExprKind::kPipe && (head == &e || !head->paren)) {
    stages.push_back(head);
    head = head->args[0];
  }
  Val x = eval(*head, env);
  for (size_t k = stages.size(); k-- > 0;) {
    const syntax::Expr& pipe = *stages[k];
    if (x.kind == Val::kList && x.multi) {
      Val first = x.list->empty() ? Val::error() : (*x.list)[0];
      x = std::move(first);
    }
    x = apply_stage(*pipe.args[1], std::move(x), pipe.text, pipe.pos, env,
                    k == 0 ? target : std::string_view());
  }
  return x;
}

Val Elaborator::apply_stage(const syntax::Expr& stage, Val x, std::string_view label, Pos label_pos, Env& env,
                            std::string_view target) {
  if (stage.kind == ExprKind::kIndex) {
    Val v = apply_stage(*stage.args[0], std::move(x), label, label_pos, env, {});
    return eval_index(std::move(v), stage, env);
  }
  const bool call = stage.kind == ExprKind::kCall;
  const syntax::Expr& callee = call ? *stage.args[0] : stage;
  if (!call && stage.kind != ExprKind::kName && stage.kind != ExprKind::kAttr)
    return error(stage.pos,
                 "behind '|>' stands an op, a block or a layer, as in x |> relu or x |> fc: Linear(10)");
  const Callee c = resolve(callee, env);
  std::vector<Named> args{{"", x, stage.pos}};
  const bool is_block = c.kind == Callee::kBlock || c.kind == Callee::kConfig;
  if (!label.empty() && c.kind != Callee::kError && !is_block)
    return error(label_pos,
                 fmt::format("the label {} names the parameters of a block; {} stands here", quoted(label),
                             c.kind == Callee::kLayer ? "a layer, which has a name," : "an op"));
  // only one with a name of its own gives its name to a block
  const std::string_view name = label.empty() ? target : label;
  switch (c.kind) {
    case Callee::kError:
      if (call) eval_args(stage, env, args);
      return Val::error();
    case Callee::kBlock: {
      const Val config = configure(c.block, call ? &stage : nullptr, c.pos, env);
      if (config.is_error() || x.is_error()) return Val::error();
      return instantiate(*config.config, args, name, env, c.pos);
    }
    case Callee::kConfig: {
      if (x.is_error()) return x;
      if (callee.kind == ExprKind::kAttr) {  // alias.Block or alias.Block(..)
        const Val config = configure(c.config->block, call ? &stage : nullptr, c.pos, env);
        return config.is_error() ? config : instantiate(*config.config, args, name, env, c.pos);
      }
      return !eval_args(stage, env, args) ? Val::error() : instantiate(*c.config, args, name, env, c.pos);
    }
    case Callee::kLayer:
      if ((call && !eval_args(stage, env, args)) || x.is_error()) return Val::error();
      return apply_layer(*c.layer, args, env, c.pos);
    case Callee::kOp:
      if ((call && !eval_args(stage, env, args)) || x.is_error()) return Val::error();
      return call_op(*c.op, args, true, c.pos, env);
  }
  return Val::error();
}

// ---- blocks

bool Elaborator::convert_setting(const Setting& s, Val& v, Pos pos, std::string_view block) {
  auto list_of = [&](Val::Kind kind) {
    if (v.kind != Val::kList) v = Val::of_list({v});
    for (Val& x : *v.list) {
      if (kind == Val::kFloat && x.kind == Val::kInt && x.as_double()) x = Val::number(*x.as_double());
      if (x.kind != kind) return false;
    }
    return true;
  };
  bool ok = false;
  switch (s.type) {
    case Setting::kInt: ok = v.kind == Val::kInt; break;
    case Setting::kFloat:
      if (v.kind == Val::kInt && v.as_double()) v = Val::number(*v.as_double());
      ok = v.kind == Val::kFloat;
      break;
    case Setting::kBool: ok = v.kind == Val::kBool; break;
    case Setting::kStr: ok = v.kind == Val::kStr; break;
    case Setting::kDType: ok = v.kind == Val::kDType; break;
    case Setting::kInts: {
      const Val given = v;
      if (v.kind == Val::kList) v.list = std::make_shared<std::vector<Val>>(*v.list);
      if (!(ok = list_of(Val::kInt))) v = given;
      break;
    }
    case Setting::kFloats: {
      const Val given = v;
      if (v.kind == Val::kList) v.list = std::make_shared<std::vector<Val>>(*v.list);
      if (!(ok = list_of(Val::kFloat))) v = given;
      break;
    }
  }
  if (ok) return true;
  static constexpr std::string_view kWords[] = {
      "an integer",    "a list of integers", "a number", "a list of numbers",
      "true or false", "a string",           "a dtype"};
  std::vector<Note> notes{{fmt::format("{}'s setting {}", block, s.name), s.pos}};
  if (v.is_tensor())
    error(pos,
          fmt::format("{}'s setting {} must be {}, not {}; settings come first, then inputs: {}(..)(x)",
                      block, quoted(s.name), kWords[s.type], v.describe(), block),
          notes);
  else
    error(pos,
          fmt::format("{}'s setting {} must be {}, not {}", block, quoted(s.name), kWords[s.type],
                      v.describe()),
          notes);
  return false;
}

Val Elaborator::configure(const BlockRef& block, const syntax::Expr* call, Pos pos, Env& env) {
  const BlockDef& def = *block.def;
  std::vector<Named> args;
  if (call && !eval_args(*call, env, args)) return Val::error();
  std::vector<Val> given(def.settings.size(), Val::of(Val::kNone));
  size_t position = 0;
  for (Named& a : args) {
    size_t k = def.settings.size();
    if (a.name.empty()) {
      k = position++;
      if (k >= def.settings.size()) {
        if (a.value.is_tensor())
          return error(
              a.pos,
              fmt::format(
                  "{} is given a tensor where its settings are; settings come first, then inputs: {}()(x)",
                  def.name, def.name));
        return error(a.pos, fmt::format("{} has {} setting{}; {}", def.name, def.settings.size(),
                                        def.settings.size() == 1 ? "" : "s", settings_of(def)));
      }
    } else {
      NearestName near(a.name);
      for (size_t j = 0; j < def.settings.size(); ++j) {
        near.offer(def.settings[j].name);
        if (def.settings[j].name == a.name) k = j;
      }
      if (k == def.settings.size())
        return error(a.pos, fmt::format("{} has no setting {}{}; {}", def.name, quoted(a.name), near.hint(),
                                        settings_of(def)));
    }
    if (given[k].kind != Val::kNone)
      return error(
          a.pos, fmt::format("the setting {} of {} is given twice", quoted(def.settings[k].name), def.name));
    given[k] = std::move(a.value);
    if (!convert_setting(def.settings[k], given[k], a.pos, def.name)) return Val::error();
  }
  Env defaults;  // a default may name earlier settings
  defaults.unit = block.unit;
  defaults.def = block.def;
  for (size_t k = 0; k < def.settings.size(); ++k) {
    const Setting& s = def.settings[k];
    if (given[k].kind == Val::kNone) {
      if (!s.value) {
        // a bare name (no call) may still be on its way to being configured: x |> B is an application, B
        // alone isn't
        return error(pos,
                     fmt::format("{} needs its setting {}; {}", def.name, quoted(s.name), settings_of(def)),
                     {{"declared", s.pos}});
      }
      given[k] = eval(*s.value, defaults);
      if (given[k].is_error() || !convert_setting(s, given[k], s.value->pos, def.name)) return Val::error();
    }
    defaults.names[s.name] = given[k];
  }
  Val v = Val::of(Val::kConfig);
  v.config = std::make_shared<Config>();
  v.config->block = block;
  v.config->settings = std::move(given);
  v.config->pos = pos;
  return v;
}

Val Elaborator::instantiate(const Config& config, const std::vector<Named>& args, std::string_view label,
                            Env& env, Pos pos, LayerInst* layer) {
  constexpr int kMaxBlocks = 64;
  const BlockDef& def = *config.block.def;
  for (const Named& a : args)
    if (a.value.is_error()) return Val::error();
  if (blocks_ >= kMaxBlocks)
    return error(pos,
                 fmt::format("blocks nest more than {} deep; does {} contain itself?", kMaxBlocks, def.name));
  if (!builder_) return error(pos, fmt::format("the block {} can't be applied here", def.name));

  Env inner;
  inner.unit = config.block.unit;
  inner.def = config.block.def;
  if (layer) {
    inner.path = layer->path;
  } else if (label.empty()) {
    inner.path = env.path;
    if (inner.path.known) {
      inner.path.known = false;
      inner.path.unlabelled = pos;
      inner.path.block = def.name;
    }
  } else {
    inner.path = env.path;
    inner.path.text += (env.path.text.empty() ? "" : ".") + std::string(label) + env.suffix();
  }
  inner.random_owner = label.empty() && !layer ? env.random_owner : &inner;
  inner.loc = loc_of(pos, env);
  for (size_t k = 0; k < def.settings.size(); ++k) inner.names[def.settings[k].name] = config.settings[k];
  for (const syntax::DimBind& d : def.dims) {
    if (inner.names.count(d.name))
      return error(d.pos, fmt::format("{} is a setting and a size at once", quoted(d.name)));
    inner.unbound.insert(d.name);
  }

  // inputs, by position or name
  std::vector<Val> inputs(def.inputs.size(), Val::of(Val::kNone));
  std::vector<Pos> places(def.inputs.size(), pos);
  size_t position = 0;
  auto wanted = [&] {
    std::string s;
    for (const syntax::Field& f : def.inputs) s += (s.empty() ? "" : ", ") + f.name;
    return fmt::format("{} has {} input{} ({})", def.name, def.inputs.size(),
                       def.inputs.size() == 1 ? "" : "s", s);
  };
  for (const Named& a : args) {
    size_t k = def.inputs.size();
    if (a.name.empty())
      k = position++;
    else
      for (size_t j = 0; j < def.inputs.size(); ++j)
        if (def.inputs[j].name == a.name) k = j;
    if (k >= def.inputs.size())
      return error(a.pos, a.name.empty()
                              ? fmt::format("{}, {} are given", wanted(), args.size())
                              : fmt::format("{}; there is none called {}", wanted(), quoted(a.name)));
    if (inputs[k].kind != Val::kNone)
      return error(a.pos, fmt::format("the input {} of {} is given twice", quoted(a.name), def.name));
    inputs[k] = a.value;
    places[k] = a.pos;
  }

  ++blocks_;
  chain_.push_back({pos, &def, nullptr, inner.path.known ? inner.path.text : "", 0, nullptr});
  struct Leave {
    Elaborator& e;
    ~Leave() {
      --e.blocks_;
      e.chain_.pop_back();
    }
  } leave{*this};
  const std::string role = fmt::format("{}'s input", def.name);
  for (size_t k = 0; k < inputs.size(); ++k) {
    const syntax::Field& f = def.inputs[k];
    if (inputs[k].kind == Val::kNone)
      return error(pos, fmt::format("{}; {} isn't given", wanted(), quoted(f.name)));
    if (!inputs[k].is_tensor() && (inputs[k].is_number() || inputs[k].kind == Val::kBool))
      inputs[k] = literal(inputs[k], f.type->dtype, places[k], env);
    if (inputs[k].is_error()) return Val::error();
    if (!inputs[k].is_tensor())
      return error(places[k], fmt::format("the input {} of {} is a tensor, not {}", quoted(f.name), def.name,
                                          inputs[k].describe()));
    if (!match_type(*f.type, inputs[k].tensor, inner, pos, f.name, role)) return Val::error();
    inner.names[f.name] = inputs[k];
  }
  for (const syntax::DimBind& d : def.dims) {
    if (inner.unbound.count(d.name))
      return error(
          d.pos,
          fmt::format("no input of {} binds the size {}: it must stand alone as one of an input's sizes",
                      def.name, quoted(d.name)));
    if (!check_bounds(d, inner.names[d.name], inner, pos)) return Val::error();
  }
  if (run_body(def.body, inner) != Flow::kReturn)
    return diags_.full() ? Val::error()
                         : error(def.pos, fmt::format("the block {} ends without a return", def.name));

  if (stopped_ || diags_.full()) return Val::error();

  // results
  if (inner.results.size() != def.results.size()) {
    for (const Val& v : inner.results)
      if (v.is_error()) return Val::error();
    return error(inner.return_pos,
                 fmt::format("{} returns {} value{}, its declaration says {}", def.name, inner.results.size(),
                             inner.results.size() == 1 ? "" : "s", def.results.size()));
  }
  for (size_t k = 0; k < inner.results.size(); ++k) {
    const syntax::Field& f = def.results[k];
    Val& v = inner.results[k];
    if (v.is_error()) return Val::error();
    if (v.is_number()) v = literal(v, f.type->dtype, inner.return_pos, inner);
    if (v.is_error()) return Val::error();
    if (!v.is_tensor())
      return error(inner.return_pos, fmt::format("{} returns a tensor, not {}", def.name, v.describe()));
    if (!match_type(*f.type, v.tensor, inner, inner.return_pos, f.name.empty() ? "the result" : f.name,
                    fmt::format("{}'s result", def.name)))
      return Val::error();
    // seen from outside, the value comes from here; a value that was handed through keeps its own origin
    if (v.tensor->node && !inputs.empty() && v.tensor != inputs[0].tensor)
      origins_[v.tensor] = {pos, def.name, inputs[0].tensor};
  }
  if (inner.results.size() == 1) return inner.results[0];
  Val all = Val::of_list(std::move(inner.results));
  all.multi = true;
  all.flag = true;  // a block's
  return all;
}

Val Elaborator::apply_layer(LayerInst& layer, const std::vector<Named>& args, Env& env, Pos pos) {
  PathSet fresh;
  PathSet* outer = declared_;
  declared_ = &fresh;
  Val v = instantiate(layer.config, args, {}, env, pos, &layer);
  declared_ = outer;
  for (const auto& [path, where] : fresh) {
    if (!layer.declared.emplace(path, where).second) continue;
    auto [it, added] = declared_->emplace(path, where);
    if (!added)
      return error(layer.pos,
                   fmt::format("two parameters have the path {}; give the layer or the block another name",
                               quoted(path)),
                   {{"the first", it->second}});
  }
  layer.applied = true;
  return v;
}

// A parameter of a layer by name; null (and no message) if it has none of that name.
Variable* Elaborator::layer_variable(LayerInst& layer, const std::string& name, Pos pos, Env& env) {
  const std::string path = layer.path.text + "." + name;
  if (layer.declared.count(path)) return module_.find_variable(path);
  if (layer.applied) return nullptr;
  // before the first application: settings alone must fix the shape
  const BlockDef& def = *layer.config.block.def;
  for (const syntax::Stmt* s : def.body) {
    if ((s->kind != syntax::StmtKind::kParam && s->kind != syntax::StmtKind::kState) || s->name != name)
      continue;
    Env inner;
    inner.unit = layer.config.block.unit;
    inner.def = &def;
    inner.path = layer.path;
    inner.loc = layer.loc;
    inner.early = true;
    for (size_t k = 0; k < def.settings.size(); ++k)
      inner.names[def.settings[k].name] = layer.config.settings[k];
    for (const syntax::DimBind& d : def.dims) inner.unbound.insert(d.name);
    PathSet fresh;
    PathSet* outer = declared_;
    declared_ = &fresh;
    chain_.push_back({pos, &def, nullptr, layer.path.text, 0, nullptr});
    Variable* v = declare_variable(
        *s, inner, s->kind == syntax::StmtKind::kParam ? VariableKind::kParam : VariableKind::kState);
    chain_.pop_back();
    declared_ = outer;
    for (const auto& [p, where] : fresh) {
      layer.declared.emplace(p, where);
      auto [it, added] = declared_->emplace(p, where);
      if (!added)
        error(layer.pos,
              fmt::format("two parameters have the path {}; give the layer or the block another name",
                          quoted(p)),
              {{"the first", it->second}});
    }
    return v;
  }
  return nullptr;
}

// ---- ops

std::optional<Attr> Elaborator::to_attr(const Val& v) const {
  switch (v.kind) {
    case Val::kInt: return Attr(v.i);
    case Val::kFloat: return Attr(v.f);
    case Val::kBool: return Attr(v.flag);
    case Val::kStr: return Attr(v.text);
    case Val::kDType: return Attr(v.dtype);
    case Val::kList: {
      Attr::List l;
      for (const Val& x : *v.list) {
        auto a = to_attr(x);
        if (!a) return std::nullopt;
        l.push_back(*std::move(a));
      }
      return Attr(std::move(l));
    }
    default: return std::nullopt;
  }
}

// The key of one random op: (seed, step) of the run and a stream of its own, from the path of the block and
// the ordinal in it.
Value* Elaborator::random_key(Env& env) {
  auto state = [&](const char* name, DType t) {
    Variable* v = module_.find_variable(name);
    if (!v) v = module_.add_variable(name, VariableKind::kState, TensorType{t, {}}, "zeros");
    return &v->value;
  };
  Value* seed = state("rng.seed", DType::kU64);
  Value* step = state("rng.step", DType::kI64);
  Env& owner = env.random_owner ? *env.random_owner : env;
  const std::string id = fmt::format("{}#{}", owner.path.text, owner.ordinal++);
  uint64_t h = 0xcbf29ce484222325ull;  // FNV-1a
  for (const char c : id) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  auto stream = static_cast<uint32_t>(h ^ h >> 32);
  while (!streams_.insert(stream).second) ++stream;  // two ops must never share a stream
  builder_->loc = env.loc;
  return builder_->create(ops::rng_key, {seed, step}, {{"stream", static_cast<int64_t>(stream)}});
}

// Scalar maths on numbers known at compile time.
std::optional<Val> Elaborator::constant_call(const OpDef& op, const std::vector<Val>& x, Pos pos) {
  std::vector<double> v;
  bool ints = true;
  for (const Val& a : x) {
    const auto d = a.as_double();
    if (!d) return std::nullopt;
    ints &= a.kind == Val::kInt;
    v.push_back(*d);
  }
  double r = 0;
  const std::string_view n = op.name;
  if (v.size() == 1) {
    if (n == "sqrt")
      r = std::sqrt(v[0]);
    else if (n == "rsqrt")
      r = 1 / std::sqrt(v[0]);
    else if (n == "exp")
      r = std::exp(v[0]);
    else if (n == "log")
      r = std::log(v[0]);
    else if (n == "sin")
      r = std::sin(v[0]);
    else if (n == "cos")
      r = std::cos(v[0]);
    else if (n == "tanh")
      r = std::tanh(v[0]);
    else if (n == "abs") {
      if (ints) return Val::integer(x[0].i.constant() < 0 ? -x[0].i : x[0].i);
      r = std::fabs(v[0]);
    } else if (n == "floor") {
      if (ints) return x[0];
      r = std::floor(v[0]);
    } else if (n == "ceil") {
      if (ints) return x[0];
      r = std::ceil(v[0]);
    } else
      return std::nullopt;
  } else if (v.size() == 2 && (n == "maximum" || n == "minimum")) {
    const bool first = n == "maximum" ? v[0] >= v[1] : v[0] <= v[1];
    if (ints) return x[first ? 0 : 1];
    r = v[first ? 0 : 1];
  } else {
    return std::nullopt;
  }
  if (!std::isfinite(r)) return error(pos, fmt::format("{} of {} isn't a real number", n, x[0].show()));
  return Val::number(r);
}

Val Elaborator::call_op(const OpDef& op, const std::vector<Named>& args, bool piped, Pos pos, Env& env) {
  const int declared = op.num_operands(), settings = op.num_attrs();
  std::vector<Val> slots(declared);  // by operand; a variadic one's values are appended
  std::vector<Pos> slot_pos(declared, pos);
  for (Val& s : slots) s = Val::of(Val::kNone);
  std::vector<Val> rest;  // of a variadic operand
  Attrs attrs;
  auto operand_index = [&](std::string_view name) {
    for (int k = 0; k < declared; ++k)
      if (op.operands[k].name == name) return k;
    return -1;
  };
  auto is_key = [&](int k) { return op.operands[k].name == "key"; };
  auto set_attr = [&](std::string_view name, const Val& v, Pos p) {
    if (v.kind == Val::kType) {  // zeros(f32[N, 4]): the type is both settings
      attrs.insert_or_assign("shape", Attr::dims(v.type->shape));
      attrs.insert_or_assign("dtype", Attr(v.type->dtype));
      return true;
    }
    auto a = to_attr(v);
    if (!a) {
      error(p, fmt::format("{}: the setting {} is known at compile time, it can't be {}", op.name,
                           quoted(name), v.describe()));
      return false;
    }
    if (!attrs.emplace(std::string(name), *std::move(a)).second) {
      error(p, fmt::format("{}: {} is given twice", op.name, quoted(name)));
      return false;
    }
    return true;
  };

  int next_operand = 0, next_attr = 0;
  for (size_t n = 0; n < args.size(); ++n) {
    const Named& a = args[n];
    if (!a.name.empty()) {
      if (const int k = operand_index(a.name); k >= 0 && !op.find_attr(a.name)) {
        if (slots[k].kind != Val::kNone || (op.operands[k].arity == Arity::kVariadic && !rest.empty()))
          return error(a.pos, fmt::format("{}: {} is given twice", op.name, quoted(a.name)));
        slots[k] = a.value;
        slot_pos[k] = a.pos;
        continue;
      }
      if (!op.find_attr(a.name) && (op.free_attrs.empty() || a.value.kind != Val::kInt)) {
        NearestName near(a.name);
        std::string known;
        for (int k = 0; k < settings; ++k) {
          near.offer(op.attrs[k].name);
          known += (known.empty() ? "" : ", ") + std::string(op.attrs[k].name);
        }
        for (int k = 0; k < declared; ++k)
          if (!is_key(k)) near.offer(op.operands[k].name);
        return error(a.pos, fmt::format("{} has no setting {}{}; {}", op.name, quoted(a.name), near.hint(),
                                        known.empty() ? "it takes none" : "it takes " + known));
      }
      if (!set_attr(a.name, a.value, a.pos)) return Val::error();
      continue;
    }
    // an operand or a setting?
    while (next_operand < declared &&
           (slots[next_operand].kind != Val::kNone ||
            (is_key(next_operand) && !(a.value.is_tensor() && a.value.tensor->type.dtype == DType::kU32))))
      ++next_operand;
    if (next_operand < declared) {
      const OperandDef& d = op.operands[next_operand];
      const bool tensors =
          a.value.kind == Val::kList && !a.value.list->empty() &&
          std::all_of(a.value.list->begin(), a.value.list->end(), [](const Val& v) { return v.is_tensor(); });
      if (d.arity == Arity::kVariadic && (a.value.is_tensor() || tensors)) {
        if (tensors)
          rest.insert(rest.end(), a.value.list->begin(), a.value.list->end());
        else
          rest.push_back(a.value);
        continue;
      }
      const bool number = a.value.is_number() || a.value.kind == Val::kBool;
      if (a.value.is_tensor() || (piped && n == 0) || (number && d.arity == Arity::kOne)) {
        slots[next_operand] = a.value;
        slot_pos[next_operand] = a.pos;
        ++next_operand;
        continue;
      }
      const bool pattern =
          a.value.kind == Val::kStr || a.value.kind == Val::kType || a.value.kind == Val::kDType;
      if (!pattern && d.arity != Arity::kOne)
        return error(
            a.pos, fmt::format("{}: a setting that comes after optional operands must be named, as in {}=..",
                               op.name, next_attr < settings ? op.attrs[next_attr].name : "name"));
      if (!pattern)
        return error(a.pos, fmt::format("{}: the operand {} is a tensor, not {}", op.name, quoted(d.name),
                                        a.value.describe()));
    }
    if (a.value.is_tensor()) {
      std::string names;
      for (int k = 0; k < declared; ++k)
        if (!is_key(k)) names += (names.empty() ? "" : ", ") + std::string(op.operands[k].name);
      return error(a.pos, fmt::format("{} takes {} tensor{} ({})", op.name, declared,
                                      declared == 1 ? "" : "s", names.empty() ? "none" : names));
    }
    if (a.value.kind == Val::kType) {
      if (!op.find_attr("shape") || !op.find_attr("dtype"))
        return error(a.pos, fmt::format("{} takes no type", op.name));
      set_attr("", a.value, a.pos);
      continue;
    }
    while (next_attr < settings && attrs.count(op.attrs[next_attr].name)) ++next_attr;
    if (next_attr >= settings)
      return error(a.pos, fmt::format("{} takes {} setting{}, {} is one too many", op.name, settings,
                                      settings == 1 ? "" : "s", a.value.show()));
    if (!set_attr(op.attrs[next_attr++].name, a.value, a.pos)) return Val::error();
  }

  // numbers in operands' places: maths on numbers alone is compile-time, otherwise they take a tensor's dtype
  std::vector<Val> operands;
  std::vector<int> which;
  std::vector<Pos> places;
  bool tensor = false, number = false;
  int gap = -1;
  for (int k = 0; k < declared; ++k) {
    if (op.operands[k].arity == Arity::kVariadic && slots[k].kind == Val::kNone) {
      for (Val& v : rest) operands.push_back(v), which.push_back(k), places.push_back(pos), tensor = true;
      continue;
    }
    if (slots[k].kind == Val::kNone && is_key(k)) {
      Value* key = random_key(env);
      slots[k] = Val::of_tensor(key);
    }
    if (slots[k].kind == Val::kNone) {
      if (gap < 0) gap = k;
      continue;
    }
    if (gap >= 0 && op.operands[gap].arity == Arity::kOptional)
      return error(slot_pos[k], fmt::format("{}: {} can't be given without {}", op.name,
                                            quoted(op.operands[k].name), quoted(op.operands[gap].name)));
    if (slots[k].kind == Val::kList || slots[k].kind == Val::kStr || slots[k].kind == Val::kConfig ||
        slots[k].kind == Val::kLayer || slots[k].kind == Val::kType || slots[k].kind == Val::kDType)
      return error(slot_pos[k], fmt::format("{}: the operand {} is a tensor, not {}", op.name,
                                            quoted(op.operands[k].name), slots[k].describe()));
    (slots[k].is_tensor() ? tensor : number) = true;
    operands.push_back(slots[k]);
    which.push_back(k);
    places.push_back(slot_pos[k]);
  }
  if (number && !tensor) {
    if (auto v = constant_call(op, operands, pos)) return *v;
    return error(pos, fmt::format("{} is applied to {}; at least one operand is a tensor", op.name,
                                  operands[0].describe()));
  }
  std::vector<Value*> values;
  for (size_t k = 0; k < operands.size(); ++k) {
    if (!operands[k].is_tensor()) {
      const DTypeSet allowed = op.operands[which[k]].types;
      const bool truth = operands[k].kind == Val::kBool;
      const Value* like = nullptr;
      for (size_t j = 0; j < operands.size() && !like; ++j) {
        if (!operands[j].is_tensor() || is_key(which[j])) continue;
        const DType t = operands[j].tensor->type.dtype;
        if ((allowed & dtype_bit(t)) && (t == DType::kBool) == truth) like = operands[j].tensor;
      }
      if (!like)
        return error(places[k], fmt::format("{}: the operand {} is a tensor, not {}", op.name,
                                            quoted(op.operands[which[k]].name), operands[k].describe()));
      operands[k] = literal(operands[k], like->type.dtype, places[k], env);
      if (operands[k].is_error()) return operands[k];
    }
    values.push_back(operands[k].tensor);
  }
  return make_node(op, std::move(values), std::move(attrs), pos, env);
}

}  // namespace graphc
