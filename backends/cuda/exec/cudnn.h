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

}  // namespace graphc
