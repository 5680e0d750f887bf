// Contraction regions around a convolution.
//
//   ConvRegion r({.n = Dim::symbol("N"), .type = DType::kF16});
//   r.finish(r.b.relu(r.b.add(r.convolution(), r.per_channel())));
//   auto call = cudnn_call(r.func());
#pragma once

#include "ir/builder.h"
#include "ir/op.h"

namespace graphc {

struct ConvShape {
  Dim n = 2;
  int64_t c = 6, h = 9, w = 8, o = 5, k = 3;
  int64_t stride = 1, pad = 1, dilation = 1, groups = 1;
  DType type = DType::kF32;
  bool channels_last = false;  // every tensor in memory [N, H, W, C]
};

class ConvRegion {
 public:
  explicit ConvRegion(ConvShape s) : s_(s), func_(module_.add_func("contraction")), b(module_, func_->body) {
    s.n.for_each_symbol([&](const std::string& name) { func_->symbols.push_back({name, 0, std::nullopt}); });
  }
  ConvRegion(const ConvRegion&) = delete;
  const Func& func() const { return *func_; }
  const Module& module() const { return module_; }

  Shape x() const { return {s_.n, s_.c, s_.h, s_.w}; }
  Shape w() const { return {s_.o, s_.c / s_.groups, s_.k, s_.k}; }
  Shape y() const { return {s_.n, s_.o, out(s_.h), out(s_.w)}; }

  Value* convolution() { return b.create(ops::convolution, {arg(x()), arg(w())}, attrs()); }
  Value* input_grad() {
    Attrs a = attrs();
    a["shape"] = Attr::dims(x());
    return b.create(ops::convolution_input_grad, {arg(y()), arg(w())}, a);
  }
  Value* weight_grad() {
    Attrs a = attrs();
    a["shape"] = Attr::dims(w());
    return b.create(ops::convolution_weight_grad, {arg(x()), arg(y())}, a);
  }
  Value* per_channel() { return raw({1, s_.o, 1, 1}); }
  Value* relu(Value* v) { return b.create(ops::relu, {v}); }
  // An operand, seen as [N, C, H, W].
  Value* arg(const Shape& shape) {
    if (!s_.channels_last) return raw(shape);
    return b.transpose(raw({shape[0], shape[2], shape[3], shape[1]}), {0, 3, 1, 2});
  }
  Value* raw(Shape shape) {
    return func_->body.add_arg({s_.type, std::move(shape)}, "a" + std::to_string(func_->body.args.size()));
  }
  void finish(Value* v) {
    func_->body.results.push_back(s_.channels_last ? b.transpose(v, {0, 2, 3, 1}) : v);
    func_->result_names.push_back("r" + std::to_string(func_->body.results.size()));
  }

 private:
  int64_t out(int64_t in) const { return (in + 2 * s_.pad - s_.dilation * (s_.k - 1) - 1) / s_.stride + 1; }
  Attrs attrs() const {
    return {{"stride", Attr::ints({s_.stride, s_.stride})},
            {"pad", Attr::ints({s_.pad, s_.pad, s_.pad, s_.pad})},
            {"dilation", Attr::ints({s_.dilation, s_.dilation})},
            {"groups", Attr(s_.groups)}};
  }
  ConvShape s_;
  Module module_;
  Func* func_;

 public:
  Builder b;
};

}  // namespace graphc
