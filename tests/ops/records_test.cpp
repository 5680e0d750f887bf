// What holds of every record: documentation, inference, samples, one semantics; inference of canonical
// attributes changes nothing; inferred types are those of the evaluated results.
#include <gtest/gtest.h>

#include "ir/op_docs.h"
#include "tests/ops/differentiate.h"

namespace graphc {
namespace {

bool is_special(const OpDef& op) {
  return &op == &ops::assign || &op == &ops::optimize || &op == &ops::fusion;
}

class EveryOp : public testing::TestWithParam<const OpDef*> {};

TEST_P(EveryOp, IsComplete) {
  const OpDef& op = *GetParam();
  EXPECT_FALSE(op.doc.empty());
  EXPECT_TRUE(op.doc.ends_with(".")) << op.doc;
  ASSERT_TRUE(op.infer);
  EXPECT_EQ(find_op(op.name), &op);
  int semantics = (op.scalar != nullptr) + (op.expand != nullptr) + (op.evaluate != nullptr);
  EXPECT_EQ(semantics, is_special(op) ? 0 : 1);
  if (auto s = scalar_op_from_name(op.name)) EXPECT_TRUE(op.scalar);
  for (int i = 0; i < op.num_attrs(); ++i) EXPECT_FALSE(op.attrs[i].doc.empty()) << op.attrs[i].name;
  EXPECT_NE(describe_op(op).find(op.doc.substr(0, 8)), std::string::npos);
  if (is_special(op)) return;
  ASSERT_TRUE(op.samples);
  SampleRng rng(1);
  auto samples = op.samples(rng);
  EXPECT_GE(samples.size(), 20u);
}

TEST_P(EveryOp, InfersItsSamples) {
  const OpDef& op = *GetParam();
  if (is_special(op)) return;
  SampleRng rng(2);
  auto samples = op.samples(rng);
  for (size_t i = 0; i < samples.size(); ++i) {
    SCOPED_TRACE(i);
    Attrs attrs = samples[i].attrs;
    auto types = infer_types(op, samples[i].operands, attrs);
    ASSERT_TRUE(types.ok()) << types.error().message;
    Attrs again = attrs;
    auto types2 = infer_types(op, samples[i].operands, again);
    ASSERT_TRUE(types2.ok()) << types2.error().message;
    EXPECT_EQ(*types, *types2);
    EXPECT_TRUE(attrs == again) << "inferring again changes the attributes";
    auto results = interpret_op(op, sample_operands(samples[i], rng), attrs);
    ASSERT_TRUE(results.ok()) << results.error().message;
    ASSERT_EQ(results->size(), types->size());
    for (size_t k = 0; k < results->size(); ++k) {
      const HostTensor& r = (*results)[k];
      EXPECT_EQ((TensorType{r.dtype, Shape(r.shape.begin(), r.shape.end())}), (*types)[k]);
      EXPECT_EQ(static_cast<int64_t>(r.f.size() + r.i.size()), r.size());
    }
  }
}

// Every operand size made symbolic where inference allows it must give the same sizes once bound.
TEST_P(EveryOp, HasOneScalarResultOfItsTreesType) {
  const OpDef& op = *GetParam();
  if (!op.scalar) return;
  SampleRng rng(3);
  for (const Sample& s : op.samples(rng)) {
    Attrs attrs = s.attrs;
    auto types = infer_types(op, s.operands, attrs);
    ASSERT_TRUE(types.ok());
    ASSERT_EQ(types->size(), 1u);
    std::vector<Expr> args;
    for (size_t i = 0; i < s.operands.size(); ++i)
      args.push_back(Expr::arg(static_cast<int>(i), s.operands[i].dtype));
    EXPECT_EQ(op.scalar(args, attrs).type(), (*types)[0].dtype);
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, EveryOp, testing::ValuesIn(all_ops().begin(), all_ops().end()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST(Ops, NamesAreUnique) {
  std::map<std::string_view, int> count;
  for (const OpDef* op : all_ops()) EXPECT_EQ(++count[op->name], 1) << op->name;
}

}  // namespace
}  // namespace graphc
