// Runs lowered regions on the stand-in's card: emitted, compiled, loaded and launched as on a real one, with
// every access of every kernel checked.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/cuda/emit_cuda.h"
#include "backends/cuda/exec/cuda_exec.h"
#include "backends/cuda/nvrtc.h"
#include "backends/kernels/lowered_region.h"

namespace graphc::cuda {

class CardRun {
 public:
  using Memory = std::vector<std::byte>;
  struct Tensor {
    std::vector<int64_t> shape;
    Memory* bytes;
    int shares = -1;  // of a result: it lies where this operand does
  };

  // The results' bytes are overwritten.
  static Status run(const Func& region, const LoweredRegion& lowered, std::span<const Tensor> operands,
                    std::span<const Tensor> results, std::span<const int64_t> symbols) {
    GC_TRY(CudaDevice* const card, device());
    GC_TRY(KernelBlob blob, describe_region(region, lowered));
    std::string text = cuda_prelude();
    for (size_t i = 0; i < lowered.steps.size(); ++i) {
      GC_TRY(const CudaKernel k, emit_cuda(lowered.steps[i].kernel, region.ranges(), "a test"));
      text += "\n" + k.text;
      blob.steps[i].kernel = k.name;
      blob.steps[i].threads = static_cast<uint32_t>(k.threads);
      blob.steps[i].wide_kernel = k.wide_name;
      for (const Dim& d : k.narrow_if) {
        GC_TRY(SizeProgram size, size_program(region, d));
        blob.steps[i].narrow_if.push_back(std::move(size));
      }
    }
    if (!lowered.checks.empty()) text += "\n" + cuda_index_check();
    GC_TRY(CudaBinary binary, compile_cuda({"kernels.cu", text}, {.arch = "sm_90a"}));
    blob.images.push_back({"sm_90a", std::move(binary.code)});
    GC_TRY(const std::unique_ptr<CudaExec> exec, CudaExec::load(*card, std::move(blob)));
    GC_TRY(const std::unique_ptr<CudaStream> stream, card->create_stream(0));
    std::vector<std::unique_ptr<CudaBuffer>> buffers;
    Status s = run_on(*card, *exec, *stream, operands, results, symbols, buffers);
    card->destroy(*stream);
    for (const auto& b : buffers) card->release(*b);
    return s;
  }

 private:
  static Result<CudaDevice*> device() {
    static const Result<std::unique_ptr<CudaDevice>> opened = []() -> Result<std::unique_ptr<CudaDevice>> {
      const CudaLibraries& libraries = CudaLibraries::get();
      GC_TRY(auto driver, CudaDriver::open(libraries));
      GC_TRY(const std::vector<CudaCard> cards, cuda_cards(libraries));
      return CudaDevice::open_card(driver, cards.at(0));
    }();
    if (!opened.ok()) return opened.error();
    return opened->get();
  }

  static Status run_on(CudaDevice& card, const CudaExec& exec, CudaStream& stream,
                       std::span<const Tensor> operands, std::span<const Tensor> results,
                       std::span<const int64_t> symbols, std::vector<std::unique_ptr<CudaBuffer>>& buffers) {
    const CudaDriver& cuda = card.driver();
    const auto put = [&](uint64_t bytes) -> Result<CUdeviceptr> {
      GC_TRY(std::unique_ptr<CudaBuffer> b, card.allocate(false, bytes, 256));
      buffers.push_back(std::move(b));
      return buffers.back()->pointer;
    };
    std::vector<CudaExec::TensorRef> in, out;
    for (const Tensor& t : operands) {
      GC_TRY(const CUdeviceptr p, put(t.bytes->size()));
      if (!t.bytes->empty())
        GC_CHECK(card.check(cuda.to_device(p, t.bytes->data(), t.bytes->size(), stream.raw), "an operand"));
      in.push_back({p, t.shape});
    }
    for (const Tensor& t : results) {
      CUdeviceptr p = 0;
      if (t.shares >= 0) {
        p = in[static_cast<size_t>(t.shares)].data;
      } else {
        GC_TRY(p, put(t.bytes->size()));
      }
      out.push_back({p, t.shape});
    }
    GC_TRY(const uint64_t bytes, cuda_workspace_bytes(exec.blob(), symbols));
    GC_TRY(const CUdeviceptr workspace, put(bytes));
    GC_CHECK(exec.run(stream, in, out, symbols, workspace, bytes));
    for (size_t i = 0; i < results.size(); ++i)
      if (Memory& m = *results[i].bytes; !m.empty())
        GC_CHECK(card.check(cuda.to_host(m.data(), out[i].data, m.size(), stream.raw), "a result"));
    return card.wait(stream);
  }
};

}  // namespace graphc::cuda
