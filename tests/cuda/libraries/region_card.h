// A region through the whole backend on the stand-in's card: compiled, loaded, run, judged by the
// interpreter.
//
//   Card card;
//   auto e = card.load(region);            // func(), module(): MatmulRegion, ConvRegion
//   card.check(region, *e, {{"N", 33}});
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "backends/cuda/compile.h"
#include "backends/cuda/exec/cuda_exec.h"
#include "ir/interpret.h"
#include "tests/cuda/standin/cuda_api.h"

namespace graphc::cuda {

using Sizes = std::map<std::string, int64_t, std::less<>>;

class Card {
 public:
  Card() {
    auto driver = CudaDriver::open(CudaLibraries::get());
    EXPECT_TRUE(driver.ok()) << driver.error().message;
    const auto cards = cuda_cards(CudaLibraries::get());
    EXPECT_TRUE(cards.ok()) << cards.error().message;
    auto opened = CudaDevice::open_card(*driver, cards->at(0));
    EXPECT_TRUE(opened.ok()) << opened.error().message;
    device = *std::move(opened);
    stream = *device->create_stream(0);
  }
  ~Card() {
    EXPECT_TRUE(device->wait(*stream).ok());
    for (auto& b : buffers_) device->release(*b);
    device->destroy(*stream);
  }

  // Compiles and loads; what the loader says goes to `said`.
  template <class Region>
  std::unique_ptr<CudaExec> load(const Region& r) {
    auto blob = compile_region(r.func(), *CudaTarget::parse("h200"));
    EXPECT_TRUE(blob.ok()) << blob.error().message;
    auto again = decode_blob(encode_blob(*blob), "cuda");
    EXPECT_TRUE(again.ok()) << again.error().message;
    auto e =
        CudaExec::load(*device, *std::move(again), [&](const std::string& line) { said.push_back(line); });
    EXPECT_TRUE(e.ok()) << e.error().message;
    return e.ok() ? *std::move(e) : nullptr;
  }

  template <class Region>
  void check(const Region& r, const CudaExec& e, const Sizes& sizes, double tolerance = 4e-6) {
    std::unique_ptr<Module> bound = clone(r.module());
    Func* func = bound->find_func("contraction");
    ASSERT_TRUE(bind_symbols(*func, sizes).ok());
    std::mt19937_64 rng(3);
    std::vector<HostTensor> in;
    std::vector<CudaExec::TensorRef> operands, results;
    for (const auto& a : func->body.args) {
      HostTensor t = HostTensor::zeros(a->type.dtype, *static_shape(a->type.shape));
      for (double& v : t.f) v = std::uniform_real_distribution<double>(-1, 1)(rng);
      in.push_back(HostTensor::from_bytes(t.dtype, t.shape, t.to_bytes().data()));
    }
    for (const HostTensor& t : in) operands.push_back({put(t.to_bytes()), t.shape});
    VariableValues none;
    const auto want = interpret(*bound, *func, in, none);
    ASSERT_TRUE(want.ok()) << want.error().message;
    for (const HostTensor& t : *want)
      results.push_back({put(std::vector<std::byte>(t.to_bytes().size(), std::byte{0xA5})), t.shape});
    std::vector<int64_t> symbols;
    for (const SymbolDef& s : r.func().symbols) symbols.push_back(sizes.at(s.name));
    const auto bytes = cuda_workspace_bytes(e.blob(), symbols);
    ASSERT_TRUE(bytes.ok()) << bytes.error().message;
    const Status s = e.run(*stream, operands, results, symbols, put(std::vector<std::byte>(*bytes)), *bytes);
    ASSERT_TRUE(s.ok()) << s.error().message;
    const Status done = device->wait(*stream);
    ASSERT_TRUE(done.ok()) << done.error().message;
    for (size_t k = 0; k < want->size(); ++k) {
      const HostTensor& w = (*want)[k];
      std::vector<std::byte> got_bytes = w.to_bytes();
      if (got_bytes.empty()) continue;
      ASSERT_EQ(CUDA(cuMemcpyDtoH)(got_bytes.data(), results[k].data, got_bytes.size()), CUDA_SUCCESS);
      const HostTensor got = HostTensor::from_bytes(w.dtype, w.shape, got_bytes.data());
      for (int64_t i = 0; i < w.size(); ++i) {
        if (w.f[i] == got.f[i]) continue;  // infinities
        ASSERT_NEAR(got.f[i], w.f[i], tolerance * (1 + std::fabs(w.f[i]))) << "result " << k << " at " << i;
      }
    }
  }

  std::unique_ptr<CudaDevice> device;
  std::unique_ptr<CudaStream> stream;
  std::vector<std::string> said;

 private:
  CUdeviceptr put(const std::vector<std::byte>& bytes) {
    auto b = device->allocate(false, bytes.size() + 1, 256);
    EXPECT_TRUE(b.ok()) << b.error().message;
    buffers_.push_back(*std::move(b));
    const CUdeviceptr p = buffers_.back()->pointer;
    if (!bytes.empty()) {
      EXPECT_EQ(CUDA(cuMemcpyHtoD)(p, bytes.data(), bytes.size()), CUDA_SUCCESS);
    }
    return p;
  }
  std::vector<std::unique_ptr<CudaBuffer>> buffers_;
};

}  // namespace graphc::cuda
