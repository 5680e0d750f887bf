// Checkpoints: a safetensors file with all parameters and state (optimizer slots, counters, random seed and
// step) and, as metadata, where in the run and in the data order it was taken. Written atomically; any
// changed bit is noticed. A run continued from one computes the same bits as one that was never stopped.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/executor.h"
#include "runtime/metrics.h"

namespace graphc {

struct TrainPosition {
  int64_t epoch = 0;            // the one under way, from 0
  int64_t batch = 0;            // its next batch
  int64_t step = 0;             // steps done in all
  std::vector<MetricSum> sums;  // of the epoch under way
  double best = 0;              // smallest validation (or training) loss of an epoch so far
  bool has_best = false;
};

struct CheckpointInfo {
  TrainPosition position;
  uint64_t seed = 0;
  int64_t batch_size = 0;
  std::string data;                               // spec
  std::string core_hash;                          // of the program
  std::map<std::string, std::string> provenance;  // of the program and the data: shown, not interpreted
};

Status save_checkpoint(const std::string& path, const Variables& variables, const CheckpointInfo& info);
// Sets the variables and returns what was saved. A checkpoint of another program is an error.
Result<CheckpointInfo> load_checkpoint(const std::string& path, Variables* variables,
                                       const std::string& core_hash);

}  // namespace graphc
