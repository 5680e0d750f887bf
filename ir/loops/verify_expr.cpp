// The loop verifier's values: scopes and types of expressions.
#include <fmt/format.h>

#include "ir/loops/verifier.h"

namespace graphc {

Status Verifier::expr(const Expr& e, bool* lanes) {
  if (!e) return error("an expression is missing");
  std::unordered_map<const ScalarNode*, bool> seen;
  return node(e, seen, lanes, 0);
}

// Recurses and does nothing else, so that deep expressions need little stack.
Status Verifier::node(const Expr& e, std::unordered_map<const ScalarNode*, bool>& seen, bool* lanes,
                      int depth) {
  if (!e || depth > kMaxDepth) return bad_node(e);
  if (auto it = seen.find(e.get()); it != seen.end()) {
    *lanes |= it->second;
    return ok_status();
  }
  bool mine = false;
  if (e.op() > ScalarOp::kIndex)
    for (const Expr& a : e->args)
      if (Status s = node(a, seen, &mine, depth + 1); !s.ok()) return s;
  if (Status s = own(*e, &mine); !s.ok()) return s;
  seen[e.get()] = mine;
  *lanes |= mine;
  return ok_status();
}

Status Verifier::bad_node(const Expr& e) {
  if (!e) return error("an operand is missing");
  current_ = nullptr;  // too deep to be shown
  return error(fmt::format("an expression is nested more than {} deep", kMaxDepth));
}

// The node by itself; *mine: whether it differs between lanes, for one with operands if one of them does.
Status Verifier::own(const ScalarNode& n, bool* mine) {
  switch (n.op) {
    case ScalarOp::kConst: return ok_status();
    case ScalarOp::kArg: return error("an operand of a region is left in the program");
    case ScalarOp::kVar: {
      auto it = values_.find(n.name);
      if (it == values_.end()) return error(fmt::format("%{} isn't in scope", n.name));
      if (it->second != n.type)
        return error(
            fmt::format("%{} is {}, used as {}", n.name, dtype_name(it->second), dtype_name(n.type)));
      *mine = lane_values_.count(n.name) > 0;
      return ok_status();
    }
    case ScalarOp::kIndex:
      if (n.index.size() != 1 || n.type != DType::kI64) return error("index() is one i64");
      GC_CHECK(dim(n.index[0]));
      *mine = lane_varying(n.index[0]);
      return ok_status();
    case ScalarOp::kLoad: {
      GC_CHECK(dims(n.guards));
      GC_CHECK(access(n.buffer, n.index, n.guards, false));
      if (k_.buffers[static_cast<size_t>(n.buffer)].type != n.type)
        return error(fmt::format("%{} is loaded as {}", k_.buffers[static_cast<size_t>(n.buffer)].name,
                                 dtype_name(n.type)));
      if (n.args.size() != 1 || n.args[0].op() != ScalarOp::kConst || n.args[0].type() != n.type)
        return error("a load's alternative is a constant of its type");
      for (const Dim& d : n.index) *mine |= lane_varying(d);
      for (const Dim& d : n.guards) *mine |= lane_varying(d);
      *mine |= private_.count(n.buffer) > 0;
      return ok_status();
    }
    default: return types(n);
  }
}

Status Verifier::types(const ScalarNode& n) {
  auto bad = [&](std::string_view why) { return error(fmt::format("{}: {}", scalar_op_name(n.op), why)); };
  auto arity = [&](size_t c) { return n.args.size() == c; };
  auto t = [&](size_t i) { return n.args[i].type(); };
  if (n.op == ScalarOp::kCast) return arity(1) ? ok_status() : bad("takes one operand");
  if (n.op == ScalarOp::kIsNan)
    return arity(1) && n.type == DType::kBool ? ok_status() : bad("takes one operand and gives bool");
  if (n.op == ScalarOp::kSelect)
    return arity(3) && t(0) == DType::kBool && t(1) == n.type && t(2) == n.type
               ? ok_status()
               : bad("takes a bool and two values of its type");
  if (n.op == ScalarOp::kPhilox) {
    bool ok = arity(5) && n.type == DType::kU32 && t(4) == DType::kI64;
    for (size_t i = 0; ok && i < 4; ++i) ok = t(i) == DType::kU32;
    return ok ? ok_status() : bad("takes four u32 and an i64");
  }
  if (n.op >= ScalarOp::kEq && n.op <= ScalarOp::kGe)
    return arity(2) && t(0) == t(1) && n.type == DType::kBool ? ok_status()
                                                              : bad("compares two values of one type");
  bool two = n.op >= ScalarOp::kAdd && n.op <= ScalarOp::kShr;
  if (!arity(two ? 2 : 1)) return bad(two ? "takes two operands" : "takes one operand");
  for (const Expr& a : n.args)
    if (a.type() != n.type)
      return bad(fmt::format("gives {}, its operand is {}", dtype_name(n.type), dtype_name(a.type())));
  bool float_only = (n.op >= ScalarOp::kExp && n.op <= ScalarOp::kErf) || n.op == ScalarOp::kAtan2;
  bool int_only = n.op == ScalarOp::kNot || (n.op >= ScalarOp::kAnd && n.op <= ScalarOp::kShr);
  if (float_only && !is_float(n.type)) return bad("needs a float");
  if (int_only && is_float(n.type)) return bad("needs an integer or bool");
  return ok_status();
}

}  // namespace graphc
