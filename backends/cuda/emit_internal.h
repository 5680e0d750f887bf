// The printer behind emit_cuda.h: expressions in emit_cuda.cpp, statements in emit_stmt.cpp,
// reductions in emit_reduce.cpp.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "backends/cuda/emit_cuda.h"
#include "backends/cuda/index_width.h"

namespace graphc::cuda {

std::string_view memory_type(DType t);  // of an element in memory: "unsigned char" for bool
std::string_view value_type(DType t);   // of a value in an expression: "bool"; f16 and bf16: "float"
std::string constant_text(DType t, double f, int64_t i);
std::string to_memory(DType t, const std::string& value);

class KernelPrinter {
 public:
  KernelPrinter(const Kernel& kernel, const DimRanges& ranges, bool wide)
      : k_(kernel), ranges_(ranges), wide_(wide) {}

  Result<std::string> print(const std::string& name, std::string_view comment);

 private:
  // A vector loop that runs lane by lane within each statement: values that differ between lanes are arrays.
  struct Vector {
    std::string var, start;  // var = start + lane; start is a variable of the text
    int width;
    Dim lo;
    std::set<std::string> lane_values;
  };

  static std::string ident(std::string_view name);
  void line(std::string_view text);
  void fail(std::string what);
  std::string_view index_type() const { return wide_ ? "i64" : "int"; }

  // index expressions
  Dim flat_index(int buffer, const std::vector<Dim>& index) const;
  std::string symbol(const std::string& name) const;  // in index arithmetic
  std::string value(const std::string& name) const;   // in an expression
  std::string term(const DimTerm& t, bool first);
  std::string integer(int64_t v) const;
  std::string dim(const Dim& d);
  std::string condition(const std::vector<Dim>& guards);  // "" if they always hold
  std::string least(const std::vector<Dim>& his);

  // expressions
  std::optional<std::string> wide_base(int buffer, const std::vector<Dim>& index,
                                       const std::vector<Dim>& guards);
  std::string element(int buffer, const std::vector<Dim>& index);
  std::string load(const ScalarNode& n);
  std::string math(ScalarOp op, DType t, const std::string& a, const std::string& b);
  std::string int_math(ScalarOp op, DType t, const std::string& a, const std::string& b);
  std::string cast_text(const std::string& x, DType from, DType to);
  std::string expr(const Expr& e);
  std::string name_it(DType t, const std::string& text);
  void count(const Expr& e);
  void begin_statement(const std::vector<Expr>& roots);
  bool varies(const Dim& d) const;
  bool varies(const Expr& e) const;

  // statements
  void head(const std::string& name, std::string_view comment);
  void block(const StmtList& list);
  void statement(const Stmt& s);
  std::optional<std::string> index_text(const Expr& e);
  void let(const Stmt& s);
  void store(const Stmt& s);
  void declare(const Stmt& s);
  void loop(const Stmt& s);
  void plain_loop(const Stmt& s, std::string_view pragma);
  void thread_loop(const Stmt& s, const std::function<void()>& body);
  bool runs_by_chunks(const Stmt& s) const;
  void vector_loop(const Stmt& s, const std::function<void()>& body);
  void reduce(const Stmt& s);
  void thread_reduce(const Stmt& s);
  void accumulate(const Stmt& s, const std::vector<std::string>& into);
  // Writes before_, then the body (inside_, text) once a lane or once.
  void flush(bool lanes, const std::vector<std::string>& text);
  void enter(const Stmt& s);  // the loop variable's range
  void open(std::string_view text);
  void close();

  const Kernel& k_;
  DimRanges ranges_;
  bool wide_;
  std::string error_, out_;
  int indent_ = 0, next_ = 0;
  std::map<std::string, std::string, std::less<>> names_;  // of values whose text isn't their name
  std::set<std::string, std::less<>> indices_;             // lets that are as wide as index arithmetic is
  std::set<std::string, std::less<>> data_;  // i64 values from data that index arithmetic may use
  std::set<int> distributed_, lane_private_, written_;
  bool threads_ = false;    // the kernel uses them
  bool in_thread_ = false;  // inside a thread loop
  bool in_warp_ = false;
  int width_ = 1;  // of thread loops
  std::optional<Vector> vector_;

  // of the current statement
  std::unordered_map<const ScalarNode*, std::string> memo_;
  std::unordered_map<const ScalarNode*, int> uses_;
  std::vector<std::string> before_, inside_;
  std::map<std::string, std::string> statement_loads_;
  std::vector<std::map<std::string, std::string>> wide_loads_{1};  // one scope a block
};

}  // namespace graphc::cuda
