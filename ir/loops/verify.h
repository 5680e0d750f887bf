// Checks a loop program's invariants: names and scopes, types, ranks, what registers and parallel loops
// allow, races that can be decided and bounds that can be proved. Run before every emission.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ir/loops/loops.h"

namespace graphc {

struct VerifyReport {
  int proved = 0;                     // accesses shown to be in bounds, whatever the sizes are
  std::vector<std::string> unproved;  // the others, as text; the interpreter checks them at run time
};

// The first broken invariant, naming the statement. An access is an error only if it is provably out of
// bounds; those that can't be decided are listed in the report.
Status verify_kernel(const Kernel& k, VerifyReport* report = nullptr);

// What is known of a value that indices use under its name: index(d), maximum(minimum(.., hi), lo) in either
// order. Leaves *lo and *hi as they are where nothing is.
void index_range(const Expr& value, Dim* lo, std::optional<Dim>* hi);

}  // namespace graphc
