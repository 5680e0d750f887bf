#include "backends/host/kernel_blob.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "runtime/base/sha256.h"

namespace graphc {
namespace {

constexpr std::string_view kMagic = "GCKERN5\n";
constexpr uint64_t kMaxCount = 1 << 16;

class Writer {
 public:
  std::string bytes;
  void u64(uint64_t v) {
    for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(v >> 8 * i));
  }
  void text(std::string_view s) {
    u64(s.size());
    bytes.append(s);
  }
  void size(const SizeProgram& e) {
    u64(e.words().size());
    for (int64_t w : e.words()) u64(static_cast<uint64_t>(w));
  }
  void args(const std::vector<KernelBlob::Arg>& list) {
    u64(list.size());
    for (const KernelBlob::Arg& a : list) u64(uint64_t{a.kind} << 32 | a.index);
  }
  void sizes(const std::vector<SizeProgram>& list) {
    u64(list.size());
    for (const SizeProgram& e : list) size(e);
  }
  void tensor(const KernelBlob::Tensor& t) {
    u64(static_cast<uint64_t>(t.dtype));
    sizes(t.shape);
  }
};

class Reader {
 public:
  explicit Reader(std::string_view s) : s_(s) {}
  bool failed = false;
  bool at_end() const { return s_.empty(); }
  uint64_t u64() {
    if (s_.size() < 8) return failed = true, 0;
    uint64_t v = 0;
    for (int i = 0; i < 8; ++i) v |= static_cast<uint64_t>(static_cast<unsigned char>(s_[i])) << 8 * i;
    s_.remove_prefix(8);
    return v;
  }
  uint64_t count() {
    uint64_t n = u64();
    // an item is at least 8 bytes
    if (n > kMaxCount || n > s_.size() / 8) return failed = true, 0;
    return n;
  }
  std::string text() {
    uint64_t n = u64();
    if (n > s_.size()) return failed = true, std::string();
    std::string out(s_.substr(0, n));
    s_.remove_prefix(n);
    return out;
  }
  SizeProgram size() {
    std::vector<int64_t> words(count());
    for (int64_t& w : words) w = static_cast<int64_t>(u64());
    return SizeProgram(std::move(words));
  }
  std::vector<SizeProgram> sizes() {
    std::vector<SizeProgram> out(count());
    for (SizeProgram& e : out) e = size();
    return out;
  }
  std::vector<KernelBlob::Arg> args() {
    std::vector<KernelBlob::Arg> out(count());
    for (KernelBlob::Arg& a : out) {
      const uint64_t v = u64();
      if (v >> 32 > KernelBlob::kWorkspace) failed = true;
      a = {static_cast<uint8_t>(v >> 32), static_cast<uint32_t>(v)};
    }
    return out;
  }
  KernelBlob::Tensor tensor() {
    KernelBlob::Tensor t;
    uint64_t type = u64();
    if (type >= kNumDTypes) return failed = true, t;
    t.dtype = static_cast<DType>(type);
    t.shape = sizes();
    if (t.shape.size() > 8) failed = true;
    return t;
  }

 private:
  std::string_view s_;
};

}  // namespace

std::string encode_blob(const KernelBlob& b) {
  Writer w;
  w.text(b.backend);
  w.text(b.target);
  w.u64(b.symbols.size());
  for (const std::string& s : b.symbols) w.text(s);
  for (const auto* list : {&b.operands, &b.results}) {
    w.u64(list->size());
    for (const KernelBlob::Tensor& t : *list) w.tensor(t);
  }
  w.sizes(b.workspace_bytes);
  w.u64(b.steps.size());
  for (const KernelBlob::Step& s : b.steps) {
    w.text(s.kernel);
    w.args(s.args);
    w.size(s.extent);
    w.size(s.grain);
    w.size(s.scratch_bytes);
    w.u64(s.threads);
    w.sizes(s.narrow_if);
    w.text(s.wide_kernel);
  }
  w.u64(b.checks.size());
  for (const KernelBlob::IndexCheck& c : b.checks) {
    for (const uint32_t v : {c.step, c.low, c.high}) w.u64(v);
    w.size(c.size);
    w.text(c.op);
  }
  w.u64(b.calls.size());
  for (const KernelBlob::LibraryCall& c : b.calls) {
    for (const uint32_t v : {c.first_step, c.last_step, c.after_steps}) w.u64(v);
    w.text(c.library);
    w.text(c.call);
    w.sizes(c.sizes);
    w.args(c.args);
    w.size(c.workspace_bytes);
  }
  w.u64(b.images.size());
  for (const KernelBlob::Image& i : b.images) {
    w.text(i.arch);
    w.text(i.bytes);
  }
  Writer out;
  out.bytes = kMagic;
  out.u64(w.bytes.size());
  auto digest = sha256(w.bytes.data(), w.bytes.size());
  out.bytes.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  out.bytes += w.bytes;
  return std::move(out.bytes);
}

Result<KernelBlob> decode_blob(std::string_view bytes, std::string_view backend) {
  if (bytes.substr(0, kMagic.size()) != kMagic)
    return invalid(fmt::format("these bytes aren't an executable of the {} backend", backend));
  bytes.remove_prefix(kMagic.size());
  uint64_t length = Reader(bytes).u64();
  if (bytes.size() < 40 || length != bytes.size() - 40)
    return invalid("the executable is cut off or has extra bytes");
  auto digest = sha256(bytes.data() + 40, length);
  if (std::memcmp(digest.data(), bytes.data() + 8, 32) != 0)
    return invalid("the executable is damaged: its checksum doesn't agree");
  Reader r(bytes.substr(40));
  KernelBlob b;
  b.backend = r.text();
  if (b.backend != backend)
    return invalid(
        fmt::format("these bytes aren't an executable of the {} backend, but of {}", backend, b.backend));
  b.target = r.text();
  b.symbols.resize(r.count());
  for (std::string& s : b.symbols) s = r.text();
  for (auto* list : {&b.operands, &b.results}) {
    list->resize(r.count());
    for (KernelBlob::Tensor& t : *list) t = r.tensor();
  }
  b.workspace_bytes = r.sizes();
  b.steps.resize(r.count());
  for (KernelBlob::Step& s : b.steps) {
    s.kernel = r.text();
    s.args = r.args();
    s.extent = r.size();
    s.grain = r.size();
    s.scratch_bytes = r.size();
    s.threads = static_cast<uint32_t>(r.u64());
    s.narrow_if = r.sizes();
    s.wide_kernel = r.text();
  }
  b.checks.resize(r.count());
  for (KernelBlob::IndexCheck& c : b.checks) {
    for (uint32_t* v : {&c.step, &c.low, &c.high}) *v = static_cast<uint32_t>(r.u64());
    c.size = r.size();
    c.op = r.text();
  }
  b.calls.resize(r.count());
  for (KernelBlob::LibraryCall& c : b.calls) {
    for (uint32_t* v : {&c.first_step, &c.last_step, &c.after_steps}) *v = static_cast<uint32_t>(r.u64());
    c.library = r.text();
    c.call = r.text();
    c.sizes = r.sizes();
    c.args = r.args();
    c.workspace_bytes = r.size();
  }
  b.images.resize(r.count());
  for (KernelBlob::Image& i : b.images) {
    i.arch = r.text();
    i.bytes = r.text();
  }
  if (r.failed || !r.at_end()) return invalid("the executable is malformed");
  const auto valid = [&](const SizeProgram& e) { return e.valid(b.symbols.size()); };
  const auto valid_arg = [&](const KernelBlob::Arg& a) {
    return a.index < (a.kind == KernelBlob::kOperand  ? b.operands.size()
                      : a.kind == KernelBlob::kResult ? b.results.size()
                                                      : b.workspace_bytes.size());
  };
  bool ok = std::ranges::all_of(b.workspace_bytes, valid);
  for (const auto* list : {&b.operands, &b.results})
    for (const KernelBlob::Tensor& t : *list) ok = ok && std::ranges::all_of(t.shape, valid);
  for (const KernelBlob::Step& s : b.steps)
    ok = ok && std::ranges::all_of(s.narrow_if, valid) && s.narrow_if.empty() == s.wide_kernel.empty() &&
         valid(s.extent) && valid(s.grain) && valid(s.scratch_bytes) &&
         std::ranges::all_of(s.args, valid_arg);
  for (const KernelBlob::IndexCheck& c : b.checks)
    ok = ok && valid(c.size) && c.step < b.steps.size() && c.low < b.workspace_bytes.size() &&
         c.high < b.workspace_bytes.size();
  uint32_t step = 0;
  for (const KernelBlob::LibraryCall& c : b.calls) {
    ok = ok && step <= c.first_step && c.first_step < c.last_step && c.last_step <= b.steps.size() &&
         c.after_steps <= b.steps.size() - c.last_step && std::ranges::all_of(c.sizes, valid) &&
         std::ranges::all_of(c.args, valid_arg) && valid(c.workspace_bytes);
    step = c.last_step + c.after_steps;
  }
  if (!ok) return invalid("the executable is malformed: a size or an argument is out of range");
  return b;
}

}  // namespace graphc
