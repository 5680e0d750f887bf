// Loop programs as text: what --dump and the tests show, and what the compile cache hashes. print and parse
// are inverse, byte for byte on printed text. The form (see loops.h for a whole kernel):
//
//   %m = exp(load %x[r, c] - %max)                          let
//   store %y[r, c] = %a * %b if N-c-1 >= 0                  store, guarded
//   load %x[r, c-1] where c-1 >= 0 else 0.0                 load, guarded (an expression)
//   register %acc: f32[14, 32] = 0.0                        also stack, scratch, shared
//   serial k in 0..min(N, 64*b+64) step 4 { ... }           parallel, vector<16> unroll 4, unroll,
//                                                           thread<256> unroll 4, warp<8>
//   %s, %q = reduce add, add vector<16> c in 0..N { load %x[c], %v * %v }
//   if r-1 >= 0, N-r >= 0 { ... } else { ... }
//   dot %acc[i, l] += %a[k, i] * %b[k, l] group 2
//   prefetch %b[k+8, 0]
//   barrier
//
// Numbers: 1.0, inf, nan are f32; 1 is i64; true, false are bool; other types are spelt i32(1), f64(0.5).
// f32(%x) with anything but a number is a cast. index(2*r+c) is the value of an index expression.
#pragma once

#include <string>
#include <string_view>

#include "ir/loops/loops.h"

namespace graphc {

std::string print_kernel(const Kernel& k);
// One kernel. Errors give the line. Checks the syntax and that names are known; verify_kernel checks the
// rest.
Result<Kernel> parse_kernel(std::string_view text);

// One statement on one line, without its body: for messages.
std::string describe_stmt(const Kernel& k, const Stmt& s);

}  // namespace graphc
