// Hugging Face's safetensors: u64 header size, JSON header, one data area. The reader maps the file and
// checks everything before it returns: names unique, dtype x shape = size, ranges inside the file, disjoint
// and without holes.
//
//   GC_TRY(SafetensorsFile f, SafetensorsFile::open("w.safetensors"));
//   const SafetensorsTensor* w = f.find("conv1.weight");            // nullptr if it has none
//
// Files written here carry the SHA-256 of the whole file (with these 64 digits as zeros) in the metadata as
// "graphc.sha256", so that any changed bit is noticed; foreign files don't, and are checked for structure
// only. A loader of our own checkpoints passes kHashed, so that a damaged key name isn't taken for a foreign
// file.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/dtype.h"
#include "runtime/base/file.h"
#include "runtime/base/limits.h"
#include "runtime/base/result.h"

namespace graphc {

struct SafetensorsTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  Bytes data;  // row-major, little-endian; not necessarily aligned
};
using SafetensorsMetadata = std::map<std::string, std::string>;

class SafetensorsFile {
 public:
  enum Origin { kAny, kHashed };

  static Result<SafetensorsFile> open(const std::string& path, Origin origin = kAny,
                                      const LoadLimits& limits = {});
  static Result<SafetensorsFile> from_mapping(MappedFile file, const std::string& name, Origin origin = kAny,
                                              const LoadLimits& limits = {});
  // The bytes must outlive the object; `name` appears in error messages.
  static Result<SafetensorsFile> parse(Bytes bytes, const std::string& name, Origin origin = kAny,
                                       const LoadLimits& limits = {});

  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }  // sorted by name
  const SafetensorsTensor* find(std::string_view name) const;
  const SafetensorsMetadata& metadata() const { return metadata_; }  // without graphc.sha256

 private:
  MappedFile file_;
  std::vector<SafetensorsTensor> tensors_;
  SafetensorsMetadata metadata_;
};

// Deterministic bytes for equal arguments, whatever the order of `tensors`. Written atomically. Names must be
// unique.
Status write_safetensors(const std::string& path, std::vector<SafetensorsTensor> tensors,
                         const SafetensorsMetadata& metadata = {});

}  // namespace graphc
