// Loop programs: the small imperative language between templates and emitters. A Kernel is typed, structured
// and has no pointers: buffers with an element type and a shape, index expressions that are Dims (ir/dim.h)
// over size parameters and loop variables, values that are Exprs (ir/scalar.h). It prints as text and parses
// back (text.h), is checked by verify.h, run by interpreter.h and turned into machine
// code by the emitters.
//
//   kernel @softmax(%x: f32[R, 1000], mut %y: f32[R, 1000]) params(R) {
//     parallel r in 0..R {
//       %m = reduce max vector<16> unroll 4 c in 0..1000 { load %x[r, c] }
//       %s = reduce add vector<16> unroll 4 c in 0..1000 { exp((load %x[r, c] - %m)) }
//       vector<16> c in 0..1000 {
//         store %y[r, c] = (exp((load %x[r, c] - %m)) / %s)
//       }
//     }
//   }
//
// Rules of the language
//  * Names of values, loop variables and buffers are identifiers, unique among those in scope. Buffers are
//    row-major and dense.
//  * A value of type i64 (let or reduce result) may be used in Dims under its name, so that an index may come
//    from data: `%j = load %ids[t]` then `load %table[j, c]`. Its range is known to the verifier if the value
//    is `maximum(minimum(.., hi), lo)` (either order) with lo, hi constants or index(..); otherwise guard the
//    access.
//  * `vector<W>` runs W consecutive values of its variable at once, the tail masked. Inside it every value
//    that depends on the variable is a vector. Loops inside a vector loop are serial, unroll or (serial)
//    reduce, with bounds that don't depend on lanes. With constant bounds hi - lo == W it is no loop at all.
//  * `unroll` needs constant bounds (after unrolling the loops around it).
//  * `parallel`: iterations are independent (no element written by one is touched by another). A kernel's
//    body is either one parallel loop, whose body may again be exactly one parallel loop and so on, or has
//    none at all. The nest is handed out as one collapsed range, first loop slowest.
//  * Buffers that aren't arguments live in the block that declares them: `register` (constant shape, every
//    index constant once loops are unrolled, except that the last one may be c + lane of the surrounding
//    vector loop; lives in SSA registers), `stack` (constant shape, small), `scratch` (shape over the
//    kernel's parameters; memory of the thread, 64-byte aligned). Their contents are undefined at the
//    declaration unless it says `= constant`.
//  * Floats of 16 bits are computed in f32 and rounded by store and by cast only. Multiply-add may be
//    contracted.
//  * A register buffer declared inside a vector loop is private to each lane: its indices don't use the lane,
//    and its elements are vectors.
//  * `reduce`: result k combines the values k of all iterations with op k, starting from its identity. Order
//    is fixed: a vector<W> reduce with unroll U has U*W accumulators; whole groups of U*W iterations go to
//    them in order, what is left goes to the first W. They are combined by a halving tree: chunk u with chunk
//    u + U/2, and so on until one chunk is left, then lane l with lane l + W/2, and so on. serial is left to
//    right. max and min hand NaN on. A reduce inside a vector loop is serial (or unroll) and has a result per
//    lane.
//
// The GPU schedule. One iteration of the parallel nest is a thread block; its body may use threads:
//
//   kernel @softmax(%x: f32[R, C], mut %y: f32[R, C]) params(R, C) {
//     parallel r in 0..R {
//       %m = reduce max thread<256> unroll 4 c in 0..C { load %x[r, c] }
//       %s = reduce add thread<256> unroll 4 d in 0..C { exp(load %x[r, d] - %m) }
//       thread<256> e in 0..C {
//         store %y[r, e] = exp(load %x[r, e] - %m) / %s
//       }
//     }
//   }
//
//  * `thread<T>`: thread t of the block runs the iterations lo+t, lo+t+T, .. one after the other; `unroll U`
//    keeps U of them in flight. The iterations are independent, also those of one thread. T is 1..1024 and
//    the same all over the kernel; the step is 1. Thread loops don't nest; inside there may be serial, unroll
//    and vector<W> loops and reduces, if, let, and register or stack buffers, all of them the thread's own:
//    bounds and conditions may differ from thread to thread. vector<W> is W consecutive elements of one
//    thread (wide accesses).
//  * `reduce OP thread<T> unroll U`: like vector<T> unroll U, accumulator t of every chunk being thread t's.
//    Once one chunk is left, each 32 neighbouring threads combine theirs by the halving tree, and then these
//    results by another: up to T = 32 the order of vector<T>, the same bits. T is a power of two. All threads
//    know the result.
//  * `warp<G> w in lo..hi`: the threads of the block are G groups of T; group g runs the iterations lo+g,
//    lo+g+G, .. Thread loops and reduces inside are the group's, with T a power of two up to 32. If a kernel
//    has a warp loop, every thread loop lies in one, and all have the same G; G*T is up to 1024. Warp loops
//    don't nest and their step is 1.
//  * Code outside of thread loops is uniform: every thread of the block (in a warp loop: of the group) runs
//    it with the same values. Its loads are done by all of these threads, a store by the first of them (its
//    value's loads too are done by all). Vector loops don't stand in uniform code of a kernel with threads.
//  * `barrier` waits for all threads of the block and makes what they wrote visible to each other. It stands
//    in uniform code outside of warp loops, also in serial and unroll loops and ifs. A reduce is none.
//  * `shared %t: f32[32, 33]` is memory of the block, of constant shape, declared in uniform code outside of
//    warp loops, at most 48 KiB a kernel. Its contents are undefined at the declaration.
//  * A register buffer declared in uniform code is distributed: its first extent is T, and the first index of
//    every access is the variable of a thread loop over 0..T. Element t belongs to thread t and survives
//    barriers: `register %acc: f32[256, 8, 8] = 0.0` are 64 accumulators of each of 256 threads. The other
//    indices are constant after unrolling, as of any register buffer. In a kernel with warp loops it is
//    declared inside one and belongs to the group's iteration. There are no stack buffers in uniform code,
//    and scratch and dot are the CPU's.
//  * Races: what one thread writes (shared or argument) no other thread of the block may read or write before
//    the next barrier, nor write what another has read; two blocks never touch what one of them writes.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/dim.h"
#include "ir/scalar.h"
#include "runtime/base/result.h"

namespace graphc {

enum class BufferKind : uint8_t { kArg, kScratch, kStack, kRegister, kShared };

struct LoopBuffer {
  std::string name;
  DType type = DType::kF32;
  BufferKind kind = BufferKind::kArg;
  std::vector<Dim> shape;
  bool written = false;  // arg: the kernel writes it (it may read it as well); printed `mut`
  int alias = -1;        // arg: an earlier arg that may be the same memory (in place); printed `alias %x`.
                         // Other arguments never overlap.
};

enum class LoopKind : uint8_t { kSerial, kParallel, kVector, kUnroll, kThread, kWarp };
enum class ReduceOp : uint8_t { kAdd, kMul, kMax, kMin };

// As text spells them: "scratch", "add".
std::string_view buffer_kind_name(BufferKind k);
std::string_view reduce_op_name(ReduceOp op);

// How a loop runs. vector(16), vector(16, 4) (four chunks at a time), serial(), unrolled(), parallel();
// thread(256), thread(256, 4), warps(8).
struct LoopSpec {
  LoopKind kind = LoopKind::kSerial;
  int width = 1;   // vector: lanes; thread: threads of the block or group; warp: groups of the block
  int unroll = 1;  // vector, thread: chunks in flight; a reduce has width * unroll accumulators
};
inline LoopSpec serial() { return {LoopKind::kSerial}; }
inline LoopSpec parallel() { return {LoopKind::kParallel}; }
inline LoopSpec unrolled() { return {LoopKind::kUnroll}; }
inline LoopSpec vector(int width, int unroll = 1) { return {LoopKind::kVector, width, unroll}; }
inline LoopSpec thread(int threads, int unroll = 1) { return {LoopKind::kThread, threads, unroll}; }
inline LoopSpec warps(int groups) { return {LoopKind::kWarp, groups}; }

struct Reduction {
  std::string name;  // the result, of the value's type
  ReduceOp op = ReduceOp::kAdd;
  Expr value;
};

enum class StmtKind : uint8_t { kLet, kStore, kFor, kReduce, kIf, kDeclare, kDot, kPrefetch, kBarrier };

struct Stmt;
using StmtList = std::vector<Stmt>;

struct Stmt {
  StmtKind kind = StmtKind::kLet;
  // kLet: %name = value.  kStore: buffer[index] = value where guards.  kDeclare: value is the initial
  // constant or empty.
  std::string name;  // kLet; kFor, kReduce: the loop variable
  Expr value;
  int buffer = -1;  // kStore, kDeclare, kDot (the accumulator), kPrefetch
  std::vector<Dim> index;
  std::vector<Dim> guards;  // kStore, kDot: done only where every one is >= 0. kIf: the condition, likewise
  // kFor, kReduce: name runs over lo, lo+step, .. below the least of `hi` (at least one entry: `0..min(a,
  // b)`)
  LoopSpec loop;
  Dim lo;
  std::vector<Dim> hi;
  int64_t step = 1;                   // vector, thread and warp loops: 1
  std::vector<Reduction> reductions;  // kReduce
  StmtList body;                      // kFor, kReduce (before the values), kIf
  StmtList orelse;                    // kIf
  // kDot: buffer[index] += sum over p < group of a[a_index.., p] * b[b_index.., p], p being the last index of
  // both. bf16 x bf16 into f32 with group 2, u8 x i8 or i8 x i8 into i32 with group 4: one instruction where
  // the target has it.
  int a = -1, b = -1;
  std::vector<Dim> a_index, b_index;  // without p
  int group = 0;
};

struct Kernel {
  std::string name;
  std::vector<std::string> params;  // size parameters, i64, each >= 0
  std::vector<LoopBuffer> buffers;  // arguments first, in call order; then the others in order of declaration
  StmtList body;

  int num_args() const;
  int find_buffer(std::string_view name) const;  // -1 if there is none
};

// The extent of the collapsed parallel nest; 1 for a kernel without parallel loop.
Dim parallel_extent(const Kernel& k);
// Bytes of scratch a thread needs: every scratch buffer, each rounded up to 64 bytes.
Dim scratch_bytes(const Kernel& k);
// Whether the kernel uses the GPU schedule: threads, warps, barriers or shared memory.
bool uses_threads(const Kernel& k);
// The threads of a block: T, with warp loops G * T; 1 without thread loops.
int block_threads(const Kernel& k);
// Bytes of a block's shared buffers, each rounded up to 16 bytes.
int64_t shared_bytes(const Kernel& k);
// Calls f on every statement of the block and of those within, outer first.
void for_each_stmt(const StmtList& block, const std::function<void(const Stmt&)>& f);

// A handle of a buffer of the kernel being built.
struct Buffer {
  int id = -1;
  DType type = DType::kF32;
  Expr load(std::vector<Dim> index) const { return Expr::load(id, type, std::move(index)); }
  // where every guard is >= 0, else `otherwise`
  Expr load_where(std::vector<Dim> index, std::vector<Dim> guards, double otherwise = 0) const {
    return Expr::load(id, type, std::move(index), std::move(guards), otherwise);
  }
};

// Builds a kernel; the way templates are written. Names are made unique by a suffix (c, c_1, ...). Loop
// bodies are functions of the loop variable.
//
//   KernelBuilder k("matmul");
//   Dim M = k.param("M");
//   Buffer a = k.arg("a", DType::kF32, {M, 64}), c = k.out("c", DType::kF32, {M, 32});
//   k.parallel("m", 0, M, [&](Dim m) {
//     Buffer acc = k.registers("acc", DType::kF32, {1, 32}, 0.0);
//     k.serial("k", 0, 64, [&](Dim i) {
//       k.unroll("j", 0, 2, [&](Dim j) {
//         k.vector(16, "l", 0, 16, [&](Dim l) {
//           k.store(acc, {0, 16 * j + l}, acc.load({0, 16 * j + l}) + a.load({m, i}) * b.load({i, 16 * j +
//           l}));
//   }); }); }); ...
//   Kernel kernel = k.finish();
class KernelBuilder {
 public:
  explicit KernelBuilder(std::string name);

  Dim param(std::string_view name);  // declares a size parameter (once per name) and gives its Dim
  void params_of(const Dim& d);      // declares every symbol of d
  Buffer arg(std::string_view name, DType type, std::vector<Dim> shape);  // read only
  Buffer out(std::string_view name, DType type, std::vector<Dim> shape, std::optional<Buffer> alias = {});

  Buffer registers(std::string_view name, DType type, std::vector<Dim> shape,
                   std::optional<double> init = {});
  Buffer stack(std::string_view name, DType type, std::vector<Dim> shape, std::optional<double> init = {});
  Buffer scratch(std::string_view name, DType type, std::vector<Dim> shape);
  Buffer shared(std::string_view name, DType type, std::vector<Dim> shape);

  Expr let(std::string_view name,
           Expr value);  // the named value; a constant or variable is handed back as it is
  Dim let_index(std::string_view name, Expr value);  // value is cast to i64; usable in Dims
  void store(const Buffer& b, std::vector<Dim> index, Expr value, std::vector<Dim> guards = {});
  void prefetch(const Buffer& b, std::vector<Dim> index);
  void barrier();
  void dot(const Buffer& acc, std::vector<Dim> index, const Buffer& a, std::vector<Dim> a_index,
           const Buffer& b, std::vector<Dim> b_index, int group, std::vector<Dim> guards = {});

  using Body = std::function<void(Dim)>;
  // lo <= var < hi (< limit, if given)
  void loop(LoopSpec spec, std::string_view var, Dim lo, Dim hi, const Body& body,
            std::optional<Dim> limit = {}, int64_t step = 1);
  void parallel(std::string_view var, Dim lo, Dim hi, const Body& b) {
    loop(graphc::parallel(), var, lo, hi, b);
  }
  void serial(std::string_view var, Dim lo, Dim hi, const Body& b) { loop(graphc::serial(), var, lo, hi, b); }
  void unroll(std::string_view var, Dim lo, Dim hi, const Body& b) {
    loop(graphc::unrolled(), var, lo, hi, b);
  }
  void vector(int width, std::string_view var, Dim lo, Dim hi, const Body& b) {
    loop(graphc::vector(width), var, lo, hi, b);
  }
  void thread(int threads, std::string_view var, Dim lo, Dim hi, const Body& b) {
    loop(graphc::thread(threads), var, lo, hi, b);
  }
  void warp(int groups, std::string_view var, Dim lo, Dim hi, const Body& b) {
    loop(graphc::warps(groups), var, lo, hi, b);
  }
  Expr reduce(std::string_view name, ReduceOp op, LoopSpec spec, std::string_view var, Dim lo, Dim hi,
              const std::function<Expr(Dim)>& body, std::optional<Dim> limit = {}, int64_t step = 1);
  // several results of one pass; body gives one value per op
  std::vector<Expr> reduce(std::string_view name, std::vector<ReduceOp> ops, LoopSpec spec,
                           std::string_view var, Dim lo, Dim hi,
                           const std::function<std::vector<Expr>(Dim)>& body, std::optional<Dim> limit = {},
                           int64_t step = 1);
  void if_then(std::vector<Dim> nonnegative, const std::function<void()>& then,
               const std::function<void()>& otherwise = {});

  Kernel finish();

 private:
  std::string fresh(std::string_view name);
  Buffer add_buffer(LoopBuffer b);
  Buffer declare(BufferKind kind, std::string_view name, DType type, std::vector<Dim> shape,
                 std::optional<double> init);
  StmtList* block() { return blocks_.back(); }
  Kernel kernel_;
  std::vector<StmtList*> blocks_;
  std::vector<std::string> names_;
};

}  // namespace graphc
