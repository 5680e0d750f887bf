// Measures emitted register tiles against the core's FMA peak: microkernel_bench [MR NV [K]]. Also prints
// with --asm.
#include <immintrin.h>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "backends/cpu/emit_llvm.h"
#include "backends/cpu/exec/kernel_image.h"

using namespace graphc;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// C[m, n] += A packed [k, MR] x B packed [k, NR], the inner kernel of a contraction.
Kernel micro_kernel(int mr, int nv, int lanes) {
  const int nr = nv * lanes;
  KernelBuilder k("micro");
  Dim kk = k.param("K"), tiles = k.param("T");
  Buffer a = k.arg("a", DType::kF32, {kk, mr}), b = k.arg("b", DType::kF32, {kk, nr});
  Buffer c = k.out("c", DType::kF32, {tiles, mr, nr});
  k.parallel("t", 0, tiles, [&](Dim t) {
    Buffer acc = k.registers("acc", DType::kF32, {mr, nr}, 0.0);
    k.serial("k", 0, kk, [&](Dim p) {
      k.unroll("i", 0, mr, [&](Dim i) {
        k.unroll("j", 0, nv, [&](Dim j) {
          k.vector(lanes, "l", 0, lanes, [&](Dim l) {
            Dim n = j * lanes + l;
            k.store(acc, {i, n}, a.load({p, i}) * b.load({p, n}) + acc.load({i, n}));
          });
        });
      });
    });
    k.unroll("i", 0, mr, [&](Dim i) {
      k.unroll("j", 0, nv, [&](Dim j) {
        k.vector(lanes, "l", 0, lanes, [&](Dim l) {
          k.store(c, {t, i, j * lanes + l}, acc.load({i, j * lanes + l}));
        });
      });
    });
  });
  return k.finish();
}

// Twelve independent chains of FMAs, all in registers.
#define GC_ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define GC_ZERO512(i) __m512 c##i = _mm512_setzero_ps();
#define GC_FMA512(i) asm volatile("vfmadd231ps %1,%1,%0" : "+v"(c##i) : "v"(u));
#define GC_ZERO256(i) __m256 c##i = _mm256_setzero_ps();
#define GC_FMA256(i) asm volatile("vfmadd231ps %1,%1,%0" : "+x"(c##i) : "x"(u));
__attribute__((target("avx512f"))) double peak512(long n) {
  __m512 u = _mm512_set1_ps(1.0f);
  GC_ALL(GC_ZERO512)
  double t = now();
  for (long i = 0; i < n; ++i) {
    GC_ALL(GC_FMA512)
  }
  return static_cast<double>(n) * 12 * 32 / (now() - t);
}
__attribute__((target("avx2,fma"))) double peak256(long n) {
  __m256 u = _mm256_set1_ps(1.0f);
  GC_ALL(GC_ZERO256)
  double t = now();
  for (long i = 0; i < n; ++i) {
    GC_ALL(GC_FMA256)
  }
  return static_cast<double>(n) * 12 * 16 / (now() - t);
}

}  // namespace

int main(int argc, char** argv) {
  bool text = argc > 1 && !std::strcmp(argv[1], "--asm");
  int shift = text ? 1 : 0;
  for (bool wide : {true, false}) {
    CpuFeatures f = wide ? host_features() : host_features().baseline();
    if (wide && !f.avx512()) continue;
    int lanes = wide ? 16 : 8;
    int mr = argc > 2 + shift ? std::atoi(argv[1 + shift]) : wide ? 14 : 6;
    int nv = argc > 2 + shift ? std::atoi(argv[2 + shift]) : 2;
    int64_t k = argc > 3 + shift ? std::atoi(argv[3 + shift]) : 64;
    Kernel kernel = micro_kernel(mr, nv, lanes);
    if (text) {
      auto s = emit_asm_text({&kernel, 1}, f);
      std::puts(s.ok() ? s->c_str() : s.error().message.c_str());
      continue;
    }
    double ms = 0, cold = 0;
    EmitOptions options;
    options.milliseconds = &cold;
    (void)compile_kernels({&kernel, 1}, f, options);
    options.milliseconds = &ms;
    auto object = compile_kernels({&kernel, 1}, f, options);
    if (!object.ok()) return std::puts(object.error().message.c_str()), 1;
    auto image = KernelImage::load(object->bytes);
    if (!image.ok()) return std::puts(image.error().message.c_str()), 1;
    KernelFn fn = image->find("micro");
    int64_t tiles = 4;
    auto buffer = [](size_t n) {
      return static_cast<float*>(std::aligned_alloc(64, n * 4 + 64 - n * 4 % 64));
    };
    float* a = buffer(static_cast<size_t>(k * mr));
    float* b = buffer(static_cast<size_t>(k * nv * lanes));
    float* c = buffer(static_cast<size_t>(tiles * mr * nv * lanes));
    for (int64_t i = 0; i < k * mr; ++i) a[i] = static_cast<float>(i % 13) - 6;
    for (int64_t i = 0; i < k * nv * lanes; ++i) b[i] = static_cast<float>(i % 7) - 3;
    void* buffers[] = {a, b, c};
    int64_t symbols[] = {k, tiles};
    KernelCall call{buffers, symbols, nullptr, 0, tiles};
    double flop = 2.0 * mr * nv * lanes * static_cast<double>(k * tiles), best = 0, peak = 0;
    for (int r = 0; r < 7; ++r) {
      long n = static_cast<long>(2e9 / flop);
      double t = now();
      for (long i = 0; i < n; ++i) fn(&call);
      best = std::max(best, static_cast<double>(n) * flop / (now() - t));
      peak = std::max(peak, wide ? peak512(3000000) : peak256(3000000));
    }
    double err = 0;
    for (int i = 0; i < mr; ++i)
      for (int j = 0; j < nv * lanes; ++j) {
        double s = 0;
        for (int64_t p = 0; p < k; ++p) s += double(a[p * mr + i]) * b[p * nv * lanes + j];
        err = std::max(err, std::abs(s - c[i * nv * lanes + j]));
      }
    std::printf(
        "%s %dx%d K=%ld: %.1f of %.1f GFLOP/s, %.3f of the peak; compiled in %.1f ms (first %.1f); max error "
        "%g\n",
        wide ? "avx512" : "avx2", mr, nv * lanes, static_cast<long>(k), best * 1e-9, peak * 1e-9, best / peak,
        ms, cold, err);
    std::free(a);
    std::free(b);
    std::free(c);
  }
}
