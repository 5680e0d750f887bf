// Which result of a fusion may share memory with which operand.
//
// The promise a backend makes (docs/adding-a-template.md): a kernel evaluates all results of one element
// (vector) before it stores any of them, and the kinds rows and columns store full-size results in their last
// pass only. So a result may overwrite an operand if every read of that operand, on the way to any result,
// is of the element that is being written.
//
//   %y = fusion(%x, %b) {kind="map"} (%x: f32[N, 64], %b: f32[64]) { %0 = add(%x, %b) ; yield %0 }
//   may_alias(fusion, 0, 0)  // true:  y may be written over x
//   may_alias(fusion, 0, 1)  // false: b is read again by every row
#pragma once

#include <vector>

#include "ir/graph.h"

namespace graphc {

// `fusion` is a fusion node. Sizes of elements must agree too (f32 over i32 is fine).
bool may_alias(const Node& fusion, int result, int operand);

// All pairs at once: the operands each result may share memory with.
std::vector<std::vector<int>> alias_candidates(const Node& fusion);

}  // namespace graphc
