// Expressions and index arithmetic of the LLVM emitter.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/IntrinsicsX86.h>

#include "backends/cpu/emit_internal.inc"

namespace graphc::cpu_emit {

using namespace llvm;

namespace {
constexpr bool is_comparison(ScalarOp op) { return op >= ScalarOp::kEq && op <= ScalarOp::kGe; }
bool is_unsigned(DType t) { return !is_signed_int(t); }
}  // namespace

llvm::Type* KernelEmitter::compute_type(DType t) const {
  switch (t) {
    case DType::kBool: return Type::getInt1Ty(ctx_);
    case DType::kF16:
    case DType::kBF16:
    case DType::kF32: return Type::getFloatTy(ctx_);
    case DType::kF64: return Type::getDoubleTy(ctx_);
    default: return Type::getIntNTy(ctx_, static_cast<unsigned>(dtype_size(t) * 8));
  }
}

llvm::Type* KernelEmitter::memory_type(DType t) const {
  if (t == DType::kBool) return Type::getInt8Ty(ctx_);
  if (t == DType::kF16 || t == DType::kBF16) return Type::getInt16Ty(ctx_);
  return compute_type(t);
}

llvm::Type* KernelEmitter::like(llvm::Type* element, Value* v) const {
  if (auto* t = dyn_cast<FixedVectorType>(v->getType()))
    return FixedVectorType::get(element, t->getNumElements());
  return element;
}

int KernelEmitter::width_of(Value* v) const {
  auto* t = dyn_cast<FixedVectorType>(v->getType());
  return t ? static_cast<int>(t->getNumElements()) : 1;
}

Value* KernelEmitter::fail(std::string message) {
  if (error_.empty()) error_ = where_.empty() ? std::move(message) : where_ + ": " + message;
  return PoisonValue::get(Type::getInt64Ty(ctx_));
}

Value* KernelEmitter::splat(Value* v, int width) {
  if (width <= 1 || v->getType()->isVectorTy()) return v;
  return b_.CreateVectorSplat(static_cast<unsigned>(width), v);
}

// ---- index arithmetic

Dim KernelEmitter::resolve(const Dim& d) const {
  Dim r = constants_.empty() ? d : d.substitute(constants_);
  return ranges_.simplify(r);
}

bool KernelEmitter::lane_varying(const Dim& d) const {
  if (!vector_.width) return false;
  bool varying = false;
  d.for_each_symbol([&](const std::string& s) {
    if (s == vector_.var ||
        (s.size() == vector_.var.size() + 2 && s.starts_with(vector_.var) && s.ends_with(".l")))
      varying = true;
    auto it = vars_.find(s);
    if (it != vars_.end() && it->second->getType()->isVectorTy()) varying = true;
  });
  return varying;
}

Value* KernelEmitter::floor_div(Value* n, const Dim& num, const Dim& den, bool lanes) {
  bool positive = ranges_.provably_nonnegative(num);
  if (auto c = den.as_constant()) {
    if (*c > 0 && (*c & (*c - 1)) == 0)
      return b_.CreateAShr(n, ConstantInt::get(n->getType(), static_cast<uint64_t>(__builtin_ctzll(*c))));
    Value* d = ConstantInt::get(n->getType(), static_cast<uint64_t>(*c), true);
    if (positive && *c > 0) {
      // A 32-bit division by a constant is cheap on vectors, a 64-bit one is not.
      auto hi = ranges_.upper(num);
      if (lanes && hi && hi->is_constant() && hi->constant() < INT32_MAX) {
        Type* t32 = like(b_.getInt32Ty(), n);
        Value* q = b_.CreateUDiv(b_.CreateTrunc(n, t32), ConstantInt::get(t32, static_cast<uint64_t>(*c)));
        return b_.CreateZExt(q, n->getType());
      }
      return b_.CreateUDiv(n, d);
    }
    return eval_int(ScalarOp::kFloorDiv, DType::kI64, n, d);
  }
  Value* d = lanes ? splat(emit_dim_lanes(den), vector_.width) : emit_dim(den);
  if (n->getType() != d->getType()) n = splat(n, width_of(d));
  if (positive && ranges_.provably_nonnegative(den - 1)) return b_.CreateUDiv(n, d);
  return eval_int(ScalarOp::kFloorDiv, DType::kI64, n, d);
}

Value* KernelEmitter::emit_term(const DimTerm& t, bool lanes) {
  Value* product = nullptr;
  for (const DimAtomRef& a : t.atoms) {
    Value* v = nullptr;
    if (a->name.empty()) {
      bool varying = lanes && (lane_varying(a->num) || lane_varying(a->den));
      Value* n = varying ? emit_dim_lanes(a->num) : emit_dim(a->num);
      v = floor_div(n, a->num, a->den, varying);
    } else {
      auto it = vars_.find(a->name);
      if (it == vars_.end()) return fail(fmt::format("'{}' is unknown in an index", a->name));
      v = it->second;
      if (lanes && a->name == vector_.var) {
        std::vector<Constant*> iota;
        for (int i = 0; i < vector_.width; ++i) iota.push_back(b_.getInt64(static_cast<uint64_t>(i)));
        v = b_.CreateAdd(splat(v, vector_.width), ConstantVector::get(iota));
      }
    }
    if (!product) {
      product = v;
    } else {
      if (v->getType() != product->getType()) {
        v = splat(v, std::max(width_of(v), width_of(product)));
        product = splat(product, width_of(v));
      }
      product = b_.CreateMul(product, v);
    }
  }
  if (t.coefficient != 1)
    product = b_.CreateMul(product,
                           ConstantInt::get(product->getType(), static_cast<uint64_t>(t.coefficient), true));
  return product;
}

// The sum runs from the outermost variables inwards, so that what a loop doesn't change can be taken out of
// it whole.
Value* KernelEmitter::emit_dim(const Dim& d) {
  if (d.overflowed()) return fail("an index overflows");
  if (d.is_constant()) return i64(d.constant());
  std::vector<std::pair<int, const DimTerm*>> order;
  for (const DimTerm& t : d.terms()) {
    int depth = 0;
    for (const DimAtomRef& a : t.atoms) {
      auto deepen = [&](const std::string& s) {
        if (auto it = depth_.find(s); it != depth_.end()) depth = std::max(depth, it->second);
      };
      if (!a->name.empty())
        deepen(a->name);
      else {
        a->num.for_each_symbol(deepen);
        a->den.for_each_symbol(deepen);
      }
    }
    order.emplace_back(depth, &t);
  }
  std::stable_sort(order.begin(), order.end(), [](auto& x, auto& y) { return x.first < y.first; });
  Value* sum = nullptr;
  for (auto& [depth, t] : order) {
    Value* v = emit_term(*t, false);
    sum = sum ? b_.CreateAdd(sum, v) : v;
  }
  if (d.constant()) sum = b_.CreateAdd(sum, i64(d.constant()));
  return sum;
}

Value* KernelEmitter::emit_dim_lanes(const Dim& d) {
  if (d.overflowed()) return fail("an index overflows");
  Value* sum = splat(i64(d.constant()), vector_.width);
  for (const DimTerm& t : d.terms()) sum = b_.CreateAdd(sum, splat(emit_term(t, true), vector_.width));
  return sum;
}

Dim KernelEmitter::flat_index(int buffer, const std::vector<Dim>& index) const {
  const LoopBuffer& buf = k_.buffers[static_cast<size_t>(buffer)];
  Dim flat(0);
  for (size_t i = 0; i < index.size(); ++i) flat = flat * (i ? buf.shape[i] : Dim(1)) + index[i];
  return resolve(flat);
}

Dim KernelEmitter::divide_aligned(const Dim& d) const {
  const std::string lane = vector_.var + ".l";
  const int64_t w = vector_.width;
  Dim out(d.constant());
  for (const DimTerm& t : d.terms()) {
    Dim product(t.coefficient);
    for (const DimAtomRef& a : t.atoms) {
      if (!a->name.empty()) {
        product *= Dim::symbol(a->name);
        continue;
      }
      Dim num = divide_aligned(a->num);
      Dim quotient = floordiv(num, a->den);
      auto den = a->den.as_constant();
      if (den && *den > 0 && *den % w == 0) {
        // num = W*whole + rest, 0 <= rest < W
        Dim whole(0), rest(0);
        for (const DimTerm& nt : num.terms()) {
          Dim term(nt.coefficient);
          for (const DimAtomRef& na : nt.atoms)
            term *= na->name.empty() ? floordiv(na->num, na->den) : Dim::symbol(na->name);
          if (nt.coefficient % w == 0)
            whole += floordiv(term, w);
          else
            rest += term;
        }
        int64_t c = num.constant();
        int64_t q = c >= 0 ? c / w : -((-c + w - 1) / w);
        whole += Dim(q);
        rest += Dim(c - q * w);
        if (ranges_.provably_nonnegative(rest) && ranges_.provably_less(rest, Dim(w)))
          quotient = floordiv(whole, *den / w);
      }
      product *= quotient;
    }
    out += product;
  }
  return out;
}

Dim KernelEmitter::split_lanes(const Dim& d) const {
  std::map<std::string, Dim, std::less<>> split;
  split[vector_.var] = Dim(vector_.width) * Dim::symbol(vector_.var + ".q") + Dim::symbol(vector_.var + ".l");
  return ranges_.simplify(divide_aligned(d.substitute(split)));
}

std::optional<int64_t> KernelEmitter::lane_stride(const Dim& d, Dim* first) const {
  auto linear = d.linear_in(vector_.var);
  if (linear && linear->first.is_constant() && !lane_varying(linear->second)) {
    *first = d;
    return linear->first.constant();
  }
  if (!vector_.aligned || linear) return std::nullopt;
  Dim s = split_lanes(d);
  linear = s.linear_in(vector_.var + ".l");
  if (!linear || !linear->first.is_constant() || lane_varying(linear->second)) return std::nullopt;
  *first = linear->second;
  return linear->first.constant();
}

Address KernelEmitter::address(int buffer, const std::vector<Dim>& index) {
  Dim flat = flat_index(buffer, index);
  Address a;
  Dim first = flat;
  std::optional<int64_t> stride = lane_varying(flat) ? lane_stride(flat, &first) : std::optional<int64_t>(0);
  if (stride) {
    a.kind = *stride == 1 ? Address::kContiguous : *stride == 0 ? Address::kUniform : Address::kIndexed;
    a.stride = *stride;
    a.displacement = first.constant();
    a.index = emit_dim(first - a.displacement);
    return a;
  }
  a.kind = Address::kIndexed;
  a.index = emit_dim_lanes(flat);
  return a;
}

Value* KernelEmitter::lanes_below(Value* n) {
  int w = vector_.width;
  Value* clamped =
      b_.CreateBinaryIntrinsic(Intrinsic::smin, b_.CreateBinaryIntrinsic(Intrinsic::smax, n, i64(0)), i64(w));
  Value* n32 = b_.CreateTrunc(clamped, b_.getInt32Ty());
  std::vector<Constant*> iota;
  for (int i = 0; i < w; ++i) iota.push_back(b_.getInt32(static_cast<uint32_t>(i)));
  return b_.CreateICmpULT(ConstantVector::get(iota), splat(n32, w));
}

bool KernelEmitter::narrow(const Dim& g, LaneRange* range) {
  Dim first;  // of lane 0
  auto stride = lane_varying(g) ? lane_stride(g, &first) : std::optional<int64_t>(0);
  if (!stride) return false;
  if (*stride == 0) {
    Value* none = b_.CreateICmpSLT(emit_dim(g), i64(0));
    range->below = b_.CreateSelect(none, i64(0), range->below ? range->below : i64(vector_.width));
  } else if (*stride > 0) {  // first + stride * lane >= 0
    Value* from = emit_dim(ceildiv(-first, *stride));
    range->from = range->from ? b_.CreateBinaryIntrinsic(Intrinsic::smax, range->from, from) : from;
  } else {
    Value* below = emit_dim(floordiv(first, -*stride) + 1);
    range->below = range->below ? b_.CreateBinaryIntrinsic(Intrinsic::smin, range->below, below) : below;
  }
  return true;
}

Value* KernelEmitter::guard_lanes(const Dim& g) {
  LaneRange range;
  if (narrow(g, &range)) {
    if (range.from) return b_.CreateNot(lanes_below(range.from));
    return lanes_below(range.below);
  }
  Value* v = emit_dim_lanes(g);
  return b_.CreateICmpSGE(v, Constant::getNullValue(v->getType()));
}

Value* KernelEmitter::spread_mask(const std::vector<Dim>& guards) {
  LaneRange range;
  if (vector_.mask && !vector_.count) return nullptr;
  range.below = vector_.count;
  for (const Dim& g0 : guards) {
    Dim g = resolve(g0);
    if (!ranges_.provably_nonnegative(g) && !narrow(g, &range)) return nullptr;
  }
  // an odd position between two even ones that are there is there as well
  const int w = vector_.width;
  auto clamp = [&](Value* n) {
    n = b_.CreateBinaryIntrinsic(Intrinsic::smin, b_.CreateBinaryIntrinsic(Intrinsic::smax, n, i64(0)),
                                 i64(w));
    return splat(b_.CreateTrunc(n, b_.getInt32Ty()), 2 * w);
  };
  std::vector<Constant*> below_at, from_at;
  for (int i = 0; i < 2 * w; ++i) {
    below_at.push_back(b_.getInt32(static_cast<uint32_t>((i + 1) / 2)));
    from_at.push_back(b_.getInt32(static_cast<uint32_t>(i / 2)));
  }
  Value* mask = nullptr;
  if (range.below) mask = b_.CreateICmpULT(ConstantVector::get(below_at), clamp(range.below));
  if (range.from) {
    Value* from = b_.CreateICmpUGE(ConstantVector::get(from_at), clamp(range.from));
    mask = mask ? b_.CreateAnd(mask, from) : from;
  }
  return mask ? mask : splat(b_.getTrue(), 2 * w);
}

Value* KernelEmitter::guard(const std::vector<Dim>& guards) {
  Value* all = nullptr;
  for (const Dim& g0 : guards) {
    Dim g = resolve(g0);
    if (ranges_.provably_nonnegative(g)) continue;
    Value* one = lane_varying(g) ? guard_lanes(g) : b_.CreateICmpSGE(emit_dim(g), i64(0));
    all = both(all, one);
  }
  return all;
}

Value* KernelEmitter::both(Value* a, Value* b) {
  if (!a || !b) return a ? a : b;
  int w = std::max(width_of(a), width_of(b));
  return b_.CreateAnd(splat(a, w), splat(b, w));
}

Value* KernelEmitter::as_mask(Value* m) { return splat(m ? m : b_.getTrue(), vector_.width); }

// ---- expressions

Value* KernelEmitter::emit_expr(const Expr& e) {
  memo_.clear();
  kept_ = e;
  return eval(e);
}

Value* KernelEmitter::eval(const Expr& e) {
  if (auto it = memo_.find(e.get()); it != memo_.end()) return it->second;
  Value* v = eval_op(*e);
  memo_[e.get()] = v;
  return v;
}

Value* KernelEmitter::eval_compare(ScalarOp op, DType t, Value* a, Value* b) {
  if (is_float(t)) {
    switch (op) {
      case ScalarOp::kEq: return b_.CreateFCmpOEQ(a, b);
      case ScalarOp::kNe: return b_.CreateFCmpUNE(a, b);
      case ScalarOp::kLt: return b_.CreateFCmpOLT(a, b);
      case ScalarOp::kLe: return b_.CreateFCmpOLE(a, b);
      case ScalarOp::kGt: return b_.CreateFCmpOGT(a, b);
      default: return b_.CreateFCmpOGE(a, b);
    }
  }
  bool u = is_unsigned(t);
  switch (op) {
    case ScalarOp::kEq: return b_.CreateICmpEQ(a, b);
    case ScalarOp::kNe: return b_.CreateICmpNE(a, b);
    case ScalarOp::kLt: return u ? b_.CreateICmpULT(a, b) : b_.CreateICmpSLT(a, b);
    case ScalarOp::kLe: return u ? b_.CreateICmpULE(a, b) : b_.CreateICmpSLE(a, b);
    case ScalarOp::kGt: return u ? b_.CreateICmpUGT(a, b) : b_.CreateICmpSGT(a, b);
    default: return u ? b_.CreateICmpUGE(a, b) : b_.CreateICmpSGE(a, b);
  }
}

Value* KernelEmitter::eval_int(ScalarOp op, DType t, Value* a, Value* b) {
  Type* ty = a->getType();
  unsigned bits = ty->getScalarSizeInBits();
  auto c = [&](int64_t v) { return ConstantInt::get(ty, static_cast<uint64_t>(v), true); };
  bool u = is_unsigned(t);
  switch (op) {
    case ScalarOp::kNeg: return b_.CreateNeg(a);
    case ScalarOp::kAbs: return u ? a : b_.CreateBinaryIntrinsic(Intrinsic::abs, a, b_.getFalse());
    case ScalarOp::kSign:
      if (u) return b_.CreateZExt(b_.CreateICmpNE(a, c(0)), ty);
      return b_.CreateSub(b_.CreateZExt(b_.CreateICmpSGT(a, c(0)), ty),
                          b_.CreateZExt(b_.CreateICmpSLT(a, c(0)), ty));
    case ScalarOp::kNot: return b_.CreateNot(a);
    case ScalarOp::kFloor:
    case ScalarOp::kCeil:
    case ScalarOp::kRound: return a;
    case ScalarOp::kAdd: return b_.CreateAdd(a, b);
    case ScalarOp::kSub: return b_.CreateSub(a, b);
    case ScalarOp::kMul: return b_.CreateMul(a, b);
    case ScalarOp::kMax: return b_.CreateBinaryIntrinsic(u ? Intrinsic::umax : Intrinsic::smax, a, b);
    case ScalarOp::kMin: return b_.CreateBinaryIntrinsic(u ? Intrinsic::umin : Intrinsic::smin, a, b);
    case ScalarOp::kAnd: return b_.CreateAnd(a, b);
    case ScalarOp::kOr: return b_.CreateOr(a, b);
    case ScalarOp::kXor: return b_.CreateXor(a, b);
    case ScalarOp::kShl: {
      Value* in_range = b_.CreateICmpULT(b, c(bits));
      return b_.CreateSelect(in_range, b_.CreateShl(a, b_.CreateSelect(in_range, b, c(0))), c(0));
    }
    case ScalarOp::kShr: {
      Value* in_range = b_.CreateICmpULT(b, c(bits));
      if (u) return b_.CreateSelect(in_range, b_.CreateLShr(a, b_.CreateSelect(in_range, b, c(0))), c(0));
      return b_.CreateAShr(a, b_.CreateSelect(in_range, b, c(bits - 1)));
    }
    case ScalarOp::kDiv:
    case ScalarOp::kFloorDiv:
    case ScalarOp::kRem: {
      // x // 0 and x % 0 are 0; -1 is a divisor apart, because INT_MIN // -1 traps.
      Value* zero = b_.CreateICmpEQ(b, c(0));
      if (u) {
        Value* d = b_.CreateSelect(zero, c(1), b);
        Value* r = op == ScalarOp::kRem ? b_.CreateURem(a, d) : b_.CreateUDiv(a, d);
        return b_.CreateSelect(zero, c(0), r);
      }
      Value* minus = b_.CreateICmpEQ(b, c(-1));
      Value* d = b_.CreateSelect(b_.CreateOr(zero, minus), c(1), b);
      Value* q = b_.CreateSDiv(a, d);
      Value* r = b_.CreateSub(a, b_.CreateMul(q, d));
      // truncated -> floored where the remainder is not 0 and the signs differ
      Value* fix = b_.CreateAnd(b_.CreateICmpNE(r, c(0)), b_.CreateICmpSLT(b_.CreateXor(r, d), c(0)));
      if (op == ScalarOp::kRem) {
        Value* m = b_.CreateSelect(fix, b_.CreateAdd(r, d), r);
        return b_.CreateSelect(b_.CreateOr(zero, minus), c(0), m);
      }
      Value* f = b_.CreateSelect(fix, b_.CreateSub(q, c(1)), q);
      f = b_.CreateSelect(minus, b_.CreateNeg(a), f);
      return b_.CreateSelect(zero, c(0), f);
    }
    case ScalarOp::kPow: {  // by squaring, wrapping; a negative exponent floors
      Value* result = c(1);
      Value* base = a;
      if (u || bits >= 8) {
        BasicBlock* pre = b_.GetInsertBlock();
        BasicBlock* loop = BasicBlock::Create(ctx_, "ipow", fn_);
        BasicBlock* done = BasicBlock::Create(ctx_, "ipowed", fn_);
        b_.CreateBr(loop);
        b_.SetInsertPoint(loop);
        PHINode* pr = b_.CreatePHI(ty, 2);
        PHINode* pb = b_.CreatePHI(ty, 2);
        PHINode* pe = b_.CreatePHI(ty, 2);
        pr->addIncoming(result, pre);
        pb->addIncoming(base, pre);
        pe->addIncoming(b, pre);
        Value* odd = b_.CreateICmpNE(b_.CreateAnd(pe, c(1)), c(0));
        Value* r = b_.CreateSelect(odd, b_.CreateMul(pr, pb), pr);
        Value* e = b_.CreateLShr(pe, c(1));
        pr->addIncoming(r, loop);
        pb->addIncoming(b_.CreateMul(pb, pb), loop);
        pe->addIncoming(e, loop);
        Value* more = b_.CreateICmpNE(e, c(0));
        if (ty->isVectorTy()) more = b_.CreateOrReduce(more);
        b_.CreateCondBr(more, loop, done);
        b_.SetInsertPoint(done);
        result = r;
      }
      if (u) return result;
      Value* negative = b_.CreateICmpSLT(b, c(0));
      Value* sign = b_.CreateSelect(b_.CreateICmpNE(b_.CreateAnd(b, c(1)), c(0)), c(-1), c(1));
      Value* inverse = b_.CreateSelect(b_.CreateICmpEQ(a, c(1)), c(1),
                                       b_.CreateSelect(b_.CreateICmpEQ(a, c(-1)), sign, c(0)));
      return b_.CreateSelect(negative, inverse, result);
    }
    default: return fail(fmt::format("'{}' has no meaning on {}", scalar_op_name(op), dtype_name(t)));
  }
}

Value* KernelEmitter::eval_cast(Value* v, DType from, DType to) {
  Type* target = like(compute_type(to), v);
  if (is_float(from) && is_float(to)) {
    if (from == DType::kF64 && to != DType::kF64) {
      Value* f = b_.CreateFPTrunc(v, like(b_.getFloatTy(), v));
      if (to == DType::kF32) return f;
      // Straight to 16 bits: round to odd first, so that the second rounding sees what the first one lost.
      Value* back = b_.CreateFPExt(f, v->getType());
      Type* t32 = like(b_.getInt32Ty(), v);
      auto c = [&](uint64_t x) { return ConstantInt::get(t32, x); };
      Value* bits = b_.CreateBitCast(f, t32);
      Value* even = b_.CreateICmpEQ(b_.CreateAnd(bits, c(1)), c(0));
      Value* fix = b_.CreateAnd(even, b_.CreateFCmpONE(back, v));
      Value* up = b_.CreateFCmpOLT(b_.CreateUnaryIntrinsic(Intrinsic::fabs, back),
                                   b_.CreateUnaryIntrinsic(Intrinsic::fabs, v));
      Value* moved = b_.CreateSelect(up, b_.CreateAdd(bits, c(1)), b_.CreateSub(bits, c(1)));
      v = b_.CreateBitCast(b_.CreateSelect(fix, moved, bits), f->getType());
    }
    if (to == DType::kF64) return b_.CreateFPExt(v, target);
    if (to == DType::kF32) return v;
    return from_memory(to_memory(v, to), to);
  }
  if (to == DType::kBool) {
    if (is_float(from)) return b_.CreateFCmpUNE(v, Constant::getNullValue(v->getType()));
    return b_.CreateICmpNE(v, Constant::getNullValue(v->getType()));
  }
  if (is_float(from)) {  // truncates, saturates, NaN gives 0
    bool u = is_unsigned(to);
    unsigned bits = static_cast<unsigned>(dtype_size(to) * 8);
    if (bits >= 32)
      return b_.CreateIntrinsic(u ? Intrinsic::fptoui_sat : Intrinsic::fptosi_sat, {target, v->getType()},
                                {v});
    Type* t32 = like(b_.getInt32Ty(), v);
    Value* wide = b_.CreateIntrinsic(Intrinsic::fptosi_sat, {t32, v->getType()}, {v});
    int64_t lo = u ? 0 : -(1ll << (bits - 1)), hi = u ? (1ll << bits) - 1 : (1ll << (bits - 1)) - 1;
    wide = b_.CreateBinaryIntrinsic(Intrinsic::smax, wide,
                                    ConstantInt::get(t32, static_cast<uint64_t>(lo), true));
    wide = b_.CreateBinaryIntrinsic(Intrinsic::smin, wide,
                                    ConstantInt::get(t32, static_cast<uint64_t>(hi), true));
    return b_.CreateTrunc(wide, target);
  }
  if (is_float(to)) {
    // 16-bit floats from wide integers go through double and round once (as the reference does)
    bool via_double = (to == DType::kF16 || to == DType::kBF16) && dtype_size(from) >= 4;
    Type* t = via_double ? like(b_.getDoubleTy(), v) : target;
    Value* f = is_unsigned(from) ? b_.CreateUIToFP(v, t) : b_.CreateSIToFP(v, t);
    if (via_double) return eval_cast(f, DType::kF64, to);
    return to == DType::kF16 || to == DType::kBF16 ? from_memory(to_memory(f, to), to) : f;
  }
  return is_unsigned(from) ? b_.CreateZExtOrTrunc(v, target) : b_.CreateSExtOrTrunc(v, target);
}

Value* KernelEmitter::eval_philox(const std::vector<Value*>& x) {
  Value* counter = x[4];
  Type* t64 = counter->getType();
  Type* t32 = like(b_.getInt32Ty(), counter);
  auto c32 = [&](uint64_t v) { return ConstantInt::get(t32, v); };
  Value* c[4] = {b_.CreateTrunc(counter, t32),
                 b_.CreateTrunc(b_.CreateLShr(counter, ConstantInt::get(t64, 32)), t32), x[2], x[3]};
  Value* key[2] = {x[0], x[1]};
  auto multiply = [&](Value* v, uint64_t m, Value** hi) {  // 32 x 32 -> 64
    Value* p = b_.CreateMul(b_.CreateZExt(v, t64), ConstantInt::get(t64, m));
    *hi = b_.CreateTrunc(b_.CreateLShr(p, ConstantInt::get(t64, 32)), t32);
    return b_.CreateTrunc(p, t32);
  };
  for (int round = 0; round < 10; ++round) {
    Value *hi0, *hi1;
    Value* lo0 = multiply(c[0], 0xD2511F53u, &hi0);
    Value* lo1 = multiply(c[2], 0xCD9E8D57u, &hi1);
    Value* next[4] = {b_.CreateXor(b_.CreateXor(hi1, c[1]), key[0]), lo1,
                      b_.CreateXor(b_.CreateXor(hi0, c[3]), key[1]), lo0};
    std::copy(next, next + 4, c);
    key[0] = b_.CreateAdd(key[0], c32(0x9E3779B9u));
    key[1] = b_.CreateAdd(key[1], c32(0xBB67AE85u));
  }
  return c[0];
}

Value* KernelEmitter::eval_op(const ScalarNode& n) {
  switch (n.op) {
    case ScalarOp::kConst: {
      Type* t = compute_type(n.type);
      if (is_float(n.type)) return ConstantFP::get(t, n.float_value);
      return ConstantInt::get(t, static_cast<uint64_t>(n.int_value), true);
    }
    case ScalarOp::kArg: return fail("an expression refers to an operand of a region");
    case ScalarOp::kVar: {
      auto it = values_.find(n.name);
      return it == values_.end() ? fail(fmt::format("%{} is unknown", n.name)) : it->second;
    }
    case ScalarOp::kIndex: {
      Dim d = resolve(n.index[0]);
      return lane_varying(d) ? emit_dim_lanes(d) : emit_dim(d);
    }
    case ScalarOp::kLoad: return eval_load(n);
    default: break;
  }
  std::vector<Value*> v;
  int width = 1;
  for (const Expr& a : n.args) {
    v.push_back(eval(a));
    width = std::max(width, width_of(v.back()));
  }
  if (!error_.empty()) return fail("");
  if (n.op == ScalarOp::kSelect) {
    if (v[0]->getType()->isVectorTy() || width == 1)
      return b_.CreateSelect(splat(v[0], width), splat(v[1], width), splat(v[2], width));
    return b_.CreateSelect(v[0], splat(v[1], width), splat(v[2], width));
  }
  for (Value*& x : v) x = splat(x, width);
  DType t = n.args[0].type();
  if (n.op == ScalarOp::kCast) return eval_cast(v[0], t, n.type);
  if (n.op == ScalarOp::kPhilox) return eval_philox(v);
  if (is_comparison(n.op)) return eval_compare(n.op, t, v[0], v[1]);
  if (n.op == ScalarOp::kIsNan)
    return is_float(t) ? b_.CreateFCmpUNO(v[0], v[0]) : Constant::getNullValue(like(b_.getInt1Ty(), v[0]));
  Value* second = v.size() > 1 ? v[1] : nullptr;
  if (t == DType::kBool) {  // as 0 and 1, in eight bits, any nonzero result is true
    switch (n.op) {
      case ScalarOp::kAnd:
      case ScalarOp::kMul:
      case ScalarOp::kMin: return b_.CreateAnd(v[0], second);
      case ScalarOp::kOr:
      case ScalarOp::kAdd:
      case ScalarOp::kMax: return b_.CreateOr(v[0], second);
      case ScalarOp::kXor:
      case ScalarOp::kSub: return b_.CreateXor(v[0], second);
      case ScalarOp::kNot: return b_.CreateNot(v[0]);
      default: break;
    }
    Type* t8 = like(b_.getInt8Ty(), v[0]);
    Value* r =
        eval_int(n.op, DType::kU8, b_.CreateZExt(v[0], t8), second ? b_.CreateZExt(second, t8) : nullptr);
    return b_.CreateICmpNE(r, Constant::getNullValue(t8));
  }
  if (!is_float(t)) return eval_int(n.op, t, v[0], second);
  Value* x = v[0];
  switch (n.op) {
    case ScalarOp::kNeg: return b_.CreateFNeg(x);
    case ScalarOp::kAbs: return b_.CreateUnaryIntrinsic(Intrinsic::fabs, x);
    case ScalarOp::kSign: {
      Value* one = b_.CreateBinaryIntrinsic(Intrinsic::copysign, ConstantFP::get(x->getType(), 1), x);
      Value* keep =
          b_.CreateOr(b_.CreateFCmpUNO(x, x), b_.CreateFCmpOEQ(x, Constant::getNullValue(x->getType())));
      return b_.CreateSelect(keep, x, one);
    }
    case ScalarOp::kAdd: return b_.CreateFAdd(x, second);
    case ScalarOp::kSub: return b_.CreateFSub(x, second);
    case ScalarOp::kMul: return b_.CreateFMul(x, second);
    case ScalarOp::kDiv: return b_.CreateFDiv(x, second);
    case ScalarOp::kMax: return reduce_combine(ReduceOp::kMax, t, x, second);
    case ScalarOp::kMin: return reduce_combine(ReduceOp::kMin, t, x, second);
    default: break;
  }
  if (Value* r = emit_math(b_, n.op, x, second)) return r;
  return fail(fmt::format("'{}' has no meaning on {}", scalar_op_name(n.op), dtype_name(t)));
}

}  // namespace graphc::cpu_emit
