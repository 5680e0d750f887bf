// The workspace of the cpu's executables through the plugin table, as the runtime asks for it.
#include <gtest/gtest.h>

#include <random>

#include "backends/cpu/exec/backend.h"
#include "backends/registry.h"
#include "runtime/executor.h"
#include "tests/exec/hand_kernel.h"

namespace graphc {
namespace {

// y[N] = 2.5 * x[N]; the blob asks for 4 * N bytes of workspace.
Program hand_program() {
  Program p;
  p.symbols = {{"N", 1, 100000}};
  const SizeExpr n = SizeExpr::symbol(0), bytes = n * SizeExpr(4);
  p.execs.push_back({"cpu", p.own(encode_blob(hand_blob())), "scale"});
  Function f;
  f.name = "infer";
  f.inputs = {{"x", DType::kF32, {n}}};
  f.outputs = {{"y", DType::kF32, {n}}};
  f.buffers = {{ProgramBuffer::kInput, 0, bytes, 0, 0, 0, -1},
               {ProgramBuffer::kOutput, 0, bytes, 0, 0, 0, -1}};
  f.steps.push_back({0, {{0, 0, DType::kF32, {n}, {}}}, {{1, 0, DType::kF32, {n}, {}}}, -1, {n}, ""});
  p.functions.push_back(f);
  return p;
}

TEST(Workspace, OfSymbolicSizeBelongsToTheContext) {
  BackendRegistry registry;
  ASSERT_TRUE(registry.add(cpu_execution_backend()).ok());
  const auto model = Model::create(hand_program(), registry);
  ASSERT_TRUE(model.ok()) << model.error().message;
  const auto variables = Variables::create(*model);
  const auto context = Context::create(*model, "infer", *variables);
  std::mt19937 rng(1);
  for (const int64_t n : {3, 1000, 17, 4000}) {
    std::vector<float> x(static_cast<size_t>(n));
    for (float& v : x) v = std::uniform_real_distribution<float>(-1, 1)(rng);
    ASSERT_TRUE((*context)->set_input(0, {DType::kF32, std::vector<int64_t>{n}, x.data()}).ok());
    const Status s = (*context)->run();
    ASSERT_TRUE(s.ok()) << s.error().message;
    const auto* y = static_cast<const float*>((*context)->output(0).data);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i], x[i] * 2.5f);
    // input, output and workspace, a multiple of 64 bytes, of the largest size so far
    const auto most = static_cast<uint64_t>(n == 17 ? 1000 : n) * 4;
    EXPECT_EQ((*context)->memory_bytes(), 2 * most + (most + 63) / 64 * 64);
  }
}

TEST(Workspace, DependsOnTheSizesGiven) {
  BackendRegistry registry;
  ASSERT_TRUE(registry.add(cpu_execution_backend()).ok());
  const auto device = registry.device("cpu");
  ASSERT_TRUE(device.ok());
  const std::string blob = encode_blob(hand_blob());
  const auto exec = (*device)->load({reinterpret_cast<const std::byte*>(blob.data()), blob.size()});
  ASSERT_TRUE(exec.ok()) << exec.error().message;
  EXPECT_EQ(exec->info()->workspace_bytes, 0u);  // none that holds for all sizes
  const int64_t sizes[] = {100, 7};
  EXPECT_EQ(*exec->workspace_bytes({sizes, 1}), 448u);
  EXPECT_EQ(exec->workspace_bytes({sizes, 2}).error().message,
            "backend 'cpu': exec_workspace: called with 2 sizes instead of 1");
  const int64_t huge[] = {int64_t{1} << 62};
  EXPECT_EQ(exec->workspace_bytes(huge).error().message,
            "backend 'cpu': exec_workspace: the size of a workspace overflows");
}

}  // namespace
}  // namespace graphc
