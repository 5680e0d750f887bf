#include "backends/cuda/exec/libraries.h"

#include <cuda.h>
#include <dirent.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nvrtc.h>

#include <algorithm>
#include <cstdlib>

namespace graphc {
namespace {

std::string environment(const char* name) {
  const char* v = std::getenv(name);
  return v ? v : "";
}

std::vector<std::string> entries(const std::string& folder) {
  std::vector<std::string> out;
  if (DIR* d = ::opendir(folder.c_str())) {
    while (const dirent* e = ::readdir(d))
      if (e->d_name[0] != '.') out.push_back(folder + "/" + e->d_name);
    ::closedir(d);
  }
  std::sort(out.begin(), out.end());
  return out;
}

// "" stands for the system's loader.
std::vector<std::string> search_folders() {
  if (const std::string only = environment("GRAPHC_CUDA_LIBRARIES"); !only.empty()) return {only};
  std::vector<std::string> out = {""};
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"})
    if (const std::string home = environment(variable); !home.empty()) out.push_back(home + "/lib64");
  out.emplace_back("/usr/local/cuda/lib64");
  for (const char* variable : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    const std::string home = environment(variable);
    if (home.empty()) continue;
    for (const std::string& python : entries(home + "/lib"))
      for (const std::string& package : entries(python + "/site-packages/nvidia"))
        out.push_back(package + "/lib");
  }
  return out;
}

CudaLibrary open_library(const char* name, const std::vector<std::string>& files,
                         const std::vector<std::string>& folders) {
  CudaLibrary out;
  out.name = name;
  std::string refused;
  for (const std::string& folder : folders)
    for (const std::string& file : files) {
      const std::string path = folder.empty() ? file : folder + "/" + file;
      out.handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (out.handle) {
        out.path = path;
        return out;
      }
      const char* why = ::dlerror();
      const std::string text = why ? why : "";
      // There, but not loadable: worth more than "not found".
      if (text.find("cannot open shared object file") == std::string::npos && refused.empty()) refused = text;
    }
  out.problem = refused.empty() ? fmt::format("{} ({}) was not found", name, fmt::join(files, ", "))
                                : fmt::format("{} can't be loaded: {}", name, refused);
  return out;
}

template <class F>
F* function(const CudaLibrary& library, const char* name) {
  return reinterpret_cast<F*>(library.symbol(name));
}

}  // namespace

void* CudaLibrary::symbol(const char* symbol_name) const {
  return handle ? ::dlsym(handle, symbol_name) : nullptr;
}

CudaLibraries CudaLibraries::open(unsigned which) {
  const std::vector<std::string> folders = search_folders();
  CudaLibraries l;
  if (which & kDriver) l.driver = open_library("the NVIDIA driver", {"libcuda.so.1"}, folders);
  if (which & kNvrtc)
    l.nvrtc = open_library("NVRTC", {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"}, folders);
  if (which & kMath) {
    l.cudnn = open_library("cuDNN", {"libcudnn.so.9"}, folders);
    l.cublaslt =
        open_library("cuBLASLt", {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}, folders);
  }
  if (auto* f = function<decltype(::cuDriverGetVersion)>(l.driver, "cuDriverGetVersion")) {
    int v = 0;
    if (f(&v) == CUDA_SUCCESS) l.driver.version = fmt::format("for CUDA {}.{}", v / 1000, v % 1000 / 10);
  }
  if (auto* f = function<decltype(::nvrtcVersion)>(l.nvrtc, "nvrtcVersion")) {
    int major = 0, minor = 0;
    if (f(&major, &minor) == NVRTC_SUCCESS) l.nvrtc.version = fmt::format("{}.{}", major, minor);
  }
  if (auto* f = function<size_t()>(l.cudnn, "cudnnGetVersion")) {
    const size_t v = f();
    l.cudnn.version = fmt::format("{}.{}.{}", v / 10000, v / 100 % 100, v % 100);
  }
  if (auto* f = function<size_t()>(l.cublaslt, "cublasLtGetVersion")) {
    const size_t v = f();
    l.cublaslt.version = fmt::format("{}.{}.{}", v / 10000, v / 100 % 100, v % 100);
  }
  return l;
}

const CudaLibraries& CudaLibraries::get() {
  static const CudaLibraries libraries = open();
  return libraries;
}

Result<std::vector<CudaCard>> cuda_cards(const CudaLibraries& l) {
  if (!l.driver.loaded()) return Error{ErrorCode::kDevice, l.driver.problem};
  auto* init = function<decltype(::cuInit)>(l.driver, "cuInit");
  auto* error_string = function<decltype(::cuGetErrorString)>(l.driver, "cuGetErrorString");
  auto* count = function<decltype(::cuDeviceGetCount)>(l.driver, "cuDeviceGetCount");
  auto* get = function<decltype(::cuDeviceGet)>(l.driver, "cuDeviceGet");
  auto* get_name = function<decltype(::cuDeviceGetName)>(l.driver, "cuDeviceGetName");
  auto* attribute = function<decltype(::cuDeviceGetAttribute)>(l.driver, "cuDeviceGetAttribute");
  auto* memory = function<CUresult(size_t*, CUdevice)>(l.driver, "cuDeviceTotalMem_v2");
  if (!init || !error_string || !count || !get || !get_name || !attribute || !memory)
    return Error{ErrorCode::kDevice,
                 fmt::format("{} is no usable CUDA driver: functions are missing", l.driver.path)};
  const auto check = [&](CUresult r, const char* what) -> Status {
    if (r == CUDA_SUCCESS) return {};
    const char* text = nullptr;
    error_string(r, &text);
    return Error{ErrorCode::kDevice, fmt::format("{}: {}", what, text ? text : "unknown error")};
  };
  GC_CHECK(check(init(0), "the CUDA driver doesn't start"));
  int n = 0;
  GC_CHECK(check(count(&n), "counting the cards"));
  if (n == 0) return Error{ErrorCode::kDevice, "the CUDA driver shows no card (CUDA_VISIBLE_DEVICES?)"};
  std::vector<CudaCard> out;
  for (int i = 0; i < n; ++i) {
    CUdevice d = 0;
    char name[256] = {};
    int major = 0, minor = 0, sms = 0;
    size_t bytes = 0;
    GC_CHECK(check(get(&d, i), "opening a card"));
    GC_CHECK(check(get_name(name, sizeof name - 1, d), "a card's name"));
    GC_CHECK(
        check(attribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, d), "a card's architecture"));
    GC_CHECK(
        check(attribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, d), "a card's architecture"));
    GC_CHECK(check(attribute(&sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, d), "a card's multiprocessors"));
    GC_CHECK(check(memory(&bytes, d), "a card's memory"));
    CudaCard card;
    card.id = fmt::format("{}", i);
    card.name = name;
    card.arch = fmt::format("sm_{}{}{}", major, minor, major >= 9 ? "a" : "");
    card.multiprocessors = sms;
    card.memory_bytes = static_cast<long long>(bytes);
    const auto figure = [&](CUdevice_attribute a) -> long long {
      int v = 0;
      return attribute(&v, a, d) == CUDA_SUCCESS ? v : 0;
    };
    card.shared_bytes_per_block = figure(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    card.l2_bytes = figure(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
    card.clock_mhz = figure(CU_DEVICE_ATTRIBUTE_CLOCK_RATE) / 1000;  // of kHz
    // two transfers a clock, over so many bits
    card.memory_bytes_per_second = figure(CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE) * 1000 * 2 *
                                   (figure(CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH) / 8);
    out.push_back(std::move(card));
  }
  return out;
}

}  // namespace graphc
