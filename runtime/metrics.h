// Metrics as sum and count, so that an epoch's value is exact whatever the batches were; classification
// reports.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace graphc {

class Context;

struct MetricSum {
  std::string name;  // "loss", "acc"
  double sum = 0, count = 0;
  double value() const { return count != 0 ? sum / count : 0; }
};

// The outputs of a train or eval function that come in pairs "<m>.sum", "<m>.count", in order.
class MetricReader {
 public:
  // The context outlives the reader. A .sum without its .count, or one that isn't a scalar number, is an
  // error.
  static Result<MetricReader> create(const Context& context);
  std::vector<MetricSum> zeros() const;
  // Adds the outputs of the last run(). False if the loss of this run is NaN or infinite (nothing is added
  // then).
  bool add(std::vector<MetricSum>* totals) const;

 private:
  struct Pair {
    std::string name;
    size_t sum, count;
  };
  const Context* context_ = nullptr;
  std::vector<Pair> pairs_;
};

// "loss=0.0512 acc=0.9843", names prefixed
std::string format_metrics(std::span<const MetricSum> metrics, const std::string& prefix = "");

// Counts of (true class, predicted class).
class ConfusionMatrix {
 public:
  explicit ConfusionMatrix(int64_t classes) : n_(classes), counts_(static_cast<size_t>(classes * classes)) {}
  int64_t classes() const { return n_; }
  void add(int64_t truth, int64_t predicted) { ++counts_[truth * n_ + predicted]; }
  int64_t at(int64_t truth, int64_t predicted) const { return counts_[truth * n_ + predicted]; }
  int64_t total() const;

  struct Scores {
    double precision = 0, recall = 0, f1 = 0;  // 0 where undefined
    int64_t support = 0;
  };
  Scores scores(int64_t cls) const;
  Scores macro_average() const;     // over classes that occur or are predicted
  Scores weighted_average() const;  // weighted by support
  double accuracy() const;

  // Texts end in a newline. Names may be empty: then numbers.
  std::string report(std::span<const std::string> names) const;
  std::string table(
      std::span<const std::string> names) const;  // above 20 classes: the most frequent confusions

 private:
  int64_t n_;
  std::vector<int64_t> counts_;
};

}  // namespace graphc
