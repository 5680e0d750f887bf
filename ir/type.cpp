#include "ir/type.h"

#include <bit>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

namespace graphc {

Dim TensorType::num_elements() const {
  Dim n(1);
  for (const Dim& d : shape) n *= d;
  return n;
}

std::string shape_to_string(const Shape& shape) {
  std::string s = "[";
  for (size_t i = 0; i < shape.size(); ++i) s += (i ? ", " : "") + shape[i].to_string();
  return s + "]";
}

std::string TensorType::to_string() const {
  std::string s(dtype_name(dtype));
  return shape.empty() ? s : s + shape_to_string(shape);
}

std::optional<std::vector<int64_t>> static_shape(const Shape& shape) {
  std::vector<int64_t> out;
  for (const Dim& d : shape) {
    if (!d.is_constant()) return std::nullopt;
    out.push_back(d.constant());
  }
  return out;
}

Attr Attr::ints(const std::vector<int64_t>& v) { return Attr(List(v.begin(), v.end())); }
Attr Attr::dims(const Shape& v) { return Attr(List(v.begin(), v.end())); }
Attr Attr::floats(const std::vector<double>& v) { return Attr(List(v.begin(), v.end())); }

std::vector<int64_t> Attr::as_ints() const {
  std::vector<int64_t> out;
  for (const Attr& a : as_list()) out.push_back(a.as_int());
  return out;
}

Shape Attr::as_dims() const {
  Shape out;
  for (const Attr& a : as_list()) out.push_back(a.as_dim());
  return out;
}

std::vector<double> Attr::as_floats() const {
  std::vector<double> out;
  for (const Attr& a : as_list()) out.push_back(a.as_float());
  return out;
}

std::string Attr::to_string() const {
  if (is_bool()) return as_bool() ? "true" : "false";
  if (is_int()) return as_dim().to_string();
  if (is_float()) return float_to_string(as_float());
  if (is_dtype()) return std::string(dtype_name(as_dtype()));
  if (is_string()) {
    std::string s = "\"";
    for (char c : as_string()) {
      switch (c) {
        case '"': s += "\\\""; break;
        case '\\': s += "\\\\"; break;
        case '\n': s += "\\n"; break;
        case '\t': s += "\\t"; break;
        default:
          if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            s += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
          else
            s += c;
      }
    }
    return s + "\"";
  }
  std::string s = "[";
  const List& l = as_list();
  for (size_t i = 0; i < l.size(); ++i) s += (i ? ", " : "") + l[i].to_string();
  return s + "]";
}

bool operator==(const Attr& a, const Attr& b) {
  if (a.v_.index() != b.v_.index()) return false;
  if (a.is_float()) return std::bit_cast<uint64_t>(a.as_float()) == std::bit_cast<uint64_t>(b.as_float());
  return a.v_ == b.v_;
}

std::string float_to_string(double v) {
  if (!std::isfinite(v)) return fmt::format("0x{:016x}", std::bit_cast<uint64_t>(v));
  char buf[40];
  auto r = std::to_chars(buf, buf + sizeof buf, v);
  std::string s(buf, r.ptr);
  if (s.find_first_of(".e") == std::string::npos) s += ".0";
  return s;
}

}  // namespace graphc
