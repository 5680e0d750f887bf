// An executable of the cuda backend made by hand, and a card (the stand-in) to run it on through the plugin
// table.
//
//   y[k] = x[i[k]]^2 for k < N, by three kernels: bounds of the indices, squares into workspace, the gather.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backends/cuda/emit_cuda.h"
#include "backends/cuda/exec/backend.h"
#include "backends/cuda/nvrtc.h"
#include "backends/host/kernel_blob.h"
#include "backends/registry.h"
#include "tests/cuda/standin/cuda_api.h"

namespace graphc {

inline constexpr const char* kHandKernels = R"(
extern "C" __global__ void __launch_bounds__(1) bounds(const i64* i, i64* low, i64* high, i64 n) {
  i64 l = 9223372036854775807ll, h = -l;
  for (i64 k = 0; k < n; ++k) { l = i[k] < l ? i[k] : l; h = i[k] > h ? i[k] : h; }
  *low = l;
  *high = h;
}
extern "C" __global__ void __launch_bounds__(256) square(const float* x, float* w, i64 n) {
  const i64 k = 256ll * blockIdx.x + threadIdx.x;
  if (k < n) w[k] = x[k] * x[k];
}
extern "C" __global__ void __launch_bounds__(256) take(const float* w, const i64* i, float* y, i64 n) {
  const i64 k = 256ll * blockIdx.x + threadIdx.x;
  if (k < n) y[k] = w[i[k] < 0 ? 0 : i[k] >= n ? n - 1 : i[k]];
}
)";

// The text's image for `arch`, made once.
inline const std::string& hand_code(const std::string& arch, const std::string& text = kHandKernels) {
  static std::map<std::string, std::string> made;
  std::string& code = made[arch + text];
  if (code.empty()) {
    const auto b = compile_cuda({"hand.cu", cuda_prelude() + text + cuda_index_check()}, {.arch = arch});
    EXPECT_TRUE(b.ok()) << b.error().message;
    if (b.ok()) code = b->code;
  }
  return code;
}

inline KernelBlob hand_blob(const std::vector<std::string>& archs = {"sm_90a", "compute_80"},
                            const std::string& text = kHandKernels) {
  using S = SizeProgram;
  const S n({S::kSymbol, 0}), n4({S::kPush, 4, S::kSymbol, 0, S::kMul}), small({S::kPush, 64}),
      one({S::kPush, 1});
  const S blocks({S::kSymbol, 0, S::kPush, 255, S::kAdd, S::kPush, 256, S::kFloorDiv});
  KernelBlob b;
  b.backend = "cuda";
  b.target = archs.empty() ? "" : archs[0];
  b.symbols = {"N"};
  b.operands = {{DType::kF32, {n}}, {DType::kI64, {n}}};
  b.results = {{DType::kF32, {n}}};
  b.workspace_bytes = {n4, small, small};
  const auto step = [&](const char* kernel, std::vector<KernelBlob::Arg> args, const S& extent,
                        uint32_t threads) {
    KernelBlob::Step s;
    s.kernel = kernel;
    s.args = std::move(args);
    s.extent = extent;
    s.threads = threads;
    b.steps.push_back(std::move(s));
  };
  step("bounds", {{KernelBlob::kOperand, 1}, {KernelBlob::kWorkspace, 1}, {KernelBlob::kWorkspace, 2}}, one,
       1);
  step("square", {{KernelBlob::kOperand, 0}, {KernelBlob::kWorkspace, 0}}, blocks, 256);
  step("take", {{KernelBlob::kWorkspace, 0}, {KernelBlob::kOperand, 1}, {KernelBlob::kResult, 0}}, blocks,
       256);
  b.checks = {{0, 1, 2, n, "gather"}};
  for (const std::string& a : archs) b.images.push_back({a, hand_code(a, text)});
  return b;
}

inline Bytes as_bytes(const std::string& s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}

// A registry with the execution half alone.
inline std::unique_ptr<BackendRegistry> cuda_registry() {
  auto r = std::make_unique<BackendRegistry>();
  EXPECT_TRUE(r->add(cuda_execution_backend()).ok());
  return r;
}

// x, i and y on the card, the executable, a stream; what a context of the runtime would hold.
class HandRun {
 public:
  // The first thing that fails; what was made before it goes with the object.
  Status prepare(const std::shared_ptr<Device>& device, const std::vector<float>& x,
                 const std::vector<int64_t>& i, const KernelBlob& blob = hand_blob()) {
    device_ = device;
    n_ = static_cast<int64_t>(x.size());
    GC_TRY(exec, device->load(as_bytes(encode_blob(blob))));
    GC_TRY(x_, device->alloc(4 * x.size() + 64, 256));
    GC_TRY(i_, device->alloc(8 * i.size(), 256));
    GC_TRY(y_, device->alloc(4 * x.size(), 256));
    GC_TRY(const uint64_t bytes, exec.workspace_bytes(std::span(&n_, 1)));
    GC_TRY(workspace_, device->alloc(bytes, 256));
    GC_TRY(stream, device->stream());
    GC_CHECK(device->to_device(stream, x.data(), x_.raw(), 0, 4 * x.size()));
    return set_indices(i);
  }
  Status set_indices(const std::vector<int64_t>& i) {
    return device_->to_device(stream, i.data(), i_.raw(), 0, 8 * i.size());
  }
  // On the stream; doesn't wait.
  Status execute(uint64_t x_offset = 0) {
    tensors_[0] = {x_.raw(), x_offset, &n_, nullptr, 1, GC_DL_FLOAT, 32, 1};
    tensors_[1] = {i_.raw(), 0, &n_, nullptr, 1, GC_DL_INT, 64, 1};
    tensors_[2] = {y_.raw(), 0, &n_, nullptr, 1, GC_DL_FLOAT, 32, 1};
    gc_run run{};
    run.struct_size = sizeof run;
    run.in = tensors_;
    run.num_in = 2;
    run.out = tensors_ + 2;
    run.num_out = 1;
    run.workspace = workspace_.raw();
    run.symbols = &n_;
    run.num_symbols = 1;
    return take_error(device_->api().execute(exec.raw(), stream.raw(), &run), "cuda", "execute");
  }
  Result<std::vector<float>> result() {
    std::vector<float> y(static_cast<size_t>(n_));
    GC_CHECK(device_->to_host(stream, y_.raw(), 0, y.data(), 4 * y.size()));
    GC_CHECK(stream.wait());
    return y;
  }
  // prepare, execute, result.
  static Result<std::vector<float>> all(const std::shared_ptr<Device>& device, const std::vector<float>& x,
                                        const std::vector<int64_t>& i, const KernelBlob& blob = hand_blob()) {
    HandRun r;
    GC_CHECK(r.prepare(device, x, i, blob));
    GC_CHECK(r.execute());
    return r.result();
  }

 private:
  std::shared_ptr<Device> device_;
  int64_t n_ = 0;
  DeviceBuffer x_, i_, y_, workspace_;
  gc_tensor tensors_[3] = {};

 public:
  // Go first, in this order: the stream finishes what still uses the rest.
  DeviceExec exec;
  DeviceStream stream;
};

}  // namespace graphc
