// Template "columns", schedule kColumns:
//
//   parallel outer kept, block of lanes * width of the inner kept axis
//     for each level
//       thread<256> t: lane t % lanes, and of the rows t / lanes, that + 256 / lanes, ..
//         sums of its columns into shared memory
//       a tree over the threads of one column
//     thread<256>: full-size results, spread likewise
//     a thread per column: row results
#include "backends/cuda/kernels/each_element.h"
#include "backends/cuda/kernels/reduce_plan.h"
#include "backends/cuda/kernels/vectors.h"

namespace graphc::cuda {

void tree(RegionBuilder& b, int threads, int rows, int columns, const std::vector<ReduceOp>& ops,
          const std::vector<Buffer>& parts, const std::function<std::vector<Dim>(Dim)>& guards) {
  b.k().barrier();
  for (int half = rows / 2; half >= 1; half /= 2) {
    b.loop(thread(threads), "t", 0, half * columns, [&](Dim e) {
      const Dim i = b.simplify(floordiv(e, columns)), c = b.simplify(mod(e, columns));
      const auto add = [&] {
        for (size_t k = 0; k < parts.size(); ++k)
          b.k().store(parts[k], {i, c}, combine(ops[k], parts[k].load({i, c}), parts[k].load({i + half, c})));
      };
      const std::vector<Dim> in = guards(c);
      if (in.empty())
        add();
      else
        b.k().if_then(in, add);
    });
    b.k().barrier();
  }
}

void ColumnBlock::for_blocks(const std::function<void()>& block) {
  vars_.assign(f_.groups.size(), Dim(0));
  const Shape outer(f_.kept_sizes.begin(), f_.kept_sizes.end() - 1);
  const Dim size = f_.kept_sizes.back();
  const Dim rows = product(outer);
  const auto inner = [&](const Dim& o) {
    b_.loop(parallel(), "cb", 0, ceildiv(size, columns()), [&](Dim cb) {
      Coords kept = split_index(b_, outer, o);
      first_ = cb * columns();
      kept.push_back(first_);
      set_vars(f_, f_.kept, kept, vars_);
      block();
    });
  };
  if (rows.is_constant(1)) return inner(0);
  b_.loop(parallel(), "o", 0, rows, inner);
}

void ColumnBlock::declare(const std::vector<ReduceJob>& jobs) {
  parts_.clear();
  for (const ReduceJob& j : jobs)
    parts_.push_back(b_.k().shared("part", j.type, {p_.threads / p_.lanes, columns()}));
}

// body for each of the thread's columns that there are.
void ColumnBlock::lanes(const Dim& tx, const std::function<void()>& body) {
  const int w = p_.width;
  const Dim size = f_.kept_sizes.back();
  std::vector<Dim> guards;
  add_guard(b_, guards, floordiv(size, w) - 1 - floordiv(first_, w) - tx);
  const auto all = [&] {
    cuda::lanes(b_, w, [&](Dim l) {
      column_ = b_.simplify(tx * w + l);
      vars_[static_cast<size_t>(f_.kept.back())] = first_ + column_;
      body();
    });
  };
  if (guards.empty()) return all();
  b_.k().if_then(guards, [&] { b_.scoped(all); });
}

void ColumnBlock::row(const Dim& i) { set_vars(f_, f_.reduced, split_index(b_, f_.reduced_sizes, i), vars_); }

void ColumnBlock::reduce(const std::vector<size_t>& jobs, const Dim& begin, const std::optional<Dim>& count,
                         const std::function<void()>& before) {
  const int rows = p_.threads / p_.lanes;
  std::vector<ReduceOp> ops;
  std::vector<Buffer> parts;
  for (size_t j : jobs) {
    ops.push_back(f_.jobs[j].op);
    parts.push_back(parts_[j]);
  }
  b_.loop(thread(p_.threads), "t", 0, p_.threads, [&](Dim t) {
    const Dim tx = b_.simplify(mod(t, p_.lanes)), ty = b_.simplify(floordiv(t, p_.lanes));
    lanes(tx, [&] {
      before();
      const Dim column = column_;
      const Dim left = floordiv(p_.length - begin - ty + (rows - 1), rows);
      const Dim hi = count ? floordiv(*count, rows) : left;
      const std::vector<Expr> sums = b_.reduce(
          "s", ops, serial(), "k", 0, hi,
          [&](Dim k) {
            row(b_.simplify(begin + ty + k * rows));
            const Coords at = f_.coords(b_.ranges(), vars_);
            std::vector<Expr> out;
            for (size_t j : jobs) out.push_back(reader_.value(f_.jobs[j], at));
            return out;
          },
          count ? std::optional<Dim>(left) : std::nullopt);
      for (size_t i = 0; i < jobs.size(); ++i) b_.k().store(parts[i], {ty, column}, sums[i]);
    });
  });
  const Dim size = f_.kept_sizes.back(), first = first_;
  tree(b_, p_.threads, rows, columns(), ops, parts, [&](const Dim& c) {
    std::vector<Dim> guards;
    add_guard(b_, guards, size - 1 - first - c);
    return guards;
  });
}

void ColumnBlock::full_pass(const std::function<void()>& before) {
  const int rows = p_.threads / p_.lanes;
  b_.loop(thread(p_.threads), "t", 0, p_.threads, [&](Dim t) {
    const Dim tx = b_.simplify(mod(t, p_.lanes)), ty = b_.simplify(floordiv(t, p_.lanes));
    b_.loop(serial(), "k", 0, floordiv(p_.length - ty + (rows - 1), rows), [&](Dim k) {
      lanes(tx, [&] {
        before();
        row(b_.simplify(ty + k * rows));
        reader_.write(f_.full_results, f_.coords(b_.ranges(), vars_));
      });
    });
  });
}

void ColumnBlock::each_column(const std::function<void(Dim)>& body) {
  const Dim size = f_.kept_sizes.back();
  for (int g : f_.reduced) vars_[static_cast<size_t>(g)] = 0;
  b_.loop(thread(p_.threads), "t", 0, columns(), [&](Dim t) {
    std::vector<Dim> guards;
    add_guard(b_, guards, size - 1 - first_ - t);
    const auto one = [&] {
      column_ = t;
      vars_[static_cast<size_t>(f_.kept.back())] = first_ + t;
      body(t);
    };
    if (guards.empty()) return one();
    b_.k().if_then(guards, [&] { b_.scoped(one); });
  });
}

Result<KernelStep> reduce_by_columns(const ReduceForm& f, const ReducePlan& p, const std::string& name) {
  RegionBuilder b(*f.region, name, f.roots, {}, f.results);
  ReduceReader reader(f, b);
  ColumnBlock block(f, p, b, reader);
  bool in_place = false;
  for (int r : f.row_results) in_place |= b.may_share(r);
  block.for_blocks([&] {
    block.declare(f.jobs);
    int done = 0;
    const auto bind = [&] {
      for (size_t j = 0; j < f.jobs.size(); ++j)
        if (f.jobs[j].level < done)
          reader.finish(f.jobs[j], f.coords(b.ranges(), block.vars()), block.sum(j));
    };
    for (int l = 0; l < f.levels; ++l) {
      std::vector<size_t> jobs;
      for (size_t j = 0; j < f.jobs.size(); ++j)
        if (f.jobs[j].level == l) jobs.push_back(j);
      if (!jobs.empty()) block.reduce(jobs, 0, {}, bind);
      done = l + 1;
    }
    if (!f.full_results.empty()) block.full_pass(bind);
    if (f.row_results.empty()) return;
    if (in_place && !f.full_results.empty()) b.k().barrier();
    block.each_column([&](Dim) {
      bind();
      reader.write(f.row_results, f.coords(b.ranges(), block.vars()));
    });
  });
  return b.finish();
}

}  // namespace graphc::cuda
