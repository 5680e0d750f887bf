#include "backends/cuda/kernels/contraction_plan.h"

#include <algorithm>

#include <fmt/format.h>

#include "backends/cuda/kernels/each_element.h"

namespace graphc::cuda {
namespace {

constexpr int64_t kFar = 1 << 20;  // a stride that isn't a constant

// The sum of |coefficient of var| over all loads.
int64_t stride_along(const std::vector<Access>& access, const std::string& var) {
  int64_t sum = 0;
  for (const Access& x : access) {
    if (x.kind != Access::kLoad) continue;
    auto c = coefficient(x.address, var);
    if (!c || !c->is_constant()) return kFar;
    sum += std::abs(c->constant());
  }
  return std::min(sum, kFar);
}

// The innermost axis that isn't of size 1; -1 if there is none.
int innermost(const Shape& sizes) {
  for (size_t i = sizes.size(); i-- > 0;)
    if (!sizes[i].is_constant(1)) return static_cast<int>(i);
  return -1;
}

// Cache lines that neighbouring threads touch, about: the stride, and more where runs are short.
double scatter(int64_t stride, const Shape& axes) {
  const int i = innermost(axes);
  if (i < 0) return 64;  // no neighbours at all
  const int64_t run = std::max<int64_t>(1, guess_size(axes[static_cast<size_t>(i)]));
  return static_cast<double>(std::clamp<int64_t>(stride, 1, 32)) *
         (run < 16 ? 16.0 / static_cast<double>(run) : 1.0);
}

bool uses(const std::vector<Access>& access, const std::string& var) {
  return std::ranges::any_of(access, [&](const Access& x) { return x.address.uses(var); });
}

Shape joined(const Shape& a, const Shape& b) {
  Shape s = a;
  s.insert(s.end(), b.begin(), b.end());
  return s;
}

// m and n change places where the result's innermost axis lies in m.
void turn(ContractionForm& f) {
  if (!f.c_by_m) return;
  const ContractionForm old = f;
  f.c_by_m = false;
  std::swap(f.a, f.b);
  std::swap(f.m, f.n);
  f.at_a = [old](const Coords& b, const Coords& m, const Coords& k) { return old.at_b(b, k, m); };
  f.at_b = [old](const Coords& b, const Coords& k, const Coords& n) { return old.at_a(b, n, k); };
  f.at_c = [old](const Coords& b, const Coords& m, const Coords& n) { return old.at_c(b, n, m); };
}

// Batch axes by what they become.
enum class Becomes : uint8_t { kBatch, kM, kN };

void move_batch(ContractionForm& f, const std::vector<Becomes>& becomes) {
  const ContractionForm old = f;
  Shape batch, m, n;
  for (size_t i = 0; i < becomes.size(); ++i)
    (becomes[i] == Becomes::kBatch ? batch : becomes[i] == Becomes::kM ? m : n).push_back(old.batch[i]);
  const size_t first_m = m.size(), first_n = n.size();
  f.batch = batch;
  f.m = joined(m, old.m);
  f.n = joined(n, old.n);
  // axes that an operand doesn't know are 0 for it
  auto batch_of = [becomes](const Coords& b, const Coords* m, const Coords* n) {
    Coords out;
    size_t ib = 0, im = 0, in = 0;
    for (Becomes t : becomes) {
      if (t == Becomes::kBatch) out.push_back(b[ib++]);
      if (t == Becomes::kM) out.push_back(m ? (*m)[im++] : Dim(0));
      if (t == Becomes::kN) out.push_back(n ? (*n)[in++] : Dim(0));
    }
    return out;
  };
  auto rest = [](const Coords& c, size_t first) {
    return Coords(c.begin() + static_cast<int64_t>(first), c.end());
  };
  f.at_a = [=](const Coords& b, const Coords& m, const Coords& k) {
    return old.at_a(batch_of(b, &m, nullptr), rest(m, first_m), k);
  };
  f.at_b = [=](const Coords& b, const Coords& k, const Coords& n) {
    return old.at_b(batch_of(b, nullptr, &n), k, rest(n, first_n));
  };
  f.at_c = [=](const Coords& b, const Coords& m, const Coords& n) {
    return old.at_c(batch_of(b, &m, &n), rest(m, first_m), rest(n, first_n));
  };
}

// A kernel of one statement, to see what it touches: every axis by itself.
struct Trial {
  std::vector<std::string> b, m, n, k;
  std::vector<Access> access;
  int64_t cost = 0;
};
using TrialBody =
    std::function<void(RegionBuilder&, const Coords& b, const Coords& m, const Coords& n, const Coords& k)>;
Result<Trial> try_out(const Func& region, const ContractionPlan& p, const TrialBody& body) {
  const ContractionForm& f = p.form;
  Trial t;
  RegionBuilder r(region, "trial", p.roots(), p.cut, p.result_numbers);
  const Coords b = trial_coords(r.ranges(), f.batch, "b", t.b), m = trial_coords(r.ranges(), f.m, "m", t.m);
  const Coords n = trial_coords(r.ranges(), f.n, "n", t.n), k = trial_coords(r.ranges(), f.k, "k", t.k);
  body(r, b, m, n, k);
  GC_TRY(KernelStep s, r.finish());
  t.cost = body_cost(s.kernel);
  t.access = accesses(s.kernel);
  return t;
}

Result<Trial> try_operand(const Func& region, const ContractionPlan& p, bool is_a) {
  return try_out(region, p,
                 [&](RegionBuilder& t, const Coords& b, const Coords& m, const Coords& n, const Coords& k) {
                   const ContractionPoint at = is_a ? p.form.at_a(b, m, k) : p.form.at_b(b, k, n);
                   std::vector<Dim> guards;
                   for (const Dim& g : at.guards) add_guard(t, guards, g);
                   // through a statement, so that accesses() sees it even if it is a constant
                   t.k().let("t", t.element(is_a ? p.form.a : p.form.b, at.at, guards, 0.0));
                 });
}

ContractionOperand operand_of(const Trial& t, const Shape& xs, const std::vector<std::string>& x_vars,
                              const Shape& ks) {
  ContractionOperand o;
  const int x = innermost(xs), k = innermost(ks);
  o.stride_x = x < 0 ? 0 : stride_along(t.access, x_vars[static_cast<size_t>(x)]);
  o.stride_k = k < 0 ? 0 : stride_along(t.access, t.k[static_cast<size_t>(k)]);
  o.lanes_k = scatter(o.stride_k, ks) < scatter(o.stride_x, xs);
  o.cost = t.cost;
  return o;
}

}  // namespace

int64_t guess_size(const Dim& d) {
  if (auto c = d.as_constant()) return *c;
  std::map<std::string, int64_t, std::less<>> sizes;
  d.for_each_symbol([&](const std::string& s) { sizes[s] = 64; });
  return std::max<int64_t>(1, d.evaluate(sizes).value_or(32));
}

std::vector<const Value*> ContractionPlan::operands() const {
  return {form.core->operands.begin(), form.core->operands.end()};
}

std::vector<const Value*> ContractionPlan::roots() const {
  std::vector<const Value*> all = results;
  all.insert(all.end(), form.core->operands.begin(), form.core->operands.end());
  return all;
}

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
                                         const std::vector<int64_t>& phase) {
  ContractionPlan p;
  GC_TRY(p.form, contraction_form(*core, phase));
  const DType type = core->result()->type.dtype;
  if (type == DType::kBool) return unsupported("contractions of bool aren't supported by the cuda backend");
  p.acc_type = accumulator_type(type);
  p.cut = {core->result()};
  for (size_t i = 0; i < region.body.results.size(); ++i) {
    p.results.push_back(region.body.results[i]);
    p.result_numbers.push_back(static_cast<int>(i));
    if (product(region.body.results[i]->type.shape) != product(core->result()->type.shape))
      return unsupported("a result of the contraction region has another size than the contraction");
  }
  turn(p.form);
  {
    GC_TRY(Trial a, try_operand(region, p, true));
    GC_TRY(Trial b, try_operand(region, p, false));
    std::vector<Becomes> becomes;
    for (const std::string& v : a.b) {
      const bool in_a = uses(a.access, v), in_b = uses(b.access, v);
      becomes.push_back(in_a == in_b ? Becomes::kBatch : in_a ? Becomes::kM : Becomes::kN);
    }
    move_batch(p.form, becomes);
  }
  const ContractionForm& f = p.form;
  p.batch = product(f.batch);
  p.m = product(f.m);
  p.n = product(f.n);
  p.k = product(f.k);
  GC_TRY(Trial a, try_operand(region, p, true));
  GC_TRY(Trial b, try_operand(region, p, false));
  GC_TRY(Trial c,
         try_out(region, p,
                 [&](RegionBuilder& t, const Coords& bc, const Coords& m, const Coords& n, const Coords&) {
                   write_results(t, region, p, f.at_c(bc, m, n), Expr::constant(1, p.acc_type));
                 }));
  p.a = operand_of(a, f.m, a.m, f.k);
  p.b = operand_of(b, f.n, b.n, f.k);
  p.c_cost = c.cost;
  return p;
}

ContractionKernel::ContractionKernel(const ContractionPlan& plan, const Func& region,
                                     const ContractionChoice& choice, const std::string& name)
    : p_(plan),
      region_(region),
      c_(choice),
      b_(region, name, choice.splits > 1 ? plan.operands() : plan.roots(), plan.cut,
         choice.splits > 1 ? std::vector<int>{} : plan.result_numbers,
         choice.splits > 1
             ? std::vector<RegionBuilder::Workspace>{{0, plan.acc_type, partial_elements(plan, choice), true}}
             : std::vector<RegionBuilder::Workspace>{}) {}

void ContractionKernel::for_batch_and_share(const std::function<void()>& body) {
  auto over = [&](std::string_view name, const Dim& size, Dim& var, const std::function<void()>& inner) {
    if (size.is_constant(1)) {
      var = 0;
      return inner();
    }
    b_.loop(parallel(), name, 0, size, [&](Dim v) {
      var = v;
      inner();
    });
  };
  over("b", p_.batch, batch_, [&] { over("s", c_.splits, split_, body); });
}

Dim ContractionKernel::named(std::string_view name, const Dim& d, std::optional<std::pair<Dim, Dim>> range) {
  const Dim s = b_.simplify(d);
  if (s.is_constant() || s.as_symbol()) return s;
  if (!range) {
    const auto lo = b_.ranges().lower(s), hi = b_.ranges().upper(s);
    if (lo && hi) range.emplace(*lo, *hi);
  }
  const Dim var = Dim::symbol(k().let(name, Expr::index(s))->name);
  if (range) b_.ranges().set(*var.as_symbol(), range->first, range->second);
  return var;
}

Expr ContractionKernel::read(const Value* v, const ContractionPoint& at, std::vector<Dim> guards) {
  for (const Dim& g : at.guards) add_guard(b_, guards, g);
  return cast(b_.element(v, at.at, guards, 0.0), p_.acc_type);
}

Expr ContractionKernel::read_a(const Dim& m, const Dim& k) {
  const ContractionForm& f = p_.form;
  std::vector<Dim> guards;
  add_guard(b_, guards, p_.m - 1 - m);
  add_guard(b_, guards, p_.k - 1 - k);
  return read(f.a,
              f.at_a(delinearize(f.batch, batch_, b_.ranges()), delinearize(f.m, m, b_.ranges()),
                     delinearize(f.k, k, b_.ranges())),
              std::move(guards));
}

Expr ContractionKernel::read_b(const Dim& k, const Dim& n) {
  const ContractionForm& f = p_.form;
  std::vector<Dim> guards;
  add_guard(b_, guards, p_.n - 1 - n);
  add_guard(b_, guards, p_.k - 1 - k);
  return read(f.b,
              f.at_b(delinearize(f.batch, batch_, b_.ranges()), delinearize(f.k, k, b_.ranges()),
                     delinearize(f.n, n, b_.ranges())),
              std::move(guards));
}

void ContractionKernel::write(const Dim& m, const Dim& n, const Expr& value) {
  const ContractionForm& f = p_.form;
  std::vector<Dim> guards;
  add_guard(b_, guards, p_.m - 1 - m);
  add_guard(b_, guards, p_.n - 1 - n);
  b_.scoped([&] {
    if (split()) {
      const Dim row = ((split_ * p_.batch) + batch_) * p_.m + m;
      k().store(b_.workspace(0), {b_.simplify(row * p_.n + n)}, value, guards);
      return;
    }
    write_results(b_, region_, p_,
                  f.at_c(delinearize(f.batch, batch_, b_.ranges()), delinearize(f.m, m, b_.ranges()),
                         delinearize(f.n, n, b_.ranges())),
                  value, guards);
  });
}

void write_results(RegionBuilder& b, const Func& region, const ContractionPlan& p, const Coords& at,
                   const Expr& value, const std::vector<Dim>& guards) {
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
  for (int r : p.result_numbers)
    stores.emplace_back(
        r, reshape_coords(core->type.shape, here, region.body.results[static_cast<size_t>(r)]->type.shape,
                          b.ranges()));
  b.store_results(stores, guards);
}

}  // namespace graphc::cuda
