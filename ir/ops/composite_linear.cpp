// Composites over contractions and windows: matmul, einsum, convolutions with bias, pooling.
#include <algorithm>
#include <cctype>

#include "ir/ops/common.h"
#include "ir/ops/host.h"
#include "ir/ops/pattern.h"

namespace graphc {
namespace {

const Attr& attr(const InferContext& c, std::string_view name) { return c.attrs.find(name)->second; }

// --- matmul ---

Inferred infer_matmul(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  const Shape &a = c.operand(0).shape, &b = c.operand(1).shape;
  if (a.empty() || b.empty()) return call_error(c, "a scalar has no axis to contract; multiply with *");
  const Dim &ka = a.back(), &kb = b.size() == 1 ? b[0] : b[b.size() - 2];
  if (ka != kb)
    return call_error(c, "the last axis of a ({}) must be as long as the {} of b ({})", ka.to_string(),
                      b.size() == 1 ? "axis" : "last but one", kb.to_string());
  auto batch = broadcast_shapes(Shape(a.begin(), a.size() < 2 ? a.begin() : a.end() - 2),
                                Shape(b.begin(), b.size() < 2 ? b.begin() : b.end() - 2));
  if (!batch.ok()) return call_error(c, "batch {}", batch.error().message);
  Shape y = *batch;
  if (a.size() > 1) y.push_back(a[a.size() - 2]);
  if (b.size() > 1) y.push_back(b.back());
  return std::vector<TensorType>{{c.operand(0).dtype, y}};
}

std::vector<Value*> expand_matmul(Builder& b, const Call& c) {
  Value *x = c.operand(0), *w = c.operand(1);
  int rx = x->type.rank(), rw = w->type.rank();
  if (rw == 1) return {b.dot_general(x, w, {}, {}, {rx - 1}, {0})};
  // Without a batch on the right, all leading axes of the left are free.
  if (rw == 2) return {b.dot_general(x, w, {}, {}, {rx - 1}, {0})};
  if (rx == 1) {  // [k] x [batch, k, n] -> [batch, n]
    Value* y = b.dot_general(x, w, {}, {}, {0}, {rw - 2});
    return {y};
  }
  Shape batch(c.types[0].shape.begin(), c.types[0].shape.end() - 2);
  auto widen = [&](Value* v) {
    Shape s = batch;
    s.insert(s.end(), v->type.shape.end() - 2, v->type.shape.end());
    return b.expand(v, s);
  };
  std::vector<int64_t> axes = all_axes(static_cast<int>(batch.size()));
  int64_t r = static_cast<int64_t>(axes.size());
  return {b.dot_general(widen(x), widen(w), axes, axes, {r + 1}, {r})};
}

// --- einsum ---

struct EinsumPlan {
  std::vector<std::vector<std::string>> inputs;
  std::vector<std::string> output;
};

// A term with spaces has names between them ("n t d"); without, one letter is an axis ("ntd").
Result<std::vector<std::string>> einsum_term(std::string_view text, bool letters) {
  std::vector<std::string> names;
  for (size_t i = 0; i < text.size();) {
    unsigned char ch = static_cast<unsigned char>(text[i]);
    if (std::isspace(ch)) {
      ++i;
    } else if (text.substr(i, 3) == "...") {
      names.push_back("...");
      i += 3;
    } else if (letters && std::isalpha(ch)) {
      names.push_back(std::string(1, text[i++]));
    } else if (!letters && (std::isalpha(ch) || ch == '_')) {
      size_t start = i;
      while (i < text.size() && (std::isalnum(static_cast<unsigned char>(text[i])) || text[i] == '_')) ++i;
      names.emplace_back(text.substr(start, i - start));
    } else {
      return invalid(fmt::format("'{}' isn't an axis, in the term \"{}\"", text[i], text));
    }
  }
  return names;
}

std::vector<std::string_view> split_commas(std::string_view s) {
  std::vector<std::string_view> parts;
  for (size_t at = 0;;) {
    size_t c = s.find(',', at);
    parts.push_back(s.substr(at, c == std::string_view::npos ? c : c - at));
    if (c == std::string_view::npos) return parts;
    at = c + 1;
  }
}

Result<EinsumPlan> plan_einsum(const std::vector<TensorType>& operands, const std::string& pattern) {
  GC_TRY(PatternSides sides, split_arrow(pattern));
  auto terms = split_commas(sides.left);
  if (terms.size() != operands.size())
    return invalid(
        fmt::format("\"{}\" has {} terms for {} operands", pattern, terms.size(), operands.size()));
  auto trimmed = [](std::string_view s) {
    while (!s.empty() && std::isspace(static_cast<unsigned char>(s.front()))) s.remove_prefix(1);
    while (!s.empty() && std::isspace(static_cast<unsigned char>(s.back()))) s.remove_suffix(1);
    return s;
  };
  bool letters = true;
  for (auto& t : terms) {
    t = trimmed(t);
    letters = letters && t.find(' ') == std::string_view::npos;
  }
  letters = letters && trimmed(sides.right).find(' ') == std::string_view::npos;
  EinsumPlan plan;
  GC_TRY(plan.output, einsum_term(sides.right, letters));
  // "..." stands for the leftover axes, which must be as many in every term that has it.
  int extra = -1;
  for (size_t i = 0; i < terms.size(); ++i) {
    GC_TRY(auto names, einsum_term(terms[i], letters));
    auto dots = std::find(names.begin(), names.end(), "...");
    int rank = operands[i].rank(), named = static_cast<int>(names.size()) - (dots != names.end());
    if (dots != names.end()) {
      int n = rank - named;
      if (n < 0 || (extra >= 0 && n != extra))
        return invalid(fmt::format("'...' of the term \"{}\" would be {} axes{}", terms[i], n,
                                   n < 0 ? "" : fmt::format(", elsewhere {}", extra)));
      extra = n;
      dots = names.erase(dots);
      std::vector<std::string> more;
      for (int k = 0; k < n; ++k) more.push_back(fmt::format("...{}", k));
      names.insert(dots, more.begin(), more.end());
    } else if (named != rank) {
      return invalid(
          fmt::format("the term \"{}\" names {} axes, but operand {} is {}{}", terms[i], named, i,
                      operands[i].to_string(),
                      letters && named > rank ? "; put spaces between names of several letters" : ""));
    }
    for (size_t k = 0; k < names.size(); ++k)
      if (std::find(names.begin() + k + 1, names.end(), names[k]) != names.end())
        return invalid(fmt::format("'{}' appears twice in the term \"{}\"", names[k], terms[i]));
    plan.inputs.push_back(std::move(names));
  }
  if (auto dots = std::find(plan.output.begin(), plan.output.end(), "..."); dots != plan.output.end()) {
    if (extra < 0) return invalid("'...' stands on the right only");
    dots = plan.output.erase(dots);
    std::vector<std::string> more;
    for (int k = 0; k < extra; ++k) more.push_back(fmt::format("...{}", k));
    plan.output.insert(dots, more.begin(), more.end());
  } else if (extra > 0) {
    return invalid("'...' stands on the left only");
  }
  return plan;
}

Inferred infer_einsum(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  auto plan = plan_einsum(c.operands, attr(c, "pattern").as_string());
  if (!plan.ok()) return call_error(c, "{}", plan.error().message);
  std::map<std::string, Dim> sizes;
  for (size_t i = 0; i < plan->inputs.size(); ++i)
    for (size_t k = 0; k < plan->inputs[i].size(); ++k) {
      const Dim& d = c.operands[i].shape[k];
      auto [it, fresh] = sizes.emplace(plan->inputs[i][k], d);
      if (!fresh && it->second != d)
        return call_error(c, "axis '{}' is {} and {}", plan->inputs[i][k], it->second.to_string(),
                          d.to_string());
    }
  TensorType y{c.operand(0).dtype, {}};
  for (size_t k = 0; k < plan->output.size(); ++k) {
    const std::string& n = plan->output[k];
    auto it = sizes.find(n);
    if (it == sizes.end()) return call_error(c, "axis '{}' stands on the right only", n);
    if (std::find(plan->output.begin() + k + 1, plan->output.end(), n) != plan->output.end())
      return call_error(c, "axis '{}' appears twice on the right", n);
    y.shape.push_back(it->second);
  }
  return std::vector<TensorType>{y};
}

// From left to right, two at a time; an axis is summed as soon as no later term or the result has it.
std::vector<Value*> expand_einsum(Builder& b, const Call& c) {
  std::vector<TensorType> types;
  for (Value* v : c.operands) types.push_back(v->type);
  EinsumPlan plan = *plan_einsum(types, c.attr("pattern").as_string());
  auto contains = [](const std::vector<std::string>& v, const std::string& n) {
    return std::find(v.begin(), v.end(), n) != v.end();
  };
  auto needed = [&](const std::string& n, size_t after) {
    if (contains(plan.output, n)) return true;
    for (size_t i = after; i < plan.inputs.size(); ++i)
      if (contains(plan.inputs[i], n)) return true;
    return false;
  };
  auto sum_lonely = [&](Value* v, std::vector<std::string>& names, auto keep) {
    std::vector<int64_t> axes;
    std::vector<std::string> left;
    for (size_t k = 0; k < names.size(); ++k) {
      if (keep(names[k]))
        left.push_back(names[k]);
      else
        axes.push_back(static_cast<int64_t>(k));
    }
    names = left;
    return b.sum(v, axes);
  };
  std::vector<std::string> names = plan.inputs[0];
  Value* x = sum_lonely(c.operand(0), names, [&](const std::string& n) { return needed(n, 1); });
  for (size_t i = 1; i < plan.inputs.size(); ++i) {
    std::vector<std::string> other = plan.inputs[i];
    Value* y = sum_lonely(c.operand(static_cast<int>(i)), other,
                          [&](const std::string& n) { return contains(names, n) || needed(n, i + 1); });
    std::vector<int64_t> xb, yb, xc, yc;
    std::vector<std::string> joint;
    for (size_t k = 0; k < names.size(); ++k) {
      auto at = std::find(other.begin(), other.end(), names[k]);
      if (at == other.end()) continue;
      bool batch = needed(names[k], i + 1);
      (batch ? xb : xc).push_back(static_cast<int64_t>(k));
      (batch ? yb : yc).push_back(at - other.begin());
      if (batch) joint.push_back(names[k]);
    }
    for (const std::string& n : names)
      if (!contains(other, n)) joint.push_back(n);
    for (const std::string& n : other)
      if (!contains(names, n)) joint.push_back(n);
    x = b.dot_general(x, y, xb, yb, xc, yc);
    names = joint;
  }
  std::vector<int64_t> perm;
  for (const std::string& n : plan.output)
    perm.push_back(std::find(names.begin(), names.end(), n) - names.begin());
  return {b.transpose(x, perm)};
}

// --- conv1d, conv2d, conv3d ---

template <int kSpatial>
Inferred infer_conv(InferContext& c) {
  const TensorType &x = c.operand(0), &w = c.operand(1);
  if (x.rank() != kSpatial + 2 || w.rank() != kSpatial + 2)
    return call_error(c, "x and w must have {} axes: [N, C, ..] and [O, C/groups, ..]", kSpatial + 2);
  GC_CHECK(check_same_dtype(c));
  InferContext inner{ops::convolution, {x, w}, c.attrs};
  auto y = ops::convolution.infer(inner);
  if (!y.ok()) {  // the message is about this call
    std::string m = y.error().message, prefix = call_text(inner) + ": ";
    return call_error(c, "{}", m.starts_with(prefix) ? m.substr(prefix.size()) : m);
  }
  if (c.num_operands() > 2 && c.operand(2).shape != Shape{w.shape[0]})
    return call_error(c, "the bias must be [{}], one for each output channel", w.shape[0].to_string());
  return y;
}

std::vector<Value*> expand_conv(Builder& b, const Call& c) {
  Value* y = b.create(ops::convolution, {c.operand(0), c.operand(1)}, c.attrs);
  if (has(c, 2)) y = b.add(y, along_axis(b, c.operand(2), 1, y->type.rank()));
  return {y};
}

// --- pooling ---

struct Pooling {
  std::vector<int64_t> window, stride, pad, dilation;
  std::vector<int64_t> extra;  // more padding at the end of each axis for ceil=true
};

Result<Pooling> plan_pooling(InferContext& c) {
  const TensorType& x = c.operand(0);
  int n = x.rank() - 2;
  if (n < 1 || n > 3) return call_error(c, "x must be [N, C, ..] with 1 to 3 spatial axes");
  Pooling p;
  GC_TRY(p.window, canonical_repeated(c, "window", n, 1));
  if (attr(c, "stride").as_list().empty()) c.attrs.find("stride")->second = Attr::ints(p.window);
  GC_TRY(p.stride, canonical_repeated(c, "stride", n, 1));
  GC_TRY(p.pad, canonical_pads(c, "pad", n));
  GC_TRY(p.dilation, canonical_repeated(c, "dilation", n, 1));
  bool ceil = attr(c, "ceil").as_bool();
  p.extra.assign(n, 0);
  for (int i = 0; i < n; ++i) {
    int64_t span = p.dilation[i] * (p.window[i] - 1) + 1, lo = p.pad[2 * i], hi = p.pad[2 * i + 1];
    if (2 * lo > span || 2 * hi > span)
      return call_error(c, "pad={} is more than half of the window ({} wide) along axis {}", std::max(lo, hi),
                        span, 2 + i);
    if (!ceil) continue;
    auto size = x.shape[2 + i].as_constant();
    if (!size)
      return call_error(c, "ceil=true needs a constant size, axis {} is {}", 2 + i,
                        x.shape[2 + i].to_string());
    int64_t room = *size + lo + hi - span;
    if (room < 0) continue;  // inference of the window says so
    int64_t out = (room + p.stride[i] - 1) / p.stride[i] + 1;
    if ((out - 1) * p.stride[i] >= *size + lo) --out;  // the last window must start inside x or its left pad
    p.extra[i] = std::max<int64_t>(0, (out - 1) * p.stride[i] - room);
  }
  return p;
}

Attrs window_attrs(const Pooling& p, std::string_view kind, bool own_pads) {
  std::vector<int64_t> pad = p.pad;
  for (size_t i = 0; i < p.extra.size(); ++i) {
    if (!own_pads) pad[2 * i] = pad[2 * i + 1] = 0;
    pad[2 * i + 1] += p.extra[i];
  }
  return {{"kind", Attr(kind)},
          {"window", Attr::ints(p.window)},
          {"stride", Attr::ints(p.stride)},
          {"pad", Attr::ints(pad)},
          {"dilation", Attr::ints(p.dilation)}};
}

Inferred infer_pool(InferContext& c) {
  GC_TRY(Pooling p, plan_pooling(c));
  TensorType y = c.operand(0);
  for (size_t i = 0; i < p.window.size(); ++i) {
    int axis = static_cast<int>(2 + i);
    GC_TRY(y.shape[axis], window_extent(c, axis, y.shape[axis], p.window[i], p.stride[i], p.pad[2 * i],
                                        p.pad[2 * i + 1] + p.extra[i], p.dilation[i]));
  }
  return std::vector<TensorType>{y};
}

Pooling pooling_of(const Call& c) {
  Attrs attrs = c.attrs;
  InferContext context{*c.op, {c.operand(0)->type}, attrs};
  return *plan_pooling(context);
}

std::vector<Value*> expand_max_pool(Builder& b, const Call& c) {
  return {b.create(ops::reduce_window, {c.operand(0)}, window_attrs(pooling_of(c), "max", true))};
}

// Divided by the number of positions of each window that count: those inside x, with its pads or without.
std::vector<Value*> expand_avg_pool(Builder& b, const Call& c) {
  Pooling p = pooling_of(c);
  Value* x = c.operand(0);
  DType dtype = x->type.dtype;
  Value* total = b.create(ops::reduce_window, {x}, window_attrs(p, "sum", true));
  bool with_pads = c.attr("count_include_pad").as_bool();
  bool plain = std::all_of(p.extra.begin(), p.extra.end(), [](int64_t e) { return e == 0; }) &&
               (with_pads || std::all_of(p.pad.begin(), p.pad.end(), [](int64_t e) { return e == 0; }));
  if (plain) return {b.div(total, static_cast<double>(product(p.window)))};
  Shape inside(x->type.shape.begin() + 2, x->type.shape.end());
  if (with_pads)
    for (size_t i = 0; i < inside.size(); ++i) inside[i] += Dim(p.pad[2 * i] + p.pad[2 * i + 1]);
  Value* count = b.create(ops::reduce_window, {b.full(1, dtype, inside)}, window_attrs(p, "sum", !with_pads));
  return {b.div(total, count)};
}

Inferred infer_global_pool(InferContext& c) {
  TensorType y = c.operand(0);
  if (y.rank() < 3) return call_error(c, "x must be [N, C, ..] with spatial axes");
  for (int i = 2; i < y.rank(); ++i) y.shape[i] = Dim(1);
  return std::vector<TensorType>{y};
}
std::vector<Value*> expand_global_avg_pool(Builder& b, const Call& c) {
  std::vector<int64_t> axes;
  for (int i = 2; i < c.types[0].rank(); ++i) axes.push_back(i);
  return {b.mean(c.operand(0), axes, true)};
}

// --- samples ---

std::vector<Sample> matmul_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    int64_t m = rng.range(1, 4), n = rng.range(1, 4), k = i == 1 ? 0 : rng.range(1, 4);
    Shape batch = sample_shape(rng, rng.range(0, 2), 3);
    auto with = [&](Shape s, Dim p, Dim q) {
      s.push_back(p), s.push_back(q);
      return s;
    };
    Shape a = with(i % 2 ? batch : sample_broadcast(rng, batch), Dim(m), Dim(k));
    Shape b = with(i % 2 ? sample_broadcast(rng, batch) : batch, Dim(k), Dim(n));
    if (i % 6 == 4) a = {Dim(k)};
    if (i % 6 == 5) b = {Dim(k)};
    if (i == 2) a = b = {Dim(k)};
    samples.push_back({.operands = {f32(a), f32(b)}});
  }
  return samples;
}

std::vector<Sample> einsum_samples(SampleRng& rng) {
  struct Case {
    const char* pattern;
    std::vector<std::string> terms;
  };
  const Case kCases[] = {{"n t d, v d -> n t v", {"ntd", "vd"}},
                         {"ij,jk->ik", {"ij", "jk"}},
                         {"b i, b j -> b j i", {"bi", "bj"}},
                         {"ij->", {"ij"}},
                         {",->", {"", ""}},
                         {"ij->ji", {"ij"}},
                         {"a b, b c, c d -> a d", {"ab", "bc", "cd"}},
                         {"... i j, ... j -> ... i", {"xyij", "xyj"}},
                         {"i j, k -> k", {"ij", "k"}}};
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount + 3; ++i) {
    const Case& k = kCases[i % std::size(kCases)];
    std::map<char, Dim> sizes;
    Sample s{.attrs = {{"pattern", k.pattern}}};
    for (const std::string& t : k.terms) {
      Shape shape;
      for (char ch : t) shape.push_back(sizes.emplace(ch, Dim(rng.range(i == 9 ? 0 : 1, 4))).first->second);
      s.operands.push_back(f32(shape));
    }
    samples.push_back(s);
  }
  return samples;
}

template <int kSpatial>
std::vector<Sample> conv_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    int64_t groups = i % 4 == 3 ? 2 : 1, ci = rng.range(1, 2), co = groups * rng.range(1, 2);
    Shape x{Dim(i == 1 ? 0 : rng.range(1, 2)), Dim(groups * ci)}, w{Dim(co), Dim(ci)};
    for (int a = 0; a < kSpatial; ++a) w.push_back(Dim(rng.range(1, 3))), x.push_back(Dim(rng.range(5, 6)));
    Sample s{.operands = {f32(x), f32(w)}, .attrs = {{"groups", groups}}};
    if (i % 2) s.operands.push_back(f32({Dim(co)}));
    s.attrs["stride"] = Attr(rng.range(1, 2));
    s.attrs["pad"] = Attr(rng.range(0, 2));
    s.attrs["dilation"] = Attr(rng.range(1, 2));
    samples.push_back(s);
  }
  return samples;
}

std::vector<Sample> pool_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    int n = static_cast<int>(i % 6 == 5 ? 3 : rng.range(1, 2));
    Shape x = {Dim(i == 1 ? 0 : rng.range(1, 2)), Dim(rng.range(1, 2))};
    int64_t w = rng.range(1, 3);
    for (int a = 0; a < n; ++a) x.push_back(Dim(rng.range(3, 6)));
    Sample s{.operands = {f32(x)}, .attrs = {{"window", w}, {"ceil", i % 3 == 0}}};
    if (i % 2) s.attrs["stride"] = Attr(rng.range(1, 3));
    s.attrs["pad"] = Attr(rng.range(0, w / 2));
    samples.push_back(s);
  }
  return samples;
}
std::vector<Sample> avg_pool_samples(SampleRng& rng) {
  auto samples = pool_samples(rng);
  for (Sample& s : samples) s.attrs["count_include_pad"] = Attr(rng.range(0, 1) == 1);
  return samples;
}
std::vector<Sample> global_pool_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    Shape s = sample_shape(rng, static_cast<int>(rng.range(3, 5)));
    if (i == 1) s[0] = Dim(0);
    samples.push_back({.operands = {f32(s)}});
  }
  return samples;
}

}  // namespace

const OpDef ops::matmul{.name = "matmul",
                        .doc =
                            "Matrix product a @ b over the last axis of a and the last but one of b; leading "
                            "axes broadcast, an operand "
                            "of rank 1 is a vector, as in PyTorch.",
                        .operands = {{"a", kNumbers}, {"b", kNumbers}},
                        .infer = infer_matmul,
                        .expand = expand_matmul,
                        .samples = matmul_samples};

const OpDef ops::einsum{
    .name = "einsum",
    .doc =
        "Products summed over the axes that the right side leaves out: einsum(\"n t d, v d -> n t v\", x, "
        "w). Names "
        "are separated by spaces; in a pattern without spaces each letter is an axis. ... is any number of "
        "axes.",
    .operands = {{"xs", kNumbers, Arity::kVariadic}},
    .attrs = {{"pattern", AttrKind::kString, kRequired, "the axes of the operands and of the result"}},
    .infer = infer_einsum,
    .expand = expand_einsum,
    .samples = einsum_samples};

#define GC_CONV(id, text, spatial)                                                                    \
  const OpDef ops::id{                                                                                \
      .name = text,                                                                                   \
      .doc = "Convolution (cross-correlation) of x[N, C, ..] with w[O, C/groups, ..] over " #spatial  \
             " spatial axes, plus a bias per output channel.",                                        \
      .operands = {{"x", kFloats}, {"w", kFloats}, {"bias", kFloats, Arity::kOptional}},              \
      .attrs = {{"stride", AttrKind::kInts, "1", "step of the window, per spatial axis"},             \
                {"pad", AttrKind::kInts, "0",                                                         \
                 "zeros around x: one number, one per axis, or lo, hi per axis"},                     \
                {"dilation", AttrKind::kInts, "1", "distance of the taps, per spatial axis"},         \
                {"groups", AttrKind::kInt, "1", "channels fall into so many groups that don't mix"}}, \
      .infer = infer_conv<spatial>,                                                                   \
      .expand = expand_conv,                                                                          \
      .samples = conv_samples<spatial>};
GC_CONV(conv1d, "conv1d", 1)
GC_CONV(conv2d, "conv2d", 2)
GC_CONV(conv3d, "conv3d", 3)
#undef GC_CONV

const OpDef ops::max_pool{
    .name = "max_pool",
    .doc =
        "The maximum over a sliding window of the spatial axes of x[N, C, ..]. The first of equals gets the "
        "gradient; NaN passes.",
    .operands = {{"x", kFloats}},
    .attrs = {{"window", AttrKind::kInts, kRequired, "size of the window, per spatial axis"},
              {"stride", AttrKind::kInts, "[]", "step of the window; the window itself if not given"},
              {"pad", AttrKind::kInts, "0", "at most half the window; never the maximum"},
              {"dilation", AttrKind::kInts, "1", "distance of the taps, per spatial axis"},
              {"ceil", AttrKind::kBool, "false", "whether a last window that doesn't fit counts"}},
    .infer = infer_pool,
    .expand = expand_max_pool,
    .samples = pool_samples};

const OpDef ops::avg_pool{
    .name = "avg_pool",
    .doc = "The mean over a sliding window of the spatial axes of x[N, C, ..].",
    .operands = {{"x", kFloats}},
    .attrs = {{"window", AttrKind::kInts, kRequired, "size of the window, per spatial axis"},
              {"stride", AttrKind::kInts, "[]", "step of the window; the window itself if not given"},
              {"pad", AttrKind::kInts, "0", "zeros around x, at most half the window"},
              {"dilation", AttrKind::kInts, "1", "distance of the taps, per spatial axis"},
              {"ceil", AttrKind::kBool, "false", "whether a last window that doesn't fit counts"},
              {"count_include_pad", AttrKind::kBool, "true", "whether padded positions count in the mean"}},
    .infer = infer_pool,
    .expand = expand_avg_pool,
    .samples = avg_pool_samples};

const OpDef ops::global_avg_pool{
    .name = "global_avg_pool",
    .doc = "The mean over all spatial axes of x[N, C, ..], which stay with size 1.",
    .operands = {{"x", kFloats}},
    .infer = infer_global_pool,
    .expand = expand_global_avg_pool,
    .samples = global_pool_samples};

}  // namespace graphc
