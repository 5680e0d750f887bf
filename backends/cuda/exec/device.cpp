#include "backends/cuda/exec/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace graphc {
namespace {

constexpr uint64_t kAlign = 256;  // of what the driver allocates

}  // namespace

Result<std::shared_ptr<ErrorRecord>> ErrorRecord::create(CudaDevice& device) {
  const CudaDriver& cuda = device.driver();
  std::shared_ptr<ErrorRecord> r(new ErrorRecord(device));
  void* p = nullptr;
  GC_CHECK(
      device.check(cuda.host_alloc(&p, sizeof(Entry), CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_PORTABLE),
                   "memory for errors"));
  r->entry_ = static_cast<Entry*>(p);
  *r->entry_ = {};
  GC_CHECK(device.check(cuda.host_pointer(&r->pointer_, p, 0), "memory for errors"));
  return r;
}

ErrorRecord::~ErrorRecord() {
  if (!entry_) return;
  device_.enter_anyway();
  device_.driver().host_free(entry_);
}

Status ErrorRecord::take() {
  if (entry_->op == 0) return {};
  const Entry e = *entry_;
  entry_->op = 0;
  return invalid(fmt::format("{}: index {} is outside 0..{}", device_.name(e.op - 1), e.index, e.size - 1));
}

Result<std::unique_ptr<CudaDevice>> CudaDevice::open_card(std::shared_ptr<const CudaDriver> driver,
                                                          const CudaCard& card) {
  std::unique_ptr<CudaDevice> d(new CudaDevice);
  d->card_ = card;
  d->target_ = card.arch;
  GC_CHECK(driver->check(driver->device_get(&d->ordinal_, std::atoi(card.id.c_str())), "opening the card"));
  CUcontext context = nullptr;
  GC_CHECK(driver->check(driver->context_retain(&context, d->ordinal_),
                         fmt::format("a context on {} (cuda:{})", card.name, card.id)));
  d->context_ = context;
  d->driver_ = std::move(driver);
  GC_CHECK(d->enter());
  return d;
}

std::unique_ptr<CudaDevice> CudaDevice::open_target(std::string target, std::string why_no_card) {
  std::unique_ptr<CudaDevice> d(new CudaDevice);
  d->target_ = std::move(target);
  d->why_no_card_ = std::move(why_no_card);
  return d;
}

CudaDevice::~CudaDevice() {
  if (context_) enter_anyway();
  libraries_.clear();
  if (own_stream_) destroy(*own_stream_);
  own_stream_.reset();
  if (context_) driver_->context_release(ordinal_);
}

bool CudaDevice::is_news(const std::string& line) {
  const std::lock_guard guard(mutex_);
  return said_.insert(line).second;
}

Status CudaDevice::enter() {
  if (!driver_)
    return Error{ErrorCode::kDevice,
                 fmt::format("'{}' is a target to compile for and no card: {}", target_, why_no_card_)};
  if (is_lost_) {
    const std::lock_guard guard(mutex_);
    return Error{
        ErrorCode::kDevice,
        fmt::format("{} (cuda:{}) is lost to this process since a kernel failed ({}); start it again",
                    card_.name, card_.id, lost_)};
  }
  return check(driver_->context_set(context_), "the card's context");
}

Status CudaDevice::check(CUresult r, std::string_view what) {
  if (r == CUDA_SUCCESS) return {};
  if (!CudaDriver::is_sticky(r)) return driver_->check(r, what);
  const std::lock_guard guard(mutex_);
  // Said once as what it is; after that it is the card that is lost.
  if (!is_lost_) {
    lost_ = driver_->describe(r);
    is_lost_ = true;
    return Error{ErrorCode::kDevice,
                 fmt::format("a kernel failed on {} (cuda:{}): {}", card_.name, card_.id, lost_)};
  }
  return Error{ErrorCode::kDevice, fmt::format("{}: {}", what, lost_)};
}

Result<std::unique_ptr<CudaBuffer>> CudaDevice::allocate(bool pinned, uint64_t size, uint64_t align) {
  GC_CHECK(enter());
  if ((align & (align - 1)) != 0) return invalid("an alignment is a power of two");
  auto b = std::make_unique<CudaBuffer>();
  b->size = size;
  const uint64_t extra = align > kAlign ? align - kAlign : 0, bytes = std::max<uint64_t>(size, 1) + extra;
  if (bytes < size) return invalid("an allocation of more than 2^64 bytes");
  if (pinned) {
    if (extra) return invalid(fmt::format("pinned memory is aligned to {} bytes at most", kAlign));
    void* p = nullptr;
    const CUresult r = driver_->host_alloc(&p, bytes, CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_PORTABLE);
    GC_CHECK(check(r, fmt::format("{} bytes of pinned host memory", size)));
    if (Status s = check(driver_->host_pointer(&b->pointer, p, 0), "pinned host memory"); !s.ok()) {
      driver_->host_free(p);
      return s.error();
    }
    b->pinned = p;
    return b;
  }
  const CUresult r = driver_->mem_alloc(&b->allocated, bytes);
  if (r == CUDA_ERROR_OUT_OF_MEMORY) {
    size_t free_bytes = 0, total = 0;
    if (driver_->mem_info(&free_bytes, &total) != CUDA_SUCCESS) free_bytes = total = 0;
    return Error{
        ErrorCode::kNoMemory,
        fmt::format(
            "out of memory on {} (cuda:{}): {} bytes were asked for, {} of {} are free; {} are in use here",
            card_.name, card_.id, size, free_bytes, total, allocated_.load())};
  }
  GC_CHECK(check(r, fmt::format("{} bytes of device memory", size)));
  b->pointer = (b->allocated + align - 1) / std::max<uint64_t>(align, 1) * std::max<uint64_t>(align, 1);
  const uint64_t now = allocated_ += size;
  for (uint64_t peak = peak_; now > peak && !peak_.compare_exchange_weak(peak, now);) {
  }
  return b;
}

// What fails here fails because the card is lost, which others say.
void CudaDevice::release(CudaBuffer& b) {
  if (!driver_) return;
  enter_anyway();
  if (b.pinned) driver_->host_free(b.pinned);
  if (b.allocated) {
    driver_->mem_free(b.allocated);
    allocated_ -= b.size;
  }
}

Status CudaDevice::memory_info(uint64_t* free_bytes, uint64_t* peak_bytes) {
  GC_CHECK(enter());
  size_t free_now = 0, total = 0;
  GC_CHECK(check(driver_->mem_info(&free_now, &total), "the card's memory"));
  *free_bytes = free_now;
  *peak_bytes = peak_;
  return {};
}

Result<std::unique_ptr<CudaStream>> CudaDevice::create_stream(int priority) {
  GC_CHECK(enter());
  std::unique_ptr<CudaStream> s(new CudaStream{.device = *this});
  GC_TRY(std::shared_ptr<ErrorRecord> record, ErrorRecord::create(*this));
  s->records.push_back(std::move(record));
  GC_CHECK(check(driver_->stream_create(&s->raw, CU_STREAM_NON_BLOCKING, priority), "a stream"));
  const std::lock_guard guard(mutex_);
  streams_.push_back(s.get());
  return s;
}

void CudaDevice::destroy(CudaStream& s) {
  enter_anyway();
  {
    const std::lock_guard guard(mutex_);
    std::erase(streams_, &s);
  }
  // The kernels that are still to run write into its records.
  driver_->stream_synchronize(s.raw);
  driver_->stream_destroy(s.raw);
}

Result<CudaStream*> CudaDevice::own_stream() {
  GC_CHECK(enter());
  {
    const std::lock_guard guard(mutex_);
    if (own_stream_) return own_stream_.get();
  }
  GC_TRY(std::unique_ptr<CudaStream> s, create_stream(0));
  {
    const std::lock_guard guard(mutex_);
    if (!own_stream_) own_stream_ = std::move(s);
  }
  if (s) destroy(*s);  // another thread was faster
  return own_stream_.get();
}

Status CudaDevice::take_errors(const std::vector<std::shared_ptr<ErrorRecord>>& records) {
  Status first;
  for (const auto& r : records)
    if (Status s = r->take(); !s.ok() && first.ok()) first = std::move(s);
  return first;
}

Status CudaDevice::wait_for_streams() {
  GC_CHECK(enter());
  std::vector<CUstream> all;
  {
    const std::lock_guard guard(mutex_);
    for (const CudaStream* s : streams_)
      if (!s->capturing) all.push_back(s->raw);
  }
  for (const CUstream s : all) GC_CHECK(check(driver_->stream_synchronize(s), "waiting for the card"));
  return {};
}

Status CudaDevice::wait(CudaStream& s) {
  GC_CHECK(check(driver_->stream_synchronize(s.raw), "waiting for the card"));
  return take_errors(s.records);
}

int64_t CudaDevice::name_number(const std::string& name) {
  const std::lock_guard guard(mutex_);
  const auto it = std::find(names_.begin(), names_.end(), name);
  if (it != names_.end()) return it - names_.begin();
  names_.push_back(name);
  return static_cast<int64_t>(names_.size()) - 1;
}

std::string CudaDevice::name(int64_t number) {
  const std::lock_guard guard(mutex_);
  return number >= 0 && static_cast<size_t>(number) < names_.size() ? names_[static_cast<size_t>(number)]
                                                                    : "?";
}

}  // namespace graphc
