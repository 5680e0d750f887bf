// Every access of a checked kernel comes here.
#include <cstdio>
#include <cstdlib>

#include "tests/cuda/standin/runner.h"

namespace standin {

void Runner::fail_access(const char* p, uint64_t n, bool write, const void* pc, const std::string& why) {
  char at[32];
  std::snprintf(at, sizeof at, "0x%llx", static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(p)));
  leave("thread " + std::to_string(current_) + (write ? " writes " : " reads ") + std::to_string(n) +
            " bytes at " + at + line_of(pc) + ": " + why,
        true);
}

void Runner::access(const char* p, uint64_t n, bool write, const void* pc) {
  for (const Allocation* a : recent_)
    if (a && p >= a->begin && n <= a->bytes && static_cast<uint64_t>(p - a->begin) <= a->bytes - n) return;
  if (p >= module_->data && p < module_->data_end) return shared_access(p, n, write, pc);
  const Memory& memory = Machine::get().memory;
  if (const Allocation* a = memory.find(p)) {
    if (static_cast<uint64_t>(p - a->begin) > a->bytes - n || n > a->bytes)
      fail_access(p, n, write, pc, "reaches over the end of an allocation of " + std::to_string(a->bytes));
    recent_[recent_next_++ % 4] = a;
    return;
  }
  if (p >= module_->image && p + n <= module_->image_end) {
    if (write) fail_access(p, n, write, pc, "a constant of the module");
    return;
  }
  for (const Fiber& f : fibers_)
    if (p >= f.stack && p < f.stack + kStackSize)
      fail_access(p, n, write, pc, "another thread's local memory");
  fail_access(p, n, write, pc, memory.describe(p));
}

// Did something between the other thread's access and now put them in order?
bool Runner::ordered(int other, uint32_t epoch, uint32_t serial) const {
  if (other == static_cast<int>(current_) || epoch != epoch_) return true;
  if (static_cast<unsigned>(other) / 32 != current_ / 32) return false;
  return threads_[static_cast<size_t>(other)].synced > serial && threads_[current_].synced > serial;
}

void Runner::touch(Touch& t, bool write, const char* p, uint64_t n, const void* pc) {
  const uint32_t serial = warps_[current_ / 32].serial;
  if (t.writer >= 0 && !ordered(t.writer, t.write_epoch, t.write_serial))
    fail_access(
        p, n, write, pc,
        "a race: thread " + std::to_string(t.writer) + " wrote this shared memory since the last barrier");
  if (!write) {
    if (!t.written) fail_access(p, n, write, pc, "shared memory that nobody wrote in this block");
    const auto warp = static_cast<int16_t>(current_ / 32), self = static_cast<int16_t>(current_);
    if (t.read_epoch != epoch_ || t.reader == -1) {
      t.reader = self;
      t.read_warp = warp;
    } else {
      if (t.reader != self) t.reader = -2;
      if (t.read_warp != warp) t.read_warp = -2;
    }
    t.read_epoch = epoch_;
    t.read_serial = serial;
    return;
  }
  if (t.reader != -1 && t.read_epoch == epoch_) {
    bool fine = false;
    if (t.reader >= 0)
      fine = ordered(t.reader, t.read_epoch, t.read_serial);
    else if (t.read_warp == static_cast<int16_t>(current_ / 32))
      fine = threads_[current_].synced > t.read_serial;
    if (!fine)
      fail_access(p, n, write, pc,
                  "a race: " +
                      (t.reader >= 0 ? "thread " + std::to_string(t.reader) : std::string("another thread")) +
                      " read this shared memory since the last barrier");
  }
  t.writer = static_cast<int16_t>(current_);
  t.write_epoch = epoch_;
  t.write_serial = serial;
  t.written = true;
  t.reader = -1;
  t.read_warp = -1;
}

void Runner::shared_access(const char* p, uint64_t n, bool write, const void* pc) {
  if (n > static_cast<uint64_t>(module_->data_end - p))
    fail_access(p, n, write, pc, "reaches over shared memory's end");
  const auto* base =
      reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(module_->data) & ~uintptr_t{3});
  auto at = static_cast<uint64_t>(p - base);
  const uint64_t end = at + n;
  while (at < end) {
    Word& w = shadow_[at / 4];
    if (w.block != block_serial_) {
      w = Word();
      w.block = block_serial_;
    }
    if (at % 4 == 0 && end - at >= 4) {
      for (int i = 0; i < (w.whole ? 1 : 4); ++i) touch(w.touch[i], write, p, n, pc);
      at += 4;
      continue;
    }
    if (w.whole) {
      for (int i = 1; i < 4; ++i) w.touch[i] = w.touch[0];
      w.whole = false;
    }
    touch(w.touch[at % 4], write, p, n, pc);
    ++at;
  }
}

}  // namespace standin
