// What the processor can do: instruction-set features from CPUID, counted only if the operating system saves
// their registers (XGETBV). Kernels are compiled for a feature set and an artefact records it as text, so
// that the loader can name what a host lacks.
//
//   CpuFeatures f = host_features();            // {"avx2", "fma", ..., "avx512f", ...}
//   f.to_string()                               // "avx2,fma,f16c,bmi,bmi2,avx512f,..."
//   CpuFeatures::parse("avx2,fma")
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace graphc {

// Named as LLVM names them (cpu_feature_name).
enum class CpuFeature : uint8_t {
  kAvx,
  kAvx2,
  kFma,
  kF16c,
  kBmi,
  kBmi2,
  kLzcnt,
  kPopcnt,
  kMovbe,
  kAvxVnni,
  kAvx512f,
  kAvx512bw,
  kAvx512dq,
  kAvx512vl,
  kAvx512cd,
  kAvx512Vnni,
  kAvx512Vbmi,
  kAvx512Vbmi2,
  kAvx512Ifma,
  kAvx512Bf16,
  kAvx512Fp16,
  kAmxTile,
  kAmxInt8,
  kAmxBf16,
};
inline constexpr int kNumCpuFeatures = static_cast<int>(CpuFeature::kAmxBf16) + 1;

std::string_view cpu_feature_name(CpuFeature f);  // "avx512f"

enum class CpuVendor : uint8_t { kOther, kIntel, kAmd };

class CpuFeatures {
 public:
  bool has(CpuFeature f) const { return bits_ >> static_cast<int>(f) & 1; }
  void set(CpuFeature f, bool on = true);
  CpuVendor vendor =
      CpuVendor::kOther;  // only steers instruction scheduling, never what is legal; printed last

  // avx512f, bw, dq, vl: what the emitter needs to use 512-bit registers with masks
  bool avx512() const;
  int vector_bytes() const { return avx512() ? 64 : 32; }
  int num_vector_registers() const { return avx512() ? 32 : 16; }
  int lanes(int element_bytes) const { return vector_bytes() / element_bytes; }

  // Names of the features of `needed` that this lacks.
  std::vector<std::string_view> missing(const CpuFeatures& needed) const;
  // The part of this that is AVX2, FMA, F16C, BMI: what every supported machine has.
  CpuFeatures baseline() const;
  // "avx2,fma,f16c,vendor=amd"
  std::string to_string() const;
  static Result<CpuFeatures> parse(std::string_view text);
  // Switches features off by name: "avx512" means all that need 512-bit registers (AMX stays), "amx" all of
  // AMX.
  Status disable(std::string_view comma_separated);
  friend bool operator==(const CpuFeatures& a, const CpuFeatures& b) {
    return a.bits_ == b.bits_ && a.vendor == b.vendor;
  }

 private:
  uint64_t bits_ = 0;
};

// Of this machine; GRAPHC_CPU_DISABLE (a list as disable() takes) switches some off. Found once.
const CpuFeatures& host_features();
// The processor's name as it gives it itself; "cpu" if it gives none.
std::string host_cpu_name();
// An error that says so, unless f has AVX2, FMA and F16C, without which no kernel runs.
Status check_baseline(const CpuFeatures& f);
// Asks the kernel for the AMX state, once per process; false if it is refused or there is none.
bool enable_amx();

}  // namespace graphc
