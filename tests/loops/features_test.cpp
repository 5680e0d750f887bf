#include "backends/cpu/exec/features.h"

#include <gtest/gtest.h>

namespace graphc {
namespace {

TEST(Features, HostRoundTripsAsText) {
  const CpuFeatures& f = host_features();
  auto back = CpuFeatures::parse(f.to_string());
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, f);
}

TEST(Features, UnknownNameIsAnError) {
  auto f = CpuFeatures::parse("avx2,avx9000");
  ASSERT_FALSE(f.ok());
  EXPECT_NE(f.error().message.find("avx9000"), std::string::npos);
}

TEST(Features, DisableTakesGroups) {
  CpuFeatures f =
      *CpuFeatures::parse("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8");
  EXPECT_TRUE(f.avx512());
  EXPECT_EQ(f.lanes(4), 16);
  ASSERT_TRUE(f.disable("avx512,amx").ok());
  EXPECT_EQ(f.to_string(), "avx2,fma,f16c");
  EXPECT_EQ(f.lanes(4), 8);
}

TEST(Features, MissingOnesAreNamed) {
  CpuFeatures host = *CpuFeatures::parse("avx2,f16c"), needed = *CpuFeatures::parse("avx2,fma,avx512f");
  auto missing = host.missing(needed);
  ASSERT_EQ(missing.size(), 2u);
  EXPECT_EQ(missing[0], "fma");
  EXPECT_EQ(missing[1], "avx512f");
  Status s = check_baseline(host);
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("fma"), std::string::npos);
}

}  // namespace
}  // namespace graphc
