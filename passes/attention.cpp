// attention: sdpa becomes the op `attention`, which stays whole (expand keeps it, its gradient is one op as
// well) and ends as a region of kind "attention", for targets with a kernel that needs no score matrix.
//
//   before:  %0 = sdpa(%q, %k, %v) {causal=true}
//   after:   %0, %1 = attention(%q, %k, %v) {causal=true}      # %1: log-sum-exp of each row
//
// What such kernels don't take stays sdpa and is expanded: f64, vectors whose length isn't a constant of at
// most kMaxAttentionVector. A mask whose gradient somebody wants gets it through the score matrix (the rule
// of `attention` in ir/ops/attention.cpp).
#include "passes/attention.h"

#include "passes/passes.h"
#include "passes/rewrite.h"

namespace graphc {

bool kernel_takes_attention(const Node& n) {
  const TensorType &q = n.operands[0]->type, &v = n.operands[2]->type;
  if (q.dtype != DType::kF32 && q.dtype != DType::kF16 && q.dtype != DType::kBF16) return false;
  for (const Dim& d : {q.shape.back(), v.shape.back()}) {
    const auto c = d.as_constant();
    if (!c || *c < 1 || *c > kMaxAttentionVector) return false;
  }
  return true;
}

Status attention(Module& m) {
  for (auto& f : m.funcs)
    rewrite(m, f->body, [](Node& n, Builder& b) -> Replacement {
      if (n.op != &ops::sdpa || !kernel_takes_attention(n)) return std::nullopt;
      return std::vector<Value*>{b.create_node(ops::attention, n.operands, n.attrs)->result(0)};
    });
  return ok_status();
}

}  // namespace graphc
