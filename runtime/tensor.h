// A tensor in host memory that somebody else owns, dense and row-major.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "runtime/base/dtype.h"
#include "runtime/base/tensor_data.h"

namespace graphc {

struct TensorRef {
  DType dtype = DType::kF32;
  std::span<const int64_t> shape;
  const void* data = nullptr;

  TensorRef() = default;
  TensorRef(DType t, std::span<const int64_t> s, const void* p) : dtype(t), shape(s), data(p) {}
  TensorRef(const TensorData& t) : dtype(t.dtype), shape(t.shape), data(t.data.data()) {}
  int64_t numel() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
  }
  size_t bytes() const { return static_cast<size_t>(numel()) * dtype_size(dtype); }
};

std::string type_string(DType dtype, std::span<const int64_t> shape);  // "f32[2, 3]"; rank 0: "f32"

// Memory aligned to 64 bytes (2 MiB with huge pages where it is large); null if there is none.
class HostMemory {
 public:
  HostMemory() = default;
  static HostMemory allocate(size_t bytes);
  HostMemory(HostMemory&& o) noexcept : p_(o.p_) { o.p_ = nullptr; }
  HostMemory& operator=(HostMemory&& o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  ~HostMemory();
  std::byte* data() const { return p_; }

 private:
  std::byte* p_ = nullptr;
};

}  // namespace graphc
