#include "tools/driver/backends.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>

#include "backends/cpu/exec/backend.h"
#if GRAPHC_HAS_CUDA
#include "backends/cuda/backend.h"
#endif
#include "backends/reference/reference.h"

namespace graphc {
namespace {

constexpr const char* kLibrary = "libgraphc_cpu_compiler.so";

std::string program_directory() {
  char path[PATH_MAX];
  const ssize_t n = ::readlink("/proc/self/exe", path, sizeof path);
  if (n <= 0 || n >= static_cast<ssize_t>(sizeof path)) return "";
  const std::string s(path, static_cast<size_t>(n));
  const size_t slash = s.rfind('/');
  return slash == std::string::npos ? "" : s.substr(0, slash);
}

// Opened once and never closed.
Result<const gc_plugin_api*> load_cpu_compiler() {
  GC_TRY(const std::string path, find_cpu_compiler());
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* why = ::dlerror();
    return unsupported(fmt::format("can't open the cpu compiler: {}", why ? why : path));
  }
  const auto entry = reinterpret_cast<gc_plugin_entry_fn>(::dlsym(library, "gc_plugin_entry"));
  if (!entry) return unsupported(fmt::format("{} isn't a backend: it has no gc_plugin_entry", path));
  const gc_plugin_api* api = entry(GC_ABI_MAJOR, GC_ABI_MINOR);
  if (!api)
    return unsupported(fmt::format("{} belongs to another version of graphc; install both anew", path));
  return api;
}

}  // namespace

Result<std::string> find_cpu_compiler() {
  const std::string directory = program_directory();
  for (const char* where : {"", "/../lib", "/../lib/graphc"}) {
    const std::string path = directory + where + "/" + kLibrary;
    if (::access(path.c_str(), R_OK) == 0) return path;
  }
  return unsupported(fmt::format(
      "compiling for the cpu needs {}, which is neither beside the program ({}) nor in ../lib; build with "
      "LLVM (tools/setup, -DGRAPHC_LLVM=ON), or use --target reference",
      kLibrary, directory));
}

Result<std::unique_ptr<BackendRegistry>> execution_backends(ThreadPool* pool) {
  auto registry = std::make_unique<BackendRegistry>(HostOptions{.pool = pool});
  GC_CHECK(registry->add(cpu_execution_backend()));
#if GRAPHC_HAS_CUDA
  GC_CHECK(registry->add(cuda_backend()));
#endif
  GC_CHECK(registry->add(reference_backend()));
  return registry;
}

Result<std::unique_ptr<BackendRegistry>> compiler_backends(const Target& target, ThreadPool* pool) {
  auto registry = std::make_unique<BackendRegistry>(HostOptions{.pool = pool});
  GC_CHECK(registry->add(reference_backend()));
#if GRAPHC_HAS_CUDA
  if (target.backend == "cuda") GC_CHECK(registry->add(cuda_backend()));
#endif
  if (target.backend == "cpu") {
    static const Result<const gc_plugin_api*> api = load_cpu_compiler();
    if (!api.ok()) return api.error();
    GC_CHECK(registry->add(*api));
  }
  return registry;
}

}  // namespace graphc
