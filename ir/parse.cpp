#include "ir/parse.h"

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "ir/op.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "runtime/base/file.h"
#include "runtime/base/safetensors.h"
#include "runtime/base/sha256.h"

namespace graphc {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_char(char c) { return is_letter(c) || is_digit(c) || c == '.'; }

// Text of the source for a message: short, without control bytes.
std::string shown(std::string_view s) {
  std::string out;
  for (const char c : s.substr(0, 40)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return s.size() > 40 ? out + "..." : out;
}

class Parser {
 public:
  Parser(std::string_view text, std::string file, const ParseOptions& options)
      : text_(text), file_(std::move(file)), options_(options), limits_(options.limits) {}

  Result<std::unique_ptr<Module>> run() {
    if (text_.size() > limits_.max_graph_bytes)
      return invalid(fmt::format("{}: the text has {} bytes, the limit is {}", file_, text_.size(),
                                 limits_.max_graph_bytes));
    m_ = std::make_unique<Module>();
    GC_CHECK(header());
    while (true) {
      skip_lines();
      if (at_end()) break;
      const size_t start = i_;
      if (peek() == '!') {
        GC_CHECK(location());
      } else {
        GC_TRY(const std::string word, name("a declaration"));
        if (!m_->locs.empty()) return fail(start, "declarations and functions come before the locations");
        if (word == "func") {
          GC_CHECK(func());
        } else if (word == "param" || word == "state" || word == "const") {
          if (!m_->funcs.empty()) return fail(start, "variables are declared before the functions");
          GC_CHECK(variable(word == "param"   ? VariableKind::kParam
                            : word == "state" ? VariableKind::kState
                                              : VariableKind::kConst));
        } else {
          return fail(start,
                      fmt::format("expected param, state, const, func or a location, got '{}'", shown(word)));
        }
      }
      GC_CHECK(end_of_line());
    }
    for (const auto& [at, id] : loc_uses_)
      if (id >= static_cast<int>(m_->locs.size()))
        return fail(at, fmt::format("the location !{} isn't in the table at the end", id));
    if (Status s = verify(*m_, limits_); !s.ok())
      return Error{s.error().code, file_ + ": error: " + s.error().message};
    return std::move(m_);
  }

 private:
  // ---- characters

  bool at_end() const { return i_ >= text_.size(); }
  char peek(size_t k = 0) const { return i_ + k < text_.size() ? text_[i_ + k] : '\0'; }
  void skip_space() {
    while (!at_end() && (peek() == ' ' || peek() == '\t' || peek() == '\r')) ++i_;
    if (peek() == '#')
      while (!at_end() && peek() != '\n') ++i_;
  }
  void skip_lines() {
    for (skip_space(); !at_end() && peek() == '\n'; skip_space()) ++i_;
  }
  bool eat(std::string_view s) {
    skip_space();
    if (text_.substr(i_, s.size()) != s) return false;
    i_ += s.size();
    return true;
  }
  // A whole word, not the beginning of a longer one.
  bool eat_word(std::string_view s) {
    skip_space();
    if (text_.substr(i_, s.size()) != s || is_name_char(peek(s.size()))) return false;
    i_ += s.size();
    return true;
  }
  Status expect(std::string_view s, std::string_view where) {
    if (eat(s)) return {};
    return fail(i_, fmt::format("expected '{}' {}, got {}", s, where, next_text()));
  }
  std::string next_text() const {
    if (at_end()) return "the end of the text";
    if (peek() == '\n') return "the end of the line";
    size_t e = i_ + 1;
    if (is_name_char(peek()))
      while (e < text_.size() && is_name_char(text_[e])) ++e;
    return fmt::format("'{}'", shown(text_.substr(i_, e - i_)));
  }
  Status end_of_line() {
    skip_space();
    if (at_end()) return {};
    if (peek() != '\n') return fail(i_, "expected the end of the line, got " + next_text());
    ++i_;
    return {};
  }

  Error fail(size_t at, std::string message) const {
    at = std::min(at, text_.size());
    int line = 1;
    size_t begin = 0;
    for (size_t k = 0; k < at; ++k)
      if (text_[k] == '\n') {
        ++line;
        begin = k + 1;
      }
    int column = 1;  // in code points
    for (size_t k = begin; k < at; ++k) column += (text_[k] & 0xC0) != 0x80;
    std::string source, caret;
    if (at - begin <= 160) {
      const size_t end = std::min({text_.find('\n', begin), text_.size(), begin + 200});
      for (size_t k = begin; k < end; ++k) {
        const char c = text_[k];
        source += c == '\t' ? ' ' : static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
      }
      caret.assign(static_cast<size_t>(column) - 1, ' ');
    }
    std::string out = fmt::format("{}:{}:{}: error: {}", file_, line, column, message);
    if (!source.empty()) out += fmt::format("\n{:>5} | {}\n      | {}^", line, source, caret);
    return invalid(std::move(out));
  }

  // ---- words

  Result<std::string> name(std::string_view what) {
    skip_space();
    if (peek() == '"') return string();
    const size_t start = i_;
    if (!is_letter(peek())) return fail(i_, fmt::format("expected {}, got {}", what, next_text()));
    while (is_name_char(peek())) ++i_;
    if (i_ - start > limits_.max_string_bytes) return fail(start, "a name is too long");
    return std::string(text_.substr(start, i_ - start));
  }

  Result<std::string> string() {
    skip_space();
    const size_t start = i_;
    if (peek() != '"') return fail(i_, "expected a string, got " + next_text());
    ++i_;
    std::string out;
    while (true) {
      if (at_end() || peek() == '\n') return fail(start, "the string isn't closed on its line");
      const char c = text_[i_++];
      if (c == '"') break;
      if (c != '\\') {
        out += c;
      } else {
        const char e = peek();
        ++i_;
        const auto hex = [&](size_t k) -> int {
          const char h = peek(k);
          return is_digit(h) ? h - '0' : h >= 'a' && h <= 'f' ? h - 'a' + 10 : -1;
        };
        if (e == 'n')
          out += '\n';
        else if (e == 't')
          out += '\t';
        else if (e == '"' || e == '\\')
          out += e;
        else if (e == 'x' && hex(0) >= 0 && hex(1) >= 0) {
          out += static_cast<char>(hex(0) * 16 + hex(1));
          i_ += 2;
        } else
          return fail(i_ - 2, R"(unknown escape in a string; there are \n \t \" \\ \xNN)");
      }
      if (out.size() > limits_.max_string_bytes)
        return fail(start, fmt::format("a string is longer than {} bytes", limits_.max_string_bytes));
    }
    return out;
  }

  Result<int64_t> integer(std::string_view what) {
    skip_space();
    int64_t v = 0;
    const auto r = std::from_chars(text_.data() + i_, text_.data() + text_.size(), v);
    if (r.ec == std::errc::result_out_of_range) return fail(i_, fmt::format("{} is out of range", what));
    if (r.ec != std::errc()) return fail(i_, fmt::format("expected {}, got {}", what, next_text()));
    i_ = static_cast<size_t>(r.ptr - text_.data());
    return v;
  }

  // The text of a scalar up to , ] } ) or the end of the line outside parentheses.
  std::string_view scalar_text() {
    skip_space();
    const size_t start = i_;
    int depth = 0;
    for (; !at_end(); ++i_) {
      const char c = peek();
      if (c == '\n' || (depth == 0 && (c == ',' || c == ']' || c == '}' || c == ')'))) break;
      depth += (c == '(') - (c == ')');
    }
    std::string_view s = text_.substr(start, i_ - start);
    while (!s.empty() && (s.back() == ' ' || s.back() == '\t' || s.back() == '\r')) s.remove_suffix(1);
    return s;
  }

  Result<Dim> dim() {
    skip_space();
    const size_t start = i_;
    const std::string_view s = scalar_text();
    return dim_of(s, start);
  }
  Result<Dim> dim_of(std::string_view s, size_t start) {
    if (s.size() > 4096) return fail(start, "a size is written with more than 4096 characters");
    auto d = parse_dim(s);
    if (!d.ok()) return fail(start, d.error().message);
    std::string unknown;
    d->for_each_symbol([&](const std::string& symbol) {
      if (!symbols_.contains(symbol)) unknown = symbol;
    });
    if (!unknown.empty())
      return fail(start, func_ ? fmt::format("the symbol {} isn't declared: func @{}[{}]", shown(unknown),
                                             shown(func_->name), shown(unknown))
                               : fmt::format("'{}' isn't a value known here; a variable's sizes are constant",
                                             shown(unknown)));
    return d;
  }

  static bool looks_like_float(std::string_view s) {
    if (s.starts_with("-")) s.remove_prefix(1);
    return !s.empty() && is_digit(s[0]) &&
           (s.starts_with("0x") || s.find_first_of(".e") != std::string_view::npos) &&
           s.find_first_of("*+/%") == std::string_view::npos;
  }
  Result<double> float_of(std::string_view s, size_t start) {
    double v = 0;
    if (s.starts_with("0x")) {
      uint64_t bits = 0;
      const auto r = std::from_chars(s.data() + 2, s.data() + s.size(), bits, 16);
      if (r.ec != std::errc() || r.ptr != s.data() + s.size() || (s.size() != 18 && s.size() != 10))
        return fail(start, "the bits of a float are 0x and 16 digits (8: those of an f32)");
      return s.size() == 18 ? std::bit_cast<double>(bits)
                            : static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits)));
    }
    const auto r = std::from_chars(s.data(), s.data() + s.size(), v);
    if (r.ptr != s.data() + s.size() || r.ec == std::errc::invalid_argument)
      return fail(start, fmt::format("'{}' isn't a number", shown(s)));
    if (r.ec != std::errc()) return fail(start, fmt::format("'{}' is out of the range of f64", shown(s)));
    return v;
  }

  Result<Attr> attr(int depth) {
    skip_space();
    const size_t start = i_;
    if (depth > static_cast<int>(limits_.max_nesting))
      return fail(start, fmt::format("lists are nested more than {} deep", limits_.max_nesting));
    if (++attr_elements_ > limits_.max_attr_elements)
      return fail(start, fmt::format("an attribute has more than {} elements", limits_.max_attr_elements));
    if (peek() == '"') {
      GC_TRY(std::string s, string());
      return Attr(std::move(s));
    }
    if (eat("[")) {
      Attr::List list;
      if (eat("]")) return Attr(std::move(list));
      do {
        GC_TRY(Attr a, attr(depth + 1));
        list.push_back(std::move(a));
      } while (eat(","));
      GC_CHECK(expect("]", "at the end of the list"));
      return Attr(std::move(list));
    }
    const std::string_view s = scalar_text();
    if (s == "true" || s == "false") return Attr(s == "true");
    if (const auto t = dtype_from_name(s)) return Attr(*t);
    if (looks_like_float(s)) {
      GC_TRY(const double v, float_of(s, start));
      return Attr(v);
    }
    GC_TRY(Dim d, dim_of(s, start));
    return Attr(std::move(d));
  }

  Result<Attrs> attrs() {
    Attrs out;
    if (!eat("{")) return out;
    if (eat("}")) return out;
    do {
      skip_space();
      const size_t start = i_;
      GC_TRY(std::string key, name("the name of an attribute"));
      GC_CHECK(expect("=", "after the name of an attribute"));
      attr_elements_ = 0;
      GC_TRY(Attr value, attr(0));
      if (!out.emplace(key, std::move(value)).second)
        return fail(start, fmt::format("the attribute {} is given twice", shown(key)));
    } while (eat(","));
    GC_CHECK(expect("}", "at the end of the attributes"));
    return out;
  }

  Result<TensorType> type() {
    skip_space();
    const size_t start = i_;
    while (is_letter(peek()) || is_digit(peek())) ++i_;
    const auto dtype = dtype_from_name(text_.substr(start, i_ - start));
    if (!dtype) {
      i_ = start;
      return fail(start, "expected a type (like f32[2, 3]), got " + next_text());
    }
    TensorType t{*dtype, {}};
    if (peek() != '[') return t;
    ++i_;
    do {
      GC_TRY(Dim d, dim());
      t.shape.push_back(std::move(d));
      if (t.shape.size() > limits_.max_rank)
        return fail(start, fmt::format("a type of more than {} axes", limits_.max_rank));
    } while (eat(","));
    GC_CHECK(expect("]", "at the end of the shape"));
    if (Status s = verify_type(t, func_, limits_); !s.ok()) return fail(start, s.error().message);
    return t;
  }

  // loc(!n), if it is there
  Result<LocId> loc_ref() {
    if (!eat_word("loc")) return -1;
    GC_CHECK(expect("(", "after loc"));
    GC_TRY(const LocId id, ref());
    GC_CHECK(expect(")", "after the location"));
    return id;
  }
  Result<LocId> ref() {
    skip_space();
    const size_t start = i_;
    GC_CHECK(expect("!", "before the number of a location"));
    if (!is_digit(peek())) return fail(start, "expected the number of a location");
    GC_TRY(const int64_t id, integer("the number of a location"));
    if (id >= INT32_MAX) return fail(start, "the number of the location is out of range");
    loc_uses_.emplace_back(start, static_cast<int>(id));
    return static_cast<LocId>(id);
  }

  // %name, %"any name" or %3; the key keeps the three apart.
  Result<std::string> value_key(std::string* plain = nullptr) {
    skip_space();
    if (peek() != '%') return fail(i_, "expected a value (%name), got " + next_text());
    ++i_;
    if (is_digit(peek())) {
      const size_t start = i_;
      while (is_digit(peek())) ++i_;
      if (i_ - start > 9) return fail(start, "the number of a value is too large");
      return "#" + std::string(text_.substr(start, i_ - start));
    }
    const size_t start = i_;
    GC_TRY(std::string n, name("the name of a value"));
    if (n.empty()) return fail(start, "a value's name is empty; leave it out");
    if (plain) *plain = n;
    return "%" + n;
  }
  Result<std::string> variable_name() {
    skip_space();
    if (peek() != '@') return fail(i_, "expected a name with @, got " + next_text());
    ++i_;
    skip_space();
    return name("a name");
  }

  // ---- declarations

  Status header() {
    skip_lines();
    if (!eat_word("graphc")) return fail(i_, "core text begins with \"graphc 1 core\"");
    skip_space();
    const size_t start = i_;
    GC_TRY(const int64_t version, integer("the version of the language"));
    if (version != 1)
      return fail(start, fmt::format("this graphc reads version 1 of the language, not {}", version));
    if (!eat_word("core")) return fail(i_, "this isn't core text: \"core\" is missing after the version");
    skip_space();
    if (eat_word("partial"))
      return fail(i_ - 7, "this text leaves data of variables out; print it with a data file beside it");
    return end_of_line();
  }

  Status location() {
    const size_t start = i_;
    GC_TRY(const LocId id, ref());
    loc_uses_.pop_back();  // a definition
    if (id != static_cast<int>(m_->locs.size()))
      return fail(start, fmt::format("locations are numbered in order; the next is !{}", m_->locs.size()));
    if (m_->locs.size() >= limits_.max_values) return fail(start, "too many locations");
    GC_CHECK(expect("=", "after the number of the location"));
    Loc l;
    GC_TRY(l.file, string());
    GC_CHECK(expect(":", "after the file of the location"));
    GC_TRY(const int64_t line, integer("a line number"));
    GC_CHECK(expect(":", "after the line of the location"));
    GC_TRY(const int64_t column, integer("a column number"));
    if (line < 0 || line > INT32_MAX || column < 0 || column > INT32_MAX)
      return fail(start, "line or column is out of range");
    l.line = static_cast<int>(line);
    l.column = static_cast<int>(column);
    if (eat_word("in")) {
      skip_space();
      const size_t at = i_;
      GC_TRY(l.parent, ref());
      if (l.parent >= id) return fail(at, "a location lies in one that comes before it");
    }
    m_->locs.push_back(std::move(l));
    return {};
  }

  Status variable(VariableKind kind) {
    skip_space();
    const size_t start = i_;
    if (m_->variables.size() >= limits_.max_values) return fail(start, "too many variables");
    GC_TRY(std::string path, variable_name());
    if (m_->find_variable(path))
      return fail(start, fmt::format("a second variable is called @{}", shown(path)));
    GC_CHECK(expect(":", "after the variable's name"));
    GC_TRY(TensorType t, type());
    GC_CHECK(expect("=", "after the variable's type"));
    skip_space();
    const size_t at = i_;
    std::shared_ptr<const std::vector<std::byte>> content;
    std::string init;
    Attrs init_attrs;
    if (eat_word("data")) {
      GC_TRY(content, data(path, t, at));
    } else {
      GC_TRY(init, name("an initialiser or data"));
      GC_CHECK(expect("(", "after the initialiser"));
      GC_CHECK(expect(")", "after the initialiser (its settings follow in {})"));
      GC_TRY(init_attrs, attrs());
    }
    GC_TRY(const LocId loc, loc_ref());
    m_->add_variable(std::move(path), kind, std::move(t), std::move(init), std::move(init_attrs), loc)->data =
        std::move(content);
    return {};
  }

  using Data = std::shared_ptr<const std::vector<std::byte>>;

  Result<Data> data(const std::string& path, const TensorType& t, size_t at) {
    const auto shape = static_shape(t.shape);
    if (!shape) return fail(at, "a variable's sizes are constant");
    const auto bytes = checked_bytes(t.dtype, *shape, limits_);
    if (!bytes.ok()) return fail(at, bytes.error().message);
    skip_space();
    if (peek() == '"') return sidecar(path, t, *shape, at);
    if (eat_word("omitted"))
      return fail(at, "this text leaves the data out; print it with a data file beside it");
    GC_CHECK(expect("[", "after data"));
    // The budget of a text: its elements stand in it, so the size can't exceed what it has characters for.
    if (*bytes / dtype_size(t.dtype) > text_.size())
      return fail(at, "the text has fewer elements than the type");
    auto out = std::make_shared<std::vector<std::byte>>(*bytes);
    const size_t n = *bytes / dtype_size(t.dtype);
    for (size_t k = 0; k < n; ++k) {
      if (k) GC_CHECK(expect(",", fmt::format("before element {} of {}", k, n)));
      GC_CHECK(element(t.dtype, out->data(), k));
    }
    GC_CHECK(expect("]", fmt::format("after the {} elements of the type", n)));
    return Data(std::move(out));
  }

  Status element(DType t, std::byte* out, size_t k) {
    skip_space();
    const size_t start = i_;
    const std::string_view s = scalar_text();
    const char* const end = s.data() + s.size();
    if (t == DType::kBool) {
      if (s != "true" && s != "false") return fail(start, "expected true or false");
      store_from_int(t, out, k, s == "true");
      return {};
    }
    if (!is_float(t)) {
      int64_t v = 0;
      uint64_t u = 0;
      const auto r = t == DType::kU64 ? std::from_chars(s.data(), end, u) : std::from_chars(s.data(), end, v);
      if (t == DType::kU64) v = static_cast<int64_t>(u);
      if (r.ec != std::errc() || r.ptr != end || wrap_int(t, v) != v)
        return fail(start, fmt::format("'{}' isn't a number of type {}", shown(s), dtype_name(t)));
      store_from_int(t, out, k, v);
      return {};
    }
    const size_t size = dtype_size(t);
    if (s.starts_with("0x")) {
      uint64_t bits = 0;
      const auto r = std::from_chars(s.data() + 2, end, bits, 16);
      if (r.ec != std::errc() || r.ptr != end || s.size() != 2 + 2 * size)
        return fail(start, fmt::format("the bits of a {} are 0x and {} digits", dtype_name(t), 2 * size));
      std::memcpy(out + k * size, &bits, size);
      return {};
    }
    // Through f32 for the small types, as they are printed: no second rounding.
    double v = 0;
    float f = 0;
    const auto r = t == DType::kF64 ? std::from_chars(s.data(), end, v) : std::from_chars(s.data(), end, f);
    if (t != DType::kF64) v = f;
    if (r.ec != std::errc() || r.ptr != end)
      return fail(start, fmt::format("'{}' isn't a number of type {}", shown(s), dtype_name(t)));
    store_from_double(t, out, k, v);
    return {};
  }

  Result<Data> sidecar(const std::string& path, const TensorType& t, const std::vector<int64_t>& shape,
                       size_t at) {
    GC_TRY(const std::string file, string());
    GC_TRY(const std::string hash, string());
    if (file.empty() || file.find('/') != std::string::npos || file.find('\0') != std::string::npos ||
        file[0] == '.')
      return fail(at, "a data file is named without folders");
    if (options_.directory.empty())
      return fail(
          at, fmt::format("the data of @{} stands in the file {}, and this text was read without its folder",
                          shown(path), shown(file)));
    if (!sidecars_.contains(file)) {
      auto opened = SafetensorsFile::open(options_.directory + "/" + file, SafetensorsFile::kAny, limits_);
      if (!opened.ok()) return fail(at, opened.error().message);
      sidecars_.emplace(file, *std::move(opened));
    }
    const SafetensorsTensor* tensor = sidecars_.at(file).find(path);
    if (!tensor) return fail(at, fmt::format("{} has no tensor called {}", shown(file), shown(path)));
    if (tensor->dtype != t.dtype || tensor->shape != shape)
      return fail(at, fmt::format("the tensor {} of {} isn't {}", shown(path), shown(file), t.to_string()));
    if (to_hex(sha256(tensor->data.data(), tensor->data.size())) != hash)
      return fail(
          at, fmt::format("the data of {} in {} isn't what this text was printed with (its SHA-256 differs)",
                          shown(path), shown(file)));
    if (const auto total = checked_add(loaded_, tensor->data.size());
        !total || *total > limits_.max_memory_bytes)
      return fail(at, "the data is larger than the memory allowed");
    loaded_ += tensor->data.size();
    return Data(std::make_shared<std::vector<std::byte>>(tensor->data.begin(), tensor->data.end()));
  }

  // ---- functions

  Status func() {
    skip_space();
    const size_t start = i_;
    GC_TRY(std::string n, variable_name());
    if (!func_names_.insert(n).second)
      return fail(start, fmt::format("a second function is called @{}", shown(n)));
    func_ = m_->add_func(std::move(n));
    symbols_.clear();
    GC_CHECK(symbol_list());
    Scope scope;
    GC_CHECK(block_args(func_->body, scope));
    GC_CHECK(expect("->", "after the arguments"));
    GC_CHECK(expect("(", "before the results"));
    std::vector<std::pair<size_t, TensorType>> result_types;
    if (!eat(")")) {
      do {
        GC_TRY(std::string r, name("the name of a result"));
        GC_CHECK(expect(":", "after the name of the result"));
        skip_space();
        const size_t at = i_;
        GC_TRY(TensorType t, type());
        func_->result_names.push_back(std::move(r));
        result_types.emplace_back(at, std::move(t));
      } while (eat(","));
      GC_CHECK(expect(")", "after the results"));
    }
    GC_CHECK(block(func_->body, scope, "return", 0));
    const auto& results = func_->body.results;
    if (results.size() != result_types.size())
      return fail(start, fmt::format("@{} declares {} results and returns {}", shown(func_->name),
                                     result_types.size(), results.size()));
    for (size_t k = 0; k < results.size(); ++k)
      if (results[k]->type != result_types[k].second)
        return fail(result_types[k].first,
                    fmt::format("result {} is declared as {}, returned is {}", shown(func_->result_names[k]),
                                result_types[k].second.to_string(), results[k]->type.to_string()));
    GC_TRY(func_->loc, loc_ref());
    func_ = nullptr;
    symbols_.clear();
    return {};
  }

  Status symbol_list() {
    if (!eat("[")) return {};
    do {
      skip_space();
      const size_t start = i_;
      SymbolDef s;
      GC_TRY(s.name, name("the name of a size"));
      if (!is_symbol_name(s.name))
        return fail(start, fmt::format("'{}' can't be the name of a size", shown(s.name)));
      if (!symbols_.insert(s.name).second)
        return fail(start, fmt::format("the size {} is declared twice", shown(s.name)));
      if (eat_word("in")) {
        GC_TRY(s.min, integer("the smallest size"));
        GC_CHECK(expect("..", "in the range of a size"));
        skip_space();
        if (is_digit(peek())) {
          GC_TRY(const int64_t max, integer("the largest size"));
          s.max = max;
        }
        if (s.min < 0 || s.max.value_or(s.min) < s.min || s.max.value_or(s.min) > limits_.max_dim)
          return fail(start, fmt::format("the range of {} is empty or outside 0..{}", shown(s.name),
                                         limits_.max_dim));
      }
      func_->symbols.push_back(std::move(s));
    } while (eat(","));
    return expect("]", "after the sizes");
  }

  using Scope = std::unordered_map<std::string, Value*>;

  Status block_args(Block& b, Scope& scope) {
    GC_CHECK(expect("(", "before the arguments"));
    if (eat(")")) return {};
    do {
      skip_space();
      const size_t start = i_;
      std::string plain;
      GC_TRY(std::string key, value_key(&plain));
      GC_CHECK(expect(":", "after the name of an argument"));
      GC_TRY(TensorType t, type());
      GC_CHECK(count_value(start));
      Value* const v = b.add_arg(std::move(t), std::move(plain));
      if (!scope.emplace(std::move(key), v).second) return fail(start, "a second argument has this name");
    } while (eat(","));
    return expect(")", "after the arguments");
  }

  Status block(Block& b, Scope& scope, std::string_view end, int depth) {
    GC_CHECK(expect("{", "before the body"));
    GC_CHECK(end_of_line());
    while (true) {
      skip_lines();
      if (at_end()) return fail(i_, fmt::format("the body ends without '{}'", end));
      if (eat_word(end)) break;
      GC_CHECK(node(b, scope, depth));
      GC_CHECK(end_of_line());
    }
    skip_space();
    if (peek() == '%' || peek() == '@') do {
        GC_TRY(Value * v, use(scope));
        b.results.push_back(v);
        if (b.results.size() > limits_.max_values) return fail(i_, "too many results");
      } while (eat(","));
    GC_CHECK(end_of_line());
    skip_lines();
    return expect("}", "at the end of the body");
  }

  Result<Value*> use(const Scope& scope) {
    skip_space();
    const size_t start = i_;
    if (peek() == '@') {
      GC_TRY(const std::string n, variable_name());
      Variable* const v = m_->find_variable(n);
      if (!v) return fail(start, fmt::format("there is no variable @{}", shown(n)));
      return &v->value;
    }
    GC_TRY(const std::string key, value_key());
    const auto it = scope.find(key);
    if (it == scope.end())
      return fail(start, fmt::format("%{} isn't defined here", shown(std::string_view(key).substr(1))));
    return it->second;
  }

  Status count_value(size_t at) {
    return ++values_ > limits_.max_values
               ? Status(fail(at, fmt::format("more than {} values", limits_.max_values)))
               : Status();
  }

  Status node(Block& b, Scope& scope, int depth) {
    skip_space();
    const size_t start = i_;
    if (++nodes_ > limits_.max_nodes)
      return fail(start, fmt::format("more than {} nodes", limits_.max_nodes));
    std::vector<std::pair<size_t, std::string>> targets;
    if (peek() == '%') {
      do {
        skip_space();
        const size_t at = i_;
        GC_TRY(std::string key, value_key());
        if (key[0] != '#') return fail(at, "results of nodes have numbers: %0");
        targets.emplace_back(at, std::move(key));
        if (targets.size() > limits_.max_node_inputs) return fail(at, "too many results");
      } while (eat(","));
      GC_CHECK(expect("=", "after the results"));
    }
    skip_space();
    const size_t op_at = i_;
    GC_TRY(const std::string op_name, name("the name of an op"));
    const OpDef* const op = find_op(op_name);
    if (!op)
      return fail(op_at, fmt::format("there is no op called '{}'; `graphc ops` lists them", shown(op_name)));

    auto n = std::make_unique<Node>();
    n->op = op;
    GC_CHECK(expect("(", "before the operands"));
    if (!eat(")")) {
      do {
        GC_TRY(Value * v, use(scope));
        n->operands.push_back(v);
        if (n->operands.size() > limits_.max_node_inputs)
          return fail(op_at, fmt::format("more than {} operands", limits_.max_node_inputs));
      } while (eat(","));
      GC_CHECK(expect(")", "after the operands"));
    }
    GC_TRY(n->attrs, attrs());
    std::vector<TensorType> types;
    skip_space();
    const size_t types_at = i_;
    if (eat(":")) do {
        GC_TRY(TensorType t, type());
        types.push_back(std::move(t));
      } while (eat(","));
    if (types.size() != targets.size())
      return fail(types_at,
                  fmt::format("{} results are named and {} types given", targets.size(), types.size()));
    skip_space();
    if (peek() == '(') {
      if (depth > 0) return fail(i_, "a region stands in a region");
      n->region = std::make_unique<Block>();
      Scope inner;
      GC_CHECK(block_args(*n->region, inner));
      GC_CHECK(block(*n->region, inner, "yield", depth + 1));
    }
    GC_TRY(n->loc, loc_ref());
    GC_CHECK(infer(*n, types, op_at, types_at));
    for (size_t k = 0; k < types.size(); ++k) {
      GC_CHECK(count_value(targets[k].first));
      auto v = std::make_unique<Value>();
      v->type = std::move(types[k]);
      v->node = n.get();
      v->index = static_cast<int>(k);
      if (!scope.emplace(targets[k].second, v.get()).second)
        return fail(targets[k].first, fmt::format("%{} is defined twice", targets[k].second.substr(1)));
      n->results.push_back(std::move(v));
    }
    if (Status s = verify_node(*n, limits_); !s.ok()) return fail(op_at, s.error().message);
    b.nodes.push_back(std::move(n));
    return {};
  }

  // Fills in attributes and compares inference with the text.
  Status infer(Node& n, const std::vector<TensorType>& types, size_t op_at, size_t types_at) {
    if (n.op == &ops::fusion) return {};  // verify_node compares with the region
    std::vector<TensorType> operands;
    for (const Value* v : n.operands) operands.push_back(v->type);
    auto inferred = infer_types(*n.op, operands, n.attrs);
    if (!inferred.ok()) return fail(op_at, inferred.error().message);
    if (*inferred == types) return {};
    std::string text;
    for (const TensorType& t : *inferred) text += (text.empty() ? "" : ", ") + t.to_string();
    return fail(types_at, fmt::format("the types don't agree with the operands, which give {}",
                                      text.empty() ? "no result" : text));
  }

  std::string_view text_;
  std::string file_;
  const ParseOptions& options_;
  const LoadLimits& limits_;
  size_t i_ = 0;
  std::unique_ptr<Module> m_;
  Func* func_ = nullptr;
  std::unordered_set<std::string> symbols_;
  std::unordered_set<std::string> func_names_;
  std::vector<std::pair<size_t, int>> loc_uses_;
  std::map<std::string, SafetensorsFile> sidecars_;
  uint64_t attr_elements_ = 0, nodes_ = 0, values_ = 0, loaded_ = 0;
};

}  // namespace

Result<std::unique_ptr<Module>> parse_core(std::string_view text, std::string file,
                                           const ParseOptions& options) {
  return Parser(text, std::move(file), options).run();
}

Result<std::unique_ptr<Module>> read_core(const std::string& path, const LoadLimits& limits) {
  GC_TRY(const std::string text, read_file(path, limits.max_graph_bytes));
  ParseOptions options;
  options.limits = limits;
  const size_t slash = path.rfind('/');
  options.directory = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  return parse_core(text, path, options);
}

bool is_core_text(std::string_view text) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
    if (line.empty() || line.front() == '#' || line.front() == '\r') continue;
    if (!line.starts_with("graphc")) return false;
    line = line.substr(
        6, line.find('#') == std::string_view::npos ? std::string_view::npos : line.find('#') - 6);
    const size_t word = line.find_first_not_of(" \t0123456789");
    return word != std::string_view::npos && line.substr(word).starts_with("core");
  }
  return false;
}

}  // namespace graphc
