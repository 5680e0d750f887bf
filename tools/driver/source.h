// A model to compile, from a .graph file in either form: surface text goes through the frontend, core text is
// parsed as it is.
//
//   GC_TRY(ModelSource s, load_model("examples/mnist_cnn.graph", {.training = true}));
//   s.module->find_func(s.model);
//
// An error's message is what to print: the diagnostics with their places.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "frontend/frontend.h"
#include "ir/graph.h"

namespace graphc {

struct SourceOptions {
  std::string model;             // "": the file's only one
  bool training = false;         // @Net.eval and @Net.train as well; an error if the model has no recipe
  bool training_if_any = false;  // the same, without the error
  std::map<std::string, std::string> set;  // as after --set
};

struct ModelSource {
  std::unique_ptr<Module> module;
  std::string model;               // @model is the inference function
  std::optional<TrainSpec> train;  // if the model has a recipe
  std::string warnings;            // printed diagnostics
  std::string core_hash;           // SHA-256 of the core text without locations
};

Result<ModelSource> load_model(const std::string& path, const SourceOptions& options);

}  // namespace graphc
