// A text file that the build put inside the library (cmake/Embed.cmake).
#pragma once

#include <string_view>
#include <vector>

namespace graphc {

struct EmbeddedFile {
  std::string_view name;  // without its folder: "nn.graph"
  std::string_view text;
};

}  // namespace graphc
