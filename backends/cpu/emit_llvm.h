// Loop programs to x86-64 machine code through LLVM: explicit vector IR, printed as the loop program says, so
// that nothing depends on the auto-vectoriser. Thread-safe; LLVM is initialised once per process. No LLVM
// type shows here.
//
//   GC_TRY(KernelObject object, compile_kernels(kernels, host_features(), {}));
//   GC_TRY(KernelImage image, KernelImage::load(object.bytes));         // backends/cpu/exec/kernel_image.h
//   KernelFn f = *image.find(object.kernels[0].name);
#pragma once

#include <span>
#include <string>
#include <vector>

#include "backends/cpu/exec/features.h"
#include "ir/loops/loops.h"
#include "runtime/base/result.h"

namespace graphc {

struct KernelInfo {
  std::string name;  // of the symbol in the object
  Dim parallel_extent;
  Dim scratch_bytes;                // per thread
  std::vector<std::string> params;  // in the order of KernelCall::symbols
  std::vector<LoopBuffer> args;     // in the order of KernelCall::buffers
};

struct KernelObject {
  std::string bytes;  // ELF relocatable object, position independent, without undefined symbols
  std::vector<KernelInfo> kernels;
};

struct EmitOptions {
  int opt_level = 2;   // of the code generator: 0..3
  bool verify = true;  // run verify_kernel first
  // Statistics, for reports and tests.
  double* milliseconds = nullptr;
};

// Names of the kernels must differ. Errors name the kernel and the statement.
Result<KernelObject> compile_kernels(std::span<const Kernel> kernels, const CpuFeatures& features,
                                     const EmitOptions& options = {});
// The same as text: LLVM IR after the clean-up passes; assembly.
Result<std::string> emit_llvm_text(std::span<const Kernel> kernels, const CpuFeatures& features,
                                   const EmitOptions& options = {});
Result<std::string> emit_asm_text(std::span<const Kernel> kernels, const CpuFeatures& features,
                                  const EmitOptions& options = {});

}  // namespace graphc
