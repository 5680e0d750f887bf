// A region's case (tests/regions/region_case_base.h) by the cuda templates: runs the loop programs in the
// interpreter that checks bounds and races, and compares with the reference interpreter. In
// cuda_kernels_standin_test (GRAPHC_STANDIN) it is not the loop programs that run but the CUDA C++ that is
// emitted for them, on the stand-in's card (card_run.h).
//
//   KernelCase c("window");
//   c.result(c.b.exp(c.f32({Dim::symbol("N"), 4})));
//   c.check({{"N", 7}});
#pragma once

#include <functional>

#include "backends/cuda/kernels/lowering.h"
#include "ir/loops/verify.h"
#include "tests/regions/region_case_base.h"
#ifdef GRAPHC_STANDIN
#include "tests/cuda/kernels/card_run.h"
#endif

namespace graphc::cuda {

using graphc::Sizes;

class KernelCase : public RegionCaseBase {
 public:
  using RegionCaseBase::RegionCaseBase;

  std::string target = "h200";
  std::function<Result<LoweredRegion>(const Func&, const LowerOptions&)> lower = lower_region;
  void few_runs() {}  // there is one run only

  void check(const Sizes& sizes = {}) {
    std::vector<HostTensor> in = inputs.empty() ? draw(sizes) : inputs;
    interpret_reference(in, sizes);
    if (::testing::Test::HasFatalFailure()) return;
    auto parsed = CudaTarget::parse(target);
    ASSERT_TRUE(parsed.ok()) << parsed.error().message;
    auto lowered = lower(*func_, {*parsed, "k"});
    ASSERT_TRUE(lowered.ok()) << lowered.error().message;
    for (const KernelStep& step : lowered->steps) verified(step.kernel);
    if (::testing::Test::HasFailure()) return;
    run(*lowered, in, sizes, false);
    if (!::testing::Test::HasFailure() && shares()) run(*lowered, in, sizes, true);
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
  void run(const LoweredRegion& lowered, const std::vector<HostTensor>& in, const Sizes& sizes,
           bool in_place) {
#ifdef GRAPHC_STANDIN
    run_on_card(lowered, in, sizes, in_place);
#else
    interpret_loops(lowered, in, sizes, in_place, true);
#endif
    if (::testing::Test::HasFailure())
      for (const KernelStep& step : lowered.steps) ADD_FAILURE() << print_kernel(step.kernel);
  }

#ifdef GRAPHC_STANDIN
  void run_on_card(const LoweredRegion& lowered, const std::vector<HostTensor>& in, const Sizes& sizes,
                   bool in_place) {
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
    Status s = CardRun::run(*func_, lowered, operands, results, symbol_values(sizes));
    ASSERT_TRUE(s.ok()) << s.error().message;
    for (size_t r = 0; r < want.size(); ++r) compare(r, *results[r].bytes);
  }
#endif
};

}  // namespace graphc::cuda
