// graphc devices
#include <fmt/format.h>

#include "runtime/base/thread_pool.h"
#include "tools/driver/backends.h"
#include "tools/graphc/session.h"

namespace graphc::cli {
namespace {

Status run() {
  GC_TRY(const std::unique_ptr<BackendRegistry> backends, execution_backends(nullptr));
  for (const std::string& name : backends->names()) {
    GC_TRY(const std::vector<DeviceInfo> devices, backends->devices(name));
    for (const DeviceInfo& d : devices) {
      fmt::print("{}:{}  {}", name, d.id, d.name);
      if (name == "cpu") fmt::print(", {} threads", available_cpus());
      fmt::print("\n    {}\n", d.arch);
    }
  }
  const Result<std::string> compiler = find_cpu_compiler();
  fmt::print("compiler for the cpu: {}\n", compiler.ok() ? *compiler : "none; " + compiler.error().message);
  return {};
}

}  // namespace

void add_devices(CommandLine& program) {
  program.command("devices", "the backends of this program and their devices").example("devices").action([] {
    return run();
  });
}

}  // namespace graphc::cli
