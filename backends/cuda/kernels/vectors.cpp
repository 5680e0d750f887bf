#include "backends/cuda/kernels/vectors.h"

#include <algorithm>

namespace graphc::cuda {

bool is_multiple(const Dim& d, int64_t w) {
  return d.constant() % w == 0 && std::all_of(d.terms().begin(), d.terms().end(),
                                              [&](const DimTerm& t) { return t.coefficient % w == 0; });
}

int dense_accesses(const Kernel& dry, const std::string& inner) {
  int n = 0;
  for (const Access& a : accesses(dry))
    if (a.kind == Access::kLoad || a.kind == Access::kStore)
      if (auto c = coefficient(a.address, inner)) n += c->is_constant(1);
  return n;
}

int vector_width(const Kernel& dry, const std::string& inner, const std::optional<Dim>& length) {
  constexpr int kMaxLanes = 8;
  const std::vector<Access> touched = accesses(dry);
  int widest = 0;
  for (const Access& a : touched) {
    if (a.kind == Access::kGuard && a.address.uses(inner)) return 1;
    if (a.kind != Access::kLoad && a.kind != Access::kStore) continue;
    const auto c = coefficient(a.address, inner);
    if (!c || !(c->is_constant(0) || c->is_constant(1))) return 1;
    if (c->is_constant(1))
      widest =
          std::max(widest, static_cast<int>(dtype_size(dry.buffers[static_cast<size_t>(a.buffer)].type)));
  }
  if (!widest) return 1;
  int w = std::min(16 / widest, kMaxLanes);
  const auto fits = [&](int width) {
    if (length && !is_multiple(*length, width)) return false;
    return std::all_of(touched.begin(), touched.end(), [&](const Access& a) {
      if (a.kind != Access::kLoad && a.kind != Access::kStore) return true;
      const auto parts = a.address.linear_in(inner);
      return parts->first.is_constant(0) || is_multiple(parts->second, width);
    });
  };
  while (w > 1 && !fits(w)) w /= 2;
  return w;
}

void lanes(RegionBuilder& b, int w, const std::function<void(Dim)>& body) {
  if (w == 1)
    b.scoped([&] { body(0); });
  else
    b.loop(vector(w), "l", 0, w, body);
}

}  // namespace graphc::cuda
