// Every kernel of every example, training steps included, compiles to cubins for every generation of cards,
// and register spills (of more than some words) and local memory are errors.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <regex>
#include <sstream>
#include <thread>

#include "backends/cuda/compile.h"
#include "backends/cuda/emit_cuda.h"
#include "backends/cuda/exec/libraries.h"
#include "backends/cuda/nvrtc.h"
#include "tests/cuda/example_regions.h"

namespace graphc {
namespace {

struct Example {
  const char* name;
  bool training;
  std::map<std::string, std::string> set = {};
};
void PrintTo(const Example& e, std::ostream* out) { *out << e.name; }

// The most bytes that ptxas says a function spills, where that is all it complains about; else very many. It
// spills a word or two to get to a round number of registers.
int spilled(const std::string& message) {
  int most = 0;
  std::istringstream lines(message);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("ptxas error") == std::string::npos) continue;
    std::smatch m;
    const bool known = std::regex_search(line, m, std::regex("(\\d+) bytes spill stores")) ||
                       std::regex_search(line, m, std::regex("size of stack frame: (\\d+) bytes"));
    most = std::max(most, known ? std::stoi(m[1]) : 1 << 20);
  }
  return most > 0 ? most : 1 << 20;
}

class CudaExample : public ::testing::TestWithParam<Example> {};

TEST_P(CudaExample, KernelsCompileForEveryGeneration) {
  if (!CudaLibraries::get().nvrtc.loaded()) GTEST_SKIP() << CudaLibraries::get().nvrtc.problem;
  const Example& e = GetParam();
  auto example = example_regions(e.name, e.training, e.set);
  ASSERT_TRUE(example.ok()) << example.error().message;
  ASSERT_FALSE(example->regions.empty());
  for (const auto& [profile, archs] : {std::pair<const char*, std::vector<const char*>>{"a100", {"sm_80"}},
                                       {"h200", {"sm_90a", "sm_100", "sm_120"}}}) {
    auto target = CudaTarget::parse(profile);
    ASSERT_TRUE(target.ok()) << target.error().message;
    // many kernels in one program
    constexpr size_t kBatch = 8;
    std::vector<std::string> programs;
    for (size_t i = 0; i < example->regions.size(); ++i) {
      const Func& region = *example->regions[i]->funcs[0];
      auto p = cuda::region_program(region, *target, fmt::format("k{}", i));
      ASSERT_TRUE(p.ok()) << p.error().message << "\n" << print(*example->regions[i], {});
      if (i % kBatch == 0) programs.push_back(cuda_prelude());
      programs.back() += "\n" + p->text.substr(p->kernels_at);
    }
    std::atomic<size_t> next{0};
    std::mutex mutex;
    const auto work = [&, archs = archs] {
      for (size_t i; (i = next.fetch_add(1)) < programs.size() * archs.size();) {
        const std::string& text = programs[i / archs.size()];
        auto b = compile_cuda({"kernels.cu", text}, {.arch = archs[i % archs.size()], .strict = true});
        std::lock_guard lock(mutex);
        if (!b.ok() && spilled(b.error().message) <= 32) continue;
        EXPECT_TRUE(b.ok()) << archs[i % archs.size()] << "\n" << b.error().message;
        if (b.ok()) EXPECT_EQ(b->log, "") << archs[i % archs.size()];
      }
    };
    std::thread other(work);
    work();
    other.join();
  }
}

INSTANTIATE_TEST_SUITE_P(Examples, CudaExample,
                         ::testing::Values(Example{"mlp", true}, Example{"mnist_cnn", true},
                                           Example{"shapes", true}, Example{"chargpt", true},
                                           Example{"cnn_224", false}, Example{"resnet50", true, {{"N", "8"}}},
                                           Example{"gpt2", true, {{"N", "8"}, {"T", "1024"}}}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace graphc
