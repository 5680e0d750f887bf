// graphc fmt: canonical spacing, comments kept, idempotent.
#include "frontend/format.h"

#include <gtest/gtest.h>

namespace graphc {
namespace {

std::string fmt_text(std::string_view text) {
  auto once = format_source(text, "t.graph");
  if (!once.ok()) return once.error().message;
  auto twice = format_source(*once, "t.graph");
  EXPECT_TRUE(twice.ok()) << *once;
  if (twice.ok()) {
    EXPECT_EQ(*twice, *once);
  }
  return *once;
}

TEST(Format, Canonical) {
  EXPECT_EQ(fmt_text(R"(

graphc   1
# head
import "a.graph"   as a


block B [N,C]( out:int,k :int=3 ,f: ints=[1,2])(x:f32[N,C,-1+2])->f32[N,_,...D]{ # trailing  

      #inner
   y=x|>a:Conv2d(out,k,stride = 2,pad=k//2)   |> relu
     |> g(a==b, n = 2 if not c else -1)

   for i in 0 .. 12 {y=-y ** -2}
   if a {
   z = f(
   a,
      [b,
   c])
   }
   else {}
   return y,`q r`[0].w

}
)"),
            R"(graphc 1
# head
import "a.graph" as a

block B[N, C](out: int, k: int = 3, f: ints = [1, 2])(x: f32[N, C, -1 + 2]) -> f32[N, _, ...D] {  # trailing
  # inner
  y = x |> a: Conv2d(out, k, stride=2, pad=k // 2) |> relu
    |> g(a == b, n=2 if not c else -1)

  for i in 0..12 { y = -y**-2 }
  if a {
    z = f(
      a,
      [b,
        c])
  }
  else {}
  return y, `q r`[0].w
}
)");
}

TEST(Format, ErrorsAreDiagnostics) {
  EXPECT_EQ(fmt_text("graphc 1\nmodel M(x f32) -> f32 {}\n"),
            "t.graph:2:11: error: expected ':' and a type after the name, not 'f32'\n"
            "   2 | model M(x f32) -> f32 {}\n"
            "     |           ^\n");
}

}  // namespace
}  // namespace graphc
