#include "passes/plan_memory.h"

#include <algorithm>
#include <climits>
#include <numeric>

#include <fmt/format.h>

#include "ir/op.h"
#include "passes/alias.h"

namespace graphc {
namespace {

constexpr int kForever = INT_MAX;

int64_t aligned(int64_t bytes, int64_t alignment) { return (bytes + alignment - 1) / alignment * alignment; }

Dim bytes_of(const TensorType& t) { return t.num_elements() * static_cast<int64_t>(dtype_size(t.dtype)); }

// Places intervals in the given order, each into the tightest gap between those already placed that are alive
// at the same time.
int64_t place(std::vector<Interval>& v, const std::vector<int>& order, int64_t alignment) {
  int64_t total = 0;
  std::vector<int> placed;
  std::vector<std::pair<int64_t, int64_t>> taken;
  for (int i : order) {
    Interval& x = v[i];
    const int64_t size = aligned(x.bytes, alignment);
    taken.clear();
    for (int k : placed)
      if (v[k].first <= x.last && x.first <= v[k].last && v[k].bytes > 0)
        taken.emplace_back(v[k].offset, v[k].offset + aligned(v[k].bytes, alignment));
    std::sort(taken.begin(), taken.end());
    int64_t at = 0, best = -1, best_gap = INT64_MAX;
    for (const auto& [lo, hi] : taken) {
      const int64_t gap = lo - at;
      if (gap >= size && gap < best_gap) best = at, best_gap = gap;
      at = std::max(at, hi);
    }
    x.offset = best >= 0 ? best : at;
    if (size > 0) total = std::max(total, x.offset + size);
    placed.push_back(i);
  }
  return total;
}

class Planner {
 public:
  Planner(const Func& f, const PlanOptions& options) : f_(f), options_(options) {}

  Result<MemoryPlan> run() {
    GC_CHECK(collect());
    inputs_and_variables();
    outputs();
    state_in_place();
    arena_values();
    GC_CHECK(end_copies());
    offsets();
    return std::move(plan_);
  }

 private:
  // The value whose memory v's is.
  static const Value* root(const Value* v) {
    while (v->node && v->node->op == &ops::reshape) v = v->node->operands[0];
    return v;
  }

  Status collect() {
    for (const auto& n : f_.body.nodes) {
      if (n->op == &ops::assign) {
        assigns_.push_back(n.get());
        const Value* r = root(n->operands[1]);
        ends_.push_back(r);
        if (!r->node) last_use_[r] = kForever;  // the old value is wanted after the last step
      } else if (n->op == &ops::reshape) {
        views_.push_back(n.get());
      } else if (n->op == &ops::fusion) {
        step_of_[n.get()] = static_cast<int>(plan_.steps.size());
        plan_.steps.push_back(n.get());
      } else {
        return internal_error(
            fmt::format("@{}: plan_memory needs fused nodes, not {}", f_.name, n->op->name));
      }
    }
    for (size_t s = 0; s < plan_.steps.size(); ++s)
      for (const Value* v : plan_.steps[s]->operands) {
        int& last = last_use_.try_emplace(root(v), -1).first->second;
        last = std::max(last, static_cast<int>(s));
      }
    for (const Value* v : f_.body.results)
      if (const Value* r = root(v); !r->node) last_use_[r] = kForever;
    return ok_status();
  }

  int add(PlanBuffer b) {
    plan_.buffers.push_back(std::move(b));
    return static_cast<int>(plan_.buffers.size()) - 1;
  }
  bool has_buffer(const Value* v) const { return plan_.buffer_of.contains(v); }
  int last_use(const Value* v) const {
    auto it = last_use_.find(v);
    return it == last_use_.end() ? -1 : it->second;
  }

  void inputs_and_variables() {
    const int end = static_cast<int>(plan_.steps.size()) - 1;
    auto variable = [&](const Value* v) {
      if (v->variable && !has_buffer(v))
        plan_.buffer_of[v] = add({.home = PlanBuffer::kVariable,
                                  .variable = v->variable,
                                  .bytes = bytes_of(v->type),
                                  .last_step = end});
    };
    for (const auto& a : f_.body.args)
      plan_.buffer_of[a.get()] =
          add({.home = PlanBuffer::kInput, .index = a->index, .bytes = bytes_of(a->type), .last_step = end});
    for (const Node* s : plan_.steps)
      for (const Value* v : s->operands) variable(root(v));
    for (const Node* a : assigns_) variable(a->operands[0]), variable(root(a->operands[1]));
    for (const Value* v : f_.body.results) variable(root(v));
  }

  void outputs() {
    const int end = static_cast<int>(plan_.steps.size()) - 1;
    for (size_t i = 0; i < f_.body.results.size(); ++i) {
      const Value* r = root(f_.body.results[i]);
      const int b = add({.home = PlanBuffer::kOutput,
                         .index = static_cast<int>(i),
                         .bytes = bytes_of(r->type),
                         .last_step = end});
      output_.push_back(b);
      if (!has_buffer(r)) plan_.buffer_of[r] = b;  // written there at once
    }
  }

  // A state's new value goes over the old one if nobody reads that later, or at the same step elsewhere.
  void state_in_place() {
    if (!options_.in_place) return;
    std::unordered_map<const Variable*, int> times;
    for (const Node* a : assigns_) ++times[a->operands[0]->variable];
    for (const Node* a : assigns_) {
      const Value* variable = a->operands[0];
      const Value* r = root(a->operands[1]);
      if (!r->node || has_buffer(r) || times[variable->variable] > 1) continue;
      const int s = step_of_.at(r->node);
      const int last = last_use(variable);
      if (last > s || (last == s && !may_overwrite(s, r->index, variable))) continue;
      plan_.buffer_of[r] = plan_.buffer_of.at(variable);
    }
  }

  // Result j of step s over the memory of `old`: every operand of s that lies there has to allow it.
  bool may_overwrite(int s, int j, const Value* old) {
    const auto& allowed = candidates(s)[j];
    const std::vector<Value*>& operands = plan_.steps[s]->operands;
    for (size_t k = 0; k < operands.size(); ++k) {
      const Value* r = root(operands[k]);
      const bool there =
          r == old || (has_buffer(r) && has_buffer(old) && plan_.buffer_of.at(r) == plan_.buffer_of.at(old));
      if (there && std::find(allowed.begin(), allowed.end(), static_cast<int>(k)) == allowed.end())
        return false;
    }
    return true;
  }
  const std::vector<std::vector<int>>& candidates(int s) {
    if (candidates_.size() < plan_.steps.size()) candidates_.resize(plan_.steps.size());
    if (candidates_[s].empty()) candidates_[s] = alias_candidates(*plan_.steps[s]);
    return candidates_[s];
  }

  void arena_values() {
    // Values that an assign copies at the end live till then.
    const int end = static_cast<int>(plan_.steps.size()) - 1;
    for (const Value* r : ends_)
      if (r->node && !has_buffer(r)) last_use_[r] = end;
    plan_.workspace_of.assign(plan_.steps.size(), -1);
    for (int s = 0; s <= end; ++s) {
      const Node& n = *plan_.steps[s];
      for (const auto& r : n.results) {
        if (has_buffer(r.get())) continue;
        const int last = std::max(s, last_use(r.get()));
        int b = options_.in_place ? reuse(s, *r) : -1;
        if (b >= 0)
          plan_.buffers[b].last_step = std::max(plan_.buffers[b].last_step, last);
        else
          b = add({.bytes = bytes_of(r->type), .first_step = s, .last_step = last});
        plan_.buffer_of[r.get()] = b;
      }
      if (!options_.workspace_bytes) continue;
      Dim bytes = options_.workspace_bytes(n);
      if (bytes.is_constant(0)) continue;
      plan_.workspace_of[s] = add({.bytes = bytes, .first_step = s, .last_step = s, .workspace = true});
    }
    for (const Node* v : views_)
      if (auto it = plan_.buffer_of.find(root(v->operands[0])); it != plan_.buffer_of.end())
        plan_.buffer_of[v->result()] = it->second;
  }

  // A buffer of the arena that an operand leaves behind at this step and that result r may overwrite.
  int reuse(int s, const Value& r) {
    for (int k : candidates(s)[r.index]) {
      const Value* old = root(plan_.steps[s]->operands[k]);
      if (!old->node) continue;
      const int b = plan_.buffer_of.at(old);
      const PlanBuffer& buffer = plan_.buffers[b];
      if (buffer.home != PlanBuffer::kArena || buffer.last_step != s) continue;
      if (!(buffer.bytes == bytes_of(r.type))) continue;
      bool taken = false;  // by another result of this step
      for (const auto& other : plan_.steps[s]->results)
        taken = taken || (has_buffer(other.get()) && plan_.buffer_of.at(other.get()) == b);
      if (taken || !may_overwrite(s, r.index, old)) continue;
      return b;
    }
    return -1;
  }

  Status end_copies() {
    for (size_t i = 0; i < f_.body.results.size(); ++i) {
      const int src = plan_.buffer_of.at(root(f_.body.results[i]));
      if (src != output_[i]) plan_.copies.push_back({src, output_[i], plan_.buffers[output_[i]].bytes});
    }
    std::vector<PlanCopy> state;
    for (const Node* a : assigns_) {
      const int src = plan_.buffer_of.at(root(a->operands[1])), dst = plan_.buffer_of.at(a->operands[0]);
      if (src == dst) continue;
      std::erase_if(state, [&](const PlanCopy& c) { return c.dst == dst; });  // the last assign counts
      state.push_back({src, dst, plan_.buffers[dst].bytes});
    }
    // A variable whose old value another copy wants is written after that.
    while (!state.empty()) {
      bool progress = false;
      for (size_t i = 0; i < state.size() && !progress; ++i) {
        bool wanted = false;
        for (size_t k = 0; k < state.size(); ++k) wanted = wanted || (k != i && state[k].src == state[i].dst);
        if (wanted) continue;
        plan_.copies.push_back(state[i]);
        state.erase(state.begin() + static_cast<std::ptrdiff_t>(i));
        progress = true;
      }
      if (!progress)
        return unsupported(
            fmt::format("@{}: states are assigned to each other in a circle (@{} is one): add a "
                        "computation to one of them",
                        f_.name, plan_.buffers[state[0].dst].variable->name));
    }
    return ok_status();
  }

  void offsets() {
    std::vector<Interval> intervals;
    std::vector<int> which;
    for (size_t b = 0; b < plan_.buffers.size(); ++b) {
      const PlanBuffer& buffer = plan_.buffers[b];
      if (buffer.home != PlanBuffer::kArena) continue;
      if (!buffer.bytes.is_constant()) {
        plan_.is_static = false;
        return;
      }
      intervals.push_back({buffer.bytes.constant(), buffer.first_step, buffer.last_step});
      which.push_back(static_cast<int>(b));
    }
    std::vector<int64_t> change(plan_.steps.size() + 1, 0);
    for (const Interval& i : intervals)
      change[i.first] += aligned(i.bytes, options_.alignment),
          change[i.last + 1] -= aligned(i.bytes, options_.alignment);
    int64_t live = 0;
    for (int64_t c : change) plan_.live_bytes = std::max(plan_.live_bytes, live += c);
    plan_.arena_bytes = assign_offsets(intervals, options_.alignment);
    for (size_t k = 0; k < which.size(); ++k) plan_.buffers[which[k]].offset = intervals[k].offset;
  }

  const Func& f_;
  const PlanOptions& options_;
  MemoryPlan plan_;
  std::vector<const Node*> assigns_, views_;
  std::vector<const Value*> ends_;
  std::vector<int> output_;  // buffers
  std::unordered_map<const Node*, int> step_of_;
  std::unordered_map<const Value*, int> last_use_;  // of roots: the last step that reads them
  std::vector<std::vector<std::vector<int>>> candidates_;
};

}  // namespace

int64_t assign_offsets(std::vector<Interval>& v, int64_t alignment) {
  std::vector<int64_t> change;
  int end = 0;
  for (const Interval& i : v) end = std::max(end, i.last + 1);
  change.assign(end + 1, 0);
  for (const Interval& i : v) change[i.first] += aligned(i.bytes, alignment), change[i.last + 1] -= aligned(i.bytes, alignment);
  int64_t live = 0, bound = 0;
  for (int64_t c : change) bound = std::max(bound, live += c);

  // No one order is best everywhere: take the first that meets the bound, else the best.
  std::vector<std::vector<int>> orders;
  auto by = [&](auto&& less) {
    std::vector<int> o(v.size());
    std::iota(o.begin(), o.end(), 0);
    std::stable_sort(o.begin(), o.end(), less);
    orders.push_back(std::move(o));
  };
  auto length = [&](int i) { return v[i].last - v[i].first + 1; };
  by([&](int a, int b) { return v[a].bytes > v[b].bytes; });
  by([&](int a, int b) {
    return static_cast<double>(v[a].bytes) * length(a) > static_cast<double>(v[b].bytes) * length(b);
  });
  by([&](int a, int b) { return length(a) > length(b); });
  by([&](int a, int b) { return v[a].first < v[b].first; });
  int64_t best = INT64_MAX;
  std::vector<Interval> best_offsets;
  for (const auto& o : orders) {
    std::vector<Interval> trial = v;
    const int64_t total = place(trial, o, alignment);
    if (total < best) best = total, best_offsets = std::move(trial);
    if (best <= bound) break;
  }
  v = std::move(best_offsets);
  return v.empty() ? 0 : best;
}

Result<MemoryPlan> plan_memory(const Func& f, const PlanOptions& options) {
  return Planner(f, options).run();
}

std::string to_string(const MemoryPlan& plan, const Func& f) {
  // Values by their number in core text, where all results of the function's nodes are numbered in order.
  std::unordered_map<const Value*, std::string> names;
  int next = 0;
  std::vector<std::vector<std::string>> held(plan.buffers.size());
  for (const auto& n : f.body.nodes)
    for (const auto& r : n->results) {
      const std::string name = r->name.empty() ? fmt::format("%{}", next++) : "%" + r->name;
      if (auto it = plan.buffer_of.find(r.get()); it != plan.buffer_of.end())
        held[it->second].push_back(name);
    }
  std::string out = fmt::format("plan @{}: {} steps", f.name, plan.steps.size());
  if (plan.is_static)
    out += fmt::format(", arena {} bytes, live {} bytes", plan.arena_bytes, plan.live_bytes);
  out += "\n";
  for (size_t b = 0; b < plan.buffers.size(); ++b) {
    const PlanBuffer& x = plan.buffers[b];
    out += fmt::format("  buffer {}: ", b);
    switch (x.home) {
      case PlanBuffer::kArena:
        out += fmt::format("arena steps {}..{}", x.first_step, x.last_step);
        if (x.offset) out += fmt::format(" at {}", *x.offset);
        if (x.workspace) out += " workspace";
        break;
      case PlanBuffer::kInput: out += fmt::format("input {}", f.body.args[x.index]->name); break;
      case PlanBuffer::kOutput: out += fmt::format("output {}", f.result_names[x.index]); break;
      case PlanBuffer::kVariable: out += fmt::format("variable @{}", x.variable->name); break;
    }
    out += fmt::format(", {} bytes", x.bytes.to_string());
    for (size_t k = 0; k < held[b].size(); ++k) out += (k ? ", " : ": ") + held[b][k];
    out += "\n";
  }
  for (const PlanCopy& c : plan.copies)
    out += fmt::format("  copy {} -> {}, {} bytes\n", c.src, c.dst, c.bytes.to_string());
  return out;
}

}  // namespace graphc
