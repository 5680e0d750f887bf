// cuDNN itself, without a card: it plans every kind of graph that regions are mapped to, for cards of three
// architectures; within the workspace that the call states, deterministically, and in f32 without TF32.
// Skipped where there is no cuDNN.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <set>

#include "backends/cuda/libraries/library_calls.h"
#include "frontend/frontend.h"
#include "passes/passes.h"
#include "runtime/base/file.h"
#include "tests/base/temp_dir.h"
#include "tests/cuda/cudnn/cards.h"
#include "tests/cuda/cudnn/conv_region.h"

namespace graphc::cuda {
namespace {

using Sizes = std::map<std::string, int64_t, std::less<>>;

struct Bound {
  CudnnGraph graph;
  uint64_t workspace = 0;
};
Result<Bound> bind_call(const RegionCall& call, const Sizes& sizes) {
  std::vector<int64_t> values;
  for (const Dim& d : call.sizes) values.push_back(d.evaluate(sizes).value());
  GC_TRY(const CudnnGraph g, CudnnGraph::parse(call.call, call.sizes.size(), call.args.size()));
  Bound b;
  GC_TRY(b.graph, g.bind(values));
  b.workspace = static_cast<uint64_t>(call.workspace_bytes.evaluate(sizes).value());
  return b;
}

class CudnnPlans : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (!CudaLibraries::get().cudnn.loaded()) GTEST_SKIP() << CudaLibraries::get().cudnn.problem;
    cudnn_ = open(nullptr);
  }
  static const CudnnTestCard& card() { return cudnn_test_cards()[static_cast<size_t>(GetParam())]; }
  std::shared_ptr<Cudnn> open(const DiskCache* cache) {
    auto c = Cudnn::open(CudaLibraries::get(), cudnn_device(card()), cache,
                         [this](std::string_view s) { log_.emplace_back(s); });
    EXPECT_TRUE(c.ok()) << c.error().message;
    return c.ok() ? *c : nullptr;
  }
  void plan(const Func& region, const Sizes& sizes) {
    auto call = cudnn_call(region);
    ASSERT_TRUE(call.ok()) << call.error().message;
    plan(*call, sizes);
  }
  void plan(const RegionCall& call, const Sizes& sizes) {
    auto bound = bind_call(call, sizes);
    ASSERT_TRUE(bound.ok()) << bound.error().message;
    auto p = cudnn_->plan(bound->graph, bound->workspace);
    ASSERT_TRUE(p.ok()) << call.call << p.error().message;
    EXPECT_LE((*p)->workspace_bytes(), bound->workspace);
    if (bound->graph.tensors[0].dtype == DType::kF32) {
      EXPECT_EQ((*p)->engine().find("tensor cores"), std::string::npos) << (*p)->engine();
    }
    EXPECT_EQ((*p)->engine().find("not deterministic"), std::string::npos);
    ++plans_;
  }
  void plan_or_not(const RegionCall& call, const Sizes& sizes) {
    auto bound = bind_call(call, sizes);
    ASSERT_TRUE(bound.ok()) << bound.error().message;
    auto p = cudnn_->plan(bound->graph, bound->workspace);
    if (p.ok()) {
      EXPECT_LE((*p)->workspace_bytes(), bound->workspace);
      ++plans_;
    } else {
      EXPECT_EQ(p.error().code, ErrorCode::kUnsupported);
      EXPECT_NE(call.call.find("convolution_weight_grad"), std::string::npos)
          << call.call << p.error().message;
      ++without_engine_;
    }
  }
  std::shared_ptr<Cudnn> cudnn_;
  std::vector<std::string> log_;
  int plans_ = 0, without_engine_ = 0;
};

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

TEST_P(CudnnPlans, ConvolutionsAndGradientsAsTheyLie) {
  for (DType t : kTypes)
    for (const ConvShape& s :
         {ConvShape{.n = 32, .c = 64, .h = 56, .w = 56, .o = 64, .type = t},
          ConvShape{.n = 1, .c = 3, .h = 224, .w = 224, .o = 64, .k = 7, .stride = 2, .pad = 3, .type = t},
          ConvShape{.n = 7, .c = 6, .h = 13, .w = 11, .o = 8, .stride = 2, .groups = 2, .type = t},
          ConvShape{.n = 5, .c = 9, .h = 30, .w = 17, .o = 5, .pad = 2, .dilation = 2, .type = t},
          ConvShape{.n = 64, .c = 256, .h = 14, .w = 14, .o = 1024, .k = 1, .pad = 0, .type = t}})
      for (int direction : {0, 1, 2}) {
        ConvRegion r(s);
        r.finish(direction == 0 ? r.convolution() : direction == 1 ? r.input_grad() : r.weight_grad());
        plan(r.func(), {});
      }
  EXPECT_EQ(plans_, 45);
}

TEST_P(CudnnPlans, BiasResidualAndRelu) {
  for (DType t : kTypes)
    for (const ConvShape& s :
         {ConvShape{.n = Dim::symbol("N"), .c = 64, .h = 56, .w = 56, .o = 128, .type = t},
          ConvShape{.n = Dim::symbol("N"), .c = 1, .h = 28, .w = 28, .o = 32, .type = t}})
      for (bool residual : {false, true})
        for (bool relu : {false, true}) {
          ConvRegion r(s);
          Value* v = r.b.add(r.convolution(), r.per_channel());
          if (residual) v = r.b.add(v, r.arg(r.y()));
          r.finish(relu ? r.relu(v) : v);
          plan(r.func(), {{"N", 16}});
        }
  EXPECT_EQ(plans_, 24);
}

// What needs an engine that is compiled at run time, by NVRTC; one card, as these take a second each.
TEST_P(CudnnPlans, ChannelsLastWithAScale) {
  if (GetParam() != 0) GTEST_SKIP() << "planned for one card";
  for (DType t : {DType::kF16, DType::kBF16}) {
    const ConvShape s{.n = 8, .c = 64, .h = 28, .w = 28, .o = 64, .type = t, .channels_last = true};
    ConvRegion r(s);
    Value *y = r.convolution(), *scale = r.per_channel(), *bias = r.per_channel();
    r.finish(r.relu(r.b.add(r.b.add(r.b.mul(y, scale), bias), r.arg(r.y()))));
    plan(r.func(), {});
    ConvRegion g(s);
    g.finish(g.b.add(g.input_grad(), g.arg(g.x())));
    plan(g.func(), {});
    ConvRegion w(s);
    w.finish(w.weight_grad());
    plan(w.func(), {});
  }
}

// In memory as large as the tensors: what [N, C, H, W] costs in the 16-bit types, and channels-last doesn't.
TEST_P(CudnnPlans, SixteenBitTypesTurnTheirTensors) {
  const auto workspace = [&](bool channels_last) -> uint64_t {
    ConvRegion r(
        {.n = 32, .c = 64, .h = 56, .w = 56, .o = 64, .type = DType::kBF16, .channels_last = channels_last});
    r.finish(r.convolution());
    auto bound = bind_call(*cudnn_call(r.func()), {});
    auto p = cudnn_->plan(bound->graph, bound->workspace);
    EXPECT_TRUE(p.ok()) << p.error().message;
    return p.ok() ? (*p)->workspace_bytes() : 0;
  };
  EXPECT_GE(workspace(false), uint64_t{2} * 32 * 64 * 56 * 56 * 2);
  EXPECT_LE(workspace(true), uint64_t{4} << 20);
}

// TF32 engines come first in cuDNN's own order; they are there, and not taken.
TEST_P(CudnnPlans, StrictF32SkipsTf32) {
  ConvRegion r({.n = 32, .c = 64, .h = 56, .w = 56, .o = 64});
  r.finish(r.convolution());
  auto bound = bind_call(*cudnn_call(r.func()), {});
  ASSERT_TRUE(bound.ok());
  auto trials = cudnn_->trials(bound->graph, bound->workspace);
  ASSERT_TRUE(trials.ok()) << trials.error().message;
  ASSERT_FALSE(trials->empty());
  EXPECT_EQ(trials->front().refused, "TF32");
  bound->graph.tf32 = true;
  auto p = cudnn_->plan(bound->graph, uint64_t{1} << 30);
  ASSERT_TRUE(p.ok());
  EXPECT_NE((*p)->engine().find("tensor cores"), std::string::npos) << (*p)->engine();
}

TEST_P(CudnnPlans, AnotherProcessTakesAKeptPlanBack) {
  TempDir dir;
  ConvRegion r({.n = 4, .c = 32, .h = 14, .w = 14, .o = 64, .type = DType::kF16});
  r.finish(r.relu(r.b.add(r.convolution(), r.per_channel())));
  auto bound = bind_call(*cudnn_call(r.func()), {});
  auto p = cudnn_->plan(bound->graph, bound->workspace);
  ASSERT_TRUE(p.ok()) << p.error().message;
  ASSERT_TRUE(atomic_write(dir / "graph", bound->graph.to_text()).ok());
  ASSERT_TRUE(atomic_write(dir / "plan", (*p)->serialised()).ok());
  const auto restored = [&](int card) {
    const std::string command =
        fmt::format("/proc/{}/exe --restore {} {} {} 2>&1", ::getpid(), card, dir / "graph", dir / "plan");
    std::string out;
    FILE* f = ::popen(command.c_str(), "r");
    for (int c; (c = std::fgetc(f)) != EOF;) out.push_back(static_cast<char>(c));
    return std::pair(WEXITSTATUS(::pclose(f)), out);
  };
  EXPECT_EQ(restored(GetParam()), std::pair(0, std::to_string((*p)->workspace_bytes())));
  const int other = GetParam() == 0 ? 1 : 0;
  EXPECT_EQ(restored(other).first, 4) << "taken back for another card: " << restored(other).second;
}

TEST_P(CudnnPlans, KeptOnDiskUntilSomethingDiffers) {
  TempDir dir;
  DiskCache cache(dir.path());
  ConvRegion r({.n = 3});
  r.finish(r.convolution());
  auto bound = bind_call(*cudnn_call(r.func()), {});
  auto first = open(&cache)->plan(bound->graph, bound->workspace);
  ASSERT_TRUE(first.ok()) << first.error().message;
  EXPECT_FALSE((*first)->from_disk());
  auto second = open(&cache)->plan(bound->graph, bound->workspace);
  ASSERT_TRUE(second.ok());
  EXPECT_TRUE((*second)->from_disk());
  EXPECT_EQ((*second)->engine(), (*first)->engine());
  EXPECT_EQ((*second)->workspace_bytes(), (*first)->workspace_bytes());
  EXPECT_TRUE(log_.empty());

  CudaLibraries other = CudaLibraries::get();
  other.cudnn.version = "9.99.9";
  auto c =
      Cudnn::open(other, cudnn_device(card()), &cache, [this](std::string_view s) { log_.emplace_back(s); });
  ASSERT_TRUE(c.ok());
  auto third = (*c)->plan(bound->graph, bound->workspace);
  ASSERT_TRUE(third.ok());
  EXPECT_FALSE((*third)->from_disk());
  ASSERT_EQ(log_.size(), 1U);
  EXPECT_NE(log_[0].find("here are cuDNN 9.99.9"), std::string::npos) << log_[0];
}

// Every convolution of the examples that is mapped, as the compiler leaves them. For a few weight gradients
// in f32 cuDNN lists only TF32 engines and one with a large workspace: there the kernels run.
TEST_P(CudnnPlans, Examples) {
  std::set<std::string> seen;
  int refused = 0;
  for (const char* example : {"mnist_cnn", "cnn_224", "resnet50"}) {
    auto file = GraphFile::load(std::string(GRAPHC_SOURCE_DIR) + "/examples/" + example + ".graph");
    ElaborateOptions options;
    options.training = true;
    auto e = file->elaborate(options);
    ASSERT_TRUE(e) << file->report();
    ASSERT_TRUE(build_pipeline({.opt_level = 2}).run(*e->module).ok());
    for (const auto& func : e->module->funcs)
      for (const auto& n : func->body.nodes) {
        if (n->op->name != "fusion" || n->attr("kind").as_string() != "contraction") continue;
        Module m;
        Func* f = m.add_func("contraction");
        f->symbols = func->symbols;
        std::unordered_map<const Value*, Value*> map;
        for (const auto& a : n->region->args) map[a.get()] = f->body.add_arg(a->type, "a");
        f->body.results = clone_block_into(*n->region, f->body, map);
        auto call = cudnn_call(*f);
        if (!call.ok()) {
          LoweredRegion lowered;
          lowered.steps.emplace_back();  // the region's own kernels don't matter here
          call = cudnn_convolution_call(*f, *CudaTarget::parse("h200"), lowered);
        }
        if (!call.ok())
          ++refused;
        else if (seen.insert(call->call).second)
          plan_or_not(*call, {{"N", 8}});
      }
  }
  EXPECT_GE(plans_, 50) << refused << " refused, " << without_engine_ << " without engine";
  EXPECT_LE(without_engine_, 8);
  std::printf("%d planned, %d without engine, %d not mapped\n", plans_, without_engine_, refused);
}

INSTANTIATE_TEST_SUITE_P(Cards, CudnnPlans, ::testing::Values(0, 1, 2), [](const auto& i) {
  return std::string(cudnn_test_cards()[static_cast<size_t>(i.param)].arch);
});

}  // namespace
}  // namespace graphc::cuda
