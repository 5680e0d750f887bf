#include "backends/cpu/exec/features.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

namespace graphc {
namespace {

enum Reg { kEax, kEbx, kEcx, kEdx };
enum Os { kYmm, kZmm, kTile, kNone };  // the state that the system must save

struct FeatureRecord {
  std::string_view name;
  uint32_t leaf, subleaf;
  Reg reg;
  int bit;
  Os os;
};
// Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E.
constexpr FeatureRecord kRecords[kNumCpuFeatures] = {
    {"avx", 1, 0, kEcx, 28, kYmm},
    {"avx2", 7, 0, kEbx, 5, kYmm},
    {"fma", 1, 0, kEcx, 12, kYmm},
    {"f16c", 1, 0, kEcx, 29, kYmm},
    {"bmi", 7, 0, kEbx, 3, kNone},
    {"bmi2", 7, 0, kEbx, 8, kNone},
    {"lzcnt", 0x80000001, 0, kEcx, 5, kNone},
    {"popcnt", 1, 0, kEcx, 23, kNone},
    {"movbe", 1, 0, kEcx, 22, kNone},
    {"avxvnni", 7, 1, kEax, 4, kYmm},
    {"avx512f", 7, 0, kEbx, 16, kZmm},
    {"avx512bw", 7, 0, kEbx, 30, kZmm},
    {"avx512dq", 7, 0, kEbx, 17, kZmm},
    {"avx512vl", 7, 0, kEbx, 31, kZmm},
    {"avx512cd", 7, 0, kEbx, 28, kZmm},
    {"avx512vnni", 7, 0, kEcx, 11, kZmm},
    {"avx512vbmi", 7, 0, kEcx, 1, kZmm},
    {"avx512vbmi2", 7, 0, kEcx, 6, kZmm},
    {"avx512ifma", 7, 0, kEbx, 21, kZmm},
    {"avx512bf16", 7, 1, kEax, 5, kZmm},
    {"avx512fp16", 7, 0, kEdx, 23, kZmm},
    {"amx-tile", 7, 0, kEdx, 24, kTile},
    {"amx-int8", 7, 0, kEdx, 25, kTile},
    {"amx-bf16", 7, 0, kEdx, 22, kTile},
};

uint64_t xgetbv() {
  uint32_t lo, hi;
  asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return static_cast<uint64_t>(hi) << 32 | lo;
}

CpuFeatures detect() {
  CpuFeatures f;
  uint32_t r[4];
  auto cpuid = [&](uint32_t leaf, uint32_t sub) {
    return __get_cpuid_count(leaf, sub, &r[0], &r[1], &r[2], &r[3]) != 0;
  };
  if (!cpuid(0, 0)) return f;
  char vendor[13] = {};
  std::memcpy(vendor, &r[1], 4);
  std::memcpy(vendor + 4, &r[3], 4);
  std::memcpy(vendor + 8, &r[2], 4);
  if (std::string_view(vendor) == "GenuineIntel") f.vendor = CpuVendor::kIntel;
  if (std::string_view(vendor) == "AuthenticAMD") f.vendor = CpuVendor::kAmd;
  bool osxsave = cpuid(1, 0) && (r[kEcx] >> 27 & 1);
  uint64_t xcr0 = osxsave ? xgetbv() : 0;
  uint32_t max_sub7 = cpuid(7, 0) ? r[kEax] : 0;
  for (int i = 0; i < kNumCpuFeatures; ++i) {
    const FeatureRecord& d = kRecords[i];
    if (d.leaf == 7 && d.subleaf > max_sub7) continue;
    if (!cpuid(d.leaf, d.subleaf) || !(r[d.reg] >> d.bit & 1)) continue;
    uint64_t state = d.os == kYmm ? 0x6 : d.os == kZmm ? 0xe6 : d.os == kTile ? 0x60000 : 0;
    if ((xcr0 & state) != state) continue;
    f.set(static_cast<CpuFeature>(i));
  }
  return f;
}

// Calls f(name) for each entry of a comma-separated list; stops at the first error.
template <class F>
Status for_each_name(std::string_view text, F f) {
  while (!text.empty()) {
    size_t n = text.find(',');
    std::string_view name = text.substr(0, n);
    if (!name.empty()) GC_CHECK(f(name));
    if (n == std::string_view::npos) break;
    text.remove_prefix(n + 1);
  }
  return ok_status();
}

Status unknown(std::string_view name) {
  return invalid(fmt::format(
      "'{}' is no processor feature known here (they are spelt like avx2, avx512f, amx-bf16)", name));
}

}  // namespace

std::string_view cpu_feature_name(CpuFeature f) { return kRecords[static_cast<int>(f)].name; }

void CpuFeatures::set(CpuFeature f, bool on) {
  uint64_t bit = 1ull << static_cast<int>(f);
  bits_ = on ? bits_ | bit : bits_ & ~bit;
}

bool CpuFeatures::avx512() const {
  return has(CpuFeature::kAvx512f) && has(CpuFeature::kAvx512bw) && has(CpuFeature::kAvx512dq) &&
         has(CpuFeature::kAvx512vl);
}

std::vector<std::string_view> CpuFeatures::missing(const CpuFeatures& needed) const {
  std::vector<std::string_view> out;
  for (int i = 0; i < kNumCpuFeatures; ++i)
    if (needed.has(static_cast<CpuFeature>(i)) && !has(static_cast<CpuFeature>(i)))
      out.push_back(kRecords[i].name);
  return out;
}

CpuFeatures CpuFeatures::baseline() const {
  CpuFeatures f;
  f.vendor = vendor;
  for (CpuFeature x :
       {CpuFeature::kAvx, CpuFeature::kAvx2, CpuFeature::kFma, CpuFeature::kF16c, CpuFeature::kBmi,
        CpuFeature::kBmi2, CpuFeature::kLzcnt, CpuFeature::kPopcnt, CpuFeature::kMovbe})
    f.set(x, has(x));
  return f;
}

std::string CpuFeatures::to_string() const {
  std::string s;
  for (int i = 0; i < kNumCpuFeatures; ++i)
    if (has(static_cast<CpuFeature>(i))) s += (s.empty() ? "" : ",") + std::string(kRecords[i].name);
  if (vendor != CpuVendor::kOther)
    s += fmt::format("{}vendor={}", s.empty() ? "" : ",", vendor == CpuVendor::kIntel ? "intel" : "amd");
  return s;
}

Result<CpuFeatures> CpuFeatures::parse(std::string_view text) {
  CpuFeatures f;
  GC_CHECK(for_each_name(text, [&](std::string_view name) -> Status {
    if (name == "vendor=intel") return f.vendor = CpuVendor::kIntel, ok_status();
    if (name == "vendor=amd") return f.vendor = CpuVendor::kAmd, ok_status();
    for (int i = 0; i < kNumCpuFeatures; ++i)
      if (kRecords[i].name == name) return f.set(static_cast<CpuFeature>(i)), ok_status();
    return unknown(name);
  }));
  return f;
}

Status CpuFeatures::disable(std::string_view list) {
  return for_each_name(list, [&](std::string_view name) -> Status {
    bool found = false;
    for (int i = 0; i < kNumCpuFeatures; ++i) {
      const FeatureRecord& d = kRecords[i];
      if (d.name == name || (name == "avx512" && d.os == kZmm) || (name == "amx" && d.os == kTile)) {
        set(static_cast<CpuFeature>(i), false);
        found = true;
      }
    }
    return found ? ok_status() : unknown(name);
  });
}

std::string host_cpu_name() {
  std::string name;
  uint32_t r[4];
  for (uint32_t leaf = 0x80000002; leaf <= 0x80000004; ++leaf) {
    if (!__get_cpuid(leaf, &r[0], &r[1], &r[2], &r[3])) return "cpu";
    name.append(reinterpret_cast<const char*>(r), sizeof r);
  }
  name = name.c_str();  // up to the first NUL
  while (!name.empty() && name.back() == ' ') name.pop_back();
  return name.empty() ? "cpu" : name;
}

const CpuFeatures& host_features() {
  static const CpuFeatures features = [] {
    CpuFeatures f = detect();
    if (const char* off = std::getenv("GRAPHC_CPU_DISABLE"))
      if (Status s = f.disable(off); !s.ok())
        fmt::print(stderr, "graphc: GRAPHC_CPU_DISABLE: {}\n", s.error().message);
    return f;
  }();
  return features;
}

Status check_baseline(const CpuFeatures& f) {
  CpuFeatures needed;
  for (CpuFeature x : {CpuFeature::kAvx2, CpuFeature::kFma, CpuFeature::kF16c}) needed.set(x);
  auto lacking = f.missing(needed);
  if (lacking.empty()) return ok_status();
  return unsupported(
      fmt::format("the CPU backend needs an x86-64 processor with AVX2, FMA and F16C; this one has no {}. "
                  "Use the reference backend",
                  fmt::join(lacking, ", ")));
}

bool enable_amx() {
  static const bool ok = [] {
    if (!host_features().has(CpuFeature::kAmxTile)) return false;
    constexpr int kArchReqXcompPerm = 0x1023,
                  kXfeatureXtiledata = 18;  // linux/arch/x86/include/uapi/asm/prctl.h
    return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
  }();
  return ok;
}

}  // namespace graphc
