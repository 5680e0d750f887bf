// Random valid modules for round trips: odd names, locations, symbolic sizes, constants of all dtypes with
// special values, regions, effects.
#pragma once

#include <random>

#include "ir/builder.h"
#include "ir/print.h"

namespace graphc {

class RandomModule {
 public:
  explicit RandomModule(uint64_t seed) : rng_(seed) {}

  std::unique_ptr<Module> make() {
    auto m = std::make_unique<Module>();
    const int num_locs = pick(0, 6);
    for (int i = 0; i < num_locs; ++i)
      m->locs.push_back({odd_name(), pick(0, 1000), pick(0, 99), pick(0, 2) ? -1 : pick(0, i) - 1});
    m_ = m.get();
    for (int i = 0, n = pick(0, 5); i < n; ++i) variable(i);
    m->add_variable("w", VariableKind::kParam, {DType::kF32, {8, 8}}, "normal", {{"std", 0.02}}, loc());
    m->add_variable("s", VariableKind::kState, {DType::kF32, {8}}, "zeros", {}, loc());
    for (int i = 0, n = pick(1, 2); i < n; ++i) func(i);
    return m;
  }

 private:
  int pick(int lo, int hi) { return std::uniform_int_distribution<int>(lo, hi)(rng_); }
  LocId loc() { return m_->locs.empty() ? -1 : pick(-1, static_cast<int>(m_->locs.size()) - 1); }
  std::string odd_name() {
    static const char* const kNames[] = {
        "net.graph", "a b",    "quote\"d", "back\\slash", "new\nline",
        "tab\t",     "0start", "\x01\x7f", "h.3.attn",    "gr\xc3\xb6\xc3\x9f"};
    return kNames[pick(0, 9)] + std::to_string(pick(0, 99));
  }

  void variable(int i) {
    const auto dtype = static_cast<DType>(pick(0, kNumDTypes - 1));
    std::vector<int64_t> shape;
    for (int r = pick(0, 3); r > 0; --r) shape.push_back(pick(0, 3));
    size_t n = dtype_size(dtype);
    for (const int64_t d : shape) n *= static_cast<size_t>(d);
    if (n > kMaxInlineData * dtype_size(dtype)) shape = {2}, n = 2 * dtype_size(dtype);
    auto data = std::make_shared<std::vector<std::byte>>(n);
    for (auto& b : *data)
      b = static_cast<std::byte>(dtype == DType::kBool ? pick(0, 1) : pick(0, 3) ? pick(0, 255) : 0xff);
    Variable* v =
        m_->add_variable(odd_name() + "#" + std::to_string(i), static_cast<VariableKind>(pick(0, 2)),
                         {dtype, Shape(shape.begin(), shape.end())}, "", {}, loc());
    v->data = std::move(data);
  }

  void func(int i) {
    Func* f = m_->add_func(pick(0, 1) ? odd_name() + std::to_string(i) : "f" + std::to_string(i));
    f->loc = loc();
    f->symbols = {{"N", 0, std::nullopt}, {"T", pick(0, 2), 1024}, {"K", 3, std::nullopt}};
    const Dim n = Dim::symbol("N"), t = Dim::symbol("T");
    const Shape shape = {n * 2 + 1, floordiv(t + pick(1, 5), 2), 8};
    std::vector<Value*> pool = {f->body.add_arg({DType::kF32, shape}, "x"),
                                f->body.add_arg({DType::kF32, shape}, odd_name()),
                                &m_->find_variable("s")->value};
    Builder b(*m_, f->body);
    for (int k = 0, count = pick(1, 12); k < count; ++k) {
      b.loc = loc();
      Value* x = pool[static_cast<size_t>(pick(0, static_cast<int>(pool.size()) - 1))];
      Value* y = pool[static_cast<size_t>(pick(0, static_cast<int>(pool.size()) - 1))];
      switch (pick(0, 4)) {
        case 0: pool.push_back(b.exp(x)); break;
        case 1: pool.push_back(b.add(x, y)); break;
        case 2: pool.push_back(b.full(constant(), DType::kF32, {n * 2 + 1, 1, 8})); break;
        case 3: pool.push_back(b.mul(x, b.sum(x, {x->type.rank() - 1}, true))); break;
        case 4: pool.push_back(fusion(b, x, y)); break;
      }
    }
    b.create_node(ops::assign, {&m_->find_variable("s")->value, b.mul(&m_->find_variable("s")->value, 0.9)});
    for (int k = 0, count = pick(0, 3); k < count; ++k) {
      f->body.results.push_back(pool[static_cast<size_t>(pick(0, static_cast<int>(pool.size()) - 1))]);
      f->result_names.push_back(odd_name() + "/" + std::to_string(k));
    }
  }

  Value* fusion(Builder& b, Value* x, Value* y) {
    Node* n = b.create_raw(ops::fusion, {x, y}, {{"kind", "map"}}, {x->type});
    n->region = std::make_unique<Block>();
    Value* p = n->region->add_arg(x->type, pick(0, 1) ? "a" : "");
    n->region->add_arg(y->type, pick(0, 1) ? odd_name() : "");
    Builder inner(*m_, *n->region);
    inner.loc = loc();
    n->region->results = {inner.exp(inner.neg(p))};
    return n->result();
  }

  double constant() {
    switch (pick(0, 4)) {
      case 0: return std::numeric_limits<double>::infinity();
      case 1: return std::bit_cast<double>(0x7ff8000000001234ull);
      case 2: return -0.0;
      case 3:
        return std::bit_cast<double>((uint64_t{static_cast<uint32_t>(rng_())} << 32 | rng_()) &
                                     ~(uint64_t{1} << 62));
      default: return pick(-9, 9) * 0.1;
    }
  }

  std::mt19937 rng_;
  Module* m_ = nullptr;
};

}  // namespace graphc
