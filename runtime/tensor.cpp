#include "runtime/tensor.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdlib>

namespace graphc {

std::string type_string(DType dtype, std::span<const int64_t> shape) {
  std::string s(dtype_name(dtype));
  if (shape.empty()) return s;
  s += '[';
  for (size_t i = 0; i < shape.size(); ++i) s += fmt::format("{}{}", i ? ", " : "", shape[i]);
  return s + ']';
}

HostMemory HostMemory::allocate(size_t bytes) {
  HostMemory m;
  const size_t huge = size_t{2} << 20;
  const bool large = bytes >= 2 * huge;
  void* p = nullptr;
  if (::posix_memalign(&p, large ? huge : 64, bytes ? bytes : 1) != 0) return m;
#ifdef MADV_HUGEPAGE
  if (large) ::madvise(p, bytes, MADV_HUGEPAGE);  // advice: failing changes nothing but speed
#endif
  m.p_ = static_cast<std::byte*>(p);
  return m;
}

HostMemory::~HostMemory() { std::free(p_); }

}  // namespace graphc
