// The IR: a Module holds variables (parameters, state, constants) and functions; a function is one block of
// nodes in SSA form, in topological order; a node applies an op (ir/op.h) to values. Everything prints as
// core text (ir/print.h) and parses back.
//
//   Module m;
//   Func* f = m.add_func("Net");
//   Value* x = f->body.add_arg({DType::kF32, {Dim::symbol("N"), 10}}, "x");
//   Builder b(m, f->body);
//   f->body.results = {b.relu(x)};
//   f->result_names = {"y"};
//
// Owning is by the block; Value* and Node* are stable until the block drops the node. Passes usually build a
// new block and swap.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "ir/type.h"

namespace graphc {

struct OpDef;
struct Node;
struct Variable;
struct Block;

// Index into Module::locs, -1 for none.
using LocId = int;
struct Loc {
  std::string file;
  int line = 0, column = 0;
  LocId parent = -1;  // the call site of the block this comes from
  friend bool operator==(const Loc&, const Loc&) = default;
};

// One SSA value: an argument of a block, a result of a node, or the value of a variable at the start of the
// step.
struct Value {
  TensorType type;
  std::string name;              // of an argument, kept in text; otherwise empty
  Node* node = nullptr;          // the defining node
  Variable* variable = nullptr;  // or the variable
  Block* block = nullptr;        // or the block it is an argument of
  int index = 0;                 // which result or argument
};

struct Node {
  const OpDef* op = nullptr;
  std::vector<Value*> operands;
  Attrs attrs;
  std::vector<std::unique_ptr<Value>> results;
  std::unique_ptr<Block> region;  // of fusion, scan
  LocId loc = -1;
  Value* result(int i = 0) const { return results[i].get(); }
  const Attr& attr(std::string_view name) const;  // aborts if absent: records say what a node has
};

struct Block {
  std::vector<std::unique_ptr<Value>> args;
  std::vector<std::unique_ptr<Node>> nodes;  // topological order
  std::vector<Value*> results;

  Value* add_arg(TensorType type, std::string name = "");
};

enum class VariableKind { kParam, kState, kConst };

// A parameter (trained), a state (updated by training, no gradient) or a constant. Its initial value is an
// initialiser, or data.
struct Variable {
  std::string name;  // the path, "h.3.attn.c_attn.weight"
  VariableKind kind = VariableKind::kParam;
  std::string init;  // "kaiming_uniform"; empty if there is data
  Attrs init_attrs;
  std::shared_ptr<const std::vector<std::byte>> data;  // little-endian elements, row-major
  LocId loc = -1;
  Value value;  // its value at the start of the step; value.type is the variable's type
};

struct SymbolDef {
  std::string name;
  int64_t min = 0;  // [N in 1..64]: both inclusive
  std::optional<int64_t> max;
};

struct Func {
  std::string name;
  std::vector<SymbolDef> symbols;
  Block body;
  std::vector<std::string> result_names;
  LocId loc = -1;
  DimRanges ranges() const;  // of the symbols
};

class Module {
 public:
  std::vector<std::unique_ptr<Variable>> variables;  // in order of declaration
  std::vector<std::unique_ptr<Func>> funcs;
  std::vector<Loc> locs;

  Func* add_func(std::string name);
  Func* find_func(std::string_view name) const;
  Variable* find_variable(std::string_view name) const;
  // nullptr if the name is taken
  Variable* add_variable(std::string name, VariableKind kind, TensorType type, std::string init,
                         Attrs init_attrs = {}, LocId loc = -1);
  LocId add_loc(Loc loc);
  std::string loc_to_string(LocId loc) const;  // "cnn.graph:3:22, in std/nn.graph:10:7"; "" for -1

 private:
  std::unordered_map<std::string, Variable*> by_name_;
};

// How often each value is used by nodes of the block (and its results; nested regions don't capture).
std::unordered_map<const Value*, int> count_uses(const Block& block);

// A deep copy; variables and locations included.
std::unique_ptr<Module> clone(const Module& module);

// A copy of f's nodes into `to` with operands renamed by `map` (which must hold f's arguments; variables map
// to themselves unless listed). Adds every result to the map. Returns the images of from.results.
std::vector<Value*> clone_block_into(const Block& from, Block& to,
                                     std::unordered_map<const Value*, Value*>& map);

// Replaces symbols by sizes in every type and attribute of f, e.g. {{"N", 64}}, and drops them from
// f.symbols.
Status bind_symbols(Func& f, const std::map<std::string, int64_t, std::less<>>& sizes);

}  // namespace graphc
