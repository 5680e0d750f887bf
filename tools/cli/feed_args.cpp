#include "tools/cli/feed_args.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "runtime/base/hash.h"
#include "runtime/base/npy.h"
#include "runtime/base/philox.h"

namespace graphc::cli {
namespace {

void draw(DType dtype, uint64_t seed, const std::string& name, int64_t n, void* out) {
  const uint64_t h = hash64(name);
  const PhiloxKey key{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                      static_cast<uint32_t>(h), static_cast<uint32_t>(h >> 32)};
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = philox_bits(key, static_cast<uint64_t>(i));
    double v = is_float(dtype) ? 2.0 * philox_uniform(bits) - 1 : bits % 10;
    if (dtype == DType::kBool) v = bits & 1;
    store_from_double(dtype, out, static_cast<size_t>(i), v);
  }
}

// Sizes by symbol, from the shapes of the files given, --set, and the smallest allowed otherwise.
struct Sizes {
  const Program& program;
  std::vector<int64_t> values;

  Sizes(const Program& p, const std::map<std::string, int64_t>& set) : program(p) {
    for (const Symbol& s : p.symbols) {
      const auto it = set.find(s.name);
      values.push_back(it == set.end() ? -1 : it->second);
    }
  }
  void learn(const TensorSpec& spec, const std::vector<int64_t>& shape) {
    for (size_t d = 0; d < spec.shape.size() && d < shape.size(); ++d)
      if (const int64_t s = spec.shape[d].as_symbol(); s >= 0) values[static_cast<size_t>(s)] = shape[d];
  }
  void finish() {
    for (size_t i = 0; i < values.size(); ++i)
      if (values[i] < 0) values[i] = std::max<int64_t>(1, program.symbols[i].min);
  }
};

}  // namespace

void add_input_option(Command& command, std::vector<std::string>& inputs) {
  command.option(
      "--input", inputs,
      "NAME=FILE.npy, NAME=random or NAME=zeros; a bare random (the default) or zeros for the rest",
      "NAME=VALUE");
}

Status set_inputs(Context& context, const Session& session, const std::vector<std::string>& inputs,
                  uint64_t seed) {
  const Function& f = context.function();
  std::string rest = "random";
  std::map<std::string, std::string> given;
  for (const std::string& text : inputs) {
    const size_t eq = text.find('=');
    if (eq == std::string::npos && (text == "random" || text == "zeros")) {
      rest = text;
      continue;
    }
    if (eq == std::string::npos || eq == 0)
      return Error{ErrorCode::kUsage,
                   fmt::format("--input takes NAME=FILE.npy, NAME=random or NAME=zeros, not '{}'", text)};
    if (!given.emplace(text.substr(0, eq), text.substr(eq + 1)).second)
      return Error{ErrorCode::kUsage, fmt::format("--input {} is given twice", text.substr(0, eq))};
  }
  std::vector<std::string> known;
  for (const TensorSpec& t : f.inputs) known.push_back(t.name);
  for (const auto& [name, value] : given)
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return invalid(fmt::format("--input {}: the model has no input of this name; it has: {}{}", name,
                                 fmt::join(known, ", "), nearest_hint(name, known)));
    }
  Sizes sizes(session.model->program(), session.sizes);
  std::map<std::string, TensorData> files;
  for (const TensorSpec& t : f.inputs) {
    const auto it = given.find(t.name);
    if (it == given.end() || it->second == "random" || it->second == "zeros") continue;
    GC_CHECK(check_file(it->second));
    GC_TRY(files[t.name], read_npy(it->second));
    sizes.learn(t, files[t.name].shape);
  }
  sizes.finish();
  for (size_t i = 0; i < f.inputs.size(); ++i) {
    const TensorSpec& t = f.inputs[i];
    if (const auto it = files.find(t.name); it != files.end()) {
      GC_CHECK(context.set_input(i, it->second));
      continue;
    }
    std::vector<int64_t> shape;
    int64_t n = 1;
    for (const SizeExpr& e : t.shape) {
      GC_TRY(const int64_t d, e.eval(sizes.values));
      shape.push_back(d);
      n *= d;
    }
    GC_TRY(void* data, context.prepare_input(i, t.dtype, shape));
    const auto it = given.find(t.name);
    if ((it == given.end() ? rest : it->second) == "zeros")
      std::memset(data, 0, static_cast<size_t>(n) * dtype_size(t.dtype));
    else
      draw(t.dtype, seed, t.name, n, data);
  }
  for (size_t i = 0; i < sizes.values.size(); ++i) {
    // sizes that no input has
    bool in_input = false;
    for (const TensorSpec& t : f.inputs)
      for (const SizeExpr& e : t.shape) in_input |= e.as_symbol() == static_cast<int64_t>(i);
    if (!in_input) GC_CHECK(context.set_symbol(session.model->program().symbols[i].name, sizes.values[i]));
  }
  return {};
}

}  // namespace graphc::cli
