#include "backends/cuda/exec/image_choice.h"

#include <fmt/format.h>

namespace graphc {
namespace {

struct Arch {
  bool ptx = false, specific = false;
  int number = -1;  // 90
};

Arch parse(std::string_view s) {
  Arch a;
  for (const std::string_view head : {"sm_", "compute_"})
    if (s.substr(0, head.size()) == head) {
      a.ptx = head == "compute_";
      s.remove_prefix(head.size());
      if (!s.empty() && s.back() == 'a') {
        a.specific = true;
        s.remove_suffix(1);
      }
      int v = 0;
      for (const char c : s) {
        if (c < '0' || c > '9' || v > 1000) return {};
        v = 10 * v + (c - '0');
      }
      if (!s.empty()) a.number = v;
      return a;
    }
  return a;
}

}  // namespace

bool cuda_arch_runs_on(std::string_view code, std::string_view card) {
  const Arch a = parse(code), c = parse(card);
  if (a.number < 0 || c.number < 0) return false;
  if (a.specific) return a.number == c.number;
  return a.ptx ? a.number <= c.number : a.number / 10 == c.number / 10 && a.number % 10 <= c.number % 10;
}

Result<const KernelBlob::Image*> choose_cuda_image(const KernelBlob& blob, const std::string& card_name,
                                                   const std::string& card_arch) {
  const KernelBlob::Image* ptx = nullptr;
  std::string has;
  for (const KernelBlob::Image& i : blob.images) {
    has += fmt::format("{}{}", has.empty() ? "" : ", ", i.arch);
    if (!cuda_arch_runs_on(i.arch, card_arch)) continue;
    if (!i.arch.starts_with("compute_")) return &i;
    if (!ptx) ptx = &i;
  }
  if (ptx) return ptx;
  return unsupported(
      fmt::format("made for other cards ({}); this one is {} ({}), for which --target cuda:{} makes it",
                  has.empty() ? "no code at all" : has, card_name, card_arch, card_arch));
}

}  // namespace graphc
