// What the kernels of template "attention" share: the analysed region, shapes of tiles, reading tiles into
// shared memory, scores, products out of shared memory, writing results.
//
// q[.., T, E], k[.., S, E], v[.., S, V]. A tile of scores is bm rows of q by bn rows of k. Threads form a
// grid of ty by tx = 8: thread (y, x) has the scores of rows y, y+ty, .. and columns x, x+8, .., and of
// products along V or E the same rows (or others) and four adjacent columns of every 32.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "backends/cuda/kernels/lowering.h"
#include "backends/kernels/region_builder.h"

namespace graphc::cuda {

struct AttentionPlan {
  const Func* region = nullptr;
  const Node* core = nullptr;  // attention or attention_grad
  bool backward = false;
  Shape batch;
  Dim t, s;
  int64_t e = 0, v = 0;
  bool causal = false;
  double scale = 1;
  const Value* mask = nullptr;
  std::vector<int> result_core;  // by result of the region: the core's result it is made of

  Coords at(const Coords& batch_at, const Dim& row) const;                     // of lse, delta
  Coords at(const Coords& batch_at, const Dim& row, const Dim& column) const;  // of the others
  // Results of the region made of these results of the core.
  std::vector<int> results_of(std::initializer_list<int> core_results) const;
};
Result<AttentionPlan> plan_attention(const Func& region);

// The shape of a kernel's tiles.
struct AttentionTiles {
  static constexpr int tx = 8;
  int ty = 8, tm = 4, tn = 4;
  bool one_buffer = false;  // backward of k and v: q and d_out take turns in one tile
  int bm() const { return ty * tm; }
  int bn() const { return tx * tn; }
  int threads() const { return ty * tx; }
  int columns_per_thread() const { return bn() / ty; }
};

// One kernel being built.
class AttentionKernel {
 public:
  AttentionKernel(const AttentionPlan& plan, const AttentionTiles& tiles, const std::string& name,
                  std::vector<int> results, std::vector<const Value*> operands);
  RegionBuilder& b() { return b_; }
  KernelBuilder& k() { return b_.k(); }
  const AttentionPlan& plan() const { return p_; }
  const AttentionTiles& tiles() const { return c_; }

  // Loops over batch and blocks of `rows` of `size`, the costly ones of a causal triangle first.
  void for_blocks(const Dim& size, int rows, bool last_first, const std::function<void(Dim row0)>& body);

  using Body = std::function<void(const Dim& t, const Dim& y, const Dim& x)>;
  void each_thread(const Body& body);
  void over(int n, std::string_view var, const std::function<void(Dim)>& body);

  // Rows row0 .. row0+rows of v into shared memory as f32; 0 beyond `size` rows and beyond v's columns, up to
  // `width` columns.
  void load_tile(const Buffer& to, int rows, int64_t width, const Value* v, const Dim& row0, const Dim& size);
  // acc[t, i, j] = a[rows of thread][..] . b[columns of thread][..] over `width` columns
  void dot(const Buffer& acc, const Buffer& a, const Buffer& b, int64_t width);
  // acc[t, i, ..] += sum over p < n of weights[row i of thread, p] * values[p, ..]; values have `width`
  // columns
  void add_rows(const Buffer& acc, int64_t width, const Buffer& weights, const Buffer& values, int n);
  // acc[t, i, ..] += sum over p < n of weights[p, i] * values[p, ..], for the thread's columns_per_thread()
  // adjacent i
  void add_columns(const Buffer& acc, int64_t width, const Buffer& weights, const Buffer& values, int n);

  // scale * score (+ mask), -infinity where row `m` doesn't see column `n` or there is no such column.
  Expr masked(const Expr& score, const Dim& m, const Dim& n);
  // An element of lse or delta; 0 beyond the rows.
  Expr row_value(const Value* v, const Dim& m);
  // Stores the results made of result `core_result` at row m < size, columns of the thread.
  void store_columns(int core_result, const Buffer& acc, const Dim& t, const Dim& i, const Dim& x,
                     int64_t columns, const Dim& m, const Dim& size, const Expr& factor);
  void store_row(int core_result, const Dim& m, const Dim& size, const Expr& value, std::vector<Dim> guards);

  Dim named(std::string_view name, const Dim& d, const Dim& lo, const Dim& hi);
  const Coords& batch_at() const { return batch_at_; }

 private:
  void add_products(const Buffer& acc, int rows, int64_t width, const Buffer& values, int n,
                    const std::function<Expr(const Dim& y, Dim i, Dim p)>& weight, bool weights_by_p);
  void store(int core_result, const Coords& at, const Expr& value, const std::vector<Dim>& guards);
  void load_wide(const Buffer& to, std::vector<Dim> prefix, int size, const std::function<Expr(Dim)>& from);

  const AttentionPlan& p_;
  const AttentionTiles c_;
  std::vector<int> result_numbers_;
  RegionBuilder b_;
  Coords batch_at_;
};

// Columns in shared memory: of what is multiplied along them, of what products are made of.
int64_t dot_width(int64_t n);  // a multiple of 4
int64_t row_width(int64_t n);  // a multiple of 32
int column_chunks(int64_t n);  // 4 columns each, of a thread
// A row in shared memory, padded so that 8 of them lie in different banks.
int64_t pitch(int64_t width);

Result<KernelStep> attention_forward(const AttentionPlan& p, const std::string& name);
Result<KernelStep> attention_grad_rows(const AttentionPlan& p, const std::string& name);     // d_q
Result<KernelStep> attention_grad_columns(const AttentionPlan& p, const std::string& name);  // d_k, d_v

}  // namespace graphc::cuda
