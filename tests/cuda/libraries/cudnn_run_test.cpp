// cuDNN's calls, as mapped from regions, run by the stand-in and judged by the interpreter.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "backends/cuda/exec/cudnn.h"
#include "backends/cuda/libraries/library_calls.h"
#include "ir/interpret.h"
#include "tests/base/temp_dir.h"
#include "tests/cuda/cudnn/conv_region.h"
#include "tests/cuda/standin/cuda_api.h"

namespace graphc::cuda {
namespace {

using Sizes = std::map<std::string, int64_t, std::less<>>;
const Dim N = Dim::symbol("N");

unsigned long long count(const char* what) {
  auto* f = reinterpret_cast<unsigned long long (*)(const char*)>(
      CudaLibraries::get().cudnn.symbol("standin_cudnn_count"));
  return f ? f(what) : 0;
}
void refuse(int on) {
  reinterpret_cast<void (*)(int)>(CudaLibraries::get().cudnn.symbol("standin_cudnn_refuse"))(on);
}
std::shared_ptr<Cudnn> open(const DiskCache* cache = nullptr, Cudnn::Log log = {}) {
  auto c =
      Cudnn::open(CudaLibraries::get(), {.arch = "sm_90a", .multiprocessors = 132}, cache, std::move(log));
  EXPECT_TRUE(c.ok()) << c.error().message;
  return c.ok() ? *c : nullptr;
}

class CudnnRuns : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(CUDA(cuStreamCreate)(&stream_, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS); }
  void TearDown() override {
    for (CUdeviceptr p : allocated_) CUDA(cuMemFree)(p);
    CUDA(cuStreamDestroy)(stream_);
  }

  CUdeviceptr put(const std::vector<std::byte>& bytes, uint64_t shift = 0) {
    CUdeviceptr p = 0;
    EXPECT_EQ(CUDA(cuMemAlloc)(&p, std::max<size_t>(bytes.size(), 1) + shift), CUDA_SUCCESS);
    allocated_.push_back(p);
    if (!bytes.empty()) {
      EXPECT_EQ(CUDA(cuMemcpyHtoD)(p + shift, bytes.data(), bytes.size()), CUDA_SUCCESS);
    }
    return p + shift;
  }

  // Maps the region, runs it `runs` times (by a captured graph if `capture`) and compares.
  Status run(const ConvRegion& r, const Sizes& sizes, std::shared_ptr<Cudnn> cudnn = open(),
             uint64_t shift = 0, bool capture = false) {
    GC_TRY(const RegionCall call, cudnn_call(r.func()));
    GC_TRY(const auto c, CudnnCall::create(std::move(cudnn), call.call, call.sizes.size(), call.args.size()));
    std::unique_ptr<Module> bound = clone(r.module());
    Func* func = bound->find_func("contraction");
    GC_CHECK(bind_symbols(*func, sizes));
    std::mt19937_64 rng(7);
    std::vector<HostTensor> in;
    for (const auto& a : func->body.args) {
      HostTensor t = HostTensor::zeros(a->type.dtype, *static_shape(a->type.shape));
      for (int64_t i = 0; i < t.size(); ++i)
        t.f[static_cast<size_t>(i)] = std::uniform_real_distribution<double>(-1, 1)(rng);
      in.push_back(HostTensor::from_bytes(t.dtype, t.shape, t.to_bytes().data()));
    }
    VariableValues none;
    GC_TRY(const std::vector<HostTensor> want, interpret(*bound, *func, in, none));
    std::vector<uint64_t> buffers;
    uint64_t result = 0;
    for (const KernelArg& a : call.args) {
      const size_t i = static_cast<size_t>(a.index);
      if (a.kind == KernelArgKind::kOperand)
        buffers.push_back(put(in[i].to_bytes(), shift));
      else
        buffers.push_back(result =
                              put(std::vector<std::byte>(want[i].to_bytes().size(), std::byte{0xA5}), shift));
    }
    std::vector<int64_t> values;
    for (const Dim& d : call.sizes) values.push_back(d.evaluate(sizes).value());
    const uint64_t limit =
        std::min<uint64_t>(static_cast<uint64_t>(call.workspace_bytes.evaluate(sizes).value()), 1 << 18);
    CUdeviceptr workspace = 0;
    EXPECT_EQ(CUDA(cuMemAlloc)(&workspace, limit), CUDA_SUCCESS);
    allocated_.push_back(workspace);
    if (!capture) {
      GC_CHECK(c->run(stream_, buffers, values, workspace, limit));
    } else {
      GC_CHECK(c->prepare(values, limit));
      CUgraph graph = nullptr;
      CUgraphExec exec = nullptr;
      EXPECT_EQ(CUDA(cuStreamBeginCapture)(stream_, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), CUDA_SUCCESS);
      GC_CHECK(c->run(stream_, buffers, values, workspace, limit));
      EXPECT_EQ(CUDA(cuStreamEndCapture)(stream_, &graph), CUDA_SUCCESS);
      EXPECT_EQ(CUDA(cuGraphInstantiateWithFlags)(&exec, graph, 0), CUDA_SUCCESS);
      for (int i = 0; i < 2; ++i) EXPECT_EQ(CUDA(cuGraphLaunch)(exec, stream_), CUDA_SUCCESS);
      EXPECT_EQ(CUDA(cuStreamSynchronize)(stream_), CUDA_SUCCESS);
      CUDA(cuGraphExecDestroy)(exec);
      CUDA(cuGraphDestroy)(graph);
    }
    EXPECT_EQ(CUDA(cuStreamSynchronize)(stream_), CUDA_SUCCESS);
    std::vector<std::byte> bytes(want[0].to_bytes().size());
    EXPECT_EQ(CUDA(cuMemcpyDtoH)(bytes.data(), result, bytes.size()), CUDA_SUCCESS);
    const HostTensor got = HostTensor::from_bytes(want[0].dtype, want[0].shape, bytes.data());
    const double eps = want[0].dtype == DType::kF32 ? 1e-6 : want[0].dtype == DType::kF16 ? 1e-3 : 8e-3;
    double scale = 1;
    int wrong = 0;
    for (int64_t i = 0; i < got.size(); ++i) scale = std::max(scale, std::fabs(want[0].at(i)));
    for (int64_t i = 0; i < got.size() && wrong < 3; ++i)
      if (!(std::fabs(got.at(i) - want[0].at(i)) <= eps * scale)) {
        ++wrong;
        ADD_FAILURE() << "element " << i << ": " << got.at(i) << " instead of " << want[0].at(i) << "\n"
                      << call.call;
      }
    for (CUdeviceptr p : allocated_) CUDA(cuMemFree)(p);
    allocated_.clear();
    return ok_status();
  }
  void check(const ConvRegion& r, const Sizes& sizes) {
    const Status s = run(r, sizes);
    EXPECT_TRUE(s.ok()) << s.error().message;
  }

  CudaSession session_;
  CUstream stream_ = nullptr;
  std::vector<CUdeviceptr> allocated_;
};

// Strides, dilations, groups, paddings, in three types and both layouts, in three directions.
TEST_F(CudnnRuns, ConvolutionsAndGradients) {
  for (DType t : {DType::kF32, DType::kF16, DType::kBF16})
    for (bool last : {false, true})
      for (const ConvShape& s :
           {ConvShape{.n = N, .type = t, .channels_last = last},
            ConvShape{.n = N, .c = 4, .o = 8, .stride = 2, .groups = 2, .type = t, .channels_last = last},
            ConvShape{.n = 3, .c = 1, .o = 7, .k = 1, .pad = 0, .type = t, .channels_last = last},
            ConvShape{
                .n = N, .k = 2, .stride = 3, .pad = 2, .dilation = 2, .type = t, .channels_last = last}})
        for (int direction : {0, 1, 2}) {
          ConvRegion r(s);
          r.finish(direction == 0 ? r.convolution() : direction == 1 ? r.input_grad() : r.weight_grad());
          check(r, r.func().symbols.empty() ? Sizes{} : Sizes{{"N", 2}});
          if (HasFailure()) return;
        }
}

TEST_F(CudnnRuns, BiasResidualAndRelu) {
  for (DType t : {DType::kF32, DType::kBF16})
    for (bool residual : {false, true})
      for (bool relu : {false, true}) {
        ConvRegion r({.n = N, .stride = 2, .type = t});
        Value* v = r.b.add(r.convolution(), r.per_channel());
        if (residual) v = r.b.add(r.arg(r.y()), v);
        r.finish(relu ? r.relu(v) : v);
        check(r, {{"N", 3}});
      }
}

TEST_F(CudnnRuns, ChannelsLastScaleAndGradientsEpilogue) {
  ConvRegion r({.n = N, .type = DType::kF16, .channels_last = true});
  Value *y = r.convolution(), *scale = r.per_channel();
  r.finish(r.relu(r.b.add(r.b.mul(y, scale), r.arg(r.y()))));
  check(r, {{"N", 2}});
  ConvRegion g({.n = N, .stride = 2, .type = DType::kBF16, .channels_last = true});
  g.finish(g.b.add(g.input_grad(), g.arg(g.x())));
  check(g, {{"N", 2}});
}

TEST_F(CudnnRuns, IsCaptured) {
  ConvRegion r({.n = N, .type = DType::kBF16});
  r.finish(r.relu(r.b.add(r.convolution(), r.per_channel())));
  const unsigned long long before = count("execute");
  const Status s = run(r, {{"N", 2}}, open(), 0, true);
  EXPECT_TRUE(s.ok()) << s.error().message;
  EXPECT_EQ(count("execute"), before + 1);
}

TEST_F(CudnnRuns, RefusesWhatItCantAndKernelsRun) {
  ConvRegion r({.n = N});
  r.finish(r.convolution());
  Status s = run(r, {{"N", 0}});
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, ErrorCode::kUnsupported) << s.error().message;
  s = run(r, {{"N", 2}}, open(), 4);
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().message, "a buffer doesn't begin at a multiple of 16 bytes");
  refuse(1);
  s = run(r, {{"N", 2}});
  refuse(0);
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(s.error().message, "cuDNN has no engine that may be used");
}

TEST_F(CudnnRuns, PlansAreKeptAndDescriptorsGivenBack) {
  TempDir dir;
  const DiskCache cache(dir.path());
  const unsigned long long alive = count("descriptors");
  ConvRegion r({.n = N});
  r.finish(r.convolution());
  std::vector<std::string> log;
  for (int i = 0; i < 2; ++i) {
    const unsigned long long plans = count("plan"), restored = count("restore");
    auto cudnn = open(&cache, [&](std::string_view s) { log.emplace_back(s); });
    EXPECT_TRUE(run(r, {{"N", 2}}, cudnn).ok());
    EXPECT_EQ(count("plan") - plans, i == 0 ? 1U : 0U);
    EXPECT_EQ(count("restore") - restored, i == 0 ? 0U : 1U);
  }
  EXPECT_TRUE(log.empty());
  EXPECT_EQ(count("descriptors"), alive);
}

}  // namespace
}  // namespace graphc::cuda
