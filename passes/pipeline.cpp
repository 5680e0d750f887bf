#include <algorithm>

#include <fmt/format.h>

#include "passes/passes.h"

namespace graphc {
namespace {

const std::vector<std::string> kAttention = {"attention"};

Status expand_but_attention(Module& m) { return expand_except(m, kAttention); }

}  // namespace

PassManager build_pipeline(const PipelineOptions& options) {
  PassManager pm;
  if (options.opt_level == 0) {
    pm.add("gradient", gradient);
    pm.add("expand", expand);
    pm.add("dce", dce);
    pm.add("unfused", unfused);
    pm.add("schedule", schedule);
    return pm;
  }
  pm.add("canonicalize", canonicalize);
  pm.add("fold", fold);
  pm.add("cse", cse);
  pm.add("dce", dce);
  const auto& extra = options.extra_kinds;
  const bool whole_attention = std::find(extra.begin(), extra.end(), "attention") != extra.end();
  if (whole_attention) pm.add("attention", attention);
  pm.add("gradient", gradient);
  if (whole_attention)
    pm.add("expand-but-attention", expand_but_attention);
  else
    pm.add("expand", expand);
  // Gradient and expansion write plain formulas; now they share, cancel and shrink.
  pm.add("canonicalize", canonicalize);
  pm.add("fold", fold);
  pm.add("canonicalize", canonicalize);
  pm.add("cse", cse);
  pm.add("dce", dce);
  pm.add("fuse", fuse);
  pm.add("schedule", schedule);
  return pm;
}

Result<std::vector<Pass>> parse_pass_list(std::string_view names) {
  static constexpr struct {
    std::string_view name;
    Status (*run)(Module&);
  } kPasses[] = {{"canonicalize", canonicalize},
                 {"fold", fold},
                 {"cse", cse},
                 {"dce", dce},
                 {"gradient", gradient},
                 {"expand", expand},
                 {"fuse", fuse},
                 {"unfused", unfused},
                 {"attention", attention},
                 {"expand-but-attention", expand_but_attention},
                 {"schedule", schedule}};
  std::vector<Pass> out;
  for (size_t at = 0; at <= names.size();) {
    const size_t end = std::min(names.find(',', at), names.size());
    std::string_view name = names.substr(at, end - at);
    while (!name.empty() && name.front() == ' ') name.remove_prefix(1);
    while (!name.empty() && (name.back() == ' ' || name.back() == '\r')) name.remove_suffix(1);
    at = end + 1;
    if (name.empty()) continue;
    bool found = false;
    if (name == "pipeline" || name == "pipeline-O0" || name == "pipeline-attention") {
      PipelineOptions o{.opt_level = name == "pipeline-O0" ? 0 : 2};
      if (name == "pipeline-attention") o.extra_kinds = kAttention;
      const PassManager whole = build_pipeline(o);
      out.insert(out.end(), whole.passes().begin(), whole.passes().end());
      found = true;
    }
    for (const auto& p : kPasses) {
      if (p.name != name) continue;
      out.push_back({std::string(name), p.run});
      found = true;
    }
    if (!found) {
      std::string known;
      for (const auto& p : kPasses) known += fmt::format("{}, ", p.name);
      return Error{
          ErrorCode::kUsage,
          fmt::format("there is no pass '{}'; there are {}pipeline, pipeline-O0 and pipeline-attention", name,
                      known)};
    }
  }
  return out;
}

}  // namespace graphc
