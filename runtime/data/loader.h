// Batches of a data set, made by a background thread while the caller computes.
//
//   BatchLoader loader(set, {.batch = 64, .shuffle = true, .seed = 0});
//   loader.start(/*epoch=*/0, /*first_batch=*/0);
//   while (const Batch* b = loader.next()) use(*b);        // b is valid until the next call
//
// The order of an epoch is a pure function of (seed, epoch, number of samples), so a run continued at a batch
// sees what an uninterrupted one sees.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/data/dataset.h"

namespace graphc {

struct Batch {
  int64_t index = 0;  // in its epoch
  int64_t size = 0;   // samples; the last batch of an epoch may be smaller
  std::vector<std::vector<std::byte>> fields;
};

struct LoaderOptions {
  int64_t batch = 64;
  bool shuffle = false;
  bool drop_last = false;
  uint64_t seed = 0;
};

class BatchLoader {
 public:
  BatchLoader(std::shared_ptr<const Dataset> set, const LoaderOptions& options);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  const Dataset& set() const { return *set_; }
  int64_t batches() const;  // an epoch

  void start(int64_t epoch, int64_t first_batch = 0);
  const Batch* next();    // null at the end of the epoch, or if there is no memory for a batch
  Status status() const;  // which of the two

 private:
  void work();
  bool fill(Batch* b, int64_t index) const;  // false: out of memory

  std::shared_ptr<const Dataset> set_;
  LoaderOptions options_;
  std::vector<int64_t> order_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Slot i % 3 holds batch i; made_ runs at most two ahead of taken_, so the caller's batch is never
  // overwritten.
  Batch slots_[3];
  int64_t made_ = 0, taken_ = 0, end_ = 0;
  bool filling_ = false, stop_ = false, failed_ = false;
  std::thread thread_;
};

// The order of the samples of an epoch: Fisher-Yates with Philox(seed, epoch).
std::vector<int64_t> shuffled_order(int64_t n, uint64_t seed, int64_t epoch);

}  // namespace graphc
