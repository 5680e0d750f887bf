// The reference backend: the f64 interpreter (ir/interpret.h) behind the plugin table. Slow and exact, it
// takes every graph; it is the judge of the other backends and the fallback where one rejects a graph.
//
//   GC_CHECK(registry.add(reference_backend()));
//   GC_TRY(std::shared_ptr<Device> device, registry.device("reference"));
//
// Its executables are the IR itself (ir/serialize.h), so a saved one runs wherever this backend is linked.
#pragma once

#include "backends/graphc_plugin.h"

namespace graphc {

const gc_plugin_api* reference_backend();

}  // namespace graphc
