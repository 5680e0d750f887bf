// The loop verifier's rules of the GPU schedule: threads, warps, barriers, shared memory, distributed
// registers.
#include <functional>

#include <fmt/format.h>

#include "ir/loops/verifier.h"

namespace graphc {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxGroup = 32;
constexpr int64_t kMaxShared = 48 << 10;

bool power_of_two(int n) { return n > 0 && (n & (n - 1)) == 0; }

}  // namespace

void Verifier::plan_threads() {
  gpu_ = uses_threads(k_);
  if (!gpu_) return;
  const std::function<void(const StmtList&, bool)> walk = [&](const StmtList& list, bool in_thread) {
    for (const Stmt& s : list) {
      const bool thread = s.loop.kind == LoopKind::kThread;
      if (thread && width_ == 0) width_ = s.loop.width;
      if (s.loop.kind == LoopKind::kWarp && groups_ == 0) groups_ = s.loop.width;
      if (s.kind == StmtKind::kDeclare && !in_thread && s.buffer >= 0 &&
          s.buffer < static_cast<int>(k_.buffers.size()) &&
          k_.buffers[static_cast<size_t>(s.buffer)].kind == BufferKind::kRegister)
        distributed_.insert(s.buffer);
      walk(s.body, in_thread || thread);
      walk(s.orelse, in_thread || thread);
    }
  };
  walk(k_.body, false);
}

Status Verifier::shared_memory() {
  int64_t total = 0;
  for (const LoopBuffer& b : k_.buffers) {
    if (b.kind != BufferKind::kShared) continue;
    int64_t n = static_cast<int64_t>(dtype_size(b.type));
    for (const Dim& d : b.shape) n *= d.constant();  // signature() has seen that the extents don't overflow
    if (n < 0 || n > kMaxShared) return error(fmt::format("shared buffer %{} is larger than 48 KiB", b.name));
    total += (n + 15) / 16 * 16;
  }
  if (total > kMaxShared)
    return error(fmt::format("the shared buffers take {} bytes, more than 48 KiB", total));
  return ok_status();
}

Status Verifier::thread_head(const Stmt& s) {
  switch (s.loop.kind) {
    case LoopKind::kThread:
      if (thread_) return error(fmt::format("it is inside the thread loop {}", thread_->name));
      if (s.loop.width < 1 || s.loop.unroll < 1) return error("threads and unroll are at least 1");
      if (s.step != 1) return error("a thread loop's step is 1");
      if (s.loop.width != width_)
        return error(
            fmt::format("all thread loops of a kernel have the same width; another one has {}", width_));
      if (groups_ && !warp_) return error("in a kernel with warp loops every thread loop stands in one");
      if (warp_ && (!power_of_two(s.loop.width) || s.loop.width > kMaxGroup))
        return error(
            fmt::format("the groups of a warp loop have 1, 2, 4, 8, 16 or 32 threads, not {}", s.loop.width));
      if (s.kind == StmtKind::kReduce && !power_of_two(s.loop.width))
        return error(fmt::format("a reduce is over a power of two of threads, not {}", s.loop.width));
      if (!warp_ && s.loop.width > kMaxThreads)
        return error(fmt::format("a block has at most 1024 threads, not {}", s.loop.width));
      return ok_status();
    case LoopKind::kWarp:
      if (thread_) return error(fmt::format("it is inside the thread loop {}", thread_->name));
      if (warp_) return error(fmt::format("it is inside the warp loop {}", warp_->name));
      if (s.loop.width < 1) return error("a warp loop has at least 1 group");
      if (s.step != 1) return error("a warp loop's step is 1");
      if (s.loop.width != groups_)
        return error(
            fmt::format("all warp loops of a kernel have the same groups; another one has {}", groups_));
      if (!width_) return error("a kernel with warp loops needs thread loops in them");
      if (int64_t{groups_} * width_ > kMaxThreads)
        return error(fmt::format("a block has at most 1024 threads, not {} groups of {}", groups_, width_));
      return ok_status();
    case LoopKind::kVector:
      if (gpu_ && !thread_) return error("in a kernel with threads a vector loop stands in a thread loop");
      return ok_status();
    default: return ok_status();
  }
}

Status Verifier::thread_declare(const Stmt& s) {
  const LoopBuffer& b = k_.buffers[static_cast<size_t>(s.buffer)];
  switch (b.kind) {
    case BufferKind::kShared:
      if (s.value) return error("shared memory has no initial value");
      if (thread_)
        return error(fmt::format("shared memory is the block's, it can't be declared in the thread loop {}",
                                 thread_->name));
      if (warp_)
        return error(fmt::format("shared memory is the block's, it can't be declared in the warp loop {}",
                                 warp_->name));
      return ok_status();
    case BufferKind::kScratch:
      return error("scratch is the cpu's; a kernel with threads has shared, register and stack buffers");
    case BufferKind::kStack:
      if (!thread_) return error("in a kernel with threads a stack buffer is declared in a thread loop");
      return ok_status();
    case BufferKind::kRegister:
      if (thread_) return ok_status();
      if (groups_ && !warp_)
        return error(
            fmt::format("in a kernel with warp loops register buffer %{} is declared in one", b.name));
      if (b.shape.empty() || !b.shape[0].is_constant(width_))
        return error(fmt::format(
            "register buffer %{} is declared outside of thread loops: its first extent is the threads, {}",
            b.name, width_));
      return ok_status();
    case BufferKind::kArg: break;
  }
  return ok_status();
}

Status Verifier::thread_statement(const Stmt& s) {
  if (s.kind == StmtKind::kBarrier) {
    if (const Stmt* loop = thread_ ? thread_ : warp_)
      return error(fmt::format("not every thread comes to a barrier inside of the {} loop {}",
                               thread_ ? "thread" : "warp", loop->name));
  }
  if (s.kind == StmtKind::kDot && gpu_) return error("dot is the cpu's; a kernel with threads has none");
  return ok_status();
}

Status Verifier::distributed_index(int id, const Dim& first) {
  const LoopBuffer& b = k_.buffers[static_cast<size_t>(id)];
  const bool own = thread_ && first.as_symbol() == std::string_view(thread_->name) &&
                   thread_->lo.is_constant(0) && thread_->hi.size() == 1 &&
                   thread_->hi[0].is_constant(width_);
  if (own) return ok_status();
  return error(fmt::format("the first index of %{} is {}, not the variable of a thread loop over 0..{}",
                           b.name, first.to_string(), width_));
}

}  // namespace graphc
