#include "runtime/base/hash.h"

#include <bit>
#include <cstring>

namespace graphc {
namespace {

static_assert(std::endian::native == std::endian::little, "hash64 reads words in little-endian order");

// The folded 64x64 -> 128 bit product mixes all bits of both operands (as in wyhash).
uint64_t fold(uint64_t a, uint64_t b) {
  const unsigned __int128 p = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(p) ^ static_cast<uint64_t>(p >> 64);
}
constexpr uint64_t kA = 0x9E3779B97F4A7C15, kB = 0xD1B54A32D192ED03, kC = 0x8CB92BA72F3D8DD7;

}  // namespace

uint64_t hash64(const void* data, size_t size, uint64_t seed) {
  const char* p = static_cast<const char*>(data);
  uint64_t h = fold(seed ^ kA, size ^ kB);
  size_t left = size;
  for (; left >= 16; left -= 16, p += 16) {
    uint64_t a, b;
    std::memcpy(&a, p, 8);
    std::memcpy(&b, p + 8, 8);
    h = fold(a ^ h ^ kB, b ^ kC) ^ std::rotl(h, 23);
  }
  uint64_t tail[2] = {0, 0};
  if (left) std::memcpy(tail, p, left);
  h = fold(tail[0] ^ h ^ kB, tail[1] ^ kC) ^ std::rotl(h, 23);
  return fold(h ^ kA, kC);
}

uint64_t hash_combine(uint64_t h, uint64_t v) { return fold(std::rotl(h, 29) ^ kA, v ^ kB) ^ kC; }

}  // namespace graphc
