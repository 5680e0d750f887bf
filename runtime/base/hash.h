// A fast 64-bit hash for tables, keys and streams (not against an adversary: sha256.h). The value is part of
// formats (a parameter's random stream is the hash of its path), so it never changes: equal on every machine.
//
//   uint64_t h = hash64("conv1.weight");
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace graphc {

uint64_t hash64(const void* data, size_t size, uint64_t seed = 0);
inline uint64_t hash64(std::string_view s, uint64_t seed = 0) { return hash64(s.data(), s.size(), seed); }

// Mixes v into h; the order matters.
uint64_t hash_combine(uint64_t h, uint64_t v);

}  // namespace graphc
