// Loads emitted kernels without a linker: takes the bytes of an ELF relocatable object, maps its code and
// constants, applies its relocations, then makes code read-and-execute and constants read-only. The bytes are
// not trusted: every offset, size, index and symbol is checked before it is used, and an object that refers
// to anything outside itself is refused. (Code that passes is still code: a checksum is no signature.)
//
//   GC_TRY(KernelImage image, KernelImage::load(bytes));
//   if (KernelFn f = image.find("softmax")) f(&call);
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "backends/cpu/exec/kernel_call.h"
#include "runtime/base/result.h"

namespace graphc {

class KernelImage {
 public:
  static Result<KernelImage> load(std::string_view object);
  KernelImage() = default;
  KernelImage(KernelImage&& other) noexcept { swap(other); }
  KernelImage& operator=(KernelImage&& other) noexcept {
    swap(other);
    return *this;
  }
  ~KernelImage();

  KernelFn find(std::string_view name) const;  // null if there is no such kernel
  std::vector<std::string> names() const;      // sorted
  size_t mapped_bytes() const { return size_; }

 private:
  void swap(KernelImage& other) noexcept;
  void* base_ = nullptr;
  size_t size_ = 0;
  std::unordered_map<std::string, KernelFn> kernels_;
};

}  // namespace graphc
