// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a
// counter-based generator. Any element of a random tensor is a pure function of its key, stream and index, so
// results depend neither on threads nor on the order of evaluation.
//
// Convention of all random tensors in graphc (kernels, the reference, everywhere): with key (k0, k1) and
// stream (s0, s1), all u32, element i is word 0 of
//     philox4x32_10(counter = {low(i), high(i), s0, s1}, key = {k0, k1})
// and as a uniform f32 in [0, 1) it is (bits >> 8) * 2^-24.
#pragma once

#include <array>
#include <cstdint>

namespace graphc {

using PhiloxBlock = std::array<uint32_t, 4>;

constexpr PhiloxBlock philox4x32_10(PhiloxBlock c, std::array<uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(p0)};
    k[0] += 0x9E3779B9;
    k[1] += 0xBB67AE85;
  }
  return c;
}

struct PhiloxKey {
  uint32_t k0 = 0, k1 = 0;  // seed: low and high half
  uint32_t s0 = 0, s1 = 0;  // stream
};

constexpr uint32_t philox_bits(const PhiloxKey& key, uint64_t i) {
  return philox4x32_10({static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), key.s0, key.s1},
                       {key.k0, key.k1})[0];
}

// [0, 1), a multiple of 2^-24
constexpr float philox_uniform(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }

}  // namespace graphc
