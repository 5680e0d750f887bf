// Packing of the outer form: panels of B and rows of A, read by the readers, into scratch or workspace.
#include "backends/cpu/kernels/contraction_outer.h"

namespace graphc {

void OuterForm::zero_columns() {
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

void OuterForm::zero_rows() {
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

void OuterForm::pack_tail() {
  for (int j = 0; j < tail_; ++j)
    b_.loop(
        vector(lanes_), "kt", 0, kc_,
        [&](Dim v) {
          b_.k().store(bp_, {panel_ + kc_ * pitch_ + j * tail_pitch_ + v},
                       bp_.load({panel_ + v * pitch_ + first_tail() + j}));
        },
        k_left());
}

void OuterForm::prefetch_a(int mr, const Dim& m_local) {
  const int64_t line = 64 / static_cast<int64_t>(dtype_size(p_.acc_type));
  if (runs_.size() != 1) return;
  b_.loop(serial(), "pf", 0, (kc_ + line - 1) / line, [&](Dim v) {
    for (int i = 0; i < mr; ++i) {
      Coords kc = run_coords(p_, k_box_, runs_, k_outer_, k0_ + k_box_.block, {v * line}, b_.ranges());
      prefetch(read_a(m0_ + m_local + i, kc));
    }
  });
}

void OuterForm::prefetch(Expr e) {
  while (e.op() == ScalarOp::kCast) e = e->args[0];
  if (e.op() == ScalarOp::kLoad) b_.k().prefetch(Buffer{e->buffer, e.type()}, e->index);
}

void OuterForm::pack_b_by_k() {
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

void OuterForm::pack_b() {
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

void OuterForm::local_loop(const AxisGroups& axes, const Box& box, size_t g, const Dim& start, LoopSpec spec,
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

void OuterForm::pack_a() {
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

}  // namespace graphc
