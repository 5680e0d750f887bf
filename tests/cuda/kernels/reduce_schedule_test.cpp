// Every schedule of the reductions, by shape, with results in place of operands.
#include "backends/cuda/kernels/reduce_plan.h"

#include "tests/cuda/kernels/kernel_case.h"

namespace graphc::cuda {
namespace {

ReducePlan plan_of(KernelCase& c) {
  auto form = reduce_form(c.func(), "cuda", true);
  EXPECT_TRUE(form.ok()) << form.error().message;
  auto plan = plan_reduce(*form, *CudaTarget::parse(c.target));
  EXPECT_TRUE(plan.ok()) << plan.error().message;
  return *plan;
}

// x normalised along its last axis, and a running mean that is kept in place.
void normalise(KernelCase& c, Value* x, Value* running, std::vector<int64_t> axes, double n) {
  Value* mean = c.b.div(c.b.sum(x, axes, true), n);
  Value* d = c.b.sub(x, mean);
  Value* var = c.b.div(c.b.sum(c.b.mul(d, d), axes, true), n);
  c.result(c.b.mul(c.b.sub(d, running), c.b.rsqrt(c.b.add(var, 1e-3))));
  c.result(c.b.add(c.b.mul(running, 0.9), c.b.mul(mean, 0.1)));
  c.share = {0, 1};
  c.tolerance = 2e-5;
}

TEST(CudaReduceSchedule, RowsInPlace) {
  struct Shape2 {
    int64_t rows, columns;
    ReduceSchedule schedule;
    bool kept;
  };
  for (const auto& [rows, columns, schedule, kept] : {Shape2{300, 3, ReduceSchedule::kThread, false},
                                                      {5, 64, ReduceSchedule::kGroup, true},
                                                      {700, 24, ReduceSchedule::kGroup, true},
                                                      {37, 257, ReduceSchedule::kGroup, true},
                                                      {3, 1500, ReduceSchedule::kBlock, true},
                                                      {2, 2100, ReduceSchedule::kBlock, true},
                                                      {140, 16500, ReduceSchedule::kBlock, false}}) {
    SCOPED_TRACE(::testing::Message() << rows << "x" << columns);
    KernelCase c("rows");
    Value *x = c.f32({rows, columns}), *running = c.f32({rows, 1});
    normalise(c, x, running, {1}, static_cast<double>(columns));
    const ReducePlan p = plan_of(c);
    EXPECT_EQ(p.schedule, schedule);
    EXPECT_EQ(p.slots > 0, kept);
    EXPECT_EQ(p.chunk, 0);
    if (rows * columns < 50000) c.check();
    if (HasFailure()) return;
  }
}

TEST(CudaReduceSchedule, FewLongRowsInChunks) {
  KernelCase c("rows");
  Value *x = c.f32({2, 20000}), *running = c.f32({2, 1});
  normalise(c, x, running, {1}, 20000);
  EXPECT_GT(plan_of(c).chunk, 0);
  c.check();
}

TEST(CudaReduceSchedule, RowsOfBoundedLengthStayInRegisters) {
  for (int64_t t : {1, 60, 127, 300}) {
    SCOPED_TRACE(t);
    KernelCase c("rows");
    Value *x = c.f32({Dim::symbol("N"), Dim::symbol("T")}), *running = c.f32({Dim::symbol("N"), 1});
    for (SymbolDef& s : c.func().symbols)
      if (s.name == "T") s.max = 300;
    normalise(c, x, running, {1}, static_cast<double>(t));
    const ReducePlan p = plan_of(c);
    EXPECT_EQ(p.schedule, ReduceSchedule::kBlock);
    EXPECT_EQ(p.slots, 3);
    c.tolerance = 1e-4;
    c.check({{"N", 5}, {"T", t}});
    if (HasFailure()) return;
  }
}

TEST(CudaReduceSchedule, ColumnsInPlace) {
  struct Case {
    int64_t outer, rows, columns;
    ReduceSchedule schedule;
    bool chunks;
  };
  for (const auto& [outer, rows, columns, schedule, chunks] :
       {Case{1, 9, 40, ReduceSchedule::kThread, false},
        {300, 40, 5, ReduceSchedule::kColumns, false},
        {3, 70, 100, ReduceSchedule::kColumns, false},
        {1, 600, 96, ReduceSchedule::kColumns, true},
        {2, 2300, 3, ReduceSchedule::kColumns, true}}) {
    SCOPED_TRACE(::testing::Message() << outer << "x" << rows << "x" << columns);
    KernelCase c("columns");
    Value *x = c.f32({outer, rows, columns}), *running = c.f32({outer, 1, columns});
    normalise(c, x, running, {1}, static_cast<double>(rows));
    const ReducePlan p = plan_of(c);
    EXPECT_EQ(p.schedule, schedule);
    EXPECT_EQ(p.chunk > 0, chunks);
    c.check();
    if (HasFailure()) return;
  }
}

TEST(CudaReduceSchedule, LabelsTurnIntoLosses) {
  KernelCase c("rows");
  Value *x = c.f32({50, 10}), *labels = c.arg({DType::kI32, {50}});
  c.int_hi = 9;
  Value* e = c.b.exp(c.b.sub(x, c.b.max(x, {1}, true)));
  Value* p = c.b.div(e, c.b.sum(e, {1}, true));
  Value* mine = c.b.compare(ScalarOp::kEq, c.b.iota({50, 10}, 1, DType::kI32), c.b.reshape(labels, {50, 1}));
  c.result(c.b.sum(c.b.where(mine, c.b.log(p), c.b.full(0.0, DType::kF32)), {1}));
  c.share = {1};
  c.check();
}

TEST(CudaReduceSchedule, SixteenBitRowsAndColumnsByVectors) {
  for (DType t : {DType::kF16, DType::kBF16}) {
    KernelCase c("rows");
    Value* x = c.arg({t, {20, 776}});
    Value* w = c.arg({t, {776}});
    Value* f = c.b.cast(x, DType::kF32);
    Value* mean = c.b.div(c.b.sum(f, {1}, true), 776.0);
    c.result(c.b.cast(c.b.mul(c.b.sub(f, mean), c.b.cast(w, DType::kF32)), t));
    EXPECT_EQ(plan_of(c).width, 8);
    c.check();
    KernelCase d("columns");
    d.result(d.b.sum(d.b.cast(d.arg({t, {70, 136}}), DType::kF32), {0}));
    EXPECT_GE(plan_of(d).width, 4);
    d.check();
    if (HasFailure()) return;
  }
}

TEST(CudaReduceSchedule, NaNAndInfinityGoThroughEverySchedule) {
  for (int64_t n : {3, 33, 1300, 20000}) {
    SCOPED_TRACE(n);
    KernelCase c("rows");
    Value* x = c.f32({4, n});
    c.result(c.b.max(x, {1}));
    c.result(c.b.sum(x, {1}));
    c.result(c.b.create(ops::argmax, {x}, {{"axis", 1}, {"keepdims", false}, {"dtype", DType::kI32}}));
    HostTensor in = HostTensor::zeros(DType::kF32, {4, n});
    std::mt19937 rng(7);
    for (int64_t i = 0; i < in.size(); ++i) in.f[static_cast<size_t>(i)] = static_cast<double>(rng() % 5);
    in.f[static_cast<size_t>(n - 1)] = std::nan("");
    in.f[static_cast<size_t>(2 * n - 2)] = std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < n; ++i)
      in.f[static_cast<size_t>(2 * n + i)] = -std::numeric_limits<double>::infinity();
    c.inputs = {in};
    c.check();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace graphc::cuda
