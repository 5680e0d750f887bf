// An index out of range is an error that names op and value; never a silent row, never other memory.
#include <cstring>

#include "tests/backends/region_case.h"

namespace graphc {
namespace {

Status run_with(RegionCase& c, const Sizes& sizes, std::vector<HostTensor> in) {
  auto blob = compile_region(c.func(), host_features());
  if (!blob.ok()) return blob.error();
  auto decoded = decode_blob(encode_blob(*blob), "cpu");
  if (!decoded.ok()) return decoded.error();
  auto exec = CpuExec::load(*std::move(decoded));
  if (!exec.ok()) return exec.error();
  std::vector<std::vector<std::byte>> bytes;
  std::vector<std::vector<int64_t>> shapes;
  for (const HostTensor& t : in) bytes.push_back(t.to_bytes()), shapes.push_back(t.shape);
  const TensorType& type = c.func().body.results[0]->type;
  shapes.push_back(RegionCase::shape_of(type, sizes));
  int64_t n = 1;
  for (int64_t d : shapes.back()) n *= d;
  std::vector<std::byte> out(static_cast<size_t>(n) * dtype_size(type.dtype) + 1);
  std::vector<CpuExec::TensorRef> operands;
  for (size_t i = 0; i < in.size(); ++i) operands.push_back({bytes[i].data(), shapes[i]});
  const CpuExec::TensorRef result{out.data(), shapes.back()};
  std::vector<int64_t> symbols;
  for (const SymbolDef& s : c.func().symbols) symbols.push_back(sizes.at(s.name));
  ThreadPool pool(2);
  return (*exec)->run(operands, {&result, 1}, symbols, {ThreadPool::c_parallel_for, &pool});
}

HostTensor ids_of(std::vector<int64_t> v, DType dtype = DType::kI32) {
  HostTensor t = HostTensor::zeros(dtype, {static_cast<int64_t>(v.size())});
  t.i = std::move(v);
  return t;
}

TEST(CpuIndex, GatherNamesTheBadIndex) {
  RegionCase c("map");
  Value* table = c.f32({10, 4});
  Value* ids = c.arg({DType::kI32, {Dim::symbol("N")}});
  c.result(c.b.create(ops::gather, {table, ids}, {{"axis", Attr(0)}}));
  const HostTensor t = HostTensor::zeros(DType::kF32, {10, 4});
  EXPECT_TRUE(run_with(c, {{"N", 3}}, {t, ids_of({0, 9, 4})}).ok());
  EXPECT_TRUE(run_with(c, {{"N", 0}}, {t, ids_of({})}).ok());
  for (int64_t bad : {int64_t{10}, int64_t{-1}, int64_t{2000000000}}) {
    const Status s = run_with(c, {{"N", 3}}, {t, ids_of({1, bad, 2})});
    ASSERT_FALSE(s.ok()) << bad;
    EXPECT_EQ(s.error().message, "gather: index " + std::to_string(bad) + " is outside 0..9");
  }
}

TEST(CpuIndex, OfComputedIdsAndInTheScatter) {
  RegionCase c("scatter");
  Value* x = c.f32({6, 3});
  Value* ids = c.arg({DType::kI64, {5}});
  Value* src = c.f32({5, 3});
  Value* shifted = c.b.scalar(ScalarOp::kAdd, {ids, c.b.full(1, DType::kI64)});
  c.result(c.b.create(ops::scatter_add, {x, shifted, src}, {{"axis", Attr(0)}}));
  const HostTensor t = HostTensor::zeros(DType::kF32, {6, 3}), u = HostTensor::zeros(DType::kF32, {5, 3});
  EXPECT_TRUE(run_with(c, {}, {t, ids_of({-1, 0, 4, 4, 2}, DType::kI64), u}).ok());
  const Status s = run_with(c, {}, {t, ids_of({-1, 0, 5, 4, 2}, DType::kI64), u});
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().message, "scatter_add: index 6 is outside 0..5");
}

// The bounds lie in workspace: memory that the caller plans where its size is known.
TEST(CpuIndex, WorkspaceIsTheCallersIfItsSizeIsKnown) {
  RegionCase c("map");
  Value* table = c.f32({10, 4});
  Value* ids = c.arg({DType::kI32, {3}});
  c.result(c.b.create(ops::gather, {table, ids}, {{"axis", Attr(0)}}));
  auto blob = compile_region(c.func(), host_features());
  ASSERT_TRUE(blob.ok()) << blob.error().message;
  auto exec = CpuExec::load(*std::move(blob));
  ASSERT_TRUE(exec.ok()) << exec.error().message;
  ASSERT_EQ((*exec)->planned_workspace_bytes(), 128u);
  const std::vector<std::byte> rows(160);
  const int32_t index[3] = {7, 2, 5};
  std::byte out[48];
  const int64_t table_shape[] = {10, 4}, ids_shape[] = {3}, out_shape[] = {3, 4};
  const CpuExec::TensorRef in[] = {{const_cast<std::byte*>(rows.data()), table_shape},
                                   {const_cast<int32_t*>(index), ids_shape}};
  const CpuExec::TensorRef result{out, out_shape};
  alignas(64) std::byte workspace[128] = {};
  ThreadPool pool(1);
  ASSERT_TRUE((*exec)->run(in, {&result, 1}, {}, {ThreadPool::c_parallel_for, &pool}, workspace).ok());
  int64_t low, high;
  std::memcpy(&low, workspace, 8);
  std::memcpy(&high, workspace + 64, 8);
  EXPECT_EQ(low, 2);
  EXPECT_EQ(high, 7);
}

TEST(CpuIndex, NothingIsCheckedThatCannotFail) {
  RegionCase c("map");
  Value* table = c.f32({64, 4});
  const Dim n = Dim::symbol("T");
  c.func().symbols.push_back({"T", 1, 64});
  Value* ids = c.b.create(ops::iota, {},
                          {{"axis", Attr(0)}, {"dtype", Attr(DType::kI32)}, {"shape", Attr::dims({n})}});
  c.result(c.b.create(ops::gather, {table, ids}, {{"axis", Attr(0)}}));
  auto lowered = lower_region(c.func(), {host_features(), "k"});
  ASSERT_TRUE(lowered.ok()) << lowered.error().message;
  EXPECT_TRUE(lowered->checks.empty());
}

}  // namespace
}  // namespace graphc
