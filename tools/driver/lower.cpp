#include "tools/driver/lower.h"

#include "passes/cost.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>
#include <unordered_map>

#include "ir/op.h"
#include "ir/serialize.h"
#include "runtime/base/thread_pool.h"

namespace graphc {
namespace {

using SymbolIndex = std::map<std::string, int64_t, std::less<>>;

void collect_symbols(const Dim& d, std::set<std::string>& out) {
  d.for_each_symbol([&](const std::string& s) { out.insert(s); });
}
void collect_symbols(const Attr& a, std::set<std::string>& out) {
  if (a.is_int()) collect_symbols(a.as_dim(), out);
  if (a.is_list())
    for (const Attr& e : a.as_list()) collect_symbols(e, out);
}

// "conv2d+relu (cnn.graph:3:22)": what the fusion holds and where it comes from.
std::string label_of(const Node& n, const Module& m) {
  std::vector<std::string_view> names;
  for (const auto& inner : n.region->nodes) {
    const std::string_view op = inner->op->name;
    if (op == "full" || op == "expand" || op == "reshape" || op == "size_of") continue;
    if (names.empty() || names.back() != op) names.push_back(op);
  }
  constexpr size_t kShown = 5;
  std::string out;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) out += (i ? "+" : "") + std::string(names[i]);
  if (names.size() > kShown) out += "+..";
  if (out.empty()) out = "copy";
  const std::string where = m.loc_to_string(n.loc);
  return where.empty() ? out : fmt::format("{} ({})", out, where);
}

gc_graph graph_of(const std::vector<std::byte>& ir) {
  gc_graph g{};
  g.struct_size = sizeof g;
  g.ir = {ir.data(), ir.size()};
  return g;
}

struct Compiled {
  std::string blob;
  std::string backend;
  std::string rejection;
  uint64_t workspace_bytes = 0;
  uint32_t workspace_align = 0;
};

// Offers the fusion to the target and compiles it there, or on the fallback.
Result<Compiled> compile_one(const std::vector<std::byte>& ir, Device& target, Device* fallback,
                             const Device::Options& options) {
  Compiled out;
  const gc_graph graph = graph_of(ir);
  bool claimed = false;
  GC_CHECK(target.claim(graph, [&](const gc_claim& c) {
    if (c.flags & GC_CLAIM_REJECT)
      out.rejection = c.reason ? c.reason : "no reason given";
    else
      claimed = true;
  }));
  if (!claimed && out.rejection.empty()) out.rejection = "it made no claim";
  if (claimed) out.rejection.clear();
  if (!claimed && !fallback)
    return unsupported(
        fmt::format("the backend '{}' can't compile this: {}", target.backend(), out.rejection));
  Device& device = claimed ? target : *fallback;
  GC_TRY(DeviceExec exec, device.compile(graph, options));
  GC_TRY(const gc_exec_info info, exec.info());
  out.workspace_bytes = info.workspace_bytes;
  out.workspace_align = info.workspace_align;
  GC_TRY(out.blob, exec.save());
  out.backend = device.backend();
  return out;
}

class Lowering {
 public:
  Lowering(const Module& m, const LoweringOptions& options, BackendRegistry& compilers)
      : m_(m), options_(options), compilers_(compilers) {}

  Result<Lowered> run() {
    for (const auto& [from, to] : options_.names) {
      const Func* f = m_.find_func(from);
      if (!f) return internal_error(fmt::format("there is no function @{}", from));
      funcs_.emplace_back(f, to);
    }
    GC_CHECK(symbols());
    GC_CHECK(variables());
    GC_CHECK(collect());
    GC_CHECK(compile_all());
    for (const auto& [f, name] : funcs_) GC_CHECK(function(*f, name));
    return std::move(out_);
  }

 private:
  Status symbols() {
    for (const auto& [f, name] : funcs_)
      for (const SymbolDef& s : f->symbols) {
        const int64_t max = s.max.value_or(0x7fffffff);
        const auto [it, fresh] = symbol_index_.try_emplace(s.name, out_.program.symbols.size());
        if (fresh) {
          out_.program.symbols.push_back({s.name, s.min, max});
          continue;
        }
        Symbol& have = out_.program.symbols[static_cast<size_t>(it->second)];
        have.min = std::min(have.min, s.min);
        have.max = std::max(have.max, max);
      }
    return {};
  }

  Status variables() {
    for (const auto& v : m_.variables) {
      ProgramVariable p;
      p.name = v->name;
      p.kind = v->kind == VariableKind::kParam   ? VariableRole::kParam
               : v->kind == VariableKind::kState ? VariableRole::kState
                                                 : VariableRole::kConst;
      p.dtype = v->value.type.dtype;
      const auto shape = static_shape(v->value.type.shape);
      if (!shape) return internal_error(fmt::format("the size of @{} isn't constant", v->name));
      p.shape = *shape;
      if (v->data) {
        p.data = *v->data;
        out_.program.keep_alive.push_back(v->data);
      } else {
        InitSpec spec{v->init, {}};
        for (const auto& [key, a] : v->init_attrs)
          spec.attrs.emplace_back(key, a.is_float() ? a.as_float() : static_cast<double>(a.as_int()));
        p.init = std::move(spec);
      }
      variable_index_[v.get()] = static_cast<uint32_t>(out_.program.variables.size());
      out_.program.variables.push_back(std::move(p));
    }
    return {};
  }

  // Numbers the distinct fusions in order of first use.
  Status collect() {
    for (const auto& [f, name] : funcs_)
      for (const auto& n : f->body.nodes) {
        if (n->op != &ops::fusion) continue;
        const std::unique_ptr<Module> extracted = extract_fusion(*n, *f);
        GC_TRY(std::vector<std::byte> ir, serialize(*extracted));
        const std::string key(reinterpret_cast<const char*>(ir.data()), ir.size());
        const auto [it, fresh] = by_ir_.try_emplace(key, out_.execs.size());
        if (fresh) {
          LoweredExec e;
          e.label = label_of(*n, m_);
          e.kind = n->attr("kind").as_string();
          e.ir = std::move(ir);
          out_.execs.push_back(std::move(e));
        }
        ++out_.execs[it->second].uses;
        exec_of_[n.get()] = it->second;
      }
    return {};
  }

  Status compile_all() {
    GC_TRY(const std::shared_ptr<Device> target, compilers_.device(options_.target, options_.device));
    std::shared_ptr<Device> fallback;
    if (!options_.fallback.empty() && options_.fallback != options_.target) {
      GC_TRY(fallback, compilers_.device(options_.fallback));
    }
    const size_t n = out_.execs.size();
    std::vector<std::optional<Result<Compiled>>> results(n);
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i; (i = next.fetch_add(1)) < n;)
        results[i] = compile_one(out_.execs[i].ir, *target, fallback.get(), options_.backend_options);
    };
    const int threads = std::clamp<int>(options_.threads > 0 ? options_.threads : available_cpus(), 1,
                                        std::max<int>(1, static_cast<int>(n)));
    std::vector<std::thread> helpers;
    for (int i = 1; i < threads; ++i) helpers.emplace_back(work);
    work();
    for (std::thread& t : helpers) t.join();
    for (size_t i = 0; i < n; ++i) {
      LoweredExec& e = out_.execs[i];
      if (!results[i]->ok())
        return Error{results[i]->error().code, fmt::format("{}: {}", e.label, results[i]->error().message)};
      Compiled& c = **results[i];
      e.backend = c.backend;
      e.rejection = c.rejection;
      e.workspace_bytes = c.workspace_bytes;
      alignment_ = std::max<int64_t>(alignment_, c.workspace_align);
      out_.program.execs.push_back({c.backend, out_.program.own(std::move(c.blob)), e.label});
    }
    return {};
  }

  TensorView view(const Value* v, const MemoryPlan& plan) const {
    TensorView t;
    t.buffer = static_cast<uint32_t>(plan.buffer_of.at(v));
    t.dtype = v->type.dtype;
    for (const Dim& d : v->type.shape) t.shape.push_back(size(d));
    return t;
  }
  SizeExpr size(const Dim& d) const { return to_size_expr(d, symbol_index_); }

  Status function(const Func& f, const std::string& name) {
    PlanOptions plan_options;
    plan_options.workspace_bytes = [&](const Node& n) {
      return Dim(static_cast<int64_t>(out_.execs[exec_of_.at(&n)].workspace_bytes));
    };
    plan_options.alignment = alignment_;
    GC_TRY(MemoryPlan plan, plan_memory(f, plan_options));
    Function out;
    out.name = name;
    for (const auto& a : f.body.args) out.inputs.push_back(spec(a->name, a->type));
    for (size_t i = 0; i < f.body.results.size(); ++i)
      out.outputs.push_back(spec(f.result_names[i], f.body.results[i]->type));
    for (const PlanBuffer& b : plan.buffers) {
      ProgramBuffer p;
      p.bytes = size(b.bytes);
      switch (b.home) {
        case PlanBuffer::kInput: p.kind = ProgramBuffer::kInput; break;
        case PlanBuffer::kOutput: p.kind = ProgramBuffer::kOutput; break;
        case PlanBuffer::kVariable: p.kind = ProgramBuffer::kVariable; break;
        case PlanBuffer::kArena: p.kind = ProgramBuffer::kArena; break;
      }
      if (b.home == PlanBuffer::kVariable)
        p.index = variable_index_.at(b.variable);
      else if (b.home != PlanBuffer::kArena)
        p.index = static_cast<uint32_t>(b.index);
      if (b.home == PlanBuffer::kArena) {
        p.first_step = static_cast<uint32_t>(b.first_step);
        p.last_step = static_cast<uint32_t>(b.last_step);
        p.offset = b.offset.value_or(-1);
      }
      out.buffers.push_back(std::move(p));
    }
    LoweredFunction info;
    info.name = name;
    info.func = &f;
    for (size_t i = 0; i < plan.steps.size(); ++i) {
      const Node& n = *plan.steps[i];
      Step s;
      s.exec = static_cast<uint32_t>(exec_of_.at(&n));
      for (const Value* v : n.operands) s.inputs.push_back(view(v, plan));
      for (const auto& r : n.results) s.outputs.push_back(view(r.get(), plan));
      s.workspace = plan.workspace_of[i];
      for (const SymbolDef& symbol : used_symbols(n, f))
        s.symbols.push_back(SizeExpr::symbol(symbol_index_.at(symbol.name)));
      s.label = label_of(n, m_);
      if (s.label == out_.execs[s.exec].label) s.label.clear();
      info.exec_of.push_back(static_cast<int>(s.exec));
      out.steps.push_back(std::move(s));
    }
    for (const PlanCopy& c : plan.copies)
      out.copies.push_back({static_cast<uint32_t>(c.src), static_cast<uint32_t>(c.dst), size(c.bytes)});
    const Cost cost = function_cost(f);
    out.flops = size(cost.flops);
    out.bytes = size(cost.bytes);
    out_.program.functions.push_back(std::move(out));
    info.plan = std::move(plan);
    out_.functions.push_back(std::move(info));
    return {};
  }
  TensorSpec spec(const std::string& name, const TensorType& t) const {
    TensorSpec s;
    s.name = name;
    s.dtype = t.dtype;
    for (const Dim& d : t.shape) s.shape.push_back(size(d));
    return s;
  }

  const Module& m_;
  const LoweringOptions& options_;
  BackendRegistry& compilers_;
  Lowered out_;
  std::vector<std::pair<const Func*, std::string>> funcs_;
  SymbolIndex symbol_index_;
  std::unordered_map<const Variable*, uint32_t> variable_index_;
  std::unordered_map<std::string, size_t> by_ir_;
  std::unordered_map<const Node*, size_t> exec_of_;
  int64_t alignment_ = PlanOptions().alignment;  // what the executables ask for
};

}  // namespace

Result<Lowered> lower(const Module& m, const LoweringOptions& options, BackendRegistry& compilers) {
  return Lowering(m, options, compilers).run();
}

std::vector<SymbolDef> used_symbols(const Node& fusion, const Func& f) {
  std::set<std::string> used;
  const auto type = [&](const TensorType& t) {
    for (const Dim& d : t.shape) collect_symbols(d, used);
  };
  for (const auto& a : fusion.region->args) type(a->type);
  for (const auto& n : fusion.region->nodes) {
    for (const auto& r : n->results) type(r->type);
    for (const auto& [name, a] : n->attrs) collect_symbols(a, used);
  }
  std::vector<SymbolDef> out;
  for (const SymbolDef& s : f.symbols)
    if (used.contains(s.name)) out.push_back(s);
  return out;
}

std::unique_ptr<Module> extract_fusion(const Node& fusion, const Func& f) {
  auto m = std::make_unique<Module>();
  Func* out = m->add_func(fusion.attr("kind").as_string());
  out->symbols = used_symbols(fusion, f);
  std::unordered_map<const Value*, Value*> map;
  for (const auto& a : fusion.region->args)
    map[a.get()] = out->body.add_arg(a->type, fmt::format("a{}", out->body.args.size()));
  out->body.results = clone_block_into(*fusion.region, out->body, map);
  for (const auto& n : out->body.nodes) n->loc = -1;
  for (size_t i = 0; i < out->body.results.size(); ++i) out->result_names.push_back(fmt::format("r{}", i));
  return m;
}

SizeExpr to_size_expr(const Dim& d, const SymbolIndex& symbols) {
  if (d.is_constant()) return SizeExpr(d.constant());
  std::optional<SizeExpr> sum;
  const auto add = [&](SizeExpr e) { sum = sum ? *sum + e : std::move(e); };
  for (const DimTerm& t : d.terms()) {
    std::optional<SizeExpr> product;
    if (t.coefficient != 1) product = SizeExpr(t.coefficient);
    for (const DimAtomRef& a : t.atoms) {
      SizeExpr e = a->name.empty()
                       ? SizeExpr::floor_div(to_size_expr(a->num, symbols), to_size_expr(a->den, symbols))
                       : SizeExpr::symbol(symbols.at(a->name));
      product = product ? *product * e : std::move(e);
    }
    add(*product);
  }
  if (d.constant() != 0) add(SizeExpr(d.constant()));
  return *sum;
}

}  // namespace graphc
