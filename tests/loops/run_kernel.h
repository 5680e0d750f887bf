// Helpers of the loop tests: arguments with random contents, and a kernel run by the interpreter and as
// machine code.
#pragma once

#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backends/cpu/emit_llvm.h"
#include "backends/cpu/exec/kernel_image.h"
#include "ir/loops/interpreter.h"
#include "ir/loops/text.h"
#include "ir/loops/verify.h"

namespace graphc {

using Params = std::map<std::string, int64_t, std::less<>>;

// Memory of one argument, with guard bytes around it that must survive.
struct TestBuffer {
  static constexpr size_t kGuard = 256;
  std::vector<unsigned char> bytes;
  size_t elements = 0;
  DType type = DType::kF32;
  void* data() { return bytes.data() + kGuard; }
  const void* data() const { return bytes.data() + kGuard; }
  bool guards_intact() const {
    for (size_t i = 0; i < kGuard; ++i)
      if (bytes[i] != 0xA5 || bytes[bytes.size() - 1 - i] != 0xA5) return false;
    return true;
  }
};

template <class Random>
TestBuffer random_buffer(DType t, size_t n, Random& random) {
  TestBuffer b;
  b.type = t;
  b.elements = n;
  b.bytes.assign(n * dtype_size(t) + 2 * TestBuffer::kGuard, 0xA5);
  for (size_t i = 0; i < n; ++i) {
    if (is_float(t)) {
      store_from_double(t, b.data(), i, std::uniform_real_distribution<double>(-2, 2)(random));
    } else if (t == DType::kBool) {
      store_from_int(t, b.data(), i, static_cast<int64_t>(random() % 2));
    } else {
      int64_t v = static_cast<int64_t>((static_cast<uint64_t>(random()) << 32) ^ random());
      if (random() % 2) v = static_cast<int64_t>(random() % 21) - 10;
      store_from_int(t, b.data(), i, wrap_int(t, v));
    }
  }
  return b;
}

inline std::vector<TestBuffer> random_args(const Kernel& k, const Params& params, std::mt19937& random) {
  std::vector<TestBuffer> out;
  for (int i = 0; i < k.num_args(); ++i) {
    int64_t n = 1;
    for (const Dim& d : k.buffers[static_cast<size_t>(i)].shape) n *= *d.evaluate(params);
    out.push_back(random_buffer(k.buffers[static_cast<size_t>(i)].type, static_cast<size_t>(n), random));
  }
  return out;
}

inline std::vector<void*> pointers(std::vector<TestBuffer>& args) {
  std::vector<void*> p;
  for (TestBuffer& b : args) p.push_back(b.data());
  return p;
}

inline std::vector<int64_t> values_of(const Kernel& k, const Params& params) {
  std::vector<int64_t> v;
  for (const std::string& p : k.params) v.push_back(params.at(p));
  return v;
}

// Runs the whole parallel range in `parts` calls, last one first.
inline void call_kernel(KernelFn fn, const Kernel& k, const Params& params, std::vector<TestBuffer>& args,
                        int parts = 1) {
  std::vector<void*> p = pointers(args);
  std::vector<int64_t> v = values_of(k, params);
  int64_t n = *parallel_extent(k).evaluate(params), bytes = *scratch_bytes(k).evaluate(params);
  std::vector<unsigned char> raw(static_cast<size_t>(bytes) + 64, 0xEE);
  void* scratch = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(raw.data()) + 63) & ~uintptr_t{63});
  for (int i = parts - 1; i >= 0; --i) {
    KernelCall call{p.data(), v.data(), scratch, n * i / parts, n * (i + 1) / parts};
    fn(&call);
  }
}

inline double tolerance(DType t) {
  switch (t) {
    case DType::kF64: return 1e-11;
    case DType::kF16: return 2e-3;
    case DType::kBF16: return 1.6e-2;
    default: return 2e-5;
  }
}

// Verifies the kernel, sends it through text, interprets it in both orders and compares with the machine code
// for each feature set. `scale` widens the tolerance of floats (sums of many terms).
inline void check_kernel(const Kernel& k, const Params& params, std::mt19937& random, double scale = 1) {
  SCOPED_TRACE(print_kernel(k));
  Status ok = verify_kernel(k);
  ASSERT_TRUE(ok.ok()) << ok.error().message;
  std::string text = print_kernel(k);
  auto parsed = parse_kernel(text);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  ASSERT_EQ(print_kernel(*parsed), text);

  const std::vector<TestBuffer> initial = random_args(k, params, random);
  std::vector<TestBuffer> expected = initial, backward = initial;
  std::vector<int64_t> v = values_of(k, params);
  std::vector<void*> p = pointers(expected);
  ok = interpret_kernel(*parsed, p, v);
  ASSERT_TRUE(ok.ok()) << ok.error().message;
  p = pointers(backward);
  LoopInterpretOptions reverse;
  reverse.reverse = true;
  ASSERT_TRUE(interpret_kernel(k, p, v, reverse).ok());
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_EQ(expected[i].bytes, backward[i].bytes) << "order of iterations matters";

  double eps = 0;  // of the coarsest float it works in; 16-bit ones are computed in f32
  for (const LoopBuffer& b : k.buffers)
    if (is_float(b.type)) eps = std::max(eps, b.type == DType::kF64 ? 1e-11 : 2e-5);
  std::vector<CpuFeatures> sets = {host_features().baseline()};
  if (host_features().avx512()) sets.push_back(host_features());
  for (const CpuFeatures& f : sets) {
    SCOPED_TRACE(f.to_string());
    auto object = compile_kernels({&k, 1}, f);
    ASSERT_TRUE(object.ok()) << object.error().message;
    auto image = KernelImage::load(object->bytes);
    ASSERT_TRUE(image.ok()) << image.error().message;
    std::vector<TestBuffer> args = initial;
    KernelFn fn = image->find(k.name);
    ASSERT_NE(fn, nullptr);
    call_kernel(fn, k, params, args, 1 + static_cast<int>(random() % 3));
    for (size_t i = 0; i < args.size(); ++i) {
      const TestBuffer &a = args[i], &e = expected[i];
      ASSERT_TRUE(a.guards_intact()) << "wrote outside %" << k.buffers[i].name;
      for (size_t j = 0; j < a.elements; ++j) {
        if (is_float(a.type)) {
          double x = load_as_double(a.type, a.data(), j), y = load_as_double(a.type, e.data(), j);
          bool same = (std::isnan(x) && std::isnan(y)) || x == y ||
                      std::abs(x - y) <= std::max(scale * eps, tolerance(a.type)) * (1 + std::abs(y));
          ASSERT_TRUE(same) << "%" << k.buffers[i].name << " element " << j << ": " << x
                            << ", the interpreter says " << y;
        } else {
          ASSERT_EQ(load_as_int(a.type, a.data(), j), load_as_int(a.type, e.data(), j))
              << "%" << k.buffers[i].name << " element " << j;
        }
      }
    }
  }
}

}  // namespace graphc
