// The distinct fusions of an example after the pass pipeline, each as a module with one function: what a
// backend is given.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "ir/op.h"
#include "ir/print.h"
#include "tools/driver/compile.h"

namespace graphc {

struct ExampleRegions {
  std::unique_ptr<Module> module;  // the whole
  std::vector<std::unique_ptr<Module>> regions;
};

// functions: infer alone, or eval and train as well.
inline Result<ExampleRegions> example_regions(const std::string& name, bool training,
                                              const std::map<std::string, std::string>& set = {}) {
  CompileOptions o;
  o.target = "cuda";
  o.functions = {.infer = true, .eval = training, .train = training};
  o.set = set;
  SourceOptions source;
  source.training = training;
  source.set = set;
  GC_TRY(ModelSource loaded,
         load_model(std::string(GRAPHC_SOURCE_DIR) + "/examples/" + name + ".graph", source));
  GC_CHECK(run_pipeline(*loaded.module, loaded.model, o));
  ExampleRegions out;
  std::set<std::string> seen;
  for (const auto& f : loaded.module->funcs)
    for (const auto& n : f->body.nodes) {
      if (n->op != &ops::fusion) continue;
      auto m = extract_fusion(*n, *f);
      if (seen.insert(print(*m, {})).second) out.regions.push_back(std::move(m));
    }
  out.module = std::move(loaded.module);
  return out;
}

}  // namespace graphc
