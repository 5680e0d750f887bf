#include "runtime/program.h"

#include <algorithm>

namespace graphc {

const Function* Program::function(std::string_view name) const {
  for (const Function& f : functions)
    if (f.name == name) return &f;
  return nullptr;
}

int64_t Program::variable(std::string_view name) const {
  for (size_t i = 0; i < variables.size(); ++i)
    if (variables[i].name == name) return static_cast<int64_t>(i);
  return -1;
}

Bytes Program::own(std::string bytes) {
  auto kept = std::make_shared<const std::string>(std::move(bytes));
  keep_alive.push_back(kept);
  return as_bytes_view(*kept);
}

}  // namespace graphc
