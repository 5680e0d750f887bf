#include "runtime/base/init.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <initializer_list>

#include "runtime/base/hash.h"
#include "runtime/base/limits.h"
#include "runtime/base/philox.h"
#include "runtime/base/thread_pool.h"

namespace graphc {
namespace {

struct AttrDef {
  const char* name;
  double value;
  bool required = false;
};
struct InitDef {
  const char* name;
  std::vector<AttrDef> attrs;
  int min_rank;
  bool floats_only;
};

const std::vector<InitDef>& defs() {
  static const std::vector<InitDef> all = {
      {"zeros", {}, 0, false},
      {"ones", {}, 0, false},
      {"constant", {{"value", 0, true}}, 0, false},
      {"uniform", {{"lo", 0, true}, {"hi", 1, true}}, 0, true},
      {"normal", {{"std", 1}, {"mean", 0}}, 0, true},
      {"trunc_normal", {{"std", 1}, {"mean", 0}, {"a", -2}, {"b", 2}}, 0, true},
      {"kaiming_uniform", {{"a", 0}}, 2, true},
      {"kaiming_normal", {{"a", 0}}, 2, true},
      {"xavier_uniform", {{"gain", 1}}, 2, true},
      {"xavier_normal", {{"gain", 1}}, 2, true},
      {"orthogonal", {{"gain", 1}}, 2, true},
      {"eye", {}, 2, false},
  };
  return all;
}

const InitDef* find_def(std::string_view name) {
  for (const InitDef& d : defs())
    if (name == d.name) return &d;
  return nullptr;
}

double attr(const InitSpec& spec, std::string_view name) {
  for (const auto& [k, v] : spec.attrs)
    if (k == name) return v;
  for (const AttrDef& a : find_def(spec.name)->attrs)
    if (name == a.name) return a.value;
  return 0;
}

struct Fans {
  double in, out;
};
Fans fans(std::span<const int64_t> shape) {
  double field = 1;
  for (size_t i = 2; i < shape.size(); ++i) field *= static_cast<double>(shape[i]);
  return {static_cast<double>(shape[1]) * field, static_cast<double>(shape[0]) * field};
}

struct Stream {
  uint32_t k0, k1, s0, s1;
  PhiloxBlock block(uint64_t i, uint32_t attempt = 0) const {
    // attempts lie on streams far from each other; s1 is a hash, so they meet no other parameter's but by
    // chance
    return philox4x32_10(
        {static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), s0, s1 + attempt * 0x9E3779B9u}, {k0, k1});
  }
};

double unit(uint32_t w) { return (static_cast<double>(w) + 0.5) * 0x1p-32; }  // (0, 1)

// Box-Muller: two words, two independent normals.
void normal_pair(uint32_t w0, uint32_t w1, double* z0, double* z1) {
  const double r = std::sqrt(-2.0 * init_log(unit(w0)));
  double s, c;
  init_sincos_turns(static_cast<double>(w1) * 0x1p-32, &s, &c);
  *z0 = r * c;
  *z1 = r * s;
}

// fn(i0, values[4]) is asked for elements 4j..4j+3 at a time.
template <class F>
void fill_by_fours(DType dtype, uint64_t n, void* out, ThreadPool* pool, F&& four) {
  const auto body = [&](int64_t b, int64_t e) {
    for (int64_t j = b; j < e; ++j) {
      double v[4];
      four(static_cast<uint64_t>(j), v);
      const uint64_t first = 4 * static_cast<uint64_t>(j), count = std::min<uint64_t>(4, n - first);
      for (uint64_t i = 0; i < count; ++i) store_from_double(dtype, out, first + i, v[i]);
    }
  };
  const int64_t groups = static_cast<int64_t>((n + 3) / 4);
  if (pool)
    pool->parallel_for(groups, 4096, body);
  else
    body(0, groups);
}

void fill_uniform(const Stream& s, DType dtype, uint64_t n, double lo, double hi, void* out,
                  ThreadPool* pool) {
  fill_by_fours(dtype, n, out, pool, [&](uint64_t j, double* v) {
    const PhiloxBlock w = s.block(j);
    for (int i = 0; i < 4; ++i) v[i] = lo + (hi - lo) * static_cast<double>(philox_uniform(w[i]));
  });
}

void fill_normal(const Stream& s, DType dtype, uint64_t n, double mean, double std, void* out,
                 ThreadPool* pool) {
  fill_by_fours(dtype, n, out, pool, [&](uint64_t j, double* v) {
    const PhiloxBlock w = s.block(j);
    normal_pair(w[0], w[1], &v[0], &v[1]);
    normal_pair(w[2], w[3], &v[2], &v[3]);
    for (int i = 0; i < 4; ++i) v[i] = mean + std * v[i];
  });
}

// Rejection; the proposal is the normal itself where [a, b] is wide for it, else the uniform distribution on
// [a, b].
double truncated(const Stream& s, uint64_t i, double mean, double std, double a, double b) {
  const double peak = std::clamp(mean, a, b);
  const double top = -(peak - mean) * (peak - mean) / (2 * std * std);
  const bool wide = b - a > 2 * std && a < mean && mean < b;
  for (uint32_t t = 0; t < 100000; ++t) {
    const PhiloxBlock w = s.block(i, t);
    if (wide) {
      double z[4];
      normal_pair(w[0], w[1], &z[0], &z[1]);
      normal_pair(w[2], w[3], &z[2], &z[3]);
      for (const double v : z)
        if (const double x = mean + std * v; x >= a && x <= b) return x;
    } else {
      for (int k = 0; k < 4; k += 2) {
        const double x = a + (b - a) * unit(w[k]);
        if (init_log(unit(w[k + 1])) <= -(x - mean) * (x - mean) / (2 * std * std) - top) return x;
      }
    }
  }
  return peak;  // [a, b] lies so far out that the mass sits at its nearer end
}

// Gram-Schmidt, twice for orthogonality to rounding, over the shorter side: as QR with a positive diagonal.
void fill_orthogonal(const Stream& s, DType dtype, int64_t rows, int64_t cols, double gain, void* out) {
  const bool wide = cols >= rows;
  const int64_t count = wide ? rows : cols, length = wide ? cols : rows;
  std::vector<double> m(static_cast<size_t>(count) * static_cast<size_t>(length));
  for (size_t j = 0; 4 * j < m.size(); ++j) {
    const PhiloxBlock w = s.block(j);
    double v[4];
    normal_pair(w[0], w[1], &v[0], &v[1]);
    normal_pair(w[2], w[3], &v[2], &v[3]);
    for (size_t i = 0; i < 4 && 4 * j + i < m.size(); ++i) m[4 * j + i] = v[i];
  }
  for (int64_t r = 0; r < count; ++r) {
    double* v = &m[r * length];
    for (int pass = 0; pass < 2; ++pass)
      for (int64_t q = 0; q < r; ++q) {
        const double* u = &m[q * length];
        double dot = 0;
        for (int64_t i = 0; i < length; ++i) dot += u[i] * v[i];
        for (int64_t i = 0; i < length; ++i) v[i] -= dot * u[i];
      }
    double norm = 0;
    for (int64_t i = 0; i < length; ++i) norm += v[i] * v[i];
    norm = std::sqrt(norm);
    for (int64_t i = 0; i < length; ++i) v[i] /= norm;
  }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      store_from_double(dtype, out, r * cols + c, gain * (wide ? m[r * length + c] : m[c * length + r]));
}

}  // namespace

double init_log(double x) {
  uint64_t bits = std::bit_cast<uint64_t>(x);
  int e = static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000fffffffffffff) | 0x3ff0000000000000);
  if (m > 1.4142135623730951) m *= 0.5, ++e;
  // log m = 2 atanh((m-1)/(m+1)); |s| <= 0.1716, so the 12th term is below 2^-60
  const double s = (m - 1) / (m + 1), s2 = s * s;
  double p = 0;
  for (int k = 25; k >= 1; k -= 2) p = p * s2 + 1.0 / k;
  return e * 0.6931471805599453 + 2 * s * p;
}

void init_sincos_turns(double turns, double* sin, double* cos) {
  const int quarter = static_cast<int>(turns * 4 + 0.5);
  const double r = (turns - quarter * 0.25) * 6.283185307179586;  // |r| <= pi/4, the difference is exact
  const double r2 = r * r;
  double s = 0, c = 0;
  // Taylor to r^17 and r^18: the rest is below 2^-60
  constexpr double kSin[] = {1.0 / 355687428096000.0,
                             -1.0 / 1307674368000.0,
                             1.0 / 6227020800.0,
                             -1.0 / 39916800.0,
                             1.0 / 362880.0,
                             -1.0 / 5040.0,
                             1.0 / 120.0,
                             -1.0 / 6.0,
                             1.0};
  constexpr double kCos[] = {-1.0 / 6402373705728000.0,
                             1.0 / 20922789888000.0,
                             -1.0 / 87178291200.0,
                             1.0 / 479001600.0,
                             -1.0 / 3628800.0,
                             1.0 / 40320.0,
                             -1.0 / 720.0,
                             1.0 / 24.0,
                             -1.0 / 2.0,
                             1.0};
  for (const double k : kSin) s = s * r2 + k;
  for (const double k : kCos) c = c * r2 + k;
  s *= r;
  switch (quarter & 3) {
    case 0: *sin = s, *cos = c; break;
    case 1: *sin = c, *cos = -s; break;
    case 2: *sin = -s, *cos = -c; break;
    default: *sin = -c, *cos = s; break;
  }
}

Status check_init(const InitSpec& spec, DType dtype, std::span<const int64_t> shape) {
  const InitDef* d = find_def(spec.name);
  if (!d) {
    std::string known;
    for (const InitDef& k : defs()) known += fmt::format("{}{}", known.empty() ? "" : ", ", k.name);
    return invalid(fmt::format("unknown initialiser '{}'; there are {}", spec.name, known));
  }
  for (const auto& [k, v] : spec.attrs) {
    if (std::none_of(d->attrs.begin(), d->attrs.end(),
                     [&, key = std::string_view(k)](const AttrDef& a) { return key == a.name; }))
      return invalid(fmt::format("initialiser '{}' has no setting '{}'", spec.name, k));
    if (!std::isfinite(v) && spec.name != "constant")
      return invalid(fmt::format("initialiser '{}': {} must be finite", spec.name, k));
  }
  for (const AttrDef& a : d->attrs)
    if (a.required && std::none_of(spec.attrs.begin(), spec.attrs.end(),
                                   [&](const auto& kv) { return kv.first == a.name; }))
      return invalid(fmt::format("initialiser '{}' needs '{}'", spec.name, a.name));
  GC_CHECK([&]() -> Status {
    const auto n = checked_bytes(dtype, shape);
    if (!n.ok()) return n.error();
    return {};
  }());
  if (d->floats_only && !is_float(dtype))
    return invalid(
        fmt::format("initialiser '{}' makes floats, the parameter is {}", spec.name, dtype_name(dtype)));
  if (static_cast<int>(shape.size()) < d->min_rank)
    return invalid(fmt::format(
        "initialiser '{}' needs a shape of rank {} or more ({}), the parameter has rank {}", spec.name,
        d->min_rank, spec.name == "eye" ? "a matrix" : "to know its fans", shape.size()));
  if (spec.name == "eye" && shape.size() != 2)
    return invalid(fmt::format("initialiser 'eye' needs a matrix, the parameter has rank {}", shape.size()));
  if ((spec.name == "normal" || spec.name == "trunc_normal") && attr(spec, "std") < 0)
    return invalid(fmt::format("initialiser '{}': std is negative", spec.name));
  if (spec.name == "trunc_normal" && !(attr(spec, "a") < attr(spec, "b")))
    return invalid("initialiser 'trunc_normal': a must be below b");
  if (spec.name == "uniform" && !(attr(spec, "lo") <= attr(spec, "hi")))
    return invalid("initialiser 'uniform': lo is above hi");
  return {};
}

Status initialise(const InitSpec& spec, DType dtype, std::span<const int64_t> shape, uint64_t seed,
                  std::string_view path, void* out, ThreadPool* pool) {
  if (Status s = check_init(spec, dtype, shape); !s.ok()) {
    Error e = s.error();
    e.message = fmt::format("parameter '{}': {}", path, e.message);
    return e;
  }
  GC_TRY(const uint64_t n, checked_numel(shape));
  if (n == 0) return {};
  const uint64_t h = hash64(path);
  const Stream s{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), static_cast<uint32_t>(h),
                 static_cast<uint32_t>(h >> 32)};
  const std::string_view name = spec.name;
  const auto constant = [&](double v) {
    if (v == 0 && !std::signbit(v)) {
      std::memset(out, 0, n * dtype_size(dtype));
      return;
    }
    for (uint64_t i = 0; i < n; ++i) store_from_double(dtype, out, i, v);
  };
  if (name == "zeros") {
    constant(0);
  } else if (name == "ones") {
    constant(1);
  } else if (name == "constant") {
    constant(attr(spec, "value"));
  } else if (name == "uniform") {
    fill_uniform(s, dtype, n, attr(spec, "lo"), attr(spec, "hi"), out, pool);
  } else if (name == "normal") {
    fill_normal(s, dtype, n, attr(spec, "mean"), attr(spec, "std"), out, pool);
  } else if (name == "trunc_normal") {
    const double std = attr(spec, "std"), mean = attr(spec, "mean"), a = attr(spec, "a"), b = attr(spec, "b");
    if (std == 0) {
      constant(std::clamp(mean, a, b));
    } else {
      const auto body = [&](int64_t lo, int64_t hi) {
        for (int64_t i = lo; i < hi; ++i) store_from_double(dtype, out, i, truncated(s, i, mean, std, a, b));
      };
      if (pool)
        pool->parallel_for(static_cast<int64_t>(n), 16384, body);
      else
        body(0, static_cast<int64_t>(n));
    }
  } else if (name == "kaiming_uniform" || name == "kaiming_normal") {
    const double a = attr(spec, "a"), std = std::sqrt(2.0 / (1.0 + a * a)) / std::sqrt(fans(shape).in);
    const double bound = std::sqrt(3.0) * std;
    if (name == "kaiming_uniform")
      fill_uniform(s, dtype, n, -bound, bound, out, pool);
    else
      fill_normal(s, dtype, n, 0, std, out, pool);
  } else if (name == "xavier_uniform" || name == "xavier_normal") {
    const Fans f = fans(shape);
    const double std = attr(spec, "gain") * std::sqrt(2.0 / (f.in + f.out)), bound = std::sqrt(3.0) * std;
    if (name == "xavier_uniform")
      fill_uniform(s, dtype, n, -bound, bound, out, pool);
    else
      fill_normal(s, dtype, n, 0, std, out, pool);
  } else if (name == "orthogonal") {
    fill_orthogonal(s, dtype, shape[0], static_cast<int64_t>(n) / shape[0], attr(spec, "gain"), out);
  } else if (name == "eye") {
    constant(0);
    for (int64_t i = 0; i < std::min(shape[0], shape[1]); ++i)
      store_from_double(dtype, out, i * shape[1] + i, 1);
  }
  return {};
}

}  // namespace graphc
