#include "tests/cuda/standin/gcc.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "runtime/base/embedded_file.h"

extern char** environ;

namespace graphc {
std::vector<EmbeddedFile> standin_texts();  // kernel_abi.h and device_words.h, embedded at build time
}

namespace standin {

std::string prefix(const std::string& name) {
  std::string out;
  for (const graphc::EmbeddedFile& f : graphc::standin_texts()) {
    out += "#line 1 \"" + std::string(f.name) + "\"\n";
    out += f.text;
  }
  return out + "\n#line 1 \"" + name + "\"\n";
}

std::vector<std::string> machine_flags() {
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {"-mavx2", "-mfma"};
  return {};
}

GccResult run_gcc(const std::vector<std::string>& arguments, std::string_view input) {
  GccResult out;
  const char* compiler = std::getenv("STANDIN_CXX");
  std::vector<std::string> all = {compiler ? compiler : "g++"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& a : all) argv.push_back(a.data());
  argv.push_back(nullptr);
  // The text goes through a file without a name, so that nobody has to feed a pipe.
  const int text = ::memfd_create("standin-text", MFD_CLOEXEC);
  int log[2];
  if (text < 0 || ::pipe2(log, O_CLOEXEC) != 0) {
    out.log = std::string("no file for the compiler: ") + std::strerror(errno);
    if (text >= 0) ::close(text);
    return out;
  }
  size_t done = 0;
  while (done < input.size()) {
    const ssize_t n = ::write(text, input.data() + done, input.size() - done);
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  ::lseek(text, 0, SEEK_SET);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, text, 0);
  ::posix_spawn_file_actions_adddup2(&actions, log[1], 1);
  ::posix_spawn_file_actions_adddup2(&actions, log[1], 2);
  pid_t child = 0;
  const int failed = ::posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(log[1]);
  ::close(text);
  if (failed != 0) {
    ::close(log[0]);
    out.log = all[0] + " can't be run: " + std::strerror(failed);
    return out;
  }
  char buffer[4096];
  for (ssize_t n; (n = ::read(log[0], buffer, sizeof buffer)) > 0 || (n < 0 && errno == EINTR);)
    if (n > 0) out.log.append(buffer, static_cast<size_t>(n));
  ::close(log[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  out.ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return out;
}

}  // namespace standin
