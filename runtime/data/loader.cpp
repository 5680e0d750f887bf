#include "runtime/data/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <numeric>
#include <system_error>

#include "runtime/base/philox.h"

namespace graphc {

std::vector<int64_t> shuffled_order(int64_t n, uint64_t seed, int64_t epoch) {
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), int64_t{0});
  for (int64_t i = n - 1; i > 0; --i) {
    const PhiloxBlock b = philox4x32_10(
        {static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), static_cast<uint32_t>(epoch), 0x0da7a},
        {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
    // 64 random bits times (i + 1), top half: bias below 2^-31 for any data set
    const uint64_t bits = uint64_t{b[0]} << 32 | b[1];
    const auto j =
        static_cast<int64_t>(static_cast<unsigned __int128>(bits) * static_cast<uint64_t>(i + 1) >> 64);
    std::swap(order[i], order[j]);
  }
  return order;
}

BatchLoader::BatchLoader(std::shared_ptr<const Dataset> set, const LoaderOptions& options)
    : set_(std::move(set)), options_(options) {
  options_.batch = std::max<int64_t>(1, options_.batch);
  // A machine that gives no more threads still loads, between the steps.
  try {
    thread_ = std::thread([this] { work(); });
  } catch (const std::system_error&) {
  }
}

BatchLoader::~BatchLoader() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

int64_t BatchLoader::batches() const {
  const int64_t n = set_->size();
  return options_.drop_last ? n / options_.batch : (n + options_.batch - 1) / options_.batch;
}

void BatchLoader::start(int64_t epoch, int64_t first_batch) {
  std::vector<int64_t> order;
  if (options_.shuffle) order = shuffled_order(set_->size(), options_.seed, epoch);
  std::unique_lock lock(mutex_);
  end_ = made_;  // no new batch is begun; one may be under way
  changed_.wait(lock, [this] { return !filling_; });
  order_ = std::move(order);
  failed_ = false;
  made_ = taken_ = std::min(first_batch, batches());
  end_ = batches();
  lock.unlock();
  changed_.notify_all();
}

const Batch* BatchLoader::next() {
  std::unique_lock lock(mutex_);
  if (taken_ == end_) return nullptr;
  if (!thread_.joinable()) {
    failed_ = !fill(&slots_[taken_ % 3], taken_);
    made_ += failed_ ? 0 : 1;
  }
  changed_.wait(lock, [this] { return made_ > taken_ || failed_; });
  if (made_ == taken_) return nullptr;
  const Batch* b = &slots_[taken_ % 3];
  ++taken_;
  lock.unlock();
  changed_.notify_all();
  return b;
}

void BatchLoader::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    // A taken batch is in use until the next one is taken, so of three slots two may be ahead of it.
    changed_.wait(lock, [this] { return stop_ || (!failed_ && made_ < end_ && made_ - taken_ < 2); });
    if (stop_) return;
    const int64_t index = made_;
    Batch* b = &slots_[index % 3];
    filling_ = true;
    lock.unlock();  // start() waits for filling_, so the order stays
    const bool filled = fill(b, index);
    lock.lock();
    filling_ = false;
    if (filled)
      ++made_;
    else
      failed_ = true;
    changed_.notify_all();
  }
}

Status BatchLoader::status() const {
  std::lock_guard lock(mutex_);
  if (!failed_) return {};
  return Error{ErrorCode::kNoMemory,
               fmt::format("out of memory: no room for a batch of {} samples", options_.batch)};
}

bool BatchLoader::fill(Batch* b, int64_t index) const try {
  const int64_t first = index * options_.batch, n = std::min(options_.batch, set_->size() - first);
  const auto& fields = set_->fields();
  b->index = index;
  b->size = n;
  b->fields.resize(fields.size());
  for (size_t f = 0; f < fields.size(); ++f) b->fields[f].resize(static_cast<size_t>(n) * fields[f].bytes());
  std::vector<std::byte*> out(fields.size());
  for (int64_t i = 0; i < n; ++i) {
    for (size_t f = 0; f < fields.size(); ++f)
      out[f] = b->fields[f].data() + static_cast<size_t>(i) * fields[f].bytes();
    set_->read(order_.empty() ? first + i : order_[first + i], out);
  }
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

}  // namespace graphc
