// cuDNN's backend API: from an operation graph (cudnn_graph.h) to a plan for one card, and its execution on a
// stream.
//
//   GC_TRY(auto cudnn, Cudnn::open(CudaLibraries::get(), {.arch = "sm_90a", ..}, DiskCache::of_user(), log));
//   GC_TRY(auto plan, cudnn->plan(bound_graph, 64 << 20));
//   GC_CHECK(cudnn->execute(*plan, stream, buffers, workspace));
//
// Engines are tried as cuDNN's heuristics order them, and the first is taken that
//   * gives the same bits on every run, converts no input to a smaller type, and adds up in full precision;
//   * for f32 arithmetic without TF32, uses no tensor cores, no FFT, and no Winograd tiles beyond 4x4;
//   * fits the workspace.
// Its list of fallback engines isn't asked for: our own kernels are the fallback.
// Finished plans are kept on disk, by graph, architecture and number of multiprocessors; one made by another
// cuDNN or for another driver, or that cuDNN doesn't take back, is made again, and said so.
//
// A plan needs no card: with the properties of one as JSON (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION) and
// any libcuda.so.1 that answers, cuDNN makes it. That is how plans are tested.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/exec/cudnn_graph.h"
#include "backends/cuda/exec/libraries.h"
#include "runtime/base/disk_cache.h"
#include "runtime/base/result.h"

namespace graphc {

struct CudnnApi;

struct CudnnDevice {
  std::string arch;  // "sm_90a"
  int multiprocessors = 0;
  int number = 0;          // CUDA's number of the card
  std::string properties;  // of a card that isn't there, as JSON; number doesn't count then
};

// For one graph, one card and one cuDNN. Immutable.
class CudnnPlan {
 public:
  uint64_t workspace_bytes() const { return workspace_bytes_; }
  // "engine 39 of 11 tried, winograd": which of cuDNN's ways it is.
  const std::string& engine() const { return engine_; }
  // What another process can make the plan of, with the same cuDNN, driver and kind of card.
  const std::string& serialised() const { return serialised_; }
  bool from_disk() const { return from_disk_; }
  // cuDNN was told of buffers that begin at multiples of 16 bytes.
  static bool accepts(std::span<const uint64_t> buffers);

 private:
  friend class Cudnn;
  std::shared_ptr<void> plan_;
  std::vector<std::pair<int64_t, int>> ids_;  // cuDNN's number of a tensor, its buffer
  uint64_t workspace_bytes_ = 0;
  std::string engine_, serialised_;
  bool from_disk_ = false;
};

// An engine's configuration that wasn't taken, for tests and `graphc explain`.
struct CudnnTrial {
  int64_t engine = 0;
  std::string notes;    // "tensor_core, winograd"
  std::string refused;  // why; empty: taken
  uint64_t workspace_bytes = 0;
};

class Cudnn {
 public:
  using Log = std::function<void(std::string_view)>;

  // kUnsupported with the reason without cuDNN, or with one before 9.8. `cache` may be null.
  static Result<std::shared_ptr<Cudnn>> open(const CudaLibraries& libraries, CudnnDevice device,
                                             const DiskCache* cache, Log log);
  ~Cudnn();
  Cudnn(const Cudnn&) = delete;

  // `graph` is bound (CudnnGraph::bind). kUnsupported with what was tried if no engine does it. A context of
  // the card must be current. Thread-safe.
  Result<std::shared_ptr<const CudnnPlan>> plan(const CudnnGraph& graph, uint64_t workspace_limit);
  // One pointer per buffer of the call. Thread-safe; may be captured.
  Status execute(const CudnnPlan& plan, void* stream, std::span<const uint64_t> buffers, uint64_t workspace);

  // Every engine for the graph, as plan() sees it; all are tried.
  Result<std::vector<CudnnTrial>> trials(const CudnnGraph& graph, uint64_t workspace_limit);
  // The plan of CudnnPlan::serialised.
  Result<std::shared_ptr<const CudnnPlan>> restore(const CudnnGraph& graph, std::string_view serialised);
  const std::string& version() const { return version_; }

 private:
  Cudnn() = default;
  struct Built;
  Result<Built> build(const CudnnGraph& graph);
  Result<std::shared_ptr<CudnnPlan>> search(const CudnnGraph& graph, uint64_t workspace_limit,
                                            std::vector<CudnnTrial>& trials, bool all);

  std::unique_ptr<CudnnApi> api_;
  CudnnDevice device_;
  const DiskCache* cache_ = nullptr;
  Log log_;
  std::string version_, driver_;
  std::shared_ptr<void> properties_;
  std::mutex handle_mutex_;
  void* handle_ = nullptr;
};

// A library call to cuDNN (KernelBlob::LibraryCall): its graph, and a plan for each of its sizes that was
// seen.
//
//   GC_TRY(auto call, CudnnCall::create(cudnn, blob_call.call, num_sizes, num_buffers));
//   GC_CHECK(call->run(stream, buffers, sizes, workspace, workspace_bytes));
class CudnnCall {
 public:
  static Result<std::unique_ptr<CudnnCall>> create(std::shared_ptr<Cudnn> cudnn, std::string_view text,
                                                   size_t num_sizes, size_t num_buffers);

  // Puts it on the stream; allocates no device memory and waits for nothing, so that it can be captured. The
  // first run of sizes makes their plan: milliseconds, or seconds where cuDNN compiles. kUnsupported with the
  // reason: cuDNN can't do it for these sizes or buffers (none elements, no engine, a buffer that doesn't
  // begin at a multiple of 16 bytes, a result in the place of an operand other than the residual).
  // Thread-safe.
  Status run(void* stream, std::span<const uint64_t> buffers, std::span<const int64_t> sizes,
             uint64_t workspace, uint64_t workspace_bytes) const;
  // What run would say of the sizes; makes their plan.
  Status prepare(std::span<const int64_t> sizes, uint64_t workspace_bytes) const;
  // The plan that prepare made.
  Result<std::shared_ptr<const CudnnPlan>> plan(std::span<const int64_t> sizes,
                                                uint64_t workspace_bytes) const;

 private:
  CudnnCall(std::shared_ptr<Cudnn> cudnn, CudnnGraph graph)
      : cudnn_(std::move(cudnn)), graph_(std::move(graph)) {}
  std::shared_ptr<Cudnn> cudnn_;
  CudnnGraph graph_;
  mutable std::mutex mutex_;  // of plans_
  mutable std::map<std::vector<int64_t>, Result<std::shared_ptr<const CudnnPlan>>> plans_;
};

}  // namespace graphc
