// A warm step allocates nothing, from the context down to the kernels: every malloc of the process is
// counted.
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <random>

#include "runtime/base/thread_pool.h"
#include "runtime/executor.h"
#include "tools/driver/backends.h"
#include "tools/driver/compile.h"

namespace {
std::atomic<int64_t> allocations{0};
}

// glibc's own, behind ours; operator new comes here as well.
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void* malloc(size_t n) {
  ++allocations;
  return __libc_malloc(n);
}
void* calloc(size_t n, size_t size) {
  ++allocations;
  return __libc_calloc(n, size);
}
void* realloc(void* p, size_t n) {
  ++allocations;
  return __libc_realloc(p, n);
}
void* aligned_alloc(size_t align, size_t n) {
  ++allocations;
  return __libc_memalign(align, n);
}
int posix_memalign(void** p, size_t align, size_t n) {
  ++allocations;
  *p = __libc_memalign(align, n);
  return *p ? 0 : 12;  // ENOMEM
}
}

namespace graphc {
namespace {

class Warm : public testing::TestWithParam<const char*> {};

TEST_P(Warm, StepsAllocateNothing) {
  CompileOptions o;
  o.functions = {.infer = true, .eval = true, .train = true};
  o.set["N"] = "8";
  const std::string name = GetParam();
  if (name == "chargpt") o.set["T"] = "16";
  auto compiled = compile_file(std::string(GRAPHC_SOURCE_DIR) + "/examples/" + name + ".graph", o);
  ASSERT_TRUE(compiled.ok()) << compiled.error().message;
  ThreadPool pool(2);
  auto backends = execution_backends(&pool);
  ASSERT_TRUE(backends.ok());
  auto model = Model::create(std::move(compiled->lowered.program), **backends);
  ASSERT_TRUE(model.ok()) << model.error().message;
  auto variables = Variables::create(*model, {.seed = 0, .pool = &pool});
  ASSERT_TRUE(variables.ok());
  std::mt19937_64 rng(3);
  for (const char* function : {"infer", "eval", "train"}) {
    SCOPED_TRACE(function);
    auto context = Context::create(*model, function, *variables);
    ASSERT_TRUE(context.ok()) << context.error().message;
    for (size_t i = 0; i < (*context)->function().inputs.size(); ++i) {
      const TensorSpec& t = (*context)->function().inputs[i];
      std::vector<int64_t> shape;
      int64_t n = 1;
      for (const SizeExpr& e : t.shape) shape.push_back(e.as_const()), n *= shape.back();
      auto data = (*context)->prepare_input(i, t.dtype, shape);
      ASSERT_TRUE(data.ok()) << data.error().message;
      for (int64_t k = 0; k < n; ++k)
        store_from_double(t.dtype, *data, static_cast<size_t>(k),
                          is_float(t.dtype) ? std::uniform_real_distribution<double>(-1, 1)(rng)
                                            : static_cast<double>(rng() % 6));
    }
    // Scratch belongs to the threads, and which of them works on what is chance: rounds until all are warm.
    int64_t counted = -1;
    for (int round = 0; round < 20 && counted != 0; ++round) {
      const int64_t before = allocations;
      for (int i = 0; i < 20; ++i) ASSERT_TRUE((*context)->run().ok());
      counted = allocations - before;
    }
    EXPECT_EQ(counted, 0);
  }
  const int64_t before = allocations;
  std::vector<int>* probe = new std::vector<int>(100);
  EXPECT_EQ(allocations - before, 2) << "the count counts nothing";
  delete probe;
}

INSTANTIATE_TEST_SUITE_P(Examples, Warm, testing::Values("mlp", "mnist_cnn", "shapes", "chargpt"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace graphc
