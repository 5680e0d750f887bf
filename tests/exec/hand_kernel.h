// An executable of the cpu backend made by hand: one kernel, out[i] = in[i] * 2.5, with all that a compiled
// one has: code, constants, relocations in both, symbols, strings.
#pragma once

#include <elf.h>

#include <cstring>
#include <string>
#include <vector>

#include "backends/host/kernel_blob.h"

namespace graphc {

class HandObject {
 public:
  Elf64_Ehdr header{};
  enum Section : uint16_t { kNull, kText, kRodata, kRelaText, kRelaRodata, kSymbols, kStrings, kCount };
  Elf64_Shdr sections[kCount] = {};

  std::string bytes() {
    const unsigned char code[] = {
        0x48, 0x8b, 0x07,                       // mov   rax, [rdi]          buffers
        0x48, 0x8b, 0x30,                       // mov   rsi, [rax]          in
        0x48, 0x8b, 0x50, 0x08,                 // mov   rdx, [rax+8]        out
        0x48, 0x8b, 0x4f, 0x18,                 // mov   rcx, [rdi+24]       begin
        0x4c, 0x8b, 0x47, 0x20,                 // mov   r8, [rdi+32]        end
        0xf3, 0x0f, 0x10, 0x05, 0,    0, 0, 0,  // movss xmm0, [rip+factor]
        0x4c, 0x39, 0xc1,                       // cmp   rcx, r8
        0x7d, 0x13,                             // jge   done
        0xf3, 0x0f, 0x10, 0x0c, 0x8e,           // movss xmm1, [rsi+rcx*4]
        0xf3, 0x0f, 0x59, 0xc8,                 // mulss xmm1, xmm0
        0xf3, 0x0f, 0x11, 0x0c, 0x8a,           // movss [rdx+rcx*4], xmm1
        0x48, 0xff, 0xc1,                       // inc   rcx
        0xeb, 0xe8,                             // jmp   back
        0xc3,                                   // done: ret
    };
    struct {
      uint64_t pointer = 0;  // patched to the address of factor
      float factor = 2.5f, unused = 0;
    } constants;
    constexpr uint64_t kFactorField = 22;
    const Elf64_Rela in_text{kFactorField, ELF64_R_INFO(uint64_t{1}, R_X86_64_PC32), 8 - 4};
    const Elf64_Rela in_rodata{0, ELF64_R_INFO(uint64_t{1}, R_X86_64_64), 8};
    Elf64_Sym symbols[3] = {};
    symbols[1].st_info = ELF64_ST_INFO(STB_LOCAL, STT_SECTION);
    symbols[1].st_shndx = kRodata;
    symbols[2].st_name = 1;
    symbols[2].st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
    symbols[2].st_shndx = kText;
    const char strings[] = "\0scale";

    std::string out(sizeof header, '\0');
    const auto section = [&](Section s, const void* data, size_t size, uint32_t type, uint64_t flags,
                             uint64_t entry) -> Elf64_Shdr& {
      out.resize((out.size() + 15) / 16 * 16);
      sections[s].sh_type = type;
      sections[s].sh_flags = flags;
      sections[s].sh_offset = out.size();
      sections[s].sh_size = size;
      sections[s].sh_addralign = 16;
      sections[s].sh_entsize = entry;
      out.append(static_cast<const char*>(data), size);
      return sections[s];
    };
    section(kText, code, sizeof code, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 0);
    section(kRodata, &constants, sizeof constants, SHT_PROGBITS, SHF_ALLOC, 0);
    for (const Section s : {kRelaText, kRelaRodata}) {
      Elf64_Shdr& h =
          section(s, s == kRelaText ? &in_text : &in_rodata, sizeof in_text, SHT_RELA, 0, sizeof in_text);
      h.sh_link = kSymbols;
      h.sh_info = s == kRelaText ? kText : kRodata;
    }
    section(kSymbols, symbols, sizeof symbols, SHT_SYMTAB, 0, sizeof symbols[0]).sh_link = kStrings;
    section(kStrings, strings, sizeof strings, SHT_STRTAB, 0, 0);

    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_machine = EM_X86_64;
    header.e_type = ET_REL;
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = kCount;
    header.e_shoff = out.size();
    out.append(reinterpret_cast<const char*>(sections), sizeof sections);
    std::memcpy(out.data(), &header, sizeof header);
    return out;
  }
};

// in, out: f32[N]
inline KernelBlob hand_blob() {
  KernelBlob b;
  b.backend = "cpu";
  b.target = "avx2,fma";
  b.symbols = {"N"};
  const SizeProgram n({SizeProgram::kSymbol, 0});
  b.operands = {{DType::kF32, {n}}};
  b.results = {{DType::kF32, {n}}};
  b.workspace_bytes = {SizeProgram({SizeProgram::kPush, 4, SizeProgram::kSymbol, 0, SizeProgram::kMul})};
  KernelBlob::Step s;
  s.kernel = "scale";
  s.args = {{KernelBlob::kOperand, 0}, {KernelBlob::kResult, 0}};
  s.extent = n;
  s.grain = SizeProgram({SizeProgram::kPush, 7});
  b.steps = {s};
  b.images.push_back({"", HandObject().bytes()});
  return b;
}

}  // namespace graphc
