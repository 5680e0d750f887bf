// Blocks, tiles and epilogue of the outer form.
#include "backends/cpu/kernels/contraction_outer.h"
#include "backends/cpu/kernels/lowering.h"

namespace graphc {

OuterForm::OuterForm(const ContractionPlan& plan, const Func& region, const LowerOptions& options,
                     OuterPart part, int64_t packed_elements)
    : p_(plan),
      f_(plan.form),
      region_(region),
      part_(part),
      b_(region, options.name + (part == OuterPart::kPack ? "_pack" : ""), roots(plan, part), plan.cut,
         part == OuterPart::kPack ? std::vector<int>{} : plan.results,
         workspace(plan, part, packed_elements)),
      lanes_(options.features.lanes(static_cast<int>(dtype_size(plan.acc_type)))) {
  choose();
}

int64_t OuterForm::packed_elements() const {
  if (direct_b_ || !m_const_ || *m_const_ <= mb_) return 0;
  Dim blocks(1);
  for (const Dim& d : block_counts()) blocks *= d;
  int64_t element = static_cast<int64_t>(dtype_size(p_.acc_type));
  auto all = (blocks * panel_elements_).as_constant();
  return all && *all * element <= (int64_t{8} << 20) ? *all : 0;
}

Result<KernelStep> OuterForm::kernel() {
  nest_batch(0);
  if (part_ == OuterPart::kPack) return b_.finish(task_grain(Dim(kc_ * nc_), 4, lanes_));
  Dim work = Dim(int64_t{mb_}) * nc_;
  for (const Dim& k : p_.k.group_sizes) work *= k;
  // in multiply-adds; a task is some 20k cycles of two vector operations each
  int64_t task = 20000 * 2 * lanes_;
  Dim grain(1);
  if (auto w = work.as_constant()) grain = Dim(std::max<int64_t>(1, task / std::max<int64_t>(1, *w)));
  return b_.finish(grain);
}

std::vector<const Value*> OuterForm::roots(const ContractionPlan& plan, OuterPart part) {
  if (part == OuterPart::kWhole) return plan.roots;
  if (part == OuterPart::kPack) return {plan.form.b};
  std::vector<const Value*> v(plan.roots.begin(),
                              plan.roots.begin() + static_cast<int64_t>(plan.results.size()));
  v.push_back(plan.form.a);
  return v;
}

std::vector<RegionBuilder::Workspace> OuterForm::workspace(const ContractionPlan& plan, OuterPart part,
                                                           int64_t elements) {
  if (part == OuterPart::kWhole) return {};
  return {{0, plan.acc_type, Dim(elements), part == OuterPart::kPack}};
}

Shape OuterForm::block_counts() const {
  Shape s = p_.batch.group_sizes;
  auto add = [&](const AxisGroups& axes, const Box& box) {
    for (size_t g = 0; g < box.part; ++g) s.push_back(axes.group_sizes[g]);
    s.push_back(ceildiv(axes.group_sizes[box.part], box.block));
  };
  add(p_.n, n_box_);
  add(p_.k, k_box_);
  return s;
}

Dim OuterForm::panel() const {
  if (part_ == OuterPart::kWhole) return 0;
  Coords at = batch_;
  at.insert(at.end(), n_outer_.begin(), n_outer_.end());
  at.push_back(n_block_);
  at.insert(at.end(), k_outer_.begin(), k_outer_.end());
  at.push_back(k_block_);
  return linear_index(block_counts(), at) * panel_elements_;
}

void OuterForm::choose() {
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

void OuterForm::nest_batch(size_t g) {
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

void OuterForm::nest_n(size_t g) {
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
    if (part_ == OuterPart::kPack) {
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

void OuterForm::item() {
  KernelBuilder& k = b_.k();
  if (part_ == OuterPart::kMultiply)
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

void OuterForm::nest_k(size_t g) {
  LoopSpec spec = part_ == OuterPart::kPack ? parallel() : serial();
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

void OuterForm::k_block() {
  panel_ = panel();
  if (part_ != OuterPart::kMultiply && !direct_b_) {
    pack_b();
    if (tail_ > 0)
      pack_tail();
    else
      zero_columns();
  }
  if (part_ == OuterPart::kPack) return;
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

void OuterForm::tail_columns() {
  int rows = tail_ == 1 ? 8 : tail_ == 2 ? 6 : 4;
  while (mb_ % rows != 0) --rows;
  Dim left = p_.m_total - m0_, whole = floordiv(left, rows);
  b_.loop(
      serial(), "mt", 0, mb_ / rows, [&](Dim mt) { tail_tile(rows, mt * rows); }, whole);
  if (rows > 1 && *m_const_ % rows != 0)
    b_.loop(
        serial(), "mt", whole * rows, mb_, [&](Dim m) { tail_tile(1, m); }, left);
}

void OuterForm::tail_tile(int rows, Dim m_local) {
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

void OuterForm::rows_of(int nv, Dim n_local) {
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
      b_.k().if_then({m_block_ - (blocks - 1)}, [&] { b_.scoped([&] { tile(rest, nv, start, n_local); }); });
    else
      tile(rest, nv, start, n_local);
  }
}

void OuterForm::tile(int mr, int nv, Dim m_local, Dim n_local) {
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
          Expr x = direct_b_ ? b_element(kc, n_local + c) : bp_.load({panel_ + dense * pitch_ + n_local + c});
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

Expr OuterForm::a_element(const Dim& m_local, const Dim& dense, const Coords& kc) {
  if (!direct_a_) return ap_.load({a_by_m_ ? dense * a_pitch_ + m_local : m_local * a_pitch_ + dense});
  return read_a(m0_ + m_local, kc);
}

Expr OuterForm::read_a(const Dim& m, const Coords& kc) {
  ContractionPoint at = f_.at_a(batch_coords(), delinearize(f_.m, m, b_.ranges()), kc);
  return cast(b_.element(f_.a, at.at, guards_of(at), 0.0), p_.acc_type);
}

std::vector<Dim> OuterForm::guards_of(const ContractionPoint& at) {
  std::vector<Dim> out;
  for (const Dim& g : at.guards) {
    Dim s = b_.simplify(g);
    if (!b_.ranges().provably_nonnegative(s)) out.push_back(s);
  }
  return out;
}

Expr OuterForm::b_element(const Coords& kc, const Dim& n_local) {
  Dim n = n0_ + n_local;
  ContractionPoint at = f_.at_b(batch_coords(), kc, p_.n.coords({n}, b_.ranges()));
  at.guards.push_back(p_.n.group_sizes[0] - 1 - n);
  return cast(b_.element(f_.b, at.at, guards_of(at), 0.0), p_.acc_type);
}

void OuterForm::epilogue(Dim m_local, Dim n_local, int64_t rows, int64_t columns, int64_t pitch) {
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

}  // namespace graphc
