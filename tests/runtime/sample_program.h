// A program over the fake backend with all kinds of buffers.
//   infer: y[N, 4] = 3 * (x + 2 * x), total[] = sum(y)
//   train: w -= 0.5 * mean gradient (here: x's sum over N is given as input g), steps += one;
//   loss.sum/loss.count
#pragma once

#include <cstring>

#include "runtime/program.h"
#include "tests/runtime/fake_backend.h"

namespace graphc {

inline std::string raw(std::initializer_list<float> v) {
  std::string s(v.size() * 4, '\0');
  if (v.size()) std::memcpy(s.data(), v.begin(), s.size());
  return s;
}

inline Program sample_program() {
  Program p;
  p.meta = {"0.1.0", "cpu", {"avx2", "fma"}, "-O2", "abc", {{"model", "Sample"}}};
  p.symbols = {{"N", 1, 1000}};
  const SizeExpr n = SizeExpr::symbol(0), row = n * SizeExpr(4), bytes = row * SizeExpr(4);
  p.variables.push_back(
      {"w", VariableRole::kParam, DType::kF32, {4}, InitSpec{"normal", {{"std", 2}}}, {}, "", ""});
  p.variables.push_back({"steps", VariableRole::kState, DType::kF32, {}, InitSpec{"zeros", {}}, {}, "", ""});
  p.variables.push_back({"one", VariableRole::kConst, DType::kF32, {}, {}, p.own(raw({1})), "", ""});
  p.variables.push_back(
      {"rng.seed", VariableRole::kState, DType::kU64, {}, InitSpec{"zeros", {}}, {}, "", ""});
  const char* ops[] = {"add", "scale 2", "scale 3", "sum", "scratch 64", "symbols", "acc", "sgd 0.5"};
  for (const char* op : ops) p.execs.push_back({"fake", p.own(op), std::string("kernel ") + op});

  const auto view = [&](uint32_t b, std::vector<SizeExpr> shape) {
    return TensorView{b, 0, DType::kF32, shape, {}};
  };
  Function f;
  f.name = "infer";
  f.inputs = {{"x", DType::kF32, {n, 4}}};
  f.outputs = {{"y", DType::kF32, {n, 4}}, {"total", DType::kF32, {}}, {"copy", DType::kF32, {n, 4}}};
  f.buffers = {
      {ProgramBuffer::kInput, 0, bytes, 0, 0, 0, -1}, {ProgramBuffer::kOutput, 0, bytes, 0, 0, 0, -1},
      {ProgramBuffer::kOutput, 1, 4, 0, 0, 0, -1},    {ProgramBuffer::kArena, 0, bytes, 0, 0, 1, -1},
      {ProgramBuffer::kArena, 0, bytes, 0, 1, 2, -1}, {ProgramBuffer::kAlias, 3, bytes, 0, 0, 0, -1},
      {ProgramBuffer::kOutput, 2, bytes, 0, 0, 0, -1}};
  f.steps.push_back({1, {view(0, {n, 4})}, {view(3, {n, 4})}, -1, {}, "double (a.graph:3:5)"});
  f.steps.push_back({0, {view(0, {n, 4}), view(5, {n, 4})}, {view(4, {n, 4})}, -1, {n}, ""});
  f.steps.push_back({2, {view(4, {n, 4})}, {view(1, {n, 4})}, -1, {}, ""});
  f.steps.push_back({3, {view(1, {n, 4})}, {view(2, {})}, -1, {}, ""});
  f.copies.push_back({1, 6, bytes});
  p.functions.push_back(f);

  Function t;
  t.name = "train";
  t.inputs = {{"x", DType::kF32, {n, 4}}, {"g", DType::kF32, {4}}};
  t.outputs = {{"loss.sum", DType::kF32, {}}, {"loss.count", DType::kF32, {}}};
  t.buffers = {{ProgramBuffer::kInput, 0, bytes, 0, 0, 0, -1}, {ProgramBuffer::kInput, 1, 16, 0, 0, 0, -1},
               {ProgramBuffer::kVariable, 0, 16, 0, 0, 0, -1}, {ProgramBuffer::kVariable, 1, 4, 0, 0, 0, -1},
               {ProgramBuffer::kVariable, 2, 4, 0, 0, 0, -1},  {ProgramBuffer::kOutput, 0, 4, 0, 0, 0, -1},
               {ProgramBuffer::kOutput, 1, 4, 0, 0, 0, -1},    {ProgramBuffer::kArena, 0, 16, 0, 0, 3, -1}};
  t.steps.push_back({7, {view(2, {4}), view(1, {4})}, {view(7, {4})}, -1, {}, "sgd"});
  t.steps.push_back({3, {view(0, {n, 4})}, {view(5, {})}, -1, {}, ""});
  t.steps.push_back({6, {view(4, {})}, {view(3, {})}, -1, {}, ""});
  t.steps.push_back({5, {}, {view(6, {})}, -1, {n}, ""});
  t.copies.push_back({7, 2, 16});
  p.functions.push_back(t);
  return p;
}

// Softmax regression on size x size pictures of 6 classes: "train" and "eval".
inline Program regression_program(int64_t size, const std::string& lr) {
  Program p;
  p.meta.core_hash = "regression " + lr;
  p.symbols = {{"N", 1, 100000}};
  const SizeExpr n = SizeExpr::symbol(0);
  const int64_t dim = size * size;
  const auto wbytes = dim * 6 * 4;
  p.variables.push_back(
      {"w", VariableRole::kParam, DType::kF32, {dim, 6}, InitSpec{"normal", {{"std", 0.01}}}, {}, "", ""});
  p.variables.push_back(
      {"opt.step", VariableRole::kState, DType::kF32, {}, InitSpec{"zeros", {}}, {}, "", ""});
  p.variables.push_back({"one", VariableRole::kConst, DType::kF32, {}, {}, p.own(raw({1})), "", ""});
  p.execs.push_back({"fake", p.own("linear " + lr), "softmax regression (r.graph:3:5)"});
  p.execs.push_back({"fake", p.own("lineval"), "forward"});
  p.execs.push_back({"fake", p.own("acc"), "count"});
  const auto view = [&](uint32_t b, std::vector<SizeExpr> shape) {
    return TensorView{b, 0, DType::kF32, shape, {}};
  };
  for (const bool train : {true, false}) {
    Function f;
    f.name = train ? "train" : "eval";
    f.inputs = {{"image", DType::kF32, {n, 1, size, size}}, {"label", DType::kI32, {n}}};
    const std::vector<TensorSpec> sums = {{"loss.sum", DType::kF32, {}},
                                          {"loss.count", DType::kF32, {}},
                                          {"acc.sum", DType::kF32, {}},
                                          {"acc.count", DType::kF32, {}}};
    f.outputs = sums;
    if (!train) f.outputs.insert(f.outputs.begin(), {"logits", DType::kF32, {n, 6}});
    const SizeExpr image = n * SizeExpr(dim * 4);
    f.buffers = {{ProgramBuffer::kInput, 0, image, 0, 0, 0, -1},
                 {ProgramBuffer::kInput, 1, n * SizeExpr(4), 0, 0, 0, -1},
                 {ProgramBuffer::kVariable, 0, wbytes, 0, 0, 0, -1}};
    const uint32_t first = train ? 0 : 1;
    for (uint32_t o = 0; o < 4; ++o) f.buffers.push_back({ProgramBuffer::kOutput, first + o, 4, 0, 0, 0, -1});
    if (train)
      f.buffers.push_back({ProgramBuffer::kArena, 0, wbytes, 0, 0, 1, -1});
    else
      f.buffers.push_back({ProgramBuffer::kOutput, 0, n * SizeExpr(24), 0, 0, 0, -1});
    Step s;
    s.exec = train ? 0 : 1;
    s.inputs = {view(0, {n, 1, size, size}), {1, 0, DType::kI32, {n}, {}}, view(2, {dim, 6})};
    s.outputs = {view(7, train ? std::vector<SizeExpr>{dim, 6} : std::vector<SizeExpr>{n, 6}), view(3, {}),
                 view(4, {}), view(5, {}), view(6, {})};
    f.steps.push_back(s);
    if (train) {
      f.buffers.push_back({ProgramBuffer::kVariable, 1, 4, 0, 0, 0, -1});
      f.buffers.push_back({ProgramBuffer::kVariable, 2, 4, 0, 0, 0, -1});
      f.steps.push_back({2, {view(9, {})}, {view(8, {})}, -1, {}, ""});
      f.copies.push_back({7, 2, wbytes});
    }
    p.functions.push_back(f);
  }
  return p;
}

}  // namespace graphc
