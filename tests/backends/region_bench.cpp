// Times every fusion of a function as a run of the whole function meets it: memory plan, threads and caches
// are those of a real step, the values are random.
//
//   region_bench examples/resnet50.graph ResNet50 --set N=1 --threads 2
//   region_bench examples/mnist_cnn.graph MnistCNN.train --set N=64 --text
//
// A line is one distinct fusion: how often it stands in the function, its time in all, GFLOP/s (contractions)
// and GB/s of its operands and results, its kernels (last first) as iterations/iterations a task, and what it
// is.
#include <algorithm>
#include <cstring>
#include <ctime>
#include <fstream>
#include <map>
#include <random>

#include <fmt/format.h>

#include "backends/cpu/compile.h"
#include "backends/cpu/exec/cpu_exec.h"
#include "backends/kernels/contraction_form.h"
#include "frontend/frontend.h"
#include "ir/builder.h"
#include "ir/loops/text.h"
#include "ir/print.h"
#include "passes/passes.h"
#include "passes/plan_memory.h"
#include "runtime/base/thread_pool.h"

using namespace graphc;

namespace {

bool cpu_time = false;  // of this thread: other programs on the machine then matter less

double now() {
  timespec t;
  clock_gettime(cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Memory {
  explicit Memory(size_t bytes)
      : size((bytes + 4095) / 4096 * 4096 + 4096),
        data(static_cast<std::byte*>(std::aligned_alloc(4096, size))) {}
  ~Memory() { std::free(data); }
  Memory(const Memory&) = delete;
  size_t size;
  std::byte* data;
};

void randomize(std::byte* to, const TensorType& t, std::mt19937& rng) {
  int64_t n = 1;
  for (const Dim& d : t.shape) n *= d.constant();
  std::uniform_real_distribution<float> u(0.01f, 0.05f);
  if (t.dtype == DType::kF32)
    for (int64_t i = 0; i < n; ++i) reinterpret_cast<float*>(to)[i] = u(rng);
  else
    std::memset(to, 0, static_cast<size_t>(n) * dtype_size(t.dtype));
}

int64_t bytes_of(const TensorType& t) {
  int64_t n = static_cast<int64_t>(dtype_size(t.dtype));
  for (const Dim& d : t.shape) n *= d.constant();
  return n;
}

struct Kind {
  std::unique_ptr<Module> module;
  std::unique_ptr<CpuExec> exec;
  std::string text, what;
  double flops = 0, bytes = 0, seconds = 0, compile_ms = 0;
  int count = 0;
};

struct Step {
  Kind* kind;
  std::vector<std::vector<int64_t>> shapes;
  std::vector<CpuExec::TensorRef> operands, results;
  std::vector<double> times;
};

std::string short_type(const TensorType& t) {
  std::string s = t.dtype == DType::kF32 ? "" : std::string(dtype_name(t.dtype)) + " ";
  for (size_t i = 0; i < t.shape.size(); ++i) s += (i ? "x" : "") + t.shape[i].to_string();
  return "[" + s + "]";
}

int fail(const std::string& what) {
  fmt::print(stderr, "{}\n", what);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3)
    return fail(
        "usage: region_bench FILE FUNC [--set NAME=VALUE] [--threads 2] [--repeat 10] [--cpu-time] [--avx2] "
        "[--text] "
        "[--loops] "
        "[--only SUBSTRING]");
  ElaborateOptions options;
  options.training = true;
  int threads = 2, repeat = 10;
  bool text = false, loops = false;
  CpuFeatures features = host_features();
  std::string only, objects;
  for (int i = 3; i < argc; ++i) {
    std::string a = argv[i], next = i + 1 < argc ? argv[i + 1] : "";
    if (a == "--set") options.set[next.substr(0, next.find('='))] = next.substr(next.find('=') + 1);
    if (a == "--threads") threads = std::stoi(next);
    if (a == "--repeat") repeat = std::stoi(next);
    if (a == "--only") only = next;
    if (a == "--objects") objects = next;
    if (a == "--cpu-time") cpu_time = true;
    if (a == "--text") text = true;
    if (a == "--loops") loops = true;
    if (a == "--avx2") features = host_features().baseline();
  }
  auto file = GraphFile::load(argv[1]);
  auto e = file->elaborate(options);
  if (!e) return fail(file->report());
  if (Status s = build_pipeline({}).run(*e->module); !s.ok()) return fail(s.error().message);
  const Func* f = e->module->find_func(argv[2]);
  if (!f) return fail("no such function");
  auto plan = plan_memory(*f);
  if (!plan.ok()) return fail(plan.error().message);
  if (!plan->is_static) return fail("sizes are left open: --set them");

  std::mt19937 rng(1);
  Memory arena(static_cast<size_t>(plan->arena_bytes));
  std::memset(arena.data, 0, arena.size);
  std::vector<std::unique_ptr<Memory>> own;
  std::vector<std::byte*> at(plan->buffers.size());
  for (size_t b = 0; b < at.size(); ++b) {
    const PlanBuffer& p = plan->buffers[b];
    if (p.home == PlanBuffer::kArena) {
      at[b] = arena.data + *p.offset;
      continue;
    }
    own.push_back(std::make_unique<Memory>(static_cast<size_t>(p.bytes.constant())));
    std::memset(own.back()->data, 0, own.back()->size);
    at[b] = own.back()->data;
    if (p.home == PlanBuffer::kVariable) randomize(at[b], p.variable->value.type, rng);
    if (p.home == PlanBuffer::kInput) randomize(at[b], f->body.args[static_cast<size_t>(p.index)]->type, rng);
  }

  std::map<std::string, std::unique_ptr<Kind>> kinds;
  std::vector<std::unique_ptr<Step>> steps;
  for (const Node* n : plan->steps) {
    auto k = std::make_unique<Kind>();
    k->module = std::make_unique<Module>();
    Func* func = k->module->add_func(n->attr("kind").as_string());
    std::unordered_map<const Value*, Value*> map;
    for (const auto& a : n->region->args) map[a.get()] = func->body.add_arg(a->type, "a");
    func->body.results = clone_block_into(*n->region, func->body, map);
    func->result_names.assign(func->body.results.size(), "r");
    k->text = print(*func);
    auto& slot = kinds[k->text];
    if (!slot) {
      k->what = func->name;
      for (const auto& node : func->body.nodes) {
        if (is_contraction(*node)) {
          auto form = contraction_form(*node);
          k->flops = 2;
          for (const Shape* s : {&form->batch, &form->m, &form->n, &form->k})
            for (const Dim& d : *s) k->flops *= static_cast<double>(d.constant());
        }
        if (is_contraction(*node) || node->op->name.starts_with("reduce_window") ||
            node->op->name == "scatter_add") {
          k->what = std::string(node->op->name) + " ";
          for (const Value* v : node->operands) k->what += short_type(v->type);
          k->what += "->" + short_type(node->result()->type);
          for (const char* a : {"stride", "window"})
            if (auto it = node->attrs.find(a); it != node->attrs.end())
              k->what += fmt::format(" {}={}", a, it->second.to_string());
        }
      }
      if (k->what == func->name) {
        for (const Value* v : func->body.results) k->what += " " + short_type(v->type);
        k->what += " of";
        for (const auto& v : func->body.args) k->what += " " + short_type(v->type);
      } else {
        k->what += fmt::format(" ({} args, {} results)", func->body.args.size(), func->body.results.size());
      }
      if (!only.empty() && k->text.find(only) == std::string::npos &&
          k->what.find(only) == std::string::npos) {
        kinds.erase(k->text);
        continue;
      }
      for (const auto& a : func->body.args) k->bytes += static_cast<double>(bytes_of(a->type));
      for (const Value* v : func->body.results) k->bytes += static_cast<double>(bytes_of(v->type));
      double t = now();
      auto blob = compile_region(*func, features);
      if (!blob.ok()) return fail(blob.error().message + "\n" + k->text);
      if (!objects.empty())
        std::ofstream(fmt::format("{}{}.o", objects, kinds.size()), std::ios::binary)
            << blob->images[0].bytes;
      for (const KernelBlob::Step& s : blob->steps)
        k->what = fmt::format("{}/{} {}", s.extent.evaluate({}).value_or(0), s.grain.evaluate({}).value_or(0),
                              k->what);
      auto exec = CpuExec::load(*std::move(blob));
      if (!exec.ok()) return fail(exec.error().message);
      k->compile_ms = 1000 * (now() - t);
      k->exec = *std::move(exec);
      if (loops) {
        auto lowered = lower_region(*func, {features, "k"});
        for (const KernelStep& s : lowered->steps) fmt::print("{}\n", print_kernel(s.kernel));
      }
      slot = std::move(k);
    }
    ++slot->count;
    auto s = std::make_unique<Step>();
    s->kind = slot.get();
    auto ref = [&](const Value* v) {
      std::vector<int64_t> shape;
      for (const Dim& d : v->type.shape) shape.push_back(d.constant());
      s->shapes.push_back(std::move(shape));
      return at[static_cast<size_t>(plan->buffer_of.at(v))];
    };
    std::vector<std::byte*> data;
    for (const Value* v : n->operands) data.push_back(ref(v));
    for (const auto& r : n->results) data.push_back(plan->buffer_of.count(r.get()) ? ref(r.get()) : nullptr);
    for (size_t i = 0; i < data.size(); ++i) {
      if (!data[i]) return fail("a result that the plan has no buffer for");
      (i < n->operands.size() ? s->operands : s->results).push_back({data[i], s->shapes[i]});
    }
    steps.push_back(std::move(s));
  }

  ThreadPool pool(threads);
  CpuExec::Parallel parallel{ThreadPool::c_parallel_for, &pool};
  std::vector<double> total;
  for (int r = 0; r < repeat + 2; ++r) {
    double start = now();
    for (auto& s : steps) {
      double t = now();
      if (Status st = s->kind->exec->run(s->operands, s->results, {}, parallel); !st.ok())
        return fail(st.error().message);
      if (r >= 2) s->times.push_back(now() - t);
    }
    if (r >= 2) total.push_back(now() - start);
  }
  double compile = 0;
  for (auto& s : steps) {
    std::sort(s->times.begin(), s->times.end());
    s->kind->seconds += s->times[s->times.size() / 2];
  }
  std::vector<Kind*> sorted;
  for (auto& [key, k] : kinds) {
    sorted.push_back(k.get());
    compile += k->compile_ms;
  }
  std::sort(sorted.begin(), sorted.end(), [](Kind* a, Kind* b) { return a->seconds > b->seconds; });
  std::sort(total.begin(), total.end());
  fmt::print(
      "{} steps, {} distinct, compiled in {:.0f} ms; a run takes {:.3f} ms (best {:.3f}) on {} threads\n",
      steps.size(), kinds.size(), compile, 1000 * total[total.size() / 2], 1000 * total[0], threads);
  fmt::print("count       ms  GFLOP/s    GB/s  compile  what\n");
  for (Kind* k : sorted) {
    fmt::print("{:5} {:8.3f} {:8.1f} {:7.1f} {:8.0f}  {}\n", k->count, 1000 * k->seconds,
               k->flops * k->count / k->seconds * 1e-9, k->bytes * k->count / k->seconds * 1e-9,
               k->compile_ms, k->what);
    if (text) fmt::print("{}\n", k->text);
  }
  return 0;
}
