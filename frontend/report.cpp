// Messages of elaboration: where, how the program got there, and where the values involved come from.
#include <fmt/format.h>

#include "frontend/elaborate.h"

namespace graphc {

std::string Val::show() const {
  switch (kind) {
    case kError: return "?";
    case kNone: return "nothing";
    case kInt: return i.to_string();
    case kFloat: return float_to_string(f);
    case kBool: return flag ? "true" : "false";
    case kStr: return "\"" + printable(text.size() > 40 ? text.substr(0, 40) + "..." : text) + "\"";
    case kDType: return std::string(dtype_name(dtype));
    case kType: return type->to_string();
    case kTensor: return tensor->type.to_string();
    case kConfig: return "block " + config->block.def->name;
    case kLayer: return "layer";
    case kList: {
      std::string s = "[";
      for (size_t k = 0; k < list->size() && k < 8; ++k) s += (k ? ", " : "") + (*list)[k].show();
      return s + (list->size() > 8 ? ", ..]" : "]");
    }
  }
  return "?";
}

std::string Val::describe() const {
  switch (kind) {
    case kInt: return "the integer " + show();
    case kFloat: return "the number " + show();
    case kBool: return show();
    case kStr: return "the string " + show();
    case kDType: return "the dtype " + show();
    case kType: return "the type " + show();
    case kTensor: return "a tensor " + show();
    case kList: return multi ? fmt::format("{} results", list->size()) : "the list " + show();
    case kConfig: return "the block " + config->block.def->name + ", which isn't applied to anything";
    case kLayer: return "a layer, which isn't applied to anything";
    default: return show();
  }
}

std::string Env::suffix() const {
  std::string s;
  for (const int64_t k : loops) s += "." + std::to_string(k);
  return s;
}

void Elaborator::add_chain(std::vector<Note>& notes) const {
  for (size_t k = chain_.size(); k-- > 0;) {
    const Link& l = chain_[k];
    if (l.block) {
      notes.push_back(
          {l.path.empty()
               ? fmt::format("in block {}", l.block->name)
               : fmt::format("in block {}, as {}", l.block->name,
                             l.path.size() > 60 ? ".." + l.path.substr(l.path.size() - 40) : l.path),
           l.pos, true});
    } else {
      const std::string names = l.loop->name2.empty() ? l.loop->name : l.loop->name + ", " + l.loop->name2;
      const std::string_view element = l.loop->name2.empty() ? l.loop->name : l.loop->name2;
      notes.push_back({fmt::format("in iteration {} of 'for {}', {} = {}", l.iteration, names, element,
                                   l.element ? l.element->show() : "?"),
                       l.pos, true});
    }
    if (chain_.size() > 12 && k == chain_.size() - 6) {  // of a deep chain the two ends tell the story
      notes.push_back({"..", {}, true});
      k = 4;
    }
  }
}

Val Elaborator::error(Pos pos, std::string message, std::vector<Note> notes) {
  // one message a place: iterations and applications that fail alike say nothing new
  if (!reported_.insert(static_cast<uint64_t>(pos.file) << 32 | pos.offset).second) return Val::error();
  Pos primary = pos;
  if (units_.in_std(pos)) {
    // the author's line is where a standard block was applied
    for (size_t k = chain_.size(); k-- > 0;)
      if (!units_.in_std(chain_[k].pos)) {
        primary = chain_[k].pos;
        break;
      }
    reported_.erase(static_cast<uint64_t>(pos.file) << 32 | pos.offset);
    if (!(primary == pos) &&
        !reported_.insert(static_cast<uint64_t>(primary.file) << 32 | primary.offset).second)
      return Val::error();
    notes.push_back({"found in the standard block", pos});
  }
  add_chain(notes);
  diags_.error(primary, std::move(message), std::move(notes));
  return Val::error();
}

void Elaborator::derive(const Value* v, std::string_view name, int depth, std::vector<Note>& notes) const {
  const std::string called = name.empty() ? "" : fmt::format("{} is ", name);
  if (v->variable) {
    notes.push_back({fmt::format("{}{}, {} {}", called, v->type.to_string(),
                                 v->variable->kind == VariableKind::kParam ? "the parameter" : "the state",
                                 v->variable->name),
                     {}});
    return;
  }
  auto it = origins_.find(v);
  if (it == origins_.end()) {
    if (!name.empty()) notes.push_back({fmt::format("{}{}", called, v->type.to_string()), {}});
    return;
  }
  const Origin& o = it->second;
  if (!o.from) {
    notes.push_back({fmt::format("{}{}: {}", called, v->type.to_string(), o.what), o.pos});
    return;
  }
  notes.push_back(
      {fmt::format("{}{}: {} received {}", called, v->type.to_string(), o.what, o.from->type.to_string()),
       o.pos});
  if (depth > 1 && origins_.count(o.from)) derive(o.from, "", depth - 1, notes);
}

LocId Elaborator::loc_of(Pos pos, const Env& env) {
  if (!pos.known()) return env.loc;
  const uint64_t key = (static_cast<uint64_t>(pos.file) << 44 ^ static_cast<uint64_t>(pos.offset) << 20) ^
                       static_cast<uint64_t>(env.loc + 1);
  auto [it, fresh] = locs_.emplace(key, -1);
  const LineCol lc = units_.sources.line_col(pos);
  const Loc loc{units_.of(pos)->loc_name, lc.line, lc.col, env.loc};
  if (fresh || !(module_.locs[it->second] == loc)) it->second = module_.add_loc(loc);
  return it->second;
}

}  // namespace graphc
