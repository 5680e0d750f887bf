// The loop verifier: every message it has is produced by one small kernel, and a neighbour of that kernel
// that keeps the rule is accepted. What no text can say is injected into the parsed kernel.
#include "ir/loops/verify.h"

#include <filesystem>
#include <fstream>
#include <functional>
#include <regex>
#include <sstream>

#include <gtest/gtest.h>

#include "ir/loops/text.h"

namespace graphc {
namespace {

struct Case {
  const char* name;
  std::string bad;    // refused with `message`
  std::string good;   // accepted
  std::string where;  // the statement in the message; empty if it has none
  std::string message;
};

struct Corruption {
  const char* name;
  std::string text;  // accepted
  std::function<void(Kernel&)> inject;
  std::string where;
  std::string message;
};

// A kernel of these statements over %x: f32[N, 8], %i: i64[8], %y: f32[N, 8] and %z: f32[8], %w: i64[8].
std::string k(const std::string& body) {
  return "kernel @k(%x: f32[N, 8], %i: i64[8], mut %y: f32[N, 8], mut %z: f32[8], mut %w: i64[8]) params(N) "
         "{\n" +
         body + "\n}\n";
}
// The same for the operands of dot.
std::string d(const std::string& body,
              const std::string& head = "%a: bf16[4, 2], %b: bf16[4, 16, 2], mut %c: f32[16]") {
  return "kernel @k(" + head + ") {\n" + body + "\n}\n";
}
// For the operations of types.
std::string t(const std::string& value) {
  return "kernel @k(%f: f32[4], %g: f64[4], %n: i32[4], %m: i64[4], %u: u32[4], %b: bool[4]) {\n  %r = " +
         value + "\n}\n";
}
std::string signature(const std::string& args, const std::string& body = "") {
  return "kernel @k(" + args + ") params(N) {\n" + body + "}\n";
}

const std::vector<Case>& cases() {
  static const auto* const list = new std::vector<Case>{
      // signature
      {"NameTaken", signature("%N: f32[4]"), signature("%M: f32[4]"), "", "the name N is taken"},
      {"TwoBuffers", signature("%a: f32[4], %a: f32[4]"), signature("%a: f32[4], %b: f32[4]"), "",
       "two buffers are named %a"},
      {"Rank", signature("%a: f32[1, 1, 1, 1, 1, 1, 1, 1, 1]"), signature("%a: f32[1, 1, 1, 1, 1, 1, 1, 1]"),
       "", "%a has a rank above 8"},
      {"ShapeProductOverflows", signature("", "  stack %a: f32[4294967296, 4294967296]\n"),
       signature("", "  stack %a: f32[256, 256]\n"), "", "the shape of %a overflows"},
      {"ShapeConstant", signature("", "  stack %a: f32[N]\n"), signature("", "  scratch %a: f32[N]\n"), "",
       "the shape of %a must be constant"},
      {"ShapeNegative", signature("%a: f32[-1]"), signature("%a: f32[0]"), "", "the shape of %a is negative"},
      {"ShapeParameter", signature("%a: f32[N+M]"), signature("%a: f32[N+1]"), "",
       "the shape of %a uses M, which is no parameter"},
      {"Registers", signature("", "  register %a: f32[64, 65]\n"),
       signature("", "  register %a: f32[64, 64]\n"), "", "register buffer %a has more than 4096 elements"},
      {"Stack", signature("", "  stack %a: f64[32769]\n"), signature("", "  stack %a: f64[32768]\n"), "",
       "stack buffer %a is larger than 256 KiB; use scratch"},
      {"StackOfManyBytes", signature("", "  stack %a: f64[2305843009213693952]\n"),
       signature("", "  stack %a: u8[262144]\n"), "", "stack buffer %a is larger than 256 KiB; use scratch"},
      // names and scopes
      {"IndexScope", k("serial c in 0..8 { }\nstore %z[c] = 1.0"),
       k("serial c in 0..8 { store %z[c] = 1.0 }"), "store %z[c] = 1.0",
       "the index c uses c, which isn't in scope"},
      {"BoundScope", k("serial c in 0..c { }"), k("serial c in 0..N { }"), "serial c in 0..c",
       "the index c uses c, which isn't in scope"},
      {"GuardScope", k("store %z[0] = 1.0 if c >= 0"), k("store %z[0] = 1.0 if N-1 >= 0"),
       "store %z[0] = 1.0 if c >= 0", "the index c uses c, which isn't in scope"},
      {"ValueScope", k("serial c in 0..8 { %a = load %z[c] }\nstore %z[0] = %a"),
       k("serial c in 0..8 { %a = load %z[c]\n store %z[c] = %a }"), "store %z[0] = %a", "%a isn't in scope"},
      {"ReduceBodyScope",
       k("%s = reduce add serial c in 0..8 { %a = load %z[c]\n yield %a }\nstore %z[0] = %a"),
       k("%s = reduce add serial c in 0..8 { %a = load %z[c]\n yield %a }\nstore %z[0] = %s"),
       "store %z[0] = %a", "%a isn't in scope"},
      {"BufferScope", k("serial c in 0..8 { stack %a: f32[4] = 1.0 }\nstore %z[0] = load %a[0]"),
       k("stack %a: f32[4] = 1.0\nserial c in 0..8 { store %z[c] = load %a[0] }"), "store %z[0] = load %a[0]",
       "buffer %a isn't in scope"},
      {"LetTwice", k("%a = 1.0\n%a = 2.0"), k("if N >= 0 { %a = 1.0 } else { %a = 2.0 }"), "%a = 2.0",
       "the name a is taken"},
      {"LoopTwice", k("serial c in 0..2 { serial c in 0..2 { } }"),
       k("serial c in 0..2 { }\nserial c in 0..2 { }"), "serial c in 0..2", "the name c is taken"},
      {"ReduceTwice", k("%s, %s = reduce add, max serial c in 0..8 { load %z[c], load %z[c] }"),
       k("%s, %t = reduce add, max serial c in 0..8 { load %z[c], load %z[c] }"),
       "%s, %s = reduce add, max serial c in 0..8", "the name s is taken"},
      // accesses
      {"IndexRank", k("store %y[0] = 1.0"), k("store %y[0, 0] = 1.0"), "store %y[0] = 1.0",
       "%y has rank 2, the index 1"},
      {"LoadRank", k("%a = load %z[0, 1]"), k("%a = load %z[1]"), "%a = load %z[0, 1]",
       "%z has rank 1, the index 2"},
      {"NotMut", k("store %x[0, 0] = 1.0"), k("store %y[0, 0] = 1.0"), "store %x[0, 0] = 1.0",
       "argument %x is not `mut`"},
      {"OutOfBounds", k("store %z[8] = 1.0"), k("store %z[7] = 1.0"), "store %z[8] = 1.0",
       "index 8 of %z is out of bounds 0..8"},
      {"BelowBounds", k("store %z[-1] = 1.0"), k("store %z[-1] = 1.0 if N >= 0"), "store %z[-1] = 1.0",
       "index -1 of %z is out of bounds 0..8"},
      {"OutOfBoundsOfSize", k("%a = load %x[N, 0]"), k("%a = load %x[N-1, 0]"), "%a = load %x[N, 0]",
       "index N of %x is out of bounds 0..N"},
      {"OutOfBoundsInLoop", k("serial c in 8..9 { store %z[c] = 1.0 }"),
       k("serial c in 8..N { store %z[c] = 1.0 }"), "store %z[c] = 1.0",
       "index c of %z is out of bounds 0..8"},
      {"OutOfBoundsInParallel", k("parallel c in 0..N { store %z[c+8] = 1.0 }"),
       k("parallel c in 0..N { store %z[c+7] = 1.0 }"), "store %z[c+8] = 1.0",
       "index c+8 of %z is out of bounds 0..8"},
      {"StoreType", k("store %z[0] = 1"), k("store %z[0] = 1.0"), "store %z[0] = 1",
       "a i64 is stored to %z, which is f32"},
      // registers
      {"RegisterLane", k("register %a: f32[8] = 0.0\nvector<4> c in 0..N { store %a[c] = 1.0 }"),
       k("register %a: f32[8] = 0.0\nvector<4> c in 0..8 { store %a[c] = 1.0 }"), "store %a[c] = 1.0",
       "the lane of c isn't constant in the index of register buffer %a"},
      {"RegisterLaneSquared", k("register %a: f32[16] = 0.0\nvector<4> c in 0..4 { store %a[c*c] = 1.0 }"),
       k("register %a: f32[16] = 0.0\nunroll j in 0..4 { vector<4> c in 0..4 { store %a[4*j+c] = 1.0 } }"),
       "store %a[c*c] = 1.0", "the lane of c isn't constant in the index of register buffer %a"},
      {"RegisterIndex", k("register %a: f32[8] = 0.0\nserial c in 0..8 { store %a[c] = 1.0 }"),
       k("register %a: f32[8] = 0.0\nunroll c in 0..8 { store %a[c] = 1.0 }"), "store %a[c] = 1.0",
       "the index c of register buffer %a isn't constant after unrolling"},
      {"RegisterPrivate", k("vector<4> c in 0..4 { register %a: f32[4] = 0.0\n store %a[c] = 1.0 }"),
       k("vector<4> c in 0..4 { register %a: f32[4] = 0.0\n store %a[0] = 1.0 }"), "store %a[c] = 1.0",
       "%a belongs to one lane, its index can't use c"},
      // races
      {"LanesRace", k("vector<4> c in 0..8 { store %z[0] = 1.0 }"),
       k("vector<4> c in 0..8 { store %z[c] = 1.0 }"), "store %z[0] = 1.0",
       "all lanes of c write the same element of %z"},
      {"LanesRaceOneLane", k("vector<4> c in 3..5 { store %z[0] = 1.0 }"),
       k("vector<4> c in 3..4 { store %z[0] = 1.0 }"), "store %z[0] = 1.0",
       "all lanes of c write the same element of %z"},
      {"LanesRaceOfWideLoop", k("vector<4> c in -5..9223372036854775807 { store %z[0] = 1.0 }"),
       k("vector<4> c in N..N+1 { store %z[0] = 1.0 }"), "store %z[0] = 1.0",
       "all lanes of c write the same element of %z"},
      {"LanesRaceGuarded", k("vector<4> c in 0..8 { store %z[0] = 1.0 if N-1 >= 0 }"),
       k("vector<4> c in 0..8 { store %z[0] = 1.0 if -c >= 0 }"), "store %z[0] = 1.0 if N-1 >= 0",
       "all lanes of c write the same element of %z"},
      {"IterationsRace", k("parallel r in 0..N { store %z[0] = 1.0 }"),
       k("parallel r in 0..N { store %y[r, 0] = 1.0 }"), "store %z[0] = 1.0",
       "all iterations of r write the same element of %z"},
      {"IterationsRaceOuter", k("parallel r in 0..N { parallel c in 0..8 { store %z[c] = 1.0 } }"),
       k("parallel r in 0..N { parallel c in 0..8 { store %y[r, c] = 1.0 } }"), "store %z[c] = 1.0",
       "all iterations of r write the same element of %z"},
      {"IterationsRaceInIf", k("parallel r in 0..N { if N-1 >= 0 { store %z[0] = 1.0 } }"),
       k("parallel r in 0..N { if -r >= 0 { store %z[0] = 1.0 } }"), "store %z[0] = 1.0",
       "all iterations of r write the same element of %z"},
      {"IterationsRaceInElse",
       k("parallel r in 0..N { if N-1 >= 0, N-2 >= 0 { } else { store %z[0] = 1.0 } }"),
       k("parallel r in 0..N { if r-1 >= 0, r >= 0 { } else { store %z[0] = 1.0 } }"), "store %z[0] = 1.0",
       "all iterations of r write the same element of %z"},
      {"IterationsRaceByInnerLoop", k("parallel r in 0..N { serial c in 0..8 { store %z[c] = 1.0 } }"),
       k("parallel r in 0..2 { serial c in 4*r..4*r+4 { store %z[c] = 1.0 } }"), "store %z[c] = 1.0",
       "all iterations of r write the same element of %z"},
      // operations
      {"Select", t("where(load %n[0], 1.0, 2.0)"), t("where(load %b[0], 1.0, 2.0)"),
       "%r = where(load %n[0], 1.0, 2.0)", "where: takes a bool and two values of its type"},
      {"SelectMixed", t("where(load %b[0], 1.0, 2)"), t("where(load %b[0], 1, 2)"),
       "%r = where(load %b[0], 1.0, 2)", "where: takes a bool and two values of its type"},
      {"Philox", t("philox(load %u[0], load %u[1], load %u[2], load %n[0], load %m[0])"),
       t("philox(load %u[0], load %u[1], load %u[2], load %u[3], load %m[0])"),
       "%r = philox(load %u[0], load %u[1], load %u[2], load %n[0], load %m[0])",
       "philox: takes four u32 and an i64"},
      {"Compare", t("load %f[0] < load %g[0]"), t("load %f[0] < load %f[1]"), "%r = load %f[0] < load %g[0]",
       "lt: compares two values of one type"},
      {"OperandType", t("load %f[0] + load %g[0]"), t("f64(load %f[0]) + load %g[0]"),
       "%r = load %f[0] + load %g[0]", "add: gives f32, its operand is f64"},
      {"NeedsFloat", t("exp(load %n[0])"), t("exp(load %f[0])"), "%r = exp(load %n[0])",
       "exp: needs a float"},
      {"NeedsFloatAtan2", t("atan2(load %n[0], load %n[1])"), t("atan2(load %g[0], load %g[1])"),
       "%r = atan2(load %n[0], load %n[1])", "atan2: needs a float"},
      {"NeedsInteger", t("shl(load %f[0], load %f[1])"), t("shl(load %n[0], load %n[1])"),
       "%r = shl(load %f[0], load %f[1])", "shl: needs an integer or bool"},
      {"NeedsIntegerNot", t("not(load %g[0])"), t("not(load %b[0])"), "%r = not(load %g[0])",
       "not: needs an integer or bool"},
      // loops
      {"BoundsOnLanes", k("vector<4> c in 0..8 { serial j in 0..c { } }"),
       k("vector<4> c in 0..8 { serial j in 0..N { } }"), "serial j in 0..c", "the bounds depend on lanes"},
      {"BoundsOnLaneValues", k("vector<4> c in 0..8 { %j = load %i[c]\n serial e in 0..j { } }"),
       k("%j = load %i[0]\nvector<4> c in 0..8 { serial e in 0..j { } }"), "serial e in 0..j",
       "the bounds depend on lanes"},
      {"VectorInVector", k("vector<4> c in 0..8 { vector<4> j in 0..8 { } }"),
       k("vector<4> c in 0..8 { unroll j in 0..8 { } }"), "vector<4> j in 0..8",
       "it is inside the vector loop c"},
      {"VectorReduceInVector",
       k("vector<4> c in 0..8 { %s = reduce add vector<4> j in 0..8 { load %x[j, c] } }"),
       k("vector<4> c in 0..8 { %s = reduce add serial j in 0..N { load %x[j, c] } }"),
       "%s = reduce add vector<4> j in 0..8", "it is inside the vector loop c"},
      {"VectorStep", k("vector<4> c in 0..8 step 2 { }"), k("serial c in 0..8 step 2 { }"),
       "vector<4> c in 0..8 step 2", "a vector loop's step is 1"},
      {"UnrollBounds", k("unroll c in 0..N { }"), k("unroll c in 0..4 { unroll j in c..2*c { } }"),
       "unroll c in 0..N", "an unrolled loop's bounds aren't constant"},
      {"ParallelInside", k("serial c in 0..8 { parallel r in 0..N { } }"),
       k("parallel r in 0..N { serial c in 0..8 { } }"), "parallel r in 0..N",
       "a parallel loop must be outermost, alone in the body of the kernel or of a parallel loop"},
      {"ParallelNotAlone", k("%a = 1.0\nparallel r in 0..N { }"), k("parallel r in 0..N { %a = 1.0 }"),
       "parallel r in 0..N",
       "a parallel loop must be outermost, alone in the body of the kernel or of a parallel loop"},
      {"ParallelBounds", k("parallel r in 0..min(N, 8) { }"),
       k("parallel r in 0..N { serial c in 0..min(N, 8) { } }"), "parallel r in 0..min(N, 8)",
       "a parallel loop has one upper bound"},
      {"ReduceParallel", k("%s = reduce add parallel c in 0..8 { load %z[c] }"),
       k("%s = reduce add vector<4> unroll 2 c in 0..8 { load %z[c] }"), "%s = reduce add parallel c in 0..8",
       "a reduce can't be parallel"},
      // declarations, prefetch
      {"ScratchInitial", k("scratch %a: f32[4] = 0.0"), k("stack %a: f32[4] = 0.0"),
       "scratch %a: f32[4] = 0.0", "scratch has no initial value"},
      {"DeclaredInVector", k("vector<4> c in 0..8 { stack %a: f32[4] }"),
       k("vector<4> c in 0..8 { register %a: f32[4] }"), "stack %a: f32[4]",
       "inside a vector loop only register buffers can be declared"},
      {"PrefetchRegister", k("register %a: f32[4]\nprefetch %a[0]"), k("stack %a: f32[4]\nprefetch %a[0]"),
       "prefetch %a[0]", "registers can't be prefetched"},
      {"PrefetchRank", k("prefetch %x[0]"), k("prefetch %x[N+100, 8]"), "prefetch %x[0]",
       "the index has the wrong rank"},
      {"PrefetchScope", k("if N >= 0 { stack %a: f32[4] }\nprefetch %a[0]"),
       k("if N >= 0 { stack %a: f32[4]\n prefetch %a[0] }"), "prefetch %a[0]", "there is no such buffer"},
      // dot
      {"DotOutside", d("dot %c[0] += %a[0] * %b[0, 0] group 2"),
       d("vector<16> l in 0..16 { dot %c[l] += %a[0] * %b[0, l] group 2 }"),
       "dot %c[0] += %a[0] * %b[0, 0] group 2", "dot stands in a vector loop"},
      {"DotGroup", d("vector<16> l in 0..16 { dot %c[l] += %a[0] * %b[0, l] group 3 }"),
       d("vector<16> l in 0..16 { dot %c[l] += %a[0] * %b[0, l] group 4 }",
         "%a: u8[4, 4], %b: i8[4, 16, 4], mut %c: i32[16]"),
       "dot %c[l] += %a[0] * %b[0, l] group 3", "dot's group is 2 or 4"},
      {"DotRegister",
       d("register %r: bf16[4, 2] = bf16(1.0)\nvector<16> l in 0..16 { dot %c[l] += %r[0] * %b[0, l] group 2 "
         "}"),
       d("stack %r: bf16[4, 2] = bf16(1.0)\nvector<16> l in 0..16 { dot %c[l] += %r[0] * %b[0, l] group 2 }"),
       "dot %c[l] += %r[0] * %b[0, l] group 2", "dot reads memory"},
      {"DotExtent", d("vector<16> l in 0..16 { dot %c[l] += %a[0] * %b[0, l] group 4 }"),
       d("vector<16> l in 0..16 { dot %c[l] += %a[3] * %b[3, l] group 2 }"),
       "dot %c[l] += %a[0] * %b[0, l] group 4", "the last extent of %a isn't the group, 4"},
      {"DotTypes",
       d("vector<16> l in 0..16 { dot %c[l] += %a[0] * %b[0, l] group 4 }",
         "%a: i8[4, 4], %b: u8[4, 16, 4], mut %c: i32[16]"),
       d("vector<16> l in 0..16 { dot %c[l] += %a[0] * %b[0, l] group 4 }",
         "%a: i8[4, 4], %b: i8[4, 16, 4], mut %c: i32[16]"),
       "dot %c[l] += %a[0] * %b[0, l] group 4",
       "dot is bf16 x bf16 into f32 by 2, or u8 or i8 x i8 into i32 by 4"},
      {"DotRank", d("vector<16> l in 0..16 { dot %c[l] += %a[0, 0] * %b[0, l] group 2 }"),
       d("vector<16> l in 0..16 { dot %c[l] += %a[0] * %b[0, l] group 2 if 15-l >= 0 }"),
       "dot %c[l] += %a[0, 0] * %b[0, l] group 2", "%a has rank 2, the index 3"},
      {"DotBounds", d("vector<16> l in 0..16 { dot %c[l] += %a[4] * %b[0, l] group 2 }"),
       d("vector<16> l in 0..16 { dot %c[l] += %a[3] * %b[0, l] group 2 }"),
       "dot %c[l] += %a[4] * %b[0, l] group 2", "index 4 of %a is out of bounds 0..4"},
      // the GPU schedule: loops
      {"ThreadInThread", k("thread<32> a in 0..8 { thread<32> b in 0..8 { } }"),
       k("thread<32> a in 0..8 { serial b in 0..a { } }"), "thread<32> b in 0..8",
       "it is inside the thread loop a"},
      {"ThreadReduceInThread",
       k("thread<32> a in 0..8 { %s = reduce add thread<32> b in 0..8 { load %z[b] } }"),
       k("thread<32> a in 0..8 { %s = reduce add vector<4> b in 0..8 { load %z[b] } }"),
       "%s = reduce add thread<32> b in 0..8", "it is inside the thread loop a"},
      {"ThreadStep", k("thread<32> a in 0..8 step 2 { }"),
       k("serial a in 0..8 step 2 { thread<32> b in 0..8 { } }"), "thread<32> a in 0..8 step 2",
       "a thread loop's step is 1"},
      {"ThreadWidths", k("thread<32> a in 0..8 { }\nthread<64> b in 0..8 { }"),
       k("thread<32> a in 0..8 { }\nthread<32> unroll 4 b in 0..8 { }"), "thread<64> b in 0..8",
       "all thread loops of a kernel have the same width; another one has 32"},
      {"ThreadOutsideWarp", k("warp<4> g in 0..8 { thread<32> a in 0..8 { } }\nthread<32> b in 0..8 { }"),
       k("warp<4> g in 0..8 { thread<32> a in 0..8 { } }\nwarp<4> v in 0..8 { thread<32> b in 0..8 { } }"),
       "thread<32> b in 0..8", "in a kernel with warp loops every thread loop stands in one"},
      {"GroupSize", k("warp<4> g in 0..8 { thread<64> a in 0..8 { } }"),
       k("warp<4> g in 0..8 { thread<16> a in 0..8 { } }"), "thread<64> a in 0..8",
       "the groups of a warp loop have 1, 2, 4, 8, 16 or 32 threads, not 64"},
      {"GroupSizeOdd", k("warp<4> g in 0..8 { thread<12> a in 0..8 { } }"),
       k("warp<4> g in 0..8 { thread<1> a in 0..8 { } }"), "thread<12> a in 0..8",
       "the groups of a warp loop have 1, 2, 4, 8, 16 or 32 threads, not 12"},
      {"ReduceWidth", k("%s = reduce add thread<96> b in 0..8 { load %z[b] }"),
       k("thread<96> b in 0..8 { %s = load %z[b] }"), "%s = reduce add thread<96> b in 0..8",
       "a reduce is over a power of two of threads, not 96"},
      {"WarpInWarp", k("warp<4> g in 0..8 { warp<4> v in 0..8 { thread<32> a in 0..8 { } } }"),
       k("warp<4> g in 0..8 { serial v in 0..g { thread<32> a in 0..8 { } } }"), "warp<4> v in 0..8",
       "it is inside the warp loop g"},
      {"WarpInThread", k("thread<32> a in 0..8 { warp<4> g in 0..8 { } }"),
       k("serial a in 0..8 { warp<4> g in 0..8 { thread<32> b in 0..8 { } } }"), "thread<32> a in 0..8",
       "in a kernel with warp loops every thread loop stands in one"},
      {"WarpInThreadInWarp", k("warp<4> g in 0..8 { thread<32> a in 0..8 { warp<4> v in 0..8 { } } }"),
       k("warp<4> g in 0..8 { thread<32> a in 0..8 { unroll v in 0..8 { } } }"), "warp<4> v in 0..8",
       "it is inside the thread loop a"},
      {"WarpStep", k("warp<4> g in 0..8 step 4 { thread<32> a in 0..8 { } }"),
       k("warp<4> g in N..N+8 { thread<32> a in 0..8 { } }"), "warp<4> g in 0..8 step 4",
       "a warp loop's step is 1"},
      {"WarpWidths",
       k("warp<4> g in 0..8 { thread<32> a in 0..8 { } }\nwarp<8> v in 0..8 { thread<32> b in 0..8 { } }"),
       k("warp<8> g in 0..8 { thread<32> a in 0..8 { } }\nwarp<8> v in 0..4 { thread<32> b in 0..8 { } }"),
       "warp<8> v in 0..8", "all warp loops of a kernel have the same groups; another one has 4"},
      {"WarpWithoutThreads", k("warp<4> g in 0..8 { store %z[g] = 1.0 }"),
       k("warp<4> g in 0..8 { store %z[g] = 1.0\n thread<32> a in 0..8 { } }"), "warp<4> g in 0..8",
       "a kernel with warp loops needs thread loops in them"},
      {"WarpThreads", k("warp<33> g in 0..8 { thread<32> a in 0..8 { } }"),
       k("warp<32> g in 0..8 { thread<32> a in 0..8 { } }"), "warp<33> g in 0..8",
       "a block has at most 1024 threads, not 33 groups of 32"},
      {"ReduceOverGroups",
       k("%s = reduce add warp<4> g in 0..8 { %t = reduce add thread<32> b in 0..8 { load %z[b] }\n yield %t "
         "}"),
       k("warp<4> g in 0..8 { %t = reduce add thread<32> b in 0..8 { load %z[b] } }"),
       "%s = reduce add warp<4> g in 0..8", "a reduce can't run over the groups of a warp loop"},
      {"UniformVector", k("vector<4> c in 0..8 { }\nthread<32> a in 0..8 { }"),
       k("serial c in 0..8 { }\nthread<32> a in 0..8 { vector<4> c in 0..8 { } }"), "vector<4> c in 0..8",
       "in a kernel with threads a vector loop stands in a thread loop"},
      {"UniformVectorReduce", k("%s = reduce add vector<4> c in 0..8 { load %z[c] }\nbarrier"),
       k("%s = reduce add serial c in 0..8 { load %z[c] }\nbarrier"), "%s = reduce add vector<4> c in 0..8",
       "in a kernel with threads a vector loop stands in a thread loop"},
      // barriers
      {"BarrierInThread", k("thread<32> a in 0..8 { barrier }"), k("thread<32> a in 0..8 { }\nbarrier"),
       "barrier", "not every thread comes to a barrier inside of the thread loop a"},
      {"BarrierInWarp", k("warp<4> g in 0..8 { thread<32> a in 0..8 { }\n barrier }"),
       k("serial g in 0..8 { if g-N >= 0 { barrier } }\nwarp<4> g in 0..8 { thread<32> a in 0..8 { } }"),
       "barrier", "not every thread comes to a barrier inside of the warp loop g"},
      {"BarrierInReduce", k("%s = reduce add thread<32> a in 0..8 { barrier\n yield load %z[a] }"),
       k("%s = reduce add serial a in 0..8 { barrier\n yield load %z[a] }"), "barrier",
       "not every thread comes to a barrier inside of the thread loop a"},
      // buffers
      {"SharedShape", k("shared %a: f32[N]"), k("shared %a: f32[4]"), "", "the shape of %a must be constant"},
      {"SharedSize", k("shared %a: f32[12289]"), k("shared %a: f32[96, 128]"), "",
       "shared buffer %a is larger than 48 KiB"},
      {"SharedTotal", k("shared %a: f32[96, 128]\nshared %b: u8[1]"),
       k("shared %a: f32[96, 127]\nshared %b: u8[1]"), "",
       "the shared buffers take 49168 bytes, more than 48 KiB"},
      {"SharedInThread", k("thread<32> a in 0..8 { shared %s: f32[4] }"),
       k("serial a in 0..8 { shared %s: f32[4]\n thread<32> b in 0..4 { store %s[b] = 1.0 } }"),
       "shared %s: f32[4]", "shared memory is the block's, it can't be declared in the thread loop a"},
      {"SharedInWarp", k("warp<4> a in 0..8 { shared %s: f32[4]\n thread<32> b in 0..4 { } }"),
       k("shared %s: f32[8, 4]\nwarp<4> a in 0..8 { thread<32> b in 0..4 { store %s[a, b] = 1.0 } }"),
       "shared %s: f32[4]", "shared memory is the block's, it can't be declared in the warp loop a"},
      {"SharedInitial", k("shared %a: f32[4] = 0.0"), k("shared %a: f32[4]"), "shared %a: f32[4] = 0.0",
       "shared memory has no initial value"},
      {"ScratchOfThreads", k("scratch %a: f32[4]\nbarrier"), k("shared %a: f32[4]\nbarrier"),
       "scratch %a: f32[4]",
       "scratch is the cpu's; a kernel with threads has shared, register and stack buffers"},
      {"UniformStack", k("stack %a: f32[4]\nthread<32> c in 0..4 { }"),
       k("thread<32> c in 0..4 { stack %a: f32[4]\n store %a[c] = 1.0 }"), "stack %a: f32[4]",
       "in a kernel with threads a stack buffer is declared in a thread loop"},
      {"RegisterOutsideWarp", k("register %a: f32[32]\nwarp<4> g in 0..4 { thread<32> c in 0..4 { } }"),
       k("warp<4> g in 0..4 { register %a: f32[32]\n thread<32> c in 0..32 { store %a[c] = 1.0 } }"),
       "register %a: f32[32]", "in a kernel with warp loops register buffer %a is declared in one"},
      {"RegisterExtent", k("register %a: f32[4, 32]\nthread<32> c in 0..4 { }"),
       k("register %a: f32[32, 4]\nthread<32> c in 0..32 { store %a[c, 3] = 1.0 }"),
       "register %a: f32[4, 32]",
       "register buffer %a is declared outside of thread loops: its first extent is the threads, 32"},
      {"RegistersOfThreads", k("register %a: f32[32, 4097]\nthread<32> c in 0..4 { }"),
       k("register %a: f32[32, 4096]\nthread<32> c in 0..4 { }"), "",
       "register buffer %a has more than 4096 elements for a thread"},
      {"RegisterUniform", k("register %a: f32[32] = 0.0\nthread<32> c in 0..4 { }\nstore %z[0] = load %a[0]"),
       k("register %a: f32[32] = 0.0\n%s = reduce add thread<32> c in 0..32 { load %a[c] }\nstore %z[0] = "
         "%s"),
       "store %z[0] = load %a[0]",
       "the first index of %a is 0, not the variable of a thread loop over 0..32"},
      {"RegisterOfAnother",
       k("register %a: f32[32, 2] = 0.0\nthread<32> c in 0..32 { store %a[31-c, 0] = 1.0 }"),
       k("register %a: f32[32, 2] = 0.0\nthread<32> c in 0..32 { vector<2> j in 0..2 { store %a[c, j] = 1.0 "
         "} }"),
       "store %a[-c+31, 0] = 1.0",
       "the first index of %a is -c+31, not the variable of a thread loop over 0..32"},
      {"RegisterOfManyIterations",
       k("register %a: f32[32] = 0.0\nthread<32> c in 0..64 { store %a[c] = 1.0 }"),
       k("register %a: f32[32] = 0.0\nthread<32> c in 0..32 { store %a[c] = 1.0 }"), "store %a[c] = 1.0",
       "the first index of %a is c, not the variable of a thread loop over 0..32"},
      {"RegisterOfThreadIndex",
       k("register %a: f32[32, 8] = 0.0\nthread<32> c in 0..32 { serial j in 0..8 { store %a[c, j] = 1.0 } "
         "}"),
       k("register %a: f32[32, 8] = 0.0\nthread<32> c in 0..32 { unroll j in 0..8 { store %a[c, j] = 1.0 } "
         "}"),
       "store %a[c, j] = 1.0", "the index j of register buffer %a isn't constant after unrolling"},
      {"DotOfThreads",
       d("thread<32> i in 0..4 { vector<16> l in 0..16 { dot %c[l] += %a[i] * %b[i, l] group 2 } }"),
       d("vector<16> l in 0..16 { dot %c[l] += %a[0] * %b[0, l] group 2 }"),
       "dot %c[l] += %a[i] * %b[i, l] group 2", "dot is the cpu's; a kernel with threads has none"},
      // races
      {"ThreadsRace", k("thread<32> a in 0..8 { store %z[N] = 1.0 if 7-N >= 0 }"),
       k("thread<32> a in 0..8 { store %z[N] = 1.0 if -a >= 0, 7-N >= 0 }"), "store %z[N] = 1.0 if -N+7 >= 0",
       "all threads of a write the same element of %z"},
      {"ThreadsRaceShared", k("shared %s: f32[8]\nthread<32> a in 0..8 { store %s[0] = 1.0 }"),
       k("shared %s: f32[8]\nthread<32> a in 0..1 { store %s[0] = 1.0 }"), "store %s[0] = 1.0",
       "all threads of a write the same element of %s"},
      {"ThreadsRaceByUniformData", k("%j = load %i[0]\nthread<32> a in 0..8 { store %z[j] = 1.0 }"),
       k("thread<32> a in 0..8 { %j = load %i[a]\n store %z[j] = 1.0 }"), "store %z[j] = 1.0",
       "all threads of a write the same element of %z"},
      {"GroupsRace", k("warp<4> g in 0..8 { thread<32> a in 0..8 { store %z[a] = 1.0 } }"),
       k("warp<4> g in 0..N { thread<32> a in 0..8 { store %y[g, a] = 1.0 } }"), "store %z[a] = 1.0",
       "all groups of g write the same element of %z"},
      {"GroupsRaceUniform",
       k("shared %s: f32[8]\nwarp<4> g in 0..8 { thread<32> a in 0..8 { }\n store %s[0] = 1.0 }"),
       k("shared %s: f32[8]\nwarp<4> g in 0..8 { thread<32> a in 0..8 { }\n store %s[g] = 1.0 }"),
       "store %s[0] = 1.0", "all groups of g write the same element of %s"},
      {"BlocksRace", k("parallel r in 0..N { thread<32> a in 0..8 { store %z[a] = 1.0 } }"),
       k("parallel r in 0..N { thread<32> a in 0..8 { store %y[r, a] = 1.0 } }"), "store %z[a] = 1.0",
       "all iterations of r write the same element of %z"},
  };
  return *list;
}

Stmt& first(Kernel& kernel) { return kernel.body[0]; }
Expr overflowing() { return Expr::index(Dim::symbol("N") * Dim(int64_t{1} << 62) * Dim(4)); }

const std::vector<Corruption>& corruptions() {
  static const auto* const list = new std::vector<Corruption>{
      {"KernelName", k(""), [](Kernel& q) { q.name = "a b"; }, "", "'a b' is no valid name"},
      {"ParameterName", k(""), [](Kernel& q) { q.params[0] = "1"; }, "", "'1' is no valid name"},
      {"BufferName", k(""), [](Kernel& q) { q.buffers[1].name = ""; }, "", "'' is no valid name"},
      {"ValueName", k("%a = 1.0"), [](Kernel& q) { first(q).name = "a-b"; }, "%a-b = 1.0",
       "'a-b' is no valid name"},
      {"DeclaredNowhere", k("stack %a: f32[4]"), [](Kernel& q) { q.body.clear(); }, "",
       "buffer %a is declared nowhere"},
      {"DeclaredTwice", k("stack %a: f32[4]"), [](Kernel& q) { q.body.push_back(q.body[0]); },
       "stack %a: f32[4]", "%a is declared twice"},
      {"DeclaredArgument", k("stack %a: f32[4]"), [](Kernel& q) { first(q).buffer = 0; }, "arg %x: f32[N, 8]",
       "arguments aren't declared in the body"},
      {"DeclaredNothing", k("stack %a: f32[4]"), [](Kernel& q) { first(q).buffer = 99; },
       "<declaration of no buffer>", "there is no such buffer"},
      {"InitialValue", k("stack %a: f32[4] = 1.0"),
       [](Kernel& q) { first(q).value = Expr::int_constant(1, DType::kI32); }, "stack %a: f32[4] = i32(1)",
       "the initial value is a constant of the buffer's type"},
      {"ArgumentAfterLocal", k("stack %a: f32[4]"),
       [](Kernel& q) {
         q.buffers.push_back({"b", DType::kF32});
       },
       "", "argument %b follows a local buffer"},
      {"AliasOfItself", k(""), [](Kernel& q) { q.buffers[2].alias = 2; }, "",
       "%y may only alias an earlier argument"},
      {"ShapeOverflows", k(""), [](Kernel& q) { q.buffers[0].shape[0] = overflowing()->index[0]; }, "",
       "the shape of %x overflows"},
      {"IndexOverflows", k("%a = index(N)"), [](Kernel& q) { first(q).value = overflowing(); },
       "%a = index(" + overflowing()->index[0].to_string() + ")", "an index overflows"},
      {"StoreNowhere", k("store %z[0] = 1.0"), [](Kernel& q) { first(q).buffer = -1; },
       "store %<buffer -1>[0] = 1.0", "there is no such buffer"},
      {"PrefetchNowhere", k("prefetch %z[0]"), [](Kernel& q) { first(q).buffer = 7; },
       "prefetch %<buffer 7>[0]", "there is no such buffer"},
      {"OperandOfRegion", k("%a = 1.0"), [](Kernel& q) { first(q).value = Expr::arg(0, DType::kF32); },
       "%a = arg(0)", "an operand of a region is left in the program"},
      {"VariableType", k("%a = 1.0\nstore %z[0] = %a"),
       [](Kernel& q) { q.body[1].value = Expr::var("a", DType::kF64); }, "store %z[0] = %a",
       "%a is f32, used as f64"},
      {"IndexType", k("%a = index(N)"),
       [](Kernel& q) { const_cast<ScalarNode&>(*first(q).value).type = DType::kI32; }, "%a = index(N)",
       "index() is one i64"},
      {"LoadType", k("%a = load %z[0]"), [](Kernel& q) { first(q).value = Expr::load(3, DType::kF64, {0}); },
       "%a = load %z[0]", "%z is loaded as f64"},
      {"LoadAlternative", k("%a = load %z[0] where N >= 0 else 1.0"),
       [](Kernel& q) {
         const_cast<ScalarNode&>(*first(q).value).args[0] = Expr::int_constant(1, DType::kI32);
       },
       "%a = load %z[0] where N >= 0 else i32(1)", "a load's alternative is a constant of its type"},
      {"IsNanType", k("%a = is_nan(load %z[0])"),
       [](Kernel& q) { const_cast<ScalarNode&>(*first(q).value).type = DType::kF32; },
       "%a = is_nan(load %z[0])", "is_nan: takes one operand and gives bool"},
      {"OneOperand", k("%a = exp(load %z[0])"),
       [](Kernel& q) {
         const_cast<ScalarNode&>(*first(q).value).args.push_back(Expr::constant(1, DType::kF32));
       },
       "%a = exp(load %z[0], 1.0)", "exp: takes one operand"},
      {"TwoOperands", k("%a = pow(load %z[0], 2.0)"),
       [](Kernel& q) { const_cast<ScalarNode&>(*first(q).value).args.pop_back(); }, "%a = pow(load %z[0])",
       "pow: takes two operands"},
      {"CastOperand", k("%a = f64(load %z[0])"),
       [](Kernel& q) {
         const_cast<ScalarNode&>(*first(q).value).args.push_back(Expr::constant(1, DType::kF32));
       },
       "%a = f64(load %z[0])", "cast: takes one operand"},
      {"LoopWithoutEnd", k("serial c in 0..8 { }"), [](Kernel& q) { first(q).hi.clear(); },
       "serial c in 0..min()", "a loop needs an upper bound"},
      {"LoopStep", k("serial c in 0..8 { }"), [](Kernel& q) { first(q).step = 0; }, "serial c in 0..8 step 0",
       "a step is at least 1"},
      {"LoopWidth", k("vector<4> c in 0..8 { }"), [](Kernel& q) { first(q).loop.width = 0; },
       "vector<0> c in 0..8", "width and unroll are at least 1"},
      {"LoopUnroll", k("vector<4> c in 0..8 { }"), [](Kernel& q) { first(q).loop.unroll = 0; },
       "vector<4> unroll 0 c in 0..8", "width and unroll are at least 1"},
      {"ThreadUnroll", k("thread<32> c in 0..8 { }"), [](Kernel& q) { first(q).loop.unroll = 0; },
       "thread<32> unroll 0 c in 0..8", "threads and unroll are at least 1"},
      {"ThreadsOfBlock", k("thread<1024> c in 0..8 { }"), [](Kernel& q) { first(q).loop.width = 1025; },
       "thread<1025> c in 0..8", "a block has at most 1024 threads, not 1025"},
      {"Groups", k("warp<4> c in 0..8 { thread<32> a in 0..8 { } }"),
       [](Kernel& q) { first(q).loop.width = -1; }, "warp<-1> c in 0..8", "a warp loop has at least 1 group"},
      {"IfWithoutCondition", k("if N >= 0 { }"), [](Kernel& q) { first(q).guards.clear(); }, "if ",
       "an if needs a condition"},
      {"ReduceWithoutResult", k("%s = reduce add serial c in 0..8 { 1.0 }"),
       [](Kernel& q) { first(q).reductions.clear(); }, " = reduce  serial c in 0..8",
       "a reduce needs a result"},
      {"DotWithoutOperand", d("vector<16> l in 0..16 { dot %c[l] += %a[0] * %b[0, l] group 2 }"),
       [](Kernel& q) { first(q).body[0].a = -1; }, "dot %c[l] += %<buffer -1>[0] * %b[0, l] group 2",
       "there is no such buffer"},
      {"ExpressionMissing", k("store %z[0] = 1.0"), [](Kernel& q) { first(q).value = {}; },
       "store %z[0] = <missing>", "an expression is missing"},
      {"OperandMissing", k("store %z[0] = load %z[1] + 1.0"),
       [](Kernel& q) { const_cast<ScalarNode&>(*first(q).value).args[1] = {}; },
       "store %z[0] = load %z[1] + <missing>", "an operand is missing"},
      {"CastOfNothing", k("%a = f64(load %z[0])"),
       [](Kernel& q) { const_cast<ScalarNode&>(*first(q).value).args.clear(); }, "%a = f64(<missing>)",
       "cast: takes one operand"},
      {"InfixOfNothing", k("%a = load %z[0] + 1.0"),
       [](Kernel& q) { const_cast<ScalarNode&>(*first(q).value).args.clear(); }, "%a = <missing> + <missing>",
       "add: takes two operands"},
      {"IndexOfNothing", k("%a = index(N)"),
       [](Kernel& q) { const_cast<ScalarNode&>(*first(q).value).index.clear(); }, "%a = index()",
       "index() is one i64"},
      {"LoadWithoutAlternative", k("%a = load %z[0] where N >= 0 else 1.0"),
       [](Kernel& q) { const_cast<ScalarNode&>(*first(q).value).args.clear(); },
       "%a = load %z[0] where N >= 0 else <missing>", "a load's alternative is a constant of its type"},
      {"Depth", k("%a = 1.0"),
       [](Kernel& q) {
         for (int i = 0; i < 100000; ++i)
           first(q).value = Expr::make(ScalarOp::kNeg, DType::kF32, {first(q).value});
       },
       "", "an expression is nested more than 2000 deep"},
  };
  return *list;
}

std::string verified(const Kernel& kernel) {
  Status s = verify_kernel(kernel);
  return s.ok() ? "" : s.error().message;
}
std::string expected(const std::string& message, const std::string& where) {
  return "kernel @k: " + message + (where.empty() ? "" : ", in `" + where + "`");
}

class LoopVerifyText : public testing::TestWithParam<Case> {};
class LoopVerifyInjected : public testing::TestWithParam<Corruption> {};

TEST_P(LoopVerifyText, RefusesOneAndAcceptsItsNeighbour) {
  const Case& c = GetParam();
  auto good = parse_kernel(c.good);
  ASSERT_TRUE(good.ok()) << good.error().message << "\n" << c.good;
  EXPECT_EQ(verified(*good), "") << c.good;
  auto bad = parse_kernel(c.bad);
  ASSERT_TRUE(bad.ok()) << bad.error().message << "\n" << c.bad;
  EXPECT_EQ(verified(*bad), expected(c.message, c.where)) << c.bad;
}

TEST_P(LoopVerifyInjected, IsRefused) {
  const Corruption& c = GetParam();
  auto kernel = parse_kernel(c.text);
  ASSERT_TRUE(kernel.ok()) << kernel.error().message << "\n" << c.text;
  EXPECT_EQ(verified(*kernel), "") << c.text;
  c.inject(*kernel);
  if (std::string(c.name) == "KernelName")
    EXPECT_EQ(verified(*kernel), "kernel @a b: 'a b' is no valid name");
  else
    EXPECT_EQ(verified(*kernel), expected(c.message, c.where));
}

INSTANTIATE_TEST_SUITE_P(All, LoopVerifyText, testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(All, LoopVerifyInjected, testing::ValuesIn(corruptions()),
                         [](const auto& info) { return info.param.name; });

// What the report says of the accesses: the proofs must hold for all sizes.
struct Proof {
  const char* name;
  std::string text;
  int proved;
  std::vector<std::string> unproved;
};

TEST(LoopVerify, Proofs) {
  const std::vector<Proof> proofs = {
      {"loop", k("serial c in 0..N { %a = load %x[c, 7] }"), 1, {}},
      {"size", k("%a = load %x[0, 0]"), 0, {"%x in `%a = load %x[0, 0]`"}},
      {"guard", k("%a = load %x[0, 0] where N-1 >= 0 else 0.0"), 1, {}},
      {"two bounds", k("serial c in 0..min(N, 8) { %a = load %x[c, c] }"), 1, {}},
      {"if", k("if N-5 >= 0 { %a = load %x[4, 0] }"), 1, {}},
      {"else", k("if N-5 >= 0 { } else { store %z[N] = 1.0 }"), 1, {}},
      // of several conditions it isn't known which one fails
      {"else of two",
       k("serial c in 0..8 { if c-1 >= 0, N-1 >= 0 { } else { store %z[c-1] = 1.0 } }"),
       0,
       {"%z in `store %z[c-1] = 1.0`"}},
      // the bounds of a loop that is over say nothing of a value of the same name
      {"old loop",
       k("serial c in 0..min(N, 8) { }\nif N-1 >= 0 { %c = load %i[0]\n store %z[0] = load %z[c] where c >= "
         "0 else "
         "0.0 }"),
       2,
       {"%z in `store %z[0] = load %z[c] where c >= 0 else 0.0`"}},
      {"clamped", k("%c = maximum(minimum(load %i[0], 7), 0)\nstore %z[c] = 1.0"), 2, {}},
      {"clamped to sizes",
       k("%c = minimum(maximum(load %i[0], 0), index(N-1))\nstore %y[c, 0] = 1.0"),
       2,
       {}},
      {"half clamped", k("%c = maximum(load %i[0], 0)\nstore %z[c] = 1.0"), 1, {"%z in `store %z[c] = 1.0`"}},
      // the outer bound wins: c is 9
      {"contradiction",
       k("%c = maximum(minimum(load %i[0], 3), 9)\nif N >= 0 { store %z[c] = 1.0 }"),
       1,
       {"%z in `store %z[c] = 1.0`"}},
  };
  for (const Proof& p : proofs) {
    SCOPED_TRACE(p.name);
    auto kernel = parse_kernel(p.text);
    ASSERT_TRUE(kernel.ok()) << kernel.error().message;
    VerifyReport report;
    Status ok = verify_kernel(*kernel, &report);
    ASSERT_TRUE(ok.ok()) << ok.error().message;
    EXPECT_EQ(report.proved, p.proved);
    EXPECT_EQ(report.unproved, p.unproved);
  }
}

// Whether `message` ends in an instance of `format`, whose {} stand for anything.
bool follows(std::string_view message, std::string_view format) {
  size_t at = 0;
  for (size_t hole = 0; hole != format.npos;) {
    hole = format.find("{}");
    std::string_view piece = format.substr(0, hole);
    size_t found = hole == format.npos && message.size() >= piece.size() ? message.size() - piece.size()
                                                                         : message.find(piece, at);
    if (found == message.npos || found < at || message.substr(found, piece.size()) != piece) return false;
    at = found + piece.size();
    if (hole != format.npos) format.remove_prefix(hole + 2);
  }
  return true;
}

// Every message in the source is produced above.
TEST(LoopVerify, EveryMessageIsTested) {
  std::string text;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(GRAPHC_SOURCE_DIR) + "/ir/loops")) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("verify", 0) != 0 || entry.path().extension() != ".cpp") continue;
    std::ifstream file(entry.path());
    ASSERT_TRUE(file.good()) << name;
    std::stringstream source;
    source << file.rdbuf();
    text += source.str();
  }
  const std::regex call(
      R"re((?:error|bad)\(\s*(?:fmt::format\(\s*)?(?:two \? )?"((?:[^"\\]|\\.)*)"(?: : "([^"]*)")?)re");
  std::vector<std::string> formats;
  for (std::sregex_iterator i(text.begin(), text.end(), call), end; i != end; ++i)
    for (size_t g = 1; g <= 2; ++g)
      if ((*i)[g].matched) formats.push_back((*i)[g]);
  EXPECT_GT(formats.size(), 90u) << "the pattern no longer finds the messages";
  std::vector<std::string> messages;
  for (const Case& c : cases()) messages.push_back(c.message);
  for (const Corruption& c : corruptions()) messages.push_back(c.message);
  for (const std::string& f : formats) {
    EXPECT_TRUE(
        std::any_of(messages.begin(), messages.end(), [&](const std::string& m) { return follows(m, f); }))
        << "no test produces: " << f;
  }
}

}  // namespace
}  // namespace graphc
