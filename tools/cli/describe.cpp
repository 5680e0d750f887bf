#include "tools/cli/describe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "runtime/base/safetensors.h"
#include "runtime/program.h"
#include "runtime/progress.h"
#include "runtime/tensor.h"

namespace graphc::cli {
namespace {

std::string tensor_text(const TensorSpec& t, const std::vector<std::string>& symbols) {
  std::vector<std::string> dims;
  for (const SizeExpr& d : t.shape) dims.push_back(d.str(symbols));
  return fmt::format("{}: {}{}", t.name, dtype_name(t.dtype),
                     dims.empty() ? "" : fmt::format("[{}]", fmt::join(dims, ", ")));
}

struct Count {
  int64_t parameters = 0;
  uint64_t bytes = 0, inside = 0, code = 0;
};
Count count(const Program& p) {
  Count c;
  for (const ProgramVariable& v : p.variables) {
    if (v.kind != VariableRole::kConst) c.inside += v.data.size();
    if (v.kind != VariableRole::kParam) continue;
    int64_t n = 1;
    for (const int64_t d : v.shape) n *= d;
    c.parameters += n;
    c.bytes += static_cast<uint64_t>(n) * dtype_size(v.dtype);
  }
  for (const Exec& e : p.execs) c.code += e.blob.size();
  return c;
}

// What one run computes and moves at least, where that is known before sizes are.
std::string work_text(const Function& f) {
  const int64_t flops = f.flops.as_const(), bytes = f.bytes.as_const();
  if (flops < 0 || bytes < 0) return "";
  return fmt::format(", {:.4g} GFLOP, {} read and written", static_cast<double>(flops) / 1e9,
                     bytes_text(static_cast<double>(bytes)));
}

Status describe_program(const std::string& path, bool json) {
  GC_TRY(const Program p, load_program(path));
  std::vector<std::string> symbols;
  for (const Symbol& s : p.symbols) symbols.push_back(s.name);
  const auto texts = [&](const std::vector<TensorSpec>& list) {
    std::vector<std::string> out;
    for (const TensorSpec& t : list) out.push_back(tensor_text(t, symbols));
    return out;
  };
  const Count c = count(p);
  if (json) {
    nlohmann::ordered_json j;
    j["target"] = p.meta.target;
    j["graphc_version"] = p.meta.graphc_version;
    j["flags"] = p.meta.flags;
    j["core_hash"] = p.meta.core_hash;
    j["cpu_features"] = p.meta.cpu_features;
    j["provenance"] = p.meta.provenance;
    j["parameters"] = c.parameters;
    j["parameter_bytes"] = c.bytes;
    j["weight_bytes_inside"] = c.inside;
    j["code_bytes"] = c.code;
    for (const Symbol& s : p.symbols) j["sizes"][s.name] = {{"min", s.min}, {"max", s.max}};
    for (const Function& f : p.functions)
      j["functions"][f.name] = {
          {"inputs", texts(f.inputs)},          {"outputs", texts(f.outputs)}, {"steps", f.steps.size()},
          {"flops", f.flops.str(symbols)}, {"bytes", f.bytes.str(symbols)}};
    fmt::print("{}\n", j.dump(2));
    return {};
  }
  const auto model = p.meta.provenance.find("model");
  fmt::print("artefact of model {} for {}, made by graphc {} with {}\n",
             model == p.meta.provenance.end() ? "?" : model->second, p.meta.target, p.meta.graphc_version,
             p.meta.flags);
  for (const Symbol& s : p.symbols)
    fmt::print("  size    {}\n", s.max == Symbol().max ? fmt::format("{} >= {}", s.name, s.min)
                                                       : fmt::format("{} = {}..{}", s.name, s.min, s.max));
  for (const Function& f : p.functions) {
    fmt::print("  {}: {} steps{}\n", f.name, f.steps.size(), work_text(f));
    for (const std::string& s : texts(f.inputs)) fmt::print("    input   {}\n", s);
    for (const std::string& s : texts(f.outputs)) fmt::print("    output  {}\n", s);
  }
  fmt::print("parameters: {} ({}), {} of weights inside\n", group_digits(c.parameters),
             bytes_text(static_cast<double>(c.bytes)), bytes_text(static_cast<double>(c.inside)));
  fmt::print("code: {} kernels, {}\n", p.execs.size(), bytes_text(static_cast<double>(c.code)));
  if (!p.meta.cpu_features.empty()) fmt::print("needs: {}\n", fmt::join(p.meta.cpu_features, ","));
  for (const auto& [key, value] : p.meta.provenance)
    if (key != "model") fmt::print("{}: {}\n", printable(key), printable(value));
  fmt::print("core: {}\n", p.meta.core_hash);
  return {};
}

Status describe_tensors(const std::string& path, bool json) {
  GC_TRY(const SafetensorsFile file, SafetensorsFile::open(path));
  if (json) {
    nlohmann::ordered_json j;
    j["metadata"] = file.metadata();
    for (const SafetensorsTensor& t : file.tensors()) j["tensors"][t.name] = type_string(t.dtype, t.shape);
    fmt::print("{}\n", j.dump(2));
    return {};
  }
  uint64_t bytes = 0;
  for (const SafetensorsTensor& t : file.tensors()) {
    fmt::print("  {}: {}\n", printable(t.name), type_string(t.dtype, t.shape));
    bytes += t.data.size();
  }
  fmt::print("{} tensors, {}\n", file.tensors().size(), bytes_text(static_cast<double>(bytes)));
  for (const auto& [key, value] : file.metadata()) fmt::print("{}: {}\n", printable(key), printable(value));
  return {};
}

}  // namespace

bool is_describable(const std::string& path) {
  return path.ends_with(".gcx") || path.ends_with(".safetensors");
}

Status describe(const std::string& path, bool json) {
  GC_CHECK(check_file(path));
  return path.ends_with(".safetensors") ? describe_tensors(path, json) : describe_program(path, json);
}

void add_describe(CommandLine& program) {
  struct Options {
    std::string file;
    bool json = false;
  };
  auto o = std::make_shared<Options>();
  program.command("check", "checks an artefact or a checkpoint; shows what it holds and where it comes from")
      .positional("FILE", o->file, "an artefact (.gcx) or weights (.safetensors)")
      .flag("--json", o->json, "print an object")
      .example("check mlp.gcx")
      .action([o] { return describe(o->file, o->json); });
}

}  // namespace graphc::cli
