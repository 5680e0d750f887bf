#include "runtime/base/npy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string_view>

namespace graphc {
namespace {

struct Descr {
  DType dtype;
  char kind;
  int size;
};
constexpr Descr kDescrs[] = {{DType::kBool, 'b', 1}, {DType::kI8, 'i', 1},   {DType::kI16, 'i', 2},
                             {DType::kI32, 'i', 4},  {DType::kI64, 'i', 8},  {DType::kU8, 'u', 1},
                             {DType::kU16, 'u', 2},  {DType::kU32, 'u', 4},  {DType::kU64, 'u', 8},
                             {DType::kF16, 'f', 2},  {DType::kBF16, 'V', 2}, {DType::kF32, 'f', 4},
                             {DType::kF64, 'f', 8}};

// The header is a Python dict literal with three keys in any order; this reads exactly that.
struct HeaderParser {
  std::string_view s;
  size_t i = 0;
  std::string descr;
  bool fortran = false;
  std::vector<int64_t> shape;
  bool have_descr = false, have_order = false, have_shape = false;

  void skip() {
    while (i < s.size() && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t')) ++i;
  }
  bool eat(char c) {
    skip();
    if (i >= s.size() || s[i] != c) return false;
    ++i;
    return true;
  }
  bool word(std::string_view w) {
    skip();
    if (s.substr(i, w.size()) != w) return false;
    i += w.size();
    return true;
  }
  bool string(std::string* out) {
    skip();
    if (i >= s.size() || (s[i] != '\'' && s[i] != '"')) return false;
    const char q = s[i++];
    const size_t end = s.find(q, i);
    if (end == std::string_view::npos || end - i > 64) return false;
    *out = s.substr(i, end - i);
    i = end + 1;
    return true;
  }
  bool integer(int64_t* out) {
    skip();
    size_t digits = 0;
    int64_t v = 0;
    while (i < s.size() && s[i] >= '0' && s[i] <= '9') {
      if (++digits > 18) return false;
      v = v * 10 + (s[i++] - '0');
    }
    if (digits == 0) return false;
    eat('L');  // Python 2 wrote long integers so
    *out = v;
    return true;
  }
  bool tuple() {
    if (!eat('(')) return false;
    while (!eat(')')) {
      int64_t v;
      if (shape.size() >= 64 || !integer(&v)) return false;
      shape.push_back(v);
      if (!eat(',')) return eat(')');
    }
    return true;
  }
  bool parse() {
    if (!eat('{')) return false;
    while (!eat('}')) {
      std::string key;
      if (!string(&key) || !eat(':')) return false;
      if (key == "descr" && !have_descr) {
        if (!string(&descr)) return false;
        have_descr = true;
      } else if (key == "fortran_order" && !have_order) {
        if (word("True"))
          fortran = true;
        else if (!word("False"))
          return false;
        have_order = true;
      } else if (key == "shape" && !have_shape) {
        if (!tuple()) return false;
        have_shape = true;
      } else {
        return false;
      }
      if (!eat(',') && !eat('}'))
        return false;
      else if (s[i - 1] == '}')
        break;
    }
    skip();
    return i == s.size() && have_descr && have_order && have_shape;
  }
};

}  // namespace

Result<TensorData> parse_npy(Bytes bytes, const std::string& name, const LoadLimits& limits) {
  const auto bad = [&](std::string why) {
    return invalid(fmt::format("'{}' is not a valid .npy file: {}", name, why));
  };
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (all.substr(0, 6) != "\x93NUMPY") return bad("it doesn't start with \\x93NUMPY");
  if (all.size() < 12) return bad("it is cut off in the header");
  const int major = static_cast<uint8_t>(all[6]);
  if (major < 1 || major > 3) return bad(fmt::format("format version {} is unknown", major));
  const int width = major == 1 ? 2 : 4;
  uint64_t header_size = 0;
  for (int i = 0; i < width; ++i) header_size |= uint64_t{static_cast<uint8_t>(all[8 + i])} << (8 * i);
  if (header_size > limits.max_string_bytes)
    return bad(fmt::format("its header of {} bytes is too large", header_size));
  if (all.size() < 8 + width + header_size) return bad("it is cut off in the header");
  HeaderParser h{.s = all.substr(8 + width, header_size)};
  if (!h.parse()) return bad("its header is malformed");
  const char order = h.descr.empty() ? '?' : h.descr[0];
  const Descr* d = nullptr;
  for (const Descr& c : kDescrs)
    if (h.descr.substr(h.descr.empty() ? 0 : 1) == fmt::format("{}{}", c.kind, c.size)) d = &c;
  if (!d || (order != '<' && order != '>' && order != '|' && order != '='))
    return bad(fmt::format("element type '{}' is not supported", h.descr));
  const auto total = checked_bytes(d->dtype, h.shape, limits);
  if (!total.ok()) return bad(total.error().message);
  const uint64_t payload = all.size() - 8 - width - header_size;
  if (payload != *total)
    return bad(fmt::format("{} bytes of data where its shape needs {}", payload, *total));
  if (*total > limits.max_memory_bytes)
    return bad(fmt::format("{} bytes are above the memory limit", *total));
  TensorData t{d->dtype, h.shape, {}};
  const std::byte* src = bytes.data() + 8 + width + header_size;
  t.data.resize(*total);
  const size_t size = dtype_size(d->dtype), n = *total / size;
  if (n > 0 && (!h.fortran || h.shape.size() < 2)) {
    std::memcpy(t.data.data(), src, *total);
  } else if (n > 0) {
    // Walk the destination in row-major order; the source's strides grow from the first axis on.
    const size_t rank = h.shape.size();
    std::vector<uint64_t> stride(rank, 1), index(rank, 0);
    for (size_t a = 1; a < rank; ++a) stride[a] = stride[a - 1] * static_cast<uint64_t>(h.shape[a - 1]);
    for (size_t i = 0; i < n; ++i) {
      uint64_t at = 0;
      for (size_t a = 0; a < rank; ++a) at += index[a] * stride[a];
      std::memcpy(t.data.data() + i * size, src + at * size, size);
      for (size_t a = rank; a-- > 0;) {
        if (++index[a] < static_cast<uint64_t>(h.shape[a])) break;
        index[a] = 0;
      }
    }
  }
  if (order == '>' && size > 1)
    for (size_t i = 0; i < n; ++i) std::reverse(t.data.begin() + i * size, t.data.begin() + (i + 1) * size);
  if (d->dtype == DType::kBool)
    for (std::byte& b : t.data) b = b == std::byte{0} ? std::byte{0} : std::byte{1};
  return t;
}

Result<TensorData> read_npy(const std::string& path, const LoadLimits& limits) {
  GC_TRY(const MappedFile f, MappedFile::open(path));
  return parse_npy(f.bytes(), path, limits);
}

std::string format_npy(DType dtype, std::span<const int64_t> shape, Bytes data) {
  std::vector<float> widened;
  if (dtype == DType::kBF16) {
    widened.resize(data.size() / 2);
    for (size_t i = 0; i < widened.size(); ++i) {
      uint16_t h;  // by bits, so that a signalling NaN stays one
      std::memcpy(&h, data.data() + 2 * i, 2);
      const float f = bf16_to_f32(h);
      std::memcpy(&widened[i], &f, 4);
    }
    dtype = DType::kF32;
    data = std::as_bytes(std::span(widened));
  }
  const Descr& d =
      *std::find_if(std::begin(kDescrs), std::end(kDescrs), [&](const Descr& c) { return c.dtype == dtype; });
  std::string dims;
  for (const int64_t v : shape) dims += fmt::format("{}, ", v);
  if (shape.size() > 1) dims.resize(dims.size() - 2);
  if (shape.size() == 1) dims.resize(dims.size() - 1);
  std::string header = fmt::format("{{'descr': '{}{}{}', 'fortran_order': False, 'shape': ({}), }}",
                                   d.size == 1 ? '|' : '<', d.kind, d.size, dims);
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(header.size() & 0xff);
  out += static_cast<char>(header.size() >> 8);
  out += header;
  out.append(reinterpret_cast<const char*>(data.data()), data.size());
  return out;
}

Status write_npy(const std::string& path, const TensorData& t) {
  return atomic_write(path, format_npy(t.dtype, t.shape, t.data));
}

}  // namespace graphc
