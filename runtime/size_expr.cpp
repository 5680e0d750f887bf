#include "runtime/size_expr.h"

#include <fmt/format.h>

#include <array>

namespace graphc {
namespace {
constexpr size_t kMaxStack = 64;

std::vector<int64_t> join(std::span<const int64_t> a, std::span<const int64_t> b, int64_t op) {
  std::vector<int64_t> code(a.begin(), a.end());
  code.insert(code.end(), b.begin(), b.end());
  code.push_back(op);
  return code;
}
}  // namespace

SizeExpr SizeExpr::symbol(int64_t index) {
  SizeExpr e;
  e.code_ = {kSymbol, index};
  return e;
}

SizeExpr operator+(const SizeExpr& a, const SizeExpr& b) {
  if (a == SizeExpr(0)) return b;
  if (b == SizeExpr(0)) return a;
  int64_t v;
  if (a.code_.size() == 2 && b.code_.size() == 2 && a.code_[0] == SizeExpr::kConst &&
      b.code_[0] == SizeExpr::kConst && !__builtin_add_overflow(a.code_[1], b.code_[1], &v))
    return v;
  SizeExpr e;
  e.code_ = join(a.code_, b.code_, SizeExpr::kAdd);
  return e;
}

SizeExpr operator*(const SizeExpr& a, const SizeExpr& b) {
  if (a == SizeExpr(1)) return b;
  if (b == SizeExpr(1)) return a;
  int64_t v;
  if (a.code_.size() == 2 && b.code_.size() == 2 && a.code_[0] == SizeExpr::kConst &&
      b.code_[0] == SizeExpr::kConst && !__builtin_mul_overflow(a.code_[1], b.code_[1], &v))
    return v;
  SizeExpr e;
  e.code_ = join(a.code_, b.code_, SizeExpr::kMul);
  return e;
}

SizeExpr SizeExpr::floor_div(const SizeExpr& a, const SizeExpr& b) {
  if (b == SizeExpr(1)) return a;
  SizeExpr e;
  e.code_ = join(a.code_, b.code_, kFloorDiv);
  return e;
}

Result<SizeExpr> SizeExpr::from_code(std::span<const int64_t> code, size_t num_symbols) {
  size_t depth = 0;
  for (size_t i = 0; i < code.size(); ++i) {
    switch (code[i]) {
      case kConst:
      case kSymbol:
        if (i + 1 >= code.size()) return invalid("a size expression is cut off");
        ++i;
        if (code[i - 1] == kSymbol && (code[i] < 0 || static_cast<uint64_t>(code[i]) >= num_symbols))
          return invalid("a size expression names a symbol that isn't there");
        if (++depth > kMaxStack) return invalid("a size expression is nested too deeply");
        break;
      case kAdd:
      case kMul:
      case kFloorDiv:
        if (depth < 2) return invalid("a size expression lacks operands");
        --depth;
        break;
      default: return invalid("a size expression has an unknown operation");
    }
  }
  if (depth != 1) return invalid("a size expression must have one result");
  SizeExpr e;
  e.code_.assign(code.begin(), code.end());
  return e;
}

Result<int64_t> SizeExpr::eval(std::span<const int64_t> symbols) const {
  std::array<int64_t, kMaxStack> stack;
  size_t top = 0;
  for (size_t i = 0; i < code_.size(); ++i) {
    const int64_t op = code_[i];
    if (op == kConst || op == kSymbol) {
      if (top == kMaxStack) return invalid("a size expression is nested too deeply");
      const int64_t operand = code_[++i];
      if (op == kSymbol && static_cast<uint64_t>(operand) >= symbols.size())
        return internal_error("a size expression names a symbol without a value");
      stack[top++] = op == kConst ? operand : symbols[operand];
      continue;
    }
    const int64_t b = stack[--top];
    int64_t& a = stack[top - 1];
    bool overflow = false;
    if (op == kAdd)
      overflow = __builtin_add_overflow(a, b, &a);
    else if (op == kMul)
      overflow = __builtin_mul_overflow(a, b, &a);
    else if (b <= 0)
      return invalid("a size is divided by a number that isn't positive");
    else
      a = a / b - (a % b < 0 ? 1 : 0);
    if (overflow) return invalid("a size is too large for 64 bits");
  }
  if (stack[0] < 0) return invalid("a size is negative: " + std::to_string(stack[0]));
  return stack[0];
}

std::string SizeExpr::str(std::span<const std::string> names) const {
  // text and binding strength: 0 sum, 1 product, 2 atom
  std::vector<std::pair<std::string, int>> stack;
  for (size_t i = 0; i < code_.size(); ++i) {
    const int64_t op = code_[i];
    if (op == kConst) {
      stack.emplace_back(std::to_string(code_[++i]), 2);
    } else if (op == kSymbol) {
      const auto s = static_cast<size_t>(code_[++i]);
      stack.emplace_back(s < names.size() ? names[s] : fmt::format("s{}", s), 2);
    } else {
      const auto b = stack.back();
      stack.pop_back();
      auto& a = stack.back();
      if (op == kAdd) {
        a = {a.first + "+" + b.first, 0};
      } else {
        const auto wrap = [](const std::pair<std::string, int>& e, int at_least) {
          return e.second < at_least ? "(" + e.first + ")" : e.first;
        };
        a = {wrap(a, op == kMul ? 1 : 2) + (op == kMul ? "*" : "//") + wrap(b, op == kMul ? 1 : 2), 1};
      }
    }
  }
  return stack.back().first;
}

}  // namespace graphc
