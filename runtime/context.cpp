// Context: inputs, sizes, memory. What runs is in context_run.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "runtime/plan.h"

namespace graphc {

Context::~Context() = default;

Result<std::unique_ptr<Context>> Context::create(std::shared_ptr<const Model> model,
                                                 std::string_view function,
                                                 std::shared_ptr<Variables> variables,
                                                 const ContextOptions& options) {
  const Function* f = model->program().function(function);
  if (!f) {
    std::string known;
    for (const Function& g : model->program().functions)
      known += (known.empty() ? "'" : ", '") + g.name + "'";
    return invalid(fmt::format("the program has no function '{}', only {}{}", function,
                               known.empty() ? "none" : known,
                               function == "train" ? "; compile it with --train" : ""));
  }
  if (variables->model_ != model) return internal_error("Context: the variables belong to another model");
  std::unique_ptr<Context> c(new Context);
  c->model_ = std::move(model);
  c->variables_ = std::move(variables);
  c->function_ = f;
  c->options_ = options;
  c->apart_ = c->model_->apart_;
  c->inputs_.resize(f->inputs.size());
  c->outputs_.resize(f->outputs.size());
  c->input_shapes_.resize(f->inputs.size());
  c->input_set_.resize(f->inputs.size(), false);
  c->input_new_ = c->input_set_;
  c->find_written();
  for (const Symbol& s : c->model_->program().symbols) c->symbol_names_.push_back(s.name);
  c->symbols_.assign(c->symbol_names_.size(), -1);
  c->given_symbols_ = c->symbols_;
  c->step_ns_.assign(f->steps.size(), 0);
  c->step_runs_ = c->step_ns_;
  return c;
}

void Context::find_written() {
  std::vector<bool> written(variables_->regions_.size());
  const auto mark = [&](uint32_t buffer) {
    const ProgramBuffer* b = &function_->buffers[buffer];
    if (b->kind == ProgramBuffer::kAlias) b = &function_->buffers[b->index];
    if (b->kind == ProgramBuffer::kVariable) written[b->index] = true;
  };
  for (const Step& s : function_->steps)
    for (const TensorView& v : s.outputs) mark(v.buffer);
  for (const EndCopy& copy : function_->copies) mark(copy.dst);
  for (uint32_t i = 0; i < written.size(); ++i)
    if (written[i]) written_.push_back(i);
}

Error Context::input_error(size_t i, DType dtype, std::span<const int64_t> shape,
                           std::string_view why) const {
  const TensorSpec& t = function_->inputs[i];
  return invalid(fmt::format("input '{}' must be {}, got {}: {}", t.name, spec_string(t, symbol_names_),
                             type_string(dtype, shape), why));
}

Status Context::set_input(std::string_view name, const TensorRef& value) {
  std::vector<std::string> known;
  for (size_t i = 0; i < function_->inputs.size(); ++i) {
    if (function_->inputs[i].name == name) return set_input(i, value);
    known.push_back(function_->inputs[i].name);
  }
  std::string all;
  for (const std::string& k : known) all += (all.empty() ? "'" : ", '") + k + "'";
  return invalid(fmt::format("there is no input '{}'; the model has {}{}", name, all.empty() ? "none" : all,
                             nearest_hint(name, known)));
}

Status Context::set_input(size_t i, const TensorRef& value) {
  GC_TRY(void* const to, prepare_input(i, value.dtype, value.shape));
  if (const size_t n = value.bytes()) std::memcpy(to, value.data, n);
  return {};
}

Result<void*> Context::prepare_input(size_t i, DType dtype, std::span<const int64_t> shape) {
  const TensorSpec& t = function_->inputs[i];
  if (dtype != t.dtype)
    return input_error(i, dtype, shape, fmt::format("the dtype must be {}", dtype_name(t.dtype)));
  if (shape.size() != t.shape.size())
    return input_error(i, dtype, shape, fmt::format("the rank must be {}", t.shape.size()));
  for (size_t d = 0; d < shape.size(); ++d)
    if (const int64_t fixed = t.shape[d].as_const(); fixed >= 0 && fixed != shape[d])
      return input_error(i, dtype, shape, fmt::format("dimension {} must be {}", d, fixed));
  const auto bytes = checked_bytes(dtype, shape);
  if (!bytes.ok()) return input_error(i, dtype, shape, bytes.error().message);
  if (!std::ranges::equal(shape, input_shapes_[i]) || !input_set_[i]) {
    // Should there be no memory, the input has none: it isn't set then.
    input_set_[i] = false;
    shapes_changed_ = true;
    GC_CHECK(grow(inputs_[i], *bytes, fmt::format("input '{}'", t.name)));
    input_shapes_[i].assign(shape.begin(), shape.end());
    input_set_[i] = true;
  }
  input_new_[i] = true;
  return static_cast<void*>(inputs_[i].data);
}

Status Context::set_symbol(std::string_view name, int64_t value) {
  for (size_t i = 0; i < symbol_names_.size(); ++i)
    if (symbol_names_[i] == name) {
      given_symbols_[i] = value;
      shapes_changed_ = true;
      return {};
    }
  return invalid(fmt::format("the model has no size named '{}'", name));
}

Status Context::grow(Region& region, uint64_t bytes, std::string_view what, bool host_side) {
  if ((region.data || !region.buffers.empty()) && bytes <= region.capacity) return {};
  const uint64_t now = memory_bytes() - region.capacity + variables_->bytes();
  if (bytes > options_.max_memory_bytes || now > options_.max_memory_bytes - bytes)
    return Error{ErrorCode::kNoMemory, fmt::format("{} needs {} bytes, beside {} in use; the budget is {}",
                                                   what, bytes, now, options_.max_memory_bytes)};
  // The old memory goes first; the contents needn't survive, for whoever grows a region fills it afterwards.
  // What was captured names it.
  for (const auto& p : plans_) p->captured = DeviceCapture();
  region = Region{};
  ++generation_;
  Region fresh;
  fresh.capacity = bytes;
  if (apart_) {
    const auto in_use = [&](Error e) {
      e.message = fmt::format("{} needs {} bytes, beside {} in use: {}", what, bytes, now, e.message);
      return e;
    };
    auto buffer = apart_->alloc(std::max<uint64_t>(bytes, 1), kDeviceAlign);
    if (!buffer.ok()) return in_use(buffer.error());
    fresh.buffers.push_back(*std::move(buffer));
    if (host_side && (apart_->info().memspaces & GC_MEM_PINNED)) {
      auto pinned = apart_->alloc_pinned(std::max<uint64_t>(bytes, 1), &fresh.data);
      if (!pinned.ok()) return in_use(pinned.error());
      fresh.pinned = *std::move(pinned);
    }
  }
  if (host_side && !fresh.data) {
    fresh.memory = HostMemory::allocate(bytes);
    fresh.data = fresh.memory.data();
    if (!fresh.data)
      return Error{ErrorCode::kNoMemory, fmt::format("out of memory: {} needs {} bytes", what, bytes)};
  }
  if (!apart_) {
    for (const auto& d : model_->devices_) {
      GC_TRY(DeviceBuffer b, d->import_host(fresh.data, fresh.capacity));
      fresh.buffers.push_back(std::move(b));
    }
  }
  region = std::move(fresh);
  return {};
}

Status Context::bind_symbols() {
  const Program& p = model_->program();
  const std::string no_input;
  std::vector<std::string> source(symbols_.size());  // which input said so
  symbols_ = given_symbols_;
  for (size_t i = 0; i < symbols_.size(); ++i)
    if (symbols_[i] >= 0) source[i] = "the given value";
  for (size_t i = 0; i < function_->inputs.size(); ++i) {
    const TensorSpec& t = function_->inputs[i];
    if (!input_set_[i])
      return invalid(fmt::format("input '{}' ({}) is not set", t.name, spec_string(t, symbol_names_)));
    for (size_t d = 0; d < t.shape.size(); ++d) {
      const int64_t s = t.shape[d].as_symbol();
      if (s < 0) continue;
      const int64_t value = input_shapes_[i][d];
      if (symbols_[s] < 0) {
        symbols_[s] = value;
        source[s] = fmt::format("input '{}'", t.name);
      } else if (symbols_[s] != value) {
        return input_error(i, t.dtype, input_shapes_[i],
                           fmt::format("dimension {} is {} = {}, but {} has {} = {}", d, symbol_names_[s],
                                       value, source[s], symbol_names_[s], symbols_[s]));
      }
    }
  }
  for (size_t s = 0; s < symbols_.size(); ++s) {
    const Symbol& sym = p.symbols[s];
    if (symbols_[s] < 0) {
      // Not every function uses every symbol: what none of its inputs names takes a value that is in range.
      symbols_[s] = sym.min;
      continue;
    }
    if (symbols_[s] < sym.min || symbols_[s] > sym.max)
      return invalid(fmt::format("{} makes {} = {}, the model allows {}..{}", source[s], sym.name,
                                 symbols_[s], sym.min, sym.max));
  }
  for (size_t i = 0; i < function_->inputs.size(); ++i) {
    const TensorSpec& t = function_->inputs[i];
    for (size_t d = 0; d < t.shape.size(); ++d) {
      GC_TRY(const int64_t want, t.shape[d].eval(symbols_));
      if (want != input_shapes_[i][d])
        return input_error(
            i, t.dtype, input_shapes_[i],
            fmt::format("dimension {} must be {} = {}", d, t.shape[d].str(symbol_names_), want));
    }
  }
  return {};
}

Region& Context::region(const void* place) {
  const Place& p = *static_cast<const Place*>(place);
  switch (p.where) {
    case Where::kInput: return inputs_[p.index];
    case Where::kOutput: return outputs_[p.index];
    case Where::kVariable: return variables_->regions_[p.index];
    case Where::kWorkspace: return workspace_;
    default: return arena_;
  }
}

void Context::resolve(Plan& plan) {
  plan.ran = false;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const Region& r = region(&plan.bound[i].place);
    plan.tensors[i].buf = r.buffer(plan.bound[i].device);
    plan.tensors[i].offset = r.offset + plan.bound[i].place.offset;
  }
  for (Plan::BoundStep& s : plan.steps) {
    if (!s.has_workspace) continue;
    const Region& r = region(&s.workspace);
    s.run.workspace = r.buffer(s.device);
    s.run.workspace_offset = r.offset + s.workspace.offset;
  }
  plan.generation = generation_;
}

Status Context::bind() {
  if (!shapes_changed_ && plan_) return {};
  plan_ = nullptr;
  GC_CHECK(bind_symbols());
  auto found =
      std::find_if(plans_.begin(), plans_.end(), [&](const auto& p) { return p->symbols == symbols_; });
  if (found == plans_.end()) {
    auto plan = std::make_unique<Plan>();
    plan->symbols = symbols_;
    plan->generation = generation_ - 1;
    PlanBuilder builder{*this, *plan, *function_, {}, {}, {}};
    GC_CHECK(builder.build());
    if (plans_.size() == kMaxPlans) plans_.pop_back();
    found = plans_.insert(plans_.begin(), std::move(plan));
  }
  std::rotate(plans_.begin(), found, found + 1);
  Plan& plan = *plans_.front();
  for (size_t i = 0; i < outputs_.size(); ++i)
    GC_CHECK(grow(outputs_[i], plan.output_bytes[i], fmt::format("output '{}'", function_->outputs[i].name)));
  const auto arena = static_cast<uint64_t>(plan.arena.bytes);
  GC_CHECK(grow(arena_, arena, "the arena of intermediate values", /*host_side=*/!apart_));
  GC_CHECK(grow(workspace_, plan.workspace_bytes, "the steps' workspace", /*host_side=*/!apart_));
  plan_ = &plan;
  shapes_changed_ = false;
  return {};
}

TensorRef Context::output(size_t i) const {
  if (!plan_) return {};
  return {function_->outputs[i].dtype, plan_->output_shapes[i], outputs_[i].data};
}

int64_t Context::output_index(std::string_view name) const {
  for (size_t i = 0; i < function_->outputs.size(); ++i)
    if (function_->outputs[i].name == name) return static_cast<int64_t>(i);
  return -1;
}

uint64_t Context::arena_bytes() const { return plan_ ? static_cast<uint64_t>(plan_->arena.bytes) : 0; }
uint64_t Context::live_bytes() const { return plan_ ? static_cast<uint64_t>(plan_->arena.live_bytes) : 0; }

uint64_t Context::memory_bytes() const {
  uint64_t n = arena_.capacity + workspace_.capacity;
  for (const Region& r : inputs_) n += r.capacity;
  for (const Region& r : outputs_) n += r.capacity;
  return n;
}

size_t Context::captured() const {
  return static_cast<size_t>(std::ranges::count_if(plans_, [](const auto& p) { return bool(p->captured); }));
}

std::vector<StepProfile> Context::profile() const {
  std::vector<StepProfile> out;
  for (size_t s = 0; s < function_->steps.size(); ++s)
    out.push_back({model_->step_label(function_->steps[s]), step_runs_[s], step_ns_[s]});
  return out;
}

}  // namespace graphc
