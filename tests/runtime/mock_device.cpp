#include "tests/runtime/mock_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "backends/registry.h"
#include "tests/runtime/count_allocations.h"
#include "tests/runtime/fake_backend.h"

namespace graphc::mock {
namespace {

std::recursive_mutex mutex;
State the_state;

struct Plugin {
  const gc_host* host;
};
struct Buffer {
  std::vector<char> own;
  char* data = nullptr;  // own, or imported
  uint64_t size = 0;
  bool pinned = false;
};
struct Op {
  std::function<std::string()> run;  // "" or what went wrong
  std::vector<uint64_t> buffers;     // it uses
};
struct Device;
struct Stream {
  Device* device;
  std::deque<Op> ops;
  std::string error;  // all after it is dropped
  bool recording = false;
  std::vector<Op> recorded;
};
struct Device {
  const gc_host* host;
  std::string id;
  std::map<uint64_t, Buffer> buffers;
  std::vector<Stream*> streams;
  std::vector<struct Captured*> captures;
};
struct Event {
  Device* device;
  Stream* stream = nullptr;
};
struct Captured {
  Device* device;
  std::vector<Op> ops;
};
struct Exec {
  Device* device;
  std::shared_ptr<gc_exec> kernel;
};

uint64_t next_buffer = 1;
// No address: a pointer with these bits can't be followed.
constexpr uint64_t kHandle = 0xb000000000000000;
uint64_t number(gc_buffer* b) { return reinterpret_cast<uint64_t>(b) - kHandle; }
gc_buffer* handle(uint64_t n) { return reinterpret_cast<gc_buffer*>(n + kHandle); }

template <class T, class H>
T& of(H* h) {
  return *reinterpret_cast<T*>(h);
}

// What every function of the table begins with.
struct Call {
  Uncounted uncounted;
  std::lock_guard<std::recursive_mutex> lock{mutex};
};

void misuse(std::string text) { the_state.misuse.push_back(std::move(text)); }

bool fails(Point p) {
  ++the_state.calls[p];
  return the_state.fail_in[p] > 0 && --the_state.fail_in[p] == 0;
}
gc_error* fault(const gc_host* h, std::string_view what) {
  return fake::error(h, GC_NO_MEMORY, fmt::format("{} failed as asked", what));
}

// The bytes [offset, offset + size) of a buffer; null, and a note, if there are none.
char* bytes(Device& d, uint64_t buffer, uint64_t offset, uint64_t size) {
  const auto it = d.buffers.find(buffer);
  if (it == d.buffers.end()) return misuse("use of a buffer that isn't there"), nullptr;
  Buffer& b = it->second;
  if (offset > b.size || size > b.size - offset) return misuse("a copy leaves its buffer"), nullptr;
  return b.data + offset;
}

void drain(Stream& s) {
  for (; !s.ops.empty(); s.ops.pop_front())
    if (s.error.empty()) s.error = s.ops.front().run();
}

gc_error* put(Device& d, gc_stream* stream, Op op) {
  if (!stream) {
    for (Stream* s : d.streams) drain(*s);
    const std::string text = op.run();
    return text.empty() ? nullptr : fake::error(d.host, GC_INTERNAL, text);
  }
  Stream& s = of<Stream>(stream);
  if (s.recording)
    s.recorded.push_back(std::move(op));
  else
    s.ops.push_back(std::move(op));
  return nullptr;
}

gc_error* copy(gc_device* raw, gc_stream* stream, const gc_copy* c) {
  const Call call;
  Device& d = of<Device>(raw);
  if (fails(kCopy)) return fault(d.host, "copy");
  Op op;
  if (c->src) op.buffers.push_back(number(c->src));
  if (c->dst) op.buffers.push_back(number(c->dst));
  op.run = [&d, c = *c]() -> std::string {
    const char* from =
        c.src ? bytes(d, number(c.src), c.src_off, c.size) : static_cast<const char*>(c.src_host) + c.src_off;
    char* to =
        c.dst ? bytes(d, number(c.dst), c.dst_off, c.size) : static_cast<char*>(c.dst_host) + c.dst_off;
    if (!from || !to) return "a copy of what isn't there";
    std::memmove(to, from, c.size);
    return "";
  };
  return put(d, stream, std::move(op));
}

// A run and all it points to.
struct Run {
  gc_run run;
  std::vector<gc_tensor> tensors;
  std::vector<std::vector<int64_t>> numbers;

  explicit Run(const gc_run& r) : run(r), tensors(r.in, r.in + r.num_in) {
    tensors.insert(tensors.end(), r.out, r.out + r.num_out);
    for (gc_tensor& t : tensors) {
      t.shape = keep(t.shape, t.rank);
      if (t.strides) t.strides = keep(t.strides, t.rank);
    }
    run.in = tensors.data();
    run.out = tensors.data() + r.num_in;
    run.symbols = keep(r.symbols, r.num_symbols);
  }
  int64_t* keep(const int64_t* p, size_t n) { return numbers.emplace_back(p, p + n).data(); }
};

std::string do_kernel(Device& d, gc_exec& kernel, const Run& saved) {
  if (fails(kKernel)) return fmt::format("kernel '{}' fell over", kernel.op);
  Run r = saved;
  r.run.in = r.tensors.data();
  r.run.out = r.tensors.data() + r.run.num_in;
  std::map<uint64_t, gc_buffer> seen;
  const auto resolve = [&](gc_buffer* b) -> gc_buffer* {
    const auto it = d.buffers.find(number(b));
    if (it == d.buffers.end()) return misuse("a kernel uses a buffer that isn't there"), nullptr;
    return &seen.try_emplace(number(b), gc_buffer{it->second.data, it->second.size}).first->second;
  };
  for (gc_tensor& t : r.tensors)
    if (!(t.buf = resolve(t.buf))) return "a buffer isn't there";
  const uint64_t needed = fake::workspace_bytes(kernel, r.run.symbols, r.run.num_symbols);
  if (needed > 0) {
    if (!r.run.workspace || !(r.run.workspace = resolve(r.run.workspace))) return "no workspace";
    if (r.run.workspace->size < r.run.workspace_offset + needed) return "the workspace is too small";
    std::memset(r.run.workspace->p + r.run.workspace_offset, 0xff, needed);
  }
  if (gc_error* e = fake::execute(&kernel, nullptr, &r.run))
    return Status(take_error(e, "mock", "kernel")).error().message;
  return "";
}

gc_error* execute(gc_exec* raw, gc_stream* stream, const gc_run* run) {
  const Call call;
  Exec& e = of<Exec>(raw);
  Device& d = *e.device;
  if (fails(kExecute)) return fault(d.host, "execute");
  if (stream && of<Stream>(stream).recording && the_state.capture == Capture::kExecuteRefuses)
    return fake::error(d.host, GC_UNIMPLEMENTED, "not while recording");
  Op op;
  const auto saved = std::make_shared<Run>(*run);
  for (const gc_tensor& t : saved->tensors) op.buffers.push_back(number(t.buf));
  if (run->workspace) op.buffers.push_back(number(run->workspace));
  op.run = [&d, kernel = e.kernel, saved] { return do_kernel(d, *kernel, *saved); };
  return put(d, stream, std::move(op));
}

bool uses(const std::deque<Op>& ops, uint64_t b) {
  return std::ranges::any_of(ops, [&](const Op& o) { return std::ranges::count(o.buffers, b) > 0; });
}

gc_error* buf_alloc(gc_device* raw, uint32_t space, uint64_t size, uint64_t align, gc_buffer** out) {
  const Call call;
  Device& d = of<Device>(raw);
  if (d.id == "host" || size == 0 ||
      (1u << space & (d.id == "0" ? GC_MEM_DEVICE | GC_MEM_PINNED : GC_MEM_DEVICE)) == 0)
    misuse("buf_alloc of what the device doesn't have");
  for (const Stream* s : d.streams)
    if (s->recording) misuse("buf_alloc while a stream is recording");
  if (fails(kAlloc)) return fault(d.host, "buf_alloc");
  Buffer b;
  b.own.assign(size, '\xff');
  b.data = b.own.data();
  b.size = size;
  b.pinned = (1u << space) == GC_MEM_PINNED;
  ++the_state.live;
  d.buffers.emplace(next_buffer, std::move(b));
  *out = handle(next_buffer++);
  return nullptr;
}

gc_error* buf_import(gc_device* raw, const gc_external* e, gc_buffer** out) {
  const Call call;
  Device& d = of<Device>(raw);
  if (d.id != "host") return fake::error(d.host, GC_UNIMPLEMENTED, "this device has memory of its own");
  ++the_state.live;
  Buffer b;
  b.data = static_cast<char*>(e->handle);
  b.size = e->size;
  d.buffers.emplace(next_buffer, std::move(b));
  *out = handle(next_buffer++);
  return nullptr;
}

gc_error* buf_export(gc_device* raw, gc_buffer* b, gc_external* e) {
  const Call call;
  Device& d = of<Device>(raw);
  const auto it = d.buffers.find(number(b));
  if (it == d.buffers.end() || !it->second.pinned)
    return fake::error(d.host, GC_UNIMPLEMENTED, "no host memory");
  e->kind = GC_EXTERNAL_HOST;
  e->handle = it->second.data;
  e->size = it->second.size;
  return nullptr;
}

void buf_free(gc_device* raw, gc_buffer* b) {
  const Call call;
  Device& d = of<Device>(raw);
  for (const Stream* s : d.streams)
    if (uses(s->ops, number(b))) misuse("buf_free of a buffer in use");
  for (const Captured* c : d.captures)
    if (uses({c->ops.begin(), c->ops.end()}, number(b))) misuse("buf_free of a buffer that a capture names");
  if (d.buffers.erase(number(b)) != 1) misuse("buf_free of no buffer");
  --the_state.live;
}

gc_error* stream_create(gc_device* raw, int32_t, gc_stream** out) {
  const Call call;
  Device& d = of<Device>(raw);
  if (fails(kStream)) return fault(d.host, "stream_create");
  auto* s = new Stream{&d, {}, {}, false, {}};
  d.streams.push_back(s);
  ++the_state.live;
  *out = reinterpret_cast<gc_stream*>(s);
  return nullptr;
}
void stream_destroy(gc_stream* raw) {
  const Call call;
  Stream& s = of<Stream>(raw);
  std::erase(s.device->streams, &s);
  --the_state.live;
  delete &s;
}

gc_error* event_create(gc_device* raw, gc_event** out) {
  const Call call;
  Device& d = of<Device>(raw);
  if (fails(kEvent)) return fault(d.host, "event_create");
  ++the_state.live;
  *out = reinterpret_cast<gc_event*>(new Event{&d});
  return nullptr;
}
void event_destroy(gc_event* e) {
  const Call call;
  --the_state.live;
  delete &of<Event>(e);
}
gc_error* event_record(gc_event* raw, gc_stream* stream) {
  const Call call;
  Event& e = of<Event>(raw);
  if (of<Stream>(stream).recording) misuse("event_record while the stream is recording");
  if (fails(kRecord)) return fault(e.device->host, "event_record");
  e.stream = &of<Stream>(stream);
  return nullptr;
}
gc_error* event_wait(gc_event* raw, uint64_t) {
  const Call call;
  Event& e = of<Event>(raw);
  if (!e.stream) return misuse("event_wait for what was never recorded"), nullptr;
  if (fails(kWait)) return fault(e.device->host, "event_wait");
  drain(*e.stream);
  return e.stream->error.empty() ? nullptr : fake::error(e.device->host, GC_INTERNAL, e.stream->error);
}

gc_error* capture_begin(gc_stream* raw) {
  const Call call;
  Stream& s = of<Stream>(raw);
  if (s.recording) misuse("capture: begin twice");
  if (the_state.capture == Capture::kBeginRefuses)
    return fake::error(s.device->host, GC_UNIMPLEMENTED, "no captures here");
  if (fails(kBegin)) return fault(s.device->host, "begin");
  s.recording = true;
  return nullptr;
}
gc_error* capture_end(gc_stream* raw, gc_captured** out) {
  const Call call;
  Stream& s = of<Stream>(raw);
  if (!s.recording) misuse("capture: end without begin");
  s.recording = false;
  std::vector<Op> ops = std::move(s.recorded);
  s.recorded.clear();
  if (the_state.capture == Capture::kEndRefuses)
    return fake::error(s.device->host, GC_UNIMPLEMENTED, "no such captures here");
  if (fails(kEnd)) return fault(s.device->host, "end");
  auto* c = new Captured{s.device, std::move(ops)};
  s.device->captures.push_back(c);
  ++the_state.live;
  *out = reinterpret_cast<gc_captured*>(c);
  return nullptr;
}
gc_error* capture_launch(gc_captured* raw, gc_stream* stream) {
  const Call call;
  Captured& c = of<Captured>(raw);
  if (fails(kLaunch)) return fault(c.device->host, "launch");
  for (const Op& op : c.ops) of<Stream>(stream).ops.push_back(op);
  return nullptr;
}
void capture_destroy(gc_captured* raw) {
  const Call call;
  Captured& c = of<Captured>(raw);
  std::erase(c.device->captures, &c);
  --the_state.live;
  delete &c;
}

const void* extension(gc_plugin*, const char* name, uint32_t version) {
  static const gc_ext_capture ext{sizeof(gc_ext_capture), capture_begin, capture_end, capture_launch,
                                  capture_destroy};
  const bool has = the_state.capture != Capture::kNo;
  return has && std::string_view(name) == "graphc.capture" && version == 1 ? &ext : nullptr;
}

gc_error* enumerate(gc_plugin*, void (*cb)(void*, const gc_device_info*), void* arg) {
  const std::pair<const char*, uint32_t> devices[] = {
      {"0", GC_MEM_DEVICE | GC_MEM_PINNED}, {"1", GC_MEM_DEVICE}, {"host", GC_MEM_HOST}};
  for (const auto& [id, spaces] : devices) {
    gc_device_info info{};
    info.struct_size = sizeof(info);
    info.id = id;
    info.kind = GC_DEVICE_OTHER;
    info.memspaces = spaces;
    cb(arg, &info);
  }
  return nullptr;
}

gc_error* exec_load(gc_device* raw, gc_span blob, const gc_graph*, gc_exec** out) {
  const Call call;
  Device& d = of<Device>(raw);
  std::istringstream in(std::string(static_cast<const char*>(blob.data), blob.size));
  auto kernel = std::make_shared<gc_exec>(gc_exec{d.host, "", 0});
  in >> kernel->op >> kernel->value;
  ++the_state.live;
  *out = reinterpret_cast<gc_exec*>(new Exec{&d, std::move(kernel)});
  return nullptr;
}

gc_plugin_api make_table() {
  gc_plugin_api t = *fake::api();  // claim and compile: there is no compiler
  t.name = "mock";
  t.create = [](const gc_host* h, const gc_kv*, size_t, gc_plugin** out) -> gc_error* {
    ++the_state.live;
    *out = reinterpret_cast<gc_plugin*>(new Plugin{h});
    return nullptr;
  };
  t.destroy = [](gc_plugin* p) { --the_state.live, delete &of<Plugin>(p); };
  t.enumerate = enumerate;
  t.extension = extension;
  t.open = [](gc_plugin* p, const char* id, const gc_kv*, size_t, gc_device** out) -> gc_error* {
    const gc_host* h = of<Plugin>(p).host;
    if (std::string_view("0 1 host").find(id) == std::string_view::npos)
      return fake::error(h, GC_INVALID, fmt::format("there is no '{}'", id));
    ++the_state.live;
    *out = reinterpret_cast<gc_device*>(new Device{h, id, {}, {}, {}});
    return nullptr;
  };
  t.close = [](gc_device* d) { --the_state.live, delete &of<Device>(d); };
  t.buf_alloc = buf_alloc;
  t.buf_free = buf_free;
  t.buf_import = buf_import;
  t.buf_export = buf_export;
  t.copy = copy;
  t.stream_create = stream_create;
  t.stream_destroy = stream_destroy;
  t.event_create = event_create;
  t.event_destroy = event_destroy;
  t.event_record = event_record;
  t.event_wait = event_wait;
  t.exec_load = exec_load;
  t.exec_destroy = [](gc_exec* e) { --the_state.live, delete &of<Exec>(e); };
  t.exec_info = [](gc_exec* e, gc_exec_info* info) -> gc_error* {
    info->workspace_bytes = fake::workspace_bytes(*of<Exec>(e).kernel, nullptr, 0);
    return nullptr;
  };
  t.exec_workspace = [](gc_exec* e, const int64_t* symbols, size_t n, uint64_t* bytes) -> gc_error* {
    *bytes = fake::workspace_bytes(*of<Exec>(e).kernel, symbols, n);
    return nullptr;
  };
  t.execute = execute;
  return t;
}

}  // namespace

State& state() { return the_state; }
void reset() {
  const int64_t live = the_state.live;
  the_state = State{};
  the_state.live = live;
}

const gc_plugin_api* api() {
  static const gc_plugin_api table = make_table();
  return &table;
}
const gc_plugin_api* plain_api() {
  static const gc_plugin_api table = [] {
    gc_plugin_api t = make_table();
    t.stream_create = nullptr;
    t.stream_destroy = nullptr;
    t.event_create = nullptr;
    t.event_destroy = nullptr;
    t.event_record = nullptr;
    t.event_wait = nullptr;
    t.extension = nullptr;
    t.struct_size = offsetof(gc_plugin_api, exec_workspace);
    return t;
  }();
  return &table;
}

}  // namespace graphc::mock
