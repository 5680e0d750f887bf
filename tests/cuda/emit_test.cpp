// Loop programs as CUDA C++: the text as it is, and NVRTC's opinion of it for every generation of cards, with
// register spills and local memory as errors.
#include "backends/cuda/emit_cuda.h"

#include <gtest/gtest.h>

#include "backends/cuda/exec/libraries.h"
#include "backends/cuda/nvrtc.h"
#include "ir/loops/text.h"

namespace graphc {
namespace {

CudaKernel emitted(const char* text, const DimRanges& ranges = {}) {
  auto k = parse_kernel(text);
  EXPECT_TRUE(k.ok()) << k.error().message;
  if (!k.ok()) return {};
  auto e = emit_cuda(*k, ranges);
  EXPECT_TRUE(e.ok()) << e.error().message;
  return e.ok() ? *e : CudaKernel{};
}

void compiles(const CudaKernel& k) {
  if (!CudaLibraries::get().nvrtc.loaded()) return;
  for (const char* arch : {"sm_80", "sm_90a", "sm_100", "sm_120"}) {
    auto b = compile_cuda({"kernel.cu", cuda_prelude() + k.text}, {.arch = arch, .strict = true});
    ASSERT_TRUE(b.ok()) << arch << "\n" << b.error().message << "\n" << k.text;
    EXPECT_EQ(b->log, "") << arch << "\n" << k.text;
  }
}

DimRanges up_to(std::string_view name, int64_t max) {
  DimRanges r;
  r.set(name, 1, max);
  return r;
}

TEST(EmitCuda, WideAccessesAreOneInstruction) {
  const CudaKernel k = emitted(R"(kernel @scale(%x: f32[4*N], mut %y: f32[4*N] alias %x) params(N) {
  parallel b in 0..(N+255)//256 {
    thread<256> t in 256*b..min(256*b+256, N) {
      vector<4> c in 4*t..4*t+4 {
        store %y[c] = exp((load %x[c] * 2.0))
      }
    }
  }
}
)",
                               up_to("N", 1 << 20));
  EXPECT_EQ(k.text,
            R"(extern "C" __global__ void __launch_bounds__(256) scale(const float* x, float* y, i64 size_N) {
  const int N = (int)size_N;
  const int tid = (int)threadIdx.x;
  const int b = (int)(blockIdx.x);
  if (const int t = 256*b + tid; t < gc_least<int>(256*b + 256, N)) {
    {
      const int c0 = 4*t;
      gc_vec<float, 4> v1;
      const gc_vec<float, 4> v0 = gc_load<4>(&x[c0]);
      #pragma unroll
      for (int l = 0; l < 4; ++l) {
        v1[l] = expf((v0[l] * 2.0f));
      }
      gc_store(&y[c0], v1);
    }
  }
}
)");
  EXPECT_EQ(k.threads, 256);
  EXPECT_EQ(k.wide_name, "");
  compiles(k);
}

TEST(EmitCuda, WhatIsNotDenseOrAlignedGoesElementByElement) {
  const CudaKernel k = emitted(R"(kernel @shift(%x: f32[4*N+4], mut %y: f32[4*N]) params(N) {
  parallel b in 0..N {
    vector<4> c in 4*b..4*b+4 {
      store %y[c] = load %x[c+1]
    }
  }
}
)",
                               up_to("N", 1 << 20));
  EXPECT_EQ(k.text.find("gc_load"), std::string::npos) << k.text;
  EXPECT_NE(k.text.find("gc_store"), std::string::npos) << k.text;
  compiles(k);
}

constexpr const char* kSoftmax = R"(kernel @softmax(%x: f32[R, C], mut %y: bf16[R, C]) params(R, C) {
  parallel r in 0..R {
    %m = reduce max thread<256> unroll 4 c in 0..C { load %x[r, c] }
    %s = reduce add thread<256> d in 0..C { exp((load %x[r, d] - %m)) }
    thread<256> e in 0..C {
      store %y[r, e] = bf16((exp((load %x[r, e] - %m)) / %s))
    }
  }
}
)";

TEST(EmitCuda, BlockReductionsGoByWarpsAndThenThroughSharedMemory) {
  DimRanges r = up_to("R", 1000);
  r.set("C", 1, 1 << 20);
  const CudaKernel k = emitted(kSoftmax, r);
  EXPECT_NE(k.text.find(R"(  float s_p = -0.0f;
  for (int d = tid; d < C; d += 256) {
    s_p = s_p + expf((x[C*r + d] - m));
  }
  s_p = gc_group_reduce<gc_op_add, 32>(s_p);
  __shared__ float s_w[8];
  if (tid % 32 == 0) {
    s_w[tid / 32] = s_p;
  }
  __syncthreads();
  const float s = gc_tree<gc_op_add, 8>(s_w);
  __syncthreads();
)"),
            std::string::npos)
      << k.text;
  EXPECT_NE(k.text.find("gc_to_bf16("), std::string::npos) << k.text;
  compiles(k);
}

TEST(EmitCuda, IndicesAreAsWideAsTheSizesNeed) {
  // known to fit: one kernel
  DimRanges r = up_to("R", 1000);
  r.set("C", 1, 1000);
  CudaKernel k = emitted(kSoftmax, r);
  EXPECT_EQ(k.wide_name, "");
  EXPECT_TRUE(k.narrow_if.empty());
  // unknown: two, and the condition
  k = emitted(kSoftmax);
  EXPECT_EQ(k.wide_name, "softmax_wide");
  ASSERT_FALSE(k.narrow_if.empty());
  const auto fits = [&](int64_t rows, int64_t columns) {
    return std::all_of(k.narrow_if.begin(), k.narrow_if.end(), [&](const Dim& d) {
      return d.evaluate({{"R", rows}, {"C", columns}}).value_or(INT64_MAX) < int64_t{1} << 31;
    });
  };
  EXPECT_TRUE(fits(30000, 50257));
  EXPECT_FALSE(fits(65536, 50257));
  EXPECT_NE(k.text.find("const i64 r = (i64)(blockIdx.x);"), std::string::npos) << k.text;
  compiles(k);
  // known not to fit: the wide one alone
  k = emitted(R"(kernel @big(%x: f32[3221225472], mut %y: f32[3221225472]) params() {
  parallel b in 0..12582912 {
    thread<256> t in 0..256 {
      store %y[256*b+t] = load %x[256*b+t]
    }
  }
}
)");
  EXPECT_EQ(k.name, "big");
  EXPECT_EQ(k.wide_name, "");
  EXPECT_NE(k.text.find("i64 b"), std::string::npos) << k.text;
  compiles(k);
}

TEST(EmitCuda, GroupsOfThreadsKeepTheirRowInRegisters) {
  const CudaKernel k = emitted(R"(kernel @rows(%x: f32[R, 384], mut %y: f32[R, 384]) params(R) {
  parallel b in 0..(R+7)//8 {
    warp<8> r in 8*b..min(8*b+8, R) {
      register %v: f32[32, 12]
      thread<32> t in 0..32 {
        unroll i in 0..3 {
          vector<4> q in 0..4 {
            store %v[t, 4*i+q] = load %x[r, 128*i+4*t+q]
          }
        }
      }
      %m = reduce max thread<32> u in 0..32 {
        %n = reduce max unroll j in 0..12 { load %v[u, j] }
        yield %n
      }
      thread<32> w in 0..32 {
        unroll i2 in 0..3 {
          vector<4> q2 in 0..4 {
            store %y[r, 128*i2+4*w+q2] = (load %v[w, 4*i2+q2] - %m)
          }
        }
      }
    }
  }
}
)",
                               up_to("R", 100000));
  EXPECT_NE(k.text.find("const float m = gc_group_reduce<gc_op_max, 32>(m_p);"), std::string::npos) << k.text;
  EXPECT_EQ(k.threads, 256);
  compiles(k);
}

TEST(EmitCuda, TiledMatmul) {
  const CudaKernel k =
      emitted(R"(kernel @matmul(%a: f32[M, 64], %b: f32[64, 128], mut %c: f32[M, 128]) params(M) {
  parallel mb in 0..(M+63)//64 {
    parallel nb in 0..2 {
      shared %as: f32[16, 64]
      shared %bs: f32[16, 64]
      register %acc: f32[256, 4, 4] = 0.0
      serial k in 0..64 step 16 {
        thread<256> t in 0..256 {
          unroll i in 0..4 {
            store %as[t%16, t//16+16*i] = load %a[64*mb+t//16+16*i, k+t%16] where M-64*mb-t//16-16*i-1 >= 0 else 0.0
          }
          vector<4> q in 0..4 {
            store %bs[t//16, 4*(t%16)+q] = load %b[k+t//16, 64*nb+4*(t%16)+q]
          }
        }
        barrier
        thread<256> u in 0..256 {
          serial kk in 0..16 {
            unroll x in 0..4 {
              unroll y in 0..4 {
                store %acc[u, x, y] = (load %acc[u, x, y] + (load %as[kk, u//16*4+x] * load %bs[kk, u%16*4+y]))
              }
            }
          }
        }
        barrier
      }
      thread<256> v in 0..256 {
        unroll x1 in 0..4 {
          vector<4> y1 in 0..4 {
            store %c[64*mb+v//16*4+x1, 64*nb+v%16*4+y1] = load %acc[v, x1, y1] if M-64*mb-v//16*4-x1-1 >= 0
          }
        }
      }
    }
  }
}
)");
  EXPECT_NE(k.text.find("__shared__ __align__(16) float bs[1024];"), std::string::npos) << k.text;
  EXPECT_NE(k.text.find("float acc[16];"), std::string::npos) << k.text;
  EXPECT_NE(k.text.find("gc_load<4>(&b["), std::string::npos) << k.text;
  compiles(k);
}

TEST(EmitCuda, WhatOnlyTheCpuHasIsRefused) {
  auto k = parse_kernel(R"(kernel @f(mut %y: f32[N]) params(N) {
  parallel i in 0..N {
    scratch %s: f32[N]
    serial j in 0..N {
      store %s[j] = 1.0
    }
    store %y[i] = load %s[0]
  }
}
)");
  ASSERT_TRUE(k.ok()) << k.error().message;
  auto e = emit_cuda(*k);
  ASSERT_FALSE(e.ok());
  EXPECT_EQ(e.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(e.error().message.find("scratch"), std::string::npos) << e.error().message;
}

TEST(EmitCuda, NamesThatMeanSomethingElseAreChanged) {
  const CudaKernel k = emitted(R"(kernel @f(%float: i32[int], mut %tid: i32[int]) params(int) {
  parallel for in 0..int {
    %exp = load %float[for]
    store %tid[for] = (%exp * %exp)
  }
}
)");
  compiles(k);
}

}  // namespace
}  // namespace graphc
