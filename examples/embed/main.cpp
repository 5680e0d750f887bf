// A network inside an application: loads an artefact, fills its first input and prints the first output.
//   graphc compile examples/mlp.graph -o mlp.gcx && embed mlp.gcx 2
#include <cstdio>
#include <cstdlib>

#include "backends/cpu/exec/backend.h"
#ifdef EMBED_CUDA
#include "backends/cuda/exec/backend.h"
#endif
#include "runtime/base/thread_pool.h"
#include "runtime/executor.h"

using namespace graphc;

static Status run(const char* path, int64_t batch) {
  ThreadPool pool(0);  // a thread a CPU
  BackendRegistry registry({.pool = &pool});
  GC_CHECK(registry.add(cpu_execution_backend()));
#ifdef EMBED_CUDA  // artefacts of --target cuda:CARD; costs nothing where there is no card
  GC_CHECK(registry.add(cuda_execution_backend()));
#endif
  GC_TRY(std::shared_ptr<const Model> model, Model::load(path, registry));  // immutable, for all threads
  GC_TRY(std::shared_ptr<Variables> weights, Variables::create(model, {.seed = 0, .pool = &pool}));
  GC_TRY(std::unique_ptr<Context> context, Context::create(model, "infer", weights));  // for one thread

  std::vector<float> pixels(static_cast<size_t>(batch) * 28 * 28);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(i % 256) / 255;
  const int64_t shape[] = {batch, 1, 28, 28};
  GC_CHECK(context->set_input(0, TensorRef(DType::kF32, shape, pixels.data())));
  GC_CHECK(context->run());
  const TensorRef logits = context->output(0);
  for (int64_t i = 0; i < logits.numel(); ++i)
    std::printf("%.6f%c", static_cast<const float*>(logits.data)[i], (i + 1) % logits.shape[1] ? ' ' : '\n');
  return {};
}

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: embed MODEL.gcx BATCH\n"), 2;
  const Status s = run(argv[1], std::atoll(argv[2]));
  if (!s.ok()) return std::fprintf(stderr, "embed: %s\n", s.error().message.c_str()), 1;
}
