#include "backends/registry.h"

#include <fmt/format.h>

#include <cstdlib>
#include <new>
#include <optional>

#include "runtime/base/thread_pool.h"

struct gc_error {
  int32_t code;
  std::string message;
};

namespace graphc {
namespace {

ErrorCode code_of(int32_t code) {
  switch (code) {
    case GC_CANCELLED: return ErrorCode::kCancelled;
    case GC_INVALID: return ErrorCode::kInvalid;
    case GC_NO_MEMORY: return ErrorCode::kNoMemory;
    case GC_UNIMPLEMENTED: return ErrorCode::kUnsupported;
    case GC_TIMEOUT:
    case GC_STALE:  // not this machine's
    case GC_DEVICE_LOST: return ErrorCode::kDevice;
    default: return ErrorCode::kInternal;
  }
}

// What error_new returns when even the error can't be allocated; take_error doesn't delete it.
gc_error* out_of_memory() {
  static gc_error e{GC_NO_MEMORY, "out of memory"};
  return &e;
}

gc_error* host_error_new(void*, int32_t code, const char* msg, size_t n) {
  try {
    return new gc_error{code, std::string(msg, n)};
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  }
}

void* host_alloc(void*, size_t size, size_t align) {
  if (align < sizeof(void*)) align = sizeof(void*);
  if ((align & (align - 1)) != 0) return nullptr;
  void* p = nullptr;
  return ::posix_memalign(&p, align, size ? size : 1) == 0 ? p : nullptr;
}
void host_free(void*, void* p, size_t) { std::free(p); }

gc_sink sink_to(std::string* out) {
  return {out, [](void* ctx, const void* p, size_t n) -> int32_t {
            static_cast<std::string*>(ctx)->append(static_cast<const char*>(p), n);
            return 0;
          }};
}

std::vector<gc_kv> to_kv(const Device::Options& options) {
  std::vector<gc_kv> kv;
  for (const auto& [k, v] : options) kv.push_back({k.c_str(), v.c_str()});
  return kv;
}

}  // namespace

Status take_error(gc_error* e, std::string_view backend, std::string_view what) {
  if (!e) return {};
  Error out{code_of(e->code), fmt::format("backend '{}': {}: {}", backend, what, e->message)};
  if (e->code == GC_STALE) out.message += "; compile the model again on this machine with this version";
  if (e != out_of_memory()) delete e;
  return out;
}

struct BackendRegistry::Host {
  HostOptions options;
  gc_host table{};

  explicit Host(HostOptions o) : options(std::move(o)) {
    table.struct_size = sizeof(gc_host);
    table.abi_major = GC_ABI_MAJOR;
    table.abi_minor = GC_ABI_MINOR;
    table.ctx = this;
    table.library_path = "";
    table.error_new = host_error_new;
    table.log = [](void* ctx, int32_t level, const char* msg, size_t n) {
      auto* self = static_cast<Host*>(ctx);
      if (self->options.log) self->options.log(level, std::string_view(msg, n));
    };
    table.alloc = host_alloc;
    table.free = host_free;
    table.parallel_for = [](void* ctx, int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t),
                            void* arg) {
      ThreadPool::c_parallel_for(static_cast<Host*>(ctx)->options.pool, n, grain, body, arg);
    };
  }
};

struct BackendRegistry::Plugin {
  std::shared_ptr<Host> host;
  const gc_plugin_api* api = nullptr;
  gc_plugin* raw = nullptr;  // created with the first device
  std::string name;
  std::vector<std::pair<std::string, std::weak_ptr<Device>>> devices;

  ~Plugin() {
    if (raw) api->destroy(raw);
  }
};

BackendRegistry::BackendRegistry(HostOptions options) : host_(std::make_shared<Host>(std::move(options))) {}
BackendRegistry::~BackendRegistry() = default;

Status BackendRegistry::add(const gc_plugin_api* api) {
  if (!api) return invalid("a backend refused this version of graphc");
  // The four leading fields are in every version; nothing else is read before the version is known.
  if (api->struct_size < offsetof(gc_plugin_api, create)) return invalid("a backend's table is too short");
  const std::string name = api->name ? api->name : "";
  if (name.empty()) return invalid("a backend has no name");
  if (api->abi_major != GC_ABI_MAJOR)
    return invalid(fmt::format("backend '{}' speaks ABI {}.{}, this graphc {}.{}: rebuild the backend", name,
                               api->abi_major, api->abi_minor, GC_ABI_MAJOR, GC_ABI_MINOR));
#define GC_REQUIRED(f)                           \
  if (!GC_HAS(gc_plugin_api, api, f) || !api->f) \
    return invalid(fmt::format("backend '{}' lacks the required function '{}'", name, #f));
  GC_REQUIRED(create)
  GC_REQUIRED(destroy)
  GC_REQUIRED(enumerate)
  GC_REQUIRED(open)
  GC_REQUIRED(close)
  GC_REQUIRED(buf_alloc)
  GC_REQUIRED(buf_free)
  GC_REQUIRED(copy)
  GC_REQUIRED(claim)
  GC_REQUIRED(compile)
  GC_REQUIRED(exec_destroy)
  GC_REQUIRED(exec_info)
  GC_REQUIRED(execute)
#undef GC_REQUIRED
  std::lock_guard lock(mutex_);
  for (const auto& p : plugins_)
    if (p->name == name) return invalid(fmt::format("there are two backends named '{}'", name));
  auto p = std::make_shared<Plugin>();
  p->host = host_;
  p->api = api;
  p->name = name;
  plugins_.push_back(std::move(p));
  return {};
}

std::vector<std::string> BackendRegistry::names() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (const auto& p : plugins_) out.push_back(p->name);
  return out;
}

Result<std::shared_ptr<BackendRegistry::Plugin>> BackendRegistry::created(std::string_view backend) {
  std::string known;
  for (const auto& p : plugins_) {
    known += (known.empty() ? "" : ", ") + p->name;
    if (p->name != backend) continue;
    if (!p->raw) {
      if (Status s = take_error(p->api->create(&host_->table, nullptr, 0, &p->raw), p->name, "create");
          !s.ok()) {
        p->raw = nullptr;
        return s.error();
      }
    }
    return p;
  }
  return invalid(
      fmt::format("there is no backend '{}'; this program has: {}", backend, known.empty() ? "none" : known));
}

Result<std::vector<DeviceInfo>> BackendRegistry::devices(std::string_view backend) {
  std::lock_guard lock(mutex_);
  GC_TRY(const std::shared_ptr<Plugin> p, created(backend));
  std::vector<DeviceInfo> out;
  const auto add = [](void* arg, const gc_device_info* info) {
    const auto text = [](const char* s) { return std::string(s ? s : ""); };
    static_cast<std::vector<DeviceInfo>*>(arg)->push_back(
        {text(info->id), text(info->name), text(info->arch), info->kind, info->memspaces});
  };
  GC_CHECK(take_error(p->api->enumerate(p->raw, add, &out), p->name, "enumerate"));
  return out;
}

Result<std::shared_ptr<Device>> BackendRegistry::device(std::string_view backend, std::string_view id) {
  GC_TRY(const std::vector<DeviceInfo> all, devices(backend));
  DeviceInfo wanted{.id = std::string(id), .name = {}, .arch = {}};
  for (const DeviceInfo& d : all)
    if (d.id == id || id.empty()) {
      wanted = d;
      break;
    }
  std::lock_guard lock(mutex_);
  GC_TRY(const std::shared_ptr<Plugin> p, created(backend));
  for (const auto& [known_id, device] : p->devices)
    if (known_id == wanted.id)
      if (auto alive = device.lock()) return alive;
  // Also where there is none of that id: the backend knows why.
  gc_device* raw = nullptr;
  const std::string what =
      wanted.id.empty() ? std::string("open a device") : fmt::format("open device '{}'", wanted.id);
  GC_CHECK(take_error(p->api->open(p->raw, wanted.id.c_str(), nullptr, 0, &raw), p->name, what));
  std::shared_ptr<Device> d(new Device(p, wanted, raw));
  std::erase_if(p->devices, [&](const auto& e) { return e.first == wanted.id; });
  p->devices.emplace_back(wanted.id, d);
  return d;
}

DeviceBuffer::~DeviceBuffer() {
  if (raw_) device_->api().buf_free(device_->raw(), raw_);
}
DeviceStream::~DeviceStream() {
  if (event_) device_->api().event_destroy(event_);
  if (raw_) device_->api().stream_destroy(raw_);
}
DeviceCapture::~DeviceCapture() {
  if (raw_) device_->capture_->destroy(raw_);
}
DeviceExec::~DeviceExec() {
  if (raw_) device_->api().exec_destroy(raw_);
}

Result<gc_exec_info> DeviceExec::info() const {
  gc_exec_info info{};
  info.struct_size = sizeof(info);
  GC_CHECK(take_error(device_->api().exec_info(raw_, &info), device_->backend(), "exec_info"));
  return info;
}

Result<uint64_t> DeviceExec::workspace_bytes(std::span<const int64_t> symbols) const {
  const gc_plugin_api& api = device_->api();
  if (!GC_HAS(gc_plugin_api, &api, exec_workspace) || !api.exec_workspace) {
    GC_TRY(const gc_exec_info i, info());
    return i.workspace_bytes;
  }
  uint64_t bytes = 0;
  GC_CHECK(take_error(api.exec_workspace(raw_, symbols.data(), symbols.size(), &bytes), device_->backend(),
                      "exec_workspace"));
  return bytes;
}

Result<std::string> DeviceExec::save() const {
  const gc_plugin_api& api = device_->api();
  if (!GC_HAS(gc_plugin_api, &api, exec_save) || !api.exec_save)
    return unsupported(fmt::format("backend '{}' can't save executables", device_->backend()));
  std::string out;
  const gc_sink sink = sink_to(&out);
  GC_CHECK(take_error(api.exec_save(raw_, &sink), device_->backend(), "save"));
  return out;
}

Status DeviceExec::execute(const gc_run& run) const {
  return take_error(device_->api().execute(raw_, nullptr, &run), device_->backend(), "execute");
}

Status DeviceStream::wait() {
  if (!raw_) return {};
  const gc_plugin_api& api = device_->api();
  GC_CHECK(take_error(api.event_record(event_, raw_), device_->backend(), "record an event"));
  return take_error(api.event_wait(event_, UINT64_MAX), device_->backend(), "wait");
}

Status DeviceCapture::launch(const DeviceStream& stream) const {
  return take_error(device_->capture_->launch(raw_, stream.raw()), device_->backend(),
                    "launch what was captured");
}

Device::Device(std::shared_ptr<BackendRegistry::Plugin> plugin, DeviceInfo info, gc_device* raw)
    : plugin_(std::move(plugin)), info_(std::move(info)), raw_(raw) {
  const gc_plugin_api& a = api();
  if (!GC_HAS(gc_plugin_api, &a, extension) || !a.extension) return;
  const auto* c = static_cast<const gc_ext_capture*>(a.extension(plugin_->raw, "graphc.capture", 1));
  if (c && GC_HAS(gc_ext_capture, c, destroy) && c->begin && c->end && c->launch && c->destroy) capture_ = c;
}

Device::~Device() {
  if (raw_) plugin_->api->close(raw_);
}
const std::string& Device::backend() const { return plugin_->name; }
const gc_plugin_api& Device::api() const { return *plugin_->api; }

Result<DeviceBuffer> Device::import_host(void* data, uint64_t size) {
  const gc_plugin_api& a = api();
  if (!GC_HAS(gc_plugin_api, &a, buf_import) || !a.buf_import)
    return unsupported(fmt::format("backend '{}' can't use host memory", backend()));
  gc_external e{};
  e.struct_size = sizeof(e);
  e.kind = GC_EXTERNAL_HOST;
  e.handle = data;
  e.size = size;
  gc_buffer* raw = nullptr;
  GC_CHECK(take_error(a.buf_import(raw_, &e, &raw), backend(), "import host memory"));
  return DeviceBuffer(shared_from_this(), raw);
}

namespace {
// `space` of buf_alloc: numbers of the bits GC_MEM_DEVICE and GC_MEM_PINNED
constexpr uint32_t kDeviceSpace = 1, kPinnedSpace = 2;
}  // namespace

Result<DeviceBuffer> Device::alloc(uint64_t size, uint64_t align) {
  gc_buffer* raw = nullptr;
  GC_CHECK(take_error(api().buf_alloc(raw_, kDeviceSpace, size, align, &raw), backend(),
                      fmt::format("allocate {} bytes", size)));
  return DeviceBuffer(shared_from_this(), raw);
}

Result<DeviceBuffer> Device::alloc_pinned(uint64_t size, std::byte** data) {
  const gc_plugin_api& a = api();
  if (!(info_.memspaces & GC_MEM_PINNED) || !GC_HAS(gc_plugin_api, &a, buf_export) || !a.buf_export)
    return unsupported(fmt::format("backend '{}' has no pinned memory", backend()));
  const std::string what = fmt::format("allocate {} bytes of pinned memory", size);
  gc_buffer* raw = nullptr;
  GC_CHECK(take_error(a.buf_alloc(raw_, kPinnedSpace, size, 64, &raw), backend(), what));
  DeviceBuffer buffer(shared_from_this(), raw);
  gc_external e{};
  e.struct_size = sizeof(e);
  e.kind = GC_EXTERNAL_HOST;
  GC_CHECK(take_error(a.buf_export(raw_, raw, &e), backend(), what));
  if (e.kind != GC_EXTERNAL_HOST || !e.handle)
    return internal_error(fmt::format("backend '{}': pinned memory has no address", backend()));
  *data = static_cast<std::byte*>(e.handle);
  return buffer;
}

Result<DeviceStream> Device::stream() {
  const gc_plugin_api& a = api();
  if (!GC_HAS(gc_plugin_api, &a, event_wait) || !a.stream_create) return DeviceStream();
  if (!a.stream_destroy || !a.event_create || !a.event_destroy || !a.event_record || !a.event_wait)
    return invalid(fmt::format("backend '{}' has streams but not all functions of events", backend()));
  gc_stream* raw = nullptr;
  GC_CHECK(take_error(a.stream_create(raw_, 0, &raw), backend(), "create a stream"));
  DeviceStream stream(shared_from_this(), raw);
  gc_event* event = nullptr;
  GC_CHECK(take_error(a.event_create(raw_, &event), backend(), "create an event"));
  stream.event_ = event;
  return stream;
}

Status Device::copy(const DeviceStream& stream, const gc_copy& copy) {
  return take_error(api().copy(raw_, stream.raw(), &copy), backend(), "copy");
}

Status Device::to_device(const DeviceStream& stream, const void* from, gc_buffer* to, uint64_t offset,
                         uint64_t size) {
  return copy(stream, {sizeof(gc_copy), nullptr, to, from, nullptr, 0, offset, size});
}

Status Device::to_host(const DeviceStream& stream, gc_buffer* from, uint64_t offset, void* to,
                       uint64_t size) {
  return copy(stream, {sizeof(gc_copy), from, nullptr, nullptr, to, offset, 0, size});
}

Status Device::begin_capture(const DeviceStream& stream) {
  return take_error(capture_->begin(stream.raw()), backend(), "begin a capture");
}

Result<DeviceCapture> Device::end_capture(const DeviceStream& stream) {
  gc_captured* raw = nullptr;
  GC_CHECK(take_error(capture_->end(stream.raw(), &raw), backend(), "end a capture"));
  return DeviceCapture(shared_from_this(), raw);
}

Status Device::claim(const gc_graph& graph, const ClaimFn& fn) {
  const auto cb = [](void* arg, const gc_claim* claim) { (*static_cast<const ClaimFn*>(arg))(*claim); };
  return take_error(api().claim(raw_, &graph, cb, const_cast<ClaimFn*>(&fn)), backend(), "claim");
}

Result<DeviceExec> Device::compile(const gc_graph& graph, const Options& options) {
  const std::vector<gc_kv> kv = to_kv(options);
  gc_exec* raw = nullptr;
  GC_CHECK(take_error(api().compile(raw_, &graph, kv.data(), kv.size(), &raw), backend(), "compile"));
  return DeviceExec(shared_from_this(), raw);
}

Result<std::string> Device::emit(const gc_graph& graph, const std::string& form) {
  const gc_plugin_api& a = api();
  const void* found = GC_HAS(gc_plugin_api, &a, extension) && a.extension
                          ? a.extension(plugin_->raw, "graphc.emit", 1)
                          : nullptr;
  const auto* ext = static_cast<const gc_ext_emit*>(found);
  const std::string forms = ext ? ext->forms : "";
  if (("," + forms + ",").find("," + form + ",") == std::string::npos)
    return Error{ErrorCode::kUsage, fmt::format("backend '{}' can't emit '{}'; it has: {}", backend(), form,
                                                forms.empty() ? "nothing" : forms)};
  std::string out;
  const gc_sink sink = sink_to(&out);
  GC_CHECK(take_error(ext->emit(raw_, &graph, form.c_str(), &sink), backend(), "emit"));
  return out;
}

Status Device::check(Bytes blob) {
  const gc_plugin_api& a = api();
  if (!GC_HAS(gc_plugin_api, &a, exec_check) || !a.exec_check) return {};
  return take_error(a.exec_check(raw_, {blob.data(), blob.size()}), backend(), "check an executable");
}

Result<DeviceExec> Device::load(Bytes blob, const gc_graph* weights) {
  const gc_plugin_api& a = api();
  if (!GC_HAS(gc_plugin_api, &a, exec_load) || !a.exec_load)
    return unsupported(fmt::format("backend '{}' can't load executables", backend()));
  gc_exec* raw = nullptr;
  GC_CHECK(take_error(a.exec_load(raw_, {blob.data(), blob.size()}, weights, &raw), backend(),
                      "load an executable"));
  return DeviceExec(shared_from_this(), raw);
}

void set_gc_dtype(gc_tensor* t, DType dtype) {
  t->dl_bits = static_cast<uint8_t>(8 * dtype_size(dtype));
  t->dl_lanes = 1;
  t->dl_code = dtype == DType::kBool   ? GC_DL_BOOL
               : dtype == DType::kBF16 ? GC_DL_BFLOAT
               : is_float(dtype)       ? GC_DL_FLOAT
               : is_signed_int(dtype)  ? GC_DL_INT
                                       : GC_DL_UINT;
}

std::optional<DType> gc_dtype(const gc_tensor& t) {
  for (int i = 0; i < kNumDTypes; ++i) {
    gc_tensor probe;
    set_gc_dtype(&probe, static_cast<DType>(i));
    if (probe.dl_code == t.dl_code && probe.dl_bits == t.dl_bits && probe.dl_lanes == t.dl_lanes)
      return static_cast<DType>(i);
  }
  return std::nullopt;
}

}  // namespace graphc
