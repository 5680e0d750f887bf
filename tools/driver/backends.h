// The backends a program has, in its two roles.
//
// Running needs execution halves only: they are linked in. Compiling for the cpu needs LLVM, a shared library
// of 129 MB: that compiler half lives in libgraphc_cpu_compiler.so, which is opened from beside the program
// or from ../lib when something is first compiled for the cpu, so that `graphc check` and `graphc run
// net.gcx` never load it.
#pragma once

#include <memory>
#include <string>

#include "backends/registry.h"
#include "tools/driver/target.h"

namespace graphc {

// Backends that load and execute: cpu, cuda, reference.
Result<std::unique_ptr<BackendRegistry>> execution_backends(ThreadPool* pool);

// Backends that compile for `target` (and the reference as the fallback).
Result<std::unique_ptr<BackendRegistry>> compiler_backends(const Target& target, ThreadPool* pool);

// Whether the cpu's compiler half is there, and where; the error says what was looked for.
Result<std::string> find_cpu_compiler();

}  // namespace graphc
