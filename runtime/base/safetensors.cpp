#include "runtime/base/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/base/sha256.h"

namespace graphc {
namespace {

using nlohmann::json;

constexpr std::string_view kHashKey = "graphc.sha256";
const std::string kZeros(64, '0');

constexpr std::pair<std::string_view, DType> kNames[] = {
    {"BOOL", DType::kBool}, {"I8", DType::kI8},   {"I16", DType::kI16},   {"I32", DType::kI32},
    {"I64", DType::kI64},   {"U8", DType::kU8},   {"U16", DType::kU16},   {"U32", DType::kU32},
    {"U64", DType::kU64},   {"F16", DType::kF16}, {"BF16", DType::kBF16}, {"F32", DType::kF32},
    {"F64", DType::kF64}};

std::string_view st_name(DType t) {
  for (const auto& [name, dtype] : kNames)
    if (dtype == t) return name;
  return "";
}

bool is_count(const json& v) { return v.is_number_unsigned() && v.get<uint64_t>() <= uint64_t{1} << 62; }

}  // namespace

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path, Origin origin,
                                              const LoadLimits& limits) {
  GC_TRY(MappedFile file, MappedFile::open(path));
  return from_mapping(std::move(file), path, origin, limits);
}

Result<SafetensorsFile> SafetensorsFile::from_mapping(MappedFile file, const std::string& name, Origin origin,
                                                      const LoadLimits& limits) {
  GC_TRY(SafetensorsFile f, parse(file.bytes(), name, origin, limits));
  f.file_ = std::move(file);  // moving a mapping doesn't move the mapped bytes
  return f;
}

Result<SafetensorsFile> SafetensorsFile::parse(Bytes bytes, const std::string& name, Origin origin,
                                               const LoadLimits& limits) {
  const auto bad = [&](std::string_view why) {
    return invalid(fmt::format("'{}' is not a valid safetensors file: {}", name, why));
  };
  const auto* p = reinterpret_cast<const uint8_t*>(bytes.data());
  if (bytes.size() < 8) return bad("it is shorter than 8 bytes");
  uint64_t header_size = 0;
  for (int i = 0; i < 8; ++i) header_size |= uint64_t{p[i]} << (8 * i);
  if (header_size > limits.max_weight_header_bytes)
    return bad(fmt::format("its header of {} bytes is above the limit of {}", header_size,
                           limits.max_weight_header_bytes));
  if (header_size > bytes.size() - 8) return bad("it is cut off in the header");
  const std::string_view header(reinterpret_cast<const char*>(p) + 8, header_size);
  if (header.empty() || header[0] != '{') return bad("its header doesn't start with '{'");

  // The parser keeps the last of equal keys silently, so they are counted as they come.
  std::set<std::string> keys[3];
  std::string duplicate;
  bool deep = false;
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > 3) deep = true;
    if (event == json::parse_event_t::object_start && depth >= 0 && depth < 3) keys[depth].clear();
    if (event == json::parse_event_t::key && depth >= 1 && depth <= 3) {
      auto text = value.get<std::string>();
      if (!keys[depth - 1].insert(text).second && duplicate.empty()) duplicate = std::move(text);
    }
    return !deep;  // drops what is nested deeper
  };
  const json root = json::parse(header.begin(), header.end(), watch, /*allow_exceptions=*/false);
  if (root.is_discarded()) return bad("its header is not JSON");
  if (deep) return bad("its header is nested too deeply");
  if (!root.is_object()) return bad("its header is not an object");
  if (!duplicate.empty()) return bad(fmt::format("'{}' appears twice", duplicate));

  SafetensorsFile f;
  const uint64_t data_size = bytes.size() - 8 - header_size;
  std::string hash;
  for (const auto& [key, entry] : root.items()) {
    if (key.size() > limits.max_string_bytes) return bad("a name is too long");
    if (key == "__metadata__") {
      if (!entry.is_object()) return bad("__metadata__ is not an object");
      for (const auto& [k, v] : entry.items()) {
        if (!v.is_string()) return bad(fmt::format("metadata '{}' is not a string", k));
        if (k == kHashKey)
          hash = v.get<std::string>();
        else
          f.metadata_[k] = v.get<std::string>();
      }
      continue;
    }
    const auto wrong = [&](std::string_view why) { return bad(fmt::format("tensor '{}': {}", key, why)); };
    if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
        !entry.contains("data_offsets"))
      return wrong("it must have dtype, shape and data_offsets");
    const json &jt = entry["dtype"], &js = entry["shape"], &jo = entry["data_offsets"];
    if (!jt.is_string()) return wrong("dtype is not a string");
    SafetensorsTensor t;
    t.name = key;
    const auto text = jt.get<std::string>();
    const auto* found =
        std::find_if(std::begin(kNames), std::end(kNames), [&](const auto& n) { return n.first == text; });
    if (found == std::end(kNames)) return wrong(fmt::format("dtype '{}' is not supported", text));
    t.dtype = found->second;
    if (!js.is_array() || js.size() > limits.max_rank) return wrong("shape is not a list of at most 8 sizes");
    for (const json& d : js) {
      if (!is_count(d)) return wrong("shape holds something else than sizes");
      t.shape.push_back(d.get<int64_t>());
    }
    if (!jo.is_array() || jo.size() != 2 || !is_count(jo[0]) || !is_count(jo[1]))
      return wrong("data_offsets is not a pair of offsets");
    const uint64_t begin = jo[0].get<uint64_t>(), end = jo[1].get<uint64_t>();
    const auto need = checked_bytes(t.dtype, t.shape, limits);
    if (!need.ok()) return wrong(need.error().message);
    if (begin > end || end > data_size) return wrong("its data lies outside the file (cut off?)");
    if (end - begin != *need)
      return wrong(fmt::format("{} bytes of data where its shape needs {}", end - begin, *need));
    t.data = bytes.subspan(8 + header_size + begin, end - begin);
    f.tensors_.push_back(std::move(t));
  }

  // Sorted by position the ranges must tile the data area.
  std::vector<const SafetensorsTensor*> order;
  for (const auto& t : f.tensors_) order.push_back(&t);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->data.data(), a->data.size()) < std::pair(b->data.data(), b->data.size());
  });
  const std::byte* at = bytes.data() + 8 + header_size;
  for (const auto* t : order) {
    if (t->data.data() != at)
      return bad(fmt::format("tensor '{}': its data overlaps another tensor's or leaves a hole", t->name));
    at += t->data.size();
  }
  if (at != bytes.data() + bytes.size()) return bad("there are bytes after the last tensor");

  if (origin == kHashed && hash.empty())
    return bad("it has no checksum; graphc's own files have one (damaged?)");
  if (!hash.empty()) {
    const std::string pattern = fmt::format("\"{}\":\"", kHashKey);
    const size_t where = header.find(pattern);
    if (hash.size() != 64 || where == std::string_view::npos ||
        header.substr(where + pattern.size(), 64) != hash)
      return bad("its checksum is malformed");
    const size_t value = 8 + where + pattern.size();
    Sha256 h;
    h.update(p, value);
    h.update(kZeros);
    h.update(p + value + 64, bytes.size() - value - 64);
    if (to_hex(h.finish()) != hash)
      return bad("its checksum doesn't match: the file is damaged or was changed");
  }
  for (const auto& t : f.tensors_)
    if (t.dtype == DType::kBool)
      for (const std::byte b : t.data)
        if (b > std::byte{1}) return bad(fmt::format("tensor '{}': a bool is neither 0 nor 1", t.name));
  return f;
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const {
  // root.items() of a JSON object comes sorted by key
  const auto it = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                   [](const SafetensorsTensor& t, std::string_view n) { return t.name < n; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

Status write_safetensors(const std::string& path, std::vector<SafetensorsTensor> tensors,
                         const SafetensorsMetadata& metadata) {
  // Wide elements first, so that with a header of a multiple of 8 bytes each tensor is aligned to its
  // element.
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return std::pair(-static_cast<int>(dtype_size(a.dtype)), std::string_view(a.name)) <
           std::pair(-static_cast<int>(dtype_size(b.dtype)), std::string_view(b.name));
  });
  json root = json::object();
  for (const auto& [k, v] : metadata) root["__metadata__"][k] = v;
  root["__metadata__"][std::string(kHashKey)] = kZeros;
  uint64_t offset = 0;
  for (const auto& t : tensors) {
    GC_TRY(const uint64_t need, checked_bytes(t.dtype, t.shape));
    if (need != t.data.size())
      return internal_error(fmt::format("write_safetensors: tensor '{}' has {} bytes, its shape needs {}",
                                        t.name, t.data.size(), need));
    if (t.name == "__metadata__" || root.contains(t.name))
      return internal_error(fmt::format("write_safetensors: the name '{}' can't be used twice", t.name));
    root[t.name] = {
        {"dtype", st_name(t.dtype)}, {"shape", t.shape}, {"data_offsets", {offset, offset + need}}};
    offset += need;
  }
  std::string header = root.dump(-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
  while (header.size() % 8 != 0) header += ' ';
  const std::string pattern = fmt::format("\"{}\":\"", kHashKey);
  // "__metadata__" sorts before most names but not before capitals: take the place inside the metadata object
  // itself.
  const size_t meta = header.find("\"__metadata__\":{");
  const size_t where = header.find(pattern);
  if (where == std::string::npos || where < meta)
    return internal_error("write_safetensors: a name collides with the checksum's");
  std::string prefix(8, '\0');
  for (int i = 0; i < 8; ++i) prefix[i] = static_cast<char>(header.size() >> (8 * i));
  Sha256 h;
  h.update(prefix);
  h.update(header);
  for (const auto& t : tensors) h.update(t.data.data(), t.data.size());
  header.replace(where + pattern.size(), 64, to_hex(h.finish()));
  std::vector<Bytes> pieces{as_bytes_view(prefix), as_bytes_view(header)};
  for (const auto& t : tensors) pieces.push_back(t.data);
  return atomic_write(path, pieces);
}

}  // namespace graphc
