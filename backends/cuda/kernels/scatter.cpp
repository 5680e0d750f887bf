// Template "scatter": scatter_add, without atomics: every element of the result is one thread's, which adds
// the elements of src that belong to it in the order of their positions.
//
// Few indices: each thread looks at all of them. Else the positions are sorted by index first, stable, by a
// radix sort of 8 bits a pass:
//   count   a block per 1024 indices; thread d counts those whose digit is d
//   offsets one block; thread d turns its counts into places
//   move    a block per 1024 indices; thread d moves those whose digit is d, in order
// then
//   begins  where each row's indices begin, by bisection
//   sums    every element of the result: x, plus src at the row's positions; then what is elementwise after
//   it
#include <algorithm>

#include "backends/cuda/kernels/each_element.h"
#include "backends/cuda/kernels/lowering.h"
#include "backends/cuda/kernels/vectors.h"

namespace graphc::cuda {
namespace {

constexpr int kDigits = 256;
constexpr int kBits = 8;
constexpr int64_t kChunk = 1024;
constexpr int64_t kFewIndices = 32;
// Bits of a row's number where the number of rows isn't known: no memory holds more rows.
constexpr int kMostBits = 40;

int bits_of(int64_t n) {
  int bits = 1;
  while (bits < 62 && (int64_t{1} << bits) < n) ++bits;
  return bits;
}

class ScatterTemplate {
 public:
  ScatterTemplate(const Func& region, const LowerOptions& options, const Node& core)
      : region_(region),
        options_(options),
        core_(core),
        x_(core.operands[0]),
        ids_(core.operands[1]),
        src_(core.operands[2]),
        shape_(core.result()->type.shape) {
    const size_t axis = static_cast<size_t>(core.attr("axis").as_int());
    outer_.assign(shape_.begin(), shape_.begin() + static_cast<int64_t>(axis));
    inner_.assign(shape_.begin() + static_cast<int64_t>(axis) + 1, shape_.end());
    rows_ = shape_[axis];
    count_ = product(ids_->type.shape);
    chunks_ = ceildiv(count_, kChunk);
    const auto rows = rows_.as_constant();
    passes_ = ((rows ? bits_of(*rows) : kMostBits) + kBits - 1) / kBits;
    roots_.assign(region.body.results.begin(), region.body.results.end());
    for (size_t r = 0; r < roots_.size(); ++r) results_.push_back(static_cast<int>(r));
  }

  Result<LoweredRegion> lower() {
    for (const Value* r : roots_)
      if (product(r->type.shape) != product(shape_))
        return unsupported("a result of the scatter region has another size than the scatter");
    GC_CHECK(find_width());
    LoweredRegion out;
    const auto count = count_.as_constant();
    if (count && *count <= kFewIndices) {
      GC_TRY(KernelStep all, sums(false));
      out.steps.push_back(std::move(all));
      return out;
    }
    const Dim elements[] = {chunks_ * kDigits, rows_ + 1, count_, count_, count_, count_};
    for (int w = 0; w < (passes_ > 1 ? 6 : 4); ++w)
      out.workspace_bytes.push_back(ceildiv(elements[w] * 8, 64) * 64);
    for (int pass = 0; pass < passes_; ++pass) {
      GC_TRY(KernelStep counts, count_digits(pass));
      out.steps.push_back(std::move(counts));
      GC_TRY(KernelStep places, offsets());
      out.steps.push_back(std::move(places));
      GC_TRY(KernelStep moved, move(pass));
      out.steps.push_back(std::move(moved));
    }
    GC_TRY(KernelStep begin, begins());
    out.steps.push_back(std::move(begin));
    GC_TRY(KernelStep all, sums(true));
    out.steps.push_back(std::move(all));
    return out;
  }

 private:
  // Workspaces, all i64. Pass p writes its indices and positions to the p%2-th pair.
  enum : int { kCounts, kBegins, kPairs };
  static int keys_of(int pass) { return kPairs + pass % 2 * 2; }
  static int positions_of(int pass) { return keys_of(pass) + 1; }
  RegionBuilder::Workspace counts(bool written) const {
    return {kCounts, DType::kI64, chunks_ * kDigits, written};
  }
  RegionBuilder::Workspace begins_space(bool written) const {
    return {kBegins, DType::kI64, rows_ + 1, written};
  }
  RegionBuilder::Workspace list(int index, bool written) const {
    return {index, DType::kI64, count_, written};
  }
  std::string next_name() { return options_.name + (kernels_++ ? "_" + std::to_string(kernels_ - 1) : ""); }

  // The t-th index, inside the table whatever it is.
  Expr id_at(RegionBuilder& b, const Dim& t) {
    const Expr last =
        rows_.is_constant() ? Expr::int_constant(rows_.constant() - 1, DType::kI64) : Expr::index(rows_ - 1);
    const Expr id = cast(b.element(ids_, delinearize(ids_->type.shape, t, b.ranges())), DType::kI64);
    return maximum(minimum(id, last), Expr::int_constant(0, DType::kI64));
  }

  // What a pass sorts: the region's indices, or what the pass before has left. `first` is the position of its
  // workspaces in the kernel.
  std::vector<RegionBuilder::Workspace> source(int pass) const {
    if (pass == 0) return {};
    return {list(keys_of(pass - 1), false), list(positions_of(pass - 1), false)};
  }
  std::vector<const Value*> source_roots(int pass) const {
    return pass == 0 ? std::vector<const Value*>{ids_} : std::vector<const Value*>{};
  }
  Expr key(RegionBuilder& b, int pass, const Dim& t) {
    return pass == 0 ? id_at(b, t) : b.workspace(0).load({t});
  }

  // The digits of the block's indices, in shared memory.
  Buffer digits(RegionBuilder& b, int pass, const Dim& c) {
    const Buffer d = b.k().shared("digit", DType::kI32, {kChunk});
    b.loop(
        thread(kDigits), "t", c * kChunk, (c + 1) * kChunk,
        [&](Dim t) {
          const Expr shifted =
              binary(ScalarOp::kShr, key(b, pass, t), Expr::int_constant(pass * kBits, DType::kI64));
          const Expr digit = bit_and(shifted, Expr::int_constant(kDigits - 1, DType::kI64));
          b.k().store(d, {b.simplify(t - c * kChunk)}, cast(digit, DType::kI32));
        },
        count_);
    b.k().barrier();
    return d;
  }

  Result<KernelStep> count_digits(int pass) {
    std::vector<RegionBuilder::Workspace> ws = source(pass);
    ws.push_back(counts(true));
    RegionBuilder b(region_, next_name(), source_roots(pass), {}, {}, ws);
    const Buffer& to = b.workspace(static_cast<int>(ws.size()) - 1);
    b.loop(parallel(), "c", 0, chunks_, [&](Dim c) {
      const Buffer digit = digits(b, pass, c);
      b.loop(thread(kDigits), "d", 0, kDigits, [&](Dim d) {
        const Expr n = b.reduce(
            "n", {ReduceOp::kAdd}, serial(), "i", 0, kChunk,
            [&](Dim i) {
              return std::vector<Expr>{select(equal(digit.load({i}), cast(Expr::index(d), DType::kI32)),
                                              Expr::int_constant(1, DType::kI32),
                                              Expr::int_constant(0, DType::kI32))};
            },
            count_ - c * kChunk)[0];
        b.k().store(to, {c * kDigits + d}, cast(n, DType::kI64));
      });
    });
    return b.finish();
  }

  // counts[chunk, digit] becomes where the chunk's first index of that digit goes.
  Result<KernelStep> offsets() {
    RegionBuilder b(region_, next_name(), {}, {}, {}, {counts(true)});
    const Buffer& n = b.workspace(0);
    b.loop(parallel(), "z", 0, 1, [&](Dim) {
      const Buffer total = b.k().shared("total", DType::kI64, {kDigits});
      b.loop(thread(kDigits), "d", 0, kDigits, [&](Dim d) {
        const Expr sum = b.reduce("sum", {ReduceOp::kAdd}, serial(), "c", 0, chunks_,
                                  [&](Dim c) { return std::vector<Expr>{n.load({c * kDigits + d})}; })[0];
        b.k().store(total, {d}, sum);
      });
      b.k().barrier();
      b.loop(thread(kDigits), "d", 0, kDigits, [&](Dim d) {
        const Expr before = b.reduce("before", {ReduceOp::kAdd}, serial(), "e", 0, d,
                                     [&](Dim e) { return std::vector<Expr>{total.load({e})}; })[0];
        const Buffer place = b.k().registers("place", DType::kI64, {1});
        b.k().store(place, {0}, before);
        b.loop(serial(), "c", 0, chunks_, [&](Dim c) {
          const Expr here = b.k().let("here", n.load({c * kDigits + d}));
          b.k().store(n, {c * kDigits + d}, place.load({0}));
          b.k().store(place, {0}, place.load({0}) + here);
        });
      });
    });
    return b.finish();
  }

  Result<KernelStep> move(int pass) {
    std::vector<RegionBuilder::Workspace> ws = source(pass);
    const int first = static_cast<int>(ws.size());
    ws.push_back(counts(false));
    ws.push_back(list(keys_of(pass), true));
    ws.push_back(list(positions_of(pass), true));
    RegionBuilder b(region_, next_name(), source_roots(pass), {}, {}, ws);
    b.loop(parallel(), "c", 0, chunks_, [&](Dim c) {
      const Buffer digit = digits(b, pass, c);
      b.loop(thread(kDigits), "d", 0, kDigits, [&](Dim d) {
        const Buffer place = b.k().registers("place", DType::kI64, {1});
        b.k().store(place, {0}, b.workspace(first).load({c * kDigits + d}));
        b.loop(
            serial(), "i", 0, kChunk,
            [&](Dim i) {
              const Dim mine = let_within(b, "mine", cast(digit.load({i}), DType::kI64), kDigits - 1);
              b.k().if_then({mine - d, d - mine}, [&] {
                b.scoped([&] {
                  const Dim t = b.simplify(c * kChunk + i),
                            to = let_within(b, "to", place.load({0}), count_ - 1);
                  b.k().store(b.workspace(first + 1), {to}, key(b, pass, t));
                  b.k().store(b.workspace(first + 2), {to},
                              pass == 0 ? Expr::index(t) : b.workspace(1).load({t}));
                  b.k().store(place, {0}, place.load({0}) + Expr::int_constant(1, DType::kI64));
                });
              });
            },
            count_ - c * kChunk);
      });
    });
    return b.finish();
  }

  // begins[r] = how many indices are less than r, for r up to the number of rows.
  Result<KernelStep> begins() {
    const std::vector<RegionBuilder::Workspace> ws = {list(keys_of(passes_ - 1), false), begins_space(true)};
    RegionBuilder b(region_, next_name(), {}, {}, {}, ws);
    const auto count = count_.as_constant();
    const int steps = count ? bits_of(*count + 1) : kMostBits;
    each_element(b, {rows_ + 1}, 256, [&](const Coords& at) {
      const Dim& r = at[0];
      const Buffer range = b.k().registers("range", DType::kI64, {2});
      b.k().store(range, {0}, Expr::int_constant(0, DType::kI64));
      b.k().store(range, {1}, Expr::index(count_));
      b.loop(serial(), "step", 0, steps, [&](Dim) {
        const Dim lo = let_within(b, "lo", range.load({0}), count_);
        const Dim hi = let_within(b, "hi", range.load({1}), count_);
        b.k().if_then({hi - lo - 1}, [&] {
          const Dim mid = b.k().let_index(
              "mid", binary(ScalarOp::kShr, Expr::index(lo + hi), Expr::int_constant(1, DType::kI64)));
          const Dim k = b.k().let_index("key", b.workspace(0).load({mid}));
          b.k().if_then(
              {r - 1 - k}, [&] { b.k().store(range, {0}, Expr::index(mid + 1)); },
              [&] { b.k().store(range, {1}, Expr::index(mid)); });
        });
      });
      b.k().store(b.workspace(1), {r}, range.load({0}));
    });
    return b.finish();
  }

  Coords at(const Coords& o, const Dim& row, const Coords& in) const {
    Coords c = o;
    c.push_back(row);
    c.insert(c.end(), in.begin(), in.end());
    return c;
  }
  Coords src_at(RegionBuilder& b, const Coords& o, const Dim& t, const Coords& in) const {
    const Coords tc = delinearize(ids_->type.shape, t, b.ranges());
    Coords c = o;
    c.insert(c.end(), tc.begin(), tc.end());
    c.insert(c.end(), in.begin(), in.end());
    return c;
  }

  // Stores the results of the element `here` of the scatter, which is `sum`.
  void store(RegionBuilder& b, const Coords& here, const Expr& sum) {
    b.bind(core_.result(), [&b, here, sum](const Coords& asked) {
      for (size_t i = 0; i < here.size(); ++i)
        if (b.simplify(asked[i]) != b.simplify(here[i]))
          b.fail("a region needs a scatter's result at another index than the one being computed");
      return sum;
    });
    std::vector<std::pair<int, Coords>> stores;
    for (int r : results_)
      stores.emplace_back(
          r, reshape_coords(shape_, here, roots_[static_cast<size_t>(r)]->type.shape, b.ranges()));
    b.store_results(stores);
  }

  std::vector<const Value*> sum_roots() const {
    std::vector<const Value*> out = roots_;
    out.push_back(x_);
    out.push_back(src_);
    return out;
  }

  // Elements of a row that a thread takes at once.
  Status find_width() {
    RegionBuilder t(region_, "trial", sum_roots(), {core_.result()}, results_);
    std::vector<std::string> names;
    const Coords v = trial_coords(t.ranges(), {product(outer_), rows_, count_, product(inner_)}, "g", names);
    const Coords o = delinearize(outer_, v[0], t.ranges()), in = delinearize(inner_, v[3], t.ranges());
    t.k().let("s", t.element(src_, src_at(t, o, v[2], in)));
    t.k().let("x", t.element(x_, at(o, v[1], in)));
    store(t, at(o, v[1], in), Expr::constant(0, core_.result()->type.dtype));
    GC_TRY(KernelStep dry, t.finish());
    width_ = vector_width(dry.kernel, names[3], product(inner_));
    return ok_status();
  }

  Result<KernelStep> sums(bool sorted) {
    const DType type = core_.result()->type.dtype, acc = accumulator_type(type);
    std::vector<RegionBuilder::Workspace> ws;
    if (sorted) ws = {begins_space(false), list(positions_of(passes_ - 1), false)};
    std::vector<const Value*> roots = sum_roots();
    if (!sorted) roots.push_back(ids_);
    RegionBuilder b(region_, next_name(), roots, {core_.result()}, results_, ws);
    const Shape space = {product(outer_), rows_, floordiv(product(inner_), width_)};
    const Dim total = product(space);
    const int threads = element_threads(space, options_.target);
    b.loop(parallel(), "p", 0, ceildiv(total, threads), [&](Dim p) {
      share_of_block(b, thread(threads), "e", p, threads, total, [&](Dim e) {
        const Coords v = split_index(b, space, e);
        const Coords o = delinearize(outer_, v[0], b.ranges());
        Dim begin, end;
        if (sorted) {
          begin = let_within(b, "begin", b.workspace(0).load({v[1]}), count_);
          end = let_within(b, "end", b.workspace(0).load({b.simplify(v[1] + 1)}), count_);
        }
        lanes(b, width_, [&](Dim l) {
          const Coords in = delinearize(inner_, b.simplify(v[2] * width_ + l), b.ranges());
          const Coords here = at(o, v[1], in);
          const auto added = [&](const Dim& t, const std::vector<Dim>& guards) {
            return std::vector<Expr>{cast(b.element(src_, src_at(b, o, t, in), guards, 0.0), acc)};
          };
          Expr sum;
          if (sorted) {
            sum = b.reduce("s", {ReduceOp::kAdd}, serial(), "i", begin, end, [&](Dim i) {
              const Dim t = let_within(b, "t", b.workspace(1).load({i}), count_ - 1);
              return added(t, {});
            })[0];
          } else {
            sum = b.reduce("s", {ReduceOp::kAdd}, unrolled(), "i", 0, count_, [&](Dim i) {
              const Dim row = b.k().let_index("row", id_at(b, i));
              return added(i, {row - v[1], v[1] - row});
            })[0];
          }
          const Expr value = b.k().let("sum", cast(cast(b.element(x_, here), acc) + sum, type));
          store(b, here, value);
        });
      });
    });
    return b.finish();
  }

  const Func& region_;
  const LowerOptions& options_;
  const Node& core_;
  const Value *x_, *ids_, *src_;
  const Shape& shape_;
  Shape outer_, inner_;
  Dim rows_, count_, chunks_;
  int passes_ = 1, width_ = 1, kernels_ = 0;
  std::vector<const Value*> roots_;
  std::vector<int> results_;
};

}  // namespace

Result<LoweredRegion> lower_scatter(const Func& region, const LowerOptions& options) {
  const Node* core = nullptr;
  for (const auto& n : region.body.nodes)
    if (n->op->name == "scatter_add") {
      if (core) return unsupported("a scatter region with more than one scatter_add");
      core = n.get();
    }
  if (!core) return unsupported("a scatter region without scatter_add");
  return ScatterTemplate(region, options, *core).lower();
}

}  // namespace graphc::cuda
