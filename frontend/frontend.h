// The frontend's one door: a .graph file in, core modules or diagnostics out.
//
//   auto file = GraphFile::load("examples/mnist_cnn.graph");
//   ElaborateOptions o;
//   o.training = true;
//   o.set["N"] = "64";
//   std::optional<Elaborated> e = file->elaborate(o);   // nullopt: file->report() says why
//   std::fputs(file->report().c_str(), stderr);         // warnings come in either case
//   Func* f = e->module->find_func(e->model);
//
// Functions of the module, for a model Net:
//   @Net        inference: training = false; arguments are the model's inputs, results its outputs
//   @Net.eval   training = false; arguments are the model's inputs, then the train section's; results are the
//               model's outputs, then loss.sum, loss.count and <metric>.sum, <metric>.count of each metric
//   @Net.train  training = true; the same arguments; results loss.sum, loss.count and those of the metrics;
//   its body
//               holds the state's assigns and one `optimize(%loss)` per optimizer, which the gradient pass
//               replaces
// The last two only with ElaborateOptions::training and only if the file has a train section for the model.
// An unnamed result is called "output". A count is the size of the first input's first axis, a sum the value
// times it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace graphc {

struct ModelInfo {
  std::string name;
  bool has_train = false;
};

// What the train section says beyond the functions. Everything the gradient pass needs stands in the optimize
// nodes; this is for the program that drives the training.
struct TrainSpec {
  std::vector<std::string> inputs;   // the section's own inputs, which follow the model's
  std::vector<std::string> metrics;  // names, in order
  std::string precision = "f32";     // f32, bf16 or f16
  int64_t accumulate = 1;            // batches a step
  double clip_norm = 0;              // 0: none
  Attrs settings;                    // set epochs = 3: defaults for the driver's own options
};

struct ElaborateOptions {
  std::string model;      // "": the file's only model, or the only one with a train section
  bool training = false;  // also make @Net.eval and @Net.train
  // Overrides, as typed after --set: sizes of the model (N=8), constants of the root file, settings of the
  // train section's `optimizer`, `clip`, `accumulate`, and its `set` entries. An unknown name is an error.
  std::map<std::string, std::string> set;
};

struct Elaborated {
  std::unique_ptr<Module> module;
  std::string model;
  std::optional<TrainSpec> train;  // if the model has a train section
};

class GraphFile {
 public:
  // Reads and parses the file and what it imports. Never null; a file that can't be read is a diagnostic.
  static std::unique_ptr<GraphFile> load(const std::string& path);
  // The same from text; imports are looked for beside `name`.
  static std::unique_ptr<GraphFile> from_text(std::string name, std::string text);
  ~GraphFile();

  bool ok() const;  // no errors so far
  int errors() const;
  int warnings() const;
  // All diagnostics so far, printed; "" if there are none.
  std::string report() const;
  const std::vector<ModelInfo>& models() const;  // in order of definition

  // Surface -> core. nullopt if there were errors, earlier ones included. May be called several times.
  std::optional<Elaborated> elaborate(const ElaborateOptions& options);

  struct Impl;

 private:
  explicit GraphFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace graphc
