// What is compiled for, as --target names it: a backend and, after a colon, a device or a kind of device.
//
//   GC_TRY(Target t, Target::parse("cuda:h200"));   // {"cuda", "h200"}
//   t.to_string()                                   // "cuda:h200"
#pragma once

#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace graphc {

struct Target {
  std::string backend;  // "cpu", "reference", "cuda"
  std::string device;   // cuda: "h200", "sm_90a", "./card.txt", a card's number; "": the first card

  // An unknown name is the user's mistake, with the nearest known one.
  static Result<Target> parse(std::string_view text);
  std::string to_string() const { return device.empty() ? backend : backend + ":" + device; }
};

}  // namespace graphc
