// The cpu backend's plugin table. Its execution half loads and runs machine code; its compiler half
// (backends/cpu/plugin.cpp, a shared library of its own) makes the same table with a compiler in it.
//
//   GC_CHECK(registry.add(cpu_execution_backend()));
//   GC_TRY(std::shared_ptr<Device> cpu, registry.device("cpu"));
//   GC_TRY(DeviceExec e, cpu->load(blob));
#pragma once

#include "backends/cpu/exec/features.h"
#include "backends/graphc_plugin.h"
#include "backends/host/kernel_blob.h"

namespace graphc {

// What the table asks of a compiler: thread-safe functions of a graph in its FlatBuffers form.
struct CpuCompiler {
  uint32_t ir_version;
  // How many nodes the graph has, if all of it can be compiled; kUnsupported with the reason otherwise.
  Result<size_t> (*claim)(gc_span ir, const CpuFeatures& features);
  Result<KernelBlob> (*compile)(gc_span ir, const CpuFeatures& features);
  // form: "loops", "llvm" or "asm"
  Result<std::string> (*emit)(gc_span ir, const CpuFeatures& features, std::string_view form);
};

// compiler: null for the execution half alone, whose claim and compile answer GC_UNIMPLEMENTED.
// The option "features" of compile is a list as of CpuFeatures::to_string; by default the host's.
gc_plugin_api make_cpu_table(const CpuCompiler* compiler);

const gc_plugin_api* cpu_execution_backend();

}  // namespace graphc
