// With "--restore CARD GRAPH PLAN" it makes a kept plan again, for a test that wants to see that in a process
// of its own.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "runtime/base/file.h"
#include "tests/cuda/cudnn/cards.h"

namespace {

int restore(int card, const char* graph_file, const char* plan_file) {
  using namespace graphc;
  auto graph = read_file(graph_file), plan = read_file(plan_file);
  if (!graph.ok() || !plan.ok()) return 2;
  auto parsed = CudnnGraph::parse(*graph, 0, 8);
  auto cudnn = Cudnn::open(CudaLibraries::get(), cudnn_device(cudnn_test_cards()[static_cast<size_t>(card)]),
                           nullptr, {});
  if (!parsed.ok() || !cudnn.ok()) return 3;
  auto restored = (*cudnn)->restore(*parsed, *plan);
  if (!restored.ok()) {
    std::fprintf(stderr, "%s\n", restored.error().message.c_str());
    return 4;
  }
  std::printf("%llu", static_cast<unsigned long long>((*restored)->workspace_bytes()));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  // Before cuDNN looks for one by its name.
  if (!::dlopen(NO_DRIVER, RTLD_NOW | RTLD_GLOBAL)) std::abort();
  ::unsetenv("GRAPHC_CUDA_LIBRARIES");
  if (argc == 5 && std::string(argv[1]) == "--restore") return restore(std::atoi(argv[2]), argv[3], argv[4]);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
