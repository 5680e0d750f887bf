// Files: read whole, map read-only, write so that a reader sees the old or the new file and never a torn one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace graphc {

using Bytes = std::span<const std::byte>;
inline Bytes as_bytes_view(std::string_view s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}

// The file's content. A file above max_bytes is an error before anything is read. Works on pipes as well.
Result<std::string> read_file(const std::string& path, uint64_t max_bytes = uint64_t{1} << 40);

// Read-only mapping; the bytes live as long as the object.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::string& path, uint64_t max_bytes = uint64_t{1} << 40);
  // The file `relative` beneath `directory`: no absolute path, no "..", no symbolic or hard links on the way
  // (a file of somebody else's making names it).
  static Result<MappedFile> open_beneath(const std::string& directory, const std::string& relative,
                                         uint64_t max_bytes = uint64_t{1} << 40);
  MappedFile() = default;
  MappedFile(MappedFile&& o) noexcept;
  MappedFile& operator=(MappedFile&& o) noexcept;
  ~MappedFile();
  Bytes bytes() const { return {data_, size_}; }

 private:
  static Result<MappedFile> map(int fd, const std::string& path, uint64_t max_bytes, bool single_link);
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Writes path through a temporary file in the same directory: write, fsync, rename, fsync the directory. On
// an error the old file is untouched and the temporary one removed.
Status atomic_write(const std::string& path, std::span<const Bytes> pieces);
Status atomic_write(const std::string& path, std::string_view content);

// mkdir -p
Status make_directories(const std::string& path);

}  // namespace graphc
