// The compiled program: what a `.gcx` artefact holds and what Model runs. Plain data; the compiler's driver
// fills one, save writes it, load maps a file and checks all of it.
//
//   Program p;
//   p.symbols = {{"N", 1, 1 << 20}};
//   p.execs.push_back({"cpu", p.own(blob)});
//   ...
//   GC_CHECK(save_program(p, "net.gcx"));
//   GC_TRY(Program q, load_program("net.gcx"));
//
// Memory model. A function works on buffers. Buffers are numbered; a buffer is an input, an output, a
// variable, a piece of the arena, or an alias that lies inside another buffer. Steps see tensors as views
// (buffer, byte offset, shape, strides). An arena buffer lives from its first to its last step (both
// included); two of them may share bytes only if their intervals are disjoint. Offsets in the arena are fixed
// by the compiler or solved when sizes are bound. Outputs are written by steps or by the copies at the end.
//
// Conventions. Functions are named "infer", "train", "eval". The train function updates variables in place
// (parameters, optimizer slots, "opt.step", "rng.step": i64[], "rng.seed": u64[]) and has the outputs
// "loss.sum", "loss.count" and for each metric "<m>.sum", "<m>.count" (scalars f32, f64 or i64). A variable
// named "rng.seed" is set from the user's seed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/dtype.h"
#include "runtime/base/file.h"
#include "runtime/base/init.h"
#include "runtime/base/limits.h"
#include "runtime/base/result.h"
#include "runtime/size_expr.h"

namespace graphc {

struct Symbol {
  std::string name;
  int64_t min = 1, max = 0x7fffffff;  // inclusive
};

enum class VariableRole : uint8_t {
  kParam,  // trained; saved
  kState,  // running statistics, optimizer slots, counters; saved
  kConst,  // never changes; not saved
};

struct ProgramVariable {
  std::string name;  // path: "conv1.weight"
  VariableRole kind = VariableRole::kParam;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  // The initial value: `data` (row-major bytes) if its size isn't 0 or the variable has none, else a tensor
  // of an external safetensors file, else the initialiser.
  std::optional<InitSpec> init;
  Bytes data;
  std::string external_file;  // relative to the artefact's directory
  std::string external_tensor;
};

struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<SizeExpr> shape;
};

struct ProgramBuffer {
  enum Kind : uint8_t { kInput, kOutput, kVariable, kArena, kAlias };
  Kind kind = kArena;
  uint32_t index =
      0;  // of the input, output, variable, or (kAlias) of the buffer it lies in, which is no alias itself
  SizeExpr bytes;
  SizeExpr alias_offset;                   // kAlias: bytes from the start of buffer `index`
  uint32_t first_step = 0, last_step = 0;  // kArena: when it is alive; covers the uses of its aliases as well
  int64_t offset = -1;  // kArena: bytes from the start of the arena, a multiple of 64; -1: solved at run time
};

struct TensorView {
  uint32_t buffer = 0;
  SizeExpr offset;  // bytes
  DType dtype = DType::kF32;
  std::vector<SizeExpr> shape;
  std::vector<SizeExpr> strides;  // elements; empty: dense, row-major
};

struct Exec {
  std::string backend;  // "cpu"
  Bytes blob;           // what exec_save wrote
  std::string label;    // for profiles and messages: "conv2d+relu conv1 (cnn.graph:3:22)"
};

struct Step {
  uint32_t exec = 0;
  std::vector<TensorView> inputs, outputs;
  int64_t workspace = -1;         // a buffer, or none
  std::vector<SizeExpr> symbols;  // values of the executable's own symbols, in its graph's order
  std::string label;              // where in the source; empty: the exec's
};

struct EndCopy {  // after the last step, in order; for state that could not be written in place, and for
                  // outputs
  uint32_t src = 0, dst = 0;  // buffers
  SizeExpr bytes;
};

struct Function {
  std::string name;
  std::vector<TensorSpec> inputs, outputs;
  std::vector<ProgramBuffer> buffers;
  std::vector<Step> steps;
  std::vector<EndCopy> copies;
  // What one run costs at least, for reports: arithmetic, and bytes read and written by all steps.
  SizeExpr flops, bytes;
};

struct ProgramMeta {
  std::string graphc_version;
  std::string target;                             // "cpu"
  std::vector<std::string> cpu_features;          // what the native code needs
  std::string flags;                              // those that chose the code
  std::string core_hash;                          // of the core text, without locations
  std::map<std::string, std::string> provenance;  // free: model name, class names, preprocessing, amp, ..
};

struct Program {
  ProgramMeta meta;
  std::vector<Symbol> symbols;
  std::vector<ProgramVariable> variables;
  std::vector<Exec> execs;
  std::vector<Function> functions;
  std::string directory;  // of the file it was loaded from, for external references; not saved

  const Function* function(std::string_view name) const;
  int64_t variable(std::string_view name) const;  // index, or -1

  // Keeps bytes alive with this program and all its copies; for blobs and constants.
  Bytes own(std::string bytes);
  std::vector<std::shared_ptr<const void>> keep_alive;
};

// Everything a loader or an executor relies on: names unique, indices in range, kinds and dtypes known,
// aliases one deep, arena buffers used inside their intervals and written before they are read, every output
// written, sizes of constants, initialisers. Bounds that depend on symbols are checked when those are bound
// (executor.h).
Status verify_program(const Program& p, const LoadLimits& limits = {});

// Equal programs give equal bytes. The file ends in the SHA-256 of all before it.
Result<std::string> serialise_program(const Program& p);
Status save_program(const Program& p, const std::string& path);

// Maps the file; blobs and constants stay in the mapping. Any changed bit is an error.
Result<Program> load_program(const std::string& path, const LoadLimits& limits = {});
// The bytes must outlive the program; `name` appears in messages.
Result<Program> parse_program(Bytes bytes, const std::string& name, const LoadLimits& limits = {});

}  // namespace graphc
