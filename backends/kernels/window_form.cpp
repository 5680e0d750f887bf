#include "backends/kernels/window_form.h"

#include "backends/kernels/region_builder.h"

namespace graphc {

Result<WindowForm> window_form(const Func& region) {
  WindowForm f;
  for (const auto& n : region.body.nodes)
    if (n->op == &ops::reduce_window || n->op == &ops::reduce_window_grad) {
      if (f.core) return unsupported("a window region with more than one window");
      f.core = n.get();
    }
  if (!f.core) return unsupported("a window region without a window");
  f.gradient = f.core->op == &ops::reduce_window_grad;
  f.max = f.core->attr("kind").as_string() == "max";
  f.window = f.core->attr("window").as_ints();
  f.stride = f.core->attr("stride").as_ints();
  f.pad = f.core->attr("pad").as_ints();
  f.dilation = f.core->attr("dilation").as_ints();
  f.n = f.window.size();
  for (const int64_t w : f.window) f.taps *= w;
  f.out = f.core->result()->type.shape;
  f.lead = f.out.size() - f.n;
  f.type = f.core->result()->type.dtype;
  f.acc = accumulator_type(f.type);
  for (size_t i = 0; i < region.body.results.size(); ++i) {
    const Value* r = region.body.results[i];
    f.roots.push_back(r);
    f.results.push_back(static_cast<int>(i));
    if (product(r->type.shape) != product(f.out))
      return unsupported("a result of the window region has another size than the window's result");
  }
  return f;
}

}  // namespace graphc
