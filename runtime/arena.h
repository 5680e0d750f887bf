// Packs buffers with known lifetimes into one arena: no two that live at the same time share a byte.
//
//   std::vector<ArenaItem> items{{.bytes = 4096, .first = 0, .last = 2}, ...};
//   GC_TRY(ArenaPlan plan, plan_arena(items));      // plan.offsets[i], plan.bytes
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/result.h"

namespace graphc {

inline constexpr int64_t kArenaAlign = 64;

struct ArenaItem {
  int64_t bytes = 0;
  uint32_t first = 0, last = 0;  // steps, both included
  int64_t offset = -1;           // fixed by the compiler, a multiple of kArenaAlign; -1: solved here
};

struct ArenaPlan {
  std::vector<int64_t> offsets;
  int64_t bytes = 0;       // size of the arena
  int64_t live_bytes = 0;  // the largest sum of bytes alive at one step: no plan can be smaller
};

// `alignment` of offsets and of the arena's size. Best fit, in three orders (by size, by size x lifetime, by time), of which the smallest result is kept.
// Deterministic. Fixed offsets are kept; two fixed items that overlap in time and place are an error.
Result<ArenaPlan> plan_arena(std::span<const ArenaItem> items, int64_t alignment = kArenaAlign);

}  // namespace graphc
