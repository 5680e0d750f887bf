// fold: what only constants enter is computed now.
//
//   before:  %0 = full() {dtype=f32, shape=[], value=2.0}     after:  %0 = full() {.., value=8.0}
//            %1 = full() {dtype=f32, shape=[], value=3.0}             %1 = mul(%x, %0)
//            %2 = pow(%0, %1)                                         return %1
//            %3 = mul(%x, %2)
//            return %3
//
// A constant is a `full`: one value everywhere. Scalar ops of constants, data movement of constants and
// sums, products and extrema of them fold; sizes that are known (size_of of a constant) become constants. The
// value is computed as the reference computes it, in f64, and rounded to 16-bit types only by cast.
#include <cmath>

#include "ir/op.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace graphc {
namespace {

std::optional<ScalarValue> constant_of(const Value* v) {
  if (!v->node || v->node->op != &ops::full) return std::nullopt;
  const Attr& a = v->node->attr("value");
  if (a.is_float()) return ScalarValue{a.as_float(), 0};
  if (a.is_bool()) return ScalarValue{0, a.as_bool()};
  if (a.is_int() && a.as_dim().is_constant()) {
    if (is_float(v->type.dtype)) return ScalarValue{static_cast<double>(a.as_int()), 0};
    return ScalarValue{0, a.as_int()};
  }
  return std::nullopt;
}

Value* make_full(Builder& b, const ScalarValue& v, const TensorType& t) {
  const Attr value = is_float(t.dtype) ? Attr(v.d) : t.dtype == DType::kBool ? Attr(v.i != 0) : Attr(v.i);
  return b.create(ops::full, {}, {{"dtype", t.dtype}, {"shape", Attr::dims(t.shape)}, {"value", value}});
}

bool is_movement(const OpDef* op) {
  return op == &ops::expand || op == &ops::reshape || op == &ops::transpose || op == &ops::slice ||
         op == &ops::stop_gradient;
}

std::optional<ScalarValue> fold_reduction(const Node& n, const ScalarValue& x) {
  const Value* in = n.operands[0];
  if (n.op == &ops::max || n.op == &ops::min || n.op == &ops::all || n.op == &ops::any) {
    // of nothing there is no extremum to know
    for (const Dim& d : in->type.shape)
      if (!d.is_constant() || d.constant() <= 0) return std::nullopt;
    return x;
  }
  if (n.op != &ops::sum && n.op != &ops::prod) return std::nullopt;
  Dim count = 1;
  for (int64_t a : n.attr("axes").as_ints()) count *= in->type.shape[a];
  if (!count.is_constant() || !is_float(in->type.dtype)) return std::nullopt;
  const double c = static_cast<double>(count.constant());
  return ScalarValue{n.op == &ops::sum ? x.d * c : std::pow(x.d, c), 0};
}

}  // namespace

Status fold(Module& m) {
  for (auto& f : m.funcs) {
    rewrite(m, f->body, [](Node& n, Builder& b) -> Replacement {
      if (n.op == &ops::size_of) {
        const Dim d = n.attr("dim").as_dim();
        if (!d.is_constant()) return std::nullopt;
        const TensorType& t = n.result()->type;
        const int64_t size = d.constant();
        return {{make_full(
            b, is_float(t.dtype) ? ScalarValue{static_cast<double>(size), 0} : ScalarValue{0, size}, t)}};
      }
      if (n.operands.empty() || n.results.size() != 1) return std::nullopt;
      const bool reduction = n.op == &ops::sum || n.op == &ops::prod || n.op == &ops::max ||
                             n.op == &ops::min || n.op == &ops::all || n.op == &ops::any;
      if (!n.op->scalar && !is_movement(n.op) && !reduction) return std::nullopt;
      std::vector<ScalarValue> values;
      for (const Value* v : n.operands) {
        auto c = constant_of(v);
        if (!c) return std::nullopt;
        values.push_back(*c);
      }
      const TensorType& t = n.result()->type;
      if (is_movement(n.op)) return std::vector<Value*>{make_full(b, values[0], t)};
      if (reduction) {
        auto r = fold_reduction(n, values[0]);
        if (!r) return std::nullopt;
        return std::vector<Value*>{make_full(b, *r, t)};
      }
      std::vector<Expr> args;
      for (size_t i = 0; i < n.operands.size(); ++i)
        args.push_back(Expr::arg(static_cast<int>(i), n.operands[i]->type.dtype));
      return std::vector<Value*>{make_full(b, eval_scalar(n.op->scalar(args, n.attrs), values.data()), t)};
    });
  }
  return ok_status();
}

}  // namespace graphc
