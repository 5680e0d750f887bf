// The cuda backend with its compiler. (Programs that only run artefacts use cuda_execution_backend() of
// exec/backend.h.)
#pragma once

#include "backends/graphc_plugin.h"

namespace graphc {

const gc_plugin_api* cuda_backend();

}  // namespace graphc
