// Runs g++ on the text of a program, behind CUDA's words (device_words.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace standin {

// The text before every program, ending in a #line for `name`.
std::string prefix(const std::string& name);

struct GccResult {
  bool ok = false;
  std::string log;  // of errors and warnings
};
// g++ arguments.. with `input` on its standard input.
GccResult run_gcc(const std::vector<std::string>& arguments, std::string_view input);

// The instructions every machine that graphc runs on has (AVX2, FMA), as flags.
std::vector<std::string> machine_flags();

}  // namespace standin
