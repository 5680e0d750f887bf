// Machine code against the interpreter: random programs of every kind that templates make.
#include "tests/loops/run_kernel.h"

namespace graphc {
namespace {

// GRAPHC_LONG_TESTS=1 runs forty times as many programs.
unsigned long_factor() { return std::getenv("GRAPHC_LONG_TESTS") ? 40 : 1; }

class Fuzz {
 public:
  explicit Fuzz(unsigned seed) : random(seed) {}
  int pick(int lo, int hi) { return lo + static_cast<int>(random() % static_cast<unsigned>(hi - lo + 1)); }
  bool flip() { return random() % 2; }
  DType any_type() { return static_cast<DType>(random() % kNumDTypes); }

  // An element of `b`, shape {R, C}, at a random map of (r, c).
  Expr element(const Buffer& b, Dim r, Dim c, Dim R, Dim C, const Dim* data) {
    switch (pick(0, data ? 8 : 7)) {
      case 0: return b.load({0, c});
      case 1: return b.load({r, 0});
      case 2: return b.load_where({r, c - 1}, {c - 1}, 1);
      case 3: return b.load_where({r, c + 2}, {C - 3 - c}, -1);
      case 4: return b.load({r, C - 1 - c});
      case 5: return b.load({r, floordiv(c, pick(2, 16))});
      case 6: return b.load_where({r - 1, c}, {r - 1, C - 1 - c}, 2);
      case 8: return b.load({r, *data});
      default: return b.load({r, c});
    }
  }

  Expr tree(const std::vector<Expr>& leaves, DType t, int depth) {
    if (depth == 0 || pick(0, 5) == 0) return leaves[random() % leaves.size()];
    auto sub = [&] { return tree(leaves, t, depth - 1); };
    if (t == DType::kBool) {
      switch (pick(0, 3)) {
        case 0: return bit_and(sub(), sub());
        case 1: return bit_or(sub(), sub());
        case 2: return logical_not(sub());
        default: return bit_xor(sub(), sub());
      }
    }
    if (is_float(t)) {
      switch (pick(0, 9)) {
        case 0: return sub() + sub();
        case 1: return sub() - sub();
        case 2: return sub() * leaves[random() % leaves.size()];
        case 3: return maximum(sub(), sub());
        case 4: return minimum(sub(), sub());
        case 5: return abs(sub());
        case 6: return sub() / (2.5 + abs(leaves[random() % leaves.size()]));
        case 7: return tanh(sub());
        case 8: return select(leaves[0] < leaves[random() % leaves.size()], sub(), sub());
        default: return exp(minimum(sub(), 1.0));
      }
    }
    switch (pick(0, 14)) {
      case 0: return sub() + sub();
      case 1: return sub() - sub();
      case 2: return sub() * sub();
      case 3: return maximum(sub(), sub());
      case 4: return minimum(sub(), sub());
      case 5: return floor_div(sub(), sub());
      case 6: return rem(sub(), sub());
      case 7: return bit_and(sub(), sub());
      case 8: return bit_xor(sub(), sub());
      case 9: return shl(sub(), bit_and(sub(), Expr::int_constant(15, t)));
      case 10: return shr(sub(), sub());
      case 11: return abs(sub());
      case 12: return select(sub() <= sub(), sub(), sub());
      case 13: return sign(sub());
      default: return -sub();
    }
  }

  std::mt19937 random;
};

// A two-dimensional map with random readers, guards, types and vector widths.
void random_map(unsigned seed) {
  Fuzz f(seed);
  KernelBuilder k("map");
  DType t = f.any_type(), to = f.pick(0, 2) ? t : f.any_type();
  bool generic = f.flip();
  Params params{{"R", f.pick(1, 5)}, {"C", f.pick(1, 70)}};
  Dim R = generic ? k.param("R") : Dim(params["R"]), C = generic ? k.param("C") : Dim(params["C"]);
  Buffer x = k.arg("x", t, {R, C}), z = k.arg("z", t, {R, C});
  Buffer ids = k.arg("ids", DType::kI32, {R, C});
  Buffer y = k.out("y", to, {R, C});
  int width = 1 << f.pick(1, 5), unroll = f.pick(1, 3);
  bool use_data = f.pick(0, 3) == 0, branch = f.pick(0, 3) == 0;
  auto body = [&](Dim r, Dim c) {
    Dim data(0);
    if (use_data) {
      Expr id = cast(ids.load({r, c}), DType::kI64);
      data = k.let_index("id", minimum(maximum(id, Expr::index(0)), Expr::index(C - 1)));
    }
    std::vector<Expr> leaves;
    for (int i = 0; i < 3; ++i)
      leaves.push_back(k.let("v", f.element(i % 2 ? z : x, r, c, R, C, use_data ? &data : nullptr)));
    if (t == DType::kI64 || t == DType::kF32) leaves.push_back(cast(Expr::index(3 * c - r), t));
    leaves.push_back(t == DType::kBool ? Expr::int_constant(1, t) : Expr::constant(f.pick(0, 3), t));
    Expr v = f.tree(leaves, t, 3);
    if (is_float(t) && to != t) v = maximum(minimum(v, 30.0), -30.0);
    if (is_float(t) && !is_float(to)) v = leaves[0];  // rounding would decide on the integer
    v = cast(v, to);
    if (branch)
      k.if_then(
          {C - 5 - c, c - f.pick(0, 3)},
          [&] {
            k.store(y, {r, c}, v);
          },
          [&] {
            k.store(y, {r, c}, cast(leaves[0], to));
          });
    else
      k.store(y, {r, c}, v, f.pick(0, 3) ? std::vector<Dim>{} : std::vector<Dim>{C - 2 - c});
  };
  bool collapse = f.flip();
  k.parallel("r", 0, R, [&](Dim r) {
    if (collapse && unroll == 1)
      k.parallel("c", 0, C, [&](Dim c) { body(r, c); });
    else
      k.loop(vector(width, unroll), "c", 0, C, [&](Dim c) { body(r, c); });
  });
  Kernel kernel = k.finish();
  check_kernel(kernel, params, f.random, 20);
}

TEST(Emit, RandomMaps) {
  for (unsigned seed = 0; seed < 150 * long_factor() && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    random_map(seed);
  }
}

// Reductions along rows (vector) and columns (serial in a vector loop), several results, and a second pass.
void random_reduce(unsigned seed) {
  Fuzz f(seed + 1000);
  KernelBuilder k("rows");
  const DType types[] = {DType::kF32, DType::kF64, DType::kBF16, DType::kF16, DType::kI32,
                         DType::kI64, DType::kU8,  DType::kBool, DType::kI16};
  DType t = types[f.random() % std::size(types)];
  bool generic = f.flip();
  Params params{{"R", f.pick(1, 6)}, {"C", f.pick(1, 150)}};
  Dim R = generic ? k.param("R") : Dim(params["R"]), C = generic ? k.param("C") : Dim(params["C"]);
  Buffer x = k.arg("x", t, {R, C}), y = k.out("y", t, {R, C}), s = k.out("s", t, {C});
  int width = 1 << f.pick(1, 5), unroll = f.pick(1, 4);
  ReduceOp a = static_cast<ReduceOp>(f.pick(2, 3)),
           b = is_float(t) ? ReduceOp::kAdd : static_cast<ReduceOp>(f.pick(0, 3));
  if (f.flip()) {
    k.parallel("r", 0, R, [&](Dim r) {
      auto results =
          k.reduce("m", {a, b}, f.pick(0, 4) ? vector(width, unroll) : serial(), "c", 0, C, [&](Dim c) {
            Expr v = k.let("v", x.load({r, c}));
            return std::vector<Expr>{v, t == DType::kBool ? v : v * v};
          });
      k.vector(width, "c", 0, C, [&](Dim c) {
        Expr v = x.load({r, c});
        k.store(
            y, {r, c},
            t == DType::kBool ? bit_xor(bit_and(v, results[0]), results[1]) : v - results[0] + results[1]);
      });
    });
  } else {
    int block = width * f.pick(1, 3);
    k.parallel("b", 0, ceildiv(C, block), [&](Dim n) {
      k.loop(
          vector(width), "c", block * n, block * n + block,
          [&](Dim c) {
            Expr v = k.reduce("m", b, serial(), "r", 0, R, [&](Dim r) { return x.load({r, c}); });
            k.store(s, {c}, v);
          },
          C);
    });
  }
  Kernel kernel = k.finish();
  check_kernel(kernel, params, f.random, 30);
}

TEST(Emit, RandomReductions) {
  for (unsigned seed = 0; seed < 100 * long_factor() && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    random_reduce(seed);
  }
}

// A contraction with packed B in scratch, a register tile and a guarded epilogue.
void random_contraction(unsigned seed) {
  Fuzz f(seed + 5000);
  KernelBuilder k("matmul");
  Params params{{"M", f.pick(1, 40)}, {"N", f.pick(1, 70)}, {"K", f.pick(0, 50)}};
  bool generic = f.flip();
  auto size = [&](const char* n) { return generic ? k.param(n) : Dim(params[n]); };
  Dim M = size("M"), N = size("N"), K = size("K");
  const DType types[] = {DType::kF32, DType::kF64, DType::kBF16, DType::kI32};
  DType t = types[f.random() % 4], acc_type = t == DType::kBF16 ? DType::kF32 : t;
  int lanes = 1 << f.pick(2, 4), mr = f.pick(1, 6), nv = f.pick(1, 3), nr = nv * lanes, kc = f.pick(4, 20);
  Buffer a = k.arg("a", t, {M, K}), b = k.arg("b", t, {K, N}), bias = k.arg("bias", t, {N}),
         c = k.out("c", t, {M, N});
  k.parallel("m", 0, ceildiv(M, mr), [&](Dim m) {
    k.parallel("n", 0, ceildiv(N, nr), [&](Dim n) {
      Buffer packed = k.scratch("packed", acc_type, {kc, nr});
      Buffer acc = k.registers("acc", acc_type, {mr, nr}, 0.0);
      k.loop(
          serial(), "k0", 0, K,
          [&](Dim k0) {
            k.loop(
                serial(), "p", k0, k0 + kc,
                [&](Dim p) {
                  k.vector(lanes, "l", 0, nr, [&](Dim l) {
                    k.store(packed, {p - k0, l},
                            cast(b.load_where({p, nr * n + l}, {N - 1 - nr * n - l}), acc_type));
                  });
                },
                K);
            k.loop(
                serial(), "p", k0, k0 + kc,
                [&](Dim p) {
                  k.unroll("i", 0, mr, [&](Dim i) {
                    k.unroll("j", 0, nv, [&](Dim j) {
                      k.vector(lanes, "l", 0, lanes, [&](Dim l) {
                        Expr av = cast(a.load_where({mr * m + i, p}, {M - 1 - mr * m - i}), acc_type);
                        Dim col = j * lanes + l;
                        k.store(acc, {i, col}, acc.load({i, col}) + av * packed.load({p - k0, col}));
                      });
                    });
                  });
                },
                K);
          },
          {}, kc);
      k.unroll("i", 0, mr, [&](Dim i) {
        k.vector(lanes, "l", 0, nr, [&](Dim l) {
          Dim row = mr * m + i, col = nr * n + l;
          Expr v = acc.load({i, l}) + cast(bias.load_where({col}, {N - 1 - col}), acc_type);
          k.store(c, {row, col}, cast(v, t), {M - 1 - row, N - 1 - col});
        });
      });
    });
  });
  Kernel kernel = k.finish();
  check_kernel(kernel, params, f.random, 20);
}

TEST(Emit, RandomContractions) {
  for (unsigned seed = 0; seed < 40 * long_factor() && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    random_contraction(seed);
  }
}

TEST(Emit, DotGroups) {
  std::mt19937 random(11);
  struct Case {
    DType a, b, c;
    int group;
  };
  for (Case t :
       {Case{DType::kBF16, DType::kBF16, DType::kF32, 2}, Case{DType::kU8, DType::kI8, DType::kI32, 4},
        Case{DType::kI8, DType::kI8, DType::kI32, 4}}) {
    for (int lanes : {8, 16}) {
      KernelBuilder k("dots");
      const int mr = 3, kk = 9;
      Buffer a = k.arg("a", t.a, {mr, kk, t.group}), b = k.arg("b", t.b, {kk, 2 * lanes, t.group}),
             c = k.out("c", t.c, {mr, 2 * lanes});
      k.parallel("one", 0, 1, [&](Dim) {
        Buffer acc = k.registers("acc", t.c, {mr, 2 * lanes}, 0.0);
        k.serial("p", 0, kk, [&](Dim p) {
          k.unroll("i", 0, mr, [&](Dim i) {
            k.vector(lanes, "l", 0, 2 * lanes, [&](Dim l) {
              k.dot(acc, {i, l}, a, {i, p}, b, {p, l}, t.group);
            });
          });
        });
        k.unroll("i", 0, mr, [&](Dim i) {
          k.vector(lanes, "l", 0, 2 * lanes, [&](Dim l) { k.store(c, {i, l}, acc.load({i, l})); });
        });
      });
      Kernel kernel = k.finish();
      check_kernel(kernel, {}, random, 20);
    }
  }
}

// Registers of each lane: a 4-point transform along a strided axis, as Winograd's.
TEST(Emit, PrivateRegistersOfLanes) {
  std::mt19937 random(12);
  KernelBuilder k("transform");
  Dim n = k.param("N");
  Buffer x = k.arg("x", DType::kF32, {4, n}), y = k.out("y", DType::kF32, {4, n});
  k.vector(16, "c", 0, n, [&](Dim c) {
    Buffer d = k.registers("d", DType::kF32, {4});
    k.unroll("i", 0, 4, [&](Dim i) { k.store(d, {i}, x.load({i, c})); });
    k.store(y, {0, c}, d.load({0}) - d.load({2}));
    k.store(y, {1, c}, d.load({1}) + d.load({2}));
    k.store(y, {2, c}, d.load({2}) - d.load({1}));
    k.store(d, {3}, d.load({3}) * 2.0, {c - 5});
    k.store(y, {3, c}, d.load({1}) - d.load({3}));
  });
  Kernel kernel = k.finish();
  for (int64_t size : {1, 16, 37}) check_kernel(kernel, {{"N", size}}, random);
}

TEST(Emit, StridedAndFlattenedReaders) {
  std::mt19937 random(13);
  KernelBuilder k("strided");
  Dim n = k.param("N");
  Buffer x = k.arg("x", DType::kF32, {2 * n + 1}), w = k.arg("w", DType::kF32, {64}),
         y = k.out("y", DType::kF32, {n});
  k.parallel("b", 0, ceildiv(n, 128), [&](Dim b) {
    k.loop(
        vector(16), "i", 128 * b, 128 * b + 128,
        [&](Dim i) {
          // every second element, and a bias by i % 64
          k.store(y, {i}, x.load({2 * i}) - x.load({2 * i + 1}) + w.load({mod(i, 64)}));
        },
        n);
  });
  Kernel kernel = k.finish();
  for (int64_t size : {1, 128, 300}) check_kernel(kernel, {{"N", size}}, random);
}

TEST(Emit, PhiloxMatchesTheReference) {
  std::mt19937 random(14);
  KernelBuilder k("dropout");
  Dim n = k.param("N");
  Buffer y = k.out("y", DType::kU32, {n});
  auto u32 = [](uint32_t v) { return Expr::int_constant(v, DType::kU32); };
  k.vector(16, "i", 0, n, [&](Dim i) {
    k.store(y, {i}, philox(u32(7), u32(0xdeadbeef), u32(3), u32(0), Expr::index(i * 1000003 + 5)));
  });
  Kernel kernel = k.finish();
  check_kernel(kernel, {{"N", 1000}}, random);
}

TEST(Emit, CastsSaturateAndRound) {
  std::mt19937 random(15);
  for (int from = 0; from < kNumDTypes; ++from)
    for (int to = 0; to < kNumDTypes; ++to) {
      if (::testing::Test::HasFailure()) return;
      DType a = static_cast<DType>(from), b = static_cast<DType>(to);
      KernelBuilder k("casts");
      Buffer x = k.arg("x", a, {64}), y = k.out("y", b, {64});
      k.vector(16, "i", 0, 64, [&](Dim i) {
        Expr v = x.load({i});
        // out of range now and then, and NaN once
        if (is_float(a) && !is_float(b)) {
          v = select(equal(Expr::index(mod(i, 4)), Expr::index(0)), v * 0x1p40, v * 64.0);
          v = select(equal(Expr::index(i), Expr::index(3)), Expr::constant(NAN, a), v);
        }
        k.store(y, {i}, cast(v, b));
      });
      Kernel kernel = k.finish();
      check_kernel(kernel, {}, random);
    }
}

TEST(Emit, InPlaceAlias) {
  std::mt19937 random(16);
  KernelBuilder k("inplace");
  Dim n = k.param("N");
  Buffer x = k.arg("x", DType::kF32, {n}), y = k.out("y", DType::kF32, {n}, x);
  k.vector(16, "i", 0, n, [&](Dim i) { k.store(y, {i}, x.load({i}) * 3.0 + x.load({i}) * x.load({i})); });
  Kernel kernel = k.finish();
  auto object = compile_kernels({&kernel, 1}, host_features());
  ASSERT_TRUE(object.ok()) << object.error().message;
  auto image = KernelImage::load(object->bytes);
  ASSERT_TRUE(image.ok());
  std::vector<float> v(53), before;
  for (float& e : v) e = std::uniform_real_distribution<float>(-1, 1)(random);
  before = v;
  void* buffers[] = {v.data(), v.data()};
  int64_t size = 53;
  KernelCall call{buffers, &size, nullptr, 0, 1};
  image->find("inplace")(&call);
  for (size_t i = 0; i < v.size(); ++i) EXPECT_NEAR(v[i], before[i] * 3 + before[i] * before[i], 1e-6);
}

TEST(Emit, MaximumOfZeroAndAbs) {
  std::mt19937 random(18);
  KernelBuilder k("relu_abs");
  Buffer x = k.arg("x", DType::kF32, {64}), y = k.out("y", DType::kF32, {64});
  k.vector(8, "i", 0, 64, [&](Dim i) { k.store(y, {i}, maximum(0.0, abs(x.load({i})))); });
  check_kernel(k.finish(), {}, random);
}

TEST(Emit, ManyKernelsInOneObject) {
  std::mt19937 random(17);
  std::vector<Kernel> kernels;
  for (int i = 0; i < 20; ++i) {
    KernelBuilder k("k" + std::to_string(i));
    Dim n = k.param("N");
    Buffer x = k.arg("x", DType::kF32, {n}), y = k.out("y", DType::kF32, {n});
    k.vector(16, "i", 0, n, [&](Dim j) { k.store(y, {j}, x.load({j}) * double(i) + exp(x.load({j}))); });
    kernels.push_back(k.finish());
  }
  auto object = compile_kernels(kernels, host_features());
  ASSERT_TRUE(object.ok()) << object.error().message;
  auto image = KernelImage::load(object->bytes);
  ASSERT_TRUE(image.ok()) << image.error().message;
  EXPECT_EQ(image->names().size(), 20u);
  for (int i = 0; i < 20; ++i) {
    const Kernel& k = kernels[static_cast<size_t>(i)];
    std::vector<TestBuffer> args = random_args(k, {{"N", 31}}, random);
    call_kernel(image->find(k.name), k, {{"N", 31}}, args);
    for (size_t j = 0; j < 31; ++j) {
      double x = load_as_double(DType::kF32, args[0].data(), j);
      EXPECT_NEAR(load_as_double(DType::kF32, args[1].data(), j), x * i + std::exp(x), 1e-4);
    }
  }
  kernels[3].name = "k4";
  EXPECT_FALSE(compile_kernels(kernels, host_features()).ok());
}

TEST(Emit, TextForms) {
  KernelBuilder k("t");
  Buffer x = k.arg("x", DType::kF32, {64}), y = k.out("y", DType::kF32, {64});
  k.vector(8, "i", 0, 64, [&](Dim i) { k.store(y, {i}, x.load({i}) + 1.0); });
  Kernel kernel = k.finish();
  auto ir = emit_llvm_text({&kernel, 1}, host_features().baseline());
  ASSERT_TRUE(ir.ok()) << ir.error().message;
  EXPECT_NE(ir->find("define void @t("), std::string::npos);
  EXPECT_NE(ir->find("fadd contract <8 x float>"), std::string::npos);
  auto assembly = emit_asm_text({&kernel, 1}, host_features().baseline());
  ASSERT_TRUE(assembly.ok());
  EXPECT_NE(assembly->find("vaddps"), std::string::npos);
  EXPECT_EQ(assembly->find("call"), std::string::npos);
}

TEST(Emit, WithoutAvx2IsAClearError) {
  KernelBuilder k("t");
  Buffer y = k.out("y", DType::kF32, {1});
  k.store(y, {0}, Expr::constant(1, DType::kF32));
  Kernel kernel = k.finish();
  auto object = compile_kernels({&kernel, 1}, *CpuFeatures::parse("avx"));
  ASSERT_FALSE(object.ok());
  EXPECT_NE(object.error().message.find("avx2"), std::string::npos);
}

}  // namespace
}  // namespace graphc
