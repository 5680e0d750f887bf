#include "backends/kernels/lowered_region.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "backends/kernels/index_checks.h"
#include "backends/kernels/region_builder.h"

namespace graphc {
namespace {

// Appends the program for d; symbols by their position in `index`.
Status append_size(const Dim& d, const std::map<std::string, int64_t, std::less<>>& index,
                   std::vector<int64_t>& out) {
  out.insert(out.end(), {SizeProgram::kPush, d.constant()});
  for (const DimTerm& t : d.terms()) {
    out.insert(out.end(), {SizeProgram::kPush, t.coefficient});
    for (const DimAtomRef& a : t.atoms) {
      if (a->name.empty()) {
        GC_CHECK(append_size(a->num, index, out));
        GC_CHECK(append_size(a->den, index, out));
        out.push_back(SizeProgram::kFloorDiv);
      } else {
        auto it = index.find(a->name);
        if (it == index.end())
          return unsupported(fmt::format("the size '{}' isn't declared by the function", a->name));
        out.insert(out.end(), {SizeProgram::kSymbol, it->second});
      }
      out.push_back(SizeProgram::kMul);
    }
    out.push_back(SizeProgram::kAdd);
  }
  return ok_status();
}

}  // namespace

Result<LoweredRegion> lower_by_templates(const Func& region, const std::string& name,
                                         std::string_view backend,
                                         std::span<const RegionTemplate> templates) {
  const auto find = [&](std::string_view kind) {
    return std::ranges::find_if(templates, [&](const RegionTemplate& t) { return t.kind == kind; });
  };
  const auto found = find(region.name);
  if (found == templates.end())
    return unsupported(
        fmt::format("the {} backend has no template for regions of kind '{}'", backend, region.name));
  bool empty = !region.body.results.empty();
  for (const Value* r : region.body.results) empty = empty && product(r->type.shape).is_constant(0);
  if (empty) {  // a kernel that does nothing
    GC_TRY(KernelStep step, RegionBuilder(region, name, {}, {}, {}).finish());
    LoweredRegion out;
    out.steps.push_back(std::move(step));
    return out;
  }
  GC_TRY(LoweredRegion out, found->lower(region, name));
  if (const auto rows = find("rows"); rows != templates.end())
    GC_CHECK(add_index_checks(region, name, *rows, out));
  for (const KernelStep& s : out.steps) {
    bool overflow = s.grain.overflowed() || parallel_extent(s.kernel).overflowed();
    for (const LoopBuffer& b : s.kernel.buffers)
      for (const Dim& d : b.shape) overflow |= d.overflowed();
    if (overflow) return unsupported("the sizes of this region leave 64-bit integers");
  }
  return out;
}

Result<SizeProgram> size_program(const Func& region, const Dim& d) {
  std::map<std::string, int64_t, std::less<>> index;
  for (const SymbolDef& s : region.symbols) index.emplace(s.name, static_cast<int64_t>(index.size()));
  std::vector<int64_t> words;
  GC_CHECK(append_size(d, index, words));
  SizeProgram e(std::move(words));
  if (!e.valid(region.symbols.size()))
    return unsupported(fmt::format("the size {} is nested too deep", d.to_string()));
  return e;
}

Result<KernelBlob> describe_region(const Func& region, const LoweredRegion& lowered) {
  KernelBlob blob;
  for (const SymbolDef& s : region.symbols) blob.symbols.push_back(s.name);
  auto size = [&](const Dim& d) { return size_program(region, d); };
  auto tensor = [&](const TensorType& t) -> Result<KernelBlob::Tensor> {
    KernelBlob::Tensor out;
    out.dtype = t.dtype;
    for (const Dim& d : t.shape) {
      GC_TRY(SizeProgram e, size(d));
      out.shape.push_back(std::move(e));
    }
    return out;
  };
  for (const auto& a : region.body.args) {
    GC_TRY(KernelBlob::Tensor t, tensor(a->type));
    blob.operands.push_back(std::move(t));
  }
  for (const Value* r : region.body.results) {
    GC_TRY(KernelBlob::Tensor t, tensor(r->type));
    blob.results.push_back(std::move(t));
  }
  for (const Dim& d : lowered.workspace_bytes) {
    GC_TRY(SizeProgram e, size(d));
    blob.workspace_bytes.push_back(std::move(e));
  }
  auto args = [](const std::vector<KernelArg>& list) {
    std::vector<KernelBlob::Arg> out;
    for (const KernelArg& a : list)
      out.push_back({static_cast<uint8_t>(a.kind), static_cast<uint32_t>(a.index)});
    return out;
  };
  for (const KernelStep& s : lowered.steps) {
    KernelBlob::Step step;
    step.kernel = s.kernel.name;
    step.args = args(s.args);
    GC_TRY(step.extent, size(parallel_extent(s.kernel)));
    GC_TRY(step.grain, size(s.grain));
    GC_TRY(step.scratch_bytes, size(scratch_bytes(s.kernel)));
    if (s.kernel.params != blob.symbols)
      return unsupported("the region uses a size that the function doesn't declare");
    blob.steps.push_back(std::move(step));
  }
  for (const IndexCheck& c : lowered.checks) {
    GC_TRY(SizeProgram s, size(c.size));
    blob.checks.push_back({static_cast<uint32_t>(c.step), static_cast<uint32_t>(c.low),
                           static_cast<uint32_t>(c.high), std::move(s), c.op});
  }
  for (const RegionCall& c : lowered.calls) {
    KernelBlob::LibraryCall call{static_cast<uint32_t>(c.first_step),
                                 static_cast<uint32_t>(c.last_step),
                                 static_cast<uint32_t>(c.after_steps),
                                 c.library,
                                 c.call,
                                 {},
                                 args(c.args),
                                 {}};
    for (const Dim& d : c.sizes) {
      GC_TRY(SizeProgram s, size(d));
      call.sizes.push_back(std::move(s));
    }
    GC_TRY(call.workspace_bytes, size(c.workspace_bytes));
    blob.calls.push_back(std::move(call));
  }
  return blob;
}

}  // namespace graphc
