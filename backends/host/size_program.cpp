#include "backends/host/size_program.h"

namespace graphc {
namespace {
constexpr size_t kMaxStack = 64;
}

bool SizeProgram::valid(size_t num_symbols) const {
  size_t depth = 0;
  for (size_t i = 0; i < words_.size(); ++i) {
    switch (words_[i]) {
      case kPush:
      case kSymbol:
        if (++i >= words_.size() || ++depth > kMaxStack) return false;
        if (words_[i - 1] == kSymbol && (words_[i] < 0 || static_cast<uint64_t>(words_[i]) >= num_symbols))
          return false;
        break;
      case kAdd:
      case kMul:
      case kFloorDiv:
        if (depth < 2) return false;
        --depth;
        break;
      default: return false;
    }
  }
  return depth == 1;
}

std::optional<int64_t> SizeProgram::evaluate(std::span<const int64_t> symbols) const {
  int64_t stack[kMaxStack];
  size_t top = 0;
  for (size_t i = 0; i < words_.size(); ++i) {
    if (words_[i] == kPush || words_[i] == kSymbol) {
      bool push = words_[i] == kPush;
      ++i;
      stack[top++] = push ? words_[i] : symbols[static_cast<size_t>(words_[i])];
      continue;
    }
    int64_t b = stack[--top], &a = stack[top - 1];
    switch (words_[i]) {
      case kAdd:
        if (__builtin_add_overflow(a, b, &a)) return std::nullopt;
        break;
      case kMul:
        if (__builtin_mul_overflow(a, b, &a)) return std::nullopt;
        break;
      default: {
        if (b == 0 || (a == INT64_MIN && b == -1)) return std::nullopt;
        int64_t q = a / b;
        a = a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
      }
    }
  }
  return stack[0];
}

}  // namespace graphc
