// Runs a scheduled function in the memory that plan_memory gave it, step by step with the reference
// interpreter, over poisoned memory; to compare with the same run in separate memory.
#pragma once

#include <string>

#include "ir/interpret.h"

namespace graphc {

// "" if results and variables are equal, bit by bit, and if no result that shares memory with an operand
// depends on another element (in rows: another row) of that operand than its own. `f` has constant sizes
// only.
std::string plan_problem(const Module& m, const Func& f, const std::vector<HostTensor>& inputs,
                         const VariableValues& variables);

}  // namespace graphc
