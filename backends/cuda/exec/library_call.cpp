#include "backends/cuda/exec/library_call.h"

#include <fmt/format.h>

#include "backends/cuda/exec/cublaslt.h"
#include "backends/cuda/exec/cudnn.h"

namespace graphc {
namespace {

class CublasLtLibraryCall final : public CudaLibraryCall {
 public:
  CublasLtLibraryCall(std::shared_ptr<const CublasLt> lt, const CublasLtCall& call)
      : matmul_(std::move(lt), call) {}
  const CublasLtMatmul& matmul() const { return matmul_; }
  Status run(CudaStream& stream, const CudaCallArgs& args) const override {
    return matmul_.run(stream.raw, args.buffers, args.sizes, args.workspace, args.workspace_bytes);
  }

 private:
  CublasLtMatmul matmul_;
};

// The call's sizes and workspace, where they depend on no symbol.
std::optional<std::vector<int64_t>> fixed_sizes(const KernelBlob::LibraryCall& call) {
  std::vector<int64_t> out;
  for (const SizeProgram& s : call.sizes) {
    const auto v = s.valid(0) ? s.evaluate({}) : std::nullopt;
    if (!v) return std::nullopt;
    out.push_back(*v);
  }
  return out;
}

Result<std::unique_ptr<CudaLibraryCall>> resolve_cublaslt(CudaDevice& device,
                                                          const KernelBlob::LibraryCall& call) {
  GC_TRY(const CublasLtCall parsed, CublasLtCall::parse(call.call, call.args.size(), call.sizes.size()));
  GC_TRY(const auto lt,
         device.library<const CublasLt>("cublaslt", [] { return CublasLt::create(CudaLibraries::get()); }));
  auto out = std::make_unique<CublasLtLibraryCall>(lt, parsed);
  // Sizes that are known get their algorithm now: then it is known as well whether there is one.
  if (const auto sizes = fixed_sizes(call); sizes && call.workspace_bytes.valid(0))
    if (const auto bytes = call.workspace_bytes.evaluate({}))
      GC_CHECK(out->matmul().prepare(*sizes, static_cast<uint64_t>((*bytes + 255) / 256 * 256)));
  return std::unique_ptr<CudaLibraryCall>(std::move(out));
}

class CudnnLibraryCall final : public CudaLibraryCall {
 public:
  explicit CudnnLibraryCall(std::unique_ptr<CudnnCall> call) : call_(std::move(call)) {}
  Status run(CudaStream& stream, const CudaCallArgs& args) const override {
    const std::vector<uint64_t> buffers(args.buffers.begin(), args.buffers.end());
    return call_->run(stream.raw, buffers, args.sizes, args.workspace, args.workspace_bytes);
  }

 private:
  std::unique_ptr<CudnnCall> call_;
};

Result<std::unique_ptr<CudaLibraryCall>> resolve_cudnn(CudaDevice& device,
                                                       const KernelBlob::LibraryCall& call) {
  const std::function<Result<std::shared_ptr<Cudnn>>()> open = [&device]() {
    const CudaCard& card = device.card();
    return Cudnn::open(
        CudaLibraries::get(),
        {.arch = card.arch, .multiprocessors = card.multiprocessors, .number = std::atoi(card.id.c_str())},
        DiskCache::of_user(), [&device](std::string_view line) {
          if (device.log) device.log(std::string(line));
        });
  };
  GC_TRY(const std::shared_ptr<Cudnn> cudnn, device.library<Cudnn>("cudnn", open));
  GC_TRY(std::unique_ptr<CudnnCall> made,
         CudnnCall::create(cudnn, call.call, call.sizes.size(), call.args.size()));
  // Sizes that are known get their plan now: then it is known as well whether there is one.
  if (const auto sizes = fixed_sizes(call); sizes && call.workspace_bytes.valid(0))
    if (const auto bytes = call.workspace_bytes.evaluate({}))
      GC_CHECK(made->prepare(*sizes, static_cast<uint64_t>((*bytes + 255) / 256 * 256)));
  return std::unique_ptr<CudaLibraryCall>(std::make_unique<CudnnLibraryCall>(std::move(made)));
}

}  // namespace

Result<std::unique_ptr<CudaLibraryCall>> resolve_library_call(CudaDevice& device, const KernelBlob&,
                                                              const KernelBlob::LibraryCall& call) {
  if (call.library == "cublaslt") return resolve_cublaslt(device, call);
  if (call.library == "cudnn") return resolve_cudnn(device, call);
  return unsupported(fmt::format("this version of graphc doesn't call '{}'", call.library));
}

}  // namespace graphc
