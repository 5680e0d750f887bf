// Modules: the text of a program, compiled by g++ once (and kept on disk), and copies of it in memory: one
// for each thread of the operating system, because its shared memory is its static data.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/cuda/standin/image.h"
#include "tests/cuda/standin/runner.h"

namespace standin {

class Module {
 public:
  // CUDA_ERROR_INVALID_IMAGE, with g++'s log on stderr, if the text doesn't compile.
  static CUresult load(const Image& image, const Config& config, std::shared_ptr<Module>* out);
  ~Module();

  // -1: there is none of that name.
  int find(const std::string& kernel) const;
  const KernelEntry& kernel(int i) const { return copies_[0]->kernels[i]; }
  // Loaded when first asked for; nullptr if it can't be.
  const LoadedModule* copy(size_t i);
  size_t max_copies() const { return copies_.size(); }

  bool unloaded = false;

 private:
  std::string path_;
  std::vector<std::unique_ptr<LoadedModule>> copies_;
};

struct Function {
  std::shared_ptr<Module> module;
  int index;
};

// Runs all blocks. CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_LAUNCH_FAILED, with a line on stderr.
CUresult execute(Module& module, int kernel, unsigned blocks, unsigned threads,
                 const std::vector<uint64_t>& parameters);

}  // namespace standin
