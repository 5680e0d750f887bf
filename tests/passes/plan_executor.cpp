#include "tests/passes/plan_executor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "ir/op.h"
#include "passes/fuse_graph.h"
#include "passes/plan_memory.h"

namespace graphc {
namespace {

using Bytes = std::vector<std::byte>;

// One fusion as a function of its operands.
class Step {
 public:
  explicit Step(const Node& fusion) {
    func_ = module_.add_func("step");
    std::unordered_map<const Value*, Value*> map;
    for (const auto& a : fusion.region->args)
      map[a.get()] = func_->body.add_arg(a->type, fmt::format("a{}", a->index));
    func_->body.results = clone_block_into(*fusion.region, func_->body, map);
    for (size_t i = 0; i < func_->body.results.size(); ++i)
      func_->result_names.push_back(fmt::format("r{}", i));
  }
  Result<std::vector<HostTensor>> run(const std::vector<HostTensor>& operands) const {
    VariableValues none;
    return interpret(module_, *func_, operands, none);
  }

 private:
  Module module_;
  Func* func_;
};

struct Memory {
  Bytes arena;
  std::vector<Bytes> own;  // by buffer, those outside of the arena
};

class Executor {
 public:
  Executor(const Module& m, const Func& f) : m_(m), f_(f) {}

  std::string run(const std::vector<HostTensor>& inputs, const VariableValues& variables) {
    auto planned = plan_memory(f_);
    if (!planned.ok()) return planned.error().message;
    plan_ = std::move(*planned);
    if (!plan_.is_static) return "sizes that aren't constant";
    start(inputs, variables);
    for (size_t s = 0; s < plan_.steps.size(); ++s)
      if (std::string problem = step(s); !problem.empty())
        return fmt::format("step {} ({}): {}", s, plan_.steps[s]->attr("kind").as_string(), problem);
    for (const PlanCopy& c : plan_.copies)
      std::memcpy(place(c.dst), place(c.src), static_cast<size_t>(c.bytes.constant()));
    return compare();
  }

 private:
  static const Value* root(const Value* v) {
    while (v->node && v->node->op == &ops::reshape) v = v->node->operands[0];
    return v;
  }
  std::byte* place(int b) {
    const PlanBuffer& x = plan_.buffers[b];
    return x.home == PlanBuffer::kArena ? memory_.arena.data() + *x.offset : memory_.own[b].data();
  }
  bool same(int b, const Bytes& want, const Dim& bytes) {
    const size_t n = static_cast<size_t>(bytes.constant());
    return n == 0 || std::memcmp(place(b), want.data(), n) == 0;
  }
  static HostTensor tensor(const TensorType& t, const std::byte* at) {
    return HostTensor::from_bytes(t.dtype, *static_shape(t.shape), at);
  }

  void start(const std::vector<HostTensor>& inputs, const VariableValues& variables) {
    memory_.arena.assign(static_cast<size_t>(plan_.arena_bytes) + 1, std::byte{0xCB});
    for (const PlanBuffer& b : plan_.buffers) {
      const auto bytes = b.home == PlanBuffer::kArena ? 0 : static_cast<size_t>(b.bytes.constant());
      memory_.own.emplace_back(bytes + 1, std::byte{0xCB});
      const HostTensor* t = nullptr;
      if (b.home == PlanBuffer::kInput) t = &inputs[b.index];
      HostTensor zero;
      if (b.home == PlanBuffer::kVariable) {
        auto it = variables.find(b.variable->name);
        const TensorType& type = b.variable->value.type;
        if (it == variables.end()) zero = HostTensor::zeros(type.dtype, *static_shape(type.shape));
        t = it == variables.end() ? &zero : &it->second;
      }
      if (!t) continue;
      Bytes data = t->to_bytes();
      std::copy(data.begin(), data.end(), memory_.own.back().begin());
    }
    // The same values apart.
    for (size_t i = 0; i < inputs.size(); ++i) apart_[f_.body.args[i].get()] = inputs[i].to_bytes();
    for (const auto& v : m_.variables) {
      auto it = variables.find(v->name);
      apart_[&v->value] =
          it == variables.end()
              ? HostTensor::zeros(v->value.type.dtype, *static_shape(v->value.type.shape)).to_bytes()
              : it->second.to_bytes();
    }
  }

  std::string step(size_t s) {
    const Node& n = *plan_.steps[s];
    const Step region(n);
    std::vector<HostTensor> here, there;
    for (const Value* v : n.operands) {
      here.push_back(tensor(v->type, place(plan_.buffer_of.at(v))));
      there.push_back(tensor(v->type, apart_.at(root(v)).data()));
      if (here.back().to_bytes() != there.back().to_bytes())
        return fmt::format("operand {} was overwritten before it was read", here.size() - 1);
    }
    auto out = region.run(here);
    if (!out.ok()) return out.error().message;
    for (size_t j = 0; j < n.results.size(); ++j) {
      const int b = plan_.buffer_of.at(n.result(static_cast<int>(j)));
      for (size_t k = 0; k < n.operands.size(); ++k)
        if (plan_.buffer_of.at(n.operands[k]) == b)
          if (std::string p = in_place_problem(n, region, here, *out, k); !p.empty())
            return fmt::format("result {} over operand {}: {}", j, k, p);
    }
    for (size_t j = 0; j < n.results.size(); ++j) {
      Bytes data = (*out)[j].to_bytes();
      std::copy(data.begin(), data.end(), place(plan_.buffer_of.at(n.result(static_cast<int>(j)))));
      apart_[n.result(static_cast<int>(j))] = std::move(data);
    }
    poison(static_cast<int>(s));
    return "";
  }

  // What nobody wants after step s is overwritten.
  void poison(int s) {
    for (size_t b = 0; b < plan_.buffers.size(); ++b) {
      const PlanBuffer& x = plan_.buffers[b];
      if (x.home != PlanBuffer::kArena || x.last_step != s) continue;
      bool copied = false;
      for (const PlanCopy& c : plan_.copies) copied = copied || c.src == static_cast<int>(b);
      if (!copied) std::memset(place(static_cast<int>(b)), 0xCB, static_cast<size_t>(x.bytes.constant()));
    }
  }

  // Changes a few elements of operand k, one at a time: only the result elements at the same position may
  // change, in rows those of the same row.
  static std::string in_place_problem(const Node& n, const Step& region,
                                      const std::vector<HostTensor>& operands,
                                      const std::vector<HostTensor>& expected, size_t k) {
    const int64_t size = operands[k].size();
    for (int64_t e = 0; e < size; e += std::max<int64_t>(1, size / 3)) {
      std::vector<HostTensor> changed = operands;
      if (is_float(changed[k].dtype))
        changed[k].f[e] += 0.37;
      else
        changed[k].i[e] ^= 1;
      auto out = region.run(changed);
      if (!out.ok()) continue;  // an index that is out of bounds now
      for (size_t j = 0; j < out->size(); ++j)
        for (int64_t i = 0; i < expected[j].size(); ++i) {
          const double a = expected[j].at(i), b = (*out)[j].at(i);
          if (a == b || (std::isnan(a) && std::isnan(b))) continue;
          if (!same_place(n, e, size, i, expected[j].size()))
            return fmt::format("element {} of result {} depends on element {} of the operand", i, j, e);
        }
    }
    return "";
  }

  static bool same_place(const Node& n, int64_t e, int64_t of_e, int64_t i, int64_t of_i) {
    if (e == i && of_e == of_i) return true;
    if (n.attr("kind").as_string() != "rows") return false;
    for (const auto& r : n.region->nodes) {
      if (classify(r->op) != NodeClass::kReduce) continue;
      const std::vector<int64_t> space = *static_shape(r->operands[0]->type.shape);
      std::vector<int64_t> axes =
          r->op == &ops::argmax ? std::vector<int64_t>{r->attr("axis").as_int()} : r->attr("axes").as_ints();
      return row(space, axes, e, of_e) == row(space, axes, i, of_i);
    }
    return false;
  }
  // The row that element e of a full-sized or a row-sized tensor belongs to.
  static int64_t row(const std::vector<int64_t>& space, const std::vector<int64_t>& axes, int64_t e,
                     int64_t of) {
    int64_t all = 1;
    for (int64_t d : space) all *= d;
    if (of != all) return e;
    int64_t row = 0, stride = 1;
    for (size_t a = space.size(); a-- > 0;) {
      const int64_t at = e % space[a];
      e /= space[a];
      if (std::find(axes.begin(), axes.end(), static_cast<int64_t>(a)) != axes.end()) continue;
      row += at * stride;
      stride *= space[a];
    }
    return row;
  }

  std::string compare() {
    for (size_t b = 0; b < plan_.buffers.size(); ++b) {
      const PlanBuffer& x = plan_.buffers[b];
      if (x.home != PlanBuffer::kOutput) continue;
      if (!same(static_cast<int>(b), apart_.at(root(f_.body.results[x.index])), x.bytes.constant()))
        return fmt::format("output {} differs", x.index);
    }
    std::unordered_map<const Variable*, const Value*> last;
    for (const auto& n : f_.body.nodes)
      if (n->op == &ops::assign) last[n->operands[0]->variable] = root(n->operands[1]);
    for (size_t b = 0; b < plan_.buffers.size(); ++b) {
      const PlanBuffer& x = plan_.buffers[b];
      if (x.home != PlanBuffer::kVariable) continue;
      auto it = last.find(x.variable);
      const Value* now = it == last.end() ? &x.variable->value : it->second;
      if (!same(static_cast<int>(b), apart_.at(now), x.bytes.constant()))
        return fmt::format("@{} differs", x.variable->name);
      last.erase(x.variable);
    }
    for (const auto& [v, now] : last) return fmt::format("@{} has no buffer", v->name);
    return "";
  }

  const Module& m_;
  const Func& f_;
  MemoryPlan plan_;
  Memory memory_;
  std::unordered_map<const Value*, Bytes> apart_;  // values as they are without sharing
};

}  // namespace

std::string plan_problem(const Module& m, const Func& f, const std::vector<HostTensor>& inputs,
                         const VariableValues& variables) {
  return Executor(m, f).run(inputs, variables);
}

}  // namespace graphc
