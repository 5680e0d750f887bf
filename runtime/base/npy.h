// NumPy's .npy format, versions 1 to 3 (numpy/lib/format.py).
//
//   GC_TRY(TensorData x, read_npy("x.npy"));
//   GC_CHECK(write_npy("y.npy", y));
//
// Fortran order and big-endian files are converted while reading. NumPy has no bfloat16: bf16 is written as
// f32, which is exact; what ml_dtypes writes for it ('<V2') is read as bf16.
#pragma once

#include <string>

#include "runtime/base/file.h"
#include "runtime/base/limits.h"
#include "runtime/base/result.h"
#include "runtime/base/tensor_data.h"

namespace graphc {

Result<TensorData> read_npy(const std::string& path, const LoadLimits& limits = {});
// `name` appears in error messages.
Result<TensorData> parse_npy(Bytes bytes, const std::string& name, const LoadLimits& limits = {});

std::string format_npy(DType dtype, std::span<const int64_t> shape, Bytes data);
Status write_npy(const std::string& path, const TensorData& t);

}  // namespace graphc
