// The IR as FlatBuffer bytes (ir/ir.fbs, identifier "GCIR"): what the host hands to a plugin's claim and
// compile.
//
//   std::vector<std::byte> bytes = serialize(module);
//   GC_TRY(std::unique_ptr<Module> m, deserialize(bytes));     // print(*m) == print(module)
//
// Equal modules give equal bytes. Nothing in the bytes is trusted: after the FlatBuffers verifier, which
// looks at structure only, indices, enumerators, sizes and limits are checked here, and the module by
// ir/verify.h.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "ir/graph.h"
#include "runtime/base/limits.h"

namespace graphc {

inline constexpr uint32_t kIrVersion = 1;

// Fails only for a module that the verifier wouldn't accept or that exceeds 2 GiB.
Result<std::vector<std::byte>> serialize(const Module& module);

Result<std::unique_ptr<Module>> deserialize(std::span<const std::byte> bytes, const LoadLimits& limits = {});

}  // namespace graphc
