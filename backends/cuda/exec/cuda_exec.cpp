#include "backends/cuda/exec/cuda_exec.h"

#include <fmt/format.h>

#include <algorithm>

#include "backends/cuda/exec/image_choice.h"

namespace graphc {
namespace {

constexpr uint64_t kAlign = 256;
// Of one kernel: CUDA 12.0 passes 4 KiB on every card, and a parameter is 8 bytes.
constexpr size_t kMaxParameters = 512;
constexpr size_t kMaxWorkspaces = 256;
constexpr CUdeviceptr kPointerAlign = 16;  // emit_cuda.h
constexpr int64_t kMaxBlocks = 2147483647, kMaxIndex = int64_t{1} << 31;

std::string shape_text(std::span<const int64_t> s) {
  std::string t = "[";
  for (size_t i = 0; i < s.size(); ++i) t += fmt::format("{}{}", i ? ", " : "", s[i]);
  return t + "]";
}

Result<uint64_t> padded(const SizeProgram& size, std::span<const int64_t> symbols) {
  const auto bytes = size.evaluate(symbols);
  if (!bytes || *bytes < 0 || *bytes > int64_t{1} << 46) return invalid("the size of a workspace overflows");
  return (static_cast<uint64_t>(*bytes) + kAlign - 1) / kAlign * kAlign;
}

// Why these steps can't be launched at all; nullptr: they can.
const char* unlaunchable(const KernelBlob& blob) {
  if (blob.workspace_bytes.size() > kMaxWorkspaces) return "it has more than 256 workspaces";
  for (const KernelBlob::Step& s : blob.steps) {
    if (s.args.size() + blob.symbols.size() > kMaxParameters) return "a kernel has more than 512 parameters";
    if (s.threads == 0 || s.threads > 1024) return "a kernel has no threads, or more than 1024";
  }
  for (const KernelBlob::LibraryCall& c : blob.calls)
    if (c.args.size() > kMaxParameters || c.sizes.size() > kMaxParameters)
      return "a call has more than 512 arguments";
  return nullptr;
}

}  // namespace

Result<uint64_t> cuda_workspace_bytes(const KernelBlob& blob, std::span<const int64_t> symbols) {
  if (symbols.size() != blob.symbols.size())
    return invalid(fmt::format("called with {} sizes instead of {}", symbols.size(), blob.symbols.size()));
  uint64_t total = 0, calls = 0;
  for (const SizeProgram& e : blob.workspace_bytes) {
    GC_TRY(const uint64_t n, padded(e, symbols));
    total += n;
  }
  for (const KernelBlob::LibraryCall& c : blob.calls) {
    GC_TRY(const uint64_t n, padded(c.workspace_bytes, symbols));
    calls = std::max(calls, n);
  }
  return total + calls;
}

uint64_t cuda_fixed_workspace_bytes(const KernelBlob& blob) {
  for (const SizeProgram& e : blob.workspace_bytes)
    if (!e.valid(0)) return 0;
  for (const KernelBlob::LibraryCall& c : blob.calls)
    if (!c.workspace_bytes.valid(0)) return 0;
  // No program reads one, so that any values will do.
  const std::vector<int64_t> none(blob.symbols.size(), 0);
  const auto n = cuda_workspace_bytes(blob, none);
  return n.ok() ? *n : 0;  // run says what is wrong
}

Result<std::unique_ptr<CudaExec>> CudaExec::load(CudaDevice& device, KernelBlob blob,
                                                 const std::function<void(const std::string&)>& say) {
  GC_CHECK(device.enter());
  const CudaDriver& cuda = device.driver();
  if (const char* why = unlaunchable(blob))
    return invalid(fmt::format("the executable can't be run: {}", why));
  GC_TRY(const KernelBlob::Image* image, choose_cuda_image(blob, device.card().name, device.card().arch));
  std::unique_ptr<CudaExec> e(new CudaExec(device));
  e->say_ = say;
  // The driver gets no length; a NUL ends PTX.
  const std::string code = image->bytes + '\0';
  const CUresult r = cuda.module_load(&e->module_, code.data());
  switch (r) {
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
    case CUDA_ERROR_INVALID_PTX:
    case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
    case CUDA_ERROR_INVALID_IMAGE:
      return unsupported(
          fmt::format("the driver, which is for CUDA {}.{}, doesn't take the code for {}: {}; update the "
                      "driver, or compile with a CUDA toolkit that is no newer",
                      cuda.version / 1000, cuda.version % 1000 / 10, image->arch, cuda.describe(r)));
    default: GC_CHECK(device.check(r, "loading the kernels"));
  }
  const auto find = [&](CUfunction* f, const std::string& name) -> Status {
    const CUresult found = cuda.module_function(f, e->module_, name.c_str());
    if (found == CUDA_ERROR_NOT_FOUND) return invalid(fmt::format("the executable has no kernel '{}'", name));
    return device.check(found, fmt::format("kernel '{}'", name));
  };
  for (const KernelBlob::Step& s : blob.steps) {
    Kernel k;
    GC_CHECK(find(&k.narrow, s.kernel));
    if (!s.wide_kernel.empty()) GC_CHECK(find(&k.wide, s.wide_kernel));
    e->kernels_.push_back(k);
  }
  if (!blob.checks.empty()) GC_CHECK(find(&e->check_, "gc_check_index"));
  for (const KernelBlob::IndexCheck& c : blob.checks) e->check_names_.push_back(device.name_number(c.op));
  for (const KernelBlob::LibraryCall& c : blob.calls) {
    auto call = resolve_library_call(device, blob, c);
    e->calls_.emplace_back();
    if (call.ok())
      e->calls_.back() = *std::move(call);
    else if (call.error().code != ErrorCode::kUnsupported)
      return call.error();
    else
      e->say_refused(c, call.error());
  }
  e->refused_ = std::make_unique<std::atomic<bool>[]>(blob.calls.size());
  for (KernelBlob::Image& i : blob.images) {
    i.bytes.clear();
    i.bytes.shrink_to_fit();
  }
  e->blob_ = std::move(blob);
  return e;
}

CudaExec::~CudaExec() {
  if (!module_) return;
  device_.enter_anyway();
  device_.driver().module_unload(module_);
}

// Everything of one run that its launches need.
struct CudaExec::Run {
  CudaStream& stream;
  std::span<const TensorRef> operands, results;
  std::span<const int64_t> symbols;
  CUdeviceptr workspace, call_workspace;
  uint64_t call_workspace_bytes;
  uint64_t offsets[kMaxWorkspaces];

  CUdeviceptr pointer(const KernelBlob::Arg& a) const {
    return a.kind == KernelBlob::kOperand  ? operands[a.index].data
           : a.kind == KernelBlob::kResult ? results[a.index].data
                                           : workspace + offsets[a.index];
  }
};

Status CudaExec::launch_step(Run& run, size_t i) const {
  const KernelBlob::Step& s = blob_.steps[i];
  const auto extent = s.extent.evaluate(run.symbols);
  if (!extent) return invalid("a size of the executable overflows");
  if (*extent <= 0) return {};
  if (*extent > kMaxBlocks)
    return invalid(fmt::format(
        "kernel '{}' would have {} blocks, and a card launches at most {}: the sizes are too large", s.kernel,
        *extent, kMaxBlocks));
  bool narrow = true;
  for (const SizeProgram& e : s.narrow_if) {
    const auto v = e.evaluate(run.symbols);
    narrow = narrow && v && *v < kMaxIndex;
  }
  CUdeviceptr pointers[kMaxParameters];
  void* parameters[kMaxParameters];
  size_t n = 0;
  for (const KernelBlob::Arg& a : s.args) {
    pointers[n] = run.pointer(a);
    parameters[n] = &pointers[n];
    ++n;
  }
  for (const int64_t& v : run.symbols) parameters[n++] = const_cast<int64_t*>(&v);
  const CUresult r =
      device_.driver().launch(narrow ? kernels_[i].narrow : kernels_[i].wide, static_cast<unsigned>(*extent),
                              1, 1, s.threads, 1, 1, 0, run.stream.raw, parameters, nullptr);
  return r == CUDA_SUCCESS ? Status() : device_.check(r, fmt::format("launching kernel '{}'", s.kernel));
}

// What follows reads some row in place of the wrong one; whoever waits for the stream learns of it.
Status CudaExec::check_indices(Run& run, size_t i) const {
  for (size_t k = 0; k < blob_.checks.size(); ++k) {
    const KernelBlob::IndexCheck& c = blob_.checks[k];
    if (c.step != i) continue;
    CUdeviceptr low = run.workspace + run.offsets[c.low], high = run.workspace + run.offsets[c.high];
    CUdeviceptr record = run.stream.records[0]->device_pointer();
    const auto rows = c.size.evaluate(run.symbols);
    if (!rows) return invalid("a size of the executable overflows");
    int64_t size = *rows, op = check_names_[k] + 1;
    void* parameters[] = {&low, &high, &record, &size, &op};
    GC_CHECK(device_.check(
        device_.driver().launch(check_, 1, 1, 1, 1, 1, 1, 0, run.stream.raw, parameters, nullptr),
        "checking indices"));
  }
  return {};
}

Status CudaExec::run_call(Run& run, size_t k) const {
  const KernelBlob::LibraryCall& c = blob_.calls[k];
  CUdeviceptr buffers[kMaxParameters];
  int64_t sizes[kMaxParameters];
  for (size_t i = 0; i < c.args.size(); ++i) buffers[i] = run.pointer(c.args[i]);
  for (size_t i = 0; i < c.sizes.size(); ++i) {
    const auto v = c.sizes[i].evaluate(run.symbols);
    if (!v) return invalid("a size of the executable overflows");
    sizes[i] = *v;
  }
  return calls_[k]->run(
      run.stream,
      {{buffers, c.args.size()}, {sizes, c.sizes.size()}, run.call_workspace, run.call_workspace_bytes});
}

Status CudaExec::run(CudaStream& stream, std::span<const TensorRef> operands,
                     std::span<const TensorRef> results, std::span<const int64_t> symbols,
                     CUdeviceptr workspace, uint64_t workspace_size) const {
  if (operands.size() != blob_.operands.size() || results.size() != blob_.results.size() ||
      symbols.size() != blob_.symbols.size())
    return invalid(fmt::format("called with {} operands, {} results and {} sizes instead of {}, {} and {}",
                               operands.size(), results.size(), symbols.size(), blob_.operands.size(),
                               blob_.results.size(), blob_.symbols.size()));
  for (const int64_t s : symbols)
    if (s < 0) return invalid("a size is negative");
  for (int side = 0; side < 2; ++side) {
    const auto& want = side ? blob_.results : blob_.operands;
    const auto& got = side ? results : operands;
    for (size_t i = 0; i < want.size(); ++i) {
      bool same = got[i].shape.size() == want[i].shape.size();
      for (size_t d = 0; same && d < want[i].shape.size(); ++d) {
        const auto v = want[i].shape[d].evaluate(symbols);
        same = v && *v == got[i].shape[d];
      }
      if (!same)
        return invalid(fmt::format("{} {} has the shape {}, which isn't what the executable was compiled for",
                                   side ? "result" : "operand", i, shape_text(got[i].shape)));
      // Wide accesses count on it; on a card a wrong one would end the context.
      if (got[i].data % kPointerAlign != 0)
        return invalid(
            fmt::format("{} {} begins at an address that isn't a multiple of {} bytes; copy it to one "
                        "that is",
                        side ? "result" : "operand", i, kPointerAlign));
    }
  }
  GC_TRY(const uint64_t needed, cuda_workspace_bytes(blob_, symbols));
  if (needed > workspace_size)
    return invalid(fmt::format("the workspace has {} bytes, and with these sizes {} are needed",
                               workspace_size, needed));
  Run run{stream, operands, results, symbols, workspace, 0, 0, {}};
  uint64_t total = 0;
  for (size_t i = 0; i < blob_.workspace_bytes.size(); ++i) {
    run.offsets[i] = total;
    GC_TRY(const uint64_t n, padded(blob_.workspace_bytes[i], symbols));
    total += n;
  }
  for (const KernelBlob::IndexCheck& c : blob_.checks)
    if (std::max(run.offsets[c.low], run.offsets[c.high]) + sizeof(int64_t) > total)
      return invalid("a workspace is too small");
  run.call_workspace = workspace + total;
  run.call_workspace_bytes = needed - total;
  const auto launch = [&](size_t begin, size_t end) -> Status {
    for (size_t i = begin; i < end; ++i) {
      GC_CHECK(launch_step(run, i));
      GC_CHECK(check_indices(run, i));
    }
    return {};
  };
  size_t next = 0;
  for (size_t k = 0; k < blob_.calls.size(); ++k) {
    const KernelBlob::LibraryCall& c = blob_.calls[k];
    const size_t end = c.last_step + c.after_steps;
    GC_CHECK(launch(next, c.first_step));
    next = end;
    if (calls_[k]) {
      const Status s = run_call(run, k);
      if (s.ok()) {
        GC_CHECK(launch(c.last_step, end));
        continue;
      }
      if (s.error().code != ErrorCode::kUnsupported) return s;
      if (!refused_[k].exchange(true)) say_refused(c, s.error());
    }
    GC_CHECK(launch(c.first_step, c.last_step));
  }
  return launch(next, blob_.steps.size());
}

void CudaExec::say_refused(const KernelBlob::LibraryCall& call, const Error& why) const {
  const std::string line = fmt::format("kernels run instead of {}: {}", call.library, why.message);
  if (say_ && device_.is_news(line)) say_(line);
}

}  // namespace graphc
