// The host's side of the plugin table: which backends there are, and C++ handles over the table's objects
// that turn gc_error into Result and destroy what they own.
//
//   BackendRegistry registry({.pool = &pool});
//   GC_CHECK(registry.add(reference_backend()));                  // const gc_plugin_api*, an explicit list
//   GC_TRY(std::shared_ptr<Device> cpu, registry.device("cpu"));
//   GC_TRY(DeviceExec e, cpu->load(blob));
//
// The registry and its devices are thread-safe as far as the backends are (the ABI asks for it). A Device
// keeps what it needs of its registry alive, a DeviceExec and a DeviceBuffer their Device.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/graphc_plugin.h"
#include "runtime/base/dtype.h"
#include "runtime/base/file.h"
#include "runtime/base/result.h"

namespace graphc {

class ThreadPool;
class Device;

struct HostOptions {
  ThreadPool* pool =
      nullptr;  // for gc_host.parallel_for; outlives the registry; null: the calling thread alone
  std::function<void(int level, std::string_view message)> log;
};

struct DeviceInfo {
  std::string id, name, arch;
  uint32_t kind = 0, memspaces = 0;  // GC_DEVICE_*; bits GC_MEM_*
};

class BackendRegistry {
 public:
  explicit BackendRegistry(HostOptions options = {});
  ~BackendRegistry();

  // Checks version and required entries; a table of another major version is refused by name.
  Status add(const gc_plugin_api* api);
  std::vector<std::string> names() const;

  Result<std::vector<DeviceInfo>> devices(std::string_view backend);
  // The backend's first device (id ""), or the one of that id; opened once and shared. Without a device the
  // error is the backend's reason.
  Result<std::shared_ptr<Device>> device(std::string_view backend, std::string_view id = {});

  struct Host;  // gc_host and its context
  struct Plugin;

 private:
  Result<std::shared_ptr<Plugin>> created(std::string_view backend);  // mutex_ is held
  std::shared_ptr<Host> host_;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Plugin>> plugins_;
};

// Takes ownership of e: ok if NULL, else an Error with `what` and the backend's name before its message.
Status take_error(gc_error* e, std::string_view backend, std::string_view what);

// Memory a device can see.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(std::shared_ptr<Device> device, gc_buffer* raw) : device_(std::move(device)), raw_(raw) {}
  DeviceBuffer(DeviceBuffer&& o) noexcept { swap(o); }
  DeviceBuffer& operator=(DeviceBuffer&& o) noexcept {
    DeviceBuffer t(std::move(o));
    swap(t);
    return *this;
  }
  ~DeviceBuffer();
  gc_buffer* raw() const { return raw_; }
  explicit operator bool() const { return raw_ != nullptr; }

 private:
  void swap(DeviceBuffer& o) noexcept { std::swap(device_, o.device_), std::swap(raw_, o.raw_); }
  std::shared_ptr<Device> device_;
  gc_buffer* raw_ = nullptr;
};

// An order of work on a device. A null one stands for a device that does everything at once.
class DeviceStream {
 public:
  DeviceStream() = default;
  DeviceStream(std::shared_ptr<Device> device, gc_stream* raw) : device_(std::move(device)), raw_(raw) {}
  DeviceStream(DeviceStream&& o) noexcept { swap(o); }
  DeviceStream& operator=(DeviceStream&& o) noexcept {
    DeviceStream t(std::move(o));
    swap(t);
    return *this;
  }
  ~DeviceStream();
  gc_stream* raw() const { return raw_; }
  explicit operator bool() const { return raw_ != nullptr; }

  // Until all that was put on the stream is done. An error of any of that comes out here, and the stream is
  // to be thrown away then.
  Status wait();

 private:
  friend class Device;
  void swap(DeviceStream& o) noexcept {
    std::swap(device_, o.device_), std::swap(raw_, o.raw_), std::swap(event_, o.event_);
  }
  std::shared_ptr<Device> device_;
  gc_stream* raw_ = nullptr;
  gc_event* event_ = nullptr;
};

// Work that a stream recorded, to be done again as one (the extension "graphc.capture").
class DeviceCapture {
 public:
  DeviceCapture() = default;
  DeviceCapture(std::shared_ptr<Device> device, gc_captured* raw) : device_(std::move(device)), raw_(raw) {}
  DeviceCapture(DeviceCapture&& o) noexcept { swap(o); }
  DeviceCapture& operator=(DeviceCapture&& o) noexcept {
    DeviceCapture t(std::move(o));
    swap(t);
    return *this;
  }
  ~DeviceCapture();
  explicit operator bool() const { return raw_ != nullptr; }
  Status launch(const DeviceStream& stream) const;

 private:
  void swap(DeviceCapture& o) noexcept { std::swap(device_, o.device_), std::swap(raw_, o.raw_); }
  std::shared_ptr<Device> device_;
  gc_captured* raw_ = nullptr;
};

// An executable; immutable, so execute may be called from several threads at a time.
class DeviceExec {
 public:
  DeviceExec() = default;
  DeviceExec(std::shared_ptr<Device> device, gc_exec* raw) : device_(std::move(device)), raw_(raw) {}
  DeviceExec(DeviceExec&& o) noexcept { swap(o); }
  DeviceExec& operator=(DeviceExec&& o) noexcept {
    DeviceExec t(std::move(o));
    swap(t);
    return *this;
  }
  ~DeviceExec();
  Device& device() const { return *device_; }
  gc_exec* raw() const { return raw_; }

  Result<gc_exec_info> info() const;
  // What an execute with these symbols needs: exec_workspace, or exec_info's figure where there is none.
  Result<uint64_t> workspace_bytes(std::span<const int64_t> symbols) const;
  Result<std::string> save() const;
  Status execute(const gc_run& run) const;

 private:
  void swap(DeviceExec& o) noexcept { std::swap(device_, o.device_), std::swap(raw_, o.raw_); }
  std::shared_ptr<Device> device_;
  gc_exec* raw_ = nullptr;
};

class Device : public std::enable_shared_from_this<Device> {
 public:
  using Options = std::vector<std::pair<std::string, std::string>>;
  using ClaimFn = std::function<void(const gc_claim&)>;  // the claim lives until it returns

  ~Device();
  const std::string& backend() const;
  const DeviceInfo& info() const { return info_; }
  const gc_plugin_api& api() const;
  gc_device* raw() const { return raw_; }
  // It computes on host memory; otherwise data is copied to memory of its own and back.
  bool uses_host_memory() const { return (info_.memspaces & GC_MEM_HOST) != 0; }

  // Host memory as a buffer of the device, without a copy.
  Result<DeviceBuffer> import_host(void* data, uint64_t size);
  // Memory of its own.
  Result<DeviceBuffer> alloc(uint64_t size, uint64_t align);
  // Host memory that is fast to copy from and to, for devices with GC_MEM_PINNED; *data: where it lies.
  Result<DeviceBuffer> alloc_pinned(uint64_t size, std::byte** data);

  // A new stream; null if the device has none.
  Result<DeviceStream> stream();
  // In the order of the stream; with a null one, done when it returns (gc_plugin_api.copy).
  Status copy(const DeviceStream& stream, const gc_copy& copy);
  Status to_device(const DeviceStream& stream, const void* from, gc_buffer* to, uint64_t offset,
                   uint64_t size);
  Status to_host(const DeviceStream& stream, gc_buffer* from, uint64_t offset, void* to, uint64_t size);

  // Recording what is put on a stream (gc_ext_capture). kUnsupported: run it plainly.
  bool can_capture() const { return capture_ != nullptr; }
  Status begin_capture(const DeviceStream& stream);
  Result<DeviceCapture> end_capture(const DeviceStream& stream);

  Status claim(const gc_graph& graph, const ClaimFn& fn);
  Result<DeviceExec> compile(const gc_graph& graph, const Options& options = {});
  // What the graph is compiled to, as text in one of the backend's forms ("loops", "asm"); kUsage names those
  // it has.
  Result<std::string> emit(const gc_graph& graph, const std::string& form);
  Status check(Bytes blob);  // ok if the backend has no exec_check
  Result<DeviceExec> load(Bytes blob, const gc_graph* weights = nullptr);

 private:
  friend class BackendRegistry;
  friend class DeviceCapture;
  Device(std::shared_ptr<BackendRegistry::Plugin> plugin, DeviceInfo info, gc_device* raw);
  std::shared_ptr<BackendRegistry::Plugin> plugin_;
  DeviceInfo info_;
  gc_device* raw_;
  const gc_ext_capture* capture_ = nullptr;
};

// DLPack's type of a dtype, for gc_tensor, and back; nothing for what we don't have.
void set_gc_dtype(gc_tensor* t, DType dtype);
std::optional<DType> gc_dtype(const gc_tensor& t);

}  // namespace graphc
