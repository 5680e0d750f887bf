#include "runtime/arena.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace graphc {
namespace {

int64_t align_up(int64_t v, int64_t alignment) { return (v + alignment - 1) / alignment * alignment; }

// Sweeps over time with the live items ordered by place; a new one may touch neither neighbour.
Status check_fixed(std::span<const ArenaItem> items) {
  std::vector<uint32_t> by_first, by_last;
  for (uint32_t i = 0; i < items.size(); ++i)
    if (items[i].offset >= 0 && items[i].bytes > 0) by_first.push_back(i);
  by_last = by_first;
  std::sort(by_first.begin(), by_first.end(),
            [&](uint32_t a, uint32_t b) { return items[a].first < items[b].first; });
  std::sort(by_last.begin(), by_last.end(),
            [&](uint32_t a, uint32_t b) { return items[a].last < items[b].last; });
  std::map<int64_t, uint32_t> live;  // offset -> item
  size_t gone = 0;
  for (const uint32_t i : by_first) {
    for (; gone < by_last.size() && items[by_last[gone]].last < items[i].first; ++gone) {
      const auto it = live.find(items[by_last[gone]].offset);
      if (it != live.end() && it->second == by_last[gone]) live.erase(it);
    }
    const auto clash = [&](uint32_t j) {
      return invalid(fmt::format("buffers at the fixed offsets {} and {} overlap while both are alive",
                                 items[j].offset, items[i].offset));
    };
    const auto next = live.lower_bound(items[i].offset);
    if (next != live.end() && next->first < items[i].offset + items[i].bytes) return clash(next->second);
    if (next != live.begin()) {
      const auto& before = *std::prev(next);
      if (before.first + items[before.second].bytes > items[i].offset) return clash(before.second);
    }
    live.emplace(items[i].offset, i);
  }
  return {};
}

int64_t live_maximum(std::span<const ArenaItem> items) {
  std::map<int64_t, int64_t> change;
  for (const ArenaItem& a : items) {
    change[a.first] += a.bytes;
    change[int64_t{a.last} + 1] -= a.bytes;
  }
  int64_t live = 0, most = 0;
  for (const auto& [step, delta] : change) most = std::max(most, live += delta);
  return most;
}

ArenaPlan place(std::span<const ArenaItem> items, std::span<const uint32_t> order, int64_t alignment) {
  ArenaPlan plan;
  plan.offsets.assign(items.size(), 0);
  struct Placed {
    int64_t offset, end;
    uint32_t first, last;
  };
  std::vector<Placed> placed;  // by offset
  const auto insert = [&](uint32_t i, int64_t offset) {
    const Placed p{offset, align_up(offset + items[i].bytes, alignment), items[i].first, items[i].last};
    placed.insert(std::upper_bound(placed.begin(), placed.end(), p,
                                   [](const Placed& a, const Placed& b) { return a.offset < b.offset; }),
                  p);
    plan.offsets[i] = offset;
    plan.bytes = std::max(plan.bytes, p.end);
  };
  for (uint32_t i = 0; i < items.size(); ++i)
    if (items[i].offset >= 0) insert(i, items[i].offset);
  for (const uint32_t i : order) {
    if (items[i].offset >= 0 || items[i].bytes == 0) continue;
    const int64_t need = align_up(items[i].bytes, alignment);
    int64_t end = 0, best = -1, best_gap = 0;
    for (const Placed& p : placed) {
      if (p.last < items[i].first || p.first > items[i].last) continue;
      const int64_t gap = p.offset - end;
      if (gap >= need && (best < 0 || gap < best_gap)) best = end, best_gap = gap;
      end = std::max(end, p.end);
    }
    insert(i, best >= 0 ? best : end);
  }
  return plan;
}

}  // namespace

Result<ArenaPlan> plan_arena(std::span<const ArenaItem> items, int64_t alignment) {
  int64_t total = 0;
  for (const ArenaItem& a : items) {
    int64_t end = a.offset;
    if (a.bytes < 0 || a.bytes > (int64_t{1} << 61) ||
        __builtin_add_overflow(total, a.bytes + alignment, &total) || total > (int64_t{1} << 61) ||
        (a.offset >= 0 && (__builtin_add_overflow(end, a.bytes, &end) || end > (int64_t{1} << 61))))
      return invalid("the arena's size overflows");
  }
  GC_CHECK(check_fixed(items));
  const int64_t live = live_maximum(items);
  std::vector<uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0);
  ArenaPlan best;
  for (int heuristic = 0; heuristic < 3; ++heuristic) {
    const auto key = [&](uint32_t i) -> std::pair<double, double> {
      const ArenaItem& a = items[i];
      const auto bytes = static_cast<double>(a.bytes);
      if (heuristic == 0) return {-bytes, a.first};
      if (heuristic == 1) return {-bytes * (1.0 + a.last - a.first), a.first};
      return {a.first, -bytes};
    };
    std::sort(order.begin(), order.end(),
              [&](uint32_t a, uint32_t b) { return std::pair(key(a), a) < std::pair(key(b), b); });
    ArenaPlan plan = place(items, order, alignment);
    if (heuristic == 0 || plan.bytes < best.bytes) best = std::move(plan);
    if (best.bytes <= live + alignment) break;
  }
  best.live_bytes = live;
  return best;
}

}  // namespace graphc
