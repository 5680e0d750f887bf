// Which of an executable's images a card runs. Machine code for sm_XY runs on cards of the same X and a Y
// that is no smaller, for sm_XYa on those of exactly XY; PTX for compute_XY on XY and all later ones, as the
// driver compiles it then (for compute_XYa on exactly XY).
#pragma once

#include <string>
#include <string_view>

#include "backends/host/kernel_blob.h"
#include "runtime/base/result.h"

namespace graphc {

// "sm_90a" or "compute_90" on a card that calls itself sm_90a (the card's own "a" says what it has, never
// what it lacks).
bool cuda_arch_runs_on(std::string_view code, std::string_view card);

// Machine code if there is some, else PTX. kUnsupported with what the executable has and what to compile for.
Result<const KernelBlob::Image*> choose_cuda_image(const KernelBlob& blob, const std::string& card_name,
                                                   const std::string& card_arch);

}  // namespace graphc
