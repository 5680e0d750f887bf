#include "backends/cpu/exec/cpu_exec.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "backends/cpu/exec/features.h"

namespace graphc {
namespace {

// Memory of one thread that grows to what was ever asked for.
class ThreadMemory {
 public:
  ~ThreadMemory() { std::free(p_); }
  // nullptr if there isn't enough. 64-byte aligned.
  void* get(size_t bytes) {
    if (bytes > size_) {
      std::free(p_);
      size_ = (bytes + 4095) / 4096 * 4096;
      p_ = std::aligned_alloc(4096, size_);
      if (!p_) size_ = 0;
    }
    return p_;
  }

 private:
  void* p_ = nullptr;
  size_t size_ = 0;
};

// of kernels; of the caller of run (a run on this thread inside another's parallel loop doesn't happen:
// kernels don't call back)
thread_local ThreadMemory scratch_memory;
thread_local ThreadMemory workspace_memory;

std::string shape_text(std::span<const int64_t> s) {
  std::string t = "[";
  for (size_t i = 0; i < s.size(); ++i) t += fmt::format("{}{}", i ? ", " : "", s[i]);
  return t + "]";
}

struct StepCall {
  KernelFn fn;
  void* const* buffers;
  const int64_t* symbols;
  size_t scratch;
  std::atomic<bool> no_memory{false};
};

void run_part(void* arg, int64_t begin, int64_t end) {
  auto& s = *static_cast<StepCall*>(arg);
  KernelCall call;
  call.buffers = s.buffers;
  call.symbols = s.symbols;
  call.begin = begin;
  call.end = end;
  if (s.scratch > 0) {
    call.scratch = scratch_memory.get(s.scratch);
    if (!call.scratch) {
      s.no_memory = true;
      return;
    }
  }
  s.fn(&call);
}

}  // namespace

Result<std::unique_ptr<CpuExec>> CpuExec::load(KernelBlob blob) {
  GC_TRY(CpuFeatures needed, CpuFeatures::parse(blob.target));
  auto missing = host_features().missing(needed);
  if (!missing.empty()) {
    std::string names;
    for (std::string_view m : missing) names += fmt::format("{}{}", names.empty() ? "" : ", ", m);
    return unsupported(fmt::format("made for another machine: this one lacks {}", names));
  }
  auto e = std::make_unique<CpuExec>();
  if (blob.images.size() != 1) return invalid("the executable must have one image");
  GC_TRY(e->image_, KernelImage::load(blob.images[0].bytes));
  for (const KernelBlob::Step& s : blob.steps) {
    KernelFn fn = e->image_.find(s.kernel);
    if (!fn) return invalid(fmt::format("the executable has no kernel '{}'", s.kernel));
    e->kernels_.push_back(fn);
  }
  blob.images.clear();
  e->blob_ = std::move(blob);
  return e;
}

uint64_t CpuExec::planned_workspace_bytes() const {
  uint64_t total = 0;
  for (const SizeProgram& e : blob_.workspace_bytes) {
    if (!e.valid(0)) return 0;  // needs a symbol
    const auto bytes = e.evaluate({});
    if (!bytes || *bytes < 0 || *bytes > int64_t{1} << 46) return 0;  // run says so
    total += (static_cast<uint64_t>(*bytes) + 63) / 64 * 64;
  }
  return total;
}

Result<uint64_t> CpuExec::workspace_bytes(std::span<const int64_t> symbols) const {
  if (symbols.size() != blob_.symbols.size())
    return invalid(fmt::format("called with {} sizes instead of {}", symbols.size(), blob_.symbols.size()));
  uint64_t total = 0;
  for (const SizeProgram& e : blob_.workspace_bytes) {
    const auto bytes = e.evaluate(symbols);
    if (!bytes || *bytes < 0 || *bytes > int64_t{1} << 46)
      return invalid("the size of a workspace overflows");
    total += (static_cast<uint64_t>(*bytes) + 63) / 64 * 64;
  }
  return total;
}

Status CpuExec::run(std::span<const TensorRef> operands, std::span<const TensorRef> results,
                    std::span<const int64_t> symbols, const Parallel& parallel,
                    std::span<std::byte> planned) const {
  if (operands.size() != blob_.operands.size() || results.size() != blob_.results.size() ||
      symbols.size() != blob_.symbols.size())
    return invalid(fmt::format("called with {} operands, {} results and {} sizes instead of {}, {} and {}",
                               operands.size(), results.size(), symbols.size(), blob_.operands.size(),
                               blob_.results.size(), blob_.symbols.size()));
  for (int64_t s : symbols)
    if (s < 0) return invalid("a size is negative");
  for (int side = 0; side < 2; ++side) {
    const auto& want = side ? blob_.results : blob_.operands;
    const auto& got = side ? results : operands;
    for (size_t i = 0; i < want.size(); ++i) {
      bool same = got[i].shape.size() == want[i].shape.size();
      for (size_t d = 0; same && d < want[i].shape.size(); ++d) {
        auto v = want[i].shape[d].evaluate(symbols);
        same = v && *v == got[i].shape[d];
      }
      if (!same)
        return invalid(fmt::format("{} {} has the shape {}, which isn't what the executable was compiled for",
                                   side ? "result" : "operand", i, shape_text(got[i].shape)));
    }
  }
  // workspaces, one after the other
  size_t total = 0;
  constexpr size_t kMaxBuffers = 4096;
  size_t offsets[64];
  if (blob_.workspace_bytes.size() > 64) return invalid("the executable has more than 64 workspaces");
  for (size_t i = 0; i < blob_.workspace_bytes.size(); ++i) {
    auto bytes = blob_.workspace_bytes[i].evaluate(symbols);
    if (!bytes || *bytes < 0 || *bytes > int64_t{1} << 46)
      return invalid("the size of a workspace overflows");
    offsets[i] = total;
    total += (static_cast<size_t>(*bytes) + 63) / 64 * 64;
  }
  std::byte* workspace = planned.data();
  if (total > planned.size()) {
    workspace = static_cast<std::byte*>(workspace_memory.get(total));
    if (!workspace)
      return Error{ErrorCode::kNoMemory, fmt::format("no memory for a workspace of {} bytes", total)};
  }
  void* buffers[kMaxBuffers];
  for (size_t i = 0; i < blob_.steps.size(); ++i) {
    const KernelBlob::Step& s = blob_.steps[i];
    if (s.args.size() > kMaxBuffers) return invalid("a kernel has more than 4096 arguments");
    for (size_t a = 0; a < s.args.size(); ++a) {
      uint32_t at = s.args[a].index;
      buffers[a] = s.args[a].kind == KernelBlob::kOperand  ? operands[at].data
                   : s.args[a].kind == KernelBlob::kResult ? results[at].data
                                                           : workspace + offsets[at];
    }
    auto extent = s.extent.evaluate(symbols), scratch = s.scratch_bytes.evaluate(symbols);
    int64_t grain = std::max<int64_t>(1, s.grain.evaluate(symbols).value_or(1));
    if (!extent || !scratch || *scratch < 0 || *scratch > int64_t{1} << 46)
      return invalid("a size of the executable overflows");
    if (*extent <= 0) continue;
    StepCall call{kernels_[i], buffers, symbols.data(), static_cast<size_t>(*scratch)};
    if (*extent <= grain)
      run_part(&call, 0, *extent);
    else
      parallel.run(parallel.ctx, *extent, grain, run_part, &call);
    if (call.no_memory)
      return Error{ErrorCode::kNoMemory, fmt::format("no memory for {} bytes of scratch a thread", *scratch)};
    for (const KernelBlob::IndexCheck& c : blob_.checks) {
      if (c.step != i) continue;
      int64_t low, high;
      if (std::max(offsets[c.low], offsets[c.high]) + sizeof low > total)
        return invalid("a workspace is too small");
      std::memcpy(&low, workspace + offsets[c.low], sizeof low);
      std::memcpy(&high, workspace + offsets[c.high], sizeof high);
      const int64_t size = c.size.evaluate(symbols).value_or(0);
      if (low > high || (low >= 0 && high < size)) continue;  // there are none, or all are in range
      return invalid(fmt::format("{}: index {} is outside 0..{}", c.op, low < 0 ? low : high, size - 1));
    }
  }
  return ok_status();
}

}  // namespace graphc
