// What a backend's templates make of a fusion region: loop programs and how to call them; and the way from a
// region to them that all backends share.
//
// `region` is a fusion region as a function: its name is the kind ("map", "rows", "columns", "contraction",
// "window", "scatter"), its arguments are the fusion's operands, its results the fusion's results.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backends/host/kernel_blob.h"
#include "ir/graph.h"
#include "ir/loops/loops.h"
#include "runtime/base/result.h"

namespace graphc {

// Where an argument of a kernel comes from.
enum class KernelArgKind : uint8_t { kOperand, kResult, kWorkspace };
struct KernelArg {
  KernelArgKind kind = KernelArgKind::kOperand;
  int index = 0;
  friend bool operator==(const KernelArg&, const KernelArg&) = default;
};

struct KernelStep {
  Kernel kernel;
  std::vector<KernelArg> args;  // one per argument buffer of the kernel
  // cpu: iterations of the collapsed parallel range that are worth handing to a thread at once. Depends on
  // shapes only. A range of at most `grain` runs on the calling thread.
  Dim grain = 1;
};

// After step `step` the i64 in workspace `low` must be at least 0 and that in `high` less than `size`: they
// are the bounds of what `op` is about to index with.
struct IndexCheck {
  int step = 0;
  int low = 0, high = 0;
  Dim size;
  std::string op;
};

// A library's call in place of steps (KernelBlob::LibraryCall, before its sizes are programs).
struct RegionCall {
  int first_step = 0, last_step = 0, after_steps = 0;
  std::string library, call;
  std::vector<Dim> sizes;
  std::vector<KernelArg> args;
  Dim workspace_bytes = 0;
};

// The kernels of a region. A workspace buffer is memory that the steps of one run share.
struct LoweredRegion {
  std::vector<KernelStep> steps;
  std::vector<Dim> workspace_bytes;  // per workspace buffer, multiples of 64
  std::vector<IndexCheck> checks;
  std::vector<RegionCall> calls;        // in the order of their steps
  std::vector<std::string> not_called;  // "cublaslt: why it can't do this region"
};

// A template: kernels for the regions of one kind, called name, name_1, ...; kUnsupported with the reason
// for a region that it doesn't cover.
struct RegionTemplate {
  std::string_view kind;
  std::function<Result<LoweredRegion>(const Func& region, const std::string& name)> lower;
};

// Lowers the region by the template of its kind. Adds what holds for all: regions without elements get a
// kernel that does nothing, indices are checked (index_checks.h, by the template "rows"), sizes that leave
// 64 bits are refused.
Result<LoweredRegion> lower_by_templates(const Func& region, const std::string& name,
                                         std::string_view backend, std::span<const RegionTemplate> templates);

// Everything of the region's executable but target, images and what is set per backend: signature, steps,
// workspaces, checks, sizes as programs over the region's symbols.
Result<KernelBlob> describe_region(const Func& region, const LoweredRegion& lowered);
// d as a program over the region's symbols.
Result<SizeProgram> size_program(const Func& region, const Dim& d);

}  // namespace graphc
