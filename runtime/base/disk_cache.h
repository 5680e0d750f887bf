// What takes time to make and can be made again, on disk: machine code by the text it was made from.
//
//   if (const DiskCache* cache = DiskCache::of_user())
//     if (auto code = cache->get(key)) return *code;
//
// One file an entry, with its whole key and a checksum: a damaged, cut or foreign file is as if it weren't
// there. Entries are written beside and renamed, so any number of processes may share a folder. When a part
// of it gets too large, what was used longest ago goes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace graphc {

class DiskCache {
 public:
  explicit DiskCache(std::string folder, uint64_t max_bytes = uint64_t{1} << 30)
      : folder_(std::move(folder)), max_bytes_(max_bytes) {}
  // The user's: the folder in GRAPHC_CACHE ("off": none), else $XDG_CACHE_HOME/graphc, else ~/.cache/graphc;
  // null if there is none of these. Decided once a process.
  static const DiskCache* of_user();
  static std::string user_folder();  // "" for none

  const std::string& folder() const { return folder_; }
  std::optional<std::string> get(std::string_view key) const;
  // What can't be written (a full or read-only disk) isn't kept.
  void put(std::string_view key, std::string_view value) const;

 private:
  std::string path_of(std::string_view key) const;
  std::string folder_;
  uint64_t max_bytes_;
};

}  // namespace graphc
