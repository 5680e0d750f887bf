// What a library call to cuDNN says (KernelBlob::LibraryCall::call): an operation graph as text, one line an
// operation. Written by the compiler half, read where the call is loaded.
//
//   cudnn f32
//   x = arg %0 f32 [$0, 64, 56, 56]
//   w = arg %1 f32 [64, 64, 3, 3]
//   b = arg %2 f32 [1, 64, 1, 1]
//   t0 = convolution(x, w) f32 [$0, 64, 56, 56] stride [1, 1] dilation [1, 1] pad [1, 1, 1, 1]
//   t1 = add(t0, b) f32 [$0, 64, 56, 56]
//   y = relu(t1) out %3 f32 [$0, 64, 56, 56]
//
// The first line holds the type of the arithmetic; "f32 tf32" allows products of f32 to be rounded to TF32
// first. $0 stands for the call's size 0, %0 for its buffer 0. A tensor lies in memory row-major unless
// "strides [..]" follows its extents; `out %3` names the buffer an operation writes, without it the tensor is
// never in memory. Images are [N, C, height, width] in the order of extents, whatever the strides say.
// pad: before and after, axis by axis.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/dtype.h"
#include "runtime/base/result.h"

namespace graphc {

struct CudnnGraph {
  struct Size {
    int64_t value = 0;  // or the index of a size
    bool symbol = false;
    friend bool operator==(const Size&, const Size&) = default;
  };
  struct Tensor {
    std::string name;
    int buffer = -1;  // -1: virtual
    DType dtype = DType::kF32;
    std::vector<Size> extents, strides;  // no strides: row-major
  };
  enum Op : uint8_t {
    kConvolution,            // x, w
    kConvolutionInputGrad,   // dy, w
    kConvolutionWeightGrad,  // x, dy
    kAdd,
    kSub,
    kMul,
    kRelu,
    kTanh,
    kSigmoid,
    kIdentity,  // a conversion
  };
  struct Operation {
    Op op = kIdentity;
    std::vector<int> inputs;  // of tensors, all before
    int output = 0;
    std::vector<int64_t> stride, dilation, pad;  // of a convolution
  };

  DType compute = DType::kF32;
  bool tf32 = false;
  std::vector<Tensor> tensors;
  std::vector<Operation> operations;

  static bool is_convolution(Op op) { return op <= kConvolutionWeightGrad; }
  static std::string_view op_name(Op op);

  std::string to_text() const;
  // Checks what it reads: names known, one list of extents and strides as long as the other, a convolution's
  // attributes for each of its axes, sizes below num_sizes, buffers below num_buffers.
  static Result<CudnnGraph> parse(std::string_view text, size_t num_sizes, size_t num_buffers);
  // The graph with its sizes put in and every stride given; an error for sizes below 1 and beyond 2^62
  // elements.
  Result<CudnnGraph> bind(std::span<const int64_t> sizes) const;
};

}  // namespace graphc
