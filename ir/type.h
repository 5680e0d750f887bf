// Tensor types and attributes: what values and ops are described with.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ir/dim.h"
#include "runtime/base/dtype.h"

namespace graphc {

using Shape = std::vector<Dim>;  // outermost first; rank 0 is a scalar; at most 8

struct TensorType {
  DType dtype = DType::kF32;
  Shape shape;
  int rank() const { return static_cast<int>(shape.size()); }
  Dim num_elements() const;
  std::string to_string() const;  // "f32[N, 10]", "i64" for a scalar
  friend bool operator==(const TensorType& a, const TensorType& b) {
    return a.dtype == b.dtype && a.shape == b.shape;
  }
};
std::string shape_to_string(const Shape& shape);  // "[N, 10]"
// The constant sizes, or nullopt if a dim is symbolic.
std::optional<std::vector<int64_t>> static_shape(const Shape& shape);

// One attribute of an op. Integers are Dims, so that a shape attribute may name symbols; a constant Dim is an
// ordinary integer.
class Attr {
 public:
  using List = std::vector<Attr>;
  Attr() : v_(Dim(0)) {}
  Attr(bool b) : v_(b) {}
  Attr(int i) : v_(Dim(i)) {}
  Attr(int64_t i) : v_(Dim(i)) {}
  Attr(Dim d) : v_(std::move(d)) {}
  Attr(double d) : v_(d) {}
  Attr(const char* s) : v_(std::string(s)) {}
  Attr(std::string_view s) : v_(std::string(s)) {}
  Attr(std::string s) : v_(std::move(s)) {}
  Attr(DType t) : v_(t) {}
  Attr(List l) : v_(std::move(l)) {}
  static Attr ints(const std::vector<int64_t>& v);
  static Attr dims(const Shape& v);
  static Attr floats(const std::vector<double>& v);

  bool is_bool() const { return std::holds_alternative<bool>(v_); }
  bool is_int() const { return std::holds_alternative<Dim>(v_); }
  bool is_float() const { return std::holds_alternative<double>(v_); }
  bool is_string() const { return std::holds_alternative<std::string>(v_); }
  bool is_dtype() const { return std::holds_alternative<DType>(v_); }
  bool is_list() const { return std::holds_alternative<List>(v_); }

  // Accessors abort on the wrong kind: an op's attributes have been checked against its record before anybody
  // reads them.
  bool as_bool() const { return std::get<bool>(v_); }
  const Dim& as_dim() const { return std::get<Dim>(v_); }
  int64_t as_int() const { return std::get<Dim>(v_).constant(); }
  double as_float() const { return std::get<double>(v_); }
  const std::string& as_string() const { return std::get<std::string>(v_); }
  DType as_dtype() const { return std::get<DType>(v_); }
  const List& as_list() const { return std::get<List>(v_); }
  std::vector<int64_t> as_ints() const;  // a list of constant integers
  Shape as_dims() const;                 // a list of integers, possibly symbolic
  std::vector<double> as_floats() const;

  std::string to_string() const;  // as core prints it: 3, 0.5, "tanh", true, f16, [1, 1]
  friend bool operator==(const Attr& a, const Attr& b);

 private:
  std::variant<bool, Dim, double, std::string, DType, List> v_;
};
using Attrs = std::map<std::string, Attr, std::less<>>;

// Shortest text that reads back as the same bits, always with a '.', an 'e' or as nan/inf by bits: "0.5",
// "1e-05", "0x7fc00000".
std::string float_to_string(double v);

}  // namespace graphc
