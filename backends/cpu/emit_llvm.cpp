#include "backends/cpu/emit_llvm.h"

#include <chrono>
#include <mutex>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <llvm/Analysis/AliasAnalysis.h>
#include <llvm/Analysis/TargetLibraryInfo.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/PassManager.h>
#include <llvm/IR/Verifier.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Object/ELFObjectFile.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/SmallVectorMemoryBuffer.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/Transforms/Scalar/EarlyCSE.h>
#include <llvm/Transforms/Scalar/LICM.h>
#include <llvm/Transforms/Scalar/LoopPassManager.h>
#include <llvm/Transforms/Scalar/SimplifyCFG.h>
#include <llvm/Transforms/Utils/LCSSA.h>
#include <llvm/Transforms/Utils/LoopSimplify.h>
#include <llvm/Transforms/Utils/Mem2Reg.h>

#include "backends/cpu/emit_internal.inc"
#include "ir/loops/verify.h"

namespace graphc {
namespace {

using namespace llvm;

const Target* target(std::string* error) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
  });
  return TargetRegistry::lookupTarget("x86_64-unknown-linux-gnu", *error);
}

std::string feature_string(const CpuFeatures& f) {
  std::string s;
  for (int i = 0; i < kNumCpuFeatures; ++i)
    if (f.has(static_cast<CpuFeature>(i)))
      s += fmt::format("{}+{}", s.empty() ? "" : ",", cpu_feature_name(static_cast<CpuFeature>(i)));
  if (f.avx512()) s += ",+evex512";
  return s;
}

// How instructions are scheduled and which of equal forms are taken; what is legal comes from the features
// alone.
const char* tuning(const CpuFeatures& f) {
  if (f.vendor == CpuVendor::kAmd) return f.avx512() ? "znver4" : "znver3";
  if (f.vendor == CpuVendor::kIntel) return f.avx512() ? "sapphirerapids" : "alderlake";
  return "generic";
}

struct Compiled {
  LLVMContext context;
  std::unique_ptr<Module> module;
  std::unique_ptr<TargetMachine> machine;
  std::vector<KernelInfo> kernels;
};

// Mem2reg and cheap clean-up; the loop program has decided on everything else.
void clean_up(Module& m, TargetMachine& tm) {
  LoopAnalysisManager lam;
  FunctionAnalysisManager fam;
  CGSCCAnalysisManager cgam;
  ModuleAnalysisManager mam;
  PassBuilder pb(&tm);
  fam.registerPass([&] { return pb.buildDefaultAAPipeline(); });
  // No library functions: nothing may be turned into a call.
  TargetLibraryInfoImpl none(Triple(m.getTargetTriple()));
  none.disableAllFunctions();
  fam.registerPass([&] { return TargetLibraryAnalysis(none); });
  pb.registerModuleAnalyses(mam);
  pb.registerCGSCCAnalyses(cgam);
  pb.registerFunctionAnalyses(fam);
  pb.registerLoopAnalyses(lam);
  pb.crossRegisterProxies(lam, fam, cgam, mam);
  FunctionPassManager fpm;
  fpm.addPass(PromotePass());
  fpm.addPass(EarlyCSEPass(true));
  // No InstCombine: LLVM 19.1.7 folds maximum(0, abs(x)), written with its NaN test, to a comparison that
  // loses x < 0.
  fpm.addPass(SimplifyCFGPass());
  fpm.addPass(createFunctionToLoopPassAdaptor(LICMPass(LICMOptions()), /*UseMemorySSA=*/true));
  fpm.addPass(EarlyCSEPass(true));
  for (Function& f : m)
    if (!f.isDeclaration()) fpm.run(f, fam);
}

Result<std::unique_ptr<Compiled>> build(std::span<const Kernel> kernels, const CpuFeatures& features,
                                        const EmitOptions& options) {
  GC_CHECK(check_baseline(features));
  auto c = std::make_unique<Compiled>();
  std::string error;
  const Target* t = target(&error);
  if (!t) return internal_error("LLVM has no x86-64 target: " + error);
  TargetOptions to;
  to.AllowFPOpFusion = FPOpFusion::Standard;  // by the instructions' contract flags
  to.UseInitArray = true;
  CodeGenOptLevel level = options.opt_level == 0   ? CodeGenOptLevel::None
                          : options.opt_level == 1 ? CodeGenOptLevel::Less
                          : options.opt_level == 2 ? CodeGenOptLevel::Default
                                                   : CodeGenOptLevel::Aggressive;
  c->machine.reset(t->createTargetMachine("x86_64-unknown-linux-gnu", "x86-64", feature_string(features), to,
                                          Reloc::PIC_, CodeModel::Small, level));
  if (!c->machine) return internal_error("LLVM gives no target machine");
  c->module = std::make_unique<Module>("graphc", c->context);
  c->module->setDataLayout(c->machine->createDataLayout());
  c->module->setTargetTriple("x86_64-unknown-linux-gnu");
  std::set<std::string> names;
  for (const Kernel& k : kernels) {
    if (!names.insert(k.name).second) return invalid(fmt::format("two kernels are named @{}", k.name));
    if (options.verify) GC_CHECK(verify_kernel(k));
    GC_CHECK(cpu_emit::KernelEmitter(*c->module, k, features).emit());
    KernelInfo info{k.name, parallel_extent(k), scratch_bytes(k), k.params, {}};
    info.args.assign(k.buffers.begin(), k.buffers.begin() + k.num_args());
    c->kernels.push_back(std::move(info));
  }
  for (Function& f : *c->module) {
    if (f.isDeclaration()) continue;
    f.addFnAttr("target-cpu", "x86-64");
    f.addFnAttr("target-features", feature_string(features));
    f.addFnAttr("tune-cpu", tuning(features));
    f.addFnAttr("prefer-vector-width", features.avx512() ? "512" : "256");
    f.addFnAttr("min-legal-vector-width", features.avx512() ? "512" : "256");
    f.addFnAttr("no-jump-tables", "true");
    f.addFnAttr("no-builtins");
  }
  std::string problem;
  raw_string_ostream os(problem);
  if (verifyModule(*c->module, &os)) return internal_error("the emitter made invalid LLVM IR: " + os.str());
  clean_up(*c->module, *c->machine);
  return c;
}

Result<std::string> generate(Compiled& c, CodeGenFileType type) {
  SmallVector<char, 0> out;
  raw_svector_ostream os(out);
  legacy::PassManager pm;
  if (c.machine->addPassesToEmitFile(pm, os, nullptr, type, /*DisableVerify=*/true))
    return internal_error("LLVM can't write this file type");
  pm.run(*c.module);
  return std::string(out.begin(), out.end());
}

// What the loader would refuse, said at the place where it can still be blamed on a kernel.
Status check_undefined(const std::string& object) {
  auto file = object::ObjectFile::createELFObjectFile(MemoryBufferRef(StringRef(object), "kernels"));
  if (!file) return internal_error("the emitted object can't be read: " + toString(file.takeError()));
  for (const object::SymbolRef& s : (*file)->symbols()) {
    auto flags = s.getFlags();
    auto name = s.getName();
    if (!flags || !name) {
      if (!flags) consumeError(flags.takeError());
      if (!name) consumeError(name.takeError());
      continue;
    }
    if ((*flags & object::SymbolRef::SF_Undefined) && !name->empty())
      return internal_error(fmt::format("emitted code calls '{}'; kernels must call nothing", name->str()));
  }
  return ok_status();
}

}  // namespace

Result<KernelObject> compile_kernels(std::span<const Kernel> kernels, const CpuFeatures& features,
                                     const EmitOptions& options) {
  auto start = std::chrono::steady_clock::now();
  GC_TRY(auto c, build(kernels, features, options));
  GC_TRY(std::string bytes, generate(*c, CodeGenFileType::ObjectFile));
  GC_CHECK(check_undefined(bytes));
  if (options.milliseconds)
    *options.milliseconds =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  return KernelObject{std::move(bytes), std::move(c->kernels)};
}

Result<std::string> emit_llvm_text(std::span<const Kernel> kernels, const CpuFeatures& features,
                                   const EmitOptions& options) {
  GC_TRY(auto c, build(kernels, features, options));
  std::string text;
  raw_string_ostream os(text);
  c->module->print(os, nullptr);
  return os.str();
}

Result<std::string> emit_asm_text(std::span<const Kernel> kernels, const CpuFeatures& features,
                                  const EmitOptions& options) {
  GC_TRY(auto c, build(kernels, features, options));
  return generate(*c, CodeGenFileType::AssemblyFile);
}

}  // namespace graphc
