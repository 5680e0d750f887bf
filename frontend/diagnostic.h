// What is told to the author of a .graph file. Printed form:
//
//   cnn.graph:7:39: error: Linear's input has 4096 features, its weight was made for 12544
//      7 |   return x |> flatten(from=1) |> fc: Linear(10, in=256*7*7)
//        |                                      ^
//     note: flatten received f32[N, 256, 4, 4] (cnn.graph:7:15)
//     in block Linear, as fc (cnn.graph:7:39)
//
// Work goes on after an error; after kMaxErrors everybody stops (full()).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "frontend/source.h"
#include "runtime/base/nearest.h"

namespace graphc {

enum class Severity { kError, kWarning };

// A note, or one link of the chain of blocks and loop iterations that led to the place ("in block Attention,
// as h.3.attn").
struct Note {
  std::string message;
  Pos pos;             // may be unknown
  bool chain = false;  // printed without "note: "
};

struct Diagnostic {
  Severity severity = Severity::kError;
  Pos pos;
  std::string message;
  std::vector<Note> notes;
};

class Diagnostics {
 public:
  static constexpr int kMaxErrors = 20;

  explicit Diagnostics(const SourceMap& sources) : sources_(&sources) {}
  // A second message of the same severity and text at one place is dropped.
  void add(Diagnostic d);
  void error(Pos pos, std::string message, std::vector<Note> notes = {}) {
    add({Severity::kError, pos, std::move(message), std::move(notes)});
  }
  void warning(Pos pos, std::string message, std::vector<Note> notes = {}) {
    add({Severity::kWarning, pos, std::move(message), std::move(notes)});
  }
  int errors() const { return errors_; }
  int warnings() const { return static_cast<int>(all_.size()) - errors_; }
  bool ok() const { return errors_ == 0; }
  bool full() const { return errors_ >= kMaxErrors; }
  const std::vector<Diagnostic>& all() const { return all_; }
  // All of them in order of position within the order of discovery; ends with a newline unless empty.
  std::string render() const;
  std::string render(const Diagnostic& d) const;

 private:
  const SourceMap* sources_;
  std::vector<Diagnostic> all_;
  int errors_ = 0;
};

}  // namespace graphc
