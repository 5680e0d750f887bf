// Variables: storage of parameters, state and constants.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "runtime/base/thread_pool.h"
#include "runtime/executor.h"

namespace graphc {
namespace {

// A constant is used where it lies in the artefact if kernels may rely on its alignment.
bool in_artefact(const ProgramVariable& v) {
  return v.kind == VariableRole::kConst && !v.data.empty() &&
         reinterpret_cast<uintptr_t>(v.data.data()) % 64 == 0;
}

Error no_memory(std::string_view what, uint64_t bytes) {
  return {ErrorCode::kNoMemory, fmt::format("out of memory: {} needs {} bytes", what, bytes)};
}

Status import_everywhere(Region& r, std::span<const std::shared_ptr<Device>> devices) {
  r.buffers.clear();
  for (const auto& d : devices) {
    GC_TRY(DeviceBuffer b, d->import_host(r.data, r.capacity));
    r.buffers.push_back(std::move(b));
  }
  return {};
}

// Bytes of a tensor of one float dtype as another.
void convert_floats(DType from, const void* src, DType to, void* dst, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) store_from_double(to, dst, i, load_as_double(from, src, i));
}

}  // namespace

Result<std::shared_ptr<Variables>> Variables::create(std::shared_ptr<const Model> model,
                                                     const VariablesOptions& options) {
  std::shared_ptr<Variables> v(new Variables);
  v->model_ = std::move(model);
  const Program& p = v->model_->program();
  std::map<std::string, SafetensorsFile> files;
  v->regions_.resize(p.variables.size());
  // All in one piece: a network's many tensors of less than a huge page share those then.
  uint64_t total = 0;
  for (size_t i = 0; i < p.variables.size(); ++i) {
    GC_TRY(v->regions_[i].capacity, checked_bytes(p.variables[i].dtype, p.variables[i].shape));
    if (in_artefact(p.variables[i])) continue;
    const auto rounded = checked_add(v->regions_[i].capacity, 63);
    const auto sum = rounded ? checked_add(total, *rounded / 64 * 64) : std::nullopt;
    if (!sum) return invalid("the size of the variables overflows");
    total = *sum;
  }
  if (const uint64_t needed = v->model_->apart_ ? v->bytes() : total; needed > options.max_memory_bytes)
    return Error{ErrorCode::kNoMemory,
                 fmt::format("the model's parameters and state need {} bytes; the budget is {}", needed,
                             options.max_memory_bytes)};
  if (v->model_->apart_) GC_CHECK(v->place_on_device());
  v->memory_ = HostMemory::allocate(total);
  if (!v->memory_.data()) return no_memory("the model's parameters and state", total);
  std::byte* next = v->memory_.data();
  for (size_t i = 0; i < p.variables.size(); ++i) {
    const ProgramVariable& spec = p.variables[i];
    Region& r = v->regions_[i];
    const uint64_t bytes = r.capacity;
    if (in_artefact(spec)) {
      r.data = const_cast<std::byte*>(spec.data.data());
    } else {
      r.data = next;
      next += (bytes + 63) / 64 * 64;
      if (!spec.external_file.empty()) {
        auto it = files.find(spec.external_file);
        if (it == files.end()) {
          GC_TRY(MappedFile mapped, MappedFile::open_beneath(p.directory, spec.external_file));
          GC_TRY(SafetensorsFile file, SafetensorsFile::from_mapping(std::move(mapped), spec.external_file));
          it = files.emplace(spec.external_file, std::move(file)).first;
        }
        const SafetensorsTensor* t = it->second.find(spec.external_tensor);
        if (!t || t->dtype != spec.dtype || t->shape != spec.shape)
          return invalid(fmt::format("variable '{}': '{}' in '{}' {}", spec.name, spec.external_tensor,
                                     spec.external_file,
                                     t ? fmt::format("is {}, expected {}", type_string(t->dtype, t->shape),
                                                     type_string(spec.dtype, spec.shape))
                                       : std::string("is missing")));
        if (bytes) std::memcpy(r.data, t->data.data(), bytes);
      } else if (spec.init) {
        GC_CHECK(
            initialise(*spec.init, spec.dtype, spec.shape, options.seed, spec.name, r.data, options.pool));
      } else if (bytes) {
        std::memcpy(r.data, spec.data.data(), bytes);
      }
      if (spec.name == "rng.seed" && bytes == dtype_size(spec.dtype))
        store_from_int(spec.dtype, r.data, 0, static_cast<int64_t>(options.seed));
    }
    if (!v->model_->apart_) GC_CHECK(import_everywhere(r, v->model_->devices_));
  }
  return v;
}

// All variables in one buffer, constants included; the values go up before the first run.
Status Variables::place_on_device() {
  for (Region& r : regions_) {
    const auto rounded = checked_add(r.capacity, kDeviceAlign - 1);
    const auto end =
        rounded ? checked_add(device_bytes_, *rounded / kDeviceAlign * kDeviceAlign) : std::nullopt;
    if (!end) return invalid("the size of the variables overflows");
    r.offset = device_bytes_;
    device_bytes_ = *end;
  }
  auto whole = model_->apart_->alloc(std::max<uint64_t>(device_bytes_, 1), kDeviceAlign);
  if (!whole.ok()) {
    Error e = whole.error();
    e.message = fmt::format("the model's parameters and state need {} bytes: {}", device_bytes_, e.message);
    return e;
  }
  device_memory_ = *std::move(whole);
  for (Region& r : regions_) r.whole = device_memory_.raw();
  newer_.assign(regions_.size(), Newer::kHost);
  host_newer_ = true;
  return {};
}

Status Variables::fetch(size_t i) const {
  if (newer_.empty()) return {};
  std::lock_guard lock(mutex_);
  if (newer_[i] != Newer::kDevice) return {};
  const Region& r = regions_[i];
  if (r.capacity > 0)
    if (Status s = model_->apart_->to_host({}, r.whole, r.offset, r.data, r.capacity); !s.ok())
      return Error{s.error().code, fmt::format("variable '{}': {}", specs()[i].name, s.error().message)};
  newer_[i] = Newer::kNeither;
  return {};
}

void Variables::host_changed(size_t i) {
  if (newer_.empty()) return;
  std::lock_guard lock(mutex_);
  newer_[i] = Newer::kHost;
  host_newer_ = true;
}

Status Variables::upload() {
  if (!host_newer_.load(std::memory_order_acquire)) return {};
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < newer_.size(); ++i) {
    if (newer_[i] != Newer::kHost) continue;
    const Region& r = regions_[i];
    if (r.capacity > 0)
      if (Status s = model_->apart_->to_device({}, r.data, r.whole, r.offset, r.capacity); !s.ok())
        return Error{s.error().code, fmt::format("variable '{}': {}", specs()[i].name, s.error().message)};
    newer_[i] = Newer::kNeither;
  }
  host_newer_.store(false, std::memory_order_release);
  return {};
}

void Variables::device_changed(std::span<const uint32_t> variables) {
  if (variables.empty()) return;
  std::lock_guard lock(mutex_);
  for (const uint32_t i : variables) newer_[i] = Newer::kDevice;
}

const std::vector<ProgramVariable>& Variables::specs() const { return model_->program().variables; }

Result<TensorRef> Variables::get(size_t i) const {
  GC_CHECK(fetch(i));
  return TensorRef(specs()[i].dtype, specs()[i].shape, regions_[i].data);
}

Result<void*> Variables::data(size_t i) {
  GC_CHECK(fetch(i));
  host_changed(i);
  return static_cast<void*>(regions_[i].data);
}

uint64_t Variables::bytes() const {
  uint64_t n = 0;
  for (size_t i = 0; i < regions_.size(); ++i)
    if (model_->apart_ || !in_artefact(specs()[i])) n += regions_[i].capacity;
  return n;
}

Status Variables::set(size_t i, const TensorRef& value) {
  const ProgramVariable& spec = specs()[i];
  if (value.dtype != spec.dtype || !std::ranges::equal(value.shape, spec.shape))
    return invalid(fmt::format("variable '{}' is {}, the value {}", spec.name,
                               type_string(spec.dtype, spec.shape), type_string(value.dtype, value.shape)));
  if (spec.kind == VariableRole::kConst) return invalid(fmt::format("'{}' is a constant", spec.name));
  if (value.bytes()) std::memcpy(regions_[i].data, value.data, value.bytes());
  host_changed(i);
  return {};
}

Status Variables::load(const SafetensorsFile& file, const std::string& path) {
  std::vector<std::string> known, given;
  for (const ProgramVariable& v : specs())
    if (v.kind != VariableRole::kConst) known.push_back(v.name);
  for (const SafetensorsTensor& t : file.tensors()) given.push_back(t.name);
  // All is checked before anything is written, so that a failed load changes nothing.
  for (const SafetensorsTensor& t : file.tensors()) {
    const int64_t i = model_->program().variable(t.name);
    if (i < 0 || specs()[i].kind == VariableRole::kConst)
      return invalid(fmt::format("'{}': the model has no '{}'{}", path, t.name, nearest_hint(t.name, known)));
    const ProgramVariable& spec = specs()[i];
    const bool convertible = t.dtype == spec.dtype || (is_float(t.dtype) && is_float(spec.dtype));
    if (!convertible || t.shape != spec.shape)
      return invalid(fmt::format("'{}': '{}' is {}, the model's is {}", path, t.name,
                                 type_string(t.dtype, t.shape), type_string(spec.dtype, spec.shape)));
  }
  for (const ProgramVariable& v : specs()) {
    if (v.kind != VariableRole::kConst && !file.find(v.name))
      return invalid(fmt::format("'{}' lacks '{}'{}", path, v.name, nearest_hint(v.name, given)));
  }
  for (const SafetensorsTensor& t : file.tensors()) {
    const int64_t i = model_->program().variable(t.name);
    const ProgramVariable& spec = specs()[i];
    if (t.data.empty()) continue;
    if (t.dtype == spec.dtype)
      std::memcpy(regions_[i].data, t.data.data(), t.data.size());
    else
      convert_floats(t.dtype, t.data.data(), spec.dtype, regions_[i].data,
                     t.data.size() / dtype_size(t.dtype));
    host_changed(static_cast<size_t>(i));
  }
  return {};
}

Result<std::vector<SafetensorsTensor>> Variables::saved() const {
  std::vector<SafetensorsTensor> out;
  for (size_t i = 0; i < specs().size(); ++i) {
    const ProgramVariable& v = specs()[i];
    if (v.kind == VariableRole::kConst) continue;
    GC_CHECK(fetch(i));
    out.push_back({v.name, v.dtype, v.shape, {regions_[i].data, regions_[i].capacity}});
  }
  return out;
}

}  // namespace graphc
