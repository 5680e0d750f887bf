// Regions around a matrix product, for the tests of the libraries' calls.
#pragma once

#include <memory>
#include <string>

#include "ir/builder.h"

namespace graphc::cuda {

class MatmulRegion {
 public:
  MatmulRegion() : func_(module_.add_func("contraction")), b(module_, func_->body) {}
  MatmulRegion(const MatmulRegion&) = delete;
  const Func& func() const { return *func_; }
  const Module& module() const { return module_; }

  Value* arg(DType dtype, Shape shape) {
    for (const Dim& d : shape)
      d.for_each_symbol([&](const std::string& s) {
        for (const SymbolDef& known : func_->symbols)
          if (known.name == s) return;
        func_->symbols.push_back({s, 0, std::nullopt});
      });
    return func_->body.add_arg({dtype, std::move(shape)}, "a" + std::to_string(func_->body.args.size()));
  }
  Value* f32(Shape shape) { return arg(DType::kF32, std::move(shape)); }
  Value* gelu(Value* x, const char* approx = "tanh") {
    return b.create(ops::gelu, {x}, {{"approx", Attr(approx)}});
  }
  void result(Value* v) {
    func_->body.results.push_back(v);
    func_->result_names.push_back("r" + std::to_string(func_->body.results.size()));
  }

 private:
  Module module_;
  Func* func_;

 public:
  Builder b;
};

}  // namespace graphc::cuda
