// A stand-in for NVRTC: looks a text over with g++ and hands it out as its own machine code (image.h), for
// the stand-in of the driver to compile and run. STANDIN_NVRTC_CHECK=0: hands out anything.
#include <nvrtc.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/cuda/standin/gcc.h"
#include "tests/cuda/standin/image.h"

#define STANDIN_API extern "C" __attribute__((visibility("default"))) nvrtcResult

struct _nvrtcProgram {
  std::string text, name, log, cubin, ptx;
};

namespace {

constexpr const char* kArchitectures[] = {"75",   "80",  "86",   "87",  "88",   "89",  "90",   "90a", "100",
                                          "100a", "103", "103a", "110", "110a", "120", "120a", "121", "121a"};

bool known(const std::string& arch, const char* family) {
  for (const char* a : kArchitectures)
    if (arch == std::string(family) + a) return true;
  return false;
}

nvrtcResult give(const std::string& s, char* to) {
  if (!to) return NVRTC_ERROR_INVALID_INPUT;
  std::memcpy(to, s.data(), s.size());
  return NVRTC_SUCCESS;
}

}  // namespace

STANDIN_API nvrtcVersion(int* major, int* minor) {
  *major = 13;
  *minor = 0;
  return NVRTC_SUCCESS;
}

STANDIN_API nvrtcCreateProgram(nvrtcProgram* out, const char* text, const char* name, int num_headers,
                               const char* const*, const char* const*) {
  if (!out || !text || num_headers != 0) return NVRTC_ERROR_INVALID_INPUT;
  *out = new _nvrtcProgram{text, name ? name : "default_program", "", "", ""};
  return NVRTC_SUCCESS;
}

STANDIN_API nvrtcDestroyProgram(nvrtcProgram* p) {
  if (!p || !*p) return NVRTC_ERROR_INVALID_PROGRAM;
  delete *p;
  *p = nullptr;
  return NVRTC_SUCCESS;
}

STANDIN_API nvrtcCompileProgram(nvrtcProgram p, int n, const char* const* options) {
  if (!p) return NVRTC_ERROR_INVALID_PROGRAM;
  std::string arch = "compute_75";
  for (int i = 0; i < n; ++i) {
    const std::string o = options[i];
    const std::string key = "--gpu-architecture=";
    if (o.rfind(key, 0) == 0) arch = o.substr(key.size());
  }
  const bool virtual_arch = known(arch, "compute_");
  if (!virtual_arch && !known(arch, "sm_")) {
    p->log = "nvrtc: error: invalid value for --gpu-architecture (-arch)\n";
    return NVRTC_ERROR_INVALID_OPTION;
  }
  const char* check = std::getenv("STANDIN_NVRTC_CHECK");
  if (!check || std::strcmp(check, "0") != 0) {
    const standin::GccResult r = standin::run_gcc({"-std=c++17", "-fsyntax-only", "-w", "-x", "c++", "-"},
                                                  standin::prefix(p->name) + p->text);
    p->log = r.log;
    if (!r.ok) return NVRTC_ERROR_COMPILATION;
  }
  p->ptx = standin::make_image(true, "sm_" + arch.substr(arch.find('_') + 1), p->name, p->text);
  p->cubin = virtual_arch ? "" : standin::make_image(false, arch, p->name, p->text);
  // a driver gets no length, so the text carries its end
  p->ptx.push_back('\0');
  if (!p->cubin.empty()) p->cubin.push_back('\0');
  return NVRTC_SUCCESS;
}

STANDIN_API nvrtcGetProgramLogSize(nvrtcProgram p, size_t* n) {
  *n = p->log.size() + 1;
  return NVRTC_SUCCESS;
}
STANDIN_API nvrtcGetProgramLog(nvrtcProgram p, char* to) {
  std::memcpy(to, p->log.c_str(), p->log.size() + 1);
  return NVRTC_SUCCESS;
}
STANDIN_API nvrtcGetCUBINSize(nvrtcProgram p, size_t* n) {
  *n = p->cubin.size();
  return NVRTC_SUCCESS;
}
STANDIN_API nvrtcGetCUBIN(nvrtcProgram p, char* to) { return give(p->cubin, to); }
STANDIN_API nvrtcGetPTXSize(nvrtcProgram p, size_t* n) {
  *n = p->ptx.size();
  return NVRTC_SUCCESS;
}
STANDIN_API nvrtcGetPTX(nvrtcProgram p, char* to) { return give(p->ptx, to); }

extern "C" __attribute__((visibility("default"))) const char* nvrtcGetErrorString(nvrtcResult r) {
  switch (r) {
    case NVRTC_SUCCESS: return "NVRTC_SUCCESS";
    case NVRTC_ERROR_OUT_OF_MEMORY: return "NVRTC_ERROR_OUT_OF_MEMORY";
    case NVRTC_ERROR_INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
    case NVRTC_ERROR_INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
    case NVRTC_ERROR_INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
    case NVRTC_ERROR_COMPILATION: return "NVRTC_ERROR_COMPILATION";
    default: return "NVRTC_ERROR";
  }
}
