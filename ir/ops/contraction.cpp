// Contractions: dot_general, and convolution in its three directions.
#include <algorithm>
#include <array>

#include "ir/ops/common.h"
#include "ir/ops/host.h"

namespace graphc {
namespace {

// --- dot_general ---

Result<std::vector<int64_t>> axis_list(InferContext& c, std::string_view name, int operand) {
  GC_TRY(std::vector<int64_t> axes, constant_ints(c, name));
  int rank = c.operand(operand).rank();
  for (int64_t& a : axes) {
    if (a < -rank || a >= rank)
      return call_error(c, "{} names axis {}, but operand {} has rank {}", name, a, operand, rank);
    if (a < 0) a += rank;
  }
  c.attrs.find(name)->second = Attr::ints(axes);
  return axes;
}

Status check_disjoint(const InferContext& c, std::vector<int64_t> axes, const std::vector<int64_t>& more,
                      char side) {
  axes.insert(axes.end(), more.begin(), more.end());
  std::sort(axes.begin(), axes.end());
  if (auto twice = std::adjacent_find(axes.begin(), axes.end()); twice != axes.end())
    return call_error(c, "{0}_batch and {0}_contract name axis {1} twice", side, *twice);
  return ok_status();
}

std::vector<int64_t> free_axes(int rank, std::vector<int64_t> batch, const std::vector<int64_t>& contract) {
  batch.insert(batch.end(), contract.begin(), contract.end());
  return other_axes(rank, batch);
}

Inferred infer_dot_general(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  GC_TRY(auto ab, axis_list(c, "a_batch", 0));
  GC_TRY(auto ac, axis_list(c, "a_contract", 0));
  GC_TRY(auto bb, axis_list(c, "b_batch", 1));
  GC_TRY(auto bc, axis_list(c, "b_contract", 1));
  if (ab.size() != bb.size() || ac.size() != bc.size())
    return call_error(
        c, "a and b must list as many batch axes ({} and {}) and as many contracted ones ({} and {})",
        ab.size(), bb.size(), ac.size(), bc.size());
  GC_CHECK(check_disjoint(c, ab, ac, 'a'));
  GC_CHECK(check_disjoint(c, bb, bc, 'b'));
  const Shape &a = c.operand(0).shape, &b = c.operand(1).shape;
  Shape out;
  for (size_t i = 0; i < ab.size(); ++i) {
    if (a[ab[i]] != b[bb[i]])
      return call_error(c, "batch axes {} of a and {} of b have sizes {} and {}", ab[i], bb[i],
                        a[ab[i]].to_string(), b[bb[i]].to_string());
    out.push_back(a[ab[i]]);
  }
  for (size_t i = 0; i < ac.size(); ++i)
    if (a[ac[i]] != b[bc[i]])
      return call_error(c, "contracted axes {} of a and {} of b have sizes {} and {}", ac[i], bc[i],
                        a[ac[i]].to_string(), b[bc[i]].to_string());
  for (int64_t i : free_axes(c.operand(0).rank(), ab, ac)) out.push_back(a[i]);
  for (int64_t i : free_axes(c.operand(1).rank(), bb, bc)) out.push_back(b[i]);
  return std::vector<TensorType>{{c.operand(0).dtype, out}};
}

// x's elements in the order of `axes`.
template <class T>
std::vector<T> arranged(const std::vector<T>& x, const std::vector<int64_t>& shape,
                        const std::vector<int64_t>& axes) {
  auto own = strides_of(shape);
  std::vector<int64_t> to, strides;
  for (int64_t a : axes) to.push_back(shape[a]), strides.push_back(own[a]);
  std::vector<T> out(x.size());
  for_each_strided(to, strides, 0, [&](int64_t k, int64_t at) { out[k] = x[at]; });
  return out;
}

template <class T, class Wrap>
void matrix_products(const std::vector<T>& a, const std::vector<T>& b, std::vector<T>& y, int64_t batch,
                     int64_t m, int64_t n, int64_t k, Wrap wrap) {
  for (int64_t g = 0; g < batch; ++g)
    for (int64_t i = 0; i < m; ++i) {
      T* row = y.data() + (g * m + i) * n;
      const T* x = a.data() + (g * m + i) * k;
      for (int64_t p = 0; p < k; ++p) {
        const T v = x[p];
        const T* w = b.data() + (g * k + p) * n;
        for (int64_t j = 0; j < n; ++j) row[j] = wrap(row[j], v, w[j]);
      }
    }
}

Status eval_dot_general(EvalContext& e) {
  const HostTensor &a = e.operand(0), &b = e.operand(1);
  HostTensor& y = e.results[0];
  auto ab = e.call.attr("a_batch").as_ints(), bb = e.call.attr("b_batch").as_ints();
  auto ac = e.call.attr("a_contract").as_ints(), bc = e.call.attr("b_contract").as_ints();
  auto af = free_axes(a.rank(), ab, ac), bf = free_axes(b.rank(), bb, bc);
  auto extent = [](const HostTensor& t, const std::vector<int64_t>& axes) {
    int64_t n = 1;
    for (int64_t i : axes) n *= t.shape[i];
    return n;
  };
  int64_t batch = extent(a, ab), m = extent(a, af), n = extent(b, bf), k = extent(a, ac);
  std::vector<int64_t> a_order = ab, b_order = bb;  // [batch, m, k] and [batch, k, n]
  a_order.insert(a_order.end(), af.begin(), af.end());
  a_order.insert(a_order.end(), ac.begin(), ac.end());
  b_order.insert(b_order.end(), bc.begin(), bc.end());
  b_order.insert(b_order.end(), bf.begin(), bf.end());
  if (is_float(a.dtype)) {
    matrix_products(arranged(a.f, a.shape, a_order), arranged(b.f, b.shape, b_order), y.f, batch, m, n, k,
                    [](double s, double v, double w) { return s + v * w; });
  } else {
    matrix_products(arranged(a.i, a.shape, a_order), arranged(b.i, b.shape, b_order), y.i, batch, m, n, k,
                    [&](int64_t s, int64_t v, int64_t w) {
                      return wrap_int(y.dtype, static_cast<int64_t>(uint64_t(s) + uint64_t(v) * uint64_t(w)));
                    });
  }
  return ok_status();
}

// d a: contract dy's part of b's free axes with b's; the result has batch, a's free axes, and a's contracted
// axes in the order in which b has theirs. (swap: the same for d b.)
Value* dot_operand_grad(Builder& b, Value* dy, Value* other, int rank, const std::vector<int64_t>& batch,
                        const std::vector<int64_t>& contract, const std::vector<int64_t>& other_batch,
                        const std::vector<int64_t>& other_contract, bool first) {
  auto free = free_axes(rank, batch, contract);
  auto other_free = free_axes(other->type.rank(), other_batch, other_contract);
  int64_t nb = static_cast<int64_t>(batch.size()), nf = static_cast<int64_t>(free.size());
  int64_t no = static_cast<int64_t>(other_free.size());
  std::vector<int64_t> dy_contract;
  for (int64_t i = 0; i < no; ++i) dy_contract.push_back(first ? nb + nf + i : nb + i);
  Value* d = b.dot_general(dy, other, all_axes(static_cast<int>(nb)), other_batch, dy_contract, other_free);
  std::vector<int64_t> sorted = other_contract;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> perm(rank);
  for (int64_t i = 0; i < nb; ++i) perm[batch[i]] = i;
  for (int64_t i = 0; i < nf; ++i) perm[free[i]] = nb + i;
  for (size_t i = 0; i < contract.size(); ++i)
    perm[contract[i]] =
        nb + nf + (std::find(sorted.begin(), sorted.end(), other_contract[i]) - sorted.begin());
  return b.transpose(d, perm);
}

std::vector<Value*> dot_general_grad(Builder& b, const GradCall& c) {
  auto ab = c.attr("a_batch").as_ints(), bb = c.attr("b_batch").as_ints();
  auto ac = c.attr("a_contract").as_ints(), bc = c.attr("b_contract").as_ints();
  Value *x = c.operand(0), *w = c.operand(1), *dy = c.cotangent();
  return {dot_operand_grad(b, dy, w, x->type.rank(), ab, ac, bb, bc, true),
          dot_operand_grad(b, dy, x, w->type.rank(), bb, bc, ab, ac, false)};
}

// --- convolution ---

struct ConvAttrs {
  std::vector<int64_t> stride, pad, dilation;
  int64_t groups = 1;
};

Result<ConvAttrs> conv_attrs(InferContext& c, int spatial) {
  ConvAttrs a;
  GC_TRY(a.stride, canonical_repeated(c, "stride", spatial, 1));
  GC_TRY(a.pad, canonical_pads(c, "pad", spatial));
  GC_TRY(a.dilation, canonical_repeated(c, "dilation", spatial, 1));
  const Attr& g = c.attrs.find("groups")->second;
  if (!g.as_dim().is_constant() || g.as_int() < 1)
    return call_error(c, "groups={} must be at least 1", g.to_string());
  a.groups = g.as_int();
  return a;
}

// The result shape of convolving x with w.
Result<Shape> conv_shape(InferContext& c, const Shape& x, const Shape& w) {
  int spatial = static_cast<int>(x.size()) - 2;
  if (spatial < 1 || spatial > 3 || w.size() != x.size())
    return call_error(
        c, "x must be [N, C, ..] and w [O, C/groups, ..] with the same 1 to 3 spatial axes; got {} and {}",
        shape_to_string(x), shape_to_string(w));
  GC_TRY(ConvAttrs a, conv_attrs(c, spatial));
  if (x[1] != w[1] * Dim(a.groups))
    return call_error(c, "x has {} channels, but w{} asks for {}{}", x[1].to_string(), shape_to_string(w),
                      (w[1] * Dim(a.groups)).to_string(),
                      a.groups > 1 ? fmt::format(" ({} groups of {})", a.groups, w[1].to_string()) : "");
  if (w[0].is_constant() && w[0].constant() % a.groups)
    return call_error(c, "{} output channels don't divide into {} groups", w[0].to_string(), a.groups);
  Shape y = {x[0], w[0]};
  for (int i = 0; i < spatial; ++i) {
    if (!w[2 + i].is_constant() || w[2 + i].constant() < 1)
      return call_error(c, "the kernel's size {} along axis {} must be a constant of at least 1",
                        w[2 + i].to_string(), 2 + i);
    GC_TRY(Dim n, window_extent(c, 2 + i, x[2 + i], w[2 + i].constant(), a.stride[i], a.pad[2 * i],
                                a.pad[2 * i + 1], a.dilation[i]));
    y.push_back(n);
  }
  return y;
}

Inferred infer_convolution(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  GC_TRY(Shape y, conv_shape(c, c.operand(0).shape, c.operand(1).shape));
  return std::vector<TensorType>{{c.operand(0).dtype, y}};
}

Inferred infer_input_grad(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  Shape x = c.attrs.find("shape")->second.as_dims();
  GC_TRY(Shape y, conv_shape(c, x, c.operand(1).shape));
  if (y != c.operand(0).shape)
    return call_error(c, "dy must have the convolution's shape {}", shape_to_string(y));
  return std::vector<TensorType>{{c.operand(0).dtype, x}};
}

Inferred infer_weight_grad(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  Shape w = c.attrs.find("shape")->second.as_dims();
  GC_TRY(Shape y, conv_shape(c, c.operand(0).shape, w));
  if (y != c.operand(1).shape)
    return call_error(c, "dy must have the convolution's shape {}", shape_to_string(y));
  return std::vector<TensorType>{{c.operand(0).dtype, w}};
}

// The three directions visit the same (x, w, y) triples: for each, row by row of the last axis,
// f(x offset, x step, w offset, y offset, count). Lower ranks get leading axes of size 1.
struct ConvLoops {
  std::array<int64_t, 5> x{}, w{}, y{};
  std::array<int64_t, 3> stride{1, 1, 1}, lo{0, 0, 0}, dilation{1, 1, 1};
  int64_t groups = 1;

  ConvLoops(const Call& call, const std::vector<int64_t>& xs, const std::vector<int64_t>& ws,
            const std::vector<int64_t>& ys) {
    auto widen = [](const std::vector<int64_t>& s) {
      std::array<int64_t, 5> r{s[0], s[1], 1, 1, 1};
      std::copy(s.begin() + 2, s.end(), r.begin() + 5 - (s.size() - 2));
      return r;
    };
    x = widen(xs), w = widen(ws), y = widen(ys);
    auto st = call.attr("stride").as_ints(), p = call.attr("pad").as_ints(),
         d = call.attr("dilation").as_ints();
    for (size_t i = 0, at = 3 - st.size(); i < st.size(); ++i, ++at)
      stride[at] = st[i], lo[at] = p[2 * i], dilation[at] = d[i];
    groups = call.attr("groups").as_int();
  }

  // Output positions whose tap `t` of axis a falls inside the input.
  std::pair<int64_t, int64_t> range(int a, int64_t t) const {
    int64_t shift = t * dilation[a] - lo[a];  // input index = output * stride + shift
    int64_t first = shift >= 0 ? 0 : (-shift + stride[a] - 1) / stride[a];
    int64_t last = x[2 + a] - 1 - shift;
    last = last < 0 ? -1 : std::min(y[2 + a] - 1, last / stride[a]);
    return {first, last + 1};
  }

  template <class F>
  void run(F f) const {
    int64_t co = w[0] / groups, ci = w[1], xp = x[2] * x[3] * x[4], yp = y[2] * y[3] * y[4],
            wp = w[2] * w[3] * w[4];
    for (int64_t n = 0; n < y[0]; ++n)
      for (int64_t o = 0; o < w[0]; ++o)
        for (int64_t c = 0; c < ci; ++c) {
          int64_t x0 = (n * x[1] + o / co * ci + c) * xp, y0 = (n * w[0] + o) * yp, w0 = (o * ci + c) * wp;
          for (int64_t a = 0; a < w[2]; ++a)
            for (int64_t b = 0; b < w[3]; ++b)
              for (int64_t k = 0; k < w[4]; ++k) {
                auto [da, ea] = range(0, a);
                auto [db, eb] = range(1, b);
                auto [dk, ek] = range(2, k);
                int64_t wi = w0 + (a * w[3] + b) * w[4] + k;
                if (ek <= dk) continue;
                for (int64_t i = da; i < ea; ++i)
                  for (int64_t j = db; j < eb; ++j) {
                    int64_t xi = i * stride[0] + a * dilation[0] - lo[0],
                            xj = j * stride[1] + b * dilation[1] - lo[1];
                    f(x0 + (xi * x[3] + xj) * x[4] + dk * stride[2] + k * dilation[2] - lo[2], stride[2], wi,
                      y0 + (i * y[3] + j) * y[4] + dk, ek - dk);
                  }
              }
        }
  }
};

Status eval_convolution(EvalContext& e) {
  const HostTensor &x = e.operand(0), &w = e.operand(1);
  HostTensor& y = e.results[0];
  ConvLoops(e.call, x.shape, w.shape, y.shape)
      .run([px = x.f.data(), pw = w.f.data(), py = y.f.data()](int64_t xo, int64_t step, int64_t wo,
                                                               int64_t yo, int64_t n) {
        const double v = pw[wo];
        const double* from = px + xo;
        double* to = py + yo;
        if (step == 1)
          for (int64_t i = 0; i < n; ++i) to[i] += v * from[i];
        else
          for (int64_t i = 0; i < n; ++i) to[i] += v * from[i * step];
      });
  return ok_status();
}

Status eval_input_grad(EvalContext& e) {
  const HostTensor &dy = e.operand(0), &w = e.operand(1);
  HostTensor& dx = e.results[0];
  ConvLoops(e.call, dx.shape, w.shape, dy.shape)
      .run([&](int64_t xo, int64_t step, int64_t wo, int64_t yo, int64_t n) {
        const double v = w.f[wo];
        const double* from = dy.f.data() + yo;
        double* to = dx.f.data() + xo;
        for (int64_t i = 0; i < n; ++i) to[i * step] += v * from[i];
      });
  return ok_status();
}

Status eval_weight_grad(EvalContext& e) {
  const HostTensor &x = e.operand(0), &dy = e.operand(1);
  HostTensor& dw = e.results[0];
  ConvLoops(e.call, x.shape, dw.shape, dy.shape)
      .run([&](int64_t xo, int64_t step, int64_t wo, int64_t yo, int64_t n) {
        const double *a = x.f.data() + xo, *b = dy.f.data() + yo;
        double s = 0;
        for (int64_t i = 0; i < n; ++i) s += a[i * step] * b[i];
        dw.f[wo] += s;
      });
  return ok_status();
}

Attrs with_shape(const Attrs& attrs, const Shape& shape) {
  Attrs a = attrs;
  a["shape"] = Attr::dims(shape);
  return a;
}
Attrs without_shape(Attrs attrs) {
  attrs.erase("shape");
  return attrs;
}

std::vector<Value*> convolution_grad(Builder& b, const GradCall& c) {
  Value *x = c.operand(0), *w = c.operand(1), *dy = c.cotangent();
  return {b.create(ops::convolution_input_grad, {dy, w}, with_shape(c.attrs, x->type.shape)),
          b.create(ops::convolution_weight_grad, {x, dy}, with_shape(c.attrs, w->type.shape))};
}
// Both are linear in each operand, and so each other's gradients.
std::vector<Value*> input_grad_grad(Builder& b, const GradCall& c) {
  Value *dy = c.operand(0), *w = c.operand(1), *g = c.cotangent();
  return {b.create(ops::convolution, {g, w}, without_shape(c.attrs)),
          b.create(ops::convolution_weight_grad, {g, dy}, with_shape(c.attrs, w->type.shape))};
}
std::vector<Value*> weight_grad_grad(Builder& b, const GradCall& c) {
  Value *x = c.operand(0), *dy = c.operand(1), *g = c.cotangent();
  return {b.create(ops::convolution_input_grad, {dy, g}, with_shape(c.attrs, x->type.shape)),
          b.create(ops::convolution, {x, g}, without_shape(c.attrs))};
}

// --- samples ---

std::vector<Sample> dot_general_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    // Axes of both operands drawn, then shuffled.
    int64_t nb = rng.range(0, 2), nc = i == 0 ? 0 : rng.range(0, 2), na = i == 0 ? 0 : rng.range(0, 2),
            nw = i == 0 ? 0 : rng.range(0, 1);
    if (i == 0) nb = 0;  // scalars
    struct Axis {
      char kind;
      int id;
      int64_t size;
    };
    std::vector<Axis> a, w;
    for (int k = 0; k < nb; ++k) a.push_back({'b', k, rng.range(1, 3)}), w.push_back(a.back());
    for (int k = 0; k < nc; ++k) a.push_back({'c', k, i == 1 ? 0 : rng.range(1, 4)}), w.push_back(a.back());
    for (int k = 0; k < na; ++k) a.push_back({'f', k, i == 2 ? 0 : rng.range(1, 4)});
    for (int k = 0; k < nw; ++k) w.push_back({'f', k, rng.range(1, 4)});
    Sample s;
    auto place = [&](std::vector<Axis> axes, std::string side) {
      for (size_t k = axes.size(); k > 1; --k) std::swap(axes[k - 1], axes[rng.range(0, k - 1)]);
      Shape shape;
      std::vector<int64_t> batch(nb), contract(nc);
      for (size_t k = 0; k < axes.size(); ++k) {
        shape.push_back(Dim(axes[k].size));
        if (axes[k].kind == 'b') batch[axes[k].id] = static_cast<int64_t>(k);
        if (axes[k].kind == 'c') contract[axes[k].id] = static_cast<int64_t>(k);
      }
      s.operands.push_back(f32(shape));
      s.attrs[side + "_batch"] = Attr::ints(batch);
      s.attrs[side + "_contract"] = Attr::ints(contract);
    };
    place(a, "a");
    place(w, "b");
    samples.push_back(s);
  }
  return samples;
}

struct ConvCase {
  Shape x, w, y;
  Attrs attrs;
};
ConvCase conv_case(SampleRng& rng, int number) {
  ConvCase s;
  int spatial = static_cast<int>(number % 6 == 5 ? 3 : rng.range(1, 2));
  int64_t groups = number % 4 == 3 ? rng.range(2, 3) : 1, ci = rng.range(1, 2), co = groups * rng.range(1, 2);
  s.x = {Dim(number == 1 ? 0 : rng.range(1, 2)), Dim(groups * ci)};
  s.w = {Dim(co), Dim(ci)};
  s.y = {s.x[0], s.w[0]};
  std::vector<int64_t> stride, pad, dilation;
  for (int a = 0; a < spatial; ++a) {
    int64_t k = rng.range(1, 3), d = rng.range(1, 2), st = rng.range(1, 3), lo = rng.range(0, 2),
            hi = rng.range(0, 2);
    int64_t n = std::max<int64_t>(1, d * (k - 1) + 1 - lo - hi) + rng.range(0, 4);
    s.x.push_back(Dim(n)), s.w.push_back(Dim(k));
    s.y.push_back(Dim((n + lo + hi - d * (k - 1) - 1) / st + 1));
    stride.push_back(st), dilation.push_back(d), pad.insert(pad.end(), {lo, hi});
  }
  s.attrs = {{"stride", Attr::ints(stride)},
             {"pad", Attr::ints(pad)},
             {"dilation", Attr::ints(dilation)},
             {"groups", groups}};
  return s;
}
std::vector<Sample> convolution_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    ConvCase k = conv_case(rng, i);
    samples.push_back({.operands = {f32(k.x), f32(k.w)}, .attrs = k.attrs});
  }
  return samples;
}
std::vector<Sample> input_grad_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    ConvCase k = conv_case(rng, i);
    samples.push_back({.operands = {f32(k.y), f32(k.w)}, .attrs = with_shape(k.attrs, k.x)});
  }
  return samples;
}
std::vector<Sample> weight_grad_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    ConvCase k = conv_case(rng, i);
    samples.push_back({.operands = {f32(k.x), f32(k.y)}, .attrs = with_shape(k.attrs, k.w)});
  }
  return samples;
}

}  // namespace

const OpDef ops::dot_general{
    .name = "dot_general",
    .doc =
        "The sum of products over the contracted axes, for each batch index. The result's axes are the batch "
        "axes, "
        "then a's other axes, then b's.",
    .operands = {{"a", kNumbers}, {"b", kNumbers}},
    .attrs = {{"a_batch", AttrKind::kInts, "[]", "a's batch axes"},
              {"a_contract", AttrKind::kInts, "[]", "a's contracted axes"},
              {"b_batch", AttrKind::kInts, "[]", "b's batch axes, in a's order"},
              {"b_contract", AttrKind::kInts, "[]", "b's contracted axes, in a's order"}},
    .infer = infer_dot_general,
    .evaluate = eval_dot_general,
    .grad = dot_general_grad,
    .samples = dot_general_samples};

#define GC_CONV_ATTRS                                                                                \
  {"stride", AttrKind::kInts, "1", "step of the window, per spatial axis"},                          \
      {"pad", AttrKind::kInts, "0", "zeros around x: one number, one per axis, or lo, hi per axis"}, \
      {"dilation", AttrKind::kInts, "1", "distance of the taps, per spatial axis"}, {                \
    "groups", AttrKind::kInt, "1", "channels fall into so many groups that don't mix"                \
  }

const OpDef ops::convolution{
    .name = "convolution",
    .doc = "Cross-correlation of x[N, C, spatial..] with w[O, C/groups, kernel..], 1 to 3 spatial axes.",
    .operands = {{"x", kFloats}, {"w", kFloats}},
    .attrs = {GC_CONV_ATTRS},
    .infer = infer_convolution,
    .evaluate = eval_convolution,
    .grad = convolution_grad,
    .samples = convolution_samples};

const OpDef ops::convolution_input_grad{
    .name = "convolution_input_grad",
    .doc = "The gradient of convolution(x, w) with respect to x: the transposed convolution of dy with w.",
    .operands = {{"dy", kFloats}, {"w", kFloats}},
    .attrs = {GC_CONV_ATTRS, {"shape", AttrKind::kInts, kRequired, "the shape of x"}},
    .infer = infer_input_grad,
    .evaluate = eval_input_grad,
    .grad = input_grad_grad,
    .samples = input_grad_samples};

const OpDef ops::convolution_weight_grad{
    .name = "convolution_weight_grad",
    .doc = "The gradient of convolution(x, w) with respect to w.",
    .operands = {{"x", kFloats}, {"dy", kFloats}},
    .attrs = {GC_CONV_ATTRS, {"shape", AttrKind::kInts, kRequired, "the shape of w"}},
    .infer = infer_weight_grad,
    .evaluate = eval_weight_grad,
    .grad = weight_grad_grad,
    .samples = weight_grad_samples};

}  // namespace graphc
