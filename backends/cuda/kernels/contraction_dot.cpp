// Template "contraction", schedules for little C and much k, without tiles:
//
//   kDot      A group of threads, a warp or the whole block, has TM x TN elements of C. Its threads run along
//   k, dense
//             in both operands, and add up at the end: matrix times vector, weight gradients of depthwise
//             convolutions.
//   kColumns  Neighbouring threads have neighbouring columns of B and TM rows; the block's warps share k and
//   add up
//             through shared memory: a few rows times a matrix that is dense along n.
#include "backends/cuda/kernels/contraction_plan.h"

namespace graphc::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kBlock = 256;

// Chunks in flight of a reduce with so many results.
int chunks(int results) { return results <= 4 ? 4 : results <= 8 ? 2 : 1; }

}  // namespace

Result<KernelStep> contraction_dot(const ContractionPlan& p, const Func& region, const ContractionChoice& c,
                                   const std::string& name) {
  ContractionKernel kernel(p, region, c, name);
  RegionBuilder& b = kernel.b();
  kernel.set_share(1);
  auto group = [&](const Dim& mt, const Dim& nt) {
    const Dim begin = kernel.k_begin();
    const auto k = p.k.as_constant();
    const int width = c.warps ? kWarp : kBlock;
    const int unroll = k && *k / c.splits <= 2 * width ? 1 : chunks(c.tm * c.tn);
    std::vector<ReduceOp> ops(static_cast<size_t>(c.tm * c.tn), ReduceOp::kAdd);
    std::vector<Expr> sums = b.reduce(
        "s", ops, thread(width, unroll), "k", begin, begin + kernel.k_share(),
        [&](Dim kk) {
          std::vector<Expr> rows, products;
          for (int i = 0; i < c.tm; ++i) rows.push_back(b.k().let("a", kernel.read_a(mt * c.tm + i, kk)));
          std::vector<Expr> columns;
          for (int j = 0; j < c.tn; ++j) columns.push_back(b.k().let("b", kernel.read_b(kk, nt * c.tn + j)));
          for (const Expr& x : rows)
            for (const Expr& y : columns) products.push_back(x * y);
          return products;
        },
        kernel.split() ? std::optional<Dim>(p.k) : std::nullopt);
    // every thread knows the sums; thread e writes sum e
    b.loop(thread(width), "e", 0, c.tm * c.tn, [&](Dim e) {
      Expr sum = sums.back();
      for (size_t i = sums.size() - 1; i-- > 0;)
        sum = select(equal(Expr::index(e), Expr::int_constant(static_cast<int64_t>(i), DType::kI64)), sums[i],
                     sum);
      const Dim i = b.simplify(floordiv(e, c.tn)), j = b.simplify(mod(e, c.tn));
      kernel.write(kernel.named_part("m", mt * c.tm, i, c.tm), kernel.named_part("n", nt * c.tn, j, c.tn),
                   sum);
    });
  };
  const Dim tiles_m = ceildiv(p.m, c.tm), tiles_n = ceildiv(p.n, c.tn);
  kernel.for_batch_and_share([&] {
    if (c.warps == 0) {
      b.loop(parallel(), "mb", 0, tiles_m,
             [&](Dim mb) { b.loop(parallel(), "nb", 0, tiles_n, [&](Dim nb) { group(mb, nb); }); });
      return;
    }
    const Dim tiles = tiles_m * tiles_n;
    auto tile = [&](const Dim& w) {
      const Coords at = delinearize({tiles_m, tiles_n}, w, b.ranges());
      const Dim mt = kernel.named("mt", at[0]);
      group(mt, kernel.named("nt", at[1]));
    };
    if (auto n = tiles.as_constant(); n && *n <= c.warps) {
      b.loop(parallel(), "p", 0, 1, [&](Dim) { b.loop(warps(static_cast<int>(*n)), "w", 0, tiles, tile); });
      return;
    }
    b.loop(parallel(), "p", 0, ceildiv(tiles, c.warps),
           [&](Dim q) { b.loop(warps(c.warps), "w", q * c.warps, (q + 1) * c.warps, tile, tiles); });
  });
  return b.finish();
}

Result<KernelStep> contraction_columns(const ContractionPlan& p, const Func& region,
                                       const ContractionChoice& c, const std::string& name) {
  ContractionKernel kernel(p, region, c, name);
  RegionBuilder& b = kernel.b();
  KernelBuilder& k = kernel.k();
  constexpr int kGroups = kBlock / kWarp;
  kernel.set_share(1);
  kernel.for_batch_and_share([&] {
    b.loop(parallel(), "mb", 0, ceildiv(p.m, c.tm), [&](Dim mb) {
      b.loop(parallel(), "nb", 0, ceildiv(p.n, kWarp), [&](Dim nb) {
        const Dim begin = kernel.k_begin();
        const Buffer part = k.shared("part", p.acc_type, {kGroups, c.tm, kWarp});
        b.loop(thread(kBlock), "t", 0, kBlock, [&](Dim t) {
          const Dim column = b.simplify(mod(t, kWarp)), g = b.simplify(floordiv(t, kWarp));
          const Dim n = kernel.named_part("n", nb * kWarp, column, kWarp);
          std::vector<ReduceOp> ops(static_cast<size_t>(c.tm), ReduceOp::kAdd);
          std::vector<Expr> sums = b.reduce(
              "s", ops, serial(), "i", 0, ceildiv(kernel.k_share() - g, kGroups),
              [&](Dim i) {
                const Dim kk = kernel.named("k", begin + i * kGroups + g);
                Expr y = k.let("b", kernel.read_b(kk, n));
                std::vector<Expr> products;
                for (int r = 0; r < c.tm; ++r) products.push_back(kernel.read_a(mb * c.tm + r, kk) * y);
                return products;
              },
              kernel.split() ? std::optional<Dim>(ceildiv(p.k - begin - g, kGroups)) : std::nullopt);
          for (int r = 0; r < c.tm; ++r) k.store(part, {g, r, column}, sums[static_cast<size_t>(r)]);
        });
        k.barrier();
        b.loop(thread(kBlock), "e", 0, c.tm * kWarp, [&](Dim e) {
          const Dim row = b.simplify(floordiv(e, kWarp)), column = b.simplify(mod(e, kWarp));
          Expr sum = b.reduce("sum", {ReduceOp::kAdd}, serial(), "g", 0, kGroups, [&](Dim g) {
            return std::vector<Expr>{part.load({g, row, column})};
          })[0];
          const Dim n = kernel.named_part("n", nb * kWarp, column, kWarp);
          kernel.write(kernel.named_part("m", mb * c.tm, row, c.tm), n, sum);
        });
      });
    });
  });
  return b.finish();
}

}  // namespace graphc::cuda
