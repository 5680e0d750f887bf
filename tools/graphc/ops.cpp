// graphc ops
#include <fmt/format.h>

#include "frontend/diagnostic.h"
#include "ir/op_docs.h"
#include "tools/graphc/session.h"

namespace graphc::cli {
namespace {

Status run(const std::string& name) {
  if (name.empty()) {
    for (const OpDef* op : all_ops()) {
      const std::string_view doc = op->doc.substr(0, op->doc.find(". "));
      fmt::print("{}\n    {}\n", op_signature(*op), doc.substr(0, doc.find('\n')));
    }
    return {};
  }
  if (const OpDef* op = find_op(name)) {
    const std::string text = describe_op(*op);
    fmt::print("{}{}", text, text.ends_with('\n') ? "" : "\n");
    return {};
  }
  NearestName nearest(name);
  for (const OpDef* op : all_ops()) nearest.offer(op->name);
  return invalid(fmt::format("there is no op '{}'{}", name, nearest.hint()));
}

}  // namespace

void add_ops(CommandLine& program) {
  auto name = std::make_shared<std::string>();
  program.command("ops", "lists the ops, or describes one")
      .positional("OP", *name, "the op to describe", false)
      .example("ops softmax")
      .action([name] { return run(*name); });
}

}  // namespace graphc::cli
