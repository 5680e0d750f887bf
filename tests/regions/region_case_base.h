// A fusion region as a test's case: building it, drawing operands, what the reference interpreter makes of
// them, the loop programs that a backend lowers it to in the interpreter that checks every access and finds
// races, and comparing. A backend's case derives from it and adds check(): how that backend is judged
// (tests/backends/region_case.h, tests/cuda/kernels/kernel_case.h; tests/regions/judge.h chooses between
// them).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "backends/kernels/lowered_region.h"
#include "ir/builder.h"
#include "ir/interpret.h"
#include "ir/loops/interpreter.h"
#include "ir/loops/text.h"
#include "passes/alias.h"

namespace graphc {

using Sizes = std::map<std::string, int64_t, std::less<>>;

class RegionCaseBase {
 public:
  explicit RegionCaseBase(std::string_view kind)
      : func_(module_.add_func(std::string(kind))), b(module_, func_->body) {}
  // The region of a fusion that stands in `outer`.
  RegionCaseBase(const Node& fusion, const Func& outer) : RegionCaseBase(fusion.attr("kind").as_string()) {
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
  RegionCaseBase(const RegionCaseBase&) = delete;
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
  std::vector<int> share;          // results that check() also writes over an operand; -1: none
  int perturbations = 0;           // > 0: also forgiven is what rounding of operands explains
  std::vector<HostTensor> want;    // after check(): the interpreter's results
  std::vector<std::vector<double>> slack;

  std::vector<HostTensor> draw(const Sizes& sizes) {
    std::mt19937_64 rng(seed);
    std::vector<HostTensor> out;
    for (const auto& a : func_->body.args) {
      HostTensor t = HostTensor::zeros(a->type.dtype, shape_of(a->type, sizes));
      for (int64_t i = 0; i < t.size(); ++i)
        if (is_float(t.dtype))
          t.f[i] = static_cast<float>(std::uniform_real_distribution<double>(lo, hi)(rng));
        else
          t.i[i] = t.dtype == DType::kBool ? static_cast<int64_t>(rng() & 1)
                                           : std::uniform_int_distribution<int64_t>(int_lo, int_hi)(rng);
      out.push_back(HostTensor::from_bytes(t.dtype, t.shape, t.to_bytes().data()));  // rounded
    }
    return out;
  }

  static std::vector<int64_t> shape_of(const TensorType& t, const Sizes& sizes) {
    std::vector<int64_t> s;
    for (const Dim& d : t.shape) s.push_back(d.evaluate(sizes).value());
    return s;
  }

  bool shares() const {
    return std::any_of(share.begin(), share.end(), [](int k) { return k >= 0; });
  }

 protected:
  static constexpr std::byte kCanary{0xA5};

  std::vector<int64_t> symbol_values(const Sizes& sizes) const {
    std::vector<int64_t> symbols;
    for (const SymbolDef& s : func_->symbols) symbols.push_back(sizes.at(s.name));
    return symbols;
  }

  // What the reference interpreter computes of `in` goes to `want`, and to `slack` what rounding explains.
  void interpret_reference(const std::vector<HostTensor>& in, const Sizes& sizes) {
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
  }

  // The loop programs in the interpreter that checks every access and finds races; parallel iterations run
  // backwards in the first step, and in the others as well or (`alternate`) in every second one. in_place:
  // results that share an operand's memory lie there.
  void interpret_loops(const LoweredRegion& lowered, const std::vector<HostTensor>& in, const Sizes& sizes,
                       bool in_place, bool alternate) {
    std::vector<std::vector<std::byte>> operands, results, workspaces;
    for (const HostTensor& t : in) operands.push_back(t.to_bytes());
    std::vector<size_t> bytes;
    for (const HostTensor& t : want) {
      bytes.push_back(t.to_bytes().size());
      results.emplace_back(bytes.back() + 64, kCanary);
    }
    for (const Dim& d : lowered.workspace_bytes) {
      const int64_t n = d.evaluate(sizes).value();
      EXPECT_EQ(n % 64, 0);
      workspaces.emplace_back(static_cast<size_t>(n), kCanary);
    }
    const std::vector<int64_t> symbols = symbol_values(sizes);
    auto result = [&](size_t r) -> std::vector<std::byte>& {
      return in_place && share[r] >= 0 ? operands[static_cast<size_t>(share[r])] : results[r];
    };
    bool reverse = true;
    for (const KernelStep& step : lowered.steps) {
      std::vector<void*> buffers;
      for (const KernelArg& a : step.args) {
        const size_t i = static_cast<size_t>(a.index);
        buffers.push_back(a.kind == KernelArgKind::kOperand  ? operands[i].data()
                          : a.kind == KernelArgKind::kResult ? result(i).data()
                                                             : workspaces[i].data());
      }
      Status s = interpret_kernel(step.kernel, buffers, symbols, {.check_races = true, .reverse = reverse});
      ASSERT_TRUE(s.ok()) << s.error().message << "\n" << print_kernel(step.kernel);
      if (alternate) reverse = !reverse;
    }
    for (size_t r = 0; r < results.size(); ++r) {
      for (size_t i = bytes[r]; i < results[r].size(); ++i)
        ASSERT_EQ(results[r][i], kCanary) << "written past the end";
      compare(r, result(r));
    }
  }

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

  // Bytes of result `r` with what the reference interpreter computed.
  void compare(size_t r, const std::vector<std::byte>& bytes) {
    const HostTensor& want = this->want[r];
    HostTensor got = HostTensor::from_bytes(want.dtype, want.shape, bytes.data());
    double scale = 1;
    for (int64_t k = 0; k < want.size(); ++k)
      if (std::isfinite(want.at(k))) scale = std::max(scale, std::fabs(want.at(k)));
    double eps = want.dtype == DType::kF16 ? 1e-3 : want.dtype == DType::kBF16 ? 8e-3 : 0;
    int wrong = 0;
    for (int64_t k = 0; k < want.size() && wrong < 5; ++k) {
      double more = slack.empty() ? 0 : slack[r][static_cast<size_t>(k)];
      if (!is_float(want.dtype)) {
        if (want.i[k] == got.i[k] || more > 0) continue;
      } else {
        double w = want.f[k], g = got.f[k];
        if (std::isnan(w) && std::isnan(g)) continue;
        if (w == g || std::fabs(w - g) <= (tolerance + eps) * scale + more) continue;
      }
      ++wrong;
      ADD_FAILURE() << "result " << r << " element " << k << ": " << got.at(k) << " instead of "
                    << want.at(k);
    }
  }

  Module module_;
  Func* func_;

 public:
  Builder b;
};

}  // namespace graphc
