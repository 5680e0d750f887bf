// Loop programs as text: what is printed is parsed back byte for byte, errors name their line, and no text,
// however damaged, does more than be refused.
#include "ir/loops/text.h"

#include <fstream>
#include <random>

#include <gtest/gtest.h>

#include "ir/loops/verify.h"

namespace graphc {
namespace {

const std::vector<std::string>& kernels() {
  static const auto* const list = new std::vector<std::string>{
      // the whole of loops.h
      R"(kernel @softmax(%x: f32[R, 1000], mut %y: f32[R, 1000]) params(R) {
  parallel r in 0..R {
    %m = reduce max vector<16> unroll 4 c in 0..1000 { load %x[r, c] }
    %s = reduce add vector<16> unroll 4 c in 0..1000 { exp(load %x[r, c] - %m) }
    vector<16> c in 0..1000 {
      store %y[r, c] = exp(load %x[r, c] - %m) / %s
    }
  }
}
)",
      "kernel @empty() {\n}\n",
      // a guard ends with its line: the if that follows is a statement
      R"(kernel @ifs(mut %y: f32[N], mut %z: f32[] alias %y) params(N, M) {
  serial c in 0..N {
    store %y[c] = 1.0
    if c-1 >= 0, N-c >= 0 {
      store %y[c] = 2.0 if M-c >= 0, c-3 >= 0
    } else {
      if c >= 0 {
        prefetch %y[c+64]
      }
      store %z[] = 0.5
    }
  }
}
)",
      // numbers
      R"(kernel @numbers() {
  %a = 1.0
  %b = -0.0
  %c = inf
  %d = -inf
  %e = nan
  %f = 1e-30
  %g = 1e+22
  %h = f64(0.1)
  %i = f16(-2.5)
  %j = bf16(nan)
  %k = -9223372036854775808
  %l = u64(18446744073709551615)
  %m = i8(-128)
  %n = u8(255)
  %o = true
  %p = false
  %q = i32(-7)
  %r = f64(-inf)
}
)",
      // casts of numbers, of what begins with a number, and of values
      R"(kernel @casts(%x: f32[4]) {
  %a = load %x[0]
  %b = f64(1.0 + %a)
  %c = cast(2.5, f64)
  %d = i32(1.0 * (%a - 2.0))
  %e = f32(1 == index(3))
  %f = bf16(%a)
  %g = cast(true, f32)
  %h = f64(cast(1.5, f16))
  %i = i64(-1.0 / %a)
}
)",
      // every function, infix operators within each other
      R"(kernel @functions(%x: f32[8], %n: i32[8], %u: u32[8], %b: bool[8]) {
  %a = load %x[1]
  %i = load %n[1]
  %c = ((%a + 1.0) * (%a - (2.0 / %a))) + neg(abs(sign(%a)))
  %d = exp(expm1(log(log1p(sqrt(rsqrt(%a))))))
  %e = sin(cos(tan(tanh(erf(floor(ceil(round(%a))))))))
  %f = maximum(minimum(pow(%a, 2.0), atan2(%a, 3.0)), rem(%a, 0.5))
  %g = or(and(xor(%i, i32(3)), shl(%i, i32(2))), shr(not(%i), floor_div(%i, i32(3))))
  %h = where(%a < 1.0, where(%a == %a, 1.0, 2.0), %a)
  %j = (%i <= i32(1)) == (%i > i32(2))
  %k = (%a >= 0.0) != is_nan(%a)
  %l = philox(load %u[0], load %u[1], load %u[2], load %u[3], index(8))
  %m = load %x[0] where index_-1 >= 0, 3 >= 0 else -inf
  %o = load %n[2] where 1 >= 0 else i32(-3)
  %p = load %b[2] where 1 >= 0 else true
}
)",
      // loops of each kind, sizes whose names hold keywords
      R"(kernel @loops(mut %y: f32[step, Nstep]) params(step, Nstep, in_, minimum_) {
  parallel a in 0..step {
    serial b in a..min(Nstep, 64*a+64) step 4 {
      unroll c in 0..4 step 2 {
        vector<8> unroll 2 d in 0..Nstep {
          serial e in 0..Nstep {
            %v = index(c*c+((a+b)//2))
            store %y[a, d] = f32(%v) if Nstep-d-1 >= 0
          }
        }
        serial f in 0..step step 3 {
        }
        serial g in 0..2*step {
        }
      }
    }
  }
}
)",
      // declarations, reductions with a body, dot, an index from data
      R"(kernel @rest(%a: u8[4, 4], %b: i8[4, 16, 4], %t: i64[T], mut %c: i32[16]) params(T) {
  register %acc: i32[16] = i32(0)
  stack %s: f64[4, 4] = f64(-0.5)
  scratch %w: bf16[T, 2]
  %lo, %hi, %p, %q = reduce min, max, add, mul serial r in 0..T step 2 {
    %j = maximum(minimum(load %t[r], index(T-1)), 0)
    store %w[j, 0] = bf16(1.5)
    yield %j, %j * 2, load %t[j], 3
  }
  vector<16> l in 0..16 {
    dot %acc[l] += %a[0] * %b[0, l] group 4
    dot %acc[l] += %a[1] * %b[1, l] group 4 if -l+7 >= 0
    if l-1 >= 0 {
      store %c[l] = load %acc[l]
    }
    %x = reduce add serial r in 0..4 { load %s[r, 0] }
    %y = reduce add unroll r in 0..4 {
      if r >= 0 {
      }
      yield %x + load %s[r, 1]
    }
  }
}
)",
      // the GPU schedule
      R"(kernel @threads(%x: f32[R, C], mut %y: f32[C, R]) params(R, C) {
  parallel r in 0..R {
    shared %t: f32[32, 33]
    register %acc: f32[256, 2] = 0.0
    serial k in 0..C step 32 {
      thread<256> i in 0..256 {
        vector<4> j in 0..4 {
          store %t[i//8, 4*i+j-32*(i//8)] = load %x[r, k]
        }
      }
      barrier
      thread<256> unroll 4 i in 0..256 {
        unroll u in 0..2 {
          store %acc[i, u] = load %acc[i, u] + load %t[u, 0]
        }
      }
      barrier
    }
    %m, %s = reduce max, add thread<256> unroll 4 c in 0..C {
      %v = load %x[r, c]
      yield %v, %v * %v
    }
  }
}
)",
      R"(kernel @warps(%x: f32[R, C], mut %y: f32[R]) params(R, C) {
  parallel b in 0..(R+7)//8 {
    warp<8> w in 8*b..min(R, 8*b+8) {
      %m = reduce max thread<32> c in 0..C { load %x[w, c] }
      store %y[w] = %m
    }
  }
}
)",
  };
  return *list;
}

TEST(LoopText, PrintedTextParsesBack) {
  for (const std::string& text : kernels()) {
    auto kernel = parse_kernel(text);
    ASSERT_TRUE(kernel.ok()) << kernel.error().message << "\n" << text;
    EXPECT_EQ(print_kernel(*kernel), text);
  }
}

// The kernels of docs/loop-language.md, in the order of the page.
TEST(LoopText, ThePagesKernelsAreKernels) {
  std::ifstream page(std::string(GRAPHC_SOURCE_DIR) + "/docs/loop-language.md");
  ASSERT_TRUE(page.good());
  std::vector<std::string> texts;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line == "```loops") {
      inside = true;
      texts.emplace_back();
    } else if (line == "```") {
      inside = false;
    } else if (inside) {
      texts.back() += line + "\n";
    }
  }
  EXPECT_GE(texts.size(), 4u);
  for (const std::string& text : texts) {
    auto kernel = parse_kernel(text);
    ASSERT_TRUE(kernel.ok()) << kernel.error().message << "\n" << text;
    EXPECT_EQ(print_kernel(*kernel), text);
    Status s = verify_kernel(*kernel);
    EXPECT_TRUE(s.ok()) << s.error().message;
  }
}

TEST(LoopText, FreeFormIsRead) {
  auto kernel = parse_kernel(
      "kernel @k ( mut %y : f32 [ 4 ] , )params(N,)\r\n{serial c in 0 .. min( N , 4 ) step 2{%v=(1.0)\t"
      "store %y [c]=((%v))if N - c >= 0 if c >= 0{}else{}}}");
  ASSERT_TRUE(kernel.ok()) << kernel.error().message;
  EXPECT_EQ(print_kernel(*kernel), R"(kernel @k(mut %y: f32[4]) params(N) {
  serial c in 0..min(N, 4) step 2 {
    %v = 1.0
    store %y[c] = %v if N-c >= 0
    if c >= 0 {
    }
  }
}
)");
}

struct Broken {
  int line;
  std::string message;  // after the line
  std::string body;     // of a kernel, its first statement on line 2
};

TEST(LoopText, ErrorsNameTheLine) {
  const std::vector<Broken> all = {
      {2, "expected a statement", "wat"},
      {3, "%b is unknown", "%a = 1.0\n%c = %b"},
      {2, "%q is no buffer", "store %q[0] = 1.0"},
      {3, "%q is no buffer", "\n%a = load %q[0]"},
      {2, "expected '['", "store %y = 1.0"},
      {2, "expected '='", "store %y[0] 1.0"},
      {2, "expected a name", "%1 = 2.0"},
      {2, "expected a name", "serial 1 in 0..4 { }"},
      {2, "expected 'in'", "serial c of 0..4 { }"},
      {2, "unexpected '{' in the size '0 { }'", "serial c in 0 { }"},
      {4, "'}' is missing", "serial c in 0..4 {\n"},
      {3, "a step is at least 1", "\nserial c in 0..4 step 0 { }"},
      {2, "vector width 1..1024, unroll 1..64", "vector<0> c in 0..4 { }"},
      {2, "vector width 1..1024, unroll 1..64", "vector<8> unroll 65 c in 0..4 { }"},
      {2, "thread width 1..1024, unroll 1..64", "thread<0> c in 0..4 { }"},
      {2, "thread width 1..1024, unroll 1..64", "thread<32> unroll 65 c in 0..4 { }"},
      {2, "warp width 1..1024", "warp<1025> c in 0..4 { }"},
      {2, "expected 'in'", "warp<8> unroll 2 c in 0..4 { }"},
      {2, "expected '<'", "thread c in 0..4 { }"},
      {2, "only a reduce has several results", "%a, %b = 1.0"},
      {2, "expected add, mul, max or min", "%a = reduce sum serial c in 0..4 { 1.0 }"},
      {2, "expected ','", "%a, %b = reduce add serial c in 0..4 { 1.0, 2.0 }"},
      {2, "expected ','", "%a, %b = reduce add, add serial c in 0..4 { 1.0 }"},
      {2, "the reduce yields nothing", "%a = reduce add serial c in 0..4 { }"},
      {2, "conditions compare with 0", "if N >= 1 { }"},
      {2, "unexpected '{' in the size 'N { }'", "if N { }"},
      {2, "'f31' is no element type", "stack %a: f31[4]"},
      {2, "'foo' is no function", "%a = foo(1.0)"},
      {2, "pow takes 2 operands, not 1", "%a = pow(1.0)"},
      {2, "exp takes 1 operands, not 2", "%a = exp(1.0, 2.0)"},
      {2, "expected ')'", "%a = (1.0 + 2.0 + 3.0)"},
      {2, "'1.2.3' is no f32", "%a = 1.2.3"},
      {2, "'1e' is no f32", "%a = 1e"},
      {2, "'1.5' is no i64", "%a = i64(1.5)"},
      {2, "'256' is no u8", "%a = u8(256)"},
      {2, "'-1' is no u64", "%a = u64(-1)"},
      {2, "'2' is no bool", "%a = bool(2)"},
      {2, "'9223372036854775808' is no i64", "%a = 9223372036854775808"},
      {2, "a load's alternative is an integer that a double can hold",
       "%a = load %n[0] where 1 >= 0 else 9007199254740993"},
      {2, "expected a number", "stack %a: f32[4] = %b"},
      {2, "a dot's group is 1..64", "dot %y[0] += %y[0] * %y[0] group 4294967298"},
      {2, "expected nothing after the kernel", "} x"},
  };
  for (const Broken& b : all) {
    auto kernel = parse_kernel("kernel @k(mut %y: f32[4], mut %n: i64[4]) params(N) {\n" + b.body + "\n}");
    ASSERT_FALSE(kernel.ok()) << b.body;
    std::string at = "loop program, line " + std::to_string(b.line) + ": ";
    EXPECT_EQ(kernel.error().message, at + b.message) << b.body;
  }
  auto alias = parse_kernel("kernel @k(%x: f32[4],\n mut %y: f32[4] alias %z) {\n}");
  ASSERT_FALSE(alias.ok());
  EXPECT_EQ(alias.error().message, "loop program, line 2: %z is no earlier argument");
}

std::string repeat(std::string_view s, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += s;
  return out;
}

TEST(LoopText, DeepNestingIsRefused) {
  const int n = 5000;
  for (const std::string& body : {
           "%a = " + repeat("(", n) + "1.0" + repeat(")", n),
           "%a = " + repeat("exp(", n) + "1.0" + repeat(")", n),
           "%a = " + repeat("f64(", n) + "%b" + repeat(")", n),
           "%a = " + repeat("cast(", n) + "1.0" + repeat(", f64)", n),
           "%a = " + repeat("1.0 + (", n) + "1.0" + repeat(")", n),
           "%a = index(" + repeat("(", n) + "N" + repeat(")", n) + ")",
           "%a = index(" + repeat("-", n) + "N)",
           repeat("if N >= 0 { ", n) + repeat("}", n),
           repeat("if N >= 0 { } else { ", n) + repeat("}", n),
           repeat("serial c in 0..N { ", n) + repeat("}", n),
           repeat("%a = reduce add serial c in 0..N { ", n) + "1.0" + repeat("}", n),
       }) {
    auto kernel = parse_kernel("kernel @k() params(N) {\n" + body + "\n}\n");
    ASSERT_FALSE(kernel.ok()) << body.substr(0, 60);
    EXPECT_NE(kernel.error().message.find("deep"), std::string::npos) << kernel.error().message;
  }
  // what the limits allow is read
  auto kernel = parse_kernel("kernel @k() params(N) {\n%a = " + repeat("exp(", 500) + "1.0" +
                             repeat(")", 500) + "\n" + repeat("if N >= 0 { ", 60) + repeat("}", 60) + "}\n");
  EXPECT_TRUE(kernel.ok()) << kernel.error().message;
}

// A damaged text is refused, or it is another program: then it prints, parses back to the same text and goes
// through the verifier. True if it was read.
bool survives(std::string_view text) {
  auto kernel = parse_kernel(text);
  if (!kernel.ok()) {
    EXPECT_EQ(kernel.error().message.find("loop program, line "), 0u) << kernel.error().message;
    return false;
  }
  std::string printed = print_kernel(*kernel);
  auto again = parse_kernel(printed);
  EXPECT_TRUE(again.ok()) << again.error().message << "\n" << printed << "from\n" << text;
  if (again.ok()) {
    EXPECT_EQ(print_kernel(*again), printed);
  }
  Status verified = verify_kernel(*kernel);
  EXPECT_TRUE(verified.ok() || !verified.error().message.empty());
  return true;
}

TEST(LoopText, TruncationsAreRefused) {
  for (const std::string& text : kernels())
    for (size_t n = 0; n + 1 < text.size(); ++n)  // the last character is a newline
      EXPECT_FALSE(survives(std::string_view(text).substr(0, n))) << text.substr(0, n);
}

TEST(LoopText, DamagedTextNeverCrashes) {
  std::mt19937 random(7);
  const std::string alphabet = "%@(){}[]<>,:=+-*/.0123456789abcxyzN_ \n\"\xff";
  int read = 0, refused = 0;
  for (int i = 0; i < 4000; ++i) {
    std::string text = kernels()[random() % kernels().size()];
    for (unsigned n = 1 + random() % 3; n > 0; --n) {
      size_t at = random() % text.size();
      switch (random() % 5) {
        case 0: text[at] = static_cast<char>(text[at] ^ (1 << random() % 8)); break;
        case 1: text[at] = alphabet[random() % alphabet.size()]; break;
        case 2: text.erase(at, 1 + random() % 8); break;
        case 3: text.insert(at, 1, alphabet[random() % alphabet.size()]); break;
        case 4: text.insert(at, text.substr(random() % text.size(), random() % 24)); break;
      }
      if (text.empty()) text = "k";
    }
    (survives(text) ? read : refused)++;
  }
  EXPECT_GT(read, 100);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace graphc
