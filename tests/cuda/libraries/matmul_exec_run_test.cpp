// Regions with a matrix product through the whole backend on the stand-in: compiled, loaded, run, judged by
// the interpreter, with cuBLASLt and without it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "backends/cuda/compile.h"
#include "backends/cuda/exec/cuda_exec.h"
#include "ir/interpret.h"
#include "tests/cuda/libraries/matmul_regions.h"
#include "tests/cuda/libraries/region_card.h"
#include "tests/cuda/standin/cuda_api.h"

namespace graphc::cuda {
namespace {

const Dim N = Dim::symbol("N"), T = Dim::symbol("T");

void* standin_symbol(const char* name) { return CudaLibraries::get().cublaslt.symbol(name); }
unsigned long long products() {
  auto* f = reinterpret_cast<unsigned long long (*)(const char*)>(standin_symbol("standin_cublaslt_count"));
  return f ? f("matmul") : 0;
}
void refuse(bool on) { reinterpret_cast<void (*)(int)>(standin_symbol("standin_cublaslt_refuse"))(on); }

std::unique_ptr<MatmulRegion> linear() {
  auto r = std::make_unique<MatmulRegion>();
  Value *x = r->f32({N, T}), *w = r->f32({24, T}), *b = r->f32({24});
  r->result(r->b.create(ops::relu, {r->b.add(r->b.dot_general(x, w, {}, {}, {1}, {1}), b)}));
  return r;
}

TEST(MatmulExec, TheCallReplacesTheKernels) {
  const auto r = linear();
  Card card;
  const auto e = card.load(*r);
  ASSERT_TRUE(e);
  const auto before = products(), launches = standin_count("launches");
  card.check(*r, *e, {{"N", 33}, {"T", 70}});
  EXPECT_EQ(products(), before + 1);
  EXPECT_EQ(standin_count("launches"), launches);
  EXPECT_TRUE(card.said.empty());
  // a sum of no products: kernels
  card.check(*r, *e, {{"N", 5}, {"T", 0}});
  EXPECT_EQ(products(), before + 1);
  EXPECT_GT(standin_count("launches"), launches);
}

TEST(MatmulExec, EpilogueKernelsRunAfterTheProductOnly) {
  MatmulRegion r;  // attention's scores under a causal mask, and a second result
  Value *q = r.f32({2, N, 300}), *k = r.f32({2, N, 300});
  Value* y = r.b.mul(r.b.dot_general(q, k, {0}, {0}, {2}, {2}), 0.125);
  Value* mask =
      r.b.compare(ScalarOp::kLe, r.b.iota({1, N}, 1, DType::kI32), r.b.iota({N, 1}, 0, DType::kI32));
  r.result(r.b.where(mask, y, r.b.full(-INFINITY, DType::kF32)));
  r.result(r.b.create(ops::tanh, {y}));
  Card card;
  const auto e = card.load(r);
  ASSERT_TRUE(e);
  ASSERT_EQ(e->blob().calls.size(), 1u);
  EXPECT_EQ(e->blob().calls[0].after_steps, 1u);
  const auto before = products(), launches = standin_count("launches");
  card.check(r, *e, {{"N", 21}});
  EXPECT_EQ(products(), before + 1);
  EXPECT_EQ(standin_count("launches"), launches + 1);

  refuse(true);
  card.check(r, *e, {{"N", 22}});
  refuse(false);
  EXPECT_EQ(products(), before + 1);
  EXPECT_EQ(standin_count("launches"), launches + 1 + e->blob().calls[0].last_step);
}

TEST(MatmulExec, ARefusalAtLoadIsSaidOnce) {
  const auto fixed = [] {
    auto r = std::make_unique<MatmulRegion>();
    r->result(r->b.dot_general(r->f32({9, 16}), r->f32({16, 8}), {}, {}, {1}, {0}));
    return r;
  };
  Card card;
  refuse(true);
  const auto r = fixed();
  const auto e = card.load(*r), again = card.load(*r);
  refuse(false);
  ASSERT_TRUE(e && again);
  ASSERT_EQ(card.said.size(), 1u);
  EXPECT_EQ(
      card.said[0],
      "kernels run instead of cublaslt: cuBLASLt: no algorithm: CUBLAS_STATUS_NOT_SUPPORTED (matmul in=f32 "
      "out=f32 m=9 n=8 k=16 batch=1 a=%0 a_ld=16 b=%1 b_ld=8 d=%2 d_ld=8)");
  const auto before = products();
  card.check(*r, *e, {});
  EXPECT_EQ(products(), before);
}

// Sizes that are symbols are known when it runs.
TEST(MatmulExec, ARefusalAtRunTimeIsSaidOnce) {
  const auto r = linear();
  Card card;
  const auto e = card.load(*r);
  ASSERT_TRUE(e);
  card.check(*r, *e, {{"N", 6}, {"T", 20}});
  EXPECT_TRUE(card.said.empty());
  refuse(true);
  for (const int64_t n : {7, 8, 7}) card.check(*r, *e, {{"N", n}, {"T", 20}});
  refuse(false);
  ASSERT_EQ(card.said.size(), 1u);
  EXPECT_TRUE(card.said[0].starts_with("kernels run instead of cublaslt: cuBLASLt: no algorithm"))
      << card.said[0];
}

// A process in whose folder of libraries cuBLASLt isn't.
TEST(MatmulExecDeathTest, WithoutTheLibraryKernelsRunAndItIsSaid) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        const std::string folder =
            std::filesystem::temp_directory_path() / ("no_cublaslt" + std::to_string(::getpid()));
        std::filesystem::create_directories(folder);
        for (const char* file : {"libcuda.so.1", "libnvrtc.so.13"})
          std::filesystem::create_symlink(std::string(STANDIN_LIBRARIES) + "/" + file, folder + "/" + file);
        ::setenv("GRAPHC_CUDA_LIBRARIES", folder.c_str(), 1);
        bool right = false;
        {
          const auto r = linear();
          Card card;
          const auto e = card.load(*r);
          if (e) card.check(*r, *e, {{"N", 6}, {"T", 20}});
          right = e && standin_count("launches") > 0 && card.said.size() == 1 &&
                  card.said[0].starts_with("kernels run instead of cublaslt: cuBLASLt (libcublasLt.so.13");
          if (!card.said.empty()) std::fprintf(stderr, "%s\n", card.said[0].c_str());
        }
        std::filesystem::remove_all(folder);
        ::_exit(right && !::testing::Test::HasFailure() ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "was not found");
}

}  // namespace
}  // namespace graphc::cuda
