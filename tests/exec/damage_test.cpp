// Damaged and hostile executables of the cpu backend: an error or something consistent, never a crash. What
// is accepted isn't run: it is code.
#include <gtest/gtest.h>

#include <random>

#include "backends/cpu/exec/cpu_exec.h"
#include "runtime/base/sha256.h"
#include "tests/exec/hand_kernel.h"

namespace graphc {
namespace {

// In chunks of `grain`, on the calling thread.
void serial(void*, int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t), void* arg) {
  for (int64_t b = 0; b < n; b += grain) body(arg, b, std::min(n, b + grain));
}

std::string load_error(const std::string& object) {
  const auto image = KernelImage::load(object);
  return image.ok() ? "ok" : image.error().message;
}

// The checksum made right again, so that the checks behind it are reached.
std::string resealed(std::string blob) {
  const Sha256::Digest d = sha256(blob.data() + 48, blob.size() - 48);
  std::memcpy(blob.data() + 16, d.data(), d.size());
  return blob;
}

TEST(Executable, HandMadeOneRuns) {
  const auto decoded = decode_blob(encode_blob(hand_blob()), "cpu");
  ASSERT_TRUE(decoded.ok()) << decoded.error().message;
  const auto exec = CpuExec::load(*decoded);
  ASSERT_TRUE(exec.ok()) << exec.error().message;
  std::mt19937 rng(1);
  std::vector<float> in(100), out(100);
  for (float& x : in) x = static_cast<float>(rng() % 1000) / 10;
  const int64_t n[] = {100};
  const CpuExec::TensorRef a{in.data(), n}, b{out.data(), n};
  ASSERT_TRUE((*exec)->run({&a, 1}, {&b, 1}, n, {serial, nullptr}).ok());
  for (size_t i = 0; i < 100; ++i) ASSERT_EQ(out[i], in[i] * 2.5f);
  const int64_t wrong[] = {99};
  EXPECT_FALSE((*exec)->run({&a, 1}, {&b, 1}, wrong, {serial, nullptr}).ok());
}

TEST(Executable, LibraryCallsComeBackAndMustNameWhatIsThere) {
  KernelBlob blob = hand_blob();
  const SizeProgram n({SizeProgram::kSymbol, 0});
  const KernelBlob::LibraryCall call{
      0, 1, 0, "cublaslt", "matmul m=$0", {n}, {{KernelBlob::kOperand, 0}, {KernelBlob::kResult, 0}}, n};
  blob.calls = {call};
  const auto back = decode_blob(encode_blob(blob), "cpu");
  ASSERT_TRUE(back.ok()) << back.error().message;
  ASSERT_EQ(back->calls.size(), 1u);
  const KernelBlob::LibraryCall& c = back->calls[0];
  EXPECT_EQ(c.last_step, 1u);
  EXPECT_EQ(c.library, "cublaslt");
  EXPECT_EQ(c.call, "matmul m=$0");
  EXPECT_EQ(c.sizes[0].words(), n.words());
  EXPECT_EQ(c.args[1].kind, KernelBlob::kResult);
  EXPECT_EQ(c.workspace_bytes.words(), n.words());
  const auto refused = [&](auto&& change) {
    blob.calls = {call};
    change(blob.calls);
    return !decode_blob(encode_blob(blob), "cpu").ok();
  };
  using Calls = std::vector<KernelBlob::LibraryCall>;
  EXPECT_TRUE(refused([](Calls& c) { c[0].last_step = 2; }));
  EXPECT_TRUE(refused([](Calls& c) { c[0].last_step = 0; }));
  EXPECT_TRUE(refused([](Calls& c) { c[0].after_steps = 1; }));
  EXPECT_TRUE(refused([](Calls& c) { c.push_back(c[0]); }));
  EXPECT_TRUE(refused([](Calls& c) { c[0].args[1].index = 1; }));
  EXPECT_TRUE(refused([](Calls& c) { c[0].sizes[0] = SizeProgram({SizeProgram::kSymbol, 1}); }));
}

TEST(Executable, EveryPrefixAndFlipOfABlobIsNoticed) {
  const std::string good = encode_blob(hand_blob());
  ASSERT_EQ(resealed(good), good);
  for (size_t n = 0; n < good.size(); ++n)
    ASSERT_FALSE(decode_blob(std::string_view(good).substr(0, n), "cpu").ok()) << n;
  EXPECT_FALSE(decode_blob(good + '\0', "cpu").ok());
  std::mt19937_64 rng(2);
  for (int k = 0; k < 10000; ++k) {
    std::string bad = good;
    for (uint64_t flips = 1 + rng() % 4; flips > 0; --flips)
      bad[rng() % bad.size()] ^= static_cast<char>(1 << rng() % 8);
    if (bad != good) {
      ASSERT_FALSE(decode_blob(bad, "cpu").ok());
    }
  }
}

TEST(Executable, FlipsUnderARightChecksumAreHarmless) {
  const std::string good = encode_blob(hand_blob());
  std::mt19937_64 rng(3);
  int decoded = 0, loaded = 0;
  for (int k = 0; k < 20000; ++k) {
    std::string bad = good;
    // half of them in front of the object, which is most of the bytes
    const size_t end = k % 2 ? bad.size() : bad.size() - hand_blob().images[0].bytes.size();
    for (uint64_t flips = 1 + rng() % 3; flips > 0; --flips) {
      const size_t at = 48 + rng() % (end - 48);
      bad[at] = rng() % 2 ? static_cast<char>(bad[at] ^ 1 << rng() % 8) : static_cast<char>(rng());
    }
    auto blob = decode_blob(resealed(bad), "cpu");
    if (!blob.ok()) continue;
    ++decoded;
    const int64_t symbols[8] = {5, 7, 1, 0, 1000000, 3, 2, 4};
    for (const KernelBlob::Step& s : blob->steps) {
      for (const KernelBlob::Arg& a : s.args) {
        ASSERT_LT(a.index, a.kind == KernelBlob::kOperand  ? blob->operands.size()
                           : a.kind == KernelBlob::kResult ? blob->results.size()
                                                           : blob->workspace_bytes.size());
      }
      for (const SizeProgram* e : {&s.extent, &s.grain, &s.scratch_bytes}) {
        ASSERT_TRUE(e->valid(blob->symbols.size()));
        if (blob->symbols.size() <= 8) (void)e->evaluate(symbols);
      }
    }
    const std::vector<KernelBlob::Step> steps = blob->steps;
    const auto exec = CpuExec::load(*std::move(blob));
    loaded += exec.ok();
  }
  EXPECT_GT(decoded, 1000);
  EXPECT_GT(loaded, 100);
}

TEST(KernelImage, PrefixesAndFlipsAreHarmless) {
  const std::string good = HandObject().bytes();
  ASSERT_EQ(load_error(good), "ok");
  for (size_t n = 0; n < good.size(); ++n) ASSERT_NE(load_error(good.substr(0, n)), "ok") << n;
  std::mt19937_64 rng(4);
  int accepted = 0;
  for (int k = 0; k < 30000; ++k) {
    std::string bad = good;
    for (uint64_t flips = 1 + rng() % 3; flips > 0; --flips) {
      const size_t at = rng() % bad.size();
      bad[at] = rng() % 2 ? static_cast<char>(bad[at] ^ 1 << rng() % 8) : static_cast<char>(rng());
    }
    const auto image = KernelImage::load(bad);
    if (!image.ok()) continue;
    ++accepted;
    for (const std::string& name : image->names()) ASSERT_NE(image->find(name), nullptr);
    ASSERT_EQ(image->find("no such kernel"), nullptr);
  }
  EXPECT_GT(accepted, 1000);
}

// One lie at a time.
TEST(KernelImage, NamesWhatIsWrong) {
  using H = HandObject;
  const auto with = [](auto change) {
    HandObject h;
    h.bytes();
    std::string text = h.bytes();
    change(h, text);
    std::memcpy(text.data() + h.header.e_shoff, h.sections, sizeof h.sections);
    std::memcpy(text.data(), &h.header, sizeof h.header);
    std::string error = load_error(text);
    const std::string prefix = "kernel object: ", suffix = "; compile the model again";
    if (!error.starts_with(prefix)) return error;
    return error.substr(prefix.size(), error.size() - prefix.size() - suffix.size());
  };
  const auto put = [](std::string& text, uint64_t at, auto value) {
    std::memcpy(text.data() + at, &value, sizeof value);
  };
  EXPECT_EQ(with([](H&, std::string&) {}), "ok");
  EXPECT_EQ(load_error(""), "kernel object: it isn't an ELF file; compile the model again");
  EXPECT_EQ(with([](H& h, std::string&) { h.header.e_machine = EM_AARCH64; }),
            "it isn't a relocatable x86-64 object");
  EXPECT_EQ(with([](H& h, std::string&) { h.header.e_shnum = 0xffff; }),
            "its section table lies outside the file");
  EXPECT_EQ(with([](H& h, std::string&) { h.sections[H::kRodata].sh_offset = ~uint64_t{0} - 3; }),
            "section 2 lies outside the file");
  EXPECT_EQ(with([](H& h, std::string&) { h.sections[H::kRodata].sh_flags |= SHF_WRITE; }),
            "section 2 is writable data, kernels have none");
  EXPECT_EQ(with([](H& h, std::string&) { h.sections[H::kRodata].sh_type = SHT_NOBITS; }),
            "section 2 has the unknown type 8");
  EXPECT_EQ(with([](H& h, std::string&) { h.sections[H::kText].sh_addralign = 3; }),
            "section 1 has a strange alignment");
  EXPECT_EQ(with([](H& h, std::string&) { h.sections[H::kText].sh_flags = SHF_ALLOC; }), "it holds no code");
  EXPECT_EQ(with([](H& h, std::string& text) {
              for (const H::Section s : {H::kText, H::kRodata})  // the whole file, twice
                h.sections[s].sh_offset = 0, h.sections[s].sh_size = text.size();
            }),
            "its sections overlap");
  EXPECT_EQ(with([](H& h, std::string&) { h.sections[H::kSymbols].sh_link = 99; }),
            "section 5 refers to a section that doesn't exist");
  EXPECT_EQ(with([](H& h, std::string&) { h.sections[H::kSymbols].sh_entsize = 23; }),
            "its symbol table is malformed");
  EXPECT_EQ(with([](H& h, std::string&) { h.sections[H::kRelaText].sh_type = SHT_REL; }),
            "it has relocations without addends");
  EXPECT_EQ(with([](H& h, std::string&) { h.sections[H::kStrings].sh_size = 3; }),
            "symbol 2 has no valid name");
  EXPECT_EQ(with([&](H& h, std::string& t) {
              put(t, h.sections[H::kSymbols].sh_offset + 2 * sizeof(Elf64_Sym) + 6, uint16_t{SHN_UNDEF});
            }),
            "it calls 'scale', kernels must call nothing");
  EXPECT_EQ(with([&](H& h, std::string& t) {
              put(t, h.sections[H::kSymbols].sh_offset + 2 * sizeof(Elf64_Sym) + 8, uint64_t{1} << 40);
            }),
            "symbol 'scale' isn't in the code");
  EXPECT_EQ(with([&](H& h, std::string& t) { put(t, h.sections[H::kRelaText].sh_offset, uint64_t{48}); }),
            "relocation 0 patches outside its section");
  EXPECT_EQ(
      with([&](H& h, std::string& t) { put(t, h.sections[H::kRelaText].sh_offset + 16, int64_t{1} << 20); }),
      "relocation 0 points outside the object");
  EXPECT_EQ(with([&](H& h, std::string& t) {
              put(t, h.sections[H::kRelaText].sh_offset + 8, uint64_t{99} << 32 | 2);
            }),
            "relocation 0 refers to no symbol");
  EXPECT_EQ(with([&](H& h, std::string& t) {
              put(t, h.sections[H::kRelaText].sh_offset + 8, uint64_t{1} << 32 | 9);
            }),
            "relocation type 9 is unknown");
}

TEST(Executable, SizeProgramsAreChecked) {
  std::mt19937_64 rng(5);
  int valid = 0;
  for (int k = 0; k < 100000; ++k) {
    std::vector<int64_t> words(rng() % 12);
    for (int64_t& w : words) w = rng() % 8 ? static_cast<int64_t>(rng() % 6) : static_cast<int64_t>(rng());
    const SizeProgram e(words);
    if (!e.valid(2)) continue;
    ++valid;
    const int64_t symbols[] = {static_cast<int64_t>(rng()), static_cast<int64_t>(rng() % 3)};
    (void)e.evaluate(symbols);
  }
  EXPECT_GT(valid, 1000);
  std::vector<int64_t> deep;
  for (int i = 0; i < 65; ++i) deep.insert(deep.end(), {SizeProgram::kPush, 1});
  for (int i = 0; i < 64; ++i) deep.push_back(SizeProgram::kAdd);
  EXPECT_FALSE(SizeProgram(deep).valid(0));
}

}  // namespace
}  // namespace graphc
