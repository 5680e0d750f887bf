// A card, opened: its primary context (shared with whoever else uses the card in this process), memory,
// streams and events, and what went wrong. Or, without a card, a target that is only compiled for.
//
// Errors of kernels come out later than the call that started them. Two kinds:
//   * an index outside of its table is written into an ErrorRecord by a kernel (check_index.cuh); whoever
//   waits for the
//     stream reads it there: the stream's results are of no use, everything else goes on;
//   * an illegal access or a failed launch ends the context: it is reported once as what it is, and from then
//   on every
//     call says that the card is lost to this process.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "backends/cuda/exec/driver.h"

namespace graphc {

class CudaDevice;

// The first bad index of a stream: a kernel writes what it is, where the host can read it.
class ErrorRecord {
 public:
  static Result<std::shared_ptr<ErrorRecord>> create(CudaDevice& device);
  ~ErrorRecord();
  CUdeviceptr device_pointer() const { return pointer_; }
  // For a host that has waited for the stream: the error, which is forgotten then.
  Status take();

  // as check_index.cuh fills it in
  struct Entry {
    int64_t op;  // number of the op's name + 1 (CudaDevice::name_number); 0: no error
    int64_t index, size;
  };

 private:
  explicit ErrorRecord(CudaDevice& device) : device_(device) {}
  CudaDevice& device_;
  Entry* entry_ = nullptr;
  CUdeviceptr pointer_ = 0;
};

struct CudaStream {
  CudaDevice& device;
  CUstream raw = nullptr;
  std::atomic<bool> capturing{false};
  // Its own, and those of what was captured on other streams and launched on this one.
  std::vector<std::shared_ptr<ErrorRecord>> records;
};

struct CudaBuffer {
  CUdeviceptr pointer = 0;  // device memory, or pinned memory as the device sees it
  uint64_t size = 0;
  CUdeviceptr allocated = 0;  // what to free; 0: imported
  void* pinned = nullptr;     // of the host
};

class CudaDevice {
 public:
  static Result<std::unique_ptr<CudaDevice>> open_card(std::shared_ptr<const CudaDriver> driver,
                                                       const CudaCard& card);
  // `why_no_card`: what calls that need one answer.
  static std::unique_ptr<CudaDevice> open_target(std::string target, std::string why_no_card);
  ~CudaDevice();

  bool has_card() const { return driver_ != nullptr; }
  const CudaDriver& driver() const { return *driver_; }
  const CudaCard& card() const { return card_; }
  // What it compiles for by default: "sm_90a", "h200".
  const std::string& target() const { return target_; }

  // Makes the context current. kDevice: there is no card, or it is lost.
  Status enter();
  // The same for what gives something back, which goes on after a failure.
  void enter_anyway() { driver_->context_set(context_); }
  // The error of a driver's function, with `what` before it; notes a lost card.
  Status check(CUresult r, std::string_view what);

  // space: the bit number of GC_MEM_DEVICE or GC_MEM_PINNED
  Result<std::unique_ptr<CudaBuffer>> allocate(bool pinned, uint64_t size, uint64_t align);
  void release(CudaBuffer& buffer);
  Status memory_info(uint64_t* free_bytes, uint64_t* peak_bytes);

  Result<std::unique_ptr<CudaStream>> create_stream(int priority);
  void destroy(CudaStream& stream);
  // The stream of calls that name none; made when first needed.
  Result<CudaStream*> own_stream();
  // Until all that is on any of its streams is done, but for those that record.
  Status wait_for_streams();
  // Until all that is on it is done; with the errors of that.
  Status wait(CudaStream& stream);
  Status take_errors(const std::vector<std::shared_ptr<ErrorRecord>>& records);

  // What a library keeps for this card (its handle), by the library's name: made when first asked for, with
  // the context current. What it was that couldn't be made is kept as well.
  template <class T>
  Result<std::shared_ptr<T>> library(const std::string& name,
                                     const std::function<Result<std::shared_ptr<T>>()>& make) {
    const std::lock_guard guard(libraries_mutex_);
    auto it = libraries_.find(name);
    if (it == libraries_.end()) {
      const auto made = make();
      it = libraries_.emplace(name, made.ok() ? Result<std::shared_ptr<const void>>(*made) : made.error())
               .first;
    }
    if (!it->second.ok()) return it->second.error();
    return std::const_pointer_cast<T>(std::static_pointer_cast<const T>(*it->second));
  }
  // Takes lines of information; may be empty.
  std::function<void(const std::string&)> log;
  // True the first time that a line is given.
  bool is_news(const std::string& line);

  // Names of ops in errors, as numbers that fit into a record.
  int64_t name_number(const std::string& name);
  std::string name(int64_t number);

 private:
  CudaDevice() = default;
  std::shared_ptr<const CudaDriver> driver_;
  CudaCard card_;
  std::string target_, why_no_card_;
  CUdevice ordinal_ = 0;
  CUcontext context_ = nullptr;
  std::mutex mutex_;  // of what follows
  std::string lost_;  // why the card is lost
  std::vector<std::string> names_;
  std::unique_ptr<CudaStream> own_stream_;
  std::vector<CudaStream*> streams_;
  std::set<std::string> said_;
  std::mutex libraries_mutex_;
  std::map<std::string, Result<std::shared_ptr<const void>>> libraries_;
  std::atomic<bool> is_lost_{false};
  std::atomic<uint64_t> allocated_{0}, peak_{0};
};

}  // namespace graphc
