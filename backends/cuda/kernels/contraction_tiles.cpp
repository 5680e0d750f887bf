// Template "contraction", schedule kTiles: a block has BM x BN elements of C, a thread TM x TN of them in
// registers.
//
//   parallel batch, share of k, block of m, block of n
//     tile 0 of A [BK x BM] and B [BK x BN] to shared memory, through the readers (padding, strides and
//     im2col happen here), neighbouring threads along whichever axis is dense; outside of m, n and k it is 0
//     for each tile of k
//       load the next tile into registers
//       TM x TN products per thread and k, operands by wide loads from the present tile
//       store the next tile to the other half of shared memory; barrier
//     epilogue by the writer, neighbouring threads along n
//
// A thread has TM adjacent rows and the columns tx, tx + BN/TN, ..: stores to C are coalesced whatever n's
// alignment. In shared memory a thread's columns are adjacent, TN of them padded to an odd multiple of 16
// bytes, so that wide loads of neighbouring threads fall into different banks.
#include "backends/cuda/kernels/contraction_plan.h"

namespace graphc::cuda {
namespace {

// Code of an epilogue for every element of a tile, in simple operations, above which it is looped over.
constexpr int64_t kEpilogueCode = 1200;

int column_pitch(const ContractionChoice& c) { return c.tn == 8 ? 12 : c.tn; }
int row_pitch(const ContractionChoice& c) { return c.bm + 4; }

class TilesKernel {
 public:
  TilesKernel(const ContractionPlan& p, const Func& region, const ContractionChoice& c,
              const std::string& name)
      : p_(p), c_(c), kernel_(p, region, c, name), b_(kernel_.b()), k_(kernel_.k()) {
    threads_ = c.threads();
    tx_ = c.threads_n();
    const auto share = kernel_.split() ? std::nullopt : p.k.as_constant();
    one_tile_ = share && *share <= c.bk;
  }

  Result<KernelStep> build() {
    kernel_.set_share(c_.bk);
    kernel_.for_batch_and_share([&] {
      b_.loop(parallel(), "mb", 0, ceildiv(p_.m, c_.bm), [&](Dim mb) {
        b_.loop(parallel(), "nb", 0, ceildiv(p_.n, c_.bn), [&](Dim nb) {
          m0_ = mb * c_.bm;
          n0_ = nb * c_.bn;
          block();
        });
      });
    });
    return b_.finish();
  }

 private:
  void block() {
    const DType t = p_.acc_type;
    const int halves = one_tile_ ? 1 : 2;
    as_ = k_.shared("as", t, {halves, c_.bk, row_pitch(c_)});
    bs_ = k_.shared("bs", t, {halves, c_.bk, tx_, column_pitch(c_)});
    if (staged()) cs_ = k_.shared("cs", t, {threads_ / tx_, c_.bn});
    acc_ = k_.registers("acc", t, {threads_, c_.tm, c_.tn}, 0.0);
    ra_ = k_.registers("ra", t, {threads_, per_thread(c_.bm)});
    rb_ = k_.registers("rb", t, {threads_, per_thread(c_.bn)});
    const Dim begin = kernel_.k_begin();
    fetch(begin, !kernel_.split());
    commit(0);
    k_.barrier();
    if (one_tile_) {
      multiply(0);
    } else {
      const Dim tiles = ceildiv(p_.k - begin, c_.bk);  // that are left in all of k
      const Dim share = ceildiv(kernel_.k_share(), c_.bk);
      b_.loop(
          serial(), "kb", 0, share,
          [&](Dim kb) {
            std::vector<Dim> more = {share - 2 - kb};
            if (kernel_.split()) more.push_back(tiles - 2 - kb);
            k_.if_then(more, [&] { b_.scoped([&] { fetch(begin + (kb + 1) * c_.bk, true); }); });
            multiply(mod(kb, 2));
            k_.if_then(more, [&] { b_.scoped([&] { commit(mod(kb + 1, 2)); }); });
            k_.barrier();
          },
          kernel_.split() ? std::optional<Dim>(tiles) : std::nullopt);
    }
    if (staged())
      write_by_rows();
    else
      write_tile();
  }

  bool staged() const { return tiles_stage_results(p_, c_); }

  // Elements of a tile of BK x size that one thread brings.
  int per_thread(int size) const { return (c_.bk * size + threads_ - 1) / threads_; }

  // Calls f(register, position along m or n, position along k) for each of them.
  void each(const Dim& t, int size, bool lanes_k, const std::function<void(Dim, Dim, Dim)>& f) {
    auto one = [&](Dim r) {
      const Dim e = r * threads_ + t;
      const int inner = lanes_k ? c_.bk : size;
      const Dim fast = b_.simplify(mod(e, inner)), slow = b_.simplify(floordiv(e, inner));
      f(r, lanes_k ? slow : fast, lanes_k ? fast : slow);
    };
    if (c_.bk * size < threads_)
      k_.if_then({c_.bk * size - 1 - t}, [&] { b_.scoped([&] { one(0); }); });
    else if (per_thread(size) == 1)
      one(0);
    else
      b_.loop(unrolled(), "r", 0, per_thread(size), one);
  }

  // The tiles of A and B that begin at k0, into registers. inside: k0 is less than k.
  void fetch(const Dim& k0, bool inside) {
    const auto all = p_.k.as_constant();
    const bool whole = inside && all && *all > 0 && *all % c_.bk == 0;
    const std::pair range(k0, whole ? p_.k - 1 : k0 + (c_.bk - 1));
    b_.loop(thread(threads_), "t", 0, threads_, [&](Dim t) {
      each(t, c_.bm, p_.a.lanes_k, [&](Dim r, Dim x, Dim kk) {
        const Dim m = kernel_.named_part("m", m0_, x, c_.bm), k = kernel_.named("k", k0 + kk, range);
        k_.store(ra_, {t, r}, kernel_.read_a(m, k));
      });
      each(t, c_.bn, p_.b.lanes_k, [&](Dim r, Dim x, Dim kk) {
        const Dim n = kernel_.named_part("n", n0_, x, c_.bn), k = kernel_.named("k", k0 + kk, range);
        k_.store(rb_, {t, r}, kernel_.read_b(k, n));
      });
    });
  }

  // From registers to a half of shared memory.
  void commit(const Dim& half) {
    b_.loop(thread(threads_), "t", 0, threads_, [&](Dim t) {
      each(t, c_.bm, p_.a.lanes_k, [&](Dim r, Dim x, Dim kk) {
        k_.store(as_, {half, kk, x}, ra_.load({t, r}));
      });
      each(t, c_.bn, p_.b.lanes_k, [&](Dim r, Dim x, Dim kk) {
        k_.store(bs_, {half, kk, b_.simplify(mod(x, tx_)), b_.simplify(floordiv(x, tx_))}, rb_.load({t, r}));
      });
    });
  }

  void multiply(const Dim& half) {
    b_.loop(thread(threads_), "t", 0, threads_, [&](Dim t) {
      const Dim ty = b_.simplify(floordiv(t, tx_)), tx = b_.simplify(mod(t, tx_));
      // Four steps of k in a row: more take NVRTC longer (all 16: twice as long) and make nothing faster.
      const int run = c_.bk % 4 == 0 ? 4 : c_.bk;
      b_.loop(
          serial(), "kq", 0, c_.bk,
          [&](Dim kq) {
            b_.loop(unrolled(), "kk", 0, run, [&](Dim step) { multiply_step(t, half, kq + step, ty, tx); });
          },
          {}, run);
    });
  }

  void multiply_step(const Dim& t, const Dim& half, const Dim& kk, const Dim& ty, const Dim& tx) {
    const Buffer a = k_.registers("a", p_.acc_type, {c_.tm}), b = k_.registers("b", p_.acc_type, {c_.tn});
    load_wide(a, c_.tm, [&](Dim i) { return as_.load({half, kk, ty * c_.tm + i}); });
    load_wide(b, c_.tn, [&](Dim j) { return bs_.load({half, kk, tx, j}); });
    over(c_.tm, "i", [&](Dim i) {
      over(c_.tn, "j", [&](Dim j) {
        k_.store(acc_, {t, i, j}, acc_.load({t, i, j}) + a.load({i}) * b.load({j}));
      });
    });
  }

  void load_wide(const Buffer& to, int size, const std::function<Expr(Dim)>& from) {
    int width = 16 / static_cast<int>(dtype_size(p_.acc_type));
    while (size % width != 0) width /= 2;
    if (width == 1) return over(size, "i", [&](Dim i) { k_.store(to, {i}, from(i)); });
    for (int c = 0; c < size; c += width)
      b_.loop(vector(width), "l", 0, width, [&](Dim l) { k_.store(to, {l + c}, from(l + c)); });
  }

  void over(int size, std::string_view var, const std::function<void(Dim)>& body) {
    if (size == 1)
      body(0);
    else
      b_.loop(unrolled(), var, 0, size, body);
  }

  void write_tile() {
    b_.loop(thread(threads_), "t", 0, threads_, [&](Dim t) {
      const Dim ty = b_.simplify(floordiv(t, tx_)), tx = b_.simplify(mod(t, tx_));
      over(c_.tm, "i", [&](Dim i) {
        const Dim m = kernel_.named_part("m", m0_, ty * c_.tm + i, c_.bm);
        over(c_.tn, "j", [&](Dim j) {
          const Dim n = kernel_.named_part("n", n0_, tx + j * tx_, c_.bn);
          kernel_.write(m, n, acc_.load({t, i, j}));
        });
      });
    });
  }

  // Row i of every thread's tile at a time, through shared memory.
  void write_by_rows() {
    over(c_.tm, "i", [&](Dim i) {
      b_.loop(thread(threads_), "t", 0, threads_, [&](Dim t) {
        const Dim ty = b_.simplify(floordiv(t, tx_)), tx = b_.simplify(mod(t, tx_));
        over(c_.tn, "j", [&](Dim j) { k_.store(cs_, {ty, tx + j * tx_}, acc_.load({t, i, j})); });
      });
      k_.barrier();
      b_.loop(thread(threads_), "e", 0, threads_ * c_.tn, [&](Dim e) {
        const Dim row = b_.simplify(floordiv(e, c_.bn)), column = b_.simplify(mod(e, c_.bn));
        const Dim m = kernel_.named_part("m", m0_, row * c_.tm + i, c_.bm),
                  n = kernel_.named_part("n", n0_, column, c_.bn);
        kernel_.write(m, n, cs_.load({row, column}));
      });
      k_.barrier();
    });
  }

  const ContractionPlan& p_;
  const ContractionChoice& c_;
  ContractionKernel kernel_;
  RegionBuilder& b_;
  KernelBuilder& k_;
  int threads_ = 1, tx_ = 1;
  bool one_tile_ = false;
  Dim m0_, n0_;
  Buffer as_, bs_, cs_, acc_, ra_, rb_;
};

}  // namespace

int64_t tiles_shared_bytes(const ContractionPlan& p, const ContractionChoice& c) {
  int64_t elements = 2 * c.bk * (row_pitch(c) + c.threads_n() * column_pitch(c));
  if (tiles_stage_results(p, c)) elements += c.bm / c.tm * c.bn;
  return elements * static_cast<int64_t>(dtype_size(p.acc_type)) + 48;
}

bool tiles_stage_results(const ContractionPlan& p, const ContractionChoice& c) {
  return c.splits == 1 && p.c_cost * c.tm * c.tn > kEpilogueCode;
}

Result<KernelStep> contraction_tiles(const ContractionPlan& p, const Func& region, const ContractionChoice& c,
                                     const std::string& name) {
  return TilesKernel(p, region, c, name).build();
}

}  // namespace graphc::cuda
