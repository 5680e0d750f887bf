// Loads and stores of the LLVM emitter: contiguous, strided, masked, and stores of neighbours together.
#include <algorithm>

#include <fmt/format.h>
#include <llvm/IR/Intrinsics.h>

#include "backends/cpu/emit_internal.inc"

namespace graphc::cpu_emit {

using namespace llvm;

void KernelEmitter::annotate(Instruction* i, int buffer) {
  const BufferState& s = buffers_[static_cast<size_t>(buffer)];
  if (s.scope) i->setMetadata(LLVMContext::MD_alias_scope, s.scope);
  if (s.noalias) i->setMetadata(LLVMContext::MD_noalias, s.noalias);
  if (s.invariant && isa<LoadInst>(i)) i->setMetadata(LLVMContext::MD_invariant_load, MDNode::get(ctx_, {}));
}

Value* KernelEmitter::element_ptr(int buffer, const Address& a) {
  const LoopBuffer& buf = k_.buffers[static_cast<size_t>(buffer)];
  Type* t = memory_type(buf.type);
  Value* p = buffers_[static_cast<size_t>(buffer)].base;
  p = b_.CreateInBoundsGEP(t, p, a.index);
  if (a.displacement) p = b_.CreateInBoundsGEP(t, p, i64(a.displacement));
  return p;
}

Value* KernelEmitter::from_memory(Value* raw, DType t) {
  switch (t) {
    case DType::kBool: return b_.CreateICmpNE(raw, Constant::getNullValue(raw->getType()));
    case DType::kF16:
      return b_.CreateFPExt(b_.CreateBitCast(raw, like(b_.getHalfTy(), raw)), like(b_.getFloatTy(), raw));
    case DType::kBF16: {
      Value* wide = b_.CreateZExt(raw, like(b_.getInt32Ty(), raw));
      return b_.CreateBitCast(b_.CreateShl(wide, ConstantInt::get(wide->getType(), 16)),
                              like(b_.getFloatTy(), raw));
    }
    default: return raw;
  }
}

Value* KernelEmitter::to_memory(Value* v, DType t) {
  switch (t) {
    case DType::kBool: return b_.CreateZExt(v, like(b_.getInt8Ty(), v));
    case DType::kF16:
      return b_.CreateBitCast(b_.CreateFPTrunc(v, like(b_.getHalfTy(), v)), like(b_.getInt16Ty(), v));
    case DType::kBF16: {
      // to nearest even by integer arithmetic; a NaN keeps its upper bits and is made quiet
      Type* t32 = like(b_.getInt32Ty(), v);
      auto c = [&](uint64_t x) { return ConstantInt::get(t32, x); };
      Value* bits = b_.CreateBitCast(v, t32);
      Value* upper = b_.CreateLShr(bits, c(16));
      Value* odd = b_.CreateAnd(upper, c(1));
      Value* rounded = b_.CreateLShr(b_.CreateAdd(b_.CreateAdd(bits, c(0x7fff)), odd), c(16));
      Value* nan = b_.CreateOr(upper, c(0x40));
      return b_.CreateTrunc(b_.CreateSelect(b_.CreateFCmpUNO(v, v), nan, rounded), like(b_.getInt16Ty(), v));
    }
    default: return v;
  }
}

bool KernelEmitter::register_access(int buffer, const std::vector<Dim>& index, RegisterAccess* out) {
  Dim flat = flat_index(buffer, index);
  const BufferState& s = buffers_[static_cast<size_t>(buffer)];
  if (!lane_varying(flat)) {
    auto c = flat.as_constant();
    if (!c) return false;
    out->slot = *c;
    return true;
  }
  auto linear = flat.linear_in(vector_.var);
  if (!linear || !linear->first.is_constant() || !linear->second.is_constant()) return false;
  // lane 0's variable must be a constant too
  auto* base = dyn_cast<ConstantInt>(vars_.find(vector_.var)->second);
  if (!base) return false;
  out->vector = true;
  out->lane_stride = linear->first.constant();
  out->slot = linear->second.constant() + out->lane_stride * base->getSExtValue();
  return s.chunk == 1 || (out->lane_stride == 1 && s.chunk == vector_.width && out->slot % s.chunk == 0);
}

Value* KernelEmitter::register_load(int buffer, const RegisterAccess& a) {
  const BufferState& s = buffers_[static_cast<size_t>(buffer)];
  auto slot = [&](int64_t i) -> Value* {
    if (i < 0 || i >= static_cast<int64_t>(s.slots.size())) return nullptr;
    return b_.CreateLoad(s.slots[static_cast<size_t>(i)]->getAllocatedType(),
                         s.slots[static_cast<size_t>(i)]);
  };
  Value* v = nullptr;
  if (s.lanes) {
    v = slot(a.slot);
  } else if (!a.vector && s.chunk > 1) {  // one element of a chunk
    Value* chunk = slot(a.slot / s.chunk);
    v = chunk ? b_.CreateExtractElement(chunk, static_cast<uint64_t>(a.slot % s.chunk)) : nullptr;
  } else if (!a.vector || s.chunk > 1) {
    v = slot(a.slot / s.chunk);
  } else {
    v = PoisonValue::get(FixedVectorType::get(memory_type(k_.buffers[static_cast<size_t>(buffer)].type),
                                              static_cast<unsigned>(vector_.width)));
    for (int l = 0; l < vector_.width; ++l)  // lanes beyond the buffer are masked anyway
      if (Value* e = slot(a.slot + l * a.lane_stride))
        v = b_.CreateInsertElement(v, e, static_cast<uint64_t>(l));
  }
  if (!v)
    return fail(fmt::format("register buffer %{} is read out of bounds",
                            k_.buffers[static_cast<size_t>(buffer)].name));
  return from_memory(v, k_.buffers[static_cast<size_t>(buffer)].type);
}

void KernelEmitter::register_store(int buffer, const RegisterAccess& a, Value* v, Value* mask) {
  BufferState& s = buffers_[static_cast<size_t>(buffer)];
  v = to_memory(v, k_.buffers[static_cast<size_t>(buffer)].type);
  auto put = [&](int64_t i, Value* x, Value* m) {
    if (i < 0 || i >= static_cast<int64_t>(s.slots.size())) {
      if (!m)
        fail(fmt::format("register buffer %{} is written out of bounds",
                         k_.buffers[static_cast<size_t>(buffer)].name));
      return;
    }
    AllocaInst* p = s.slots[static_cast<size_t>(i)];
    if (m) x = b_.CreateSelect(m, x, b_.CreateLoad(p->getAllocatedType(), p));
    b_.CreateStore(x, p);
  };
  if (s.lanes) {
    put(a.slot, splat(v, s.lanes), mask ? splat(mask, s.lanes) : nullptr);
  } else if (!a.vector && s.chunk > 1) {
    int64_t i = a.slot / s.chunk;
    if (i < 0 || i >= static_cast<int64_t>(s.slots.size())) return put(i, v, nullptr);
    AllocaInst* p = s.slots[static_cast<size_t>(i)];
    Value* old = b_.CreateLoad(p->getAllocatedType(), p);
    Value* lane = i64(a.slot % s.chunk);
    if (mask) v = b_.CreateSelect(mask, v, b_.CreateExtractElement(old, lane));
    b_.CreateStore(b_.CreateInsertElement(old, v, lane), p);
  } else if (!a.vector || s.chunk > 1) {
    if (a.vector) v = splat(v, vector_.width);
    if (a.vector && mask) mask = splat(mask, vector_.width);
    put(a.slot / s.chunk, v, mask);
  } else {
    v = splat(v, vector_.width);
    for (int l = 0; l < vector_.width; ++l) {
      Value* m = mask;
      if (m && m->getType()->isVectorTy()) m = b_.CreateExtractElement(m, static_cast<uint64_t>(l));
      put(a.slot + l * a.lane_stride, b_.CreateExtractElement(v, static_cast<uint64_t>(l)), m);
    }
  }
}

Value* KernelEmitter::eval_load(const ScalarNode& n) {
  const LoopBuffer& buf = k_.buffers[static_cast<size_t>(n.buffer)];
  Value* g = guard(n.guards);
  Type* element = memory_type(buf.type);
  Align align(dtype_size(buf.type));
  if (buf.kind == BufferKind::kRegister) {
    RegisterAccess a;
    if (!register_access(n.buffer, n.index, &a))
      return fail(fmt::format("the index of register buffer %{} isn't constant", buf.name));
    Value* v = register_load(n.buffer, a);
    if (!g) return v;
    Value* other = eval(n.args[0]);
    int w = std::max(width_of(g), width_of(v));
    return b_.CreateSelect(splat(g, w), splat(v, w), splat(other, w));
  }
  Address a = address(n.buffer, n.index);
  if (a.kind == Address::kUniform) {
    // In a masked chunk a uniform element is read for all lanes at once; the verifier bounds it for the loop
    // as a whole, so it may be out of bounds only where the guard says no.
    Value* scalar_guard = vector_.maybe_empty ? both(vector_.mask, g) : g;
    if (scalar_guard && scalar_guard->getType()->isVectorTy()) scalar_guard = b_.CreateOrReduce(scalar_guard);
    Value* p = element_ptr(n.buffer, a);
    if (scalar_guard) p = b_.CreateSelect(scalar_guard, p, dummy_);
    LoadInst* l = b_.CreateAlignedLoad(element, p, align);
    if (!scalar_guard) annotate(l, n.buffer);
    Value* v = from_memory(l, buf.type);
    if (!g) return v;
    int w = width_of(g);
    return b_.CreateSelect(g, splat(v, w), splat(eval(n.args[0]), w));
  }
  int w = vector_.width;
  Type* vt = FixedVectorType::get(element, static_cast<unsigned>(w));
  Value* mask = both(vector_.mask, g);
  if (mask) mask = splat(mask, w);
  Value* v = nullptr;
  if (a.kind == Address::kContiguous) {
    Value* p = element_ptr(n.buffer, a);
    Instruction* i =
        mask ? static_cast<Instruction*>(b_.CreateMaskedLoad(vt, p, align, mask, Constant::getNullValue(vt)))
             : b_.CreateAlignedLoad(vt, p, align);
    annotate(i, n.buffer);
    v = i;
  } else if (a.stride == 2 && mask) {
    // both vectors that hold the elements, masked, and a shuffle
    std::vector<int> spread, pick;
    for (int i = 0; i < 2 * w; ++i) spread.push_back(i % 2 ? w : i / 2);
    for (int i = 0; i < w; ++i) pick.push_back(2 * i);
    Value* wide = spread_mask(n.guards);
    if (!wide) wide = b_.CreateShuffleVector(mask, Constant::getNullValue(mask->getType()), spread);
    Type* wt = FixedVectorType::get(element, static_cast<unsigned>(2 * w));
    Instruction* i =
        b_.CreateMaskedLoad(wt, element_ptr(n.buffer, a), align, wide, Constant::getNullValue(wt));
    annotate(i, n.buffer);
    v = b_.CreateShuffleVector(i, pick);
  } else if (a.stride && !mask) {
    Value* p = element_ptr(n.buffer, a);
    v = PoisonValue::get(vt);
    if (a.stride == 2 || a.stride == -1) {  // whole vectors and a shuffle
      std::vector<int> pick;
      if (a.stride == -1) {
        LoadInst* l = b_.CreateAlignedLoad(vt, b_.CreateInBoundsGEP(element, p, i64(1 - w)), align);
        annotate(l, n.buffer);
        for (int i = 0; i < w; ++i) pick.push_back(w - 1 - i);
        v = b_.CreateShuffleVector(l, pick);
      } else {
        // the second half starts one element early: the element after the last one may not exist
        LoadInst* first = b_.CreateAlignedLoad(vt, p, align);
        LoadInst* second = b_.CreateAlignedLoad(vt, b_.CreateInBoundsGEP(element, p, i64(w - 1)), align);
        annotate(first, n.buffer);
        annotate(second, n.buffer);
        for (int i = 0; i < w; ++i) pick.push_back(2 * i < w ? 2 * i : w + (2 * i - (w - 1)));
        v = b_.CreateShuffleVector(first, second, pick);
      }
    } else {
      for (int l = 0; l < w; ++l) {
        LoadInst* e =
            b_.CreateAlignedLoad(element, b_.CreateInBoundsGEP(element, p, i64(l * a.stride)), align);
        annotate(e, n.buffer);
        v = b_.CreateInsertElement(v, e, static_cast<uint64_t>(l));
      }
    }
  } else {
    Value* index = a.index;
    if (a.stride) {
      std::vector<Constant*> steps;
      for (int l = 0; l < w; ++l)
        steps.push_back(b_.getInt64(static_cast<uint64_t>(l * a.stride + a.displacement)));
      index = b_.CreateAdd(splat(a.index, w), ConstantVector::get(steps));
    }
    Value* ptrs = b_.CreateInBoundsGEP(element, buffers_[static_cast<size_t>(n.buffer)].base, index);
    Instruction* i = b_.CreateMaskedGather(vt, ptrs, align, as_mask(mask), Constant::getNullValue(vt));
    annotate(i, n.buffer);
    v = i;
  }
  v = from_memory(v, buf.type);
  if (!g) return v;
  return b_.CreateSelect(splat(g, w), v, splat(eval(n.args[0]), w));
}

void KernelEmitter::store(int buffer, const std::vector<Dim>& index, Value* v,
                          const std::vector<Dim>& guards) {
  const LoopBuffer& buf = k_.buffers[static_cast<size_t>(buffer)];
  Value* g = guard(guards);
  Align align(dtype_size(buf.type));
  Type* element = memory_type(buf.type);
  if (buf.kind == BufferKind::kRegister) {
    RegisterAccess a;
    if (!register_access(buffer, index, &a)) {
      fail(fmt::format("the index of register buffer %{} isn't constant", buf.name));
      return;
    }
    bool lanes = a.vector || buffers_[static_cast<size_t>(buffer)].lanes;
    Value* mask = both(lanes ? vector_.mask : nullptr, g);
    if (!lanes && (v->getType()->isVectorTy() || (mask && mask->getType()->isVectorTy()))) {
      fail(fmt::format("lanes of a vector loop are stored to one element of %{}", buf.name));
      return;
    }
    register_store(buffer, a, v, mask);
    return;
  }
  Address a = address(buffer, index);
  if (a.kind == Address::kUniform) {
    if (v->getType()->isVectorTy() || (g && g->getType()->isVectorTy())) {
      fail(fmt::format("lanes of a vector loop are stored to one element of %{}", buf.name));
      return;
    }
    v = to_memory(v, buf.type);
    BasicBlock* after = nullptr;
    if (g) {
      BasicBlock* then = BasicBlock::Create(ctx_, "store", fn_);
      after = BasicBlock::Create(ctx_, "stored", fn_);
      b_.CreateCondBr(g, then, after);
      b_.SetInsertPoint(then);
    }
    annotate(b_.CreateAlignedStore(v, element_ptr(buffer, a), align), buffer);
    if (after) {
      b_.CreateBr(after);
      b_.SetInsertPoint(after);
    }
    return;
  }
  int w = vector_.width;
  v = to_memory(splat(v, w), buf.type);
  Value* mask = both(vector_.mask, g);
  if (mask) mask = splat(mask, w);
  if (a.kind == Address::kContiguous) {
    Value* p = element_ptr(buffer, a);
    annotate(mask ? static_cast<Instruction*>(b_.CreateMaskedStore(v, p, align, mask))
                  : b_.CreateAlignedStore(v, p, align),
             buffer);
  } else if (a.stride && !mask) {
    Value* p = element_ptr(buffer, a);
    for (int l = 0; l < w; ++l)
      annotate(b_.CreateAlignedStore(b_.CreateExtractElement(v, static_cast<uint64_t>(l)),
                                     b_.CreateInBoundsGEP(element, p, i64(l * a.stride)), align),
               buffer);
  } else {
    Value* ix = a.index;
    if (a.stride) {
      std::vector<Constant*> steps;
      for (int l = 0; l < w; ++l)
        steps.push_back(b_.getInt64(static_cast<uint64_t>(l * a.stride + a.displacement)));
      ix = b_.CreateAdd(splat(a.index, w), ConstantVector::get(steps));
    }
    Value* ptrs = b_.CreateInBoundsGEP(element, buffers_[static_cast<size_t>(buffer)].base, ix);
    annotate(b_.CreateMaskedScatter(v, ptrs, align, as_mask(mask)), buffer);
  }
}

// Neighbours of different lanes, store by store: addresses a, a+1, .. a+n-1 of one buffer in every lane, the
// lanes at least n apart. Together they are whole vectors: interleaved if the lanes are n apart, else
// transposed.
size_t KernelEmitter::store_run(const StmtList& block, size_t at) const {
  const Stmt& s = block[at];
  if (vector_.width == 0 || s.kind != StmtKind::kStore ||
      k_.buffers[static_cast<size_t>(s.buffer)].kind == BufferKind::kRegister)
    return 1;
  Dim start;
  auto stride = lane_stride(flat_index(s.buffer, s.index), &start);
  if (!stride || *stride < 2) return 1;
  size_t count = 1;
  bool same_guards = true;
  for (; count <
         std::min<size_t>(block.size() - at, static_cast<size_t>(std::min<int64_t>(*stride, vector_.width)));
       ++count) {
    const Stmt& t = block[at + count];
    // a value that is named already isn't changed by the stores before it
    if (t.kind != StmtKind::kStore || t.buffer != s.buffer ||
        (t.value.op() != ScalarOp::kVar && t.value.op() != ScalarOp::kConst))
      break;
    Dim next;
    auto same = lane_stride(flat_index(t.buffer, t.index), &next);
    if (same != stride || !(next - start).is_constant(static_cast<int64_t>(count))) break;
    same_guards = same_guards && t.guards == s.guards;
  }
  if (count == static_cast<size_t>(*stride) && count <= 4) return count;
  return same_guards && count >= 4 ? count : 1;
}

void KernelEmitter::store_together(const StmtList& block, size_t at, size_t count) {
  const Stmt& s = block[at];
  const LoopBuffer& buf = k_.buffers[static_cast<size_t>(s.buffer)];
  const int w = vector_.width, n = static_cast<int>(count);
  std::vector<Value*> values, masks;
  bool masked = false;
  for (size_t i = 0; i < count; ++i) {
    const Stmt& t = block[at + i];
    values.push_back(to_memory(splat(emit_expr(t.value), w), buf.type));
    Value* mask = both(vector_.mask, guard(t.guards));
    masked |= mask != nullptr;
    masks.push_back(as_mask(mask));
  }
  Address address = this->address(s.buffer, s.index);
  Value* p = element_ptr(s.buffer, address);
  Align align(dtype_size(buf.type));
  auto put = [&](Value* v, Value* to, Value* mask) {
    annotate(mask ? static_cast<Instruction*>(b_.CreateMaskedStore(v, to, align, mask))
                  : b_.CreateAlignedStore(v, to, align),
             s.buffer);
  };
  if (address.stride == n) {
    auto interleave = [&](std::vector<Value*> v) {
      // n vectors one after the other, then lane l of each
      while (v.size() > 1) {
        std::vector<Value*> pairs;
        for (size_t i = 0; i < v.size(); i += 2) {
          Value* b = i + 1 < v.size() ? v[i + 1] : PoisonValue::get(v[i]->getType());
          std::vector<int> all(static_cast<size_t>(2 * width_of(v[i])));
          for (size_t k = 0; k < all.size(); ++k) all[k] = static_cast<int>(k);
          pairs.push_back(b_.CreateShuffleVector(v[i], b, all));
        }
        v = pairs;
      }
      std::vector<int> order;
      for (int l = 0; l < w; ++l)
        for (int i = 0; i < n; ++i) order.push_back(i * w + l);
      return b_.CreateShuffleVector(v[0], order);
    };
    return put(interleave(values), p, masked ? interleave(masks) : nullptr);
  }
  // Perfect shuffles: with `rows` vectors, a power of two, element l of vector j ends at l * rows + j.
  int rows = 1;
  while (rows < n) rows *= 2;
  values.resize(static_cast<size_t>(rows), PoisonValue::get(values[0]->getType()));
  std::vector<int> low, high;
  for (int l = 0; l < w; ++l) {
    low.push_back(l / 2 + (l % 2) * w);
    high.push_back(w / 2 + l / 2 + (l % 2) * w);
  }
  for (int done = 1; done < rows; done *= 2) {
    std::vector<Value*> next;
    for (int i = 0; i < rows / 2; ++i) {
      Value *a = values[static_cast<size_t>(i)], *b = values[static_cast<size_t>(i + rows / 2)];
      next.push_back(b_.CreateShuffleVector(a, b, low));
      next.push_back(b_.CreateShuffleVector(a, b, high));
    }
    values = next;
  }
  Constant* there = nullptr;  // the first n of `rows` elements
  if (n < rows) {
    std::vector<Constant*> bits;
    for (int i = 0; i < rows; ++i) bits.push_back(b_.getInt1(i < n));
    there = ConstantVector::get(bits);
  }
  for (int l = 0; l < w; ++l) {
    Value* v = values[static_cast<size_t>(l * rows / w)];
    if (rows < w) {
      std::vector<int> part;
      for (int i = 0; i < rows; ++i) part.push_back(l * rows % w + i);
      v = b_.CreateShuffleVector(v, part);
    }
    Value* mask = masked ? splat(b_.CreateExtractElement(masks[0], static_cast<uint64_t>(l)), rows) : nullptr;
    if (there) mask = mask ? b_.CreateAnd(mask, there) : there;
    put(v, b_.CreateInBoundsGEP(memory_type(buf.type), p, i64(l * address.stride)), mask);
  }
}

}  // namespace graphc::cpu_emit
