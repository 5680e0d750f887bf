// The cuda backend's plugin table. Its execution half loads and runs machine code on NVIDIA cards through the
// driver, which is opened at run time; its compiler half (NVRTC) makes the same table with a compiler in it.
//
//   GC_CHECK(registry.add(cuda_execution_backend()));
//   GC_TRY(std::shared_ptr<Device> card, registry.device("cuda"));          // kDevice, and why, if there is
//   none GC_TRY(std::shared_ptr<Device> target, registry.device("cuda", "h200"));   // compiles and saves,
//   without a card
//
// Devices: "" the first card, "0", "1", .. as CUDA_VISIBLE_DEVICES leaves them; any other id names a target
// to compile for ("h200", "sm_90a", "./card.txt"): such a device claims, compiles and saves, and says that it
// is no card if asked for memory or a run.
#pragma once

#include <string>
#include <string_view>

#include "backends/graphc_plugin.h"
#include "backends/host/kernel_blob.h"
#include "runtime/base/result.h"

namespace graphc {

// What the table asks of a compiler: thread-safe functions of a graph in its FlatBuffers form. `target` is
// the device's id, for a card its architecture ("sm_90a").
struct CudaCompiler {
  uint32_t ir_version;
  // How many nodes the graph has, if all of it can be compiled; kUnsupported with the reason otherwise.
  Result<size_t> (*claim)(gc_span ir, const std::string& target);
  Result<KernelBlob> (*compile)(gc_span ir, const std::string& target);
  // form: "loops", "cuda", "ptx" or "placement" (launches, library calls, and why there are none)
  Result<std::string> (*emit)(gc_span ir, const std::string& target, std::string_view form);
};

// compiler: null for the execution half alone, whose claim and compile answer GC_UNIMPLEMENTED.
// compile's option "target" compiles for another target than the device's; what it makes is saved and not
// run.
gc_plugin_api make_cuda_table(const CudaCompiler* compiler);

const gc_plugin_api* cuda_execution_backend();

}  // namespace graphc
