// The inner-product statement: groups of narrow numbers multiplied and summed into a 32-bit accumulator.
#include <fmt/format.h>
#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/IntrinsicsX86.h>

#include "backends/cpu/emit_internal.inc"

namespace graphc::cpu_emit {

using namespace llvm;

namespace {

// Low and high halves of each 32-bit element as vectors of 16-bit pairs would be multiplied by pmaddwd: here
// as f32.
Value* bf16_part(IRBuilder<>& b, Value* pair, bool high, Type* f32) {
  Type* t = pair->getType();
  Value* bits =
      high ? b.CreateAnd(pair, ConstantInt::get(t, 0xffff0000u)) : b.CreateShl(pair, ConstantInt::get(t, 16));
  return b.CreateBitCast(bits, f32);
}

// Byte i of each 32-bit element, extended.
Value* byte_part(IRBuilder<>& b, Value* quad, int i, bool is_signed) {
  Type* t = quad->getType();
  Value* up = i == 3 ? quad : b.CreateShl(quad, ConstantInt::get(t, static_cast<uint64_t>(24 - 8 * i)));
  Value* by = ConstantInt::get(t, 24);
  return is_signed ? b.CreateAShr(up, by) : b.CreateLShr(up, by);
}

}  // namespace

void KernelEmitter::emit_dot(const Stmt& s) {
  const LoopBuffer& acc = k_.buffers[static_cast<size_t>(s.buffer)];
  const DType ta = k_.buffers[static_cast<size_t>(s.a)].type, tb = k_.buffers[static_cast<size_t>(s.b)].type;
  const int w = vector_.width;
  // The groups are read as 32-bit elements of a buffer without its last dimension.
  auto load_groups = [&](int buffer, const std::vector<Dim>& index) -> Value* {
    const LoopBuffer& buf = k_.buffers[static_cast<size_t>(buffer)];
    Dim flat(0);
    for (size_t i = 0; i < index.size(); ++i) flat = flat * (i ? buf.shape[i] : Dim(1)) + index[i];
    flat = resolve(flat);
    Dim first = flat;
    auto stride = lane_varying(flat) ? lane_stride(flat, &first) : std::optional<int64_t>(0);
    if (!stride || (*stride != 0 && *stride != 1))
      return fail(fmt::format("dot reads %{} neither at one place nor contiguously", buf.name));
    Value* p = b_.CreateInBoundsGEP(b_.getInt32Ty(), buffers_[static_cast<size_t>(buffer)].base,
                                    emit_dim(first - first.constant()));
    if (first.constant()) p = b_.CreateInBoundsGEP(b_.getInt32Ty(), p, i64(first.constant()));
    Align align(dtype_size(buf.type));
    Instruction* v;
    if (*stride == 0) {
      v = b_.CreateAlignedLoad(b_.getInt32Ty(), p, align);
    } else {
      Type* t = FixedVectorType::get(b_.getInt32Ty(), static_cast<unsigned>(w));
      v = vector_.mask ? static_cast<Instruction*>(b_.CreateMaskedLoad(t, p, align, splat(vector_.mask, w),
                                                                       Constant::getNullValue(t)))
                       : b_.CreateAlignedLoad(t, p, align);
    }
    annotate(v, buffer);
    return splat(v, w);
  };
  Value* a = load_groups(s.a, s.a_index);
  Value* b = load_groups(s.b, s.b_index);
  Value* c = emit_expr(Expr::load(s.buffer, acc.type, s.index));
  if (!error_.empty()) return;
  c = splat(c, w);
  Value* r = nullptr;
  if (ta == DType::kBF16 && tb == DType::kBF16 && s.group == 2 && acc.type == DType::kF32) {
    Intrinsic::ID id = Intrinsic::not_intrinsic;
    if (w == 16) id = Intrinsic::x86_avx512bf16_dpbf16ps_512;
    if (w == 8) id = Intrinsic::x86_avx512bf16_dpbf16ps_256;
    if (features_.has(CpuFeature::kAvx512Bf16) && id != Intrinsic::not_intrinsic) {
      Type* t = FixedVectorType::get(b_.getBFloatTy(), static_cast<unsigned>(2 * w));
      r = b_.CreateIntrinsic(id, {}, {c, b_.CreateBitCast(a, t), b_.CreateBitCast(b, t)});
    } else {
      r = c;
      for (bool high : {false, true})
        r = b_.CreateIntrinsic(
            Intrinsic::fma, {c->getType()},
            {bf16_part(b_, a, high, c->getType()), bf16_part(b_, b, high, c->getType()), r});
    }
  } else if (tb == DType::kI8 && (ta == DType::kU8 || ta == DType::kI8) && s.group == 4 &&
             acc.type == DType::kI32) {
    Intrinsic::ID id = Intrinsic::not_intrinsic;
    if (w == 16) id = Intrinsic::x86_avx512_vpdpbusd_512;
    if (w == 8) id = Intrinsic::x86_avx512_vpdpbusd_256;
    bool vnni =
        features_.has(CpuFeature::kAvx512Vnni) && features_.avx512() && id != Intrinsic::not_intrinsic;
    if (vnni && ta == DType::kU8) {
      r = b_.CreateIntrinsic(id, {}, {c, a, b});
    } else if (vnni) {  // a + 128 is unsigned; take 128 * sum(b) off again
      Value* flipped = b_.CreateXor(a, ConstantInt::get(a->getType(), 0x80808080u));
      Value* ones = ConstantInt::get(a->getType(), 0x01010101u);
      Value* sum = b_.CreateIntrinsic(id, {}, {Constant::getNullValue(c->getType()), ones, b});
      r = b_.CreateSub(b_.CreateIntrinsic(id, {}, {c, flipped, b}),
                       b_.CreateShl(sum, ConstantInt::get(c->getType(), 7)));
    } else {
      r = c;
      for (int i = 0; i < 4; ++i)
        r = b_.CreateAdd(r, b_.CreateMul(byte_part(b_, a, i, ta == DType::kI8), byte_part(b_, b, i, true)));
    }
  } else {
    fail(fmt::format("dot has no form for {} x {} into {} in groups of {}", dtype_name(ta), dtype_name(tb),
                     dtype_name(acc.type), s.group));
    return;
  }
  store(s.buffer, s.index, r, s.guards);
}

}  // namespace graphc::cpu_emit
