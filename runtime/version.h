// The version that programs print and artefacts and checkpoints record.
#pragma once

namespace graphc {

inline constexpr const char* kGraphcVersion = "0.1.0";  // as in CMakeLists.txt

}  // namespace graphc
