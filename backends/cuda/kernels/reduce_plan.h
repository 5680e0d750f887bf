// Templates "rows" and "columns": how a region's reductions are spread over threads.
#pragma once

#include <string>
#include <vector>

#include "backends/cuda/kernels/lowering.h"
#include "backends/kernels/reduce_form.h"

namespace graphc::cuda {

enum class ReduceSchedule : uint8_t {
  kThread,   // a thread per row (or vector of columns): few elements are reduced
  kGroup,    // a group of up to 32 threads per row
  kBlock,    // a block per row
  kColumns,  // a block per lanes * width columns, its threads spread over the rows, too
};

struct ReducePlan {
  ReduceSchedule schedule = ReduceSchedule::kBlock;
  int width = 1;    // elements of one access, along the innermost group
  int threads = 1;  // of a block; kGroup: of a group
  int groups = 1;   // kGroup: of a block
  int unroll = 1;   // accesses in flight
  int lanes = 1;    // kColumns: threads side by side; threads / lanes rows at once
  // kGroup, kBlock: accesses of a thread, if rows are kept in registers; 0: every pass reads memory.
  int slots = 0;
  struct Kept {
    const Value* operand;
    Dim address;  // of the variables `names`
  };
  std::vector<Kept> keep;
  // > 0: the reduced range is cut into chunks of so many elements (kBlock: accesses), done by different
  // blocks; partial results go through workspace.
  int64_t chunk = 0;

  std::vector<std::string> names;  // of the groups' trial variables
  Shape reduced;                   // the reduced groups' sizes, the last one in accesses if by_row
  Dim length;                      // their product
};

Result<ReducePlan> plan_reduce(const ReduceForm& f, const CudaTarget& target);

// Variables of the groups from positions in the kept and in the reduced groups; the last reduced one (by_row)
// or the last kept one counts elements.
void set_vars(const ReduceForm& f, const std::vector<int>& which, const Coords& at, Coords& vars);

Expr identity_of(ReduceOp op, DType type);
Expr combine(ReduceOp op, const Expr& a, const Expr& b);

// All of it in one kernel, by plan.schedule.
Result<KernelStep> reduce_by_thread(const ReduceForm& f, const ReducePlan& p, const CudaTarget& target,
                                    const std::string& name);
Result<KernelStep> reduce_by_rows(const ReduceForm& f, const ReducePlan& p, const std::string& name);
Result<KernelStep> reduce_by_columns(const ReduceForm& f, const ReducePlan& p, const std::string& name);
// In chunks: per level a kernel for partial results and one that combines them, then what is left.
Result<LoweredRegion> reduce_by_chunks(const ReduceForm& f, const ReducePlan& p, const CudaTarget& target,
                                       const std::string& name);

// One pass over the rows of a block of columns: for each of the block's threads its sums of `jobs` over the
// rows begin .. begin + count, then all of a column's in parts[job][0, column].
class ColumnBlock {
 public:
  ColumnBlock(const ReduceForm& f, const ReducePlan& p, RegionBuilder& b, ReduceReader& reader)
      : f_(f), p_(p), b_(b), reader_(reader) {}
  // The loops over the kept groups around a block.
  void for_blocks(const std::function<void()>& block);
  int columns() const { return p_.lanes * p_.width; }
  void declare(const std::vector<ReduceJob>& jobs);
  // `before` binds what the lane's column needs.
  void reduce(const std::vector<size_t>& jobs, const Dim& begin, const std::optional<Dim>& end,
              const std::function<void()>& before);
  // Stores the full-size results.
  void full_pass(const std::function<void()>& before);
  // body for every column of the block, its variable set, by one thread each.
  void each_column(const std::function<void(Dim)>& body);
  Expr sum(size_t job) const { return parts_[job].load({0, column_}); }
  const Coords& vars() const { return vars_; }

 private:
  void lanes(const Dim& tx, const std::function<void()>& body);
  void row(const Dim& i);
  const ReduceForm& f_;
  const ReducePlan& p_;
  RegionBuilder& b_;
  ReduceReader& reader_;
  std::vector<Buffer> parts_;
  Coords vars_;
  Dim first_, column_;  // of the block; in the block
};

// parts[job][0, c] op= parts[job][i, c] for all i < rows, c < columns, by a tree; begins and ends with a
// barrier. `guards` says for which columns.
void tree(RegionBuilder& b, int threads, int rows, int columns, const std::vector<ReduceOp>& ops,
          const std::vector<Buffer>& parts, const std::function<std::vector<Dim>(Dim)>& guards);

}  // namespace graphc::cuda
