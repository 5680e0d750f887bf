// Inside of the LLVM emitter; included by its own files only (LLVM's types are in no other header).
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Module.h>

#include "backends/cpu/exec/features.h"
#include "backends/cpu/vector_math.h"
#include "ir/loops/loops.h"

namespace graphc::cpu_emit {

using llvm::Value;

// The vector loop around the current statement. Lane l has the loop variable base + l.
struct VectorContext {
  std::string var;
  int width = 0;
  Value* mask = nullptr;     // <W x i1>; null if all lanes are on
  bool maybe_empty = false;  // inside an if, where all lanes may be off
  bool aligned = false;      // base is a multiple of width: `split` below
};

// An access as address arithmetic: element `index` of a dense array.
struct Address {
  enum Kind { kUniform, kContiguous, kIndexed } kind = kUniform;
  Value* index = nullptr;    // i64 of the first lane; <W x i64> for kIndexed without stride
  int64_t stride = 0;        // kIndexed with a known distance of the lanes, else 0
  int64_t displacement = 0;  // constant to add
};

class KernelEmitter {
 public:
  KernelEmitter(llvm::Module& module, const Kernel& kernel, const CpuFeatures& features);
  // Emits the function; the error names the statement.
  Status emit();

 private:
  // ---- emit_kernel.cpp: statements
  void emit_block(const Block& block);
  void emit_stmt(const Stmt& s);
  void emit_parallel(const Stmt& s);
  void emit_for(const Stmt& s);
  void emit_vector_for(const Stmt& s);
  void emit_reduce(const Stmt& s);
  void emit_if(const Stmt& s);
  void emit_declare(const Stmt& s);
  void emit_dot(const Stmt& s);
  // A rotated loop from lo below hi; body gets the induction value. Skips the entry test if nonempty.
  void counted_loop(Value* lo, Value* hi, int64_t step, bool nonempty,
                    const std::function<void(Value*)>& body);
  // The chunks of a vector loop: body runs with vector_ set, once for `unroll` chunks at a time; `chunk` says
  // which.
  void vector_chunks(const Stmt& s, const std::function<void(int chunk)>& body);
  Value* reduce_combine(ReduceOp op, DType type, Value* a, Value* b);
  llvm::Constant* reduce_identity(ReduceOp op, DType type, llvm::Type* t);
  Value* reduce_lanes(ReduceOp op, DType type, Value* v);
  void bind_var(const Stmt& s, Value* v);
  void unbind_var(const Stmt& s);
  void with_constant(const Stmt& s, int64_t v, const std::function<void()>& body);
  Value* upper_bound(const Stmt& s);

  // ---- emit_value.cpp: expressions and memory
  Value* emit_expr(const Expr& e);  // clears the memo first: one evaluation at this point
  Value* eval(const Expr& e);
  Value* eval_op(const ScalarNode& n);
  Value* eval_load(const ScalarNode& n);
  Value* eval_cast(Value* v, DType from, DType to);
  Value* eval_int(ScalarOp op, DType t, Value* a, Value* b);
  Value* eval_compare(ScalarOp op, DType t, Value* a, Value* b);
  Value* eval_philox(const std::vector<Value*>& v);
  void store(int buffer, const std::vector<Dim>& index, Value* v, const std::vector<Dim>& guards);
  Value* from_memory(Value* raw, DType t);
  Value* to_memory(Value* v, DType t);

  Dim resolve(const Dim& d) const;  // unrolled variables replaced, simplified
  bool lane_varying(const Dim& d) const;
  Value* emit_dim(const Dim& d);        // i64, of lane 0 where linear in the lane
  Value* emit_dim_lanes(const Dim& d);  // <W x i64>
  Value* emit_term(const DimTerm& t, bool lanes);
  Value* floor_div(Value* n, const Dim& num, const Dim& den, bool lanes);
  Address address(int buffer, const std::vector<Dim>& index);
  Dim flat_index(int buffer, const std::vector<Dim>& index) const;
  // All guards >= 0: null if always; an i1 if uniform, else <W x i1>.
  Value* guard(const std::vector<Dim>& guards);
  Value* guard_lanes(const Dim& g);
  Value* both(Value* a, Value* b);  // and of two masks, either may be null, uniform or a vector
  Value* as_mask(Value* m);         // to <W x i1>; all ones for null
  Value* lanes_below(Value* n);     // lane < n, n an i64 of any value
  Value* splat(Value* v, int width);
  Value* element_ptr(int buffer, const Address& a);
  void annotate(llvm::Instruction* i, int buffer);
  // The slots of a register buffer that an access touches; false if it isn't constant.
  struct RegisterAccess {
    int64_t slot = 0;     // first element / chunk
    bool vector = false;  // chunk of W lanes
    int64_t lane_stride = 0;
  };
  // With a base that is a multiple of W, c = W*c.q + c.l, 0 <= c.l < W: c//(m*W) is c.q//m, the same in all
  // lanes.
  Dim split_lanes(const Dim& d) const;
  Dim divide_aligned(const Dim& d) const;
  // d as stride*lane + a part that is the same in all lanes (whose value of lane 0 is *first); nullopt
  // otherwise
  std::optional<int64_t> lane_stride(const Dim& d, Dim* first) const;
  bool register_access(int buffer, const std::vector<Dim>& index, RegisterAccess* out);
  Value* register_load(int buffer, const RegisterAccess& a);
  void register_store(int buffer, const RegisterAccess& a, Value* v, Value* mask);

  llvm::Type* compute_type(DType t) const;
  llvm::Type* memory_type(DType t) const;
  llvm::Type* like(llvm::Type* element, Value* v) const;  // element or a vector of it, as v is
  int width_of(Value* v) const;
  Value* i64(int64_t v) { return b_.getInt64(static_cast<uint64_t>(v)); }
  Value* fail(std::string message);  // remembers the first error
  llvm::AllocaInst* entry_alloca(llvm::Type* t, llvm::Align align, const char* name);
  void plan_registers();
  bool touches_registers(const Stmt& s) const;  // by the lane of this vector loop

  llvm::Module& module_;
  const Kernel& k_;
  const CpuFeatures& features_;
  llvm::LLVMContext& ctx_;
  llvm::IRBuilder<> b_;
  llvm::Function* fn_ = nullptr;
  llvm::BasicBlock* entry_ = nullptr;
  Value* begin_ = nullptr;
  Value* end_ = nullptr;
  Value* dummy_ = nullptr;  // eight zero bytes that guarded scalar loads read instead

  struct BufferState {
    Value* base = nullptr;                 // arg, scratch, stack
    std::vector<llvm::AllocaInst*> slots;  // register
    int chunk = 1;                         // elements in a slot
    int lanes = 0;  // register of a vector loop's body: every element has so many lanes
    llvm::MDNode* scope = nullptr;
    llvm::MDNode* noalias = nullptr;
    bool invariant = false;
  };
  std::vector<BufferState> buffers_;
  std::map<std::string, Value*, std::less<>> vars_;    // size parameters, loop variables (lane 0), i64 values
  std::map<std::string, Value*, std::less<>> values_;  // let and reduce results
  std::map<std::string, Dim, std::less<>> constants_;  // unrolled variables
  std::map<std::string, int, std::less<>> depth_;      // of loop variables and index values, to order sums
  DimRanges ranges_;
  int loop_depth_ = 0;
  VectorContext vector_;
  std::unordered_map<const ScalarNode*, Value*> memo_;
  std::string error_;
  std::string where_;
  Expr kept_;  // keeps nodes alive while memo_ refers to them
};

}  // namespace graphc::cpu_emit
