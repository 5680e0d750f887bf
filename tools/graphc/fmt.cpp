// graphc fmt
#include <fmt/format.h>

#include "frontend/format.h"
#include "ir/parse.h"
#include "runtime/base/file.h"
#include "runtime/base/limits.h"
#include "tools/graphc/session.h"

namespace graphc::cli {
namespace {

struct Options {
  std::string file;
  bool in_place = false, check = false;
};

Status run(const Options& o) {
  const bool piped = o.file == "-";
  if (piped && o.in_place) return Error{ErrorCode::kUsage, "-i needs a file; without it the text is printed"};
  if (!piped) GC_CHECK(check_file(o.file));
  GC_TRY(const std::string text, read_file(piped ? "/dev/stdin" : o.file, LoadLimits().max_graph_bytes));
  if (is_core_text(text))
    return invalid(fmt::format("{}: this is core text, which graphc-opt prints", o.file));
  GC_TRY(const std::string formatted, format_source(text, o.file));
  if (o.check)
    return formatted == text
               ? Status()
               : Status(invalid(fmt::format("{} isn't formatted; graphc fmt -i {}", o.file, o.file)));
  if (!o.in_place) {
    std::fwrite(formatted.data(), 1, formatted.size(), stdout);
    return {};
  }
  return formatted == text ? Status() : atomic_write(o.file, formatted);
}

}  // namespace

void add_fmt(CommandLine& program) {
  auto o = std::make_shared<Options>();
  program.command("fmt", "formats a .graph file; comments stay where they are")
      .positional("FILE", o->file, "the file; - is the standard input")
      .flag("-i,--in-place", o->in_place, "rewrite the file instead of printing")
      .flag("--check", o->check, "print nothing; exit code 1 if the file isn't formatted")
      .example("fmt -i examples/mlp.graph")
      .action([o] { return run(*o); });
}

}  // namespace graphc::cli
