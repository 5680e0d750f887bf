// A region's case (tests/regions/region_case_base.h) by the cpu's templates: compiles it, runs it as machine
// code and compares with the reference interpreter; small ones' loop programs are interpreted, too.
//
//   RegionCase c("map");
//   Value* x = c.arg({DType::kF32, {Dim::symbol("N"), 4}});
//   c.result(c.b.exp(x));
//   c.check({{"N", 7}});
#pragma once

#include <algorithm>

#include "backends/cpu/compile.h"
#include "backends/cpu/exec/cpu_exec.h"
#include "runtime/base/thread_pool.h"
#include "tests/regions/region_case_base.h"

namespace graphc {

class RegionCase : public RegionCaseBase {
 public:
  using RegionCaseBase::RegionCaseBase;

  std::vector<int> thread_counts = {1, 2, 3, 7};
  void few_runs() { thread_counts = {1, 2}; }
  int64_t interpreted_elements = 4000;  // up to so many the loop programs are interpreted, too

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
      out_bytes.emplace_back(static_cast<size_t>(n) * dtype_size(r->type.dtype) + 64, kCanary);
    }
    std::vector<CpuExec::TensorRef> i, o;
    for (size_t k = 0; k < in.size(); ++k) i.push_back({in_bytes[k].data(), shapes[k]});
    for (size_t k = 0; k < out_bytes.size(); ++k) o.push_back({out_bytes[k].data(), shapes[in.size() + k]});
    for (size_t k = 0; in_place && k < o.size(); ++k)
      if (share[k] >= 0) o[k].data = in_bytes[static_cast<size_t>(share[k])].data();
    ThreadPool pool(threads);
    Status s = exec.run(i, o, symbol_values(sizes), {ThreadPool::c_parallel_for, &pool});
    EXPECT_TRUE(s.ok()) << s.error().message;
    for (size_t k = 0; in_place && k < o.size(); ++k)
      if (share[k] >= 0) {
        std::vector<std::byte>& from = in_bytes[static_cast<size_t>(share[k])];
        std::copy(from.begin(), from.begin() + static_cast<int64_t>(out_bytes[k].size() - 64),
                  out_bytes[k].begin());
      }
    for (auto& bytes : out_bytes) {
      for (size_t k = bytes.size() - 64; k < bytes.size(); ++k)
        EXPECT_EQ(bytes[k], kCanary) << "written past the end";
      bytes.resize(bytes.size() - 64);
    }
    return out_bytes;
  }

  void check(const Sizes& sizes = {}) {
    std::vector<HostTensor> in = inputs.empty() ? draw(sizes) : inputs;
    interpret_reference(in, sizes);
    if (::testing::Test::HasFatalFailure()) return;
    int64_t elements = 0;
    for (const HostTensor& t : in) elements += t.size();
    for (const HostTensor& t : want) elements += t.size();
    if (elements <= interpreted_elements) check_loops(in, sizes);
    if (::testing::Test::HasFailure()) return;
    std::vector<CpuFeatures> machines = {host_features().baseline()};
    if (host_features().avx512()) machines.push_back(host_features());
    for (const CpuFeatures& f : machines) {
      SCOPED_TRACE(f.to_string());
      auto blob = compile_region(*func_, f);
      ASSERT_TRUE(blob.ok()) << blob.error().message;
      const std::vector<int64_t> values = symbol_values(sizes);
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
      if (shares()) {
        for (int threads : {1, 2})
          EXPECT_EQ(run(**exec, in, sizes, threads, true), first) << "other bits in place";
      }
    }
  }

  void check_loops(const std::vector<HostTensor>& in, const Sizes& sizes) {
    SCOPED_TRACE("loop programs");
    auto lowered = lower_region(*func_, {host_features().baseline(), "k"});
    ASSERT_TRUE(lowered.ok()) << lowered.error().message;
    interpret_loops(*lowered, in, sizes, false, false);
  }
};

}  // namespace graphc
