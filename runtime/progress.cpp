#include "runtime/progress.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace graphc {
namespace {

std::atomic<bool> interrupted{false};
struct sigaction old_int, old_term;

void on_signal(int sig) {
  if (interrupted.exchange(true)) {  // the second time
    signal(sig, SIG_DFL);
    raise(sig);
  }
}

}  // namespace

ProgressBar::ProgressBar(bool active, std::string label, int64_t total, int64_t done_before)
    : active_(active),
      label_(std::move(label)),
      total_(total),
      before_(done_before),
      start_(Clock::now()),
      last_() {}

std::string ProgressBar::line(std::string_view label, int64_t done, int64_t total, double samples_per_second,
                              double seconds_left, std::string_view text) {
  constexpr int kWidth = 20;
  const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0;
  const int filled = std::clamp(static_cast<int>(share * kWidth), 0, kWidth);
  const auto left = static_cast<int64_t>(std::ceil(std::min(seconds_left, 1e7)));
  std::string time = left >= 3600 ? fmt::format("{}:{:02}:{:02}", left / 3600, left / 60 % 60, left % 60)
                                  : fmt::format("{}:{:02}", left / 60, left % 60);
  return fmt::format("{}  [{}{}] {:>3.0f}%  {}{}{} samples/s  {} left", label, std::string(filled, '#'),
                     std::string(kWidth - filled, '-'), share * 100, text, text.empty() ? "" : "  ",
                     group_digits(static_cast<int64_t>(samples_per_second)), time);
}

void ProgressBar::update(int64_t done, int64_t samples, std::string_view text) {
  if (!active_) return;
  const Clock::time_point now = Clock::now();
  if (drawn_ && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  const double seconds = std::max(1e-9, std::chrono::duration<double>(now - start_).count());
  const double per_batch = seconds / static_cast<double>(std::max<int64_t>(1, done - before_));
  const std::string text_line = line(label_, done, total_, static_cast<double>(samples) / seconds,
                                     per_batch * static_cast<double>(total_ - done), text);
  std::fprintf(stderr, "\r%s\x1b[K", text_line.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressBar::clear() {
  if (!drawn_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  drawn_ = false;
}

InterruptGuard::InterruptGuard() {
  interrupted.store(false);
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &old_int);
  sigaction(SIGTERM, &action, &old_term);
}

InterruptGuard::~InterruptGuard() {
  sigaction(SIGINT, &old_int, nullptr);
  sigaction(SIGTERM, &old_term, nullptr);
}

const std::atomic<bool>& InterruptGuard::flag() { return interrupted; }

std::string group_digits(int64_t n) {
  std::string s = std::to_string(n);
  for (int64_t i = static_cast<int64_t>(s.size()) - 3; i > (n < 0 ? 1 : 0); i -= 3)
    s.insert(static_cast<size_t>(i), ",");
  return s;
}

}  // namespace graphc
