// Addresses: row-major index arithmetic, and what a kernel touches, from which templates decide which axes
// run as one.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ir/loops/loops.h"
#include "ir/type.h"

namespace graphc {

using Coords = std::vector<Dim>;

Dim product(const Shape& shape);
Dim product(const Shape& shape, size_t begin, size_t end);
// Row-major position of `at` in `shape`.
Dim linear_index(const Shape& shape, const Coords& at);
// Coordinates of position `linear` in `shape`.
Coords delinearize(const Shape& shape, const Dim& linear, const DimRanges& ranges);
// The coordinates in `to` of the element that has coordinates `at` in `from` (same number of elements).
// Groups of axes with equal products are matched, so that axes the reshape doesn't touch stay as they are.
Coords reshape_coords(const Shape& from, const Coords& at, const Shape& to, const DimRanges& ranges);

// Every load, store and index value of a kernel whose buffers are one-dimensional.
struct Access {
  enum Kind : uint8_t { kLoad, kStore, kIndexValue, kGuard };
  Kind kind;
  int buffer = -1;
  Dim address;
};
std::vector<Access> accesses(const Kernel& kernel);

// The coefficient of `var` in `address`; nullopt if it isn't linear in it.
std::optional<Dim> coefficient(const Dim& address, std::string_view var);
// True if for every access the coefficient of `outer` is that of `inner` times inner_size, so that both can
// run as one axis.
bool collapsible(const std::vector<Access>& a, std::string_view outer, std::string_view inner,
                 const Dim& inner_size);

// A list of axes that run as fewer.
struct AxisGroups {
  Shape sizes;                             // of the original axes
  std::vector<std::pair<int, int>> group;  // [begin, end) of original axes, in order; at least one
  Shape group_sizes;
  size_t count() const { return group.size(); }
  // The variable of group g's innermost axis that isn't of size 1.
  const std::string& var(size_t g, const std::vector<std::string>& vars) const;
  // The coordinates of all original axes, of one variable per group.
  Coords coords(const Coords& group_vars, const DimRanges& ranges) const;
};
// Groups adjacent axes (variable vars[i] runs over sizes[i]) where all accesses allow. No axes give one group
// of size 1.
AxisGroups collapse(const Shape& sizes, const std::vector<std::string>& vars, const std::vector<Access>& a);
AxisGroups uncollapsed(const Shape& sizes);
// One variable per axis (0 for axes of size 1), of names no program can use, with their ranges: for a dry run
// of a template's body. Appends the names.
Coords trial_coords(DimRanges& ranges, const Shape& sizes, std::string_view prefix,
                    std::vector<std::string>& names);

// Rough cost of evaluating an expression once, in simple operations; of one pass over a kernel's statements.
int64_t expr_cost(const Expr& e);
int64_t body_cost(const Kernel& kernel);

}  // namespace graphc
