// Reductions over sliding windows, and their gradient.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ir/ops/common.h"
#include "ir/ops/host.h"

namespace graphc {
namespace {

Inferred infer_reduce_window(InferContext& c) {
  const TensorType& x = c.operand(0);
  const std::string& kind = c.attrs.find("kind")->second.as_string();
  if (kind != "max" && kind != "sum") return call_error(c, "kind=\"{}\" must be \"max\" or \"sum\"", kind);
  GC_TRY(std::vector<int64_t> window, constant_ints(c, "window"));
  int n = static_cast<int>(window.size());
  if (n < 1 || n > x.rank())
    return call_error(c, "window={} must have one size for each of the last axes, at most {}",
                      c.attrs.find("window")->second.to_string(), x.rank());
  for (int64_t w : window)
    if (w < 1) return call_error(c, "window={} must be at least 1", w);
  if (c.attrs.find("stride")->second.as_list().empty()) c.attrs.find("stride")->second = Attr::ints(window);
  GC_TRY(std::vector<int64_t> stride, canonical_repeated(c, "stride", n, 1));
  GC_TRY(std::vector<int64_t> pad, canonical_pads(c, "pad", n));
  GC_TRY(std::vector<int64_t> dilation, canonical_repeated(c, "dilation", n, 1));
  TensorType y = x;
  for (int i = 0; i < n; ++i) {
    int axis = x.rank() - n + i;
    GC_TRY(y.shape[axis], window_extent(c, axis, x.shape[axis], window[i], stride[i], pad[2 * i],
                                        pad[2 * i + 1], dilation[i]));
  }
  return std::vector<TensorType>{y};
}

Inferred infer_reduce_window_grad(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  GC_TRY(std::vector<TensorType> y, infer_reduce_window(c));
  if (y[0].shape != c.operand(1).shape)
    return call_error(c, "dy must have the shape of reduce_window(x), {}", shape_to_string(y[0].shape));
  return std::vector<TensorType>{c.operand(0)};
}

// Calls f(window number, position in x or -1 outside) for every tap of every window in row-major order.
template <class Begin, class Tap>
void for_each_window(const Call& call, const std::vector<int64_t>& xs, const std::vector<int64_t>& ys,
                     Begin begin, Tap tap) {
  auto window = call.attr("window").as_ints(), stride = call.attr("stride").as_ints();
  auto pad = call.attr("pad").as_ints(), dilation = call.attr("dilation").as_ints();
  size_t n = window.size(), lead = xs.size() - n;
  int64_t outer = product(xs, 0, lead), plane = product(xs, lead), out = product(ys, lead),
          taps = product(window);
  auto x_strides = strides_of(xs);
  std::vector<int64_t> at(n), t(n);
  for (int64_t o = 0; o < outer; ++o) {
    std::fill(at.begin(), at.end(), 0);
    for (int64_t k = 0; k < out; ++k) {
      begin(o * out + k);
      std::fill(t.begin(), t.end(), 0);
      for (int64_t q = 0; q < taps; ++q) {
        int64_t position = o * plane;
        bool inside = true;
        for (size_t a = 0; a < n; ++a) {
          int64_t i = at[a] * stride[a] + t[a] * dilation[a] - pad[2 * a];
          inside = inside && i >= 0 && i < xs[lead + a];
          position += i * x_strides[lead + a];
        }
        if (inside) tap(o * out + k, position);
        for (size_t a = n; a-- > 0;) {
          if (++t[a] < window[a]) break;
          t[a] = 0;
        }
      }
      for (size_t a = n; a-- > 0;) {
        if (++at[a] < ys[lead + a]) break;
        at[a] = 0;
      }
    }
  }
}

Status eval_reduce_window(EvalContext& e) {
  const HostTensor& x = e.operand(0);
  HostTensor& y = e.results[0];
  double start = e.call.attr("kind").as_string() == "max" ? -std::numeric_limits<double>::infinity() : 0;
  bool is_max = start < 0;
  for_each_window(
      e.call, x.shape, y.shape, [&](int64_t k) { y.f[k] = start; },
      [&](int64_t k, int64_t i) {
        double &a = y.f[k], v = x.f[i];
        a = !is_max ? a + v : std::isnan(a) || a >= v ? a : v;
      });
  return ok_status();
}

Status eval_reduce_window_grad(EvalContext& e) {
  const HostTensor &x = e.operand(0), &dy = e.operand(1);
  HostTensor& dx = e.results[0];
  if (e.call.attr("kind").as_string() == "sum") {
    for_each_window(
        e.call, x.shape, dy.shape, [](int64_t) {}, [&](int64_t k, int64_t i) { dx.f[i] += dy.f[k]; });
    return ok_status();
  }
  std::vector<int64_t> best(dy.f.size(), -1);  // the first maximum, or the first NaN
  for_each_window(
      e.call, x.shape, dy.shape, [](int64_t) {},
      [&](int64_t k, int64_t i) {
        int64_t& b = best[k];
        if (b < 0 || (!std::isnan(x.f[b]) && (std::isnan(x.f[i]) || x.f[i] > x.f[b]))) b = i;
      });
  for (size_t k = 0; k < best.size(); ++k)
    if (best[k] >= 0) dx.f[best[k]] += dy.f[k];
  return ok_status();
}

std::vector<Value*> reduce_window_grad_rule(Builder& b, const GradCall& c) {
  return {b.create(ops::reduce_window_grad, {c.operand(0), c.cotangent()}, c.attrs)};
}

// Sums are linear. Of a maximum's gradient no derivative is given: it would have to pick by position.
std::vector<Value*> reduce_window_grad_grad(Builder& b, const GradCall& c) {
  if (c.attr("kind").as_string() == "max") return {};
  return {nullptr, b.create(ops::reduce_window, {c.cotangent()}, c.attrs)};
}

std::vector<Sample> window_samples(SampleRng& rng, bool grad) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    int n = static_cast<int>(rng.range(1, 3)), lead = static_cast<int>(rng.range(0, 2));
    Shape x = sample_shape(rng, lead, 3), y;
    if (i == 1) x = {Dim(0)};
    y = x;
    std::vector<int64_t> window, stride, pad, dilation;
    for (int a = 0; a < n; ++a) {
      int64_t w = rng.range(1, 3), d = w > 1 && i % 4 == 0 ? 2 : 1, st = rng.range(1, 3),
              span = d * (w - 1) + 1;
      int64_t lo = rng.range(0, (span - 1) / 2), hi = rng.range(0, (span - 1) / 2);
      int64_t size = span + rng.range(0, 4);
      window.push_back(w), stride.push_back(st), dilation.push_back(d), pad.insert(pad.end(), {lo, hi});
      x.push_back(Dim(size)), y.push_back(Dim((size + lo + hi - span) / st + 1));
    }
    Sample s{.operands = {f32(x)},
             .attrs = {{"kind", i % 2 || (grad && i % 3) ? "sum" : "max"},
                       {"window", Attr::ints(window)},
                       {"stride", Attr::ints(stride)},
                       {"pad", Attr::ints(pad)},
                       {"dilation", Attr::ints(dilation)}}};
    if (grad) s.operands.push_back(f32(y));
    samples.push_back(s);
  }
  return samples;
}
std::vector<Sample> reduce_window_samples(SampleRng& rng) { return window_samples(rng, false); }
std::vector<Sample> reduce_window_grad_samples(SampleRng& rng) { return window_samples(rng, true); }

}  // namespace

#define GC_WINDOW_ATTRS                                                                                   \
  {                                                                                                       \
    {"kind", AttrKind::kString, kRequired, "\"max\" or \"sum\""},                                         \
        {"window", AttrKind::kInts, kRequired, "sizes of the window over the last axes"},                 \
        {"stride", AttrKind::kInts, "[]", "step of the window per axis; the window itself if not given"}, \
        {"pad", AttrKind::kInts, "0", "one number, one per axis, or lo, hi per axis"}, {                  \
      "dilation", AttrKind::kInts, "1", "distance of the taps per axis"                                   \
    }                                                                                                     \
  }

const OpDef ops::reduce_window{.name = "reduce_window",
                               .doc =
                                   "The maximum or sum over a window that slides along the last axes. "
                                   "Positions outside x count as -inf or 0; "
                                   "a last window that doesn't fit is left out; NaN passes.",
                               .operands = {{"x", kFloats}},
                               .attrs = GC_WINDOW_ATTRS,
                               .infer = infer_reduce_window,
                               .evaluate = eval_reduce_window,
                               .grad = reduce_window_grad_rule,
                               .samples = reduce_window_samples};

const OpDef ops::reduce_window_grad{.name = "reduce_window_grad",
                                    .doc =
                                        "The gradient of reduce_window(x): dy goes to the first maximum of "
                                        "each window, or to all of its elements "
                                        "for a sum (where x's values aren't used).",
                                    .operands = {{"x", kFloats}, {"dy", kFloats}},
                                    .attrs = GC_WINDOW_ATTRS,
                                    .infer = infer_reduce_window_grad,
                                    .evaluate = eval_reduce_window_grad,
                                    .grad = reduce_window_grad_grad,
                                    .samples = reduce_window_grad_samples};
#undef GC_WINDOW_ATTRS

}  // namespace graphc
