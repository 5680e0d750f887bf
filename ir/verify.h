// The verifier: what every pass may rely on and must leave behind. It runs after every pass, in release
// builds as well, and on everything that a loader makes.
//
// Module: variables have unique names, constant shapes, and an initialiser or data of the right size.
// Function: unique names of functions, arguments, results and symbols; as many result names as results.
// Node: operands are defined before it in the same block, or are arguments of that block or variables
// (regions
//   capture nothing); attributes are complete, known and canonical, and result types are what inference makes
//   of them; sizes use only the function's symbols.
// fusion: its region's arguments and results have the types of its operands and results, and hold neither
//   effects nor regions. assign writes a param or state of the same type, at the top level.
// Limits (runtime/base/limits.h): rank, sizes, element counts, numbers of nodes, values, operands, strings.
//
// The message names function, node and source line:
//   in @Net, node 12 relu (cnn.graph:3:22): ...
#pragma once

#include "ir/graph.h"
#include "runtime/base/limits.h"

namespace graphc {

Status verify(const Module& module, const LoadLimits& limits = {});

// A type's own rules: rank, sizes, overflow; `func` says which symbols exist (nullptr: none).
Status verify_type(const TensorType& type, const Func* func, const LoadLimits& limits = {});

// A node on its own: its attributes and result types against inference, its region against its types.
Status verify_node(const Node& node, const LoadLimits& limits = {});

}  // namespace graphc
