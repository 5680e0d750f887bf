// What a compiled fusion is on disk and in memory, for backends that generate code: the machine code of its
// kernels and how to call them. Written by a compiler half, read by its execution half. Nothing in a blob is
// trusted: sizes, indices and size programs are checked when it is decoded, images by who loads them.
//
//   "GCKERN5\n" | u64 length of what follows | SHA-256 of what follows | fields below, little-endian
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backends/host/size_program.h"
#include "runtime/base/dtype.h"
#include "runtime/base/result.h"

namespace graphc {

struct KernelBlob {
  struct Tensor {
    DType dtype = DType::kF32;
    std::vector<SizeProgram> shape;
  };
  enum ArgKind : uint8_t { kOperand, kResult, kWorkspace };
  struct Arg {
    uint8_t kind = kOperand;
    uint32_t index = 0;
  };
  struct Step {
    std::string kernel;
    std::vector<Arg> args;
    SizeProgram extent;                // iterations of the collapsed parallel range: cuda's thread blocks
    SizeProgram grain, scratch_bytes;  // cpu: iterations a task, memory a thread
    uint32_t threads = 1;              // cuda: of a block
    // cuda: `kernel` computes indices in 32 bits, which holds where every one of these is below 2^31; where
    // one isn't, `wide_kernel` is to be called. None: `kernel` always holds.
    std::vector<SizeProgram> narrow_if;
    std::string wide_kernel;
  };
  struct IndexCheck {  // after a step: workspace `low` and `high` hold the bounds of indices into `size` rows
    uint32_t step = 0, low = 0, high = 0;
    SizeProgram size;
    std::string op;
  };
  // cuda: a library's call that does what steps first_step .. last_step - 1 do. Which of them runs is decided
  // where the blob is loaded: without the library, or if it refuses, the steps. Calls are in the order of
  // their steps and don't overlap. Workspace that the replaced steps alone use isn't touched by the call.
  struct LibraryCall {
    uint32_t first_step = 0, last_step = 0;
    // So many steps from last_step on belong to the call: they run after it, and not if it isn't made.
    uint32_t after_steps = 0;
    std::string library;  // "cublaslt", "cudnn"
    // What is called, as text: "$0", "$1" stand for `sizes`, "%0", "%1" for `args`. What it means is the
    // library's: backends/cuda/libraries/.
    std::string call;
    std::vector<SizeProgram> sizes;
    std::vector<Arg> args;
    // The most scratch memory that the library may use. It comes on top of the blob's own workspaces, for
    // calls that are made; all calls of a blob share it, the largest counts.
    SizeProgram workspace_bytes;
  };
  // Machine code: cpu: one ELF object; cuda: a cubin, and PTX for later cards.
  struct Image {
    std::string arch;  // "sm_90a"; "compute_80": PTX
    std::string bytes;
  };
  std::string backend;  // "cpu"
  std::string target;   // what the code needs. cpu: CpuFeatures::to_string; cuda: "sm_90a"
  std::vector<std::string> symbols;
  std::vector<Tensor> operands, results;
  std::vector<SizeProgram> workspace_bytes;
  std::vector<Step> steps;
  std::vector<IndexCheck> checks;
  std::vector<LibraryCall> calls;
  std::vector<Image> images;
};

std::string encode_blob(const KernelBlob& blob);
// Errors say what is wrong with the bytes, a blob of another backend included.
Result<KernelBlob> decode_blob(std::string_view bytes, std::string_view backend);

}  // namespace graphc
