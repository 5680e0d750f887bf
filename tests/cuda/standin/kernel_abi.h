// What the stand-in's runner and the kernels it compiled know of each other. Part of the text of every
// compiled module (so it includes nothing) and of the stand-in itself.
#ifndef STANDIN_KERNEL_ABI_H
#define STANDIN_KERNEL_ABI_H

namespace standin {

// Which warp operation a thread waits in.
enum WarpOp { kShuffleIndex, kShuffleUp, kShuffleDown, kShuffleXor, kSyncWarp, kBallot };

// One of these in every loaded copy of a module; a copy is run by one thread of the operating system at a
// time.
struct State {
  // threadIdx.x, blockIdx.x, blockDim.x, gridDim.x; the runner sets them at every switch of fibers
  unsigned thread, block, threads, blocks;
  void* runner;
  void (*barrier)(void* runner, int site, int line);
  unsigned long long (*warp)(void* runner, int op, unsigned mask, unsigned long long value, unsigned arg,
                             unsigned width, int site, int line);
  // of checked modules: every access to memory that may be seen by others, but for those inside low..high
  void (*access)(void* runner, const void* p, unsigned long long bytes, bool write, const void* pc);
  void (*trap)(void* runner, int line);
  // the current thread's stack
  const char *low, *high;
};

// A kernel, as the text appended to a module describes it.
struct KernelEntry {
  const char* name;
  void (*call)(void** parameters);
  unsigned num_parameters;
  const unsigned* parameter_bytes;
  unsigned max_threads;  // of __launch_bounds__; 0: none
};

}  // namespace standin
#endif
