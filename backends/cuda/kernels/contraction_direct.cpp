// Template "contraction", a thread per element of C: schedule kDirect (short sums: depthwise convolutions,
// small problems), and the kernel that adds up the partial sums of the others.
#include "backends/cuda/kernels/contraction_plan.h"
#include "backends/cuda/kernels/each_element.h"

namespace graphc::cuda {
namespace {

Shape joined(const Shape& a, const Shape& b, const Shape& c) {
  Shape s = a;
  s.insert(s.end(), b.begin(), b.end());
  s.insert(s.end(), c.begin(), c.end());
  return s;
}

// Batch, m and n of an element's coordinates.
struct Lists {
  Coords batch, m, n;
  Lists(const ContractionForm& f, const Coords& at) {
    auto from = at.begin();
    for (auto [list, size] : {std::pair{&batch, f.batch.size()}, {&m, f.m.size()}, {&n, f.n.size()}}) {
      list->assign(from, from + static_cast<int64_t>(size));
      from += static_cast<int64_t>(size);
    }
  }
};

// Sums up over k: short axes unrolled.
class DirectSum {
 public:
  DirectSum(RegionBuilder& b, const ContractionPlan& p, const Lists& at) : b_(b), p_(p), at_(at) {
    budget_ = 16;
    unrolled_.assign(p.form.k.size(), false);
    for (size_t i = p.form.k.size(); i-- > 0;) {
      auto n = p.form.k[i].as_constant();
      if (!n || *n > budget_) break;
      unrolled_[i] = true;
      budget_ /= std::max<int64_t>(1, *n);
    }
  }

  Expr sum(Coords k = {}) {
    const size_t axis = k.size();
    if (axis == p_.form.k.size()) {
      const ContractionForm& f = p_.form;
      Expr a = read(f.a, f.at_a(at_.batch, at_.m, k));
      return a * read(f.b, f.at_b(at_.batch, k, at_.n));
    }
    if (p_.form.k[axis].is_constant(1)) {
      k.push_back(0);
      return sum(std::move(k));
    }
    return b_.reduce("s", {ReduceOp::kAdd}, unrolled_[axis] ? unrolled() : serial(), "k", 0, p_.form.k[axis],
                     [&](Dim v) {
                       Coords next = k;
                       next.push_back(v);
                       return std::vector<Expr>{sum(std::move(next))};
                     })[0];
  }

 private:
  Expr read(const Value* v, const ContractionPoint& at) {
    std::vector<Dim> guards;
    for (const Dim& g : at.guards) add_guard(b_, guards, g);
    return cast(b_.element(v, at.at, guards, 0.0), p_.acc_type);
  }

  RegionBuilder& b_;
  const ContractionPlan& p_;
  const Lists& at_;
  int64_t budget_;
  std::vector<bool> unrolled_;
};

}  // namespace

Result<KernelStep> contraction_direct(const ContractionPlan& p, const Func& region, const CudaTarget& target,
                                      const std::string& name) {
  const ContractionForm& f = p.form;
  RegionBuilder b(region, name, p.roots(), p.cut, p.result_numbers);
  const Shape space = joined(f.batch, f.m, f.n);
  each_element(b, space, element_threads(space, target), [&](const Coords& at) {
    const Lists l(f, at);
    Expr value = DirectSum(b, p, l).sum();
    write_results(b, region, p, f.at_c(l.batch, l.m, l.n), value);
  });
  return b.finish();
}

Result<KernelStep> contraction_combine(const ContractionPlan& p, const Func& region, const CudaTarget& target,
                                       int splits, const std::string& name) {
  const ContractionForm& f = p.form;
  const Dim elements = p.batch * p.m * p.n;
  std::vector<RegionBuilder::Workspace> partial;
  if (splits > 1) partial.push_back({0, p.acc_type, elements * splits, false});
  RegionBuilder b(region, name, p.results, p.cut, p.result_numbers, partial);
  const Shape space = joined(f.batch, f.m, f.n);
  each_element(b, space, element_threads(space, target), [&](const Coords& at) {
    const Lists l(f, at);
    Expr value = Expr::constant(0, p.acc_type);
    if (splits > 1)
      value = b.reduce("sum", {ReduceOp::kAdd}, serial(), "s", 0, splits, [&](Dim s) {
        return std::vector<Expr>{b.workspace(0).load({b.simplify(s * elements + linear_index(space, at))})};
      })[0];
    write_results(b, region, p, f.at_c(l.batch, l.m, l.n), value);
  });
  return b.finish();
}

}  // namespace graphc::cuda
