// Statements of the LLVM emitter: loops, reductions, register tiles.
#include <algorithm>
#include <limits>
#include <unordered_set>

#include <fmt/format.h>
#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/IntrinsicsX86.h>
#include <llvm/IR/MDBuilder.h>

#include "backends/cpu/emit_internal.inc"

namespace graphc::cpu_emit {

using namespace llvm;

namespace {
constexpr int64_t kUnknownLow = -(int64_t{1} << 40);  // the range of an index that comes from data
}

KernelEmitter::KernelEmitter(Module& module, const Kernel& kernel, const CpuFeatures& features)
    : module_(module), k_(kernel), features_(features), ctx_(module.getContext()), b_(ctx_) {
  FastMathFlags fmf;
  fmf.setAllowContract(true);
  b_.setFastMathFlags(fmf);
}

AllocaInst* KernelEmitter::entry_alloca(Type* t, Align align, const char* name) {
  IRBuilder<> at(entry_, entry_->begin());
  AllocaInst* a = at.CreateAlloca(t, nullptr, name);
  a->setAlignment(align);
  return a;
}

namespace {

// Calls f on every load of an expression, once.
void for_each_load(const Expr& e, std::unordered_set<const ScalarNode*>& seen,
                   const std::function<void(const ScalarNode&)>& f) {
  if (!e || !seen.insert(e.get()).second) return;
  if (e->op == ScalarOp::kLoad) f(*e);
  for (const Expr& a : e->args) for_each_load(a, seen, f);
}

// Calls f(buffer, index) on every access of one statement itself.
void for_each_access(const Stmt& s, const std::function<void(int, const std::vector<Dim>&)>& f) {
  std::unordered_set<const ScalarNode*> seen;
  auto load = [&](const ScalarNode& n) { f(n.buffer, n.index); };
  for_each_load(s.value, seen, load);
  for (const Reduction& r : s.reductions) for_each_load(r.value, seen, load);
  if (s.kind == StmtKind::kStore || s.kind == StmtKind::kDot) f(s.buffer, s.index);
  if (s.kind == StmtKind::kDot) {
    f(s.a, s.a_index);
    f(s.b, s.b_index);
  }
}

}  // namespace

// How the elements of each register buffer are grouped into SSA values: one vector per W elements where every
// vector loop touches aligned runs of W, else one value per element. A buffer of a vector loop's own body has
// W lanes in every element.
void KernelEmitter::plan_registers() {
  std::vector<int> chunk(k_.buffers.size(), 0);  // 0: not seen in a vector loop, -1: not in aligned runs
  std::function<void(const StmtList&, const Stmt*)> walk = [&](const StmtList& block, const Stmt* vec) {
    for (const Stmt& s : block) {
      const Stmt* inner =
          (s.kind == StmtKind::kFor || s.kind == StmtKind::kReduce) && s.loop.kind == LoopKind::kVector ? &s
                                                                                                        : vec;
      if (s.kind == StmtKind::kDeclare && vec)
        buffers_[static_cast<size_t>(s.buffer)].lanes = vec->loop.width;
      for_each_access(s, [&](int buffer, const std::vector<Dim>& index) {
        const LoopBuffer& buf = k_.buffers[static_cast<size_t>(buffer)];
        const Stmt* v = s.kind == StmtKind::kReduce ? inner : vec;
        if (buf.kind != BufferKind::kRegister || !v) return;
        Dim flat(0);
        for (size_t i = 0; i < index.size(); ++i) flat = flat * (i ? buf.shape[i] : Dim(1)) + index[i];
        if (!flat.uses(v->name)) return;
        int w = v->loop.width;
        bool aligned = v->lo.is_constant() && v->lo.constant() % w == 0 && flat.constant() % w == 0;
        for (const DimTerm& t : flat.terms()) {
          bool is_lane = t.atoms.size() == 1 && t.atoms[0]->name == v->name;
          aligned &= is_lane ? t.coefficient == 1 : t.coefficient % w == 0;
        }
        int& c = chunk[static_cast<size_t>(buffer)];
        c = !aligned || (c != 0 && c != w) ? -1 : w;
      });
      walk(s.body, inner);
      walk(s.orelse, inner);
    }
  };
  walk(k_.body, nullptr);
  for (size_t i = 0; i < k_.buffers.size(); ++i) {
    const LoopBuffer& buf = k_.buffers[i];
    if (buf.kind != BufferKind::kRegister) continue;
    BufferState& s = buffers_[i];
    int64_t n = 1;
    for (const Dim& d : buf.shape) n *= d.constant();
    if (n < 0 || n > 4096) {
      fail(fmt::format("register buffer %{} has {} elements, more than 4096", buf.name, n));
      return;
    }
    s.chunk = !s.lanes && chunk[i] > 1 ? chunk[i] : 1;
    Type* t = memory_type(buf.type);
    int lanes = s.lanes ? s.lanes : s.chunk;
    if (lanes > 1) t = FixedVectorType::get(t, static_cast<unsigned>(lanes));
    for (int64_t j = 0; j < (n + s.chunk - 1) / s.chunk; ++j)
      s.slots.push_back(entry_alloca(t, Align(64), "r"));
  }
}

bool KernelEmitter::touches_registers(const Stmt& loop) const {
  bool found = false;
  auto check = [&](const Stmt& s) {
    for_each_access(s, [&](int buffer, const std::vector<Dim>& index) {
      if (k_.buffers[static_cast<size_t>(buffer)].kind != BufferKind::kRegister) return;
      for (const Dim& d : index) found |= d.uses(loop.name);
    });
  };
  check(loop);
  for_each_stmt(loop.body, check);
  return found;
}

Status KernelEmitter::emit() {
  if (uses_threads(k_))
    return invalid(fmt::format(
        "kernel @{}: thread and warp loops, barriers and shared memory are for GPUs, the cpu has none",
        k_.name));
  Type* ptr = PointerType::get(ctx_, 0);
  fn_ = Function::Create(FunctionType::get(Type::getVoidTy(ctx_), {ptr}, false), GlobalValue::ExternalLinkage,
                         k_.name, module_);
  fn_->addFnAttr(Attribute::NoUnwind);
  fn_->addParamAttr(0, Attribute::ReadOnly);
  fn_->addParamAttr(0, Attribute::NoAlias);
  entry_ = BasicBlock::Create(ctx_, "entry", fn_);
  b_.SetInsertPoint(entry_);
  // struct KernelCall { void* const* buffers; const int64_t* symbols; void* scratch; int64_t begin, end; }
  auto invariant = [&](LoadInst* l) {
    l->setMetadata(LLVMContext::MD_invariant_load, MDNode::get(ctx_, {}));
    return l;
  };
  auto field = [&](Type* t, int offset) {
    return invariant(b_.CreateAlignedLoad(
        t, b_.CreateConstInBoundsGEP1_64(b_.getInt8Ty(), fn_->getArg(0), static_cast<uint64_t>(offset)),
        Align(8)));
  };
  Value* args = field(ptr, 0);
  Value* symbols = field(ptr, 8);
  Value* scratch = field(ptr, 16);
  begin_ = field(b_.getInt64Ty(), 24);
  end_ = field(b_.getInt64Ty(), 32);
  for (size_t i = 0; i < k_.params.size(); ++i) {
    vars_[k_.params[i]] = invariant(b_.CreateAlignedLoad(
        b_.getInt64Ty(), b_.CreateConstInBoundsGEP1_64(b_.getInt64Ty(), symbols, i), Align(8)));
    vars_[k_.params[i]]->setName(k_.params[i]);
  }
  dummy_ = entry_alloca(b_.getInt64Ty(), Align(8), "zero");
  b_.CreateStore(i64(0), dummy_);

  // One alias scope for each buffer in memory; buffers that may be the same memory share one.
  MDBuilder md(ctx_);
  MDNode* domain = md.createAnonymousAliasScopeDomain(k_.name);
  buffers_.resize(k_.buffers.size());
  std::vector<int> group(k_.buffers.size());
  std::vector<MDNode*> scopes(k_.buffers.size(), nullptr);
  std::vector<bool> group_written(k_.buffers.size(), false);
  for (size_t i = 0; i < k_.buffers.size(); ++i) {
    const LoopBuffer& buf = k_.buffers[i];
    group[i] = buf.alias >= 0 ? group[static_cast<size_t>(buf.alias)] : static_cast<int>(i);
    if (buf.written || buf.kind != BufferKind::kArg) group_written[static_cast<size_t>(group[i])] = true;
    if (buf.kind == BufferKind::kRegister) continue;
    MDNode*& scope = scopes[static_cast<size_t>(group[i])];
    if (!scope) scope = md.createAnonymousAliasScope(domain, buf.name);
  }
  Dim offset(0);
  for (size_t i = 0; i < k_.buffers.size(); ++i) {
    const LoopBuffer& buf = k_.buffers[i];
    BufferState& s = buffers_[i];
    if (buf.kind == BufferKind::kRegister) continue;
    s.scope = MDNode::get(ctx_, {scopes[static_cast<size_t>(group[i])]});
    std::vector<Metadata*> others;
    for (size_t j = 0; j < scopes.size(); ++j)
      if (scopes[j] && static_cast<int>(j) != group[i]) others.push_back(scopes[j]);
    if (!others.empty()) s.noalias = MDNode::get(ctx_, others);
    s.invariant = !group_written[static_cast<size_t>(group[i])];
    if (buf.kind == BufferKind::kArg) {
      s.base = invariant(b_.CreateAlignedLoad(ptr, b_.CreateConstInBoundsGEP1_64(ptr, args, i), Align(8)));
      s.base->setName(buf.name);
    } else if (buf.kind == BufferKind::kScratch) {
      s.base = b_.CreateInBoundsGEP(b_.getInt8Ty(), scratch, emit_dim(offset), buf.name);
      Dim n(static_cast<int64_t>(dtype_size(buf.type)));
      for (const Dim& d : buf.shape) n *= d;
      offset += ceildiv(n, 64) * 64;
    } else {
      int64_t n = 1;
      for (const Dim& d : buf.shape) n *= d.constant();
      s.base =
          entry_alloca(ArrayType::get(memory_type(buf.type), static_cast<uint64_t>(n)), Align(64), "stack");
    }
  }
  plan_registers();
  if (error_.empty()) {
    if (k_.body.size() == 1 && k_.body[0].kind == StmtKind::kFor &&
        k_.body[0].loop.kind == LoopKind::kParallel) {
      emit_parallel(k_.body[0]);
    } else {
      BasicBlock* run = BasicBlock::Create(ctx_, "run", fn_);
      BasicBlock* skip = BasicBlock::Create(ctx_, "skip", fn_);
      b_.CreateCondBr(b_.CreateICmpSLT(begin_, end_), run, skip);
      b_.SetInsertPoint(run);
      emit_block(k_.body);
      b_.CreateBr(skip);
      b_.SetInsertPoint(skip);
    }
  }
  b_.CreateRetVoid();
  if (!error_.empty()) return invalid(fmt::format("kernel @{}: {}", k_.name, error_));
  return ok_status();
}

void KernelEmitter::emit_block(const StmtList& block) {
  for (size_t i = 0; i < block.size(); ++i) {
    if (!error_.empty()) return;
    if (size_t run = store_run(block, i); run > 1) {
      store_together(block, i, run);
      i += run - 1;
    } else {
      emit_stmt(block[i]);
    }
  }
}

void KernelEmitter::emit_stmt(const Stmt& s) {
  switch (s.kind) {
    case StmtKind::kLet: {
      Value* v = emit_expr(s.value);
      values_[s.name] = v;
      if (s.value.type() == DType::kI64) {
        vars_[s.name] = v;
        depth_[s.name] = loop_depth_;
        ranges_.set(s.name, Dim(kUnknownLow), {});
      }
      break;
    }
    case StmtKind::kStore: store(s.buffer, s.index, emit_expr(s.value), s.guards); break;
    case StmtKind::kFor:
      if (s.loop.kind == LoopKind::kVector)
        emit_vector_for(s);
      else
        emit_for(s);
      break;
    case StmtKind::kReduce: emit_reduce(s); break;
    case StmtKind::kIf: emit_if(s); break;
    case StmtKind::kDeclare: emit_declare(s); break;
    case StmtKind::kDot: emit_dot(s); break;
    case StmtKind::kBarrier: fail("a barrier is for GPUs"); break;
    case StmtKind::kPrefetch: {
      Address a = address(s.buffer, s.index);
      if (a.kind == Address::kIndexed && !a.stride) break;
      Value* p = element_ptr(s.buffer, a);
      b_.CreateIntrinsic(Intrinsic::prefetch, {p->getType()},
                         {p, b_.getInt32(0), b_.getInt32(3), b_.getInt32(1)});
      break;
    }
  }
}

void KernelEmitter::emit_declare(const Stmt& s) {
  const LoopBuffer& buf = k_.buffers[static_cast<size_t>(s.buffer)];
  BufferState& state = buffers_[static_cast<size_t>(s.buffer)];
  if (buf.kind == BufferKind::kRegister) {
    // Poison ends the life of an earlier iteration's values.
    Value* init = s.value ? to_memory(emit_expr(s.value), buf.type) : nullptr;
    for (AllocaInst* slot : state.slots) {
      Type* t = slot->getAllocatedType();
      Value* v =
          init ? splat(init,
                       t->isVectorTy() ? static_cast<int>(cast<FixedVectorType>(t)->getNumElements()) : 1)
               : PoisonValue::get(t);
      b_.CreateStore(v, slot);
    }
  } else if (s.value && buf.kind == BufferKind::kStack) {
    Value* init = to_memory(emit_expr(s.value), buf.type);
    int64_t n = 1;
    for (const Dim& d : buf.shape) n *= d.constant();
    counted_loop(i64(0), i64(n), 1, n > 0, [&](Value* i) {
      annotate(b_.CreateAlignedStore(init, b_.CreateInBoundsGEP(memory_type(buf.type), state.base, i),
                                     Align(dtype_size(buf.type))),
               s.buffer);
    });
  }
}

// ---- loops

void KernelEmitter::counted_loop(Value* lo, Value* hi, int64_t step, bool nonempty,
                                 const std::function<void(Value*)>& body) {
  if (auto* l = dyn_cast<ConstantInt>(lo), *h = dyn_cast<ConstantInt>(hi); l && h) {
    if (l->getSExtValue() >= h->getSExtValue()) return;
    nonempty = true;
    if (l->getSExtValue() + step >= h->getSExtValue()) return body(lo);
  }
  BasicBlock* loop = BasicBlock::Create(ctx_, "loop", fn_);
  BasicBlock* exit = BasicBlock::Create(ctx_, "exit", fn_);
  BasicBlock* before = b_.GetInsertBlock();
  if (nonempty) {
    b_.CreateBr(loop);
  } else {
    BasicBlock* preheader = BasicBlock::Create(ctx_, "pre", fn_, loop);
    b_.CreateCondBr(b_.CreateICmpSLT(lo, hi), preheader, exit);
    b_.SetInsertPoint(preheader);
    b_.CreateBr(loop);
    before = preheader;
  }
  b_.SetInsertPoint(loop);
  PHINode* i = b_.CreatePHI(b_.getInt64Ty(), 2);
  i->addIncoming(lo, before);
  ++loop_depth_;
  body(i);
  --loop_depth_;
  Value* next = b_.CreateNSWAdd(i, i64(step));
  i->addIncoming(next, b_.GetInsertBlock());
  b_.CreateCondBr(b_.CreateICmpSLT(next, hi), loop, exit);
  b_.SetInsertPoint(exit);
}

Value* KernelEmitter::upper_bound(const Stmt& s) {
  Value* hi = nullptr;
  for (const Dim& d : s.hi) {
    Dim r = resolve(d);
    if (lane_varying(r))
      return fail(fmt::format("the bound {} of loop {} depends on lanes", r.to_string(), s.name));
    Value* v = emit_dim(r);
    hi = hi ? b_.CreateBinaryIntrinsic(Intrinsic::smin, hi, v) : v;
  }
  return hi;
}

void KernelEmitter::bind_var(const Stmt& s, Value* v) {
  vars_[s.name] = v;
  depth_[s.name] = loop_depth_;
  ranges_.set(s.name, resolve(s.lo), resolve(s.hi[0]) - 1);
}

void KernelEmitter::with_constant(const Stmt& s, int64_t v, const std::function<void()>& body) {
  constants_[s.name] = Dim(v);
  vars_[s.name] = i64(v);
  depth_[s.name] = 0;
  body();
  constants_.erase(s.name);
}

// The outermost loops as one range begin..end: their variables start at the digits of begin and count like an
// odometer.
void KernelEmitter::emit_parallel(const Stmt& outer) {
  std::vector<const Stmt*> nest;
  const StmtList* body = nullptr;
  for (const Stmt* s = &outer;;) {
    nest.push_back(s);
    body = &s->body;
    if (body->size() != 1 || (*body)[0].kind != StmtKind::kFor || (*body)[0].loop.kind != LoopKind::kParallel)
      break;
    s = &(*body)[0];
  }
  for (const Stmt* s : nest) ranges_.set(s->name, s->lo, s->hi[0] - 1);
  std::vector<Value*> extent;
  for (const Stmt* s : nest) extent.push_back(emit_dim(resolve(ceildiv(s->hi[0] - s->lo, s->step))));
  if (nest.size() == 1) {
    counted_loop(begin_, end_, 1, false, [&](Value* i) {
      Value* v = outer.step == 1 ? i : b_.CreateMul(i, i64(outer.step));
      bind_var(outer, b_.CreateAdd(emit_dim(resolve(outer.lo)), v));
      emit_block(*body);
    });
    return;
  }
  std::vector<AllocaInst*> digits;
  for (size_t i = 0; i < nest.size(); ++i) digits.push_back(entry_alloca(b_.getInt64Ty(), Align(8), "digit"));
  BasicBlock* run = BasicBlock::Create(ctx_, "run", fn_);
  BasicBlock* skip = BasicBlock::Create(ctx_, "skip", fn_);
  b_.CreateCondBr(b_.CreateICmpSLT(begin_, end_), run, skip);
  b_.SetInsertPoint(run);
  Value* rest = begin_;
  for (size_t i = nest.size(); i-- > 0;) {
    if (i == 0) {
      b_.CreateStore(rest, digits[0]);
    } else {
      b_.CreateStore(b_.CreateURem(rest, extent[i]), digits[i]);
      rest = b_.CreateUDiv(rest, extent[i]);
    }
  }
  counted_loop(begin_, end_, 1, true, [&](Value*) {
    std::vector<Value*> now;
    for (size_t i = 0; i < nest.size(); ++i) {
      now.push_back(b_.CreateLoad(b_.getInt64Ty(), digits[i]));
      Value* v = nest[i]->step == 1 ? now[i] : b_.CreateMul(now[i], i64(nest[i]->step));
      bind_var(*nest[i], b_.CreateAdd(emit_dim(resolve(nest[i]->lo)), v));
    }
    emit_block(*body);
    Value* carry = i64(1);
    for (size_t i = nest.size(); i-- > 0;) {
      Value* next = b_.CreateAdd(now[i], carry);
      if (i > 0) {
        Value* wrapped = b_.CreateICmpEQ(next, extent[i]);
        next = b_.CreateSelect(wrapped, i64(0), next);
        carry = b_.CreateZExt(wrapped, b_.getInt64Ty());
      }
      b_.CreateStore(next, digits[i]);
    }
  });
  b_.CreateBr(skip);
  b_.SetInsertPoint(skip);
}

void KernelEmitter::emit_for(const Stmt& s) {
  if (s.loop.kind == LoopKind::kParallel) {
    fail(fmt::format("parallel loop {} isn't outermost", s.name));
    return;
  }
  Dim lo = resolve(s.lo);
  if (s.loop.kind == LoopKind::kUnroll) {
    std::optional<int64_t> hi;
    for (const Dim& d : s.hi) {
      auto h = resolve(d).as_constant();
      if (!h || !lo.is_constant()) {
        fail(fmt::format("the bounds of unrolled loop {} aren't constant", s.name));
        return;
      }
      hi = hi ? std::min(*hi, *h) : *h;
    }
    for (int64_t v = lo.constant(); v < *hi; v += s.step) with_constant(s, v, [&] { emit_block(s.body); });
    return;
  }
  bool nonempty = s.hi.size() == 1 && ranges_.provably_less(lo, resolve(s.hi[0]));
  counted_loop(emit_dim(lo), upper_bound(s), s.step, nonempty, [&](Value* i) {
    bind_var(s, i);
    emit_block(s.body);
  });
}

void KernelEmitter::vector_chunks(const Stmt& s, const std::function<void(int)>& body) {
  if (vector_.width) {
    fail(fmt::format("vector loop {} is inside vector loop {}", s.name, vector_.var));
    return;
  }
  const int64_t w = s.loop.width, u = std::max(1, s.loop.unroll);
  Dim lo_dim = resolve(s.lo);
  Value* lo = emit_dim(lo_dim);
  Value* hi = upper_bound(s);
  if (!error_.empty()) return;
  auto chunk = [&](Value* base, int index, Value* count) {  // count: lanes from base to the end, null if >= W
    vector_ = VectorContext{s.name, static_cast<int>(w)};
    bind_var(s, base);
    vector_.aligned = lo_dim.is_constant() && lo_dim.constant() % w == 0;
    if (vector_.aligned) {
      std::string q = s.name + ".q", l = s.name + ".l";
      vars_[q] = b_.CreateSDiv(base, i64(w), "", true);
      depth_[q] = loop_depth_;
      vars_[l] = i64(0);
      ranges_.set(q, Dim(lo_dim.constant() / w), floordiv(resolve(s.hi[0]) - 1, w));
      ranges_.set(l, 0, w - 1);
    }
    vector_.count = count;
    if (count) vector_.mask = lanes_below(count);
    body(index);
    vector_ = {};
  };
  auto *cl = dyn_cast<ConstantInt>(lo), *ch = dyn_cast<ConstantInt>(hi);
  if (cl && ch) {
    int64_t n = std::max<int64_t>(0, ch->getSExtValue() - cl->getSExtValue()), start = cl->getSExtValue();
    auto straight = [&](int64_t from, int64_t to, int index) {
      for (int64_t p = from; p < to && error_.empty(); p += w)
        chunk(i64(start + p), index, p + w > to ? i64(to - p) : nullptr);
    };
    if (n == 0) return;
    if (touches_registers(s)) return straight(0, n, 0);
    int64_t groups = n / (w * u), done = groups * w * u;
    auto group = [&](Value* base) {
      for (int64_t j = 0; j < u && error_.empty(); ++j)
        chunk(j ? b_.CreateNSWAdd(base, i64(j * w)) : base, static_cast<int>(j), nullptr);
    };
    counted_loop(lo, i64(start + done), w * u, groups > 0, group);
    int64_t rest = (n - done) / w;
    if (rest > 2)
      counted_loop(i64(start + done), i64(start + done + rest * w), w, true,
                   [&](Value* base) { chunk(base, 0, nullptr); });
    else
      straight(done, done + rest * w, 0);
    straight(done + rest * w, n, 0);
    return;
  }
  Value* n = b_.CreateBinaryIntrinsic(Intrinsic::smax, b_.CreateSub(hi, lo), i64(0));
  auto whole = [&](int64_t m) -> Value* {  // lo + n rounded down to m
    Value* r = (m & (m - 1)) == 0 ? b_.CreateAnd(n, i64(-m)) : b_.CreateMul(b_.CreateUDiv(n, i64(m)), i64(m));
    return b_.CreateAdd(lo, r);
  };
  Value* done = whole(w * u);
  counted_loop(lo, done, w * u, false, [&](Value* base) {
    for (int64_t j = 0; j < u && error_.empty(); ++j)
      chunk(j ? b_.CreateNSWAdd(base, i64(j * w)) : base, static_cast<int>(j), nullptr);
  });
  if (u > 1) {
    Value* full = whole(w);
    counted_loop(done, full, w, false, [&](Value* base) { chunk(base, 0, nullptr); });
    done = full;
  }
  if (s.hi.size() == 1) {  // no tail if the extent is a multiple of W whatever the sizes are
    Dim extent = resolve(s.hi[0] - s.lo);
    if (floordiv(extent, w) * w == extent) return;
  }
  BasicBlock* tail = BasicBlock::Create(ctx_, "tail", fn_);
  BasicBlock* after = BasicBlock::Create(ctx_, "after", fn_);
  b_.CreateCondBr(b_.CreateICmpSLT(done, hi), tail, after);
  b_.SetInsertPoint(tail);
  if (error_.empty()) chunk(done, 0, b_.CreateSub(hi, done));
  b_.CreateBr(after);
  b_.SetInsertPoint(after);
}

void KernelEmitter::emit_vector_for(const Stmt& s) {
  vector_chunks(s, [&](int) { emit_block(s.body); });
}

void KernelEmitter::emit_if(const Stmt& s) {
  Value* g = guard(s.guards);
  if (!g) return emit_block(s.body);
  if (!g->getType()->isVectorTy()) {
    BasicBlock* then = BasicBlock::Create(ctx_, "then", fn_);
    BasicBlock* otherwise = s.orelse.empty() ? nullptr : BasicBlock::Create(ctx_, "else", fn_);
    BasicBlock* after = BasicBlock::Create(ctx_, "endif", fn_);
    b_.CreateCondBr(g, then, otherwise ? otherwise : after);
    b_.SetInsertPoint(then);
    emit_block(s.body);
    b_.CreateBr(after);
    if (otherwise) {
      b_.SetInsertPoint(otherwise);
      emit_block(s.orelse);
      b_.CreateBr(after);
    }
    b_.SetInsertPoint(after);
    return;
  }
  VectorContext saved = vector_;
  vector_.mask = both(saved.mask, g);
  vector_.maybe_empty = true;
  vector_.count = nullptr;
  emit_block(s.body);
  vector_.mask = both(saved.mask, b_.CreateNot(g));
  emit_block(s.orelse);
  vector_ = saved;
}

// ---- reductions

// max and min hand NaN on and give the first of equals (so that max(+0, -0) is +0 as in the reference): b > a
// ? b : a is one instruction that gives a where either is NaN; what is left is a NaN in b.
Value* KernelEmitter::reduce_combine(ReduceOp op, DType type, Value* a, Value* b) {
  bool f = is_float(type);
  if (type == DType::kBool) {
    bool any = op == ReduceOp::kAdd || op == ReduceOp::kMax;
    return any ? b_.CreateOr(a, b) : b_.CreateAnd(a, b);
  }
  switch (op) {
    case ReduceOp::kAdd: return f ? b_.CreateFAdd(a, b) : b_.CreateAdd(a, b);
    case ReduceOp::kMul: return f ? b_.CreateFMul(a, b) : b_.CreateMul(a, b);
    case ReduceOp::kMax:
    case ReduceOp::kMin: {
      bool is_max = op == ReduceOp::kMax;
      if (!f) return eval_int(is_max ? ScalarOp::kMax : ScalarOp::kMin, type, a, b);
      Value* other = is_max ? b_.CreateFCmpOGT(b, a) : b_.CreateFCmpOLT(b, a);
      Value* m = b_.CreateSelect(other, b, a);
      return b_.CreateSelect(b_.CreateFCmpUNO(b, b), b, m);
    }
  }
  return a;
}

Constant* KernelEmitter::reduce_identity(ReduceOp op, DType type, Type* t) {
  if (is_float(type)) {
    double inf = std::numeric_limits<double>::infinity();
    double v = op == ReduceOp::kAdd ? -0.0 : op == ReduceOp::kMul ? 1 : op == ReduceOp::kMax ? -inf : inf;
    return cast<Constant>(ConstantFP::get(t, v));
  }
  bool u = !is_signed_int(type);
  unsigned bits = t->getScalarSizeInBits();
  uint64_t all = bits == 64 ? ~0ull : (1ull << bits) - 1;
  uint64_t v = 0;
  if (op == ReduceOp::kMul) v = 1;
  if (op == ReduceOp::kMax && !u) v = 1ull << (bits - 1);
  if (op == ReduceOp::kMin) v = u ? all : all >> 1;
  return cast<Constant>(ConstantInt::get(t, v));
}

Value* KernelEmitter::reduce_lanes(ReduceOp op, DType type, Value* v) {
  for (int w = width_of(v); w > 1;) {
    int half = w / 2;
    std::vector<int> low, high;
    for (int i = 0; i < half; ++i) {
      low.push_back(i);
      high.push_back(half + i);
    }
    if (w % 2) {
      Value* last = b_.CreateExtractElement(v, static_cast<uint64_t>(w - 1));
      Value* rest = reduce_lanes(op, type, b_.CreateShuffleVector(v, [&] {
        std::vector<int> all = low;
        all.insert(all.end(), high.begin(), high.end());
        return all;
      }()));
      return reduce_combine(op, type, rest, last);
    }
    if (half == 1)
      return reduce_combine(op, type, b_.CreateExtractElement(v, uint64_t{0}),
                            b_.CreateExtractElement(v, uint64_t{1}));
    v = reduce_combine(op, type, b_.CreateShuffleVector(v, low), b_.CreateShuffleVector(v, high));
    w = half;
  }
  return v;
}

void KernelEmitter::emit_reduce(const Stmt& s) {
  const bool vec = s.loop.kind == LoopKind::kVector;
  const int lanes = vec ? s.loop.width : vector_.width ? vector_.width : 1;
  const int copies = vec ? std::max(1, s.loop.unroll) : 1;
  struct Accumulator {
    DType type;
    Type* t;
    std::vector<AllocaInst*> copies;
  };
  std::vector<Accumulator> acc;
  for (const Reduction& r : s.reductions) {
    Accumulator a{r.value.type(), compute_type(r.value.type()), {}};
    if (lanes > 1) a.t = FixedVectorType::get(a.t, static_cast<unsigned>(lanes));
    for (int u = 0; u < copies; ++u) {
      a.copies.push_back(entry_alloca(a.t, Align(64), "acc"));
      b_.CreateStore(reduce_identity(r.op, a.type, a.t), a.copies.back());
    }
    acc.push_back(std::move(a));
  }
  auto step = [&](int chunk) {
    emit_block(s.body);
    if (!error_.empty()) return;
    memo_.clear();
    for (size_t i = 0; i < acc.size(); ++i) {
      const Reduction& r = s.reductions[i];
      Value* v = splat(eval(r.value), lanes);
      if (!error_.empty()) return;
      if (vec && vector_.mask)
        v = b_.CreateSelect(splat(vector_.mask, lanes), v, reduce_identity(r.op, acc[i].type, acc[i].t));
      AllocaInst* p = acc[i].copies[static_cast<size_t>(chunk)];
      b_.CreateStore(reduce_combine(r.op, acc[i].type, b_.CreateLoad(acc[i].t, p), v), p);
    }
  };
  if (vec) {
    vector_chunks(s, step);
  } else {
    Dim lo = resolve(s.lo);
    if (s.loop.kind == LoopKind::kUnroll) {
      std::optional<int64_t> hi;
      for (const Dim& d : s.hi) {
        auto h = resolve(d).as_constant();
        if (!h || !lo.is_constant()) {
          fail(fmt::format("the bounds of unrolled reduce {} aren't constant", s.name));
          return;
        }
        hi = hi ? std::min(*hi, *h) : *h;
      }
      for (int64_t v = lo.constant(); v < *hi; v += s.step) with_constant(s, v, [&] { step(0); });
    } else {
      bool nonempty = s.hi.size() == 1 && ranges_.provably_less(lo, resolve(s.hi[0]));
      counted_loop(emit_dim(lo), upper_bound(s), s.step, nonempty, [&](Value* i) {
        bind_var(s, i);
        step(0);
      });
    }
  }
  if (!error_.empty()) return;
  for (size_t i = 0; i < acc.size(); ++i) {
    const Reduction& r = s.reductions[i];
    std::vector<Value*> v;
    for (AllocaInst* p : acc[i].copies) v.push_back(b_.CreateLoad(acc[i].t, p));
    while (v.size() > 1) {
      size_t half = (v.size() + 1) / 2;
      for (size_t j = 0; j + half < v.size(); ++j)
        v[j] = reduce_combine(r.op, acc[i].type, v[j], v[j + half]);
      v.resize(half);
    }
    Value* result = vec ? reduce_lanes(r.op, acc[i].type, v[0]) : v[0];
    values_[r.name] = result;
    if (acc[i].type == DType::kI64) {
      vars_[r.name] = result;
      depth_[r.name] = loop_depth_;
      ranges_.set(r.name, Dim(kUnknownLow), {});
    }
  }
}

}  // namespace graphc::cpu_emit
