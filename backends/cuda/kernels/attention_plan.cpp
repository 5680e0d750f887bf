#include "backends/cuda/kernels/attention_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "backends/cuda/kernels/each_element.h"

namespace graphc::cuda {
namespace {

bool is_layout(const Node* n) {
  return n && (n->op == &ops::transpose || n->op == &ops::reshape || n->op == &ops::concat);
}

// Whether v is made of `part`.
bool depends(const Value* v, const Value* part) {
  if (v == part) return true;
  if (!v->node) return false;
  return std::ranges::any_of(v->node->operands, [&](const Value* o) { return depends(o, part); });
}

// Where in v the element `at` of `part` lies.
Coords place_in(const Value* v, const Value* part, const Coords& at, const DimRanges& ranges) {
  if (v == part) return at;
  const Node& n = *v->node;
  Dim offset = 0;
  for (const Value* o : n.operands) {
    if (!depends(o, part)) {
      if (n.op == &ops::concat) offset += o->type.shape[static_cast<size_t>(n.attr("axis").as_int())];
      continue;
    }
    Coords to = place_in(o, part, at, ranges);
    if (n.op == &ops::transpose) {
      const std::vector<int64_t> perm = n.attr("perm").as_ints();
      Coords moved(to.size());
      for (size_t i = 0; i < to.size(); ++i) moved[i] = to[static_cast<size_t>(perm[i])];
      return moved;
    }
    if (n.op == &ops::reshape) return reshape_coords(o->type.shape, to, v->type.shape, ranges);
    if (n.op == &ops::concat) {
      Dim& c = to[static_cast<size_t>(n.attr("axis").as_int())];
      c = ranges.simplify(c + offset);
    }
    return to;
  }
  return at;
}

Status check_result(const Value* v, const Node* core) {
  if (v->node == core) return ok_status();
  if (!v->node) return unsupported("attention: a result that isn't made of the core's");
  const Node& n = *v->node;
  if (!is_layout(&n) && !n.op->scalar)
    return unsupported(fmt::format("attention: {} behind the core", n.op->name));
  for (const Value* o : n.operands) {
    const bool part = std::ranges::any_of(core->results, [&](const auto& r) { return depends(o, r.get()); });
    if (!part) {
      if (is_layout(&n)) return unsupported("attention: a result that isn't made of the core's alone");
      continue;
    }
    if (n.op->scalar && o->type.shape != v->type.shape)
      return unsupported("attention: a result that is broadcast");
    GC_CHECK(check_result(o, core));
  }
  return ok_status();
}

}  // namespace

Coords AttentionPlan::at(const Coords& batch_at, const Dim& row) const {
  Coords c = batch_at;
  c.push_back(row);
  return c;
}
Coords AttentionPlan::at(const Coords& batch_at, const Dim& row, const Dim& column) const {
  Coords c = at(batch_at, row);
  c.push_back(column);
  return c;
}
std::vector<int> AttentionPlan::results_of(std::initializer_list<int> core_results) const {
  std::vector<int> out;
  for (size_t r = 0; r < region->body.results.size(); ++r)
    if (std::ranges::any_of(core_results,
                            [&](int c) { return depends(region->body.results[r], core->result(c)); }))
      out.push_back(static_cast<int>(r));
  return out;
}

Result<AttentionPlan> plan_attention(const Func& region) {
  AttentionPlan p;
  p.region = &region;
  for (const auto& n : region.body.nodes) {
    if (n->op != &ops::attention && n->op != &ops::attention_grad) continue;
    if (p.core) return unsupported("attention: several cores");
    p.core = n.get();
  }
  if (!p.core) return unsupported("attention: no core");
  p.backward = p.core->op == &ops::attention_grad;
  const auto& operands = p.core->operands;
  const TensorType &q = operands[0]->type, &v = operands[2]->type;
  if (q.dtype == DType::kF64) return unsupported("attention: f64");
  const auto e = q.shape.back().as_constant(), width = v.shape.back().as_constant();
  if (!e || !width || *e < 1 || *width < 1 || *e > 128 || *width > 128)
    return unsupported("attention: vectors of more than 128 elements, or of a number that isn't known");
  p.e = *e, p.v = *width;
  p.batch = Shape(q.shape.begin(), q.shape.end() - 2);
  p.t = q.shape[q.shape.size() - 2];
  p.s = v.shape[v.shape.size() - 2];
  p.causal = p.core->attr("causal").as_bool();
  p.scale = p.core->attr("scale").as_float();
  if (p.scale == 0) p.scale = 1 / std::sqrt(static_cast<double>(p.e));
  const size_t mask = p.backward ? 6 : 3;
  if (operands.size() > mask) p.mask = operands[mask];
  for (const Value* r : region.body.results) GC_CHECK(check_result(r, p.core));
  return p;
}

int64_t dot_width(int64_t n) { return (n + 3) / 4 * 4; }
int64_t row_width(int64_t n) { return (n + 31) / 32 * 32; }
int column_chunks(int64_t n) { return static_cast<int>((n + 31) / 32); }
int64_t pitch(int64_t width) {
  // 4 floats more than a multiple of 32, or of any number of 4-float groups that is odd
  return width / 4 % 2 == 0 ? width + 4 : width;
}

namespace {
std::vector<const Value*> roots_of(const AttentionPlan& p, const std::vector<int>& results,
                                   std::vector<const Value*> operands) {
  for (int r : results) operands.push_back(p.region->body.results[static_cast<size_t>(r)]);
  if (p.mask) operands.push_back(p.mask);
  return operands;
}
std::unordered_set<const Value*> cut_of(const AttentionPlan& p) {
  std::unordered_set<const Value*> cut;
  for (const auto& r : p.core->results) cut.insert(r.get());
  return cut;
}
}  // namespace

AttentionKernel::AttentionKernel(const AttentionPlan& plan, const AttentionTiles& tiles,
                                 const std::string& name, std::vector<int> results,
                                 std::vector<const Value*> operands)
    : p_(plan),
      c_(tiles),
      result_numbers_(std::move(results)),
      b_(*plan.region, name, roots_of(plan, result_numbers_, std::move(operands)), cut_of(plan),
         result_numbers_) {}

void AttentionKernel::for_blocks(const Dim& size, int rows, bool last_first,
                                 const std::function<void(Dim)>& body) {
  std::function<void(size_t)> axis = [&](size_t a) {
    if (a < p_.batch.size()) {
      if (p_.batch[a].is_constant(1)) {
        batch_at_.push_back(0);
        return axis(a + 1);
      }
      return b_.loop(parallel(), "b", 0, p_.batch[a], [&](Dim v) {
        batch_at_.push_back(v);
        axis(a + 1);
      });
    }
    const Dim blocks = ceildiv(size, rows);
    b_.loop(parallel(), "block", 0, blocks, [&](Dim v) {
      const Dim block = last_first ? named("row", blocks - 1 - v, 0, blocks - 1) : v;
      body(block * rows);
    });
  };
  axis(0);
}

void AttentionKernel::each_thread(const Body& body) {
  b_.loop(thread(c_.threads()), "t", 0, c_.threads(), [&](Dim t) {
    body(t, b_.simplify(floordiv(t, AttentionTiles::tx)), b_.simplify(mod(t, AttentionTiles::tx)));
  });
}

void AttentionKernel::over(int n, std::string_view var, const std::function<void(Dim)>& body) {
  if (n == 1)
    body(0);
  else
    b_.loop(unrolled(), var, 0, n, body);
}

Dim AttentionKernel::named(std::string_view name, const Dim& d, const Dim& lo, const Dim& hi) {
  const Dim s = b_.simplify(d);
  if (s.is_constant() || s.as_symbol()) return s;
  const Dim var = Dim::symbol(k().let(name, Expr::index(s))->name);
  b_.ranges().set(*var.as_symbol(), lo, hi);
  return var;
}

void AttentionKernel::load_tile(const Buffer& to, int rows, int64_t width, const Value* v, const Dim& row0,
                                const Dim& size) {
  const int64_t columns = v->type.shape.back().constant();
  const int64_t quads = width / 4;
  // Two wide loads in flight of every thread are enough, and more would take the registers that hold accumulators.
  b_.loop(thread(c_.threads(), 2), "e", 0, rows * quads, [&](Dim e) {
    const Dim row = b_.simplify(floordiv(e, quads)), column = b_.simplify(mod(e, quads) * 4);
    const Dim n = named("n", row0 + row, row0, row0 + (rows - 1));
    std::vector<Dim> guards;
    add_guard(b_, guards, size - 1 - n);
    const auto one = [&](Dim l) {
      std::vector<Dim> all = guards;
      add_guard(b_, all, columns - 1 - (column + l));
      k().store(to, {row, column + l},
                cast(b_.element(v, p_.at(batch_at_, n, column + l), all, 0.0), DType::kF32));
    };
    if (columns % 4 == 0 && width == columns)
      b_.loop(vector(4), "l", 0, 4, one);
    else
      b_.loop(unrolled(), "l", 0, 4, one);
  });
}

void AttentionKernel::load_wide(const Buffer& to, std::vector<Dim> prefix, int size,
                                const std::function<Expr(Dim)>& from) {
  const auto put = [&](Dim i) {
    std::vector<Dim> at = prefix;
    at.push_back(i);
    k().store(to, at, from(i));
  };
  int i = 0;
  for (; i + 4 <= size; i += 4) b_.loop(vector(4), "l", 0, 4, [&](Dim l) { put(l + i); });
  for (; i < size; ++i) put(i);
}

void AttentionKernel::dot(const Buffer& acc, const Buffer& a, const Buffer& b, int64_t width) {
  each_thread([&](const Dim& t, const Dim& y, const Dim& x) {
    over(c_.tm, "i", [&](Dim i) {
      over(c_.tn, "j", [&](Dim j) { k().store(acc, {t, i, j}, Expr::constant(0, DType::kF32)); });
    });
    b_.loop(serial(), "c", 0, width / 4, [&](Dim c) {
      const Buffer av = k().registers("av", DType::kF32, {c_.tm, 4}),
                   bv = k().registers("bv", DType::kF32, {c_.tn, 4});
      over(c_.tm, "i", [&](Dim i) {
        load_wide(av, {i}, 4, [&](Dim l) { return a.load({y + i * c_.ty, c * 4 + l}); });
      });
      over(c_.tn, "j", [&](Dim j) {
        load_wide(bv, {j}, 4, [&](Dim l) { return b.load({x + j * AttentionTiles::tx, c * 4 + l}); });
      });
      over(4, "l", [&](Dim l) {
        over(c_.tm, "i", [&](Dim i) {
          over(c_.tn, "j", [&](Dim j) {
            k().store(acc, {t, i, j}, acc.load({t, i, j}) + av.load({i, l}) * bv.load({j, l}));
          });
        });
      });
    });
  });
}

void AttentionKernel::add_products(const Buffer& acc, int rows, int64_t width, const Buffer& values, int n,
                                   const std::function<Expr(const Dim& y, Dim i, Dim p)>& weight,
                                   bool weights_by_p) {
  const int columns = 4 * column_chunks(width);
  each_thread([&](const Dim& t, const Dim& y, const Dim& x) {
    b_.loop(serial(), "c", 0, n / 4, [&](Dim c) {
      const Buffer w = k().registers("w", DType::kF32, {4, rows});
      if (weights_by_p) {
        over(4, "p", [&](Dim p) { load_wide(w, {p}, rows, [&](Dim i) { return weight(y, i, c * 4 + p); }); });
      } else {
        over(rows, "i", [&](Dim i) {
          const Buffer four = k().registers("four", DType::kF32, {4});
          load_wide(four, {}, 4, [&](Dim l) { return weight(y, i, c * 4 + l); });
          over(4, "p", [&](Dim p) { k().store(w, {p, i}, four.load({p})); });
        });
      }
      over(4, "p", [&](Dim p) {
        const Buffer row = k().registers("row", DType::kF32, {columns});
        for (int q = 0; q < columns; q += 4)
          b_.loop(vector(4), "l", 0, 4, [&](Dim l) {
            k().store(row, {l + q}, values.load({c * 4 + p, x * 4 + q * 8 + l}));
          });
        over(rows, "i", [&](Dim i) {
          over(columns, "j", [&](Dim j) {
            k().store(acc, {t, i, j}, acc.load({t, i, j}) + w.load({p, i}) * row.load({j}));
          });
        });
      });
    });
  });
}

void AttentionKernel::add_rows(const Buffer& acc, int64_t width, const Buffer& weights, const Buffer& values,
                               int n) {
  add_products(
      acc, c_.tm, width, values, n,
      [&](const Dim& y, Dim i, Dim p) {
        return weights.load({y + i * c_.ty, p});
      },
      false);
}

void AttentionKernel::add_columns(const Buffer& acc, int64_t width, const Buffer& weights,
                                  const Buffer& values, int n) {
  const int rows = c_.columns_per_thread();
  add_products(
      acc, rows, width, values, n,
      [&](const Dim& y, Dim i, Dim p) {
        return weights.load({p, y * rows + i});
      },
      true);
}

Expr AttentionKernel::masked(const Expr& score, const Dim& m, const Dim& n) {
  const Expr never = Expr::constant(-std::numeric_limits<double>::infinity(), DType::kF32);
  Expr s = score * p_.scale;
  std::vector<Dim> seen;
  add_guard(b_, seen, p_.s - 1 - n);
  if (p_.mask) {
    std::vector<Dim> guards = seen;
    add_guard(b_, guards, p_.t - 1 - m);
    const Shape& shape = p_.mask->type.shape;
    const Coords all = p_.at(batch_at_, m, n);
    Coords at(all.end() - static_cast<std::ptrdiff_t>(shape.size()), all.end());
    for (size_t i = 0; i < at.size(); ++i)
      if (shape[i].is_constant(1)) at[i] = 0;
    const Expr e = b_.element(p_.mask, at, guards, 0.0);
    s = e.type() == DType::kBool ? select(e, s, never) : s + cast(e, DType::kF32);
  }
  if (p_.causal) add_guard(b_, seen, m - n);
  for (const Dim& g : seen) s = select(Expr::index(g) >= Expr::int_constant(0, DType::kI64), s, never);
  return s;
}

Expr AttentionKernel::row_value(const Value* v, const Dim& m) {
  std::vector<Dim> guards;
  add_guard(b_, guards, p_.t - 1 - m);
  return b_.element(v, p_.at(batch_at_, m), guards, 0.0);
}

void AttentionKernel::store(int core_result, const Coords& at, const Expr& value,
                            const std::vector<Dim>& guards) {
  const Value* part = p_.core->result(core_result);
  for (int r : result_numbers_) {
    const Value* result = p_.region->body.results[static_cast<size_t>(r)];
    if (!depends(result, part)) continue;
    // Down to what is arithmetic: layouts above it only say where.
    const Value* v = result;
    while (is_layout(v->node))
      v = *std::ranges::find_if(v->node->operands, [&](const Value* o) { return depends(o, part); });
    b_.bind(part, [value](const Coords&) { return value; });
    const Expr e = b_.element(v, place_in(v, part, at, b_.ranges()), guards);
    b_.store_value(r, place_in(result, part, at, b_.ranges()), cast(e, result->type.dtype), guards);
  }
}

void AttentionKernel::store_columns(int core_result, const Buffer& acc, const Dim& t, const Dim& i,
                                    const Dim& x, int64_t columns, const Dim& m, const Dim& size,
                                    const Expr& factor) {
  std::vector<Dim> guards;
  add_guard(b_, guards, size - 1 - m);
  for (int c = 0; c < column_chunks(columns); ++c) {
    const auto one = [&](Dim l) {
      const Dim column = x * 4 + c * 32 + l;
      std::vector<Dim> all = guards;
      if ((c + 1) * 32 > columns) all.push_back(columns - 1 - column);
      Expr value = acc.load({t, i, l + 4 * c});
      if (factor) value = value * factor;
      store(core_result, p_.at(batch_at_, m, column), value, all);
    };
    if (columns % 32 == 0)
      b_.loop(vector(4), "l", 0, 4, one);
    else
      b_.loop(unrolled(), "l", 0, 4, one);
  }
}

void AttentionKernel::store_row(int core_result, const Dim& m, const Dim& size, const Expr& value,
                                std::vector<Dim> guards) {
  add_guard(b_, guards, size - 1 - m);
  store(core_result, p_.at(batch_at_, m), value, guards);
}

}  // namespace graphc::cuda
