// How elementwise regions are scheduled; what they compute: tests/regions/map_test.cpp.
#include "tests/cuda/kernels/kernel_case.h"

namespace graphc::cuda {
namespace {

bool has_vectors(KernelCase& c, int width) {
  auto lowered = lower_region(c.func(), {*CudaTarget::parse(c.target), "k"});
  EXPECT_TRUE(lowered.ok()) << lowered.error().message;
  bool found = false;
  for_each_stmt(lowered->steps[0].kernel.body,
                [&](const Stmt& s) { found |= s.loop.kind == LoopKind::kVector && s.loop.width == width; });
  return found;
}

TEST(CudaMap, VectorsAndRestsInPlace) {
  for (int64_t n : {3, 8, 1023, 4097}) {
    for (bool known : {true, false}) {
      KernelCase c("map");
      const Dim size = known ? Dim(n) : Dim::symbol("N");
      Value *x = c.f32({size}), *y = c.f32({size});
      c.result(c.b.add(c.b.mul(x, 0.9), y));
      c.share = {0};
      EXPECT_TRUE(has_vectors(c, 4) || n < 4);
      c.check(known ? Sizes{} : Sizes{{"N", n}});
    }
    KernelCase d("map");
    Value* x = d.arg({DType::kBF16, {Dim::symbol("N"), 24}});
    d.result(d.b.mul(x, d.arg({DType::kBF16, {24}})));
    EXPECT_TRUE(has_vectors(d, 8));
    d.check({{"N", n % 100}});
    // rows of 10 don't begin at multiples of 16 bytes
    KernelCase e("map");
    e.result(e.b.add(e.f32({Dim::symbol("N"), 10}), e.f32({10})));
    EXPECT_TRUE(has_vectors(e, 2));
    e.check({{"N", n % 100}});
    if (HasFailure()) return;
  }
}

TEST(CudaMap, TransposesOfSeveralOperandsThroughTiles) {
  for (int64_t n : {32, 45}) {
    KernelCase c("map");
    Value *x = c.f32({2, n, 40}), *y = c.f32({2, 40, n}), *bias = c.f32({40, 1});
    c.result(c.b.add(c.b.add(c.b.transpose(x, {0, 2, 1}), y), bias));
    c.share = {1};
    auto lowered = lower_region(c.func(), {*CudaTarget::parse(c.target), "k"});
    ASSERT_TRUE(lowered.ok());
    EXPECT_GT(shared_bytes(lowered->steps[0].kernel), 0);
    c.check();
    KernelCase d("map");  // with itself
    x = d.f32({n, n});
    d.result(d.b.sub(x, d.b.transpose(x, {1, 0})));
    d.check();
    KernelCase e("map");
    x = e.arg({DType::kF16, {Dim::symbol("N"), Dim::symbol("M")}});
    e.result(e.b.mul(e.b.transpose(x, {1, 0}), 2.0));
    e.check({{"N", n}, {"M", 70}});
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace graphc::cuda
