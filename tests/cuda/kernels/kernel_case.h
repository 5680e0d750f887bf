// Lowers a fusion region by the cuda templates, runs the loop programs in the interpreter that checks bounds
// and races, and compares with the reference interpreter. In cuda_kernels_standin_test (GRAPHC_STANDIN) it is
// not the loop programs that run but the CUDA C++ that is emitted for them, on the stand-in's card
// (card_run.h).
//
//   KernelCase c("window");
//   c.result(c.b.exp(c.f32({Dim::symbol("N"), 4})));
//   c.check({{"N", 7}});
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <random>

#include "backends/cuda/kernels/lowering.h"
#include "ir/builder.h"
#include "ir/interpret.h"
#include "ir/loops/interpreter.h"
#include "ir/loops/text.h"
#include "ir/loops/verify.h"
#include "passes/alias.h"
#ifdef GRAPHC_STANDIN
#include "tests/cuda/kernels/card_run.h"
#endif

namespace graphc::cuda {

using Sizes = std::map<std::string, int64_t, std::less<>>;

class KernelCase {
 public:
  explicit KernelCase(std::string_view kind)
      : func_(module_.add_func(std::string(kind))), b(module_, func_->body) {}
  // The region of a fusion that stands in `outer`.
  KernelCase(const Node& fusion, const Func& outer) : KernelCase(fusion.attr("kind").as_string()) {
    func_->symbols = outer.symbols;
    std::unordered_map<const Value*, Value*> map;
    for (const auto& a : fusion.region->args) map[a.get()] = arg(a->type);
    for (Value* r : clone_block_into(*fusion.region, func_->body, map)) result(r);
    std::vector<bool> taken(fusion.operands.size());
    for (const std::vector<int>& operands : alias_candidates(fusion)) {
      share.push_back(-1);
      for (int o : operands)
        if (share.back() < 0 && !taken[static_cast<size_t>(o)]) {
          share.back() = o;
          taken[static_cast<size_t>(o)] = true;
        }
    }
  }
  KernelCase(const KernelCase&) = delete;
  Func& func() { return *func_; }

  Value* arg(TensorType type) {
    for (const Dim& d : type.shape) d.for_each_symbol([&](const std::string& s) { symbol(s); });
    return func_->body.add_arg(std::move(type), "a" + std::to_string(func_->body.args.size()));
  }
  Value* f32(Shape shape) { return arg({DType::kF32, std::move(shape)}); }
  void symbol(const std::string& s) {
    for (const SymbolDef& d : func_->symbols)
      if (d.name == s) return;
    func_->symbols.push_back({s, 0, std::nullopt});
  }
  void result(Value* v) {
    func_->body.results.push_back(v);
    func_->result_names.push_back("r" + std::to_string(func_->body.results.size()));
  }

  double lo = -1, hi = 1;          // of float operands
  int64_t int_lo = 0, int_hi = 3;  // of integer operands
  double tolerance = 4e-6;         // relative to 1 + the largest |value| of the result
  uint64_t seed = 1;
  std::vector<HostTensor> inputs;  // drawn if empty
  std::vector<int> share;          // results that are also written over an operand; -1: none
  int perturbations = 0;           // > 0: also forgiven is what rounding of operands explains
  std::vector<HostTensor> want;    // after check(): the interpreter's results
  std::vector<std::vector<double>> slack;
  std::string target = "h200";
  std::function<Result<LoweredRegion>(const Func&, const LowerOptions&)> lower = lower_region;

  static std::vector<int64_t> shape_of(const TensorType& t, const Sizes& sizes) {
    std::vector<int64_t> s;
    for (const Dim& d : t.shape) s.push_back(d.evaluate(sizes).value());
    return s;
  }

  std::vector<HostTensor> draw(const Sizes& sizes) {
    std::mt19937_64 rng(seed);
    std::vector<HostTensor> out;
    for (const auto& a : func_->body.args) {
      HostTensor t = HostTensor::zeros(a->type.dtype, shape_of(a->type, sizes));
      for (int64_t i = 0; i < t.size(); ++i)
        if (is_float(t.dtype))
          t.f[static_cast<size_t>(i)] =
              static_cast<float>(std::uniform_real_distribution<double>(lo, hi)(rng));
        else
          t.i[static_cast<size_t>(i)] = t.dtype == DType::kBool
                                            ? static_cast<int64_t>(rng() & 1)
                                            : std::uniform_int_distribution<int64_t>(int_lo, int_hi)(rng);
      out.push_back(HostTensor::from_bytes(t.dtype, t.shape, t.to_bytes().data()));  // rounded
    }
    return out;
  }

  void check(const Sizes& sizes = {}) {
    std::vector<HostTensor> in = inputs.empty() ? draw(sizes) : inputs;
    VariableValues none;
    std::unique_ptr<Module> bound = clone(module_);  // an operand need not show every size
    Func* func = bound->find_func(func_->name);
    Sizes declared;
    for (const SymbolDef& d : func_->symbols) declared[d.name] = sizes.at(d.name);
    ASSERT_TRUE(bind_symbols(*func, declared).ok());
    auto result = interpret(*bound, *func, in, none);
    ASSERT_TRUE(result.ok()) << result.error().message;
    want = *std::move(result);
    for (int k = 0; k < perturbations; ++k) perturb(*bound, *func, in, k);
    auto parsed = CudaTarget::parse(target);
    ASSERT_TRUE(parsed.ok()) << parsed.error().message;
    auto lowered = lower(*func_, {*parsed, "k"});
    ASSERT_TRUE(lowered.ok()) << lowered.error().message;
    for (const KernelStep& step : lowered->steps) verified(step.kernel);
    if (::testing::Test::HasFailure()) return;
    run(*lowered, in, sizes, want, false);
    if (!::testing::Test::HasFailure() && std::ranges::any_of(share, [](int s) { return s >= 0; }))
      run(*lowered, in, sizes, want, true);
  }

  static void verified(const Kernel& k) {
    VerifyReport report;
    Status s = verify_kernel(k, &report);
    ASSERT_TRUE(s.ok()) << s.error().message << "\n" << print_kernel(k);
    EXPECT_LE(shared_bytes(k), 48 << 10) << print_kernel(k);
    EXPECT_LE(block_threads(k), 1024);
    auto again = parse_kernel(print_kernel(k));
    ASSERT_TRUE(again.ok()) << again.error().message << "\n" << print_kernel(k);
    EXPECT_EQ(print_kernel(*again), print_kernel(k));
  }

 private:
#ifdef GRAPHC_STANDIN
  void run(const LoweredRegion& lowered, const std::vector<HostTensor>& in, const Sizes& sizes,
           const std::vector<HostTensor>& want, bool in_place) {
    std::vector<std::vector<std::byte>> memory(in.size() + want.size());
    std::vector<CardRun::Tensor> operands, results;
    for (size_t i = 0; i < in.size(); ++i) {
      memory[i] = in[i].to_bytes();
      operands.push_back({in[i].shape, &memory[i]});
    }
    for (size_t r = 0; r < want.size(); ++r) {
      memory[in.size() + r] = want[r].to_bytes();
      results.push_back({want[r].shape, &memory[in.size() + r], in_place ? share[r] : -1});
    }
    std::vector<int64_t> symbols;
    for (const SymbolDef& s : func_->symbols) symbols.push_back(sizes.at(s.name));
    Status s = CardRun::run(*func_, lowered, operands, results, symbols);
    ASSERT_TRUE(s.ok()) << s.error().message;
    for (size_t r = 0; r < want.size(); ++r) compare(r, want[r], *results[r].bytes);
    if (::testing::Test::HasFailure())
      for (const KernelStep& step : lowered.steps) ADD_FAILURE() << print_kernel(step.kernel);
  }
#else
  void run(const LoweredRegion& lowered, const std::vector<HostTensor>& in, const Sizes& sizes,
           const std::vector<HostTensor>& want, bool in_place) {
    constexpr std::byte kCanary{0xA5};
    std::vector<std::vector<std::byte>> operands, results, workspaces;
    for (const HostTensor& t : in) operands.push_back(t.to_bytes());
    std::vector<size_t> bytes;
    for (const HostTensor& t : want) {
      bytes.push_back(t.to_bytes().size());
      results.emplace_back(bytes.back() + 64, kCanary);
    }
    for (const Dim& d : lowered.workspace_bytes) {
      int64_t n = d.evaluate(sizes).value();
      EXPECT_EQ(n % 64, 0);
      workspaces.emplace_back(static_cast<size_t>(n), kCanary);
    }
    std::vector<int64_t> symbols;
    for (const SymbolDef& s : func_->symbols) symbols.push_back(sizes.at(s.name));
    auto result = [&](size_t r) -> std::vector<std::byte>& {
      return in_place && share[r] >= 0 ? operands[static_cast<size_t>(share[r])] : results[r];
    };
    bool reverse = true;
    for (const KernelStep& step : lowered.steps) {
      std::vector<void*> buffers;
      for (const KernelArg& a : step.args) {
        size_t i = static_cast<size_t>(a.index);
        buffers.push_back(a.kind == KernelArgKind::kOperand  ? operands[i].data()
                          : a.kind == KernelArgKind::kResult ? result(i).data()
                                                             : workspaces[i].data());
      }
      Status s = interpret_kernel(step.kernel, buffers, symbols, {.check_races = true, .reverse = reverse});
      ASSERT_TRUE(s.ok()) << s.error().message << "\n" << print_kernel(step.kernel);
      reverse = !reverse;
    }
    for (size_t r = 0; r < results.size(); ++r) {
      for (size_t i = bytes[r]; i < results[r].size(); ++i)
        ASSERT_EQ(results[r][i], kCanary) << "written past the end";
      compare(r, want[r], result(r));
    }
    if (::testing::Test::HasFailure())
      for (const KernelStep& step : lowered.steps) ADD_FAILURE() << print_kernel(step.kernel);
  }

#endif

  // Notes how much results change if operands do by half a unit in the last place.
  void perturb(const Module& m, const Func& f, std::vector<HostTensor> in, int k) {
    std::mt19937_64 rng(1000 + static_cast<uint64_t>(k));
    for (HostTensor& t : in)
      if (is_float(t.dtype) && t.dtype != DType::kF64)
        for (double& v : t.f) v *= 1 + std::ldexp(rng() & 1 ? 1 : -1, -24);
    VariableValues none;
    auto other = interpret(m, f, in, none);
    if (!other.ok()) return;
    slack.resize(want.size());
    for (size_t r = 0; r < want.size(); ++r) {
      slack[r].resize(static_cast<size_t>(want[r].size()));
      for (int64_t i = 0; i < want[r].size(); ++i) {
        const double d = std::fabs(want[r].at(i) - (*other)[r].at(i));
        slack[r][static_cast<size_t>(i)] = std::max(slack[r][static_cast<size_t>(i)], 8 * d);
      }
    }
  }

  void compare(size_t r, const HostTensor& want, const std::vector<std::byte>& bytes) const {
    HostTensor got = HostTensor::from_bytes(want.dtype, want.shape, bytes.data());
    double scale = 1;
    for (int64_t k = 0; k < want.size(); ++k)
      if (std::isfinite(want.at(k))) scale = std::max(scale, std::fabs(want.at(k)));
    double eps = want.dtype == DType::kF16 ? 1e-3 : want.dtype == DType::kBF16 ? 8e-3 : 0;
    int wrong = 0;
    for (int64_t k = 0; k < want.size() && wrong < 5; ++k) {
      double w = want.at(k), g = got.at(k);
      const double more = slack.empty() ? 0 : slack[r][static_cast<size_t>(k)];
      if ((std::isnan(w) && std::isnan(g)) || (!is_float(want.dtype) && more > 0)) continue;
      if (w == g || (is_float(want.dtype) && std::fabs(w - g) <= (tolerance + eps) * scale + more)) continue;
      ++wrong;
      ADD_FAILURE() << "result " << r << " element " << k << ": " << g << " instead of " << w;
    }
  }

  Module module_;
  Func* func_;

 public:
  Builder b;
};

}  // namespace graphc::cuda
