// CUDA's words for g++: this stands before the text of a program, in place of what NVRTC knows by itself. It
// includes no header, as NVRTC has none, and declares no more than NVRTC does: a text that needs more fails here.
namespace standin {
extern "C" __attribute__((visibility("hidden"))) State standin_state;
__attribute__((visibility("hidden"))) State standin_state;

struct Index {
  unsigned x, y, z;
};
// By asm, so that the instrumentation doesn't see these reads. A fiber's values don't change while it lives,
// so that the compiler may keep them.
#define STANDIN_INDEX(name, offset, y_and_z)                                                     \
  static inline __attribute__((always_inline)) Index name() {                                    \
    unsigned v;                                                                                  \
    __asm__("movl standin_state+" #offset "(%%rip), %0" : "=r"(v));                              \
    return {v, y_and_z, y_and_z};                                                                \
  }
STANDIN_INDEX(thread_index, 0, 0u)
STANDIN_INDEX(block_index, 4, 0u)
STANDIN_INDEX(block_size, 8, 1u)
STANDIN_INDEX(grid_size, 12, 1u)
#undef STANDIN_INDEX

#define STANDIN_QUIET __attribute__((no_sanitize_thread))
static inline STANDIN_QUIET void barrier(int site, int line) {
  standin_state.barrier(standin_state.runner, site, line);
}
static inline STANDIN_QUIET void trap(int line) {
  standin_state.trap(standin_state.runner, line);
  __builtin_unreachable();
}
static inline STANDIN_QUIET unsigned long long warp(int op, unsigned mask, unsigned long long value, unsigned arg,
                                                    unsigned width, int site, int line) {
  return standin_state.warp(standin_state.runner, op, mask, value, arg, width, site, line);
}
template <class T>
inline STANDIN_QUIET T shuffle(int op, unsigned mask, T value, unsigned arg, int width, int site, int line) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  unsigned long long raw = 0;
  __builtin_memcpy(&raw, &value, sizeof value);
  raw = warp(op, mask, raw, arg, static_cast<unsigned>(width), site, line);
  __builtin_memcpy(&value, &raw, sizeof value);
  return value;
}
template <class T, class A>
inline STANDIN_QUIET T shuffle_site(int op, int site, int line, unsigned mask, T value, A arg, int width = 32) {
  return shuffle(op, mask, value, static_cast<unsigned>(arg), width, site, line);
}

template <class... A>
struct Parameters {
  static constexpr unsigned count = sizeof...(A);
  static constexpr unsigned bytes[sizeof...(A) + 1] = {sizeof(A)..., 0};
};
template <class... A>
Parameters<A...> parameters_of(void (*)(A...));
template <class T>
inline T& parameter(void* p) {
  return *static_cast<T*>(p);
}
template <int... I>
struct Numbers {};
template <int N, int... I>
struct Count : Count<N - 1, N - 1, I...> {};
template <int... I>
struct Count<0, I...> {
  using Type = Numbers<I...>;
};
template <class... A, int... I>
inline STANDIN_QUIET void call_with(void (*f)(A...), void** p, Numbers<I...>) {
  f(parameter<A>(p[I])...);
}
template <class... A>
inline STANDIN_QUIET void call(void (*f)(A...), void** p) {
  call_with(f, p, typename Count<sizeof...(A)>::Type());
}
}  // namespace standin

#define threadIdx (::standin::thread_index())
#define blockIdx (::standin::block_index())
#define blockDim (::standin::block_size())
#define gridDim (::standin::grid_size())
constexpr int warpSize = 32;

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __shared__ static
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

#define __syncthreads() ::standin::barrier(__COUNTER__, __LINE__)
#define __syncwarp(...) ::standin::sync_warp(__COUNTER__, __LINE__ __VA_OPT__(,) __VA_ARGS__)
#define __shfl_sync(...) ::standin::shuffle_site(::standin::kShuffleIndex, __COUNTER__, __LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) ::standin::shuffle_site(::standin::kShuffleUp, __COUNTER__, __LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) ::standin::shuffle_site(::standin::kShuffleDown, __COUNTER__, __LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) ::standin::shuffle_site(::standin::kShuffleXor, __COUNTER__, __LINE__, __VA_ARGS__)
#define __ballot_sync(mask, p) \
  static_cast<unsigned>(::standin::warp(::standin::kBallot, mask, (p) ? 1 : 0, 0, 32, __COUNTER__, __LINE__))
#define __any_sync(mask, p) (__ballot_sync(mask, p) != 0)
#define __all_sync(mask, p) (__ballot_sync(mask, !(p)) == 0)
#define __trap() ::standin::trap(__LINE__)
namespace standin {
static inline STANDIN_QUIET void sync_warp(int site, int line, unsigned mask = 0xffffffffu) {
  warp(kSyncWarp, mask, 0, 0, 32, site, line);
}
}  // namespace standin
static inline void __threadfence() {}
static inline void __threadfence_block() {}

using size_t = unsigned long;

#define STANDIN_VECTOR2(T, V, A)           \
  struct alignas(A) V {                    \
    T x, y;                                \
  };                                       \
  static inline V make_##V(T x, T y) { return {x, y}; }
#define STANDIN_VECTOR4(T, V)              \
  struct alignas(16) V {                   \
    T x, y, z, w;                          \
  };                                       \
  static inline V make_##V(T x, T y, T z, T w) { return {x, y, z, w}; }
STANDIN_VECTOR2(float, float2, 8)
STANDIN_VECTOR2(int, int2, 8)
STANDIN_VECTOR2(unsigned, uint2, 8)
STANDIN_VECTOR2(double, double2, 16)
STANDIN_VECTOR2(long long, longlong2, 16)
STANDIN_VECTOR2(unsigned long long, ulonglong2, 16)
STANDIN_VECTOR4(float, float4)
STANDIN_VECTOR4(int, int4)
STANDIN_VECTOR4(unsigned, uint4)
#undef STANDIN_VECTOR2
#undef STANDIN_VECTOR4

// libm, by its C names
extern "C" {
#define STANDIN_MATH1(name)       \
  float name##f(float) noexcept; \
  double name(double) noexcept;
#define STANDIN_MATH2(name)              \
  float name##f(float, float) noexcept; \
  double name(double, double) noexcept;
STANDIN_MATH1(exp)
STANDIN_MATH1(exp2)
STANDIN_MATH1(expm1)
STANDIN_MATH1(log)
STANDIN_MATH1(log2)
STANDIN_MATH1(log10)
STANDIN_MATH1(log1p)
STANDIN_MATH1(sqrt)
STANDIN_MATH1(cbrt)
STANDIN_MATH1(sin)
STANDIN_MATH1(cos)
STANDIN_MATH1(tan)
STANDIN_MATH1(asin)
STANDIN_MATH1(acos)
STANDIN_MATH1(atan)
STANDIN_MATH1(sinh)
STANDIN_MATH1(cosh)
STANDIN_MATH1(tanh)
STANDIN_MATH1(asinh)
STANDIN_MATH1(acosh)
STANDIN_MATH1(atanh)
STANDIN_MATH1(erf)
STANDIN_MATH1(erfc)
STANDIN_MATH1(lgamma)
STANDIN_MATH1(tgamma)
STANDIN_MATH1(floor)
STANDIN_MATH1(ceil)
STANDIN_MATH1(trunc)
STANDIN_MATH1(round)
STANDIN_MATH1(rint)
STANDIN_MATH1(nearbyint)
STANDIN_MATH1(fabs)
STANDIN_MATH2(pow)
STANDIN_MATH2(atan2)
STANDIN_MATH2(fmod)
STANDIN_MATH2(remainder)
STANDIN_MATH2(copysign)
STANDIN_MATH2(fmin)
STANDIN_MATH2(fmax)
STANDIN_MATH2(hypot)
STANDIN_MATH2(fdim)
#undef STANDIN_MATH1
#undef STANDIN_MATH2
float fmaf(float, float, float) noexcept;
double fma(double, double, double) noexcept;
float ldexpf(float, int) noexcept;
double ldexp(double, int) noexcept;
int abs(int) noexcept;
long long llabs(long long) noexcept;
void* memcpy(void*, const void*, size_t) noexcept;
void* memset(void*, int, size_t) noexcept;
}
static inline float exp10f(float x) { return static_cast<float>(pow(10.0, x)); }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline bool isnan(float x) { return __builtin_isnan(x); }
static inline bool isnan(double x) { return __builtin_isnan(x); }
static inline bool isinf(float x) { return __builtin_isinf(x); }
static inline bool isinf(double x) { return __builtin_isinf(x); }
static inline bool isfinite(float x) { return __builtin_isfinite(x); }
static inline bool isfinite(double x) { return __builtin_isfinite(x); }
static inline bool signbit(float x) { return __builtin_signbit(x); }
static inline bool signbit(double x) { return __builtin_signbit(x); }
#define STANDIN_MIN_MAX(T)                                   \
  static inline T min(T a, T b) { return b < a ? b : a; }    \
  static inline T max(T a, T b) { return a < b ? b : a; }
STANDIN_MIN_MAX(int)
STANDIN_MIN_MAX(unsigned)
STANDIN_MIN_MAX(long)
STANDIN_MIN_MAX(unsigned long)
STANDIN_MIN_MAX(long long)
STANDIN_MIN_MAX(unsigned long long)
#undef STANDIN_MIN_MAX
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

namespace standin {
template <class To, class From>
inline To bits(From v) {
  static_assert(sizeof(To) == sizeof(From), "");
  To r;
  __builtin_memcpy(&r, &v, sizeof r);
  return r;
}
}  // namespace standin
static inline unsigned __float_as_uint(float v) { return standin::bits<unsigned>(v); }
static inline int __float_as_int(float v) { return standin::bits<int>(v); }
static inline float __uint_as_float(unsigned v) { return standin::bits<float>(v); }
static inline float __int_as_float(int v) { return standin::bits<float>(v); }
static inline long long __double_as_longlong(double v) { return standin::bits<long long>(v); }
static inline double __longlong_as_double(long long v) { return standin::bits<double>(v); }
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
static inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(static_cast<unsigned>(v)); }
static inline int __clzll(long long v) { return v == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(v)); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline int __float2int_rn(float v) { return static_cast<int>(rintf(v)); }
static inline int __float2int_rz(float v) { return static_cast<int>(v); }
static inline float __int2float_rn(int v) { return static_cast<float>(v); }
template <class T>
static inline T __ldg(const T* p) {
  return *p;
}

// The instrumentation's calls. Small pieces come first here: the stack of the thread itself is no one else's.
#ifdef __SANITIZE_THREAD__
namespace standin {
static inline __attribute__((always_inline)) STANDIN_QUIET void check(const void* p, unsigned long long n, bool write) {
  const char* c = static_cast<const char*>(p);
  if (c >= standin_state.low && c < standin_state.high) return;
  standin_state.access(standin_state.runner, p, n, write, __builtin_return_address(0));
}
}  // namespace standin
extern "C" {
#define STANDIN_HIDDEN __attribute__((visibility("hidden"), noinline, used)) STANDIN_QUIET
#define STANDIN_ACCESS(n)                                                                            \
  STANDIN_HIDDEN void __tsan_read##n(void* p) { standin::check(p, n, false); }                       \
  STANDIN_HIDDEN void __tsan_write##n(void* p) { standin::check(p, n, true); }                       \
  STANDIN_HIDDEN void __tsan_unaligned_read##n(void* p) { standin::check(p, n, false); }             \
  STANDIN_HIDDEN void __tsan_unaligned_write##n(void* p) { standin::check(p, n, true); }             \
  STANDIN_HIDDEN void __tsan_volatile_read##n(void* p) { standin::check(p, n, false); }              \
  STANDIN_HIDDEN void __tsan_volatile_write##n(void* p) { standin::check(p, n, true); }              \
  STANDIN_HIDDEN void __tsan_unaligned_volatile_read##n(void* p) { standin::check(p, n, false); }    \
  STANDIN_HIDDEN void __tsan_unaligned_volatile_write##n(void* p) { standin::check(p, n, true); }
STANDIN_ACCESS(1)
STANDIN_ACCESS(2)
STANDIN_ACCESS(4)
STANDIN_ACCESS(8)
STANDIN_ACCESS(16)
STANDIN_HIDDEN void __tsan_read_range(void* p, unsigned long n) { standin::check(p, n, false); }
STANDIN_HIDDEN void __tsan_write_range(void* p, unsigned long n) { standin::check(p, n, true); }
STANDIN_HIDDEN void __tsan_func_entry(void*) {}
STANDIN_HIDDEN void __tsan_func_exit(void) {}
STANDIN_HIDDEN void __tsan_init(void) {}
#undef STANDIN_ACCESS
}
#endif
