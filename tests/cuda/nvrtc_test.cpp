// NVRTC without a card: cubins for every generation; errors in our own words.
#include "backends/cuda/nvrtc.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

#include "backends/cuda/exec/libraries.h"
#include "tests/base/temp_dir.h"

namespace graphc {
namespace {

constexpr const char* kAxpy = R"(
extern "C" __global__ void axpy(float a, const float* __restrict__ x, float* __restrict__ y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] + y[i];
}
)";

#define NEED_NVRTC() \
  if (!CudaLibraries::get().nvrtc.loaded()) GTEST_SKIP() << CudaLibraries::get().nvrtc.problem

TEST(Nvrtc, CubinsForEveryGeneration) {
  NEED_NVRTC();
  for (const char* arch : {"sm_80", "sm_90a", "sm_100", "sm_120"}) {
    SCOPED_TRACE(arch);
    auto b = compile_cuda({"axpy.cu", kAxpy}, {.arch = arch, .strict = true});
    ASSERT_TRUE(b.ok()) << b.error().message;
    EXPECT_EQ(b->code.substr(0, 4),
              "\x7f"
              "ELF");
    EXPECT_NE(b->code.find("axpy"), std::string::npos);
    EXPECT_EQ(b->log, "");
  }
  auto ptx = compile_cuda({"axpy.cu", kAxpy}, {.arch = "compute_80"});
  ASSERT_TRUE(ptx.ok()) << ptx.error().message;
  EXPECT_NE(ptx->code.find(".target sm_80"), std::string::npos);
}

TEST(Nvrtc, EqualTextsGiveEqualCodeOnSeveralThreads) {
  NEED_NVRTC();
  std::string code[4];
  std::vector<std::thread> threads;
  for (std::string& c : code)
    threads.emplace_back([&c] {
      auto b = compile_cuda({"axpy.cu", kAxpy}, {.arch = "sm_90a"});
      if (b.ok()) c = b->code;
    });
  for (std::thread& t : threads) t.join();
  EXPECT_FALSE(code[0].empty());
  for (const std::string& c : code) EXPECT_EQ(c, code[0]);
}

TEST(Nvrtc, EqualSourcesAreCompiledOnce) {
  NEED_NVRTC();
  TempDir dir;
  const DiskCache cache(dir.path());
  auto first = compile_cuda({"axpy.cu", kAxpy}, {.arch = "sm_90a"}, &cache);
  ASSERT_TRUE(first.ok()) << first.error().message;
  EXPECT_FALSE(first->cached);
  auto again = compile_cuda({"axpy.cu", kAxpy}, {.arch = "sm_90a"}, &cache);
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_TRUE(again->cached);
  EXPECT_EQ(again->code, first->code);
  for (const CudaCompileOptions& o :
       {CudaCompileOptions{.arch = "sm_80"}, CudaCompileOptions{.arch = "sm_90a", .line_info = false}}) {
    auto other = compile_cuda({"axpy.cu", kAxpy}, o, &cache);
    ASSERT_TRUE(other.ok()) << other.error().message;
    EXPECT_FALSE(other->cached);
  }
  EXPECT_FALSE(compile_cuda({"axpy.cu", std::string(kAxpy) + "\n"}, {.arch = "sm_90a"}, &cache)->cached);
}

TEST(Nvrtc, ErrorsCarryTheLog) {
  NEED_NVRTC();
  auto b =
      compile_cuda({"bad.cu", "extern \"C\" __global__ void f() { undeclared = 1; }"}, {.arch = "sm_80"});
  ASSERT_FALSE(b.ok());
  EXPECT_EQ(b.error().code, ErrorCode::kInternal);
  EXPECT_NE(b.error().message.find("bad.cu(1): error: identifier \"undeclared\" is undefined"),
            std::string::npos)
      << b.error().message;
  auto c = compile_cuda({"axpy.cu", kAxpy}, {.arch = "sm_31"});
  ASSERT_FALSE(c.ok());
  EXPECT_EQ(c.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(c.error().message.find("doesn't know the architecture 'sm_31'"), std::string::npos);
}

// A thread's array that is indexed by data can't live in registers.
TEST(Nvrtc, LocalMemoryIsAnErrorIfStrict) {
  NEED_NVRTC();
  constexpr const char* kLocal = R"(
extern "C" __global__ void f(const int* index, const float* x, float* y) {
  float t[64];
  for (int i = 0; i < 64; ++i) t[i] = x[i] * threadIdx.x;
  y[threadIdx.x] = t[index[threadIdx.x]];
}
)";
  EXPECT_TRUE(compile_cuda({"local.cu", kLocal}, {.arch = "sm_90a"}).ok());
  auto b = compile_cuda({"local.cu", kLocal}, {.arch = "sm_90a", .strict = true});
  ASSERT_FALSE(b.ok());
  EXPECT_NE(b.error().message.find("ocal memory"), std::string::npos) << b.error().message;
}

TEST(CudaLibraries, AFolderWithoutThemIsSaid) {
  TempDir dir;
  ::setenv("GRAPHC_CUDA_LIBRARIES", dir.path().c_str(), 1);
  const CudaLibraries l = CudaLibraries::open();
  ::unsetenv("GRAPHC_CUDA_LIBRARIES");
  for (const CudaLibrary* library : l.all()) {
    EXPECT_FALSE(library->loaded());
    EXPECT_NE(library->problem.find("was not found"), std::string::npos) << library->problem;
  }
  auto cards = cuda_cards(l);
  ASSERT_FALSE(cards.ok());
  EXPECT_EQ(cards.error().code, ErrorCode::kDevice);
  EXPECT_EQ(cards.error().message, "the NVIDIA driver (libcuda.so.1) was not found");
}

TEST(CudaLibraries, VersionsAreKnownOfWhatIsThere) {
  for (const CudaLibrary* library : CudaLibraries::get().all()) {
    if (library->loaded())
      EXPECT_NE(library->version, "") << library->name;
    else
      EXPECT_NE(library->problem, "") << library->name;
  }
}

}  // namespace
}  // namespace graphc
