#include "runtime/event_log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>

#include "runtime/base/file.h"

namespace graphc {
namespace {

// Fields of protocol buffers: key = number << 3 | wire type.
void varint(std::string& out, uint64_t v) {
  for (; v >= 0x80; v >>= 7) out += static_cast<char>(v | 0x80);
  out += static_cast<char>(v);
}
template <class T>
void fixed(std::string& out, T v) {
  char bytes[sizeof v];
  std::memcpy(bytes, &v, sizeof v);
  out.append(bytes, sizeof v);
}
void bytes_field(std::string& out, int number, const std::string& value) {
  varint(out, static_cast<uint64_t>(number) << 3 | 2);
  varint(out, value.size());
  out += value;
}

std::string event_at(int64_t step) {
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::string e;
  varint(e, 1 << 3 | 1);  // double wall_time = 1
  fixed(e, now);
  varint(e, 2 << 3 | 0);  // int64 step = 2
  varint(e, static_cast<uint64_t>(step));
  return e;
}

uint32_t masked(const void* data, size_t size) { return std::rotr(crc32c(data, size), 15) + 0xa282ead8u; }

constexpr std::array<uint32_t, 256> kTable = [] {
  std::array<uint32_t, 256> t{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
    t[i] = c;
  }
  return t;
}();

}  // namespace

uint32_t crc32c(const void* data, size_t size) {
  uint32_t c = ~0u;
  for (size_t i = 0; i < size; ++i) c = kTable[(c ^ static_cast<const uint8_t*>(data)[i]) & 0xff] ^ c >> 8;
  return ~c;
}

Result<EventLog> EventLog::create(const std::string& directory) {
  GC_CHECK(make_directories(directory));
  EventLog log;
  char host[256] = "host";
  ::gethostname(host, sizeof host - 1);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  log.path_ = fmt::format("{}/events.out.tfevents.{}.{}.{}", directory,
                          std::chrono::duration_cast<std::chrono::seconds>(now).count(), host, ::getpid());
  log.file_.reset(std::fopen(log.path_.c_str(), "abe"));
  if (!log.file_)
    return Error{errno == EACCES ? ErrorCode::kInvalid : ErrorCode::kIo,
                 fmt::format("can't create '{}': {}", log.path_, std::generic_category().message(errno))};
  std::string first = event_at(0);
  bytes_field(first, 3, "brain.Event:2");  // string file_version = 3
  log.record(first);
  GC_CHECK(log.flush());
  return log;
}

void EventLog::record(const std::string& event) {
  std::string r;
  fixed(r, static_cast<uint64_t>(event.size()));
  fixed(r, masked(r.data(), 8));
  r += event;
  fixed(r, masked(event.data(), event.size()));
  std::fwrite(r.data(), 1, r.size(), file_.get());  // flush() finds failures
}

void EventLog::add(int64_t step, std::span<const Scalar> scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars) {
    std::string v;
    bytes_field(v, 1, tag);  // Summary.Value: string tag = 1, float simple_value = 2
    varint(v, 2 << 3 | 5);
    fixed(v, static_cast<float>(value));
    bytes_field(summary, 1, v);
  }
  std::string e = event_at(step);
  bytes_field(e, 5, summary);
  record(e);
}

Status EventLog::flush() {
  if (std::fflush(file_.get()) == 0 && !std::ferror(file_.get())) return {};
  std::clearerr(file_.get());
  return io_error(fmt::format("can't write '{}': {}", path_, std::generic_category().message(errno)));
}

}  // namespace graphc
