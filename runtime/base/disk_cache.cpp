#include "runtime/base/disk_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "runtime/base/file.h"
#include "runtime/base/sha256.h"

namespace graphc {
namespace {

constexpr std::string_view kMagic = "GCCACHE1";
constexpr size_t kHead = 8 + 32 + 8;  // magic, SHA-256 of what follows, length of the key
constexpr int kParts = 256;           // subfolders, by the first byte of the key's hash

std::string length_bytes(uint64_t n) {
  std::string s(8, '\0');
  for (int i = 0; i < 8; ++i) s[static_cast<size_t>(i)] = static_cast<char>(n >> 8 * i);
  return s;
}

// Removes the longest unused entries of a subfolder until the rest takes at most `limit` bytes.
void prune(const std::string& folder, uint64_t limit) {
  struct Entry {
    std::string name;
    uint64_t bytes;
    timespec used;
  };
  std::vector<Entry> all;
  uint64_t total = 0;
  DIR* d = ::opendir(folder.c_str());
  if (!d) return;
  while (const dirent* e = ::readdir(d)) {
    struct stat s {};
    if (e->d_name[0] == '.' || ::fstatat(::dirfd(d), e->d_name, &s, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(s.st_mode))
      continue;
    all.push_back({e->d_name, static_cast<uint64_t>(s.st_size), s.st_mtim});
    total += all.back().bytes;
  }
  ::closedir(d);
  if (total <= limit) return;
  std::sort(all.begin(), all.end(), [](const Entry& a, const Entry& b) {
    return a.used.tv_sec != b.used.tv_sec ? a.used.tv_sec < b.used.tv_sec : a.used.tv_nsec < b.used.tv_nsec;
  });
  for (size_t i = 0; i + 1 < all.size() && total > limit; ++i)  // the newest stays
    if (::unlink((folder + "/" + all[i].name).c_str()) == 0) total -= all[i].bytes;
}

}  // namespace

std::string DiskCache::user_folder() {
  const auto env = [](const char* name) -> std::string {
    const char* v = std::getenv(name);
    return v ? v : "";
  };
  if (const std::string own = env("GRAPHC_CACHE"); !own.empty()) return own == "off" ? "" : own;
  if (const std::string xdg = env("XDG_CACHE_HOME"); xdg.starts_with('/')) return xdg + "/graphc";
  if (const std::string home = env("HOME"); home.starts_with('/')) return home + "/.cache/graphc";
  return "";
}

const DiskCache* DiskCache::of_user() {
  static const std::string folder = user_folder();
  static const DiskCache cache(folder);
  return folder.empty() ? nullptr : &cache;
}

std::string DiskCache::path_of(std::string_view key) const {
  const std::string hex = to_hex(sha256(key.data(), key.size()));
  return fmt::format("{}/{}/{}", folder_, hex.substr(0, 2), hex.substr(2));
}

std::optional<std::string> DiskCache::get(std::string_view key) const {
  const std::string path = path_of(key);
  if (::access(path.c_str(), R_OK) != 0) return std::nullopt;
  const auto text = read_file(path);
  if (!text.ok()) return std::nullopt;
  const std::string_view s = *text;
  if (s.size() < kHead + key.size() || s.substr(0, 8) != kMagic ||
      s.substr(40, 8) != length_bytes(key.size()) || s.substr(kHead, key.size()) != key)
    return std::nullopt;
  const auto digest = sha256(s.data() + 40, s.size() - 40);
  if (std::memcmp(digest.data(), s.data() + 8, 32) != 0) return std::nullopt;
  ::utimensat(AT_FDCWD, path.c_str(), nullptr, 0);  // used now
  return std::string(s.substr(kHead + key.size()));
}

void DiskCache::put(std::string_view key, std::string_view value) const {
  const std::string path = path_of(key);
  const std::string part = path.substr(0, path.rfind('/'));
  if (!make_directories(part).ok()) return;
  std::string body = length_bytes(key.size());
  body.append(key).append(value);
  const auto digest = sha256(body.data(), body.size());
  // No fsync: after a crash the checksum tells, and then it is made again.
  static std::atomic<uint64_t> counter{0};
  const std::string temporary = fmt::format("{}/.{}.{}", part, ::getpid(), counter.fetch_add(1));
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return;
  bool ok = true;
  const auto write_all = [&](std::string_view s) {
    while (ok && !s.empty()) {
      const ssize_t n = ::write(fd, s.data(), s.size());
      if (n <= 0)
        ok = false;
      else
        s.remove_prefix(static_cast<size_t>(n));
    }
  };
  write_all(kMagic);
  write_all({reinterpret_cast<const char*>(digest.data()), digest.size()});
  write_all(body);
  ok = ::close(fd) == 0 && ok;
  if (!ok || ::rename(temporary.c_str(), path.c_str()) != 0) {
    ::unlink(temporary.c_str());
    return;
  }
  prune(part, max_bytes_ / kParts);
}

}  // namespace graphc
