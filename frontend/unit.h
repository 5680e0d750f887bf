// Loaded files: the root, what it imports, and the standard blocks. Internal to the frontend.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "frontend/ast.h"
#include "frontend/diagnostic.h"
#include "runtime/base/embedded_file.h"

namespace graphc {

// One parsed file and what its names mean.
struct FileUnit {
  std::unique_ptr<syntax::Ast> ast;
  std::string loc_name;  // relative to the root file's folder: what locations show
  bool is_std = false;
  std::unordered_map<std::string_view, const syntax::BlockDef*> blocks;  // models too
  std::unordered_map<std::string_view, const syntax::ConstDef*> consts;
  std::unordered_map<std::string_view, const FileUnit*> imports;
};

struct BlockRef {
  const syntax::BlockDef* def = nullptr;
  const FileUnit* unit = nullptr;
};

struct Units {
  SourceMap sources;
  std::unique_ptr<Diagnostics> diags;
  std::vector<std::unique_ptr<FileUnit>> files;  // the root first
  std::vector<const FileUnit*> by_file;          // SourceMap id -> unit
  std::unordered_map<std::string_view, BlockRef> std_blocks;

  const FileUnit& root() const { return *files[0]; }
  const FileUnit* of(Pos p) const { return p.file < by_file.size() ? by_file[p.file] : nullptr; }
  bool in_std(Pos p) const {
    const FileUnit* u = of(p);
    return u && u->is_std;
  }
  // Of this file, else a standard one; def is null if there is none.
  BlockRef find_block(const FileUnit& from, std::string_view name) const;
};

// Parses the root's text, then its imports and the standard blocks. Errors go to units.diags.
std::unique_ptr<Units> load_units(const std::string& path, std::string text);

// Warnings for names of a file that nothing reads.
void warn_unused(const FileUnit& unit, Diagnostics& diags);

// The files of frontend/std, embedded at build time.
std::vector<EmbeddedFile> std_sources();

}  // namespace graphc
