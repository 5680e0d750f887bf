// Result<T>: a value or an Error. Across layers nothing throws; a function that can fail returns Result<T> or Status.
//
//   Result<File> f = open(path);
//   if (!f.ok()) return f.error();
//   use(*f);
//
// GC_TRY(x, expr) does the same in one line: evaluates expr, returns its error from the enclosing function, or binds x.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace graphc {

// What went wrong, in the terms of the command line's exit codes: kInvalid -> 1, kUsage -> 2, kInternal -> 3, the rest -> 4.
enum class ErrorCode { kInvalid, kUsage, kInternal, kIo, kNoMemory, kUnsupported, kDevice, kCancelled };

struct Error {
  ErrorCode code = ErrorCode::kInvalid;
  std::string message;  // what was wrong, where, and what to do; no trailing newline
};

inline Error invalid(std::string message) { return {ErrorCode::kInvalid, std::move(message)}; }
inline Error internal_error(std::string message) { return {ErrorCode::kInternal, std::move(message)}; }
inline Error io_error(std::string message) { return {ErrorCode::kIo, std::move(message)}; }
inline Error unsupported(std::string message) { return {ErrorCode::kUnsupported, std::move(message)}; }

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : v_(std::in_place_index<1>, std::move(error)) {}
  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& operator*() & { assert(ok()); return std::get<0>(v_); }
  const T& operator*() const& { assert(ok()); return std::get<0>(v_); }
  T&& operator*() && { assert(ok()); return std::get<0>(std::move(v_)); }
  T* operator->() { assert(ok()); return &std::get<0>(v_); }
  const T* operator->() const { assert(ok()); return &std::get<0>(v_); }
  const Error& error() const { assert(!ok()); return std::get<1>(v_); }

 private:
  std::variant<T, Error> v_;
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : e_(std::move(error)) {}
  bool ok() const { return !e_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const { assert(e_); return *e_; }

 private:
  std::optional<Error> e_;
};
inline Status ok_status() { return {}; }

#define GC_CONCAT_(a, b) a##b
#define GC_CONCAT(a, b) GC_CONCAT_(a, b)
#define GC_TRY_(tmp, x, expr)            \
  auto tmp = (expr);                     \
  if (!tmp.ok()) return tmp.error();     \
  x = *std::move(tmp)
#define GC_TRY(x, expr) GC_TRY_(GC_CONCAT(gc_try_, __LINE__), x, expr)
#define GC_CHECK(expr)                                   \
  do {                                                   \
    if (auto gc_s = (expr); !gc_s.ok()) return gc_s.error(); \
  } while (0)

}  // namespace graphc
