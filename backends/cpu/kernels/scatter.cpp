// Template "scatter": scatter_add, deterministic. Parallel over the axes before the scattered one and over
// blocks of what lies after it; in each block first the elements of x are copied, then the rows of src are
// added in order. Two iterations never write the same element. With elementwise work after the scatter the
// sums go to workspace and a second kernel applies it.
#include "backends/cpu/kernels/lowering.h"
#include "backends/cpu/kernels/schedule.h"
#include "backends/kernels/region_builder.h"

namespace graphc {

Result<LoweredRegion> lower_scatter(const Func& region, const LowerOptions& options) {
  const Node* core = nullptr;
  for (const auto& n : region.body.nodes)
    if (n->op->name == "scatter_add") {
      if (core) return unsupported("a scatter region with more than one scatter_add");
      core = n.get();
    }
  if (!core) return unsupported("a scatter region without scatter_add");
  const Value *x = core->operands[0], *ids = core->operands[1], *src = core->operands[2];
  DType type = core->result()->type.dtype;
  const Shape& shape = core->result()->type.shape;
  size_t axis = static_cast<size_t>(core->attr("axis").as_int());
  Shape outer(shape.begin(), shape.begin() + axis), inner(shape.begin() + axis + 1, shape.end());
  Dim size = shape[axis], rows = product(ids->type.shape), width = product(inner);
  bool direct = region.body.results.size() == 1 && region.body.results[0] == core->result();
  int lanes = options.features.lanes(4);

  LoweredRegion out;
  std::vector<RegionBuilder::Workspace> ws;
  if (!direct) {
    ws.push_back({0, type, product(shape), true});
    out.workspace_bytes.push_back(ceildiv(product(shape) * static_cast<int64_t>(dtype_size(type)), 64) * 64);
  }
  std::vector<const Value*> operands(core->operands.begin(), core->operands.end());
  RegionBuilder b(region, options.name, operands, {core->result()},
                  direct ? std::vector<int>{0} : std::vector<int>{}, ws);
  const Buffer& to = direct ? b.result_buffer(0) : b.workspace(0);
  constexpr int64_t kBlock = 64;
  auto full = [&](const Coords& o, const Dim& row, const Coords& in) {
    Coords at = o;
    at.push_back(row);
    at.insert(at.end(), in.begin(), in.end());
    return at;
  };
  b.loop(parallel(), "o", 0, product(outer), [&](Dim o) {
    b.loop(parallel(), "jb", 0, ceildiv(width, kBlock), [&](Dim jb) {
      Coords oc = delinearize(outer, o, b.ranges());
      auto block = [&](const std::function<void(Dim)>& body) {
        b.loop(width.is_constant(1) ? serial() : vector(lanes), "j", jb * kBlock, (jb + 1) * kBlock, body,
               width);
      };
      b.loop(serial(), "i", 0, size, [&](Dim i) {
        block([&](Dim j) {
          Coords at = full(oc, i, delinearize(inner, j, b.ranges()));
          b.k().store(to, {b.simplify(linear_index(shape, at))}, b.element(x, at));
        });
      });
      b.loop(serial(), "t", 0, rows, [&](Dim t) {
        Coords tc = delinearize(ids->type.shape, t, b.ranges());
        Expr last =
            size.is_constant() ? Expr::int_constant(size.constant() - 1, DType::kI64) : Expr::index(size - 1);
        Expr id = cast(b.element(ids, tc), DType::kI64);
        // in range for certain: a bad index adds to some row, never to other memory
        Dim row = b.k().let_index("row", maximum(minimum(id, last), Expr::int_constant(0, DType::kI64)));
        if (auto s = row.as_symbol()) b.ranges().set(*s, 0, size - 1);
        block([&](Dim j) {
          Coords jc = delinearize(inner, j, b.ranges());
          Coords from = oc;
          from.insert(from.end(), tc.begin(), tc.end());
          from.insert(from.end(), jc.begin(), jc.end());
          Dim at = b.simplify(linear_index(shape, full(oc, row, jc)));
          b.k().store(to, {at}, to.load({at}) + b.element(src, from));
        });
      });
    });
  });
  GC_TRY(KernelStep step, b.finish(task_grain((size + rows) * kBlock, 3, lanes)));
  out.steps.push_back(std::move(step));
  if (direct) return out;

  std::vector<const Value*> roots(region.body.results.begin(), region.body.results.end());
  std::vector<int> results;
  for (size_t r = 0; r < roots.size(); ++r) {
    results.push_back(static_cast<int>(r));
    if (product(roots[r]->type.shape) != product(shape))
      return unsupported("a result of the scatter region has another size than the scatter");
  }
  ws[0].written = false;
  RegionBuilder e(region, options.name + "_after", roots, {core->result()}, results, ws);
  constexpr int64_t kChunk = 8192;
  Dim total = product(shape);
  e.loop(parallel(), "p", 0, ceildiv(total, kChunk), [&](Dim p) {
    e.loop(
        vector(lanes), "c", p * kChunk, (p + 1) * kChunk,
        [&](Dim c) {
          e.bind(core->result(), [&](const Coords& at) {
            return e.workspace(0).load({e.simplify(linear_index(shape, at))});
          });
          Coords at = delinearize(shape, c, e.ranges());
          std::vector<std::pair<int, Coords>> stores;
          for (int r : results)
            stores.emplace_back(r, reshape_coords(shape, at, roots[r]->type.shape, e.ranges()));
          e.store_results(stores);
        },
        total);
  });
  GC_TRY(KernelStep after, e.finish(task_grain(Dim(kChunk), 8, lanes)));
  out.steps.push_back(std::move(after));
  return out;
}

}  // namespace graphc
