// What this machine can do at best, measured: the yardstick of `graphc bench`.
#pragma once

#include "runtime/base/thread_pool.h"

namespace graphc::cli {

struct Peak {
  double flops = 0;  // f32 multiply-adds, two each, a second, on all threads of the pool
};
Peak measure_peak(ThreadPool& pool);

}  // namespace graphc::cli
