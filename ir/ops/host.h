// Index arithmetic of the reference's plain loops. Private to ir/ops and the interpreter.
#pragma once

#include <cstdint>
#include <vector>

namespace graphc {

inline int64_t product(const std::vector<int64_t>& v, size_t from = 0, size_t to = SIZE_MAX) {
  int64_t n = 1;
  for (size_t i = from; i < v.size() && i < to; ++i) n *= v[i];
  return n;
}

// Row-major strides in elements.
inline std::vector<int64_t> strides_of(const std::vector<int64_t>& shape) {
  std::vector<int64_t> s(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) s[i - 1] = s[i] * shape[i];
  return s;
}

// Strides with which a tensor of `shape` is read over `out`: 0 along broadcast axes.
inline std::vector<int64_t> broadcast_strides(const std::vector<int64_t>& shape,
                                              const std::vector<int64_t>& out) {
  std::vector<int64_t> own = strides_of(shape), s(out.size(), 0);
  size_t offset = out.size() - shape.size();
  for (size_t i = 0; i < shape.size(); ++i) s[offset + i] = shape[i] == 1 ? 0 : own[i];
  return s;
}

// Calls f(k, offset) for every element k of `shape` in row-major order, offset = base + sum index * stride.
template <class F>
void for_each_strided(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides, int64_t base,
                      F f) {
  int64_t n = product(shape);
  if (n == 0) return;
  size_t rank = shape.size();
  if (rank == 0) {
    f(int64_t{0}, base);
    return;
  }
  std::vector<int64_t> index(rank, 0);
  int64_t inner = shape[rank - 1], step = strides[rank - 1], offset = base;
  for (int64_t k = 0; k < n;) {
    for (int64_t j = 0; j < inner; ++j, ++k) f(k, offset + j * step);
    for (size_t a = rank - 1; a-- > 0;) {
      offset += strides[a];
      if (++index[a] < shape[a]) break;
      offset -= strides[a] * shape[a];
      index[a] = 0;
    }
  }
}

}  // namespace graphc
