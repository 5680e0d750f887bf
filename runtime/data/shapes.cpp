// Generated pictures. Distances are computed in f64 with +, -, *, sqrt and own sin and cos only, so that the
// pictures are equal on every machine.
#include <algorithm>
#include <cmath>

#include "runtime/base/init.h"
#include "runtime/base/philox.h"
#include "runtime/data/dataset.h"

namespace graphc {
namespace {

// Signed distance from the outline (negative inside) at (x, y) of a shape of radius 1 around 0.
double distance(int shape, double x, double y) {
  const double r = std::sqrt(x * x + y * y);
  const auto box = [&](double hx, double hy) { return std::max(std::fabs(x) - hx, std::fabs(y) - hy); };
  switch (shape) {
    case 0: return r - 0.9;        // circle
    case 1: return box(0.8, 0.8);  // square
    case 2:
      return std::max({y - 0.5, -0.5 * y + 0.8660254037844386 * x - 0.5,  // triangle
                       -0.5 * y - 0.8660254037844386 * x - 0.5});
    case 3: return std::min(box(1.0, 0.25), box(0.25, 1.0));  // cross
    case 4: return std::fabs(r - 0.75) - 0.18;                // ring
    default: return box(1.0, 0.22);                           // bar
  }
}

class Shapes final : public Dataset {
 public:
  explicit Shapes(const ShapesOptions& o) : o_(o) {
    fields_ = {{"image", DType::kF32, {1, o.size, o.size}}, {"label", DType::kI32, {}}};
  }
  const std::vector<DataField>& fields() const override { return fields_; }
  int64_t size() const override { return o_.n; }
  const std::vector<std::string>& classes() const override { return classes_; }

  void read(int64_t i, std::span<std::byte* const> out) const override {
    const auto draw = [&](uint32_t block) {
      return philox4x32_10({static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), o_.part, block},
                           {static_cast<uint32_t>(o_.seed), static_cast<uint32_t>(o_.seed >> 32)});
    };
    const auto unit = [](uint32_t w) { return static_cast<double>(philox_uniform(w)); };
    const PhiloxBlock a = draw(0), b = draw(1);
    const int label = static_cast<int>(a[0] % classes_.size());
    const auto n = static_cast<double>(o_.size);
    const double radius = n * (0.18 + 0.14 * unit(a[1]));
    const double cx = n * 0.5 + (n * 0.5 - radius - 1) * (2 * unit(a[2]) - 1) * 0.8;
    const double cy = n * 0.5 + (n * 0.5 - radius - 1) * (2 * unit(a[3]) - 1) * 0.8;
    const double light = 0.6 + 0.4 * unit(b[1]);
    double s, c;
    init_sincos_turns(unit(b[0]), &s, &c);
    auto* x = reinterpret_cast<float*>(out[0]);
    PhiloxBlock noise{};
    for (int64_t row = 0; row < o_.size; ++row)
      for (int64_t col = 0; col < o_.size; ++col) {
        const int64_t at = row * o_.size + col;
        if (at % 4 == 0) noise = draw(static_cast<uint32_t>(2 + at / 4));
        const double dx = (static_cast<double>(col) + 0.5 - cx) / radius,
                     dy = (static_cast<double>(row) + 0.5 - cy) / radius;
        const double d = distance(label, c * dx + s * dy, c * dy - s * dx) * radius;  // in pixels
        const double ink = std::clamp(0.5 - d, 0.0, 1.0) * light;
        const double v = ink + o_.noise * (2 * unit(noise[at % 4]) - 1);
        x[at] = static_cast<float>(std::clamp(v, 0.0, 1.0));
      }
    store_from_int(DType::kI32, out[1], 0, label);
  }

 private:
  ShapesOptions o_;
  std::vector<DataField> fields_;
  std::vector<std::string> classes_{"circle", "square", "triangle", "cross", "ring", "bar"};
};

}  // namespace

std::shared_ptr<const Dataset> make_shapes(const ShapesOptions& options) {
  return std::make_shared<Shapes>(options);
}

}  // namespace graphc
