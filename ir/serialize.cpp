#include "ir/serialize.h"

#include <flatbuffers/flatbuffers.h>
#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "ir/ir_generated.h"
#include "ir/op.h"
#include "ir/verify.h"

namespace graphc {
namespace {

using flatbuffers::Offset;

// The order of names in ir.fbs is that of the DType of runtime/base/dtype.h.
static_assert(static_cast<int>(fb::DType::F64) == static_cast<int>(DType::kF64));
static_assert(static_cast<int>(fb::DType::I8) == static_cast<int>(DType::kI8));
static_assert(static_cast<int>(fb::VariableKind::Const) == static_cast<int>(VariableKind::kConst));

class Writer {
 public:
  Result<std::vector<std::byte>> run(const Module& m) {
    uint64_t data_bytes = 0;
    for (const auto& v : m.variables) data_bytes += v->data ? v->data->size() : 0;
    if (data_bytes > kMaxBytes) return too_large();
    for (size_t i = 0; i < m.variables.size(); ++i)
      variables_[m.variables[i].get()] = -static_cast<int>(i) - 1;
    std::vector<Offset<fb::Variable>> variables;
    for (const auto& v : m.variables) variables.push_back(variable(*v));
    std::vector<Offset<fb::Func>> funcs;
    for (const auto& f : m.funcs) {
      GC_TRY(const auto offset, func(*f));
      funcs.push_back(offset);
      if (b_.GetSize() > kMaxBytes) return too_large();
    }
    std::vector<Offset<fb::Loc>> locs;
    for (const Loc& l : m.locs)
      locs.push_back(fb::CreateLoc(b_, string_index(l.file), l.line, l.column, l.parent));
    const auto variable_vector = b_.CreateVector(variables);
    const auto func_vector = b_.CreateVector(funcs);
    const auto loc_vector = b_.CreateVector(locs);
    const auto strings = b_.CreateVectorOfStrings(strings_);
    const auto dims = b_.CreateVectorOfStrings(dims_);
    const auto types = b_.CreateVector(types_);
    b_.Finish(
        fb::CreateModule(b_, kIrVersion, strings, dims, types, variable_vector, func_vector, loc_vector),
        "GCIR");
    const auto* p = reinterpret_cast<const std::byte*>(b_.GetBufferPointer());
    return std::vector<std::byte>(p, p + b_.GetSize());
  }

 private:
  // FlatBuffers' own limit is an assertion; stay well below it.
  static constexpr uint64_t kMaxBytes = 0x7000'0000;
  static Error too_large() {
    return invalid("the program with its data exceeds the 1.75 GiB that its binary form can hold");
  }

  uint32_t string_index(std::string_view s) {
    const auto [it, fresh] = string_ids_.try_emplace(std::string(s), strings_.size());
    if (fresh) strings_.emplace_back(s);
    return static_cast<uint32_t>(it->second);
  }
  size_t dim_index(const Dim& d) {
    const auto [it, fresh] = dim_ids_.try_emplace(d.to_string(), dims_.size());
    if (fresh) dims_.push_back(it->first);
    return it->second;
  }
  Offset<fb::Type> type_table(const TensorType& t) {
    std::vector<int64_t> shape;
    for (const Dim& d : t.shape)
      shape.push_back(d.is_constant() ? d.constant() : -static_cast<int64_t>(dim_index(d)) - 1);
    return fb::CreateType(b_, static_cast<fb::DType>(t.dtype), b_.CreateVector(shape));
  }
  uint32_t type_index(const TensorType& t) {
    const auto [it, fresh] = type_ids_.try_emplace(t.to_string(), types_.size());
    if (fresh) types_.push_back(type_table(t));
    return static_cast<uint32_t>(it->second);
  }

  Offset<fb::Attr> attr(const std::string* name, const Attr& a) {
    Offset<flatbuffers::String> text = 0, key = 0;
    Offset<flatbuffers::Vector<Offset<fb::Attr>>> list = 0;
    fb::AttrKind kind = fb::AttrKind::Bool;
    uint64_t bits = 0;
    if (a.is_bool()) {
      bits = a.as_bool();
    } else if (a.is_int() && a.as_dim().is_constant()) {
      kind = fb::AttrKind::Int;
      bits = static_cast<uint64_t>(a.as_int());
    } else if (a.is_int()) {
      kind = fb::AttrKind::SymbolicInt;
      bits = dim_index(a.as_dim());
    } else if (a.is_float()) {
      kind = fb::AttrKind::Float;
      bits = std::bit_cast<uint64_t>(a.as_float());
    } else if (a.is_string()) {
      kind = fb::AttrKind::String;
      text = b_.CreateString(a.as_string());
    } else if (a.is_dtype()) {
      kind = fb::AttrKind::DType;
      bits = static_cast<uint64_t>(a.as_dtype());
    } else {
      kind = fb::AttrKind::List;
      std::vector<Offset<fb::Attr>> elements;
      for (const Attr& e : a.as_list()) elements.push_back(attr(nullptr, e));
      list = b_.CreateVector(elements);
    }
    if (name) key = b_.CreateString(*name);
    return fb::CreateAttr(b_, key, kind, bits, text, list);
  }
  Offset<flatbuffers::Vector<Offset<fb::Attr>>> attrs(const Attrs& map) {
    std::vector<Offset<fb::Attr>> out;
    for (const auto& [name, value] : map) out.push_back(attr(&name, value));
    return b_.CreateVector(out);
  }

  Offset<fb::Variable> variable(const Variable& v) {
    const auto type = type_table(v.value.type);
    const auto name = b_.CreateString(v.name);
    Offset<flatbuffers::Vector<uint8_t>> data = 0;
    Offset<flatbuffers::String> init = 0;
    Offset<flatbuffers::Vector<Offset<fb::Attr>>> init_attrs = 0;
    if (v.data) {
      data = b_.CreateVector(reinterpret_cast<const uint8_t*>(v.data->data()), v.data->size());
    } else {
      init = b_.CreateString(v.init);
      init_attrs = attrs(v.init_attrs);
    }
    return fb::CreateVariable(b_, name, static_cast<fb::VariableKind>(v.kind), type, init, init_attrs, data,
                              v.loc);
  }

  using Numbers = std::unordered_map<const Value*, int>;
  Result<int> reference(const Value* v, const Numbers& numbers) {
    if (v && v->variable) {
      const auto it = variables_.find(v->variable);
      if (it != variables_.end()) return it->second;
    } else if (const auto it = numbers.find(v); it != numbers.end()) {
      return it->second;
    }
    return internal_error("an operand isn't defined before its use");
  }

  Result<Offset<fb::Block>> block(const Block& block) {
    Numbers numbers;
    std::vector<Offset<fb::Arg>> args;
    for (const auto& a : block.args) {
      numbers.emplace(a.get(), static_cast<int>(numbers.size()));
      const auto name = b_.CreateString(a->name);
      args.push_back(fb::CreateArg(b_, name, type_index(a->type)));
    }
    std::vector<Offset<fb::Node>> nodes;
    for (const auto& n : block.nodes) {
      std::vector<int> operands;
      for (const Value* v : n->operands) {
        GC_TRY(const int r, reference(v, numbers));
        operands.push_back(r);
      }
      std::vector<uint32_t> results;
      for (const auto& r : n->results) {
        numbers.emplace(r.get(), static_cast<int>(numbers.size()));
        results.push_back(type_index(r->type));
      }
      Offset<fb::Block> region = 0;
      if (n->region) {
        GC_TRY(region, this->block(*n->region));
      }
      const uint32_t op = string_index(n->op->name);
      const auto attr_vector = attrs(n->attrs);
      const auto operand_vector = b_.CreateVector(operands);
      const auto result_vector = b_.CreateVector(results);
      nodes.push_back(fb::CreateNode(b_, op, operand_vector, attr_vector, result_vector, region, n->loc));
    }
    std::vector<int> results;
    for (const Value* v : block.results) {
      GC_TRY(const int r, reference(v, numbers));
      results.push_back(r);
    }
    const auto arg_vector = b_.CreateVector(args);
    const auto node_vector = b_.CreateVector(nodes);
    const auto result_vector = b_.CreateVector(results);
    return fb::CreateBlock(b_, arg_vector, node_vector, result_vector);
  }

  Result<Offset<fb::Func>> func(const Func& f) {
    std::vector<Offset<fb::Symbol>> symbols;
    for (const SymbolDef& s : f.symbols) {
      const auto name = b_.CreateString(s.name);
      symbols.push_back(fb::CreateSymbol(b_, name, s.min, s.max.value_or(-1)));
    }
    GC_TRY(const auto body, block(f.body));
    const auto name = b_.CreateString(f.name);
    const auto symbol_vector = b_.CreateVector(symbols);
    const auto result_names = b_.CreateVectorOfStrings(f.result_names);
    return fb::CreateFunc(b_, name, symbol_vector, body, result_names, f.loc);
  }

  flatbuffers::FlatBufferBuilder b_;
  std::vector<std::string> strings_, dims_;
  std::vector<Offset<fb::Type>> types_;
  std::unordered_map<std::string, size_t> string_ids_, dim_ids_, type_ids_;
  std::unordered_map<const Variable*, int> variables_;
};

class Reader {
 public:
  Reader(const fb::Module& root, size_t size, const LoadLimits& limits)
      : root_(root), limits_(limits), budget_(uint64_t{size} + (uint64_t{64} << 20)) {}

  Result<std::unique_ptr<Module>> run() {
    if (root_.version() != kIrVersion)
      return invalid(
          fmt::format("program: version {} of the IR, this graphc reads {}", root_.version(), kIrVersion));
    m_ = std::make_unique<Module>();
    if (root_.symbolic_dims())
      for (const auto* s : *root_.symbolic_dims()) {
        if (!s || s->size() > 4096) return invalid("program: a size is missing or too long");
        GC_TRY(Dim d, parse_dim(s->string_view()));
        dims_.push_back(std::move(d));
      }
    if (root_.types())
      for (const auto* t : *root_.types()) {
        GC_TRY(TensorType type, this->type(t));
        types_.push_back(std::move(type));
      }
    if (root_.locs()) {
      if (root_.locs()->size() > limits_.max_values) return invalid("program: too many locations");
      for (const auto* l : *root_.locs()) {
        if (!l) return missing();
        GC_TRY(const std::string_view name, string(l->file()));
        GC_TRY(std::string file, copy(name));
        m_->locs.push_back({std::move(file), l->line(), l->column(), l->parent()});
      }
    }
    if (root_.variables())
      for (const auto* v : *root_.variables()) GC_CHECK(variable(v));
    if (root_.funcs())
      for (const auto* f : *root_.funcs()) GC_CHECK(func(f));
    if (Status s = verify(*m_, limits_); !s.ok())
      return Error{s.error().code, "program: " + s.error().message};
    return std::move(m_);
  }

 private:
  static Error missing() { return invalid("program: an element is missing"); }
  static Error out_of_range(std::string_view what) {
    return invalid(fmt::format("program: {} is out of range", what));
  }

  Result<std::string_view> string(uint32_t i) const {
    if (!root_.strings() || i >= root_.strings()->size()) return out_of_range("the number of a name");
    const auto* s = root_.strings()->Get(i);
    if (!s) return missing();
    return s->string_view();
  }
  // Bytes of a string. Offsets may share one long string many times: what is copied is held to a budget.
  Result<std::string> copy(std::string_view v) {
    if (v.size() > limits_.max_string_bytes) return invalid("program: a string is too long");
    GC_CHECK(charge(v.size()));
    return std::string(v);
  }
  Result<std::string> copy(const flatbuffers::String* v) {
    return v ? copy(v->string_view()) : Result<std::string>(std::string());
  }
  Status charge(uint64_t bytes) {
    if (bytes > budget_) return invalid("program: it unfolds to more than its own size");
    budget_ -= bytes;
    return {};
  }
  Result<TensorType> type(const fb::Type* t) const {
    if (!t) return missing();
    if (static_cast<int>(t->dtype()) >= kNumDTypes) return out_of_range("a dtype");
    TensorType out{static_cast<DType>(t->dtype()), {}};
    if (!t->shape()) return out;
    if (t->shape()->size() > limits_.max_rank) return out_of_range("a rank");
    // The verifier looks at the alignment of a vector's length, not of its 8-byte elements.
    std::vector<int64_t> shape(t->shape()->size());
    if (!shape.empty()) std::memcpy(shape.data(), t->shape()->Data(), shape.size() * sizeof(int64_t));
    for (const int64_t d : shape) {
      if (d >= 0) {
        out.shape.emplace_back(d);
      } else {
        if (static_cast<uint64_t>(-(d + 1)) >= dims_.size()) return out_of_range("the number of a size");
        out.shape.push_back(dims_[static_cast<size_t>(-(d + 1))]);
      }
    }
    return out;
  }
  Result<TensorType> type_at(uint32_t i) const {
    if (i >= types_.size()) return out_of_range("the number of a type");
    return types_[i];
  }

  Result<Attr> attr(const fb::Attr& a, int depth) {
    if (depth > static_cast<int>(limits_.max_nesting))
      return invalid("program: attributes are nested too deep");
    if (++attr_elements_ > limits_.max_attr_elements)
      return invalid("program: an attribute has too many elements");
    switch (a.kind()) {
      case fb::AttrKind::Bool:
        if (a.bits() > 1) return out_of_range("a bool");
        return Attr(a.bits() == 1);
      case fb::AttrKind::Int: return Attr(static_cast<int64_t>(a.bits()));
      case fb::AttrKind::SymbolicInt:
        if (a.bits() >= dims_.size()) return out_of_range("the number of a size");
        return Attr(dims_[a.bits()]);
      case fb::AttrKind::Float: return Attr(std::bit_cast<double>(a.bits()));
      case fb::AttrKind::String: {
        GC_TRY(std::string text, copy(a.text()));
        return Attr(std::move(text));
      }
      case fb::AttrKind::DType:
        if (a.bits() >= kNumDTypes) return out_of_range("a dtype");
        return Attr(static_cast<DType>(a.bits()));
      case fb::AttrKind::List: {
        Attr::List list;
        if (a.list())
          for (const auto* e : *a.list()) {
            if (!e) return missing();
            GC_TRY(Attr element, attr(*e, depth + 1));
            list.push_back(std::move(element));
          }
        return Attr(std::move(list));
      }
    }
    return out_of_range("the kind of an attribute");
  }
  Result<Attrs> attrs(const flatbuffers::Vector<Offset<fb::Attr>>* list) {
    Attrs out;
    if (!list) return out;
    for (const auto* a : *list) {
      if (!a || !a->name()) return missing();
      attr_elements_ = 0;
      GC_TRY(Attr value, attr(*a, 0));
      GC_TRY(std::string name, copy(a->name()));
      if (!out.emplace(std::move(name), std::move(value)).second)
        return invalid("program: an attribute is given twice");
    }
    return out;
  }

  Status variable(const fb::Variable* v) {
    if (!v) return missing();
    if (m_->variables.size() >= limits_.max_values) return invalid("program: too many variables");
    if (static_cast<int>(v->kind()) > static_cast<int>(VariableKind::kConst))
      return out_of_range("the kind of a variable");
    GC_TRY(TensorType t, type(v->type()));
    GC_TRY(Attrs init_attrs, attrs(v->init_attrs()));
    if (v->data() && (v->init() || v->init_attrs()))
      return invalid("program: a variable has data and an initialiser");
    GC_TRY(std::string name, copy(v->name()));
    GC_TRY(std::string init, copy(v->init()));
    Variable* const made = m_->add_variable(std::move(name), static_cast<VariableKind>(v->kind()),
                                            std::move(t), std::move(init), std::move(init_attrs), v->loc());
    if (!made) return invalid(fmt::format("program: two variables are called @{}", v->name()->str()));
    if (v->data()) {
      GC_CHECK(charge(v->data()->size()));
      const auto* p = reinterpret_cast<const std::byte*>(v->data()->data());
      made->data = std::make_shared<std::vector<std::byte>>(p, p + v->data()->size());
    }
    return {};
  }

  Result<Value*> reference(int v, const std::vector<Value*>& values) const {
    if (v >= 0) {
      if (static_cast<size_t>(v) >= values.size()) return out_of_range("the number of a value");
      return values[static_cast<size_t>(v)];
    }
    const auto i = static_cast<size_t>(-(static_cast<int64_t>(v) + 1));
    if (i >= m_->variables.size()) return out_of_range("the number of a variable");
    return &m_->variables[i]->value;
  }

  Status block(const fb::Block& from, Block& to, int depth) {
    std::vector<Value*> values;
    if (from.args())
      for (const auto* a : *from.args()) {
        if (!a) return missing();
        if (++values_ > limits_.max_values) return invalid("program: too many values");
        GC_TRY(TensorType t, type_at(a->type()));
        GC_TRY(std::string name, copy(a->name()));
        values.push_back(to.add_arg(std::move(t), std::move(name)));
      }
    if (from.nodes())
      for (const auto* n : *from.nodes()) {
        if (!n) return missing();
        if (++nodes_ > limits_.max_nodes) return invalid("program: too many nodes");
        GC_TRY(const std::string_view op, string(n->op()));
        auto made = std::make_unique<Node>();
        made->op = find_op(op);
        if (!made->op) return invalid(fmt::format("program: there is no op called '{:.40}'", op));
        made->loc = n->loc();
        if (n->operands()) {
          if (n->operands()->size() > limits_.max_node_inputs)
            return invalid("program: a node has too many operands");
          for (const int v : *n->operands()) {
            GC_TRY(Value * operand, reference(v, values));
            made->operands.push_back(operand);
          }
        }
        GC_TRY(made->attrs, attrs(n->attrs()));
        if (n->region()) {
          if (depth > 0) return invalid("program: a region stands in a region");
          made->region = std::make_unique<Block>();
          GC_CHECK(block(*n->region(), *made->region, depth + 1));
        }
        if (n->results())
          for (const uint32_t t : *n->results()) {
            if (++values_ > limits_.max_values) return invalid("program: too many values");
            auto v = std::make_unique<Value>();
            GC_TRY(v->type, type_at(t));
            v->node = made.get();
            v->index = static_cast<int>(made->results.size());
            values.push_back(v.get());
            made->results.push_back(std::move(v));
          }
        to.nodes.push_back(std::move(made));
      }
    if (from.results()) {
      if (from.results()->size() > limits_.max_values) return invalid("program: too many results");
      for (const int v : *from.results()) {
        GC_TRY(Value * r, reference(v, values));
        to.results.push_back(r);
      }
    }
    return {};
  }

  Status func(const fb::Func* f) {
    if (!f) return missing();
    GC_TRY(std::string name, copy(f->name()));
    Func* const made = m_->add_func(std::move(name));
    made->loc = f->loc();
    if (f->symbols())
      for (const auto* s : *f->symbols()) {
        if (!s) return missing();
        if (s->max() < -1) return out_of_range("the range of a size");
        GC_TRY(std::string symbol, copy(s->name()));
        made->symbols.push_back(
            {std::move(symbol), s->min(), s->max() < 0 ? std::nullopt : std::optional(s->max())});
      }
    GC_CHECK(block(*f->body(), made->body, 0));
    if (f->result_names())
      for (const auto* r : *f->result_names()) {
        if (!r) return missing();
        GC_TRY(std::string result, copy(r));
        made->result_names.push_back(std::move(result));
      }
    return {};
  }

  const fb::Module& root_;
  const LoadLimits& limits_;
  std::unique_ptr<Module> m_;
  std::vector<Dim> dims_;
  std::vector<TensorType> types_;
  uint64_t budget_;
  uint64_t attr_elements_ = 0, nodes_ = 0, values_ = 0;
};

}  // namespace

Result<std::vector<std::byte>> serialize(const Module& module) { return Writer().run(module); }

Result<std::unique_ptr<Module>> deserialize(std::span<const std::byte> bytes, const LoadLimits& limits) {
  if (bytes.size() < 16 || bytes.size() > limits.max_flatbuffer_bytes)
    return invalid(fmt::format("program: {} bytes can't be one", bytes.size()));
  // Offsets are checked relative to an aligned start.
  std::vector<uint64_t> aligned;
  const auto* p = reinterpret_cast<const uint8_t*>(bytes.data());
  if (reinterpret_cast<uintptr_t>(p) % 8 != 0) {
    aligned.resize((bytes.size() + 7) / 8);
    std::memcpy(aligned.data(), p, bytes.size());
    p = reinterpret_cast<const uint8_t*>(aligned.data());
  }
  if (!flatbuffers::BufferHasIdentifier(p, "GCIR"))
    return invalid("program: these bytes aren't the binary form of a program");
  flatbuffers::Verifier verifier(p, bytes.size(), limits.max_nesting + 16, /*max_tables=*/8'000'000);
  if (!verifier.VerifyBuffer<fb::Module>("GCIR")) return invalid("program: the bytes are damaged");
  return Reader(*flatbuffers::GetRoot<fb::Module>(p), bytes.size(), limits).run();
}

}  // namespace graphc
