// The syntax tree of one .graph file, as written: nothing is looked up or evaluated. Nodes live in the Ast's
// deques and point at each other freely, so destroying a tree needs no recursion. A tree's depth is bounded
// by the parser (kMaxDepth).
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "frontend/source.h"
#include "runtime/base/dtype.h"

// Its own namespace: the IR has an Expr too (ir/scalar.h).
namespace graphc::syntax {

struct Expr;
struct Stmt;

// One size of a type: an expression, `_` (to be inferred), or `...B` (any number of sizes).
struct DimExpr {
  enum Kind { kExpr, kInfer, kSpread } kind = kExpr;
  Pos pos;
  Expr* expr = nullptr;
  std::string name;  // of a spread
};

// f32[N, 4], or f32 alone (has_dims false: a dtype where one is meant, a scalar where a tensor is meant)
struct TypeExpr {
  Pos pos;
  DType dtype = DType::kF32;
  bool has_dims = false;
  std::vector<DimExpr> dims;
};

enum class ExprKind : uint8_t {
  kInt,
  kFloat,
  kStr,
  kBool,
  kName,
  kType,
  kList,  // [a, b] and (a, b)
  kUnary,
  kBinary,
  kCond,   // args: value, condition, otherwise
  kCall,   // callee, call_args
  kIndex,  // args: base, then the indices
  kAttr,   // args: base; text
  kPipe,   // args: left, right; text: the label or ""
};

enum class Op : uint8_t {
  kNone,
  kAdd,
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kMod,
  kMatMul,
  kPow,
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kAnd,
  kOr,
  kNot,
  kNeg,
  kPos
};
std::string_view op_spelling(Op op);

struct Arg {
  Pos pos;
  std::string name;  // "" if by position
  Expr* value = nullptr;
};

struct Expr {
  ExprKind kind = ExprKind::kInt;
  Op op = Op::kNone;
  bool paren = false;  // written in parentheses
  uint16_t depth = 1;
  Pos pos;  // of a binary, its operator; of a call or index, its base; of a pipe, its right side's label or
            // start
  int64_t i = 0;
  double f = 0;
  std::string text;  // name, string bytes, attribute, label
  std::vector<Expr*> args;
  std::vector<Arg> call_args;
  const TypeExpr* type = nullptr;
};

// A symbolic size in brackets: N, N in 1..64, or ...B
struct DimBind {
  Pos pos;
  std::string name;
  bool variadic = false;
  Expr* lo = nullptr;
  Expr* hi = nullptr;
};

struct Setting {
  enum Type { kInt, kInts, kFloat, kFloats, kBool, kStr, kDType } type = kInt;
  Pos pos;
  std::string name;
  Expr* value = nullptr;  // the default, or null: must be given
};
std::string_view setting_type_name(Setting::Type t);

struct Field {
  Pos pos;
  std::string name;  // "" for an unnamed result
  const TypeExpr* type = nullptr;
};

enum class StmtKind : uint8_t { kParam, kState, kLayer, kFor, kIf, kAssert, kReturn, kYield, kAssign, kScan };

struct Target {
  Pos pos;
  std::string name;
  Expr* index = nullptr;
  const TypeExpr* type = nullptr;
};

struct Branch {
  Pos pos;
  Expr* cond = nullptr;  // null: else
  std::vector<Stmt*> body;
};

struct Stmt {
  StmtKind kind = StmtKind::kAssign;
  Pos pos;
  std::string name,
      name2;  // param, state, layer; the loop's names (index first if there are two); scan's element
  const TypeExpr* type = nullptr;  // param, state
  std::vector<Expr*> values;     // right side; for: the list or the two ends of a range; scan: sequence, axis
  bool range = false;            // for i in a..b
  std::string text;              // assert's message
  std::vector<Target> targets;   // assign, scan
  std::vector<Branch> branches;  // if
  std::vector<Stmt*> body;       // for, scan
  std::vector<std::pair<std::string, Expr*>> carried;  // scan .. with h = h0
};

// block or model
struct BlockDef {
  bool is_model = false;
  Pos pos;  // of the name
  std::string name;
  std::vector<DimBind> dims;
  std::vector<Setting> settings;
  std::vector<Field> inputs, results;
  std::vector<Stmt*> body;
};

struct TrainEntry {
  Pos pos;
  std::string key;  // input, loss, metric, optimizer, schedule, group, precision, clip, accumulate, set
  Pos name_pos;
  std::string name;                // metric acc: "acc"; group "h.*": "h.*"
  const TypeExpr* type = nullptr;  // input
  Expr* value = nullptr;
};

struct TrainDef {
  Pos pos;
  std::string model;
  std::vector<TrainEntry> entries;
};

struct ImportDef {
  Pos pos;
  std::string path, name;
};

struct ConstDef {
  Pos pos;
  std::string name;
  Expr* value = nullptr;
};

struct Ast {
  static constexpr int kMaxNesting = 64;  // brackets, bodies, operators that open nothing
  static constexpr int kMaxDepth = 512;   // of an expression's tree, chains of operators included

  uint32_t file = 0;
  int64_t version = 0;
  std::vector<ImportDef> imports;
  std::vector<ConstDef> consts;
  std::deque<BlockDef> blocks;  // and models, in order
  std::deque<TrainDef> trains;

  std::deque<Expr> exprs;
  std::deque<Stmt> stmts;
  std::deque<TypeExpr> types;
};

}  // namespace graphc::syntax
