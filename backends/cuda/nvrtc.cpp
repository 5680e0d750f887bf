#include "backends/cuda/nvrtc.h"

#include <fmt/format.h>
#include <nvrtc.h>

#include "backends/cuda/exec/libraries.h"

namespace graphc {
namespace {

struct Api {
  decltype(&::nvrtcCreateProgram) create;
  decltype(&::nvrtcDestroyProgram) destroy;
  decltype(&::nvrtcCompileProgram) compile;
  decltype(&::nvrtcGetProgramLogSize) log_size;
  decltype(&::nvrtcGetProgramLog) log;
  decltype(&::nvrtcGetCUBINSize) cubin_size;
  decltype(&::nvrtcGetCUBIN) cubin;
  decltype(&::nvrtcGetPTXSize) ptx_size;
  decltype(&::nvrtcGetPTX) ptx;
  decltype(&::nvrtcGetErrorString) error;
};

const CudaLibrary& nvrtc_library() {
  static const CudaLibraries libraries = CudaLibraries::open(CudaLibraries::kNvrtc);
  return libraries.nvrtc;
}

Result<const Api*> api() {
  static const Result<Api> loaded = []() -> Result<Api> {
    const CudaLibrary& l = nvrtc_library();
    if (!l.loaded())
      return Error{ErrorCode::kDevice,
                   l.problem +
                       "; compiling for CUDA needs it: install the CUDA toolkit or the PyPI "
                       "package nvidia-cuda-nvrtc, or name its folder in GRAPHC_CUDA_LIBRARIES"};
    Api a{};
    bool complete = true;
    const auto find = [&](auto& f, const char* name) {
      f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(l.symbol(name));
      complete = complete && f;
    };
    find(a.create, "nvrtcCreateProgram");
    find(a.destroy, "nvrtcDestroyProgram");
    find(a.compile, "nvrtcCompileProgram");
    find(a.log_size, "nvrtcGetProgramLogSize");
    find(a.log, "nvrtcGetProgramLog");
    find(a.cubin_size, "nvrtcGetCUBINSize");
    find(a.cubin, "nvrtcGetCUBIN");
    find(a.ptx_size, "nvrtcGetPTXSize");
    find(a.ptx, "nvrtcGetPTX");
    find(a.error, "nvrtcGetErrorString");
    if (!complete)
      return unsupported(fmt::format("{} lacks functions: graphc needs NVRTC 12 or newer", l.path));
    return a;
  }();
  if (!loaded.ok()) return loaded.error();
  return &*loaded;
}

// Destroys the program on every way out.
struct Program {
  const Api& api;
  nvrtcProgram raw = nullptr;
  ~Program() {
    if (raw) api.destroy(&raw);
  }
};

}  // namespace

Result<CudaBinary> compile_cuda(const CudaSource& source, const CudaCompileOptions& options,
                                const DiskCache* cache) {
  GC_TRY(const Api* const nvrtc, api());
  // -fmad stays on: multiply-adds may be contracted (loops.h). Everything else is exact: no fast math.
  std::vector<std::string> flags = {
      "--gpu-architecture=" + options.arch,
      "--std=c++17",
      "--fmad=true",
      "--prec-div=true",
      "--prec-sqrt=true",
      "--ftz=false",
      "--diag-suppress=177,186,550"};  // variables that nobody reads, unsigned < 0 in templates
  if (options.line_info) flags.emplace_back("-lineinfo");
  if (options.strict) {
    flags.emplace_back("--ptxas-options=--warn-on-spills");
    flags.emplace_back("--ptxas-options=--warn-on-local-memory-usage");
    flags.emplace_back("--ptxas-options=-Werror");
  }
  const CudaLibrary& library = nvrtc_library();
  std::string key = fmt::format("nvrtc\n{}\n{}\n{}\n", library.path, library.version, source.name);
  for (const std::string& f : flags) key += f + '\n';
  key += source.text;
  if (cache)
    if (auto code = cache->get(key)) return CudaBinary{*std::move(code), "", true};

  Program p{*nvrtc};
  nvrtcResult r = nvrtc->create(&p.raw, source.text.c_str(), source.name.c_str(), 0, nullptr, nullptr);
  if (r == NVRTC_ERROR_OUT_OF_MEMORY) return Error{ErrorCode::kNoMemory, "out of memory in NVRTC"};
  if (r != NVRTC_SUCCESS) return internal_error(fmt::format("NVRTC: {}: {}", source.name, nvrtc->error(r)));
  std::vector<const char*> c_flags;
  for (const std::string& f : flags) c_flags.push_back(f.c_str());
  r = nvrtc->compile(p.raw, static_cast<int>(c_flags.size()), c_flags.data());

  CudaBinary out;
  size_t size = 0;
  if (nvrtc->log_size(p.raw, &size) == NVRTC_SUCCESS && size > 1) {
    out.log.resize(size);
    nvrtc->log(p.raw, out.log.data());
    out.log.resize(size - 1);  // without the NUL
  }
  if (r == NVRTC_ERROR_INVALID_OPTION)
    return unsupported(
        fmt::format("this NVRTC ({}) doesn't know the architecture '{}'", library.version, options.arch));
  if (r != NVRTC_SUCCESS)
    return internal_error(fmt::format("NVRTC refuses {}: {}\n{}", source.name, nvrtc->error(r), out.log));
  const bool ptx = options.arch.starts_with("compute_");
  r = ptx ? nvrtc->ptx_size(p.raw, &size) : nvrtc->cubin_size(p.raw, &size);
  if (r == NVRTC_SUCCESS && size > 0) {
    out.code.resize(size);
    r = ptx ? nvrtc->ptx(p.raw, out.code.data()) : nvrtc->cubin(p.raw, out.code.data());
  }
  if (r != NVRTC_SUCCESS || out.code.empty())
    return internal_error(fmt::format("NVRTC gives no code for {}: {}", source.name, nvrtc->error(r)));
  if (cache) cache->put(key, out.code);
  return out;
}

}  // namespace graphc
