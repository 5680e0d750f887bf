#include "runtime/base/thread_pool.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <mutex>
#include <thread>
#include <vector>

namespace graphc {
namespace {

void futex_wait(std::atomic<uint32_t>* word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}
void futex_wake(std::atomic<uint32_t>* word, int count) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(word), FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}
void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// 60 to 250 us, by processor: longer than the gap between two steps of a program and than most waits for the
// other threads' last chunks (a sleep and a wake cost 50 us and more in a virtual machine), short enough to
// give a shared core back.
constexpr int kSpins = 5000;

thread_local bool in_loop = false;

void run_inline(int64_t n, int64_t grain, ThreadPool::Body body, void* arg) {
  for (int64_t b = 0; b < n;) {
    const int64_t e = n - b > grain ? b + grain : n;
    body(arg, b, e);
    b = e;
  }
}

int64_t chunk_grain(int64_t n, int64_t grain) {
  grain = std::max<int64_t>(grain, 1);
  constexpr int64_t kMaxChunks = int64_t{1} << 31;  // the counter has 32 bits
  if (n / grain >= kMaxChunks) grain = n / kMaxChunks + 1;
  return grain;
}

}  // namespace

struct ThreadPool::Impl {
  // Job number << 32 | chunks nobody has claimed yet. A successful claim keeps the job from ending, so its
  // fields are read only after it, and a late worker can't mix up two jobs.
  alignas(64) std::atomic<uint64_t> state{0};
  alignas(64) std::atomic<uint32_t> signal{0};  // workers sleep on it; changes with each job
  std::atomic<uint32_t> sleepers{0};
  alignas(64) std::atomic<uint32_t> pending{0};  // chunks not finished; the caller sleeps on it
  std::atomic<uint32_t> caller_sleeps{0};
  std::atomic<bool> stop{false};
  Body body = nullptr;
  void* arg = nullptr;
  int64_t n = 0, grain = 1;
  uint32_t chunks = 0;
  std::mutex busy;
  std::vector<std::thread> workers;

  bool run_one_chunk() {
    uint64_t s = state.load(std::memory_order_acquire);
    do {
      if (static_cast<uint32_t>(s) == 0) return false;
    } while (!state.compare_exchange_weak(s, s - 1, std::memory_order_acq_rel, std::memory_order_acquire));
    const int64_t i = chunks - static_cast<uint32_t>(s);
    const int64_t b = i * grain, e = n - b > grain ? b + grain : n;
    body(arg, b, e);
    // seq_cst: pairs with the caller's caller_sleeps before it looks at pending
    if (pending.fetch_sub(1) == 1 && caller_sleeps.load()) futex_wake(&pending, 1);
    return true;
  }

  void work() {
    in_loop = true;  // a loop inside a body runs on the worker itself
    uint32_t seen = signal.load();
    while (!stop.load()) {
      while (run_one_chunk()) {
      }
      int spins = 0;
      while (signal.load(std::memory_order_acquire) == seen && spins < kSpins) ++spins, cpu_pause();
      if (signal.load() == seen) {
        sleepers.fetch_add(1);
        futex_wait(&signal, seen);
        sleepers.fetch_sub(1);
      }
      seen = signal.load();
    }
  }

  void notify() {
    signal.fetch_add(1);
    if (sleepers.load()) futex_wake(&signal, static_cast<int>(workers.size()));
  }
};

ThreadPool::ThreadPool(int threads) : impl_(std::make_unique<Impl>()) {
  if (threads < 1) threads = available_cpus();
  impl_->workers.reserve(threads - 1);
  for (int i = 1; i < threads; ++i) {
    // A machine that gives no more threads still computes, on fewer.
    try {
      impl_->workers.emplace_back([impl = impl_.get()] { impl->work(); });
    } catch (const std::system_error&) {
      break;
    }
  }
}

ThreadPool::~ThreadPool() {
  impl_->stop.store(true);
  impl_->signal.fetch_add(1);
  futex_wake(&impl_->signal, static_cast<int>(impl_->workers.size()));
  for (std::thread& t : impl_->workers) t.join();
}

int ThreadPool::threads() const { return static_cast<int>(impl_->workers.size()) + 1; }

void ThreadPool::parallel_for(int64_t n, int64_t grain, Body body, void* arg) {
  if (n <= 0) return;
  grain = chunk_grain(n, grain);
  Impl& im = *impl_;
  if (n <= grain || im.workers.empty() || in_loop) return run_inline(n, grain, body, arg);
  std::unique_lock lock(im.busy, std::try_to_lock);
  if (!lock) return run_inline(n, grain, body, arg);
  im.body = body, im.arg = arg, im.n = n, im.grain = grain;
  im.chunks = static_cast<uint32_t>((n - 1) / grain + 1);
  im.pending.store(im.chunks);
  const uint64_t job = (im.state.load(std::memory_order_relaxed) >> 32) + 1;
  im.state.store(job << 32 | im.chunks);
  im.notify();
  in_loop = true;
  while (im.run_one_chunk()) {
  }
  in_loop = false;
  for (int spins = 0; spins < kSpins && im.pending.load(std::memory_order_acquire) != 0; ++spins) cpu_pause();
  if (im.pending.load(std::memory_order_acquire) == 0) return;
  im.caller_sleeps.store(1);
  for (uint32_t left = im.pending.load(); left != 0; left = im.pending.load()) futex_wait(&im.pending, left);
  im.caller_sleeps.store(0);
}

void ThreadPool::c_parallel_for(void* pool, int64_t n, int64_t grain, Body body, void* arg) {
  if (pool) return static_cast<ThreadPool*>(pool)->parallel_for(n, grain, body, arg);
  if (n > 0) run_inline(n, chunk_grain(n, grain), body, arg);
}

int available_cpus() {
  cpu_set_t set;
  int cpus = 1;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cpus = std::max(1, CPU_COUNT(&set));
  if (FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    long long quota = 0, period = 0;
    if (std::fscanf(f, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0)
      cpus = std::clamp(static_cast<int>((quota + period - 1) / period), 1, cpus);
    std::fclose(f);
  }
  return cpus;
}

}  // namespace graphc
