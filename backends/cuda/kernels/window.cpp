// Template "window": pooling and its gradient, without atomics.
//
// reduce_window: a thread per result element, the taps unrolled (or in serial loops if they are many),
// positions outside of x guarded.
//
// reduce_window_grad gathers: an element of x adds up dy of the windows that contain it (sum), or of those
// whose first maximum (or first NaN) it is (max). Which tap that is, is found once per window: in passing if
// windows don't overlap, else by a kernel of its own into a workspace. Along strided axes x = stride * q +
// phase - pad, and a thread does all phases of a q, so that which windows contain an element is known without
// a division; where phases or taps are many, a thread does one element and divides.
#include <algorithm>
#include <deque>
#include <functional>
#include <limits>

#include "backends/cuda/kernels/each_element.h"
#include "backends/cuda/kernels/lowering.h"
#include "backends/kernels/region_builder.h"
#include "backends/kernels/window_form.h"

namespace graphc::cuda {
namespace {

constexpr int64_t kUnrolledTaps = 32;
constexpr int64_t kPhases = 16;  // elements of one thread
constexpr double kInfinity = std::numeric_limits<double>::infinity();

class WindowTemplate {
 public:
  WindowTemplate(const Func& region, const LowerOptions& options) : region_(region), options_(options) {}

  Result<LoweredRegion> lower() {
    GC_TRY(f_, window_form(region_));
    for (int64_t s : f_.stride) phases_ *= s;
    return f_.gradient ? gradient() : forward();
  }

 private:
  const Value* x() const { return f_.core->operands[0]; }
  const Value* dy() const { return f_.core->operands[1]; }
  Coords lead_of(const Coords& at) const {
    return Coords(at.begin(), at.begin() + static_cast<int64_t>(f_.lead));
  }
  Coords windows_of(const Coords& at) const {
    return Coords(at.begin() + static_cast<int64_t>(f_.lead), at.end());
  }

  // ---- what all kernels read

  // x at tap t of window o; `otherwise` outside. `inside` gets the guards that say where it is.
  Expr x_at(const Coords& lead, const Coords& o, const Coords& t, const std::vector<Dim>& guards,
            double otherwise, std::vector<Dim>* inside = nullptr) {
    Coords at = lead;
    std::vector<Dim> all = guards, mine;
    for (size_t a = 0; a < f_.n; ++a) {
      Dim c = f_.tap(a, o[a], t[a]);
      at.push_back(c);
      add_guard(*b_, mine, c);
      add_guard(*b_, mine, x()->type.shape[f_.lead + a] - 1 - c);
    }
    all.insert(all.end(), mine.begin(), mine.end());
    if (inside) *inside = mine;
    return cast(b_->element(x(), at, all, otherwise), f_.acc);
  }

  Coords tap_at(int64_t k) const {
    Coords t(f_.n);
    for (size_t i = f_.n; i-- > 0; k /= f_.window[i]) t[i] = k % f_.window[i];
    return t;
  }

  // Over all taps, in serial loops.
  Expr reduce_taps(ReduceOp op, const std::function<Expr(const Coords&)>& value, Coords t = {}) {
    return b_->reduce("w", {op}, serial(), "t", 0, f_.window[t.size()], [&](Dim v) {
      Coords next = t;
      next.push_back(v);
      return std::vector<Expr>{next.size() == f_.n ? value(next) : reduce_taps(op, value, next)};
    })[0];
  }

  Coords result_coords(int r, const Coords& at) {
    return reshape_coords(f_.out, at, region_.body.results[static_cast<size_t>(r)]->type.shape, b_->ranges());
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

  void write(const Expr& value, const Coords& at) {
    bind_core(value, at);
    std::vector<std::pair<int, Coords>> stores;
    for (int r : f_.results) stores.emplace_back(r, result_coords(r, at));
    b_->store_results(stores);
  }

  // ---- forward

  Result<LoweredRegion> forward() {
    std::vector<const Value*> roots = f_.roots;
    roots.push_back(x());
    RegionBuilder b(region_, options_.name, roots, {f_.core->result()}, f_.results);
    b_ = &b;
    each_element(b, f_.out, element_threads(f_.out, options_.target), [&](const Coords& at) {
      const double start = f_.max ? -kInfinity : 0;
      const Coords lead = lead_of(at), o = windows_of(at);
      Expr result;
      if (f_.taps <= kUnrolledTaps) {
        for (int64_t k = 0; k < f_.taps; ++k) {
          Expr e = b.k().let("x", x_at(lead, o, tap_at(k), {}, start));
          result = !result ? e : f_.max ? maximum(result, e) : result + e;
        }
      } else {
        result = reduce_taps(f_.max ? ReduceOp::kMax : ReduceOp::kAdd,
                             [&](const Coords& t) { return x_at(lead, o, t, {}, start); });
      }
      write(result, at);
    });
    LoweredRegion out;
    GC_TRY(KernelStep step, b.finish());
    out.steps.push_back(std::move(step));
    return out;
  }

  // ---- gradient

  // Each element of x lies in at most one window.
  bool apart() const {
    for (size_t a = 0; a < f_.n; ++a)
      if (f_.window[a] > f_.stride[a] || f_.dilation[a] != 1) return false;
    return true;
  }

  Result<LoweredRegion> gradient() {
    const bool by_phase = phases_ <= kPhases && f_.taps <= 2 * kUnrolledTaps;
    windows_ = dy()->type.shape;
    LoweredRegion out;
    stored_ = f_.max && f_.taps > 1 && !(apart() && by_phase && f_.taps <= kPhases);
    std::vector<RegionBuilder::Workspace> best;
    std::string name = options_.name;
    if (stored_) {
      const Dim count = product(windows_);
      out.workspace_bytes.push_back(ceildiv(count, 16) * 64);
      RegionBuilder b(region_, name, {x()}, {f_.core->result()}, {}, {{0, DType::kI32, count, true}});
      b_ = &b;
      each_element(b, windows_, element_threads(windows_, options_.target), [&](const Coords& at) {
        Expr e = find_best(lead_of(at), windows_of(at), {});
        b.k().store(b.workspace(0), {b.simplify(linear_index(windows_, at))}, e);
      });
      GC_TRY(KernelStep step, b.finish());
      out.steps.push_back(std::move(step));
      best.push_back({0, DType::kI32, count, false});
      name += "_gather";
    }
    std::vector<const Value*> roots = f_.roots;
    roots.push_back(dy());
    if (f_.max && !stored_) roots.push_back(x());
    RegionBuilder b(region_, name, roots, {f_.core->result()}, f_.results, best);
    b_ = &b;
    if (by_phase)
      gather_phases();
    else
      gather_elements();
    GC_TRY(KernelStep step, b.finish());
    out.steps.push_back(std::move(step));
    return out;
  }

  // The number of the tap that is window o's first maximum; a NaN beats every number.
  Expr find_best(const Coords& lead, const Coords& o, const std::vector<Dim>& guards) {
    if (f_.taps > kUnrolledTaps) return search_best(lead, o);
    // from the last tap to the first, so that of equals the first stays
    Expr at, top;
    for (int64_t k = f_.taps; k-- > 0;) {
      std::vector<Dim> inside;
      Expr e = b_->k().let("x", x_at(lead, o, tap_at(k), guards, -kInfinity, &inside));
      Expr number = Expr::int_constant(k, DType::kI32);
      if (!at) {
        at = number;
        top = e;
        continue;
      }
      Expr wins = bit_or(e >= top, is_nan(e));
      for (const Dim& g : inside) wins = bit_and(wins, holds(g));
      wins = b_->k().let("wins", wins);
      at = b_->k().let("best", select(wins, number, at));
      if (k > 0) top = b_->k().let("top", select(wins, e, top));
    }
    return at;
  }

  // The same in loops: the maximum (NaN if there is one), then the first tap that has it.
  Expr search_best(const Coords& lead, const Coords& o) {
    Expr top = reduce_taps(ReduceOp::kMax, [&](const Coords& t) { return x_at(lead, o, t, {}, -kInfinity); });
    return reduce_taps(ReduceOp::kMin, [&](const Coords& t) {
      std::vector<Dim> inside;
      Expr e = b_->k().let("x", x_at(lead, o, t, {}, -kInfinity, &inside));
      Expr wins = bit_or(equal(e, top), bit_and(is_nan(e), is_nan(top)));
      for (const Dim& g : inside) wins = bit_and(wins, holds(g));
      return select(wins, tap_number(t), Expr::int_constant(f_.taps - 1, DType::kI32));
    });
  }

  static Expr holds(const Dim& guard) { return Expr::index(guard) >= Expr::int_constant(0, DType::kI64); }

  Expr tap_number(const Coords& t) const {
    Dim number(0);
    for (size_t a = 0; a < f_.n; ++a) number = number * f_.window[a] + t[a];
    return cast(Expr::index(number), DType::kI32);
  }

  // What window o gives to its tap `number`: dy if it is the one (max), 0 for a window that isn't there.
  struct Window {
    Coords o;
    Expr dy, best;
  };
  Window window_at(const Coords& lead, const Coords& o, std::vector<Dim> guards = {}) {
    Coords at = lead;
    for (size_t a = 0; a < f_.n; ++a) {
      at.push_back(o[a]);
      add_guard(*b_, guards, o[a]);
      add_guard(*b_, guards, windows_[f_.lead + a] - 1 - o[a]);
    }
    Window w{o, b_->k().let("dy", cast(b_->element(dy(), at, guards, 0.0), f_.acc)), {}};
    if (f_.max && f_.taps > 1)
      w.best = stored_ ? b_->k().let("best", b_->workspace(0).load_where(
                                                 {b_->simplify(linear_index(windows_, at))}, guards))
                       : find_best(lead, o, guards);
    return w;
  }
  Expr given(const Window& w, const Expr& number) const {
    return w.best ? select(equal(w.best, number), w.dy, Expr::constant(0, f_.acc)) : w.dy;
  }

  // A thread per element of x: every tap asks whether there is a window that has x there.
  void gather_elements() {
    each_element(*b_, f_.out, element_threads(f_.out, options_.target), [&](const Coords& at) {
      const Coords lead = lead_of(at), xs = windows_of(at);
      Expr total = reduce_taps(ReduceOp::kAdd, [&](const Coords& t) {
        Coords o(f_.n);
        std::vector<Dim> guards;
        for (size_t a = 0; a < f_.n; ++a) {
          Dim shifted = xs[a] + f_.pad[2 * a] - t[a] * f_.dilation[a];
          o[a] = b_->simplify(floordiv(shifted, f_.stride[a]));
          if (f_.stride[a] != 1) add_guard(*b_, guards, o[a] * f_.stride[a] - shifted);
        }
        return given(window_at(lead, o, guards), tap_number(t));
      });
      write(total, at);
    });
  }

  // A thread per q (one coordinate per window axis): every value first, then the stores, neighbours together.
  void gather_phases() {
    // x = stride * q + phase - pad >= 0 for some phase: q >= ceil((pad - stride + 1) / stride)
    std::vector<int64_t> first(f_.n);
    Shape space(f_.out.begin(), f_.out.begin() + static_cast<int64_t>(f_.lead));
    for (size_t a = 0; a < f_.n; ++a) {
      first[a] = floordiv(Dim(f_.pad[2 * a]), f_.stride[a]).constant();
      space.push_back(ceildiv(f_.out[f_.lead + a] + f_.pad[2 * a], f_.stride[a]) - first[a]);
    }
    each_element(*b_, space, element_threads(space, options_.target), [&](const Coords& at) {
      const Coords lead = lead_of(at);
      Coords q = windows_of(at);
      for (size_t a = 0; a < f_.n; ++a) q[a] = b_->simplify(q[a] + first[a]);
      std::deque<Window> seen;
      std::vector<Element> elements;
      for (int64_t p = 0; p < phases_; ++p) {
        std::vector<int64_t> phase(f_.n);
        for (int64_t i = static_cast<int64_t>(f_.n), rest = p; i-- > 0;
             rest /= f_.stride[static_cast<size_t>(i)])
          phase[static_cast<size_t>(i)] = rest % f_.stride[static_cast<size_t>(i)];
        elements.push_back(phase_element(lead, q, phase, seen));
      }
      for (size_t r = 0; r < f_.results.size(); ++r)
        for (const Element& e : elements)
          b_->store_value(f_.results[r], result_coords(f_.results[r], e.at), e.values[r], e.guards);
    });
  }

  struct Element {
    Coords at;
    std::vector<Dim> guards;
    std::vector<Expr> values;  // of the results
  };

  Element phase_element(const Coords& lead, const Coords& q, const std::vector<int64_t>& phase,
                        std::deque<Window>& seen) {
    Element el;
    el.at = lead;
    for (size_t a = 0; a < f_.n; ++a) {
      Dim c = q[a] * f_.stride[a] + (phase[a] - f_.pad[2 * a]);
      el.at.push_back(c);
      add_guard(*b_, el.guards, c);
      add_guard(*b_, el.guards, f_.out[f_.lead + a] - 1 - c);
    }
    Expr total;
    for (int64_t k = 0; k < f_.taps; ++k) {
      // x is tap t of window o iff stride * q + phase == stride * o + dilation * t
      const Coords t = tap_at(k);
      bool divides = true;
      Coords o(f_.n);
      for (size_t a = 0; a < f_.n; ++a) {
        int64_t d = phase[a] - f_.dilation[a] * t[a].constant();
        divides = divides && d % f_.stride[a] == 0;
        o[a] = b_->simplify(q[a] + d / f_.stride[a]);
      }
      if (!divides) continue;
      auto w = std::ranges::find_if(seen, [&](const Window& s) { return s.o == o; });
      if (w == seen.end()) {
        seen.push_back(window_at(lead, o));
        w = seen.end() - 1;
      }
      Expr g = given(*w, Expr::int_constant(k, DType::kI32));
      total = total ? b_->k().let("g", total + g) : g;
    }
    if (!total) total = Expr::constant(0, f_.acc);
    bind_core(total, el.at);
    for (int r : f_.results)
      el.values.push_back(b_->k().let("r", b_->element(region_.body.results[static_cast<size_t>(r)],
                                                       result_coords(r, el.at), el.guards)));
    return el;
  }

  const Func& region_;
  const LowerOptions& options_;
  WindowForm f_;
  int64_t phases_ = 1;
  Shape windows_;        // of the result; the gradient: of dy
  bool stored_ = false;  // the windows' best taps lie in workspace 0
  RegionBuilder* b_ = nullptr;
};

}  // namespace

Result<LoweredRegion> lower_window(const Func& region, const LowerOptions& options) {
  return WindowTemplate(region, options).lower();
}

}  // namespace graphc::cuda
