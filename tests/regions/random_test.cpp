// Every fusion of random graphs, by a backend's templates and by the interpreter. A failure names its seed;
// GRAPHC_SEED=n runs that one alone, GRAPHC_LONG_TESTS twenty times as many.
#include <cstdlib>

#include "ir/print.h"
#include "passes/passes.h"
#include "tests/passes/random_graph.h"
#include "tests/regions/judge.h"

namespace graphc {
namespace {

std::vector<uint64_t> seeds(int count) {
  if (const char* s = std::getenv("GRAPHC_SEED")) return {std::strtoull(s, nullptr, 10)};
  if (std::getenv("GRAPHC_LONG_TESTS")) count *= 20;
  std::vector<uint64_t> out;
  for (int i = 0; i < count; ++i) out.push_back(static_cast<uint64_t>(i));
  return out;
}

// Runs the function fusion by fusion; every fusion's operands are the interpreter's values, rounded to their
// types.
void run_graph(uint64_t seed, bool train, int opt_level) {
  RandomGraphOptions options;
  options.nodes = 6 + static_cast<int>(seed % 15);
  options.train = train;
  RandomGraph g = random_graph(seed, options);
  ASSERT_TRUE(build_pipeline({.opt_level = opt_level}).run(*g.module).ok());
  const Func& f = *g.func();
  std::unordered_map<const Value*, HostTensor> values;
  Sizes sizes;
  for (size_t i = 0; i < g.inputs.size(); ++i) {
    const Value* a = f.body.args[i].get();
    values[a] = g.inputs[i];
    for (size_t d = 0; d < a->type.shape.size(); ++d)
      if (auto s = a->type.shape[d].as_symbol()) sizes[std::string(*s)] = g.inputs[i].shape[d];
  }
  for (const auto& v : g.module->variables) {  // the optimizer's are new, and 0
    auto it = g.variables.find(v->name);
    values[&v->value] =
        it != g.variables.end()
            ? it->second
            : HostTensor::zeros(v->value.type.dtype, JudgedCase::shape_of(v->value.type, sizes));
  }
  for (const auto& n : f.body.nodes) {
    if (n->op->name == "reshape") {
      HostTensor t = values.at(n->operands[0]);
      t.shape = JudgedCase::shape_of(n->result()->type, sizes);
      values[n->result()] = t;
    }
    if (n->op->name != "fusion") continue;
    JudgedCase c(*n, f);
    SCOPED_TRACE(print(c.func()));
    for (const Value* v : n->operands) {
      HostTensor t = values.at(v);
      std::vector<std::byte> bytes = t.to_bytes();
      bytes.resize(bytes.size() + 8);
      c.inputs.push_back(HostTensor::from_bytes(t.dtype, t.shape, bytes.data()));
    }
    c.perturbations = 3;
    c.tolerance = 1e-5;
    c.few_runs();
    c.check(sizes);
    if (::testing::Test::HasFailure()) return;
    for (size_t r = 0; r < n->results.size(); ++r) values[n->results[r].get()] = c.want[r];
  }
}

TEST(JUDGED(RandomGraphs), FusionsComputeWhatTheInterpreterDoes) {
  for (uint64_t seed : seeds(60)) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    run_graph(seed, seed % 3 == 0, seed % 5 == 4 ? 0 : 2);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace graphc
