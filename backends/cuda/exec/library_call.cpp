#include "backends/cuda/exec/library_call.h"

#include <fmt/format.h>

namespace graphc {

Result<std::unique_ptr<CudaLibraryCall>> resolve_library_call(CudaDevice&, const KernelBlob&,
                                                              const KernelBlob::LibraryCall& call) {
  return unsupported(fmt::format("this version of graphc doesn't call '{}'", call.library));
}

}  // namespace graphc
