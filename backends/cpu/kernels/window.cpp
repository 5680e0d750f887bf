// Template "window": pooling and its gradient.
//
// reduce_window: vectors along the innermost output axis, the taps unrolled or in serial loops, positions
// outside of x guarded. reduce_window_grad runs over x and gathers: an element adds up dy of the windows that
// contain it (sum), or of those whose first maximum (or first NaN) it is (max). No two iterations write the
// same element. Along strided axes x is walked by phase, so that which windows contain an element is known
// without a division.
#include <functional>
#include <limits>

#include <fmt/format.h>

#include "backends/cpu/kernels/region_builder.h"
#include "backends/cpu/kernels/schedule.h"

namespace graphc {
namespace {

class WindowTemplate {
 public:
  WindowTemplate(const Func& region, const LowerOptions& options)
      : region_(region), options_(options), lanes_(options.features.lanes(4)) {}

  Result<LoweredRegion> lower() {
    for (const auto& n : region_.body.nodes)
      if (n->op->name == "reduce_window" || n->op->name == "reduce_window_grad") {
        if (core_) return unsupported("a window region with more than one window");
        core_ = n.get();
      }
    if (!core_) return unsupported("a window region without a window");
    max_ = core_->attr("kind").as_string() == "max";
    window_ = core_->attr("window").as_ints();
    stride_ = core_->attr("stride").as_ints();
    pad_ = core_->attr("pad").as_ints();
    dilation_ = core_->attr("dilation").as_ints();
    n_ = window_.size();
    taps_ = 1;
    for (int64_t w : window_) taps_ *= w;
    out_ = core_->result()->type.shape;
    lead_ = out_.size() - n_;
    type_ = core_->result()->type.dtype;
    acc_ = accumulator_type(type_);
    roots_.assign(region_.body.results.begin(), region_.body.results.end());
    for (size_t i = 0; i < roots_.size(); ++i) {
      results_.push_back(static_cast<int>(i));
      if (product(roots_[i]->type.shape) != product(out_))
        return unsupported("a result of the window region has another size than the window's result");
    }
    roots_.insert(roots_.end(), core_->operands.begin(), core_->operands.end());
    bool grad = core_->op->name == "reduce_window_grad";
    RegionBuilder b(region_, options_.name, roots_, {core_->result()}, results_);
    b_ = &b;
    at_.assign(out_.size(), Dim(0));
    if (grad)
      grad_nest(0);
    else
      forward_nest(0);
    Dim per_iteration(1);
    for (size_t i = lead_; i < out_.size(); ++i) per_iteration *= out_[i];
    if (lead_ == 0) per_iteration = out_.back();
    GC_TRY(KernelStep step,
           b.finish(task_grain(per_iteration, 2 + 4 * taps_ * (grad && max_ ? taps_ : 1), lanes_)));
    LoweredRegion out;
    out.steps.push_back(std::move(step));
    return out;
  }

 private:
  // Axes before the windows in parallel (as one where they are several), the rest inside.
  void outer_axes(const std::function<void()>& body) {
    if (lead_ == 0) return body();
    Shape lead(out_.begin(), out_.begin() + lead_);
    b_->loop(parallel(), "o", 0, product(lead), [&](Dim o) {
      Coords c = delinearize(lead, o, b_->ranges());
      std::copy(c.begin(), c.end(), at_.begin());
      body();
    });
  }

  // The window position of axis a, tap t for output o.
  Dim tap(size_t a, const Dim& o, const Dim& t) const {
    return o * stride_[a] + t * dilation_[a] - pad_[2 * a];
  }

  // x at window `o` and taps `t`; `otherwise` outside.
  Expr x_at(const Coords& o, const std::vector<Dim>& t, const std::vector<Dim>& guards, double otherwise) {
    const Value* x = core_->operands[0];
    Coords at(at_.begin(), at_.begin() + lead_);
    std::vector<Dim> g = guards;
    for (size_t a = 0; a < n_; ++a) {
      Dim c = tap(a, o[a], t[a]);
      at.push_back(c);
      add_guard(g, c);
      add_guard(g, x->type.shape[lead_ + a] - 1 - c);
    }
    return cast(b_->element(x, at, g, otherwise), acc_);
  }

  void add_guard(std::vector<Dim>& guards, const Dim& d) const {
    Dim s = b_->simplify(d);
    if (!b_->ranges().provably_nonnegative(s)) guards.push_back(s);
  }

  void forward_nest(size_t a) {
    if (a == 0 && lead_ > 0) {
      outer_axes([&] { forward_axis(0); });
      return;
    }
    forward_axis(a);
  }

  void forward_axis(size_t a) {
    bool last = a + 1 == n_;
    b_->loop(last ? vector(lanes_) : serial(), "p", 0, out_[lead_ + a], [&](Dim v) {
      at_[lead_ + a] = v;
      if (!last) return forward_axis(a + 1);
      Coords o(at_.begin() + lead_, at_.end());
      double start = max_ ? -std::numeric_limits<double>::infinity() : 0;
      Expr result;
      if (taps_ <= 16) {
        std::vector<int64_t> t(n_, 0);
        for (int64_t q = 0; q < taps_; ++q) {
          std::vector<Dim> td(t.begin(), t.end());
          Expr e = b_->k().let("x", x_at(o, td, {}, start));
          result = !result ? e : max_ ? maximum(result, e) : result + e;
          for (size_t i = n_; i-- > 0;) {
            if (++t[i] < window_[i]) break;
            t[i] = 0;
          }
        }
      } else {
        result = reduce_taps(o, {});
      }
      write(result);
    });
  }

  Expr reduce_taps(const Coords& o, std::vector<Dim> t) {
    size_t a = t.size();
    double start = max_ ? -std::numeric_limits<double>::infinity() : 0;
    return b_->reduce(
        "w", {max_ ? ReduceOp::kMax : ReduceOp::kAdd}, serial(), "t", 0, window_[a], [&](Dim v) {
          std::vector<Dim> next = t;
          next.push_back(v);
          return std::vector<Expr>{a + 1 == n_ ? x_at(o, next, {}, start) : reduce_taps(o, next)};
        })[0];
  }

  void write(const Expr& value) {
    Coords here = at_;
    Expr e = cast(value, type_);
    b_->bind(core_->result(), [this, here, e](const Coords& asked) {
      for (size_t i = 0; i < here.size(); ++i)
        if (b_->simplify(asked[i]) != b_->simplify(here[i])) {
          b_->fail("a result of the window region needs the window at another index than its own");
          break;
        }
      return e;
    });
    std::vector<std::pair<int, Coords>> stores;
    for (int r : results_)
      stores.emplace_back(r, reshape_coords(out_, here, region_.body.results[r]->type.shape, b_->ranges()));
    b_->store_results(stores);
  }

  // ---- gradient: one element of x at a time ----

  void grad_nest(size_t a) {
    if (a == 0 && lead_ > 0) {
      outer_axes([&] { grad_axis(0); });
      return;
    }
    grad_axis(a);
  }

  // Axis a of x by phase: x = stride * q + phase - pad.lo (so that tap t of window o is stride*o +
  // dilation*t).
  void grad_axis(size_t a) {
    bool last = a + 1 == n_;
    int64_t s = stride_[a], lo = pad_[2 * a];
    Dim size = out_[lead_ + a];
    for (int64_t phase = 0; phase < s; ++phase) {
      // x >= 0: q >= ceil((lo - phase) / s); x < size: q < ceil((size + lo - phase) / s)
      int64_t first = lo - phase > 0 ? (lo - phase + s - 1) / s : 0;
      Dim end = ceildiv(size + lo - phase, s);
      b_->loop(last ? vector(lanes_) : serial(), "q", first, end, [&](Dim q) {
        phase_[a] = phase;
        q_[a] = q;
        at_[lead_ + a] = q * s + (phase - lo);
        if (!last) return grad_axis(a + 1);
        grad_element();
      });
    }
  }

  void grad_element() {
    const Value* dy = core_->operands[1];
    Expr own = max_ ? b_->k().let("own", cast(b_->element(core_->operands[0], at_), acc_)) : Expr();
    Expr total = Expr::constant(0, acc_);
    std::vector<int64_t> t(n_, 0);
    bool any = false;
    for (int64_t k = 0; k < taps_; ++k) {
      // x is tap t of window o iff stride * q + phase == stride * o + dilation * t
      bool divides = true;
      Coords o(n_);
      std::vector<Dim> guards;
      Coords at(at_.begin(), at_.begin() + lead_);
      for (size_t a = 0; a < n_; ++a) {
        int64_t d = phase_[a] - dilation_[a] * t[a];
        if (((d % stride_[a]) + stride_[a]) % stride_[a] != 0) divides = false;
        int64_t shift = d >= 0 ? d / stride_[a] : -((-d + stride_[a] - 1) / stride_[a]);
        o[a] = q_[a] + shift;
        at.push_back(o[a]);
        add_guard(guards, o[a]);
        add_guard(guards, dy->type.shape[lead_ + a] - 1 - o[a]);
      }
      if (divides) {
        Expr g = cast(b_->element(dy, at, guards, 0.0), acc_);
        if (max_) {
          Expr mine = is_first_maximum(o, t, own, guards);
          if (mine) g = select(mine, g, Expr::constant(0, acc_));
        }
        total = b_->k().let("g", any ? total + g : g);
        any = true;
      }
      for (size_t i = n_; i-- > 0;) {
        if (++t[i] < window_[i]) break;
        t[i] = 0;
      }
    }
    write(total);
  }

  // Is `own`, tap `mine` of window o, the first maximum (or the first NaN) of the window?
  Expr is_first_maximum(const Coords& o, const std::vector<int64_t>& mine, const Expr& own,
                        const std::vector<Dim>& guards) {
    std::vector<int64_t> t(n_, 0);
    bool before = true;
    Expr all;
    for (int64_t k = 0; k < taps_; ++k) {
      if (t == mine) {
        before = false;
      } else {
        std::vector<Dim> td(t.begin(), t.end());
        // Outside of x nothing competes: an earlier tap must be less, which -inf isn't of -inf, so "not
        // there" is decided by the guard.
        std::vector<Dim> inside = guards;
        const Shape& xs = core_->operands[0]->type.shape;
        for (size_t a = 0; a < n_; ++a) {
          Dim c = tap(a, o[a], td[a]);
          add_guard(inside, c);
          add_guard(inside, xs[lead_ + a] - 1 - c);
        }
        Expr e = b_->k().let("e", x_at(o, td, guards, -std::numeric_limits<double>::infinity()));
        // an earlier one beats it by being as large, a later one only by being larger; the first NaN beats
        // all
        Expr beats = before ? bit_or(e >= own, is_nan(e))
                            : bit_and(logical_not(is_nan(own)), bit_or(e > own, is_nan(e)));
        for (const Dim& g : inside) {
          bool outer_guard = false;
          for (const Dim& h : guards) outer_guard |= h == g;
          if (!outer_guard) beats = bit_and(beats, Expr::index(g) >= Expr::int_constant(0, DType::kI64));
        }
        Expr loses = logical_not(beats);
        all = all ? bit_and(all, loses) : loses;
      }
      for (size_t i = n_; i-- > 0;) {
        if (++t[i] < window_[i]) break;
        t[i] = 0;
      }
    }
    return all;
  }

  const Func& region_;
  const LowerOptions& options_;
  int lanes_;
  const Node* core_ = nullptr;
  bool max_ = false;
  std::vector<int64_t> window_, stride_, pad_, dilation_;
  size_t n_ = 0, lead_ = 0;
  int64_t taps_ = 1;
  Shape out_;
  DType type_ = DType::kF32, acc_ = DType::kF32;
  std::vector<const Value*> roots_;
  std::vector<int> results_;
  RegionBuilder* b_ = nullptr;
  Coords at_;
  int64_t phase_[8] = {};
  Dim q_[8];
};

}  // namespace

Result<LoweredRegion> lower_window(const Func& region, const LowerOptions& options) {
  return WindowTemplate(region, options).lower();
}

}  // namespace graphc
