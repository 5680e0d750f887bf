// All passes and the pipeline made of them. A pass is a free function in a file of its own name, with the IR
// before and after at the top of that file; docs/adding-a-pass.md shows how to add one.
#pragma once

#include "passes/pass_manager.h"

namespace graphc {

Status canonicalize(Module& m);  // one form for equal things: identities, compositions, operand order
Status fold(Module& m);          // computes what only constants enter
Status cse(Module& m);           // equal nodes become one
Status dce(Module& m);           // drops what no result and no effect needs
Status gradient(Module& m);      // `optimize` -> backward, clipping, update, state
Status attention(Module& m);     // sdpa -> attention, for targets with a kernel for it
Status expand(Module& m);        // composites -> primitives
// The same for all but the ops of regions of these kinds ("attention").
Status expand_except(Module& m, const std::vector<std::string>& kinds);
Status fuse(Module& m);      // primitives -> fusion regions, reshape, assign
Status unfused(Module& m);   // the same form with one primitive a region: what -O0 and comparisons run
Status schedule(Module& m);  // an order that frees memory early and lets state be updated in place

// dce of one block alone, for passes that build on it.
void dce_block(Block& block);

struct PipelineOptions {
  int opt_level = 2;  // 0: only what is needed to run (gradient, expand, unfused)
  // Kinds of regions that the target has kernels for besides those that every backend has. Known:
  // "attention".
  std::vector<std::string> extra_kinds = {};
};
// From the frontend's core module to what backends compile and plan_memory plans.
PassManager build_pipeline(const PipelineOptions& options = {});

// Passes by name, for graphc-opt: "cse,dce"; "pipeline" and "pipeline-O0" name the whole,
// "pipeline-attention" that with extra_kinds {"attention"}, "expand-but-attention" its expand. The error
// lists the known names.
Result<std::vector<Pass>> parse_pass_list(std::string_view names);

}  // namespace graphc
