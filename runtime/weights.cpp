#include "runtime/weights.h"

#include <fmt/format.h>

#include "runtime/base/safetensors.h"
#include "runtime/executor.h"
#include "runtime/tensor.h"

namespace graphc {

Status apply_weights(Program& program, const std::string& path) {
  GC_TRY(SafetensorsFile opened, SafetensorsFile::open(path));
  auto file = std::make_shared<SafetensorsFile>(std::move(opened));
  std::vector<std::string> known;
  for (const ProgramVariable& v : program.variables)
    if (v.kind != VariableRole::kConst) known.push_back(v.name);
  const auto hint = [](const std::string& near) {
    return near.empty() ? std::string() : fmt::format("; did you mean '{}'?", near);
  };
  for (const SafetensorsTensor& t : file->tensors()) {
    const int64_t i = program.variable(t.name);
    if (i < 0 && (t.name.starts_with("opt.") || t.name.starts_with("rng."))) continue;
    if (i < 0 || program.variables[static_cast<size_t>(i)].kind == VariableRole::kConst)
      return invalid(
          fmt::format("'{}': the model has no '{}'{}", path, t.name, hint(nearest_name(t.name, known))));
    ProgramVariable& v = program.variables[static_cast<size_t>(i)];
    const bool convertible = t.dtype == v.dtype || (is_float(t.dtype) && is_float(v.dtype));
    if (!convertible || t.shape != v.shape)
      return invalid(fmt::format("'{}': '{}' is {}, the model's is {}", path, t.name,
                                 type_string(t.dtype, t.shape), type_string(v.dtype, v.shape)));
    if (t.data.empty()) continue;
    v.init.reset();
    if (t.dtype == v.dtype) {
      v.data = t.data;
      continue;
    }
    const size_t n = t.data.size() / dtype_size(t.dtype);
    std::string converted(n * dtype_size(v.dtype), '\0');
    for (size_t k = 0; k < n; ++k)
      store_from_double(v.dtype, converted.data(), k, load_as_double(t.dtype, t.data.data(), k));
    v.data = program.own(std::move(converted));
  }
  for (const ProgramVariable& v : program.variables)
    if (v.kind == VariableRole::kParam && !file->find(v.name)) {
      std::vector<std::string> given;
      for (const SafetensorsTensor& t : file->tensors()) given.push_back(t.name);
      return invalid(
          fmt::format("'{}' lacks the parameter '{}'{}", path, v.name, hint(nearest_name(v.name, given))));
    }
  program.keep_alive.push_back(std::move(file));
  return {};
}

}  // namespace graphc
