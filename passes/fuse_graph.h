// What the fuse pass knows of a block: its nodes by number, what class each op is of, what an element of it
// costs, who uses what. Shared by the grouping (fuse.cpp) and the making of regions (fuse_regions.cpp).
#pragma once

#include <string_view>
#include <unordered_map>
#include <vector>

#include "ir/op.h"
#include "passes/topo_order.h"

namespace graphc {

enum class NodeClass {
  kFree,      // constants and the like: cloned into every consumer (full, iota, size_of, rng_key)
  kElement,   // a scalar tree
  kIndexMap,  // data movement and random bits: a function of the index
  kView,      // reshape: no memory moves
  kReduce,
  kContract,
  kWindow,
  kScatter,
  kAttention,  // attention, attention_grad: several results
  kAssign,
  kUnknown,
};

NodeClass classify(const OpDef* op);

// Cost of one element of a node's result, in additions; reductions and the like: of the work around them.
double element_cost(const Node& n);

// Elements at nominal sizes: symbols stand for 32, or what their range allows.
class NominalSizes {
 public:
  explicit NominalSizes(const Func& f);
  double elements(const Shape& s) const;
  double bytes(const TensorType& t) const {
    return elements(t.shape) * static_cast<double>(dtype_size(t.dtype));
  }

 private:
  std::map<std::string, int64_t, std::less<>> sizes_;
};

enum class RegionKind { kMap, kRows, kColumns, kContraction, kWindow, kScatter, kAttention };
std::string_view region_kind_name(RegionKind k);

// How a value inside a rows or columns group relates to the group's space.
enum class Form : uint8_t { kFull, kRowKeep, kRowDrop };

struct Group {
  RegionKind kind = RegionKind::kMap;
  Shape space;                // map: results; rows, columns: what is reduced; others: the core's result
  std::vector<int64_t> axes;  // rows, columns: the reduced ones
  std::vector<int> nodes;
  int core = -1;               // contraction, window, scatter, attention
  bool has_index_map = false;  // a kIndexMap node of its own
  int num_outer = 0;           // tensors from outside that its nodes name, an upper bound
};

struct FuseGraph {
  explicit FuseGraph(Func& f);

  Func& func;
  NominalSizes sizes;
  std::vector<Node*> nodes;
  std::unordered_map<const Node*, int> index;
  std::vector<NodeClass> cls;
  std::vector<double> cost;
  std::vector<double> elements;             // of the (first) result
  std::vector<std::vector<int>> producers;  // by operand; -1: an argument or a variable
  std::vector<std::vector<int>> users;
  std::vector<bool> pinned;     // named by the function's results or an assign
  std::vector<bool> hard;       // pinned, or named by a view: has to be in memory
  std::vector<bool> floating;   // free, or made of free values only: cloned wherever it is used
  std::vector<bool> sink_only;  // elementwise, and only used by reductions (through more of the kind)

  std::vector<Group> groups;
  std::vector<int> group_of;  // -1: none (floating, views, assigns)
  std::vector<Form> form;
  TopoOrder order{400};

  // The node whose memory v's value is, looking through views; -1 for arguments and variables.
  int root(int node) const;
  const TensorType& type(int node) const { return nodes[node]->result()->type; }
};

// Decides what is stored and what is computed again, and rebuilds the block from the groups.
Status build_regions(Module& m, FuseGraph& g, bool may_clone);

}  // namespace graphc
