// The examples through the whole pipeline: numbers of steps, and what the memory plan needs.
#include <gtest/gtest.h>

#include "frontend/frontend.h"
#include "ir/op.h"
#include "passes/passes.h"
#include "passes/plan_memory.h"

namespace graphc {
namespace {

struct Example {
  const char* name;
  std::map<std::string, std::string> set;  // at a small batch
};
const Example kExamples[] = {
    {"mlp", {{"N", "4"}}},
    {"mnist_cnn", {{"N", "4"}}},
    {"shapes", {{"N", "4"}}},
    {"cnn_224", {{"N", "2"}}},
    {"chargpt", {{"N", "2"}, {"T", "64"}}},
    {"gpt2", {{"N", "1"}, {"T", "32"}}},
    {"resnet50", {{"N", "2"}}},
};

std::unique_ptr<Module> compiled(const Example& e, int opt_level = 2) {
  auto file = GraphFile::load(std::string(GRAPHC_SOURCE_DIR) + "/examples/" + e.name + ".graph");
  ElaborateOptions options;
  options.training = true;
  options.set = e.set;
  auto net = file->elaborate(options);
  if (!net) {
    ADD_FAILURE() << file->report();
    return nullptr;
  }
  PassManager pm = build_pipeline({.opt_level = opt_level});
  pm.options.verify_each = true;
  const Status s = pm.run(*net->module);
  EXPECT_TRUE(s.ok()) << s.error().message;
  return std::move(net->module);
}

const Value* root(const Value* v) {
  while (v->node && v->node->op == &ops::reshape) v = v->node->operands[0];
  return v;
}

// The largest sum, over the steps, of what the fusions made and something still wants, each value in memory
// of its own. What goes straight to an output or a variable isn't counted (the plan doesn't either).
int64_t live_bytes(const Func& f) {
  std::unordered_map<const Value*, std::pair<int, int>> alive;
  int steps = 0;
  for (const auto& n : f.body.nodes) {
    if (n->op != &ops::fusion) continue;
    for (const auto& r : n->results) alive[r.get()] = {steps, steps};
    for (const Value* v : n->operands)
      if (auto it = alive.find(root(v)); it != alive.end()) it->second.second = steps;
    ++steps;
  }
  for (const auto& n : f.body.nodes)
    if (n->op == &ops::assign) alive.erase(root(n->operands[1]));
  for (const Value* v : f.body.results) alive.erase(root(v));
  std::vector<int64_t> change(steps + 1, 0);
  for (const auto& [v, interval] : alive) {
    const int64_t bytes = v->type.num_elements().constant() * static_cast<int64_t>(dtype_size(v->type.dtype));
    change[interval.first] += (bytes + 63) / 64 * 64;
    change[interval.second + 1] -= (bytes + 63) / 64 * 64;
  }
  int64_t now = 0, peak = 0;
  for (int64_t c : change) peak = std::max(peak, now += c);
  return peak;
}

// Buffers that are alive at the same time don't overlap, and every value lies in a buffer of its size that is
// alive from the step that makes it to the last that reads it.
void check_plan(const Func& f, const MemoryPlan& plan) {
  const auto& b = plan.buffers;
  for (size_t i = 0; i < b.size(); ++i) {
    if (b[i].home != PlanBuffer::kArena) continue;
    ASSERT_TRUE(b[i].offset.has_value());
    ASSERT_EQ(*b[i].offset % 64, 0);
    ASSERT_LE(*b[i].offset + b[i].bytes.constant(), plan.arena_bytes);
    for (size_t k = 0; k < i; ++k) {
      if (b[k].home != PlanBuffer::kArena) continue;
      const bool time = b[i].first_step <= b[k].last_step && b[k].first_step <= b[i].last_step;
      const bool space = *b[i].offset < *b[k].offset + b[k].bytes.constant() &&
                         *b[k].offset < *b[i].offset + b[i].bytes.constant();
      ASSERT_FALSE(time && space) << "@" << f.name << ": buffers " << i << " and " << k;
    }
  }
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    auto alive = [&](const Value* v) {
      const PlanBuffer& x = b[plan.buffer_of.at(v)];
      const int step = static_cast<int>(s);
      return x.home != PlanBuffer::kArena || (x.first_step <= step && step <= x.last_step);
    };
    for (const Value* v : plan.steps[s]->operands) ASSERT_TRUE(alive(v)) << "@" << f.name << " step " << s;
    for (const auto& r : plan.steps[s]->results) {
      ASSERT_TRUE(alive(r.get())) << "@" << f.name << " step " << s;
      const Dim bytes = r->type.num_elements() * static_cast<int64_t>(dtype_size(r->type.dtype));
      ASSERT_EQ(b[plan.buffer_of.at(r.get())].bytes, bytes) << "@" << f.name << " step " << s;
    }
  }
}

TEST(Examples, MemoryIsWhatIsAlive) {
  for (const Example& e : kExamples) {
    for (int level : {0, 2}) {
      std::unique_ptr<Module> m = compiled(e, level);
      ASSERT_TRUE(m) << e.name;
      for (const auto& f : m->funcs) {
        auto plan = plan_memory(*f);
        ASSERT_TRUE(plan.ok()) << plan.error().message;
        ASSERT_TRUE(plan->is_static) << e.name << " @" << f->name;
        EXPECT_LE(static_cast<double>(plan->arena_bytes), 1.1 * static_cast<double>(plan->live_bytes))
            << e.name << " @" << f->name;
        EXPECT_LE(static_cast<double>(plan->arena_bytes), 1.1 * static_cast<double>(live_bytes(*f)))
            << e.name << " @" << f->name;
        check_plan(*f, *plan);
        // In place never needs more, and without it everything still has a place.
        auto apart = plan_memory(*f, {.workspace_bytes = {}, .in_place = false});
        ASSERT_TRUE(apart.ok());
        EXPECT_LE(plan->arena_bytes, apart->arena_bytes) << e.name << " @" << f->name;
        check_plan(*f, *apart);
      }
    }
  }
}

TEST(Examples, StateIsUpdatedInPlace) {
  for (const Example& e : kExamples) {
    std::unique_ptr<Module> m = compiled(e);
    ASSERT_TRUE(m) << e.name;
    for (const auto& f : m->funcs) {
      auto plan = plan_memory(*f);
      ASSERT_TRUE(plan.ok());
      // Counters, and scales of norms that the step which updates them reads in two places.
      int64_t copied = 0, all = 0;
      for (const PlanCopy& c : plan->copies) copied += c.bytes.constant();
      for (const auto& v : m->variables)
        all +=
            v->value.type.num_elements().constant() * static_cast<int64_t>(dtype_size(v->value.type.dtype));
      EXPECT_LE(copied, 64 + all / 200) << e.name << " @" << f->name;
    }
  }
}

TEST(Examples, NumbersOfSteps) {
  // Upper bounds, a little above what fusion reaches: a change that breaks a fusion shows here.
  const std::map<std::string, int> kSteps = {
      {"MLP", 3},       {"MLP.train", 16},      {"MnistCNN", 6}, {"MnistCNN.train", 24},
      {"CharGPT", 54},  {"CharGPT.train", 255}, {"GPT2", 158},   {"GPT2.train", 710},
      {"ResNet50", 63}, {"ResNet50.train", 280}};
  size_t seen = 0;
  for (const Example& e : kExamples) {
    std::unique_ptr<Module> m = compiled(e);
    ASSERT_TRUE(m) << e.name;
    for (const auto& f : m->funcs) {
      auto it = kSteps.find(f->name);
      if (it == kSteps.end()) continue;
      int steps = 0;
      for (const auto& n : f->body.nodes) steps += n->op == &ops::fusion;
      EXPECT_LE(steps, it->second) << "@" << f->name;
      ++seen;
    }
  }
  EXPECT_EQ(seen, kSteps.size());
}

}  // namespace
}  // namespace graphc
