#include "passes/topo_order.h"

#include <algorithm>

namespace graphc {

int TopoOrder::add() {
  position_.push_back(next_position_++);
  next_.emplace_back();
  previous_.emplace_back();
  mark_.push_back(0);
  return size() - 1;
}

bool TopoOrder::collect(int e, int limit, bool forward, std::vector<int>& out) {
  ++stamp_;
  out.assign(1, e);
  mark_[e] = stamp_;
  for (size_t i = 0; i < out.size(); ++i) {
    if (static_cast<int>(i) > budget_) return false;
    for (int n : forward ? next_[out[i]] : previous_[out[i]]) {
      if (mark_[n] == stamp_ || (forward ? position_[n] > limit : position_[n] < limit)) continue;
      mark_[n] = stamp_;
      out.push_back(n);
    }
  }
  return true;
}

// Moves what `to` reaches behind what reaches `from`, within the positions of these elements.
bool TopoOrder::reorder(int from, int to) {
  std::vector<int> after, before;
  if (!collect(to, position_[from], true, after)) return false;
  if (mark_[from] == stamp_) return false;  // a cycle
  if (!collect(from, position_[to], false, before)) return false;
  auto by_position = [this](int a, int b) { return position_[a] < position_[b]; };
  std::sort(after.begin(), after.end(), by_position);
  std::sort(before.begin(), before.end(), by_position);
  std::vector<int> places;
  for (int e : before) places.push_back(position_[e]);
  for (int e : after) places.push_back(position_[e]);
  std::sort(places.begin(), places.end());
  size_t at = 0;
  for (int e : before) position_[e] = places[at++];
  for (int e : after) position_[e] = places[at++];
  return true;
}

bool TopoOrder::add_edge(int from, int to) {
  if (from == to) return false;
  if (std::find(next_[from].begin(), next_[from].end(), to) != next_[from].end()) return true;
  if (position_[from] > position_[to] && !reorder(from, to)) return false;
  next_[from].push_back(to);
  previous_[to].push_back(from);
  return true;
}

bool TopoOrder::add_edges(const std::vector<int>& froms, int to) {
  int limit = -1;
  for (int f : froms) {
    if (f == to) return false;
    limit = std::max(limit, position_[f]);
  }
  if (limit > position_[to]) {
    // None of the sources may be reachable from `to`; then no edge makes another one impossible, since all
    // end in `to`.
    std::vector<int> after;
    if (!collect(to, limit, true, after)) return false;
    for (int f : froms)
      if (mark_[f] == stamp_) return false;
  }
  for (int f : froms)
    if (!add_edge(f, to)) return false;  // only if the budget ran out; edges that were added stay, harmless
  return true;
}

bool TopoOrder::merge(int from, int into) {
  if (from == into || !alive(from) || !alive(into)) return false;
  const int first = position_[from] < position_[into] ? from : into;
  const int last = first == from ? into : from;
  const bool sources = is_source(from) && is_source(into);  // no path can lead between those
  // A path first -> x -> .. -> last? Look from every x.
  std::vector<int> reached;
  std::vector<int> between;
  for (int x : next_[first]) {
    if (sources || x == last || position_[x] > position_[last]) continue;
    between.push_back(x);
    if (!collect(x, position_[last], true, reached)) return false;
    if (mark_[last] == stamp_) return false;
  }
  // Put everything that comes after `first` behind `last` as well.
  for (int x : between)
    if (position_[x] < position_[last] && !reorder(last, x)) return false;
  const int place = position_[sources ? first : last];
  for (int x : next_[from]) {
    std::erase(previous_[x], from);
    if (x == into) continue;
    if (std::find(next_[into].begin(), next_[into].end(), x) != next_[into].end()) continue;
    next_[into].push_back(x);
    previous_[x].push_back(into);
  }
  for (int x : previous_[from]) {
    std::erase(next_[x], from);
    if (x == into) continue;
    if (std::find(previous_[into].begin(), previous_[into].end(), x) != previous_[into].end()) continue;
    previous_[into].push_back(x);
    next_[x].push_back(into);
  }
  next_[from].clear();
  previous_[from].clear();
  position_[from] = -1;
  position_[into] = place;
  return true;
}

std::vector<int> TopoOrder::in_order() const {
  std::vector<int> out;
  for (int e = 0; e < size(); ++e)
    if (alive(e)) out.push_back(e);
  std::sort(out.begin(), out.end(), [this](int a, int b) { return position_[a] < position_[b]; });
  return out;
}

}  // namespace graphc
