// Runs the threads of a kernel's blocks as fibers on one thread of the operating system. A thread that never
// waits runs to its end without a switch; one that waits hands over to the next that can run.
//
// Found here: barriers that not all threads reach, or reach in different places; warp operations whose lanes
// never come, or read lanes that aren't named; and, in checked modules, accesses outside of live memory and
// races of shared memory between barriers (between threads of a warp: between __syncwarp).
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/cuda/standin/kernel_abi.h"
#include "tests/cuda/standin/machine.h"

namespace standin {

// A copy of a module in memory.
struct LoadedModule {
  State* state = nullptr;
  const KernelEntry* kernels = nullptr;
  const char *data = nullptr, *data_end = nullptr;    // what it can write: its shared memory
  const char *image = nullptr, *image_end = nullptr;  // all of it
  std::string path;                                   // of its file, for line numbers
  void* handle = nullptr;
  int file = -1;
};

struct Launch {
  const char* kernel;
  void** parameters;
  unsigned threads, blocks;
  std::atomic<unsigned> next{0};  // the next block that nobody runs
  std::atomic<bool> failed{false};
  std::string text;             // the first failure
  bool illegal_access = false;  // of memory; else the launch failed otherwise
  std::mutex lock;
};

class Runner {
 public:
  static constexpr size_t kStackSize = 128 << 10;
  Runner();
  // Takes blocks until there are none or one failed.
  void run(const LoadedModule& module, const KernelEntry& kernel, Launch& launch);

 private:
  enum ThreadState : uint8_t { kFresh, kReady, kAtBarrier, kInWarp, kDone };
  struct Fiber {
    char* stack = nullptr;
    void* sp = nullptr;
  };
  struct Thread {
    void* sp = nullptr;
    uint32_t fiber = 0;
    ThreadState state = kFresh;
    // what it waits in
    int site = 0, line = 0, op = 0;
    unsigned mask = 0, arg = 0, width = 0;
    uint64_t value = 0;
    uint32_t synced = 0;  // serial of its warp's last __syncwarp that it took part in
  };
  struct Warp {
    unsigned waiting = 0;
    uint32_t serial = 0;
  };
  // Who touched a byte of shared memory in this block since the last barrier.
  struct Touch {
    uint32_t write_epoch = 0, read_epoch = 0;
    uint32_t write_serial = 0, read_serial = 0;
    int16_t writer = -1, reader = -1;  // reader -2: several threads
    int16_t read_warp = -1;            // -2: several
    bool written = false;
  };
  struct Word {
    uint32_t block = 0;
    bool whole = true;  // all accesses were to the four bytes: the first entry holds for all
    Touch touch[4];
  };

  static void on_barrier(void* r, int site, int line) { static_cast<Runner*>(r)->barrier(site, line); }
  static unsigned long long on_warp(void* r, int op, unsigned mask, unsigned long long value, unsigned arg,
                                    unsigned width, int site, int line) {
    return static_cast<Runner*>(r)->warp(op, mask, value, arg, width, site, line);
  }
  static void on_access(void* r, const void* p, unsigned long long n, bool write, const void* pc) {
    static_cast<Runner*>(r)->access(static_cast<const char*>(p), n, write, pc);
  }
  static void on_trap(void* r, int line) { static_cast<Runner*>(r)->fail("__trap", line); }
  static void fiber_main(Runner* r);

  void run_block();
  void barrier(int site, int line);
  uint64_t warp(int op, unsigned mask, uint64_t value, unsigned arg, unsigned width, int site, int line);
  void finish_warp(Warp& w, unsigned first, unsigned mask);
  void access(const char* p, uint64_t n, bool write, const void* pc);
  void shared_access(const char* p, uint64_t n, bool write, const void* pc);
  void touch(Touch& t, bool write, const char* p, uint64_t n, const void* pc);
  bool ordered(int other, uint32_t epoch, uint32_t serial) const;

  int pick() const;
  void set_current(unsigned thread, uint32_t fiber);
  void wait();  // hands over; returns when this thread was woken
  uint32_t take_fiber();
  void make_fiber(uint32_t f);
  std::string waiting_threads() const;
  std::string line_of(const void* pc) const;
  [[noreturn]] void fail(const std::string& what, int line);
  [[noreturn]] void fail_access(const char* p, uint64_t n, bool write, const void* pc,
                                const std::string& why);
  [[noreturn]] void leave(const std::string& text, bool illegal);

  const LoadedModule* module_ = nullptr;
  const KernelEntry* kernel_ = nullptr;
  Launch* launch_ = nullptr;
  std::vector<Fiber> fibers_;
  std::vector<uint32_t> free_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<Word> shadow_;
  void* main_sp_ = nullptr;
  unsigned current_ = 0, alive_ = 0, runnable_ = 0, arrived_ = 0;
  int first_site_ = 0, first_line_ = 0, other_line_ = 0;
  bool sites_differ_ = false;
  uint32_t epoch_ = 0, block_serial_ = 0;
  const Allocation* recent_[4] = {};
  unsigned recent_next_ = 0;
};

}  // namespace standin
