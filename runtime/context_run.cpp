// Context: runs.
//
// On a device apart a run is: what was set goes up; the steps and the copies at the end; outputs come back;
// one wait. All on the context's stream, so that nothing in between waits for the host.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstring>

#include "runtime/plan.h"

namespace graphc {
namespace {

// An error with what it is about before it.
Status named(std::string_view kind, std::string_view name, Status s) {
  if (s.ok()) return s;
  return Error{s.error().code, fmt::format("{} '{}': {}", kind, name, s.error().message)};
}

}  // namespace

Error Context::step_error(size_t s, Error error) const {
  const std::string& label = model_->step_label(function_->steps[s]);
  error.message = fmt::format("step {}{}: {}", s, label.empty() ? "" : " (" + label + ")", error.message);
  return error;
}

// An error that came out when all was waited for.
Error Context::run_error(Error error) const {
  const size_t n = function_->steps.size();
  if (n == 1) return step_error(0, std::move(error));
  error.message = fmt::format("function '{}', one of its steps 0..{}: {}; with --sync the message says which",
                              function_->name, n - 1, error.message);
  return error;
}

Status Context::run_step(size_t s) {
  Plan::BoundStep& step = plan_->steps[s];
  step.run.run_id = run_id_;
  gc_error* e = step.execute(step.exec, streams_[step.device].raw(), &step.run);
  if (!e) return {};
  const std::string& backend = model_->program().execs[function_->steps[s].exec].backend;
  return step_error(s, Status(take_error(e, backend, "execute")).error());
}

Status Context::wait_all() {
  for (DeviceStream& s : streams_) GC_CHECK(s.wait());
  return {};
}

// After an error the streams may be of no use any more, and what they still had to do is over with them.
void Context::forget_streams() {
  for (DeviceStream& s : streams_) static_cast<void>(s.wait().ok());
  for (const auto& p : plans_) p->captured = DeviceCapture(), p->ran = false;
  streams_.clear();
}

Status Context::run_steps(bool wait_after_each) {
  using Clock = std::chrono::steady_clock;
  for (size_t s = 0; s < plan_->steps.size(); ++s) {
    const uint32_t device = plan_->steps[s].device;
    // Another device doesn't see how far this one is.
    if (s > 0 && plan_->steps[s - 1].device != device)
      if (Status st = streams_[plan_->steps[s - 1].device].wait(); !st.ok()) return run_error(st.error());
    const Clock::time_point start = options_.profile ? Clock::now() : Clock::time_point();
    GC_CHECK(run_step(s));
    if (wait_after_each)
      if (Status st = streams_[device].wait(); !st.ok()) return step_error(s, st.error());
    if (options_.profile) {
      step_ns_[s] += static_cast<uint64_t>(
          std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
      ++step_runs_[s];
    }
  }
  return {};
}

Status Context::end_copies() {
  if (plan_->copies.empty()) return {};
  if (!apart_)
    if (Status st = wait_all(); !st.ok()) return run_error(st.error());
  for (const Plan::BoundCopy& c : plan_->copies) {
    const Region &src = region(&c.src), &dst = region(&c.dst);
    if (c.bytes == 0) continue;
    if (!apart_) {
      std::memmove(dst.data + c.dst.offset, src.data + c.src.offset, c.bytes);
      continue;
    }
    const gc_copy copy{
        sizeof(gc_copy),           src.buffer(0), dst.buffer(0), nullptr, nullptr, src.offset + c.src.offset,
        dst.offset + c.dst.offset, c.bytes};
    if (copy.src == copy.dst && copy.src_off == copy.dst_off) continue;
    GC_CHECK(named("a copy at the end of function", function_->name, apart_->copy(streams_[0], copy)));
  }
  return {};
}

bool Context::may_capture() const {
  return apart_ && options_.capture && !options_.sync && !options_.profile && streams_[0] &&
         apart_->can_capture() && !plan_->refused;
}

// What the plan does, recorded. Nothing of it is done by that.
Status Context::capture() {
  GC_CHECK(named("function", function_->name, apart_->begin_capture(streams_[0])));
  Status s = run_steps(false);
  if (s.ok()) s = end_copies();
  Result<DeviceCapture> captured = apart_->end_capture(streams_[0]);
  GC_CHECK(s);
  if (!captured.ok()) return named("function", function_->name, captured.error());
  plan_->captured = *std::move(captured);
  return {};
}

Status Context::work() {
  if (may_capture() && plan_->ran && !plan_->captured) {
    if (Status s = capture(); !s.ok()) {
      if (s.error().code != ErrorCode::kUnsupported) return s;
      plan_->refused = true;
    }
  }
  if (may_capture() && plan_->captured) {
    Status s = plan_->captured.launch(streams_[0]);
    return s.ok() ? s : Status(run_error(s.error()));
  }
  GC_CHECK(run_steps(options_.sync || options_.profile));
  return end_copies();
}

Status Context::begin_run() {
  GC_CHECK(bind());
  if (plan_->generation != generation_) resolve(*plan_);
  if (streams_.size() != model_->devices_.size()) {
    streams_.clear();
    for (const auto& d : model_->devices_) {
      GC_TRY(DeviceStream s, d->stream());
      streams_.push_back(std::move(s));
    }
  }
  ++run_id_;
  if (!apart_) return {};
  GC_CHECK(variables_->upload());
  variables_->device_changed(written_);
  return {};
}

Status Context::finish_run(Status status) {
  for (size_t i = 0; apart_ && status.ok() && i < outputs_.size(); ++i) {
    const Region& r = outputs_[i];
    if (const uint64_t n = plan_->output_bytes[i])
      status = named("output", function_->outputs[i].name,
                     apart_->to_host(streams_[0], r.buffer(0), r.offset, r.data, n));
  }
  if (status.ok()) {
    status = wait_all();
    if (!status.ok()) status = run_error(status.error());
  }
  if (!status.ok()) {
    forget_streams();
    return status;
  }
  plan_->ran = true;
  if (apart_) input_new_.assign(input_new_.size(), false);
  return {};
}

Status Context::upload_inputs() {
  for (size_t i = 0; apart_ && i < inputs_.size(); ++i) {
    const Region& r = inputs_[i];
    const uint64_t n = plan_->input_bytes[i];
    if (n && input_new_[i])
      GC_CHECK(named("input", function_->inputs[i].name,
                     apart_->to_device(streams_[0], r.data, r.buffer(0), r.offset, n)));
  }
  return {};
}

Status Context::run() {
  GC_CHECK(begin_run());
  Status s = upload_inputs();
  if (s.ok()) s = work();
  return finish_run(std::move(s));
}

// Looks at the float results of a step that has been done.
Status Context::look(size_t s, std::vector<std::byte>* scratch, std::string* nan_text,
                     std::string* infinite_text) {
  const gc_run& run = plan_->steps[s].run;
  const size_t first = static_cast<size_t>(run.out - plan_->tensors.data());
  for (size_t o = 0; o < run.num_out; ++o) {
    const gc_tensor& t = plan_->tensors[first + o];
    const std::optional<DType> dtype = gc_dtype(t);
    if (!dtype || !is_float(*dtype) || t.strides) continue;
    int64_t n = 1;
    for (uint32_t d = 0; d < t.rank; ++d) n *= t.shape[d];
    const Place& place = plan_->bound[first + o].place;
    const Region& r = region(&place);
    const std::byte* p = r.data + place.offset;
    if (apart_) {
      scratch->resize(static_cast<size_t>(n) * dtype_size(*dtype));
      p = scratch->data();
      if (n == 0) continue;
      GC_CHECK(apart_->to_host(streams_[0], t.buf, t.offset, scratch->data(), scratch->size()));
      GC_CHECK(streams_[0].wait());
    }
    bool nan = false, inf = false;
    for (int64_t i = 0; i < n && !nan; ++i) {
      const double v = load_as_double(*dtype, p, static_cast<size_t>(i));
      nan = std::isnan(v);
      inf |= std::isinf(v);
    }
    if (!nan && !(inf && infinite_text->empty())) continue;
    std::string text = fmt::format("step {} ({}) made the first {} in its result {}", s,
                                   model_->step_label(function_->steps[s]), nan ? "NaN" : "infinity",
                                   type_string(*dtype, {t.shape, t.rank}));
    (nan ? *nan_text : *infinite_text) = std::move(text);
    if (nan) return {};
  }
  return {};
}

Result<std::string> Context::run_checked(bool infinite_too) {
  GC_CHECK(begin_run());
  std::string nan, infinite;
  std::vector<std::byte> scratch;
  const auto all = [&]() -> Status {
    GC_CHECK(upload_inputs());
    for (size_t s = 0; s < plan_->steps.size() && nan.empty(); ++s) {
      GC_CHECK(run_step(s));
      Status st = streams_[plan_->steps[s].device].wait();
      if (st.ok()) st = look(s, &scratch, &nan, &infinite);
      if (!st.ok()) return step_error(s, st.error());
    }
    return nan.empty() ? end_copies() : Status();
  };
  GC_CHECK(finish_run(all()));
  return !nan.empty() ? nan : infinite_too ? infinite : std::string();
}

}  // namespace graphc
