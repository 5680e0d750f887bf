#include "backends/cuda/backend.h"

#include <fmt/format.h>

#include <mutex>
#include <optional>
#include <unordered_map>

#include "backends/cuda/compile.h"
#include "backends/cuda/exec/backend.h"
#include "backends/cuda/kernels/lowering.h"
#include "backends/cuda/libraries/library_calls.h"
#include "backends/cuda/nvrtc.h"
#include "ir/loops/text.h"
#include "ir/serialize.h"

namespace graphc {
namespace {

Result<std::unique_ptr<Module>> module_of(gc_span ir) {
  GC_TRY(std::unique_ptr<Module> m, deserialize(std::span(static_cast<const std::byte*>(ir.data), ir.size)));
  if (m->funcs.size() != 1) return invalid("a graph is one function");
  return m;
}

// What is claimed is compiled next: its program waits here, so that a region is lowered once.
class Claimed {
 public:
  void put(std::string key, cuda::RegionProgram program) {
    std::lock_guard lock(mutex_);
    if (programs_.size() >= kMost) programs_.clear();  // of graphs that nobody compiled
    programs_.insert_or_assign(std::move(key), std::move(program));
  }
  std::optional<cuda::RegionProgram> take(const std::string& key) {
    std::lock_guard lock(mutex_);
    auto node = programs_.extract(key);
    if (node.empty()) return std::nullopt;
    return std::move(node.mapped());
  }

 private:
  static constexpr size_t kMost = 64;
  std::mutex mutex_;
  std::unordered_map<std::string, cuda::RegionProgram> programs_;
};

Claimed& claimed() {
  static Claimed c;
  return c;
}

std::string key_of(gc_span ir, const std::string& target) {
  return target + '\n' + std::string(static_cast<const char*>(ir.data), ir.size);
}

Result<size_t> claim(gc_span ir, const std::string& target) {
  GC_TRY(const CudaTarget t, CudaTarget::parse(target));
  GC_TRY(const std::unique_ptr<Module> m, module_of(ir));
  GC_TRY(cuda::RegionProgram program, cuda::region_program(*m->funcs[0], t));
  claimed().put(key_of(ir, target), std::move(program));
  return m->funcs[0]->body.nodes.size();
}

Result<KernelBlob> compile(gc_span ir, const std::string& target) {
  GC_TRY(const CudaTarget t, CudaTarget::parse(target));
  std::optional<cuda::RegionProgram> program = claimed().take(key_of(ir, target));
  if (!program) {
    GC_TRY(const std::unique_ptr<Module> m, module_of(ir));
    GC_TRY(program, cuda::region_program(*m->funcs[0], t));
  }
  return cuda::compile_program(*std::move(program), t);
}

Result<std::string> emit(gc_span ir, const std::string& target, std::string_view form) {
  GC_TRY(const CudaTarget t, CudaTarget::parse(target));
  GC_TRY(const std::unique_ptr<Module> m, module_of(ir));
  GC_TRY(const cuda::RegionProgram p, cuda::region_program(*m->funcs[0], t));
  if (form == "cuda") return cuda::library_notes(p.lowered) + p.text.substr(p.kernels_at);
  if (form == "ptx") {
    GC_TRY(CudaBinary b, compile_cuda({"graphc.cu", p.text}, {.arch = "compute_" + t.arch.substr(3)}));
    return std::move(b.code);
  }
  std::string text = cuda::library_notes(p.lowered);
  if (form == "placement") {
    for (size_t i = 0; i < p.blob.steps.size(); ++i)
      text += fmt::format("launch {}: {} blocks of {} threads\n", p.blob.steps[i].kernel,
                          parallel_extent(p.lowered.steps[i].kernel).to_string(), p.blob.steps[i].threads);
    return text;
  }
  for (const KernelStep& s : p.lowered.steps) text += print_kernel(s.kernel);
  return text;
}

constexpr CudaCompiler kCompiler{kIrVersion, claim, compile, emit};

}  // namespace

const gc_plugin_api* cuda_backend() {
  static const gc_plugin_api table = make_cuda_table(&kCompiler);
  return &table;
}

}  // namespace graphc
