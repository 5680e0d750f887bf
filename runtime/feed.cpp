#include "runtime/feed.h"

#include <fmt/format.h>

#include <cstring>

namespace graphc {

Result<Feed> Feed::create(Context& context, const Dataset& set) {
  Feed f;
  f.context_ = &context;
  f.set_ = &set;
  const auto& inputs = context.function().inputs;
  const auto& fields = set.fields();
  f.field_.assign(inputs.size(), -1);
  std::vector<bool> used(fields.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    for (size_t k = 0; k < fields.size(); ++k)
      if (fields[k].name == inputs[i].name) f.field_[i] = static_cast<int64_t>(k), used[k] = true;
  for (size_t i = 0; i < inputs.size(); ++i)
    for (size_t k = 0; k < fields.size() && f.field_[i] < 0; ++k)
      if (!used[k]) f.field_[i] = static_cast<int64_t>(k), used[k] = true;
  for (size_t i = 0; i < inputs.size(); ++i) {
    std::string have;
    for (const DataField& d : fields)
      have += fmt::format("{}'{}' {}", have.empty() ? "" : ", ", d.name, type_string(d.dtype, d.shape));
    if (f.field_[i] < 0)
      return invalid(fmt::format("the data has no field for the model's input '{}'; its fields are {}",
                                 inputs[i].name, have));
    const DataField& d = fields[f.field_[i]];
    const bool fits = d.dtype == inputs[i].dtype || (is_float(d.dtype) && is_float(inputs[i].dtype)) ||
                      (is_int(d.dtype) && is_int(inputs[i].dtype));
    if (!fits || d.shape.size() + 1 != inputs[i].shape.size())
      return invalid(
          fmt::format("the model's input '{}' is {} of rank {}, the data's field '{}' is {} for one sample",
                      inputs[i].name, dtype_name(inputs[i].dtype), inputs[i].shape.size(), d.name,
                      type_string(d.dtype, d.shape)));
    std::vector<int64_t> shape{0};
    shape.insert(shape.end(), d.shape.begin(), d.shape.end());
    f.shape_.push_back(std::move(shape));
  }
  return f;
}

Status Feed::set(const Batch& batch) {
  for (size_t i = 0; i < field_.size(); ++i) {
    const DataField& d = set_->fields()[field_[i]];
    const DType want = context_->function().inputs[i].dtype;
    const auto& bytes = batch.fields[field_[i]];
    shape_[i][0] = batch.size;
    GC_TRY(void* const to, context_->prepare_input(i, want, shape_[i]));
    if (want == d.dtype) {
      if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
      continue;
    }
    const size_t n = bytes.size() / dtype_size(d.dtype);
    for (size_t k = 0; k < n; ++k) {
      if (is_float(want))
        store_from_double(want, to, k, load_as_double(d.dtype, bytes.data(), k));
      else
        store_from_int(want, to, k, load_as_int(d.dtype, bytes.data(), k));
    }
  }
  return {};
}

}  // namespace graphc
