// Who touched the elements of one buffer, for the interpreter of loop programs: two accesses of which one
// writes and that nothing puts into order are a race.
//
//   RaceLog log(n, /*of_block=*/false);
//   if (auto what = log.write(7, actor)) fail("element 7 " + *what);   // "is written by two iterations"
//
// Unordered are iterations of the parallel nest, threads of a block between two barriers, iterations of one
// thread loop (also those of one thread), and lanes of one chunk of a vector loop. The log remembers for each
// element and each of these one reader and whether there are others, so that a write after any number of
// reads is judged against all of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace graphc {

struct Actor {
  int64_t iteration = 0;  // of the parallel nest, numbered as they are run
  int64_t epoch = 0;      // number of the barrier before; every block begins a new one
  int thread = 0;         // of the block
  int width = 1;          // that many threads, `thread` the first, do the same; a store is the first one's
  int64_t loop = -1;      // number of the thread loop, as they are run; -1 outside of one
  int64_t item = 0;       // its iteration
  int64_t chunk = -1;     // of a vector loop, numbered as they are run; -1 outside of one
  int64_t lane = 0;       // in the chunk
};

class RaceLog {
 public:
  RaceLog() = default;
  // of_block: every iteration of the parallel nest has a memory of its own.
  RaceLog(size_t elements, bool of_block) : of_block_(of_block), elements_(elements) {}

  size_t size() const { return elements_.size(); }
  // What is wrong with the access, to follow "element 7 of %x"; notes it.
  std::optional<std::string> read(size_t at, const Actor& a);
  std::optional<std::string> write(size_t at, const Actor& a);

 private:
  struct Element {
    Actor writer{-1};
    // the first reader among iterations, of this epoch, of this loop, of this chunk; whether there are others
    Actor reader{-1, -1};
    bool other_iterations = false, other_threads = false, other_items = false, other_lanes = false;
  };
  bool of_block_ = false;
  std::vector<Element> elements_;
};

}  // namespace graphc
