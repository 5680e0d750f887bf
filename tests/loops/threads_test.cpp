// GPU kernels as loop programs, run by the interpreter: each is right on random inputs of several sizes,
// threads in either order, and each of its broken variants is reported by the verifier or the interpreter.
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "ir/loops/interpreter.h"
#include "ir/loops/text.h"
#include "ir/loops/verify.h"

namespace graphc {
namespace {

using Floats = std::vector<float>;

Kernel parsed(const std::string& text) {
  auto kernel = parse_kernel(text);
  EXPECT_TRUE(kernel.ok()) << kernel.error().message << "\n" << text;
  return kernel.ok() ? *kernel : Kernel{};
}

// The first complaint of the verifier or the interpreter; "" if there is none.
std::string judge(const Kernel& kernel, const std::vector<void*>& buffers, const std::vector<int64_t>& params,
                  bool reverse = false) {
  if (Status s = verify_kernel(kernel); !s.ok()) return "verifier: " + s.error().message;
  LoopInterpretOptions options;
  options.reverse = reverse;
  Status s = interpret_kernel(kernel, buffers, params, options);
  return s.ok() ? "" : s.error().message;
}

std::string replaced(std::string text, const std::string& what, const std::string& with, int occurrence = 0) {
  size_t at = text.find(what);
  for (; occurrence > 0 && at != text.npos; --occurrence) at = text.find(what, at + 1);
  EXPECT_NE(at, text.npos) << what;
  if (at != text.npos) text.replace(at, what.size(), with);
  return text;
}

Floats random_floats(std::mt19937& random, int64_t n) {
  std::normal_distribution<float> d(0.3f, 1.5f);
  Floats v(static_cast<size_t>(n));
  for (float& x : v) x = d(random);
  return v;
}

void expect_near(const Floats& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], want[i], 1e-5 * std::max(1.0, std::abs(want[i]))) << "element " << i;
}

// ---- a matrix product: tiles in shared memory, accumulators in registers of the threads

const std::string kMatmul =
    R"(kernel @matmul(%a: f32[M, K], %b: f32[K, N], mut %c: f32[M, N]) params(M, K, N) {
  parallel bm in 0..(M+15)//16 {
    parallel bn in 0..(N+15)//16 {
      shared %s: f32[8, 17]
      shared %t: f32[8, 16]
      register %acc: f32[64, 2, 2] = 0.0
      serial k in 0..K step 8 {
        thread<64> i in 0..128 {
          store %s[i%8, i//8] = load %a[16*bm+i//8, k+i%8] where M-1-16*bm-i//8 >= 0, K-1-k-i%8 >= 0 else 0.0
        }
        thread<64> j in 0..128 {
          store %t[j//16, j%16] = load %b[k+j//16, 16*bn+j%16] where K-1-k-j//16 >= 0, N-1-16*bn-j%16 >= 0 else 0.0
        }
        barrier
        thread<64> e in 0..64 {
          serial p in 0..8 {
            unroll u in 0..2 {
              unroll v in 0..2 {
                store %acc[e, u, v] = load %acc[e, u, v] + (load %s[p, 2*(e//8)+u] * load %t[p, 2*(e%8)+v])
              }
            }
          }
        }
        barrier
      }
      thread<64> o in 0..64 {
        unroll u in 0..2 {
          vector<2> v in 0..2 {
            store %c[16*bm+2*(o//8)+u, 16*bn+2*(o%8)+v] = load %acc[o, u, v] if M-1-16*bm-2*(o//8)-u >= 0, N-1-16*bn-2*(o%8)-v >= 0
          }
        }
      }
    }
  }
}
)";

struct Matmul {
  int64_t m, k, n;
  Floats a, b, c;
  Matmul(std::mt19937& random, int64_t m, int64_t k, int64_t n)
      : m(m),
        k(k),
        n(n),
        a(random_floats(random, m * k)),
        b(random_floats(random, k * n)),
        c(static_cast<size_t>(m * n), NAN) {}
  std::string run(const std::string& text, bool reverse = false) {
    return judge(parsed(text), {a.data(), b.data(), c.data()}, {m, k, n}, reverse);
  }
};

TEST(LoopThreads, Matmul) {
  std::mt19937 random(1);
  for (auto [m, k, n] : {std::array<int64_t, 3>{1, 1, 1}, {16, 8, 16}, {33, 19, 17}, {5, 40, 50}, {48, 3, 2}})
    for (bool reverse : {false, true}) {
      Matmul x(random, m, k, n);
      ASSERT_EQ(x.run(kMatmul, reverse), "");
      std::vector<double> want(static_cast<size_t>(m * n));
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j)
          for (int64_t p = 0; p < k; ++p)
            want[static_cast<size_t>(i * n + j)] +=
                double{x.a[static_cast<size_t>(i * k + p)]} * x.b[static_cast<size_t>(p * n + j)];
      expect_near(x.c, want);
    }
}

TEST(LoopThreads, MatmulsBlockIsKnown) {
  Kernel k = parsed(kMatmul);
  EXPECT_TRUE(uses_threads(k));
  EXPECT_EQ(block_threads(k), 64);
  EXPECT_EQ(shared_bytes(k), 8 * 17 * 4 + 8 * 16 * 4);
  EXPECT_EQ(print_kernel(parsed(print_kernel(k))), print_kernel(k));
}

TEST(LoopThreads, BrokenMatmuls) {
  std::mt19937 random(2);
  const auto run = [&](const std::string& text, bool reverse = false) {
    return Matmul(random, 20, 24, 18).run(text, reverse);
  };
  // nobody waits for the tiles
  EXPECT_EQ(run(replaced(kMatmul, "barrier\n", "\n")),
            "kernel @matmul: race: element 1 of %t is read by thread 0, and written by thread 1 with no "
            "barrier in "
            "between (in `store %acc[e, u, v] = load %acc[e, u, v] + (load %s[p, u+2*(e//8)] * load %t[p, "
            "2*e+v-16*(e//8)])`)");
  EXPECT_NE(run(replaced(kMatmul, "barrier\n", "\n"), true).find("race: "), std::string::npos);
  // the next tile overwrites what others still read
  const std::string overwritten = run(replaced(kMatmul, "barrier\n", "\n", 1));
  EXPECT_NE(overwritten.find(
                "race: element 0 of %s is written by thread 0, and read by thread 0 and others with no "
                "barrier in between"),
            std::string::npos)
      << overwritten;
  // one step too many: outside, or never filled
  const std::string far = replaced(kMatmul, "serial p in 0..8", "serial p in 0..9");
  EXPECT_NE(run(far).find("index p = 8 of %s is outside 0..8"), std::string::npos) << run(far);
  const std::string larger = replaced(replaced(far, "%s: f32[8", "%s: f32[9"), "%t: f32[8", "%t: f32[9");
  EXPECT_NE(run(larger).find("element 136 of %s is read before it is written"), std::string::npos)
      << run(larger);
  // accumulators that nobody cleared
  const std::string unset = run(replaced(kMatmul, "2, 2] = 0.0", "2, 2]"));
  EXPECT_NE(unset.find("element 0 of %acc is read before it is written"), std::string::npos) << unset;
  // somebody else's accumulators
  EXPECT_EQ(run(replaced(kMatmul, "load %acc[o, u, v]", "load %acc[63-o, u, v]"))
                .find("verifier: kernel @matmul: the first index of %acc is -o+63, not the variable"),
            0u);
  // a barrier that some threads would pass more often
  const std::string inside = replaced(kMatmul, "serial p in 0..8 {", "serial p in 0..8 {\nbarrier\n");
  EXPECT_EQ(run(inside),
            "verifier: kernel @matmul: not every thread comes to a barrier inside of the thread loop e, in "
            "`barrier`");
  // two blocks write one element
  const std::string twice = run(replaced(kMatmul, "store %c[16*bm", "store %c[8*bm"));
  EXPECT_NE(twice.find("of %c is written by two iterations"), std::string::npos) << twice;
}

// What the verifier refuses, the interpreter doesn't believe either.
TEST(LoopThreads, TheInterpreterChecksTheSchedule) {
  Floats y(64, 1.0f);
  const auto run = [&](const std::string& body) {
    Kernel k = parsed("kernel @k(mut %y: f32[64]) {\n" + body + "\n}\n");
    Status s = interpret_kernel(k, std::vector<void*>{y.data()}, {});
    return s.ok() ? "" : s.error().message;
  };
  EXPECT_EQ(run("thread<32> a in 0..4 { barrier }"),
            "kernel @k: not every thread comes to this barrier (in `barrier`)");
  EXPECT_EQ(run("warp<2> a in 0..2 {\nthread<32> b in 0..4 { }\nbarrier }"),
            "kernel @k: not every thread comes to this barrier (in `barrier`)");
  EXPECT_EQ(run("thread<32> a in 0..4 { thread<32> b in 0..4 { } }"),
            "kernel @k: the thread loop b is inside of another one (in `thread<32> b in 0..4`)");
  EXPECT_EQ(run("warp<2> a in 0..4 { warp<2> b in 0..4 { } }"),
            "kernel @k: the warp loop b is inside of another one (in `warp<2> b in 0..4`)");
  EXPECT_EQ(
      run("thread<32> a in 0..4 { shared %s: f32[4] }"),
      "kernel @k: not every thread comes to this declaration of shared memory (in `shared %s: f32[4]`)");
  EXPECT_EQ(run("register %r: f32[32] = 0.0\nthread<32> a in 0..32 { store %r[31-a] = 1.0 }"),
            "kernel @k: %r[31, ..] belongs to thread 31, thread 0 touches it (in `store %r[-a+31] = 1.0`)");
  EXPECT_EQ(run("register %r: f32[32] = 0.0\nthread<32> a in 0..32 { }\n%v = load %r[2]"),
            "kernel @k: %r[2, ..] belongs to thread 2, uniform code touches it (in `%v = load %r[2]`)");
}

// ---- softmax over rows, a block a row and a group of threads a row

std::vector<double> softmax(const Floats& x, int64_t rows, int64_t columns) {
  std::vector<double> y(x.size());
  for (int64_t r = 0; r < rows; ++r) {
    const float* p = x.data() + r * columns;
    double m = -INFINITY, s = 0;
    for (int64_t c = 0; c < columns; ++c) m = std::max(m, double{p[c]});
    for (int64_t c = 0; c < columns; ++c) s += std::exp(p[c] - m);
    for (int64_t c = 0; c < columns; ++c) y[static_cast<size_t>(r * columns + c)] = std::exp(p[c] - m) / s;
  }
  return y;
}

const std::string kBlockSoftmax = R"(kernel @softmax(%x: f32[R, C], mut %y: f32[R, C] alias %x) params(R, C) {
  parallel r in 0..R {
    %m = reduce max thread<64> unroll 4 c in 0..C { load %x[r, c] }
    %s = reduce add thread<64> unroll 2 d in 0..C { exp(load %x[r, d] - %m) }
    thread<64> e in 0..C {
      store %y[r, e] = exp(load %x[r, e] - %m) / %s
    }
  }
}
)";

const std::string kWarpSoftmax = R"(kernel @softmax(%x: f32[R, C], mut %y: f32[R, C] alias %x) params(R, C) {
  parallel b in 0..(R+3)//4 {
    warp<4> w in 4*b..min(R, 4*b+4) {
      register %v: f32[32, 4]
      thread<32> t in 0..32 {
        unroll j in 0..4 {
          store %v[t, j] = load %x[w, 32*j+t] where C-1-32*j-t >= 0 else -inf
        }
      }
      %m = reduce max thread<32> t in 0..32 {
        %p = reduce max unroll j in 0..4 { load %v[t, j] }
        yield %p
      }
      %s = reduce add thread<32> t in 0..32 {
        %q = reduce add unroll j in 0..4 {
          store %v[t, j] = exp(load %v[t, j] - %m)
          yield load %v[t, j]
        }
        yield %q
      }
      thread<32> e in 0..32 {
        unroll j in 0..4 {
          store %y[w, 32*j+e] = load %v[e, j] / %s if C-1-32*j-e >= 0
        }
      }
    }
  }
}
)";

TEST(LoopThreads, Softmax) {
  std::mt19937 random(3);
  EXPECT_EQ(block_threads(parsed(kBlockSoftmax)), 64);
  EXPECT_EQ(block_threads(parsed(kWarpSoftmax)), 128);
  for (const std::string& text : {kBlockSoftmax, kWarpSoftmax})
    for (int64_t columns : {1, 31, 64, 100, 128})
      for (bool in_place : {false, true})
        for (bool reverse : {false, true}) {
          const int64_t rows = 1 + random() % 9;
          Floats x = random_floats(random, rows * columns), y(x.size(), NAN);
          const std::vector<double> want = softmax(x, rows, columns);
          Floats& result = in_place ? x : y;
          ASSERT_EQ(judge(parsed(text), {x.data(), result.data()}, {rows, columns}, reverse), "");
          expect_near(result, want);
        }
}

TEST(LoopThreads, BrokenSoftmaxes) {
  std::mt19937 random(4);
  const auto run = [&](const std::string& text, bool in_place = false) {
    Floats x = random_floats(random, 6 * 100), y(x.size());
    return judge(parsed(text), {x.data(), in_place ? x.data() : y.data()}, {6, 100});
  };
  // an element is read by one thread and written by another: a race only where both are one memory
  const std::string turned = replaced(kBlockSoftmax, "store %y[r, e] = exp(load %x[r, e]",
                                      "store %y[r, C-1-e] = exp(load %x[r, C-1-e]");
  EXPECT_EQ(run(turned), "");
  EXPECT_NE(run(turned, true)
                .find("of %y is written by thread 0, and read by thread 35 and others with no barrier"),
            std::string::npos)
      << run(turned, true);
  EXPECT_EQ(run(replaced(turned, "thread<64> e", "barrier\nthread<64> e"), true), "");
  // two blocks, two groups, write one row
  const std::string blocks = run(replaced(kBlockSoftmax, "store %y[r,", "store %y[r//2,"));
  EXPECT_NE(blocks.find("race: element 0 of %y is written by two iterations"), std::string::npos) << blocks;
  const std::string groups = run(replaced(kWarpSoftmax, "store %y[w,", "store %y[w//2,"));
  EXPECT_NE(groups.find("of %y is written by thread 0 and by thread 32 with no barrier in between"),
            std::string::npos)
      << groups;
  EXPECT_EQ(run(replaced(kWarpSoftmax, "store %y[w,", "store %y[0,"))
                .find("verifier: kernel @softmax: all groups of w write the same element of %y"),
            0u);
  // one too many columns
  const std::string far = run(replaced(kBlockSoftmax, "d in 0..C", "d in 0..C+1"));
  EXPECT_NE(far.find("index d = 100 of %x is outside 0..100"), std::string::npos) << far;
  const std::string guard = run(replaced(kWarpSoftmax, "if C-1-32*j-e", "if C-32*j-e"));
  EXPECT_NE(guard.find("of %y is outside 0..100"), std::string::npos) << guard;
  // the threads of a group can't wait for those of the others
  EXPECT_EQ(
      run(replaced(kWarpSoftmax, "thread<32> e", "barrier\nthread<32> e"))
          .find("verifier: kernel @softmax: not every thread comes to a barrier inside of the warp loop w"),
      0u);
}

// ---- a transpose through shared memory

const std::string kTranspose = R"(kernel @transpose(%x: f32[M, N], mut %y: f32[N, M]) params(M, N) {
  parallel i in 0..(M+31)//32 {
    parallel j in 0..(N+31)//32 {
      shared %t: f32[32, 33]
      thread<128> e in 0..1024 {
        store %t[e//32, e%32] = load %x[32*i+e//32, 32*j+e%32] if M-1-32*i-e//32 >= 0, N-1-32*j-e%32 >= 0
      }
      barrier
      thread<128> f in 0..1024 {
        store %y[32*j+f//32, 32*i+f%32] = load %t[f%32, f//32] if N-1-32*j-f//32 >= 0, M-1-32*i-f%32 >= 0
      }
    }
  }
}
)";

TEST(LoopThreads, Transpose) {
  std::mt19937 random(5);
  for (auto [m, n] : {std::pair<int64_t, int64_t>{1, 1}, {32, 32}, {40, 70}, {65, 3}})
    for (bool reverse : {false, true}) {
      Floats x = random_floats(random, m * n), y(x.size(), NAN);
      ASSERT_EQ(judge(parsed(kTranspose), {x.data(), y.data()}, {m, n}, reverse), "");
      for (int64_t a = 0; a < m; ++a)
        for (int64_t b = 0; b < n; ++b)
          ASSERT_EQ(y[static_cast<size_t>(b * m + a)], x[static_cast<size_t>(a * n + b)]);
    }
}

TEST(LoopThreads, BrokenTransposes) {
  std::mt19937 random(6);
  const auto run = [&](const std::string& text) {
    Floats x = random_floats(random, 40 * 33), y(x.size());
    return judge(parsed(text), {x.data(), y.data()}, {40, 33});
  };
  EXPECT_EQ(run(replaced(kTranspose, "barrier\n", "\n"))
                .find("kernel @transpose: race: element 4 of %t is read by thread 0, and written by thread "
                      "4 with no "
                      "barrier in between"),
            0u);
  const std::string narrow = run(replaced(kTranspose, "f32[32, 33]", "f32[32, 31]"));
  EXPECT_NE(narrow.find("= 31 of %t is outside 0..31"), std::string::npos) << narrow;
  const std::string shifted = run(replaced(kTranspose, "load %t[f%32, f//32]", "load %t[f%32, f//32+1]"));
  EXPECT_NE(shifted.find("of %t is read before it is written"), std::string::npos) << shifted;
  EXPECT_EQ(
      run(replaced(kTranspose, "store %y[32*j+f//32, 32*i+f%32]", "store %y[32*j, 32*i]"))
          .find("kernel @transpose: race: element 0 of %y is written by two iterations of the thread loop"),
      0u);
}

// ---- the rules, one by one

struct Small {
  Floats x, y;
  explicit Small(unsigned seed) {
    std::mt19937 random(seed);
    x = random_floats(random, 64);
    y = random_floats(random, 64);
  }
  std::string run(const std::string& body, bool reverse = false) {
    return judge(parsed("kernel @k(%x: f32[N], mut %y: f32[N]) params(N) {\n" + body + "\n}\n"),
                 {x.data(), y.data()}, {64}, reverse);
  }
};

TEST(LoopThreads, OneThreadsWorkIsInOrderButNotWithinALoop) {
  for (bool reverse : {false, true}) {
    Small s(7);
    // thread t runs t, t+16, ..: its own elements, but the iterations are independent by definition
    EXPECT_NE(s.run("thread<16> a in 0..48 { store %y[a+16] = load %y[a] }", reverse)
                  .find("of %y is read, and written by another iteration of the thread loop"),
              std::string::npos);
    EXPECT_NE(s.run("thread<16> a in 0..48 { store %y[a] = load %y[a+16] }", reverse)
                  .find("of %y is written, and read by another iteration of the thread loop"),
              std::string::npos);
    EXPECT_NE(s.run("thread<16> a in 0..48 { store %y[a-16*(a//16)] = load %x[a] }", reverse)
                  .find("of %y is written by two iterations of the thread loop"),
              std::string::npos);
    // from one loop to the next a thread's work is in order, without a barrier
    EXPECT_EQ(s.run("thread<16> a in 0..64 { store %y[a] = load %x[a] }\n"
                    "thread<16> b in 0..64 { store %y[b] = load %y[b] * 2.0 }",
                    reverse),
              "");
    for (size_t i = 0; i < 64; ++i) EXPECT_EQ(s.y[i], 2 * s.x[i]);
    // the second loop begins with another thread
    EXPECT_NE(s.run("thread<16> a in 0..64 { store %y[a] = load %x[a] }\n"
                    "thread<16> b in 1..64 { store %y[b] = load %y[b] * 2.0 }",
                    reverse)
                  .find("with no barrier in between"),
              std::string::npos);
    EXPECT_NE(s.run("thread<16> a in 0..49 { store %y[a+15] = load %y[a] }", reverse)
                  .find("with no barrier in between"),
              std::string::npos);
  }
}

TEST(LoopThreads, UniformCode) {
  Small s(8);
  EXPECT_EQ(s.run("%a = load %y[3] + load %x[0]\nbarrier\nstore %y[3] = %a\nbarrier\n"
                  "thread<16> c in 0..64 { store %y[c] = load %y[3] if 2-c >= 0 }"),
            "");
  EXPECT_EQ(s.y[0], s.y[3]);
  // all threads read, the first one stores
  EXPECT_EQ(
      s.run("%a = load %y[3]\nstore %y[3] = %a + 1.0\nthread<16> c in 0..64 { }"),
      "kernel @k: race: element 3 of %y is written by thread 0, and read by threads 0..15 with no barrier in "
      "between (in `store %y[3] = %a + 1.0`)");
  EXPECT_EQ(
      s.run("store %y[3] = 1.0\n%a = load %y[3]\nthread<16> c in 0..64 { }"),
      "kernel @k: race: element 3 of %y is read by threads 0..15, and written by thread 0 with no barrier in "
      "between (in `%a = load %y[3]`)");
  EXPECT_EQ(s.run("store %y[3] = 1.0\nthread<16> c in 0..1 { store %y[3] = load %y[3] * 2.0 }"), "");
  EXPECT_EQ(s.y[3], 2);
  EXPECT_NE(
      s.run("store %y[3] = 1.0\nthread<16> c in 3..5 { store %y[c-2] = load %y[c-1] }").find("thread 1"),
      std::string::npos);
  // of a group: its first thread
  EXPECT_EQ(s.run("warp<4> w in 0..8 {\nstore %y[w] = load %x[w]\n"
                  "thread<8> c in 0..1 { store %y[8+w] = load %y[w] }\n}"),
            "");
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(s.y[8 + i], s.x[i]);
  EXPECT_EQ(s.run("warp<4> w in 0..8 {\nstore %y[w] = load %x[w]\n"
                  "thread<8> c in 0..2 { store %y[16*c+8+w] = load %y[w] }\n}"),
            "kernel @k: race: element 0 of %y is read by thread 1, and written by thread 0 with no barrier "
            "in between "
            "(in `store %y[16*c+w+8] = load %y[w]`)");
  EXPECT_EQ(
      s.run("warp<4> w in 0..8 {\nstore %y[w] = load %x[w]\n%a = load %y[w]\nthread<8> c in 0..2 { }\n}"),
      "kernel @k: race: element 0 of %y is read by threads 0..7, and written by thread 0 with no barrier in "
      "between (in `%a = load %y[w]`)");
}

TEST(LoopThreads, SharedMemory) {
  Small s(9);
  const std::string reversed =
      "serial k in 0..64 step 16 {\nshared %t: f32[16]\nthread<16> c in 0..16 { store %t[c] = load %x[k+c] "
      "}\n"
      "barrier\nthread<16> d in 0..16 { store %y[k+d] = load %t[15-d] }\nbarrier\n}";
  EXPECT_EQ(s.run(reversed), "");
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(s.y[i], s.x[i / 16 * 16 + 15 - i % 16]);
  // It is the same memory in every iteration, ..
  EXPECT_NE(s.run(replaced(reversed, "barrier\n", "\n", 1))
                .find("of %t is written by thread 0, and read by thread 15"),
            std::string::npos);
  // .. of undefined contents.
  EXPECT_NE(s.run(replaced(reversed, "load %x[k+c] }", "load %x[k+c] if -k >= 0 }"))
                .find("of %t is read before it is written"),
            std::string::npos);
  // Blocks have memories of their own.
  EXPECT_EQ(s.run("parallel b in 0..4 {\nshared %t: f32[1]\nstore %t[0] = load %x[b]\nbarrier\n"
                  "thread<16> d in 0..16 { store %y[16*b+d] = load %t[0] }\n}"),
            "");
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(s.y[i], s.x[i / 16]);
}

TEST(LoopThreads, BarriersInUniformLoopsAndConditions) {
  // a tree of sums, by hand
  Small s(10);
  const std::string tree =
      "shared %t: f32[64]\nthread<64> c in 0..64 { store %t[c] = load %x[c] }\nbarrier\n"
      "serial k in 0..6 {\n  %h = shr(32, index(k))\n"
      "  thread<64> d in 0..h { store %t[d] = load %t[d] + load %t[d+h] }\n  if 4-k >= 0 { barrier }\n}\n"
      "thread<64> e in 0..1 { store %y[0] = load %t[0] }";
  for (bool reverse : {false, true}) {
    EXPECT_EQ(s.run(tree, reverse), "");
    double sum = 0;
    for (float v : s.x) sum += v;
    EXPECT_NEAR(s.y[0], sum, 1e-4);
    EXPECT_NE(s.run(replaced(tree, "if 4-k >= 0", "if k-1 >= 0"), reverse).find("race: "), std::string::npos);
  }
}

TEST(LoopThreads, VectorsOfOneThread) {
  Small s(11);
  EXPECT_EQ(
      s.run("thread<8> c in 0..16 {\nvector<4> l in 0..4 { store %y[4*c+l] = load %x[4*c+l] * 0.5 }\n}"), "");
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(s.y[i], s.x[i] * 0.5f);
  EXPECT_EQ(s.run("thread<8> c in 0..15 {\nvector<4> l in 0..4 { store %y[4*c+l+1] = load %x[4*c+l] }\n}"),
            "");
  EXPECT_NE(s.run("thread<1> c in 0..15 {\nvector<4> l in 0..4 { store %y[4*c+l+1] = load %y[4*c+l] }\n}")
                .find("of %y is read, and written by another lane"),
            std::string::npos);
}

// An element's readers are all remembered, not the last one only.
TEST(LoopThreads, AWriteAfterManyReads) {
  for (bool reverse : {false, true}) {
    Small s(12);
    EXPECT_EQ(s.run("parallel r in 0..64 { %a = load %y[" + std::string(reverse ? "0" : "63") +
                        "]\nstore %y[r] = %a }",
                    reverse)
                  .find("kernel @k: race: element " + std::string(reverse ? "0" : "63") +
                        " of %y is written, and read by another iteration"),
              0u);
    // lanes: the last one to read is the one that writes
    EXPECT_EQ(s.run("vector<4> c in 0..4 { %a = load %y[3]\nstore %y[c] = %a }")
                  .find("kernel @k: race: element 3 of %y is written, and read by another lane"),
              0u);
    EXPECT_EQ(s.run("thread<4> c in 0..4 { %a = load %y[" + std::string(reverse ? "0" : "3") +
                        "]\nstore %y[c] = %a }",
                    reverse)
                  .find("kernel @k: race: element " + std::string(reverse ? "0" : "3") +
                        " of %y is written by thread"),
              0u);
  }
}

// ---- the order of reductions

// The order of loops.h, for powers of two.
double halving(std::vector<double> v) {
  for (size_t n = v.size() / 2; n > 0; n /= 2)
    for (size_t i = 0; i < n; ++i) v[i] += v[i + n];
  return v[0];
}

double ordered_sum(const std::vector<double>& x, size_t width, size_t unroll, bool threads = false) {
  std::vector<double> acc(width * unroll, -0.0);
  const size_t whole = x.size() / acc.size() * acc.size();
  for (size_t i = 0; i < whole; ++i) acc[i % acc.size()] += x[i];
  for (size_t i = whole; i < x.size(); ++i) acc[(i - whole) % width] += x[i];
  if (!threads || width <= 32) return halving(acc);
  for (; acc.size() > width; acc.resize(acc.size() / 2))
    for (size_t i = 0; i < acc.size() / 2; ++i) acc[i] += acc[i + acc.size() / 2];
  std::vector<double> sums;
  for (size_t i = 0; i < width; i += 32)
    sums.push_back(halving({acc.begin() + static_cast<int64_t>(i), acc.begin() + static_cast<int64_t>(i + 32)}));
  return halving(sums);
}

TEST(LoopThreads, ReductionsHaveOneOrder) {
  std::mt19937 random(13);
  std::normal_distribution<double> d;
  bool differs = false;
  for (int trial = 0; trial < 60; ++trial) {
    const size_t n = random() % 700, width = size_t{1} << random() % 8, unroll = size_t{1} << random() % 4;
    std::vector<double> x(n);
    for (double& v : x) v = std::ldexp(d(random), static_cast<int>(random() % 60));
    differs |= ordered_sum(x, width, unroll) != ordered_sum(x, 1, 1);
    for (std::string kind : {"vector", "thread"})
      for (bool reverse : {false, true}) {
        double y = 0;
        const double want = ordered_sum(x, width, unroll, kind == "thread");
        const std::string text = "kernel @k(%x: f64[N], mut %y: f64[1]) params(N) {\n  %s = reduce add " +
                                 kind + "<" + std::to_string(width) + "> unroll " + std::to_string(unroll) +
                                 " c in 0..N { load %x[c] }\n  store %y[0] = %s\n}\n";
        ASSERT_EQ(judge(parsed(text), {x.data(), &y}, {static_cast<int64_t>(n)}, reverse), "");
        EXPECT_EQ(std::memcmp(&y, &want, sizeof y), 0) << text << n << ": " << y << " is not " << want;
      }
  }
  EXPECT_TRUE(differs) << "no input tells the orders apart";
}

TEST(LoopThreads, ReductionsOfGroups) {
  std::mt19937 random(14);
  const int64_t rows = 11, columns = 45;
  Floats x = random_floats(random, rows * columns), y(static_cast<size_t>(3 * rows), NAN);
  ASSERT_EQ(judge(parsed(R"(kernel @k(%x: f32[R, C], mut %y: f32[3, R]) params(R, C) {
  warp<4> w in 0..R {
    %hi, %lo, %p = reduce max, min, mul thread<8> unroll 2 c in 0..C {
      %v = load %x[w, c]
      yield %v, %v, %v
    }
    store %y[0, w] = %hi
    store %y[1, w] = %lo
    store %y[2, w] = %p
  }
}
)"),
                  {x.data(), y.data()}, {rows, columns}),
            "");
  for (int64_t r = 0; r < rows; ++r) {
    double hi = -INFINITY, lo = INFINITY, p = 1;
    for (int64_t c = 0; c < columns; ++c) {
      const double v = x[static_cast<size_t>(r * columns + c)];
      hi = std::max(hi, v);
      lo = std::min(lo, v);
      p *= v;
    }
    EXPECT_EQ(y[static_cast<size_t>(r)], hi);
    EXPECT_EQ(y[static_cast<size_t>(rows + r)], lo);
    EXPECT_NEAR(y[static_cast<size_t>(2 * rows + r)], p, 1e-5 * std::abs(p));
  }
}

// ---- the builder

TEST(LoopThreads, BuilderWritesTheSchedule) {
  KernelBuilder k("norms");
  Dim R = k.param("R"), C = k.param("C");
  Buffer x = k.arg("x", DType::kF32, {R, C}), y = k.out("y", DType::kF32, {R});
  k.parallel("r", 0, R, [&](Dim r) {
    Buffer acc = k.registers("acc", DType::kF32, {64}, 0.0);
    Buffer s = k.shared("s", DType::kF32, {64});
    k.loop(thread(64, 2), "c", 0, C, [&](Dim c) { k.prefetch(x, {r, c}); });
    k.thread(64, "t", 0, 64, [&](Dim t) { k.store(s, {t}, acc.load({t})); });
    k.barrier();
    Expr sum = k.reduce("sum", ReduceOp::kAdd, thread(64, 4), "c", 0, C, [&](Dim c) {
      return x.load({r, c});
    });
    k.store(y, {r}, sum + s.load({0}));
  });
  Kernel kernel = k.finish();
  EXPECT_EQ(print_kernel(kernel), R"(kernel @norms(%x: f32[R, C], mut %y: f32[R]) params(R, C) {
  parallel r in 0..R {
    register %acc: f32[64] = 0.0
    shared %s: f32[64]
    thread<64> unroll 2 c in 0..C {
      prefetch %x[r, c]
    }
    thread<64> t in 0..64 {
      store %s[t] = load %acc[t]
    }
    barrier
    %sum = reduce add thread<64> unroll 4 c_1 in 0..C { load %x[r, c_1] }
    store %y[r] = %sum + load %s[0]
  }
}
)");
  EXPECT_EQ(print_kernel(parsed(print_kernel(kernel))), print_kernel(kernel));
  std::mt19937 random(15);
  Floats a = random_floats(random, 3 * 200), b(3, NAN);
  ASSERT_EQ(judge(kernel, {a.data(), b.data()}, {3, 200}), "");
  for (size_t r = 0; r < 3; ++r) {
    double sum = 0;
    for (size_t c = 0; c < 200; ++c) sum += a[200 * r + c];
    EXPECT_NEAR(b[r], sum, 1e-4);
  }
  KernelBuilder w("warps");
  Buffer z = w.out("z", DType::kF32, {Dim(8)});
  w.warp(4, "g", 0, 8, [&](Dim g) {
    w.thread(16, "t", 0, 1, [&](Dim t) { w.store(z, {g + t}, Expr::constant(0.5, DType::kF32)); });
  });
  kernel = w.finish();
  EXPECT_TRUE(verify_kernel(kernel).ok());
  EXPECT_EQ(block_threads(kernel), 64);
  EXPECT_EQ(shared_bytes(kernel), 0);
}

}  // namespace
}  // namespace graphc
