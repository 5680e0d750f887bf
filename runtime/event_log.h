// Scalars for TensorBoard: an event file, one record a call.
//
//   GC_TRY(EventLog log, EventLog::create("logs"));
//   log.add(120, {{"loss/train", 0.31}, {"acc/train", 0.92}});
//   GC_CHECK(log.flush());
//
// A record is as in TensorFlow's record_writer.h: u64 length | crc | bytes | crc, little-endian, where crc is
// a masked CRC-32C and the bytes are an Event of event.proto.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "runtime/base/result.h"

namespace graphc {

class EventLog {
 public:
  // Makes the directory and in it a file of its own, named after time and process as TensorBoard expects.
  static Result<EventLog> create(const std::string& directory);

  using Scalar = std::pair<std::string, double>;
  void add(int64_t step, std::span<const Scalar> scalars);
  // What was added so far reaches the file; the error of any write since the last flush.
  Status flush();
  const std::string& path() const { return path_; }

 private:
  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  void record(const std::string& event);
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
};

// CRC-32C (Castagnoli), RFC 3720 appendix B.4: of "123456789" 0xe3069283.
uint32_t crc32c(const void* data, size_t size);

}  // namespace graphc
