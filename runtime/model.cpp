// Model: a program and its executables on devices.
#include <fmt/format.h>

#include <algorithm>

#include "runtime/executor.h"

namespace graphc {

namespace {

// "'conv1' (function 'infer')" of the first step that runs on a device.
std::string first_step(const Program& p, std::span<const uint32_t> exec_device, uint32_t device,
                       const Model& model) {
  for (const Function& f : p.functions)
    for (size_t s = 0; s < f.steps.size(); ++s)
      if (exec_device[f.steps[s].exec] == device)
        return fmt::format("step {} of '{}' ({})", s, f.name, model.step_label(f.steps[s]));
  return "no step";
}

}  // namespace

const std::string& Model::step_label(const Step& step) const {
  return step.label.empty() ? program_.execs[step.exec].label : step.label;
}

Result<std::shared_ptr<const Model>> Model::create(Program program, BackendRegistry& registry,
                                                   const ModelOptions& options) {
  GC_CHECK(verify_program(program));
  std::shared_ptr<Model> m(new Model);
  m->program_ = std::move(program);
  const Device* apart = nullptr;
  for (const Exec& e : m->program_.execs) {
    const auto id = options.devices.find(e.backend);
    GC_TRY(const std::shared_ptr<Device> device,
           registry.device(e.backend, id == options.devices.end() ? std::string() : id->second));
    auto at = std::find(m->devices_.begin(), m->devices_.end(), device);
    if (at == m->devices_.end()) at = m->devices_.insert(at, device);
    if (!device->uses_host_memory()) {
      if (!(device->info().memspaces & GC_MEM_DEVICE))
        return invalid(fmt::format("backend '{}': its device '{}' names no memory to compute on", e.backend,
                                   device->info().id));
      apart = device.get();
    }
    m->exec_device_.push_back(static_cast<uint32_t>(at - m->devices_.begin()));
    GC_CHECK(device->check(e.blob));
    Result<DeviceExec> exec = device->load(e.blob);
    if (!exec.ok()) {
      Error error = exec.error();
      if (!e.label.empty()) error.message = fmt::format("'{}': {}", e.label, error.message);
      return error;
    }
    m->execs_.push_back(*std::move(exec));
  }
  if (apart && m->devices_.size() > 1) {
    std::string text;
    for (uint32_t d = 0; d < m->devices_.size(); ++d)
      text += fmt::format("{}'{}' ({})", d ? " and " : "", m->devices_[d]->backend(),
                          first_step(m->program_, m->exec_device_, d, *m));
    return unsupported(
        fmt::format("the program runs on {}; '{}' has memory of its own, and a program on it "
                    "can't run on another device as well: compile the whole model for one",
                    text, apart->backend()));
  }
  if (apart) m->apart_ = m->devices_[0].get();
  return std::shared_ptr<const Model>(std::move(m));
}

Result<std::shared_ptr<const Model>> Model::load(const std::string& path, BackendRegistry& registry,
                                                 const LoadLimits& limits, const ModelOptions& options) {
  GC_TRY(Program p, load_program(path, limits));
  return create(std::move(p), registry, options);
}

}  // namespace graphc
