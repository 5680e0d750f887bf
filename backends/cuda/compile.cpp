#include "backends/cuda/compile.h"

#include <fmt/format.h>

#include <set>

#include "backends/cuda/emit_cuda.h"
#include "backends/cuda/kernels/lowering.h"
#include "backends/cuda/libraries/library_calls.h"
#include "backends/cuda/nvrtc.h"
#include "ir/op.h"

namespace graphc::cuda {
namespace {

// "sum, exp, sub": what a kernel's region is made of.
std::string ops_of(const Func& region) {
  std::set<std::string_view> seen;
  std::string s;
  for (const auto& n : region.body.nodes) {
    if (!seen.insert(n->op->name).second) continue;
    s += fmt::format("{}{}", s.empty() ? "" : ", ", n->op->name);
  }
  return fmt::format("{}: {}", region.name, s);
}

}  // namespace

Result<RegionProgram> region_program(const Func& region, const CudaTarget& target, const std::string& name) {
  RegionProgram p;
  GC_TRY(p.lowered, lower_region(region, {target, name}));
  GC_CHECK(add_library_calls(region, target, p.lowered));
  GC_TRY(p.blob, describe_region(region, p.lowered));
  p.blob.backend = "cuda";
  p.blob.target = target.arch;
  p.text = cuda_prelude();
  if (!p.lowered.checks.empty()) p.text += "\n" + cuda_index_check();
  p.kernels_at = p.text.size() + 1;
  const DimRanges ranges = region.ranges();
  const std::string what = ops_of(region);
  for (size_t i = 0; i < p.lowered.steps.size(); ++i) {
    GC_TRY(const CudaKernel k, emit_cuda(p.lowered.steps[i].kernel, ranges, what));
    p.text += "\n" + k.text;
    KernelBlob::Step& step = p.blob.steps[i];
    step.kernel = k.name;
    step.threads = static_cast<uint32_t>(k.threads);
    step.wide_kernel = k.wide_name;
    for (const Dim& d : k.narrow_if) {
      GC_TRY(SizeProgram size, size_program(region, d));
      step.narrow_if.push_back(std::move(size));
    }
  }
  return p;
}

Result<KernelBlob> compile_region(const Func& region, const CudaTarget& target) {
  GC_TRY(RegionProgram p, region_program(region, target));
  return compile_program(std::move(p), target);
}

Result<KernelBlob> compile_program(RegionProgram p, const CudaTarget& target) {
  for (const std::string& arch : {target.arch, std::string("compute_80")}) {
    GC_TRY(CudaBinary b, compile_cuda({"graphc.cu", p.text}, {.arch = arch}, DiskCache::of_user()));
    p.blob.images.push_back({arch, std::move(b.code)});
  }
  return std::move(p.blob);
}

}  // namespace graphc::cuda
