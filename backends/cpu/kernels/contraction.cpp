// Template "contraction", outer form: C[m, n] += A[m, k] * B[k, n] with vectors along n.
//
//   parallel batch, block of n (NC columns), block of m (MB rows)
//     for each block of k (KC)
//       pack B [KC x NC] through the reader, vectors along n: padding, strides and im2col happen here
//       pack A [MB x KC] if it can't be broadcast from where it lies
//       for each tile of NR columns (its B panel stays in L1), for each tile of MR rows
//         MR x NR accumulators in registers, one rank-1 update per k
//     epilogue by the writer: straight from the tile if there is one block of k, else from the block of C
//
// Where n is a little more than whole vectors the last columns go by vectors along k.
//
// The input gradient of a strided convolution is one such contraction for each phase of the input.
//
// If several blocks of rows need the same B, and it isn't too large, a kernel of its own packs all of it
// first.
//
// The order in which k is added up depends on KC only, so results don't depend on threads or blocks of m and
// n. The dot form (vectors along k) is in contraction_dot.cpp.
#include "backends/cpu/kernels/contraction_plan.h"

#include <fmt/format.h>

namespace graphc {
namespace {

// A kernel does all of it, or one kernel packs B into workspace and the next one multiplies.
enum class Part : uint8_t { kWhole, kPack, kMultiply };

class OuterForm {
 public:
  OuterForm(const ContractionPlan& plan, const Func& region, const LowerOptions& options,
            Part part = Part::kWhole, int64_t packed_elements = 0)
      : p_(plan),
        f_(plan.form),
        region_(region),
        part_(part),
        b_(region, options.name + (part == Part::kPack ? "_pack" : ""), roots(plan, part), plan.cut,
           part == Part::kPack ? std::vector<int>{} : plan.results, workspace(plan, part, packed_elements)),
        lanes_(options.features.lanes(static_cast<int>(dtype_size(plan.acc_type)))) {
    choose();
  }

  // Elements of all of B packed if that is worth a kernel of its own: several blocks of rows need it, and it
  // stays in the caches. Else 0.
  int64_t packed_elements() const {
    if (direct_b_ || !m_const_ || *m_const_ <= mb_) return 0;
    Dim blocks(1);
    for (const Dim& d : block_counts()) blocks *= d;
    int64_t element = static_cast<int64_t>(dtype_size(p_.acc_type));
    auto all = (blocks * panel_elements_).as_constant();
    return all && *all * element <= (int64_t{8} << 20) ? *all : 0;
  }

  Result<KernelStep> kernel() {
    nest_batch(0);
    if (part_ == Part::kPack) return b_.finish(task_grain(Dim(kc_ * nc_), 4, lanes_));
    Dim work = Dim(int64_t{mb_}) * nc_;
    for (const Dim& k : p_.k.group_sizes) work *= k;
    // in multiply-adds; a task is some 20k cycles of two vector operations each
    int64_t task = 20000 * 2 * lanes_;
    Dim grain(1);
    if (auto w = work.as_constant()) grain = Dim(std::max<int64_t>(1, task / std::max<int64_t>(1, *w)));
    return b_.finish(grain);
  }

 private:
  static std::vector<const Value*> roots(const ContractionPlan& plan, Part part) {
    if (part == Part::kWhole) return plan.roots;
    if (part == Part::kPack) return {plan.form.b};
    std::vector<const Value*> v(plan.roots.begin(),
                                plan.roots.begin() + static_cast<int64_t>(plan.results.size()));
    v.push_back(plan.form.a);
    return v;
  }
  static std::vector<RegionBuilder::Workspace> workspace(const ContractionPlan& plan, Part part,
                                                         int64_t elements) {
    if (part == Part::kWhole) return {};
    return {{0, plan.acc_type, Dim(elements), part == Part::kPack}};
  }

  // Blocks along every axis that a panel of B stands for, outermost first: batch, n, k.
  Shape block_counts() const {
    Shape s = p_.batch.group_sizes;
    auto add = [&](const AxisGroups& axes, const Box& box) {
      for (size_t g = 0; g < box.part; ++g) s.push_back(axes.group_sizes[g]);
      s.push_back(ceildiv(axes.group_sizes[box.part], box.block));
    };
    add(p_.n, n_box_);
    add(p_.k, k_box_);
    return s;
  }
  // Where the current panel starts in the packed B.
  Dim panel() const {
    if (part_ == Part::kWhole) return 0;
    Coords at = batch_;
    at.insert(at.end(), n_outer_.begin(), n_outer_.end());
    at.push_back(n_block_);
    at.insert(at.end(), k_outer_.begin(), k_outer_.end());
    at.push_back(k_block_);
    return linear_index(block_counts(), at) * panel_elements_;
  }

  // Tile and block sizes, by shape.
  void choose() {
    m_const_ = p_.m_total.as_constant();
    n_box_ = make_box(p_.n, 1 << 30);
    auto n_const = product(p_.n.group_sizes).as_constant();
    direct_b_ = p_.b_dense_n && p_.n.count() == 1 && m_const_ && *m_const_ <= 4;
    int64_t nc_max = direct_b_ ? 256 : 480;
    n_box_ = make_box(p_.n, nc_max);
    // an even number of blocks to share out, of no less than a few tiles each
    if (auto size = p_.n.group_sizes[n_box_.part].as_constant(); size && *size > 0) {
      int64_t blocks = (*size + n_box_.block - 1) / n_box_.block;
      int64_t even = blocks > 1 ? (blocks + 1) / 2 * 2 : 1;
      // few rows: to share out columns is better than to pack the same columns for each share of the rows
      if (m_const_ && *m_const_ <= 256 && even < 4 && n_box_.suffix == 1 && *size % (4 * lanes_) == 0 &&
          *size >= 384 && product(p_.batch.group_sizes).is_constant(1))
        even = 4;
      // a handful of rows and a long sum, as in a first layer's weight gradient
      if (m_const_ && *m_const_ > 4 && *m_const_ <= 16 && blocks == 1 && n_box_.suffix == 1 &&
          *size % lanes_ == 0 && *size > lanes_ && product(p_.batch.group_sizes).is_constant(1) &&
          product(p_.k.group_sizes).as_constant().value_or(1 << 20) >= 4096)
        even = std::min<int64_t>(4, *size / lanes_);
      int64_t block = (*size + even - 1) / even;
      if (block * n_box_.suffix >= 128 || blocks > 1 || even > 1) n_box_.block = std::max<int64_t>(1, block);
      if (n_box_.part + 1 == p_.n.count()) {
        int64_t unit = lanes_;
        n_box_.block = (n_box_.block + unit - 1) / unit * unit;
      }
    } else if (n_box_.part + 1 == p_.n.count()) {
      n_box_.block = std::max<int64_t>(lanes_, n_box_.block / (4 * lanes_) * (4 * lanes_));
    }
    nc_ = n_box_.block * n_box_.suffix;
    int64_t columns = nc_;
    if (n_const && *n_const > 0) columns = std::min(columns, *n_const);
    // A few columns past whole vectors: vectors along k for them, if A lies that way.
    if (n_const && *n_const > lanes_ && *n_const <= nc_ && n_box_.part == 0 && p_.a_dense_k && m_const_ &&
        *m_const_ >= 4 && *n_const % lanes_ <= 4 && !direct_b_ && is_float(p_.acc_type)) {
      tail_ = static_cast<int>(*n_const % lanes_);
      columns -= tail_;
    }
    // Rows per item: all of them, unless there would be too few items to share out. Equal shares where m
    // allows.
    Dim items = product(p_.batch.group_sizes);
    for (size_t g = 0; g < n_box_.part; ++g) items *= p_.n.group_sizes[g];
    items *= ceildiv(p_.n.group_sizes[n_box_.part], n_box_.block);
    const int64_t m = m_const_ ? *m_const_ : 256, have = items.as_constant().value_or(4);
    const int64_t want = have >= 4 ? 1 : have >= 2 ? 2 : 4, shares = std::max(want, (m + 255) / 256);
    equal_ = m_const_ && m > 0 && m % shares == 0 && (shares == 1 || m / shares >= 32);
    // Masks of guarded reads in the same kernel live across its loops: of 16 registers they would take some
    // from the accumulators.
    const int registers = p_.registers - (!p_.b_plain && shares == 1 ? 2 : 0) - (p_.c_cost > 60 ? 4 : 0);
    TileShape tile = choose_tile(equal_ ? m / shares : m_const_, columns, lanes_, registers);
    mr_ = tile.mr;
    nv_ = tile.nv;
    nr_ = nv_ * lanes_;
    // room for whole vectors, an odd number of them: rows then spread over all sets of the cache
    int64_t vectors = (nc_ + lanes_ - 1) / lanes_;
    if (!direct_b_) vectors = std::max<int64_t>(vectors, (nc_ + nr_ - 1) / nr_ * nv_);
    pitch_ = (vectors | 1) * lanes_;

    int64_t element = static_cast<int64_t>(dtype_size(p_.acc_type));
    // A in place: a plain load, exact row counts, and rows that don't fall into the same cache sets
    direct_a_ = p_.a_plain && m_const_;
    if (direct_a_ && p_.a_dense_k && !p_.a_row_stride.is_constant(0)) {
      auto stride = p_.a_row_stride.as_constant();
      if (!stride || (*stride * element % 2048 == 0 && mr_ > 6)) direct_a_ = false;
    }
    // The panel of B that a tile reads stays in L1; if all of k makes it a few times that, L2 is fast enough
    // and there are no partial sums.
    int64_t kc_max = std::max<int64_t>(16, 28 * 1024 / (nr_ * element));
    if (auto k = product(p_.k.group_sizes).as_constant(); k && *k * nr_ * element <= 100 * 1024)
      kc_max = std::max(kc_max, *k);
    if (direct_b_) kc_max = direct_a_ ? int64_t{1} << 30 : 4096;  // nothing of k is in scratch, or A is
    k_box_ = make_box(p_.k, kc_max);
    kc_ = k_box_.block * k_box_.suffix;
    one_block_ = k_box_.part == 0 && p_.k.group_sizes[0].as_constant() &&
                 *p_.k.group_sizes[0].as_constant() <= k_box_.block && *p_.k.group_sizes[0].as_constant() > 0;

    int64_t rows = std::max<int64_t>((m + want - 1) / want, std::min<int64_t>(m, 4 * mr_));
    rows = std::min<int64_t>(rows, 256);
    mb_ = equal_ ? m / shares : std::max<int64_t>(mr_, (rows + mr_ - 1) / mr_ * mr_);

    b_by_k_ = !direct_b_ && p_.b_dense_k && !p_.b_dense_n &&
              3 * k_runs(p_, k_box_, nullptr, &p_.b_access).back().size >= lanes_;
    a_by_m_ = !direct_a_ && p_.a_dense_m && !p_.a_dense_k;
    a_pitch_ = a_by_m_ ? mb_ + 16 : (kc_ + 15) / 16 * 16 + 16;
    // runs of k axes that the kernel loop goes through as one
    runs_ = k_runs(p_, k_box_, direct_a_ ? &p_.a_access : nullptr, direct_b_ ? &p_.b_access : nullptr);
    tail_pitch_ = (kc_ + 15) / 16 * 16 + 16;
    panel_elements_ = kc_ * pitch_ + tail_ * tail_pitch_;
  }

  void nest_batch(size_t g) {
    if (g == p_.batch.count()) return nest_n(0);
    if (p_.batch.group_sizes[g].is_constant(1)) {
      batch_.push_back(0);
      nest_batch(g + 1);
      return;
    }
    b_.loop(parallel(), "b", 0, p_.batch.group_sizes[g], [&](Dim v) {
      batch_.push_back(v);
      nest_batch(g + 1);
    });
  }

  void nest_n(size_t g) {
    if (g < n_box_.part) {
      b_.loop(parallel(), "no", 0, p_.n.group_sizes[g], [&](Dim v) {
        n_outer_.push_back(v);
        nest_n(g + 1);
      });
      return;
    }
    Dim blocks = ceildiv(p_.n.group_sizes[g], n_box_.block);
    b_.loop(parallel(), "nb", 0, blocks, [&](Dim nb) {
      n_block_ = nb;
      n0_ = nb * n_box_.block;
      n_count_ = (p_.n.group_sizes[g] - n0_) * n_box_.suffix;
      if (part_ == Part::kPack) {
        bp_ = b_.workspace(0);
        nest_k(0);
        return;
      }
      b_.loop(parallel(), "mb", 0, ceildiv(p_.m_total, mb_), [&](Dim mb) {
        m0_ = mb * mb_;
        m_block_ = mb;
        item();
      });
    });
  }

  void item() {
    KernelBuilder& k = b_.k();
    if (part_ == Part::kMultiply)
      bp_ = b_.workspace(0);
    else if (!direct_b_)
      bp_ = k.scratch("bp", p_.acc_type, {panel_elements_});
    if (!direct_a_) ap_ = k.scratch("ap", p_.acc_type, {(a_by_m_ ? kc_ : mb_) * a_pitch_});
    if (!one_block_) {
      c_ = k.scratch("c", p_.acc_type, {mb_ * pitch_});
      Dim size(mb_ * pitch_);
      b_.loop(vector(lanes_, 4), "z", 0, size,
              [&](Dim z) { k.store(c_, {z}, Expr::constant(0, p_.acc_type)); });
    } else {
      c_ = k.stack("c", p_.acc_type, {Dim(mr_ * nr_)});
    }
    nest_k(0);
    if (!one_block_) epilogue(0, 0, mb_, nc_, pitch_);
  }

  void nest_k(size_t g) {
    LoopSpec spec = part_ == Part::kPack ? parallel() : serial();
    if (g < k_box_.part) {
      b_.loop(spec, "ko", 0, p_.k.group_sizes[g], [&](Dim v) {
        k_outer_.push_back(v);
        nest_k(g + 1);
        k_outer_.pop_back();
      });
      return;
    }
    Dim size = p_.k.group_sizes[g];
    if (one_block_) {
      k0_ = 0;
      k_block_ = 0;
      k_block();
      return;
    }
    b_.loop(spec, "kb", 0, ceildiv(size, k_box_.block), [&](Dim kb) {
      k0_ = kb * k_box_.block;
      k_block_ = kb;
      k_block();
    });
  }

  void k_block() {
    panel_ = panel();
    if (part_ != Part::kMultiply && !direct_b_) {
      pack_b();
      if (tail_ > 0)
        pack_tail();
      else
        zero_columns();
    }
    if (part_ == Part::kPack) return;
    if (!direct_a_) {
      pack_a();
      zero_rows();
    }
    if (tail_ > 0) tail_columns();
    int64_t columns = tail_ > 0 ? p_.n_total.constant() - tail_ : nc_;
    int64_t full = columns / nr_, rest = columns - full * nr_;
    int tail_vectors = static_cast<int>((rest + lanes_ - 1) / lanes_);
    bool symbolic_n = !product(p_.n.group_sizes).is_constant();
    if (full > 0) {
      Dim limit = tail_ > 0 ? Dim(full) : ceildiv(n_count_, nr_);
      bool single = full == 1;
      auto column = [&](Dim nt) { rows_of(nv_, nt * nr_); };
      if (single)
        column(0);
      else
        b_.loop(serial(), "nt", 0, full, column, limit);
    }
    if (tail_vectors > 0) {
      Dim start(full * nr_);
      if (symbolic_n || !(n_count_.is_constant()))
        b_.k().if_then({n_count_ - start - 1}, [&] { b_.scoped([&] { rows_of(tail_vectors, start); }); });
      else
        rows_of(tail_vectors, start);
    }
  }

  Dim first_tail() const { return p_.n_total - tail_; }
  // Elements of k in the current block.
  Dim k_left() const { return (p_.k.group_sizes[k_box_.part] - k0_) * k_box_.suffix; }

  // Zeros where tiles reach past the last column: what is left in scratch could be slow to multiply.
  void zero_columns() {
    const int64_t full = nc_ / nr_, rest = (nc_ - full * nr_ + lanes_ - 1) / lanes_;
    if (auto n = n_count_.as_constant(); n && *n == full * nr_ + rest * lanes_) return;
    if (auto n = p_.n_total.as_constant(); n && *n % nr_ == 0 && nc_ % nr_ == 0) return;
    b_.loop(
        serial(), "kz", 0, kc_,
        [&](Dim k) {
          b_.loop(
              vector(lanes_), "z", n_count_, full * nr_ + rest * lanes_,
              [&](Dim j) { b_.k().store(bp_, {panel_ + k * pitch_ + j}, Expr::constant(0, p_.acc_type)); },
              ceildiv(n_count_, nr_) * nr_);
        },
        k_left());
  }
  // The same of the last rows of A, if their number isn't known.
  void zero_rows() {
    if (m_const_) return;
    Dim left = p_.m_total - m0_;
    auto zero = [&](const Dim& at) { b_.k().store(ap_, {at}, Expr::constant(0, p_.acc_type)); };
    if (a_by_m_) {
      b_.loop(
          serial(), "kz", 0, kc_,
          [&](Dim k) {
            b_.loop(
                vector(lanes_), "z", left, mb_, [&](Dim i) { zero(k * a_pitch_ + i); },
                ceildiv(left, mr_) * mr_);
          },
          k_left());
    } else {
      b_.loop(
          serial(), "z", left, mb_,
          [&](Dim i) {
            b_.loop(
                vector(lanes_), "kz", 0, kc_, [&](Dim k) { zero(i * a_pitch_ + k); }, k_left());
          },
          ceildiv(left, mr_) * mr_);
    }
  }

  // The tail's columns once more, each dense along k, behind the panel.
  void pack_tail() {
    for (int j = 0; j < tail_; ++j)
      b_.loop(
          vector(lanes_), "kt", 0, kc_,
          [&](Dim v) {
            b_.k().store(bp_, {panel_ + kc_ * pitch_ + j * tail_pitch_ + v},
                         bp_.load({panel_ + v * pitch_ + first_tail() + j}));
          },
          k_left());
  }

  void tail_columns() {
    int rows = tail_ == 1 ? 8 : tail_ == 2 ? 6 : 4;
    while (mb_ % rows != 0) --rows;
    Dim left = p_.m_total - m0_, whole = floordiv(left, rows);
    b_.loop(
        serial(), "mt", 0, mb_ / rows, [&](Dim mt) { tail_tile(rows, mt * rows); }, whole);
    if (rows > 1 && *m_const_ % rows != 0)
      b_.loop(
          serial(), "mt", whole * rows, mb_, [&](Dim m) { tail_tile(1, m); }, left);
  }

  void tail_tile(int rows, Dim m_local) {
    KernelBuilder& k = b_.k();
    std::vector<ReduceOp> ops(static_cast<size_t>(rows * tail_), ReduceOp::kAdd);
    std::vector<Expr> sums = b_.reduce(
        "s", ops, vector(lanes_), "k", 0, kc_,
        [&](Dim v) {
          Coords kc = run_coords(p_, k_box_, tail_runs(), k_outer_, k0_, {v}, b_.ranges());
          std::vector<Expr> b, products;
          for (int j = 0; j < tail_; ++j)
            b.push_back(k.let("b", bp_.load({panel_ + kc_ * pitch_ + j * tail_pitch_ + v})));
          for (int i = 0; i < rows; ++i) {
            Expr a = k.let("a", a_element(m_local + i, v, kc));
            for (int j = 0; j < tail_; ++j) products.push_back(a * b[static_cast<size_t>(j)]);
          }
          return products;
        },
        k_left());
    Buffer c = c_;
    if (one_block_) c_ = k.stack("ct", p_.acc_type, {Dim(rows * lanes_)});
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < tail_; ++j) {
        Expr s = sums[static_cast<size_t>(i * tail_ + j)];
        if (one_block_) {
          k.store(c_, {i * lanes_ + j}, s);
        } else {
          Dim at = (m_local + i) * pitch_ + first_tail() + j;
          k.store(c_, {at}, c_.load({at}) + s);
        }
      }
    if (one_block_) epilogue(m_local, first_tail(), rows, tail_, lanes_);
    c_ = c;
  }
  // All of k's block as one run.
  std::vector<KRun> tail_runs() const { return k_runs(p_, k_box_, nullptr, nullptr); }

  // All row tiles for the columns n_local .. n_local + nv * lanes.
  void rows_of(int nv, Dim n_local) {
    if (!m_const_) {
      b_.loop(
          serial(), "mt", 0, mb_ / mr_, [&](Dim mt) { tile(mr_, nv, mt * mr_, n_local); },
          ceildiv(p_.m_total - m0_, mr_));
      return;
    }
    if (equal_) {
      const int64_t full = mb_ / mr_;
      const int rest = static_cast<int>(mb_ % mr_);
      if (full == 1)
        tile(mr_, nv, 0, n_local);
      else if (full > 1)
        b_.loop(serial(), "mt", 0, full, [&](Dim mt) { tile(mr_, nv, mt * mr_, n_local); });
      if (rest > 0) tile(rest, nv, full * mr_, n_local);
      return;
    }
    int64_t m = *m_const_, full = m / mr_, blocks = (m + mb_ - 1) / mb_;
    int rest = static_cast<int>(m - full * mr_);
    int64_t tiles = mb_ / mr_;
    if (full > 0) {
      if (tiles == 1 || (blocks == 1 && full == 1)) {
        auto go = [&] { tile(mr_, nv, 0, n_local); };
        // the last block may hold nothing but the rest
        if (blocks > 1 && rest > 0)
          b_.k().if_then({Dim(full - 1) - m_block_}, [&] { b_.scoped(go); });
        else
          go();
      } else {
        b_.loop(
            serial(), "mt", 0, tiles, [&](Dim mt) { tile(mr_, nv, mt * mr_, n_local); },
            floordiv(Dim(m) - m0_, mr_));
      }
    }
    if (rest > 0) {
      Dim start(full * mr_ - (blocks - 1) * mb_);
      if (blocks > 1)
        b_.k().if_then({m_block_ - (blocks - 1)},
                       [&] { b_.scoped([&] { tile(rest, nv, start, n_local); }); });
      else
        tile(rest, nv, start, n_local);
    }
  }

  void tile(int mr, int nv, Dim m_local, Dim n_local) {
    KernelBuilder& k = b_.k();
    std::optional<double> zero;
    if (one_block_) zero = 0.0;
    Buffer acc = k.registers("acc", p_.acc_type, {mr, nv * lanes_}, zero);
    auto each = [&](const std::function<void(Dim i, Dim column)>& body) {
      b_.loop(vector(lanes_), "l", 0, lanes_, [&](Dim l) {
        b_.loop(unrolled(), "i", 0, mr,
                [&](Dim i) { b_.loop(unrolled(), "v", 0, nv, [&](Dim v) { body(i, v * lanes_ + l); }); });
      });
    };
    if (!one_block_)
      each([&](Dim i, Dim c) { k.store(acc, {i, c}, c_.load({(m_local + i) * pitch_ + n_local + c})); });
    if (direct_a_ && p_.a_dense_k && !one_block_) prefetch_a(mr, m_local);
    std::function<void(size_t, Coords)> loops = [&](size_t r, Coords at) {
      if (r < runs_.size()) {
        Dim hi = Dim(runs_[r].size), limit = hi;
        if (r == 0) limit = (p_.k.group_sizes[k_box_.part] - k0_) * runs_[0].inner;
        if (r == 0 && one_block_) hi = limit;
        auto body = [&](Dim v) {
          Coords next = at;
          next.push_back(v);
          loops(r + 1, next);
        };
        if (hi == limit)
          b_.loop(serial(), "k", 0, hi, body);
        else
          b_.loop(serial(), "k", 0, hi, body, limit);
        return;
      }
      Dim dense(0);
      for (size_t i = 0; i < runs_.size(); ++i) dense = dense + at[i] * runs_[i].after;
      Coords kc = run_coords(p_, k_box_, runs_, k_outer_, k0_, at, b_.ranges());
      b_.loop(vector(lanes_), "l", 0, lanes_, [&](Dim l) {
        b_.loop(unrolled(), "i", 0, mr, [&](Dim i) {
          Expr a = k.let("a", a_element(m_local + i, dense, kc));
          b_.loop(unrolled(), "v", 0, nv, [&](Dim v) {
            Dim c = v * lanes_ + l;
            Expr x =
                direct_b_ ? b_element(kc, n_local + c) : bp_.load({panel_ + dense * pitch_ + n_local + c});
            k.store(acc, {i, c}, acc.load({i, c}) + a * x);
          });
        });
      });
    };
    loops(0, {});
    if (one_block_) {
      each([&](Dim i, Dim c) { k.store(c_, {i * nr_ + c}, acc.load({i, c})); });
      // the vectors of the last tile may reach over the block's end, into columns that another thread stores
      int64_t columns = int64_t{nv} * lanes_;
      if (auto start = n_local.as_constant()) columns = std::min(columns, nc_ - *start);
      epilogue(m_local, n_local, mr, columns, nr_);
    } else {
      each([&](Dim i, Dim c) { k.store(c_, {(m_local + i) * pitch_ + n_local + c}, acc.load({i, c})); });
    }
  }

  // The next block of k of these rows of A, which are far apart in memory and read for a short while each.
  void prefetch_a(int mr, const Dim& m_local) {
    const int64_t line = 64 / static_cast<int64_t>(dtype_size(p_.acc_type));
    if (runs_.size() != 1) return;
    b_.loop(serial(), "pf", 0, (kc_ + line - 1) / line, [&](Dim v) {
      for (int i = 0; i < mr; ++i) {
        Coords kc = run_coords(p_, k_box_, runs_, k_outer_, k0_ + k_box_.block, {v * line}, b_.ranges());
        prefetch(read_a(m0_ + m_local + i, kc));
      }
    });
  }

  void prefetch(Expr e) {
    while (e.op() == ScalarOp::kCast) e = e->args[0];
    if (e.op() == ScalarOp::kLoad) b_.k().prefetch(Buffer{e->buffer, e.type()}, e->index);
  }

  Expr a_element(const Dim& m_local, const Dim& dense, const Coords& kc) {
    if (!direct_a_) return ap_.load({a_by_m_ ? dense * a_pitch_ + m_local : m_local * a_pitch_ + dense});
    return read_a(m0_ + m_local, kc);
  }

  Expr read_a(const Dim& m, const Coords& kc) {
    ContractionPoint at = f_.at_a(batch_coords(), delinearize(f_.m, m, b_.ranges()), kc);
    return cast(b_.element(f_.a, at.at, guards_of(at), 0.0), p_.acc_type);
  }

  std::vector<Dim> guards_of(const ContractionPoint& at) {
    std::vector<Dim> out;
    for (const Dim& g : at.guards) {
      Dim s = b_.simplify(g);
      if (!b_.ranges().provably_nonnegative(s)) out.push_back(s);
    }
    return out;
  }

  // B in place: columns past the end read as 0.
  Expr b_element(const Coords& kc, const Dim& n_local) {
    Dim n = n0_ + n_local;
    ContractionPoint at = f_.at_b(batch_coords(), kc, p_.n.coords({n}, b_.ranges()));
    at.guards.push_back(p_.n.group_sizes[0] - 1 - n);
    return cast(b_.element(f_.b, at.at, guards_of(at), 0.0), p_.acc_type);
  }

  Coords batch_coords() { return p_.batch.coords(batch_, b_.ranges()); }

  // B lies densely along k: blocks of as many columns as a vector has lanes are read along k, transposed in
  // registers and stored along n.
  void pack_b_by_k() {
    KernelBuilder& k = b_.k();
    std::vector<KRun> runs = k_runs(p_, k_box_, nullptr, &p_.b_access);
    size_t inner = p_.n.count() - 1;
    std::vector<Dim> nv = n_outer_;
    // columns first .. first + count of the innermost axis, which have the dense numbers from `dense` on
    auto columns = [&](const Dim& first, const Dim& dense, int count) {
      std::function<void(size_t, Coords, Dim)> over = [&](size_t r, Coords at, Dim dense_k) {
        bool last = r + 1 == runs.size();
        std::optional<Dim> limit;
        if (r == 0) limit = (p_.k.group_sizes[k_box_.part] - k0_) * runs[0].inner;
        b_.loop(
            last ? vector(lanes_) : serial(), "kk", 0, runs[r].size,
            [&](Dim v) {
              Coords next = at;
              next.push_back(v);
              Dim d = dense_k + v * runs[r].after;
              if (!last) return over(r + 1, next, d);
              Coords kc = run_coords(p_, k_box_, runs, k_outer_, k0_, next, b_.ranges());
              std::vector<Expr> values;
              for (int j = 0; j < count; ++j) {
                nv.push_back(first + j);
                ContractionPoint p = f_.at_b(batch_coords(), kc, p_.n.coords(nv, b_.ranges()));
                nv.pop_back();
                values.push_back(k.let("x", cast(b_.element(f_.b, p.at, guards_of(p), 0.0), p_.acc_type)));
              }
              for (int j = 0; j < count; ++j)
                k.store(bp_, {panel_ + d * pitch_ + dense + j}, values[static_cast<size_t>(j)]);
              if (!p_.b_plain || (one_block_ && inner != n_box_.part)) return;
              // what is packed next: further along k, or the next block of columns
              Coords kn = one_block_
                              ? kc
                              : run_coords(p_, k_box_, runs, k_outer_, k0_ + k_box_.block, next, b_.ranges());
              for (int j = 0; j < count; ++j) {
                nv.push_back(one_block_ ? first + j + n_box_.block : first + j);
                ContractionPoint p = f_.at_b(batch_coords(), kn, p_.n.coords(nv, b_.ranges()));
                nv.pop_back();
                prefetch(b_.element(f_.b, p.at, guards_of(p), 0.0));
              }
            },
            limit);
      };
      over(0, {}, 0);
    };
    std::function<void(size_t, Dim)> over_n = [&](size_t g, Dim dense) {
      if (g < inner) {
        local_loop(p_.n, n_box_, g, n0_, serial(), "j", [&](Dim local, Dim global) {
          nv.push_back(global);
          over_n(g + 1, dense * axis_extent(p_.n, n_box_, g) + local);
          nv.pop_back();
        });
        return;
      }
      bool part = g == n_box_.part;
      Dim start = part ? n0_ : Dim(0), size = p_.n.group_sizes[g], left = size - start;
      Dim extent = part ? Dim(n_box_.block) : size, base = dense * axis_extent(p_.n, n_box_, g);
      b_.loop(
          serial(), "jb", 0, floordiv(extent, lanes_),
          [&](Dim jb) { columns(start + jb * lanes_, base + jb * lanes_, lanes_); }, floordiv(left, lanes_));
      Dim whole = floordiv(extent, lanes_) * lanes_;
      if (part) whole = floordiv(left, lanes_) * lanes_;  // or more than the block has
      if (size.is_constant() && size.constant() % lanes_ == 0 && n_box_.block % lanes_ == 0) return;
      b_.loop(
          serial(), "j", whole, extent, [&](Dim j) { columns(start + j, base + j, 1); }, left);
    };
    over_n(n_box_.part, Dim(0));
  }

  void pack_b() {
    if (b_by_k_) return pack_b_by_k();
    // local axes of k, then of n, the innermost of n as vectors
    std::vector<Dim> kv = k_outer_;
    std::function<void(size_t, Dim)> over_k, over_n;
    std::vector<Dim> nv;
    Dim dense_k;
    over_k = [&](size_t g, Dim dense) {
      if (g == p_.k.count()) {
        dense_k = dense;
        nv = n_outer_;
        over_n(n_box_.part, Dim(0));
        return;
      }
      local_loop(p_.k, k_box_, g, k0_, serial(), "kk", [&](Dim local, Dim global) {
        kv.push_back(global);
        over_k(g + 1, dense * axis_extent(p_.k, k_box_, g) + local);
        kv.pop_back();
      });
    };
    over_n = [&](size_t g, Dim dense) {
      bool last = g + 1 == p_.n.count();
      local_loop(p_.n, n_box_, g, n0_, last ? vector(lanes_) : serial(), "j", [&](Dim local, Dim global) {
        nv.push_back(global);
        Dim d = dense * axis_extent(p_.n, n_box_, g) + local;
        if (last) {
          ContractionPoint at =
              f_.at_b(batch_coords(), p_.k.coords(kv, b_.ranges()), p_.n.coords(nv, b_.ranges()));
          Expr x = cast(b_.element(f_.b, at.at, guards_of(at), 0.0), p_.acc_type);
          b_.k().store(bp_, {panel_ + dense_k * pitch_ + d}, x);
          if (p_.b_plain && p_.b_dense_n && g == n_box_.part &&
              !p_.n.group_sizes[g].is_constant(n_box_.block)) {
            // the same of the next block, which is packed when this one has been multiplied
            Coords next = nv;
            next.back() = next.back() + n_box_.block;
            ContractionPoint to =
                f_.at_b(batch_coords(), p_.k.coords(kv, b_.ranges()), p_.n.coords(next, b_.ranges()));
            prefetch(b_.element(f_.b, to.at, guards_of(to), 0.0));
          }
        } else {
          over_n(g + 1, d);
        }
        nv.pop_back();
      });
    };
    over_k(k_box_.part, Dim(0));
  }

  // A loop over the part of axis g that lies in the current block.
  void local_loop(const AxisGroups& axes, const Box& box, size_t g, const Dim& start, LoopSpec spec,
                  std::string_view name, const std::function<void(Dim, Dim)>& body) {
    if (g == box.part) {
      Dim left = axes.group_sizes[g] - start;
      b_.loop(
          spec, name, 0, box.block,
          [&](Dim v) {
            b_.ranges().set(*v.as_symbol(), 0, left - 1);
            body(v, start + v);
          },
          left);
    } else {
      b_.loop(spec, name, 0, axes.group_sizes[g], [&](Dim v) { body(v, v); });
    }
  }

  void pack_a() {
    KernelBuilder& k = b_.k();
    Dim left = p_.m_total - m0_;
    std::vector<Dim> kv;
    std::function<void(size_t, Dim, Dim)> over_k = [&](size_t r, Dim m, Dim dense) {
      bool last = r + 1 == a_runs_.size();
      Dim hi = Dim(a_runs_[r].size);
      std::optional<Dim> limit;
      if (r == 0) limit = (p_.k.group_sizes[k_box_.part] - k0_) * a_runs_[0].inner;
      b_.loop(
          last && !a_by_m_ ? vector(lanes_) : serial(), "kk", 0, hi,
          [&](Dim v) {
            kv.push_back(v);
            Dim d = dense + v * a_runs_[r].after;
            if (last) {
              Coords kc = run_coords(p_, k_box_, a_runs_, k_outer_, k0_, kv, b_.ranges());
              if (a_by_m_)
                b_.loop(
                    vector(lanes_), "i", 0, mb_,
                    [&](Dim i) { k.store(ap_, {d * a_pitch_ + i}, read_a(m0_ + i, kc)); }, left);
              else
                k.store(ap_, {m * a_pitch_ + d}, read_a(m0_ + m, kc));
              if (!a_by_m_ && p_.a_plain && p_.a_dense_k && !one_block_)
                prefetch(read_a(
                    m0_ + m, run_coords(p_, k_box_, a_runs_, k_outer_, k0_ + k_box_.block, kv, b_.ranges())));
            } else {
              over_k(r + 1, m, d);
            }
            kv.pop_back();
          },
          limit);
    };
    a_runs_ = k_runs(p_, k_box_, &p_.a_access, nullptr);
    if (a_by_m_)
      over_k(0, 0, 0);
    else
      b_.loop(
          serial(), "i", 0, mb_, [&](Dim i) { over_k(0, i, 0); }, left);
  }

  // Hands the finished elements (m0 + m_local + i, n block + n_local + j), which lie at c_[i * pitch + j], to
  // the writer, by the result's innermost axis.
  void epilogue(Dim m_local, Dim n_local, int64_t rows, int64_t columns, int64_t pitch) {
    Dim rows_left = p_.m_total - m0_ - m_local, columns_left = n_count_ - n_local;
    auto write = [&](const Dim& i, const Dim& j) {
      Coords nc = box_coords(p_.n, n_box_, n_outer_, n0_, n_local + j, b_.ranges());
      Coords at = f_.at_c(batch_coords(), delinearize(f_.m, m0_ + m_local + i, b_.ranges()),
                          p_.n.coords(nc, b_.ranges()));
      write_results(b_, region_, p_, at, c_.load({i * pitch + j}));
    };
    if (f_.c_by_m) {
      b_.loop(
          serial(), "j", 0, columns,
          [&](Dim j) {
            b_.loop(
                p_.m_total.is_constant(1) ? serial() : vector(lanes_), "i", 0, rows,
                [&](Dim i) { write(i, j); }, rows_left);
          },
          columns_left);
      return;
    }
    b_.loop(
        serial(), "i", 0, rows,
        [&](Dim i) {
          b_.loop(
              p_.n_total.is_constant(1) ? serial() : vector(lanes_, 2), "j", 0, columns,
              [&](Dim j) { write(i, j); }, columns_left);
        },
        rows_left);
  }

  const ContractionPlan& p_;
  const ContractionForm& f_;
  const Func& region_;
  Part part_;
  RegionBuilder b_;
  int lanes_;
  std::optional<int64_t> m_const_;
  bool direct_a_ = false, direct_b_ = false, a_by_m_ = false, b_by_k_ = false, one_block_ = false;
  bool equal_ = false;  // all blocks of m have mb_ rows
  int mr_ = 1, nv_ = 1;
  int tail_ = 0;  // columns that go by vectors along k
  int64_t tail_pitch_ = 0, panel_elements_ = 0;
  int64_t nr_ = 1, nc_ = 1, mb_ = 1, kc_ = 1, pitch_ = 1, a_pitch_ = 1;
  Box n_box_, k_box_;
  std::vector<KRun> runs_, a_runs_;
  // the current item
  Coords batch_, n_outer_, k_outer_;
  Dim n0_, n_count_, m0_, m_block_, k0_, n_block_, k_block_, panel_;
  Buffer bp_, ap_, c_;
};

}  // namespace

Result<LoweredRegion> lower_outer_form(const ContractionPlan& plan, const Func& region,
                                       const LowerOptions& options) {
  LoweredRegion out;
  OuterForm whole(plan, region, options);
  const int64_t packed = whole.packed_elements();
  if (packed == 0) {
    GC_TRY(KernelStep step, whole.kernel());
    out.steps.push_back(std::move(step));
    return out;
  }
  const int64_t bytes = packed * static_cast<int64_t>(dtype_size(plan.acc_type));
  out.workspace_bytes.push_back(Dim((bytes + 63) / 64 * 64));
  for (Part part : {Part::kPack, Part::kMultiply}) {
    GC_TRY(KernelStep step, OuterForm(plan, region, options, part, packed).kernel());
    out.steps.push_back(std::move(step));
  }
  return out;
}

namespace {

// Nothing to add up: every element is 0 before the epilogue.
Result<LoweredRegion> lower_zeros(const ContractionPlan& p, const Func& region, const LowerOptions& options) {
  const ContractionForm& f = p.form;
  std::vector<const Value*> roots(p.roots.begin(), p.roots.begin() + static_cast<int64_t>(p.results.size()));
  RegionBuilder b(region, options.name, roots, p.cut, p.results);
  const int lanes = options.features.lanes(4);
  b.loop(parallel(), "b", 0, product(f.batch), [&](Dim batch) {
    b.loop(parallel(), "m", 0, p.m_total, [&](Dim m) {
      Coords n;
      std::function<void()> nest = [&] {
        bool last = n.size() + 1 == f.n.size();
        b.loop(last ? vector(lanes) : serial(), "n", 0, f.n[n.size()], [&](Dim v) {
          n.push_back(v);
          if (last)
            write_results(b, region, p,
                          f.at_c(delinearize(f.batch, batch, b.ranges()), delinearize(f.m, m, b.ranges()), n),
                          Expr::constant(0, p.acc_type));
          else
            nest();
          n.pop_back();
        });
      };
      nest();
    });
  });
  LoweredRegion out;
  GC_TRY(KernelStep step, b.finish(task_grain(p.n_total, 4, lanes)));
  out.steps.push_back(std::move(step));
  return out;
}

}  // namespace

Result<LoweredRegion> lower_contraction(const Func& region, const LowerOptions& options) {
  GC_TRY(const Node* core, contraction_core(region));
  LoweredRegion all;
  for (const std::vector<int64_t>& phase : contraction_phases(*core)) {
    GC_TRY(ContractionPlan plan, plan_contraction(region, core, phase, options));
    LowerOptions named = options;
    for (int64_t r : phase) named.name += fmt::format("_{}", r);
    auto lower = !phase.empty() && product(plan.form.k).is_constant(0) ? lower_zeros
                 : plan.dot                                            ? lower_dot_form
                                                                       : lower_outer_form;
    GC_TRY(LoweredRegion part, lower(plan, region, named));
    for (KernelStep& s : part.steps) all.steps.push_back(std::move(s));
    // run one after the other, so that they share their workspace
    for (size_t i = 0; i < part.workspace_bytes.size(); ++i) {
      if (i == all.workspace_bytes.size())
        all.workspace_bytes.push_back(part.workspace_bytes[i]);
      else if (part.workspace_bytes[i].constant() > all.workspace_bytes[i].constant())
        all.workspace_bytes[i] = part.workspace_bytes[i];
    }
  }
  return all;
}

}  // namespace graphc
