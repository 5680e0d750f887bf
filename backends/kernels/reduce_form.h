// One form for regions of the kinds "rows" and "columns": reductions over the same axes of a common space,
// with elementwise work and index maps before, between and after them.
//
// Reductions that need others' results are on a later level (softmax: max, then sum). argmax is a maximum
// (phase 0) and, one level later, the least position that holds it (phase 1).
//
//   GC_TRY(ReduceForm f, reduce_form(region, "cpu"));
//   ReduceReader r(f, b);                       // b: a RegionBuilder
//   for each level: sums = reduce { r.value(job, f.coords(b.ranges(), vars)) }; r.finish(job, at, sum)
//   r.write(f.full_results, at) for every element; r.write(f.row_results, at) once
#pragma once

#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "backends/kernels/region_builder.h"

namespace graphc {

struct ReduceJob {
  const Node* node;
  ReduceOp op;
  int phase = 0;
  int level = 0;
  DType type = DType::kF32;  // of the accumulator
};

struct ReduceForm {
  const Func* region = nullptr;
  std::vector<const Value*> roots;  // the region's results
  std::vector<int> results, row_results, full_results;
  std::vector<ReduceJob> jobs;
  int levels = 0;
  Shape space, kept_shape;
  std::vector<int64_t> axes;
  std::vector<bool> is_reduced;
  // Adjacent axes of one kind that all accesses allow to run as one, without those of size 1.
  struct Group {
    std::vector<int> axes;
    Dim size;
    bool reduced;
  };
  std::vector<Group> groups;
  std::vector<int> kept, reduced;  // groups
  Shape kept_sizes, reduced_sizes;
  bool by_row = true;  // the innermost group is reduced
  int64_t cost = 1;    // of one pass, body_cost

  // Coordinates in the space, of one variable per group.
  Coords coords(const DimRanges& ranges, const Coords& vars) const;
  Coords kept_of(const Coords& at) const;
};

// wide_argmax: the maximum of floats that the region itself computes is kept as an f64, for kernels that
// write it to memory between the passes and whose compiler may leave what it computes unrounded. Errors:
// kUnsupported with the reason, naming the backend.
Result<ReduceForm> reduce_form(const Func& region, std::string_view backend, bool wide_argmax = false);

class ReduceReader {
 public:
  ReduceReader(const ReduceForm& form, RegionBuilder& b) : f_(form), b_(b) {}

  // What the job combines at the element `at` of the space; where a guard is negative, anything.
  Expr value(const ReduceJob& j, const Coords& at, const std::vector<Dim>& guards = {});
  // In the current body the job's result for the row of `at` is `sum`.
  void finish(const ReduceJob& j, const Coords& at, const Expr& sum);
  // Likewise for every row: f gives the sum for kept coordinates.
  void finish(const ReduceJob& j, std::function<Expr(const Coords& kept)> f);
  // Stores the results `which` (full_results or row_results of the form) of the element or row of `at`.
  void write(const std::vector<int>& which, const Coords& at);

 private:
  void bind(const ReduceJob& j, std::optional<Coords> here, std::function<Expr(const Coords& kept)> f);
  const ReduceForm& f_;
  RegionBuilder& b_;
  std::map<const Node*, std::function<Expr(const Coords& kept)>> maxima_;
};

}  // namespace graphc
