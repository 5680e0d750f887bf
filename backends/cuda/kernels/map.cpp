// Template "map": every element of every result by itself. Axes that all accesses allow to run as one are
// collapsed.
//
//   flat: a thread takes vectors of W elements (16 bytes), a few blocks' widths apart
//     parallel p { thread<256> unroll U e { vector<W> l { ... } } }
//     What doesn't fill a vector at the end of a single axis is done by the last block, element by element.
//   tiles, where an operand is dense along another axis than the results: its 32 x 32 elements go through
//     shared memory, so that neighbouring threads touch neighbouring elements on both sides
#include <algorithm>

#include "backends/cuda/kernels/each_element.h"
#include "backends/cuda/kernels/lowering.h"
#include "backends/cuda/kernels/vectors.h"

namespace graphc::cuda {
namespace {

constexpr int kTile = 32;
constexpr int kTileThreads = 256;
constexpr int64_t kTileBytes = 40 << 10;

class MapTemplate {
 public:
  MapTemplate(const Func& region, const LowerOptions& options)
      : region_(region), options_(options), roots_(region.body.results.begin(), region.body.results.end()) {
    for (size_t i = 0; i < roots_.size(); ++i) results_.push_back(static_cast<int>(i));
  }

  Result<LoweredRegion> lower() {
    if (roots_.empty()) return unsupported("a map region without results");
    GC_CHECK(analyse());
    GC_TRY(KernelStep step, tiles_.empty() ? flat() : tiled());
    LoweredRegion out;
    out.steps.push_back(std::move(step));
    return out;
  }

 private:
  // A load that is dense along another axis than the results.
  struct Tile {
    const Value* operand;
    Dim address;  // of the groups' trial variables
    Buffer shared;
  };

  void store_all(RegionBuilder& b, const Coords& at) {
    const Shape& space = roots_[0]->type.shape;
    std::vector<std::pair<int, Coords>> stores;
    for (int r : results_)
      stores.emplace_back(r,
                          reshape_coords(space, at, roots_[static_cast<size_t>(r)]->type.shape, b.ranges()));
    b.store_results(stores);
  }

  Status analyse() {
    const Shape& space = roots_[0]->type.shape;
    {  // what is touched, with every axis by itself
      RegionBuilder t(region_, "trial", roots_, {}, results_);
      std::vector<std::string> vars;
      store_all(t, trial_coords(t.ranges(), space, "c", vars));
      GC_TRY(KernelStep dry, t.finish());
      groups_ = collapse(space, vars, accesses(dry.kernel));
    }
    // and with the axes that run as one
    RegionBuilder t(region_, "trial", roots_, {}, results_);
    std::vector<Tile> loads;
    t.keep([&](const Value* v, const Dim& address, const std::vector<Dim>& guards) {
      if (guards.empty()) loads.push_back({v, address, {}});
      return Expr();
    });
    const Coords at = trial_coords(t.ranges(), groups_.group_sizes, "g", names_);
    store_all(t, groups_.coords(at, t.ranges()));
    GC_TRY(KernelStep dry, t.finish());
    cost_ = body_cost(dry.kernel);
    inner_ = groups_.count() - 1;
    const Dim& length = groups_.group_sizes[inner_];
    width_ = vector_width(dry.kernel, names_[inner_], length);
    const int unbounded = groups_.count() == 1 ? vector_width(dry.kernel, names_[inner_], {}) : 1;
    rest_ = unbounded > width_;
    width_ = std::max(width_, unbounded);
    dense_ = dense_accesses(dry.kernel, names_[inner_]);
    find_tiles(loads);
    return ok_status();
  }

  void find_tiles(const std::vector<Tile>& loads) {
    const auto large = [&](size_t g) {
      return groups_.group_sizes[g].as_constant().value_or(kTile) >= kTile / 2;
    };
    if (!large(inner_)) return;
    int64_t bytes = 0;
    for (const Tile& l : loads) {
      const auto ci = coefficient(l.address, names_[inner_]);
      if (!ci || ci->is_constant(0) || ci->is_constant(1)) continue;
      for (size_t g = 0; g < inner_; ++g) {
        const auto c = coefficient(l.address, names_[g]);
        if (!c || !c->is_constant(1) || !large(g)) continue;
        if (!tiles_.empty() && g != across_) continue;
        if (std::ranges::any_of(
                tiles_, [&](const Tile& t) { return t.operand == l.operand && t.address == l.address; }))
          continue;
        const int64_t more = kTile * (kTile + 1) * static_cast<int64_t>(dtype_size(l.operand->type.dtype));
        if (bytes + more > kTileBytes) return;
        bytes += more;
        across_ = g;
        tiles_.push_back(l);
      }
    }
  }

  Result<KernelStep> flat() {
    RegionBuilder b(region_, options_.name, roots_, {}, results_);
    const int w = width_;
    Shape shape = groups_.group_sizes;
    const Dim length = shape[inner_];
    shape[inner_] = floordiv(length, w);
    const Dim vectors = product(shape);
    const auto known = vectors.as_constant();
    int threads = element_threads({vectors}, options_.target);
    int unroll = std::min(cost_ <= 24 ? 4 : cost_ <= 60 ? 2 : 1, std::max(1, 8 / std::max(1, dense_)));
    while (known && unroll > 1 && *known < 4 * threads * unroll * options_.target.multiprocessors)
      unroll /= 2;
    if (product(roots_[0]->type.shape).is_constant(1)) {
      b.loop(parallel(), "p", 0, 1, [&](Dim) {
        b.loop(thread(1), "e", 0, 1, [&](Dim) { element(b, Coords(shape.size(), Dim(0))); });
      });
      return b.finish();
    }
    const int64_t share = int64_t{threads} * unroll;
    const Dim blocks = rest_ ? ceildiv(length, share * w) : ceildiv(vectors, share);
    b.loop(parallel(), "p", 0, blocks, [&](Dim p) {
      const auto vector_at = [&](Dim e) {
        const Coords at = split_index(b, shape, e);
        lanes(b, w, [&](Dim l) {
          Coords own = at;
          own[inner_] = own[inner_] * w + l;
          element(b, own);
        });
      };
      // with a rest there may be a block more than vectors need
      if (rest_ && !blocks.is_constant(1))
        b.loop(thread(threads, unroll), "e", p * share, (p + 1) * share, vector_at, vectors);
      else
        share_of_block(b, thread(threads, unroll), "e", p, share, vectors, vector_at);
      if (!rest_) return;
      b.k().if_then({b.simplify((p + 1) * (share * w) - length)}, [&] {
        b.scoped([&] { b.loop(thread(threads), "e", vectors * w, length, [&](Dim e) { element(b, {e}); }); });
      });
    });
    return b.finish();
  }

  void element(RegionBuilder& b, const Coords& group_at) {
    store_all(b, groups_.coords(group_at, b.ranges()));
  }

  // The address of a tile's element for the groups' coordinates.
  Dim address(const RegionBuilder& b, const Tile& t, const Coords& at) const {
    std::map<std::string, Dim, std::less<>> values;
    for (size_t g = 0; g < at.size(); ++g) values[names_[g]] = at[g];
    return b.simplify(t.address.substitute(values));
  }

  Result<KernelStep> tiled() {
    RegionBuilder b(region_, options_.name, roots_, {}, results_);
    Coords at(groups_.count(), Dim(0));
    const Dim rows = groups_.group_sizes[across_], columns = groups_.group_sizes[inner_];
    const std::function<void(size_t)> nest = [&](size_t g) {
      if (g < inner_) {
        if (g == across_ || groups_.group_sizes[g].is_constant(1)) return nest(g + 1);
        b.loop(parallel(), "o", 0, groups_.group_sizes[g], [&](Dim o) {
          at[g] = o;
          nest(g + 1);
        });
        return;
      }
      b.loop(parallel(), "tr", 0, ceildiv(rows, kTile), [&](Dim tr) {
        b.loop(parallel(), "tc", 0, ceildiv(columns, kTile), [&](Dim tc) { tile(b, at, tr, tc); });
      });
    };
    nest(0);
    return b.finish();
  }

  // Calls f(slow, fast) for this thread's elements of a 32 x 32 tile, neighbouring threads along fast.
  void each(RegionBuilder& b, const std::function<void(Dim, Dim)>& f) {
    b.loop(thread(kTileThreads), "t", 0, kTileThreads, [&](Dim t) {
      const Dim fast = b.simplify(mod(t, kTile)), slow = b.simplify(floordiv(t, kTile));
      b.loop(unrolled(), "u", 0, kTile * kTile / kTileThreads,
             [&](Dim u) { f(slow + u * (kTileThreads / kTile), fast); });
    });
  }

  // f where row and column are inside.
  void inside(RegionBuilder& b, const Dim& row, const Dim& column, const std::function<void()>& f) {
    std::vector<Dim> guards;
    add_guard(b, guards, groups_.group_sizes[across_] - 1 - row);
    add_guard(b, guards, groups_.group_sizes[inner_] - 1 - column);
    if (guards.empty()) return f();
    b.k().if_then(guards, [&] { b.scoped(f); });
  }

  void tile(RegionBuilder& b, Coords at, const Dim& tr, const Dim& tc) {
    for (size_t i = 0; i < tiles_.size(); ++i)
      tiles_[i].shared = b.k().shared("tile", tiles_[i].operand->type.dtype, {kTile, kTile + 1});
    each(b, [&](Dim column, Dim row) {
      at[across_] = tr * kTile + row;
      at[inner_] = tc * kTile + column;
      inside(b, at[across_], at[inner_], [&] {
        for (const Tile& t : tiles_)
          b.k().store(t.shared, {column, row}, b.operand_buffer(t.operand).load({address(b, t, at)}));
      });
    });
    b.k().barrier();
    each(b, [&](Dim row, Dim column) {
      at[across_] = tr * kTile + row;
      at[inner_] = tc * kTile + column;
      b.keep([&, at](const Value* v, const Dim& wanted, const std::vector<Dim>&) {
        for (const Tile& t : tiles_)
          if (t.operand == v && address(b, t, at) == wanted) return t.shared.load({column, row});
        return Expr();
      });
      inside(b, at[across_], at[inner_], [&] { element(b, at); });
      b.keep({});
    });
  }

  const Func& region_;
  const LowerOptions& options_;
  std::vector<const Value*> roots_;
  std::vector<int> results_;
  AxisGroups groups_;
  std::vector<std::string> names_;  // of the groups' trial variables
  size_t inner_ = 0, across_ = 0;
  int width_ = 1, dense_ = 0;
  bool rest_ = false;  // the length needn't be a multiple of the width
  int64_t cost_ = 0;
  std::vector<Tile> tiles_;
};

}  // namespace

Result<LoweredRegion> lower_map(const Func& region, const LowerOptions& options) {
  return MapTemplate(region, options).lower();
}

}  // namespace graphc::cuda
