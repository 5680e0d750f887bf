// Moves batches into a context's inputs: fields go to inputs by name, what is left over in order.
#pragma once

#include <vector>

#include "runtime/data/dataset.h"
#include "runtime/data/loader.h"
#include "runtime/executor.h"

namespace graphc {

class Feed {
 public:
  // Every input needs a field of its dtype's kind and rank; fields nobody wants are left out.
  static Result<Feed> create(Context& context, const Dataset& set);
  Status set(const Batch& batch);
  int64_t field_of(size_t input) const { return field_[input]; }

 private:
  Context* context_ = nullptr;
  const Dataset* set_ = nullptr;
  std::vector<int64_t> field_;               // per input
  std::vector<std::vector<int64_t>> shape_;  // per input, with the batch axis first
};

}  // namespace graphc
