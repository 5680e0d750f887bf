// What running a function costs at least: arithmetic and memory traffic, as polynomials of the symbolic
// sizes.
//
//   Cost c = function_cost(*f);                 // after the pipeline
//   c.flops.evaluate({{"N", 8}});               // 2 a multiply-add
//
// Counted: 2 for each multiply-add of dot_general and the convolutions (padding included) and of attention
// (columns that no row sees included; its gradient computes the scores again), 1 for each element
// of a floating-point scalar op (exp and friends too) and for each element that a reduction or window reads.
// Comparisons, casts, selections and integer arithmetic are free. Bytes: every fusion reads its operands and
// writes its results once.
#pragma once

#include "ir/graph.h"

namespace graphc {

struct Cost {
  Dim flops = 0;
  Dim bytes = 0;
};

Cost node_cost(const Node& n);  // of a primitive or a fusion
Cost function_cost(const Func& f);

}  // namespace graphc
