// Templates "rows" and "columns" where there are fewer rows (or blocks of columns) than multiprocessors: the
// reduced range is cut into chunks, by shape and target only, so that every run gives the same bits.
//
//   for each level: a block per row (or block of columns) and chunk writes partial results to workspace, then
//   a second kernel combines them in fixed order; the last one stores the row results, unless there are
//   full-size results: these have a kernel of their own, and the row results another one after it (they may
//   be written over what it reads).
#include <algorithm>
#include <unordered_set>

#include "backends/cuda/kernels/each_element.h"
#include "backends/cuda/kernels/reduce_plan.h"
#include "backends/cuda/kernels/vectors.h"

namespace graphc::cuda {
namespace {

class Chunks {
 public:
  Chunks(const ReduceForm& f, const ReducePlan& p, const CudaTarget& target, const std::string& name)
      : f_(f),
        p_(p),
        target_(target),
        name_(name),
        rows_(product(f.kept_sizes)),
        chunks_(ceildiv(p.length, p.chunk)) {
    for (const ReduceJob& j : f.jobs) cut_.insert(j.node->result());
  }

  Result<LoweredRegion> lower() {
    LoweredRegion out;
    for (const ReduceJob& j : f_.jobs)
      for (const Dim& n : {chunks_ * rows_, rows_})
        out.workspace_bytes.push_back(ceildiv(n * static_cast<int64_t>(dtype_size(j.type)), 64) * 64);
    const bool full = !f_.full_results.empty();
    for (int l = 0; l < f_.levels; ++l) {
      std::vector<size_t> jobs;
      for (size_t j = 0; j < f_.jobs.size(); ++j)
        if (f_.jobs[j].level == l) jobs.push_back(j);
      if (jobs.empty()) continue;
      GC_TRY(KernelStep partial,
             p_.schedule == ReduceSchedule::kColumns ? column_parts(l, jobs) : row_parts(l, jobs));
      out.steps.push_back(std::move(partial));
      GC_TRY(KernelStep sums, combined(l, jobs, !full && l + 1 == f_.levels));
      out.steps.push_back(std::move(sums));
    }
    if (!full) return out;
    GC_TRY(KernelStep all, full_size());
    out.steps.push_back(std::move(all));
    if (f_.row_results.empty()) return out;
    GC_TRY(KernelStep rows, row_size());
    out.steps.push_back(std::move(rows));
    return out;
  }

 private:
  // A kernel that computes `roots`, knows the sums of the levels below `level` and writes what is listed.
  struct Kernel {
    RegionBuilder b;
    ReduceReader reader;
    std::map<int, int> position;  // of workspaces
    Kernel(const Chunks& c, const std::string& suffix, const std::vector<const Value*>& roots,
           const std::vector<int>& results, const std::vector<RegionBuilder::Workspace>& ws)
        : b(*c.f_.region, c.name_ + suffix, roots, c.cut_, results, ws), reader(c.f_, b) {
      for (size_t i = 0; i < ws.size(); ++i) position[ws[i].index] = static_cast<int>(i);
    }
    const Buffer& workspace(int index) const { return b.workspace(position.at(index)); }
  };
  static int parts_of(size_t job) { return 2 * static_cast<int>(job); }
  static int sums_of(size_t job) { return 2 * static_cast<int>(job) + 1; }

  void add_sums(int below, std::vector<RegionBuilder::Workspace>& ws) const {
    for (size_t j = 0; j < f_.jobs.size(); ++j)
      if (f_.jobs[j].level < below) ws.push_back({sums_of(j), f_.jobs[j].type, rows_, false});
  }
  void bind_sums(Kernel& k, int below) const {
    for (size_t j = 0; j < f_.jobs.size(); ++j)
      if (f_.jobs[j].level < below)
        k.reader.finish(f_.jobs[j], [this, &k, sums = k.workspace(sums_of(j))](const Coords& kept) {
          return sums.load({k.b.simplify(linear_index(f_.kept_shape, kept))});
        });
  }
  std::vector<const Value*> values(const std::vector<int>& results) const {
    std::vector<const Value*> out;
    for (int r : results) out.push_back(f_.roots[static_cast<size_t>(r)]);
    return out;
  }
  std::vector<ReduceOp> ops(const std::vector<size_t>& jobs) const {
    std::vector<ReduceOp> out;
    for (size_t j : jobs) out.push_back(f_.jobs[j].op);
    return out;
  }

  Kernel partial_kernel(int level, const std::vector<size_t>& jobs) const {
    std::vector<RegionBuilder::Workspace> ws;
    std::vector<const Value*> operands;
    for (size_t j : jobs) {
      ws.push_back({parts_of(j), f_.jobs[j].type, chunks_ * rows_, true});
      operands.push_back(f_.jobs[j].node->operands[0]);
    }
    add_sums(level, ws);
    return Kernel(*this, suffix(), operands, {}, ws);
  }
  std::string suffix() const { return kernels_++ ? "_" + std::to_string(kernels_ - 1) : ""; }

  Result<KernelStep> row_parts(int level, const std::vector<size_t>& jobs) const {
    Kernel k = partial_kernel(level, jobs);
    RegionBuilder& b = k.b;
    Coords vars(f_.groups.size(), Dim(0));
    const auto row = [&](const Dim& p, const Dim& r) {
      set_vars(f_, f_.kept, split_index(b, f_.kept_sizes, r), vars);
      bind_sums(k, level);
      const auto known = p_.length.as_constant();
      const std::optional<Dim> limit =
          known && *known % p_.chunk == 0 ? std::nullopt : std::optional<Dim>(p_.length);
      const std::vector<Expr> sums = b.reduce(
          "s", ops(jobs), thread(p_.threads, p_.unroll), "e", p * p_.chunk, (p + 1) * p_.chunk,
          [&](Dim e) {
            const auto one = [&](const Dim& l) {
              Coords at = split_index(b, p_.reduced, e);
              if (!at.empty()) at.back() = at.back() * p_.width + l;
              set_vars(f_, f_.reduced, at, vars);
              std::vector<Expr> out;
              for (size_t j : jobs) out.push_back(k.reader.value(f_.jobs[j], f_.coords(b.ranges(), vars)));
              return out;
            };
            if (p_.width == 1) return one(0);
            return b.reduce("v", ops(jobs), vector(p_.width), "l", 0, p_.width, one);
          },
          limit);
      for (size_t i = 0; i < jobs.size(); ++i)
        b.k().store(k.workspace(parts_of(jobs[i])), {b.simplify(p * rows_ + r)}, sums[i]);
    };
    b.loop(parallel(), "p", 0, chunks_, [&](Dim p) {
      if (rows_.is_constant(1)) return row(p, 0);
      b.loop(parallel(), "r", 0, rows_, [&](Dim r) { row(p, r); });
    });
    return b.finish();
  }

  Result<KernelStep> column_parts(int level, const std::vector<size_t>& jobs) const {
    Kernel k = partial_kernel(level, jobs);
    RegionBuilder& b = k.b;
    ColumnBlock block(f_, p_, b, k.reader);
    b.loop(parallel(), "p", 0, chunks_, [&](Dim p) {
      block.for_blocks([&] {
        block.declare(f_.jobs);
        bind_sums(k, level);
        block.reduce(jobs, p * p_.chunk, Dim(p_.chunk), [] {});
        block.each_column([&](Dim) {
          Coords kept;
          for (int g : f_.kept) kept.push_back(block.vars()[static_cast<size_t>(g)]);
          for (size_t j : jobs)
            b.k().store(k.workspace(parts_of(j)), {b.simplify(p * rows_ + linear_index(f_.kept_sizes, kept))},
                        block.sum(j));
        });
      });
    });
    return b.finish();
  }

  // Each row's sum over the chunks.
  Result<KernelStep> combined(int level, const std::vector<size_t>& jobs, bool last) const {
    constexpr int kThreads = 256;
    std::vector<RegionBuilder::Workspace> ws;
    for (size_t j : jobs) {
      ws.push_back({parts_of(j), f_.jobs[j].type, chunks_ * rows_, false});
      if (!last) ws.push_back({sums_of(j), f_.jobs[j].type, rows_, true});
    }
    if (last) add_sums(level, ws);
    const std::vector<int> results = last ? f_.row_results : std::vector<int>{};
    Kernel k(*this, suffix(), values(results), results, ws);
    RegionBuilder& b = k.b;
    int lanes = 1;
    const int64_t known = rows_.as_constant().value_or(32);
    while (lanes < 32 && lanes < known) lanes *= 2;
    int64_t bytes = 0;
    for (size_t j : jobs) bytes += kThreads * static_cast<int64_t>(dtype_size(f_.jobs[j].type));
    if (bytes > 48 << 10) return unsupported("too many reductions in one pass for the cuda backend");
    const int ty = kThreads / lanes;
    b.loop(parallel(), "cb", 0, ceildiv(rows_, lanes), [&](Dim cb) {
      std::vector<Buffer> parts;
      for (size_t j : jobs) parts.push_back(b.k().shared("part", f_.jobs[j].type, {ty, lanes}));
      const auto guards = [&](const Dim& c) {
        std::vector<Dim> out;
        add_guard(b, out, rows_ - 1 - cb * lanes - c);
        return out;
      };
      const auto inside = [&](const Dim& c, const std::function<void()>& body) {
        const std::vector<Dim> in = guards(c);
        if (in.empty()) return b.scoped(body);
        b.k().if_then(in, [&] { b.scoped(body); });
      };
      b.loop(thread(kThreads), "t", 0, kThreads, [&](Dim t) {
        const Dim c = b.simplify(mod(t, lanes)), y = b.simplify(floordiv(t, lanes));
        inside(c, [&] {
          const std::vector<Expr> sums =
              b.reduce("s", ops(jobs), serial(), "i", 0, floordiv(chunks_ - y + (ty - 1), ty), [&](Dim i) {
                std::vector<Expr> out;
                for (size_t j : jobs)
                  out.push_back(
                      k.workspace(parts_of(j)).load({b.simplify((y + i * ty) * rows_ + cb * lanes + c)}));
                return out;
              });
          for (size_t i = 0; i < jobs.size(); ++i) b.k().store(parts[i], {y, c}, sums[i]);
        });
      });
      tree(b, kThreads, ty, lanes, ops(jobs), parts, guards);
      b.loop(thread(kThreads), "z", 0, lanes, [&](Dim c) {
        inside(c, [&] {
          const Dim row = b.simplify(cb * lanes + c);
          if (!last) {
            for (size_t i = 0; i < jobs.size(); ++i)
              b.k().store(k.workspace(sums_of(jobs[i])), {row}, parts[i].load({0, c}));
            return;
          }
          Coords vars(f_.groups.size(), Dim(0));
          set_vars(f_, f_.kept, split_index(b, f_.kept_sizes, row), vars);
          const Coords at = f_.coords(b.ranges(), vars);
          bind_sums(k, level);
          for (size_t i = 0; i < jobs.size(); ++i)
            k.reader.finish(f_.jobs[jobs[i]], at, parts[i].load({0, c}));
          k.reader.write(f_.row_results, at);
        });
      });
    });
    return b.finish();
  }

  Kernel last_kernel(const std::vector<int>& results) const {
    std::vector<RegionBuilder::Workspace> ws;
    add_sums(f_.levels, ws);
    return Kernel(*this, suffix(), values(results), results, ws);
  }

  Result<KernelStep> full_size() const {
    Kernel k = last_kernel(f_.full_results);
    RegionBuilder& b = k.b;
    Shape sizes;
    std::vector<int> all;
    for (size_t g = 0; g < f_.groups.size(); ++g) {
      sizes.push_back(f_.groups[g].size);
      all.push_back(static_cast<int>(g));
    }
    if (!sizes.empty()) sizes.back() = floordiv(sizes.back(), p_.width);
    const Dim total = product(sizes);
    const int threads = element_threads({total}, target_);
    b.loop(parallel(), "p", 0, ceildiv(total, threads), [&](Dim p) {
      share_of_block(b, thread(threads), "e", p, threads, total, [&](Dim e) {
        const Coords at = split_index(b, sizes, e);
        lanes(b, p_.width, [&](Dim l) {
          Coords own = at, vars;
          if (!own.empty()) own.back() = own.back() * p_.width + l;
          set_vars(f_, all, own, vars);
          bind_sums(k, f_.levels);
          k.reader.write(f_.full_results, f_.coords(b.ranges(), vars));
        });
      });
    });
    return b.finish();
  }

  Result<KernelStep> row_size() const {
    Kernel k = last_kernel(f_.row_results);
    RegionBuilder& b = k.b;
    const int threads = element_threads({rows_}, target_);
    b.loop(parallel(), "p", 0, ceildiv(rows_, threads), [&](Dim p) {
      share_of_block(b, thread(threads), "e", p, threads, rows_, [&](Dim e) {
        Coords vars(f_.groups.size(), Dim(0));
        set_vars(f_, f_.kept, split_index(b, f_.kept_sizes, e), vars);
        bind_sums(k, f_.levels);
        k.reader.write(f_.row_results, f_.coords(b.ranges(), vars));
      });
    });
    return b.finish();
  }

  const ReduceForm& f_;
  const ReducePlan& p_;
  const CudaTarget& target_;
  std::string name_;
  Dim rows_, chunks_;
  std::unordered_set<const Value*> cut_;
  mutable int kernels_ = 0;
};

}  // namespace

Result<LoweredRegion> reduce_by_chunks(const ReduceForm& f, const ReducePlan& p, const CudaTarget& target,
                                       const std::string& name) {
  return Chunks(f, p, target, name).lower();
}

}  // namespace graphc::cuda
