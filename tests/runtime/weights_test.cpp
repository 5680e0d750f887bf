// Foreign weights under foreign names: the map's text, its wildcards and permutations, and what it refuses.
#include "runtime/weights.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>

#include "runtime/base/safetensors.h"
#include "tests/base/temp_dir.h"

namespace graphc {
namespace {

std::string error_of(const std::string& text) {
  const auto m = WeightsMap::parse(text, "m");
  return m.ok() ? "ok" : m.error().message;
}
std::string renamed(const std::string& text, const std::string& name) {
  const auto m = WeightsMap::parse(text, "m");
  return m.ok() ? m->match(name).ours : m.error().message;
}

TEST(WeightsMap, Wildcards) {
  EXPECT_EQ(renamed("a = b", "a"), "b");
  EXPECT_EQ(renamed("a = b", "c"), "c");
  EXPECT_EQ(renamed("h.*.w = blocks.*.weight", "h.11.w"), "blocks.11.weight");
  EXPECT_EQ(renamed("h.*.w = blocks.*.weight", "h..w"), "blocks..weight");
  EXPECT_EQ(renamed("h.*.w = blocks.*.weight", "h.w"), "h.w");
  EXPECT_EQ(renamed("transformer.* = *", "transformer.h.0.ln.weight"), "h.0.ln.weight");
  EXPECT_EQ(renamed("*.a.*.b = x.*.y.*", "1.2.a.3.a.4.b"), "x.1.2.y.3.a.4");
  EXPECT_EQ(renamed("*a*a = *-*", "aaa"), "-a");
  EXPECT_EQ(renamed("aa*aa = *", "aaa"), "aaa");  // the pieces may not overlap
  EXPECT_EQ(renamed("# none\n\n  a.* = b.* # first\na.x = c\n", "a.x"), "b.x");
  EXPECT_EQ(renamed("x* = -", "xyz"), "-");
}

TEST(WeightsMap, RefusesWhatIsWrong) {
  EXPECT_EQ(error_of("\na b"), "m:2: a rule is written THEIRS = OURS [transpose]");
  EXPECT_EQ(error_of("= b"), "m:1: a rule is written THEIRS = OURS [transpose]");
  EXPECT_EQ(error_of("a ="), "m:1: a rule is written THEIRS = OURS [transpose]");
  EXPECT_EQ(error_of("a.* = b"), "m:1: 'a.*' has 1 wildcards, 'b' has 0");
  EXPECT_EQ(error_of("a = b transposed"),
            "m:1: 'transposed' is unknown; a rule may end in transpose or transpose=AXES");
  for (const char* axes : {"", "1", "0,0", "0,2", "1,0,", "1,-1", "0,x"})
    EXPECT_EQ(error_of(std::string("a = b transpose=") + axes),
              std::string("m:1: 'transpose=") + axes + "' must name every axis once, from 0 on");
  EXPECT_EQ(error_of("a = b transpose=2,0,1"), "ok");
  // hostile texts are errors or harmless
  std::mt19937 rng(3);
  const std::string alphabet = "a*=# \n.,01transpose-";
  for (int k = 0; k < 20000; ++k) {
    std::string text;
    for (uint32_t n = rng() % 40; n > 0; --n) text += alphabet[rng() % alphabet.size()];
    if (const auto m = WeightsMap::parse(text, "m"); m.ok()) m->match("a.0.a01.ta");
  }
  const std::string stars(20000, '*');
  EXPECT_EQ(renamed(stars + "b = -", std::string(60000, 'a')), std::string(60000, 'a'));
}

struct Weights : ::testing::Test {
  TempDir dir;
  Program program;
  std::vector<float> kernel = std::vector<float>(2 * 3 * 4 * 5), matrix = std::vector<float>(6), bias{7, 8};
  std::vector<SafetensorsTensor> tensors;

  Weights() {
    std::iota(kernel.begin(), kernel.end(), 1.0f);
    std::iota(matrix.begin(), matrix.end(), 1.0f);
    tensors = {{"net.conv.kernel", DType::kF32, {2, 3, 4, 5}, std::as_bytes(std::span(kernel))},
               {"net.fc.w", DType::kF32, {2, 3}, std::as_bytes(std::span(matrix))},
               {"net.fc.b", DType::kF32, {2}, std::as_bytes(std::span(bias))}};
    const auto variable = [&](const char* name, DType dtype, std::vector<int64_t> shape) {
      program.variables.push_back(
          {name, VariableRole::kParam, dtype, std::move(shape), InitSpec{"zeros", {}}, {}, "", ""});
    };
    variable("conv.weight", DType::kF32, {5, 4, 2, 3});
    variable("fc.weight", DType::kF64, {3, 2});
    variable("fc.bias", DType::kF32, {2});
  }
  std::string apply(const std::string& text) {
    EXPECT_TRUE(write_safetensors(dir / "w", tensors).ok());
    const auto map = WeightsMap::parse(text, "m");
    if (!map.ok()) return map.error().message;
    const Status s = apply_weights(program, dir / "w", &*map);
    if (s.ok()) return "ok";
    std::string text_of = s.error().message;
    const std::string path = dir / "w";
    for (size_t at; (at = text_of.find(path)) != std::string::npos;) text_of.replace(at, path.size(), "w");
    return text_of;
  }
  template <class T>
  T at(size_t variable, size_t i) const {
    T v;
    std::memcpy(&v, program.variables[variable].data.data() + i * sizeof(T), sizeof(T));
    return v;
  }
};

TEST_F(Weights, RenamesTransposesAndConverts) {
  ASSERT_EQ(
      apply(
          "net.conv.kernel = conv.weight transpose=3,2,0,1\nnet.*.w = *.weight transpose\nnet.*.b = *.bias"),
      "ok");
  for (size_t a = 0; a < 5; ++a)
    for (size_t b = 0; b < 4; ++b)
      for (size_t c = 0; c < 2; ++c)
        for (size_t d = 0; d < 3; ++d)
          ASSERT_EQ(at<float>(0, ((a * 4 + b) * 2 + c) * 3 + d), kernel[((c * 3 + d) * 4 + b) * 5 + a]);
  const double transposed[] = {1, 4, 2, 5, 3, 6};
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(at<double>(1, i), transposed[i]);
  EXPECT_EQ(at<float>(2, 0), 7);
}

TEST_F(Weights, MessagesNameBothSides) {
  const std::string conv = "net.conv.kernel = conv.weight transpose=3,2,0,1\n";
  const std::string rest = "net.fc.w = fc.weight transpose\nnet.fc.b = fc.bias\n";
  EXPECT_EQ(apply(""), "'w': the model has no 'net.conv.kernel'");
  EXPECT_EQ(apply(conv + "net.fc.w = fc.weight\nnet.fc.b = fc.bias"),
            "'w': 'fc.weight (there: net.fc.w)' is f32[2, 3], the model's is f64[3, 2]");
  EXPECT_EQ(apply("net.conv.kernel = conv.weight transpose\n" + rest),
            "m:1: 'net.conv.kernel' in 'w' is f32[2, 3, 4, 5]; a bare transpose is for matrices, write "
            "transpose=AXES");
  EXPECT_EQ(apply("net.conv.kernel = conv.weight transpose=1,0\n" + rest),
            "m:1: transpose has 2 axes, 'net.conv.kernel' in 'w' is f32[2, 3, 4, 5]");
  EXPECT_EQ(
      apply(conv + rest + "net.fc.v = fc.v\n"),
      "m:4: nothing in 'w' is named 'net.fc.v' (or an earlier line takes it); did you mean 'net.fc.b'?");
  EXPECT_EQ(apply(conv + "net.fc.w = fc.bias transpose\nnet.fc.b = fc.bias"),
            "m: 'net.fc.b' and 'net.fc.w' of 'w' both become 'fc.bias'");
  EXPECT_EQ(apply(conv + "net.fc.w = fc.weight transpose\nnet.fc.b = -"),
            "'w' lacks the parameter 'fc.bias'");
  EXPECT_EQ(apply(conv + "net.fc.w = fc.weight transpose\nnet.fc.b = fc.bais"),
            "'w': the model has no 'fc.bais (there: net.fc.b)'; did you mean 'fc.bias'?");
  EXPECT_EQ(apply(conv + rest), "ok");
}

}  // namespace
}  // namespace graphc
