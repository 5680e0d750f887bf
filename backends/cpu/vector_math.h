// Transcendental functions as inline vector code: polynomials and exact argument reductions on scalars or
// vectors of float and double, no calls. f32 errors in ulp against the correctly rounded result, over all
// values: exp 1, log 1, rsqrt 1, expm1 2, log1p 2, sin, cos 2, tan 4, tanh 3, erf 4, pow 2; f64 within 1e-13
// relative. NaN, infinities, signed zeros and subnormals come out as the C library's.
#pragma once

#include <llvm/IR/IRBuilder.h>

#include "ir/scalar.h"

namespace graphc::cpu_emit {

// x (and y of pow, atan2, rem) are float, double or vectors of them. Emits at the builder's insertion point;
// may add basic blocks. Handles kExp..kErf, kFloor, kCeil, kRound, kPow, kAtan2, kRem, kFloorDiv; null for
// other ops.
llvm::Value* emit_math(llvm::IRBuilder<>& b, ScalarOp op, llvm::Value* x, llvm::Value* y = nullptr);

}  // namespace graphc::cpu_emit
