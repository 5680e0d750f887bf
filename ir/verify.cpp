#include "ir/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "ir/op.h"
#include "ir/print.h"
#include "runtime/base/init.h"

namespace graphc {
namespace {

bool declares(const Func& f, std::string_view symbol) {
  return std::any_of(f.symbols.begin(), f.symbols.end(),
                     [&](const SymbolDef& s) { return s.name == symbol; });
}

Status verify_symbols(const Dim& d, const Func* func) {
  std::string unknown;
  d.for_each_symbol([&](const std::string& s) {
    if (unknown.empty() && (!func || !declares(*func, s))) unknown = s;
  });
  if (unknown.empty()) return {};
  return invalid(
      func ? fmt::format("the size '{}' uses the symbol {}, which @{} doesn't declare", d.to_string(),
                         unknown, func->name)
           : fmt::format("the size '{}' uses the symbol {} where none are allowed", d.to_string(), unknown));
}

// Depth, number of elements, strings and symbols of one attribute.
Status verify_attr(std::string_view name, const Attr& a, const Func* func, const LoadLimits& limits,
                   int depth, uint64_t& elements) {
  if (depth > static_cast<int>(limits.max_nesting))
    return invalid(fmt::format("attribute {} is nested more than {} deep", name, limits.max_nesting));
  if (++elements > limits.max_attr_elements)
    return invalid(fmt::format("attribute {} has more than {} elements", name, limits.max_attr_elements));
  if (a.is_string() && a.as_string().size() > limits.max_string_bytes)
    return invalid(
        fmt::format("attribute {} is a string of more than {} bytes", name, limits.max_string_bytes));
  if (a.is_int()) {
    if (a.as_dim().overflowed()) return invalid(fmt::format("attribute {} overflows", name));
    return verify_symbols(a.as_dim(), func);
  }
  if (a.is_list())
    for (const Attr& e : a.as_list()) GC_CHECK(verify_attr(name, e, func, limits, depth + 1, elements));
  return {};
}

std::string types_text(const std::vector<TensorType>& types) {
  std::string s;
  for (const TensorType& t : types) s += (s.empty() ? "" : ", ") + t.to_string();
  return s.empty() ? "nothing" : s;
}

// Attribute names against the record, for ops without inference of their own.
Status verify_attr_names(const Node& n) {
  for (const auto& [name, value] : n.attrs)
    if (!n.op->find_attr(name)) return invalid(fmt::format("{} has no attribute {}", n.op->name, name));
  for (int i = 0; i < n.op->num_attrs(); ++i)
    if (!n.attrs.contains(n.op->attrs[i].name))
      return invalid(fmt::format("attribute {} is missing", n.op->attrs[i].name));
  return {};
}

Status verify_region_types(const Node& n) {
  const Block& r = *n.region;
  if (r.args.size() != n.operands.size())
    return invalid(
        fmt::format("the region has {} arguments for {} operands", r.args.size(), n.operands.size()));
  for (size_t i = 0; i < r.args.size(); ++i)
    if (r.args[i]->type != n.operands[i]->type)
      return invalid(fmt::format("argument {} of the region is {}, the operand is {}", i,
                                 r.args[i]->type.to_string(), n.operands[i]->type.to_string()));
  if (r.results.size() != n.results.size())
    return invalid(
        fmt::format("the region yields {} values for {} results", r.results.size(), n.results.size()));
  for (size_t i = 0; i < r.results.size(); ++i)
    if (r.results[i] && r.results[i]->type != n.results[i]->type)
      return invalid(fmt::format("the region yields {} for result {}, which is {}",
                                 r.results[i]->type.to_string(), i, n.results[i]->type.to_string()));
  return {};
}

class Verifier {
 public:
  Verifier(const Module& m, const LoadLimits& limits) : m_(m), limits_(limits) {}

  Status run() {
    for (size_t i = 0; i < m_.locs.size(); ++i)
      if (m_.locs[i].parent >= static_cast<int>(i) || m_.locs[i].parent < -1)
        return invalid(
            fmt::format("location !{} lies in !{}, which doesn't come before it", i, m_.locs[i].parent));
    GC_CHECK(variables());
    std::unordered_set<std::string_view> names;
    for (const auto& f : m_.funcs) {
      if (f->name.empty()) return invalid("a function has no name");
      if (!names.insert(f->name).second) return invalid(fmt::format("two functions are called @{}", f->name));
      if (Status s = func(*f); !s.ok())
        return Error{s.error().code, fmt::format("in @{}, {}", f->name, s.error().message)};
    }
    return {};
  }

 private:
  Status variables() {
    std::unordered_set<std::string_view> names;
    for (const auto& v : m_.variables) {
      if (v->name.empty()) return invalid("a variable has no name");
      if (Status s = variable(*v); !s.ok())
        return Error{s.error().code,
                     fmt::format("variable @{}{}: {}", v->name, where(v->loc), s.error().message)};
      if (!names.insert(v->name).second)
        return invalid(fmt::format("two variables are called @{}{}", v->name, where(v->loc)));
      known_variables_.insert(v.get());
    }
    return {};
  }

  Status variable(const Variable& v) {
    GC_CHECK(string(v.name));
    if (v.value.variable != &v) return invalid("its value belongs to another variable");
    GC_CHECK(loc(v.loc));
    const TensorType& t = v.value.type;
    GC_CHECK(verify_type(t, nullptr, limits_));
    GC_TRY(const std::vector<int64_t> shape, constant_shape(t));
    GC_TRY(const uint64_t bytes, checked_bytes(t.dtype, shape, limits_));
    if (v.data) {
      if (!v.init.empty()) return invalid("it has data and an initialiser");
      if (v.data->size() != bytes)
        return invalid(
            fmt::format("it has {} bytes of data, {} needs {}", v.data->size(), t.to_string(), bytes));
      return {};
    }
    if (v.init.empty()) return invalid("it has neither an initialiser nor data");
    InitSpec spec{v.init, {}};
    for (const auto& [name, a] : v.init_attrs) {
      if (a.is_float())
        spec.attrs.emplace_back(name, a.as_float());
      else if (a.is_int() && a.as_dim().is_constant())
        spec.attrs.emplace_back(name, static_cast<double>(a.as_int()));
      else
        return invalid(fmt::format("{} of {}() isn't a number", name, v.init));
    }
    return check_init(spec, t.dtype, shape);
  }
  static Result<std::vector<int64_t>> constant_shape(const TensorType& t) {
    auto s = static_shape(t.shape);
    if (!s) return invalid(fmt::format("its shape {} isn't constant", t.to_string()));
    return *std::move(s);
  }

  Status func(const Func& f) {
    func_ = &f;
    GC_CHECK(string(f.name));
    GC_CHECK(loc(f.loc));
    std::unordered_set<std::string_view> names;
    for (const SymbolDef& s : f.symbols) {
      if (!is_symbol_name(s.name) || s.name.size() > limits_.max_string_bytes)
        return invalid(fmt::format("{} can't be the name of a size", quote_string(s.name.substr(0, 80))));
      if (!names.insert(s.name).second)
        return invalid(fmt::format("the symbol {} is declared twice", s.name));
      if (s.min < 0 || (s.max && *s.max < s.min) || s.max.value_or(s.min) > limits_.max_dim)
        return invalid(
            fmt::format("the range of the symbol {} is empty or outside 0..{}", s.name, limits_.max_dim));
    }
    names.clear();
    for (const auto& a : f.body.args) {
      if (a->name.empty()) return invalid(fmt::format("argument {} has no name", a->index));
      if (!names.insert(a->name).second) return invalid(fmt::format("two arguments are called %{}", a->name));
    }
    if (f.result_names.size() != f.body.results.size())
      return invalid(fmt::format("it has {} results and {} names for them", f.body.results.size(),
                                 f.result_names.size()));
    names.clear();
    for (const std::string& r : f.result_names) {
      GC_CHECK(string(r));
      if (!names.insert(r).second) return invalid(fmt::format("two results are called '{}'", r));
    }
    defined_.clear();
    return block(f.body, /*top=*/true);
  }

  Status block(const Block& b, bool top) {
    std::unordered_set<std::string_view> names;
    for (size_t i = 0; i < b.args.size(); ++i) {
      const Value& a = *b.args[i];
      if (a.block != &b || a.node || a.variable || a.index != static_cast<int>(i))
        return invalid(fmt::format("argument {} doesn't know its block or place", i));
      GC_CHECK(string(a.name));
      if (!a.name.empty() && !names.insert(a.name).second)
        return invalid(fmt::format("two arguments of a region are called %{}", a.name));
      GC_CHECK(verify_type(a.type, func_, limits_));
      GC_CHECK(define(a, b));
    }
    for (size_t i = 0; i < b.nodes.size(); ++i) {
      const Node& n = *b.nodes[i];
      if (Status s = node(n, b, top); !s.ok())
        return Error{s.error().code, fmt::format("node {} {}{}: {}", i, n.op ? n.op->name : "without an op",
                                                 where(n.loc), s.error().message)};
    }
    for (size_t i = 0; i < b.results.size(); ++i)
      if (Status s = use(b.results[i], b); !s.ok())
        return Error{s.error().code,
                     fmt::format("{} {}: {}", top ? "result" : "yielded value", i, s.error().message)};
    return {};
  }

  Status node(const Node& n, const Block& b, bool top) {
    if (++nodes_ > limits_.max_nodes) return invalid(fmt::format("more than {} nodes", limits_.max_nodes));
    if (!n.op) return invalid("it has no op");
    if (find_op(n.op->name) != n.op) return invalid("its op isn't in the list of ops");
    GC_CHECK(loc(n.loc));
    if (n.operands.size() > limits_.max_node_inputs)
      return invalid(fmt::format("it has more than {} operands", limits_.max_node_inputs));
    for (size_t i = 0; i < n.operands.size(); ++i)
      if (Status s = use(n.operands[i], b); !s.ok())
        return Error{s.error().code, fmt::format("operand {}: {}", i, s.error().message)};
    for (const auto& [name, value] : n.attrs) {
      uint64_t elements = 0;
      GC_CHECK(string(name));
      GC_CHECK(verify_attr(name, value, func_, limits_, 0, elements));
    }
    for (size_t i = 0; i < n.results.size(); ++i) {
      const Value& r = *n.results[i];
      if (r.node != &n || r.index != static_cast<int>(i) || r.variable || r.block)
        return invalid(fmt::format("result {} doesn't know its node or place", i));
      GC_CHECK(verify_type(r.type, func_, limits_));
    }
    if (n.op->has_effect && !top) return invalid("an op with an effect stands in a region");
    if (n.region && !top) return invalid("a region stands in a region");
    GC_CHECK(verify_node(n, limits_));
    if (n.op == &ops::assign) {
      const Variable* target = n.operands[0]->variable;
      if (!target) return invalid("it doesn't assign to a variable");
      if (target->kind == VariableKind::kConst)
        return invalid(fmt::format("it assigns to the constant @{}", target->name));
      if (target->value.type != n.operands[1]->type)
        return invalid(fmt::format("it assigns {} to @{}, which is {}", n.operands[1]->type.to_string(),
                                   target->name, target->value.type.to_string()));
    }
    if (n.region) {
      GC_CHECK(block(*n.region, /*top=*/false));
    }
    for (const auto& r : n.results) GC_CHECK(define(*r, b));
    return {};
  }

  Status define(const Value& v, const Block& b) {
    if (++values_ > limits_.max_values)
      return invalid(fmt::format("more than {} values", limits_.max_values));
    defined_[&v] = &b;
    return {};
  }
  Status use(const Value* v, const Block& b) {
    if (!v) return invalid("there is no value");
    if (v->variable) {
      if (!known_variables_.contains(v->variable) || v != &v->variable->value)
        return invalid("it uses a variable of another module");
      return {};
    }
    const auto it = defined_.find(v);
    if (it == defined_.end()) return invalid("it uses a value that isn't defined before it");
    if (it->second != &b) return invalid("it uses a value of another block: regions capture nothing");
    return {};
  }
  Status loc(LocId id) {
    if (id < -1 || id >= static_cast<int>(m_.locs.size()))
      return invalid(fmt::format("there is no location !{}", id));
    return {};
  }
  Status string(std::string_view s) {
    if (s.size() > limits_.max_string_bytes)
      return invalid(fmt::format("a name is longer than {} bytes", limits_.max_string_bytes));
    return {};
  }
  std::string where(LocId id) const {
    if (id < 0 || id >= static_cast<int>(m_.locs.size())) return "";
    return fmt::format(" ({})", m_.loc_to_string(id));
  }

  const Module& m_;
  const LoadLimits& limits_;
  const Func* func_ = nullptr;
  std::unordered_set<const Variable*> known_variables_;
  std::unordered_map<const Value*, const Block*> defined_;
  uint64_t nodes_ = 0, values_ = 0;
};

}  // namespace

Status verify(const Module& module, const LoadLimits& limits) { return Verifier(module, limits).run(); }

Status verify_type(const TensorType& type, const Func* func, const LoadLimits& limits) {
  if (static_cast<int>(type.dtype) >= kNumDTypes) return invalid("a dtype is out of range");
  if (type.shape.size() > limits.max_rank)
    return invalid(fmt::format("rank {} is above the limit of {}", type.shape.size(), limits.max_rank));
  Dim product(1);
  for (const Dim& d : type.shape) {
    if (d.overflowed()) return invalid("a size overflows");
    if (d.is_constant() && (d.constant() < 0 || d.constant() > limits.max_dim))
      return invalid(
          fmt::format("the size {} in {} is outside 0..{}", d.constant(), type.to_string(), limits.max_dim));
    GC_CHECK(verify_symbols(d, func));
    if (d.is_constant() && d.constant() != 0) product *= d;
  }
  // What is known of the number of bytes: the constant part alone must fit.
  if (product.overflowed() ||
      product.constant() > (int64_t{1} << 62) / static_cast<int64_t>(dtype_size(type.dtype)))
    return invalid(fmt::format("the number of elements of {} overflows", type.to_string()));
  return {};
}

Status verify_node(const Node& n, const LoadLimits& limits) {
  if (n.op == &ops::fusion) {
    if (!n.region) return invalid("it has no region");
    GC_CHECK(verify_attr_names(n));
    return verify_region_types(n);
  }
  if (n.region) return invalid("it has a region, which its op doesn't take");
  std::vector<TensorType> operands;
  operands.reserve(n.operands.size());
  for (const Value* v : n.operands) operands.push_back(v->type);
  Attrs attrs = n.attrs;
  GC_TRY(const std::vector<TensorType> types, infer_types(*n.op, operands, attrs));
  for (const auto& [name, value] : attrs) {
    const auto it = n.attrs.find(name);
    if (it == n.attrs.end()) return invalid(fmt::format("attribute {} is missing", name));
    if (!(it->second == value))
      return invalid(fmt::format("attribute {} is {}, its canonical form is {}", name, it->second.to_string(),
                                 value.to_string()));
  }
  for (const auto& [name, value] : n.attrs)
    if (!attrs.contains(name)) return invalid(fmt::format("{} has no attribute {}", n.op->name, name));
  if (types.size() != n.results.size() ||
      !std::equal(types.begin(), types.end(), n.results.begin(),
                  [](const TensorType& t, const auto& r) { return t == r->type; })) {
    std::vector<TensorType> have;
    for (const auto& r : n.results) have.push_back(r->type);
    return invalid(
        fmt::format("its results are {}, inference gives {}", types_text(have), types_text(types)));
  }
  return {};
}

}  // namespace graphc
