// What op records share: inference helpers and messages. Private to ir/ops.
//
// Inside `const OpDef ops::x{...}` unqualified names find the other records first (`exp` is ops::exp), so
// trees and rules are written as free functions above their record, in an anonymous namespace.
#pragma once

#include <string>
#include <vector>

#include <fmt/format.h>

#include "ir/builder.h"
#include "ir/grad.h"
#include "ir/interpret.h"
#include "ir/op.h"
#include "ir/samples.h"

namespace graphc {

// "add(f32[2, 3], f32[4])": how messages name the call that went wrong.
std::string call_text(const InferContext& c);
// "<call>: <message>"
template <class... Args>
Error call_error(const InferContext& c, fmt::format_string<Args...> f, Args&&... args) {
  return invalid(call_text(c) + ": " + fmt::format(f, std::forward<Args>(args)...));
}

// One result with the operands' dtype and broadcast shape; dtypes must agree.
Inferred infer_elementwise(InferContext& c);
// The same with a bool result.
Inferred infer_comparison(InferContext& c);
// The type of the first operand.
Inferred infer_same(InferContext& c);
// "the operands' dtypes differ ..." if operands first..last (all by default) aren't of one dtype.
Status check_same_dtype(const InferContext& c, int first = 0, int last = -1);

// Rewrites the attribute `name` (one axis) to lie in 0..rank-1 and returns it.
Result<int> canonical_axis(InferContext& c, std::string_view name, int rank);
// The same for a list: sorted, without repeats; an empty list becomes all axes.
Result<std::vector<int64_t>> canonical_axes(InferContext& c, std::string_view name, int rank);
// Constant integers of a list attribute; an error if one is symbolic.
Result<std::vector<int64_t>> constant_ints(const InferContext& c, std::string_view name);
// A list of n numbers >= least (one number is repeated), stored back in the long form.
Result<std::vector<int64_t>> canonical_repeated(InferContext& c, std::string_view name, int n, int64_t least);
// Pads of n spatial axes in the long form lo0, hi0, lo1, hi1, ..: one number, n or 2n of them are accepted.
Result<std::vector<int64_t>> canonical_pads(InferContext& c, std::string_view name, int n);
// 1 <= axis sizes: the output size of a window of `size` taps over `in`.
Result<Dim> window_extent(const InferContext& c, int axis, const Dim& in, int64_t size, int64_t stride,
                          int64_t lo, int64_t hi, int64_t dilation);

// The exact quotient if b divides a as polynomials (b's value may not be 0); nullopt otherwise.
std::optional<Dim> exact_quotient(const Dim& a, const Dim& b);

inline bool has(const Call& c, int operand) { return c.operand(operand) != nullptr; }
// All axes but those listed.
std::vector<int64_t> other_axes(int rank, const std::vector<int64_t>& axes);
std::vector<int64_t> all_axes(int rank);
// The shape with the axes set to 1.
Shape with_ones(Shape shape, const std::vector<int64_t>& axes);
// The shape left by a reduction over `axes`: with 1 in their places, or without them.
Shape reduced_shape(const Shape& in, const std::vector<int64_t>& axes, bool keepdims);
// One result of the operand's dtype, reduced by the attributes `axes` (canonicalised) and `keepdims`.
Inferred infer_reduction(InferContext& c);
// A value reduced over `axes` without keepdims, reshaped so that it broadcasts against `shape` again.
Value* restore_axes(Builder& b, Value* reduced, const Shape& shape, const std::vector<int64_t>& axes);
// x of rank 1 along `axis` of a tensor of rank `rank`: shape [1, .., n, .., 1].
Value* along_axis(Builder& b, Value* x, int axis, int rank);
// A bool tensor of the shape: index along `axis` equals ids (which broadcasts against it).
Value* index_equals(Builder& b, const Shape& shape, int axis, Value* ids);

}  // namespace graphc
