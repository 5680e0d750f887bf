// cuBLASLt, opened at run time: matrix products (cublaslt_call.h) on a card.
//
//   GC_TRY(auto lt, CublasLt::create(CudaLibraries::get()));      // with the card's context current
//   CublasLtMatmul product(lt, call);
//   GC_CHECK(product.run(stream, buffers, sizes, workspace, workspace_bytes));
//
// An algorithm is chosen when sizes and alignments of pointers are first seen, and kept: cuBLASLt's first
// suggestion among those that
//   * compute f32 in f32: the compute type is the pedantic one ("standard arithmetic and exact specified
//   internal storage
//     format", cublas_api.h), and algorithms are limited to f32 inputs (no TF32, no bf16x9) and accumulators;
//   * accumulate f16 and bf16 in f32, and add partial sums up in that type too (no other reduction scheme);
//   * fit the workspace.
// All of these give the same bits on every run on one kind of card.
#pragma once

#include <cublasLt.h>
#include <cuda.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "backends/cuda/exec/cublaslt_call.h"
#include "backends/cuda/exec/libraries.h"

namespace graphc {

// The library's functions and a handle, for one card.
class CublasLt {
 public:
  // kUnsupported with the reason: the library isn't there, is too old, or doesn't start.
  static Result<std::shared_ptr<const CublasLt>> create(const CudaLibraries& libraries);
  ~CublasLt();

  decltype(&::cublasLtCreate) create_handle = nullptr;
  decltype(&::cublasLtDestroy) destroy_handle = nullptr;
  decltype(&::cublasLtGetStatusName) status_name = nullptr;
  decltype(&::cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&::cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&::cublasLtMatrixLayoutSetAttribute) layout_set = nullptr;
  decltype(&::cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&::cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&::cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&::cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&::cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&::cublasLtMatmul) matmul = nullptr;
  cublasLtHandle_t handle = nullptr;
};

class CublasLtMatmul {
 public:
  CublasLtMatmul(std::shared_ptr<const CublasLt> lt, CublasLtCall call) : lt_(std::move(lt)), call_(call) {}

  // Puts the product on the stream; allocates no device memory and waits for nothing. buffers and sizes as
  // the call numbers them. kUnsupported with the reason: cuBLASLt can't do it for these sizes or buffers (a
  // sum of no products, a result in the place of an operand, no algorithm). Thread-safe.
  Status run(CUstream stream, std::span<const CUdeviceptr> buffers, std::span<const int64_t> sizes,
             CUdeviceptr workspace, uint64_t workspace_bytes) const;
  // What run would say, for buffers aligned to 256 bytes.
  Status prepare(std::span<const int64_t> sizes, uint64_t workspace_bytes) const;

  const CublasLtCall& call() const { return call_; }
  // How often cuBLASLt was asked for an algorithm.
  int searches() const { return searches_; }

 private:
  struct Pointers {
    void *a = nullptr, *b = nullptr, *c = nullptr, *d = nullptr, *bias = nullptr, *aux = nullptr;
  };
  struct Plan;
  Result<Pointers> pointers(std::span<const CUdeviceptr> buffers, std::span<const int64_t> sizes) const;
  Status describe(cublasLtMatmulDesc_t desc, const Pointers& p, std::span<const int64_t> sizes) const;
  Result<std::shared_ptr<const Plan>> plan(const Pointers& p, std::span<const int64_t> sizes,
                                           uint64_t workspace_bytes) const;
  Result<std::shared_ptr<const Plan>> search(const Pointers& p, std::span<const int64_t> sizes,
                                             uint64_t workspace_bytes) const;
  Status check(cublasStatus_t s, std::string_view what) const;

  std::shared_ptr<const CublasLt> lt_;
  CublasLtCall call_;
  mutable std::mutex mutex_;  // of plans_
  mutable std::map<std::vector<int64_t>, Result<std::shared_ptr<const Plan>>> plans_;
  mutable std::atomic<int> searches_{0};
};

}  // namespace graphc
