#include "runtime/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/executor.h"

namespace graphc {
namespace {

std::string name_of(std::span<const std::string> names, int64_t c) {
  return static_cast<size_t>(c) < names.size() ? names[c] : std::to_string(c);
}

}  // namespace

Result<MetricReader> MetricReader::create(const Context& context) {
  MetricReader r;
  r.context_ = &context;
  const auto& outputs = context.function().outputs;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::string& name = outputs[i].name;
    if (name.size() <= 4 || !name.ends_with(".sum")) continue;
    const std::string metric = name.substr(0, name.size() - 4);
    const int64_t count = context.output_index(metric + ".count");
    if (count < 0 || !outputs[i].shape.empty() || !outputs[count].shape.empty())
      return internal_error(
          fmt::format("function '{}': metric '{}' isn't a pair of scalars '{}.sum', '{}.count'",
                      context.function().name, metric, metric, metric));
    r.pairs_.push_back({metric, i, static_cast<size_t>(count)});
  }
  return r;
}

std::vector<MetricSum> MetricReader::zeros() const {
  std::vector<MetricSum> out;
  for (const Pair& p : pairs_) out.push_back({p.name, 0, 0});
  return out;
}

bool MetricReader::add(std::vector<MetricSum>* totals) const {
  const auto scalar = [&](size_t i) {
    const TensorRef t = context_->output(i);
    return load_as_double(t.dtype, t.data, 0);
  };
  for (const Pair& p : pairs_)
    if (p.name == "loss" && !std::isfinite(scalar(p.sum))) return false;
  for (size_t i = 0; i < pairs_.size(); ++i) {
    (*totals)[i].sum += scalar(pairs_[i].sum);
    (*totals)[i].count += scalar(pairs_[i].count);
  }
  return true;
}

std::string format_metrics(std::span<const MetricSum> metrics, const std::string& prefix) {
  std::string out;
  for (const MetricSum& m : metrics)
    out += fmt::format("{}{}{}={:.4f}", out.empty() ? "" : " ", prefix, m.name, m.value());
  return out;
}

int64_t ConfusionMatrix::total() const {
  int64_t n = 0;
  for (const int64_t c : counts_) n += c;
  return n;
}

ConfusionMatrix::Scores ConfusionMatrix::scores(int64_t cls) const {
  int64_t truth = 0, predicted = 0;
  for (int64_t k = 0; k < n_; ++k) truth += at(cls, k), predicted += at(k, cls);
  const auto hit = static_cast<double>(at(cls, cls));
  Scores s;
  s.support = truth;
  s.precision = predicted ? hit / static_cast<double>(predicted) : 0;
  s.recall = truth ? hit / static_cast<double>(truth) : 0;
  s.f1 = truth + predicted ? 2 * hit / static_cast<double>(truth + predicted) : 0;
  return s;
}

ConfusionMatrix::Scores ConfusionMatrix::macro_average() const {
  Scores m;
  int64_t used = 0;
  for (int64_t c = 0; c < n_; ++c) {
    int64_t seen = 0;
    for (int64_t k = 0; k < n_; ++k) seen += at(c, k) + at(k, c);
    if (!seen) continue;
    const Scores s = scores(c);
    m.precision += s.precision, m.recall += s.recall, m.f1 += s.f1, m.support += s.support;
    ++used;
  }
  const double n = used ? static_cast<double>(used) : 1.0;
  m.precision /= n, m.recall /= n, m.f1 /= n;
  return m;
}

ConfusionMatrix::Scores ConfusionMatrix::weighted_average() const {
  Scores m;
  m.support = total();
  for (int64_t c = 0; c < n_; ++c) {
    const Scores s = scores(c);
    const double w = m.support ? static_cast<double>(s.support) / static_cast<double>(m.support) : 0;
    m.precision += w * s.precision, m.recall += w * s.recall, m.f1 += w * s.f1;
  }
  return m;
}

double ConfusionMatrix::accuracy() const {
  int64_t hits = 0;
  for (int64_t c = 0; c < n_; ++c) hits += at(c, c);
  const int64_t n = total();
  return n ? static_cast<double>(hits) / static_cast<double>(n) : 0;
}

std::string ConfusionMatrix::report(std::span<const std::string> names) const {
  size_t width = 12;  // "weighted avg"
  for (int64_t c = 0; c < n_; ++c) width = std::max(width, name_of(names, c).size());
  const auto row = [&](const std::string& name, const Scores& s) {
    return fmt::format("{:>{}}  {:>9.4f} {:>9.4f} {:>9.4f} {:>9}\n", name, width, s.precision, s.recall, s.f1,
                       s.support);
  };
  std::string out =
      fmt::format("{:>{}}  {:>9} {:>9} {:>9} {:>9}\n", "", width, "precision", "recall", "f1", "support");
  for (int64_t c = 0; c < n_; ++c) out += row(name_of(names, c), scores(c));
  out +=
      fmt::format("\n{:>{}}  {:>9} {:>9} {:>9.4f} {:>9}\n", "accuracy", width, "", "", accuracy(), total());
  out += row("macro avg", macro_average());
  out += row("weighted avg", weighted_average());
  return out;
}

std::string ConfusionMatrix::table(std::span<const std::string> names) const {
  std::string out;
  if (n_ > 20) {
    std::vector<std::pair<int64_t, int64_t>> wrong;
    for (int64_t t = 0; t < n_; ++t)
      for (int64_t p = 0; p < n_; ++p)
        if (t != p && at(t, p)) wrong.emplace_back(t, p);
    std::stable_sort(wrong.begin(), wrong.end(), [&](const auto& a, const auto& b) {
      return at(a.first, a.second) > at(b.first, b.second);
    });
    if (wrong.size() > 20) wrong.resize(20);
    out = wrong.empty() ? "no confusions\n" : "most frequent confusions (true -> predicted)\n";
    for (const auto& [t, p] : wrong)
      out += fmt::format("{:>9}  {} -> {}\n", at(t, p), name_of(names, t), name_of(names, p));
    return out;
  }
  size_t width = 4, column = 5;
  for (int64_t c = 0; c < n_; ++c) {
    width = std::max(width, name_of(names, c).size());
    column = std::max(column, std::min<size_t>(name_of(names, c).size(), 9));
  }
  for (const int64_t c : counts_) column = std::max(column, std::to_string(c).size());
  out = fmt::format("{:>{}} \\ predicted\n{:>{}}", "true", width, "", width);
  for (int64_t p = 0; p < n_; ++p)
    out += fmt::format("  {:>{}}", name_of(names, p).substr(0, column), column);
  out += '\n';
  for (int64_t t = 0; t < n_; ++t) {
    out += fmt::format("{:>{}}", name_of(names, t), width);
    for (int64_t p = 0; p < n_; ++p) out += fmt::format("  {:>{}}", at(t, p), column);
    out += '\n';
  }
  return out;
}

}  // namespace graphc
