#include "ir/interpret.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include <fmt/format.h>

#include "ir/builder.h"
#include "ir/grad.h"
#include "ir/ops/host.h"
#include "runtime/base/init.h"

namespace graphc {

HostTensor HostTensor::zeros(DType dtype, std::vector<int64_t> shape) {
  HostTensor t;
  t.dtype = dtype;
  size_t n = static_cast<size_t>(product(shape));
  t.shape = std::move(shape);
  if (graphc::is_float(dtype))
    t.f.assign(n, 0);
  else
    t.i.assign(n, 0);
  return t;
}

HostTensor HostTensor::scalar(double v, DType dtype) {
  HostTensor t = zeros(dtype, {});
  t.set(0, {v, graphc::is_float(dtype) ? 0 : double_to_int(dtype, v)});
  return t;
}

HostTensor HostTensor::from_bytes(DType dtype, std::vector<int64_t> shape, const void* data) {
  HostTensor t = zeros(dtype, std::move(shape));
  for (size_t k = 0; k < t.f.size(); ++k) t.f[k] = load_as_double(dtype, data, k);
  for (size_t k = 0; k < t.i.size(); ++k) t.i[k] = load_as_int(dtype, data, k);
  return t;
}

std::vector<std::byte> HostTensor::to_bytes() const {
  std::vector<std::byte> out(static_cast<size_t>(size()) * dtype_size(dtype));
  for (size_t k = 0; k < f.size(); ++k) store_from_double(dtype, out.data(), k, f[k]);
  for (size_t k = 0; k < i.size(); ++k) store_from_int(dtype, out.data(), k, i[k]);
  return out;
}

int64_t HostTensor::size() const { return product(shape); }

namespace {

// A scalar tree as a list of steps over chunks of elements, so that a tree costs a pass over a small buffer
// per operation and not a walk of the tree per element.
class TreeProgram {
 public:
  explicit TreeProgram(const Expr& tree) { result_ = compile(tree); }

  void run(const std::vector<const HostTensor*>& operands, HostTensor& y) {
    constexpr int64_t kChunk = 512;
    slots_.assign(nodes_.size(), std::vector<ScalarValue>(kChunk));
    int64_t n = y.size();
    std::vector<std::vector<int64_t>> offsets(operands.size());  // where it isn't simply the position
    for (size_t a = 0; a < operands.size(); ++a) {
      if (operands[a]->shape == y.shape) continue;
      offsets[a].resize(n);
      for_each_strided(y.shape, broadcast_strides(operands[a]->shape, y.shape), 0,
                       [&](int64_t k, int64_t at) { offsets[a][k] = at; });
    }
    for (int64_t base = 0; base < n; base += kChunk) {
      int64_t count = std::min(kChunk, n - base);
      for (size_t s = 0; s < nodes_.size(); ++s) {
        const ScalarNode& node = *nodes_[s];
        std::vector<ScalarValue>& out = slots_[s];
        if (node.op == ScalarOp::kConst) {
          std::fill(out.begin(), out.begin() + count, ScalarValue{node.float_value, node.int_value});
        } else if (node.op == ScalarOp::kArg) {
          const HostTensor& x = *operands[node.int_value];
          const auto& at = offsets[node.int_value];
          for (int64_t k = 0; k < count; ++k) out[k] = x.get(at.empty() ? base + k : at[base + k]);
        } else {
          step(s, count);
        }
      }
      const std::vector<ScalarValue>& r = slots_[result_];
      for (int64_t k = 0; k < count; ++k) y.set(base + k, r[k]);
    }
  }

 private:
  size_t compile(const Expr& e) {
    if (auto it = done_.find(e.get()); it != done_.end()) return it->second;
    std::vector<size_t> args;
    if (e.op() != ScalarOp::kConst && e.op() != ScalarOp::kArg)
      for (const Expr& a : e->args) args.push_back(compile(a));
    nodes_.push_back(e.get());
    keep_.push_back(e);
    args_.push_back(args);
    return done_[e.get()] = nodes_.size() - 1;
  }

  void step(size_t s, int64_t count) {
    const ScalarNode& n = *nodes_[s];
    const std::vector<size_t>& args = args_[s];
    DType arg_type = n.args[n.op == ScalarOp::kSelect ? 1 : 0].type();
    ScalarValue* out = slots_[s].data();
    const ScalarValue *a = slots_[args[0]].data(), *b = args.size() > 1 ? slots_[args[1]].data() : nullptr;
    if (is_float(n.type) && is_float(arg_type)) {  // the frequent ones
      switch (n.op) {
        case ScalarOp::kAdd:
          for (int64_t k = 0; k < count; ++k) out[k].d = a[k].d + b[k].d;
          return;
        case ScalarOp::kSub:
          for (int64_t k = 0; k < count; ++k) out[k].d = a[k].d - b[k].d;
          return;
        case ScalarOp::kMul:
          for (int64_t k = 0; k < count; ++k) out[k].d = a[k].d * b[k].d;
          return;
        case ScalarOp::kDiv:
          for (int64_t k = 0; k < count; ++k) out[k].d = a[k].d / b[k].d;
          return;
        default: break;
      }
    }
    for (int64_t k = 0; k < count; ++k) {
      ScalarValue v[5];
      for (size_t j = 0; j < args.size(); ++j) v[j] = slots_[args[j]][k];
      out[k] = eval_scalar_op(n.op, n.type, arg_type, v);
    }
  }

  std::vector<const ScalarNode*> nodes_;
  std::vector<Expr> keep_;
  std::vector<std::vector<size_t>> args_;
  std::unordered_map<const ScalarNode*, size_t> done_;
  std::vector<std::vector<ScalarValue>> slots_;
  size_t result_ = 0;
};

// A composite's expansion for one combination of types and attributes.
struct Expansion {
  Module module;
  Block block;
};

class Interpreter {
 public:
  explicit Interpreter(const InterpretOptions& options) : options_(options) {}

  using Values = std::unordered_map<const Value*, HostTensor>;

  // Runs the nodes of a block whose arguments' values are given; returns its results. `writes` collects
  // assigns.
  Result<std::vector<HostTensor>> run(const Module& module, const Block& block,
                                      const std::vector<const HostTensor*>& args, const VariableValues* variables,
                                      std::vector<std::pair<std::string, HostTensor>>* writes) {
    Values own;
    std::unordered_map<const Value*, const HostTensor*> outer;  // arguments and variables, not copied
    for (size_t i = 0; i < args.size(); ++i) outer[block.args[i].get()] = args[i];
    auto uses = count_uses(block);
    auto find = [&](const Value* v) -> const HostTensor* {
      if (auto it = own.find(v); it != own.end()) return &it->second;
      if (auto it = outer.find(v); it != outer.end()) return it->second;
      if (v->variable && variables)
        if (auto it = variables->find(v->variable->name); it != variables->end()) return &it->second;
      return nullptr;
    };
    for (const auto& node : block.nodes) {
      auto fail = [&](const Error& e) -> Error {
        std::string where = module.loc_to_string(node->loc);
        return {e.code, where.empty() ? e.message : e.message + " [" + where + "]"};
      };
      std::vector<const HostTensor*> operands;
      for (const Value* v : node->operands) {
        const HostTensor* t = find(v);
        if (!t)
          return fail(v->variable
                          ? invalid(fmt::format("variable @{} has no value", v->variable->name))
                          : internal_error(fmt::format("{}: an operand has no value", node->op->name)));
        operands.push_back(t);
      }
      if (node->op == &ops::assign) {
        if (!writes || !node->operands[0]->variable)
          return fail(invalid("assign: it must name a variable, in a function's body"));
        writes->emplace_back(node->operands[0]->variable->name, *operands[1]);
      } else {
        Call call;
        call.op = node->op;
        call.operands = node->operands;
        call.attrs = node->attrs;
        for (const auto& r : node->results) call.types.push_back(r->type);
        auto results = node->region ? run_region(module, *node, operands) : apply(call, operands);
        if (!results.ok()) return fail(results.error());
        for (size_t i = 0; i < node->results.size(); ++i) {
          bytes_ += bytes_of((*results)[i]);
          own[node->results[i].get()] = std::move((*results)[i]);
        }
        if (bytes_ > options_.max_bytes)
          return fail(Error{
              ErrorCode::kNoMemory,
              fmt::format("the reference interpreter would need more than {} bytes", options_.max_bytes)});
      }
      for (const Value* v : node->operands)
        if (auto u = uses.find(v); u != uses.end() && --u->second == 0)
          if (auto it = own.find(v); it != own.end()) {
            bytes_ -= bytes_of(it->second);
            own.erase(it);
          }
    }
    std::vector<HostTensor> results;
    for (const Value* v : block.results) {
      const HostTensor* t = find(v);
      if (!t) return internal_error("a result has no value");
      results.push_back(*t);
    }
    for (const auto& [v, t] : own) bytes_ -= bytes_of(t);
    return results;
  }

  Result<std::vector<HostTensor>> apply(const Call& call, const std::vector<const HostTensor*>& operands) {
    const OpDef& op = *call.op;
    if (op.expand) return apply_expansion(call, operands);
    std::vector<HostTensor> results;
    for (const TensorType& t : call.types) {
      auto shape = static_shape(t.shape);
      if (!shape) return internal_error(fmt::format("{}: the size {} isn't bound", op.name, t.to_string()));
      if (auto n = checked_bytes(t); n > options_.max_bytes)
        return Error{ErrorCode::kNoMemory, fmt::format("{}: a result of {} bytes is above the limit of {}",
                                                       op.name, n, options_.max_bytes)};
      results.push_back(HostTensor::zeros(t.dtype, *shape));
    }
    if (op.scalar) {
      std::vector<DType> types;
      for (const HostTensor* t : operands) types.push_back(t->dtype);
      TreeProgram(scalar_tree(op, types, call.attrs)).run(operands, results[0]);
      return results;
    }
    if (!op.evaluate)
      return invalid(fmt::format("{} can't be interpreted{}", op.name,
                                 &op == &ops::optimize ? ": run the pass `gradient` first" : ""));
    EvalContext e{call, operands, std::move(results)};
    GC_CHECK(op.evaluate(e));
    return std::move(e.results);
  }

 private:
  static int64_t bytes_of(const HostTensor& t) { return 8 * static_cast<int64_t>(t.f.size() + t.i.size()); }
  static int64_t checked_bytes(const TensorType& t) {
    Dim n = t.num_elements() * Dim(8);
    return n.overflowed() ? INT64_MAX : n.constant();
  }

  Result<std::vector<HostTensor>> run_region(const Module& module, const Node& node,
                                             const std::vector<const HostTensor*>& operands) {
    if (node.op != &ops::fusion) return invalid(fmt::format("{} can't be interpreted", node.op->name));
    return run(module, *node.region, operands, nullptr, nullptr);
  }

  Result<std::vector<HostTensor>> apply_expansion(const Call& call,
                                                  const std::vector<const HostTensor*>& operands) {
    std::string key(call.op->name);
    for (const HostTensor* t : operands) {
      key += fmt::format(",{}[", dtype_name(t->dtype));
      for (int64_t d : t->shape) key += fmt::format("{} ", d);
    }
    for (const auto& [name, a] : call.attrs) key += ";" + name + "=" + a.to_string();
    std::unique_ptr<Expansion>& e = expansions_[key];
    if (!e) {
      e = std::make_unique<Expansion>();
      Call inner = call;
      inner.operands.clear();
      for (const HostTensor* t : operands)
        inner.operands.push_back(e->block.add_arg({t->dtype, Shape(t->shape.begin(), t->shape.end())}));
      Builder b(e->module, e->block);
      e->block.results = call.op->expand(b, inner);
    }
    return run(e->module, e->block, operands, nullptr, nullptr);
  }

  InterpretOptions options_;
  int64_t bytes_ = 0;
  std::unordered_map<std::string, std::unique_ptr<Expansion>> expansions_;
};

std::string host_type(const HostTensor& t) {
  return TensorType{t.dtype, Shape(t.shape.begin(), t.shape.end())}.to_string();
}

// Sizes of the symbols from the inputs' shapes: symbols that stand alone first, then everything is compared.
Result<std::map<std::string, int64_t, std::less<>>> bind_inputs(const Func& func,
                                                                const std::vector<HostTensor>& inputs) {
  std::map<std::string, int64_t, std::less<>> sizes;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value& arg = *func.body.args[i];
    auto mismatch = [&](std::string_view more) {
      return invalid(fmt::format("@{}: input '{}' is declared {} and got {}{}", func.name, arg.name,
                                 arg.type.to_string(), host_type(inputs[i]), more));
    };
    if (inputs[i].dtype != arg.type.dtype || inputs[i].rank() != arg.type.rank()) return mismatch("");
    for (int a = 0; a < arg.type.rank(); ++a)
      if (auto s = arg.type.shape[a].as_symbol()) {
        auto [it, fresh] = sizes.emplace(std::string(*s), inputs[i].shape[a]);
        if (!fresh && it->second != inputs[i].shape[a])
          return mismatch(fmt::format("; {} is {} from an earlier input", *s, it->second));
      }
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    for (int a = 0; a < inputs[i].rank(); ++a) {
      auto n = func.body.args[i]->type.shape[a].evaluate(sizes);
      if (!n || *n != inputs[i].shape[a])
        return invalid(fmt::format(
            "@{}: input '{}' is declared {} and got {}{}", func.name, func.body.args[i]->name,
            func.body.args[i]->type.to_string(), host_type(inputs[i]),
            n ? fmt::format("; {} should be {}", func.body.args[i]->type.shape[a].to_string(), *n) : ""));
    }
  for (const SymbolDef& s : func.symbols)
    if (!sizes.contains(s.name))
      return invalid(
          fmt::format("@{}: the size {} doesn't stand alone in an input's shape, so it can't be bound",
                      func.name, s.name));
  return sizes;
}

}  // namespace

Result<std::vector<HostTensor>> interpret(const Module& module, const Func& func,
                                          const std::vector<HostTensor>& inputs, VariableValues& variables,
                                          const InterpretOptions& options) {
  if (inputs.size() != func.body.args.size())
    return invalid(
        fmt::format("@{} takes {} inputs, got {}", func.name, func.body.args.size(), inputs.size()));
  GC_TRY(auto sizes, bind_inputs(func, inputs));
  Func bound;
  bound.name = func.name;
  bound.symbols = func.symbols;
  std::unordered_map<const Value*, Value*> map;
  for (const auto& a : func.body.args) map[a.get()] = bound.body.add_arg(a->type, a->name);
  bound.body.results = clone_block_into(func.body, bound.body, map);
  GC_CHECK(bind_symbols(bound, sizes));
  std::vector<const HostTensor*> args;
  for (const HostTensor& t : inputs) args.push_back(&t);
  std::vector<std::pair<std::string, HostTensor>> writes;
  GC_TRY(auto results, Interpreter(options).run(module, bound.body, args, &variables, &writes));
  for (auto& [name, value] : writes) variables[name] = std::move(value);
  return results;
}

Result<std::vector<HostTensor>> interpret_op(const OpDef& op, const std::vector<HostTensor>& operands,
                                             const Attrs& attrs) {
  Call call;
  call.op = &op;
  call.attrs = attrs;
  std::vector<TensorType> types;
  std::vector<const HostTensor*> pointers;
  for (const HostTensor& t : operands) {
    types.push_back({t.dtype, Shape(t.shape.begin(), t.shape.end())});
    pointers.push_back(&t);
  }
  GC_TRY(call.types, infer_types(op, types, call.attrs));
  return Interpreter({}).apply(call, pointers);
}

Result<VariableValues> initial_variables(const Module& module, uint64_t seed) {
  VariableValues out;
  for (const auto& v : module.variables) {
    const TensorType& t = v->value.type;
    auto shape = static_shape(t.shape);
    if (!shape)
      return invalid(fmt::format("@{}: a variable's shape must be constant, not {}", v->name, t.to_string()));
    std::vector<std::byte> bytes(static_cast<size_t>(product(*shape)) * dtype_size(t.dtype));
    if (v->data) {
      if (v->data->size() != bytes.size())
        return invalid(fmt::format("@{}: {} bytes of data for {}", v->name, v->data->size(), t.to_string()));
      bytes = *v->data;
    } else {
      InitSpec spec{v->init, {}};
      for (const auto& [name, a] : v->init_attrs)
        spec.attrs.emplace_back(name, a.is_float() ? a.as_float() : static_cast<double>(a.as_int()));
      if (Status s = initialise(spec, t.dtype, *shape, seed, v->name, bytes.data()); !s.ok())
        return Error{s.error().code, fmt::format("@{}: {}", v->name, s.error().message)};
    }
    out[v->name] = HostTensor::from_bytes(t.dtype, *shape, bytes.data());
    if (v->name == "rng.seed" && !v->data) out[v->name].i = {static_cast<int64_t>(seed)};
  }
  return out;
}

}  // namespace graphc
