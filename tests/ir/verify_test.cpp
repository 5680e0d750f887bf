// The verifier: one injected corruption for each invariant, refused with a message that names it.
#include "ir/verify.h"

#include <gtest/gtest.h>

#include "ir/op.h"
#include "tests/ir/random_module.h"

namespace graphc {
namespace {

const Dim N = Dim::symbol("N");

// @f[N](%x, %y) { %0 = add(%x, %y); %1 = fusion(%0, %x) {%0 = mul; %1 = exp}; assign(@s, ..); return %1 }
struct Sample1 {
  Module m;
  Func* f = nullptr;
  Value *x = nullptr, *y = nullptr;
  Variable *w = nullptr, *s = nullptr, *c = nullptr;
  Node *add = nullptr, *fusion = nullptr, *assign = nullptr;

  Sample1() {
    m.locs.push_back({"net.graph", 3, 22, -1});
    w = m.add_variable("w", VariableKind::kParam, {DType::kF32, {4}}, "ones");
    s = m.add_variable("s", VariableKind::kState, {DType::kF32, {4}}, "zeros");
    c = m.add_variable("c", VariableKind::kConst, {DType::kF32, {4}}, "zeros");
    f = m.add_func("f");
    f->symbols = {{"N", 1, 64}};
    x = f->body.add_arg({DType::kF32, {N, 4}}, "x");
    y = f->body.add_arg({DType::kF32, {N, 4}}, "y");
    Builder b(m, f->body);
    b.loc = 0;
    add = b.create_node(ops::add, {x, y});
    fusion = b.create_raw(ops::fusion, {add->result(), x}, {{"kind", "map"}}, {x->type});
    fusion->region = std::make_unique<Block>();
    Value* p = fusion->region->add_arg(x->type);
    Value* q = fusion->region->add_arg(x->type);
    Builder inner(m, *fusion->region);
    fusion->region->results = {inner.exp(inner.mul(p, q))};
    assign = b.create_node(ops::assign, {&s->value, b.mul(&s->value, &w->value)});
    f->body.results = {fusion->result()};
    f->result_names = {"z"};
  }
  std::string error() const {
    Status status = verify(m);
    return status.ok() ? "" : status.error().message;
  }
};

struct Corruption {
  const char* name;
  std::function<void(Sample1&)> inject;
  const char* message;  // a part of it
};

void add_result(Sample1& k, Value* v, std::string name) {
  k.f->body.results.push_back(v);
  k.f->result_names.push_back(std::move(name));
}

const std::vector<Corruption>& corruptions() {
  static const auto* const list = new std::vector<Corruption>{
      // module and variables
      {"LocationCycle", [](Sample1& k) { k.m.locs[0].parent = 0; }, "doesn't come before it"},
      {"VariableWithoutName", [](Sample1& k) { k.w->name.clear(); }, "a variable has no name"},
      {"VariableNameTwice", [](Sample1& k) { k.w->name = "s"; }, "two variables are called @s"},
      {"VariableValueForeign", [](Sample1& k) { k.w->value.variable = k.s; }, "belongs to another variable"},
      {"VariableShapeSymbolic", [](Sample1& k) { k.w->value.type.shape = {N}; },
       "symbol N where none are allowed"},
      {"VariableNeither", [](Sample1& k) { k.w->init.clear(); }, "neither an initialiser nor data"},
      {"VariableBoth", [](Sample1& k) { k.w->data = std::make_shared<std::vector<std::byte>>(16); },
       "data and an initialiser"},
      {"VariableDataSize",
       [](Sample1& k) {
         k.w->init.clear();
         k.w->data = std::make_shared<std::vector<std::byte>>(12);
       },
       "12 bytes of data, f32[4] needs 16"},
      {"InitialiserUnknown", [](Sample1& k) { k.w->init = "onse"; }, "onse"},
      {"InitialiserSetting", [](Sample1& k) { k.w->init_attrs["v"] = "text"; }, "isn't a number"},
      // functions
      {"FunctionWithoutName", [](Sample1& k) { k.f->name.clear(); }, "a function has no name"},
      {"FunctionTwice", [](Sample1& k) { k.m.add_func("f"); }, "two functions are called @f"},
      {"SymbolTwice",
       [](Sample1& k) {
         k.f->symbols.push_back({"N", 0, {}});
       },
       "symbol N is declared twice"},
      {"SymbolName",
       [](Sample1& k) {
         k.f->symbols.push_back({"f32", 0, {}});
       },
       "can't be the name of a size"},
      {"SymbolRange", [](Sample1& k) { k.f->symbols[0].max = 0; }, "range of the symbol N is empty"},
      {"SymbolUndeclared", [](Sample1& k) { k.f->symbols.clear(); }, "symbol N, which @f doesn't declare"},
      {"ArgumentWithoutName", [](Sample1& k) { k.x->name.clear(); }, "argument 0 has no name"},
      {"ArgumentTwice", [](Sample1& k) { k.y->name = "x"; }, "two arguments are called %x"},
      {"ArgumentPlace", [](Sample1& k) { k.y->index = 0; }, "argument 1 doesn't know"},
      {"ResultNameMissing", [](Sample1& k) { k.f->result_names.clear(); }, "1 results and 0 names"},
      {"ResultNameTwice", [](Sample1& k) { add_result(k, k.x, "z"); }, "two results are called 'z'"},
      {"ResultUndefined", [](Sample1& k) { k.f->body.results[0] = nullptr; }, "result 0: there is no value"},
      {"ResultOfRegion", [](Sample1& k) { k.f->body.results[0] = k.fusion->region->results[0]; }, "a value"},
      // nodes
      {"NoOp", [](Sample1& k) { k.add->op = nullptr; }, "has no op"},
      {"UseBeforeDefinition", [](Sample1& k) { std::swap(k.f->body.nodes[0], k.f->body.nodes[1]); },
       "isn't defined before it"},
      {"OperandNull", [](Sample1& k) { k.add->operands[1] = nullptr; }, "operand 1: there is no value"},
      {"OperandCount", [](Sample1& k) { k.add->operands.pop_back(); }, "takes 2 operands"},
      {"OperandType", [](Sample1& k) { k.x->type.dtype = DType::kI32; }, "add"},
      {"ResultType",
       [](Sample1& k) {
         k.add->results[0]->type.shape = {N, 5};
       },
       "inference gives f32[N, 4]"},
      {"ResultCount", [](Sample1& k) { k.add->results.push_back(std::make_unique<Value>()); },
       "result 1 doesn't know"},
      {"ResultPlace", [](Sample1& k) { k.add->results[0]->node = k.fusion; }, "result 0 doesn't know"},
      {"AttributeUnknown", [](Sample1& k) { k.add->attrs["axis"] = 1; }, "axis"},
      {"AttributeMissing",
       [](Sample1& k) {
         Builder b(k.m, k.f->body);
         b.sum(k.x, {1})->node->attrs.erase("keepdims");
       },
       "attribute keepdims is missing"},
      {"AttributeNotCanonical",
       [](Sample1& k) {
         Builder b(k.m, k.f->body);
         b.sum(k.x, {1})->node->attrs["axes"] = Attr::ints({-1});
       },
       "canonical form is [1]"},
      {"AttributeSymbol",
       [](Sample1& k) {
         Builder b(k.m, k.f->body);
         b.full(1, DType::kF32, {Dim::symbol("Q")});
       },
       "symbol Q, which @f doesn't declare"},
      {"LocationUnknown", [](Sample1& k) { k.add->loc = 7; }, "there is no location !7"},
      {"RegionUnasked", [](Sample1& k) { k.add->region = std::make_unique<Block>(); },
       "which its op doesn't take"},
      // regions
      {"RegionMissing", [](Sample1& k) { k.fusion->region.reset(); }, "it has no region"},
      {"RegionCaptures", [](Sample1& k) { k.fusion->region->nodes[0]->operands[0] = k.x; },
       "regions capture nothing"},
      {"RegionArgumentCount", [](Sample1& k) { k.fusion->operands.pop_back(); },
       "2 arguments for 1 operands"},
      {"RegionArgumentType", [](Sample1& k) { k.fusion->operands[1] = &k.w->value; },
       "argument 1 of the region is f32[N, 4], the operand is f32[4]"},
      {"RegionResultCount", [](Sample1& k) { k.fusion->region->results.clear(); },
       "yields 0 values for 1 results"},
      {"RegionResultType", [](Sample1& k) { k.fusion->results[0]->type.shape = {4}; },
       "yields f32[N, 4] for result 0, which is f32[4]"},
      {"RegionEffect",
       [](Sample1& k) {
         Builder(k.m, *k.fusion->region).create_node(ops::assign, {&k.s->value, &k.w->value});
       },
       "effect stands in a region"},
      {"RegionInRegion",
       [](Sample1& k) {
         Builder b(k.m, *k.fusion->region);
         Node* n = b.create_raw(ops::fusion, {}, {{"kind", "map"}}, {});
         n->region = std::make_unique<Block>();
       },
       "a region stands in a region"},
      // assign
      {"AssignToValue", [](Sample1& k) { k.assign->operands[0] = k.assign->operands[1]; },
       "doesn't assign to a variable"},
      {"AssignToConstant", [](Sample1& k) { k.assign->operands[0] = &k.c->value; },
       "assigns to the constant @c"},
      {"AssignType", [](Sample1& k) { k.assign->operands[1] = k.x; }, "assign"},
      // limits
      {"Rank", [](Sample1& k) { k.w->value.type.shape = Shape(9, Dim(1)); }, "rank 9 is above"},
      {"SizeNegative", [](Sample1& k) { k.w->value.type.shape = {-1}; }, "size -1"},
      {"SizeLarge", [](Sample1& k) { k.w->value.type.shape = {int64_t{1} << 31}; }, "outside 0..2147483647"},
      {"ElementsOverflow",
       [](Sample1& k) {
         k.w->value.type.shape = {1 << 30, 1 << 30, 1 << 30};
       },
       "number of elements"},
      {"SizeOverflow", [](Sample1& k) { k.x->type.shape[1] = Dim(INT64_MAX) * N + Dim(INT64_MAX) * N; },
       "a size overflows"},
      {"NameLong", [](Sample1& k) { k.x->name = std::string(70000, 'x'); }, "longer than 65536 bytes"},
      {"TooManyOperands",
       [](Sample1& k) {
         Builder b(k.m, k.f->body);
         Node* n = b.create_node(ops::concat, {k.x, k.x}, {{"axis", 0}});
         n->operands.resize(5000, k.x);
       },
       "more than 4096 operands"},
  };
  return *list;
}

TEST(Verify, TheSampleIsValid) { EXPECT_EQ(Sample1().error(), ""); }

class Verify : public ::testing::TestWithParam<Corruption> {};

TEST_P(Verify, Refuses) {
  Sample1 sample;
  GetParam().inject(sample);
  const std::string message = sample.error();
  ASSERT_NE(message, "");
  const std::string wanted = GetParam().message;
  EXPECT_NE(message.find(wanted), std::string::npos) << message;
}
INSTANTIATE_TEST_SUITE_P(Invariants, Verify, ::testing::ValuesIn(corruptions()),
                         [](const auto& i) { return i.param.name; });

TEST(Verify, MessagesNameFunctionNodeAndLine) {
  Sample1 k;
  k.add->results[0]->type.dtype = DType::kF16;
  EXPECT_EQ(k.error(),
            "in @f, node 0 add (net.graph:3:22): its results are f16[N, 4], inference gives f32[N, 4]");
}

TEST(Verify, NodesAndValuesAreLimited) {
  Sample1 k;
  LoadLimits limits;
  limits.max_nodes = 3;
  EXPECT_FALSE(verify(k.m, limits).ok());
  limits = {};
  limits.max_values = 5;
  EXPECT_FALSE(verify(k.m, limits).ok());
}

}  // namespace
}  // namespace graphc
