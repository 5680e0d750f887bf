// RegionBuilder: a KernelBuilder that knows a region. Templates ask it for the element of any value of the
// region at symbolic coordinates (the reader) and hand it the values of the core to have all results stored
// (the writer). It walks elementwise ops, and index maps by rewriting coordinates, down to loads.
//
//   RegionBuilder b(region, "softmax", roots);
//   b.loop(parallel(), "r", 0, rows, [&](Dim r) {
//     Expr m = b.k().reduce(..., [&](Dim c) { return b.element(x, {r, c}); });
//     b.bind(max_value, [&](const Coords&) { return m; });
//     b.loop(vector(16), "c", 0, cols, [&](Dim c) { b.store_results({{y, {r, c}}}); });
//   });
//
// Buffers of arguments are declared one-dimensional, so that an address is one polynomial in which the
// divisions of collapsed axes cancel.
#pragma once

#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "backends/kernels/access.h"
#include "backends/kernels/lowered_region.h"
#include "ir/op.h"

namespace graphc {

class RegionBuilder {
 public:
  // Declares as arguments, in this order: the operands that `roots` are computed from (stopping at `cut`
  // values, which the template binds), the results listed, the workspaces listed.
  struct Workspace {
    int index;  // of LoweredRegion::workspace_bytes
    DType type;
    Dim elements;
    bool written;
  };
  RegionBuilder(const Func& region, std::string kernel_name, const std::vector<const Value*>& roots,
                const std::unordered_set<const Value*>& cut, const std::vector<int>& results,
                const std::vector<Workspace>& workspaces = {});

  KernelBuilder& k() { return k_; }
  DimRanges& ranges() { return ranges_; }
  Dim simplify(const Dim& d) const { return ranges_.simplify(d); }
  const Buffer& workspace(int position) const { return workspaces_[position]; }
  const Buffer& result_buffer(int result) const { return results_.at(result); }

  // The element of v at `at` (one coordinate per axis). Where a guard is negative it is `otherwise`, or, if
  // that isn't given, anything, but nothing out of bounds is read.
  Expr element(const Value* v, const Coords& at, const std::vector<Dim>& guards = {},
               const std::optional<double>& otherwise = {});
  // From now on, and until the end of the current loop body, elements of v are f(coordinates).
  void bind(const Value* v, std::function<Expr(const Coords&)> f);
  // From now on, f is asked before an element of an operand is loaded: it gives what the template has kept of
  // it (in registers, in shared memory), or an empty Expr to have it loaded. Where a guard is negative its
  // value doesn't matter.
  using Kept = std::function<Expr(const Value* operand, const Dim& address, const std::vector<Dim>& guards)>;
  void keep(Kept f) { kept_ = std::move(f); }
  const Buffer& operand_buffer(const Value* v) const { return operands_.at(v); }
  // Whether a kernel's result may be written over one of its operands.
  bool may_share(int result) const;
  // Evaluates every listed result element, then stores them all.
  void store_results(const std::vector<std::pair<int, Coords>>& results, const std::vector<Dim>& guards = {});
  // One element of a result that the template has evaluated itself.
  void store_value(int result, const Coords& at, const Expr& value, const std::vector<Dim>& guards = {});

  // k().loop with the variable's range known to simplify() and values memorised for the body only.
  void loop(LoopSpec spec, std::string_view var, Dim lo, Dim hi, const std::function<void(Dim)>& body,
            std::optional<Dim> limit = {}, int64_t step = 1);
  std::vector<Expr> reduce(std::string_view name, std::vector<ReduceOp> ops, LoopSpec spec,
                           std::string_view var, Dim lo, Dim hi,
                           const std::function<std::vector<Expr>(Dim)>& body, std::optional<Dim> limit = {});
  // A body of statements (of an if) with its own memory of values.
  void scoped(const std::function<void()>& body);

  // The finished step; an error if an element was asked for that can't be read.
  Result<KernelStep> finish(Dim grain = 1);
  const Status& status() const { return status_; }
  void fail(std::string reason);

 private:
  struct Memo {
    const Value* v;
    Coords at;
    std::vector<Dim> guards;
    std::optional<double> otherwise;
    Expr e;
  };
  struct Scope {
    std::vector<Memo> memo;
    std::vector<std::pair<const Value*, std::function<Expr(const Coords&)>>> bound;
  };
  Expr read(const Value* v, const Coords& at, const std::vector<Dim>& guards,
            const std::optional<double>& otherwise);
  Expr condition(const std::vector<Dim>& guards);
  std::vector<Dim> with_guards(const std::vector<Dim>& a, std::vector<Dim> more) const;
  Expr named(const Expr& e);

  const Func& region_;
  KernelBuilder k_;
  DimRanges ranges_;
  std::vector<Scope> scopes_;
  std::unordered_map<const Value*, Buffer> operands_;
  std::unordered_map<int, Buffer> results_;
  std::vector<Buffer> workspaces_;
  std::vector<KernelArg> args_;
  std::vector<std::pair<int, int>> may_share_;  // buffers of an operand and a result
  std::unordered_map<const Value*, int> uses_;
  Kept kept_;
  Status status_;
};

// The accumulation type of a reduction or contraction over elements of type t.
DType accumulator_type(DType t);

}  // namespace graphc
