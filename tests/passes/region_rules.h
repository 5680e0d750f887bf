// What a backend may rely on after fuse or unfused (docs/adding-a-pass.md, "Regions"), checked node by node.
#pragma once

#include <string>

#include "ir/graph.h"

namespace graphc {

// "" if all of f's regions hold; else the first rule that is broken and the node.
std::string broken_region_rule(const Func& f);

}  // namespace graphc
