#include "ir/op.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include <fmt/format.h>

namespace graphc {
namespace {

constexpr std::array kOps = {
#define GC_OP(id) &ops::id,
#include "ir/ops.def"
#undef GC_OP
};

std::string type_set_to_string(DTypeSet s) {
  if (s == kFloats) return "a float tensor";
  if (s == kInts) return "an integer tensor";
  if (s == kNumbers) return "a float or integer tensor";
  std::string out;
  for (int i = 0; i < kNumDTypes; ++i)
    if (s & (1u << i)) out += (out.empty() ? "" : " or ") + std::string(dtype_name(static_cast<DType>(i)));
  return out;
}

// Reads a default: a number, a bool, a string, a dtype, or a flat list of these.
Attr parse_fallback(std::string_view s, AttrKind kind) {
  if (s.starts_with('[')) {
    Attr::List l;
    s = s.substr(1, s.size() - 2);
    while (!s.empty()) {
      size_t c = s.find(',');
      std::string_view item = s.substr(0, c);
      while (item.starts_with(' ')) item.remove_prefix(1);
      l.push_back(parse_fallback(item, kind == AttrKind::kFloats ? AttrKind::kFloat : AttrKind::kInt));
      s = c == std::string_view::npos ? "" : s.substr(c + 1);
    }
    return Attr(std::move(l));
  }
  if (s.starts_with('"')) return Attr(s.substr(1, s.size() - 2));
  if (s == "true" || s == "false") return Attr(s == "true");
  if (auto t = dtype_from_name(s)) return Attr(*t);
  if (kind == AttrKind::kFloat || kind == AttrKind::kFloats || kind == AttrKind::kNumber) return Attr(std::stod(std::string(s)));
  return Attr(static_cast<int64_t>(std::stoll(std::string(s))));
}

std::string_view kind_name(AttrKind k) {
  switch (k) {
    case AttrKind::kInt: return "an integer";
    case AttrKind::kInts: return "a list of integers";
    case AttrKind::kFloat: return "a number";
    case AttrKind::kFloats: return "a list of numbers";
    case AttrKind::kBool: return "true or false";
    case AttrKind::kString: return "a string";
    case AttrKind::kDType: return "a dtype";
    case AttrKind::kNumber: return "a number or true or false";
  }
  return "";
}

// Turns `a` into the declared kind where that is harmless; false if it isn't of it.
bool coerce(Attr& a, AttrKind kind) {
  auto number = [](const Attr& x) { return x.is_float() || (x.is_int() && x.as_dim().is_constant()); };
  auto to_float = [](const Attr& x) { return x.is_float() ? x : Attr(static_cast<double>(x.as_int())); };
  switch (kind) {
    case AttrKind::kInt: return a.is_int();
    case AttrKind::kBool: return a.is_bool();
    case AttrKind::kString: return a.is_string();
    case AttrKind::kDType: return a.is_dtype();
    case AttrKind::kNumber: return number(a) || a.is_bool();
    case AttrKind::kFloat:
      if (!number(a)) return false;
      a = to_float(a);
      return true;
    case AttrKind::kInts:
      if (a.is_int()) a = Attr(Attr::List{a});
      if (!a.is_list()) return false;
      for (const Attr& x : a.as_list())
        if (!x.is_int()) return false;
      return true;
    case AttrKind::kFloats: {
      if (number(a)) a = Attr(Attr::List{a});
      if (!a.is_list()) return false;
      Attr::List l;
      for (const Attr& x : a.as_list()) {
        if (!number(x)) return false;
        l.push_back(to_float(x));
      }
      a = Attr(std::move(l));
      return true;
    }
  }
  return false;
}

}  // namespace

int OpDef::num_operands() const {
  int n = 0;
  while (n < static_cast<int>(std::size(operands)) && !operands[n].name.empty()) ++n;
  return n;
}

int OpDef::min_operands() const {
  int n = 0;
  while (n < num_operands() && operands[n].arity == Arity::kOne) ++n;
  return n;
}

bool OpDef::variadic() const {
  int n = num_operands();
  return n > 0 && operands[n - 1].arity == Arity::kVariadic;
}

int OpDef::num_attrs() const {
  int n = 0;
  while (n < static_cast<int>(std::size(attrs)) && !attrs[n].name.empty()) ++n;
  return n;
}

const AttrDef* OpDef::find_attr(std::string_view attr_name) const {
  for (const AttrDef& a : attrs)
    if (!a.name.empty() && a.name == attr_name) return &a;
  return nullptr;
}

const OpDef* find_op(std::string_view name) {
  static const auto* table = [] {
    auto* t = new std::unordered_map<std::string_view, const OpDef*>;
    for (const OpDef* op : kOps) (*t)[op->name] = op;
    return t;
  }();
  auto it = table->find(name);
  return it == table->end() ? nullptr : it->second;
}

std::span<const OpDef* const> all_ops() { return kOps; }

uint64_t SampleRng::next() {  // splitmix64
  uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}
int64_t SampleRng::range(int64_t lo, int64_t hi) {
  return lo + static_cast<int64_t>(next() % static_cast<uint64_t>(hi - lo + 1));
}
double SampleRng::uniform(double lo, double hi) {
  return lo + (hi - lo) * (static_cast<double>(next() >> 11) * 0x1p-53);
}

Result<std::vector<TensorType>> infer_types(const OpDef& op, const std::vector<TensorType>& operands,
                                            Attrs& attrs) {
  int given = static_cast<int>(operands.size()), least = op.min_operands(), declared = op.num_operands();
  bool too_many = given > declared && !op.variadic();
  bool too_few = given < (op.variadic() && least == 0 ? 1 : least);
  if (too_few || too_many) {
    std::string wanted;
    for (int i = 0; i < declared; ++i)
      wanted += (i ? ", " : "") + std::string(op.operands[i].name) +
                (op.operands[i].arity == Arity::kOptional   ? "?"
                 : op.operands[i].arity == Arity::kVariadic ? ".."
                                                            : "");
    return invalid(fmt::format("{} takes {} operand{} ({}), got {}", op.name,
                               op.variadic()       ? fmt::format("at least {}", least)
                               : least == declared ? fmt::format("{}", least)
                                                   : fmt::format("{} to {}", least, declared),
                               declared == 1 ? "" : "s", wanted, given));
  }
  for (int i = 0; i < given; ++i) {
    const OperandDef& d = op.operands[std::min(i, declared - 1)];
    if (!(d.types & dtype_bit(operands[i].dtype)))
      return invalid(fmt::format("{}: operand '{}' must be {}, got {}", op.name, d.name,
                                 type_set_to_string(d.types), operands[i].to_string()));
    if (operands[i].rank() > 8)
      return invalid(fmt::format("{}: operand '{}' has rank {}; at most 8 is supported", op.name, d.name,
                                 operands[i].rank()));
  }
  for (auto& [name, a] : attrs) {
    const AttrDef* d = op.find_attr(name);
    if (!d) {
      if (!op.free_attrs.empty() && a.is_int()) continue;
      std::string known;
      for (int i = 0; i < op.num_attrs(); ++i) known += (i ? ", " : "") + std::string(op.attrs[i].name);
      return invalid(fmt::format("{} has no setting '{}'{}", op.name, name,
                                 known.empty() ? "; it takes none" : "; it takes " + known));
    }
    if (!coerce(a, d->kind))
      return invalid(
          fmt::format("{}: '{}' must be {}, got {}", op.name, name, kind_name(d->kind), a.to_string()));
  }
  for (int i = 0; i < op.num_attrs(); ++i) {
    const AttrDef& d = op.attrs[i];
    if (attrs.find(d.name) != attrs.end()) continue;
    if (d.fallback == kRequired) return invalid(fmt::format("{} needs '{}': {}", op.name, d.name, d.doc));
    Attr fallback = parse_fallback(d.fallback, d.kind);
    coerce(fallback, d.kind);
    attrs.emplace(std::string(d.name), std::move(fallback));
  }
  InferContext context{op, operands, attrs};
  auto types = op.infer(context);
  if (!types.ok()) return types;
  for (const TensorType& t : *types) {
    if (t.rank() > 8)
      return invalid(
          fmt::format("{}: the result would have rank {}; at most 8 is supported", op.name, t.rank()));
    for (const Dim& d : t.shape)
      if (d.overflowed() || (d.is_constant() && (d.constant() < 0 || d.constant() > INT32_MAX)))
        return invalid(fmt::format("{}: the result would be {}, which has a size outside 0..2147483647",
                                   op.name, t.to_string()));
    if (t.num_elements().overflowed())
      return invalid(fmt::format("{}: the result {} has too many elements", op.name, t.to_string()));
  }
  return types;
}

Result<Shape> broadcast_shapes(const Shape& a, const Shape& b) {
  const Shape& longer = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  Shape out = longer;
  size_t offset = longer.size() - shorter.size();
  for (size_t i = 0; i < shorter.size(); ++i) {
    const Dim &x = longer[offset + i], &y = shorter[i];
    if (x == y || y.is_constant(1)) continue;
    if (x.is_constant(1))
      out[offset + i] = y;
    else
      return invalid(fmt::format(
          "shapes {} and {} don't broadcast: {} and {} at axis {} from the end differ and neither is 1",
          shape_to_string(a), shape_to_string(b), a.size() >= b.size() ? x.to_string() : y.to_string(),
          a.size() >= b.size() ? y.to_string() : x.to_string(), shorter.size() - i));
  }
  return out;
}

}  // namespace graphc
