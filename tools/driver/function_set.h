// Which functions of a model are wanted.
#pragma once

namespace graphc {

struct FunctionSet {
  bool infer = true, eval = false, train = false;
};

}  // namespace graphc
