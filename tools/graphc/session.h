// What run, bench, train and eval have in common: a model from text or from an artefact, with weights and
// threads, ready to make contexts of.
//
//   GC_TRY(Session s, open_session(args, {.train = true, .eval = true}));
//   GC_TRY(auto context, Context::create(s.model, "infer", s.variables));
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/base/thread_pool.h"
#include "runtime/executor.h"
#include "tools/driver/compile.h"
#include "tools/graphc/command.h"

namespace graphc::cli {

struct ModelArgs {
  std::string file;  // .graph or .gcx
  std::string target = "cpu";
  std::string model;
  std::vector<std::string> set;
  std::string weights;
  std::string max_memory;
  int opt_level = 2;
  bool strict = false;
  int threads = 0;
  uint64_t seed = 0;
  std::function<std::string()> for_text_only;  // the first given option that an artefact can't heed, or ""
};
// Declares FILE and the options that choose what is compiled.
void add_compile_options(Command& command, ModelArgs& args);
// The same and --weights, --threads, --seed, --max-memory.
void add_model_options(Command& command, ModelArgs& args);

struct Session {
  std::unique_ptr<ThreadPool> pool;
  std::shared_ptr<const Model> model;
  std::shared_ptr<Variables> variables;
  std::map<std::string, int64_t> sizes;  // --set of an artefact: sizes for inputs that are made up
  Attrs settings;                        // `set` entries of the training recipe
  double compile_seconds = 0;            // 0 for an artefact
  uint64_t max_memory = uint64_t{1} << 40;
};

// An artefact must have the functions; --set, --model and -O are for text.
Result<Session> open_session(const ModelArgs& args, const FunctionSet& functions);

// The options of `args` for the compiler; errors of usage.
Result<CompileOptions> compile_options(const ModelArgs& args, const FunctionSet& functions);

// "2GiB", "512M", "1000000"
Result<uint64_t> parse_bytes(const std::string& text);

}  // namespace graphc::cli
