// How many neighbouring elements a thread takes at once.
#pragma once

#include <optional>
#include <string>

#include "backends/kernels/region_builder.h"

namespace graphc::cuda {

// The width W of the accesses along `inner`, a variable of the dry run's kernel that counts `length`
// elements: 16 bytes of the widest type that is dense along it, fewer where an address isn't known to be a
// multiple of W (elements; buffers begin at multiples of 16 bytes) or W doesn't divide the length; 1 if some
// access is neither dense nor the same for all of inner. No length: the caller takes care of the rest.
int vector_width(const Kernel& dry, const std::string& inner, const std::optional<Dim>& length);

// How many operands and results of the dry run are dense along `inner`.
int dense_accesses(const Kernel& dry, const std::string& inner);

// Whether every term of d is a multiple of w.
bool is_multiple(const Dim& d, int64_t w);

// body(l) for l in 0..w: one access of w elements.
void lanes(RegionBuilder& b, int w, const std::function<void(Dim)>& body);

}  // namespace graphc::cuda
