#include "backends/kernels/contraction_form.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "ir/op.h"

namespace graphc {
namespace {

bool contains(const std::vector<int64_t>& v, int64_t x) {
  return std::find(v.begin(), v.end(), x) != v.end();
}

Result<ContractionForm> dot_form(const Node& core) {
  ContractionForm f;
  const Value* x = core.operands[0];
  const Value* y = core.operands[1];
  auto xb = core.attr("a_batch").as_ints(), yb = core.attr("b_batch").as_ints();
  auto xk = core.attr("a_contract").as_ints(), yk = core.attr("b_contract").as_ints();
  std::vector<int64_t> xf, yf;
  for (int64_t i = 0; i < x->type.rank(); ++i)
    if (!contains(xb, i) && !contains(xk, i)) xf.push_back(i);
  for (int64_t i = 0; i < y->type.rank(); ++i)
    if (!contains(yb, i) && !contains(yk, i)) yf.push_back(i);
  Shape xfs, yfs;
  for (int64_t i : xb) f.batch.push_back(x->type.shape[i]);
  for (int64_t i : xk) f.k.push_back(x->type.shape[i]);
  for (int64_t i : xf) xfs.push_back(x->type.shape[i]);
  for (int64_t i : yf) yfs.push_back(y->type.shape[i]);
  auto place = [](size_t rank, const std::vector<int64_t>& batch, const std::vector<int64_t>& free,
                  const std::vector<int64_t>& contract) {
    return [=](const Coords& b, const Coords& fr, const Coords& k) {
      ContractionPoint p;
      p.at.resize(rank);
      for (size_t i = 0; i < batch.size(); ++i) p.at[batch[i]] = b[i];
      for (size_t i = 0; i < free.size(); ++i) p.at[free[i]] = fr[i];
      for (size_t i = 0; i < contract.size(); ++i) p.at[contract[i]] = k[i];
      return p;
    };
  };
  auto at_x = place(x->type.shape.size(), xb, xf, xk);
  auto at_y = place(y->type.shape.size(), yb, yf, yk);
  // a vector on the right: the matrix takes the place of B, so that the result's axis is n
  bool swap = product(yfs).is_constant(1) && !product(xfs).is_constant(1);
  f.core = &core;
  if (swap) {
    f.a = y;
    f.b = x;
    f.m = yfs;
    f.n = xfs;
    f.at_a = [=](const Coords& b, const Coords& m, const Coords& k) { return at_y(b, m, k); };
    f.at_b = [=](const Coords& b, const Coords& k, const Coords& n) { return at_x(b, n, k); };
    f.at_c = [](const Coords& b, const Coords& m, const Coords& n) {
      Coords at = b;
      at.insert(at.end(), n.begin(), n.end());
      at.insert(at.end(), m.begin(), m.end());
      return at;
    };
  } else {
    f.a = x;
    f.b = y;
    f.m = xfs;
    f.n = yfs;
    f.at_a = [=](const Coords& b, const Coords& m, const Coords& k) { return at_x(b, m, k); };
    f.at_b = [=](const Coords& b, const Coords& k, const Coords& n) { return at_y(b, n, k); };
    f.at_c = [](const Coords& b, const Coords& m, const Coords& n) {
      Coords at = b;
      at.insert(at.end(), m.begin(), m.end());
      at.insert(at.end(), n.begin(), n.end());
      return at;
    };
  }
  return f;
}

// The taps of a strided axis that reach inputs x = stride * q + offset: first + step * j, j < count; the
// output of tap j is q + shift - j * back.
struct PhaseTaps {
  int64_t first = 0, step = 1, count = 0, shift = 0, back = 1;
};
PhaseTaps phase_taps(int64_t offset, int64_t stride, int64_t dilation, int64_t pad, int64_t window) {
  PhaseTaps p;
  p.step = stride / std::gcd(stride, dilation);
  p.back = p.step * dilation / stride;
  for (int64_t t = 0; t < window; ++t)
    if ((offset + pad - t * dilation) % stride == 0) {
      if (p.count++ > 0) continue;
      p.first = t;
      p.shift = (offset + pad - t * dilation) / stride;
    }
  return p;
}

Result<ContractionForm> conv_form(const Node& core, const std::vector<int64_t>& phase) {
  std::string_view op = core.op->name;
  bool forward = op == "convolution", input = op == "convolution_input_grad";
  ContractionForm f;
  f.core = &core;
  int64_t groups = core.attr("groups").as_int();
  auto stride = core.attr("stride").as_ints(), dilation = core.attr("dilation").as_ints();
  auto pad = core.attr("pad").as_ints();
  // x [N, C, in..], w [O, C/g, window..], y [N, O, out..]; one of them is the result
  const Value* first = core.operands[0];
  const Value* second = core.operands[1];
  const Value* result = core.result();
  Shape x = (forward ? first : input ? result : first)->type.shape;
  Shape w = (forward ? second : input ? second : result)->type.shape;
  Shape y = (forward ? result : input ? first : second)->type.shape;
  size_t spatial = x.size() - 2;
  Dim og = floordiv(y[1], groups), cg = w[1];
  Shape in(x.begin() + 2, x.end()), out(y.begin() + 2, y.end()), window(w.begin() + 2, w.end());
  auto tail = [](const Coords& c, size_t from) { return Coords(c.begin() + from, c.end()); };
  // the input coordinate of output o at tap t
  auto input_at = [=](Coords at, const Coords& o, const Coords& t) {
    ContractionPoint p;
    p.at = std::move(at);
    for (size_t i = 0; i < spatial; ++i) {
      Dim c = o[i] * stride[i] + t[i] * dilation[i] - pad[2 * i];
      p.at.push_back(c);
      p.guards.push_back(c);
      p.guards.push_back(in[i] - 1 - c);
    }
    return p;
  };
  auto with = [](Coords at, const Coords& more) {
    at.insert(at.end(), more.begin(), more.end());
    return at;
  };
  if (forward) {
    f.a = second;
    f.b = first;
    f.batch = {x[0], Dim(groups)};
    f.m = {og};
    f.n = out;
    f.k = with({cg}, window);
    f.at_a = [=](const Coords& b, const Coords& m, const Coords& k) {
      return ContractionPoint{with({b[1] * og + m[0]}, k), {}};
    };
    f.at_b = [=](const Coords& b, const Coords& k, const Coords& n) {
      return input_at({b[0], b[1] * cg + k[0]}, n, tail(k, 1));
    };
    f.at_c = [=](const Coords& b, const Coords& m, const Coords& n) {
      return with({b[0], b[1] * og + m[0]}, n);
    };
  } else if (input && !phase.empty()) {
    f.a = second;
    f.b = first;
    f.batch = {x[0], Dim(groups)};
    f.m = {cg};
    f.k = {og};
    std::vector<PhaseTaps> taps;
    for (size_t i = 0; i < spatial; ++i) {
      taps.push_back(phase_taps(phase[i], stride[i], dilation[i], pad[2 * i], window[i].constant()));
      f.n.push_back(ceildiv(in[i] - phase[i], stride[i]));
      f.k.push_back(taps[i].count);
    }
    f.at_a = [=](const Coords& b, const Coords& m, const Coords& k) {
      ContractionPoint p;
      p.at = {b[1] * og + k[0], m[0]};
      for (size_t i = 0; i < spatial; ++i) p.at.push_back(k[1 + i] * taps[i].step + taps[i].first);
      return p;
    };
    f.at_b = [=](const Coords& b, const Coords& k, const Coords& n) {
      ContractionPoint p;
      p.at = {b[0], b[1] * og + k[0]};
      for (size_t i = 0; i < spatial; ++i) {
        Dim o = n[i] + taps[i].shift - k[1 + i] * taps[i].back;
        p.at.push_back(o);
        p.guards.push_back(o);
        p.guards.push_back(out[i] - 1 - o);
      }
      return p;
    };
    f.at_c = [=](const Coords& b, const Coords& m, const Coords& n) {
      Coords at = {b[0], b[1] * cg + m[0]};
      for (size_t i = 0; i < spatial; ++i) at.push_back(n[i] * stride[i] + phase[i]);
      return at;
    };
  } else if (input) {
    f.a = second;
    f.b = first;
    f.batch = {x[0], Dim(groups)};
    f.m = {cg};
    f.n = in;
    f.k = with({og}, window);
    f.at_a = [=](const Coords& b, const Coords& m, const Coords& k) {
      return ContractionPoint{with({b[1] * og + k[0], m[0]}, tail(k, 1)), {}};
    };
    f.at_b = [=](const Coords& b, const Coords& k, const Coords& n) {
      ContractionPoint p;
      p.at = {b[0], b[1] * og + k[0]};
      for (size_t i = 0; i < spatial; ++i) {
        // n = o * stride + tap * dilation - pad
        Dim shifted = n[i] + pad[2 * i] - k[1 + i] * dilation[i];
        Dim o = floordiv(shifted, stride[i]);
        p.at.push_back(o);
        if (stride[i] != 1) p.guards.push_back(o * stride[i] - shifted);
        p.guards.push_back(o);
        p.guards.push_back(out[i] - 1 - o);
      }
      return p;
    };
    f.at_c = [=](const Coords& b, const Coords& m, const Coords& n) {
      return with({b[0], b[1] * cg + m[0]}, n);
    };
  } else {
    auto at_y = [=](const Coords& b, const Coords& o, const Coords& k) {
      return ContractionPoint{with({k[0], b[0] * og + o[0]}, tail(k, 1)), {}};
    };
    auto at_x = [=](const Coords& b, const Coords& c, const Coords& k) {
      return input_at({k[0], b[0] * cg + c[0]}, tail(k, 1), tail(c, 1));
    };
    f.batch = {Dim(groups)};
    f.k = with({x[0]}, out);
    // The windows of x are many; to broadcast them is to copy them as they lie. dy is turned round once.
    f.c_by_m = og.is_constant() && og.constant() >= 16;
    if (f.c_by_m) {
      f.a = first;
      f.b = second;
      f.m = with({cg}, window);
      f.n = {og};
      f.at_a = at_x;
      f.at_b = [=](const Coords& b, const Coords& k, const Coords& n) { return at_y(b, n, k); };
      f.at_c = [=](const Coords& b, const Coords& m, const Coords& n) { return with({b[0] * og + n[0]}, m); };
    } else {
      f.a = second;
      f.b = first;
      f.m = {og};
      f.n = with({cg}, window);
      f.at_a = at_y;
      f.at_b = [=](const Coords& b, const Coords& k, const Coords& n) { return at_x(b, n, k); };
      f.at_c = [=](const Coords& b, const Coords& m, const Coords& n) { return with({b[0] * og + m[0]}, n); };
    }
  }
  return f;
}

}  // namespace

bool is_contraction(const Node& n) {
  return n.op->name == "dot_general" || n.op->name == "convolution" ||
         n.op->name == "convolution_input_grad" || n.op->name == "convolution_weight_grad";
}

std::vector<std::vector<int64_t>> contraction_phases(const Node& core) {
  if (core.op->name != "convolution_input_grad") return {{}};
  auto stride = core.attr("stride").as_ints();
  const Shape &x = core.result()->type.shape, &w = core.operands[1]->type.shape;
  std::vector<std::vector<int64_t>> phases = {{}};
  bool strided = false;
  for (size_t i = 0; i < stride.size(); ++i) {
    strided |= stride[i] > 1;
    if (!x[2 + i].is_constant() || !w[2 + i].is_constant() || stride[i] > 4) return {{}};
    std::vector<std::vector<int64_t>> next;
    for (const auto& p : phases)
      for (int64_t r = 0; r < std::min(stride[i], x[2 + i].constant()); ++r) {
        next.push_back(p);
        next.back().push_back(r);
      }
    phases = next;
  }
  if (!strided || phases.empty() || phases.size() > 16) return {{}};
  return phases;
}

Result<ContractionForm> contraction_form(const Node& core, const std::vector<int64_t>& phase) {
  return core.op->name == "dot_general" ? dot_form(core) : conv_form(core, phase);
}

}  // namespace graphc
