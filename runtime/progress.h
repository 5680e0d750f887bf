// One line of progress with rate and time left on a terminal; nothing elsewhere. And Ctrl-C as a flag.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace graphc {

class ProgressBar {
 public:
  // active: draw at all (a terminal). The line goes to stderr and is rewritten at most ten times a second.
  ProgressBar(bool active, std::string label, int64_t total, int64_t done_before = 0);
  ~ProgressBar() { clear(); }
  // done: of total; samples: so far since the bar began, for the rate.
  void update(int64_t done, int64_t samples, std::string_view text);
  void clear();

  // The text of the line, for tests: "epoch 1/3  [######--------]  42%  loss=0.12  1,234 samples/s  0:23
  // left"
  static std::string line(std::string_view label, int64_t done, int64_t total, double samples_per_second,
                          double seconds_left, std::string_view text);

 private:
  using Clock = std::chrono::steady_clock;
  bool active_, drawn_ = false;
  std::string label_;
  int64_t total_, before_;
  Clock::time_point start_, last_;
};

// While it lives, the first SIGINT or SIGTERM sets the flag, the next one ends the program as usual.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  static const std::atomic<bool>& flag();
};

std::string group_digits(int64_t n);  // "25,557,032"

}  // namespace graphc
