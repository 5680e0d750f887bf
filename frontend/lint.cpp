// Names that are written and never read. Looked for in the text of each block, not in an elaboration: whether
// a branch was taken doesn't matter, and a dead store to a name that is read elsewhere isn't reported.
#include <fmt/format.h>

#include <unordered_set>

#include "frontend/unit.h"

namespace graphc {
namespace {

using namespace syntax;

struct Reads {
  std::unordered_set<std::string_view> names;

  void type(const TypeExpr* t) {
    if (!t) return;
    for (const DimExpr& d : t->dims) {
      if (d.kind == DimExpr::kSpread) names.insert(d.name);
      expr(d.expr);
    }
  }
  void expr(const Expr* e) {
    if (!e) return;
    if (e->kind == ExprKind::kName) names.insert(e->text);
    type(e->type);
    for (const Expr* a : e->args) expr(a);
    for (const Arg& a : e->call_args) expr(a.value);
  }
  void body(const std::vector<Stmt*>& stmts) {
    for (const Stmt* s : stmts) {
      type(s->type);
      for (const Expr* e : s->values) expr(e);
      for (const Target& t : s->targets) {
        expr(t.index);
        type(t.type);
      }
      for (const Branch& b : s->branches) {
        expr(b.cond);
        body(b.body);
      }
      for (const auto& [name, e] : s->carried) expr(e);
      body(s->body);
    }
  }
};

struct Lint {
  const Reads& reads;
  Diagnostics& diags;
  std::unordered_set<std::string_view> states;

  bool unread(std::string_view name) const { return name[0] != '_' && !reads.names.count(name); }
  void body(const std::vector<Stmt*>& stmts) {
    for (const Stmt* s : stmts) {
      if (s->kind == StmtKind::kState) states.insert(s->name);
      if (s->kind == StmtKind::kParam && unread(s->name))
        diags.warning(s->pos, fmt::format("the parameter {} is never used", quoted(s->name)));
      if (s->kind == StmtKind::kLayer && unread(s->name))
        diags.warning(s->pos, fmt::format("the layer {} is never used", quoted(s->name)));
      for (const Target& t : s->targets)
        if (unread(t.name) && !states.count(t.name))
          diags.warning(t.pos, fmt::format("the value {} is never used", quoted(t.name)));
      for (const Branch& b : s->branches) body(b.body);
      body(s->body);
    }
  }
};

}  // namespace

void warn_unused(const FileUnit& unit, Diagnostics& diags) {
  for (const BlockDef& b : unit.ast->blocks) {
    Reads reads;
    for (const DimBind& d : b.dims) reads.expr(d.lo), reads.expr(d.hi);
    for (const Setting& s : b.settings) reads.expr(s.value);
    for (const Field& f : b.inputs) reads.type(f.type);
    for (const Field& f : b.results) reads.type(f.type);
    reads.body(b.body);
    // a model's inputs may serve its train section alone
    for (const TrainDef& t : unit.ast->trains)
      if (t.model == b.name)
        for (const TrainEntry& e : t.entries) reads.expr(e.value);
    Lint lint{reads, diags, {}};
    for (const Setting& s : b.settings)
      if (lint.unread(s.name))
        diags.warning(s.pos, fmt::format("the setting {} is never used", quoted(s.name)));
    for (const Field& f : b.inputs)
      if (lint.unread(f.name))
        diags.warning(f.pos, fmt::format("the input {} is never used", quoted(f.name)));
    lint.body(b.body);
  }
}

}  // namespace graphc
