// Entry points of the stand-in for the CUDA driver: devices, contexts, memory, modules, launches; and the
// stand-in's own (standin_configure, standin_counts).
#include "tests/cuda/standin/entry.h"

#include <cstring>

#include "tests/cuda/standin/module.h"

namespace standin {

int& current_device() {
  thread_local int device = -1;
  return device;
}

Call::Call(const char* function, Needs needs) : machine(Machine::get()), guard_(machine.lock) {
  if (needs != kNothing && !machine.started) {
    error = CUDA_ERROR_NOT_INITIALIZED;
    return;
  }
  if (needs == kContext) {
    device = current_device();
    if (device < 0 || machine.devices[static_cast<size_t>(device)].retained == 0) {
      error = CUDA_ERROR_INVALID_CONTEXT;
      return;
    }
    error = dev().sticky;
    if (error) return;
  }
  if (!machine.has_to_fail(function)) return;
  const std::string f = function;
  error = f == "cuMemAlloc" || f == "cuMemHostAlloc" ? CUDA_ERROR_OUT_OF_MEMORY
          : f == "cuLaunchKernel"                    ? CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
                                                     : CUDA_ERROR_UNKNOWN;
}

bool inside(const Call& call, const void* p, uint64_t bytes) {
  const Allocation* a = call.machine.memory.find(p);
  return a && static_cast<uint64_t>(static_cast<const char*>(p) - a->begin) <= a->bytes - bytes &&
         bytes <= a->bytes;
}

}  // namespace standin

using namespace standin;

STANDIN_API cuInit(unsigned flags) {
  const Call call("cuInit", Call::kNothing);
  if (call.error) return call.error;
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  Machine& m = call.machine;
  if (m.config.devices == 0) return CUDA_ERROR_NO_DEVICE;
  if (!m.started) {
    m.devices.resize(static_cast<size_t>(m.config.devices));
    for (size_t i = 0; i < m.devices.size(); ++i) {
      m.devices[i].null_stream = std::make_shared<Stream>();
      m.devices[i].null_stream->device = static_cast<int>(i);
    }
    m.started = true;
  }
  return CUDA_SUCCESS;
}

STANDIN_API cuDriverGetVersion(int* v) {
  const Call call("cuDriverGetVersion", Call::kNothing);
  if (call.error) return call.error;
  *v = call.machine.config.driver;
  return CUDA_SUCCESS;
}

STANDIN_API cuDeviceGetCount(int* n) {
  const Call call("cuDeviceGetCount", Call::kInit);
  if (call.error) return call.error;
  *n = static_cast<int>(call.machine.devices.size());
  return CUDA_SUCCESS;
}

static bool is_device(const Call& call, CUdevice d) {
  return d >= 0 && static_cast<size_t>(d) < call.machine.devices.size();
}

STANDIN_API cuDeviceGet(CUdevice* d, int i) {
  const Call call("cuDeviceGet", Call::kInit);
  if (call.error) return call.error;
  if (!is_device(call, i)) return CUDA_ERROR_INVALID_DEVICE;
  *d = i;
  return CUDA_SUCCESS;
}

STANDIN_API cuDeviceGetName(char* name, int n, CUdevice d) {
  const Call call("cuDeviceGetName", Call::kInit);
  if (call.error) return call.error;
  if (!is_device(call, d) || n <= 0) return CUDA_ERROR_INVALID_DEVICE;
  std::strncpy(name, call.machine.config.name.c_str(), static_cast<size_t>(n));
  name[n - 1] = 0;
  return CUDA_SUCCESS;
}

STANDIN_API cuDeviceGetUuid(CUuuid* u, CUdevice d) {
  const Call call("cuDeviceGetUuid", Call::kInit);
  if (call.error) return call.error;
  if (!is_device(call, d)) return CUDA_ERROR_INVALID_DEVICE;
  std::memset(u, 0, sizeof *u);
  std::memcpy(u->bytes, "standin", 7);
  u->bytes[15] = static_cast<char>(d);
  return CUDA_SUCCESS;
}

STANDIN_API cuDeviceTotalMem(size_t* n, CUdevice d) {
  const Call call("cuDeviceTotalMem", Call::kInit);
  if (call.error) return call.error;
  if (!is_device(call, d)) return CUDA_ERROR_INVALID_DEVICE;
  *n = call.machine.config.memory;
  return CUDA_SUCCESS;
}

STANDIN_API cuDeviceGetAttribute(int* v, CUdevice_attribute a, CUdevice d) {
  const Call call("cuDeviceGetAttribute", Call::kInit);
  if (call.error) return call.error;
  if (!is_device(call, d)) return CUDA_ERROR_INVALID_DEVICE;
  const Config& c = call.machine.config;
  switch (a) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *v = arch_number(c.arch) / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *v = arch_number(c.arch) % 10; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *v = c.multiprocessors; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *v = 32; break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *v = 1024; break;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X: *v = 1024; break;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: *v = 2147483647; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *v = 49152; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *v = 232448; break;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK: *v = 65536; break;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: *v = 62914560; break;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: *v = 1980000; break;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: *v = 3201000; break;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: *v = 6144; break;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT: *v = 1; break;
    default: *v = 0;
  }
  return CUDA_SUCCESS;
}

// Contexts: the primary one of a device, whose handle is the device's number + 1.
STANDIN_API cuDevicePrimaryCtxRetain(CUcontext* c, CUdevice d) {
  const Call call("cuDevicePrimaryCtxRetain", Call::kInit);
  if (call.error) return call.error;
  if (!is_device(call, d)) return CUDA_ERROR_INVALID_DEVICE;
  ++call.machine.devices[static_cast<size_t>(d)].retained;
  *c = reinterpret_cast<CUcontext>(static_cast<intptr_t>(d + 1));
  return CUDA_SUCCESS;
}

STANDIN_API cuDevicePrimaryCtxRelease(CUdevice d) {
  const Call call("cuDevicePrimaryCtxRelease", Call::kInit);
  if (call.error) return call.error;
  if (!is_device(call, d)) return CUDA_ERROR_INVALID_DEVICE;
  Device& device = call.machine.devices[static_cast<size_t>(d)];
  if (device.retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
  // The last one takes the context away, and with it what had gone wrong.
  if (--device.retained == 0) {
    call.machine.drain_device(d);
    device.sticky = CUDA_SUCCESS;
  }
  return CUDA_SUCCESS;
}

STANDIN_API cuCtxSetCurrent(CUcontext c) {
  const Call call("cuCtxSetCurrent", Call::kInit);
  if (call.error) return call.error;
  const auto d = static_cast<int>(reinterpret_cast<intptr_t>(c)) - 1;
  if (d >= 0 && (!is_device(call, d) || call.machine.devices[static_cast<size_t>(d)].retained == 0))
    return CUDA_ERROR_INVALID_CONTEXT;
  current_device() = d;
  return CUDA_SUCCESS;
}

STANDIN_API cuCtxGetCurrent(CUcontext* c) {
  const Call call("cuCtxGetCurrent", Call::kInit);
  if (call.error) return call.error;
  *c = reinterpret_cast<CUcontext>(static_cast<intptr_t>(current_device() + 1));
  return CUDA_SUCCESS;
}

STANDIN_API cuCtxGetDevice(CUdevice* d) {
  const Call call("cuCtxGetDevice");
  if (call.error) return call.error;
  *d = call.device;
  return CUDA_SUCCESS;
}

STANDIN_API cuCtxSynchronize() {
  const Call call("cuCtxSynchronize");
  if (call.error) return call.error;
  if (const CUresult r = forbidden_by_capture(call)) return r;
  return call.machine.drain_device(call.device);
}

// Memory
STANDIN_API cuMemAlloc(CUdeviceptr* p, size_t bytes) {
  const Call call("cuMemAlloc");
  if (call.error) return call.error;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult r = forbidden_by_capture(call)) return r;
  char* a = call.machine.memory.allocate(call.device, bytes, call.machine.config.memory);
  if (!a) return CUDA_ERROR_OUT_OF_MEMORY;
  *p = reinterpret_cast<CUdeviceptr>(a);
  return CUDA_SUCCESS;
}

// Stricter than the real one, which waits: work that still uses the memory fails.
STANDIN_API cuMemFree(CUdeviceptr p) {
  const Call call("cuMemFree");
  // A context that failed still lets go of its memory here, so that leaks can be told.
  if (call.error && call.error != call.dev().sticky) return call.error;
  if (p == 0) return CUDA_SUCCESS;
  if (!call.machine.memory.release(reinterpret_cast<void*>(p), false)) return CUDA_ERROR_INVALID_VALUE;
  return call.error;
}

STANDIN_API cuMemGetInfo(size_t* free_bytes, size_t* total) {
  const Call call("cuMemGetInfo");
  if (call.error) return call.error;
  *total = call.machine.config.memory;
  *free_bytes = *total - call.machine.memory.used(call.device);
  return CUDA_SUCCESS;
}

STANDIN_API cuMemHostAlloc(void** p, size_t bytes, unsigned) {
  const Call call("cuMemHostAlloc");
  if (call.error) return call.error;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult r = forbidden_by_capture(call)) return r;
  *p = call.machine.memory.allocate_pinned(bytes);
  return *p ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

STANDIN_API cuMemFreeHost(void* p) {
  const Call call("cuMemFreeHost");
  if (call.error && call.error != call.dev().sticky) return call.error;
  if (!call.machine.memory.release(p, true)) return CUDA_ERROR_INVALID_VALUE;
  return call.error;
}

STANDIN_API cuMemHostGetDevicePointer(CUdeviceptr* d, void* p, unsigned) {
  const Call call("cuMemHostGetDevicePointer");
  if (call.error) return call.error;
  const Allocation* a = call.machine.memory.find(p);
  if (!a || a->device >= 0) return CUDA_ERROR_INVALID_VALUE;
  *d = reinterpret_cast<CUdeviceptr>(p);
  return CUDA_SUCCESS;
}

STANDIN_API cuPointerGetAttribute(void* out, CUpointer_attribute a, CUdeviceptr p) {
  const Call call("cuPointerGetAttribute");
  if (call.error) return call.error;
  const Allocation* at = call.machine.memory.find(reinterpret_cast<const void*>(p));
  if (!at) return CUDA_ERROR_INVALID_VALUE;
  if (a == CU_POINTER_ATTRIBUTE_MEMORY_TYPE) {
    *static_cast<unsigned*>(out) = at->device >= 0 ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
    return CUDA_SUCCESS;
  }
  if (a == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) {
    *static_cast<int*>(out) = at->device >= 0 ? at->device : call.device;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_NOT_SUPPORTED;
}

// Modules
STANDIN_API cuModuleLoadDataEx(CUmodule* out, const void* bytes, unsigned, CUjit_option*, void**) {
  const Call call("cuModuleLoadData");
  if (call.error) return call.error;
  if (const CUresult r = forbidden_by_capture(call)) return r;
  const auto image = parse_image(static_cast<const char*>(bytes));
  if (!image) {
    complain("this is no program of the stand-in's NVRTC; real machine code needs a real card");
    return CUDA_ERROR_INVALID_IMAGE;
  }
  const std::string& arch = call.machine.config.arch;
  const int ours = arch_number(arch), its = arch_number(image->arch);
  // machine code: the same generation, and an "a" no other card at all; PTX: any later card
  const bool specific = image->arch.back() == 'a';
  const bool runs = image->ptx ? its <= ours && (!specific || its == ours)
                    : specific ? its == ours
                               : its / 10 == ours / 10 && its % 10 <= ours % 10;
  if (!runs) return image->ptx ? CUDA_ERROR_INVALID_PTX : CUDA_ERROR_NO_BINARY_FOR_GPU;
  std::shared_ptr<Module> m;
  if (const CUresult r = Module::load(*image, call.machine.config, &m)) return r;
  ++call.machine.modules;
  *out = reinterpret_cast<CUmodule>(new std::shared_ptr<Module>(std::move(m)));
  return CUDA_SUCCESS;
}

STANDIN_API cuModuleLoadData(CUmodule* out, const void* bytes) {
  return cuModuleLoadDataEx(out, bytes, 0, nullptr, nullptr);
}

namespace {
// Functions live as long as the process: there are few.
std::map<std::pair<Module*, int>, std::unique_ptr<Function>>& functions() {
  static auto* all = new std::map<std::pair<Module*, int>, std::unique_ptr<Function>>;
  return *all;
}
}  // namespace

STANDIN_API cuModuleUnload(CUmodule raw) {
  const Call call("cuModuleUnload");
  if (call.error && call.error != call.dev().sticky) return call.error;
  auto* m = reinterpret_cast<std::shared_ptr<Module>*>(raw);
  (*m)->unloaded = true;
  --call.machine.modules;
  for (auto it = functions().begin(); it != functions().end();)
    it = it->first.first == m->get() ? functions().erase(it) : std::next(it);
  delete m;
  return call.error;
}

STANDIN_API cuModuleGetFunction(CUfunction* out, CUmodule raw, const char* name) {
  const Call call("cuModuleGetFunction");
  if (call.error) return call.error;
  const auto& m = *reinterpret_cast<std::shared_ptr<Module>*>(raw);
  const int i = m->find(name);
  if (i < 0) return CUDA_ERROR_NOT_FOUND;
  auto& f = functions()[{m.get(), i}];
  if (!f) f = std::make_unique<Function>(Function{m, i});
  *out = reinterpret_cast<CUfunction>(f.get());
  return CUDA_SUCCESS;
}

STANDIN_API cuFuncGetAttribute(int* v, CUfunction_attribute a, CUfunction raw) {
  const Call call("cuFuncGetAttribute");
  if (call.error) return call.error;
  const auto& f = *reinterpret_cast<Function*>(raw);
  const unsigned bound = f.module->kernel(f.index).max_threads;
  *v = a == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? static_cast<int>(bound ? bound : 1024) : 0;
  return CUDA_SUCCESS;
}

STANDIN_API cuLaunchKernel(CUfunction raw, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                           unsigned bz, unsigned shared, CUstream stream, void** parameters, void** extra) {
  const Call call("cuLaunchKernel");
  if (call.error) return call.error;
  const auto& f = *reinterpret_cast<Function*>(raw);
  const KernelEntry& k = f.module->kernel(f.index);
  const auto s = stream_of(call, stream);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (gx == 0 || gx > 2147483647u || gy != 1 || gz != 1 || bx == 0 || bx > 1024 || by != 1 || bz != 1 ||
      shared != 0 || extra) {
    complain("kernel " + std::string(k.name) +
             ": launched with a grid, block or shared memory that a card or the stand-in doesn't take");
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (k.max_threads != 0 && bx > k.max_threads) {
    complain("kernel " + std::string(k.name) + ": launched with more threads than its __launch_bounds__");
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::vector<uint64_t> values(k.num_parameters);
  for (unsigned i = 0; i < k.num_parameters; ++i) {
    if (k.parameter_bytes[i] > 8) {
      complain("kernel " + std::string(k.name) + ": the stand-in takes parameters of at most 8 bytes");
      return CUDA_ERROR_INVALID_VALUE;
    }
    std::memcpy(&values[i], parameters[i], k.parameter_bytes[i]);
  }
  return call.machine.push(s, [m = f.module, i = f.index, gx, bx, values = std::move(values)] {
    return execute(*m, i, gx, bx, values);
  });
}

// Errors
namespace {
struct Named {
  CUresult code;
  const char *name, *text;
};
#define STANDIN_ERROR(code, text) \
  { code, #code, text }
constexpr Named kErrors[] = {
    STANDIN_ERROR(CUDA_SUCCESS, "no error"),
    STANDIN_ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    STANDIN_ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    STANDIN_ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    STANDIN_ERROR(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    STANDIN_ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    STANDIN_ERROR(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    STANDIN_ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    STANDIN_ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
    STANDIN_ERROR(CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed"),
    STANDIN_ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
    STANDIN_ERROR(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
    STANDIN_ERROR(CUDA_ERROR_NOT_READY, "device not ready"),
    STANDIN_ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    STANDIN_ERROR(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
    STANDIN_ERROR(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    STANDIN_ERROR(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
    STANDIN_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
    STANDIN_ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
                  "operation failed due to a previous error during capture"),
    STANDIN_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED,
                  "capture was not ended in the same stream as it began"),
    STANDIN_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work"),
    STANDIN_ERROR(CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
                  "dependency created on uncaptured work in another stream"),
    STANDIN_ERROR(CUDA_ERROR_CAPTURED_EVENT,
                  "operation not permitted on an event last recorded in a capturing stream"),
    STANDIN_ERROR(CUDA_ERROR_UNKNOWN, "unknown error"),
};
}  // namespace

STANDIN_API cuGetErrorName(CUresult r, const char** s) {
  for (const Named& e : kErrors)
    if (e.code == r) return *s = e.name, CUDA_SUCCESS;
  *s = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}
STANDIN_API cuGetErrorString(CUresult r, const char** s) {
  for (const Named& e : kErrors)
    if (e.code == r) return *s = e.text, CUDA_SUCCESS;
  *s = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}

// The stand-in's own. `key` as in STANDIN_<key>; "RESET" forgets the devices (nothing of them may be alive),
// so that their number and architecture can be set anew. 0: understood.
extern "C" __attribute__((visibility("default"))) int standin_configure(const char* key, const char* value) {
  Machine& m = Machine::get();
  const std::lock_guard guard(m.lock);
  if (std::string(key) == "RESET") {
    m.started = false;
    m.devices.clear();
    m.launches = m.copies = m.graph_launches = 0;
    return 0;
  }
  return m.configure(key, value) ? 0 : 1;
}

// For stand-ins of libraries (foreign.h).
extern "C" __attribute__((visibility("default"))) CUresult standin_enqueue(CUstream stream,
                                                                           CUresult (*run)(void*), void* arg,
                                                                           void (*release)(void*)) {
  const Call call("standin_enqueue");
  std::shared_ptr<void> owned(arg, release);
  if (call.error) return call.error;
  const auto s = stream_of(call, stream);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  return call.machine.push(s, [run, owned] { return run(owned.get()); });
}
extern "C" __attribute__((visibility("default"))) int standin_inside(const void* p,
                                                                     unsigned long long bytes) {
  Machine& m = Machine::get();
  const std::lock_guard guard(m.lock);
  const Allocation* a = m.memory.find(p);
  const bool in = a && bytes <= a->bytes &&
                  static_cast<uint64_t>(static_cast<const char*>(p) - a->begin) <= a->bytes - bytes;
  if (!in) complain("a library call uses " + std::to_string(bytes) + " bytes at " + m.memory.describe(p));
  return in;
}

// What is alive and what was done. "bytes" and "allocations" count device and pinned memory.
extern "C" __attribute__((visibility("default"))) unsigned long long standin_count(const char* what) {
  Machine& m = Machine::get();
  const std::lock_guard guard(m.lock);
  const std::string w = what;
  if (w == "allocations") return m.memory.count();
  if (w == "modules") return static_cast<unsigned long long>(m.modules);
  if (w == "events") return static_cast<unsigned long long>(m.events);
  if (w == "graphs") return static_cast<unsigned long long>(m.graphs + m.graph_execs);
  if (w == "launches") return m.launches;
  if (w == "copies") return m.copies;
  if (w == "graph launches") return m.graph_launches;
  if (w == "pending failure") return m.still_to_fail();
  unsigned long long n = 0;
  for (size_t d = 0; d < m.devices.size(); ++d) {
    if (w == "streams") n += m.devices[d].streams.size();
    if (w == "contexts") n += static_cast<unsigned long long>(m.devices[d].retained);
    if (w == "bytes") n += m.memory.used(static_cast<int>(d));
  }
  if (w == "bytes") n += m.memory.used(-1);
  return n;
}
