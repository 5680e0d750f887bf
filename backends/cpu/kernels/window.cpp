// Template "window": pooling and its gradient.
//
// reduce_window: vectors along the innermost output axis, the taps unrolled or in serial loops, positions
// outside of x guarded. reduce_window_grad runs over x and gathers: an element adds up dy of the windows that
// contain it (sum), or of those whose first maximum (or first NaN) it is (max), which is found once per
// window: in passing if windows don't overlap, else by a pass of its own into scratch. No two iterations
// write the same element. Along strided axes x is walked by phase, so that which windows contain an element
// is known without a division.
#include <deque>
#include <functional>
#include <limits>

#include <fmt/format.h>

#include "backends/cpu/kernels/lowering.h"
#include "backends/cpu/kernels/schedule.h"
#include "backends/kernels/region_builder.h"
#include "backends/kernels/window_form.h"

namespace graphc {
namespace {

class WindowTemplate {
 public:
  WindowTemplate(const Func& region, const LowerOptions& options)
      : region_(region), options_(options), lanes_(options.features.lanes(4)) {}

  Result<LoweredRegion> lower() {
    GC_TRY(f_, window_form(region_));
    // what the kernel reads beside the results' own operands
    std::vector<const Value*> roots = f_.roots;
    roots.insert(roots.end(), f_.core->operands.begin(), f_.core->operands.end());
    RegionBuilder b(region_, options_.name, roots, {f_.core->result()}, f_.results);
    b_ = &b;
    at_.assign(f_.out.size(), Dim(0));
    if (f_.gradient)
      gradient();
    else
      forward_nest(0);
    Dim per_iteration(1);
    for (size_t i = f_.lead; i < f_.out.size(); ++i) per_iteration *= f_.out[i];
    if (f_.lead == 0) per_iteration = f_.out.back();
    GC_TRY(KernelStep step, b.finish(task_grain(per_iteration, 2 + (f_.gradient ? 6 : 4) * f_.taps, lanes_)));
    LoweredRegion out;
    out.steps.push_back(std::move(step));
    return out;
  }

 private:
  // Axes before the windows in parallel (as one where they are several), the rest inside.
  void outer_axes(const std::function<void()>& body) {
    if (f_.lead == 0) return body();
    Shape lead(f_.out.begin(), f_.out.begin() + f_.lead);
    b_->loop(parallel(), "o", 0, product(lead), [&](Dim o) {
      Coords c = delinearize(lead, o, b_->ranges());
      std::copy(c.begin(), c.end(), at_.begin());
      body();
    });
  }

  // x at window `o` and taps `t`; `otherwise` outside.
  Expr x_at(const Coords& o, const std::vector<Dim>& t, const std::vector<Dim>& guards, double otherwise) {
    const Value* x = f_.core->operands[0];
    Coords at(at_.begin(), at_.begin() + f_.lead);
    std::vector<Dim> g = guards;
    for (size_t a = 0; a < f_.n; ++a) {
      Dim c = f_.tap(a, o[a], t[a]);
      at.push_back(c);
      add_guard(g, c);
      add_guard(g, x->type.shape[f_.lead + a] - 1 - c);
    }
    return cast(b_->element(x, at, g, otherwise), f_.acc);
  }

  void add_guard(std::vector<Dim>& guards, const Dim& d) const {
    Dim s = b_->simplify(d);
    if (!b_->ranges().provably_nonnegative(s)) guards.push_back(s);
  }

  void forward_nest(size_t a) {
    if (a == 0 && f_.lead > 0) {
      outer_axes([&] { forward_axis(0); });
      return;
    }
    forward_axis(a);
  }

  void forward_axis(size_t a) {
    bool last = a + 1 == f_.n;
    b_->loop(last ? vector(lanes_) : serial(), "p", 0, f_.out[f_.lead + a], [&](Dim v) {
      at_[f_.lead + a] = v;
      if (!last) return forward_axis(a + 1);
      Coords o(at_.begin() + f_.lead, at_.end());
      double start = f_.max ? -std::numeric_limits<double>::infinity() : 0;
      Expr result;
      if (f_.taps <= 16) {
        std::vector<int64_t> t(f_.n, 0);
        for (int64_t q = 0; q < f_.taps; ++q) {
          std::vector<Dim> td(t.begin(), t.end());
          Expr e = b_->k().let("x", x_at(o, td, {}, start));
          result = !result ? e : f_.max ? maximum(result, e) : result + e;
          for (size_t i = f_.n; i-- > 0;) {
            if (++t[i] < f_.window[i]) break;
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
    double start = f_.max ? -std::numeric_limits<double>::infinity() : 0;
    return b_->reduce(
        "w", {f_.max ? ReduceOp::kMax : ReduceOp::kAdd}, serial(), "t", 0, f_.window[a], [&](Dim v) {
          std::vector<Dim> next = t;
          next.push_back(v);
          return std::vector<Expr>{a + 1 == f_.n ? x_at(o, next, {}, start) : reduce_taps(o, next)};
        })[0];
  }

  void write(const Expr& value) {
    bind_core(value, at_);
    std::vector<std::pair<int, Coords>> stores;
    for (int r : f_.results) stores.emplace_back(r, result_coords(r, at_));
    b_->store_results(stores);
  }

  Coords result_coords(int r, const Coords& at) {
    return reshape_coords(f_.out, at, region_.body.results[r]->type.shape, b_->ranges());
  }

  // The window's result at `here` is `value`.
  void bind_core(const Expr& value, const Coords& here) {
    Expr e = cast(value, f_.type);
    b_->bind(f_.core->result(), [this, here, e](const Coords& asked) {
      for (size_t i = 0; i < here.size(); ++i)
        if (!f_.out[i].is_constant(1) && b_->simplify(asked[i]) != b_->simplify(here[i])) {
          b_->fail("a result of the window region needs the window at another index than its own");
          break;
        }
      return e;
    });
  }

  // ---- gradient ----

  // Each element of x lies in at most one window.
  bool apart() const {
    for (size_t a = 0; a < f_.n; ++a)
      if (f_.window[a] > f_.stride[a] || f_.dilation[a] != 1) return false;
    return true;
  }

  void gradient() {
    // Phases of how many axes, innermost first, are handled by one body, so that neighbours in memory are
    // stored together.
    joint_ = f_.n;
    for (int64_t together = 1; joint_ > 0 && together * f_.stride[joint_ - 1] <= 16; --joint_)
      together *= f_.stride[joint_ - 1];
    outer_axes([&] {
      if (f_.max && !apart()) best_pass();
      grad_axis(0);
    });
  }

  // The first maximum of every window of the current outer axes, as the number of its tap.
  void best_pass() {
    Shape windows(dy_shape().begin() + static_cast<int64_t>(f_.lead), dy_shape().end());
    best_ = b_->k().scratch("best", DType::kI32, {product(windows)});
    Coords o(f_.n);
    std::function<void(size_t)> nest = [&](size_t a) {
      b_->loop(a + 1 == f_.n ? vector(lanes_) : serial(), "p", 0, windows[a], [&](Dim v) {
        o[a] = v;
        if (a + 1 < f_.n) return nest(a + 1);
        b_->k().store(best_, {b_->simplify(linear_index(windows, o))}, find_best(o, {}));
      });
    };
    nest(0);
  }

  // From the last tap to the first, so that of equals the first stays; a NaN beats every number.
  Expr find_best(const Coords& o, const std::vector<Dim>& guards) {
    const Shape& xs = f_.core->operands[0]->type.shape;
    Expr at, top;
    for (int64_t k = f_.taps; k-- > 0;) {
      std::vector<Dim> t = tap_at(k), inside = guards;
      for (size_t a = 0; a < f_.n; ++a) {
        Dim c = f_.tap(a, o[a], t[a]);
        add_guard(inside, c);
        add_guard(inside, xs[f_.lead + a] - 1 - c);
      }
      Expr e = b_->k().let("x", x_at(o, t, guards, -std::numeric_limits<double>::infinity()));
      Expr number = Expr::int_constant(k, DType::kI32);
      if (!at) {
        at = number;
        top = e;
        continue;
      }
      Expr wins = bit_or(e >= top, is_nan(e));
      for (size_t g = guards.size(); g < inside.size(); ++g)
        wins = bit_and(wins, Expr::index(inside[g]) >= Expr::int_constant(0, DType::kI64));
      wins = b_->k().let("wins", wins);
      at = b_->k().let("best", select(wins, number, at));
      if (k > 0) top = b_->k().let("top", select(wins, e, top));
    }
    return at;
  }

  const Shape& dy_shape() const { return f_.core->operands[1]->type.shape; }

  std::vector<Dim> tap_at(int64_t k) const {
    std::vector<Dim> t(f_.n);
    for (size_t i = f_.n; i-- > 0; k /= f_.window[i]) t[i] = k % f_.window[i];
    return t;
  }

  // Axis a of x by phase: x = stride * q + phase - pad.lo (so that tap t of window o is stride*o +
  // dilation*t).
  void grad_axis(size_t a) {
    bool last = a + 1 == f_.n;
    int64_t s = f_.stride[a], lo = f_.pad[2 * a];
    Dim size = f_.out[f_.lead + a];
    auto over = [&](int64_t first_phase, int64_t last_phase) {
      // x >= 0: q >= ceil((lo - phase) / s); x < size: q < ceil((size + lo - phase) / s)
      int64_t first = lo - last_phase > 0 ? (lo - last_phase + s - 1) / s : 0;
      b_->loop(last ? vector(lanes_) : serial(), "q", first, ceildiv(size + lo - first_phase, s), [&](Dim q) {
        q_[a] = q;
        if (last)
          grad_elements();
        else
          grad_axis(a + 1);
      });
    };
    if (a >= joint_) return over(0, s - 1);
    for (phase_[a] = 0; phase_[a] < s; ++phase_[a]) over(phase_[a], phase_[a]);
  }

  struct Element {
    Coords at;
    std::vector<Dim> guards;
    std::vector<Expr> values;  // of the results
  };

  // All phases of the joint axes for the current q: every value first, then the stores, neighbours together.
  void grad_elements() {
    std::vector<Element> elements;
    seen_.clear();
    std::function<void(size_t)> phases = [&](size_t a) {
      if (a == f_.n) {
        elements.push_back(grad_element());
        return;
      }
      for (phase_[a] = 0; phase_[a] < f_.stride[a]; ++phase_[a]) phases(a + 1);
    };
    phases(joint_);
    for (size_t r = 0; r < f_.results.size(); ++r)
      for (const Element& e : elements)
        b_->store_value(f_.results[r], result_coords(f_.results[r], e.at), e.values[r], e.guards);
  }

  Element grad_element() {
    Element el;
    el.at.assign(at_.begin(), at_.begin() + static_cast<int64_t>(f_.lead));
    for (size_t a = 0; a < f_.n; ++a) {
      Dim x = q_[a] * f_.stride[a] + (phase_[a] - f_.pad[2 * a]);
      el.at.push_back(x);
      add_guard(el.guards, x);
      add_guard(el.guards, f_.out[f_.lead + a] - 1 - x);
    }
    Expr total;
    for (int64_t k = 0; k < f_.taps; ++k) {
      // x is tap t of window o iff stride * q + phase == stride * o + dilation * t
      std::vector<Dim> t = tap_at(k);
      bool divides = true;
      Coords o(f_.n);
      for (size_t a = 0; a < f_.n; ++a) {
        int64_t d = phase_[a] - f_.dilation[a] * t[a].constant();
        divides = divides && d % f_.stride[a] == 0;
        o[a] = b_->simplify(q_[a] + d / f_.stride[a]);
      }
      if (!divides) continue;
      const Window& w = window_of(o);
      Expr g = w.dy;
      if (f_.max && f_.taps > 1)
        g = select(equal(w.best, Expr::int_constant(k, DType::kI32)), g, Expr::constant(0, f_.acc));
      total = total ? b_->k().let("g", total + g) : g;
    }
    if (!total) total = Expr::constant(0, f_.acc);
    bind_core(total, el.at);
    for (int r : f_.results)
      el.values.push_back(
          b_->k().let("r", b_->element(region_.body.results[r], result_coords(r, el.at), el.guards)));
    return el;
  }

  // What one window gives to its elements.
  struct Window {
    Coords o;
    Expr dy;    // 0 for a window that isn't there
    Expr best;  // max: the tap that gets it
  };
  const Window& window_of(const Coords& o) {
    for (const Window& w : seen_)
      if (w.o == o) return w;
    const Shape& ys = dy_shape();
    Coords at(at_.begin(), at_.begin() + static_cast<int64_t>(f_.lead));
    std::vector<Dim> guards;
    for (size_t a = 0; a < f_.n; ++a) {
      at.push_back(o[a]);
      add_guard(guards, o[a]);
      add_guard(guards, ys[f_.lead + a] - 1 - o[a]);
    }
    Window w{o, b_->k().let("dy", cast(b_->element(f_.core->operands[1], at, guards, 0.0), f_.acc)), {}};
    if (f_.max && f_.taps > 1) {
      Shape windows(ys.begin() + static_cast<int64_t>(f_.lead), ys.end());
      w.best = apart()
                   ? find_best(o, guards)
                   : b_->k().let("best", best_.load_where({b_->simplify(linear_index(windows, o))}, guards));
    }
    seen_.push_back(std::move(w));
    return seen_.back();
  }

  const Func& region_;
  const LowerOptions& options_;
  int lanes_;
  WindowForm f_;
  RegionBuilder* b_ = nullptr;
  Coords at_;
  size_t joint_ = 0;  // axes from here on have all their phases in one body
  int64_t phase_[8] = {};
  Dim q_[8];
  Buffer best_;
  std::deque<Window> seen_;
};

}  // namespace

Result<LoweredRegion> lower_window(const Func& region, const LowerOptions& options) {
  return WindowTemplate(region, options).lower();
}

}  // namespace graphc
