// Template "rows", schedules kGroup and kBlock, and kThread of both templates.
//
//   kBlock                                 kGroup
//     parallel r in rows                     parallel p { warp<G> r in the block's rows
//       for each level: one reduce over        the same, T <= 32
//         thread<T>, all reductions at once
//       thread<T>: full-size results
//       one thread: row results
//
// A row that several passes read is loaded once, into registers, if its length is known and not too long:
// then thread t has the accesses t, t + T, .. in all passes (slot j: access j*T + t).
#include "backends/cuda/kernels/each_element.h"
#include "backends/cuda/kernels/reduce_plan.h"
#include "backends/cuda/kernels/vectors.h"

namespace graphc::cuda {
namespace {

class RowsKernel {
 public:
  RowsKernel(const ReduceForm& f, const ReducePlan& p, const std::string& name)
      : f_(f), p_(p), b_(*f.region, name, f.roots, {}, f.results), reader_(f, b_), vars_(f.groups.size()) {}

  Result<KernelStep> build() {
    const Dim rows = product(f_.kept_sizes);
    bool in_place = false;
    for (int r : f_.row_results) in_place |= b_.may_share(r);
    if (p_.schedule == ReduceSchedule::kBlock) {
      b_.loop(parallel(), "r", 0, rows, [&](Dim r) {
        begin_row(r);
        levels({});
        if (in_place) b_.k().barrier();
        row_results();
      });
      return b_.finish();
    }
    b_.loop(parallel(), "p", 0, ceildiv(rows, p_.groups), [&](Dim p) {
      // A row result may be written over an operand that the whole group reads: all wait in between.
      std::vector<Buffer> sums;
      for (const ReduceJob& j : f_.jobs)
        if (in_place) sums.push_back(b_.k().shared("sum", j.type, {p_.groups}));
      const auto slot = [&](const Dim& r) {
        return b_.simplify(rows.is_constant() && rows.constant() <= p_.groups ? r : r - p * p_.groups);
      };
      share_of_block(b_, warps(p_.groups), "r", p, p_.groups, rows, [&](Dim r) {
        begin_row(r);
        levels([&](size_t job, const Expr& sum) {
          if (in_place) b_.k().store(sums[job], {slot(r)}, sum);
        });
        if (!in_place) row_results();
      });
      if (!in_place) return;
      b_.k().barrier();
      share_of_block(b_, warps(p_.groups), "r", p, p_.groups, rows, [&](Dim r) {
        set_row(r);
        for (size_t i = 0; i < f_.jobs.size(); ++i)
          reader_.finish(f_.jobs[i], f_.coords(b_.ranges(), vars_), sums[i].load({slot(r)}));
        row_results();
      });
    });
    return b_.finish();
  }

 private:
  void set_row(const Dim& r) {
    set_vars(f_, f_.kept, split_index(b_, f_.kept_sizes, r), vars_);
    for (int g : f_.reduced) vars_[static_cast<size_t>(g)] = 0;
  }

  void begin_row(const Dim& r) {
    set_row(r);
    if (!p_.slots) return;
    registers_.clear();
    for (const auto& k : p_.keep)
      registers_.push_back(
          b_.k().registers("row", k.operand->type.dtype, {p_.threads, p_.slots * p_.width}, 0.0));
    each([&] {
      for (size_t i = 0; i < p_.keep.size(); ++i)
        b_.k().store(registers_[i], {thread_, element_},
                     b_.operand_buffer(p_.keep[i].operand).load({address(p_.keep[i])}));
    });
    b_.keep([&](const Value* v, const Dim& wanted, const std::vector<Dim>&) {
      if (in_pass_)
        for (size_t i = 0; i < p_.keep.size(); ++i)
          if (p_.keep[i].operand == v && address(p_.keep[i]) == wanted)
            return registers_[i].load({thread_, element_});
      return Expr();
    });
  }

  Dim address(const ReducePlan::Kept& k) const {
    std::map<std::string, Dim, std::less<>> values;
    for (size_t g = 0; g < vars_.size(); ++g) values[p_.names[g]] = vars_[g];
    return b_.simplify(k.address.substitute(values));
  }

  void position(const Dim& access, const Dim& lane) {
    Coords at = split_index(b_, p_.reduced, access);
    if (!at.empty()) at.back() = at.back() * p_.width + lane;
    set_vars(f_, f_.reduced, at, vars_);
  }

  // body for every access of this thread; guards: where one is negative there is none.
  void slots(const Dim& t, const std::function<void(Dim, std::vector<Dim>)>& body) {
    thread_ = t;
    const auto one = [&](const Dim& j) {
      slot_ = j;
      const Dim access = b_.simplify(j * p_.threads + t);
      std::vector<Dim> guards;
      add_guard(b_, guards, p_.length - 1 - access);
      body(access, guards);
    };
    if (p_.slots == 1)
      one(0);
    else
      b_.loop(unrolled(), "j", 0, p_.slots, one);
  }

  void each(const std::function<void()>& body) {
    const auto access = [&](const Dim& i) {
      lanes(b_, p_.width, [&](Dim l) {
        element_ = b_.simplify(slot_ * p_.width + l);
        position(i, l);
        body();
      });
    };
    if (!p_.slots) {
      b_.loop(thread(p_.threads, p_.unroll), "e", 0, p_.length, access);
    } else {
      b_.loop(thread(p_.threads), "t", 0, p_.threads, [&](Dim t) {
        slots(t, [&](const Dim& i, const std::vector<Dim>& guards) {
          if (guards.empty()) return access(i);
          b_.k().if_then(guards, [&] { b_.scoped([&] { access(i); }); });
        });
      });
    }
  }

  // The jobs' values over the accesses of an inner loop.
  std::vector<Expr> lane_values(const std::vector<size_t>& jobs, const Dim& i,
                                const std::vector<Dim>& guards) {
    const auto one = [&](const Dim& l) {
      element_ = b_.simplify(slot_ * p_.width + l);
      position(i, l);
      const Coords at = f_.coords(b_.ranges(), vars_);
      std::vector<Expr> out;
      for (size_t j : jobs) {
        Expr e = reader_.value(f_.jobs[j], at, guards);
        Expr in;
        for (const Dim& g : guards) {
          const Expr c = Expr::index(g) >= Expr::int_constant(0, DType::kI64);
          in = in ? bit_and(in, c) : c;
        }
        out.push_back(in ? select(in, e, identity_of(f_.jobs[j].op, e.type())) : e);
      }
      return out;
    };
    if (p_.width == 1) return one(0);
    return b_.reduce("v", ops(jobs), vector(p_.width), "l", 0, p_.width, one);
  }

  std::vector<ReduceOp> ops(const std::vector<size_t>& jobs) const {
    std::vector<ReduceOp> out;
    for (size_t j : jobs) out.push_back(f_.jobs[j].op);
    return out;
  }

  std::vector<Expr> reduce(const std::vector<size_t>& jobs) {
    if (!p_.slots)
      return b_.reduce("s", ops(jobs), thread(p_.threads, p_.unroll), "e", 0, p_.length,
                       [&](Dim e) { return lane_values(jobs, e, {}); });
    return b_.reduce("s", ops(jobs), thread(p_.threads), "t", 0, p_.threads, [&](Dim t) {
      thread_ = t;
      const auto one = [&](const Dim& j) {
        slot_ = j;
        const Dim access = b_.simplify(j * p_.threads + t);
        std::vector<Dim> guards;
        add_guard(b_, guards, p_.length - 1 - access);
        return lane_values(jobs, access, guards);
      };
      if (p_.slots == 1) return one(0);
      return b_.reduce("u", ops(jobs), unrolled(), "j", 0, p_.slots, one);
    });
  }

  void levels(const std::function<void(size_t, const Expr&)>& done) {
    in_pass_ = true;
    for (int l = 0; l < f_.levels; ++l) {
      std::vector<size_t> jobs;
      for (size_t j = 0; j < f_.jobs.size(); ++j)
        if (f_.jobs[j].level == l) jobs.push_back(j);
      if (jobs.empty()) continue;
      const std::vector<Expr> sums = reduce(jobs);
      for (int g : f_.reduced) vars_[static_cast<size_t>(g)] = 0;
      for (size_t i = 0; i < jobs.size(); ++i) {
        reader_.finish(f_.jobs[jobs[i]], f_.coords(b_.ranges(), vars_), sums[i]);
        if (done) done(jobs[i], sums[i]);
      }
    }
    if (!f_.full_results.empty())
      each([&] { reader_.write(f_.full_results, f_.coords(b_.ranges(), vars_)); });
    in_pass_ = false;
    for (int g : f_.reduced) vars_[static_cast<size_t>(g)] = 0;
  }

  void row_results() {
    if (f_.row_results.empty()) return;
    b_.loop(thread(p_.threads), "z", 0, 1,
            [&](Dim) { reader_.write(f_.row_results, f_.coords(b_.ranges(), vars_)); });
  }

  const ReduceForm& f_;
  const ReducePlan& p_;
  RegionBuilder b_;
  ReduceReader reader_;
  Coords vars_;
  std::vector<Buffer> registers_;
  Dim thread_, slot_ = 0, element_ = 0;
  bool in_pass_ = false;
};

}  // namespace

Result<KernelStep> reduce_by_rows(const ReduceForm& f, const ReducePlan& p, const std::string& name) {
  return RowsKernel(f, p, name).build();
}

Result<KernelStep> reduce_by_thread(const ReduceForm& f, const ReducePlan& p, const CudaTarget& target,
                                    const std::string& name) {
  RegionBuilder b(*f.region, name, f.roots, {}, f.results);
  ReduceReader reader(f, b);
  Coords vars(f.groups.size(), Dim(0));
  const int w = f.by_row ? 1 : p.width;
  Shape kept = f.kept_sizes;
  if (!kept.empty()) kept.back() = floordiv(kept.back(), w);
  const Dim total = product(kept), length = product(f.reduced_sizes);
  const auto known = length.as_constant();
  const LoopSpec spec = known && *known <= 16 ? unrolled() : serial();
  const auto reduced_at = [&](const Dim& i) {
    set_vars(f, f.reduced, split_index(b, f.reduced_sizes, i), vars);
    return f.coords(b.ranges(), vars);
  };
  const auto row = [&] {
    for (int l = 0; l < f.levels; ++l) {
      std::vector<ReduceOp> ops;
      std::vector<const ReduceJob*> jobs;
      for (const ReduceJob& j : f.jobs)
        if (j.level == l) {
          jobs.push_back(&j);
          ops.push_back(j.op);
        }
      if (jobs.empty()) continue;
      const auto values = [&](const Dim& i) {
        const Coords at = reduced_at(i);
        std::vector<Expr> out;
        for (const ReduceJob* j : jobs) out.push_back(reader.value(*j, at));
        return out;
      };
      std::vector<Expr> sums;
      if (length.is_constant(1))
        for (const Expr& e : values(0)) sums.push_back(b.k().let("s", e));
      else
        sums = b.reduce("s", ops, spec, "x", 0, length, values);
      for (size_t i = 0; i < jobs.size(); ++i) reader.finish(*jobs[i], reduced_at(0), sums[i]);
    }
    if (!f.full_results.empty()) {
      const auto store = [&](const Dim& i) { reader.write(f.full_results, reduced_at(i)); };
      if (length.is_constant(1))
        b.scoped([&] { store(0); });
      else
        b.loop(spec, "y", 0, length, store);
    }
    b.scoped([&] { reader.write(f.row_results, reduced_at(0)); });
  };
  const int threads = element_threads({total}, target);
  b.loop(parallel(), "p", 0, ceildiv(total, threads), [&](Dim p0) {
    share_of_block(b, thread(threads), "e", p0, threads, total, [&](Dim e) {
      const Coords at = split_index(b, kept, e);
      lanes(b, w, [&](Dim l) {
        Coords own = at;
        if (!own.empty()) own.back() = own.back() * w + l;
        set_vars(f, f.kept, own, vars);
        row();
      });
    });
  });
  return b.finish();
}

}  // namespace graphc::cuda
