// The stand-in itself: hand-written kernels compute what they should, and each kind of mistake is found.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <random>
#include <vector>

#include "backends/cuda/nvrtc.h"
#include "tests/cuda/standin/cuda_api.h"

namespace graphc {
namespace {

std::vector<float> random_floats(size_t n, unsigned seed) {
  std::mt19937 g(seed);
  std::normal_distribution<float> d;
  std::vector<float> v(n);
  for (float& x : v) x = d(g);
  return v;
}

// A program, loaded, and what its launches leave.
class Program {
 public:
  explicit Program(const std::string& text) {
    const auto b = compile_cuda({"test.cu", text}, {.arch = "sm_90a"});
    EXPECT_TRUE(b.ok()) << b.error().message;
    if (b.ok()) {
      EXPECT_EQ(CUDA(cuModuleLoadData)(&module_, b->code.data()), CUDA_SUCCESS);
    }
  }
  ~Program() {
    for (const CUdeviceptr p : memory_) CUDA(cuMemFree)(p);
    CUDA(cuModuleUnload)(module_);
  }
  CUdeviceptr put(const std::vector<float>& v) {
    CUdeviceptr p = 0;
    EXPECT_EQ(CUDA(cuMemAlloc)(&p, v.size() * 4), CUDA_SUCCESS);
    EXPECT_EQ(CUDA(cuMemcpyHtoD)(p, v.data(), v.size() * 4), CUDA_SUCCESS);
    memory_.push_back(p);
    return p;
  }
  std::vector<float> get(CUdeviceptr p, size_t n) {
    std::vector<float> v(n);
    EXPECT_EQ(CUDA(cuMemcpyDtoH)(v.data(), p, n * 4), CUDA_SUCCESS);
    return v;
  }
  template <class... A>
  CUresult launch(const char* kernel, unsigned blocks, unsigned threads, A... args) {
    CUfunction f = nullptr;
    EXPECT_EQ(CUDA(cuModuleGetFunction)(&f, module_, kernel), CUDA_SUCCESS);
    void* p[] = {static_cast<void*>(&args)...};
    return CUDA(cuLaunchKernel)(f, blocks, 1, 1, threads, 1, 1, 0, nullptr, p, nullptr);
  }
  // Runs it; stderr holds the stand-in's line.
  template <class... A>
  CUresult run(const char* kernel, unsigned blocks, unsigned threads, A... args) {
    EXPECT_EQ(launch(kernel, blocks, threads, args...), CUDA_SUCCESS);
    ::testing::internal::CaptureStderr();
    const CUresult r = CUDA(cuCtxSynchronize)();
    said = ::testing::internal::GetCapturedStderr();
    return r;
  }
  std::string said;

 private:
  CUmodule module_ = nullptr;
  std::vector<CUdeviceptr> memory_;
};

constexpr const char* kAdd = R"(
extern "C" __global__ void __launch_bounds__(256) add(const float* __restrict__ a, const float* __restrict__ b, float* c, long long n) {
  const long long i = 256ll * blockIdx.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}
)";

// A row per block: maximum and sum by shuffles in a warp, through shared memory between warps.
constexpr const char* kSoftmax = R"(
template <bool kMax> __device__ __forceinline__ float combine(float a, float b) { return kMax ? fmaxf(a, b) : a + b; }
template <bool kMax> __device__ float over_block(float v) {
  __shared__ float scratch[8];
  for (int d = 16; d > 0; d /= 2) v = combine<kMax>(v, __shfl_xor_sync(0xffffffffu, v, d));
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
  __syncthreads();
  v = scratch[threadIdx.x % 8];
  for (int d = 4; d > 0; d /= 2) v = combine<kMax>(v, __shfl_xor_sync(0xffffffffu, v, d, 8));
  return v;
}
extern "C" __global__ void __launch_bounds__(256) softmax(const float* x, float* y, long long columns) {
  const long long row = blockIdx.x * columns;
  float top = __int_as_float(0xff800000);
  for (long long i = threadIdx.x; i < columns; i += 256) top = fmaxf(top, x[row + i]);
  top = over_block<true>(top);
  float sum = 0;
  for (long long i = threadIdx.x; i < columns; i += 256) sum += expf(x[row + i] - top);
  sum = over_block<false>(sum);
  for (long long i = threadIdx.x; i < columns; i += 256) y[row + i] = expf(x[row + i] - top) / sum;
}
)";

// Tiles of 16 x 16; BARRIER and BOUND are replaced by the tests of mistakes.
std::string matmul_text(const std::string& second_barrier, const std::string& columns = "n") {
  return R"(
extern "C" __global__ void __launch_bounds__(256) matmul(const float* a, const float* b, float* c, long long m, long long n, long long k) {
  __shared__ float ta[16][17], tb[16][17];
  const long long tiles = (n + 15) / 16;
  const int r = threadIdx.x / 16, q = threadIdx.x % 16;
  const long long row = blockIdx.x / tiles * 16 + r, column = blockIdx.x % tiles * 16 + q;
  float sum = 0;
  for (long long t = 0; t < k; t += 16) {
    ta[r][q] = row < m && t + q < k ? a[row * k + t + q] : 0.f;
    tb[r][q] = t + r < k && column < n ? b[(t + r) * n + column] : 0.f;
    __syncthreads();
    for (int i = 0; i < 16; ++i) sum = fmaf(ta[r][i], tb[i][q], sum);
    )" + second_barrier +
         R"(
  }
  if (row < m && column < )" +
         columns + R"() c[row * n + column] = sum;
}
)";
}

TEST(Standin, AddsVectors) {
  const CudaSession session;
  Program p(kAdd);
  const size_t n = 10007;
  const auto a = random_floats(n, 1), b = random_floats(n, 2);
  const CUdeviceptr da = p.put(a), db = p.put(b), dc = p.put(std::vector<float>(n));
  ASSERT_EQ(p.run("add", 40, 256, da, db, dc, static_cast<long long>(n)), CUDA_SUCCESS) << p.said;
  const auto c = p.get(dc, n);
  for (size_t i = 0; i < n; ++i) ASSERT_EQ(c[i], a[i] + b[i]) << i;
}

TEST(Standin, SoftmaxOfRows) {
  const CudaSession session;
  Program p(kSoftmax);
  const size_t rows = 37, columns = 1003;
  const auto x = random_floats(rows * columns, 3);
  const CUdeviceptr dx = p.put(x), dy = p.put(std::vector<float>(x.size()));
  ASSERT_EQ(p.run("softmax", rows, 256, dx, dy, static_cast<long long>(columns)), CUDA_SUCCESS) << p.said;
  const auto y = p.get(dy, x.size());
  for (size_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (size_t i = 0; i < columns; ++i) sum += std::exp(double{x[r * columns + i]});
    for (size_t i = 0; i < columns; ++i)
      ASSERT_NEAR(y[r * columns + i], std::exp(double{x[r * columns + i]}) / sum, 1e-7);
  }
}

TEST(Standin, MultipliesMatricesInTiles) {
  const CudaSession session;
  Program p(matmul_text("__syncthreads();"));
  const long long m = 50, n = 33, k = 70;
  const auto a = random_floats(m * k, 4), b = random_floats(k * n, 5);
  const CUdeviceptr da = p.put(a), db = p.put(b), dc = p.put(std::vector<float>(m * n));
  ASSERT_EQ(p.run("matmul", 4 * 3, 256, da, db, dc, m, n, k), CUDA_SUCCESS) << p.said;
  const auto c = p.get(dc, m * n);
  for (long long i = 0; i < m; ++i)
    for (long long j = 0; j < n; ++j) {
      double sum = 0;
      for (long long q = 0; q < k; ++q) sum += double{a[i * k + q]} * b[q * n + j];
      ASSERT_NEAR(c[i * n + j], sum, 1e-4);
    }
}

// Runs `text`'s kernel k(float* of 256 zeros) in one block of 256 threads and expects it to fail with these
// words.
void expect_failure(const std::string& text, CUresult code, const std::string& words) {
  SCOPED_TRACE(text);
  const CudaSession session;
  Program p(text);
  const CUdeviceptr x = p.put(random_floats(256, 6));
  EXPECT_EQ(p.run("k", 1, 256, x), code) << p.said;
  EXPECT_NE(p.said.find(words), std::string::npos) << p.said;
  // sticky: nothing works any more, and says the same
  EXPECT_EQ(CUDA(cuCtxSynchronize)(), code);
  CUdeviceptr y = 0;
  EXPECT_EQ(CUDA(cuMemAlloc)(&y, 4), code);
}

std::string kernel(const std::string& body) {
  return "extern \"C\" __global__ void k(float* x) {\n__shared__ float s[256];\nconst int t = "
         "threadIdx.x;\n" +
         body + "\n}\n";
}

TEST(Standin, FindsAccessesOutsideOfMemory) {
  expect_failure(kernel("x[t + 1] = t;"), CUDA_ERROR_ILLEGAL_ADDRESS,
                 "kernel k, block 0: thread 255 writes 4 bytes");
  expect_failure(kernel("x[t + 1] = t;"), CUDA_ERROR_ILLEGAL_ADDRESS,
                 "(test.cu:4): 0 bytes past the end of an allocation of 1024");
  expect_failure(kernel("x[t] = x[t - 1];"), CUDA_ERROR_ILLEGAL_ADDRESS, "thread 0 reads 4 bytes");
  expect_failure(kernel("float* p = 0; if (t == 9) p[0] = t;"), CUDA_ERROR_ILLEGAL_ADDRESS,
                 "thread 9 writes 4 bytes at 0x0 (test.cu:4): the null pointer");
}

TEST(Standin, FindsRacesOfSharedMemory) {
  expect_failure(kernel("s[t] = x[t]; if (t > 0) x[t] = s[t - 1];"), CUDA_ERROR_ILLEGAL_ADDRESS,
                 "a race: thread 0 wrote this shared memory since the last barrier");
  expect_failure(kernel("s[t] = x[t]; __syncthreads(); float v = s[255 - t]; s[t] = v;"),
                 CUDA_ERROR_ILLEGAL_ADDRESS, "a race: thread 255 wrote this shared memory since");
  expect_failure(
      kernel("s[t] = x[t]; __syncthreads(); x[t] = s[t / 2]; if (t >= 2) s[t - 1] = 1; x[t] += s[t];"),
      CUDA_ERROR_ILLEGAL_ADDRESS, "a race: another thread read this shared memory since the last barrier");
  expect_failure(kernel("s[t / 2] = x[t]; __syncthreads(); x[t] = s[t / 2];"), CUDA_ERROR_ILLEGAL_ADDRESS,
                 "thread 0 wrote this shared memory since");
  expect_failure(kernel("s[t] = x[t]; __syncwarp(); x[t] = s[(t + 32) % 256];"), CUDA_ERROR_ILLEGAL_ADDRESS,
                 "nobody wrote");
}

TEST(Standin, FindsAMissingBarrierOfTheMatmul) {
  const CudaSession session;
  Program p(matmul_text(""));
  const CUdeviceptr a = p.put(random_floats(32 * 32, 1)), b = p.put(random_floats(32 * 32, 2)),
                    c = p.put(random_floats(32 * 32, 3));
  EXPECT_EQ(p.run("matmul", 4, 256, a, b, c, 32ll, 32ll, 32ll), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_NE(p.said.find("a race: thread 0 wrote this shared memory since the last barrier"),
            std::string::npos)
      << p.said;
}

TEST(Standin, FindsTheMatmulsBoundThatIsOffByOne) {
  const CudaSession session;
  Program p(matmul_text("__syncthreads();", "n + 1"));
  const CUdeviceptr a = p.put(random_floats(31 * 31, 1)), b = p.put(random_floats(31 * 31, 2)),
                    c = p.put(random_floats(31 * 31, 3));
  EXPECT_EQ(p.run("matmul", 4, 256, a, b, c, 31ll, 31ll, 31ll), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_NE(p.said.find("past the end of an allocation of 3844"), std::string::npos) << p.said;
}

TEST(Standin, SynchronisedUsesOfSharedMemoryAreNoRaces) {
  const CudaSession session;
  Program p(
      kernel("s[t] = x[t]; __syncthreads(); float v = s[255 - t]; __syncthreads(); s[t] = v; __syncwarp();\n"
             "v = s[t ^ 1]; __syncwarp(); s[t] = v + 1; __syncthreads(); if (t == 0) s[3] = 7; "
             "__syncthreads(); x[t] = s[t];"));
  const auto x = random_floats(256, 8);
  const CUdeviceptr d = p.put(x);
  ASSERT_EQ(p.run("k", 1, 256, d), CUDA_SUCCESS) << p.said;
  const auto y = p.get(d, 256);
  for (int t = 0; t < 256; ++t) ASSERT_EQ(y[t], t == 3 ? 7 : x[255 - (t ^ 1)] + 1) << t;
}

TEST(Standin, FindsDivergentBarriersAndShuffles) {
  expect_failure(kernel("if (t < 100) __syncthreads();\nx[t] = t;"), CUDA_ERROR_LAUNCH_FAILED,
                 "a divergent barrier: 100 threads wait at __syncthreads in line 4, 156 have ended");
  expect_failure(kernel("if (t < 100) {\n__syncthreads();\n} else {\n__syncthreads();\n}"),
                 CUDA_ERROR_LAUNCH_FAILED, "line 5 and others in line 7");
  expect_failure(kernel("if (t % 32 < 16) x[t] = __shfl_xor_sync(0xffffffffu, x[t], 1);"),
                 CUDA_ERROR_LAUNCH_FAILED, "a divergent warp operation");
  expect_failure(kernel("if (t % 32 < 16) x[t] = __shfl_xor_sync(0xffffu, x[t], 16);"),
                 CUDA_ERROR_LAUNCH_FAILED, "reads lane 16, which isn't in its mask");
}

TEST(Standin, ShufflesMoveWhatCudaSaysTheyMove) {
  const CudaSession session;
  Program p(R"(
extern "C" __global__ void k(float* x) {
  const int t = threadIdx.x;
  const double v = t * 1.5;
  x[t] = __shfl_down_sync(0xffffffffu, v, 3, 8);
  x[64 + t] = __shfl_up_sync(0xffffffffu, t, 2, 16);
  x[128 + t] = __shfl_sync(0xffffffffu, t, 5, 8);
  x[192 + t] = __popc(__ballot_sync(0xffffffffu, t % 3 == 0));
}
)");
  const CUdeviceptr d = p.put(random_floats(256, 9));
  ASSERT_EQ(p.run("k", 1, 64, d), CUDA_SUCCESS) << p.said;
  const auto y = p.get(d, 256);
  for (int t = 0; t < 64; ++t) {
    EXPECT_EQ(y[t], 1.5f * static_cast<float>(t % 8 + 3 < 8 ? t + 3 : t));
    EXPECT_EQ(y[64 + t], t % 16 >= 2 ? t - 2 : t);
    EXPECT_EQ(y[128 + t], t / 8 * 8 + 5);
    EXPECT_EQ(y[192 + t], t < 32 ? 11 : 11 - (64 % 3 == 0));
  }
}

TEST(Standin, WorkRunsWhenItIsWaitedFor) {
  const CudaSession session;
  Program p(kAdd);
  const auto a = random_floats(256, 10);
  const CUdeviceptr d = p.put(a);
  CUstream s = nullptr, s2 = nullptr;
  ASSERT_EQ(CUDA(cuStreamCreate)(&s, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  ASSERT_EQ(CUDA(cuStreamCreate)(&s2, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  void* raw = nullptr;
  ASSERT_EQ(CUDA(cuMemHostAlloc)(&raw, 1024, 0), CUDA_SUCCESS);
  auto* pinned = static_cast<float*>(raw);
  pinned[0] = -1;
  ASSERT_EQ(CUDA(cuMemcpyDtoHAsync)(pinned, d, 1024, s), CUDA_SUCCESS);
  EXPECT_EQ(pinned[0], -1);
  // the second stream comes after the first through an event
  CUevent e = nullptr;
  ASSERT_EQ(CUDA(cuEventCreate)(&e, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
  ASSERT_EQ(CUDA(cuEventRecord)(e, s), CUDA_SUCCESS);
  ASSERT_EQ(CUDA(cuStreamWaitEvent)(s2, e, 0), CUDA_SUCCESS);
  ASSERT_EQ(CUDA(cuMemsetD32Async)(d, 0, 256, s2), CUDA_SUCCESS);
  ASSERT_EQ(CUDA(cuStreamSynchronize)(s2), CUDA_SUCCESS);
  EXPECT_EQ(pinned[0], a[0]);
  EXPECT_EQ(p.get(d, 1)[0], 0);
  EXPECT_EQ(CUDA(cuStreamQuery)(s), CUDA_SUCCESS);
  CUDA(cuEventDestroy)(e);
  CUDA(cuStreamDestroy)(s);
  CUDA(cuStreamDestroy)(s2);
  CUDA(cuMemFreeHost)(raw);
}

TEST(Standin, ACapturedGraphRunsAgain) {
  const CudaSession session;
  Program p(kAdd);
  const auto a = random_floats(300, 11);
  const CUdeviceptr da = p.put(a), dc = p.put(std::vector<float>(300, 0.f));
  CUstream s = nullptr;
  ASSERT_EQ(CUDA(cuStreamCreate)(&s, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  ASSERT_EQ(CUDA(cuStreamBeginCapture)(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), CUDA_SUCCESS);
  CUmodule module = nullptr;
  CUfunction f = nullptr;
  // memory and modules can't be had while a capture forbids it
  CUdeviceptr no = 0;
  EXPECT_EQ(CUDA(cuMemAlloc)(&no, 4), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  CUgraph g = nullptr;
  EXPECT_EQ(CUDA(cuStreamEndCapture)(s, &g), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  const auto b = compile_cuda({"add.cu", kAdd}, {.arch = "sm_90a"});
  ASSERT_TRUE(b.ok());
  ASSERT_EQ(CUDA(cuModuleLoadData)(&module, b->code.data()), CUDA_SUCCESS);
  ASSERT_EQ(CUDA(cuModuleGetFunction)(&f, module, "add"), CUDA_SUCCESS);
  ASSERT_EQ(CUDA(cuStreamBeginCapture)(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), CUDA_SUCCESS);
  long long n = 300;
  CUdeviceptr x = da, y = dc, z = dc;
  void* args[] = {&x, &y, &z, &n};
  ASSERT_EQ(CUDA(cuLaunchKernel)(f, 2, 1, 1, 256, 1, 1, 0, s, args, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(CUDA(cuStreamEndCapture)(s, &g), CUDA_SUCCESS);
  CUgraphExec exec = nullptr;
  ASSERT_EQ(CUDA(cuGraphInstantiate)(&exec, g, 0), CUDA_SUCCESS);
  EXPECT_EQ(p.get(dc, 1)[0], 0);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(CUDA(cuGraphLaunch)(exec, s), CUDA_SUCCESS);
  ASSERT_EQ(CUDA(cuStreamSynchronize)(s), CUDA_SUCCESS);
  const auto c = p.get(dc, 300);
  for (size_t i = 0; i < 300; ++i) ASSERT_EQ(c[i], a[i] + a[i] + a[i]);
  CUDA(cuGraphExecDestroy)(exec);
  CUDA(cuGraphDestroy)(g);
  CUDA(cuModuleUnload)(module);
  CUDA(cuStreamDestroy)(s);
}

TEST(Standin, FailsTheCallItIsToldTo) {
  const CudaSession session;
  CUdeviceptr p[3] = {};
  standin_set("FAIL", "cuMemAlloc:2");
  EXPECT_EQ(CUDA(cuMemAlloc)(&p[0], 100), CUDA_SUCCESS);
  EXPECT_EQ(CUDA(cuMemAlloc)(&p[1], 100), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(CUDA(cuMemAlloc)(&p[1], 100), CUDA_SUCCESS);
  EXPECT_EQ(standin_count("allocations"), 2u);
  standin_set("MEMORY", "1000");
  EXPECT_EQ(CUDA(cuMemAlloc)(&p[2], 801), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(CUDA(cuMemAlloc)(&p[2], 800), CUDA_SUCCESS);
  for (const CUdeviceptr q : p) EXPECT_EQ(CUDA(cuMemFree)(q), CUDA_SUCCESS);
  EXPECT_EQ(standin_count("allocations"), 0u);
  standin_set("MEMORY", "4294967296");
}

TEST(Standin, RefusesCodeForOtherCards) {
  const CudaSession session;
  CUmodule m = nullptr;
  const auto code = [](const char* arch) { return compile_cuda({"add.cu", kAdd}, {.arch = arch})->code; };
  EXPECT_EQ(CUDA(cuModuleLoadData)(&m, code("sm_80").data()), CUDA_ERROR_NO_BINARY_FOR_GPU);
  EXPECT_EQ(CUDA(cuModuleLoadData)(&m, code("sm_100").data()), CUDA_ERROR_NO_BINARY_FOR_GPU);
  EXPECT_EQ(CUDA(cuModuleLoadData)(&m, code("compute_100").data()), CUDA_ERROR_INVALID_PTX);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(CUDA(cuModuleLoadData)(&m,
                                   "\x7f"
                                   "ELF"),
            CUDA_ERROR_INVALID_IMAGE);
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("needs a real card"), std::string::npos);
  ASSERT_EQ(CUDA(cuModuleLoadData)(&m, code("compute_80").data()), CUDA_SUCCESS);
  EXPECT_EQ(CUDA(cuModuleUnload)(m), CUDA_SUCCESS);
}

TEST(StandinNvrtc, SaysWhatIsWrongAndWhere) {
  auto bad =
      compile_cuda({"bad.cu", "\nextern \"C\" __global__ void f() { undeclared = 1; }"}, {.arch = "sm_80"});
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.error().message.find("bad.cu:2:"), std::string::npos) << bad.error().message;
  EXPECT_NE(bad.error().message.find("undeclared"), std::string::npos) << bad.error().message;
  auto arch = compile_cuda({"add.cu", kAdd}, {.arch = "sm_31"});
  ASSERT_FALSE(arch.ok());
  EXPECT_EQ(arch.error().code, ErrorCode::kUnsupported);
}

// What a barrier costs is what makes the stand-in usable; the bound is a hundred times what it takes.
TEST(Standin, BarriersAreCheap) {
  const CudaSession session;
  standin_set("CHECK", "0");
  Program p(kernel("for (int i = 0; i < 20; ++i) { __syncthreads(); if (t == i) x[t] += 1; }"));
  standin_set("CHECK", "1");
  const CUdeviceptr x = p.put(std::vector<float>(256));
  ASSERT_EQ(p.run("k", 1, 256, x), CUDA_SUCCESS);
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(p.run("k", 100, 256, x), CUDA_SUCCESS);
  const double us =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() * 1e6 / (100 * 20);
  RecordProperty("microseconds_per_barrier", std::to_string(us));
  EXPECT_LT(us, 500);
}

}  // namespace
}  // namespace graphc
