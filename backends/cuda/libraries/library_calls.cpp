#include "backends/cuda/libraries/library_calls.h"

#include <fmt/format.h>

namespace graphc::cuda {

Status add_library_calls(const Func& region, const CudaTarget& target, LoweredRegion& lowered) {
  struct Library {
    const char* name;
    Result<RegionCall> (*call)(const Func& region);
  };
  for (const Library& library : {Library{"cublaslt", cublaslt_call}, Library{"cudnn", cudnn_call}}) {
    Result<RegionCall> call = library.call(region);
    if (!call.ok()) {
      if (call.error().code != ErrorCode::kUnsupported) return call.error();
      lowered.not_called.push_back(fmt::format("{}: {}", library.name, call.error().message));
      continue;
    }
    call->first_step = 0;
    call->last_step = static_cast<int>(lowered.steps.size());
    lowered.calls.push_back(*std::move(call));
    return ok_status();
  }
  for (auto* apart : {cublaslt_product_call, cudnn_convolution_call}) {
    Result<RegionCall> call = apart(region, target, lowered);
    if (call.ok()) {
      lowered.calls.push_back(*std::move(call));
      break;
    }
    if (call.error().code != ErrorCode::kUnsupported) return call.error();
  }
  return ok_status();
}

namespace {

// The call's text with its sizes and arguments written in.
std::string spelled_out(const RegionCall& c) {
  std::string out;
  for (size_t i = 0; i < c.call.size();) {
    const char what = c.call[i];
    size_t end = i + 1, number = 0;
    while ((what == '$' || what == '%') && end < c.call.size() && c.call[end] >= '0' && c.call[end] <= '9')
      number = 10 * number + static_cast<size_t>(c.call[end++] - '0');
    if (end == i + 1 || number >= (what == '$' ? c.sizes.size() : c.args.size())) {
      out += c.call[i++] == '\n' ? "\n//   " : std::string(1, what);
      continue;
    }
    if (what == '$') {
      out += c.sizes[number].to_string();
    } else {
      const KernelArg& a = c.args[number];
      const char* kind = a.kind == KernelArgKind::kOperand  ? "operand"
                         : a.kind == KernelArgKind::kResult ? "result"
                                                            : "workspace";
      out += fmt::format("{}{}", kind, a.index);
    }
    i = end;
  }
  return out;
}

}  // namespace

std::string library_notes(const LoweredRegion& lowered) {
  std::string out;
  for (const RegionCall& c : lowered.calls) {
    out +=
        fmt::format("// steps {}..{}: {} does them, where it is", c.first_step, c.last_step - 1, c.library);
    if (c.after_steps > 0)
      out += fmt::format(", then steps {}..{} run", c.last_step, c.last_step + c.after_steps - 1);
    out += fmt::format("\n//   {}\n", spelled_out(c));
  }
  for (const std::string& why : lowered.not_called) {
    const size_t colon = why.find(": ");
    out += fmt::format("// {} doesn't: {}\n", why.substr(0, colon), why.substr(colon + 2));
  }
  return out;
}

}  // namespace graphc::cuda
