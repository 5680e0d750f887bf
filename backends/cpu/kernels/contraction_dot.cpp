// Template "contraction", dot form: both operands adjacent along k, so vectors run along k and a tile of MR x
// NR results has one vector accumulator each, added up at the end of a block of k. It needs no packing where
// both lie densely in memory: nn.Linear (x[M, K] W[N, K]^T), also at M = 1, where it reads W once and in
// order. A convolution's weight gradient packs the windows of x (rows of k) first.
//
//   parallel batch, block of n, block of m
//     for each block of k
//       pack B [NB x KC] and A [MB x KC] through the readers where they aren't dense along k
//       for each NR rows of B (they stay in L1), for each MR rows of A: reduce MR * NR products over k
//     epilogue by the writer
#include "backends/cpu/kernels/contraction_plan.h"
#include "backends/cpu/kernels/lowering.h"

namespace graphc {
namespace {

class DotForm {
 public:
  DotForm(const ContractionPlan& plan, const Func& region, const LowerOptions& options)
      : p_(plan),
        f_(plan.form),
        region_(region),
        b_(region, options.name, plan.roots, plan.cut, plan.results),
        lanes_(options.features.lanes(static_cast<int>(dtype_size(plan.acc_type)))) {}

  Result<LoweredRegion> lower() {
    choose();
    nest_batch(0);
    Dim work = Dim(mb_ * nb_);
    for (const Dim& k : p_.k.group_sizes) work *= k;
    int64_t task = 15000 * 2 * lanes_;
    Dim grain(1);
    if (auto w = work.as_constant()) grain = Dim(std::max<int64_t>(1, task / std::max<int64_t>(1, *w)));
    GC_TRY(KernelStep step, b_.finish(grain));
    LoweredRegion out;
    out.steps.push_back(std::move(step));
    return out;
  }

 private:
  void choose() {
    m_const_ = p_.m_total.as_constant();
    n_const_ = p_.n_total.as_constant();
    bool wide = p_.registers >= 32;
    if (m_const_ && *m_const_ <= 1) {
      mr_ = 1;
      nr_ = wide ? 8 : 6;
    } else if (m_const_ && *m_const_ <= 2) {
      mr_ = 2;
      nr_ = wide ? 8 : 4;
    } else if (m_const_ && *m_const_ == 3) {
      mr_ = 3;
      nr_ = wide ? 7 : 3;
    } else {
      mr_ = wide ? 4 : 3;
      nr_ = wide ? 6 : 3;
    }
    if (n_const_ && *n_const_ > 0) nr_ = static_cast<int>(std::min<int64_t>(nr_, *n_const_));
    bool one_row_tile = m_const_ && *m_const_ <= mr_;
    bool a_direct = p_.a_plain && dense_runs(p_.a_access), b_direct = p_.b_plain && dense_runs(p_.b_access);
    k_box_ = make_box(p_.k, one_row_tile && a_direct && b_direct ? int64_t{1} << 30 : 1024);
    // k axes that aren't one run for an operand have it packed
    direct_a_ = p_.a_plain && dense_box(p_.a_access);
    direct_b_ = p_.b_plain && dense_box(p_.b_access);
    kc_ = k_box_.block * k_box_.suffix;
    k_pitch_ = (kc_ + lanes_ - 1) / lanes_ * lanes_ + lanes_;
    auto k0 = p_.k.group_sizes[0].as_constant();
    one_block_ = k_box_.part == 0 && k0 && *k0 <= k_box_.block && *k0 > 0;

    Dim batch = product(p_.batch.group_sizes);
    int64_t n = n_const_.value_or(256), m = m_const_.value_or(256), batches = batch.as_constant().value_or(4);
    if (one_row_tile) {
      nb_ = 4 * nr_;
    } else {
      int64_t share = batches >= 4 ? n : (n + 3) / 4;
      nb_ = std::clamp<int64_t>((share + nr_ - 1) / nr_ * nr_, nr_, std::max<int64_t>(nr_, 96 / nr_ * nr_));
    }
    int64_t items = batches * ((n + nb_ - 1) / nb_);
    int64_t rows = items >= 4 ? m : (m * items + 3) / 4;
    mb_ = std::clamp<int64_t>((rows + mr_ - 1) / mr_ * mr_, mr_, 256 / mr_ * mr_);
    c_pitch_ = (nb_ + lanes_ - 1) / lanes_ * lanes_;
    all_runs_ = k_runs(p_, k_box_, nullptr, nullptr);
  }

  // all of k is one run of adjacent elements
  bool dense_runs(const std::vector<Access>& access) {
    Box whole;
    return k_runs(p_, whole, &access, nullptr).size() == 1 && p_.k.count() >= 1;
  }
  bool dense_box(const std::vector<Access>& access) {
    return k_runs(p_, k_box_, &access, nullptr).size() == 1;
  }

  void nest_batch(size_t g) {
    if (g < p_.batch.count()) {
      if (p_.batch.group_sizes[g].is_constant(1)) {
        batch_.push_back(0);
        nest_batch(g + 1);
        return;
      }
      b_.loop(parallel(), "b", 0, p_.batch.group_sizes[g], [&](Dim v) {
        batch_.push_back(v);
        nest_batch(g + 1);
      });
      return;
    }
    b_.loop(parallel(), "nb", 0, ceildiv(p_.n_total, nb_), [&](Dim nb) {
      b_.loop(parallel(), "mb", 0, ceildiv(p_.m_total, mb_), [&](Dim mb) {
        n_block_ = nb;
        m_block_ = mb;
        n0_ = nb * nb_;
        m0_ = mb * mb_;
        item();
      });
    });
  }

  void item() {
    KernelBuilder& k = b_.k();
    if (!direct_b_) bp_ = k.scratch("bp", p_.acc_type, {nb_ * k_pitch_});
    if (!direct_a_) ap_ = k.scratch("ap", p_.acc_type, {mb_ * k_pitch_});
    c_ = k.scratch("c", p_.acc_type, {mb_ * c_pitch_});
    if (!one_block_)
      b_.loop(vector(lanes_), "z", 0, mb_ * c_pitch_,
              [&](Dim z) { k.store(c_, {z}, Expr::constant(0, p_.acc_type)); });
    nest_k(0);
    b_.loop(
        serial(), "i", 0, mb_,
        [&](Dim i) {
          b_.loop(
              p_.n_total.is_constant(1) ? serial() : vector(lanes_), "j", 0, nb_,
              [&](Dim j) {
                Coords at = f_.at_c(batch_coords(), delinearize(f_.m, m0_ + i, b_.ranges()),
                                    delinearize(f_.n, n0_ + j, b_.ranges()));
                write_results(b_, region_, p_, at, c_.load({i * c_pitch_ + j}));
              },
              p_.n_total - n0_);
        },
        p_.m_total - m0_);
  }

  void nest_k(size_t g) {
    Dim size = p_.k.group_sizes[g];
    if (g < k_box_.part) {
      b_.loop(serial(), "ko", 0, size, [&](Dim v) {
        k_outer_.push_back(v);
        nest_k(g + 1);
        k_outer_.pop_back();
      });
      return;
    }
    if (one_block_) {
      k0_ = 0;
      k_block();
      return;
    }
    b_.loop(serial(), "kb", 0, ceildiv(size, k_box_.block), [&](Dim kb) {
      k0_ = kb * k_box_.block;
      k_block();
    });
  }

  void k_block() {
    if (!direct_b_)
      pack(bp_, nb_, p_.n_total - n0_, p_.b_access,
           [&](const Dim& r, const Coords& kc) { return read_b(n0_ + r, kc); });
    if (!direct_a_)
      pack(ap_, mb_, p_.m_total - m0_, p_.a_access,
           [&](const Dim& r, const Coords& kc) { return read_a(m0_ + r, kc); });
    tiles("nt", n_const_, p_.n_total, nb_, nr_, n0_, n_block_, [&](int nr, Dim n) {
      tiles("mt", m_const_, p_.m_total, mb_, mr_, m0_, m_block_, [&](int mr, Dim m) { tile(mr, nr, m, n); });
    });
  }

  // Full tiles of `step` rows of a block, then what is left: as one narrower tile where the size is known,
  // else one by one.
  void tiles(std::string_view name, std::optional<int64_t> size, const Dim& total, int64_t block, int step,
             const Dim& start, const Dim& block_index, const std::function<void(int, Dim)>& body) {
    if (!size) {
      Dim left = total - start;
      b_.loop(
          serial(), name, 0, block / step, [&](Dim t) { body(step, t * step); }, floordiv(left, step));
      if (step > 1)
        b_.loop(
            serial(), name, floordiv(left, step) * step, block, [&](Dim t) { body(1, t); }, left);
      return;
    }
    int64_t blocks = (*size + block - 1) / block, full = *size / step;
    int rest = static_cast<int>(*size - full * step);
    if (full > 0)
      b_.loop(
          serial(), name, 0, std::min<int64_t>(block / step, full), [&](Dim t) { body(step, t * step); },
          blocks > 1 ? std::optional<Dim>(floordiv(Dim(*size) - start, step)) : std::nullopt);
    if (rest > 0) {
      Dim last(full * step - (blocks - 1) * block);
      if (blocks > 1)
        b_.k().if_then({block_index - (blocks - 1)}, [&] { b_.scoped([&] { body(rest, last); }); });
      else
        body(rest, last);
    }
  }

  void tile(int mr, int nr, Dim m_local, Dim n_local) {
    KernelBuilder& k = b_.k();
    Dim hi(kc_), left = (p_.k.group_sizes[k_box_.part] - k0_) * k_box_.suffix;
    std::optional<Dim> limit;
    if (one_block_)
      hi = left;
    else
      limit = left;
    std::vector<ReduceOp> ops(static_cast<size_t>(mr * nr), ReduceOp::kAdd);
    std::vector<Expr> sums = b_.reduce(
        "s", ops, vector(lanes_), "k", 0, hi,
        [&](Dim kk) {
          Coords kc = run_coords(p_, k_box_, all_runs_, k_outer_, k0_, {kk}, b_.ranges());
          std::vector<Expr> a, products;
          for (int i = 0; i < mr; ++i)
            a.push_back(k.let(
                "a", direct_a_ ? read_a(m0_ + m_local + i, kc) : ap_.load({(m_local + i) * k_pitch_ + kk})));
          std::vector<Expr> by_row(static_cast<size_t>(mr * nr));
          for (int j = 0; j < nr; ++j) {
            Expr x = k.let(
                "b", direct_b_ ? read_b(n0_ + n_local + j, kc) : bp_.load({(n_local + j) * k_pitch_ + kk}));
            for (int i = 0; i < mr; ++i)
              by_row[static_cast<size_t>(i * nr + j)] = a[static_cast<size_t>(i)] * x;
          }
          return by_row;
        },
        limit);
    for (int i = 0; i < mr; ++i)
      for (int j = 0; j < nr; ++j) {
        Dim at = (m_local + i) * c_pitch_ + n_local + j;
        Expr s = sums[static_cast<size_t>(i * nr + j)];
        k.store(c_, {at}, one_block_ ? s : c_.load({at}) + s);
      }
  }

  Expr read_a(const Dim& m, const Coords& kc) {
    return read(f_.a, f_.at_a(batch_coords(), delinearize(f_.m, m, b_.ranges()), kc));
  }
  Expr read_b(const Dim& n, const Coords& kc) {
    return read(f_.b, f_.at_b(batch_coords(), kc, delinearize(f_.n, n, b_.ranges())));
  }
  Expr read(const Value* v, const ContractionPoint& at) {
    std::vector<Dim> guards;
    for (const Dim& g : at.guards) {
      Dim s = b_.simplify(g);
      if (!b_.ranges().provably_nonnegative(s)) guards.push_back(s);
    }
    return cast(b_.element(v, at.at, guards, 0.0), p_.acc_type);
  }
  Coords batch_coords() { return p_.batch.coords(batch_, b_.ranges()); }

  void pack(const Buffer& to, int64_t rows, const Dim& limit, const std::vector<Access>& access,
            const std::function<Expr(const Dim&, const Coords&)>& value) {
    std::vector<KRun> runs = k_runs(p_, k_box_, &access, nullptr);
    b_.loop(
        serial(), "row", 0, rows,
        [&](Dim row) {
          std::function<void(size_t, Coords, Dim)> over = [&](size_t r, Coords at, Dim dense) {
            bool last = r + 1 == runs.size();
            std::optional<Dim> left;
            if (r == 0) left = (p_.k.group_sizes[k_box_.part] - k0_) * runs[0].inner;
            b_.loop(
                last ? vector(lanes_) : serial(), "kk", 0, runs[r].size,
                [&](Dim v) {
                  Coords next = at;
                  next.push_back(v);
                  Dim d = dense + v * runs[r].after;
                  if (last)
                    b_.k().store(to, {row * k_pitch_ + d},
                                 value(row, run_coords(p_, k_box_, runs, k_outer_, k0_, next, b_.ranges())));
                  else
                    over(r + 1, next, d);
                },
                left);
          };
          over(0, {}, 0);
        },
        limit);
  }

  const ContractionPlan& p_;
  const ContractionForm& f_;
  const Func& region_;
  RegionBuilder b_;
  int lanes_;
  std::optional<int64_t> m_const_, n_const_;
  bool direct_a_ = false, direct_b_ = false, one_block_ = false;
  int mr_ = 1, nr_ = 1;
  int64_t nb_ = 1, mb_ = 1, kc_ = 1, k_pitch_ = 1, c_pitch_ = 1;
  Box k_box_;
  std::vector<KRun> all_runs_;
  Coords batch_, k_outer_;
  Dim n0_, m0_, k0_, n_block_, m_block_;
  Buffer bp_, ap_, c_;
};

}  // namespace

Result<LoweredRegion> lower_dot_form(const ContractionPlan& plan, const Func& region,
                                     const LowerOptions& options) {
  return DotForm(plan, region, options).lower();
}

}  // namespace graphc
