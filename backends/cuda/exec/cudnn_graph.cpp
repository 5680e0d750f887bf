#include "backends/cuda/exec/cudnn_graph.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <iterator>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace graphc {
namespace {

constexpr std::string_view kNames[] = {"convolution",
                                       "convolution_input_grad",
                                       "convolution_weight_grad",
                                       "add",
                                       "sub",
                                       "mul",
                                       "relu",
                                       "tanh",
                                       "sigmoid",
                                       "identity"};

std::string list(const std::vector<CudnnGraph::Size>& sizes) {
  std::string s = "[";
  for (const CudnnGraph::Size& d : sizes)
    s += fmt::format("{}{}{}", s.size() > 1 ? ", " : "", d.symbol ? "$" : "", d.value);
  return s + "]";
}
std::string list(const std::vector<int64_t>& values) { return fmt::format("[{}]", fmt::join(values, ", ")); }

// Words of one line: names, numbers, punctuation.
class Line {
 public:
  Line(std::string_view text, int number) : text_(text), number_(number) { advance(); }

  bool at_end() const { return word_.empty(); }
  std::string_view word() const { return word_; }
  bool accept(std::string_view w) {
    if (word_ != w) return false;
    advance();
    return true;
  }
  Status expect(std::string_view w) {
    return accept(w) ? Status() : Status(error(fmt::format("'{}' expected", w)));
  }
  Result<std::string> name() {
    if (word_.empty() || !(std::isalpha(static_cast<unsigned char>(word_[0])) || word_[0] == '_'))
      return error("a name expected");
    std::string s(word_);
    advance();
    return s;
  }
  Result<int64_t> number() {
    int64_t v = 0;
    const auto [end, problem] = std::from_chars(word_.data(), word_.data() + word_.size(), v);
    if (word_.empty() || problem != std::errc() || end != word_.data() + word_.size())
      return error("a number expected");
    advance();
    return v;
  }
  Result<std::vector<CudnnGraph::Size>> sizes() {
    std::vector<CudnnGraph::Size> out;
    GC_CHECK(expect("["));
    while (!accept("]")) {
      if (!out.empty()) GC_CHECK(expect(","));
      if (out.size() == 8) return error("more than 8 axes");
      const bool symbol = accept("$");
      GC_TRY(const int64_t v, number());
      out.push_back({v, symbol});
    }
    return out;
  }
  Result<std::vector<int64_t>> numbers() {
    GC_TRY(const std::vector<CudnnGraph::Size> s, sizes());
    std::vector<int64_t> out;
    for (const CudnnGraph::Size& d : s) {
      if (d.symbol) return error("a number expected, not a size");
      out.push_back(d.value);
    }
    return out;
  }
  Result<DType> dtype() {
    const std::optional<DType> t = dtype_from_name(word_);
    if (!t || !is_float(*t)) return error("a float type expected");
    advance();
    return *t;
  }
  Error error(std::string_view what) const {
    return invalid(fmt::format("cuDNN graph, line {}: {}{}", number_, what,
                               at_end() ? " at its end" : fmt::format(" before '{}'", word_)));
  }

 private:
  void advance() {
    while (!text_.empty() && text_.front() == ' ') text_.remove_prefix(1);
    size_t n = 0;
    while (n < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[n])) || text_[n] == '_')) ++n;
    if (n == 0 && !text_.empty()) {
      n = 1;
      if (text_.front() == '-')
        while (n < text_.size() && std::isdigit(static_cast<unsigned char>(text_[n]))) ++n;
    }
    word_ = text_.substr(0, n);
    text_.remove_prefix(n);
  }
  std::string_view text_, word_;
  int number_;
};

class Reader {
 public:
  Reader(size_t num_sizes, size_t num_buffers) : num_sizes_(num_sizes), num_buffers_(num_buffers) {}

  Status first(Line line) {
    GC_CHECK(line.expect("cudnn"));
    GC_TRY(g_.compute, line.dtype());
    g_.tf32 = line.accept("tf32");
    return end(line);
  }

  Status next(Line line) {
    CudnnGraph::Tensor t;
    GC_TRY(t.name, line.name());
    if (find(t.name) >= 0) return line.error(fmt::format("a second tensor called {}", t.name));
    GC_CHECK(line.expect("="));
    if (line.accept("arg")) {
      GC_CHECK(tensor(line, t, true));
      g_.tensors.push_back(std::move(t));
      return end(line);
    }
    CudnnGraph::Operation op;
    const auto* found = std::find(std::begin(kNames), std::end(kNames), line.word());
    if (found == std::end(kNames)) return line.error("an operation's name expected");
    op.op = static_cast<CudnnGraph::Op>(found - std::begin(kNames));
    line.accept(*found);
    GC_CHECK(line.expect("("));
    while (!line.accept(")")) {
      if (!op.inputs.empty()) GC_CHECK(line.expect(","));
      GC_TRY(const std::string name, line.name());
      op.inputs.push_back(find(name));
      if (op.inputs.back() < 0) return line.error(fmt::format("no tensor is called {}", name));
    }
    if (op.inputs.size() != (op.op >= CudnnGraph::kRelu ? 1U : 2U))
      return line.error("not the operation's number of inputs");
    GC_CHECK(tensor(line, t, line.accept("out")));
    if (CudnnGraph::is_convolution(op.op)) {
      const size_t axes = t.extents.size() < 2 ? 0 : t.extents.size() - 2;
      GC_CHECK(line.expect("stride"));
      GC_TRY(op.stride, line.numbers());
      GC_CHECK(line.expect("dilation"));
      GC_TRY(op.dilation, line.numbers());
      GC_CHECK(line.expect("pad"));
      GC_TRY(op.pad, line.numbers());
      if (op.stride.size() != axes || op.dilation.size() != axes || op.pad.size() != 2 * axes)
        return line.error("stride, dilation and pad for each of the image's axes expected");
    }
    for (int i : op.inputs)
      if (g_.tensors[static_cast<size_t>(i)].extents.size() != t.extents.size())
        return line.error("tensors of one rank expected");
    op.output = static_cast<int>(g_.tensors.size());
    g_.tensors.push_back(std::move(t));
    g_.operations.push_back(std::move(op));
    return end(line);
  }

  Result<CudnnGraph> finish() {
    if (g_.operations.empty()) return invalid("cuDNN graph: no operation");
    for (const CudnnGraph::Operation& op : g_.operations) {
      const CudnnGraph::Tensor& t = g_.tensors[static_cast<size_t>(op.output)];
      bool used = t.buffer >= 0;
      for (const CudnnGraph::Operation& reader : g_.operations)
        used |= std::find(reader.inputs.begin(), reader.inputs.end(), op.output) != reader.inputs.end();
      if (!used) return invalid(fmt::format("cuDNN graph: {} is neither written nor read", t.name));
    }
    return std::move(g_);
  }

 private:
  int find(const std::string& name) const {
    for (size_t i = 0; i < g_.tensors.size(); ++i)
      if (g_.tensors[i].name == name) return static_cast<int>(i);
    return -1;
  }
  Status tensor(Line& line, CudnnGraph::Tensor& t, bool in_memory) {
    if (in_memory) {
      GC_CHECK(line.expect("%"));
      GC_TRY(const int64_t buffer, line.number());
      if (buffer < 0 || static_cast<uint64_t>(buffer) >= num_buffers_)
        return line.error("the call has no such buffer");
      t.buffer = static_cast<int>(buffer);
    }
    GC_TRY(t.dtype, line.dtype());
    GC_TRY(t.extents, line.sizes());
    if (line.accept("strides")) {
      GC_TRY(t.strides, line.sizes());
      if (t.strides.size() != t.extents.size()) return line.error("a stride for each axis expected");
    }
    for (const auto* sizes : {&t.extents, &t.strides})
      for (const CudnnGraph::Size& d : *sizes)
        if (d.value < 0 || (d.symbol && static_cast<uint64_t>(d.value) >= num_sizes_))
          return line.error("a size that the call doesn't have");
    return {};
  }
  static Status end(const Line& line) { return line.at_end() ? Status() : line.error("more than expected"); }

  CudnnGraph g_;
  size_t num_sizes_, num_buffers_;
};

}  // namespace

std::string_view CudnnGraph::op_name(Op op) { return kNames[op]; }

std::string CudnnGraph::to_text() const {
  std::string s = fmt::format("cudnn {}{}\n", dtype_name(compute), tf32 ? " tf32" : "");
  size_t next = 0;  // operations before it are printed, with what they write
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& t = tensors[i];
    s += t.name + " = ";
    const Operation* op = next < operations.size() && operations[next].output == static_cast<int>(i)
                              ? &operations[next++]
                              : nullptr;
    if (op) {
      std::vector<std::string_view> inputs;
      for (int in : op->inputs) inputs.push_back(tensors[static_cast<size_t>(in)].name);
      s += fmt::format("{}({}) ", op_name(op->op), fmt::join(inputs, ", "));
      if (t.buffer >= 0) s += fmt::format("out %{} ", t.buffer);
    } else {
      s += fmt::format("arg %{} ", t.buffer);
    }
    s += fmt::format("{} {}", dtype_name(t.dtype), list(t.extents));
    if (!t.strides.empty()) s += fmt::format(" strides {}", list(t.strides));
    if (op && is_convolution(op->op))
      s += fmt::format(" stride {} dilation {} pad {}", list(op->stride), list(op->dilation), list(op->pad));
    s += "\n";
  }
  return s;
}

Result<CudnnGraph> CudnnGraph::parse(std::string_view text, size_t num_sizes, size_t num_buffers) {
  Reader r(num_sizes, num_buffers);
  for (int number = 1; !text.empty(); ++number) {
    const size_t n = std::min(text.find('\n'), text.size());
    const Line line(text.substr(0, n), number);
    GC_CHECK(number == 1 ? r.first(line) : r.next(line));
    text.remove_prefix(std::min(n + 1, text.size()));
  }
  return r.finish();
}

Result<CudnnGraph> CudnnGraph::bind(std::span<const int64_t> sizes) const {
  CudnnGraph g = *this;
  for (Tensor& t : g.tensors) {
    for (auto* list : {&t.extents, &t.strides})
      for (Size& d : *list)
        if (d.symbol) d = {sizes[static_cast<size_t>(d.value)], false};
    int64_t elements = 1;
    const bool row_major = t.strides.empty();
    t.strides.resize(t.extents.size());
    for (size_t i = t.extents.size(); i-- > 0;) {
      const int64_t n = t.extents[i].value;
      if (n < 1)
        return unsupported(fmt::format("cuDNN takes no empty tensors ({}: {})", t.name, list(t.extents)));
      if (row_major) t.strides[i] = {elements, false};
      if (__builtin_mul_overflow(elements, n, &elements) || elements > (int64_t{1} << 62))
        return unsupported(fmt::format("{} has too many elements", t.name));
    }
  }
  return g;
}

}  // namespace graphc
