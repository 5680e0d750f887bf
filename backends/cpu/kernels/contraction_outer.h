// The outer form of the contraction template (contraction.cpp) while a kernel of it is being built.
#pragma once

#include <functional>

#include "backends/cpu/kernels/contraction_plan.h"
#include "backends/cpu/kernels/lowering.h"

namespace graphc {

// A kernel does all of it, or one kernel packs B into workspace and the next one multiplies.
enum class OuterPart : uint8_t { kWhole, kPack, kMultiply };

//   OuterForm whole(plan, region, options);
//   GC_TRY(KernelStep step, whole.kernel());   // once per object
class OuterForm {
 public:
  OuterForm(const ContractionPlan& plan, const Func& region, const LowerOptions& options,
            OuterPart part = OuterPart::kWhole, int64_t packed_elements = 0);
  // Elements of all of B packed if that is worth a kernel of its own: several blocks of rows need it, and it
  // stays in the caches. Else 0.
  int64_t packed_elements() const;
  Result<KernelStep> kernel();

 private:
  static std::vector<const Value*> roots(const ContractionPlan& plan, OuterPart part);
  static std::vector<RegionBuilder::Workspace> workspace(const ContractionPlan& plan, OuterPart part,
                                                         int64_t elements);
  // Blocks along every axis that a panel of B stands for, outermost first: batch, n, k.
  Shape block_counts() const;
  // Where the current panel starts in the packed B.
  Dim panel() const;
  // Tile and block sizes, by shape.
  void choose();
  void nest_batch(size_t g);
  void nest_n(size_t g);
  void item();
  void nest_k(size_t g);
  void k_block();
  Dim first_tail() const { return p_.n_total - tail_; }
  // Elements of k in the current block.
  Dim k_left() const { return (p_.k.group_sizes[k_box_.part] - k0_) * k_box_.suffix; }
  // Zeros where tiles reach past the last column: what is left in scratch could be slow to multiply.
  void zero_columns();
  // The same of the last rows of A, if their number isn't known.
  void zero_rows();
  // The tail's columns once more, each dense along k, behind the panel.
  void pack_tail();
  void tail_columns();
  void tail_tile(int rows, Dim m_local);
  // All of k's block as one run.
  std::vector<KRun> tail_runs() const { return k_runs(p_, k_box_, nullptr, nullptr); }
  // All row tiles for the columns n_local .. n_local + nv * lanes.
  void rows_of(int nv, Dim n_local);
  void tile(int mr, int nv, Dim m_local, Dim n_local);
  // The next block of k of these rows of A, which are far apart in memory and read for a short while each.
  void prefetch_a(int mr, const Dim& m_local);
  void prefetch(Expr e);
  Expr a_element(const Dim& m_local, const Dim& dense, const Coords& kc);
  Expr read_a(const Dim& m, const Coords& kc);
  std::vector<Dim> guards_of(const ContractionPoint& at);
  // B in place: columns past the end read as 0.
  Expr b_element(const Coords& kc, const Dim& n_local);
  Coords batch_coords() { return p_.batch.coords(batch_, b_.ranges()); }
  // B lies densely along k: blocks of as many columns as a vector has lanes are read along k, transposed in
  // registers and stored along n.
  void pack_b_by_k();
  void pack_b();
  // A loop over the part of axis g that lies in the current block.
  void local_loop(const AxisGroups& axes, const Box& box, size_t g, const Dim& start, LoopSpec spec,
                  std::string_view name, const std::function<void(Dim, Dim)>& body);
  void pack_a();
  // Hands the finished elements (m0 + m_local + i, n block + n_local + j), which lie at c_[i * pitch + j], to
  // the writer, by the result's innermost axis.
  void epilogue(Dim m_local, Dim n_local, int64_t rows, int64_t columns, int64_t pitch);

  const ContractionPlan& p_;
  const ContractionForm& f_;
  const Func& region_;
  OuterPart part_;
  RegionBuilder b_;
  int lanes_;
  std::optional<int64_t> m_const_;
  bool direct_a_ = false, direct_b_ = false, a_by_m_ = false, b_by_k_ = false, one_block_ = false;
  bool equal_ = false;  // all blocks of m have mb_ rows
  int mr_ = 1, nv_ = 1;
  int tail_ = 0;  // columns that go by vectors along k
  int64_t tail_pitch_ = 0, panel_elements_ = 0;
  int64_t nr_ = 1, nc_ = 1, mb_ = 1, kc_ = 1, pitch_ = 1, a_pitch_ = 1;
  Box n_box_, k_box_;
  std::vector<KRun> runs_, a_runs_;
  // the current item
  Coords batch_, n_outer_, k_outer_;
  Dim n0_, n_count_, m0_, m_block_, k0_, n_block_, k_block_, panel_;
  Buffer bp_, ap_, c_;
};

}  // namespace graphc
