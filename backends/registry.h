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
};

class BackendRegistry {
 public:
  explicit BackendRegistry(HostOptions options = {});
  ~BackendRegistry();

  // Checks version and required entries; a table of another major version is refused by name.
  Status add(const gc_plugin_api* api);
  std::vector<std::string> names() const;

  Result<std::vector<DeviceInfo>> devices(std::string_view backend);
  // The backend's first device (id ""), or the one of that id; opened once and shared.
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
  const gc_plugin_api& api() const;
  gc_device* raw() const { return raw_; }

  // Host memory as a buffer of the device, without a copy.
  Result<DeviceBuffer> import_host(void* data, uint64_t size);
  Result<DeviceBuffer> alloc(uint32_t space, uint64_t size, uint64_t align);

  Status claim(const gc_graph& graph, const ClaimFn& fn);
  Result<DeviceExec> compile(const gc_graph& graph, const Options& options = {});
  // What the graph is compiled to, as text in one of the backend's forms ("loops", "asm"); kUsage names those
  // it has.
  Result<std::string> emit(const gc_graph& graph, const std::string& form);
  Status check(Bytes blob);  // ok if the backend has no exec_check
  Result<DeviceExec> load(Bytes blob, const gc_graph* weights = nullptr);

 private:
  friend class BackendRegistry;
  Device(std::shared_ptr<BackendRegistry::Plugin> plugin, std::string id, gc_device* raw)
      : plugin_(std::move(plugin)), id_(std::move(id)), raw_(raw) {}
  std::shared_ptr<BackendRegistry::Plugin> plugin_;
  std::string id_;
  gc_device* raw_;
};

// DLPack's type of a dtype, for gc_tensor, and back; nothing for what we don't have.
void set_gc_dtype(gc_tensor* t, DType dtype);
std::optional<DType> gc_dtype(const gc_tensor& t);

}  // namespace graphc
