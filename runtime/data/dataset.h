// Data sets: random access to samples of named fields. What `--data SPEC` opens.
//
//   GC_TRY(DataSource data, open_data("idx:mnist,mean=0.1307,std=0.3081", DataPart::kTrain));
//   data.set->fields();   // image: f32[1, 28, 28], label: i32
//
// Specs: KIND[:PATH][,OPTION...], an option is name=value or a flag.
//   idx:DIR        MNIST's format, also gzipped: train-images-*, train-labels-* (training), t10k-*
//   (validation, eval).
//                  Pixels are scaled to 0..1, then (x - mean) / std.   mean=0  std=1
//   shapes         generated pictures of circles, squares, triangles, crosses, rings, bars; equal on every
//   machine.
//   shapes:N       the same with n=N
//                  n=6000  size=28  noise=0.1  seed=0   (training validates on n/6 other
//   pictures, eval reads n of them)
// For all: drop_last (leave out an epoch's smaller last batch), part=train|test (what eval reads; default
// test), split=F (without a validation part of its own: keep the fraction F of the training samples for it),
// limit=N.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/dtype.h"
#include "runtime/base/file.h"
#include "runtime/base/limits.h"
#include "runtime/base/result.h"
#include "runtime/base/tensor_data.h"

namespace graphc {

struct DataField {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // of one sample
  size_t bytes() const {
    size_t n = dtype_size(dtype);
    for (const int64_t d : shape) n *= static_cast<size_t>(d);
    return n;
  }
};

// Immutable and thread-safe.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual const std::vector<DataField>& fields() const = 0;
  virtual int64_t size() const = 0;
  // Writes sample i, 0 <= i < size(): field k to out[k].
  virtual void read(int64_t i, std::span<std::byte* const> out) const = 0;
  virtual const std::vector<std::string>& classes() const = 0;  // names of labels, may be empty
};

enum class DataPart { kTrain, kTest };

struct DataSource {
  std::shared_ptr<const Dataset> set;
  bool drop_last = false;
  std::map<std::string, std::string> preprocessing;  // "scale" -> "1/255", for checkpoints and artefacts
};
struct DataSources {
  DataSource train;
  DataSource val;  // val.set is null if the spec has none
};

// What training uses: the training part and, where the spec has one, the validation part.
Result<DataSources> open_training_data(const std::string& spec);
// What eval reads: the test part unless the spec says part=train.
Result<DataSource> open_eval_data(const std::string& spec);

// Readers behind the specs.
struct IdxOptions {
  double mean = 0, std = 1;
};
// prefix "train" or "t10k"
Result<std::shared_ptr<const Dataset>> open_idx(const std::string& directory, const std::string& prefix,
                                                const IdxOptions& options);
// One idx file (http://yann.lecun.com/exdb/mnist), gzipped or not; big-endian payload is converted.
Result<TensorData> parse_idx(Bytes bytes, const std::string& name, const LoadLimits& limits = {});

struct ShapesOptions {
  int64_t n = 6000, size = 28;
  double noise = 0.1;
  uint64_t seed = 0;
  uint32_t part = 0;  // different parts have different pictures
};
std::shared_ptr<const Dataset> make_shapes(const ShapesOptions& options);

}  // namespace graphc
