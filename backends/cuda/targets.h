// What code is compiled for: a card's profile by name, a file of the same form, or a bare architecture.
//
//   GC_TRY(CudaTarget t, CudaTarget::parse("h200"));        // after "cuda:"; also "sm_90a", "./card.txt"
//   t.arch    // "sm_90a"
//
// A profile is text, `key = value` a line, `#` comments (backends/cuda/targets/*.txt). Kernels are compiled
// for `arch`; the other figures steer tile sizes and which kernels are worth it, never what is right.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace graphc {

struct CudaCard;  // backends/cuda/exec/libraries.h

struct CudaTarget {
  std::string name;  // "NVIDIA H200"
  std::string arch;  // as NVRTC's --gpu-architecture takes it: "sm_90a"
  int64_t multiprocessors = 0;
  int64_t shared_bytes_per_block = 0;  // the opt-in maximum
  int64_t l2_bytes = 0;
  int64_t memory_bytes = 0;
  int64_t memory_bytes_per_second = 0;
  int64_t clock_mhz = 0;

  // 90 for sm_90a
  int compute_capability() const;
  // wgmma and TMA: sm_90a alone
  bool has_wgmma() const { return arch == "sm_90a"; }

  static Result<CudaTarget> parse(std::string_view target);
  // Of a card that is there; what its driver doesn't tell is as for any card of the architecture.
  static CudaTarget of_card(const CudaCard& card);
  // `where` appears in messages.
  static Result<CudaTarget> parse_profile(std::string_view text, const std::string& where);
  static std::vector<std::string> known();  // "a100", "b200", ..
  std::string to_profile() const;           // parse_profile reads it back
};

}  // namespace graphc
