// Elementwise ops defined by a tree over the primitives. Gradients come from the trees, except where the
// tree's own derivative would be inf * 0 for large arguments.
#include "ir/ops/common.h"

namespace graphc {
namespace {

double number(const Attrs& a, std::string_view name) { return a.find(name)->second.as_float(); }
using Args = std::span<const Expr>;

// max(0, x) with 0 first: of equals the first gets the gradient, so it is 0 at 0; NaN passes.
Expr relu_tree(Args x, const Attrs&) { return maximum(0.0, x[0]); }
Expr leaky_relu_tree(Args x, const Attrs& a) { return select(x[0] > 0.0, x[0], number(a, "slope") * x[0]); }
Expr prelu_tree(Args x, const Attrs&) { return select(x[0] > 0.0, x[0], x[1] * x[0]); }
Expr elu_tree(Args x, const Attrs& a) { return select(x[0] > 0.0, x[0], number(a, "alpha") * expm1(x[0])); }
Expr selu_tree(Args x, const Attrs&) {
  return 1.0507009873554805 * select(x[0] > 0.0, x[0], 1.6732632423543772 * expm1(x[0]));
}
Expr sigmoid_of(const Expr& x) { return 1.0 / (1.0 + exp(-x)); }
Expr sigmoid_tree(Args x, const Attrs&) { return sigmoid_of(x[0]); }
Expr silu_tree(Args x, const Attrs&) { return x[0] / (1.0 + exp(-x[0])); }
Expr gelu_tree(Args x, const Attrs& a) {
  if (a.find("approx")->second.as_string() == "tanh")
    return 0.5 * x[0] *
           (1.0 + tanh(0.7978845608028654 * (x[0] + 0.044715 * x[0] * x[0] * x[0])));  // sqrt(2/pi)
  return 0.5 * x[0] * (1.0 + erf(x[0] * 0.7071067811865476));
}
Expr hardsigmoid_tree(Args x, const Attrs&) { return minimum(maximum(0.0, x[0] + 3.0), 6.0) / 6.0; }
Expr hardswish_tree(Args x, const Attrs&) { return x[0] * (minimum(maximum(0.0, x[0] + 3.0), 6.0) / 6.0); }
Expr clamp_tree(Args x, const Attrs& a) { return minimum(maximum(x[0], number(a, "min")), number(a, "max")); }
Expr square_tree(Args x, const Attrs&) { return x[0] * x[0]; }
Expr reciprocal_tree(Args x, const Attrs&) { return 1.0 / x[0]; }

Inferred infer_gelu(InferContext& c) {
  const std::string& approx = c.attrs.find("approx")->second.as_string();
  if (approx != "none" && approx != "tanh")
    return call_error(c, "approx=\"{}\" must be \"none\" (the error function) or \"tanh\"", approx);
  return infer_same(c);
}

Inferred infer_clamp(InferContext& c) {
  double lo = number(c.attrs, "min"), hi = number(c.attrs, "max");
  if (!(lo <= hi)) return call_error(c, "min={} must not be above max={}", lo, hi);
  return infer_same(c);
}

Expr arg_of(const GradCall& c, int i) { return Expr::arg(i, c.operand(0)->type.dtype); }

// Decided by the result, which is 0 exactly where x <= 0 and NaN where x is: what comes next in a network
// mostly keeps the result for its own gradient, and then neither x nor a mask has to be kept beside it.
std::vector<Value*> relu_grad(Builder& b, const GradCall& c) {
  Value *y = c.results[0], *zero = b.full(0, y->type.dtype);
  return {b.where(b.compare(ScalarOp::kGe, zero, y), zero, c.cotangent())};
}

// y (1 - y): the tree's own derivative is inf * 0 where exp(-x) overflows.
std::vector<Value*> sigmoid_grad(Builder& b, const GradCall& c) {
  Expr y = arg_of(c, 0), dy = arg_of(c, 1);
  return {b.from_expr(dy * (y * (1.0 - y)), {c.results[0], c.cotangent()})};
}
std::vector<Value*> silu_grad(Builder& b, const GradCall& c) {
  Expr x = arg_of(c, 0), s = sigmoid_of(x), dy = arg_of(c, 1);
  return {b.from_expr(dy * (s * (1.0 + x * (1.0 - s))), {c.operand(0), c.cotangent()})};
}

std::vector<Sample> gelu_samples(SampleRng& rng) {
  auto samples = unary_samples(rng);
  for (size_t i = 0; i < samples.size(); i += 2) samples[i].attrs["approx"] = Attr("tanh");
  return samples;
}
std::vector<Sample> clamp_samples(SampleRng& rng) {
  auto samples = unary_samples(rng);
  for (Sample& s : samples) {
    s.attrs["min"] = Attr(rng.uniform(-1.5, -0.1));
    if (rng.range(0, 1)) s.attrs["max"] = Attr(rng.uniform(0.1, 1.5));
  }
  return samples;
}
std::vector<Sample> wide_samples(SampleRng& rng) { return elementwise_samples(rng, 1, DType::kF32, -6, 6); }

}  // namespace

const OpDef ops::relu{.name = "relu",
                      .doc = "max(x, 0). The gradient at 0 is 0; NaN passes.",
                      .operands = {{"x", kNumbers}},
                      .infer = infer_same,
                      .scalar = relu_tree,
                      .grad = relu_grad,
                      .samples = unary_samples};

const OpDef ops::leaky_relu{.name = "leaky_relu",
                            .doc = "x where x > 0, else slope * x.",
                            .operands = {{"x", kFloats}},
                            .attrs = {{"slope", AttrKind::kFloat, "0.01", "the factor for x <= 0"}},
                            .infer = infer_same,
                            .scalar = leaky_relu_tree,
                            .samples = unary_samples};

const OpDef ops::prelu{
    .name = "prelu",
    .doc =
        "x where x > 0, else w * x; w broadcasts (give it the shape [C, 1, 1] for a slope per "
        "channel of [N, C, H, W]). He et al. 2015.",
    .operands = {{"x", kFloats}, {"w", kFloats}},
    .infer = infer_elementwise,
    .scalar = prelu_tree,
    .samples = binary_samples};

const OpDef ops::elu{
    .name = "elu",
    .doc = "x where x > 0, else alpha * (exp(x) - 1). Clevert et al. 2015.",
    .operands = {{"x", kFloats}},
    .attrs = {{"alpha", AttrKind::kFloat, "1.0", "the limit for large negative x is -alpha"}},
    .infer = infer_same,
    .scalar = elu_tree,
    .samples = unary_samples};

const OpDef ops::selu{
    .name = "selu",
    .doc = "elu with alpha and scale that keep mean 0 and variance 1. Klambauer et al. 2017.",
    .operands = {{"x", kFloats}},
    .infer = infer_same,
    .scalar = selu_tree,
    .samples = unary_samples};

const OpDef ops::gelu{.name = "gelu",
                      .doc =
                          "x times the normal distribution's cumulative function at x: x/2 (1 + erf(x / sqrt "
                          "2)); approx=\"tanh\" is "
                          "x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). Hendrycks, Gimpel 2016.",
                      .operands = {{"x", kFloats}},
                      .attrs = {{"approx", AttrKind::kString, "\"none\"", "\"none\" or \"tanh\""}},
                      .infer = infer_gelu,
                      .scalar = gelu_tree,
                      .samples = gelu_samples};

const OpDef ops::silu{.name = "silu",
                      .doc = "x * sigmoid(x), also called swish.",
                      .operands = {{"x", kFloats}},
                      .infer = infer_same,
                      .scalar = silu_tree,
                      .grad = silu_grad,
                      .samples = unary_samples};

const OpDef ops::softplus{
    .name = "softplus",
    .doc = "log(1 + exp(beta x)) / beta, written so that it overflows nowhere. Dugas et al. 2001.",
    .operands = {{"x", kFloats}},
    .attrs = {{"beta", AttrKind::kFloat, "1.0", "how sharply it bends"}},
    .infer = infer_same,
    .scalar =
        [](Args x, const Attrs& a) {
          const Expr z = x[0] * number(a, "beta");
          return (graphc::maximum(z, 0.0) + graphc::log1p(graphc::exp(-graphc::abs(z)))) / number(a, "beta");
        },
    // the tree's own derivative is wrong at 0, where maximum and abs bend
    .grad = [](Builder& b, const GradCall& c) -> std::vector<Value*> {
      return {b.from_expr(arg_of(c, 1) * sigmoid_of(arg_of(c, 0) * number(c.attrs, "beta")),
                          {c.operand(0), c.cotangent()})};
    },
    .samples = wide_samples};

const OpDef ops::sigmoid{.name = "sigmoid",
                         .doc = "1 / (1 + exp(-x)).",
                         .operands = {{"x", kFloats}},
                         .infer = infer_same,
                         .scalar = sigmoid_tree,
                         .grad = sigmoid_grad,
                         .samples = unary_samples};

const OpDef ops::hardsigmoid{.name = "hardsigmoid",
                             .doc = "clamp(x + 3, 0, 6) / 6.",
                             .operands = {{"x", kFloats}},
                             .infer = infer_same,
                             .scalar = hardsigmoid_tree,
                             .samples = wide_samples};

const OpDef ops::hardswish{.name = "hardswish",
                           .doc = "x * hardsigmoid(x). Howard et al. 2019.",
                           .operands = {{"x", kFloats}},
                           .infer = infer_same,
                           .scalar = hardswish_tree,
                           .samples = wide_samples};

const OpDef ops::clamp{
    .name = "clamp",
    .doc =
        "x limited to min..max; NaN passes. The gradient is 1 inside, limits included, and 0 "
        "outside.",
    .operands = {{"x", kNumbers}},
    .attrs = {{"min", AttrKind::kFloat, "-inf", "the lower limit"},
              {"max", AttrKind::kFloat, "inf", "the upper limit"}},
    .infer = infer_clamp,
    .scalar = clamp_tree,
    .samples = clamp_samples};

const OpDef ops::square{.name = "square",
                        .doc = "x * x.",
                        .operands = {{"x", kNumbers}},
                        .infer = infer_same,
                        .scalar = square_tree,
                        .samples = unary_samples};

const OpDef ops::reciprocal{.name = "reciprocal",
                            .doc = "1 / x.",
                            .operands = {{"x", kFloats}},
                            .infer = infer_same,
                            .scalar = reciprocal_tree,
                            .samples = positive_samples};

}  // namespace graphc
