// What an expression of the surface language is worth while a program is elaborated: a compile-time value, a
// tensor of the graph being built, or a block that waits for its inputs. Internal to the frontend.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "frontend/unit.h"
#include "ir/graph.h"

namespace graphc {

struct Config;
struct LayerInst;

struct Val {
  // kError: a message has been given, everything that touches the value keeps silent. kNone: a setting that
  // wasn't given. kList: also the several results of an op or block (multi). kType: a type with sizes, zeros'
  // argument.
  enum Kind : uint8_t {
    kError,
    kNone,
    kInt,
    kFloat,
    kBool,
    kStr,
    kDType,
    kType,
    kList,
    kTensor,
    kConfig,
    kLayer
  };
  Kind kind = kError;
  uint8_t nesting = 0;  // of lists; bounded, so that destroying a list needs a bounded stack
  bool multi = false;
  bool flag = false;
  DType dtype = DType::kF32;
  Dim i;
  double f = 0;
  Value* tensor = nullptr;
  std::string text;  // kStr; kLayer: the path asked for behind the layer ("c_attn")
  std::shared_ptr<const TensorType> type;
  std::shared_ptr<std::vector<Val>> list;
  std::shared_ptr<Config> config;
  std::shared_ptr<LayerInst> layer;

  static Val error() { return {}; }
  static Val of(Kind k) {
    Val v;
    v.kind = k;
    return v;
  }
  static Val integer(Dim d) {
    Val v = of(kInt);
    v.i = std::move(d);
    return v;
  }
  static Val number(double d) {
    Val v = of(kFloat);
    v.f = d;
    return v;
  }
  static Val boolean(bool b) {
    Val v = of(kBool);
    v.flag = b;
    return v;
  }
  static Val string(std::string s) {
    Val v = of(kStr);
    v.text = std::move(s);
    return v;
  }
  static Val dtype_of(DType t) {
    Val v = of(kDType);
    v.dtype = t;
    return v;
  }
  static Val of_tensor(Value* t) {
    Val v = of(kTensor);
    v.tensor = t;
    return v;
  }
  static Val of_list(std::vector<Val> l) {
    Val v = of(kList);
    for (const Val& x : l) v.nesting = std::max<uint8_t>(v.nesting, x.nesting);
    if (v.nesting < 255) ++v.nesting;
    v.list = std::make_shared<std::vector<Val>>(std::move(l));
    return v;
  }
  static constexpr uint8_t kMaxNesting = 64;

  bool is_error() const { return kind == kError; }
  bool is_tensor() const { return kind == kTensor; }
  bool is_number() const { return kind == kInt || kind == kFloat; }
  // of a number; a symbolic integer has none
  std::optional<double> as_double() const {
    if (kind == kFloat) return f;
    if (kind == kInt && i.is_constant()) return static_cast<double>(i.constant());
    return std::nullopt;
  }
  // "an integer", "a tensor f32[N, 4]", "the block Linear": for messages
  std::string describe() const;
  // "3", "[1, 2]", "f32[N, 4]"
  std::string show() const;
};

// The path of a block's parameters. Not known: the block (or one around it) has neither label nor target.
struct InstPath {
  std::string text;
  bool known = true;
  Pos unlabelled;
  std::string_view block;
};

// A block with its settings, waiting for inputs.
struct Config {
  BlockRef block;
  std::vector<Val> settings;  // in the order of the definition
  Pos pos;
};

using PathSet = std::unordered_map<std::string, Pos>;

// layer name = B(..): its parameters are made once and shared by all applications.
struct LayerInst {
  Config config;
  InstPath path;
  Pos pos;
  LocId loc = -1;
  PathSet declared;
  bool applied = false;
};

}  // namespace graphc
