// Core text: print and parse are inverses; every error names its place; nothing crashes.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "ir/op.h"
#include "ir/parse.h"
#include "ir/verify.h"
#include "runtime/base/file.h"
#include "tests/ir/random_module.h"

namespace graphc {
namespace {

const char* const kText = R"(graphc 1 core
param @conv1.weight: f32[64, 3] = kaiming_uniform() {a=2.2360679}
param @"odd name": f32[3] = uniform() {hi=0.5, lo=-0.5} loc(!1)
state @n: i64 = zeros()
const @c: f32[3] = data [0.1, -0.0, 0x7fc00001]
const @b: bool[2] = data [true, false]
const @h: bf16[2] = data [1.5, 0xff80]
const @u: u64 = data [18446744073709551615]
func @Net[N, T in 1..64, K in 2..](%x: f32[N, 3], %"0": f32[2*N+1, T//2]) -> (y: f32[N, 3], "a b": f32[2*N+1, T//2]) {
  %0 = add(%x, @c) : f32[N, 3] loc(!0)
  %1 = exp(%"0") : f32[2*N+1, T//2]
  %2 = fusion(%0, @"odd name") {kind="map"} : f32[N, 3] (%0: f32[N, 3], %w: f32[3]) {
    %1 = mul(%0, %w) : f32[N, 3]
    yield %1
  } loc(!1)
  return %2, %1
} loc(!0)
func @Empty() -> () {
  return
}
!0 = "cnn.graph":3:22
!1 = "std/nn.graph":10:7 in !0
)";

std::string parsed_and_printed(std::string_view text) {
  auto m = parse_core(text, "t");
  return m.ok() ? print(**m) : m.error().message;
}

TEST(CoreText, PrintsBackByteForByte) { EXPECT_EQ(parsed_and_printed(kText), kText); }

TEST(CoreText, KeepsFloatBits) {
  auto m = parse_core(kText, "t");
  ASSERT_TRUE(m.ok()) << m.error().message;
  const auto& c = *(*m)->find_variable("c")->data;
  uint32_t bits[3];
  std::memcpy(bits, c.data(), 12);
  EXPECT_EQ(bits[0], std::bit_cast<uint32_t>(0.1f));
  EXPECT_EQ(bits[1], 0x80000000u);
  EXPECT_EQ(bits[2], 0x7fc00001u);
  uint16_t half[2];
  std::memcpy(half, (*m)->find_variable("h")->data->data(), 4);
  EXPECT_EQ(half[0], 0x3fc0);
  EXPECT_EQ(half[1], 0xff80);
}

TEST(CoreText, RandomModulesRoundTrip) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    auto m = RandomModule(seed).make();
    Status s = verify(*m);
    ASSERT_TRUE(s.ok()) << seed << ": " << s.error().message;
    const std::string text = print(*m);
    ASSERT_EQ(parsed_and_printed(text), text) << seed;
    const std::string short_text = print(*m, {.locations = false});
    ASSERT_EQ(short_text.find("loc(!"), std::string::npos);
    auto again = parse_core(short_text, "t");
    ASSERT_TRUE(again.ok()) << again.error().message;
    ASSERT_EQ(print(**again, {.locations = false}), short_text);
  }
}

TEST(CoreText, CommentsSpacesAndDefaultsAreForHands) {
  const char* text =
      "# a comment\n\n graphc 1 core # more\nfunc @f(%x : f32[ 2 , 8 ])->(y:f32[2]){\n\n  # inside\n"
      "  %7 = sum(%x){axes=[1]} : f32[2]\n  return %7\n}\n";
  EXPECT_EQ(parsed_and_printed(text),
            "graphc 1 core\nfunc @f(%x: f32[2, 8]) -> (y: f32[2]) {\n"
            "  %0 = sum(%x) {axes=[1], keepdims=false} : f32[2]\n  return %0\n}\n");
}

TEST(CoreText, LargeDataGoesToASidecar) {
  char dir[] = "/tmp/graphc_core_XXXXXX";
  ASSERT_NE(mkdtemp(dir), nullptr);
  const std::string path = std::string(dir) + "/net.graph";
  Module m;
  auto data = std::make_shared<std::vector<std::byte>>(100 * 4);
  for (size_t i = 0; i < data->size(); ++i) (*data)[i] = static_cast<std::byte>(i * 7);
  m.add_variable("table", VariableKind::kConst, {DType::kI32, {100}}, "")->data = data;
  ASSERT_TRUE(write_core(m, path).ok());
  auto back = read_core(path);
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(*(*back)->find_variable("table")->data, *data);

  // Other data under the same name is noticed, and so is text without the folder.
  (*data)[5] ^= std::byte{1};
  ASSERT_TRUE(write_core(m, std::string(dir) + "/other.graph").ok());
  ASSERT_EQ(std::rename((std::string(dir) + "/other.safetensors").c_str(),
                        (std::string(dir) + "/net.safetensors").c_str()),
            0);
  auto wrong = read_core(path);
  ASSERT_FALSE(wrong.ok());
  EXPECT_NE(wrong.error().message.find("SHA-256"), std::string::npos) << wrong.error().message;
  auto text = read_file(path);
  ASSERT_TRUE(text.ok());
  EXPECT_FALSE(parse_core(*text, "net.graph").ok());

  // Without a sidecar the text says that it isn't whole.
  const std::string partial = print(m);
  EXPECT_TRUE(partial.starts_with("graphc 1 core partial\n"));
  auto refused = parse_core(partial, "t");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("leaves data of variables out"), std::string::npos);
}

struct Wrong {
  const char* text;
  const char* message;  // its beginning
};

TEST(CoreText, ErrorsNameTheirPlace) {
  const std::string f = "graphc 1 core\nfunc @f(%x: f32[2]) -> (y: f32[2]) {\n";
  const std::pair<std::string, std::string> cases[] = {
      {"", "t:1:1: error: core text begins with"},
      {"graphc 1\n", "t:1:9: error: this isn't core text"},
      {"graphc 2 core\n", "t:1:8: error: this graphc reads version 1"},
      {"graphc 1 core\nhello\n",
       "t:2:1: error: expected param, state, const, func or a location, got 'hello'"},
      {f + "  %0 = rleu(%x) : f32[2]\n  return %0\n}\n", "t:3:8: error: there is no op called 'rleu'"},
      {f + "  %0 = exp(%z) : f32[2]\n  return %0\n}\n", "t:3:12: error: %z isn't defined here"},
      {f + "  %0 = exp(@w) : f32[2]\n  return %0\n}\n", "t:3:12: error: there is no variable @w"},
      {f + "  %0 = exp(%x) : f32[3]\n  return %0\n}\n",
       "t:3:16: error: the types don't agree with the operands, which give f32[2]"},
      {f + "  %0 = exp(%x) {a=1} : f32[2]\n  return %0\n}\n", "t:3:8: error: exp has no setting 'a'"},
      {f + "  %0 = exp(%x)\n  return %0\n}\n", "t:3:15: error: 1 results are named and 0 types given"},
      {f + "  return %x, %x\n}\n", "t:2:6: error: @f declares 1 results and returns 2"},
      {f + "  return %x\n", "t:4:1: error: expected '}'"},
      {f, "t:3:1: error: the body ends without 'return'"},
      {"graphc 1 core\nfunc @f(%x: f32[M]) -> () {\n  return\n}\n",
       "t:2:17: error: the symbol M isn't declared"},
      {"graphc 1 core\nfunc @f(%x: q32) -> () {\n  return\n}\n", "t:2:13: error: expected a type"},
      {"graphc 1 core\nfunc @f(%x: f32[99999999999]) -> () {\n  return\n}\n",
       "t:2:13: error: the size 99999999999"},
      {"graphc 1 core\nparam @w: f32[2] = ones()\nparam @w: f32[2] = ones()\n",
       "t:3:7: error: a second variable"},
      {"graphc 1 core\nconst @w: f32[2] = data [1.0]\n", "t:2:29: error: expected ',' before element 1 of 2"},
      {"graphc 1 core\nconst @w: i8[1] = data [128]\n", "t:2:25: error: '128' isn't a number of type i8"},
      {"graphc 1 core\nconst @w: f32[2] = data \"../x\" \"00\"\n",
       "t:2:20: error: a data file is named without folders"},
      {"graphc 1 core\nfunc @f() -> () {\n  return\n} loc(!3)\n",
       "t:4:7: error: the location !3 isn't in the table"},
      {"graphc 1 core\n!1 = \"a\":1:1\n", "t:2:1: error: locations are numbered in order"},
      {"graphc 1 core\n!0 = \"a\":1:1 in !0\n", "t:2:17: error: a location lies in one that comes before it"},
      {"graphc 1 core\nparam @w: f32[2] = \"a\\q\"()\n", "t:2:22: error: unknown escape"},
  };
  for (const auto& [text, message] : cases) {
    auto m = parse_core(text, "t");
    ASSERT_FALSE(m.ok()) << text;
    EXPECT_EQ(m.error().message.substr(0, message.size()), message) << m.error().message;
  }
}

TEST(CoreText, HostileInputGivesAnErrorInTime) {
  auto refused = [](std::string text) { return !parse_core(text, "t").ok(); };
  const std::string head = "graphc 1 core\n";
  EXPECT_TRUE(refused(head + "const @c: f32 = zeros() {a=" + std::string(200000, '[') + "\n"));
  EXPECT_TRUE(refused(head + "func @f[N](%x: f32[" + std::string(3000, '(') + "N]) -> () {\n  return\n}\n"));
  std::string sums = "1", mods = "N";
  for (int i = 0; i < 100; ++i) sums += "*(N+M+K+1)", mods += "%(M+" + std::to_string(i + 1) + ")";
  EXPECT_TRUE(refused(head + "func @f[N, M, K](%x: f32[" + sums + "]) -> () {\n  return\n}\n"));
  EXPECT_TRUE(refused(head + "func @f[N, M, K](%x: f32[" + mods + "]) -> () {\n  return\n}\n"));
  EXPECT_TRUE(refused(std::string("graphc 1 core\n\0\0\0", 17)));
  EXPECT_TRUE(refused(std::string(8 << 20, 'x')));
  EXPECT_TRUE(refused(head + "const @c: f32[2147483647, 2147483647] = data [1.0]\n"));
  EXPECT_TRUE(refused(head + "const @c: f32[2147483647] = data [1.0]\n"));
}

TEST(CoreText, PrefixesAndFlipsNeverCrash) {
  const std::string text = kText;
  for (size_t n = 0; n < text.size(); ++n) {
    auto m = parse_core(std::string_view(text).substr(0, n), "t");
    if (m.ok()) {
      EXPECT_TRUE(verify(**m).ok());
    }
  }
  std::mt19937 rng(1);
  int parsed = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string s = i % 4 ? text : print(*RandomModule(static_cast<uint64_t>(i % 37)).make());
    for (int k = 0, n = 1 + i % 3; k < n; ++k) {
      const size_t at = rng() % s.size();
      switch (rng() % 4) {
        case 0: s[at] = static_cast<char>(rng()); break;
        case 1: s.erase(at, 1 + rng() % 5); break;
        case 2: s.insert(at, s.substr(rng() % s.size(), 1 + rng() % 12)); break;
        case 3: s[at] = "0123456789-%@[](){},.\"\\"[rng() % 23]; break;
      }
      if (s.empty()) break;
    }
    auto m = parse_core(s, "t");
    if (!m.ok()) continue;
    ++parsed;
    const std::string once = print(**m);
    ASSERT_EQ(parsed_and_printed(once), once);
  }
  EXPECT_GT(parsed, 100);  // many changes are to names and numbers
}

TEST(CoreText, IsCoreText) {
  EXPECT_TRUE(is_core_text(kText));
  EXPECT_TRUE(is_core_text("# c\n\n  graphc 1 core\n"));
  EXPECT_FALSE(is_core_text("graphc 1\nmodel M() -> (y: f32) {}\n"));
  EXPECT_FALSE(is_core_text("graphc 1 # core\n"));
  EXPECT_FALSE(is_core_text(""));
}

}  // namespace
}  // namespace graphc
