// The machine that the stand-in for the CUDA driver pretends to be: its cards, their memory, their streams
// and what went wrong. One lock guards it all; work runs in whichever thread synchronises.
//
// Set by the environment, or at run time by standin_configure (entry.cpp):
//   STANDIN_ARCH=sm_90          the cards' architecture        STANDIN_DEVICES=1        how many cards
//   STANDIN_MEMORY=4294967296   bytes of each                  STANDIN_DRIVER=13000     CUDA version of the
//   driver STANDIN_MULTIPROCESSORS=132                                STANDIN_NAME=NVIDIA H200 (stand-in)
//   STANDIN_CHECK=1             instrument the kernels: bounds, races of shared memory
//   STANDIN_THREADS=2           threads of the operating system that share a launch's blocks
//   STANDIN_FAIL=cuMemAlloc:3   the third call from now fails; "kernel:2": the second kernel to run does
//   STANDIN_CACHE=<folder>      compiled texts; by default beside the library
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace standin {

struct Config {
  std::string arch = "sm_90", name = "NVIDIA H200 (stand-in)", cache;
  int devices = 1, driver = 13000, multiprocessors = 132, threads = 2;
  uint64_t memory = uint64_t{4} << 30;
  bool check = true;
};

struct Allocation {
  char* begin;
  uint64_t bytes;
  int device;  // -1: pinned memory of the host
};

// Addresses of device memory can't be touched by the host: they are mapped only while work runs.
class Memory {
 public:
  // nullptr: there isn't enough. Filled with 0xff, which is a NaN and a large negative number.
  char* allocate(int device, uint64_t bytes, uint64_t limit);
  char* allocate_pinned(uint64_t bytes);
  bool release(void* p, bool pinned);
  // The allocation that p lies in; null: none.
  const Allocation* find(const void* p) const;
  // What is next to p, for messages.
  std::string describe(const void* p) const;
  uint64_t used(int device) const;
  size_t count() const { return live_.size(); }

  // While one of these lives, device memory is mapped.
  class Window {
   public:
    explicit Window(Memory& m);
    ~Window();

   private:
    Memory& m_;
  };

 private:
  std::map<const char*, Allocation> live_;
  char *arena_ = nullptr, *next_ = nullptr;
  int open_ = 0;
};

struct Stream;
struct Capture;

// A piece of work of a stream: a function, or a wait for what another stream had been given.
struct Work {
  std::function<CUresult()> run;
  std::shared_ptr<Stream> other;
  uint64_t ticket = 0;
};

struct Stream {
  int device = 0;
  bool blocking = true;  // waits for the default stream and is waited for by it
  std::deque<Work> queue;
  uint64_t issued = 0, done = 0;
  Capture* capture = nullptr;
  bool joined = true;  // of a stream in a capture: nothing was captured since another one waited for it
};

struct Graph {
  std::vector<std::function<CUresult()>> work;
};

struct Capture {
  Stream* origin;
  CUstreamCaptureMode mode;
  uint64_t thread;
  bool broken = false;
  Graph graph;
  std::vector<Stream*> streams;
};

struct Event {
  bool timing = true;
  std::shared_ptr<Stream> stream;  // null: never recorded
  uint64_t ticket = 0;
  Capture* capture = nullptr;  // recorded in one
  Stream* captured_on = nullptr;
  std::shared_ptr<std::atomic<uint64_t>> time_ns;
};

struct Device {
  int retained = 0;
  CUresult sticky = CUDA_SUCCESS;
  std::shared_ptr<Stream> null_stream;
  std::vector<std::shared_ptr<Stream>> streams;
};

class Machine {
 public:
  static Machine& get();

  std::recursive_mutex lock;
  Config config;
  Memory memory;
  bool started = false;
  std::vector<Device> devices;
  std::set<Capture*> captures;
  // what is alive, for tests that look for leaks
  int modules = 0, events = 0, graphs = 0, graph_execs = 0;
  uint64_t launches = 0, copies = 0, graph_launches = 0;  // since the last reset

  bool configure(const std::string& key, const std::string& value);
  // True: this call of `function` has to fail.
  bool has_to_fail(const char* function);
  bool still_to_fail() const { return fail_in_ > 0; }

  CUresult push(const std::shared_ptr<Stream>& s, std::function<CUresult()> run);
  void push_wait(const std::shared_ptr<Stream>& s, const std::shared_ptr<Stream>& other, uint64_t ticket);
  // Runs what `s` was given up to `ticket`.
  CUresult drain(Stream& s, uint64_t ticket);
  CUresult drain_device(int device);

 private:
  Machine();
  void order_with_default(const std::shared_ptr<Stream>& s);
  std::string fail_function_;
  uint64_t fail_in_ = 0;
};

// One line on stderr.
void complain(const std::string& line);

}  // namespace standin
