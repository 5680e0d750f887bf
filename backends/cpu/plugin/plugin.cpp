// The cpu backend with its compiler, as the shared library libgraphc_cpu_compiler.so: the only part of graphc
// that needs LLVM to run.
#define GC_PLUGIN_BUILD
#include "backends/cpu/compile.h"
#include "backends/cpu/emit_llvm.h"
#include "backends/cpu/exec/backend.h"
#include "backends/cpu/kernels/lowering.h"
#include "ir/loops/text.h"
#include "ir/serialize.h"

namespace graphc {
namespace {

Result<std::unique_ptr<Module>> module_of(gc_span ir) {
  GC_TRY(std::unique_ptr<Module> m, deserialize(std::span(static_cast<const std::byte*>(ir.data), ir.size)));
  if (m->funcs.size() != 1) return invalid("a graph is one function");
  return m;
}

Result<size_t> claim(gc_span ir, const CpuFeatures& features) {
  GC_TRY(const std::unique_ptr<Module> m, module_of(ir));
  GC_CHECK(can_compile(*m->funcs[0], features));
  return m->funcs[0]->body.nodes.size();
}

Result<KernelBlob> compile(gc_span ir, const CpuFeatures& features) {
  GC_TRY(const std::unique_ptr<Module> m, module_of(ir));
  return compile_region(*m->funcs[0], features);
}

Result<std::string> emit(gc_span ir, const CpuFeatures& features, std::string_view form) {
  GC_TRY(const std::unique_ptr<Module> m, module_of(ir));
  GC_TRY(const LoweredRegion lowered, lower_region(*m->funcs[0], {features, "k"}));
  std::vector<Kernel> kernels;
  for (const KernelStep& s : lowered.steps) kernels.push_back(s.kernel);
  if (form == "llvm") return emit_llvm_text(kernels, features);
  if (form == "asm") return emit_asm_text(kernels, features);
  std::string text;
  for (const Kernel& k : kernels) text += print_kernel(k);
  return text;
}

constexpr CpuCompiler kCompiler{kIrVersion, claim, compile, emit};

}  // namespace
}  // namespace graphc

const gc_plugin_api* gc_plugin_entry(uint32_t host_major, uint32_t) {
  if (host_major != GC_ABI_MAJOR) return nullptr;
  static const gc_plugin_api table = graphc::make_cpu_table(&graphc::kCompiler);
  return &table;
}
