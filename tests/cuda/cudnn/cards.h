// Cards that aren't there, as cuDNN's CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION describes one. Figures:
// NVIDIA's architecture white papers and the CUDA C++ programming guide's table of compute capabilities.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "backends/cuda/exec/cudnn.h"

namespace graphc {

struct CudnnTestCard {
  const char* name;
  const char* arch;
  int version, multiprocessors, shared_optin, threads_per_sm, blocks_per_sm;
  long long l2, memory;
};

inline const std::vector<CudnnTestCard>& cudnn_test_cards() {
  static const std::vector<CudnnTestCard> cards = {
      {"NVIDIA H200", "sm_90a", 900, 132, 232448, 2048, 32, 62914560, 150754820096},
      {"NVIDIA A100-SXM4-80GB", "sm_80", 800, 108, 166912, 2048, 32, 41943040, 85094367232},
      {"NVIDIA GeForce RTX 4090", "sm_89", 890, 128, 101376, 1536, 24, 75497472, 25393692672}};
  return cards;
}

inline CudnnDevice cudnn_device(const CudnnTestCard& c) {
  CudnnDevice d;
  d.arch = c.arch;
  d.multiprocessors = c.multiprocessors;
  d.properties = fmt::format(
      R"({{"cudaDeviceId":0,"deviceVer":{},"driverVer":13000,"maxGridSize":[2147483647,65535,65535],)"
      R"("maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"multiProcessorCount":{},"warpSize":32,)"
      R"("maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":{},"reservedSharedMemoryPerBlock":1024,)"
      R"("maxRegistersPerSM":65536,"maxCtasPerSM":{},"maxThreadsPerBlock":1024,"maxThreadsPerSM":{},)"
      R"("pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,"smClockRateKHz":1980000,)"
      R"("memClockRateKHz":3201000,"l2CacheSize":{},"totalGlobalMem":{},"deviceName":"{}"}})",
      c.version, c.multiprocessors, c.shared_optin, c.blocks_per_sm, c.threads_per_sm, c.l2, c.memory,
      c.name);
  return d;
}

}  // namespace graphc
