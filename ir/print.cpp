#include "ir/print.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstring>
#include <iterator>

#include "ir/op.h"
#include "runtime/base/file.h"
#include "runtime/base/safetensors.h"
#include "runtime/base/sha256.h"

namespace graphc {
namespace {

// `sigil` then the name, quoted where it isn't plain.
std::string sigil_name(char sigil, std::string_view name) {
  return is_plain_name(name) ? fmt::format("{}{}", sigil, name)
                             : fmt::format("{}{}", sigil, quote_string(name));
}
std::string plain_or_quoted(std::string_view name) {
  return is_plain_name(name) ? std::string(name) : quote_string(name);
}

std::string f32_text(float v) {
  char buffer[32];
  const auto r = std::to_chars(buffer, buffer + sizeof buffer, v);
  std::string s(buffer, r.ptr);
  if (s.find_first_of(".e") == std::string::npos) s += ".0";
  return s;
}

// An element of a constant: shortest text of its own type; NaN and infinities by its bits.
std::string element_text(DType t, const std::byte* data, size_t i) {
  if (t == DType::kBool) return load_as_int(t, data, i) ? "true" : "false";
  if (t == DType::kU64) return fmt::format("{}", static_cast<uint64_t>(load_as_int(t, data, i)));
  if (!is_float(t)) return fmt::format("{}", load_as_int(t, data, i));
  const double v = load_as_double(t, data, i);
  if (!std::isfinite(v)) {
    uint64_t bits = 0;  // little-endian
    std::memcpy(&bits, data + i * dtype_size(t), dtype_size(t));
    return fmt::format("0x{:0{}x}", bits, dtype_size(t) * 2);
  }
  // The shortest text of the exact f32 value serves the 16-bit floats: it reads back as that f32.
  return t == DType::kF64 ? float_to_string(v) : f32_text(static_cast<float>(v));
}

std::string attr_text(const Attr& a) {
  if (a.is_string()) return quote_string(a.as_string());
  if (!a.is_list()) return a.to_string();
  std::string out = "[";
  for (const Attr& e : a.as_list()) {
    if (out.size() > 1) out += ", ";
    out += attr_text(e);
  }
  return out + "]";
}

class Printer {
 public:
  explicit Printer(const PrintOptions& options) : options_(options) {}
  std::string take() { return std::move(out_); }

  void module(const Module& m) {
    const bool partial = options_.sidecar.empty() && has_large_data(m);
    out_ += partial ? "graphc 1 core partial\n" : "graphc 1 core\n";
    for (const auto& v : m.variables) variable(*v);
    for (const auto& f : m.funcs) func(*f);
    if (!options_.locations) return;
    for (size_t i = 0; i < m.locs.size(); ++i) {
      const Loc& l = m.locs[i];
      add("!{} = {}:{}:{}", i, quote_string(l.file), l.line, l.column);
      if (l.parent >= 0) add(" in !{}", l.parent);
      out_ += '\n';
    }
  }

  static bool has_large_data(const Module& m) {
    for (const auto& v : m.variables)
      if (is_large(*v)) return true;
    return false;
  }
  static bool is_large(const Variable& v) {
    return v.data && v.data->size() > kMaxInlineData * dtype_size(v.value.type.dtype);
  }

  void variable(const Variable& v) {
    static constexpr const char* kKinds[] = {"param", "state", "const"};
    const TensorType& type = v.value.type;
    add("{} {}: {} = ", kKinds[static_cast<int>(v.kind)], sigil_name('@', v.name), type.to_string());
    if (!v.data) {
      add("{}()", plain_or_quoted(v.init));
      attrs(v.init_attrs);
    } else if (!is_large(v)) {
      out_ += "data [";
      const size_t n = v.data->size() / dtype_size(type.dtype);
      for (size_t i = 0; i < n; ++i) add("{}{}", i ? ", " : "", element_text(type.dtype, v.data->data(), i));
      out_ += ']';
    } else if (options_.sidecar.empty()) {
      out_ += "data omitted";
    } else {
      add("data {} \"{}\"", quote_string(options_.sidecar), to_hex(sha256(v.data->data(), v.data->size())));
    }
    loc(v.loc);
    out_ += '\n';
  }

  void func(const Func& f) {
    add("func {}", sigil_name('@', f.name));
    if (!f.symbols.empty()) {
      out_ += '[';
      for (size_t i = 0; i < f.symbols.size(); ++i) {
        const SymbolDef& s = f.symbols[i];
        add("{}{}", i ? ", " : "", s.name);
        if (s.max)
          add(" in {}..{}", s.min, *s.max);
        else if (s.min != 0)
          add(" in {}..", s.min);
      }
      out_ += ']';
    }
    names_.clear();
    block_args(f.body);
    out_ += " -> (";
    for (size_t i = 0; i < f.body.results.size(); ++i)
      add("{}{}: {}", i ? ", " : "", i < f.result_names.size() ? plain_or_quoted(f.result_names[i]) : "\"\"",
          f.body.results[i]->type.to_string());
    out_ += ") {\n";
    block(f.body, "return", 1);
    out_ += "}";
    loc(f.loc);
    out_ += '\n';
  }

  void node(const Node& n, int depth) {
    for (size_t i = 0; i < n.results.size(); ++i) {
      const std::string name = fmt::format("%{}", next_++);
      names_[n.results[i].get()] = name;
      add("{}{}", i ? ", " : "", name);
    }
    if (!n.results.empty()) out_ += " = ";
    application(n);
    if (n.region) {
      const int saved = next_;
      out_ += ' ';
      block_args(*n.region);
      out_ += " {\n";
      block(*n.region, "yield", depth + 1);
      indent(depth);
      out_ += '}';
      next_ = saved;
    }
    loc(n.loc);
    out_ += '\n';
  }

  void application(const Node& n) {
    add("{}(", n.op ? n.op->name : "<no op>");
    for (size_t i = 0; i < n.operands.size(); ++i) add("{}{}", i ? ", " : "", ref(n.operands[i]));
    out_ += ')';
    attrs(n.attrs);
    for (size_t i = 0; i < n.results.size(); ++i)
      add("{}{}", i ? ", " : " : ", n.results[i]->type.to_string());
  }

 private:
  template <class... A>
  void add(fmt::format_string<A...> f, A&&... a) {
    fmt::format_to(std::back_inserter(out_), f, std::forward<A>(a)...);
  }
  void indent(int depth) { out_.append(static_cast<size_t>(depth) * 2, ' '); }
  void loc(LocId id) {
    if (options_.locations && id >= 0) add(" loc(!{})", id);
  }
  void attrs(const Attrs& attrs) {
    if (attrs.empty()) return;
    out_ += " {";
    bool first = true;
    for (const auto& [name, value] : attrs) {
      add("{}{}={}", first ? "" : ", ", plain_or_quoted(name), attr_text(value));
      first = false;
    }
    out_ += '}';
  }
  // Numbers start again at 0; names are of the whole function, so that values of different regions don't mix.
  void block_args(const Block& b) {
    next_ = 0;
    out_ += '(';
    for (size_t i = 0; i < b.args.size(); ++i) {
      const Value& a = *b.args[i];
      const std::string name = a.name.empty() ? fmt::format("%{}", next_++) : sigil_name('%', a.name);
      names_[&a] = name;
      add("{}{}: {}", i ? ", " : "", name, a.type.to_string());
    }
    out_ += ')';
  }
  void block(const Block& b, const char* end, int depth) {
    for (const auto& n : b.nodes) {
      indent(depth);
      node(*n, depth);
    }
    indent(depth);
    out_ += end;
    for (size_t i = 0; i < b.results.size(); ++i) add("{} {}", i ? "," : "", ref(b.results[i]));
    out_ += '\n';
  }
  std::string ref(const Value* v) const {
    if (!v) return "%<null>";
    if (v->variable) return sigil_name('@', v->variable->name);
    if (const auto it = names_.find(v); it != names_.end()) return it->second;
    if (!v->name.empty()) return sigil_name('%', v->name);
    if (v->node && v->node->op) return fmt::format("<{}>", v->node->op->name);  // only in messages
    return fmt::format("<argument {}>", v->index);
  }

  PrintOptions options_;
  std::string out_;
  std::unordered_map<const Value*, std::string> names_;
  int next_ = 0;
};

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

bool is_plain_name(std::string_view s) {
  if (s.empty() || is_digit(s[0])) return false;
  for (const char c : s)
    if (!is_letter(c) && !is_digit(c) && c != '.') return false;
  return true;
}

bool is_symbol_name(std::string_view s) {
  return is_plain_name(s) && s != "true" && s != "false" && s != "in" && !dtype_from_name(s);
}

std::string quote_string(std::string_view s) {
  std::string out = "\"";
  for (const char c : s) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      (out += '\\') += c;
    else if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (u < 0x20 || u == 0x7f)
      out += fmt::format("\\x{:02x}", u);
    else
      out += c;
  }
  return out + '"';
}

std::string print(const Module& module, const PrintOptions& options) {
  Printer p(options);
  p.module(module);
  return p.take();
}

std::string print(const Func& func) {
  Printer p({.locations = false});
  p.func(func);
  return p.take();
}

std::string print(const Node& node) {
  Printer p({.locations = false});
  p.application(node);
  return p.take();
}

Status write_core(const Module& module, const std::string& path, bool locations) {
  PrintOptions options{.locations = locations};
  if (Printer::has_large_data(module)) {
    std::string sidecar = path.substr(0, path.ends_with(".graph") ? path.size() - 6 : path.size());
    sidecar += ".safetensors";
    std::vector<SafetensorsTensor> tensors;
    for (const auto& v : module.variables) {
      if (!Printer::is_large(*v)) continue;
      const auto shape = static_shape(v->value.type.shape);
      if (!shape) return internal_error(fmt::format("the size of @{} isn't constant", v->name));
      tensors.push_back({v->name, v->value.type.dtype, *shape, *v->data});
    }
    GC_CHECK(write_safetensors(sidecar, std::move(tensors)));
    const size_t slash = sidecar.rfind('/');
    options.sidecar = slash == std::string::npos ? sidecar : sidecar.substr(slash + 1);
  }
  return atomic_write(path, print(module, options));
}

}  // namespace graphc
