// Source texts and positions in them. A Pos is eight bytes and goes everywhere; line and column are worked
// out only when a message or a location is printed. Names of files are relative to the root file's folder
// (LANGUAGE.md).
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace graphc {

// A place in a file of a SourceMap. file 0 is "nowhere", so that a default Pos is recognisable.
struct Pos {
  uint32_t file = 0;
  uint32_t offset = 0;
  bool known() const { return file != 0; }
  bool operator==(const Pos&) const = default;
};

struct LineCol {
  int line = 0;  // 1-based
  int col = 0;   // 1-based, in code points
};

// Owns the texts; string_views into them stay valid as long as the map lives.
class SourceMap {
 public:
  // Adds a text under the name that messages show. Returns its id (from 1).
  uint32_t add(std::string name, std::string text);
  std::string_view name(uint32_t file) const { return files_[file - 1].name; }
  std::string_view text(uint32_t file) const { return files_[file - 1].text; }
  LineCol line_col(Pos p) const;
  // The line p lies in, without its newline, and the offset of its first byte.
  std::string_view line_at(Pos p, uint32_t* start = nullptr) const;
  // "cnn.graph:3:22"
  std::string show(Pos p) const;

 private:
  struct File {
    std::string name, text;
    mutable std::vector<uint32_t> line_starts;  // filled on first use
  };
  size_t line_index(Pos p) const;
  std::deque<File> files_;
};

// Quotes user text for a message: 'text', cut after 40 bytes, unprintable bytes shown as '?'.
std::string quoted(std::string_view text);
// Replaces control bytes and broken UTF-8 by '?', so that a message never carries them to a terminal.
std::string printable(std::string_view text);

}  // namespace graphc
