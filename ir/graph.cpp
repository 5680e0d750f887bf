#include "ir/graph.h"

#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>

#include "ir/op.h"

namespace graphc {

const Attr& Node::attr(std::string_view name) const {
  auto it = attrs.find(name);
  if (it == attrs.end()) {
    fmt::print(stderr, "graphc: internal error: {} has no attribute '{}'\n", op->name, name);
    std::abort();
  }
  return it->second;
}

Value* Block::add_arg(TensorType type, std::string name) {
  auto v = std::make_unique<Value>();
  v->type = std::move(type);
  v->name = std::move(name);
  v->block = this;
  v->index = static_cast<int>(args.size());
  args.push_back(std::move(v));
  return args.back().get();
}

DimRanges Func::ranges() const {
  DimRanges r;
  for (const SymbolDef& s : symbols)
    r.set(s.name, Dim(s.min), s.max ? std::optional<Dim>(Dim(*s.max)) : std::nullopt);
  return r;
}

Func* Module::add_func(std::string name) {
  funcs.push_back(std::make_unique<Func>());
  funcs.back()->name = std::move(name);
  return funcs.back().get();
}

Func* Module::find_func(std::string_view name) const {
  for (const auto& f : funcs)
    if (f->name == name) return f.get();
  return nullptr;
}

Variable* Module::find_variable(std::string_view name) const {
  auto it = by_name_.find(std::string(name));
  return it == by_name_.end() ? nullptr : it->second;
}

Variable* Module::add_variable(std::string name, VariableKind kind, TensorType type, std::string init,
                               Attrs init_attrs, LocId loc) {
  if (by_name_.contains(name)) return nullptr;
  auto v = std::make_unique<Variable>();
  v->name = name;
  v->kind = kind;
  v->init = std::move(init);
  v->init_attrs = std::move(init_attrs);
  v->loc = loc;
  v->value.type = std::move(type);
  v->value.variable = v.get();
  by_name_[std::move(name)] = v.get();
  variables.push_back(std::move(v));
  return variables.back().get();
}

LocId Module::add_loc(Loc loc) {
  // Neighbouring nodes mostly share a location: look a little way back before adding one.
  for (size_t i = locs.size(), n = 0; i > 0 && n < 8; --i, ++n)
    if (locs[i - 1] == loc) return static_cast<LocId>(i - 1);
  locs.push_back(std::move(loc));
  return static_cast<LocId>(locs.size() - 1);
}

std::string Module::loc_to_string(LocId loc) const {
  std::string s;
  for (int depth = 0; loc >= 0 && depth < 64; loc = locs[loc].parent, ++depth)
    s +=
        fmt::format("{}{}:{}:{}", s.empty() ? "" : ", in ", locs[loc].file, locs[loc].line, locs[loc].column);
  return s;
}

std::unordered_map<const Value*, int> count_uses(const Block& block) {
  std::unordered_map<const Value*, int> uses;
  for (const auto& n : block.nodes)
    for (const Value* v : n->operands) ++uses[v];
  for (const Value* v : block.results) ++uses[v];
  return uses;
}

std::vector<Value*> clone_block_into(const Block& from, Block& to,
                                     std::unordered_map<const Value*, Value*>& map) {
  auto image = [&](Value* v) {
    auto it = map.find(v);
    return it != map.end() ? it->second : v;  // a variable's value, unless listed
  };
  to.nodes.reserve(to.nodes.size() + from.nodes.size());
  for (const auto& n : from.nodes) {
    auto c = std::make_unique<Node>();
    c->op = n->op;
    c->attrs = n->attrs;
    c->loc = n->loc;
    c->operands.reserve(n->operands.size());
    for (Value* v : n->operands) c->operands.push_back(image(v));
    for (const auto& r : n->results) {
      auto v = std::make_unique<Value>();
      v->type = r->type;
      v->name = r->name;
      v->node = c.get();
      v->index = r->index;
      map[r.get()] = v.get();
      c->results.push_back(std::move(v));
    }
    if (n->region) {
      c->region = std::make_unique<Block>();
      std::unordered_map<const Value*, Value*> inner;
      for (const auto& a : n->region->args) inner[a.get()] = c->region->add_arg(a->type, a->name);
      c->region->results = clone_block_into(*n->region, *c->region, inner);
    }
    to.nodes.push_back(std::move(c));
  }
  std::vector<Value*> results;
  for (Value* v : from.results) results.push_back(image(v));
  return results;
}

std::unique_ptr<Module> clone(const Module& module) {
  auto out = std::make_unique<Module>();
  out->locs = module.locs;
  std::unordered_map<const Value*, Value*> variables;
  for (const auto& v : module.variables) {
    Variable* c = out->add_variable(v->name, v->kind, v->value.type, v->init, v->init_attrs, v->loc);
    c->data = v->data;
    variables[&v->value] = &c->value;
  }
  for (const auto& f : module.funcs) {
    Func* g = out->add_func(f->name);
    g->symbols = f->symbols;
    g->result_names = f->result_names;
    g->loc = f->loc;
    auto map = variables;
    for (const auto& a : f->body.args) map[a.get()] = g->body.add_arg(a->type, a->name);
    g->body.results = clone_block_into(f->body, g->body, map);
  }
  return out;
}

namespace {

using Substitution = std::map<std::string, Dim, std::less<>>;

void bind_type(TensorType& t, const Substitution& s) {
  for (Dim& d : t.shape) d = d.substitute(s);
}

Attr bind_attr(const Attr& a, const Substitution& s) {
  if (a.is_int()) return a.as_dim().is_constant() ? a : Attr(a.as_dim().substitute(s));
  if (!a.is_list()) return a;
  Attr::List l;
  for (const Attr& x : a.as_list()) l.push_back(bind_attr(x, s));
  return Attr(std::move(l));
}

void bind_block(Block& b, const Substitution& s) {
  for (auto& a : b.args) bind_type(a->type, s);
  for (auto& n : b.nodes) {
    for (auto& r : n->results) bind_type(r->type, s);
    for (auto& [name, a] : n->attrs) a = bind_attr(a, s);
    if (n->region) bind_block(*n->region, s);
  }
}

}  // namespace

Status bind_symbols(Func& f, const std::map<std::string, int64_t, std::less<>>& sizes) {
  Substitution s;
  for (const auto& [name, size] : sizes) {
    const SymbolDef* def = nullptr;
    for (const SymbolDef& d : f.symbols)
      if (d.name == name) def = &d;
    if (!def) {
      std::string known;
      for (const SymbolDef& d : f.symbols) known += (known.empty() ? "" : ", ") + d.name;
      return invalid(fmt::format("@{} has no symbolic size '{}'{}", f.name, name,
                                 known.empty() ? "" : "; it has " + known));
    }
    if (size < def->min || (def->max && size > *def->max))
      return invalid(fmt::format("{}={} is outside {}..{}", name, size, def->min,
                                 def->max ? fmt::format("{}", *def->max) : ""));
    s[name] = Dim(size);
  }
  bind_block(f.body, s);
  std::erase_if(f.symbols, [&](const SymbolDef& d) { return s.contains(d.name); });
  return ok_status();
}

}  // namespace graphc
