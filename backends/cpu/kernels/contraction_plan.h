// What both forms of the contraction template share: the analysed region, blocks of axes, tile sizes.
#pragma once

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <vector>

#include "backends/cpu/kernels/lowering.h"
#include "backends/cpu/kernels/schedule.h"
#include "backends/kernels/contraction_form.h"
#include "backends/kernels/region_builder.h"

namespace graphc {

struct ContractionPlan {
  ContractionForm form;
  std::vector<const Value*> roots;
  std::unordered_set<const Value*> cut;  // the core's result
  std::vector<int> results;              // all of the region's
  DType acc_type = DType::kF32;
  int registers = 32;
  int64_t c_cost = 0;  // of the epilogue, once

  AxisGroups batch, n, k;  // n as B allows, k as A and B allow together, batch as all do
  Dim m_total, n_total;    // m runs as one axis
  std::vector<Access> a_access, b_access;
  std::vector<std::string> k_vars, n_vars;
  bool a_plain = false, b_plain = false;      // a load (perhaps with a cast) without guards
  bool a_dense_k = false, a_dense_m = false;  // A's elements are adjacent (or equal) along the innermost k, m
  bool b_dense_k = false, b_dense_n = false;
  Dim a_row_stride;  // elements between rows of A
  bool dot = false;  // vectors along k
};
Result<const Node*> contraction_core(const Func& region);
Result<ContractionPlan> plan_contraction(const Func& region, const Node* core,
                                         const std::vector<int64_t>& phase, const LowerOptions& options);

// A block of a list of axes: whole inner axes (`suffix` elements together), `block` of axis `part`, one of
// each outer axis.
struct Box {
  size_t part = 0;
  int64_t block = 1;
  int64_t suffix = 1;
};
Box make_box(const AxisGroups& axes, int64_t max_elements);
// How many steps axis g has in the dense numbering of a box.
inline Dim axis_extent(const AxisGroups& axes, const Box& box, size_t g) {
  return g == box.part ? Dim(box.block) : axes.group_sizes[g];
}
// Group variables of element `dense` of the block that starts at `start` of axis part.
Coords box_coords(const AxisGroups& axes, const Box& box, const Coords& outer, const Dim& start,
                  const Dim& dense, const DimRanges& ranges);

// Adjacent axes of k's box that the given accesses allow to walk as one: groups [begin, end).
struct KRun {
  size_t begin = 0, end = 0;
  int64_t inner = 1;  // elements per step of the first axis
  int64_t size = 1;   // elements of a full block
  int64_t after = 1;  // elements per step of the run in the dense numbering
};
std::vector<KRun> k_runs(const ContractionPlan& p, const Box& box, const std::vector<Access>* a,
                         const std::vector<Access>* b);
// Original coordinates of k for one variable per run.
Coords run_coords(const ContractionPlan& p, const Box& box, const std::vector<KRun>& runs,
                  const Coords& outer, const Dim& start, const Coords& at, const DimRanges& ranges);

struct TileShape {
  int mr = 1, nv = 1;
};
// The register tile with the least estimated time for m rows (unknown: many) and `columns` columns.
TileShape choose_tile(std::optional<int64_t> m, int64_t columns, int lanes, int registers);

// Stores all results of the region for the core's element `value` at `at`.
void write_results(RegionBuilder& b, const Func& region, const ContractionPlan& p, const Coords& at,
                   const Expr& value);

Result<LoweredRegion> lower_outer_form(const ContractionPlan& plan, const Func& region,
                                       const LowerOptions& options);
Result<LoweredRegion> lower_dot_form(const ContractionPlan& plan, const Func& region,
                                     const LowerOptions& options);

}  // namespace graphc
