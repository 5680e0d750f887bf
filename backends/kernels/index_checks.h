// Checks of indices: kernels keep every index inside its table, so that a bad one reads some row and never
// other memory, and before they run a small reduction finds the smallest and the largest index of each gather
// and scatter_add, which the execution half compares with the table's size.
#pragma once

#include "backends/kernels/lowered_region.h"

namespace graphc {

// Adds the reductions, by the template `rows`, to the front of `lowered`, unless the indices are in range
// whatever the input.
Status add_index_checks(const Func& region, const std::string& name, const RegionTemplate& rows,
                        LoweredRegion& lowered);

}  // namespace graphc
