#include "runtime/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace graphc {
namespace {

TEST(ThreadPool, EveryElementOnceInFixedChunks) {
  std::mt19937 rng(1);
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (int k = 0; k < 200; ++k) {
      const int64_t n = rng() % 5000, grain = 1 + rng() % 300;
      std::vector<std::atomic<int>> hits(n);
      std::mutex mutex;
      std::set<std::pair<int64_t, int64_t>> chunks;
      pool.parallel_for(n, grain, [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i) hits[i].fetch_add(1);
        std::lock_guard lock(mutex);
        chunks.insert({b, e});
      });
      for (auto& h : hits) ASSERT_EQ(h.load(), 1);
      std::set<std::pair<int64_t, int64_t>> expected;
      for (int64_t b = 0; b < n; b += grain) expected.insert({b, std::min(n, b + grain)});
      ASSERT_EQ(chunks, expected) << n << " " << grain;
    }
  }
}

TEST(ThreadPool, ManyShortJobsAndSleeps) {
  ThreadPool pool(4);
  int64_t total = 0;
  for (int k = 0; k < 20000; ++k) {
    std::atomic<int64_t> sum{0};
    pool.parallel_for(8, 1, [&](int64_t b, int64_t) { sum += b; });
    total += sum;
    if (k % 5000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));  // workers fall asleep
  }
  EXPECT_EQ(total, 20000 * 28);
}

TEST(ThreadPool, NestedAndConcurrentCallersFinish) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t)
    callers.emplace_back([&] {
      for (int k = 0; k < 500; ++k)
        pool.parallel_for(10, 2, [&](int64_t b, int64_t e) {
          pool.parallel_for(e - b, 1, [&](int64_t, int64_t) { sum.fetch_add(1); });
        });
    });
  for (auto& t : callers) t.join();
  EXPECT_EQ(sum.load(), 4 * 500 * 10);
}

TEST(ThreadPool, ThroughTheCFunction) {
  struct Args {
    std::atomic<int64_t> sum{0};
  };
  const auto body = [](void* a, int64_t b, int64_t e) { static_cast<Args*>(a)->sum += e - b; };
  ThreadPool pool(2);
  for (void* ctx : {static_cast<void*>(&pool), static_cast<void*>(nullptr)}) {
    Args args;
    ThreadPool::c_parallel_for(ctx, 1000003, 17, body, &args);
    EXPECT_EQ(args.sum.load(), 1000003);
    ThreadPool::c_parallel_for(ctx, 0, 17, body, &args);
    ThreadPool::c_parallel_for(ctx, -5, 0, body, &args);
    EXPECT_EQ(args.sum.load(), 1000003);
  }
  EXPECT_GE(available_cpus(), 1);
}

}  // namespace
}  // namespace graphc
