#include "backends/cuda/targets.h"

#include "backends/cuda/exec/libraries.h"

#include <gtest/gtest.h>

#include "runtime/base/file.h"
#include "tests/base/temp_dir.h"

namespace graphc {
namespace {

TEST(CudaTargets, EveryProfileIsWholeAndPrintsAsItReads) {
  const std::vector<std::string> names = CudaTarget::known();
  EXPECT_GE(names.size(), 8u);
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    auto t = CudaTarget::parse(name);
    ASSERT_TRUE(t.ok()) << t.error().message;
    auto again = CudaTarget::parse_profile(t->to_profile(), "again");
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ(again->to_profile(), t->to_profile());
    EXPECT_GE(t->compute_capability(), 80);
  }
  auto h200 = CudaTarget::parse("h200");
  ASSERT_TRUE(h200.ok());
  EXPECT_EQ(h200->arch, "sm_90a");
  EXPECT_EQ(h200->compute_capability(), 90);
  EXPECT_TRUE(h200->has_wgmma());
  EXPECT_EQ(h200->multiprocessors, 132);
}

TEST(CudaTargets, ABareArchitectureHasModestFigures) {
  for (const char* arch : {"sm_80", "sm_90a", "sm_100", "sm_120"}) {
    auto t = CudaTarget::parse(arch);
    ASSERT_TRUE(t.ok()) << t.error().message;
    EXPECT_EQ(t->arch, arch);
    EXPECT_GT(t->multiprocessors, 0);
  }
  EXPECT_FALSE(CudaTarget::parse("sm_120")->has_wgmma());
}

TEST(CudaTargets, WrongNamesSayWhatThereIs) {
  const auto message = [](const char* name) {
    auto t = CudaTarget::parse(name);
    EXPECT_FALSE(t.ok()) << name;
    return t.ok() ? "" : t.error().message;
  };
  EXPECT_EQ(
      message("h20O"),
      "there is no CUDA target 'h20O'; did you mean 'h200'?; cards are: a100, b200, h100, h200, l4, l40s, "
      "rtx3090, rtx4090, rtx5090; or an architecture (sm_80), or a profile (./card.txt)");
  EXPECT_NE(message("sm_70").find("there is no CUDA target 'sm_70'; architectures are: sm_80, "),
            std::string::npos);
  EXPECT_NE(message("./nothere.txt").find("nothere.txt"), std::string::npos);
}

TEST(CudaTargets, ACardThatIsThereHasAProfile) {
  CudaCard card;
  card.name = "NVIDIA Some Card";
  card.arch = "sm_89";
  card.multiprocessors = 58;
  card.memory_bytes = 24'000'000'000;
  card.memory_bytes_per_second = 300'000'000'000;
  card.clock_mhz = 0;  // not told: as for any sm_89
  const CudaTarget t = CudaTarget::of_card(card);
  EXPECT_EQ(t.multiprocessors, 58);
  EXPECT_EQ(t.memory_bytes_per_second, 300'000'000'000);
  EXPECT_EQ(t.clock_mhz, CudaTarget::parse("sm_89")->clock_mhz);
  auto again = CudaTarget::parse_profile(t.to_profile(), "p");
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(again->to_profile(), t.to_profile());
  EXPECT_EQ(again->name, "NVIDIA Some Card");
}

TEST(CudaTargets, AProfileFromAFileNamesItsLines) {
  TempDir dir;
  const std::string path = dir.path() + "/card.txt";
  const std::string good = CudaTarget::parse("l4")->to_profile();
  ASSERT_TRUE(atomic_write(path, "# mine\n" + good).ok());
  auto t = CudaTarget::parse(path);
  ASSERT_TRUE(t.ok()) << t.error().message;
  EXPECT_EQ(t->to_profile(), good);
  const auto message = [](const std::string& text) {
    auto r = CudaTarget::parse_profile(text, "p");
    EXPECT_FALSE(r.ok()) << text;
    return r.ok() ? "" : r.error().message;
  };
  EXPECT_EQ(message("arch = sm_80\nmultiprocesors = 3\n"),
            "p:2: there is no key 'multiprocesors'; did you mean 'multiprocessors'?");
  EXPECT_EQ(message("multiprocessors = many\n"),
            "p:1: multiprocessors must be a positive whole number, not 'many'");
  EXPECT_EQ(message("arch\n"), "p:1: a line of a profile is `key = value`");
  EXPECT_EQ(message("name = x\n"), "p: the profile has no `arch`");
  EXPECT_EQ(message("arch = sm_80\n"), "p: the profile has no `multiprocessors`");
  EXPECT_NE(message("arch = sm_1\n").find("p:1: unknown architecture 'sm_1'"), std::string::npos);
}

}  // namespace
}  // namespace graphc
