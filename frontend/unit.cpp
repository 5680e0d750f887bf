#include "frontend/unit.h"

#include <fmt/format.h>

#include <deque>

#include "frontend/parser.h"
#include "runtime/base/file.h"

namespace graphc {
namespace {

constexpr size_t kMaxFiles = 1000;

std::string folder_of(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? "" : std::string(path.substr(0, slash + 1));
}

// "a/./b.graph" -> "a/b.graph"; false if it is absolute or climbs.
bool normalise(std::string_view path, std::string& out) {
  if (path.empty() || path[0] == '/') return false;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part == "..") return false;
    if (!part.empty() && part != ".") out += (out.empty() ? "" : "/") + std::string(part);
    path = slash == std::string_view::npos ? "" : path.substr(slash + 1);
  }
  return !out.empty() && out.find('\0') == std::string::npos;
}

FileUnit* add_unit(Units& units, std::string shown, std::string loc_name, std::string text, bool is_std) {
  const uint32_t file = units.sources.add(std::move(shown), std::move(text));
  auto unit = std::make_unique<FileUnit>();
  unit->loc_name = std::move(loc_name);
  unit->is_std = is_std;
  unit->ast = syntax::parse_source(units.sources, file, *units.diags);
  units.by_file.resize(file + 1, nullptr);
  units.by_file[file] = unit.get();
  for (const syntax::BlockDef& b : unit->ast->blocks) {
    auto [it, fresh] = unit->blocks.emplace(b.name, &b);
    if (!fresh)
      units.diags->error(b.pos, fmt::format("{} is defined twice", quoted(b.name)),
                         {{"the first definition", it->second->pos}});
  }
  for (const syntax::ConstDef& c : unit->ast->consts) {
    auto [it, fresh] = unit->consts.emplace(c.name, &c);
    if (!fresh)
      units.diags->error(c.pos, fmt::format("the constant {} is defined twice", quoted(c.name)),
                         {{"the first definition", it->second->pos}});
  }
  units.files.push_back(std::move(unit));
  return units.files.back().get();
}

}  // namespace

BlockRef Units::find_block(const FileUnit& from, std::string_view name) const {
  if (auto it = from.blocks.find(name); it != from.blocks.end()) return {it->second, &from};
  if (auto it = std_blocks.find(name); it != std_blocks.end()) return it->second;
  return {};
}

std::unique_ptr<Units> load_units(const std::string& path, std::string text) {
  auto units = std::make_unique<Units>();
  units->diags = std::make_unique<Diagnostics>(units->sources);
  const std::string folder = folder_of(path);
  FileUnit* root = add_unit(*units, path, path.substr(folder.size()), std::move(text), false);

  // Imports breadth first; a file is loaded once, so that cycles end by themselves.
  std::map<std::string, FileUnit*> loaded{{root->loc_name, root}};
  std::deque<FileUnit*> queue{root};
  while (!queue.empty() && !units->diags->full()) {
    FileUnit* unit = queue.front();
    queue.pop_front();
    for (const syntax::ImportDef& d : unit->ast->imports) {
      std::string name;
      if (!normalise(folder_of(unit->loc_name) + d.path, name)) {
        units->diags->error(
            d.pos, fmt::format("can't import {}: imports lie beneath the importing root file's folder",
                               quoted(d.path)));
        continue;
      }
      FileUnit*& file = loaded[name];
      if (!file) {
        if (units->files.size() >= kMaxFiles) {
          units->diags->error(d.pos, fmt::format("more than {} files are imported", kMaxFiles));
          loaded.erase(name);
          continue;
        }
        auto content = read_file(folder + name, syntax::kMaxSourceBytes);
        if (!content.ok()) {
          units->diags->error(d.pos,
                              fmt::format("can't import {}: {}", quoted(d.path), content.error().message));
          loaded.erase(name);
          continue;
        }
        file = add_unit(*units, folder + name, name, *std::move(content), false);
        queue.push_back(file);
      }
      if (!unit->imports.emplace(d.name, file).second)
        units->diags->error(d.pos, fmt::format("the name {} is imported twice", quoted(d.name)));
    }
  }
  for (const EmbeddedFile& s : std_sources()) {
    const std::string name = "std/" + std::string(s.name);
    const FileUnit* unit = add_unit(*units, name, name, std::string(s.text), true);
    for (const auto& [name, def] : unit->blocks) units->std_blocks[name] = {def, unit};
  }
  return units;
}

}  // namespace graphc
