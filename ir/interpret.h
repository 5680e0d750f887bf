// The reference interpreter: runs a function in exact reference semantics. Floats of every type are computed
// and kept in double (only cast to f16/bf16 rounds), integers in int64 wrapped to their type. It is the judge
// of every other way to run a program.
//
//   VariableValues vars = initial_variables(module, seed);
//   auto out = interpret(*module.find_func("Net"), {x}, vars);
//
// Scalar ops evaluate their trees, composites their expansion (cached), structural primitives their evaluate
// function.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ir/op.h"

namespace graphc {

// A dense row-major tensor on the host. Float types use f, integers and bool use i; the other vector is
// empty.
struct HostTensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<double> f;
  std::vector<int64_t> i;

  static HostTensor zeros(DType dtype, std::vector<int64_t> shape);
  static HostTensor scalar(double v, DType dtype = DType::kF32);
  static HostTensor from_bytes(DType dtype, std::vector<int64_t> shape, const void* data);
  std::vector<std::byte> to_bytes() const;  // rounded to dtype
  int64_t size() const;
  int rank() const { return static_cast<int>(shape.size()); }
  double at(int64_t k) const { return is_float(dtype) ? f[k] : static_cast<double>(i[k]); }
  ScalarValue get(int64_t k) const { return is_float(dtype) ? ScalarValue{f[k], 0} : ScalarValue{0, i[k]}; }
  void set(int64_t k, const ScalarValue& v) {
    if (graphc::is_float(dtype))
      f[k] = v.d;
    else
      i[k] = v.i;
  }
};

struct EvalContext {
  const Call& call;
  std::vector<const HostTensor*> operands;
  std::vector<HostTensor> results;  // allocated with types' shapes, zero
  const HostTensor& operand(int k) const { return *operands[k]; }
};

using VariableValues = std::map<std::string, HostTensor, std::less<>>;

struct InterpretOptions {
  int64_t max_bytes = int64_t{16} << 30;
};

// Symbols are bound from the inputs' shapes. `assign` writes are applied to `variables` at the end, in
// program order.
Result<std::vector<HostTensor>> interpret(const Module& module, const Func& func,
                                          const std::vector<HostTensor>& inputs, VariableValues& variables,
                                          const InterpretOptions& options = {});
// One op on concrete tensors.
Result<std::vector<HostTensor>> interpret_op(const OpDef& op, const std::vector<HostTensor>& operands,
                                             const Attrs& attrs);
// Initial values of all variables as the runtime draws them (runtime/base/init.h), from the seed and each
// variable's path.
Result<VariableValues> initial_variables(const Module& module, uint64_t seed);

}  // namespace graphc
