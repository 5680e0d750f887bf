#include "backends/cpu/vector_math.inc"

#include <llvm/IR/Intrinsics.h>

namespace graphc::cpu_emit {
using namespace llvm;
Value* emit_math(IRBuilder<>& b, ScalarOp op, Value* x, Value* y) {
  switch (op) {
    case ScalarOp::kFloor: return b.CreateUnaryIntrinsic(Intrinsic::floor, x);
    case ScalarOp::kCeil: return b.CreateUnaryIntrinsic(Intrinsic::ceil, x);
    case ScalarOp::kRound: return b.CreateUnaryIntrinsic(Intrinsic::roundeven, x);
    case ScalarOp::kSqrt: return b.CreateUnaryIntrinsic(Intrinsic::sqrt, x);
    default: return nullptr;
  }
}
}  // namespace graphc::cpu_emit
