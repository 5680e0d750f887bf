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

}  // namespace graphc
