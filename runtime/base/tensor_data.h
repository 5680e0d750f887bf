// A dense tensor in host memory that owns its bytes: what npy files, data sets and the programs pass around.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "runtime/base/dtype.h"

namespace graphc {

struct TensorData {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<std::byte> data;  // row-major; size = dtype_size x product of shape

  uint64_t numel() const { return data.size() / dtype_size(dtype); }
};

}  // namespace graphc
