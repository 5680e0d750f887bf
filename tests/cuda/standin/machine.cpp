#include "tests/cuda/standin/machine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace standin {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kArena = uint64_t{1} << 42;

uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

}  // namespace

void complain(const std::string& line) {
  const std::string text = "standin: " + line + "\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
}

char* Memory::allocate(int device, uint64_t bytes, uint64_t limit) {
  if (bytes > limit || used(device) > limit - bytes) return nullptr;
  if (!arena_) {
    void* p = ::mmap(nullptr, kArena, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    arena_ = next_ = static_cast<char*>(p);
  }
  // An address is never used again, so that a use after free is found; the last byte is followed by a gap.
  const uint64_t room = round_up(bytes + 256, kPage);
  if (room > kArena - static_cast<uint64_t>(next_ - arena_)) return nullptr;
  char* begin = next_;
  next_ += room;
  {
    const Window window(*this);
    std::memset(begin, 0xff, bytes);
  }
  live_[begin] = {begin, bytes, device};
  return begin;
}

char* Memory::allocate_pinned(uint64_t bytes) {
  const uint64_t room = round_up(bytes + 256, kPage);
  void* p = ::mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  auto* begin = static_cast<char*>(p);
  std::memset(begin, 0xff, bytes);
  live_[begin] = {begin, bytes, -1};
  return begin;
}

bool Memory::release(void* p, bool pinned) {
  const auto it = live_.find(static_cast<char*>(p));
  if (it == live_.end() || (it->second.device < 0) != pinned) return false;
  const uint64_t room = round_up(it->second.bytes + 256, kPage);
  if (pinned)
    ::munmap(p, room);
  else
    ::madvise(p, room, MADV_DONTNEED);
  live_.erase(it);
  return true;
}

const Allocation* Memory::find(const void* p) const {
  auto it = live_.upper_bound(static_cast<const char*>(p));
  if (it == live_.begin()) return nullptr;
  --it;
  const Allocation& a = it->second;
  return static_cast<const char*>(p) < a.begin + a.bytes ? &a : nullptr;
}

std::string Memory::describe(const void* p) const {
  const auto* c = static_cast<const char*>(p);
  if (!p) return "the null pointer";
  auto after = live_.upper_bound(c);
  if (after != live_.begin()) {
    auto before = std::prev(after);
    const Allocation& a = before->second;
    if (c < a.begin + a.bytes + kPage) {
      const auto past = c - (a.begin + static_cast<int64_t>(a.bytes));
      return past >= 0
                 ? std::to_string(past) + " bytes past the end of an allocation of " + std::to_string(a.bytes)
                 : "inside an allocation of " + std::to_string(a.bytes) + " bytes";
    }
  }
  if (after != live_.end() && after->second.begin - c <= static_cast<int64_t>(kPage))
    return std::to_string(after->second.begin - c) + " bytes before an allocation of " +
           std::to_string(after->second.bytes);
  if (arena_ && c >= arena_ && c < next_) return "memory that was freed, or never allocated";
  return "no memory of the device";
}

uint64_t Memory::used(int device) const {
  uint64_t n = 0;
  for (const auto& [at, a] : live_)
    if (a.device == device) n += a.bytes;
  return n;
}

Memory::Window::Window(Memory& m) : m_(m) {
  if (m_.open_++ == 0 && m_.arena_ != m_.next_)
    ::mprotect(m_.arena_, static_cast<size_t>(m_.next_ - m_.arena_), PROT_READ | PROT_WRITE);
}
Memory::Window::~Window() {
  if (--m_.open_ == 0 && m_.arena_ != m_.next_)
    ::mprotect(m_.arena_, static_cast<size_t>(m_.next_ - m_.arena_), PROT_NONE);
}

Machine& Machine::get() {
  static Machine* machine = new Machine;  // outlives every thread
  return *machine;
}

Machine::Machine() {
  for (const char* key : {"ARCH", "DEVICES", "MEMORY", "DRIVER", "MULTIPROCESSORS", "NAME", "CHECK",
                          "THREADS", "FAIL", "CACHE"})
    if (const char* v = std::getenv((std::string("STANDIN_") + key).c_str()); v && !configure(key, v))
      complain(std::string("STANDIN_") + key + "=" + v + " is not understood");
}

bool Machine::configure(const std::string& key, const std::string& value) {
  const auto number = [&](auto& to) {
    char* end = nullptr;
    const unsigned long long v = std::strtoull(value.c_str(), &end, 10);
    if (value.empty() || *end) return false;
    to = static_cast<std::remove_reference_t<decltype(to)>>(v);
    return true;
  };
  if (key == "ARCH") return config.arch = value, true;
  if (key == "NAME") return config.name = value, true;
  if (key == "CACHE") return config.cache = value, true;
  if (key == "DEVICES") return number(config.devices);
  if (key == "MEMORY") return number(config.memory);
  if (key == "DRIVER") return number(config.driver);
  if (key == "MULTIPROCESSORS") return number(config.multiprocessors);
  if (key == "THREADS") return number(config.threads);
  if (key == "CHECK") return number(config.check);
  if (key == "FAIL") {
    const size_t colon = value.find(':');
    fail_function_ = value.substr(0, colon);
    fail_in_ = colon == std::string::npos ? 1 : std::strtoull(value.c_str() + colon + 1, nullptr, 10);
    return true;
  }
  return false;
}

bool Machine::has_to_fail(const char* function) {
  return fail_in_ > 0 && fail_function_ == function && --fail_in_ == 0;
}

// Work of the default stream comes after all that the blocking streams had, and theirs after its.
void Machine::order_with_default(const std::shared_ptr<Stream>& s) {
  Device& d = devices[static_cast<size_t>(s->device)];
  if (s == d.null_stream) {
    for (const auto& other : d.streams)
      if (other->blocking && other->done < other->issued) push_wait(s, other, other->issued);
  } else if (s->blocking && d.null_stream->done < d.null_stream->issued) {
    push_wait(s, d.null_stream, d.null_stream->issued);
  }
}

CUresult Machine::push(const std::shared_ptr<Stream>& s, std::function<CUresult()> run) {
  if (s->capture) {
    s->capture->graph.work.push_back(std::move(run));
    s->joined = false;
    return CUDA_SUCCESS;
  }
  order_with_default(s);
  s->queue.push_back({std::move(run), nullptr, 0});
  ++s->issued;
  return CUDA_SUCCESS;
}

void Machine::push_wait(const std::shared_ptr<Stream>& s, const std::shared_ptr<Stream>& other,
                        uint64_t ticket) {
  s->queue.push_back({nullptr, other, ticket});
  ++s->issued;
}

CUresult Machine::drain(Stream& s, uint64_t ticket) {
  Device& d = devices[static_cast<size_t>(s.device)];
  while (s.done < ticket) {
    // Nothing runs on a device that has failed.
    if (d.sticky == CUDA_SUCCESS) {
      const Work w = std::move(s.queue.front());
      s.queue.pop_front();
      if (w.other) {
        drain(*w.other, w.ticket);
      } else {
        const Memory::Window window(memory);
        d.sticky = w.run();
      }
    } else {
      s.queue.pop_front();
    }
    ++s.done;
  }
  return d.sticky;
}

CUresult Machine::drain_device(int device) {
  const Memory::Window window(memory);
  Device& d = devices[static_cast<size_t>(device)];
  drain(*d.null_stream, d.null_stream->issued);
  for (size_t i = 0; i < d.streams.size(); ++i) drain(*d.streams[i], d.streams[i]->issued);
  return d.sticky;
}

}  // namespace standin
