#include "tools/driver/target.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "runtime/base/nearest.h"
#if GRAPHC_HAS_CUDA
#include "backends/cuda/targets.h"
#endif

namespace graphc {

Result<Target> Target::parse(std::string_view text) {
  const size_t colon = text.find(':');
  Target t{std::string(text.substr(0, colon)),
           colon == std::string_view::npos ? "" : std::string(text.substr(colon + 1))};
  if (t.backend != "cpu" && t.backend != "reference" && t.backend != "cuda")
    return invalid(fmt::format("there is no target '{}'; there are: cpu, reference, cuda, cuda:CARD{}", text,
                               nearest_hint(t.backend, std::vector<std::string>{"cpu", "reference", "cuda"})));
  if (t.backend != "cuda") {
    if (colon != std::string_view::npos)
      return invalid(fmt::format("the target '{}' takes nothing after its name", t.backend));
    return t;
  }
#if GRAPHC_HAS_CUDA
  const bool number = std::all_of(t.device.begin(), t.device.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!number) GC_CHECK(CudaTarget::parse(t.device));
  return t;
#else
  return unsupported("this graphc was built without the CUDA toolkit's headers, so it has no target 'cuda'");
#endif
}

}  // namespace graphc
