#include "backends/cpu/compile.h"

#include "backends/cpu/emit_llvm.h"

namespace graphc {

Result<KernelBlob> compile_region(const Func& region, const CpuFeatures& features) {
  GC_TRY(LoweredRegion lowered, lower_region(region, {features, "k"}));
  GC_TRY(KernelBlob blob, describe_region(region, lowered));
  blob.backend = "cpu";
  blob.target = features.to_string();
  std::vector<Kernel> kernels;
  for (KernelStep& s : lowered.steps) kernels.push_back(std::move(s.kernel));
  GC_TRY(KernelObject object, compile_kernels(kernels, features));
  blob.images.push_back({"", std::move(object.bytes)});
  return blob;
}

Status can_compile(const Func& region, const CpuFeatures& features) {
  auto lowered = lower_region(region, {features, "k"});
  return lowered.ok() ? ok_status() : Status(lowered.error());
}

}  // namespace graphc
