// Runs a loop program in double and int64: the judge of templates, before any code generator. Every access is
// checked against its buffer's shape, reads of undefined contents are reported, and so are races: an element
// that one iteration of a parallel loop (or one lane of a vector loop's chunk) writes must not be touched by
// another.
#pragma once

#include <cstdint>
#include <span>

#include "ir/loops/loops.h"
#include "runtime/base/result.h"

namespace graphc {

struct LoopInterpretOptions {
  bool check_races = true;
  bool reverse = false;  // parallel iterations in reverse order
};

// buffers[i] is the memory of argument i, row-major, in its element type; params[i] the size parameter i.
// Floats are computed in double and rounded only where they are stored to an argument (16-bit ones wherever
// they are stored).
Status interpret_kernel(const Kernel& k, std::span<void* const> buffers, std::span<const int64_t> params,
                        const LoopInterpretOptions& options = {});

}  // namespace graphc
