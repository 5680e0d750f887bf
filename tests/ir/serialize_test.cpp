// The binary form of the IR: round trips, determinism, and damage that never crashes.
#include "ir/serialize.h"

#include <gtest/gtest.h>

#include <cstring>

#include "ir/verify.h"
#include "tests/ir/random_module.h"

namespace graphc {
namespace {

TEST(Serialize, RandomModulesRoundTrip) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    auto m = RandomModule(seed).make();
    auto bytes = serialize(*m);
    ASSERT_TRUE(bytes.ok()) << bytes.error().message;
    auto back = deserialize(*bytes);
    ASSERT_TRUE(back.ok()) << seed << ": " << back.error().message;
    ASSERT_EQ(print(**back), print(*m)) << seed;
    auto again = serialize(**back);
    ASSERT_TRUE(again.ok());
    ASSERT_EQ(*again, *bytes) << seed;
  }
}

TEST(Serialize, UnalignedBytesAreFine) {
  auto bytes = serialize(*RandomModule(3).make());
  ASSERT_TRUE(bytes.ok());
  std::vector<std::byte> shifted(bytes->size() + 1);
  std::copy(bytes->begin(), bytes->end(), shifted.begin() + 1);
  EXPECT_TRUE(deserialize(std::span(shifted).subspan(1)).ok());
}

TEST(Serialize, PrefixesAreRefused) {
  auto bytes = serialize(*RandomModule(5).make());
  ASSERT_TRUE(bytes.ok());
  // Vectors at the very end may be cut by padding only; everything shorter by 8 bytes is noticed.
  for (size_t n = 0; n + 8 <= bytes->size(); ++n)
    EXPECT_FALSE(deserialize(std::span(*bytes).first(n)).ok()) << n << " of " << bytes->size();
}

TEST(Serialize, FlipsGiveAnErrorOrAValidModule) {
  std::mt19937 rng(7);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    static std::vector<std::byte> bytes;
    if (i % 200 == 0) {
      auto made = serialize(*RandomModule(static_cast<uint64_t>(i)).make());
      ASSERT_TRUE(made.ok());
      bytes = *made;
    }
    auto copy = bytes;
    for (int k = 0; k <= i % 2; ++k) copy[rng() % copy.size()] ^= static_cast<std::byte>(1u << rng() % 8);
    auto m = deserialize(copy);
    if (!m.ok()) {
      ++refused;
      continue;
    }
    Status s = verify(**m);
    ASSERT_TRUE(s.ok()) << s.error().message;
  }
  EXPECT_GT(refused, 5000);
}

TEST(Serialize, ForeignBytes) {
  EXPECT_FALSE(deserialize({}).ok());
  std::vector<std::byte> zeros(1000);
  EXPECT_FALSE(deserialize(zeros).ok());
  std::mt19937 rng(9);
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::byte> noise(16 + rng() % 500);
    for (auto& b : noise) b = static_cast<std::byte>(rng());
    std::memcpy(noise.data() + 4, "GCIR", 4);
    EXPECT_FALSE(deserialize(noise).ok());
  }
}

}  // namespace
}  // namespace graphc
