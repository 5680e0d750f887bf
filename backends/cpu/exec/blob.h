// What a compiled fusion is on disk and in memory: the machine code of its kernels and how to call them. Written
// by the compiler half (plugin.cpp), read by the execution half. Nothing in a blob is trusted: sizes, indices,
// size programs and the object file are checked when it is decoded.
//
//   "GCCPU02\n" | u64 length of what follows | SHA-256 of what follows | fields below, little-endian
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backends/cpu/exec/cpu_size.h"
#include "runtime/base/dtype.h"
#include "runtime/base/result.h"

namespace graphc {

struct CpuBlob {
  struct Tensor {
    DType dtype = DType::kF32;
    std::vector<CpuSize> shape;
  };
  enum ArgKind : uint8_t { kOperand, kResult, kWorkspace };
  struct Arg {
    uint8_t kind = kOperand;
    uint32_t index = 0;
  };
  struct Step {
    std::string kernel;
    std::vector<Arg> args;
    CpuSize extent, grain, scratch_bytes;
  };
  struct IndexCheck {  // after a step: workspace `low` and `high` hold the bounds of indices into `size` rows
    uint32_t step = 0, low = 0, high = 0;
    CpuSize size;
    std::string op;
  };
  std::string features;  // CpuFeatures::to_string of what the code needs
  std::vector<std::string> symbols;
  std::vector<Tensor> operands, results;
  std::vector<CpuSize> workspace_bytes;
  std::vector<Step> steps;
  std::vector<IndexCheck> checks;
  std::string object;  // ELF
};

std::string encode_blob(const CpuBlob& blob);
// Errors say what is wrong with the bytes.
Result<CpuBlob> decode_blob(std::string_view bytes);

}  // namespace graphc
