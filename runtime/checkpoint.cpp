#include "runtime/checkpoint.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>

namespace graphc {
namespace {

constexpr const char* kVersion = "1";
constexpr std::string_view kSumPrefix = "graphc.sum.", kProvenancePrefix = "graphc.info.";

bool to_int(const std::string& s, int64_t* out) {
  char* end = nullptr;
  errno = 0;
  *out = std::strtoll(s.c_str(), &end, 10);
  return !s.empty() && *end == 0 && errno == 0;
}
// Hexadecimal floats are exact.
bool to_double(const char* s, const char** end, double* out) {
  char* e = nullptr;
  *out = std::strtod(s, &e);
  *end = e;
  return e != s;
}

}  // namespace

Status save_checkpoint(const std::string& path, const Variables& variables, const CheckpointInfo& info) {
  SafetensorsMetadata m;
  const TrainPosition& p = info.position;
  m["format"] = "pt";  // what other readers of safetensors look for
  m["graphc.checkpoint"] = kVersion;
  m["graphc.epoch"] = std::to_string(p.epoch);
  m["graphc.batch"] = std::to_string(p.batch);
  m["graphc.step"] = std::to_string(p.step);
  m["graphc.seed"] = std::to_string(info.seed);
  m["graphc.batch_size"] = std::to_string(info.batch_size);
  m["graphc.data"] = info.data;
  m["graphc.core_hash"] = info.core_hash;
  if (p.has_best) m["graphc.best"] = fmt::format("{:a}", p.best);
  for (size_t i = 0; i < p.sums.size(); ++i)
    m[fmt::format("{}{:04}.{}", kSumPrefix, i, p.sums[i].name)] =
        fmt::format("{:a} {:a}", p.sums[i].sum, p.sums[i].count);
  for (const auto& [k, v] : info.provenance) m[fmt::format("{}{}", kProvenancePrefix, k)] = v;
  GC_TRY(const std::vector<SafetensorsTensor> tensors, variables.saved());
  return write_safetensors(path, tensors, m);
}

Result<CheckpointInfo> load_checkpoint(const std::string& path, Variables* variables,
                                       const std::string& core_hash) {
  GC_TRY(const SafetensorsFile file, SafetensorsFile::open(path, SafetensorsFile::kHashed));
  const auto bad = [&](const std::string& why) {
    return invalid(fmt::format("'{}' is no checkpoint: {}", path, why));
  };
  const SafetensorsMetadata& m = file.metadata();
  const auto version = m.find("graphc.checkpoint");
  if (version == m.end()) return bad("it holds weights only; use it with --weights");
  if (version->second != kVersion)
    return bad(fmt::format("its version is {}, this graphc reads {}", version->second, kVersion));
  CheckpointInfo info;
  int64_t seed = 0;
  const std::pair<const char*, int64_t*> numbers[] = {{"graphc.epoch", &info.position.epoch},
                                                      {"graphc.batch", &info.position.batch},
                                                      {"graphc.step", &info.position.step},
                                                      {"graphc.batch_size", &info.batch_size}};
  for (const auto& [key, to] : numbers) {
    const auto it = m.find(key);
    if (it == m.end() || !to_int(it->second, to) || *to < 0)
      return bad(fmt::format("'{}' is missing or no number", key));
  }
  const auto seed_text = m.find("graphc.seed");
  if (seed_text == m.end()) return bad("'graphc.seed' is missing");
  seed = static_cast<int64_t>(std::strtoull(seed_text->second.c_str(), nullptr, 10));
  info.seed = static_cast<uint64_t>(seed);
  for (const auto& [key, value] : m) {
    if (key == "graphc.data") info.data = value;
    if (key == "graphc.core_hash") info.core_hash = value;
    if (key == "graphc.best") {
      const char* end;
      info.position.has_best = to_double(value.c_str(), &end, &info.position.best);
    }
    if (key.starts_with(kSumPrefix)) {
      MetricSum s;
      const std::string rest = key.substr(kSumPrefix.size());
      s.name = rest.substr(std::min(rest.size(), rest.find('.') + 1));
      const char* end;
      if (!to_double(value.c_str(), &end, &s.sum) || !to_double(end, &end, &s.count))
        return bad(fmt::format("'{}'", key));
      info.position.sums.push_back(s);
    }
    if (key.starts_with(kProvenancePrefix)) info.provenance[key.substr(kProvenancePrefix.size())] = value;
  }
  if (info.core_hash != core_hash)
    return invalid(
        fmt::format("'{}' was written by another program (the model, its training recipe or --set changed); "
                    "to start from its weights use --weights instead of --resume",
                    path));
  GC_CHECK(variables->load(file, path));
  return info;
}

}  // namespace graphc
