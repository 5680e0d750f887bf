// What the schedules of template "contraction" share: the analysed region, the choice among them, reading
// operands and writing results.
//
//   C[batch][m, n] = sum over k of A[batch][m, k] * B[batch][k, n]
//
// batch, m, n and k are each a list of axes run as one. n is the list that holds the result's innermost axis.
// A batch axis that only one operand knows counts as one of the other operand's: the images of a convolution
// go to n.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "backends/cuda/kernels/lowering.h"
#include "backends/kernels/contraction_form.h"
#include "backends/kernels/region_builder.h"

namespace graphc::cuda {

enum class ContractionSchedule : uint8_t {
  kTiles,    // tiles of A and B in shared memory, a tile of C in registers (contraction_tiles.cpp)
  kDot,      // a warp or a block adds up along k for a few elements of C (contraction_dot.cpp)
  kColumns,  // a thread per column of C and share of k, for few rows (contraction_dot.cpp)
  kDirect,   // a thread per element of C (contraction_direct.cpp)
};

// A schedule with its parameters.
struct ContractionChoice {
  ContractionSchedule schedule = ContractionSchedule::kDirect;
  int bm = 1, bn = 1, bk = 1;  // kTiles: the block's part of m, n, and k at a time
  int tm = 1, tn = 1;          // kTiles: a thread's elements of C; kDot: a group's; kColumns: a thread's rows
  int warps = 0;               // kDot: warps of a block, each for itself; 0: the block is one group
  int splits = 1;              // shares of k, added up by a kernel of their own in order
  double cycles = 0;           // estimated, of the whole card

  int threads_n() const { return bn / tn; }
  int threads() const { return (bm / tm) * (bn / tn); }  // kTiles
  std::string to_string() const;
};

// How an operand is laid out and what reading it costs.
struct ContractionOperand {
  // Elements between neighbours along the innermost axis of k, and of m or n, as a sum over all loads; a
  // large number where it isn't constant.
  int64_t stride_k = 0, stride_x = 0;
  bool lanes_k = false;  // neighbouring threads read along k, not along m or n
  int64_t cost = 0;      // simple operations per element
};

struct ContractionPlan {
  ContractionForm form;
  std::vector<const Value*> results;     // all of the region's
  std::vector<int> result_numbers;       // 0, 1, ..
  std::unordered_set<const Value*> cut;  // the core's result
  DType acc_type = DType::kF32;
  Dim batch, m, n, k;  // products of the form's lists
  ContractionOperand a, b;
  int64_t c_cost = 0;  // of the epilogue, per element

  std::vector<const Value*> operands() const;  // of the core
  std::vector<const Value*> roots() const;     // results and operands of the core
};

Result<const Node*> contraction_core(const Func& region);
Result<ContractionPlan> plan_contraction(const Func& region, const Node* core,
                                         const std::vector<int64_t>& phase);

// Every choice that is legal, least estimated time first. Depends on shapes and the target alone.
std::vector<ContractionChoice> contraction_choices(const ContractionPlan& p, const CudaTarget& target);
// Bytes of shared memory of kTiles.
int64_t tiles_shared_bytes(const ContractionPlan& p, const ContractionChoice& c);
// kTiles: whether the epilogue goes through shared memory, row by row, as its code for every element of a
// thread's tile would be too much.
bool tiles_stage_results(const ContractionPlan& p, const ContractionChoice& c);

// The number of elements guessed for a size: symbols are taken to be 64.
int64_t guess_size(const Dim& d);

// One kernel being built for a plan: the choice's loops fill in batch and share, then read and write.
class ContractionKernel {
 public:
  // With choice.splits > 1 results are partial sums, written to workspace 0.
  ContractionKernel(const ContractionPlan& plan, const Func& region, const ContractionChoice& choice,
                    const std::string& name);

  RegionBuilder& b() { return b_; }
  KernelBuilder& k() { return b_.k(); }
  const ContractionPlan& plan() const { return p_; }
  const ContractionChoice& choice() const { return c_; }

  // The parallel loops over batch and shares of k, where there are several.
  void for_batch_and_share(const std::function<void()>& body);
  // The share's part of k: k_begin .. below both k_end and k_limit. A share is a multiple of `multiple`.
  void set_share(const Dim& multiple) { share_ = multiple * ceildiv(ceildiv(p_.k, multiple), c_.splits); }
  Dim k_begin() const { return split() ? split_ * share_ : Dim(0); }
  Dim k_share() const { return split() ? share_ : p_.k; }
  bool split() const { return c_.splits > 1; }

  // Elements as accumulated, 0 outside of k, m and n.
  Expr read_a(const Dim& m, const Dim& k);
  Expr read_b(const Dim& k, const Dim& n);
  // Stores the results at (m, n), if that is inside.
  void write(const Dim& m, const Dim& n, const Expr& value);

  // An index under a name. Its range, first and last, is worked out if it isn't given.
  Dim named(std::string_view name, const Dim& d, std::optional<std::pair<Dim, Dim>> range = {});
  // begin + d with 0 <= d < size
  Dim named_part(std::string_view name, const Dim& begin, const Dim& d, int64_t size) {
    return named(name, begin + d, std::pair(begin, begin + (size - 1)));
  }

 private:
  Expr read(const Value* v, const ContractionPoint& at, std::vector<Dim> guards);

  const ContractionPlan& p_;
  const Func& region_;
  const ContractionChoice& c_;
  RegionBuilder b_;
  Dim batch_, split_, share_;
};

// Elements of the workspace of partial sums.
inline Dim partial_elements(const ContractionPlan& p, const ContractionChoice& c) {
  return p.batch * p.m * p.n * c.splits;
}

// Stores all results of the region for the core's element `value` at the result's coordinates `at`.
void write_results(RegionBuilder& b, const Func& region, const ContractionPlan& p, const Coords& at,
                   const Expr& value, const std::vector<Dim>& guards = {});

// The kernels.
Result<KernelStep> contraction_tiles(const ContractionPlan& p, const Func& region, const ContractionChoice& c,
                                     const std::string& name);
Result<KernelStep> contraction_dot(const ContractionPlan& p, const Func& region, const ContractionChoice& c,
                                   const std::string& name);
Result<KernelStep> contraction_columns(const ContractionPlan& p, const Func& region,
                                       const ContractionChoice& c, const std::string& name);
Result<KernelStep> contraction_direct(const ContractionPlan& p, const Func& region, const CudaTarget& target,
                                      const std::string& name);
// Adds up partial sums and writes the results; without splits every element is 0 (nothing to add up).
Result<KernelStep> contraction_combine(const ContractionPlan& p, const Func& region, const CudaTarget& target,
                                       int splits, const std::string& name);

// lower_contraction with a say in the choice: `pick` gets the choices of every phase.
using PickContraction = std::function<ContractionChoice(const std::vector<ContractionChoice>&)>;
Result<LoweredRegion> lower_contraction_by(const Func& region, const LowerOptions& options,
                                           const PickContraction& pick);

}  // namespace graphc::cuda
