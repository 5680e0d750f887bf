// The compile half of cuBLASLt: one matmul out of a contraction region. What is legal follows the cuBLASLt
// manual
// ("cublasLtMatmul()": tables of types; cublasLtEpilogue_t), as nothing can be asked without a card.
//
// cuBLASLt is column-major: the row-major product D = A B is its D' = B' A', so that its bias, which runs
// along the rows of D', runs along our columns. That swap is the execution half's; here everything is
// row-major.
#include <algorithm>
#include <cmath>
#include <span>
#include <unordered_map>

#include <fmt/format.h>

#include "backends/cuda/exec/cublaslt_call.h"
#include "backends/cuda/libraries/library_calls.h"
#include "backends/cuda/libraries/operand_view.h"
#include "backends/cuda/libraries/product_call.h"
#include "ir/op.h"

namespace graphc::cuda {
namespace {

using Epilogue = CublasLtCall::Epilogue;
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

// The derivative of gelu as cuBLASLt computes it, x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
double gelu_tanh_slope(double x) {
  const double t = std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
}

// alpha * product + beta * c + bias
struct Linear {
  double alpha = 0, beta = 0;
  const Value *c = nullptr, *bias = nullptr;
  int terms = 0;  // looked at
};

class Planner {
 public:
  Planner(const Func& region, const Node& dot)
      : region_(region), dot_(dot), product_(dot.result()), ranges_(region.ranges()) {}

  Result<RegionCall> plan() {
    GC_CHECK(types(region_.body.results));
    GC_CHECK(matrices());
    GC_CHECK(results());
    GC_CHECK(place_linear());
    return finish();
  }
  // The product alone, into a workspace.
  Result<RegionCall> plan_product(int workspace) {
    GC_CHECK(types(std::span<Value* const>(&product_, 1)));
    GC_CHECK(matrices());
    call_.d = full(KernelArgKind::kWorkspace, workspace);
    linear_.alpha = 1;
    GC_CHECK(place_linear());
    return finish();
  }

 private:
  Result<RegionCall> finish() {
    out_.library = "cublaslt";
    out_.call = call_.to_string();
    out_.workspace_bytes = kWorkspaceBytes;
    return std::move(out_);
  }
  CallSize size(const Dim& d) {
    const Dim s = ranges_.simplify(d);
    if (const auto constant = s.as_constant()) return {*constant};
    for (size_t i = 0; i < out_.sizes.size(); ++i)
      if (out_.sizes[i] == s) return {0, static_cast<int>(i)};
    out_.sizes.push_back(s);
    return {0, static_cast<int>(out_.sizes.size()) - 1};
  }
  int arg(KernelArgKind kind, int index) {
    for (size_t i = 0; i < out_.args.size(); ++i)
      if (out_.args[i] == KernelArg{kind, index}) return static_cast<int>(i);
    out_.args.push_back({kind, index});
    return static_cast<int>(out_.args.size()) - 1;
  }

  Status types(std::span<Value* const> results) {
    if (results.empty()) return unsupported("the region has no result");
    GC_TRY(a_, operand_view(region_, dot_.operands[0]));
    GC_TRY(b_, operand_view(region_, dot_.operands[1]));
    call_.in = a_.dtype;
    call_.out = results[0]->type.dtype;
    if (a_.dtype != b_.dtype)
      return unsupported(
          fmt::format("operands of two types, {} and {}", dtype_name(a_.dtype), dtype_name(b_.dtype)));
    for (const Value* r : results)
      if (r->type.dtype != call_.out) return unsupported("results of several types");
    if (!cublaslt_compute_type(call_.in, call_.out))
      return unsupported(fmt::format("{} operands and a result of {} aren't among the types that it combines",
                                     dtype_name(call_.in), dtype_name(call_.out)));
    if (dtype_size(dot_.result()->type.dtype) > 4 && call_.in != DType::kF64)
      return unsupported(fmt::format("the product of {} operands is wanted in f64", dtype_name(call_.in)));
    return ok_status();
  }

  Result<CublasLtCall::Matrix> matrix(const OperandView& v, const std::vector<int64_t>& batch,
                                      const std::vector<int64_t>& rows, const std::vector<int64_t>& columns,
                                      std::string_view name) {
    const auto b = run_of_axes(v, batch, ranges_), r = run_of_axes(v, rows, ranges_),
               c = run_of_axes(v, columns, ranges_);
    if (!b) return unsupported(fmt::format("operand {}'s batch axes aren't equally spaced in memory", name));
    if (!r || !c) return unsupported(fmt::format("operand {}'s axes aren't one matrix in memory", name));
    CublasLtCall::Matrix m;
    m.arg = arg(KernelArgKind::kOperand, v.arg);
    m.offset = size(v.offset);
    m.stride = size(b->stride);
    const bool one_row = r->size.is_constant(1), one_column = c->size.is_constant(1);
    const auto follows = [&](const Dim& stride) { return stride.is_constant(1); };
    if ((one_row || !r->stride.is_constant(0)) &&
        (follows(c->stride) || (one_column && !follows(r->stride)))) {
      m.ld = size(one_row ? c->size : r->stride);
    } else if ((one_column || !c->stride.is_constant(0)) && (follows(r->stride) || one_row)) {
      m.trans = true;
      m.ld = size(one_column ? r->size : c->stride);
    } else {
      return unsupported(fmt::format("neither axis of operand {} is contiguous", name));
    }
    return m;
  }

  Status matrices() {
    const auto ab = dot_.attr("a_batch").as_ints(), bb = dot_.attr("b_batch").as_ints();
    const auto ak = dot_.attr("a_contract").as_ints(), bk = dot_.attr("b_contract").as_ints();
    const auto free = [](const Value* v, const std::vector<int64_t>& batch,
                         const std::vector<int64_t>& contract) {
      std::vector<int64_t> out;
      for (int64_t i = 0; i < v->type.rank(); ++i)
        if (std::find(batch.begin(), batch.end(), i) == batch.end() &&
            std::find(contract.begin(), contract.end(), i) == contract.end())
          out.push_back(i);
      return out;
    };
    const auto am = free(dot_.operands[0], ab, ak), bn = free(dot_.operands[1], bb, bk);
    const auto product_of = [](const OperandView& v, const std::vector<int64_t>& axes) {
      Dim d = 1;
      for (const int64_t i : axes) d = d * v.shape[static_cast<size_t>(i)];
      return d;
    };
    batch_ = product_of(a_, ab);
    m_ = product_of(a_, am);
    n_ = product_of(b_, bn);
    n_axes_ = bn.size();
    mn_axes_ = am.size() + bn.size();
    const Dim k = product_of(a_, ak);
    for (const Dim* d : std::initializer_list<const Dim*>{&batch_, &m_, &n_, &k})
      if (d->is_constant(0)) return unsupported("a size is 0");
    call_.m = size(m_);
    call_.n = size(n_);
    call_.k = size(k);
    call_.batch = size(batch_);
    GC_TRY(call_.a, matrix(a_, ab, am, ak, "a"));
    GC_TRY(call_.b, matrix(b_, bb, bk, bn, "b"));
    return ok_status();
  }

  // D, and what lies in memory like it.
  CublasLtCall::Matrix full(KernelArgKind kind, int index) {
    CublasLtCall::Matrix m;
    m.arg = arg(kind, index);
    m.ld = size(n_);
    if (!batch_.is_constant(1)) m.stride = size(m_ * n_);
    return m;
  }

  // --- the epilogue ---

  // A cast that nothing is lost by, or the last one, to the type of the result.
  static const Value* through_casts(const Value* v, DType last) {
    while (
        v->node && v->node->op == &ops::cast && is_float(v->node->operands[0]->type.dtype) &&
        (v->type.dtype == last || dtype_size(v->type.dtype) > dtype_size(v->node->operands[0]->type.dtype)))
      v = v->node->operands[0];
    return v;
  }
  bool from_product(const Value* v) {
    if (v == dot_.result()) return true;
    if (!v->node) return false;
    const auto [known, is_new] = from_product_.emplace(v, false);
    if (!is_new) return known->second;
    bool any = false;
    for (const Value* o : v->node->operands) any = any || from_product(o);
    return from_product_[v] = any;
  }
  static std::optional<double> constant(const Value* v) {
    while (v->node && v->node->op == &ops::expand) v = v->node->operands[0];
    if (!v->node || v->node->op != &ops::full) return std::nullopt;
    const Attr& a = v->node->attr("value");
    return a.is_float() ? a.as_float()
           : a.is_int() ? static_cast<double>(a.as_int())
                        : std::optional<double>();
  }

  Status linear(const Value* v, double scale, Linear& out) {
    if (++out.terms > 64) return unsupported("its epilogue is a long sum");
    const Value* inner = through_casts(v, DType::kBool);
    if (inner == dot_.result()) {
      out.alpha += scale;
      return ok_status();
    }
    if (!from_product(v)) return addend(v, scale, out);
    const Node& n = *inner->node;
    if (n.op == &ops::add || n.op == &ops::sub) {
      GC_CHECK(linear(n.operands[0], scale, out));
      return linear(n.operands[1], n.op == &ops::add ? scale : -scale, out);
    }
    if (n.op == &ops::neg) return linear(n.operands[0], -scale, out);
    if (n.op == &ops::mul)
      for (const int i : {0, 1})
        if (const auto c = constant(n.operands[i])) return linear(n.operands[1 - i], scale * *c, out);
    if (n.op == &ops::div)
      if (const auto c = constant(n.operands[1]); c && *c != 0) return linear(n.operands[0], scale / *c, out);
    return unsupported(fmt::format("it has no epilogue with {}", n.op->name));
  }

  Status addend(const Value* v, double scale, Linear& out) {
    if (++out.terms > 64) return unsupported("its epilogue is a long sum");
    if (v->node && v->node->op == &ops::mul)
      for (const int i : {0, 1})
        if (const auto c = constant(v->node->operands[i]))
          return addend(v->node->operands[1 - i], scale * *c, out);
    const Value* leaf = v;  // broadcasts align at the end, as the add itself does
    while (leaf->node && leaf->node->op == &ops::expand) leaf = leaf->node->operands[0];
    if (leaf->node)
      return unsupported(fmt::format("what is added is computed in the region, by {}", leaf->node->op->name));
    if (leaf->type.dtype != call_.out)
      return unsupported(
          fmt::format("{} is added to a result of {}", dtype_name(leaf->type.dtype), dtype_name(call_.out)));
    if (is_full(leaf) || is_matrix(leaf)) {
      if (out.c && out.c != leaf) return unsupported("two tensors are added, one is possible");
      out.c = leaf;
      out.beta += scale;
      return ok_status();
    }
    if (!is_bias(leaf))
      return unsupported(fmt::format("{} is added: neither a result's shape nor one value a column",
                                     leaf->type.to_string()));
    if (out.bias) return unsupported("two biases are added, one is possible");
    if (scale != 1) return unsupported("the bias is scaled");
    out.bias = leaf;
    return ok_status();
  }

  const Shape& result_shape() const { return dot_.result()->type.shape; }
  // The last `axes` axes of the result, leading ones of size 1 aside.
  bool has_trailing(const Value* v, size_t axes) const {
    const Shape& s = v->type.shape;
    const Shape& r = result_shape();
    const size_t ones = s.size() < axes ? 0 : s.size() - axes;
    if (s.size() < axes) return false;
    for (size_t i = 0; i < ones; ++i)
      if (!s[i].is_constant(1)) return false;
    for (size_t i = 0; i < axes; ++i)
      if (s[ones + i] != r[r.size() - axes + i]) return false;
    return true;
  }
  bool is_full(const Value* v) const {
    if (has_trailing(v, result_shape().size())) return true;
    size_t ones = 0;  // of the result, which v may lack
    while (ones < result_shape().size() && result_shape()[ones].is_constant(1)) ++ones;
    for (size_t i = 1; i <= ones; ++i)
      if (has_trailing(v, result_shape().size() - i)) return true;
    return false;
  }
  // One matrix for the whole batch.
  bool is_matrix(const Value* v) const { return has_trailing(v, mn_axes_) && n_axes_ < mn_axes_; }
  bool is_bias(const Value* v) const { return n_axes_ > 0 && has_trailing(v, n_axes_); }

  // The results: D, and perhaps what goes into gelu.
  Status results() {
    const auto& results = region_.body.results;
    if (results.size() > 2) return unsupported(fmt::format("{} results", results.size()));
    for (const Value* r : results)
      if (!from_product(r)) return unsupported("a result that doesn't depend on the product");
    const RegionCall before = out_;
    const CublasLtCall call_before = call_;
    Status last = ok_status();
    for (size_t d = 0; d < results.size(); ++d) {
      out_ = before;
      call_ = call_before;
      last = result(d);
      if (last.ok()) return last;
    }
    return last;
  }

  Status result(size_t d) {
    const auto& results = region_.body.results;
    const Value* v = through_casts(results[d], call_.out);
    const Node* n = v->node;
    linear_ = {};
    const Value* input = nullptr;  // of the activation
    if (n->op == &ops::relu) {
      call_.epilogue = Epilogue::kRelu;
      input = n->operands[0];
    } else if (n->op == &ops::maximum) {
      for (const int i : {0, 1})
        if (const auto c = constant(n->operands[i]); c && *c == 0) input = n->operands[1 - i];
      if (!input) return unsupported("it has no epilogue with maximum, but for relu");
      call_.epilogue = Epilogue::kRelu;
    } else if (n->op == &ops::gelu) {
      if (n->attr("approx").as_string() != "tanh")
        return unsupported("gelu by the error function: cuBLASLt's is the tanh form");
      call_.epilogue = Epilogue::kGelu;
      input = n->operands[0];
    } else if (n->op == &ops::mul && from_product(n->operands[0]) != from_product(n->operands[1]) &&
               !constant(n->operands[0]) && !constant(n->operands[1])) {
      const int product = from_product(n->operands[0]) ? 0 : 1;
      GC_TRY(const Value* x, gelu_slope_of(n->operands[1 - product]));
      call_.epilogue = Epilogue::kDgelu;
      input = n->operands[product];
      call_.aux = full(KernelArgKind::kOperand, index_of_arg(x));
    }
    GC_CHECK(linear(input ? input : v, 1, linear_));
    if (linear_.alpha == 0) return unsupported("the product cancels out");
    if (call_.epilogue == Epilogue::kDgelu && (linear_.bias || linear_.c))
      return unsupported("something is added before gelu's gradient");
    if (results.size() == 2) {
      const Value* other = through_casts(results[1 - d], call_.out);
      if (call_.epilogue == Epilogue::kRelu && other == through_casts(input, call_.out))
        return unsupported("what goes into relu is wanted as well: cuBLASLt gives its signs as bits");
      if (call_.epilogue != Epilogue::kGelu || other != through_casts(input, call_.out))
        return unsupported("two results, of which neither is what goes into the other's gelu");
      call_.aux = full(KernelArgKind::kResult, static_cast<int>(1 - d));
    }
    call_.d = full(KernelArgKind::kResult, static_cast<int>(d));
    // ReLU bits aside, aux is the only matrix with a rule for its rows.
    if (const auto n_constant = n_.as_constant(); call_.aux.arg >= 0 && n_constant && *n_constant % 8 != 0)
      return unsupported(fmt::format("gelu's input needs rows of a multiple of 8, not {}", *n_constant));
    return ok_status();
  }

  Status place_linear() {
    call_.alpha = linear_.alpha;
    if (linear_.c && linear_.beta != 0) {
      call_.beta = linear_.beta;
      call_.c = full(KernelArgKind::kOperand, index_of_arg(linear_.c));
      if (!is_full(linear_.c)) call_.c.stride = {};
    }
    if (linear_.bias) call_.bias = arg(KernelArgKind::kOperand, index_of_arg(linear_.bias));
    for (const Dim& d : out_.sizes)
      if (d.overflowed()) return unsupported("its sizes leave 64 bits");
    return ok_status();
  }

  int index_of_arg(const Value* v) const {
    for (size_t i = 0; i < region_.body.args.size(); ++i)
      if (region_.body.args[i].get() == v) return static_cast<int>(i);
    return -1;
  }

  // v as a function of one operand. `work`: how large the tree may get.
  Result<Expr> function_of(const Value* v, const Value*& leaf, int& work) {
    if (--work < 0) return unsupported("the product is multiplied by a long formula");
    if (const auto c = constant(v)) return Expr::constant(*c, DType::kF64);
    while (v->node && (v->node->op == &ops::expand || v->node->op == &ops::cast)) v = v->node->operands[0];
    if (!v->node) {
      if (leaf && leaf != v) return unsupported("the product is multiplied by more than gelu's gradient");
      leaf = v;
      return Expr::arg(0, DType::kF64);
    }
    if (!v->node->op->scalar)
      return unsupported(fmt::format("the product is multiplied by {}", v->node->op->name));
    std::vector<Expr> operands;
    for (const Value* o : v->node->operands) {
      GC_TRY(Expr e, function_of(o, leaf, work));
      operands.push_back(std::move(e));
    }
    for (const Expr& e : operands)
      if (e.type() != operands[0].type())
        return unsupported("the product is multiplied by something with conditions");
    return v->node->op->scalar(operands, v->node->attrs);
  }
  // The operand that v is the slope of gelu at. What passes make of the derivative varies, so v is told by
  // its values: two such formulas that agree to 1e-12 on all of -9 .. 9 are taken to be the same.
  Result<const Value*> gelu_slope_of(const Value* v) {
    const Value* leaf = nullptr;
    int work = 500;
    GC_TRY(const Expr f, function_of(v, leaf, work));
    const auto other = [] {
      return unsupported("the product is multiplied by a tensor that isn't gelu's gradient");
    };
    if (!leaf || !is_full(leaf) || leaf->type.dtype != call_.out || !is_float(f.type())) return other();
    for (double x = -9; x <= 9; x += 0.0625 + 0.001) {
      const ScalarValue at{x, 0};
      if (!(std::fabs(eval_scalar(f, &at).d - gelu_tanh_slope(x)) <= 1e-12)) return other();
    }
    return leaf;
  }

  const Func& region_;
  const Node& dot_;
  Value* product_;
  DimRanges ranges_;
  RegionCall out_;
  CublasLtCall call_;
  OperandView a_, b_;
  Dim batch_ = 1, m_ = 1, n_ = 1;
  size_t n_axes_ = 0, mn_axes_ = 0;
  Linear linear_;
  std::unordered_map<const Value*, bool> from_product_;
};

}  // namespace

namespace {

Result<const Node*> the_product(const Func& region) {
  const Node* dot = nullptr;
  for (const auto& n : region.body.nodes) {
    if (n->op->name.starts_with("convolution")) return unsupported("it has no convolutions");
    if (n->op != &ops::dot_general) continue;
    if (dot) return unsupported("the region has two products");
    dot = n.get();
  }
  if (!dot) return unsupported("there is no matrix product");
  return dot;
}

// Sums so long that a product is worth being written and read once more. Sizes that aren't known are taken to
// be large, as those of batches are.
bool is_long(const Node& dot) {
  const Value* a = dot.operands[0];
  Dim k = 1;
  for (const int64_t i : dot.attr("a_contract").as_ints()) k = k * a->type.shape[static_cast<size_t>(i)];
  const int64_t enough = dtype_size(a->type.dtype) < 4 ? 32 : 256;
  return !k.is_constant() || k.constant() >= enough;
}

}  // namespace

Result<RegionCall> cublaslt_call(const Func& region) {
  GC_TRY(const Node* dot, the_product(region));
  return Planner(region, *dot).plan();
}

Result<RegionCall> cublaslt_product_call(const Func& region, const CudaTarget& target,
                                         LoweredRegion& lowered) {
  GC_TRY(const Node* dot, the_product(region));
  if (!is_long(*dot)) return unsupported("its sums are too short for a product apart from its epilogue");
  return call_and_kernels(region, *dot, target, lowered,
                          [&](int workspace) { return Planner(region, *dot).plan_product(workspace); });
}

}  // namespace graphc::cuda
