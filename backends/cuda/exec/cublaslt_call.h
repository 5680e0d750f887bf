// One matrix product as an executable's LibraryCall spells it for cuBLASLt, in row-major terms:
//
//   D[i, j] = epilogue(alpha * sum over k of A[i, k] * B[k, j]  +  beta * C[i, j]  +  bias[j])      for every
//   batch
//
//   matmul in=f32 out=f32 m=$0 n=128 k=784 batch=1 a=%0 a_ld=784 b=%1 b_trans=1 b_ld=784 d=%3 d_ld=128
//   bias=%2 epilogue=relu
//
// `$i` is a size of the call, `%i` an argument; everything else is a number, a type or a word. A matrix X has
// x (the argument), x_ld (elements between its rows as they lie), x_trans=1 (what lies there is the
// transpose), x_stride (between the batch's matrices; 0: the same one), x_offset (of its first element).
// alpha=1 beta=0 unless given; c and beta come together. aux is a matrix as large as D: what goes into gelu
// is stored there, dgelu reads it from there.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "runtime/base/dtype.h"
#include "runtime/base/result.h"

namespace graphc {

// A number, or the call's size number `size`.
struct CallSize {
  int64_t number = 0;
  int size = -1;
  int64_t value(std::span<const int64_t> sizes) const {
    return size < 0 ? number : sizes[static_cast<size_t>(size)];
  }
  friend bool operator==(const CallSize&, const CallSize&) = default;
};

struct CublasLtCall {
  enum class Epilogue : uint8_t { kNone, kRelu, kGelu, kDgelu };
  struct Matrix {
    int arg = -1;  // none
    bool trans = false;
    CallSize ld, stride, offset;
    friend bool operator==(const Matrix&, const Matrix&) = default;
  };
  DType in = DType::kF32, out = DType::kF32;  // of A and B; of C, D, bias and aux
  CallSize m, n, k, batch{1};
  Matrix a, b, c, d, aux;
  int bias = -1;
  double alpha = 1, beta = 0;
  Epilogue epilogue = Epilogue::kNone;

  std::string to_string() const;
  // Reads to_string back. Arguments and sizes must be below the counts given; types ones that cuBLASLt
  // combines.
  static Result<CublasLtCall> parse(std::string_view text, size_t num_args, size_t num_sizes);
  // "gelu_aux_bias", as cuBLASLt names it without its prefix; "default"
  std::string epilogue_name() const;
  friend bool operator==(const CublasLtCall&, const CublasLtCall&) = default;
};

// What cuBLASLt accumulates this in: f32, for f64 f64. nullopt: it doesn't multiply `in` into `out`.
std::optional<DType> cublaslt_compute_type(DType in, DType out);

}  // namespace graphc
