// What a region of kind "window" computes: one reduce_window or reduce_window_grad over the trailing, spatial
// axes, with elementwise work around it.
#pragma once

#include <cstdint>
#include <vector>

#include "backends/kernels/access.h"
#include "ir/graph.h"
#include "runtime/base/result.h"

namespace graphc {

struct WindowForm {
  const Node* core = nullptr;
  bool gradient = false;
  bool max = false;                                    // else a sum
  std::vector<int64_t> window, stride, pad, dilation;  // pad: lo, hi an axis
  size_t n = 0;                                        // spatial axes
  size_t lead = 0;                                     // axes before them
  int64_t taps = 1;                                    // of a window
  Shape out;                                           // of the core's result
  DType type = DType::kF32, acc = DType::kF32;         // of the result, of sums
  std::vector<const Value*> roots;                     // the region's results, each of out's size
  std::vector<int> results;                            // all of them

  // The position in x of tap t of window o along spatial axis a; outside of x where the window reaches out.
  Dim tap(size_t a, const Dim& o, const Dim& t) const { return o * stride[a] + t * dilation[a] - pad[2 * a]; }
};

// Errors: kUnsupported with the reason.
Result<WindowForm> window_form(const Func& region);

}  // namespace graphc
