// Template "attention": softmax(q k^T scale + mask) v and its gradient, without the matrix of scores.
//
// Forward: a block has bm rows of q in shared memory and goes through k and v in tiles of bn rows.
//   scores of the tile in registers; each row's largest so far through shared memory
//   p = exp(score - largest) to shared memory, what was summed before rescaled by exp(old - new)
//   sums of p and of p v in registers
// At the end out = sum p v / sum p, lse = largest + log(sum p). Milakov and Gimelshein 2018, Dao et al. 2022.
//
// Gradient: p = exp(score - lse), ds = p (d_out v^T - delta); two kernels, each summing in a fixed order.
//   d_q = ds k scale: a block has bm rows of q and d_out, and goes through k and v
//   d_k = ds^T q scale, d_v = p^T d_out: a block has bn rows of k and v, and goes through q and d_out
// Causal: tiles that nobody sees are left out, the longest blocks start first.
#include "backends/cuda/kernels/attention_plan.h"

#include <limits>

#include "backends/cuda/kernels/each_element.h"

namespace graphc::cuda {
namespace {

constexpr int64_t kSharedBytes = 48 << 10;
constexpr DType kF = DType::kF32;

int64_t key_pitch(const AttentionPlan& p) {
  return std::max(pitch(std::max(dot_width(p.e), row_width(p.e))),
                  pitch(std::max(dot_width(p.v), row_width(p.v))));
}
int64_t weight_pitch(const AttentionTiles& c) { return c.bn() + 4; }

// 0 for the largest score of a row that has seen nothing yet, so that exp(-infinity - it) is 0.
Expr finite(const Expr& largest) {
  const Expr none = Expr::constant(-std::numeric_limits<double>::infinity(), kF);
  return select(binary(ScalarOp::kEq, largest, none), Expr::constant(0, kF), largest);
}

// The first of the tiles, by preference, whose buffers (in elements) fit.
AttentionTiles choose(const AttentionPlan& p, std::vector<AttentionTiles> by_preference,
                      const std::function<int64_t(const AttentionTiles&)>& elements) {
  for (AttentionTiles c : by_preference) {
    if (elements(c) * 4 > kSharedBytes) continue;
    if (const auto t = p.t.as_constant())
      while (!c.one_buffer && c.tm > 1 && c.bm() / 2 >= *t && !p.backward) c.tm /= 2;
    return c;
  }
  return by_preference.back();
}

}  // namespace

Result<KernelStep> attention_forward(const AttentionPlan& p, const std::string& name) {
  const int64_t qw = dot_width(p.e), kp = key_pitch(p);
  const AttentionTiles c = choose(p, {{16, 4, 4}, {16, 2, 4}, {16, 1, 4}}, [&](const AttentionTiles& x) {
    return x.bm() * pitch(qw) + x.bn() * kp + x.bm() * (weight_pitch(x) + AttentionTiles::tx);
  });
  const auto& in = p.core->operands;
  AttentionKernel kernel(p, c, name, p.results_of({0, 1}), {in[0], in[1], in[2]});
  KernelBuilder& k = kernel.k();
  RegionBuilder& b = kernel.b();
  const int columns = 4 * column_chunks(p.v), tx = AttentionTiles::tx;
  const double inf = std::numeric_limits<double>::infinity();
  kernel.for_blocks(p.t, c.bm(), p.causal, [&](Dim m0) {
    const Buffer qs = k.shared("qs", kF, {c.bm(), pitch(qw)}), kv = k.shared("kv", kF, {c.bn(), kp}),
                 ps = k.shared("ps", kF, {c.bm(), weight_pitch(c)}),
                 part = k.shared("part", kF, {c.bm(), tx});
    const Buffer s = k.registers("s", kF, {c.threads(), c.tm, c.tn}),
                 o = k.registers("o", kF, {c.threads(), c.tm, columns}, 0.0),
                 largest = k.registers("largest", kF, {c.threads(), c.tm}, -inf),
                 sum = k.registers("sum", kF, {c.threads(), c.tm}, 0.0);
    const auto row_of = [&](const Dim& y, const Dim& i) {
      return kernel.named("m", m0 + y + i * c.ty, m0, m0 + (c.bm() - 1));
    };
    const auto of_row = [&](const Dim& row, ReduceOp op) {
      Expr e = part.load({row, 0});
      for (int x = 1; x < tx; ++x)
        e = op == ReduceOp::kMax ? maximum(e, part.load({row, x})) : e + part.load({row, x});
      return e;
    };
    kernel.load_tile(qs, c.bm(), qw, in[0], m0, p.t);
    b.loop(
        serial(), "kb", 0, ceildiv(p.s, c.bn()),
        [&](Dim kb) {
          const Dim n0 = kb * c.bn();
          kernel.load_tile(kv, c.bn(), qw, in[1], n0, p.s);
          k.barrier();
          kernel.dot(s, qs, kv, qw);
          kernel.each_thread([&](const Dim& t, const Dim& y, const Dim& x) {
            kernel.over(c.tm, "i", [&](Dim i) {
              const Dim m = row_of(y, i);
              const Buffer top = k.registers("top", kF, {1}, -inf);
              kernel.over(c.tn, "j", [&](Dim j) {
                const Dim n = kernel.named("n", n0 + x + j * tx, n0, n0 + (c.bn() - 1));
                const Expr e = k.let("e", kernel.masked(s.load({t, i, j}), m, n));
                k.store(s, {t, i, j}, e);
                k.store(top, {0}, maximum(top.load({0}), e));
              });
              k.store(part, {y + i * c.ty, x}, top.load({0}));
            });
          });
          k.barrier();
          kernel.load_tile(kv, c.bn(), row_width(p.v), in[2], n0, p.s);
          kernel.each_thread([&](const Dim& t, const Dim& y, const Dim& x) {
            kernel.over(c.tm, "i", [&](Dim i) {
              const Dim row = y + i * c.ty;
              const Expr before = k.let("before", largest.load({t, i}));
              const Expr now = k.let("now", maximum(before, of_row(row, ReduceOp::kMax)));
              const Expr base = k.let("base", finite(now));
              const Expr factor = k.let("factor", exp(before - base));
              k.store(largest, {t, i}, now);
              k.store(sum, {t, i}, sum.load({t, i}) * factor);
              kernel.over(c.tn, "j", [&](Dim j) {
                const Expr e = k.let("e", exp(s.load({t, i, j}) - base));
                k.store(sum, {t, i}, sum.load({t, i}) + e);
                k.store(ps, {row, x + j * tx}, e);
              });
              kernel.over(columns, "j", [&](Dim j) { k.store(o, {t, i, j}, o.load({t, i, j}) * factor); });
            });
          });
          k.barrier();
          kernel.add_rows(o, p.v, ps, kv, c.bn());
          k.barrier();
        },
        p.causal ? std::optional<Dim>(ceildiv(m0 + c.bm(), c.bn())) : std::nullopt);
    kernel.each_thread([&](const Dim& t, const Dim& y, const Dim& x) {
      kernel.over(c.tm, "i", [&](Dim i) { k.store(part, {y + i * c.ty, x}, sum.load({t, i})); });
    });
    k.barrier();
    kernel.each_thread([&](const Dim& t, const Dim& y, const Dim& x) {
      kernel.over(c.tm, "i", [&](Dim i) {
        const Dim m = row_of(y, i);
        const Expr total = k.let("total", of_row(y + i * c.ty, ReduceOp::kAdd));
        kernel.store_columns(0, o, t, i, x, p.v, m, p.t, k.let("share", 1.0 / total));
        const Expr top = largest.load({t, i});
        kernel.store_row(1, m, p.t, log(total) + finite(top), {-x});
      });
    });
  });
  return b.finish();
}

Result<KernelStep> attention_grad_rows(const AttentionPlan& p, const std::string& name) {
  const int64_t ew = dot_width(p.e), vw = dot_width(p.v), kp = key_pitch(p);
  const AttentionTiles c = choose(p, {{8, 4, 4}, {8, 4, 2}, {8, 2, 2}}, [&](const AttentionTiles& x) {
    return x.bm() * (pitch(ew) + pitch(vw) + weight_pitch(x)) + x.bn() * kp;
  });
  const auto& in = p.core->operands;
  AttentionKernel kernel(p, c, name, p.results_of({0}), {in.begin(), in.begin() + 6});
  KernelBuilder& k = kernel.k();
  RegionBuilder& b = kernel.b();
  const int columns = 4 * column_chunks(p.e);
  kernel.for_blocks(p.t, c.bm(), p.causal, [&](Dim m0) {
    const Buffer qs = k.shared("qs", kF, {c.bm(), pitch(ew)}), os = k.shared("os", kF, {c.bm(), pitch(vw)}),
                 kv = k.shared("kv", kF, {c.bn(), kp}), ps = k.shared("ps", kF, {c.bm(), weight_pitch(c)});
    const Buffer s = k.registers("s", kF, {c.threads(), c.tm, c.tn}),
                 dp = k.registers("dp", kF, {c.threads(), c.tm, c.tn}),
                 dq = k.registers("dq", kF, {c.threads(), c.tm, columns}, 0.0),
                 lse = k.registers("lse", kF, {c.threads(), c.tm}),
                 delta = k.registers("delta", kF, {c.threads(), c.tm});
    const auto row_of = [&](const Dim& y, const Dim& i) {
      return kernel.named("m", m0 + y + i * c.ty, m0, m0 + (c.bm() - 1));
    };
    kernel.load_tile(qs, c.bm(), ew, in[0], m0, p.t);
    kernel.load_tile(os, c.bm(), vw, in[3], m0, p.t);
    kernel.each_thread([&](const Dim& t, const Dim& y, const Dim&) {
      kernel.over(c.tm, "i", [&](Dim i) {
        const Dim m = row_of(y, i);
        k.store(lse, {t, i}, kernel.row_value(in[4], m));
        k.store(delta, {t, i}, kernel.row_value(in[5], m));
      });
    });
    b.loop(
        serial(), "kb", 0, ceildiv(p.s, c.bn()),
        [&](Dim kb) {
          const Dim n0 = kb * c.bn();
          kernel.load_tile(kv, c.bn(), vw, in[2], n0, p.s);
          k.barrier();
          kernel.dot(dp, os, kv, vw);
          k.barrier();
          kernel.load_tile(kv, c.bn(), row_width(p.e), in[1], n0, p.s);
          k.barrier();
          kernel.dot(s, qs, kv, ew);
          kernel.each_thread([&](const Dim& t, const Dim& y, const Dim& x) {
            kernel.over(c.tm, "i", [&](Dim i) {
              const Dim m = row_of(y, i);
              kernel.over(c.tn, "j", [&](Dim j) {
                const Dim n = kernel.named("n", n0 + x + j * AttentionTiles::tx, n0, n0 + (c.bn() - 1));
                const Expr e = exp(kernel.masked(s.load({t, i, j}), m, n) - lse.load({t, i}));
                k.store(ps, {y + i * c.ty, x + j * AttentionTiles::tx},
                        e * (dp.load({t, i, j}) - delta.load({t, i})));
              });
            });
          });
          k.barrier();
          kernel.add_rows(dq, p.e, ps, kv, c.bn());
          k.barrier();
        },
        p.causal ? std::optional<Dim>(ceildiv(m0 + c.bm(), c.bn())) : std::nullopt);
    kernel.each_thread([&](const Dim& t, const Dim& y, const Dim& x) {
      kernel.over(c.tm, "i", [&](Dim i) {
        kernel.store_columns(0, dq, t, i, x, p.e, row_of(y, i), p.t, Expr::constant(p.scale, kF));
      });
    });
  });
  return b.finish();
}

Result<KernelStep> attention_grad_columns(const AttentionPlan& p, const std::string& name) {
  const int64_t ew = dot_width(p.e), vw = dot_width(p.v);
  const int64_t ep = pitch(row_width(p.e)), vp = pitch(row_width(p.v));
  const AttentionTiles c = choose(
      p, {{8, 4, 4, false}, {8, 2, 4, true}, {8, 1, 4, true}, {8, 1, 2, true}}, [&](const AttentionTiles& x) {
        const int64_t rows = x.one_buffer ? std::max(ep, vp) : ep + vp;
        return x.bn() * (pitch(ew) + pitch(vw)) + x.bm() * (rows + weight_pitch(x));
      });
  const auto& in = p.core->operands;
  AttentionKernel kernel(p, c, name, p.results_of({1, 2}), {in.begin(), in.begin() + 6});
  KernelBuilder& k = kernel.k();
  RegionBuilder& b = kernel.b();
  const int rows = c.columns_per_thread(), tx = AttentionTiles::tx;
  kernel.for_blocks(p.s, c.bn(), false, [&](Dim n0) {
    const Buffer ks = k.shared("ks", kF, {c.bn(), pitch(ew)}), vs = k.shared("vs", kF, {c.bn(), pitch(vw)}),
                 qs = k.shared("qs", kF, {c.bm(), c.one_buffer ? std::max(ep, vp) : ep}),
                 os = c.one_buffer ? qs : k.shared("os", kF, {c.bm(), vp}),
                 ps = k.shared("ps", kF, {c.bm(), weight_pitch(c)});
    const Buffer s = k.registers("s", kF, {c.threads(), c.tm, c.tn}),
                 dp = k.registers("dp", kF, {c.threads(), c.tm, c.tn}),
                 dk = k.registers("dk", kF, {c.threads(), rows, 4 * column_chunks(p.e)}, 0.0),
                 dv = k.registers("dv", kF, {c.threads(), rows, 4 * column_chunks(p.v)}, 0.0);
    kernel.load_tile(ks, c.bn(), ew, in[1], n0, p.s);
    kernel.load_tile(vs, c.bn(), vw, in[2], n0, p.s);
    const auto put = [&](const Buffer& from) {
      kernel.each_thread([&](const Dim& t, const Dim& y, const Dim& x) {
        kernel.over(c.tm, "i", [&](Dim i) {
          kernel.over(c.tn, "j", [&](Dim j) {
            k.store(ps, {y + i * c.ty, x + j * tx}, from.load({t, i, j}));
          });
        });
      });
    };
    const Dim first = p.causal ? floordiv(n0, c.bm()) : Dim(0);
    b.loop(serial(), "mb", first, ceildiv(p.t, c.bm()), [&](Dim mb) {
      const Dim m0 = mb * c.bm();
      const auto row_of = [&](const Dim& y, const Dim& i) {
        return kernel.named("m", m0 + y + i * c.ty, m0, m0 + (c.bm() - 1));
      };
      kernel.load_tile(qs, c.bm(), row_width(p.e), in[0], m0, p.t);
      if (!c.one_buffer) kernel.load_tile(os, c.bm(), row_width(p.v), in[3], m0, p.t);
      k.barrier();
      kernel.dot(s, qs, ks, ew);
      if (c.one_buffer) {
        k.barrier();
        kernel.load_tile(os, c.bm(), row_width(p.v), in[3], m0, p.t);
        k.barrier();
      }
      kernel.dot(dp, os, vs, vw);
      kernel.each_thread([&](const Dim& t, const Dim& y, const Dim& x) {
        kernel.over(c.tm, "i", [&](Dim i) {
          const Dim m = row_of(y, i);
          std::vector<Dim> inside;
          add_guard(b, inside, p.t - 1 - m);
          const Expr lse = k.let("lse", kernel.row_value(in[4], m)),
                     delta = k.let("delta", kernel.row_value(in[5], m));
          kernel.over(c.tn, "j", [&](Dim j) {
            const Dim n = kernel.named("n", n0 + x + j * tx, n0, n0 + (c.bn() - 1));
            Expr e = exp(kernel.masked(s.load({t, i, j}), m, n) - lse);
            for (const Dim& g : inside)  // rows beyond the last one add nothing
              e = select(Expr::index(g) >= Expr::int_constant(0, DType::kI64), e, Expr::constant(0, kF));
            e = k.let("e", e);
            k.store(s, {t, i, j}, e);
            k.store(dp, {t, i, j}, e * (dp.load({t, i, j}) - delta));
          });
        });
      });
      put(s);
      k.barrier();
      kernel.add_columns(dv, p.v, ps, os, c.bm());
      k.barrier();
      if (c.one_buffer) kernel.load_tile(qs, c.bm(), row_width(p.e), in[0], m0, p.t);
      put(dp);
      k.barrier();
      kernel.add_columns(dk, p.e, ps, qs, c.bm());
      k.barrier();
    });
    kernel.each_thread([&](const Dim& t, const Dim& y, const Dim& x) {
      kernel.over(rows, "i", [&](Dim i) {
        const Dim n = kernel.named("n", n0 + y * rows + i, n0, n0 + (c.bn() - 1));
        kernel.store_columns(1, dk, t, i, x, p.e, n, p.s, Expr::constant(p.scale, kF));
        kernel.store_columns(2, dv, t, i, x, p.v, n, p.s, {});
      });
    });
  });
  return b.finish();
}

Result<LoweredRegion> lower_attention(const Func& region, const LowerOptions& options) {
  GC_TRY(const AttentionPlan p, plan_attention(region));
  LoweredRegion out;
  const auto add = [&](Result<KernelStep> step) -> Status {
    if (!step.ok()) return step.error();
    out.steps.push_back(*std::move(step));
    return ok_status();
  };
  if (!p.backward) {
    GC_CHECK(add(attention_forward(p, options.name)));
    return out;
  }
  if (!p.results_of({0}).empty()) GC_CHECK(add(attention_grad_rows(p, options.name)));
  if (!p.results_of({1, 2}).empty())
    GC_CHECK(add(attention_grad_columns(p, out.steps.empty() ? options.name : options.name + "_1")));
  return out;
}

}  // namespace graphc::cuda
