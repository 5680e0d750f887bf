// How wide a kernel's index arithmetic must be. Every index expression, loop bound and guard gets a bound of
// its absolute value that holds for all intermediate results as well: a polynomial of the kernel's size
// parameters.
//
//   IndexWidth w = index_width(kernel, ranges);
//   if (w.narrow) ...   // 32 bits are enough where every one of w.narrow_if is below 2^31 (none: always)
#pragma once

#include <vector>

#include "ir/loops/loops.h"

namespace graphc::cuda {

struct IndexWidth {
  bool narrow = false;         // 32 bits are enough, at least for some sizes
  std::vector<Dim> narrow_if;  // .. where every one of these is below 2^31
  bool always() const { return narrow && narrow_if.empty(); }
};

// ranges: of the size parameters.
IndexWidth index_width(const Kernel& kernel, const DimRanges& ranges);

// What is known of a value that indices use under its name (a null value: nothing).
void know(DimRanges& ranges, const std::string& name, const Expr& value);

}  // namespace graphc::cuda
