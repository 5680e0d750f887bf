// What cuDNN is asked to do for a region, and why it isn't asked; the text of an operation graph.
#include <gtest/gtest.h>

#include "backends/cuda/compile.h"
#include "backends/cuda/exec/cudnn_graph.h"
#include "backends/cuda/libraries/library_calls.h"
#include "tests/cuda/cudnn/conv_region.h"

namespace graphc::cuda {
namespace {

std::string call_of(const ConvRegion& r) {
  const auto call = cudnn_call(r.func());
  if (!call.ok()) return "refused: " + call.error().message;
  const auto parsed = CudnnGraph::parse(call->call, call->sizes.size(), call->args.size());
  EXPECT_TRUE(parsed.ok()) << parsed.error().message << "\n" << call->call;
  if (parsed.ok()) {
    EXPECT_EQ(parsed->to_text(), call->call);
  }
  return call->call;
}

const Dim N = Dim::symbol("N");

TEST(CudnnCall, ConvolutionBiasRelu) {
  ConvRegion r({.n = N, .stride = 2});
  Value* y = r.convolution();
  r.finish(r.relu(r.b.add(y, r.per_channel())));
  EXPECT_EQ(call_of(r), R"(cudnn f32
x = arg %0 f32 [$0, 6, 9, 8]
w = arg %1 f32 [5, 6, 3, 3]
bias = arg %2 f32 [1, 5, 1, 1]
t0 = convolution(x, w) f32 [$0, 5, 5, 4] stride [2, 2] dilation [1, 1] pad [1, 1, 1, 1]
t1 = add(t0, bias) f32 [$0, 5, 5, 4]
y = relu(t1) out %3 f32 [$0, 5, 5, 4]
)");
  const auto call = cudnn_call(r.func());
  ASSERT_EQ(call->sizes.size(), 1U);
  EXPECT_EQ(call->sizes[0], N);
  EXPECT_EQ(call->args.back(), (KernelArg{KernelArgKind::kResult, 0}));
}

// The residual comes before the bias, wherever the region adds it: cuDNN knows that order alone.
TEST(CudnnCall, ResidualComesBeforeTheBias) {
  for (bool first : {true, false}) {
    ConvRegion r({.type = DType::kBF16});
    Value *y = r.convolution(), *bias = r.per_channel(), *residual = r.arg(r.y());
    Value* sum = first ? r.b.add(residual, r.b.add(y, bias)) : r.b.add(r.b.add(y, residual), bias);
    r.finish(r.b.maximum(r.b.full(0.0, DType::kBF16), sum));
    const std::string text = call_of(r);
    EXPECT_NE(text.find("t1 = add(t0, residual) f32"), std::string::npos) << text;
    EXPECT_NE(text.find("t2 = add(t1, bias) f32"), std::string::npos) << text;
    EXPECT_NE(text.find("y = relu(t2) out %4 bf16"), std::string::npos) << text;
  }
}

TEST(CudnnCall, Gradients) {
  ConvRegion r({.n = N, .c = 6, .o = 8, .stride = 2, .groups = 2});
  r.finish(r.input_grad());
  EXPECT_EQ(call_of(r), R"(cudnn f32
dy = arg %0 f32 [$0, 8, 5, 4]
w = arg %1 f32 [8, 3, 3, 3]
y = convolution_input_grad(dy, w) out %2 f32 [$0, 6, 9, 8] stride [2, 2] dilation [1, 1] pad [1, 1, 1, 1]
)");
  ConvRegion w({.n = N, .pad = 0, .dilation = 2});
  w.finish(w.weight_grad());
  EXPECT_EQ(call_of(w), R"(cudnn f32
x = arg %0 f32 [$0, 6, 9, 8]
dy = arg %1 f32 [$0, 5, 5, 4]
y = convolution_weight_grad(x, dy) out %2 f32 [5, 6, 3, 3] stride [1, 1] dilation [2, 2] pad [0, 0, 0, 0]
)");
}

// Transposes in the region say how tensors lie; nothing is moved.
TEST(CudnnCall, ChannelsLastThroughStrides) {
  ConvRegion r({.n = N, .type = DType::kF16, .channels_last = true});
  r.finish(r.relu(r.b.mul(r.convolution(), r.per_channel())));
  const std::string text = call_of(r);
  EXPECT_NE(text.find("x = arg %0 f16 [$0, 6, 9, 8] strides [432, 1, 48, 6]"), std::string::npos) << text;
  EXPECT_NE(text.find("w = arg %1 f16 [5, 6, 3, 3] strides [54, 1, 18, 6]"), std::string::npos) << text;
  EXPECT_NE(text.find("mul(t0, scale)"), std::string::npos) << text;
  EXPECT_NE(text.find("out %3 f16 [$0, 5, 9, 8] strides [360, 1, 40, 5]"), std::string::npos) << text;
}

TEST(CudnnCall, RefusesWithAReason) {
  const auto refused = [](ConvShape s, const std::function<void(ConvRegion&)>& make) {
    ConvRegion r(s);
    make(r);
    return call_of(r);
  };
  using R = ConvRegion;
  EXPECT_EQ(refused({}, [](R& r) { r.finish(r.relu(r.convolution())); }),
            "refused: in f32 without TF32 residual and relu need a bias");
  EXPECT_EQ(refused({}, [](R& r) { r.finish(r.b.mul(r.convolution(), r.per_channel())); }),
            "refused: in f32 without TF32 no factor can follow the convolution");
  EXPECT_EQ(refused({}, [](R& r) { r.finish(r.b.exp(r.convolution())); }),
            "refused: the convolution is followed by exp");
  EXPECT_EQ(refused({.c = 5}, [](R& r) { r.finish(r.b.add(r.input_grad(), r.per_channel())); }),
            "refused: in f32 without TF32 nothing can follow a gradient");
  EXPECT_EQ(refused({.type = DType::kF16}, [](R& r) { r.finish(r.relu(r.convolution())); }),
            "refused: in [N, C, H, W] residual and relu need a bias");
  EXPECT_EQ(refused({.type = DType::kF64}, [](R& r) { r.finish(r.convolution()); }),
            "refused: convolutions of f64 aren't mapped");
  EXPECT_EQ(refused({.type = DType::kBF16}, [](R& r) { r.finish(r.b.cast(r.convolution(), DType::kF32)); }),
            "refused: a result of f32 from operands of bf16");
  EXPECT_EQ(refused({},
                    [](R& r) {
                      Value* y = r.convolution();
                      r.finish(y);
                      r.finish(r.relu(y));
                    }),
            "refused: 2 results: only the convolution with bias, residual and relu");
}

// Only the steps' own library is asked for, and what the others say is kept.
TEST(CudnnCall, StandsForTheRegionsKernels) {
  ConvRegion r({.n = N});
  r.finish(r.convolution());
  auto target = CudaTarget::parse("h200");
  ASSERT_TRUE(target.ok());
  auto program = region_program(r.func(), *target);
  ASSERT_TRUE(program.ok()) << program.error().message;
  ASSERT_EQ(program->blob.calls.size(), 1U);
  EXPECT_EQ(program->blob.calls[0].library, "cudnn");
  EXPECT_EQ(program->blob.calls[0].last_step, program->blob.steps.size());
  ASSERT_EQ(program->lowered.not_called.size(), 1U);
  EXPECT_TRUE(program->lowered.not_called[0].starts_with("cublaslt: ")) << program->lowered.not_called[0];
  const std::string notes = library_notes(program->lowered);
  EXPECT_NE(
      notes.find("cudnn does them, where it is\n//   cudnn f32\n//   x = arg operand0 f32 [N, 6, 9, 8]\n"),
      std::string::npos)
      << notes;
  for (size_t at = 0; at < notes.size(); at = notes.find('\n', at) + 1)
    EXPECT_EQ(notes.substr(at, 2), "//") << notes;
}

TEST(CudnnGraphText, SaysWhatIsWrongAndWhere) {
  const std::string good =
      "cudnn f32\nx = arg %0 f32 [$0, 3, 4, 4]\nw = arg %1 f32 [2, 3, 1, 1]\n"
      "y = convolution(x, w) out %2 f32 [$0, 2, 4, 4] stride [1, 1] dilation [1, 1] pad [0, 0, 0, 0]\n";
  ASSERT_TRUE(CudnnGraph::parse(good, 1, 3).ok());
  const auto error = [&](const std::string& from, const std::string& to, size_t sizes = 1,
                         size_t buffers = 3) {
    std::string s = good;
    const size_t at = s.find(from);
    EXPECT_NE(at, std::string::npos);
    s.replace(at, from.size(), to);
    auto g = CudnnGraph::parse(s, sizes, buffers);
    EXPECT_FALSE(g.ok()) << s;
    return g.ok() ? std::string() : g.error().message;
  };
  EXPECT_EQ(error("cudnn f32", "cudnn f32", 0),
            "cuDNN graph, line 2: a size that the call doesn't have at its end");
  EXPECT_EQ(error("cudnn f32", "cudnn f32", 1, 2),
            "cuDNN graph, line 4: the call has no such buffer before 'f32'");
  EXPECT_EQ(error("(x, w)", "(x, v)"), "cuDNN graph, line 4: no tensor is called v before ')'");
  EXPECT_EQ(error("(x, w)", "(x)"), "cuDNN graph, line 4: not the operation's number of inputs before 'out'");
  EXPECT_EQ(error("w = arg", "x = arg"), "cuDNN graph, line 3: a second tensor called x before '='");
  EXPECT_EQ(error("pad [0, 0, 0, 0]", "pad [0, 0]"),
            "cuDNN graph, line 4: stride, dilation and pad for each of the image's axes expected at its end");
  EXPECT_EQ(error("f32 [2, 3, 1, 1]", "i32 [2, 3, 1, 1]"),
            "cuDNN graph, line 3: a float type expected before 'i32'");
  EXPECT_EQ(error("out %2 ", ""), "cuDNN graph: y is neither written nor read");
  auto g = CudnnGraph::parse(good, 1, 3);
  EXPECT_FALSE(g->bind(std::vector<int64_t>{0}).ok());
  auto bound = g->bind(std::vector<int64_t>{7});
  ASSERT_TRUE(bound.ok());
  EXPECT_EQ(bound->tensors[0].strides[0].value, 48);
  EXPECT_EQ(bound->tensors[2].extents[0].value, 7);
}

}  // namespace
}  // namespace graphc::cuda
