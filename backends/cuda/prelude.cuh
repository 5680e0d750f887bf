// What every program of emitted kernels begins with: storage types, conversions, arithmetic with graphc's corners
// (LANGUAGE.md), reductions over threads. Compiled by NVRTC, without any header; where __CUDA_ARCH__ isn't defined
// (tests run the same text on a CPU) plain C++ stands in for PTX.

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;

#if defined(__CUDA_ARCH__)
__device__ __forceinline__ u32 gc_bits(float x) { return __float_as_uint(x); }
__device__ __forceinline__ float gc_float(u32 x) { return __uint_as_float(x); }
__device__ __forceinline__ u64 gc_bits(double x) { return (u64)__double_as_longlong(x); }
__device__ __forceinline__ double gc_double(u64 x) { return __longlong_as_double((i64)x); }
#else
__device__ __forceinline__ u32 gc_bits(float x) { u32 r; __builtin_memcpy(&r, &x, 4); return r; }
__device__ __forceinline__ float gc_float(u32 x) { float r; __builtin_memcpy(&r, &x, 4); return r; }
__device__ __forceinline__ u64 gc_bits(double x) { u64 r; __builtin_memcpy(&r, &x, 8); return r; }
__device__ __forceinline__ double gc_double(u64 x) { double r; __builtin_memcpy(&r, &x, 8); return r; }
#endif
#define GC_INF_F gc_float(0x7f800000u)
#define GC_NAN_F gc_float(0x7fc00000u)
#define GC_INF gc_double(0x7ff0000000000000ull)
#define GC_NAN gc_double(0x7ff8000000000000ull)

// ---- 16-bit floats are storage; arithmetic is in f32

struct gc_f16 { unsigned short bits; };
struct gc_bf16 { unsigned short bits; };

__device__ __forceinline__ float gc_value(gc_bf16 x) { return gc_float((u32)x.bits << 16); }
__device__ __forceinline__ float gc_value(gc_f16 x) {
#if defined(__CUDA_ARCH__)
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x.bits));
  return r;
#else
  u32 sign = (u32)(x.bits & 0x8000u) << 16, e = (x.bits >> 10) & 31u, m = x.bits & 1023u;
  if (e == 31) return gc_float(sign | 0x7f800000u | (m << 13));
  if (e) return gc_float(sign | ((e + 112) << 23) | (m << 13));
  float v = (float)m * 5.9604644775390625e-8f;  // 2^-24
  return sign ? -v : v;
#endif
}

// To nearest even.
__device__ __forceinline__ gc_bf16 gc_to_bf16(float x) {
  gc_bf16 r;
#if defined(__CUDA_ARCH__)
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
#else
  u32 b = gc_bits(x);
  r.bits = x != x ? (unsigned short)(b >> 16 | 0x40u) : (unsigned short)((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
#endif
  return r;
}
__device__ __forceinline__ gc_f16 gc_to_f16(float x) {
  gc_f16 r;
#if defined(__CUDA_ARCH__)
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
#else
  u32 b = gc_bits(x), sign = (b >> 16) & 0x8000u, a = b & 0x7fffffffu;
  if (a > 0x7f800000u) { r.bits = (unsigned short)(sign | 0x7e00u); return r; }
  if (a >= 0x477ff000u) { r.bits = (unsigned short)(sign | 0x7c00u); return r; }  // 65520 and more
  if (a < 0x38800000u) {  // below 2^-14: a multiple of 2^-24
    float m = gc_float(a) + 0.5f;  // 0.5 has the ulp 2^-24 (rounds to nearest even)
    r.bits = (unsigned short)(sign | (gc_bits(m) - 0x3f000000u));
    return r;
  }
  u32 odd = (a >> 13) & 1u;
  r.bits = (unsigned short)(sign | ((a - 0x38000000u + 0xfffu + odd) >> 13));
#endif
  return r;
}
// A double straight to 16 bits: to odd first, so that the second rounding sees what the first one lost.
__device__ __forceinline__ float gc_to_odd(double x) {
  float f = (float)x;
  double back = (double)f;
  if (back == x || x != x) return f;
  u32 b = gc_bits(f);
  if (b & 1u) return f;
  bool up = (back < 0 ? -back : back) < (x < 0 ? -x : x);
  return gc_float(up ? b + 1u : b - 1u);
}

// How an element lies in memory (M) and how it is computed with.
__device__ __forceinline__ float gc_value(float x) { return x; }
__device__ __forceinline__ double gc_value(double x) { return x; }
__device__ __forceinline__ signed char gc_value(signed char x) { return x; }
__device__ __forceinline__ short gc_value(short x) { return x; }
__device__ __forceinline__ int gc_value(int x) { return x; }
__device__ __forceinline__ i64 gc_value(i64 x) { return x; }
__device__ __forceinline__ unsigned char gc_value(unsigned char x) { return x; }
__device__ __forceinline__ unsigned short gc_value(unsigned short x) { return x; }
__device__ __forceinline__ u32 gc_value(u32 x) { return x; }
__device__ __forceinline__ u64 gc_value(u64 x) { return x; }

// ---- consecutive elements in one access

template <class T, int W>
struct __align__(sizeof(T) * W < 16 ? sizeof(T) * W : 16) gc_vec {
  T at[W];
  __device__ __forceinline__ T& operator[](int i) { return at[i]; }
  __device__ __forceinline__ const T& operator[](int i) const { return at[i]; }
};
template <int W, class T>
__device__ __forceinline__ gc_vec<T, W> gc_load(const T* p) {
  return *reinterpret_cast<const gc_vec<T, W>*>(p);
}
template <class T, int W>
__device__ __forceinline__ void gc_store(T* p, const gc_vec<T, W>& v) {
  *reinterpret_cast<gc_vec<T, W>*>(p) = v;
}

// ---- arithmetic: integers wrap, // floors, % has the divisor's sign, x // 0 and x % 0 are 0

template <class T> struct gc_unsigned { typedef T type; };
template <> struct gc_unsigned<signed char> { typedef u32 type; };
template <> struct gc_unsigned<unsigned char> { typedef u32 type; };
template <> struct gc_unsigned<short> { typedef u32 type; };
template <> struct gc_unsigned<unsigned short> { typedef u32 type; };
template <> struct gc_unsigned<int> { typedef u32 type; };
template <> struct gc_unsigned<i64> { typedef u64 type; };
template <class T> __device__ __forceinline__ typename gc_unsigned<T>::type gc_u(T x) {
  return (typename gc_unsigned<T>::type)x;
}
template <class T> __device__ __forceinline__ T gc_iadd(T a, T b) { return (T)(gc_u(a) + gc_u(b)); }
template <class T> __device__ __forceinline__ T gc_isub(T a, T b) { return (T)(gc_u(a) - gc_u(b)); }
template <class T> __device__ __forceinline__ T gc_imul(T a, T b) { return (T)(gc_u(a) * gc_u(b)); }
template <class T> __device__ __forceinline__ T gc_ineg(T a) { return (T)(0u - gc_u(a)); }
template <class T> __device__ __forceinline__ T gc_iabs(T a) { return a < 0 ? gc_ineg(a) : a; }
template <class T> __device__ __forceinline__ T gc_isign(T a) { return (T)((a > 0) - (a < 0)); }
template <class T> __device__ __forceinline__ T gc_ifloordiv(T a, T b) {
  if (b == 0) return 0;
  if ((T)-1 < 0 && b == (T)-1) return gc_ineg(a);
  T q = (T)(a / b);
  return a % b != 0 && ((a < 0) != (b < 0)) ? (T)(q - 1) : q;
}
template <class T> __device__ __forceinline__ T gc_irem(T a, T b) {
  return b == 0 ? (T)0 : gc_isub(a, gc_imul(b, gc_ifloordiv(a, b)));
}
template <class T> __device__ __forceinline__ T gc_ishl(T a, T b) {
  return b < 0 || (u64)b >= 8 * sizeof(T) ? (T)0 : (T)(gc_u(a) << (int)b);
}
template <class T> __device__ __forceinline__ T gc_ishr(T a, T b) {
  if (b < 0 || (u64)b >= 8 * sizeof(T)) return (T)-1 < 0 && a < 0 ? (T)-1 : (T)0;
  return (T)(a >> (int)b);
}
template <class T> __device__ __forceinline__ T gc_ipow(T a, T b) {  // a negative exponent floors
  if (b < 0) return a == 1 ? (T)1 : a == (T)-1 ? (b % 2 ? (T)-1 : (T)1) : (T)0;
  T r = 1;
  for (; b > 0; b = (T)(b >> 1)) {
    if (b & 1) r = gc_imul(r, a);
    a = gc_imul(a, a);
  }
  return r;
}

__device__ __forceinline__ float gc_sign(float x) { return x != x ? x : (float)((x > 0.0f) - (x < 0.0f)); }
__device__ __forceinline__ double gc_sign(double x) { return x != x ? x : (double)((x > 0.0) - (x < 0.0)); }
__device__ __forceinline__ float gc_rem(float a, float b) {
  float r = fmodf(a, b);
  return r != 0.0f && (r < 0.0f) != (b < 0.0f) ? r + b : r;
}
__device__ __forceinline__ double gc_rem(double a, double b) {
  double r = fmod(a, b);
  return r != 0.0 && (r < 0.0) != (b < 0.0) ? r + b : r;
}

// NaN is handed on.
__device__ __forceinline__ float gc_max(float a, float b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  float r;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
#else
  return a != a ? a : b != b ? b : a >= b ? a : b;
#endif
}
__device__ __forceinline__ float gc_min(float a, float b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  float r;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
#else
  return a != a ? a : b != b ? b : a <= b ? a : b;
#endif
}
template <class T> __device__ __forceinline__ T gc_max(T a, T b) { return a != a ? a : b != b ? b : a >= b ? a : b; }
template <class T> __device__ __forceinline__ T gc_min(T a, T b) { return a != a ? a : b != b ? b : a <= b ? a : b; }

// float -> integer truncates and saturates, NaN gives 0
template <class T> struct gc_limits;
#define GC_LIMITS(T, LO, HI)                                            \
  template <> struct gc_limits<T> {                                     \
    static __device__ __forceinline__ T lo() { return LO; }             \
    static __device__ __forceinline__ T hi() { return HI; }             \
  };
GC_LIMITS(signed char, -128, 127)
GC_LIMITS(short, -32768, 32767)
GC_LIMITS(int, -2147483647 - 1, 2147483647)
GC_LIMITS(i64, -9223372036854775807ll - 1, 9223372036854775807ll)
GC_LIMITS(unsigned char, 0, 255)
GC_LIMITS(unsigned short, 0, 65535)
GC_LIMITS(u32, 0, 4294967295u)
GC_LIMITS(u64, 0, 18446744073709551615ull)
#undef GC_LIMITS
template <class T, class F> __device__ __forceinline__ T gc_to_int(F x) {
  if (x != x) return 0;
  if (x <= (F)gc_limits<T>::lo()) return gc_limits<T>::lo();
  if (x >= (F)gc_limits<T>::hi()) return gc_limits<T>::hi();
  return (T)x;
}

// Index arithmetic: floors, of any sign; den > 0.
template <class T> __device__ __forceinline__ T gc_floordiv(T num, T den) {
  T q = num / den;
  return num % den < 0 ? q - 1 : q;
}
// The same where neither is negative: an unsigned division is cheaper.
template <class T> __device__ __forceinline__ T gc_quotient(T num, T den) { return (T)(gc_u(num) / gc_u(den)); }
template <class T> __device__ __forceinline__ T gc_least(T a, T b) { return a < b ? a : b; }

// Word 0 of philox4x32_10 (Salmon et al., SC 2011), counter {lo(i), hi(i), s0, s1}, key {k0, k1}.
__device__ __forceinline__ u32 gc_philox(u32 k0, u32 k1, u32 s0, u32 s1, i64 i) {
  u32 c0 = (u32)(u64)i, c1 = (u32)((u64)i >> 32), c2 = s0, c3 = s1;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
    u32 n0 = (u32)(p1 >> 32) ^ c1 ^ k0, n2 = (u32)(p0 >> 32) ^ c3 ^ k1;
    c1 = (u32)p1;
    c3 = (u32)p0;
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c0;
}

// ---- reductions over threads

struct gc_op_add { template <class T> static __device__ __forceinline__ T of(T a, T b) { return gc_iadd(a, b); }
  static __device__ __forceinline__ float of(float a, float b) { return a + b; }
  static __device__ __forceinline__ double of(double a, double b) { return a + b; }
  static __device__ __forceinline__ bool of(bool a, bool b) { return a || b; } };
struct gc_op_mul { template <class T> static __device__ __forceinline__ T of(T a, T b) { return gc_imul(a, b); }
  static __device__ __forceinline__ float of(float a, float b) { return a * b; }
  static __device__ __forceinline__ double of(double a, double b) { return a * b; }
  static __device__ __forceinline__ bool of(bool a, bool b) { return a && b; } };
struct gc_op_max { template <class T> static __device__ __forceinline__ T of(T a, T b) { return gc_max(a, b); } };
struct gc_op_min { template <class T> static __device__ __forceinline__ T of(T a, T b) { return gc_min(a, b); } };

template <class T> __device__ __forceinline__ T gc_shuffle_xor(u32 mask, T v, int lane, int width) {
  return (T)__shfl_xor_sync(mask, (int)v, lane, width);
}
template <> __device__ __forceinline__ float gc_shuffle_xor(u32 mask, float v, int lane, int width) {
  return __shfl_xor_sync(mask, v, lane, width);
}
template <> __device__ __forceinline__ double gc_shuffle_xor(u32 mask, double v, int lane, int width) {
  return __shfl_xor_sync(mask, v, lane, width);
}
template <> __device__ __forceinline__ i64 gc_shuffle_xor(u32 mask, i64 v, int lane, int width) {
  return __shfl_xor_sync(mask, v, lane, width);
}
template <> __device__ __forceinline__ u64 gc_shuffle_xor(u32 mask, u64 v, int lane, int width) {
  return __shfl_xor_sync(mask, v, lane, width);
}
// Over W (a power of two, at most 32) neighbouring threads: halves first. All of them get the result.
template <class Op, int W, class T> __device__ __forceinline__ T gc_group_reduce(T v) {
  u32 mask = W == 32 ? 0xffffffffu : ((1u << (W & 31)) - 1u) << (threadIdx.x & 31u & ~(u32)(W - 1));
#pragma unroll
  for (int d = W / 2; d > 0; d /= 2) v = Op::of(v, gc_shuffle_xor(mask, v, d, W));
  return v;
}
// N (a power of two) values, halves first.
template <class Op, int N, class T> __device__ __forceinline__ T gc_tree(const T* v) {
  if constexpr (N == 1) {
    return v[0];
  } else {
    T half[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; ++i) half[i] = Op::of(v[i], v[i + N / 2]);
    return gc_tree<Op, N / 2>(half);
  }
}
