#include "backends/cpu/kernels/contraction_plan.h"
#include "backends/cpu/kernels/lowering.h"

#include <fmt/format.h>

namespace graphc {
namespace {

// All loads adjacent or equal along the innermost axis of a list.
bool dense_along(const std::vector<Access>& access, const std::string& var) {
  for (const Access& x : access) {
    if (x.kind != Access::kLoad) continue;
    auto c = coefficient(x.address, var);
    if (!c || !(c->is_constant(0) || c->is_constant(1))) return false;
  }
  return true;
}

std::string innermost(const Shape& sizes, const std::vector<std::string>& vars) {
  for (size_t i = sizes.size(); i-- > 0;)
    if (!sizes[i].is_constant(1)) return vars[i];
  return "";
}

bool is_plain(const Expr& e) {
  if (e.op() == ScalarOp::kCast) return is_plain(e->args[0]);
  return e.op() == ScalarOp::kLoad && e->guards.empty();
}

std::vector<Access> together(const std::vector<Access>& a, const std::vector<Access>& b) {
  std::vector<Access> all = a;
  all.insert(all.end(), b.begin(), b.end());
  return all;
}

}  // namespace

Result<const Node*> contraction_core(const Func& region) {
  const Node* core = nullptr;
  for (const auto& n : region.body.nodes)
    if (is_contraction(*n)) {
      if (core) return unsupported("a contraction region with more than one contraction");
      core = n.get();
    }
  if (!core) return unsupported("a contraction region without a contraction");
  return core;
}

Result<ContractionPlan> plan_contraction(const Func& region, const Node* core,
                                         const std::vector<int64_t>& phase, const LowerOptions& options) {
  ContractionPlan p;
  GC_TRY(p.form, contraction_form(*core, phase));
  const ContractionForm& f = p.form;
  DType type = core->result()->type.dtype;
  if (type == DType::kBool) return unsupported("contractions of bool aren't supported by the cpu backend");
  p.acc_type = accumulator_type(type);
  p.registers = options.features.num_vector_registers();
  p.roots.assign(region.body.results.begin(), region.body.results.end());
  p.roots.insert(p.roots.end(), core->operands.begin(), core->operands.end());
  p.cut = {core->result()};
  for (size_t i = 0; i < region.body.results.size(); ++i) {
    p.results.push_back(static_cast<int>(i));
    if (product(region.body.results[i]->type.shape) != product(core->result()->type.shape))
      return unsupported("a result of the contraction region has another size than the contraction");
  }
  p.m_total = product(f.m);
  p.n_total = product(f.n);

  // What A, B and the writer touch, every axis by itself.
  std::vector<std::string> b_vars, m_vars;
  int64_t cost = 0;  // of the last trial
  auto trial = [&](auto&& body) -> Result<std::vector<Access>> {
    b_vars.clear();
    m_vars.clear();
    p.n_vars.clear();
    p.k_vars.clear();
    RegionBuilder t(region, "trial", p.roots, p.cut, p.results);
    Coords b = trial_coords(t.ranges(), f.batch, "b", b_vars), m = trial_coords(t.ranges(), f.m, "m", m_vars);
    Coords n = trial_coords(t.ranges(), f.n, "n", p.n_vars), k = trial_coords(t.ranges(), f.k, "k", p.k_vars);
    body(t, b, m, n, k);
    GC_TRY(KernelStep s, t.finish());
    cost = body_cost(s.kernel);
    return accesses(s.kernel);
  };
  auto read = [](RegionBuilder& t, const Value* v, const ContractionPoint& at) {
    std::vector<Dim> guards;
    for (const Dim& g : at.guards) {
      Dim s = t.simplify(g);
      if (!t.ranges().provably_nonnegative(s)) guards.push_back(s);
    }
    Expr e = t.element(v, at.at, guards, 0.0);
    // through a statement, so that accesses() sees it even if it is a constant
    t.k().let("t", e);
    return e;
  };
  GC_TRY(p.a_access, trial([&](RegionBuilder& t, Coords b, Coords m, Coords n, Coords k) {
           p.a_plain = is_plain(read(t, f.a, f.at_a(b, m, k)));
         }));
  GC_TRY(p.b_access, trial([&](RegionBuilder& t, Coords b, Coords m, Coords n, Coords k) {
           p.b_plain = is_plain(read(t, f.b, f.at_b(b, k, n)));
         }));
  GC_TRY(std::vector<Access> c_access, trial([&](RegionBuilder& t, Coords b, Coords m, Coords n, Coords k) {
           write_results(t, region, p, f.at_c(b, m, n), Expr::constant(1, p.acc_type));
         }));
  p.c_cost = cost;
  std::vector<Access> ab = together(p.a_access, p.b_access);
  p.batch = collapse(f.batch, b_vars, together(ab, c_access));
  p.n = collapse(f.n, p.n_vars, p.b_access);
  p.k = collapse(f.k, p.k_vars, ab);
  std::string k_in = innermost(f.k, p.k_vars), n_in = innermost(f.n, p.n_vars), m_in = innermost(f.m, m_vars);
  p.a_dense_k = dense_along(p.a_access, k_in);
  p.a_dense_m = dense_along(p.a_access, m_in);
  p.b_dense_k = dense_along(p.b_access, k_in);
  p.b_dense_n = dense_along(p.b_access, n_in);
  for (const Access& x : p.a_access)
    if (x.kind == Access::kLoad)
      if (auto c = coefficient(x.address, m_in)) p.a_row_stride = *c;
  auto m = p.m_total.as_constant(), n = p.n_total.as_constant(), k = product(f.k).as_constant();
  bool both_dense_k = p.a_dense_k && p.b_dense_k;
  if (core->op->name == "convolution_weight_grad")
    p.dot = !f.c_by_m;
  else if (core->op->name == "dot_general" && both_dense_k)
    p.dot = (!p.b_dense_n && (!m || *m < 96) && (!k || *k >= 64 || (m && *m <= 4))) ||
            (n && *n < 4 && (!k || *k >= 16));
  return p;
}

Box make_box(const AxisGroups& axes, int64_t max_elements) {
  Box box;
  box.part = axes.count() - 1;
  while (box.part > 0) {
    auto c = axes.group_sizes[box.part].as_constant();
    if (!c || *c == 0 || box.suffix * *c > max_elements) break;
    box.suffix *= *c;
    --box.part;
  }
  box.block = std::max<int64_t>(1, max_elements / box.suffix);
  if (auto c = axes.group_sizes[box.part].as_constant(); c && *c > 0) {
    int64_t blocks = (*c + box.block - 1) / box.block;
    box.block = (*c + blocks - 1) / blocks;
  } else if (c) {
    box.block = 1;
  }
  return box;
}

Coords box_coords(const AxisGroups& axes, const Box& box, const Coords& outer, const Dim& start,
                  const Dim& dense, const DimRanges& ranges) {
  Coords vars = outer;
  Shape sizes;
  for (size_t g = box.part; g < axes.count(); ++g)
    sizes.push_back(g == box.part ? Dim(1 << 30) : axes.group_sizes[g]);
  Coords local = delinearize(sizes, dense, ranges);
  local[0] = local[0] + start;
  vars.insert(vars.end(), local.begin(), local.end());
  return vars;
}

std::vector<KRun> k_runs(const ContractionPlan& p, const Box& box, const std::vector<Access>* a,
                         const std::vector<Access>* b) {
  std::vector<KRun> runs;
  auto joins = [&](const std::vector<Access>* x, size_t g) {
    return !x || collapsible(*x, p.k.var(g - 1, p.k_vars), p.k.var(g, p.k_vars), p.k.group_sizes[g]);
  };
  for (size_t g = box.part; g < p.k.count(); ++g) {
    int64_t extent = axis_extent(p.k, box, g).as_constant().value_or(1);
    if (g > box.part && joins(a, g) && joins(b, g)) {
      runs.back().end = g + 1;
      runs.back().inner *= extent;
      runs.back().size *= extent;
    } else {
      runs.push_back({g, g + 1, 1, extent, 1});
    }
  }
  for (size_t i = runs.size(); i-- > 1;) runs[i - 1].after = runs[i].after * runs[i].size;
  return runs;
}

Coords run_coords(const ContractionPlan& p, const Box& box, const std::vector<KRun>& runs,
                  const Coords& outer, const Dim& start, const Coords& at, const DimRanges& ranges) {
  Coords vars = outer;
  for (size_t i = 0; i < runs.size(); ++i) {
    Shape sizes;
    for (size_t g = runs[i].begin; g < runs[i].end; ++g)
      sizes.push_back(g == runs[i].begin ? Dim(1 << 30) : p.k.group_sizes[g]);
    Coords local = delinearize(sizes, at[i], ranges);
    if (runs[i].begin == box.part) local[0] = local[0] + start;
    vars.insert(vars.end(), local.begin(), local.end());
  }
  return p.k.coords(vars, ranges);
}

namespace {
// Cycles of one step of k of a tile, on two FMA pipes and two load ports, latency 4.
double step_cycles(int mr, int nv) {
  double fma = mr * nv / 2.0, loads = (mr + nv) / 2.0;
  return std::max({fma, loads, 4.0}) + 0.5;
}
}  // namespace

TileShape choose_tile(std::optional<int64_t> m, int64_t columns, int lanes, int registers) {
  int64_t vectors = std::max<int64_t>(1, (columns + lanes - 1) / lanes);
  TileShape best;
  double best_cost = 1e300;
  for (int nv = 1; nv <= 8; ++nv) {
    int max_mr = std::min(16, (registers - nv - 1) / nv);
    if (nv > vectors && nv > 1) break;
    for (int mr = 1; mr <= max_mr; ++mr) {
      if (m && mr > *m && mr > 1) break;
      int64_t rows = m ? *m : 1024;
      double cost = 0;
      int64_t full_m = rows / mr, rest_m = rows % mr, full_n = vectors / nv, rest_n = vectors % nv;
      cost += full_m * full_n * step_cycles(mr, nv);
      if (rest_n) cost += full_m * step_cycles(mr, static_cast<int>(rest_n));
      if (rest_m) cost += full_n * step_cycles(static_cast<int>(rest_m), nv);
      if (rest_m && rest_n) cost += step_cycles(static_cast<int>(rest_m), static_cast<int>(rest_n));
      if (cost < best_cost * 0.999) {
        best_cost = cost;
        best = {mr, nv};
      }
    }
  }
  return best;
}

void write_results(RegionBuilder& b, const Func& region, const ContractionPlan& p, const Coords& at,
                   const Expr& value) {
  const Value* core = p.form.core->result();
  Coords here;
  for (const Dim& d : at) here.push_back(b.simplify(d));
  Expr e = cast(value, core->type.dtype);
  b.bind(core, [&b, core, here, e](const Coords& asked) {
    for (size_t i = 0; i < here.size(); ++i)
      if (!core->type.shape[i].is_constant(1) && b.simplify(asked[i]) != here[i]) {
        b.fail("a result of the contraction region needs the contraction at another index than its own");
        break;
      }
    return e;
  });
  std::vector<std::pair<int, Coords>> stores;
  for (int r : p.results)
    stores.emplace_back(
        r, reshape_coords(core->type.shape, here, region.body.results[r]->type.shape, b.ranges()));
  b.store_results(stores);
}

}  // namespace graphc
