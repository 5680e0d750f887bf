// Regions with a convolution through the whole backend on the stand-in, with cuDNN and without an engine of
// it.
#include <gtest/gtest.h>

#include "tests/cuda/cudnn/conv_region.h"
#include "tests/cuda/libraries/region_card.h"

namespace graphc::cuda {
namespace {

const Dim N = Dim::symbol("N");

void* standin_symbol(const char* name) { return CudaLibraries::get().cudnn.symbol(name); }
unsigned long long convolutions() {
  return reinterpret_cast<unsigned long long (*)(const char*)>(standin_symbol("standin_cudnn_count"))(
      "execute");
}
void refuse(bool on) { reinterpret_cast<void (*)(int)>(standin_symbol("standin_cudnn_refuse"))(on); }

TEST(CudnnExec, TheCallReplacesTheKernels) {
  ConvRegion r({.n = N});
  r.finish(r.relu(r.b.add(r.convolution(), r.per_channel())));
  Card card;
  const auto e = card.load(r);
  ASSERT_TRUE(e);
  const auto before = convolutions(), launches = standin_count("launches");
  card.check(r, *e, {{"N", 3}});
  EXPECT_EQ(convolutions(), before + 1);
  EXPECT_EQ(standin_count("launches"), launches);
  card.check(r, *e, {{"N", 0}});  // no elements: kernels
  EXPECT_EQ(convolutions(), before + 1);
}

// What cuDNN can't do after a convolution is kernels after the call, or the fused kernels without it.
TEST(CudnnExec, OtherEpiloguesAreKernelsAfterTheCall) {
  for (const bool without : {false, true}) {
    ConvRegion r({.n = N, .c = 32});
    Value *y = r.convolution(), *scale = r.per_channel(), *bias = r.per_channel();
    r.finish(r.relu(r.b.add(r.b.add(r.b.mul(y, scale), bias), r.arg(r.y()))));
    ConvRegion w({.n = N, .c = 8});
    Value *dw = w.weight_grad(), *momentum = w.raw(w.w());
    Value* next = w.b.add(w.b.mul(momentum, 0.9), dw);
    w.finish(next);
    w.finish(w.b.sub(w.raw(w.w()), w.b.mul(next, 0.1)));
    for (const ConvRegion* region : {&r, &w}) {
      Card card;
      const auto e = card.load(*region);
      ASSERT_TRUE(e);
      const auto before = convolutions(), launches = standin_count("launches");
      refuse(without);
      card.check(*region, *e, {{"N", 4}});
      refuse(false);
      EXPECT_EQ(convolutions(), without ? before : before + 1);
      EXPECT_GT(standin_count("launches"), launches);
    }
  }
}

TEST(CudnnExec, WhatHasNoEngineAtLoadIsSaidOnce) {
  ConvRegion r({.n = 2});
  r.finish(r.convolution());
  Card card;
  refuse(true);
  const auto e = card.load(r), again = card.load(r);
  refuse(false);
  ASSERT_TRUE(e && again);
  EXPECT_EQ(card.said,
            (std::vector<std::string>{"kernels run instead of cudnn: cuDNN has no engine that may be used"}));
  card.check(r, *e, {});
}

}  // namespace
}  // namespace graphc::cuda
