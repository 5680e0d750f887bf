#include "backends/cuda/targets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>

#include "backends/cuda/exec/libraries.h"
#include "runtime/base/embedded_file.h"
#include "runtime/base/file.h"
#include "runtime/base/nearest.h"

namespace graphc {

std::vector<EmbeddedFile> cuda_profiles();  // targets/*.txt, embedded at build time, sorted

namespace {

// What NVRTC 13 compiles for and our kernels need: mma.sync with bf16, from sm_80 on.
constexpr std::string_view kArchitectures[] = {"sm_80",   "sm_86",  "sm_87",   "sm_88",  "sm_89",   "sm_90",
                                               "sm_90a",  "sm_100", "sm_100a", "sm_103", "sm_103a", "sm_110",
                                               "sm_110a", "sm_120", "sm_120a", "sm_121", "sm_121a"};

struct Field {
  std::string_view key;
  int64_t CudaTarget::*member;
};
constexpr Field kFields[] = {{"multiprocessors", &CudaTarget::multiprocessors},
                             {"shared_bytes_per_block", &CudaTarget::shared_bytes_per_block},
                             {"l2_bytes", &CudaTarget::l2_bytes},
                             {"memory_bytes", &CudaTarget::memory_bytes},
                             {"memory_bytes_per_second", &CudaTarget::memory_bytes_per_second},
                             {"clock_mhz", &CudaTarget::clock_mhz}};

bool known_arch(std::string_view arch) {
  for (std::string_view a : kArchitectures)
    if (a == arch) return true;
  return false;
}

std::string_view trim(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t' || s.front() == '\r')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t' || s.back() == '\r')) s.remove_suffix(1);
  return s;
}

// Modest figures that every card of the architecture has at least.
CudaTarget generic(std::string_view arch) {
  CudaTarget t;
  t.arch = arch;
  t.name = fmt::format("any {}", arch);
  const bool large = arch.starts_with("sm_80") || arch.starts_with("sm_9") || arch.starts_with("sm_10");
  t.multiprocessors = large ? 78 : 16;
  t.shared_bytes_per_block = arch.starts_with("sm_80") ? 166912 : large ? 232448 : 101376;
  t.l2_bytes = int64_t{large ? 24 : 4} << 20;
  t.memory_bytes = int64_t{large ? 24 : 8} << 30;
  t.memory_bytes_per_second = large ? 1'500'000'000'000 : 200'000'000'000;
  t.clock_mhz = 1400;
  return t;
}

}  // namespace

int CudaTarget::compute_capability() const {
  int v = 0;
  for (const char c : arch)
    if (c >= '0' && c <= '9') v = 10 * v + (c - '0');
  return v;
}

std::vector<std::string> CudaTarget::known() {
  std::vector<std::string> out;
  for (const EmbeddedFile& f : cuda_profiles()) out.emplace_back(f.name.substr(0, f.name.find('.')));
  return out;
}

CudaTarget CudaTarget::of_card(const CudaCard& card) {
  CudaTarget t = generic(card.arch);
  t.name = card.name;
  const auto take = [](int64_t& to, long long v) {
    if (v > 0) to = v;
  };
  take(t.multiprocessors, card.multiprocessors);
  take(t.shared_bytes_per_block, card.shared_bytes_per_block);
  take(t.l2_bytes, card.l2_bytes);
  take(t.memory_bytes, card.memory_bytes);
  take(t.memory_bytes_per_second, card.memory_bytes_per_second);
  take(t.clock_mhz, card.clock_mhz);
  return t;
}

Result<CudaTarget> CudaTarget::parse(std::string_view target) {
  for (const EmbeddedFile& f : cuda_profiles())
    if (f.name.substr(0, f.name.find('.')) == target) return parse_profile(f.text, std::string(f.name));
  if (known_arch(target)) return generic(target);
  if (target.find('/') != std::string_view::npos || target.ends_with(".txt")) {
    const std::string path(target);
    GC_TRY(const std::string text, read_file(path, 1 << 20));
    return parse_profile(text, path);
  }
  if (target.starts_with("sm_"))
    return invalid(fmt::format("there is no CUDA target '{}'; architectures are: {}", target,
                               fmt::join(kArchitectures, ", ")));
  const std::vector<std::string> names = known();
  NearestName nearest(target);
  for (const std::string& n : names) nearest.offer(n);
  return invalid(
      fmt::format("there is no CUDA target '{}'{}; cards are: {}; or an architecture (sm_80), or a "
                  "profile (./card.txt)",
                  target, nearest.hint(), fmt::join(names, ", ")));
}

Result<CudaTarget> CudaTarget::parse_profile(std::string_view text, const std::string& where) {
  CudaTarget t;
  int number = 0;
  while (!text.empty()) {
    ++number;
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    line = trim(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    const auto bad = [&](std::string why) { return invalid(fmt::format("{}:{}: {}", where, number, why)); };
    const size_t eq = line.find('=');
    if (eq == std::string_view::npos) return bad("a line of a profile is `key = value`");
    const std::string_view key = trim(line.substr(0, eq)), value = trim(line.substr(eq + 1));
    if (key == "name") {
      t.name = value;
      continue;
    }
    if (key == "arch") {
      if (!known_arch(value))
        return bad(
            fmt::format("unknown architecture '{}'; there are: {}", value, fmt::join(kArchitectures, ", ")));
      t.arch = value;
      continue;
    }
    const Field* field = nullptr;
    NearestName nearest(key);
    for (const Field& f : kFields) {
      nearest.offer(f.key);
      if (f.key == key) field = &f;
    }
    if (!field) return bad(fmt::format("there is no key '{}'{}", key, nearest.hint()));
    int64_t v = 0;
    const auto [at, ec] = std::from_chars(value.data(), value.data() + value.size(), v);
    if (ec != std::errc() || at != value.data() + value.size() || v <= 0)
      return bad(fmt::format("{} must be a positive whole number, not '{}'", key, value));
    t.*(field->member) = v;
  }
  if (t.arch.empty()) return invalid(fmt::format("{}: the profile has no `arch`", where));
  for (const Field& f : kFields)
    if (t.*(f.member) == 0) return invalid(fmt::format("{}: the profile has no `{}`", where, f.key));
  return t;
}

std::string CudaTarget::to_profile() const {
  std::string out = fmt::format("name = {}\narch = {}\n", name, arch);
  for (const Field& f : kFields) out += fmt::format("{} = {}\n", f.key, this->*(f.member));
  return out;
}

}  // namespace graphc
