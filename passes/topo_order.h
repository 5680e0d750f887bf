// TopoOrder: a set of elements with edges and a topological order that is kept while edges are added and
// elements are merged. The incremental algorithm of Pearce and Kelly ("A dynamic topological sort algorithm
// for directed acyclic graphs", JEA 2007): only elements whose positions lie between the two ends of a new
// edge are looked at.
#pragma once

#include <vector>

namespace graphc {

class TopoOrder {
 public:
  // Searches give up after so many elements, and then answer that a merge or an edge isn't possible.
  explicit TopoOrder(int budget) : budget_(budget) {}

  int add();  // a new element, last in the order
  int size() const { return static_cast<int>(position_.size()); }
  int position(int e) const { return position_[e]; }
  bool alive(int e) const { return position_[e] >= 0; }

  // The edge from -> to. False, and nothing changed, if it would close a cycle.
  bool add_edge(int from, int to);
  // Edges froms[i] -> to: all of them or none.
  bool add_edges(const std::vector<int>& froms, int to);
  // Makes `from` part of `into`. False, and nothing changed, if some path between the two leads through a
  // third element, or if the search was too long.
  bool merge(int from, int into);

  bool is_source(int e) const { return previous_[e].empty(); }
  std::vector<int> in_order() const;  // the living elements

 private:
  // Elements reachable from e with a position <= limit (forward) or that reach e with a position >= limit;
  // false if there are too many.
  bool collect(int e, int limit, bool forward, std::vector<int>& out);
  bool reorder(int from, int to);

  int budget_;
  int next_position_ = 0;
  std::vector<int> position_;  // -1: merged away
  std::vector<std::vector<int>> next_, previous_;
  std::vector<int> mark_;
  int stamp_ = 0;
};

}  // namespace graphc
