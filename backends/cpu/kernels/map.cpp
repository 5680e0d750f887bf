// Template "map": every element of every result by itself. Axes that all accesses allow to run as one are
// collapsed; the innermost runs as vectors with a masked tail, the others and chunks of the innermost in
// parallel. A map that transposes runs in tiles, so that both sides use whole cache lines.
#include "backends/cpu/kernels/lowering.h"
#include "backends/cpu/kernels/schedule.h"
#include "backends/kernels/region_builder.h"

namespace graphc {
namespace {

// Does some load step through memory in the innermost axis while it is dense in group g?
std::optional<size_t> transposed_group(const std::vector<Access>& a, const AxisGroups& groups,
                                       const std::vector<std::string>& vars) {
  auto var_of = [&](size_t g) { return groups.var(g, vars); };
  size_t inner = groups.count() - 1;
  for (const Access& x : a) {
    if (x.kind != Access::kLoad) continue;
    auto ci = coefficient(x.address, var_of(inner));
    if (!ci || ci->is_constant(0) || ci->is_constant(1)) continue;
    for (size_t g = 0; g < inner; ++g) {
      auto c = coefficient(x.address, var_of(g));
      if (c && c->is_constant(1)) return g;
    }
  }
  return std::nullopt;
}

}  // namespace

Result<LoweredRegion> lower_map(const Func& region, const LowerOptions& options) {
  std::vector<const Value*> roots(region.body.results.begin(), region.body.results.end());
  if (roots.empty()) return unsupported("a map region without results");
  std::vector<int> all;
  for (size_t i = 0; i < roots.size(); ++i) all.push_back(static_cast<int>(i));
  const Shape& space = roots[0]->type.shape;
  auto store_all = [&](RegionBuilder& b, const Coords& at) {
    std::vector<std::pair<int, Coords>> stores;
    for (int r : all) stores.emplace_back(r, reshape_coords(space, at, roots[r]->type.shape, b.ranges()));
    b.store_results(stores);
  };

  // What is touched, with every axis by itself.
  RegionBuilder trial(region, options.name, roots, {}, all);
  std::vector<std::string> vars;
  Coords at = trial_coords(trial.ranges(), space, "c", vars);
  store_all(trial, at);
  GC_TRY(KernelStep dry, trial.finish());
  std::vector<Access> touched = accesses(dry.kernel);
  AxisGroups groups = collapse(space, vars, touched);
  int64_t cost = body_cost(dry.kernel);

  RegionBuilder b(region, options.name, roots, {}, all);
  size_t inner = groups.count() - 1;
  Dim length = groups.group_sizes[inner];
  int lanes = options.features.lanes(4);
  LoopSpec spec = length.is_constant(1) ? serial() : vector(lanes, cost <= 24 ? 4 : cost <= 60 ? 2 : 1);
  auto tile_group = transposed_group(touched, groups, vars);
  Coords at_group(groups.count(), Dim(0));
  auto element_at = [&] { store_all(b, groups.coords(at_group, b.ranges())); };

  // Chunks of the innermost axis: long ones only.
  constexpr int64_t kChunk = 8192;
  auto constant_length = length.as_constant();
  bool chunked = !constant_length || *constant_length > 2 * kChunk;
  if (groups.count() == 1 && constant_length && *constant_length * cost / lanes < kTaskCost) chunked = false;
  if (tile_group) chunked = false;
  int64_t chunk = tile_group ? 64 : kChunk;

  std::function<void(size_t)> nest = [&](size_t g) {
    if (g == inner) {
      if (chunked) {
        b.loop(parallel(), "p", 0, ceildiv(length, chunk), [&](Dim p) {
          b.loop(
              spec, "c", p * chunk, (p + 1) * chunk,
              [&](Dim c) {
                at_group[inner] = c;
                element_at();
              },
              length);
        });
      } else {
        b.loop(spec, "c", 0, length, [&](Dim c) {
          at_group[inner] = c;
          element_at();
        });
      }
      return;
    }
    if (groups.group_sizes[g].is_constant(1)) return nest(g + 1);
    b.loop(parallel(), "r", 0, groups.group_sizes[g], [&](Dim r) {
      at_group[g] = r;
      nest(g + 1);
    });
  };
  std::function<void(size_t)> tiled = [&](size_t g) {
    constexpr int64_t kRows = 32;
    if (g == inner) {
      Dim rows = groups.group_sizes[*tile_group];
      b.loop(parallel(), "tr", 0, ceildiv(rows, kRows), [&](Dim tr) {
        b.loop(parallel(), "tc", 0, ceildiv(length, chunk), [&](Dim tc) {
          b.loop(
              serial(), "r", tr * kRows, (tr + 1) * kRows,
              [&](Dim r) {
                b.loop(
                    spec, "c", tc * chunk, (tc + 1) * chunk,
                    [&](Dim c) {
                      at_group[*tile_group] = r;
                      at_group[inner] = c;
                      element_at();
                    },
                    length);
              },
              rows);
        });
      });
      return;
    }
    if (g == *tile_group || groups.group_sizes[g].is_constant(1)) return tiled(g + 1);
    b.loop(parallel(), "o", 0, groups.group_sizes[g], [&](Dim o) {
      at_group[g] = o;
      tiled(g + 1);
    });
  };
  Dim per_iteration = chunked ? Dim(chunk) : length;
  if (tile_group) {
    per_iteration = Dim(32 * chunk);
    tiled(0);
  } else {
    nest(0);
  }
  GC_TRY(KernelStep step, b.finish(task_grain(per_iteration, cost, lanes)));
  LoweredRegion out;
  out.steps.push_back(std::move(step));
  return out;
}

}  // namespace graphc
