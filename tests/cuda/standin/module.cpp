#include "tests/cuda/standin/module.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <thread>

#include "runtime/base/sha256.h"
#include "tests/cuda/standin/gcc.h"

namespace standin {
namespace {

// The text without comments, so that words in them are no words.
std::string without_comments(std::string_view s) {
  std::string out;
  for (size_t i = 0; i < s.size(); ++i) {
    if (s.substr(i, 2) == "//") {
      while (i < s.size() && s[i] != '\n') ++i;
      out += '\n';
    } else if (s.substr(i, 2) == "/*") {
      const size_t end = s.find("*/", i + 2);
      if (end == std::string_view::npos) break;
      i = end + 1;
      out += ' ';
    } else {
      out += s[i];
    }
  }
  return out;
}

bool word_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

struct Declared {
  std::string name, bounds;
};

// `__global__ void __launch_bounds__(256) name(`, in any order of the words before the name.
std::vector<Declared> kernels_of(std::string_view raw) {
  const std::string s = without_comments(raw);
  std::vector<Declared> out;
  for (size_t at = 0; (at = s.find("__global__", at)) != std::string::npos;) {
    at += 10;
    Declared d;
    std::string word;
    for (; at < s.size() && s[at] != ';' && s[at] != '{'; ++at) {
      if (word_character(s[at])) {
        if (at == 0 || !word_character(s[at - 1])) word.clear();
        word += s[at];
      } else if (s[at] == '(') {
        if (word != "__launch_bounds__") {
          d.name = word;
          break;
        }
        int depth = 1;
        const size_t begin = at + 1;
        while (++at < s.size() && depth > 0) depth += s[at] == '(' ? 1 : s[at] == ')' ? -1 : 0;
        --at;
        d.bounds = s.substr(begin, at - begin);
      }
    }
    const auto same = [&](const Declared& o) { return o.name == d.name; };
    if (!d.name.empty() && std::find_if(out.begin(), out.end(), same) == out.end()) out.push_back(d);
  }
  return out;
}

// What makes the kernels callable.
std::string entries(const std::vector<Declared>& kernels) {
  std::string out = "\n#line 1 \"entries\"\n#undef __launch_bounds__\nnamespace standin {\n";
  std::string table;
  for (size_t i = 0; i < kernels.size(); ++i) {
    const std::string n = std::to_string(i), &k = kernels[i].name;
    out += "using P" + n + " = decltype(parameters_of(&::" + k + "));\n";
    out += "static STANDIN_QUIET void call" + n + "(void** p) { call(&::" + k + ", p); }\n";
    // of the bounds, the first number: the most threads of a block
    out += "template <class... T> constexpr unsigned bounds" + n +
           "(T... v) { unsigned r[sizeof...(v) + 1] = {unsigned(v)..., 0}; return r[0]; }\n";
    table += "  {\"" + k + "\", call" + n + ", P" + n + "::count, P" + n + "::bytes, bounds" + n + "(" +
             kernels[i].bounds + ")},\n";
  }
  out +=
      "extern \"C\" {\n__attribute__((visibility(\"default\"))) extern const KernelEntry "
      "standin_kernels[];\nconst KernelEntry standin_kernels[] = {\n" +
      table + "  {nullptr, nullptr, 0, nullptr, 0}};\n";
  out +=
      "__attribute__((visibility(\"default\"))) State* standin_state_address() { return &standin_state; "
      "}\n}\n}\n";
  return out;
}

bool make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0777) == 0 || errno == EEXIST) return true;
  const size_t slash = path.rfind('/');
  return errno == ENOENT && slash != std::string::npos && slash > 0 && make_folder(path.substr(0, slash)) &&
         (::mkdir(path.c_str(), 0777) == 0 || errno == EEXIST);
}

std::string cache_folder(const Config& config) {
  std::string folder = config.cache;
  if (folder.empty()) {
    Dl_info info;
    if (::dladdr(reinterpret_cast<void*>(&make_folder), &info) && info.dli_fname) {
      const std::string library = info.dli_fname;
      folder = library.substr(0, library.rfind('/')) + "/../cache";
    }
  }
  if (!folder.empty() && make_folder(folder) && ::access(folder.c_str(), W_OK) == 0) return folder;
  folder = "/tmp/standin-" + std::to_string(::getuid());
  make_folder(folder);
  return folder;
}

// The file of the compiled text; made if it isn't there. Empty, with `log`, if it doesn't compile.
std::string compiled(const Image& image, const Config& config, std::string* log) {
  std::string text = prefix(image.name);
  text += image.text;
  text += entries(kernels_of(image.text));
  std::vector<std::string> arguments = {"-std=c++17",
                                        "-O1",
                                        "-shared",
                                        "-fPIC",
                                        "-g1",
                                        "-w",
                                        "-fno-exceptions",
                                        "-fno-rtti",
                                        "-ffp-contract=off",
                                        "-fno-math-errno",
                                        "-fno-strict-aliasing",
                                        "-fno-gnu-unique",
                                        "-nostdlib"};
  for (const std::string& f : machine_flags()) arguments.push_back(f);
  if (config.check)
    for (const char* f : {"-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0"})
      arguments.emplace_back(f);
  std::string key = text;
  for (const std::string& a : arguments) key += "\n" + a;
  const auto digest = graphc::sha256(key.data(), key.size());
  std::string name;
  for (size_t i = 0; i < 16; ++i) {
    char hex[3];
    std::snprintf(hex, sizeof hex, "%02x", static_cast<unsigned>(digest[i]));
    name += hex;
  }
  const std::string path = cache_folder(config) + "/" + name + ".so";
  if (::access(path.c_str(), R_OK) == 0) return path;
  // Others that want the same wait for us.
  const int lock = ::open((path + ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666);
  if (lock >= 0) ::flock(lock, LOCK_EX);
  std::string result = path;
  if (::access(path.c_str(), R_OK) != 0) {
    const std::string temporary = path + "." + std::to_string(::getpid());
    arguments.insert(arguments.end(), {"-x", "c++", "-", "-x", "none", "-o", temporary, "-lm", "-lc"});
    const GccResult r = run_gcc(arguments, text);
    if (!r.ok || ::rename(temporary.c_str(), path.c_str()) != 0) {
      *log = r.log;
      ::unlink(temporary.c_str());
      result.clear();
    }
  }
  if (lock >= 0) {
    ::unlink((path + ".lock").c_str());
    ::close(lock);
  }
  return result;
}

// The loader takes equal files, and equal paths, for one library, so each copy gets a file of its own,
// without a name, that stays open as long as it is loaded.
std::unique_ptr<LoadedModule> load_copy(const std::string& path) {
  const int from = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const int to = ::memfd_create("standin-module", MFD_CLOEXEC);
  std::vector<char> buffer(1 << 16);
  for (ssize_t n; from >= 0 && to >= 0 && (n = ::read(from, buffer.data(), buffer.size())) > 0;)
    if (::write(to, buffer.data(), static_cast<size_t>(n)) != n) break;
  auto out = std::make_unique<LoadedModule>();
  out->path = path;
  out->handle = ::dlopen(("/proc/self/fd/" + std::to_string(to)).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (from >= 0) ::close(from);
  if (!out->handle) {
    const char* why = ::dlerror();
    complain(std::string("a compiled program can't be loaded: ") + (why ? why : "?"));
    if (to >= 0) ::close(to);
    return nullptr;
  }
  out->file = to;
  out->kernels = static_cast<const KernelEntry*>(::dlsym(out->handle, "standin_kernels"));
  auto* state = reinterpret_cast<State* (*)()>(::dlsym(out->handle, "standin_state_address"));
  link_map* map = nullptr;
  ::dlinfo(out->handle, RTLD_DI_LINKMAP, &map);
  if (!out->kernels || !state || !map) return nullptr;
  out->state = state();
  const auto base = static_cast<uintptr_t>(map->l_addr);
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(base);
  const auto* segments = reinterpret_cast<const ElfW(Phdr)*>(base + header->e_phoff);
  out->image = reinterpret_cast<const char*>(base);
  for (int i = 0; i < header->e_phnum; ++i) {
    const ElfW(Phdr)& s = segments[i];
    if (s.p_type != PT_LOAD) continue;
    out->image_end = reinterpret_cast<const char*>(base + s.p_vaddr + s.p_memsz);
    if (!(s.p_flags & PF_W)) continue;
    out->data = reinterpret_cast<const char*>(base + s.p_vaddr);
    out->data_end = out->image_end;
  }
  return out;
}

// Threads of the operating system that help with the blocks of large launches.
class Helpers {
 public:
  static Helpers& get() {
    static Helpers* h = new Helpers;  // outlives every thread
    return *h;
  }

  void run(Module& module, int kernel, Launch& launch, size_t threads) {
    while (threads_ + 1 < threads) {
      ++threads_;
      std::thread([this, i = threads_] { help(i); }).detach();
    }
    {
      const std::lock_guard guard(lock_);
      module_ = &module;
      kernel_ = kernel;
      launch_ = &launch;
      wanted_ = busy_ = threads - 1;
      ++serial_;
    }
    wake_.notify_all();
    own_.run(*module.copy(0), module.kernel(kernel), launch);
    std::unique_lock guard(lock_);
    done_.wait(guard, [this] { return busy_ == 0; });
  }
  Runner& own() { return own_; }

 private:
  void help(size_t i) {
    Runner runner;
    uint64_t seen = 0;
    for (;;) {
      std::unique_lock guard(lock_);
      wake_.wait(guard, [&] { return serial_ != seen; });
      seen = serial_;
      if (i > wanted_) continue;
      guard.unlock();
      const LoadedModule* copy = module_->copy(i);
      if (copy) runner.run(*copy, copy->kernels[kernel_], *launch_);
      guard.lock();
      if (--busy_ == 0) done_.notify_all();
    }
  }

  Runner own_;
  std::mutex lock_;
  std::condition_variable wake_, done_;
  Module* module_ = nullptr;
  int kernel_ = 0;
  Launch* launch_ = nullptr;
  size_t threads_ = 0, wanted_ = 0, busy_ = 0;
  uint64_t serial_ = 0;
};

}  // namespace

CUresult Module::load(const Image& image, const Config& config, std::shared_ptr<Module>* out) {
  std::string log;
  auto m = std::make_shared<Module>();
  m->path_ = compiled(image, config, &log);
  if (m->path_.empty()) {
    complain("g++ doesn't compile " + image.name + ":\n" + log);
    return CUDA_ERROR_INVALID_IMAGE;
  }
  m->copies_.resize(static_cast<size_t>(std::max(1, config.threads)));
  if (!m->copy(0)) return CUDA_ERROR_INVALID_IMAGE;
  *out = std::move(m);
  return CUDA_SUCCESS;
}

Module::~Module() {
  for (const auto& c : copies_)
    if (c && c->handle) {
      ::dlclose(c->handle);
      ::close(c->file);
    }
}

int Module::find(const std::string& kernel) const {
  const KernelEntry* k = copies_[0]->kernels;
  for (int i = 0; k[i].name; ++i)
    if (kernel == k[i].name) return i;
  return -1;
}

const LoadedModule* Module::copy(size_t i) {
  if (!copies_[i]) copies_[i] = load_copy(path_);  // each thread asks for its own
  return copies_[i].get();
}

CUresult execute(Module& module, int kernel, unsigned blocks, unsigned threads,
                 const std::vector<uint64_t>& parameters) {
  Machine& machine = Machine::get();
  const KernelEntry& k = module.kernel(kernel);
  if (module.unloaded) {
    complain("kernel " + std::string(k.name) + " runs after its module was unloaded");
    return CUDA_ERROR_LAUNCH_FAILED;
  }
  ++machine.launches;
  if (machine.has_to_fail("kernel")) {
    complain("kernel " + std::string(k.name) + ": fails because STANDIN_FAIL says so");
    return CUDA_ERROR_ILLEGAL_ADDRESS;
  }
  std::vector<void*> pointers;
  for (const uint64_t& p : parameters) pointers.push_back(const_cast<uint64_t*>(&p));
  Launch launch;
  launch.kernel = k.name;
  launch.parameters = pointers.data();
  launch.threads = threads;
  launch.blocks = blocks;
  const size_t wanted = std::min<size_t>(module.max_copies(), blocks);
  if (wanted > 1 && uint64_t{blocks} * threads >= 2048)
    Helpers::get().run(module, kernel, launch, wanted);
  else
    Helpers::get().own().run(*module.copy(0), k, launch);
  if (!launch.failed) return CUDA_SUCCESS;
  complain(launch.text);
  return launch.illegal_access ? CUDA_ERROR_ILLEGAL_ADDRESS : CUDA_ERROR_LAUNCH_FAILED;
}

}  // namespace standin
