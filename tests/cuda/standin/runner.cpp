#include "tests/cuda/standin/runner.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace standin {
namespace {

constexpr size_t kStackBytes = Runner::kStackSize;

// Saves the callee-saved registers and the stack pointer, and continues where `to` was saved.
extern "C" void standin_switch(void** from, void* to);
extern "C" void standin_begin();
__asm__(R"(
.text
.type standin_switch,@function
.hidden standin_switch
.globl standin_switch
standin_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size standin_switch,.-standin_switch
.type standin_begin,@function
.hidden standin_begin
.globl standin_begin
standin_begin:
  movq %r12, %rdi
  callq *%r13
  ud2
.size standin_begin,.-standin_begin
)");

bool power_of_two(unsigned v) { return v != 0 && (v & (v - 1)) == 0; }

}  // namespace

Runner::Runner() = default;

void Runner::make_fiber(uint32_t f) {
  Fiber& fiber = fibers_[f];
  if (!fiber.stack) {
    void* p = ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
      complain("no memory for a stack");
      std::abort();
    }
    fiber.stack = static_cast<char*>(p);
    ::mprotect(p, 4096, PROT_NONE);  // an overflow doesn't reach the neighbour
  }
  // r15, r14, r13 = function, r12 = argument, rbx, rbp, return address; aligned so that standin_begin calls
  // with a stack as a function expects it. Stacks are shifted against each other: they'd share cache sets
  // otherwise.
  auto* top = reinterpret_cast<uint64_t*>(fiber.stack + kStackBytes - 64 - (f % 32) * 128);
  uint64_t* sp = top - 7;
  sp[0] = sp[1] = 0;
  sp[2] = reinterpret_cast<uint64_t>(&Runner::fiber_main);
  sp[3] = reinterpret_cast<uint64_t>(this);
  sp[4] = sp[5] = 0;
  sp[6] = reinterpret_cast<uint64_t>(&standin_begin);
  fiber.sp = sp;
}

uint32_t Runner::take_fiber() {
  if (!free_.empty()) {
    const uint32_t f = free_.back();
    free_.pop_back();
    return f;
  }
  fibers_.emplace_back();
  make_fiber(static_cast<uint32_t>(fibers_.size() - 1));
  return static_cast<uint32_t>(fibers_.size() - 1);
}

void Runner::set_current(unsigned thread, uint32_t fiber) {
  current_ = thread;
  threads_[thread].fiber = fiber;
  State& s = *module_->state;
  s.thread = thread;
  s.low = fibers_[fiber].stack;
  s.high = s.low + kStackBytes;
}

int Runner::pick() const {
  if (runnable_ == 0) return -1;
  const unsigned n = static_cast<unsigned>(threads_.size());
  for (unsigned t = current_ + 1; t < n; ++t)
    if (threads_[t].state <= kReady) return static_cast<int>(t);
  for (unsigned t = 0; t <= current_; ++t)
    if (threads_[t].state <= kReady) return static_cast<int>(t);
  return -1;
}

void Runner::fiber_main(Runner* r) {
  for (;;) {
    --r->runnable_;
    r->threads_[r->current_].state = kAtBarrier;  // neither fresh nor ready while it runs
    r->kernel_->call(r->launch_->parameters);
    Thread& t = r->threads_[r->current_];
    t.state = kDone;
    --r->alive_;
    const uint32_t mine = t.fiber;
    const int next = r->pick();
    if (next >= 0 && r->threads_[static_cast<size_t>(next)].state == kFresh) {
      r->set_current(static_cast<unsigned>(next), mine);
      continue;
    }
    if (next < 0 && r->alive_ > 0) r->leave(r->waiting_threads(), false);
    r->free_.push_back(mine);
    void* to = r->main_sp_;
    if (next >= 0) {
      Thread& other = r->threads_[static_cast<size_t>(next)];
      other.state = kAtBarrier;
      --r->runnable_;
      r->set_current(static_cast<unsigned>(next), other.fiber);
      to = other.sp;
    }
    standin_switch(&r->fibers_[mine].sp, to);
  }
}

// The thread's state says what it waits for.
void Runner::wait() {
  Thread& self = threads_[current_];
  const int next = pick();
  if (next < 0) leave(waiting_threads(), false);
  Thread& other = threads_[static_cast<size_t>(next)];
  if (other.state == kFresh) {
    const uint32_t f = take_fiber();
    set_current(static_cast<unsigned>(next), f);
    standin_switch(&self.sp, fibers_[f].sp);
  } else {
    other.state = kAtBarrier;
    --runnable_;
    set_current(static_cast<unsigned>(next), other.fiber);
    standin_switch(&self.sp, other.sp);
  }
}

void Runner::barrier(int site, int line) {
  Thread& self = threads_[current_];
  self.site = site;
  self.line = line;
  if (arrived_ == 0) {
    first_site_ = site;
    first_line_ = line;
    sites_differ_ = false;
  } else if (site != first_site_ && !sites_differ_) {
    sites_differ_ = true;
    other_line_ = line;
  }
  if (++arrived_ < threads_.size()) {
    self.state = kAtBarrier;
    wait();
    return;
  }
  if (sites_differ_)
    leave("a divergent barrier: threads wait at __syncthreads in line " + std::to_string(first_line_) +
              " and others in line " + std::to_string(other_line_),
          false);
  arrived_ = 0;
  ++epoch_;
  for (Thread& t : threads_) t.state = kReady;
  runnable_ = static_cast<unsigned>(threads_.size()) - 1;
  self.state = kAtBarrier;
}

uint64_t Runner::warp(int op, unsigned mask, uint64_t value, unsigned arg, unsigned width, int site,
                      int line) {
  const unsigned lane = current_ % 32, first = current_ - lane;
  Thread& self = threads_[current_];
  if (!(mask >> lane & 1)) fail("a warp operation whose mask doesn't name the thread that calls it", line);
  if (!power_of_two(width) || width > 32) fail("a shuffle whose width is no power of two up to 32", line);
  self.op = op;
  self.mask = mask;
  self.value = value;
  self.arg = arg;
  self.width = width;
  self.site = site;
  self.line = line;
  Warp& w = warps_[current_ / 32];
  w.waiting |= 1u << lane;
  const unsigned there = static_cast<unsigned>(threads_.size()) - first;
  const unsigned wanted = there >= 32 ? mask : mask & ((1u << there) - 1);
  if ((w.waiting & wanted) == wanted) {
    finish_warp(w, first, wanted);
    self.state = kAtBarrier;  // it runs
    --runnable_;
  } else {
    self.state = kInWarp;
    wait();
  }
  return threads_[current_].value;
}

void Runner::finish_warp(Warp& w, unsigned first, unsigned mask) {
  Thread* lanes = &threads_[first];
  const Thread& self = threads_[current_];
  uint64_t results[32];
  unsigned ballot = 0;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(mask >> l & 1)) continue;
    const Thread& t = lanes[l];
    if (t.op != self.op || t.mask != self.mask || t.site != self.site)
      fail("threads of a warp meet in different warp operations (the other one in line " +
               std::to_string(t.line) + ")",
           self.line);
    if (t.value) ballot |= 1u << l;
  }
  for (unsigned l = 0; l < 32; ++l) {
    if (!(mask >> l & 1)) continue;
    const Thread& t = lanes[l];
    const unsigned segment = l & ~(t.width - 1), end = segment + t.width;
    unsigned from = l;
    switch (t.op) {
      case kShuffleIndex: from = segment | (t.arg & (t.width - 1)); break;
      case kShuffleUp: from = l - segment >= t.arg ? l - t.arg : l; break;
      case kShuffleDown: from = t.arg < end - l ? l + t.arg : l; break;
      case kShuffleXor: from = (l ^ t.arg) < end ? l ^ t.arg : l; break;
      default: break;
    }
    if (!(mask >> from & 1))
      fail("a shuffle reads lane " + std::to_string(from) + ", which isn't in its mask or doesn't exist",
           t.line);
    results[l] = t.op == kBallot ? ballot : lanes[from].value;
  }
  if (self.op == kSyncWarp) ++w.serial;
  for (unsigned l = 0; l < 32; ++l) {
    if (!(mask >> l & 1)) continue;
    Thread& t = lanes[l];
    t.value = results[l];
    if (t.op == kSyncWarp) t.synced = w.serial;
    t.state = kReady;
    ++runnable_;
  }
  w.waiting &= ~mask;
}

void Runner::run_block() {
  const size_t n = threads_.size();
  for (Thread& t : threads_) t = Thread();
  for (Warp& w : warps_) w = Warp();
  ++epoch_;
  ++block_serial_;
  arrived_ = 0;
  alive_ = runnable_ = static_cast<unsigned>(n);
  const uint32_t f = take_fiber();
  set_current(0, f);
  standin_switch(&main_sp_, fibers_[f].sp);
}

void Runner::run(const LoadedModule& module, const KernelEntry& kernel, Launch& launch) {
  module_ = &module;
  kernel_ = &kernel;
  launch_ = &launch;
  threads_.resize(launch.threads);
  warps_.resize((launch.threads + 31) / 32);
  // stale entries carry the serial of a block that is over
  const size_t words = static_cast<size_t>(module.data_end - module.data) / 4 + 2;
  if (shadow_.size() < words) shadow_.resize(words);
  for (const Allocation*& a : recent_) a = nullptr;
  State& s = *module.state;
  s.runner = this;
  s.threads = launch.threads;
  s.blocks = launch.blocks;
  s.barrier = on_barrier;
  s.warp = on_warp;
  s.access = on_access;
  s.trap = on_trap;
  while (!launch.failed) {
    const unsigned b = launch.next.fetch_add(1);
    if (b >= launch.blocks) break;
    s.block = b;
    run_block();
  }
}

std::string Runner::waiting_threads() const {
  unsigned waits = 0, in_warp = 0, done = 0;
  const Thread *one = nullptr, *lane = nullptr;
  for (const Thread& t : threads_) {
    if (t.state == kAtBarrier) ++waits, one = &t;
    if (t.state == kInWarp) ++in_warp, lane = &t;
    if (t.state == kDone) ++done;
  }
  std::string out;
  if (in_warp > 0)
    out = std::to_string(in_warp) + " threads wait for lanes in the warp operation in line " +
          std::to_string(lane->line);
  if (waits > 0)
    out += (out.empty() ? "" : ", ") + std::to_string(waits) + " threads wait at __syncthreads in line " +
           std::to_string(one->line);
  if (done > 0) out += ", " + std::to_string(done) + " have ended";
  return (waits > 0 && in_warp == 0 ? "a divergent barrier: " : "a divergent warp operation: ") + out;
}

std::string Runner::line_of(const void* pc) const {
  char command[512];
  std::snprintf(command, sizeof command, "addr2line -e '%s' 0x%llx 2>/dev/null", module_->path.c_str(),
                static_cast<unsigned long long>(static_cast<const char*>(pc) - module_->image - 1));
  std::string out;
  if (FILE* f = ::popen(command, "r")) {
    char text[512];
    if (std::fgets(text, sizeof text, f)) out = text;
    ::pclose(f);
  }
  while (!out.empty() && (out.back() == '\n' || out.back() == ' ')) out.pop_back();
  out = out.substr(0, out.find(" (discriminator"));
  const size_t slash = out.rfind('/');
  if (slash != std::string::npos) out = out.substr(slash + 1);
  return out.empty() || out[0] == '?' ? "" : " (" + out + ")";
}

void Runner::fail(const std::string& what, int line) {
  leave("thread " + std::to_string(current_) + ": " + what + " in line " + std::to_string(line), false);
}

// Ends the launch from inside a fiber; nothing on the stacks needs to be undone.
void Runner::leave(const std::string& text, bool illegal) {
  {
    const std::lock_guard guard(launch_->lock);
    if (!launch_->failed) {
      launch_->text = "kernel " + std::string(kernel_->name) + ", block " +
                      std::to_string(module_->state->block) + ": " + text;
      launch_->illegal_access = illegal;
      launch_->failed = true;
    }
  }
  free_.clear();
  for (uint32_t f = 0; f < fibers_.size(); ++f) {
    make_fiber(f);
    free_.push_back(f);
  }
  void* nobody;
  standin_switch(&nobody, main_sp_);
  std::abort();
}

}  // namespace standin
