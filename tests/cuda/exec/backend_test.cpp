// The cuda backend's execution half on the stand-in's card, through the registry as the runtime uses it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <thread>

#include "tests/base/temp_dir.h"
#include "tests/cuda/exec/hand_blob.h"

namespace graphc {
namespace {

struct Data {
  std::vector<float> x, y;
  std::vector<int64_t> i;
};

Data random_data(size_t n, unsigned seed) {
  std::mt19937 g(seed);
  Data d;
  std::normal_distribution<float> value;
  for (size_t k = 0; k < n; ++k) {
    d.x.push_back(value(g));
    d.i.push_back(static_cast<int64_t>(g() % n));
  }
  for (size_t k = 0; k < n; ++k) {
    const float v = d.x[static_cast<size_t>(d.i[k])];
    d.y.push_back(v * v);
  }
  return d;
}

std::shared_ptr<Device> open_card(BackendRegistry& registry, const std::string& id = "") {
  auto d = registry.device("cuda", id);
  EXPECT_TRUE(d.ok()) << d.error().message;
  return d.ok() ? *d : nullptr;
}

void expect_nothing_left() {
  for (const char* what : {"allocations", "modules", "streams", "events", "graphs", "contexts"})
    EXPECT_EQ(standin_count(what), 0u) << what;
}

TEST(CudaBackend, RunsItsSteps) {
  {
    auto registry = cuda_registry();
    const auto card = open_card(*registry);
    ASSERT_TRUE(card);
    EXPECT_EQ(card->info().name, "NVIDIA H200 (stand-in)");
    EXPECT_EQ(card->info().arch, "sm_90a");
    EXPECT_FALSE(card->uses_host_memory());
    for (const size_t n : {1u, 255u, 256u, 1000u}) {
      const Data d = random_data(n, static_cast<unsigned>(n));
      const auto y = HandRun::all(card, d.x, d.i);
      ASSERT_TRUE(y.ok()) << y.error().message;
      EXPECT_EQ(*y, d.y);
    }
  }
  expect_nothing_left();
}

TEST(CudaBackend, WorkspaceAndShapesAreChecked) {
  auto registry = cuda_registry();
  const auto card = open_card(*registry);
  HandRun r;
  const Data d = random_data(100, 1);
  ASSERT_TRUE(r.prepare(card, d.x, d.i).ok());
  const int64_t n = 100, negative = -5;
  const auto bytes = r.exec.workspace_bytes(std::span(&n, 1));
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(*bytes, 512u + 256 + 256);
  EXPECT_EQ(r.exec.info()->workspace_bytes, 0u);  // it depends on N
  EXPECT_FALSE(r.exec.workspace_bytes(std::span(&negative, 1)).ok());
  gc_run run{};
  run.struct_size = sizeof run;
  EXPECT_NE(r.exec.execute(run).error().message.find("a wrong number of tensors"), std::string::npos);
}

TEST(CudaBackend, AddressesMustSuitWideAccesses) {
  auto registry = cuda_registry();
  const auto card = open_card(*registry);
  HandRun r;
  const Data d = random_data(100, 1);
  ASSERT_TRUE(r.prepare(card, d.x, d.i).ok());
  for (const uint64_t offset : {4, 8, 20}) {
    const Status s = r.execute(offset);
    ASSERT_FALSE(s.ok()) << offset;
    EXPECT_NE(s.error().message.find("operand 0 begins at an address that isn't a multiple of 16 bytes"),
              std::string::npos)
        << s.error().message;
  }
  EXPECT_TRUE(r.execute(16).ok());
  EXPECT_TRUE(r.stream.wait().ok());
}

// A captured step is done again with what lies in memory then, and notices bad indices as well.
TEST(CudaBackend, ACaptureReplays) {
  {
    auto registry = cuda_registry();
    const auto card = open_card(*registry);
    HandRun r;
    const Data d = random_data(700, 2);
    ASSERT_TRUE(r.prepare(card, d.x, d.i).ok());
    ASSERT_TRUE(r.execute().ok());
    ASSERT_TRUE(r.stream.wait().ok());
    ASSERT_TRUE(card->can_capture());
    ASSERT_TRUE(card->begin_capture(r.stream).ok());
    ASSERT_TRUE(r.execute().ok());
    auto captured = card->end_capture(r.stream);
    ASSERT_TRUE(captured.ok()) << captured.error().message;
    const unsigned long long launches = standin_count("launches");
    std::vector<int64_t> reversed(d.i.rbegin(), d.i.rend());
    std::vector<float> y(d.y.rbegin(), d.y.rend());
    ASSERT_TRUE(r.set_indices(reversed).ok());
    ASSERT_TRUE(captured->launch(r.stream).ok());
    auto got = r.result();
    ASSERT_TRUE(got.ok()) << got.error().message;
    EXPECT_EQ(*got, y);
    EXPECT_EQ(standin_count("launches"), launches + 4);  // three steps and the check
    EXPECT_EQ(standin_count("graph launches"), 1u);
    // on another stream the error comes out there
    auto other = card->stream();
    ASSERT_TRUE(other.ok());
    reversed[5] = 700;
    ASSERT_TRUE(r.set_indices(reversed).ok());
    ASSERT_TRUE(r.stream.wait().ok());
    ASSERT_TRUE(captured->launch(*other).ok());
    const Status s = other->wait();
    ASSERT_FALSE(s.ok());
    EXPECT_NE(s.error().message.find("gather: index 700 is outside 0..699"), std::string::npos)
        << s.error().message;
  }
  expect_nothing_left();
}

TEST(CudaBackend, ABadIndexIsAnErrorOfWhoWaits) {
  auto registry = cuda_registry();
  const auto card = open_card(*registry);
  HandRun r, innocent;
  Data d = random_data(50, 3);
  ASSERT_TRUE(r.prepare(card, d.x, d.i).ok());
  ASSERT_TRUE(innocent.prepare(card, d.x, d.i).ok());
  for (const int64_t bad : {int64_t{-1}, int64_t{50}, int64_t{1} << 40}) {
    std::vector<int64_t> i = d.i;
    i[7] = bad;
    ASSERT_TRUE(r.set_indices(i).ok());
    ASSERT_TRUE(r.execute().ok());  // it isn't known yet
    ASSERT_TRUE(innocent.execute().ok());
    const auto y = r.result();
    ASSERT_FALSE(y.ok());
    EXPECT_EQ(y.error().code, ErrorCode::kInvalid);
    EXPECT_NE(y.error().message.find("gather: index " + std::to_string(bad) + " is outside 0..49"),
              std::string::npos)
        << y.error().message;
    EXPECT_EQ(*innocent.result(), d.y);
  }
  // and the stream is fine again
  ASSERT_TRUE(r.set_indices(d.i).ok());
  ASSERT_TRUE(r.execute().ok());
  const auto y = r.result();
  ASSERT_TRUE(y.ok()) << y.error().message;
  EXPECT_EQ(*y, d.y);
}

TEST(CudaBackend, OneExecutableOnSeveralStreamsAndThreads) {
  auto registry = cuda_registry();
  const auto card = open_card(*registry);
  std::vector<std::thread> threads;
  std::vector<std::string> problems(4);
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (unsigned k = 0; k < 5; ++k) {
        const Data d = random_data(300 + 10 * t, 10 * t + k);
        const auto y = HandRun::all(card, d.x, d.i);
        if (!y.ok())
          problems[t] = y.error().message;
        else if (*y != d.y)
          problems[t] = "wrong";
      }
    });
  for (std::thread& t : threads) t.join();
  for (const std::string& p : problems) EXPECT_EQ(p, "");
}

TEST(CudaBackend, PinnedMemoryAndCopies) {
  auto registry = cuda_registry();
  const auto card = open_card(*registry);
  std::byte* data = nullptr;
  auto pinned = card->alloc_pinned(64, &data);
  ASSERT_TRUE(pinned.ok()) << pinned.error().message;
  auto a = card->alloc(100, 256);
  ASSERT_TRUE(a.ok());
  const DeviceStream none;
  for (int k = 0; k < 64; ++k) data[k] = static_cast<std::byte>(k * 7);
  ASSERT_TRUE(card->to_device(none, data, a->raw(), 36, 64).ok());
  ASSERT_TRUE(card->copy(none, {sizeof(gc_copy), a->raw(), a->raw(), nullptr, nullptr, 36, 0, 32}).ok());
  std::byte back[64] = {};
  ASSERT_TRUE(card->to_host(none, a->raw(), 0, back, 32).ok());
  EXPECT_EQ(std::memcmp(back, data, 32), 0);
  const Status s = card->to_host(none, a->raw(), 60, back, 64);
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("a copy of 64 bytes at 60 reaches outside of a buffer of 100"),
            std::string::npos)
      << s.error().message;
}

TEST(CudaBackend, OutOfMemorySaysWhatThereIs) {
  auto registry = cuda_registry();
  const auto card = open_card(*registry);
  auto some = card->alloc(uint64_t{1} << 30, 256);
  ASSERT_TRUE(some.ok());
  const auto more = card->alloc(uint64_t{4} << 30, 256);
  ASSERT_FALSE(more.ok());
  EXPECT_EQ(more.error().code, ErrorCode::kNoMemory);
  EXPECT_NE(more.error().message.find("4294967296 bytes were asked for, 3221225472 of 4294967296 are free"),
            std::string::npos)
      << more.error().message;
}

std::string load_message(const KernelBlob& blob, const std::string& arch) {
  standin_set("RESET", "");
  standin_set("ARCH", arch);
  auto registry = cuda_registry();
  const auto card = open_card(*registry);
  const std::string bytes = encode_blob(blob);
  const Status checked = card->check(as_bytes(bytes));
  const auto loaded = card->load(as_bytes(bytes));
  EXPECT_EQ(checked.ok(), loaded.ok());
  return loaded.ok() ? "" : loaded.error().message;
}

TEST(CudaBackend, CodeForOtherCardsIsRefusedOrReplaced) {
  EXPECT_EQ(load_message(hand_blob({"sm_90a"}), "sm_90"), "");
  EXPECT_EQ(load_message(hand_blob({"sm_80"}), "sm_86"), "");
  EXPECT_EQ(load_message(hand_blob({"sm_90a", "compute_80"}), "sm_100"), "");
  const std::string message = load_message(hand_blob({"sm_90a"}), "sm_100");
  EXPECT_NE(
      message.find("made for other cards (sm_90a); this one is NVIDIA H200 (stand-in) (sm_100a), for which "
                   "--target cuda:sm_100a makes it"),
      std::string::npos)
      << message;
  EXPECT_NE(load_message(hand_blob({"sm_86", "compute_90"}), "sm_80").find("(sm_86, compute_90)"),
            std::string::npos);
  EXPECT_NE(load_message(hand_blob({}), "sm_90").find("no code at all"), std::string::npos);
  standin_set("ARCH", "sm_90");
}

TEST(CudaBackend, DamageIsNoticed) {
  auto registry = cuda_registry();
  const auto card = open_card(*registry);
  std::string bytes = encode_blob(hand_blob());
  bytes[bytes.size() / 2] ^= 1;
  auto e = card->load(as_bytes(bytes));
  ASSERT_FALSE(e.ok());
  EXPECT_NE(e.error().message.find("damaged"), std::string::npos) << e.error().message;
  KernelBlob b = hand_blob();
  b.steps[1].kernel = "cube";
  e = card->load(as_bytes(encode_blob(b)));
  ASSERT_FALSE(e.ok());
  EXPECT_NE(e.error().message.find("no kernel 'cube'"), std::string::npos) << e.error().message;
  b = hand_blob();
  b.steps[1].threads = 2000;
  EXPECT_FALSE(card->load(as_bytes(encode_blob(b))).ok());
}

std::string open_message(const std::string& id = "") {
  auto registry = cuda_registry();
  const auto d = registry->device("cuda", id);
  EXPECT_FALSE(d.ok());
  if (d.ok()) return "";
  EXPECT_EQ(d.error().code, ErrorCode::kDevice);
  return d.error().message;
}

TEST(CudaBackend, SaysWhyThereIsNoCard) {
  standin_set("RESET", "");
  standin_set("DEVICES", "0");
  EXPECT_NE(open_message().find("the CUDA driver shows no card"), std::string::npos) << open_message();
  EXPECT_TRUE(cuda_registry()->devices("cuda")->empty());
  standin_set("DEVICES", "2");
  standin_set("DRIVER", "11040");
  EXPECT_NE(
      open_message().find("is for CUDA 11.4; graphc needs one for CUDA 12.0 or newer: update the driver"),
      std::string::npos)
      << open_message();
  standin_set("DRIVER", "13000");
  EXPECT_NE(open_message("7").find("there is no card 7; there are: 0 (NVIDIA H200 (stand-in)), 1 ("),
            std::string::npos)
      << open_message("7");
  EXPECT_EQ(cuda_registry()->devices("cuda")->size(), 2u);
  standin_set("RESET", "");
  standin_set("DEVICES", "1");
  TempDir empty;
  ::setenv("GRAPHC_CUDA_LIBRARIES", empty.path().c_str(), 1);
  EXPECT_NE(open_message().find("the NVIDIA driver (libcuda.so.1) was not found"), std::string::npos)
      << open_message();
  ::setenv("GRAPHC_CUDA_LIBRARIES", STANDIN_LIBRARIES, 1);
}

TEST(CudaBackend, WorkOnTheSecondCardStaysThere) {
  standin_set("RESET", "");
  standin_set("DEVICES", "2");
  {
    auto registry = cuda_registry();
    const auto first = open_card(*registry, "0"), second = open_card(*registry, "1");
    const Data d = random_data(400, 9);
    HandRun a, b;
    ASSERT_TRUE(a.prepare(first, d.x, d.i).ok());
    ASSERT_TRUE(b.prepare(second, d.x, d.i).ok());
    ASSERT_TRUE(a.execute().ok());
    ASSERT_TRUE(b.execute().ok());
    EXPECT_EQ(*a.result(), d.y);
    EXPECT_EQ(*b.result(), d.y);
  }
  expect_nothing_left();
  standin_set("RESET", "");
  standin_set("DEVICES", "1");
}

// Without a driver: a target's name opens a device that compiles and saves.
Result<size_t> fake_claim(gc_span, const std::string& target) {
  if (target != "h200") return unsupported("not for " + target);
  return size_t{3};
}
Result<KernelBlob> fake_compile(gc_span, const std::string& target) {
  KernelBlob b = hand_blob();
  b.target = target;
  return b;
}
Result<std::string> fake_emit(gc_span, const std::string& target, std::string_view form) {
  return std::string(form) + " for " + target;
}

TEST(CudaBackend, ATargetWithoutACardCompilesAndSaves) {
  hand_code("sm_90a");  // NVRTC is the stand-in's
  hand_code("compute_80");
  TempDir empty;
  ::setenv("GRAPHC_CUDA_LIBRARIES", empty.path().c_str(), 1);
  static const CudaCompiler compiler{1, fake_claim, fake_compile, fake_emit};
  static const gc_plugin_api table = make_cuda_table(&compiler);
  BackendRegistry registry;
  ASSERT_TRUE(registry.add(&table).ok());
  auto target = registry.device("cuda", "h200");
  ::setenv("GRAPHC_CUDA_LIBRARIES", STANDIN_LIBRARIES, 1);
  ASSERT_TRUE(target.ok()) << target.error().message;
  gc_graph graph{};
  graph.struct_size = sizeof graph;
  size_t nodes = 0;
  ASSERT_TRUE((*target)->claim(graph, [&](const gc_claim& c) { nodes = c.num_nodes; }).ok());
  EXPECT_EQ(nodes, 3u);
  auto exec = (*target)->compile(graph, {});
  ASSERT_TRUE(exec.ok()) << exec.error().message;
  auto saved = exec->save();
  ASSERT_TRUE(saved.ok());
  EXPECT_EQ(decode_blob(*saved, "cuda")->target, "h200");
  const int64_t n = 10;
  EXPECT_EQ(*exec->workspace_bytes(std::span(&n, 1)), 256u * 3);
  EXPECT_EQ(*(*target)->emit(graph, "cuda"), "cuda for h200");
  EXPECT_NE((*target)->compile(graph, {{"speed", "high"}}).error().message.find("no option 'speed'"),
            std::string::npos);
  const auto memory = (*target)->alloc(10, 256);
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(memory.error().code, ErrorCode::kDevice);
  EXPECT_NE(memory.error().message.find("'h200' is a target to compile for and no card: the NVIDIA driver"),
            std::string::npos)
      << memory.error().message;
}

// What the real thing does to a process: one clear error, then all of the card is lost.
TEST(CudaBackend, AFailedKernelIsSaidOnceAndLosesTheCard) {
  {
    auto registry = cuda_registry();
    const auto card = open_card(*registry);
    HandRun r;
    const Data d = random_data(100, 4);
    ASSERT_TRUE(r.prepare(card, d.x, d.i).ok());
    standin_set("FAIL", "kernel:2");
    ASSERT_TRUE(r.execute().ok());
    ::testing::internal::CaptureStderr();
    const Status s = r.stream.wait();
    ::testing::internal::GetCapturedStderr();
    ASSERT_FALSE(s.ok());
    EXPECT_EQ(s.error().code, ErrorCode::kDevice);
    EXPECT_NE(s.error().message.find(
                  "a kernel failed on NVIDIA H200 (stand-in) (cuda:0): an illegal memory access was "
                  "encountered (CUDA_ERROR_ILLEGAL_ADDRESS)"),
              std::string::npos)
        << s.error().message;
    for (const Status& again : {r.execute(), r.stream.wait(), r.set_indices(d.i)}) {
      ASSERT_FALSE(again.ok());
      EXPECT_NE(again.error().message.find("lost to this process since a kernel failed"), std::string::npos)
          << again.error().message;
    }
  }
  expect_nothing_left();
  // a device opened anew has a new context
  auto registry = cuda_registry();
  const Data d = random_data(100, 5);
  const auto y = HandRun::all(open_card(*registry), d.x, d.i);
  ASSERT_TRUE(y.ok()) << y.error().message;
  EXPECT_EQ(*y, d.y);
}

// Every call that can fail fails in turn, from opening the card on: an error each time, nothing left, and the
// next run is right.
TEST(CudaBackend, EveryCallMayFail) {
  const Data d = random_data(300, 6);
  const auto everything = [&]() -> Result<std::vector<float>> {
    auto registry = cuda_registry();
    GC_TRY(const std::shared_ptr<Device> card, registry->device("cuda"));
    HandRun r;
    GC_CHECK(r.prepare(card, d.x, d.i));
    GC_CHECK(r.execute());
    GC_CHECK(r.stream.wait());
    GC_CHECK(card->begin_capture(r.stream));
    const Status s = r.execute();
    GC_TRY(const DeviceCapture captured, card->end_capture(r.stream));
    GC_CHECK(s);
    GC_CHECK(captured.launch(r.stream));
    return r.result();
  };
  for (const char* function :
       {"cuInit", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuModuleLoadData", "cuModuleGetFunction",
        "cuMemAlloc", "cuMemHostAlloc", "cuMemHostGetDevicePointer", "cuStreamCreate", "cuEventCreate",
        "cuMemcpyHtoDAsync", "cuLaunchKernel", "cuEventRecord", "cuEventSynchronize", "cuStreamBeginCapture",
        "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch", "cuMemcpyDtoHAsync"}) {
    int failed = 0;
    for (int k = 1; k < 200; ++k) {
      SCOPED_TRACE(std::string(function) + ":" + std::to_string(k));
      standin_set("RESET", "");
      standin_set("FAIL", std::string(function) + ":" + std::to_string(k));
      const auto y = everything();
      const bool told = standin_count("pending failure") == 0;
      standin_set("FAIL", ":0");
      expect_nothing_left();
      if (!told) {  // there is no k-th call
        ASSERT_TRUE(y.ok()) << y.error().message;
        break;
      }
      ++failed;
      if (y.ok()) {
        // only what gives back may fail in silence
        EXPECT_EQ(std::string(function), "cuCtxSetCurrent");
        EXPECT_EQ(*y, d.y);
      } else {
        EXPECT_NE(y.error().message.find("cuda"), std::string::npos) << y.error().message;
      }
      const auto again = everything();
      ASSERT_TRUE(again.ok()) << again.error().message;
      EXPECT_EQ(*again, d.y);
    }
    EXPECT_GT(failed, 0) << function;
  }
}

}  // namespace
}  // namespace graphc
