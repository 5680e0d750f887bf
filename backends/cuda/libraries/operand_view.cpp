#include "backends/cuda/libraries/operand_view.h"

#include <fmt/format.h>

#include "ir/op.h"

namespace graphc::cuda {
namespace {

Shape dense_strides(const Shape& shape) {
  Shape strides(shape.size());
  Dim next = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = next;
    next = next * shape[i];
  }
  return strides;
}

// Axes of size 1 apart, one follows the other without gaps.
bool is_dense(const OperandView& v) {
  Dim next = 1;
  for (size_t i = v.shape.size(); i-- > 0;) {
    if (v.shape[i].is_constant(1)) continue;
    if (v.strides[i] != next) return false;
    next = next * v.shape[i];
  }
  return true;
}

// bf16 and f16 to f32, or any to f64.
bool is_lossless(DType from, DType to) {
  return is_float(from) && is_float(to) && dtype_size(from) < dtype_size(to);
}

}  // namespace

Result<OperandView> operand_view(const Func& region, const Value* v) {
  if (!v->node) {
    for (size_t i = 0; i < region.body.args.size(); ++i)
      if (region.body.args[i].get() == v)
        return OperandView{
            static_cast<int>(i), v->type.dtype, false, v->type.shape, dense_strides(v->type.shape), 0};
    return internal_error("a value of a region that it doesn't define");
  }
  const Node& n = *v->node;
  const auto refuse = [&] {
    return unsupported(fmt::format("an operand is computed in the region, by {}", n.op->name));
  };
  const bool moves =
      n.op == &ops::transpose || n.op == &ops::reshape || n.op == &ops::slice || n.op == &ops::expand;
  if (!moves && n.op != &ops::cast) return refuse();
  GC_TRY(OperandView in, operand_view(region, n.operands[0]));
  OperandView out = in;
  if (n.op == &ops::cast) {
    if (!is_lossless(n.operands[0]->type.dtype, v->type.dtype)) return refuse();
    out.cast = true;
  } else if (n.op == &ops::transpose) {
    const std::vector<int64_t> perm = n.attr("perm").as_ints();
    for (size_t i = 0; i < perm.size(); ++i) {
      out.shape[i] = in.shape[static_cast<size_t>(perm[i])];
      out.strides[i] = in.strides[static_cast<size_t>(perm[i])];
    }
  } else if (n.op == &ops::slice) {
    const auto axis = static_cast<size_t>(n.attr("axis").as_int());
    out.offset = in.offset + n.attr("start").as_dim() * in.strides[axis];
    out.strides[axis] = in.strides[axis] * n.attr("step").as_int();
    out.shape = v->type.shape;
  } else if (n.op == &ops::expand) {
    out.shape = v->type.shape;
    out.strides.assign(out.shape.size(), Dim(0));
    const size_t first = out.shape.size() - in.shape.size();
    for (size_t i = 0; i < in.shape.size(); ++i)
      if (in.shape[i] == out.shape[first + i]) out.strides[first + i] = in.strides[i];
  } else {
    if (!is_dense(in))
      return unsupported("an operand is a reshape of something with gaps or in another order");
    out.shape = v->type.shape;
    out.strides = dense_strides(out.shape);
  }
  return out;
}

std::optional<AxisRun> run_of_axes(const OperandView& v, const std::vector<int64_t>& axes,
                                   const DimRanges& ranges) {
  AxisRun run;
  bool any = false;
  for (size_t i = axes.size(); i-- > 0;) {
    const Dim& size = v.shape[static_cast<size_t>(axes[i])];
    const Dim& stride = v.strides[static_cast<size_t>(axes[i])];
    if (size.is_constant(1)) continue;
    if (any && ranges.simplify(stride - run.stride * run.size) != Dim(0)) return std::nullopt;
    if (!any) run.stride = stride;
    any = true;
    run.size = run.size * size;
  }
  return run;
}

}  // namespace graphc::cuda
