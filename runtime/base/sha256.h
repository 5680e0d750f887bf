// SHA-256 (FIPS 180-4), with the CPU's SHA instructions where it has them.
//
//   Sha256 h;  h.update(a, n);  Sha256::Digest d = h.finish();  std::string s = to_hex(d);
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace graphc {

class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;

  // portable: never use the CPU's SHA instructions (for tests)
  explicit Sha256(bool portable = false);
  void update(const void* data, size_t size);
  void update(std::string_view s) { update(s.data(), s.size()); }
  // Ends the message; the object can't be used afterwards.
  Digest finish();

 private:
  uint32_t state_[8];
  uint8_t block_[64];
  size_t used_ = 0;
  uint64_t total_ = 0;
  void (*compress_)(uint32_t state[8], const uint8_t* blocks, size_t n);
};

Sha256::Digest sha256(const void* data, size_t size);
std::string to_hex(const Sha256::Digest& d);  // 64 lower-case digits

}  // namespace graphc
