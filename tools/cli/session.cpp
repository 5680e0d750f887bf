#include "tools/cli/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "runtime/weights.h"

namespace graphc::cli {
namespace {

Status check_functions(const Program& p, const std::string& file, const FunctionSet& functions) {
  const auto check = [&](bool wanted, const char* name, const char* how) -> Status {
    if (!wanted || p.function(name)) return {};
    return invalid(fmt::format("'{}' has no function '{}': compile it {}", file, name, how));
  };
  GC_CHECK(check(functions.infer, "infer", "anew"));
  GC_CHECK(check(functions.eval, "eval", "with --train"));
  return check(functions.train, "train", "with --train");
}

// What --set means for an artefact: values of its symbolic sizes.
Result<std::map<std::string, int64_t>> sizes_of(const Program& p, const std::vector<std::string>& set) {
  std::map<std::string, int64_t> out;
  GC_TRY(const auto values, parse_set(set));
  for (const auto& [name, text] : values) {
    std::vector<std::string> known;
    for (const Symbol& s : p.symbols) known.push_back(s.name);
    if (std::find(known.begin(), known.end(), name) == known.end())
      return invalid(fmt::format("--set {}: the artefact has the sizes: {}; everything else is compiled in",
                                 name, known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", "))));
    int64_t value = 0;
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc() || end != text.data() + text.size() || value < 0)
      return Error{ErrorCode::kUsage, fmt::format("--set {}={}: a size is a whole number", name, text)};
    out[name] = value;
  }
  return out;
}

}  // namespace

void add_session_options(Command& command, ModelArgs& a) {
  command.option("--weights", a.weights, "a safetensors file or checkpoint", "FILE")
      .option("--weights-map", a.weights_map,
              "where names or layouts differ: lines THEIRS = OURS [transpose]", "FILE")
      .option("--threads", a.threads, "threads; 0: one a CPU", 0, 1024)
      .option("--seed", a.seed, "of initial values, dropout and the data's order")
      .option("--max-memory", a.max_memory, "refuse to use more: 2GiB, 512MiB", "SIZE")
      .option("--device", a.device, "which of several cards: cuda:1", "CARD")
      .flag("--sync", a.sync, "wait after every step, so that an error of a card names its step");
}

Result<uint64_t> parse_bytes(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [at, ec] = std::from_chars(text.data(), end, value);
  std::string unit(at, end);
  if (unit.ends_with("iB")) unit.resize(unit.size() - 2);
  if (unit.ends_with("B")) unit.resize(unit.size() - 1);
  const size_t power = unit.empty() ? 0 : std::string("KMGT").find(unit) + 1;
  if (ec != std::errc() || value <= 0 || unit.size() > 1 || (!unit.empty() && power == 0))
    return Error{ErrorCode::kUsage, fmt::format("'{}' is no size; write for instance 2GiB or 512MiB", text)};
  return static_cast<uint64_t>(value * static_cast<double>(uint64_t{1} << (10 * power)));
}

Result<ModelOptions> parse_device(const std::string& text) {
  ModelOptions out;
  if (text.empty()) return out;
  const size_t colon = text.find(':');
  const std::string number = colon == std::string::npos ? "" : text.substr(colon + 1);
  const bool digits = !number.empty() && std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (text.substr(0, colon) != "cuda" || (colon != std::string::npos && !digits))
    return Error{ErrorCode::kUsage, fmt::format("'{}' is no device; write for instance cuda:0 (graphc devices lists them)", text)};
  if (digits) out.devices["cuda"] = number;
  return out;
}

Status check_weights_map(const ModelArgs& a) {
  if (a.weights.empty() && !a.weights_map.empty())
    return Error{ErrorCode::kUsage,
                 "--weights-map says how the tensors of --weights FILE are named; give both"};
  return {};
}

Result<Session> open_artefact(const ModelArgs& a, const FunctionSet& functions, Backends backends) {
  Session s;
  if (a.for_text_only)
    if (const std::string option = a.for_text_only(); !option.empty())
      return Error{ErrorCode::kUsage,
                   fmt::format("{} is for .graph files: '{}' is compiled already", option, a.file)};
  GC_CHECK(check_file(a.file));
  GC_TRY(Program program, load_program(a.file));
  GC_TRY(s.sizes, sizes_of(program, a.set));
  GC_CHECK(check_functions(program, a.file, functions));
  GC_CHECK(check_weights_map(a));
  if (!a.weights.empty()) GC_CHECK(apply_weights(program, a.weights, a.weights_map));
  GC_CHECK(start_session(s, std::move(program), a, backends));
  return s;
}

Status start_session(Session& s, Program program, const ModelArgs& a, Backends backends) {
  if (!a.max_memory.empty()) {
    GC_TRY(s.context.max_memory_bytes, parse_bytes(a.max_memory));
  }
  for (const auto& [key, text] : program.meta.provenance) {
    int64_t value = 0;
    if (!key.starts_with("set.") ||
        std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc() || value < 1)
      continue;
    s.settings[key.substr(4)] = value;
  }
  s.pool = std::make_unique<ThreadPool>(a.threads);
  GC_TRY(const std::unique_ptr<BackendRegistry> registry, backends(s.pool.get()));
  s.context.sync = a.sync;
  GC_TRY(const ModelOptions options, parse_device(a.device));
  GC_TRY(s.model, Model::create(std::move(program), *registry, options));
  GC_TRY(s.variables, Variables::create(
                          s.model, {.seed = a.seed, .pool = s.pool.get(), .max_memory_bytes = s.context.max_memory_bytes}));
  return {};
}

}  // namespace graphc::cli
