// Context: binds sizes and runs steps.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "runtime/arena.h"
#include "runtime/executor.h"

namespace graphc {
namespace {

constexpr size_t kMaxPlans = 4;  // full and last batch, in training and validation

enum class Where : uint8_t { kInput, kOutput, kVariable, kArena };

// Where a buffer's bytes are once sizes are known.
struct Place {
  Where where = Where::kArena;
  uint32_t index = 0;
  uint64_t offset = 0, bytes = 0;
};

std::string spec_string(const TensorSpec& t, std::span<const std::string> names) {
  std::string s(dtype_name(t.dtype));
  if (t.shape.empty()) return s;
  s += '[';
  for (size_t i = 0; i < t.shape.size(); ++i) s += (i ? ", " : "") + t.shape[i].str(names);
  return s + ']';
}

}  // namespace

// Everything resolved for one set of symbol values: run() walks `steps`.
struct Context::Plan {
  struct BoundTensor {
    Place place;
    uint32_t device;
  };
  struct BoundStep {
    gc_run run{};
    gc_exec* exec = nullptr;
    gc_error* (*execute)(gc_exec*, gc_stream*, const gc_run*) = nullptr;
    uint32_t device = 0;
    Place workspace;
    bool has_workspace = false;
  };
  struct BoundCopy {
    Place src, dst;
    uint64_t bytes;
  };
  std::vector<int64_t> symbols;
  std::vector<BoundStep> steps;
  std::vector<gc_tensor> tensors;
  std::vector<BoundTensor> bound;  // beside tensors
  std::vector<int64_t> numbers;    // shapes, strides and symbols of all tensors and steps
  std::vector<BoundCopy> copies;
  std::vector<std::vector<int64_t>> output_shapes;
  std::vector<uint64_t> input_bytes, output_bytes;
  ArenaPlan arena;
  uint64_t generation = 0;
};

struct Context::PlanBuilder {
  const Context& c;
  Plan& plan;
  const Function& f;
  std::vector<Place> places;
  std::vector<size_t>
      number_at;  // per tensor: first index of its shape in plan.numbers; strides follow if it has them

  Result<int64_t> eval(const SizeExpr& e) const { return e.eval(plan.symbols); }

  Result<uint64_t> spec_bytes(const TensorSpec& t, std::vector<int64_t>* shape) const {
    shape->clear();
    for (const SizeExpr& e : t.shape) {
      GC_TRY(const int64_t d, eval(e));
      shape->push_back(d);
    }
    auto r = checked_bytes(t.dtype, *shape);
    if (!r.ok()) return invalid(fmt::format("'{}': {}", t.name, r.error().message));
    return r;
  }

  Status build() {
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
        e.message = fmt::format("function '{}', step {} ({}): {}", f.name, s, label(s), e.message);
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

  std::string label(size_t s) const {
    const Step& st = f.steps[s];
    return st.label.empty() ? c.model_->program().execs[st.exec].label : st.label;
  }

  Status place_buffers() {
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
    GC_TRY(plan.arena, plan_arena(items));
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

  Status tensor(const TensorView& v, uint32_t device) {
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

  Status step(size_t s) {
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
    GC_TRY(const gc_exec_info info, exec.info());
    if (st.workspace >= 0) {
      b.workspace = places[st.workspace];
      b.has_workspace = true;
      b.run.workspace_offset = b.workspace.offset;
    }
    if (info.workspace_bytes > (b.has_workspace ? b.workspace.bytes : 0))
      return invalid(fmt::format("the executable needs {} bytes of workspace, the program gives {}",
                                 info.workspace_bytes, b.has_workspace ? b.workspace.bytes : 0));
    plan.steps.push_back(b);
    return {};
  }

  // The vectors have their final sizes: pointers into them stay.
  void fix_pointers() {
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

  std::vector<size_t> symbol_at;
  static constexpr int64_t kMarker = 0;
};

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
  c->inputs_.resize(f->inputs.size());
  c->outputs_.resize(f->outputs.size());
  c->input_shapes_.resize(f->inputs.size());
  c->input_set_.resize(f->inputs.size(), false);
  for (const Symbol& s : c->model_->program().symbols) c->symbol_names_.push_back(s.name);
  c->symbols_.assign(c->symbol_names_.size(), -1);
  c->given_symbols_ = c->symbols_;
  c->step_ns_.assign(f->steps.size(), 0);
  c->step_runs_ = c->step_ns_;
  return c;
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
    GC_CHECK(grow(inputs_[i], *bytes, fmt::format("input '{}'", t.name)));
    input_shapes_[i].assign(shape.begin(), shape.end());
    input_set_[i] = true;
    shapes_changed_ = true;
  }
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

Status Context::grow(Region& region, uint64_t bytes, std::string_view what) {
  if (region.data && bytes <= region.capacity) return {};
  const uint64_t now = memory_bytes() - region.capacity + variables_->bytes();
  if (bytes > options_.max_memory_bytes || now > options_.max_memory_bytes - bytes)
    return Error{ErrorCode::kNoMemory, fmt::format("{} needs {} bytes, beside {} in use; the budget is {}",
                                                   what, bytes, now, options_.max_memory_bytes)};
  // The old memory goes first; the contents needn't survive, for whoever grows a region fills it afterwards.
  region = Region{};
  ++generation_;
  region.memory = HostMemory::allocate(bytes);
  if (!region.memory.data())
    return Error{ErrorCode::kNoMemory, fmt::format("out of memory: {} needs {} bytes", what, bytes)};
  region.data = region.memory.data();
  region.capacity = bytes;
  for (const auto& d : model_->devices_) {
    GC_TRY(DeviceBuffer b, d->import_host(region.data, region.capacity));
    region.buffers.push_back(std::move(b));
  }
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

void Context::resolve(Plan& plan) {
  const auto region = [&](const Place& p) -> Region& {
    switch (p.where) {
      case Where::kInput: return inputs_[p.index];
      case Where::kOutput: return outputs_[p.index];
      case Where::kVariable: return variables_->regions_[p.index];
      default: return arena_;
    }
  };
  for (size_t i = 0; i < plan.tensors.size(); ++i)
    plan.tensors[i].buf = region(plan.bound[i].place).buffers[plan.bound[i].device].raw();
  for (Plan::BoundStep& s : plan.steps) {
    if (s.has_workspace) s.run.workspace = region(s.workspace).buffers[s.device].raw();
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
    PlanBuilder builder{*this, *plan, *function_, {}, {}, {}};
    GC_CHECK(builder.build());
    if (plans_.size() == kMaxPlans) plans_.pop_back();
    found = plans_.insert(plans_.begin(), std::move(plan));
  }
  std::rotate(plans_.begin(), found, found + 1);
  Plan& plan = *plans_.front();
  for (size_t i = 0; i < outputs_.size(); ++i)
    GC_CHECK(grow(outputs_[i], plan.output_bytes[i], fmt::format("output '{}'", function_->outputs[i].name)));
  GC_CHECK(grow(arena_, static_cast<uint64_t>(plan.arena.bytes), "the arena of intermediate values"));
  plan_ = &plan;
  shapes_changed_ = false;
  return {};
}

Status Context::run_step(size_t s) {
  Plan::BoundStep& step = plan_->steps[s];
  step.run.run_id = run_id_;
  gc_error* e = step.execute(step.exec, nullptr, &step.run);
  if (!e) return {};
  const Step& st = function_->steps[s];
  const Exec& exec = model_->program().execs[st.exec];
  Error error = Status(take_error(e, exec.backend, "execute")).error();
  const std::string& label = st.label.empty() ? exec.label : st.label;
  error.message = fmt::format("step {}{}: {}", s, label.empty() ? "" : " (" + label + ")", error.message);
  return error;
}

std::byte* Context::address(const void* place) {
  const Place& p = *static_cast<const Place*>(place);
  std::byte* base = p.where == Where::kInput      ? inputs_[p.index].data
                    : p.where == Where::kOutput   ? outputs_[p.index].data
                    : p.where == Where::kVariable ? variables_->regions_[p.index].data
                                                  : arena_.data;
  return base + p.offset;
}

void Context::end_copies() {
  for (const Plan::BoundCopy& c : plan_->copies)
    if (c.bytes) std::memmove(address(&c.dst), address(&c.src), c.bytes);
}

Status Context::run() {
  GC_CHECK(bind());
  if (plan_->generation != generation_) resolve(*plan_);
  ++run_id_;
  using Clock = std::chrono::steady_clock;
  for (size_t s = 0; s < plan_->steps.size(); ++s) {
    const Clock::time_point start = options_.profile ? Clock::now() : Clock::time_point();
    GC_CHECK(run_step(s));
    if (options_.profile) {
      step_ns_[s] += static_cast<uint64_t>(
          std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
      ++step_runs_[s];
    }
  }
  end_copies();
  return {};
}

Result<std::string> Context::run_checked(bool infinite_too) {
  GC_CHECK(bind());
  if (plan_->generation != generation_) resolve(*plan_);
  ++run_id_;
  std::string infinite;
  for (size_t s = 0; s < plan_->steps.size(); ++s) {
    GC_CHECK(run_step(s));
    const gc_run& run = plan_->steps[s].run;
    const size_t first = static_cast<size_t>(run.out - plan_->tensors.data());
    for (size_t o = 0; o < run.num_out; ++o) {
      const gc_tensor& t = plan_->tensors[first + o];
      const std::optional<DType> dtype = gc_dtype(t);
      if (!dtype || !is_float(*dtype) || t.strides) continue;
      int64_t n = 1;
      for (uint32_t d = 0; d < t.rank; ++d) n *= t.shape[d];
      const std::byte* p = address(&plan_->bound[first + o].place);
      bool nan = false, inf = false;
      for (int64_t i = 0; i < n && !nan; ++i) {
        const double v = load_as_double(*dtype, p, static_cast<size_t>(i));
        nan = std::isnan(v);
        inf |= std::isinf(v);
      }
      if (!nan && !(inf && infinite.empty())) continue;
      const Step& st = function_->steps[s];
      const std::string& label = st.label.empty() ? model_->program().execs[st.exec].label : st.label;
      const std::string text = fmt::format("step {} ({}) made the first {} in its result {}", s, label,
                                           nan ? "NaN" : "infinity", type_string(*dtype, {t.shape, t.rank}));
      if (nan) return text;
      infinite = text;
    }
  }
  end_copies();
  return infinite_too ? infinite : std::string();
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
  uint64_t n = arena_.capacity;
  for (const Region& r : inputs_) n += r.capacity;
  for (const Region& r : outputs_) n += r.capacity;
  return n;
}

std::vector<StepProfile> Context::profile() const {
  std::vector<StepProfile> out;
  for (size_t s = 0; s < function_->steps.size(); ++s) {
    const Step& st = function_->steps[s];
    out.push_back(
        {st.label.empty() ? model_->program().execs[st.exec].label : st.label, step_runs_[s], step_ns_[s]});
  }
  return out;
}

}  // namespace graphc
