// graphc devices
#include <fmt/format.h>

#if GRAPHC_HAS_CUDA
#include "backends/cuda/exec/libraries.h"
#include "backends/cuda/targets.h"
#endif
#include "runtime/base/thread_pool.h"
#include "tools/driver/backends.h"
#include "tools/graphc/session.h"

namespace graphc::cli {
namespace {

#if GRAPHC_HAS_CUDA
void print_cuda() {
  const CudaLibraries& libraries = CudaLibraries::get();
  const Result<std::vector<CudaCard>> cards = cuda_cards(libraries);
  if (cards.ok()) {
    for (const CudaCard& c : *cards)
      fmt::print("cuda:{}  {}, {}, {} multiprocessors\n    {}\n", c.id, c.name,
                 bytes_text(static_cast<double>(c.memory_bytes)), c.multiprocessors, c.arch);
  } else {
    fmt::print("cuda: no card: {}\n", cards.error().message);
  }
  for (const CudaLibrary* l : libraries.all())
    if (l->loaded())
      fmt::print("    {} {} ({})\n", l->name, l->version, l->path);
    else if (l != &libraries.driver)
      fmt::print("    {}\n", l->problem);
}
#else
void print_cuda() { fmt::print("cuda: this graphc was built without the CUDA toolkit's headers\n"); }
#endif

// The profile of card `id`, for --target ./card.txt on another machine.
Status print_profile(const std::string& id) {
#if GRAPHC_HAS_CUDA
  GC_TRY(const std::vector<CudaCard> cards, cuda_cards(CudaLibraries::get()));
  std::string known;
  for (const CudaCard& c : cards) {
    if (c.id == id || "cuda:" + c.id == id) {
      fmt::print("{}", CudaTarget::of_card(c).to_profile());
      return {};
    }
    known += (known.empty() ? "" : ", ") + c.id;
  }
  return Error{ErrorCode::kUsage, fmt::format("there is no card '{}'; there are: {}", id, known)};
#else
  return unsupported("this graphc was built without the CUDA toolkit's headers");
#endif
}

Status run() {
  GC_TRY(const std::unique_ptr<BackendRegistry> backends, execution_backends(nullptr));
  for (const std::string& name : backends->names()) {
    if (name == "cuda") continue;  // with its libraries, below
    GC_TRY(const std::vector<DeviceInfo> devices, backends->devices(name));
    for (const DeviceInfo& d : devices) {
      fmt::print("{}:{}  {}", name, d.id, d.name);
      if (name == "cpu") fmt::print(", {} threads", available_cpus());
      fmt::print("\n    {}\n", d.arch);
    }
  }
  print_cuda();
  const Result<std::string> compiler = find_cpu_compiler();
  fmt::print("compiler for the cpu: {}\n", compiler.ok() ? *compiler : "none; " + compiler.error().message);
  return {};
}

}  // namespace

void add_devices(CommandLine& program) {
  auto profile = std::make_shared<std::string>();
  program.command("devices", "the backends of this program and their devices")
      .option("--profile", *profile, "print the profile of a CUDA card, for --target cuda:./card.txt", "CARD")
      .example("devices")
      .action([profile] { return profile->empty() ? run() : print_profile(*profile); });
}

}  // namespace graphc::cli
