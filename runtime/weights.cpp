#include "runtime/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <numeric>

#include "runtime/base/file.h"
#include "runtime/base/safetensors.h"
#include "runtime/executor.h"
#include "runtime/tensor.h"

namespace graphc {
namespace {

constexpr uint64_t kMaxMapBytes = 16 << 20;

std::vector<std::string_view> split(std::string_view s, char at) {
  std::vector<std::string_view> out;
  for (;;) {
    const size_t n = s.find(at);
    out.push_back(s.substr(0, n));
    if (n == std::string_view::npos) return out;
    s.remove_prefix(n + 1);
  }
}

std::string_view trim(std::string_view s) {
  const size_t begin = s.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return s.substr(begin, s.find_last_not_of(" \t\r") - begin + 1);
}

// What each * of the pattern stands for; false if the text doesn't fit. The pieces between the stars are
// looked for from the left, which finds a match whenever there is one.
bool fit(std::string_view pattern, std::string_view text, std::vector<std::string_view>& stars) {
  const std::vector<std::string_view> pieces = split(pattern, '*');
  stars.clear();
  if (pieces.size() == 1) return pattern == text;
  if (!text.starts_with(pieces.front())) return false;
  text.remove_prefix(pieces.front().size());
  if (!text.ends_with(pieces.back())) return false;
  text.remove_suffix(pieces.back().size());
  for (size_t i = 1; i + 1 < pieces.size(); ++i) {
    const size_t at = text.find(pieces[i]);
    if (at == std::string_view::npos) return false;
    stars.push_back(text.substr(0, at));
    text.remove_prefix(at + pieces[i].size());
  }
  stars.push_back(text);
  return true;
}

// A tensor of the file under the name of the model.
struct Given {
  std::string ours;
  std::string shown;  // in messages: "a", or "a (theirs: b)"
  const SafetensorsTensor* tensor = nullptr;
  std::vector<int64_t> shape;
  std::vector<int> axes;  // axis i is the file's axis axes[i]; empty: as it is
};

// dense -> dense, out axis i is in axis axes[i]
std::string permuted(Bytes data, size_t size, const std::vector<int64_t>& in, const std::vector<int>& axes) {
  const size_t rank = in.size();
  std::vector<size_t> stride(rank, size), out_shape(rank), step(rank), index(rank, 0);
  for (size_t a = rank - 1; a > 0; --a) stride[a - 1] = stride[a] * static_cast<size_t>(in[a]);
  for (size_t a = 0; a < rank; ++a) {
    out_shape[a] = static_cast<size_t>(in[static_cast<size_t>(axes[a])]);
    step[a] = stride[static_cast<size_t>(axes[a])];
  }
  std::string out(data.size(), '\0');
  for (size_t at = 0; at < out.size(); at += size) {
    size_t from = 0;
    for (size_t a = 0; a < rank; ++a) from += index[a] * step[a];
    std::memcpy(out.data() + at, data.data() + from, size);
    for (size_t a = rank; a-- > 0;) {
      if (++index[a] < out_shape[a]) break;
      index[a] = 0;
    }
  }
  return out;
}

// The file's tensors in the model's words.
Result<std::vector<Given>> rename(const SafetensorsFile& file, const std::string& path,
                                  const WeightsMap* map) {
  std::vector<Given> out;
  std::vector<int> uses(map ? map->rules().size() : 0, 0);
  for (const SafetensorsTensor& t : file.tensors()) {
    Given g{t.name, t.name, &t, t.shape, {}};
    const WeightsMap::Match m = map ? map->match(t.name) : WeightsMap::Match{};
    if (m.rule >= 0) {
      const WeightsMap::Rule& rule = map->rules()[static_cast<size_t>(m.rule)];
      ++uses[static_cast<size_t>(m.rule)];
      if (rule.ours == "-") continue;
      const size_t rank = t.shape.size();
      if (rule.transpose && rank != 2)
        return invalid(
            fmt::format("{}:{}: '{}' in '{}' is {}; a bare transpose is for matrices, write transpose=AXES",
                        map->name(), rule.line, t.name, path, type_string(t.dtype, t.shape)));
      g.axes = rule.transpose ? std::vector<int>{1, 0} : rule.axes;
      if (!g.axes.empty() && g.axes.size() != rank)
        return invalid(fmt::format("{}:{}: transpose has {} axes, '{}' in '{}' is {}", map->name(), rule.line,
                                   g.axes.size(), t.name, path, type_string(t.dtype, t.shape)));
      for (size_t a = 0; a < g.axes.size(); ++a) g.shape[a] = t.shape[static_cast<size_t>(g.axes[a])];
      g.ours = m.ours;
      if (g.ours != t.name) g.shown = fmt::format("{} (there: {})", g.ours, t.name);
    }
    out.push_back(std::move(g));
  }
  for (size_t r = 0; r < uses.size(); ++r)
    if (uses[r] == 0) {
      const WeightsMap::Rule& rule = map->rules()[r];
      std::vector<std::string> names;
      for (const SafetensorsTensor& t : file.tensors()) names.push_back(t.name);
      return invalid(fmt::format("{}:{}: nothing in '{}' is named '{}' (or an earlier line takes it){}",
                                 map->name(), rule.line, path, rule.theirs,
                                 nearest_hint(rule.theirs, names)));
    }
  std::sort(out.begin(), out.end(), [](const Given& a, const Given& b) { return a.ours < b.ours; });
  for (size_t i = 1; i < out.size(); ++i)
    if (out[i].ours == out[i - 1].ours)
      return invalid(fmt::format("{}: '{}' and '{}' of '{}' both become '{}'", map ? map->name() : path,
                                 out[i - 1].tensor->name, out[i].tensor->name, path, out[i].ours));
  return out;
}

}  // namespace

Result<WeightsMap> WeightsMap::parse(std::string_view text, const std::string& name) {
  WeightsMap map;
  map.name_ = name;
  int line = 0;
  for (const std::string_view whole : split(text, '\n')) {
    ++line;
    const std::string_view s = trim(whole.substr(0, whole.find('#')));
    if (s.empty()) continue;
    const auto bad = [&](const std::string& why) {
      return invalid(fmt::format("{}:{}: {}", name, line, why));
    };
    const size_t eq = s.find('=');
    if (eq == std::string_view::npos) return bad("a rule is written THEIRS = OURS [transpose]");
    Rule rule;
    rule.line = line;
    rule.theirs = trim(s.substr(0, eq));
    std::string_view right = trim(s.substr(eq + 1));
    const size_t space = right.find_first_of(" \t");
    rule.ours = right.substr(0, space);
    right = space == std::string_view::npos ? std::string_view() : trim(right.substr(space));
    if (rule.theirs.empty() || rule.ours.empty()) return bad("a rule is written THEIRS = OURS [transpose]");
    if (right == "transpose") {
      rule.transpose = true;
    } else if (right.starts_with("transpose=")) {
      for (const std::string_view word : split(right.substr(10), ',')) {
        int axis = -1;
        const auto [end, ec] = std::from_chars(word.data(), word.data() + word.size(), axis);
        if (ec != std::errc() || end != word.data() + word.size()) axis = -1;
        rule.axes.push_back(axis);
      }
      std::vector<int> sorted = rule.axes, all(rule.axes.size());
      std::sort(sorted.begin(), sorted.end());
      std::iota(all.begin(), all.end(), 0);
      if (sorted != all) return bad(fmt::format("'{}' must name every axis once, from 0 on", right));
    } else if (!right.empty()) {
      return bad(fmt::format("'{}' is unknown; a rule may end in transpose or transpose=AXES", right));
    }
    const auto stars = [](const std::string& p) { return std::count(p.begin(), p.end(), '*'); };
    if (rule.ours != "-" && stars(rule.ours) != stars(rule.theirs))
      return bad(fmt::format("'{}' has {} wildcards, '{}' has {}", rule.theirs, stars(rule.theirs), rule.ours,
                             stars(rule.ours)));
    map.rules_.push_back(std::move(rule));
  }
  return map;
}

Result<WeightsMap> WeightsMap::load(const std::string& path) {
  GC_TRY(const std::string text, read_file(path, kMaxMapBytes));
  return parse(text, path);
}

WeightsMap::Match WeightsMap::match(std::string_view theirs) const {
  std::vector<std::string_view> stars;
  for (size_t r = 0; r < rules_.size(); ++r) {
    if (!fit(rules_[r].theirs, theirs, stars)) continue;
    Match m{static_cast<int>(r), {}};
    size_t next = 0;
    for (const char c : rules_[r].ours) {
      if (c == '*')
        m.ours += stars[next++];
      else
        m.ours += c;
    }
    return m;
  }
  return {-1, std::string(theirs)};
}

Status apply_weights(Program& program, const std::string& path, const std::string& map_path) {
  if (map_path.empty()) return apply_weights(program, path);
  GC_TRY(const WeightsMap map, WeightsMap::load(map_path));
  return apply_weights(program, path, &map);
}

Status apply_weights(Program& program, const std::string& path, const WeightsMap* map) {
  GC_TRY(SafetensorsFile opened, SafetensorsFile::open(path));
  auto file = std::make_shared<SafetensorsFile>(std::move(opened));
  GC_TRY(const std::vector<Given> given, rename(*file, path, map));
  std::vector<std::string> known, names;
  for (const ProgramVariable& v : program.variables)
    if (v.kind != VariableRole::kConst) known.push_back(v.name);
  for (const Given& g : given) {
    names.push_back(g.ours);
    const SafetensorsTensor& t = *g.tensor;
    const int64_t i = program.variable(g.ours);
    if (i < 0 && (g.ours.starts_with("opt.") || g.ours.starts_with("rng."))) continue;
    if (i < 0 || program.variables[static_cast<size_t>(i)].kind == VariableRole::kConst)
      return invalid(
          fmt::format("'{}': the model has no '{}'{}", path, g.shown, nearest_hint(g.ours, known)));
    ProgramVariable& v = program.variables[static_cast<size_t>(i)];
    const bool convertible = t.dtype == v.dtype || (is_float(t.dtype) && is_float(v.dtype));
    if (!convertible || g.shape != v.shape)
      return invalid(fmt::format("'{}': '{}' is {}, the model's is {}", path, g.shown,
                                 type_string(t.dtype, g.shape), type_string(v.dtype, v.shape)));
    if (t.data.empty()) continue;
    v.init.reset();
    Bytes data = t.data;
    if (!g.axes.empty()) data = program.own(permuted(data, dtype_size(t.dtype), t.shape, g.axes));
    if (t.dtype == v.dtype) {
      v.data = data;
      continue;
    }
    const size_t n = data.size() / dtype_size(t.dtype);
    std::string converted(n * dtype_size(v.dtype), '\0');
    for (size_t k = 0; k < n; ++k)
      store_from_double(v.dtype, converted.data(), k, load_as_double(t.dtype, data.data(), k));
    v.data = program.own(std::move(converted));
  }
  for (const ProgramVariable& v : program.variables)
    if (v.kind == VariableRole::kParam && !std::binary_search(names.begin(), names.end(), v.name))
      return invalid(
          fmt::format("'{}' lacks the parameter '{}'{}", path, v.name, nearest_hint(v.name, names)));
  program.keep_alive.push_back(std::move(file));
  return {};
}

}  // namespace graphc
