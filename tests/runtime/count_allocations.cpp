#include "tests/runtime/count_allocations.h"

#include <cstdlib>
#include <new>

namespace graphc {

std::atomic<int64_t> allocations{0};
namespace {
thread_local int uncounted = 0;
}

Uncounted::Uncounted() { ++uncounted; }
Uncounted::~Uncounted() { --uncounted; }

}  // namespace graphc

// GCC takes the pair below for mismatched once it is inlined.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
void* operator new(size_t n) {
  if (graphc::uncounted == 0) ++graphc::allocations;
  if (void* p = std::malloc(n ? n : 1)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
