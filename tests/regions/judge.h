// Cases of regions that every backend with templates is judged by. The executable they are built into chooses
// the judge: the cpu's machine code (tests/backends), or the cuda templates' loop programs and, on the
// stand-in, what is emitted for them (tests/cuda/kernels).
//
//   TEST(JUDGED(Rows), Softmax) { JudgedCase c("rows"); ... c.check({{"N", 7}}); }     // CpuRows or CudaRows
// What a case may ask of either judge: few_runs(), to leave out runs that differ in the number of threads
// alone.
#pragma once

#ifdef GRAPHC_JUDGE_CUDA
#include "tests/cuda/kernels/kernel_case.h"
#define JUDGED(suite) Cuda##suite
namespace graphc {
using JudgedCase = cuda::KernelCase;
}  // namespace graphc
#else
#include "tests/backends/region_case.h"
#define JUDGED(suite) Cpu##suite
namespace graphc {
using JudgedCase = RegionCase;
}  // namespace graphc
#endif
