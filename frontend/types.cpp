// Written types against the types of values: evaluation, binding of sizes, and the messages when they differ.
#include <fmt/format.h>

#include "frontend/elaborate.h"

namespace graphc {

using syntax::DimExpr;
using syntax::ExprKind;
using syntax::TypeExpr;

std::optional<Dim> Elaborator::eval_dim(const syntax::Expr& e, Env& env) {
  const Val v = eval(e, env);
  if (v.is_error()) return std::nullopt;
  if (v.kind != Val::kInt) {
    error(e.pos, fmt::format("a size must be an integer, not {}", v.describe()));
    return std::nullopt;
  }
  if (v.i.is_constant() && (v.i.constant() < 0 || v.i.constant() > INT32_MAX)) {
    error(e.pos, fmt::format("a size must lie in 0..2147483647, not {}", v.i.constant()));
    return std::nullopt;
  }
  return v.i;
}

std::optional<TensorType> Elaborator::eval_type(const TypeExpr& t, Env& env) {
  TensorType out;
  out.dtype = t.dtype;
  for (const DimExpr& d : t.dims) {
    if (d.kind == DimExpr::kInfer) {
      error(d.pos, "'_' stands for a size to be inferred; here it must be given");
      return std::nullopt;
    }
    if (d.kind == DimExpr::kSpread) {
      auto it = env.names.find(d.name);
      if (it == env.names.end() || it->second.kind != Val::kList) {
        error(d.pos, fmt::format("'...{}' isn't bound to sizes here", d.name));
        return std::nullopt;
      }
      for (const Val& v : *it->second.list)
        if (v.kind == Val::kInt) out.shape.push_back(v.i);
      continue;
    }
    const auto dim = eval_dim(*d.expr, env);
    if (!dim) return std::nullopt;
    out.shape.push_back(*dim);
  }
  if (out.rank() > 8) {
    error(t.pos, fmt::format("a tensor of rank {}; at most 8 is supported", out.rank()));
    return std::nullopt;
  }
  return out;
}

namespace {

// The type as written, for messages: "f32[N, T, D]"
std::string written(const SourceMap& sources, const TypeExpr& t) {
  const std::string_view text = sources.text(t.pos.file).substr(t.pos.offset);
  size_t depth = 0, end = dtype_name(t.dtype).size();
  if (t.has_dims)
    for (end = 0; end < text.size() && end < 200; ++end) {
      if (text[end] == '[') ++depth;
      if (text[end] == ']' && --depth == 0) {
        ++end;
        break;
      }
    }
  std::string out;
  for (char c : text.substr(0, end))
    if (c != '\n' && c != '\r') out += c;
  return out;
}

}  // namespace

bool Elaborator::match_type(const TypeExpr& t, const Value* v, Env& env, Pos pos, std::string_view what,
                            std::string_view role) {
  const TensorType& given = v->type;
  auto fail = [&](std::string why) {
    std::vector<Note> notes;
    derive(v, what, 3, notes);
    notes.push_back({fmt::format("{} is declared {}", what, written(units_.sources, t)), t.pos});
    error(pos, fmt::format("{}: {}", role, why), std::move(notes));
    return false;
  };
  if (given.dtype != t.dtype)
    return fail(fmt::format("{} must be {}, not {}; write cast(.., {}) if that is meant", what,
                            dtype_name(t.dtype), given.to_string(), dtype_name(t.dtype)));
  size_t spread = t.dims.size();
  for (size_t k = 0; k < t.dims.size(); ++k) {
    if (t.dims[k].kind != DimExpr::kSpread) continue;
    if (spread != t.dims.size()) {
      error(t.dims[k].pos, "a type has at most one '...'");
      return false;
    }
    spread = k;
  }
  const size_t fixed = t.dims.size() - (spread < t.dims.size());
  if (spread == t.dims.size() ? given.shape.size() != fixed : given.shape.size() < fixed)
    return fail(fmt::format("{} must have rank {}{}, as in {}, not {}", what, fixed,
                            spread < t.dims.size() ? " or more" : "", written(units_.sources, t),
                            given.to_string()));
  // first what a name alone determines, then the expressions over it
  auto at = [&](size_t k) -> size_t { return k <= spread ? k : given.shape.size() - (t.dims.size() - k); };
  for (size_t k = 0; k < t.dims.size(); ++k) {
    const DimExpr& d = t.dims[k];
    if (d.kind == DimExpr::kSpread) {
      std::vector<Val> sizes;
      for (size_t j = spread; j < spread + given.shape.size() - fixed; ++j)
        sizes.push_back(Val::integer(given.shape[j]));
      if (env.unbound.erase(d.name)) {
        env.names[d.name] = Val::of_list(std::move(sizes));
        continue;
      }
      auto it = env.names.find(d.name);
      if (it == env.names.end() || it->second.kind != Val::kList) {
        error(d.pos, fmt::format("'...{}' isn't declared in the brackets behind the block's name", d.name));
        return false;
      }
      const auto& bound = *it->second.list;
      bool same = bound.size() == sizes.size();
      for (size_t j = 0; same && j < sizes.size(); ++j)
        same = bound[j].kind == Val::kInt && bound[j].i == sizes[j].i;
      if (!same)
        return fail(fmt::format("the sizes ...{} of {} are {}, elsewhere {}", d.name, what,
                                Val::of_list(sizes).show(), it->second.show()));
    } else if (d.kind == DimExpr::kExpr && d.expr->kind == ExprKind::kName &&
               env.unbound.erase(d.expr->text)) {
      env.names[d.expr->text] = Val::integer(given.shape[at(k)]);
    }
  }
  for (size_t k = 0; k < t.dims.size(); ++k) {
    const DimExpr& d = t.dims[k];
    if (d.kind != DimExpr::kExpr) continue;
    const auto wanted = eval_dim(*d.expr, env);
    if (!wanted) return false;
    const Dim& is = given.shape[at(k)];
    if (*wanted == is) continue;
    const std::string text = written(units_.sources, t);
    const bool plain = d.expr->kind == ExprKind::kInt;
    return fail(fmt::format("axis {} of {} must be {}{}, not {}", at(k), what, wanted->to_string(),
                            plain                             ? ""
                            : d.expr->kind == ExprKind::kName ? fmt::format(" ({})", d.expr->text)
                                                              : "",
                            is.to_string()));
  }
  return true;
}

bool Elaborator::check_bounds(const syntax::DimBind& b, const Val& v, Env& env, Pos pos) {
  if (!b.lo) return true;
  const auto lo = eval_dim(*b.lo, env);
  const auto hi = eval_dim(*b.hi, env);
  if (!lo || !hi) return false;
  std::vector<Val> one{v};
  for (const Val& s : v.kind == Val::kList ? *v.list : one) {
    if (s.kind != Val::kInt) continue;
    if (ranges_.provably_nonnegative(s.i - *lo) && ranges_.provably_nonnegative(*hi - s.i)) continue;
    std::vector<Note> notes{
        {fmt::format("{} is declared in {}..{}", b.name, lo->to_string(), hi->to_string()), b.pos}};
    if (s.i.is_constant())
      error(pos,
            fmt::format("the size {} = {} lies outside {}..{}", b.name, s.i.to_string(), lo->to_string(),
                        hi->to_string()),
            std::move(notes));
    else
      error(pos,
            fmt::format("the size {} isn't known to lie in {}..{}; bound it in the brackets of the model",
                        s.i.to_string() == b.name ? b.name : b.name + " = " + s.i.to_string(),
                        lo->to_string(), hi->to_string()),
            std::move(notes));
    return false;
  }
  return true;
}

}  // namespace graphc
