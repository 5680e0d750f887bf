#include "passes/optimizer.h"

#include <cmath>
#include <numbers>
#include <string>

#include <fmt/format.h>

#include "passes/gradient.h"
#include "passes/passes.h"

namespace graphc {
namespace {

// The numbers of an optimize node.
struct Recipe {
  std::string algorithm, schedule;
  double lr, momentum, weight_decay, beta1, beta2, eps, clip_norm, warmup, final, gamma;
  int64_t accumulate, schedule_steps, every;
  bool nesterov;

  explicit Recipe(const Node& n) {
    auto number = [&](std::string_view name) {
      const Attr& a = n.attr(name);
      return a.is_float() ? a.as_float() : static_cast<double>(a.as_int());
    };
    auto whole = [&](std::string_view name) { return static_cast<int64_t>(number(name)); };
    algorithm = n.attr("algorithm").as_string();
    schedule = n.attr("schedule").as_string();
    lr = number("lr"), momentum = number("momentum"), weight_decay = number("weight_decay");
    beta1 = number("beta1"), beta2 = number("beta2"), eps = number("eps"), clip_norm = number("clip_norm");
    warmup = number("warmup"), final = number("final"), gamma = number("gamma");
    accumulate = std::max<int64_t>(1, whole("accumulate"));
    schedule_steps = whole("schedule_steps"), every = whole("every");
    nesterov = n.attr("nesterov").as_bool();
  }
};

class Updates {
 public:
  explicit Updates(Builder& b) : b_(b), m_(b.module()) {}

  // opt.step as of this step, for all groups
  Value* step() { return &state("opt.step", DType::kI64, {})->value; }

  Variable* state(const std::string& name, DType t, Shape shape) {
    if (Variable* v = m_.find_variable(name)) return v;
    return m_.add_variable(name, VariableKind::kState, {t, std::move(shape)}, "zeros");
  }
  void assign(Variable* v, Value* value) {
    b_.create_node(ops::assign, {&v->value, b_.cast(value, v->value.type.dtype)});
  }
  Value* number(double v, DType t) { return b_.full(v, t); }
  Value* integer(int64_t v) { return b_.full(static_cast<double>(v), DType::kI64); }

  // Updates done before this step, and whether this step does one (nullptr: always).
  void begin(const Recipe& r) {
    updates_ = step();
    does_update_ = nullptr;
    if (r.accumulate > 1) {
      Value* k = integer(r.accumulate);
      updates_ = b_.scalar(ScalarOp::kFloorDiv, {step(), k});
      does_update_ =
          b_.compare(ScalarOp::kEq, b_.scalar(ScalarOp::kRem, {step(), k}), integer(r.accumulate - 1));
    }
    lr_.clear();
    t_ = b_.cast(b_.add(updates_, integer(1)), DType::kF32);
  }

  Value* learning_rate(const Recipe& r, DType t) {
    for (auto& [type, v] : lr_)
      if (type == t) return v;
    Value* v = b_.cast(factor(r), t);
    v = b_.mul(v, number(r.lr, t));
    lr_.emplace_back(t, v);
    return v;
  }

  // 1 - beta^t, without the cancellation of a subtraction
  Value* bias_correction(double beta, DType t) {
    Value* e = b_.mul(b_.cast(t_, t), number(std::log(beta), t));
    return b_.neg(b_.scalar(ScalarOp::kExpm1, {e}));
  }

  Value* when_updating(Value* now, Value* otherwise) {
    return does_update_ ? b_.where(does_update_, now, otherwise) : now;
  }

  void update(const Recipe& r, Variable* p, Value* g) {
    const DType t = p->value.type.dtype == DType::kF64 ? DType::kF64 : DType::kF32;
    const Shape& shape = p->value.type.shape;
    Value* old = b_.cast(&p->value, t);
    Value* w = old;
    g = b_.cast(g, t);
    if (r.weight_decay != 0 && r.algorithm != "adamw") g = b_.add(g, b_.mul(w, number(r.weight_decay, t)));
    Value* lr = learning_rate(r, t);
    if (r.algorithm == "sgd") {
      if (r.momentum != 0) {
        Variable* slot = state("opt.momentum." + p->name, t, shape);
        Value* buf = b_.add(b_.mul(&slot->value, number(r.momentum, t)), g);
        assign(slot, when_updating(buf, &slot->value));
        g = r.nesterov ? b_.add(g, b_.mul(buf, number(r.momentum, t))) : buf;
      }
      w = b_.sub(w, b_.mul(g, lr));
    } else {
      if (r.algorithm == "adamw" && r.weight_decay != 0)
        w = b_.mul(w, b_.sub(number(1, t), b_.mul(lr, number(r.weight_decay, t))));
      Variable* m_slot = state("opt.m." + p->name, t, shape);
      Variable* v_slot = state("opt.v." + p->name, t, shape);
      Value* m = b_.add(&m_slot->value, b_.mul(b_.sub(g, &m_slot->value), number(1 - r.beta1, t)));
      Value* v =
          b_.add(b_.mul(&v_slot->value, number(r.beta2, t)), b_.mul(b_.mul(g, g), number(1 - r.beta2, t)));
      assign(m_slot, when_updating(m, &m_slot->value));
      assign(v_slot, when_updating(v, &v_slot->value));
      Value* size = b_.div(lr, bias_correction(r.beta1, t));
      Value* scale = b_.rsqrt(bias_correction(r.beta2, t));
      Value* denominator = b_.add(b_.mul(b_.sqrt(v), scale), number(r.eps, t));
      w = b_.sub(w, b_.div(b_.mul(m, size), denominator));
    }
    assign(p, when_updating(w, old));
  }

  // Mean over the accumulated micro-batches; keeps the running sum in opt.grad.
  Value* accumulated(const Recipe& r, Variable* p, Value* g) {
    if (r.accumulate <= 1) return g;
    const DType t = p->value.type.dtype == DType::kF64 ? DType::kF64 : DType::kF32;
    Variable* slot = state("opt.grad." + p->name, t, p->value.type.shape);
    Value* sum =
        b_.add(&slot->value, b_.mul(b_.cast(g, t), number(1.0 / static_cast<double>(r.accumulate), t)));
    assign(slot, when_updating(b_.full_like(0, sum), sum));
    return sum;
  }

 private:
  // The schedule's factor of lr, an f32 scalar.
  Value* factor(const Recipe& r) {
    const DType t = DType::kF32;
    Value* u = b_.cast(updates_, t);
    Value* f = number(1, t);
    if (r.schedule == "cosine") {
      const double length = std::max(1.0, static_cast<double>(r.schedule_steps) - r.warmup);
      Value* q = b_.mul(b_.sub(u, number(r.warmup, t)), number(1 / length, t));
      q = b_.minimum(b_.maximum(q, number(0, t)), number(1, t));
      Value* c = b_.scalar(ScalarOp::kCos, {b_.mul(q, number(std::numbers::pi, t))});
      const double last = r.lr > 0 ? r.final / r.lr : 0;
      f = b_.add(b_.mul(b_.add(c, number(1, t)), number((1 - last) / 2, t)), number(last, t));
    } else if (r.schedule == "step") {
      Value* times =
          b_.cast(b_.scalar(ScalarOp::kFloorDiv, {updates_, integer(std::max<int64_t>(1, r.every))}), t);
      f = b_.exp(b_.mul(times, number(std::log(r.gamma), t)));
    }
    if (r.warmup > 0) {
      Value* rising = b_.mul(b_.add(u, number(1, t)), number(1 / r.warmup, t));
      f = b_.where(b_.compare(ScalarOp::kLt, u, number(r.warmup, t)), rising, f);
    }
    return f;
  }

  Builder& b_;
  Module& m_;
  Value* updates_ = nullptr;
  Value* does_update_ = nullptr;
  Value* t_ = nullptr;  // number of this update, from 1, f32
  std::vector<std::pair<DType, Value*>> lr_;
};

Status check(const Recipe& r) {
  if (r.algorithm != "sgd" && r.algorithm != "adam" && r.algorithm != "adamw")
    return invalid(fmt::format("optimizer '{}' isn't known; there are sgd, adam and adamw", r.algorithm));
  if (r.schedule != "constant" && r.schedule != "cosine" && r.schedule != "step")
    return invalid(fmt::format("schedule '{}' isn't known; there are constant, cosine and step", r.schedule));
  if (r.schedule == "step" && !(r.gamma > 0))
    return invalid(fmt::format("schedule step needs gamma > 0, not {}", r.gamma));
  return ok_status();
}

}  // namespace

bool glob_match(std::string_view pattern, std::string_view text) {
  // Greedy with one point to return to: the last *.
  size_t p = 0, t = 0, star = std::string_view::npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || (pattern[p] != '*' && pattern[p] == text[t]))) {
      ++p, ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

Status append_updates(Builder& b, const std::vector<UpdateGroup>& groups) {
  Updates u(b);
  std::vector<Recipe> recipes;
  for (const UpdateGroup& g : groups) {
    recipes.emplace_back(*g.optimize);
    GC_CHECK(check(recipes.back()));
  }
  // Gradients as they enter the update: accumulated, then clipped by the norm over all that are clipped.
  std::vector<std::vector<Value*>> grads;
  Value* squares = nullptr;
  for (size_t i = 0; i < groups.size(); ++i) {
    const UpdateGroup& g = groups[i];
    b.loc = g.optimize->loc;
    u.begin(recipes[i]);
    grads.emplace_back();
    for (size_t k = 0; k < g.params.size(); ++k) {
      Value* v = u.accumulated(recipes[i], g.params[k], g.grads[k]);
      grads.back().push_back(v);
      if (recipes[i].clip_norm <= 0) continue;
      Value* x = b.cast(v, v->type.dtype == DType::kF64 ? DType::kF64 : DType::kF32);
      std::vector<int64_t> axes;
      for (int a = 0; a < x->type.rank(); ++a) axes.push_back(a);
      Value* s = b.mul(x, x);
      if (!axes.empty()) s = b.sum(s, axes);
      s = b.cast(s, DType::kF32);
      squares = squares ? b.add(squares, s) : s;
    }
  }
  for (size_t i = 0; i < groups.size(); ++i) {
    const UpdateGroup& g = groups[i];
    const Recipe& r = recipes[i];
    b.loc = g.optimize->loc;
    u.begin(r);
    Value* coefficient = nullptr;
    if (r.clip_norm > 0 && squares) {
      Value* norm = b.add(b.sqrt(squares), b.full(1e-6, DType::kF32));
      coefficient = b.minimum(b.div(b.full(r.clip_norm, DType::kF32), norm), b.full(1, DType::kF32));
    }
    for (size_t k = 0; k < g.params.size(); ++k) {
      Value* v = grads[i][k];
      if (coefficient) v = b.mul(v, b.cast(coefficient, v->type.dtype));
      u.update(r, g.params[k], v);
    }
  }
  Variable* step = u.state("opt.step", DType::kI64, {});
  u.assign(step, b.add(&step->value, u.integer(1)));
  return ok_status();
}

Status gradient(Module& m) {
  for (auto& f : m.funcs) {
    std::vector<Node*> recipes;
    for (auto& n : f->body.nodes)
      if (n->op == &ops::optimize) recipes.push_back(n.get());
    if (recipes.empty()) continue;
    // Taken out first; kept alive, since their attributes are read below.
    std::vector<std::unique_ptr<Node>> taken;
    for (auto& n : f->body.nodes)
      if (n->op == &ops::optimize) taken.push_back(std::move(n));
    std::erase_if(f->body.nodes, [](const auto& n) { return n == nullptr; });

    std::vector<UpdateGroup> groups;
    for (Node* n : recipes) groups.push_back({n, {}, {}});
    std::vector<Value*> wrt;
    for (auto& v : m.variables) {
      if (v->kind != VariableKind::kParam || !is_float(v->value.type.dtype)) continue;
      for (UpdateGroup& g : groups) {
        if (!glob_match(g.optimize->attr("params").as_string(), v->name)) continue;
        g.params.push_back(v.get());
        wrt.push_back(&v->value);
        break;
      }
    }
    Value* loss = recipes[0]->operands[0];
    for (Node* n : recipes)
      if (n->operands[0] != loss)
        return invalid(fmt::format("@{}: all optimize nodes of a function have one loss", f->name));
    GC_TRY(std::vector<Value*> grads, append_gradient(m, f->body, loss, wrt));
    // Parameters the loss doesn't depend on stay as they are (no weight decay either, as in PyTorch, where
    // their .grad is None).
    size_t at = 0;
    std::unordered_map<const Value*, Value*> grad_of;
    for (const Value* v : wrt) grad_of[v] = grads[at++];
    for (UpdateGroup& g : groups) {
      std::erase_if(g.params, [&](Variable* p) { return !grad_of[&p->value]; });
      for (Variable* p : g.params) g.grads.push_back(grad_of[&p->value]);
    }
    Builder b(m, f->body);
    GC_CHECK(append_updates(b, groups));
    // One more step has drawn from the random streams.
    if (Variable* v = m.find_variable("rng.step")) {
      bool assigned = false;
      for (const auto& n : f->body.nodes)
        assigned = assigned || (n->op == &ops::assign && n->operands[0] == &v->value);
      if (!assigned)
        b.create_node(ops::assign, {&v->value, b.add(&v->value, b.full(1, v->value.type.dtype))});
    }
  }
  return ok_status();
}

}  // namespace graphc
