#include "passes/pass_manager.h"

#include <chrono>
#include <cstdio>

#include <fmt/format.h>

#include "ir/print.h"
#include "ir/verify.h"
#include "runtime/base/file.h"

namespace graphc {
namespace {

// Core text of `before`, ready to be replayed through `pass`; returns its path.
Result<std::string> write_reproducer(const Module& before, const std::string& pass, const std::string& dir,
                                     const Error& why) {
  const std::string path = fmt::format("{}/graphc-reproducer-{}.graph", dir, pass);
  std::string first_line = why.message.substr(0, why.message.find('\n'));
  std::string text = fmt::format("# passes: {}\n# error: {}\n# replay: graphc-opt --verify-each {}\n", pass,
                                 first_line, path);
  // Weights' values hardly ever matter to a failing pass: data that isn't printed in line is replaced by an
  // initialiser.
  std::unique_ptr<Module> small = clone(before);
  for (auto& v : small->variables)
    if (v->data && v->data->size() > kMaxInlineData * dtype_size(v->value.type.dtype)) {
      v->data = nullptr;
      v->init = "zeros";
      v->init_attrs.clear();
    }
  text += print(*small);
  GC_CHECK(atomic_write(path, text));
  return path;
}

}  // namespace

std::string passes_of_reproducer(std::string_view text) {
  constexpr std::string_view kKey = "# passes:";
  while (text.starts_with("#") || text.starts_with("\n")) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (text.starts_with(kKey)) return std::string(text.substr(kKey.size(), end - kKey.size()));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return "";
}

Status PassManager::run(Module& module) {
  timings_.clear();
  auto say = [this](std::string_view text) {
    if (options.print)
      options.print(text);
    else
      std::fwrite(text.data(), 1, text.size(), stderr);
  };
  std::unique_ptr<Module> start = options.reproducer_dir.empty() ? nullptr : clone(module);
  if (options.verify_each)
    if (Status s = verify(module); !s.ok())
      return Error{s.error().code, "the module is invalid before the first pass: " + s.error().message};
  for (size_t i = 0; i < passes_.size(); ++i) {
    const Pass& pass = passes_[i];
    const auto t0 = std::chrono::steady_clock::now();
    Status status = pass.run(module);
    timings_.push_back(
        {pass.name,
         std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - t0).count()});
    if (options.print_after_all)
      say(fmt::format("# after {}\n{}\n", pass.name, print(module, {.locations = options.print_locations})));
    std::optional<Error> error;
    if (!status.ok()) {
      error = Error{status.error().code, fmt::format("pass {}: {}", pass.name, status.error().message)};
    } else if (options.verify_each) {
      if (Status s = verify(module); !s.ok())
        error =
            internal_error(fmt::format("pass {} made an invalid module: {}", pass.name, s.error().message));
    }
    if (!error) continue;
    if (start && error->code == ErrorCode::kInternal) {
      // Passes are deterministic: the text before the failing one comes from running those before it again.
      bool replayed = true;
      for (size_t k = 0; k < i && replayed; ++k) replayed = passes_[k].run(*start).ok();
      if (replayed) {
        auto path = write_reproducer(*start, pass.name, options.reproducer_dir, *error);
        error->message += path.ok() ? fmt::format("\n  reproducer: {}", *path)
                                    : fmt::format("\n  (no reproducer: {})", path.error().message);
      }
    }
    return *error;
  }
  return ok_status();
}

}  // namespace graphc
