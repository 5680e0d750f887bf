// Plans: sizes, bounds, places.
#include "runtime/plan.h"

#include <fmt/format.h>

#include <algorithm>

namespace graphc {
namespace {

constexpr int64_t kMarker = 0;  // a tensor has strides; fix_pointers says where

}  // namespace

std::string spec_string(const TensorSpec& t, std::span<const std::string> names) {
  std::string s(dtype_name(t.dtype));
  if (t.shape.empty()) return s;
  s += '[';
  for (size_t i = 0; i < t.shape.size(); ++i) s += (i ? ", " : "") + t.shape[i].str(names);
  return s + ']';
}

Result<uint64_t> Context::PlanBuilder::spec_bytes(const TensorSpec& t, std::vector<int64_t>* shape) const {
  shape->clear();
  for (const SizeExpr& e : t.shape) {
    GC_TRY(const int64_t d, eval(e));
    shape->push_back(d);
  }
  auto r = checked_bytes(t.dtype, *shape);
  if (!r.ok()) return invalid(fmt::format("'{}': {}", t.name, r.error().message));
  return r;
}

Status Context::PlanBuilder::build() {
  std::vector<int64_t> shape;
  for (const TensorSpec& t : f.inputs) {
    GC_TRY(const uint64_t b, spec_bytes(t, &shape));
    plan.input_bytes.push_back(b);
  }
  for (const TensorSpec& t : f.outputs) {
    GC_TRY(const uint64_t b, spec_bytes(t, &shape));
    plan.output_bytes.push_back(b);
    plan.output_shapes.push_back(shape);
  }
  GC_CHECK(place_buffers());
  for (size_t s = 0; s < f.steps.size(); ++s) {
    if (Status st = step(s); !st.ok()) {
      Error e = st.error();
      e.message = fmt::format("function '{}', step {} ({}): {}", f.name, s, c.model_->step_label(f.steps[s]),
                              e.message);
      return e;
    }
  }
  for (const EndCopy& copy : f.copies) {
    GC_TRY(const int64_t bytes, eval(copy.bytes));
    const Place &src = places[copy.src], &dst = places[copy.dst];
    if (static_cast<uint64_t>(bytes) > src.bytes || static_cast<uint64_t>(bytes) > dst.bytes)
      return invalid(fmt::format("function '{}': a copy at the end leaves its buffers", f.name));
    plan.copies.push_back({src, dst, static_cast<uint64_t>(bytes)});
  }
  fix_pointers();
  return {};
}

Status Context::PlanBuilder::place_buffers() {
  places.resize(f.buffers.size());
  std::vector<ArenaItem> items;
  std::vector<uint32_t> item_buffer;
  for (size_t i = 0; i < f.buffers.size(); ++i) {
    const ProgramBuffer& b = f.buffers[i];
    GC_TRY(const int64_t bytes, eval(b.bytes));
    Place& p = places[i];
    p.index = b.index;
    p.bytes = static_cast<uint64_t>(bytes);
    uint64_t whole = p.bytes;
    switch (b.kind) {
      case ProgramBuffer::kInput: p.where = Where::kInput, whole = plan.input_bytes[b.index]; break;
      case ProgramBuffer::kOutput: p.where = Where::kOutput, whole = plan.output_bytes[b.index]; break;
      case ProgramBuffer::kVariable:
        p.where = Where::kVariable, whole = c.variables_->regions_[b.index].capacity;
        break;
      case ProgramBuffer::kArena:
        p.where = Where::kArena;
        items.push_back({bytes, b.first_step, b.last_step, b.offset});
        item_buffer.push_back(static_cast<uint32_t>(i));
        break;
      case ProgramBuffer::kAlias: break;
    }
    if (p.bytes != whole)
      return invalid(fmt::format("function '{}': buffer {} has {} bytes, what it stands for has {}", f.name,
                                 i, p.bytes, whole));
  }
  GC_TRY(plan.arena, plan_arena(items, c.apart_ ? kDeviceAlign : kArenaAlign));
  for (size_t k = 0; k < items.size(); ++k) places[item_buffer[k]].offset = plan.arena.offsets[k];
  for (size_t i = 0; i < f.buffers.size(); ++i) {
    const ProgramBuffer& b = f.buffers[i];
    if (b.kind != ProgramBuffer::kAlias) continue;
    GC_TRY(const int64_t at, eval(b.alias_offset));
    const Place& root = places[b.index];
    if (static_cast<uint64_t>(at) > root.bytes || places[i].bytes > root.bytes - static_cast<uint64_t>(at))
      return invalid(
          fmt::format("function '{}': buffer {} leaves the buffer {} it lies in", f.name, i, b.index));
    places[i] = {root.where, root.index, root.offset + static_cast<uint64_t>(at), places[i].bytes};
  }
  return {};
}

Status Context::PlanBuilder::tensor(const TensorView& v, uint32_t device) {
  const Place& whole = places[v.buffer];
  GC_TRY(const int64_t offset, eval(v.offset));
  number_at.push_back(plan.numbers.size());
  std::vector<int64_t> shape;
  for (const SizeExpr& e : v.shape) {
    GC_TRY(const int64_t d, eval(e));
    shape.push_back(d);
  }
  GC_TRY(const uint64_t dense, checked_bytes(v.dtype, shape));
  const auto size = static_cast<int64_t>(dtype_size(v.dtype));
  uint64_t extent = dense;
  plan.numbers.insert(plan.numbers.end(), shape.begin(), shape.end());
  if (!v.strides.empty()) {
    int64_t reach = 0;
    bool overflow = false;
    for (size_t i = 0; i < shape.size(); ++i) {
      GC_TRY(const int64_t stride, eval(v.strides[i]));
      plan.numbers.push_back(stride);
      int64_t step = 0;
      overflow |= __builtin_mul_overflow(std::max<int64_t>(shape[i] - 1, 0), stride, &step);
      overflow |= __builtin_add_overflow(reach, step, &reach);
    }
    overflow |= __builtin_add_overflow(reach, 1, &reach) || __builtin_mul_overflow(reach, size, &reach);
    if (overflow) return invalid("a tensor's strides overflow");
    extent = dense == 0 ? 0 : static_cast<uint64_t>(reach);
  }
  if (static_cast<uint64_t>(offset) > whole.bytes || extent > whole.bytes - static_cast<uint64_t>(offset))
    return invalid(fmt::format("{} at byte {} leaves buffer {} of {} bytes", type_string(v.dtype, shape),
                               offset, v.buffer, whole.bytes));
  if ((whole.offset + static_cast<uint64_t>(offset)) % static_cast<uint64_t>(size) != 0)
    return invalid(fmt::format("{} at byte {} is not aligned", type_string(v.dtype, shape), offset));
  gc_tensor t{};
  t.rank = static_cast<uint32_t>(shape.size());
  set_gc_dtype(&t, v.dtype);
  t.strides = v.strides.empty() ? nullptr : &kMarker;  // resolved by fix_pointers
  plan.tensors.push_back(t);
  Place p = whole;
  p.offset += static_cast<uint64_t>(offset);
  plan.bound.push_back({p, device});
  return {};
}

Status Context::PlanBuilder::workspace(const Step& st, const DeviceExec& exec, Plan::BoundStep* b) {
  GC_TRY(const gc_exec_info info, exec.info());
  const size_t first = symbol_at.back();
  GC_TRY(const uint64_t needed,
         exec.workspace_bytes({plan.numbers.data() + first, plan.numbers.size() - first}));
  if (st.workspace >= 0) {
    b->workspace = places[st.workspace];
    if (needed > b->workspace.bytes)
      return invalid(fmt::format("the executable needs {} bytes of workspace, the program gives {}", needed,
                                 b->workspace.bytes));
  } else if (needed > 0) {
    b->workspace = {Where::kWorkspace, 0, 0, needed};
    plan.workspace_bytes = std::max(plan.workspace_bytes, needed);
  } else {
    return {};
  }
  // Regions begin at a multiple of this.
  const uint64_t align = c.apart_ ? kDeviceAlign : static_cast<uint64_t>(kArenaAlign);
  if (info.workspace_align > align || (info.workspace_align && b->workspace.offset % info.workspace_align != 0))
    return unsupported(fmt::format("the executable wants its workspace aligned to {} bytes, which the program's "
                                   "memory plan doesn't do: compile it anew",
                                   info.workspace_align));
  b->has_workspace = true;
  return {};
}

Status Context::PlanBuilder::step(size_t s) {
  const Step& st = f.steps[s];
  Plan::BoundStep b;
  const DeviceExec& exec = c.model_->execs_[st.exec];
  b.exec = exec.raw();
  b.execute = exec.device().api().execute;
  b.device = c.model_->exec_device_[st.exec];
  for (const TensorView& v : st.inputs) GC_CHECK(tensor(v, b.device));
  for (const TensorView& v : st.outputs) GC_CHECK(tensor(v, b.device));
  b.run.struct_size = sizeof(gc_run);
  b.run.num_in = st.inputs.size();
  b.run.num_out = st.outputs.size();
  b.run.num_symbols = st.symbols.size();
  symbol_at.push_back(plan.numbers.size());
  for (const SizeExpr& e : st.symbols) {
    GC_TRY(const int64_t v, eval(e));
    plan.numbers.push_back(v);
  }
  GC_CHECK(workspace(st, exec, &b));
  plan.steps.push_back(b);
  return {};
}

// The vectors have their final sizes: pointers into them stay.
void Context::PlanBuilder::fix_pointers() {
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    gc_tensor& t = plan.tensors[i];
    t.offset = plan.bound[i].place.offset;
    t.shape = plan.numbers.data() + number_at[i];
    if (t.strides) t.strides = t.shape + t.rank;
  }
  size_t at = 0;
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    gc_run& r = plan.steps[s].run;
    r.in = plan.tensors.data() + at;
    r.out = plan.tensors.data() + at + r.num_in;
    at += r.num_in + r.num_out;
    r.symbols = plan.numbers.data() + symbol_at[s];
  }
}

}  // namespace graphc
