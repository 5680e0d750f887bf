// Data specs: KIND[:PATH][,OPTION...]
#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "runtime/base/philox.h"
#include "runtime/data/dataset.h"
#include "runtime/executor.h"

namespace graphc {
namespace {

struct Spec {
  std::string text, kind, path;
  std::map<std::string, std::string> options;

  Error bad(std::string why) const { return invalid(fmt::format("data '{}': {}", text, why)); }

  // Takes the option out, so that what is left over is unknown.
  Result<double> number(const std::string& name, double fallback, double lo, double hi) {
    const auto it = options.find(name);
    if (it == options.end()) return fallback;
    double v = 0;
    const std::string& s = it->second;
    const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), v);
    if (ec != std::errc() || end != s.data() + s.size() || !std::isfinite(v))
      return bad(fmt::format("{}={} is no number", name, s));
    if (v < lo || v > hi) return bad(fmt::format("{}={} is outside {}..{}", name, s, lo, hi));
    options.erase(it);
    return v;
  }
  Result<std::string> word(const std::string& name, const std::string& fallback) {
    const auto it = options.find(name);
    if (it == options.end()) return fallback;
    const std::string v = it->second;
    options.erase(it);
    return v;
  }
  Result<bool> flag(const std::string& name) {
    const auto it = options.find(name);
    if (it == options.end()) return false;
    const std::string v = it->second;
    if (!v.empty() && v != "true" && v != "false") return bad(fmt::format("{} is a flag", name));
    options.erase(it);
    return v != "false";
  }
  Status finish(std::vector<std::string> known) const {
    if (options.empty()) return {};
    known.insert(known.end(), {"drop_last", "part", "split", "limit"});
    const std::string& name = options.begin()->first;
    return bad(fmt::format("there is no option '{}'{}", name, nearest_hint(name, known)));
  }
};

Result<Spec> parse_spec(const std::string& text) {
  Spec s;
  s.text = text;
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  const size_t colon = parts[0].find(':');
  s.kind = parts[0].substr(0, colon);
  if (colon != std::string::npos) s.path = parts[0].substr(colon + 1);
  for (size_t i = 1; i < parts.size(); ++i) {
    const size_t eq = parts[i].find('=');
    const std::string name = parts[i].substr(0, eq);
    if (name.empty()) return s.bad("there is an empty option");
    if (!s.options.emplace(name, eq == std::string::npos ? "" : parts[i].substr(eq + 1)).second)
      return s.bad(fmt::format("option '{}' is given twice", name));
  }
  // "shapes:600" and "shapes:n=600" are as good as "shapes,n=600"
  if (s.kind == "shapes" && !s.path.empty()) {
    const size_t eq = s.path.find('=');
    const std::string name = eq == std::string::npos ? "n" : s.path.substr(0, eq);
    if (!s.options.emplace(name, eq == std::string::npos ? s.path : s.path.substr(eq + 1)).second)
      return s.bad(fmt::format("option '{}' is given twice", name));
    s.path.clear();
  }
  return s;
}

// Some samples of another set.
class Subset final : public Dataset {
 public:
  Subset(std::shared_ptr<const Dataset> of, std::vector<int64_t> index)
      : of_(std::move(of)), index_(std::move(index)) {}
  const std::vector<DataField>& fields() const override { return of_->fields(); }
  int64_t size() const override { return static_cast<int64_t>(index_.size()); }
  const std::vector<std::string>& classes() const override { return of_->classes(); }
  void read(int64_t i, std::span<std::byte* const> out) const override { of_->read(index_[i], out); }

 private:
  std::shared_ptr<const Dataset> of_;
  std::vector<int64_t> index_;
};

// Whether sample i belongs to the validation part is drawn per sample, so that it doesn't depend on the order
// in a file.
std::shared_ptr<const Dataset> split_of(const std::shared_ptr<const Dataset>& set, double fraction,
                                        bool val) {
  std::vector<int64_t> index;
  for (int64_t i = 0; i < set->size(); ++i) {
    const bool in_val = philox_uniform(philox_bits({0x5917, 0, 0, 0}, static_cast<uint64_t>(i))) < fraction;
    if (in_val == val) index.push_back(i);
  }
  return std::make_shared<Subset>(set, std::move(index));
}

std::shared_ptr<const Dataset> first_of(std::shared_ptr<const Dataset> set, int64_t limit) {
  if (!set || limit >= set->size()) return set;
  std::vector<int64_t> index(limit);
  for (int64_t i = 0; i < limit; ++i) index[i] = i;
  return std::make_shared<Subset>(std::move(set), std::move(index));
}

enum Want { kWantTraining, kWantEval };

Result<DataSources> open(const std::string& text, Want want) {
  GC_TRY(Spec s, parse_spec(text));
  DataSources out;
  GC_TRY(const bool drop_last, s.flag("drop_last"));
  GC_TRY(const std::string part, s.word("part", want == kWantTraining ? "train" : "test"));
  if (part != "train" && part != "test") return s.bad("part is train or test");
  GC_TRY(const double split, s.number("split", 0, 0, 0.9));
  GC_TRY(const double limit, s.number("limit", 9e15, 1, 9e15));
  const bool train = part == "train" || split > 0, test = want == kWantTraining || part == "test";
  std::vector<std::string> known;
  if (s.kind == "idx") {
    if (s.path.empty()) return s.bad("a directory is missing: idx:DIR");
    IdxOptions o;
    GC_TRY(o.mean, s.number("mean", 0, -1e6, 1e6));
    GC_TRY(o.std, s.number("std", 1, 1e-9, 1e9));
    GC_CHECK(s.finish({"mean", "std"}));
    for (DataSource* d : {&out.train, &out.val})
      d->preprocessing = {{"image", fmt::format("(x/255 - {}) / {}", o.mean, o.std)}};
    if (train) {
      GC_TRY(out.train.set, open_idx(s.path, "train", o));
    }
    if (test && split == 0) {
      auto val = open_idx(s.path, "t10k", o);
      // Training may go without; what is there but damaged is an error all the same.
      const bool missing =
          !val.ok() && val.error().message.find("nor under its other usual names") != std::string::npos;
      if (val.ok())
        out.val.set = *val;
      else if (want == kWantEval || !missing)
        return val.error();
    }
  } else if (s.kind == "shapes") {
    if (!s.path.empty())
      return s.bad("shapes are made, not read: there is nothing after the colon but options");
    ShapesOptions o;
    GC_TRY(const double n, s.number("n", 6000, 1, 1e9));
    GC_TRY(const double size, s.number("size", 28, 8, 1024));
    GC_TRY(o.noise, s.number("noise", 0.1, 0, 1));
    GC_TRY(const double seed, s.number("seed", 0, 0, 9e15));
    GC_CHECK(s.finish({"n", "size", "noise", "seed"}));
    o.n = static_cast<int64_t>(n);
    o.size = static_cast<int64_t>(size);
    o.seed = static_cast<uint64_t>(seed);
    out.train.set = make_shapes(o);
    if (want == kWantTraining) o.n = std::max<int64_t>(1, o.n / 6);
    o.part = 1;
    out.val.set = make_shapes(o);
  } else {
    const std::vector<std::string> kinds{"idx", "shapes"};
    return s.bad(fmt::format("unknown kind '{}'{}; there are idx:DIR and shapes", s.kind,
                             nearest_hint(s.kind, kinds)));
  }
  if (split > 0) {
    out.val.set = split_of(out.train.set, split, true);
    out.train.set = split_of(out.train.set, split, false);
  }
  if (want == kWantEval && part == "train") out.val.set = out.train.set;
  out.train.set = first_of(out.train.set, static_cast<int64_t>(limit));
  out.val.set = first_of(out.val.set, static_cast<int64_t>(limit));
  out.train.drop_last = drop_last;
  for (const DataSource* d : {&out.train, &out.val})
    if (d->set && d->set->size() == 0) return s.bad("there are no samples");
  return out;
}

}  // namespace

Result<DataSources> open_training_data(const std::string& spec) { return open(spec, kWantTraining); }

Result<DataSource> open_eval_data(const std::string& spec) {
  GC_TRY(DataSources s, open(spec, kWantEval));
  return std::move(s.val);
}

}  // namespace graphc
