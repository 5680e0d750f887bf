// Composites that move data: they expand into reshape, transpose, slice, concat and index comparisons.
#include <algorithm>

#include "ir/ops/common.h"
#include "ir/ops/pattern.h"

namespace graphc {
namespace {

const Attr& attr(const InferContext& c, std::string_view name) { return c.attrs.find(name)->second; }

// --- zeros, ones ---

Inferred infer_constant(InferContext& c) {
  Shape shape = attr(c, "shape").as_dims();
  for (const Dim& d : shape)
    if (d.is_constant() && d.constant() < 0)
      return call_error(c, "shape={} has a negative size", shape_to_string(shape));
  return std::vector<TensorType>{{attr(c, "dtype").as_dtype(), shape}};
}
std::vector<Value*> expand_zeros(Builder& b, const Call& c) {
  return {b.full(0, c.types[0].dtype, c.types[0].shape)};
}
std::vector<Value*> expand_ones(Builder& b, const Call& c) {
  return {b.full(1, c.types[0].dtype, c.types[0].shape)};
}

// --- squeeze, unsqueeze, flatten: reshapes ---

std::vector<Value*> expand_reshape(Builder& b, const Call& c) {
  return {b.create(ops::reshape, {c.operand(0)}, {{"shape", Attr::dims(c.types[0].shape)}})};
}

Inferred infer_squeeze(InferContext& c) {
  const TensorType& x = c.operand(0);
  std::vector<int64_t> axes;
  if (attr(c, "axes").as_list().empty()) {
    for (int i = 0; i < x.rank(); ++i)
      if (x.shape[i].is_constant(1)) axes.push_back(i);
    c.attrs.find("axes")->second = Attr::ints(axes);
  } else {
    GC_TRY(axes, canonical_axes(c, "axes", x.rank()));
  }
  for (int64_t a : axes)
    if (!x.shape[a].is_constant(1))
      return call_error(c, "axis {} has size {}; only a 1 can be dropped", a, x.shape[a].to_string());
  TensorType y{x.dtype, {}};
  for (int64_t a : other_axes(x.rank(), axes)) y.shape.push_back(x.shape[a]);
  return std::vector<TensorType>{y};
}

Inferred infer_unsqueeze(InferContext& c) {
  const TensorType& x = c.operand(0);
  int rank = x.rank() + static_cast<int>(attr(c, "axes").as_list().size());
  if (rank == x.rank()) return call_error(c, "axes must name the new axes");
  GC_TRY(std::vector<int64_t> axes, canonical_axes(c, "axes", rank));
  TensorType y{x.dtype, {}};
  for (int i = 0, at = 0; i < rank; ++i)
    y.shape.push_back(std::find(axes.begin(), axes.end(), i) != axes.end() ? Dim(1) : x.shape[at++]);
  return std::vector<TensorType>{y};
}

Inferred infer_flatten(InferContext& c) {
  const TensorType& x = c.operand(0);
  if (x.rank() == 0) {
    c.attrs["from"] = Attr(0);
    c.attrs["to"] = Attr(-1);
    return std::vector<TensorType>{{x.dtype, {Dim(1)}}};
  }
  GC_TRY(int from, canonical_axis(c, "from", x.rank()));
  GC_TRY(int to, canonical_axis(c, "to", x.rank()));
  if (from > to) return call_error(c, "from={} lies after to={}", from, to);
  TensorType y{x.dtype, Shape(x.shape.begin(), x.shape.begin() + from)};
  Dim n(1);
  for (int i = from; i <= to; ++i) n *= x.shape[i];
  y.shape.push_back(n);
  y.shape.insert(y.shape.end(), x.shape.begin() + to + 1, x.shape.end());
  return std::vector<TensorType>{y};
}

// --- split, chunk, stack, select_index ---

Inferred infer_split(InferContext& c) {
  const TensorType& x = c.operand(0);
  GC_TRY(int axis, canonical_axis(c, "axis", x.rank()));
  Shape sizes = attr(c, "sections").as_dims();
  if (sizes.empty()) return call_error(c, "sections must be the number of parts or a list of their sizes");
  if (sizes.size() == 1) {
    if (!sizes[0].is_constant() || sizes[0].constant() < 1 || sizes[0].constant() > 4096)
      return call_error(c, "sections={}: the number of parts must be in 1..4096", sizes[0].to_string());
    int64_t n = sizes[0].constant();
    auto part = exact_quotient(x.shape[axis], Dim(n));
    if (!part)
      return call_error(
          c, "axis {} of size {} doesn't divide into {} equal parts; give their sizes, e.g. [a, b]", axis,
          x.shape[axis].to_string(), n);
    if (n == 1) return std::vector<TensorType>{x};
    sizes.assign(n, *part);
  }
  Dim total(0);
  for (const Dim& s : sizes) {
    if (s.is_constant() && s.constant() < 0) return call_error(c, "sections={} is negative", s.to_string());
    total += s;
  }
  if (total != x.shape[axis])
    return call_error(c, "sections={} add up to {}, but axis {} has size {}", shape_to_string(sizes),
                      total.to_string(), axis, x.shape[axis].to_string());
  c.attrs.find("sections")->second = Attr::dims(sizes);
  std::vector<TensorType> parts;
  for (const Dim& s : sizes) {
    parts.push_back(x);
    parts.back().shape[axis] = s;
  }
  return parts;
}

std::vector<Value*> expand_split(Builder& b, const Call& c) {
  int axis = static_cast<int>(c.attr("axis").as_int());
  if (c.types.size() == 1) return {c.operand(0)};
  std::vector<Value*> parts;
  Dim at(0);
  for (const TensorType& t : c.types) {
    parts.push_back(b.slice(c.operand(0), axis, at, at + t.shape[axis]));
    at += t.shape[axis];
  }
  return parts;
}

// One concat instead of a sum of padded parts.
std::vector<Value*> split_grad(Builder& b, const GradCall& c) {
  std::vector<Value*> parts;
  for (size_t i = 0; i < c.types.size(); ++i)
    parts.push_back(c.cotangents[i] ? c.cotangents[i] : b.full(0, c.types[i].dtype, c.types[i].shape));
  return {b.concat(parts, static_cast<int>(c.attr("axis").as_int()))};
}

Inferred infer_stack(InferContext& c) {
  GC_CHECK(check_same_dtype(c));
  const TensorType& x = c.operand(0);
  for (int i = 1; i < c.num_operands(); ++i)
    if (c.operand(i).shape != x.shape)
      return call_error(c, "operands 0 and {} have different shapes; stack needs equal ones", i);
  GC_TRY(int axis, canonical_axis(c, "axis", x.rank() + 1));
  TensorType y = x;
  y.shape.insert(y.shape.begin() + axis, Dim(c.num_operands()));
  return std::vector<TensorType>{y};
}

std::vector<Value*> expand_stack(Builder& b, const Call& c) {
  int axis = static_cast<int>(c.attr("axis").as_int());
  Shape one = c.operand(0)->type.shape;
  one.insert(one.begin() + axis, Dim(1));
  std::vector<Value*> parts;
  for (Value* x : c.operands) parts.push_back(b.reshape(x, one));
  return {b.concat(parts, axis)};
}

Inferred infer_select_index(InferContext& c) {
  const TensorType& x = c.operand(0);
  GC_TRY(int axis, canonical_axis(c, "axis", x.rank()));
  Attr& index = c.attrs.find("index")->second;
  const Dim& size = x.shape[axis];
  if (index.as_dim().is_constant() && index.as_int() < 0) index = Attr(size + index.as_dim());
  const Dim& i = index.as_dim();
  if (i.is_constant() && (i.constant() < 0 || (size.is_constant() && i.constant() >= size.constant())))
    return call_error(c, "index {} is outside axis {}, which has size {}", i.to_string(), axis,
                      size.to_string());
  TensorType y = x;
  y.shape.erase(y.shape.begin() + axis);
  return std::vector<TensorType>{y};
}

std::vector<Value*> expand_select_index(Builder& b, const Call& c) {
  Dim i = c.attr("index").as_dim();
  Value* row = b.slice(c.operand(0), static_cast<int>(c.attr("axis").as_int()), i, i + 1);
  return {b.reshape(row, c.types[0].shape)};
}

// --- rearrange ---

struct Rearrangement {
  Shape split;                // the operand's axes taken apart
  std::vector<int64_t> perm;  // of those
  Shape result;
};

Result<Rearrangement> plan_rearrange(const Shape& x, const Attrs& attrs) {
  GC_TRY(PatternSides sides, split_arrow(attrs.find("pattern")->second.as_string()));
  GC_TRY(PatternTerm left, parse_pattern_term(sides.left));
  GC_TRY(PatternTerm right, parse_pattern_term(sides.right));
  // "..." stands for as many axes as are left over.
  auto ellipsis = [](PatternTerm& t) {
    return std::find_if(t.begin(), t.end(), [](const PatternAxis& a) {
      return a.names.size() == 1 && a.names[0] == "..." && !a.group;
    });
  };
  for (const PatternTerm* t : {&left, &right})
    for (const PatternAxis& a : *t)
      if (a.group && std::find(a.names.begin(), a.names.end(), "...") != a.names.end())
        return invalid("'...' can't stand in a group");
  size_t extra = 0;
  if (auto it = ellipsis(left); it != left.end()) {
    if (x.size() + 1 < left.size())
      return invalid(
          fmt::format("\"{}\" names {} axes, but the operand has {}", sides.left, left.size() - 1, x.size()));
    extra = x.size() + 1 - left.size();
    PatternTerm names;
    for (size_t i = 0; i < extra; ++i) names.push_back({{fmt::format("...{}", i)}, false});
    it = left.erase(it);
    left.insert(it, names.begin(), names.end());
    auto at = ellipsis(right);
    if (at == right.end()) return invalid("'...' stands on the left only");
    at = right.erase(at);
    right.insert(at, names.begin(), names.end());
  } else if (ellipsis(right) != right.end()) {
    return invalid("'...' stands on the right only");
  }
  if (left.size() != x.size())
    return invalid(
        fmt::format("\"{}\" names {} axes, but the operand has {}", sides.left, left.size(), x.size()));
  Rearrangement r;
  std::vector<std::string> names;
  for (size_t i = 0; i < left.size(); ++i) {
    const PatternAxis& axis = left[i];
    if (axis.names.empty()) {
      if (!x[i].is_constant(1))
        return invalid(fmt::format("axis {} is written 1, but has size {}", i, x[i].to_string()));
      continue;
    }
    Dim known(1);
    std::string open;
    for (const std::string& n : axis.names) {
      auto it = n == "pattern" ? attrs.end() : attrs.find(n);
      if (it != attrs.end()) {
        const Dim& d = it->second.as_dim();
        if (d.is_constant() && d.constant() < 0)
          return invalid(fmt::format("the size {}={} is negative", n, d.to_string()));
        known *= d;
      } else if (!open.empty()) {
        return invalid(
            fmt::format("give the size of '{}' or '{}' in the group of axis {}, e.g. {}=2", open, n, i, n));
      } else {
        open = n;
      }
    }
    auto rest =
        open.empty() ? (known == x[i] ? std::optional(Dim(1)) : std::nullopt) : exact_quotient(x[i], known);
    if (!rest)
      return invalid(open.empty() ? fmt::format("axis {} has size {}, but the pattern makes it {}", i,
                                                x[i].to_string(), known.to_string())
                                  : fmt::format("axis {} of size {} doesn't divide by {}", i,
                                                x[i].to_string(), known.to_string()));
    for (const std::string& n : axis.names) {
      auto it = n == "pattern" ? attrs.end() : attrs.find(n);
      r.split.push_back(it != attrs.end() ? it->second.as_dim() : *rest);
      names.push_back(n);
    }
  }
  for (const auto& [name, a] : attrs)
    if (name != "pattern" && std::find(names.begin(), names.end(), name) == names.end())
      return invalid(fmt::format("'{}' isn't an axis of the pattern", name));
  for (const PatternAxis& axis : right) {
    Dim size(1);
    for (const std::string& n : axis.names) {
      auto it = std::find(names.begin(), names.end(), n);
      if (it == names.end()) return invalid(fmt::format("'{}' stands on the right only", n));
      int64_t at = it - names.begin();
      r.perm.push_back(at);
      size *= r.split[at];
    }
    r.result.push_back(size);
  }
  for (size_t i = 0; i < names.size(); ++i)
    if (std::find(r.perm.begin(), r.perm.end(), static_cast<int64_t>(i)) == r.perm.end())
      return invalid(fmt::format("'{}' stands on the left only", names[i]));
  return r;
}

Inferred infer_rearrange(InferContext& c) {
  auto r = plan_rearrange(c.operand(0).shape, c.attrs);
  if (!r.ok()) return call_error(c, "{}", r.error().message);
  return std::vector<TensorType>{{c.operand(0).dtype, r->result}};
}

std::vector<Value*> expand_rearrange(Builder& b, const Call& c) {
  Rearrangement r = *plan_rearrange(c.operand(0)->type.shape, c.attrs);
  return {b.reshape(b.transpose(b.reshape(c.operand(0), r.split), r.perm), r.result)};
}

// --- one_hot, tril, triu ---

Inferred infer_one_hot(InferContext& c) {
  const Dim& n = attr(c, "n").as_dim();
  if (n.is_constant() && n.constant() < 1) return call_error(c, "n={} must be at least 1", n.to_string());
  TensorType y{attr(c, "dtype").as_dtype(), c.operand(0).shape};
  y.shape.push_back(n);
  return std::vector<TensorType>{y};
}

std::vector<Value*> expand_one_hot(Builder& b, const Call& c) {
  const Shape& shape = c.types[0].shape;
  int axis = static_cast<int>(shape.size()) - 1;
  Shape column = c.operand(0)->type.shape;
  column.push_back(Dim(1));
  return {b.cast(index_equals(b, shape, axis, b.reshape(c.operand(0), column)), c.types[0].dtype)};
}

Inferred infer_triangle(InferContext& c) {
  if (c.operand(0).rank() < 2) return call_error(c, "a triangle needs at least 2 axes");
  if (!attr(c, "diagonal").as_dim().is_constant()) return call_error(c, "diagonal must be a constant");
  return infer_same(c);
}

std::vector<Value*> expand_triangle(Builder& b, const Call& c, ScalarOp keep) {
  const Shape& shape = c.types[0].shape;
  int rank = static_cast<int>(shape.size());
  Value* row = b.iota({shape[rank - 2], Dim(1)}, 0, DType::kI64);
  Value* column = b.iota({Dim(1), shape[rank - 1]}, 1, DType::kI64);
  Value* limit = b.add(row, static_cast<double>(c.attr("diagonal").as_int()));
  return {b.where(b.compare(keep, column, limit), c.operand(0), b.full(0, c.types[0].dtype))};
}
std::vector<Value*> expand_tril(Builder& b, const Call& c) { return expand_triangle(b, c, ScalarOp::kLe); }
std::vector<Value*> expand_triu(Builder& b, const Call& c) { return expand_triangle(b, c, ScalarOp::kGe); }

// --- samples ---

template <class F>
std::vector<Sample> each_shape(SampleRng& rng, F f) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) samples.push_back(f(i, sample_shape_number(rng, i)));
  return samples;
}
std::vector<Sample> constant_samples(SampleRng& rng) {
  return each_shape(rng, [](int, Shape s) { return Sample{.attrs = {{"shape", Attr::dims(s)}}}; });
}
std::vector<Sample> squeeze_samples(SampleRng& rng) {
  return each_shape(rng, [&](int, Shape s) {
    for (Dim& d : s)
      if (rng.range(0, 1)) d = Dim(1);
    return Sample{.operands = {f32(s)}};
  });
}
std::vector<Sample> unsqueeze_samples(SampleRng& rng) {
  return each_shape(rng, [&](int, Shape s) {
    int64_t r = static_cast<int64_t>(s.size());
    return Sample{.operands = {f32(s)}, .attrs = {{"axes", rng.range(-r - 1, r)}}};
  });
}
std::vector<Sample> flatten_samples(SampleRng& rng) {
  return each_shape(rng, [&](int, Shape s) {
    int64_t r = static_cast<int64_t>(s.size()), from = r ? rng.range(0, r - 1) : 0;
    return Sample{.operands = {f32(s)}, .attrs = {{"from", from}, {"to", r ? rng.range(from, r - 1) : -1}}};
  });
}
std::vector<Sample> split_samples(SampleRng& rng) {
  return each_shape(rng, [&](int i, Shape s) {
    if (s.empty()) s = {Dim(3)};
    int64_t axis = rng.range(0, s.size() - 1), n = rng.range(1, 3);
    if (i % 2 == 0) {
      s[axis] = Dim(n * rng.range(0, 2));
      return Sample{.operands = {f32(s)}, .attrs = {{"sections", n}, {"axis", axis}}};
    }
    int64_t a = rng.range(0, 3), d = rng.range(1, 3);
    s[axis] = Dim(a + d);
    return Sample{.operands = {f32(s)}, .attrs = {{"sections", Attr::ints({a, d})}, {"axis", axis}}};
  });
}
std::vector<Sample> stack_samples(SampleRng& rng) {
  return each_shape(rng, [&](int, Shape s) {
    int64_t r = static_cast<int64_t>(s.size());
    Sample x{.attrs = {{"axis", rng.range(-r - 1, r)}}};
    x.operands.assign(rng.range(1, 3), f32(s));
    return x;
  });
}
std::vector<Sample> select_index_samples(SampleRng& rng) {
  return each_shape(rng, [&](int, Shape s) {
    if (s.empty()) s = {Dim(3)};
    int64_t r = static_cast<int64_t>(s.size()), axis = rng.range(0, r - 1);
    if (s[axis].is_constant(0)) axis = 0;
    int64_t n = s[axis].constant();
    return Sample{.operands = {f32(s)}, .attrs = {{"axis", axis}, {"index", rng.range(-n, n - 1)}}};
  });
}
std::vector<Sample> rearrange_samples(SampleRng& rng) {
  std::vector<Sample> samples;
  for (int i = 0; i < kSampleCount; ++i) {
    int64_t n = i == 1 ? 0 : rng.range(1, 3), t = rng.range(1, 3), h = rng.range(1, 3), e = rng.range(1, 3);
    switch (i % 5) {
      case 0:
        samples.push_back({.operands = {f32({Dim(n), Dim(t), Dim(h * e)})},
                           .attrs = {{"pattern", "n t (h e) -> n h t e"}, {"h", h}}});
        break;
      case 1:
        samples.push_back({.operands = {f32({Dim(n), Dim(t), Dim(h), Dim(e)})},
                           .attrs = {{"pattern", "n h t e -> n t (h e)"}}});
        break;
      case 2:
        samples.push_back(
            {.operands = {f32({Dim(n), Dim(1), Dim(t)})}, .attrs = {{"pattern", "a 1 b -> b 1 1 a"}}});
        break;
      case 3:
        samples.push_back({.operands = {f32({Dim(n), Dim(t), Dim(h), Dim(e)})},
                           .attrs = {{"pattern", "... a b -> b ... a"}}});
        break;
      default: samples.push_back({.operands = {f32({})}, .attrs = {{"pattern", " -> 1 ()"}}});
    }
  }
  return samples;
}
std::vector<Sample> one_hot_samples(SampleRng& rng) {
  return each_shape(rng, [&](int, Shape s) {
    int64_t n = rng.range(1, 5);
    return Sample{.operands = {i32(s)}, .attrs = {{"n", n}}, .int_lo = 0, .int_hi = n - 1};
  });
}
std::vector<Sample> triangle_samples(SampleRng& rng) {
  return each_shape(rng, [&](int, Shape s) {
    while (s.size() < 2) s.push_back(Dim(rng.range(1, 4)));
    return Sample{.operands = {f32(s)}, .attrs = {{"diagonal", rng.range(-2, 2)}}};
  });
}

}  // namespace

const OpDef ops::zeros{.name = "zeros",
                       .doc = "A tensor of zeros: zeros(f32[N, 4]).",
                       .attrs = {{"shape", AttrKind::kInts, kRequired, "the shape of the result"},
                                 {"dtype", AttrKind::kDType, "f32", "the dtype of the result"}},
                       .infer = infer_constant,
                       .expand = expand_zeros,
                       .no_gradient = true,
                       .samples = constant_samples};
const OpDef ops::ones{.name = "ones",
                      .doc = "A tensor of ones: ones(f32[N, 4]).",
                      .attrs = {{"shape", AttrKind::kInts, kRequired, "the shape of the result"},
                                {"dtype", AttrKind::kDType, "f32", "the dtype of the result"}},
                      .infer = infer_constant,
                      .expand = expand_ones,
                      .no_gradient = true,
                      .samples = constant_samples};

const OpDef ops::squeeze{
    .name = "squeeze",
    .doc = "Drops axes of size 1.",
    .operands = {{"x"}},
    .attrs = {{"axes", AttrKind::kInts, "[]", "the axes to drop; none given: all of size 1"}},
    .infer = infer_squeeze,
    .expand = expand_reshape,
    .samples = squeeze_samples};
const OpDef ops::unsqueeze{
    .name = "unsqueeze",
    .doc = "Inserts axes of size 1.",
    .operands = {{"x"}},
    .attrs = {{"axes", AttrKind::kInts, kRequired, "where the new axes are in the result"}},
    .infer = infer_unsqueeze,
    .expand = expand_reshape,
    .samples = unsqueeze_samples};
const OpDef ops::flatten{.name = "flatten",
                         .doc = "Joins the axes from..to into one. A scalar becomes one element.",
                         .operands = {{"x"}},
                         .attrs = {{"from", AttrKind::kInt, "1", "the first axis to join"},
                                   {"to", AttrKind::kInt, "-1", "the last axis to join"}},
                         .infer = infer_flatten,
                         .expand = expand_reshape,
                         .samples = flatten_samples};

const OpDef ops::split{
    .name = "split",
    .doc =
        "Cuts x into parts along an axis: split(x, 3) into three equal ones, split(x, [2, 5]) by sizes. As "
        "many "
        "results as parts.",
    .operands = {{"x"}},
    .attrs = {{"sections", AttrKind::kInts, kRequired, "one number: of equal parts; several: their sizes"},
              {"axis", AttrKind::kInt, "0", "the axis to cut"}},
    .infer = infer_split,
    .expand = expand_split,
    .grad = split_grad,
    .samples = split_samples};
const OpDef ops::stack{.name = "stack",
                       .doc = "Joins tensors of one shape along a new axis.",
                       .operands = {{"xs", kAnyType, Arity::kVariadic}},
                       .attrs = {{"axis", AttrKind::kInt, "0", "where the new axis is in the result"}},
                       .infer = infer_stack,
                       .expand = expand_stack,
                       .samples = stack_samples};
const OpDef ops::select_index{
    .name = "select_index",
    .doc =
        "One slice along an axis, which is dropped: x[i]. A negative index counts from the "
        "end.",
    .operands = {{"x"}},
    .attrs = {{"index", AttrKind::kInt, kRequired, "which slice"},
              {"axis", AttrKind::kInt, "0", "the axis to index"}},
    .infer = infer_select_index,
    .expand = expand_select_index,
    .samples = select_index_samples};

const OpDef ops::rearrange{
    .name = "rearrange",
    .doc =
        "Splits, permutes and joins axes by name, as einops does: rearrange(x, \"n t (h e) -> n h t e\", "
        "h=12). 1 is "
        "an axis of size 1, ... any number of axes.",
    .operands = {{"x"}},
    .attrs = {{"pattern", AttrKind::kString, kRequired, "the axes before and after"}},
    .infer = infer_rearrange,
    .expand = expand_rearrange,
    .free_attrs = "sizes of the pattern's axes by name, where a group leaves more than one open",
    .samples = rearrange_samples};

const OpDef ops::one_hot{
    .name = "one_hot",
    .doc = "A new last axis that is 1 at the index and 0 elsewhere; an index outside 0..n-1 gives zeros.",
    .operands = {{"ids", kInts}},
    .attrs = {{"n", AttrKind::kInt, kRequired, "the size of the new axis"},
              {"dtype", AttrKind::kDType, "f32", "the dtype of the result"}},
    .infer = infer_one_hot,
    .expand = expand_one_hot,
    .no_gradient = true,
    .samples = one_hot_samples};
const OpDef ops::tril{.name = "tril",
                      .doc = "The lower triangle of the last two axes; zeros above the diagonal.",
                      .operands = {{"x", kNumbers}},
                      .attrs = {{"diagonal", AttrKind::kInt, "0", "how far above the main diagonal to keep"}},
                      .infer = infer_triangle,
                      .expand = expand_tril,
                      .samples = triangle_samples};
const OpDef ops::triu{
    .name = "triu",
    .doc = "The upper triangle of the last two axes; zeros below the diagonal.",
    .operands = {{"x", kNumbers}},
    .attrs = {{"diagonal", AttrKind::kInt, "0", "how far above the main diagonal to start"}},
    .infer = infer_triangle,
    .expand = expand_triu,
    .samples = triangle_samples};

}  // namespace graphc
