#include "passes/rewrite.h"

#include <cmath>

namespace graphc {

std::optional<double> splat_value(const Value* v) {
  if (!v->node || v->node->op != &ops::full) return std::nullopt;
  const Attr& a = v->node->attr("value");
  if (a.is_float()) return a.as_float();
  if (a.is_bool()) return a.as_bool() ? 1 : 0;
  if (!a.is_int() || !a.as_dim().is_constant()) return std::nullopt;
  const int64_t i = a.as_int();
  if (i > (int64_t{1} << 53) || i < -(int64_t{1} << 53)) return std::nullopt;
  return static_cast<double>(i);
}

}  // namespace graphc
