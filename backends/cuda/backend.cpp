#include "backends/cuda/backend.h"

#include <fmt/format.h>

#include "backends/cuda/compile.h"
#include "backends/cuda/exec/backend.h"
#include "backends/cuda/kernels/lowering.h"
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

Result<size_t> claim(gc_span ir, const std::string& target) {
  GC_TRY(const CudaTarget t, CudaTarget::parse(target));
  GC_TRY(const std::unique_ptr<Module> m, module_of(ir));
  auto lowered = cuda::lower_region(*m->funcs[0], {t});
  if (!lowered.ok()) return lowered.error();
  return m->funcs[0]->body.nodes.size();
}

Result<KernelBlob> compile(gc_span ir, const std::string& target) {
  GC_TRY(const CudaTarget t, CudaTarget::parse(target));
  GC_TRY(const std::unique_ptr<Module> m, module_of(ir));
  return cuda::compile_region(*m->funcs[0], t);
}

Result<std::string> emit(gc_span ir, const std::string& target, std::string_view form) {
  GC_TRY(const CudaTarget t, CudaTarget::parse(target));
  GC_TRY(const std::unique_ptr<Module> m, module_of(ir));
  GC_TRY(const cuda::RegionProgram p, cuda::region_program(*m->funcs[0], t));
  if (form == "cuda") return p.text.substr(p.kernels_at);
  if (form == "ptx") {
    GC_TRY(CudaBinary b, compile_cuda({"graphc.cu", p.text}, {.arch = "compute_" + t.arch.substr(3)}));
    return std::move(b.code);
  }
  std::string text;
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
