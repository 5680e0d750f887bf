#include <fmt/format.h>
#include <sys/stat.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "runtime/data/dataset.h"

namespace graphc {
namespace {

struct Header {
  DType dtype = DType::kU8;
  std::vector<int64_t> shape;
  uint64_t header_bytes = 0, data_bytes = 0;
};

// Needs the first 4 + 4 * rank bytes; `bad` makes the error.
template <class Bad>
Result<Header> parse_header(std::span<const uint8_t> p, const LoadLimits& limits, Bad&& bad) {
  if (p.size() < 4) return bad("it is shorter than its header");
  Header h;
  switch (p[2]) {
    case 0x08: h.dtype = DType::kU8; break;
    case 0x09: h.dtype = DType::kI8; break;
    case 0x0B: h.dtype = DType::kI16; break;
    case 0x0C: h.dtype = DType::kI32; break;
    case 0x0D: h.dtype = DType::kF32; break;
    case 0x0E: h.dtype = DType::kF64; break;
    default: return bad("its magic number names no element type");
  }
  if (p[0] != 0 || p[1] != 0) return bad("it doesn't start with two zero bytes");
  if (p[3] == 0 || p[3] > limits.max_rank) return bad(fmt::format("its rank is {}", p[3]));
  h.header_bytes = 4 + 4 * uint64_t{p[3]};
  if (p.size() < h.header_bytes) return bad("it is shorter than its header");
  for (int i = 0; i < p[3]; ++i) {
    const uint8_t* d = p.data() + 4 + 4 * i;
    h.shape.push_back(int64_t{d[0]} << 24 | d[1] << 16 | d[2] << 8 | d[3]);
  }
  const auto bytes = checked_bytes(h.dtype, h.shape, limits);
  if (!bytes.ok()) return bad(bytes.error().message);
  if (*bytes > limits.max_memory_bytes) return bad("it is above the memory limit");
  h.data_bytes = *bytes;
  return h;
}

// Unpacks exactly what the header promises, so that a small file can't fill the memory.
template <class Bad>
Result<std::vector<uint8_t>> gunzip_idx(Bytes in, const LoadLimits& limits, Bad&& bad) {
  z_stream z{};
  if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) return Error{ErrorCode::kNoMemory, "out of memory in zlib"};
  struct End {
    z_stream* z;
    ~End() { inflateEnd(z); }
  } end{&z};
  std::vector<uint8_t> out(4 + 4 * limits.max_rank);
  size_t filled = 0;
  uint64_t expected = 0;  // known once the header is there
  const std::byte* next = in.data();
  size_t left = in.size();
  for (int state = Z_OK; state != Z_STREAM_END;) {
    if (expected == 0 && filled >= 4 && filled >= std::min<size_t>(out.size(), 4 + 4 * size_t{out[3]})) {
      auto h = parse_header(std::span(out).first(filled), limits, bad);
      if (!h.ok()) return h.error();
      expected = h->header_bytes + h->data_bytes;
      if (filled > expected) return bad("it has more data than its header says");
      // DEFLATE expands by at most 1032
      if (expected > 1032 * uint64_t{in.size()} + 1024) return bad("it is cut off");
      out.resize(std::max<size_t>(expected + 1, out.size()));
    }
    if (filled == out.size()) return bad("it has more data than its header says");
    z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(next));
    z.avail_in = static_cast<uInt>(std::min<size_t>(left, 1u << 30));
    z.next_out = out.data() + filled;
    z.avail_out = static_cast<uInt>(std::min<size_t>(out.size() - filled, 1u << 30));
    const uInt in_before = z.avail_in, out_before = z.avail_out;
    state = inflate(&z, Z_NO_FLUSH);
    next += in_before - z.avail_in;
    left -= in_before - z.avail_in;
    filled += out_before - z.avail_out;
    if (state != Z_OK && state != Z_STREAM_END)
      return bad(left == 0 ? "it is cut off" : "its compressed data is damaged");
    if (state == Z_OK && in_before == z.avail_in && out_before == z.avail_out) return bad("it is cut off");
  }
  if (left != 0) return bad("there are bytes after the compressed data");
  out.resize(filled);
  return out;
}

class IdxDataset final : public Dataset {
 public:
  IdxDataset(TensorData images, TensorData labels, const IdxOptions& o)
      : images_(std::move(images)), labels_(std::move(labels)) {
    DataField image{"image", DType::kF32, {images_.shape.begin() + 1, images_.shape.end()}};
    if (image.shape.size() == 2) image.shape.insert(image.shape.begin(), 1);  // [H, W] has one channel
    DataField label{"label", DType::kI32, {labels_.shape.begin() + 1, labels_.shape.end()}};
    fields_ = {image, label};
    for (int i = 0; i < 256; ++i) pixel_[i] = static_cast<float>((i / 255.0 - o.mean) / o.std);
    if (labels_.shape.size() == 1) {
      const int64_t n = labels_.shape[0];
      int64_t top = 0;
      for (int64_t i = 0; i < n; ++i) top = std::max(top, load_as_int(labels_.dtype, labels_.data.data(), i));
      if (top < 1000)
        for (int64_t c = 0; c <= top; ++c) classes_.push_back(std::to_string(c));
    }
  }
  const std::vector<DataField>& fields() const override { return fields_; }
  int64_t size() const override { return images_.shape[0]; }
  const std::vector<std::string>& classes() const override { return classes_; }
  void read(int64_t i, std::span<std::byte* const> out) const override {
    const size_t pixels = fields_[0].bytes() / sizeof(float);
    const auto* p = reinterpret_cast<const uint8_t*>(images_.data.data()) + static_cast<size_t>(i) * pixels;
    auto* x = reinterpret_cast<float*>(out[0]);
    for (size_t k = 0; k < pixels; ++k) x[k] = pixel_[p[k]];
    const size_t labels = fields_[1].bytes() / sizeof(int32_t);
    for (size_t k = 0; k < labels; ++k)
      store_from_int(DType::kI32, out[1], k,
                     load_as_int(labels_.dtype, labels_.data.data(), static_cast<size_t>(i) * labels + k));
  }

 private:
  TensorData images_, labels_;
  std::vector<DataField> fields_;
  std::vector<std::string> classes_;
  float pixel_[256];
};

// DIR/PREFIX-KIND-idx*-ubyte, with or without .gz, and with a dot in place of the last dash as some archives
// have it
Result<TensorData> read_part(const std::string& dir, const std::string& prefix, const std::string& kind) {
  Error first;
  for (const char* rank : {kind == "images" ? "3" : "1", "1", "2", "3", "4"})
    for (const char* dash : {"-", "."})
      for (const char* gz : {".gz", ""}) {
        const std::string path = fmt::format("{}/{}-{}{}idx{}-ubyte{}", dir, prefix, kind, dash, rank, gz);
        auto file = MappedFile::open(path);
        if (file.ok()) return parse_idx(file->bytes(), path);
        if (first.message.empty()) first = file.error();
      }
  return Error{first.code, first.message + " (nor under its other usual names)"};
}

}  // namespace

Result<TensorData> parse_idx(Bytes bytes, const std::string& name, const LoadLimits& limits) {
  const auto bad = [&](std::string why) {
    return invalid(fmt::format("'{}' is not a valid idx file: {}", name, why));
  };
  std::span<const uint8_t> p(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  std::vector<uint8_t> unpacked;
  if (p.size() >= 2 && p[0] == 0x1f && p[1] == 0x8b) {
    auto u = gunzip_idx(bytes, limits, bad);
    if (!u.ok()) return u.error();
    unpacked = *std::move(u);
    p = unpacked;
  }
  GC_TRY(const Header h, parse_header(p, limits, bad));
  if (p.size() != h.header_bytes + h.data_bytes)
    return bad(
        fmt::format("{} bytes of data where its header says {}", p.size() - h.header_bytes, h.data_bytes));
  TensorData t{h.dtype, h.shape, {}};
  const auto* data = reinterpret_cast<const std::byte*>(p.data()) + h.header_bytes;
  t.data.assign(data, data + h.data_bytes);
  const size_t size = dtype_size(h.dtype);
  if (size > 1)
    for (size_t i = 0; i + size <= t.data.size(); i += size)
      std::reverse(t.data.begin() + i, t.data.begin() + i + size);
  return t;
}

Result<std::shared_ptr<const Dataset>> open_idx(const std::string& directory, const std::string& prefix,
                                                const IdxOptions& options) {
  struct stat st;
  if (::stat(directory.c_str(), &st) != 0 || !S_ISDIR(st.st_mode))
    return invalid(fmt::format("there is no directory '{}'", directory));
  GC_TRY(TensorData images, read_part(directory, prefix, "images"));
  GC_TRY(TensorData labels, read_part(directory, prefix, "labels"));
  if (images.dtype != DType::kU8 || images.shape.size() < 3 || images.shape.size() > 4)
    return invalid(fmt::format("the {} images in '{}' are no u8 pictures of rank 3 or 4", prefix, directory));
  if (is_float(labels.dtype) || labels.shape[0] != images.shape[0])
    return invalid(fmt::format("the {} labels in '{}' don't fit the images: {} labels, {} images", prefix,
                               directory, labels.shape[0], images.shape[0]));
  return std::shared_ptr<const Dataset>(
      std::make_shared<IdxDataset>(std::move(images), std::move(labels), options));
}

}  // namespace graphc
