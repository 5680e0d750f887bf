// The verifier's state and the steps of its walk, for its own files: verify.cpp (names, statements, loops),
// verify_expr.cpp (values), verify_access.cpp (indices, bounds, races), verify_threads.cpp (the GPU
// schedule).
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ir/loops/verify.h"

namespace graphc {

// A name that Dims may use, and what its value is.
enum class SymbolKind { kParam, kLoop, kUnroll, kParallel, kVector, kThread, kWarp, kData };

class Verifier {
 public:
  Verifier(const Kernel& k, VerifyReport* report) : k_(k), report_(report) {}
  Status run();

 private:
  Status error(std::string what) const;  // with the current statement
  Status add_name(const std::string& n);
  void leave(size_t mark);  // forgets the names of a scope

  // verify.cpp
  Status signature();
  Status loop_head(const Stmt& s);
  Status enter(const Stmt& s);
  bool enter_extent(const Stmt& s);
  Status block(const StmtList& list);
  Status statement(const Stmt& s);
  Status for_loop(const Stmt& s);
  Status reduce(const Stmt& s);
  Status declare(const Stmt& s);
  Status dot(const Stmt& s);
  Status define(const std::string& name, DType t, bool lanes, const Expr* value);

  // verify_threads.cpp
  void plan_threads();     // of the whole kernel: T, G, which buffers are distributed
  Status shared_memory();  // its size
  Status thread_head(const Stmt& s);
  Status thread_declare(const Stmt& s);
  Status thread_statement(const Stmt& s);  // barriers, and what only the CPU has
  Status distributed_index(int id, const Dim& first);

  // verify_access.cpp
  Status dim(const Dim& d);
  Status dims(const std::vector<Dim>& ds);
  bool lane_varying(const Dim& d) const;
  bool only(const Dim& d, std::initializer_list<SymbolKind> kinds) const;
  bool nonnegative(const Dim& d, const std::vector<Dim>& guards) const;
  Status access(int id, const std::vector<Dim>& index, const std::vector<Dim>& guards, bool write,
                size_t missing = 0);
  Status register_index(int id, const std::vector<Dim>& index);
  Status race(int id, const std::vector<Dim>& index, const std::vector<Dim>& guards);

  // verify_expr.cpp; *lanes becomes true if the value differs between lanes
  Status expr(const Expr& e, bool* lanes);
  static constexpr int kMaxDepth = 2000;  // of expressions
  Status node(const Expr& e, std::unordered_map<const ScalarNode*, bool>& seen, bool* lanes, int depth);
  Status bad_node(const Expr& e);
  Status own(const ScalarNode& n, bool* mine);
  Status types(const ScalarNode& n);

  // Where the surrounding loop of that kind is noted; serial and unroll loops aren't.
  const Stmt*& loop_around(LoopKind kind) {
    return kind == LoopKind::kVector   ? vector_
           : kind == LoopKind::kThread ? thread_
           : kind == LoopKind::kWarp   ? warp_
                                       : other_;
  }
  // How far apart iterations may differ where something stands.
  enum Level { kBlock, kGroup, kOneThread };
  Level level() const { return thread_ ? kOneThread : warp_ ? kGroup : kBlock; }

  const Kernel& k_;
  VerifyReport* report_;
  const Stmt* current_ = nullptr;
  std::set<std::string> names_;
  std::vector<std::string> scope_;
  std::map<std::string, SymbolKind, std::less<>> symbols_;
  std::map<std::string, DType> values_;
  std::map<std::string, Level> level_;  // of the values that Dims use
  std::set<std::string> lane_values_;
  std::set<int> live_, declared_ever_, private_;
  DimRanges ranges_;
  std::map<std::string, std::vector<std::pair<Dim, Dim>>> alternatives_;
  std::map<std::string, std::set<std::string>> depends_;  // loop variables whose bounds use others
  std::vector<Dim> conditions_;                           // of the ifs around: each is >= 0
  std::vector<Dim> alternative_conditions_;               // of the else branches around: some of them is < 0
  std::vector<const Stmt*> parallel_;
  const Stmt* vector_ = nullptr;  // the loop around, of each kind
  const Stmt* thread_ = nullptr;
  const Stmt* warp_ = nullptr;
  const Stmt* other_ = nullptr;
  bool loop_may_be_empty_ = false;

  bool gpu_ = false;  // the kernel uses the GPU schedule
  int width_ = 0;     // T; 0 without thread loops
  int groups_ = 0;    // G; 0 without warp loops
  std::set<int> distributed_;
};

}  // namespace graphc
