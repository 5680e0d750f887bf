// Random valid graphs for comparing ways to compile them. Shapes are solved while the graph grows: a node is
// kept only if inference takes it and the reference interpreter, on the graph's own random inputs, gives
// finite values of moderate size; so no output is NaN, and what is compared means something.
//
//   RandomGraph g = random_graph(17);
//   auto out = interpret(*g.module, *g.func(), g.inputs, g.variables);
//
// Every op with a record can occur: common ones in the combinations that networks make of them (a reduction
// and a broadcast of it, a contraction with an epilogue, views, slices), all others by their records'
// samples, fed from values of the graph through an adapter. Symbolic sizes N and T; sizes 0 and 1 occur.
#pragma once

#include <memory>

#include "ir/interpret.h"

namespace graphc {

struct RandomGraphOptions {
  int nodes = 12;       // roughly, without adapters
  bool train = false;   // @Net.train: a scalar loss, `optimize` with lr 1, smooth; else @Net
  bool smooth = false;  // away from kinks and ties, so that f32 takes the branches f64 takes
};

struct RandomGraph {
  std::unique_ptr<Module> module;
  std::vector<HostTensor> inputs;
  VariableValues variables;
  Func* func() const { return module->funcs[0].get(); }
};

RandomGraph random_graph(uint64_t seed, const RandomGraphOptions& options = {});

}  // namespace graphc
