#include "ir/loops/races.h"

#include <fmt/format.h>

namespace graphc {
namespace {

std::string who(const Actor& a) {
  return a.width > 1 ? fmt::format("threads {}..{}", a.thread, a.thread + a.width - 1)
                     : fmt::format("thread {}", a.thread);
}

}  // namespace

std::optional<std::string> RaceLog::read(size_t at, const Actor& a) {
  Element& e = elements_[at];
  const Actor& w = e.writer;
  std::optional<std::string> race;
  if (w.iteration >= 0) {
    if (w.iteration != a.iteration) {
      if (!of_block_) race = "is read, and written by another iteration";
    } else if (w.epoch == a.epoch && (a.width > 1 || w.thread != a.thread)) {
      race =
          fmt::format("is read by {}, and written by thread {} with no barrier in between", who(a), w.thread);
    } else if (w.loop >= 0 && w.loop == a.loop && w.item != a.item) {
      race = "is read, and written by another iteration of the thread loop";
    } else if (w.chunk >= 0 && w.chunk == a.chunk && w.lane != a.lane) {
      race = "is read, and written by another lane";
    }
  }
  Actor& r = e.reader;
  if (r.iteration < 0)
    r.iteration = a.iteration;
  else
    e.other_iterations |= r.iteration != a.iteration;
  if (r.epoch != a.epoch) {
    r.epoch = a.epoch;
    r.thread = a.thread;
    r.width = a.width;
    e.other_threads = false;
  } else {
    e.other_threads |= r.thread != a.thread || r.width != a.width;
  }
  if (a.loop >= 0) {
    if (r.loop != a.loop) {
      r.loop = a.loop;
      r.item = a.item;
      e.other_items = false;
    } else {
      e.other_items |= r.item != a.item;
    }
  }
  if (a.chunk >= 0) {
    if (r.chunk != a.chunk) {
      r.chunk = a.chunk;
      r.lane = a.lane;
      e.other_lanes = false;
    } else {
      e.other_lanes |= r.lane != a.lane;
    }
  }
  return race;
}

std::optional<std::string> RaceLog::write(size_t at, const Actor& a) {
  Element& e = elements_[at];
  const Actor &w = e.writer, &r = e.reader;
  std::optional<std::string> race;
  if (w.iteration >= 0 && w.iteration != a.iteration) {
    if (!of_block_) race = "is written by two iterations";
  } else if (w.iteration >= 0 && w.epoch == a.epoch && w.thread != a.thread) {
    race = fmt::format("is written by thread {} and by thread {} with no barrier in between", w.thread,
                       a.thread);
  } else if (w.iteration >= 0 && w.loop >= 0 && w.loop == a.loop && w.item != a.item) {
    race = "is written by two iterations of the thread loop";
  } else if (w.iteration >= 0 && w.chunk >= 0 && w.chunk == a.chunk && w.lane != a.lane) {
    race = "is written by two lanes";
  }
  if (!race && r.iteration >= 0) {
    if (!of_block_ && (e.other_iterations || r.iteration != a.iteration)) {
      race = "is written, and read by another iteration";
    } else if (r.epoch == a.epoch && (e.other_threads || r.width > 1 || r.thread != a.thread)) {
      race = fmt::format("is written by thread {}, and read by {}{} with no barrier in between", a.thread,
                         who(r), e.other_threads ? " and others" : "");
    } else if (a.loop >= 0 && r.loop == a.loop && (e.other_items || r.item != a.item)) {
      race = "is written, and read by another iteration of the thread loop";
    } else if (a.chunk >= 0 && r.chunk == a.chunk && (e.other_lanes || r.lane != a.lane)) {
      race = "is written, and read by another lane";
    }
  }
  e.writer = a;
  return race;
}

}  // namespace graphc
