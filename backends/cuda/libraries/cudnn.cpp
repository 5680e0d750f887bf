// The compile half of cuDNN: a convolution, or one of its gradients, out of a contraction region. What is
// legal follows what cuDNN 9.19 plans for sm_80 to sm_90 (tests/cuda/cudnn asks it): our tensors lie
// [N, C, H, W] unless a transpose in the region says otherwise, and for that layout there are engines for
//
//   convolution, either gradient            f32 without TF32, f16, bf16
//   convolution [+ residual] + bias [relu]  the same; in this order, and never without the bias
//
// and for nothing else: no scale, no activation without a bias, nothing after a gradient. f32 engines read
// the tensors as they lie; those for f16 and bf16 turn them to channels-last and back, in workspace as large
// as all tensors together. Channels-last tensors ([N, H, W, C] seen through a transpose) need no such
// workspace and may have a scale, and a residual or relu without bias; their weights must lie channels-last
// too.
#include <optional>

#include <fmt/format.h>

#include "backends/cuda/exec/cudnn_graph.h"
#include "backends/cuda/libraries/library_calls.h"
#include "backends/cuda/libraries/operand_view.h"
#include "backends/cuda/libraries/product_call.h"
#include "ir/op.h"

namespace graphc::cuda {
namespace {

constexpr int64_t kSmallWorkspace = int64_t{8} << 20;   // engines that read tensors as they lie
constexpr int64_t kSplitWorkspace = int64_t{32} << 20;  // partial sums of f16 and bf16

enum class Layout : uint8_t { kAny, kChannelsFirst, kChannelsLast, kOther };

class Planner {
 public:
  Planner(const Func& region, const Node& core) : region_(region), core_(core), ranges_(region.ranges()) {}

  Result<RegionCall> plan() {
    GC_CHECK(one_result());
    GC_CHECK(operands());
    GC_CHECK(epilogue());
    return finish();
  }
  // The convolution alone, into a workspace.
  Result<RegionCall> plan_core(int workspace) {
    GC_CHECK(operands());
    GC_CHECK(core_type());
    result_ = {KernelArgKind::kWorkspace, workspace};
    y_.shape = core_.result()->type.shape;
    Dim at = 1;
    y_.strides.resize(y_.shape.size());
    for (size_t i = y_.shape.size(); i-- > 0;) {
      y_.strides[i] = at;
      at = ranges_.simplify(at * y_.shape[i]);
    }
    return finish();
  }

 private:
  Status one_result() const {
    if (region_.body.results.size() != 1)
      return unsupported(fmt::format("{} results: only the convolution with bias, residual and relu",
                                     region_.body.results.size()));
    return ok_status();
  }
  Status core_type() {
    y_.dtype = core_.result()->type.dtype;
    if (y_.dtype != type_)
      return unsupported(
          fmt::format("a result of {} from operands of {}", dtype_name(y_.dtype), dtype_name(type_)));
    return ok_status();
  }
  Result<RegionCall> finish() {
    GC_CHECK(layouts());
    GC_CHECK(write());
    out_.library = "cudnn";
    out_.call = graph_.to_text();
    const bool turned = type_ != DType::kF32 && layout_ != Layout::kChannelsLast;
    out_.workspace_bytes = type_ == DType::kF32 ? kSmallWorkspace : kSplitWorkspace;
    for (const OperandView* v : {&a_, &b_, &y_}) {
      Dim elements = 1;
      for (const Dim& d : v->shape) elements = elements * d;
      if (turned)
        out_.workspace_bytes = out_.workspace_bytes + elements * static_cast<int64_t>(dtype_size(type_));
    }
    for (const Dim& d : out_.sizes)
      if (d.overflowed()) return unsupported("its sizes leave 64 bits");
    if (out_.workspace_bytes.overflowed()) return unsupported("its sizes leave 64 bits");
    return std::move(out_);
  }

  bool forward() const { return core_.op == &ops::convolution; }

  Result<OperandView> view(const Value* v, std::string_view what) {
    GC_TRY(OperandView o, operand_view(region_, v));
    if (o.cast) return unsupported(fmt::format("{} is converted on the way", what));
    if (!ranges_.simplify(o.offset).is_constant(0))
      return unsupported(fmt::format("{} begins inside of its buffer", what));
    return o;
  }

  Status operands() {
    GC_TRY(a_, view(core_.operands[0], "the first operand"));
    GC_TRY(b_, view(core_.operands[1], "the second operand"));
    type_ = a_.dtype;
    if (type_ != DType::kF32 && type_ != DType::kF16 && type_ != DType::kBF16)
      return unsupported(fmt::format("convolutions of {} aren't mapped", dtype_name(type_)));
    if (b_.dtype != type_)
      return unsupported(
          fmt::format("operands of two types, {} and {}", dtype_name(type_), dtype_name(b_.dtype)));
    for (const OperandView* v : {&a_, &b_})
      for (size_t i = 0; i < v->shape.size(); ++i)
        if (v->strides[i].is_constant(0) && !v->shape[i].is_constant(1))
          return unsupported("an operand is broadcast");
    const auto stride = core_.attr("stride").as_ints(), pad = core_.attr("pad").as_ints();
    if (stride.empty() || stride.size() > 3)
      return unsupported(fmt::format("convolutions over {} axes aren't mapped", stride.size()));
    for (size_t i = 0; i < pad.size(); i += 2) {
      if (pad[i] < 0 || pad[i + 1] < 0) return unsupported("negative padding");
      if (pad[i] != pad[i + 1]) return unsupported("padding that differs before and after: no engine has it");
    }
    return ok_status();
  }

  // --- what follows the convolution ---

  static const Value* through_casts(const Value* v) {
    while (v->node && v->node->op == &ops::cast && is_float(v->node->operands[0]->type.dtype) &&
           is_float(v->type.dtype))
      v = v->node->operands[0];
    return v;
  }
  static bool is_zero(const Value* v) {
    while (v->node && v->node->op == &ops::expand) v = v->node->operands[0];
    if (!v->node || v->node->op != &ops::full) return false;
    const Attr& a = v->node->attr("value");
    return a.is_float() ? a.as_float() == 0 : a.is_int() && a.as_int() == 0;
  }
  bool from_core(const Value* v) const {
    if (v == core_.result()) return true;
    if (!v->node) return false;
    for (const Value* o : v->node->operands)
      if (from_core(o)) return true;
    return false;
  }

  Status epilogue() {
    const Value* v = region_.body.results[0];
    y_.dtype = v->type.dtype;
    if (y_.dtype != type_)
      return unsupported(
          fmt::format("a result of {} from operands of {}", dtype_name(y_.dtype), dtype_name(type_)));
    v = through_casts(v);
    // How the result lies: row-major, or the transpose of that.
    y_.shape = core_.result()->type.shape;
    std::vector<int64_t> axes(y_.shape.size());  // the result's axis, of each of the convolution's
    for (size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<int64_t>(i);
    if (v->node && v->node->op == &ops::transpose) {
      const auto perm = v->node->attr("perm").as_ints();
      if (perm.size() != axes.size()) return unsupported("the result is reshaped");
      for (size_t i = 0; i < perm.size(); ++i) axes[static_cast<size_t>(perm[i])] = static_cast<int64_t>(i);
      v = through_casts(v->node->operands[0]);
    }
    y_.strides.resize(axes.size());
    Dim elements = 1;
    for (size_t i = axes.size(); i-- > 0;)
      for (size_t k = 0; k < axes.size(); ++k)
        if (axes[k] == static_cast<int64_t>(i)) {
          y_.strides[k] = elements;
          elements = ranges_.simplify(elements * y_.shape[k]);
        }
    if (v->node && v->node->op == &ops::relu) {
      relu_ = true;
      v = v->node->operands[0];
    } else if (v->node && v->node->op == &ops::maximum) {
      for (const size_t i : {0, 1})
        if (is_zero(v->node->operands[i])) {
          relu_ = true;
          v = v->node->operands[1 - i];
          break;
        }
    }
    return sum(v);
  }

  Status sum(const Value* v) {
    v = through_casts(v);
    if (v == core_.result()) return ok_status();
    if (!from_core(v)) return addend(v);
    const Node& n = *v->node;
    if (n.op == &ops::add) {
      for (const Value* o : n.operands) GC_CHECK(sum(o));
      return ok_status();
    }
    if (n.op == &ops::mul)
      for (const size_t i : {0, 1})
        if (through_casts(n.operands[i]) == core_.result() && !from_core(n.operands[1 - i])) {
          GC_TRY(OperandView s, channel_view(n.operands[1 - i], "a factor"));
          scale_ = std::move(s);
          return ok_status();
        }
    return unsupported(fmt::format("the convolution is followed by {}", n.op->name));
  }

  // In the axes of the convolution's result.
  Result<OperandView> aligned(const Value* v, std::string_view what) {
    GC_TRY(OperandView o, view(through_casts(v), what));
    if (o.dtype != type_)
      return unsupported(fmt::format("{} is {}, the convolution's operands are {}", what, dtype_name(o.dtype),
                                     dtype_name(type_)));
    while (o.shape.size() < y_.shape.size()) {
      o.shape.insert(o.shape.begin(), Dim(1));
      o.strides.insert(o.strides.begin(), Dim(0));
    }
    if (o.shape.size() != y_.shape.size()) return unsupported(fmt::format("{} has another rank", what));
    return o;
  }
  static bool one_a_channel(const OperandView& o) {
    for (size_t i = 0; i < o.shape.size(); ++i)
      if (i != 1 && !o.shape[i].is_constant(1) && !o.strides[i].is_constant(0)) return false;
    return true;
  }
  Result<OperandView> channel_view(const Value* v, std::string_view what) {
    GC_TRY(OperandView o, aligned(v, what));
    if (!one_a_channel(o) || o.shape[1] != y_.shape[1] ||
        !(o.strides[1].is_constant(1) || o.shape[1].is_constant(1)))
      return unsupported(fmt::format("{} isn't one value a channel", what));
    return o;
  }
  Status addend(const Value* v) {
    GC_TRY(OperandView o, aligned(v, "what is added"));
    bool full = true;
    for (size_t i = 0; i < o.shape.size(); ++i)
      full = full && o.shape[i] == y_.shape[i] && (!o.strides[i].is_constant(0) || o.shape[i].is_constant(1));
    if (full && !(one_a_channel(o) && !bias_)) {
      if (residual_) return unsupported("two tensors are added, one is possible");
      for (size_t i = 0; i < o.shape.size(); ++i)
        if (!o.shape[i].is_constant(1) && ranges_.simplify(o.strides[i]) != ranges_.simplify(y_.strides[i]))
          return unsupported("what is added lies in another layout than the result");
      residual_ = std::move(o);
      return ok_status();
    }
    if (bias_) return unsupported("two biases are added, one is possible");
    GC_TRY(bias_, channel_view(v, "what is added"));
    return ok_status();
  }

  // --- layouts ---

  Layout layout_of(const OperandView& v) const {
    const size_t rank = v.shape.size();
    std::vector<size_t> first, last = {1};
    for (size_t i = rank; i-- > 2;) {
      first.push_back(i);
      last.push_back(i);
    }
    first.push_back(1);
    first.push_back(0);
    last.push_back(0);
    const auto lies = [&](const std::vector<size_t>& order) {
      Dim at = 1;
      for (const size_t i : order) {
        if (!v.shape[i].is_constant(1) && ranges_.simplify(v.strides[i]) != at) return false;
        at = ranges_.simplify(at * v.shape[i]);
      }
      return true;
    };
    const bool is_first = lies(first), is_last = lies(last);
    return is_first && is_last ? Layout::kAny
           : is_first          ? Layout::kChannelsFirst
           : is_last           ? Layout::kChannelsLast
                               : Layout::kOther;
  }

  Status layouts() {
    for (const OperandView* v : {&a_, &b_, &y_}) {
      const Layout l = layout_of(*v);
      if (l == Layout::kOther)
        return unsupported("a tensor is neither dense [N, C, H, W] nor dense [N, H, W, C]");
      if (l == Layout::kAny) continue;
      if (layout_ != Layout::kAny && layout_ != l)
        return unsupported("images and weights in two layouts, [N, C, H, W] and [N, H, W, C]");
      layout_ = l;
    }
    if (layout_ == Layout::kAny) layout_ = Layout::kChannelsFirst;
    const bool more = bias_ || residual_ || scale_ || relu_;
    if (more && core_.op == &ops::convolution_weight_grad)
      return unsupported("nothing can follow a weight gradient");
    if (layout_ == Layout::kChannelsLast && type_ != DType::kF32) return ok_status();
    const char* where = type_ == DType::kF32 ? "in f32 without TF32" : "in [N, C, H, W]";
    if (more && !forward()) return unsupported(fmt::format("{} nothing can follow a gradient", where));
    if (scale_) return unsupported(fmt::format("{} no factor can follow the convolution", where));
    if (more && !bias_) return unsupported(fmt::format("{} residual and relu need a bias", where));
    return ok_status();
  }

  // --- the graph ---

  CudnnGraph::Size size(const Dim& d) {
    const Dim s = ranges_.simplify(d);
    if (const auto constant = s.as_constant()) return {*constant, false};
    for (size_t i = 0; i < out_.sizes.size(); ++i)
      if (out_.sizes[i] == s) return {static_cast<int64_t>(i), true};
    out_.sizes.push_back(s);
    return {static_cast<int64_t>(out_.sizes.size()) - 1, true};
  }
  int buffer(KernelArgKind kind, int index) {
    for (size_t i = 0; i < out_.args.size(); ++i)
      if (out_.args[i] == KernelArg{kind, index}) return static_cast<int>(i);
    out_.args.push_back({kind, index});
    return static_cast<int>(out_.args.size()) - 1;
  }
  // A convolution over one axis is one over two, of which the first is 1.
  bool flat() const { return y_.shape.size() == 3; }

  CudnnGraph::Tensor tensor(std::string name, Shape shape, int buffer) {
    CudnnGraph::Tensor t;
    t.name = std::move(name);
    t.buffer = buffer;
    t.dtype = type_;
    if (flat()) shape.insert(shape.begin() + 2, Dim(1));
    for (const Dim& d : shape) t.extents.push_back(size(d));
    if (layout_ == Layout::kChannelsLast) {
      Dim at = shape[1];
      std::vector<Dim> strides(shape.size(), Dim(1));
      for (size_t i = shape.size(); i-- > 2;) {
        strides[i] = at;
        at = at * shape[i];
      }
      strides[0] = at;
      for (const Dim& d : strides) t.strides.push_back(size(d));
    }
    return t;
  }
  int operand(std::string name, const Shape& shape, const OperandView& v) {
    graph_.tensors.push_back(tensor(std::move(name), shape, buffer(KernelArgKind::kOperand, v.arg)));
    return static_cast<int>(graph_.tensors.size()) - 1;
  }

  Status write() {
    const auto both = [&](std::vector<int64_t> v, int64_t of_one, size_t a_axis) {
      if (flat()) v.insert(v.begin(), a_axis, of_one);
      return v;
    };
    Shape per_channel(y_.shape.size(), Dim(1));
    per_channel[1] = y_.shape[1];
    const int a = operand(forward() || core_.op == &ops::convolution_weight_grad ? "x" : "dy", a_.shape, a_);
    const int b = operand(core_.op == &ops::convolution_weight_grad ? "dy" : "w", b_.shape, b_);
    struct Step {
      CudnnGraph::Op op;
      int operand;
    };
    std::vector<Step> steps;
    if (scale_) steps.push_back({CudnnGraph::kMul, operand("scale", per_channel, *scale_)});
    if (residual_) steps.push_back({CudnnGraph::kAdd, operand("residual", y_.shape, *residual_)});
    if (bias_) steps.push_back({CudnnGraph::kAdd, operand("bias", per_channel, *bias_)});
    if (relu_) steps.push_back({CudnnGraph::kRelu, -1});
    const int result = buffer(result_.kind, result_.index);
    const auto written = [&](size_t step) {
      const bool last = step == steps.size();
      CudnnGraph::Tensor t = tensor(last ? "y" : fmt::format("t{}", step), y_.shape, last ? result : -1);
      if (!last) t.dtype = DType::kF32;
      graph_.tensors.push_back(std::move(t));
      return static_cast<int>(graph_.tensors.size()) - 1;
    };
    CudnnGraph::Operation conv;
    conv.op = forward()                                  ? CudnnGraph::kConvolution
              : core_.op == &ops::convolution_input_grad ? CudnnGraph::kConvolutionInputGrad
                                                         : CudnnGraph::kConvolutionWeightGrad;
    conv.inputs = {a, b};
    conv.stride = both(core_.attr("stride").as_ints(), 1, 1);
    conv.dilation = both(core_.attr("dilation").as_ints(), 1, 1);
    conv.pad = both(core_.attr("pad").as_ints(), 0, 2);
    conv.output = written(0);
    graph_.operations.push_back(std::move(conv));
    for (size_t i = 0; i < steps.size(); ++i) {
      CudnnGraph::Operation op;
      op.op = steps[i].op;
      op.inputs = {graph_.operations.back().output};
      if (steps[i].operand >= 0) op.inputs.push_back(steps[i].operand);
      op.output = written(i + 1);
      graph_.operations.push_back(std::move(op));
    }
    return ok_status();
  }

  const Func& region_;
  const Node& core_;
  DimRanges ranges_;
  RegionCall out_;
  CudnnGraph graph_;
  DType type_ = DType::kF32;
  OperandView a_, b_, y_;
  std::optional<OperandView> scale_, residual_, bias_;
  bool relu_ = false;
  KernelArg result_{KernelArgKind::kResult, 0};
  Layout layout_ = Layout::kAny;
};

Result<const Node*> the_convolution(const Func& region) {
  const Node* core = nullptr;
  for (const auto& n : region.body.nodes) {
    if (n->op != &ops::convolution && n->op != &ops::convolution_input_grad &&
        n->op != &ops::convolution_weight_grad)
      continue;
    if (core) return unsupported("more than one convolution");
    core = n.get();
  }
  if (!core) return unsupported("no convolution");
  return core;
}

// Sums so long that the convolution's result is worth being written and read once more. Sizes that aren't
// known are taken to be large, as those of batches are.
bool is_long(const Node& core) {
  const Shape& y = core.operands[core.op == &ops::convolution_input_grad ? 0 : 1]->type.shape;  // or w
  Dim k = 1;
  if (core.op == &ops::convolution_weight_grad) {
    for (size_t i = 0; i < y.size(); ++i)
      if (i != 1) k = k * y[i];
  } else {
    const Shape& w = core.operands[1]->type.shape;
    k = core.op == &ops::convolution ? w[1] : floordiv(w[0], core.attr("groups").as_int());
    for (size_t i = 2; i < w.size(); ++i) k = k * w[i];
  }
  const int64_t enough = dtype_size(core.operands[0]->type.dtype) < 4 ? 32 : 256;
  return !k.is_constant() || k.constant() >= enough;
}

}  // namespace

Result<RegionCall> cudnn_call(const Func& region) {
  GC_TRY(const Node* core, the_convolution(region));
  return Planner(region, *core).plan();
}

Result<RegionCall> cudnn_convolution_call(const Func& region, const CudaTarget& target,
                                          LoweredRegion& lowered) {
  GC_TRY(const Node* core, the_convolution(region));
  if (!is_long(*core)) return unsupported("its sums are too short for a convolution apart from its epilogue");
  return call_and_kernels(region, *core, target, lowered,
                          [&](int workspace) { return Planner(region, *core).plan_core(workspace); });
}

}  // namespace graphc::cuda
