#include "runtime/base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace graphc {
namespace {

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  int close_now() {
    const int r = ::close(fd_);
    fd_ = -1;
    return r;
  }

 private:
  int fd_;
};

Error os_error(const char* what, const std::string& path) {
  const int e = errno;
  const std::string text = std::error_code(e, std::generic_category()).message();
  Error err = io_error(fmt::format("can't {} '{}': {}", what, path, text));
  if (e == ENOENT || e == EISDIR || e == ENOTDIR || e == EACCES)
    err.code = ErrorCode::kInvalid;  // the user's path
  return err;
}

int open_retry(const char* path, int flags, mode_t mode = 0) {
  int fd;
  do fd = ::open(path, flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  return fd;
}

Error too_large(const std::string& path, uint64_t size, uint64_t max) {
  return invalid(fmt::format("'{}' has {} bytes, above the limit of {}", path, size, max));
}

}  // namespace

Result<std::string> read_file(const std::string& path, uint64_t max_bytes) {
  Fd fd(open_retry(path.c_str(), O_RDONLY));
  if (fd.get() < 0) return os_error("open", path);
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return os_error("read", path);
  if (S_ISDIR(st.st_mode)) {
    errno = EISDIR;
    return os_error("read", path);
  }
  std::string out;
  if (S_ISREG(st.st_mode)) {
    if (static_cast<uint64_t>(st.st_size) > max_bytes) return too_large(path, st.st_size, max_bytes);
    out.reserve(st.st_size + 1);
  }
  for (;;) {
    const size_t old = out.size();
    const size_t want = std::max<size_t>(out.capacity() - old, 64 << 10);
    out.resize(old + want);
    ssize_t n;
    do n = ::read(fd.get(), out.data() + old, want);
    while (n < 0 && errno == EINTR);
    if (n < 0) return os_error("read", path);
    out.resize(old + n);
    if (n == 0) return out;
    if (out.size() > max_bytes) return too_large(path, out.size(), max_bytes);
  }
}

Result<MappedFile> MappedFile::map(int fd, const std::string& path, uint64_t max_bytes, bool single_link) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return os_error("read", path);
  if (!S_ISREG(st.st_mode)) return invalid(fmt::format("'{}' is not a regular file", path));
  if (single_link && st.st_nlink != 1)
    return invalid(fmt::format("'{}' has hard links, which is not allowed here", path));
  if (static_cast<uint64_t>(st.st_size) > max_bytes) return too_large(path, st.st_size, max_bytes);
  MappedFile m;
  if (st.st_size == 0) return m;
  void* p = ::mmap(nullptr, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (p == MAP_FAILED) return os_error("map", path);
  m.data_ = static_cast<const std::byte*>(p);
  m.size_ = st.st_size;
  return m;
}

Result<MappedFile> MappedFile::open(const std::string& path, uint64_t max_bytes) {
  Fd fd(open_retry(path.c_str(), O_RDONLY));
  if (fd.get() < 0) return os_error("open", path);
  return map(fd.get(), path, max_bytes, false);
}

Result<MappedFile> MappedFile::open_beneath(const std::string& directory, const std::string& relative,
                                            uint64_t max_bytes) {
  const std::string dir = directory.empty() ? "." : directory;
  Fd d(open_retry(dir.c_str(), O_RDONLY | O_DIRECTORY));
  if (d.get() < 0) return os_error("open", dir);
  struct open_how how {};
  how.flags = O_RDONLY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  Fd fd(static_cast<int>(::syscall(SYS_openat2, d.get(), relative.c_str(), &how, sizeof(how))));
  if (fd.get() < 0 && (errno == EXDEV || errno == ELOOP))
    return invalid(fmt::format("'{}' leaves the directory '{}' or goes through a link, which is not allowed",
                               relative, dir));
  if (fd.get() < 0) return os_error("open", dir + "/" + relative);
  return map(fd.get(), dir + "/" + relative, max_bytes, true);
}

MappedFile::MappedFile(MappedFile&& o) noexcept { *this = std::move(o); }
MappedFile& MappedFile::operator=(MappedFile&& o) noexcept {
  std::swap(data_, o.data_);
  std::swap(size_, o.size_);
  return *this;
}
MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

Status atomic_write(const std::string& path, std::span<const Bytes> pieces) {
  static std::atomic<uint32_t> counter{0};
  const std::string tmp = fmt::format("{}.tmp.{}.{}", path, ::getpid(), counter.fetch_add(1));
  Fd fd(open_retry(tmp.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0666));
  if (fd.get() < 0) return os_error("create", tmp);
  const auto fail = [&](const char* what) -> Status {
    const Error e = os_error(what, path);
    ::unlink(tmp.c_str());
    return e;
  };
  for (const Bytes piece : pieces) {
    const std::byte* p = piece.data();
    size_t left = piece.size();
    while (left > 0) {
      const ssize_t n = ::write(fd.get(), p, std::min<size_t>(left, 1 << 30));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail("write");
      p += n, left -= n;
    }
  }
  if (::fsync(fd.get()) != 0) return fail("write");
  if (fd.close_now() != 0) return fail("write");
  if (::rename(tmp.c_str(), path.c_str()) != 0) return fail("rename the new file to");
  std::string dir = std::filesystem::path(path).parent_path().string();
  if (dir.empty()) dir = ".";
  Fd d(open_retry(dir.c_str(), O_RDONLY | O_DIRECTORY));
  if (d.get() < 0) return os_error("open", dir);
  if (::fsync(d.get()) != 0 && errno != EINVAL)
    return os_error("sync", dir);  // EINVAL: file systems without it
  return {};
}

Status atomic_write(const std::string& path, std::string_view content) {
  const Bytes piece = as_bytes_view(content);
  return atomic_write(path, {&piece, 1});
}

Status make_directories(const std::string& path) {
  std::error_code ec;
  std::filesystem::create_directories(path, ec);
  if (!ec && !std::filesystem::is_directory(path)) ec = std::make_error_code(std::errc::not_a_directory);
  if (!ec) return {};
  Error err = io_error(fmt::format("can't create the directory '{}': {}", path, ec.message()));
  for (const std::errc e : {std::errc::no_such_file_or_directory, std::errc::not_a_directory,
                            std::errc::file_exists, std::errc::permission_denied})
    if (ec == e) err.code = ErrorCode::kInvalid;  // the user's path
  return err;
}

}  // namespace graphc
