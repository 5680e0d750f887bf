// Runs a loop program in double and int64: the judge of templates, before any code generator. Every access is
// checked against its buffer's shape, reads of undefined contents are reported, and so are races: an element
// that one iteration of a parallel loop (a lane of a vector loop's chunk, a thread of a block before the next
// barrier) writes must not be touched by another. Arguments that alias and are given the same memory are one.
//
// Threads run one after the other within a thread loop, so that a missing barrier doesn't show in the results
// but as a race: "element 5 of %t is read by thread 3, and written by thread 4 with no barrier in between".
// Uniform code is run once, for all threads. A reduce combines in the order of loops.h.
#pragma once

#include <cstdint>
#include <span>

#include "ir/loops/loops.h"
#include "runtime/base/result.h"

namespace graphc {

struct LoopInterpretOptions {
  bool check_races = true;
  bool reverse = false;  // parallel iterations, threads and groups in reverse order
};

// buffers[i] is the memory of argument i, row-major, in its element type; params[i] the size parameter i.
// Floats are computed in double and rounded only where they are stored to an argument (16-bit ones wherever
// they are stored).
Status interpret_kernel(const Kernel& k, std::span<void* const> buffers, std::span<const int64_t> params,
                        const LoopInterpretOptions& options = {});

}  // namespace graphc
