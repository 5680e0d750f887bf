#include "tests/passes/random_graph.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "ir/builder.h"

namespace graphc {
namespace {

constexpr int64_t kN = 3, kT = 4;  // what N and T are
constexpr double kLargest = 40;    // of any value
constexpr int64_t kMaxElements = 2000;

class Generator {
 public:
  Generator(uint64_t seed, const RandomGraphOptions& options)
      : rng_(seed + 1000),
        options_(options),
        smooth_(options.train || options.smooth),
        module_(std::make_unique<Module>()),
        func_(module_->add_func(options.train ? "Net.train" : "Net")),
        b_(*module_, func_->body) {}

  RandomGraph make() {
    func_->symbols = {{"N", 1, {}}, {"T", 1, {}}};
    // N and T have to stand alone in an input's shape.
    pool_.push_back(argument({Dim::symbol("N"), 6}));
    pool_.push_back(argument({Dim::symbol("N"), Dim::symbol("T"), 4}));
    if (coin(2)) pool_.push_back(argument({2, 4, 6, 5}));
    if (coin(2)) pool_.push_back(parameter({4, 3}));
    for (int tries = 0, made = 0; made < options_.nodes && tries < 12 * options_.nodes; ++tries)
      made += step();
    if (options_.train)
      finish_train();
    else
      finish();
    RandomGraph g;
    g.module = std::move(module_);
    g.inputs = inputs_;
    g.variables = variables_;
    return g;
  }

 private:
  // --- drawing ---

  int64_t range(int64_t lo, int64_t hi) { return rng_.range(lo, hi); }
  bool coin(int n) { return range(1, n) == 1; }
  template <class T>
  const T& one_of(const std::vector<T>& v) {
    return v[static_cast<size_t>(range(0, static_cast<int64_t>(v.size()) - 1))];
  }
  // Mostly one of the latest values, so that chains come about.
  Value* pick() {
    const auto n = static_cast<int64_t>(pool_.size());
    return pool_[static_cast<size_t>(coin(2) ? range(std::max<int64_t>(0, n - 3), n - 1) : range(0, n - 1))];
  }
  Value* pick_of_rank(int lo, int hi) {
    std::vector<Value*> fitting;
    for (Value* v : pool_)
      if (v->type.rank() >= lo && v->type.rank() <= hi) fitting.push_back(v);
    return fitting.empty() ? nullptr
                           : fitting[static_cast<size_t>(range(0, static_cast<int64_t>(fitting.size()) - 1))];
  }

  static int64_t size(const Dim& d) { return *d.evaluate({{"N", kN}, {"T", kT}}); }
  static std::vector<int64_t> sizes(const Shape& s) {
    std::vector<int64_t> out;
    for (const Dim& d : s) out.push_back(size(d));
    return out;
  }
  static bool is_constant(const Shape& s) {
    return std::all_of(s.begin(), s.end(), [](const Dim& d) { return d.is_constant(); });
  }

  // --- leaves ---

  HostTensor draw(const TensorType& t, double lo, double hi, int64_t int_lo = 0, int64_t int_hi = 1) {
    HostTensor h = HostTensor::zeros(t.dtype, sizes(t.shape));
    // f32 values, so that text and memory hold them exactly
    for (double& v : h.f) v = static_cast<float>(rng_.uniform(lo, hi));
    for (int64_t& v : h.i) v = range(int_lo, int_hi);
    return h;
  }
  Value* argument(Shape shape, DType t = DType::kF32, double lo = -1.5, double hi = 1.5, int64_t int_lo = 0,
                  int64_t int_hi = 1) {
    Value* v = func_->body.add_arg({t, std::move(shape)}, fmt::format("x{}", inputs_.size()));
    inputs_.push_back(draw(v->type, lo, hi, int_lo, int_hi));
    return v;
  }
  Value* parameter(Shape shape, double lo = -1, double hi = 1, VariableKind kind = VariableKind::kParam) {
    const std::string name = fmt::format("w{}", variables_.size());
    Variable* v = module_->add_variable(name, kind, {DType::kF32, std::move(shape)}, "zeros");
    variables_[name] = draw(v->value.type, lo, hi);
    return &v->value;
  }
  // An operand that nothing of the graph feeds.
  Value* leaf(const Shape& shape, double lo = -1.2, double hi = 1.2) {
    if (coin(5)) {
      const std::vector<double> special = {0, 1, 2, -1, 0.5, 3};
      return b_.full(std::clamp(one_of(special), lo, hi), DType::kF32, shape);
    }
    if (is_constant(shape) && coin(2)) return parameter(shape, lo, hi);
    return argument(shape, DType::kF32, lo, hi);
  }
  Value* ids(const Shape& shape, int64_t n) { return argument(shape, DType::kI32, 0, 0, 0, n - 1); }
  Value* key() {
    auto state = [&](const char* name, DType t, int64_t v) {
      if (Variable* old = module_->find_variable(name)) return &old->value;
      HostTensor h = HostTensor::zeros(t, {});
      h.i[0] = v;
      variables_[name] = h;
      return &module_->add_variable(name, VariableKind::kState, {t, {}}, "zeros")->value;
    };
    return b_.create(ops::rng_key,
                     {state("rng.seed", DType::kU64, 77), state("rng.step", DType::kI64, range(0, 9))},
                     {{"stream", Attr(range(0, 1000))}});
  }

  // --- keeping a node ---

  Value* attempt(const OpDef& op, std::vector<Value*> xs, Attrs attrs = {}) {
    if (std::find(xs.begin(), xs.end(), nullptr) != xs.end()) return nullptr;  // an attempt that failed
    auto n = b_.try_create_node(op, std::move(xs), std::move(attrs));
    if (!n.ok()) return nullptr;
    return (*n)->results.empty() ? nullptr : (*n)->result();
  }
  Value* dot(Value* x, Value* y, const std::vector<int64_t>& batch, int64_t x_axis, int64_t y_axis) {
    const Attr pairs = Attr::ints(batch);
    Value* d = attempt(ops::dot_general, {x, y},
                       {{"a_batch", pairs},
                        {"b_batch", pairs},
                        {"a_contract", Attr::ints({x_axis})},
                        {"b_contract", Attr::ints({y_axis})}});
    return d ? b_.mul(d, 0.3) : nullptr;
  }
  // Evaluates `v` and, if its values will do, adds it to the pool; else takes the nodes since `mark` away.
  // In smooth graphs no element of `nonzero` may be near 0, no two of `distinct` near each other.
  bool keep(Value* v, size_t mark, const std::vector<Value*>& nonzero = {}, Value* distinct = nullptr) {
    if (v && acceptable(v, nonzero, distinct)) {
      pool_.push_back(v);
      return true;
    }
    auto& nodes = func_->body.nodes;
    while (nodes.size() > mark) {
      for (const auto& r : nodes.back()->results) values_.erase(r.get());
      nodes.pop_back();
    }
    return false;
  }
  bool evaluate(const std::vector<Value*>& wanted) {
    func_->body.results.clear();
    func_->result_names.clear();
    for (Value* v : wanted) {
      func_->body.results.push_back(v);
      func_->result_names.push_back(fmt::format("y{}", func_->result_names.size()));
    }
    VariableValues copy = variables_;
    auto out = interpret(*module_, *func_, inputs_, copy);
    if (!out.ok()) return false;
    for (size_t i = 0; i < wanted.size(); ++i) values_[wanted[i]] = std::move((*out)[i]);
    return true;
  }
  const HostTensor* values_of(Value* v) {
    if (!values_.contains(v) && !evaluate({v})) return nullptr;
    return &values_.at(v);
  }
  bool acceptable(Value* v, const std::vector<Value*>& nonzero = {}, Value* distinct = nullptr) {
    int64_t n = 1;
    for (const Dim& d : v->type.shape) n *= size(d);
    if (n > kMaxElements || v->type.rank() > 6) return false;
    const HostTensor* t = values_of(v);
    if (!t) return false;
    for (double x : t->f)
      if (!std::isfinite(x) || std::abs(x) > kLargest) return false;
    if (!smooth_) return true;
    for (Value* w : nonzero) {
      const HostTensor* u = w ? values_of(w) : nullptr;
      if (!u) return false;
      for (double x : u->f)
        if (std::abs(x) < 1e-3) return false;
    }
    return !distinct || apart(distinct);
  }
  bool apart(Value* v) {
    const HostTensor* t = values_of(v);
    if (!t) return false;
    std::vector<double> x = t->f;
    std::sort(x.begin(), x.end());
    for (size_t i = 1; i < x.size(); ++i)
      if (x[i] - x[i - 1] < 1e-4) return false;
    return true;
  }
  std::pair<double, double> bounds(Value* v) {
    const HostTensor* t = values_of(v);
    if (!t || t->f.empty()) return {0, 1};
    auto [lo, hi] = std::minmax_element(t->f.begin(), t->f.end());
    return {*lo, *hi};
  }

  // x in [lo, hi]: as it is, or through a sigmoid.
  Value* within(Value* x, double lo, double hi) {
    auto [a, z] = bounds(x);
    if (a >= lo && z <= hi) return x;
    return b_.add(b_.mul(b_.create(ops::sigmoid, {x}), (hi - lo) * 0.98), lo + 0.01 * (hi - lo));
  }

  // --- steps; each returns whether the pool has grown ---

  bool step() {
    const size_t mark = func_->body.nodes.size();
    switch (range(0, 21)) {
      case 0:
      case 1: return unary(mark);
      case 2:
      case 3:
      case 4: return binary(mark);
      case 5: return kinked(mark);
      case 6: return select(mark);
      case 7:
      case 8: return movement(mark);
      case 9: return join(mark);
      case 10:
      case 11: return reduction(mark);
      case 12: return normalisation(mark);
      case 13:
      case 14: return contraction(mark);
      case 15: return convolution(mark);
      case 16: return lookup(mark);
      case 17: return random(mark);
      default: return sample(mark);
    }
  }

  bool unary(size_t mark) {
    Value* x = pick();
    switch (range(0, 11)) {
      case 0: return keep(b_.exp(within(x, -4, 3)), mark);
      case 1: return keep(b_.log(within(x, 0.2, 30)), mark);
      case 2: return keep(b_.sqrt(within(x, 0.1, 30)), mark);
      case 3: return keep(b_.rsqrt(within(x, 0.2, 30)), mark);
      case 4: return keep(b_.cast(b_.cast(x, DType::kF64), DType::kF32), mark);
      case 5: return keep(attempt(ops::pow, {within(x, 0.2, 4), leaf({}, -2, 2)}), mark);
      default: {
        static const std::vector<const OpDef*> kOps = {&ops::neg,    &ops::sin,   &ops::cos,  &ops::tanh,
                                                       &ops::erf,    &ops::gelu,  &ops::silu, &ops::sigmoid,
                                                       &ops::square, &ops::expm1, &ops::elu};
        return keep(attempt(*one_of(kOps), {x}), mark);
      }
    }
  }

  // A shape that broadcasts to x's: axes dropped in front, some made 1.
  Shape broadcastable(const Shape& x) {
    Shape s(x.begin() + range(0, static_cast<int64_t>(x.size())) * static_cast<int64_t>(coin(2)), x.end());
    for (Dim& d : s)
      if (coin(3)) d = 1;
    return s;
  }
  bool binary(size_t mark) {
    Value *x = pick(), *y = nullptr;
    for (int tries = 0; tries < 6 && !y; ++tries) {
      Value* v = pick();
      if (broadcast_shapes(x->type.shape, v->type.shape).ok()) y = v;
    }
    if (!y || coin(4)) y = leaf(broadcastable(x->type.shape));
    if (coin(2)) std::swap(x, y);
    switch (range(0, 6)) {
      case 0:
      case 1: return keep(attempt(ops::add, {x, y}), mark);
      case 2: return keep(attempt(ops::sub, {x, y}), mark);
      case 3:
      case 4: return keep(attempt(ops::mul, {x, y}), mark);
      case 5: return keep(attempt(ops::div, {x, within(y, 0.3, 20)}), mark);
      default: return keep(attempt(ops::atan2, {x, within(y, 0.3, 20)}), mark);
    }
  }

  bool kinked(size_t mark) {
    Value* x = pick();
    switch (range(0, 4)) {
      case 0:
      case 1: return keep(attempt(ops::relu, {x}), mark, {x});
      case 2: return keep(attempt(ops::leaky_relu, {x}, {{"slope", 0.1}}), mark, {x});
      case 3: return keep(attempt(ops::abs, {x}), mark, {x});
      default: {
        Value* y = leaf(broadcastable(x->type.shape));
        Value* d = attempt(ops::sub, {x, y});
        return keep(attempt(coin(2) ? ops::maximum : ops::minimum, {x, y}), mark, {d});
      }
    }
  }

  bool select(size_t mark) {
    Value *x = pick(), *y = leaf(broadcastable(x->type.shape)), *z = leaf(broadcastable(x->type.shape));
    static const std::vector<const OpDef*> kOps = {&ops::lt, &ops::le, &ops::gt, &ops::ge, &ops::ne};
    Value* c = attempt(*one_of(kOps), {x, y});
    if (coin(3)) c = attempt(ops::not_, {c});
    if (coin(3)) c = attempt(coin(2) ? ops::and_ : ops::or_, {c, attempt(ops::lt, {x, z})});
    return keep(attempt(ops::where, {c, coin(2) ? x : z, coin(2) ? b_.mul(x, 0.5) : z}), mark,
                {attempt(ops::sub, {x, y}), attempt(ops::sub, {x, z})});
  }

  bool movement(size_t mark) {
    Value* x = pick();
    const Shape& s = x->type.shape;
    const int rank = x->type.rank();
    const int axis = rank ? static_cast<int>(range(0, rank - 1)) : 0;
    switch (range(0, 6)) {
      case 0: {  // transpose
        std::vector<int64_t> perm(rank);
        for (int i = 0; i < rank; ++i) perm[i] = i;
        for (int i = rank - 1; i > 0; --i) std::swap(perm[i], perm[range(0, i)]);
        return keep(b_.transpose(x, perm), mark);
      }
      case 1: {  // join two axes, or split one
        Shape to = s;
        if (rank >= 2 && coin(2)) {
          const int i = static_cast<int>(range(0, rank - 2));
          to[i] = to[i] * to[i + 1];
          to.erase(to.begin() + i + 1);
        } else if (rank >= 1 && s[axis].is_constant() && s[axis].constant() % 2 == 0 &&
                   s[axis].constant() > 0) {
          to[axis] = s[axis].constant() / 2;
          to.insert(to.begin() + axis + (coin(2) ? 1 : 0), Dim(2));
        } else {
          to.insert(to.begin() + range(0, rank), Dim(1));
        }
        return keep(attempt(ops::reshape, {x}, {{"shape", Attr::dims(to)}}), mark);
      }
      case 2: {  // expand
        Shape to = s;
        for (Dim& d : to)
          if (d.is_constant(1)) d = range(1, 3);
        if (coin(2)) to.insert(to.begin(), coin(2) ? Dim(range(1, 3)) : Dim::symbol("N"));
        return keep(attempt(ops::expand, {x}, {{"shape", Attr::dims(to)}}), mark);
      }
      case 3:
      case 4: {  // slice
        if (!rank || !s[axis].is_constant()) return false;
        const int64_t n = s[axis].constant(), lo = range(0, n), hi = range(lo, n);
        return keep(b_.slice(x, axis, lo, hi, range(1, 2)), mark);
      }
      case 5: {  // pad, also by less than nothing
        if (!rank) return false;
        std::vector<Dim> pads(2 * rank, Dim(0));
        pads[2 * axis] = range(-1, 2), pads[2 * axis + 1] = range(-1, 2);
        return keep(attempt(ops::pad, {x}, {{"pads", Attr::dims(pads)}, {"value", coin(2) ? 0.0 : 0.5}}),
                    mark);
      }
      default:
        // finite differences don't stop there
        return !options_.train && keep(attempt(ops::stop_gradient, {x}), mark);
    }
  }

  bool join(size_t mark) {
    Value* x = pick();
    if (!x->type.rank()) return false;
    const int64_t axis = range(0, x->type.rank() - 1);
    std::vector<Value*> xs = {x};
    for (Value* v : pool_)
      if (v != x && v->type == x->type && coin(2)) xs.push_back(v);
    if (xs.size() == 1 || coin(2)) xs.push_back(coin(2) ? b_.neg(x) : leaf(x->type.shape));
    if (coin(3)) return keep(attempt(ops::stack, xs, {{"axis", Attr(axis)}}), mark);
    return keep(attempt(ops::concat, xs, {{"axis", Attr(axis)}}), mark);
  }

  std::vector<int64_t> some_axes(int rank) {
    std::vector<int64_t> axes;
    switch (range(0, 4)) {
      case 0:
      case 1: axes = {rank - 1}; break;
      case 2: axes = {0}; break;
      default:
        for (int64_t a = 0; a < rank; ++a)
          if (coin(2)) axes.push_back(a);
        if (axes.empty()) axes = {rank - 1};
    }
    return axes;
  }
  bool reduction(size_t mark) {
    Value* x = pick();
    if (!x->type.rank()) return false;
    const std::vector<int64_t> axes = some_axes(x->type.rank());
    const bool keepdims = coin(2);
    const Attrs attrs = {{"axes", Attr::ints(axes)}, {"keepdims", keepdims}};
    Value* r = nullptr;
    bool ties_matter = false;
    switch (range(0, 8)) {
      case 0:
      case 1: r = attempt(ops::sum, {x}, attrs); break;
      case 2: r = attempt(ops::mean, {x}, attrs); break;
      case 3: r = attempt(ops::max, {x}, attrs), ties_matter = true; break;
      case 4: r = attempt(ops::min, {x}, attrs), ties_matter = true; break;
      case 5: r = attempt(ops::logsumexp, {x}, attrs); break;
      case 6: r = attempt(ops::var, {x}, attrs); break;
      case 7: r = attempt(ops::prod, {within(x, 0.6, 1.4)}, attrs); break;
      default: {
        if (options_.train) return false;
        Value* i = attempt(ops::argmax, {x}, {{"axis", Attr(axes[0])}, {"keepdims", keepdims}});
        r = i ? b_.mul(b_.cast(i, DType::kF32), 0.5) : nullptr;
        ties_matter = true;
      }
    }
    if (!keep(r, mark, {}, ties_matter ? x : nullptr)) return false;
    // What follows a reduction is mostly a broadcast of it.
    if (keepdims && coin(2)) {
      const size_t again = func_->body.nodes.size();
      return keep(attempt(coin(2) ? ops::sub : ops::mul, {x, r}), again) || true;
    }
    return true;
  }

  bool normalisation(size_t mark) {
    Value* x = pick_of_rank(2, 4);
    if (!x) return false;
    const Dim last = x->type.shape.back(), channels = x->type.shape[1];
    switch (range(0, 6)) {
      case 0: return keep(attempt(ops::softmax, {x}, {{"axis", Attr(range(-2, -1))}}), mark);
      case 1: return keep(attempt(ops::log_softmax, {x}), mark);
      case 2: return keep(attempt(ops::layer_norm, {x, leaf({last}), leaf({last})}, {{"eps", 0.1}}), mark);
      case 3: return keep(attempt(ops::rms_norm, {x, leaf({last})}, {{"eps", 0.1}}), mark);
      case 4: {
        if (!channels.is_constant()) return false;
        return keep(
            attempt(ops::batch_norm,
                    {x, leaf({channels}), leaf({channels}, 0.5, 2), leaf({channels}), leaf({channels})},
                    {{"training", false}, {"eps", 0.1}}),
            mark);
      }
      case 5: {  // with the batch's statistics, which become a state
        if (!channels.is_constant() || channels.constant() < 1) return false;
        Value* mean = parameter({channels}, -1, 1, VariableKind::kState);
        Value* var = parameter({channels}, 0.5, 1, VariableKind::kState);
        auto n = b_.try_create_node(ops::batch_norm, {x, mean, var, leaf({channels}), leaf({channels})},
                                    {{"training", true}, {"eps", 0.1}});
        if (!n.ok()) return false;
        std::vector<Value*> news = {(*n)->result(1), (*n)->result(2)};
        for (Value* v : news)
          if (!acceptable(v)) return keep(nullptr, mark);
        if (!keep((*n)->result(0), mark)) return false;
        assigns_.emplace_back(mean, news[0]), assigns_.emplace_back(var, news[1]);
        return true;
      }
      default:
        if (!channels.is_constant() || channels.constant() < 2 || channels.constant() % 2) return false;
        return keep(attempt(ops::group_norm, {x, leaf({channels}), leaf({channels})},
                            {{"groups", Attr(int64_t{2})}, {"eps", 0.1}}),
                    mark);
    }
  }

  bool contraction(size_t mark) {
    Value* x = pick();
    const int rank = x->type.rank();
    if (rank == 0) return false;
    const Dim k = x->type.shape.back();
    switch (range(0, 4)) {
      case 0:
      case 1: {  // a layer
        Value* y = attempt(ops::matmul, {x, leaf({k, Dim(range(1, 6))}, -0.7, 0.7)});
        if (y && coin(2)) y = attempt(ops::add, {y, leaf({y->type.shape.back()})});
        if (y && coin(3)) y = attempt(ops::gelu, {y});
        return keep(y, mark);
      }
      case 2: {  // weights stored the other way round
        Value* w = leaf({Dim(range(1, 5)), k}, -0.7, 0.7);
        return keep(dot(x, w, {}, rank - 1, 1), mark);
      }
      case 3: {  // with itself, over the last axis: attention's scores
        if (rank < 2) return false;
        std::vector<int64_t> batch;
        for (int64_t a = 0; a + 2 < rank; ++a) batch.push_back(a);
        return keep(dot(x, b_.create(ops::sin, {x}), batch, rank - 1, rank - 1), mark);
      }
      default: {  // any axis against any other of equal size
        Value* y = pick();
        for (int64_t i = 0; i < rank; ++i)
          for (int64_t j = 0; j < y->type.rank(); ++j)
            if (x->type.shape[i] == y->type.shape[j] && coin(2)) return keep(dot(x, y, {}, i, j), mark);
        return false;
      }
    }
  }

  bool convolution(size_t mark) {
    Value* x = pick_of_rank(4, 4);
    if (!x) {
      x = argument({Dim::symbol("N"), 4, 6, 5});
      pool_.push_back(x);
    }
    const Shape& s = x->type.shape;
    if (!s[1].is_constant() || !s[2].is_constant() || !s[3].is_constant()) return false;
    const Attr stride = Attr::ints({range(1, 2), range(1, 2)});
    switch (range(0, 4)) {
      case 0:
        return keep(attempt(ops::avg_pool, {x}, {{"window", Attr(range(1, 3))}, {"stride", stride}}), mark);
      case 1:
        return keep(attempt(ops::max_pool, {x},
                            {{"window", Attr(range(1, 3))}, {"stride", stride}, {"pad", Attr(range(0, 1))}}),
                    mark, {}, x);
      default: {
        const int64_t c = s[1].constant();
        const int64_t groups = c > 0 && c % 2 == 0 && coin(3) ? 2 : 1;
        Value* w =
            leaf({Dim(groups * range(1, 3)), Dim(c / groups), Dim(range(1, 3)), Dim(range(1, 3))}, -0.5, 0.5);
        Value* y = attempt(ops::conv2d, {x, w},
                           {{"stride", stride}, {"pad", Attr(range(0, 1))}, {"groups", Attr(groups)}});
        if (y && coin(2)) y = attempt(ops::add, {y, leaf({y->type.shape[1], 1, 1})});
        return keep(y, mark);
      }
    }
  }

  bool lookup(size_t mark) {
    Value* x = pick();
    if (!x->type.rank()) return false;
    const int64_t axis = range(0, x->type.rank() - 1), n = size(x->type.shape[axis]);
    if (n == 0) return false;
    const Shape shape = coin(3) ? Shape{} : coin(2) ? Shape{Dim(range(1, 4))} : Shape{Dim::symbol("N"), 2};
    Value* i = ids(shape, n);
    if (coin(2)) return keep(attempt(ops::gather, {x, i}, {{"axis", Attr(axis)}}), mark);
    // rows of another tensor added at the ids
    Shape src(x->type.shape.begin(), x->type.shape.begin() + axis);
    src.insert(src.end(), shape.begin(), shape.end());
    src.insert(src.end(), x->type.shape.begin() + axis + 1, x->type.shape.end());
    return keep(attempt(ops::scatter_add, {x, i, leaf(src)}, {{"axis", Attr(axis)}}), mark);
  }

  bool random(size_t mark) {
    Value* x = pick();
    if (coin(2)) return keep(attempt(ops::dropout, {x, key()}, {{"p", 0.3}}), mark);
    Value* r = attempt(ops::random_uniform, {key()},
                       {{"shape", Attr::dims(x->type.shape)}, {"lo", -1.0}, {"hi", 1.0}});
    return keep(r ? b_.mul(x, r) : nullptr, mark);
  }

  // --- any op, by its samples ---

  // A value of this constant shape and range, made of values of the graph where that can be.
  Value* adapted(const TensorType& t, const Sample& s) {
    if (t.dtype == DType::kF32) {
      const int64_t n = Dim(t.num_elements()).constant();
      Value* x = nullptr;
      for (int tries = 0; tries < 4 && !x; ++tries) {
        Value* v = pick();
        if (is_constant(v->type.shape) && !options_.train) x = v;
      }
      if (!x || coin(3)) return leaf_in(t.shape, s.lo, s.hi);
      const int64_t m = x->type.num_elements().constant();
      x = b_.reshape(x, {Dim(m)});
      if (m > n) x = b_.slice(x, 0, 0, n);
      if (m < n) x = b_.pad(x, {Dim(0), Dim(n - m)}, 0.1);
      return within(b_.reshape(x, t.shape), s.lo, s.hi);
    }
    if (t.dtype == DType::kBool) return argument(t.shape, t.dtype, 0, 0, 0, 1);
    return is_int(t.dtype) ? argument(t.shape, t.dtype, 0, 0, s.int_lo, s.int_hi) : nullptr;
  }
  Value* leaf_in(const Shape& shape, double lo, double hi) {
    return coin(2) ? parameter(shape, lo, hi) : argument(shape, DType::kF32, lo, hi);
  }
  bool sample(size_t mark) {
    const OpDef& op = *all_ops()[static_cast<size_t>(range(0, static_cast<int64_t>(all_ops().size()) - 1))];
    if (!op.samples || op.has_effect) return false;
    if (smooth_ && !smooth(op)) return false;
    auto samples = op.samples(rng_);
    const Sample s = one_of(samples);
    std::vector<Value*> xs;
    for (const TensorType& t : s.operands) {
      if (t.num_elements().constant() > 300) return false;
      Value* x = adapted(t, s);
      if (!x) return keep(nullptr, mark);
      xs.push_back(x);
    }
    auto n = b_.try_create_node(op, xs, s.attrs);
    if (!n.ok() || (*n)->results.empty()) return keep(nullptr, mark);
    for (const auto& r : (*n)->results)
      if (!acceptable(r.get())) return keep(nullptr, mark);
    Value* r = (*n)->result(static_cast<int>(range(0, static_cast<int64_t>((*n)->results.size()) - 1)));
    if (r->type.dtype == DType::kF32) return keep(r, mark);
    others_.push_back(r);
    return true;
  }
  static bool smooth(const OpDef& op) {
    static const std::set<std::string_view> kNot = {
        "max", "min", "argmax", "maximum", "minimum", "abs", "sign", "relu", "leaky_relu", "prelu", "selu",
        "clamp", "hardsigmoid", "hardswish", "floor", "ceil", "round", "floor_div", "rem", "l1", "mae",
        "huber", "smooth_l1", "max_pool", "reduce_window", "reduce_window_grad", "accuracy", "top_k_accuracy",
        "where", "pow", "sdpa",
        // a value that isn't differentiable anywhere, or a gradient that ties decide
        "lt", "le", "gt", "ge", "eq", "ne", "is_nan", "batch_norm"};
    return !kNot.contains(op.name) && !op.no_gradient;
  }

  // --- the end ---

  std::vector<Value*> unused() {
    const auto uses = count_uses(func_->body);
    std::vector<Value*> out;
    for (Value* v : pool_)
      if (v->node && !uses.contains(v)) out.push_back(v);
    return out;
  }

  void finish() {
    func_->body.results.clear();
    std::vector<Value*> out = unused();
    if (coin(2)) out.push_back(pick());                           // something others use as well
    if (coin(6) && !variables_.empty()) out.push_back(pool_[0]);  // an input itself
    out.insert(out.end(), others_.begin(), others_.end());
    evaluate(out);
    // A few running values.
    for (int i = 0; i < 2; ++i) {
      Value* x = pick();
      if (!is_constant(x->type.shape) || coin(2)) continue;
      Value* s = parameter(x->type.shape, -1, 1, VariableKind::kState);
      assigns_.emplace_back(s, b_.add(b_.mul(s, 0.9), b_.mul(x, 0.1)));
    }
    for (auto& [s, v] : assigns_) b_.create_node(ops::assign, {s, v});
  }

  void finish_train() {
    func_->body.results.clear();
    Value* loss = nullptr;
    for (Value* v : unused()) {
      bool empty = false;
      std::vector<int64_t> axes;
      for (int a = 0; a < v->type.rank(); ++a)
        axes.push_back(a), empty = empty || size(v->type.shape[a]) == 0;
      if (empty || v->type.dtype != DType::kF32) continue;
      Value* d = b_.mul(v, b_.add(b_.create(ops::sin, {v}), 0.5));
      Value* m = axes.empty() ? d : b_.mean(d, axes);
      loss = loss ? b_.add(loss, m) : m;
    }
    if (!loss) loss = b_.mean(b_.mul(pool_[0], parameter({Dim(6)})), {0, 1});
    evaluate({loss});
    func_->result_names = {"loss"};
    for (auto& [s, v] : assigns_) b_.create_node(ops::assign, {s, v});
    b_.create_node(ops::optimize, {loss}, {{"algorithm", "sgd"}, {"lr", 1.0}});
  }

  SampleRng rng_;
  RandomGraphOptions options_;
  bool smooth_;
  std::unique_ptr<Module> module_;
  Func* func_;
  Builder b_;
  std::vector<HostTensor> inputs_;
  VariableValues variables_;
  std::vector<Value*> pool_;    // f32
  std::vector<Value*> others_;  // results of other types
  std::vector<std::pair<Value*, Value*>> assigns_;
  std::unordered_map<Value*, HostTensor> values_;
};

}  // namespace

RandomGraph random_graph(uint64_t seed, const RandomGraphOptions& options) {
  return Generator(seed, options).make();
}

}  // namespace graphc
