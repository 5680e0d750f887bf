#include "backends/cpu/compile.h"

#include <map>

#include <fmt/format.h>

#include "backends/cpu/emit_llvm.h"

namespace graphc {
namespace {

// Appends the program for d; symbols by their position in `index`.
Status append_size(const Dim& d, const std::map<std::string, int64_t, std::less<>>& index,
                   std::vector<int64_t>& out) {
  out.insert(out.end(), {CpuSize::kPush, d.constant()});
  for (const DimTerm& t : d.terms()) {
    out.insert(out.end(), {CpuSize::kPush, t.coefficient});
    for (const DimAtomRef& a : t.atoms) {
      if (a->name.empty()) {
        GC_CHECK(append_size(a->num, index, out));
        GC_CHECK(append_size(a->den, index, out));
        out.push_back(CpuSize::kFloorDiv);
      } else {
        auto it = index.find(a->name);
        if (it == index.end())
          return unsupported(fmt::format("the size '{}' isn't declared by the function", a->name));
        out.insert(out.end(), {CpuSize::kSymbol, it->second});
      }
      out.push_back(CpuSize::kMul);
    }
    out.push_back(CpuSize::kAdd);
  }
  return ok_status();
}

}  // namespace

Result<CpuBlob> compile_region(const Func& region, const CpuFeatures& features) {
  GC_TRY(LoweredRegion lowered, lower_region(region, {features, "k"}));
  CpuBlob blob;
  blob.features = features.to_string();
  std::map<std::string, int64_t, std::less<>> index;
  for (const SymbolDef& s : region.symbols) {
    index.emplace(s.name, static_cast<int64_t>(blob.symbols.size()));
    blob.symbols.push_back(s.name);
  }
  auto size = [&](const Dim& d) -> Result<CpuSize> {
    std::vector<int64_t> words;
    GC_CHECK(append_size(d, index, words));
    CpuSize e(std::move(words));
    if (!e.valid(blob.symbols.size())) return unsupported(fmt::format("the size {} is nested too deep", d.to_string()));
    return e;
  };
  auto tensor = [&](const TensorType& t) -> Result<CpuBlob::Tensor> {
    CpuBlob::Tensor out;
    out.dtype = t.dtype;
    for (const Dim& d : t.shape) {
      GC_TRY(CpuSize e, size(d));
      out.shape.push_back(std::move(e));
    }
    return out;
  };
  for (const auto& a : region.body.args) {
    GC_TRY(CpuBlob::Tensor t, tensor(a->type));
    blob.operands.push_back(std::move(t));
  }
  for (const Value* r : region.body.results) {
    GC_TRY(CpuBlob::Tensor t, tensor(r->type));
    blob.results.push_back(std::move(t));
  }
  for (const Dim& d : lowered.workspace_bytes) {
    GC_TRY(CpuSize e, size(d));
    blob.workspace_bytes.push_back(std::move(e));
  }
  std::vector<Kernel> kernels;
  for (KernelStep& s : lowered.steps) {
    CpuBlob::Step step;
    step.kernel = s.kernel.name;
    for (const KernelArg& a : s.args) step.args.push_back({static_cast<uint8_t>(a.kind), static_cast<uint32_t>(a.index)});
    GC_TRY(step.extent, size(parallel_extent(s.kernel)));
    GC_TRY(step.grain, size(s.grain));
    GC_TRY(step.scratch_bytes, size(scratch_bytes(s.kernel)));
    if (s.kernel.params != blob.symbols)
      return unsupported("the region uses a size that the function doesn't declare");
    blob.steps.push_back(std::move(step));
    kernels.push_back(std::move(s.kernel));
  }
  for (const IndexCheck& c : lowered.checks) {
    GC_TRY(CpuSize s, size(c.size));
    blob.checks.push_back({static_cast<uint32_t>(c.step), static_cast<uint32_t>(c.low),
                           static_cast<uint32_t>(c.high), std::move(s), c.op});
  }
  GC_TRY(KernelObject object, compile_kernels(kernels, features));
  blob.object = std::move(object.bytes);
  return blob;
}

Status can_compile(const Func& region, const CpuFeatures& features) {
  auto lowered = lower_region(region, {features, "k"});
  return lowered.ok() ? ok_status() : Status(lowered.error());
}

}  // namespace graphc
