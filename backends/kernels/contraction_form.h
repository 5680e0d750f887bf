// One form for dot_general, convolution and both its gradients:
//
//   C[batch][m, n] = sum over k of A[batch][m, k] * B[batch][k, n]
//
// where batch, m, n and k are lists of axes and the operands' elements are found by affine coordinates with
// guards (outside of which they are 0). n holds the result's innermost axes, or m does (c_by_m).
//
//   op                        batch   m         n            k
//   dot_general               batch   a free    b free       contracted
//   convolution               N, g    O/g       out spatial  C/g, window
//   convolution_input_grad    N, g    C/g       in spatial   O/g, window
//   convolution_weight_grad   g       C/g, window  O/g       N, out spatial   (few O/g: m and n the other
//   way)
#pragma once

#include <functional>

#include "backends/kernels/access.h"
#include "ir/graph.h"
#include "runtime/base/result.h"

namespace graphc {

struct ContractionPoint {
  Coords at;
  std::vector<Dim> guards;  // where one is negative the element is 0
};

struct ContractionForm {
  const Node* core = nullptr;
  const Value* a = nullptr;
  const Value* b = nullptr;
  Shape batch, m, n, k;
  bool c_by_m = false;
  std::function<ContractionPoint(const Coords& batch, const Coords& m, const Coords& k)> at_a;
  std::function<ContractionPoint(const Coords& batch, const Coords& k, const Coords& n)> at_b;
  std::function<Coords(const Coords& batch, const Coords& m, const Coords& n)> at_c;
};

bool is_contraction(const Node& n);
// A strided convolution's input gradient falls into phases, inputs stride * q + phase[axis], each with its
// own taps (perhaps none: k is then empty) and all others' products known to be 0. One empty phase: the
// contraction is one.
std::vector<std::vector<int64_t>> contraction_phases(const Node& core);
Result<ContractionForm> contraction_form(const Node& core, const std::vector<int64_t>& phase = {});

}  // namespace graphc
