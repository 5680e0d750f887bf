#include "backends/cpu/exec/kernel_image.h"

#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <cstring>
#include <optional>

#include <fmt/format.h>

namespace graphc {
namespace {

constexpr size_t kMaxObject = size_t{1} << 30;

Error bad(std::string what) {
  return invalid(fmt::format("kernel object: {}; compile the model again", what));
}

// A view of the object that hands out copies of records only where they lie inside it.
class Elf {
 public:
  explicit Elf(std::string_view bytes) : bytes_(bytes) {}
  bool inside(uint64_t offset, uint64_t size) const {
    return offset <= bytes_.size() && size <= bytes_.size() - offset;
  }
  template <class T>
  std::optional<T> at(uint64_t offset) const {
    if (!inside(offset, sizeof(T))) return std::nullopt;
    T t;
    std::memcpy(&t, bytes_.data() + offset, sizeof(T));
    return t;
  }
  const char* data(uint64_t offset) const { return bytes_.data() + offset; }
  // The NUL-terminated string at `offset` of a string table.
  std::optional<std::string_view> string(const Elf64_Shdr& table, uint64_t offset) const {
    if (offset >= table.sh_size) return std::nullopt;
    std::string_view rest = bytes_.substr(table.sh_offset + offset, table.sh_size - offset);
    size_t end = rest.find('\0');
    if (end == std::string_view::npos) return std::nullopt;
    return rest.substr(0, end);
  }

 private:
  std::string_view bytes_;
};

struct Section {
  Elf64_Shdr header{};
  bool mapped = false;
  uint64_t offset = 0;  // in the mapping
};

bool executable(const Elf64_Shdr& h) { return h.sh_flags & SHF_EXECINSTR; }

}  // namespace

KernelImage::~KernelImage() {
  if (base_) munmap(base_, size_);
}

void KernelImage::swap(KernelImage& o) noexcept {
  std::swap(base_, o.base_);
  std::swap(size_, o.size_);
  kernels_.swap(o.kernels_);
}

KernelFn KernelImage::find(std::string_view name) const {
  auto it = kernels_.find(std::string(name));
  return it == kernels_.end() ? nullptr : it->second;
}

std::vector<std::string> KernelImage::names() const {
  std::vector<std::string> out;
  for (const auto& [name, fn] : kernels_) out.push_back(name);
  std::sort(out.begin(), out.end());
  return out;
}

Result<KernelImage> KernelImage::load(std::string_view object) {
  if (object.size() > kMaxObject) return bad("it is larger than 1 GiB");
  Elf elf(object);
  auto eh = elf.at<Elf64_Ehdr>(0);
  if (!eh || std::memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0) return bad("it isn't an ELF file");
  if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_ident[EI_DATA] != ELFDATA2LSB ||
      eh->e_machine != EM_X86_64 || eh->e_type != ET_REL)
    return bad("it isn't a relocatable x86-64 object");
  if (eh->e_shentsize != sizeof(Elf64_Shdr) ||
      !elf.inside(eh->e_shoff, uint64_t{eh->e_shnum} * sizeof(Elf64_Shdr)))
    return bad("its section table lies outside the file");

  std::vector<Section> sections(eh->e_shnum);
  for (size_t i = 0; i < sections.size(); ++i) {
    Elf64_Shdr& h = sections[i].header;
    h = *elf.at<Elf64_Shdr>(eh->e_shoff + i * sizeof(Elf64_Shdr));
    if (h.sh_type != SHT_NOBITS && h.sh_type != SHT_NULL && !elf.inside(h.sh_offset, h.sh_size))
      return bad(fmt::format("section {} lies outside the file", i));
  }

  // Layout: code, then constants from the next page on. Unwind tables are left out; there is nothing to
  // unwind.
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  uint64_t total = 0, code_end = 0, taken = 0;
  for (bool code : {true, false}) {
    for (size_t i = 0; i < sections.size(); ++i) {
      Section& s = sections[i];
      const Elf64_Shdr& h = s.header;
      if (!(h.sh_flags & SHF_ALLOC) || h.sh_type == SHT_X86_64_UNWIND || executable(h) != code ||
          h.sh_size == 0)
        continue;
      if (h.sh_flags & (SHF_WRITE | SHF_TLS))
        return bad(fmt::format("section {} is writable data, kernels have none", i));
      if (h.sh_type != SHT_PROGBITS)
        return bad(fmt::format("section {} has the unknown type {}", i, h.sh_type));
      uint64_t align = std::max<uint64_t>(h.sh_addralign, 1);
      if (align > 4096 || (align & (align - 1)))
        return bad(fmt::format("section {} has a strange alignment", i));
      total = (total + align - 1) & ~(align - 1);
      s.mapped = true;
      s.offset = total;
      total += h.sh_size;
      // A small file must not fill the memory: each section lies inside it, and so do all together.
      taken += h.sh_size;
      if (taken > object.size()) return bad("its sections overlap");
    }
    total = (total + page - 1) & ~(page - 1);
    if (code) code_end = total;
  }
  if (code_end == 0) return bad("it holds no code");

  KernelImage image;
  void* base = mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED)
    return Error{ErrorCode::kNoMemory, fmt::format("no memory for {} bytes of kernels", total)};
  image.base_ = base;
  image.size_ = total;
  char* memory = static_cast<char*>(base);
  for (const Section& s : sections)
    if (s.mapped) std::memcpy(memory + s.offset, elf.data(s.header.sh_offset), s.header.sh_size);

  for (size_t i = 0; i < sections.size(); ++i) {
    const Elf64_Shdr& h = sections[i].header;
    if (h.sh_type == SHT_REL) return bad("it has relocations without addends");
    if (h.sh_type != SHT_RELA && h.sh_type != SHT_SYMTAB) continue;
    if (h.sh_link >= sections.size())
      return bad(fmt::format("section {} refers to a section that doesn't exist", i));

    if (h.sh_type == SHT_SYMTAB) {
      const Elf64_Shdr& strings = sections[h.sh_link].header;
      if (strings.sh_type != SHT_STRTAB || h.sh_entsize != sizeof(Elf64_Sym))
        return bad("its symbol table is malformed");
      for (uint64_t j = 0; j < h.sh_size / sizeof(Elf64_Sym); ++j) {
        Elf64_Sym sym = *elf.at<Elf64_Sym>(h.sh_offset + j * sizeof(Elf64_Sym));
        auto name = elf.string(strings, sym.st_name);
        if (!name) return bad(fmt::format("symbol {} has no valid name", j));
        if (sym.st_shndx == SHN_UNDEF && !name->empty())
          return bad(fmt::format("it calls '{}', kernels must call nothing", *name));
        if (ELF64_ST_BIND(sym.st_info) != STB_GLOBAL || ELF64_ST_TYPE(sym.st_info) != STT_FUNC) continue;
        if (sym.st_shndx >= sections.size()) return bad(fmt::format("symbol '{}' is in no section", *name));
        const Section& at = sections[sym.st_shndx];
        if (!at.mapped || !executable(at.header) || sym.st_value >= at.header.sh_size)
          return bad(fmt::format("symbol '{}' isn't in the code", *name));
        image.kernels_[std::string(*name)] = reinterpret_cast<KernelFn>(memory + at.offset + sym.st_value);
      }
      continue;
    }

    if (h.sh_info >= sections.size() || h.sh_entsize != sizeof(Elf64_Rela))
      return bad("its relocations are malformed");
    const Section& patched = sections[h.sh_info];
    if (!patched.mapped) continue;  // debug or unwind information
    const Elf64_Shdr& symbols = sections[h.sh_link].header;
    if (symbols.sh_type != SHT_SYMTAB) return bad("its relocations refer to no symbol table");
    for (uint64_t j = 0; j < h.sh_size / sizeof(Elf64_Rela); ++j) {
      Elf64_Rela r = *elf.at<Elf64_Rela>(h.sh_offset + j * sizeof(Elf64_Rela));
      uint64_t index = ELF64_R_SYM(r.r_info), type = ELF64_R_TYPE(r.r_info);
      if (index >= symbols.sh_size / sizeof(Elf64_Sym))
        return bad(fmt::format("relocation {} refers to no symbol", j));
      Elf64_Sym sym = *elf.at<Elf64_Sym>(symbols.sh_offset + index * sizeof(Elf64_Sym));
      if (sym.st_shndx == SHN_UNDEF || sym.st_shndx >= sections.size() || !sections[sym.st_shndx].mapped)
        return bad(fmt::format("relocation {} refers to something outside the object", j));
      const Section& to = sections[sym.st_shndx];
      if (sym.st_value > to.header.sh_size)
        return bad(fmt::format("relocation {} refers to no place in its section", j));
      const bool wide = type == R_X86_64_64 || type == R_X86_64_PC64;
      if (!wide && type != R_X86_64_PC32 && type != R_X86_64_PLT32)
        return bad(fmt::format("relocation type {} is unknown", type));
      const uint64_t bytes = wide ? 8 : 4;
      if (r.r_offset > patched.header.sh_size || bytes > patched.header.sh_size - r.r_offset)
        return bad(fmt::format("relocation {} patches outside its section", j));
      char* place = memory + patched.offset + r.r_offset;
      // Wrapping arithmetic: addends are the file's. What they point to is checked to be in the image.
      uint64_t target =
          reinterpret_cast<uint64_t>(memory) + to.offset + sym.st_value + static_cast<uint64_t>(r.r_addend);
      uint64_t value = type == R_X86_64_64 ? target : target - reinterpret_cast<uint64_t>(place);
      // a pc-relative addend includes the distance from the field to the end of the instruction (up to 12
      // bytes)
      uint64_t image_begin = reinterpret_cast<uint64_t>(memory);
      if (target + 16 < image_begin || target > image_begin + total)
        return bad(fmt::format("relocation {} points outside the object", j));
      if (!wide) {
        int64_t distance = static_cast<int64_t>(value);
        if (distance != static_cast<int32_t>(distance)) return bad(fmt::format("relocation {} overflows", j));
      }
      std::memcpy(place, &value, bytes);
    }
  }
  if (image.kernels_.empty()) return bad("it defines no kernel");
  if (mprotect(memory, code_end, PROT_READ | PROT_EXEC) != 0 ||
      (total > code_end && mprotect(memory + code_end, total - code_end, PROT_READ) != 0))
    return Error{ErrorCode::kUnsupported, "the system doesn't allow code to be made executable at run time"};
  return image;
}

}  // namespace graphc
