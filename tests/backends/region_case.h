// Compiles a fusion region, runs it as machine code and compares with the reference interpreter.
//
//   RegionCase c("map");
//   Value* x = c.arg({DType::kF32, {Dim::symbol("N"), 4}});
//   c.result(c.b.exp(x));
//   c.check({{"N", 7}});
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "backends/cpu/compile.h"
#include "backends/cpu/exec/cpu_exec.h"
#include "ir/builder.h"
#include "ir/interpret.h"
#include "ir/loops/interpreter.h"
#include "ir/loops/text.h"
#include "passes/alias.h"
#include "runtime/base/thread_pool.h"

namespace graphc {

using Sizes = std::map<std::string, int64_t, std::less<>>;

class RegionCase {
 public:
  explicit RegionCase(std::string_view kind)
      : func_(module_.add_func(std::string(kind))), b(module_, func_->body) {}
  // The region of a fusion that stands in `outer`.
  RegionCase(const Node& fusion, const Func& outer) : RegionCase(fusion.attr("kind").as_string()) {
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
  RegionCase(const RegionCase&) = delete;
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
  std::vector<int> thread_counts = {1, 2, 3, 7};
  std::vector<HostTensor> inputs;       // drawn if empty
  std::vector<int> share;               // results that check() also writes over an operand; -1: none
  int64_t interpreted_elements = 4000;  // up to so many the loop programs are interpreted, too
  int perturbations = 0;                // > 0: also forgiven is what rounding of operands explains
  std::vector<HostTensor> want;         // after check(): the interpreter's results
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

  // Result bytes of a run on `threads` threads.
  std::vector<std::vector<std::byte>> run(const CpuExec& exec, const std::vector<HostTensor>& in,
                                          const Sizes& sizes, int threads, bool in_place = false) {
    std::vector<std::vector<std::byte>> in_bytes, out_bytes;
    std::vector<std::vector<int64_t>> shapes;
    for (const HostTensor& t : in) {
      in_bytes.push_back(t.to_bytes());
      in_bytes.back().resize(in_bytes.back().size() + 64);  // never empty
      shapes.push_back(t.shape);
    }
    for (const Value* r : func_->body.results) {
      shapes.push_back(shape_of(r->type, sizes));
      int64_t n = 1;
      for (int64_t d : shapes.back()) n *= d;
      // a canary behind the result
      out_bytes.emplace_back(static_cast<size_t>(n) * dtype_size(r->type.dtype) + 64, std::byte{0xA5});
    }
    std::vector<CpuExec::TensorRef> i, o;
    for (size_t k = 0; k < in.size(); ++k) i.push_back({in_bytes[k].data(), shapes[k]});
    for (size_t k = 0; k < out_bytes.size(); ++k) o.push_back({out_bytes[k].data(), shapes[in.size() + k]});
    std::vector<int64_t> symbols;
    for (const SymbolDef& s : func_->symbols) symbols.push_back(sizes.at(s.name));
    for (size_t k = 0; in_place && k < o.size(); ++k)
      if (share[k] >= 0) o[k].data = in_bytes[static_cast<size_t>(share[k])].data();
    ThreadPool pool(threads);
    Status s = exec.run(i, o, symbols, {ThreadPool::c_parallel_for, &pool});
    EXPECT_TRUE(s.ok()) << s.error().message;
    for (size_t k = 0; in_place && k < o.size(); ++k)
      if (share[k] >= 0) {
        std::vector<std::byte>& from = in_bytes[static_cast<size_t>(share[k])];
        std::copy(from.begin(), from.begin() + static_cast<int64_t>(out_bytes[k].size() - 64),
                  out_bytes[k].begin());
      }
    for (auto& bytes : out_bytes) {
      for (size_t k = bytes.size() - 64; k < bytes.size(); ++k)
        EXPECT_EQ(bytes[k], std::byte{0xA5}) << "written past the end";
      bytes.resize(bytes.size() - 64);
    }
    return out_bytes;
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
    int64_t elements = 0;
    for (const HostTensor& t : in) elements += t.size();
    for (const HostTensor& t : want) elements += t.size();
    if (elements <= interpreted_elements) interpret_loops(in, sizes);
    if (::testing::Test::HasFailure()) return;
    std::vector<CpuFeatures> machines = {host_features().baseline()};
    if (host_features().avx512()) machines.push_back(host_features());
    for (const CpuFeatures& f : machines) {
      SCOPED_TRACE(f.to_string());
      auto blob = compile_region(*func_, f);
      ASSERT_TRUE(blob.ok()) << blob.error().message;
      std::vector<int64_t> values;
      for (const SymbolDef& d : func_->symbols) values.push_back(sizes.at(d.name));
      for (const KernelBlob::Step& step : blob->steps)
        EXPECT_LE(step.scratch_bytes.evaluate(values).value_or(1 << 30), 16 << 20) << "scratch of a thread";
      std::string bytes = encode_blob(*blob);
      auto decoded = decode_blob(bytes, "cpu");
      ASSERT_TRUE(decoded.ok()) << decoded.error().message;
      auto exec = CpuExec::load(*std::move(decoded));
      ASSERT_TRUE(exec.ok()) << exec.error().message;
      std::vector<std::vector<std::byte>> first;
      for (int threads : thread_counts) {
        auto got = run(**exec, in, sizes, threads);
        if (threads == 1) {
          first = got;
          for (size_t r = 0; r < got.size(); ++r) compare(r, got[r]);
          if (::testing::Test::HasFailure()) return;
        } else {
          EXPECT_EQ(got, first) << "other bits on " << threads << " threads";
        }
      }
      if (std::any_of(share.begin(), share.end(), [](int k) { return k >= 0; })) {
        for (int threads : {1, 2})
          EXPECT_EQ(run(**exec, in, sizes, threads, true), first) << "other bits in place";
      }
    }
  }

  // The loop programs in the interpreter that checks every access and finds races.
  void interpret_loops(const std::vector<HostTensor>& in, const Sizes& sizes) {
    SCOPED_TRACE("loop programs");
    auto lowered = lower_region(*func_, {host_features().baseline(), "k"});
    ASSERT_TRUE(lowered.ok()) << lowered.error().message;
    std::vector<std::vector<std::byte>> operands, results, workspaces;
    for (const HostTensor& t : in) operands.push_back(t.to_bytes());
    for (size_t r = 0; r < want.size(); ++r) results.push_back(want[r].to_bytes());
    for (auto& bytes : results) std::fill(bytes.begin(), bytes.end(), std::byte{0xA5});
    for (const Dim& d : lowered->workspace_bytes)
      workspaces.emplace_back(static_cast<size_t>(d.evaluate(sizes).value()), std::byte{0xA5});
    std::vector<int64_t> symbols;
    for (const SymbolDef& s : func_->symbols) symbols.push_back(sizes.at(s.name));
    for (const KernelStep& step : lowered->steps) {
      std::vector<void*> buffers;
      for (const KernelArg& a : step.args)
        buffers.push_back((a.kind == KernelArgKind::kOperand  ? operands
                           : a.kind == KernelArgKind::kResult ? results
                                                              : workspaces)[static_cast<size_t>(a.index)]
                              .data());
      Status s = interpret_kernel(step.kernel, buffers, symbols, {.check_races = true, .reverse = true});
      ASSERT_TRUE(s.ok()) << s.error().message << "\n" << print_kernel(step.kernel);
    }
    for (size_t r = 0; r < results.size(); ++r) compare(r, results[r]);
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
        double d = std::fabs(want[r].at(i) - (*other)[r].at(i));
        slack[r][static_cast<size_t>(i)] = std::max(slack[r][static_cast<size_t>(i)], 8 * d);
      }
    }
  }

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

 private:
  Module module_;
  Func* func_;

 public:
  Builder b;
};

}  // namespace graphc
