// Counts every operator new of the test program, but for those of a test's own helpers.
//
//   const int64_t before = allocations;
//   context->run();
//   EXPECT_EQ(allocations, before);
#pragma once

#include <atomic>
#include <cstdint>

namespace graphc {

extern std::atomic<int64_t> allocations;

// While one lives, what its thread allocates isn't counted.
struct Uncounted {
  Uncounted();
  ~Uncounted();
};

}  // namespace graphc
