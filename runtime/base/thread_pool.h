// Our own fork-join pool. Work is cut into chunks whose bounds depend on n and grain only, never on the
// number of threads, so a kernel that reduces per chunk gives the same bits on any number of threads. Chunks
// are claimed by an atomic counter; idle workers spin for a bounded time and then sleep in a futex.
//
//   ThreadPool pool(2);                                        // the caller is one of the two
//   pool.parallel_for(n, 1024, [&](int64_t b, int64_t e) { for (int64_t i = b; i < e; ++i) y[i] = f(x[i]);
//   });
//
// Any thread may call; if the pool is busy with another caller's loop, or the call comes from inside a loop,
// the caller works off all chunks itself. The body must not throw. A warm parallel_for allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace graphc {

class ThreadPool {
 public:
  using Body = void (*)(void* arg, int64_t begin, int64_t end);

  // threads < 1: as many as this process may run on
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // body over [0, n) in chunks [i*grain, min(n, (i+1)*grain)); returns when all are done. grain < 1 counts
  // as 1.
  void parallel_for(int64_t n, int64_t grain, Body body, void* arg);

  template <class F>
  void parallel_for(int64_t n, int64_t grain, F&& f) {
    using Fn = std::remove_reference_t<F>;
    parallel_for(
        n, grain, [](void* arg, int64_t b, int64_t e) { (*static_cast<Fn*>(arg))(b, e); },
        const_cast<void*>(static_cast<const void*>(&f)));
  }

  // gc_host.parallel_for with ctx = ThreadPool*; a null pool runs the chunks in order on the caller.
  static void c_parallel_for(void* pool, int64_t n, int64_t grain, Body body, void* arg);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Number of CPUs this process may run on (affinity and cgroup quota considered).
int available_cpus();

}  // namespace graphc
