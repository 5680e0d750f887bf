// What run, bench, train and eval have in common: a model with weights and threads, ready to make contexts
// of. Nothing here knows of a compiler: a program that has one opens text as well, in its own Opener.
//
//   GC_TRY(Session s, opener.open(args, {.train = true, .eval = true}));
//   GC_TRY(auto context, Context::create(s.model, "infer", s.variables));
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backends/registry.h"
#include "runtime/base/thread_pool.h"
#include "runtime/executor.h"
#include "tools/cli/command.h"
#include "tools/driver/function_set.h"

namespace graphc::cli {

struct ModelArgs {
  std::string file;  // .graph or .gcx
  std::vector<std::string> set;
  std::string weights, weights_map;
  std::string max_memory, device;
  bool sync = false;
  int threads = 0;
  uint64_t seed = 0;
  // of text only
  std::string target = "cpu";
  std::string model;
  int opt_level = 2;
  bool strict = false;
  std::function<std::string()> for_text_only;  // the first given option that an artefact can't heed, or ""
};

struct Session {
  std::unique_ptr<ThreadPool> pool;
  std::shared_ptr<const Model> model;
  std::shared_ptr<Variables> variables;
  std::map<std::string, int64_t> sizes;     // --set of an artefact: sizes for inputs that are made up
  std::map<std::string, int64_t> settings;  // `set epochs = 3` and `set batch = 32` of the training recipe
  double compile_seconds = 0;               // 0 for an artefact
  ContextOptions context;                   // --max-memory, --sync
};

// How a program opens what its user names.
struct Opener {
  // Declares FILE and the options that choose what is opened.
  void (*options)(Command& command, ModelArgs& args);
  Result<Session> (*open)(const ModelArgs& args, const FunctionSet& functions);
  // An example's file in --help: "mlp" is examples/mlp.graph or mlp.gcx.
  std::string (*model_file)(const std::string& name);
};

// Declares --weights, --threads, --seed, --max-memory, --device, --sync, which every Opener has.
void add_session_options(Command& command, ModelArgs& args);

using Backends = Result<std::unique_ptr<BackendRegistry>> (*)(ThreadPool* pool);
// A session with a .gcx file, which must have the functions.
Result<Session> open_artefact(const ModelArgs& args, const FunctionSet& functions, Backends backends);
// The rest of opening: s.model and s.variables of a program that is in memory.
Status start_session(Session& s, Program program, const ModelArgs& args, Backends backends);

// --weights-map without --weights is a mistake.
Status check_weights_map(const ModelArgs& args);

// "cuda:1" as Model takes it.
Result<ModelOptions> parse_device(const std::string& text);

// "2GiB", "512M", "1000000"
Result<uint64_t> parse_bytes(const std::string& text);

void add_run(CommandLine&, const Opener&);
void add_bench(CommandLine&, const Opener&);
void add_train(CommandLine&, const Opener&);
void add_eval(CommandLine&, const Opener&);

}  // namespace graphc::cli
