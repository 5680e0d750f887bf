#include "backends/cuda/exec/cudnn.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "backends/cuda/exec/cudnn_api.h"

namespace graphc {
namespace {

constexpr size_t kOldest = 90800;  // the first cuDNN that plans by a card's properties

std::optional<cudnnDataType_t> data_type(DType t) {
  switch (t) {
    case DType::kF32: return CUDNN_DATA_FLOAT;
    case DType::kF64: return CUDNN_DATA_DOUBLE;
    case DType::kF16: return CUDNN_DATA_HALF;
    case DType::kBF16: return CUDNN_DATA_BFLOAT16;
    default: return {};
  }
}

std::vector<int64_t> values(const std::vector<CudnnGraph::Size>& sizes) {
  std::vector<int64_t> v;
  for (const CudnnGraph::Size& s : sizes) v.push_back(s.value);
  return v;
}

Result<CudnnDescriptor> tensor(const CudnnApi& api, const CudnnGraph::Tensor& t, int64_t id) {
  const auto type = data_type(t.dtype);
  if (!type) return unsupported(fmt::format("cuDNN has no type {}", dtype_name(t.dtype)));
  CudnnBuilder d(api, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "tensor " + t.name);
  const std::vector<int64_t> extents = values(t.extents), strides = values(t.strides);
  d.set<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE, {*type});
  d.set<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS, extents);
  d.set<int64_t>(CUDNN_ATTR_TENSOR_STRIDES, strides);
  d.set<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID, {id});
  d.set<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, {16});
  d.set<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL, {t.buffer < 0});
  return d.finish();
}

// The attributes of the three convolutions: descriptor, alpha, beta, and the tensors in the order inputs,
// output.
struct ConvolutionNames {
  cudnnBackendDescriptorType_t type;
  cudnnBackendAttributeName_t convolution, alpha, beta, tensors[3];
};
constexpr ConvolutionNames kConvolutions[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y}},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX}},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW}}};

Result<CudnnDescriptor> convolution(const CudnnApi& api, const CudnnGraph::Operation& op, DType compute,
                                    const std::vector<CudnnDescriptor>& tensors) {
  CudnnBuilder c(api, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, "convolution");
  std::vector<int64_t> before, after;
  for (size_t i = 0; i < op.pad.size(); ++i) (i % 2 ? after : before).push_back(op.pad[i]);
  c.set<int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, {static_cast<int64_t>(op.stride.size())});
  c.set<cudnnDataType_t>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, {*data_type(compute)});
  c.set<cudnnConvolutionMode_t>(CUDNN_ATTR_CONVOLUTION_CONV_MODE, {CUDNN_CROSS_CORRELATION});
  c.set<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, before);
  c.set<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, after);
  c.set<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS, op.dilation);
  c.set<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, op.stride);
  GC_TRY(CudnnDescriptor description, c.finish());

  const ConvolutionNames& names = kConvolutions[op.op];
  CudnnBuilder d(api, names.type, std::string(CudnnGraph::op_name(op.op)));
  d.set(names.convolution, description);
  for (int i : {0, 1})
    d.set(names.tensors[i], tensors[static_cast<size_t>(op.inputs[static_cast<size_t>(i)])]);
  d.set(names.tensors[2], tensors[static_cast<size_t>(op.output)]);
  if (compute == DType::kF64) {
    d.set<double>(names.alpha, {1.0});
    d.set<double>(names.beta, {0.0});
  } else {
    d.set<float>(names.alpha, {1.0F});
    d.set<float>(names.beta, {0.0F});
  }
  return d.finish();
}

cudnnPointwiseMode_t pointwise_mode(CudnnGraph::Op op) {
  switch (op) {
    case CudnnGraph::kAdd: return CUDNN_POINTWISE_ADD;
    case CudnnGraph::kSub: return CUDNN_POINTWISE_SUB;
    case CudnnGraph::kMul: return CUDNN_POINTWISE_MUL;
    case CudnnGraph::kRelu: return CUDNN_POINTWISE_RELU_FWD;
    case CudnnGraph::kTanh: return CUDNN_POINTWISE_TANH_FWD;
    case CudnnGraph::kSigmoid: return CUDNN_POINTWISE_SIGMOID_FWD;
    default: return CUDNN_POINTWISE_IDENTITY;
  }
}

Result<CudnnDescriptor> pointwise(const CudnnApi& api, const CudnnGraph::Operation& op, DType compute,
                                  const std::vector<CudnnDescriptor>& tensors) {
  const std::string name(CudnnGraph::op_name(op.op));
  CudnnBuilder p(api, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, name);
  p.set<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE, {pointwise_mode(op.op)});
  p.set<cudnnDataType_t>(CUDNN_ATTR_POINTWISE_MATH_PREC, {*data_type(compute)});
  GC_TRY(CudnnDescriptor description, p.finish());
  CudnnBuilder d(api, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, name);
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, description);
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensors[static_cast<size_t>(op.inputs[0])]);
  if (op.inputs.size() > 1)
    d.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensors[static_cast<size_t>(op.inputs[1])]);
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensors[static_cast<size_t>(op.output)]);
  return d.finish();
}

constexpr std::string_view kNotes[] = {
    "tensor cores", "smaller inputs", "reduced precision sums", "FFT",       "not deterministic", "Winograd",
    "Winograd 4x4", "Winograd 6x6",   "Winograd 13x13",         "strict NaN"};

struct EngineNotes {
  int64_t engine = -1;
  std::array<bool, std::size(kNotes)> has = {};

  std::string to_string() const {
    std::string s;
    for (size_t i = 0; i < has.size(); ++i)
      if (has[i]) s += fmt::format("{}{}", s.empty() ? "" : ", ", kNotes[i]);
    return s;
  }
  // "" if an engine with these notes may run the graph.
  std::string refusal(const CudnnGraph& g) const {
    const auto because = [&](int note) { return std::string(kNotes[note]); };
    for (int note : {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS,
                     CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION, CUDNN_NUMERICAL_NOTE_FFT,
                     CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13})
      if (has[static_cast<size_t>(note)]) return because(note);
    if (has[CUDNN_NUMERICAL_NOTE_WINOGRAD] && !has[CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4])
      return because(CUDNN_NUMERICAL_NOTE_WINOGRAD);
    if (!g.tf32 && has[CUDNN_NUMERICAL_NOTE_TENSOR_CORE])
      for (const CudnnGraph::Operation& op : g.operations)
        if (CudnnGraph::is_convolution(op.op))
          for (int i : op.inputs)
            if (g.tensors[static_cast<size_t>(i)].dtype == DType::kF32) return "TF32";
    return {};
  }
};

EngineNotes notes_of(const CudnnApi& api, void* config) {
  EngineNotes out;
  CudnnBuilder slot(api, CUDNN_BACKEND_ENGINE_DESCRIPTOR, "engine");
  CudnnDescriptor engine = slot.unfinished();
  void* raw = engine.get();
  int64_t n = 0;
  if (!raw ||
      api.get_attribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &raw))
    return out;
  if (api.get_attribute(raw, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n, &out.engine))
    out.engine = -1;
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes = {};
  if (api.get_attribute(raw, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                        static_cast<int64_t>(notes.size()), &n, notes.data())) {
    out.engine = -1;
    return out;
  }
  for (int64_t i = 0; i < n && i < static_cast<int64_t>(notes.size()); ++i)
    if (static_cast<size_t>(notes[static_cast<size_t>(i)]) < out.has.size())
      out.has[static_cast<size_t>(notes[static_cast<size_t>(i)])] = true;
  return out;
}

Result<std::string> json_of(const CudnnApi& api, void* plan) {
  int64_t n = 0;
  GC_CHECK(api.check(
      api.get_attribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &n, nullptr),
      "the length of a plan"));
  std::string s(static_cast<size_t>(n), '\0');
  GC_CHECK(api.check(api.get_attribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                       n, &n, s.data()),
                     "writing down a plan"));
  s.resize(std::min(s.size(), static_cast<size_t>(n)));
  while (!s.empty() && s.back() == '\0') s.pop_back();
  return s;
}

Result<uint64_t> workspace_of(const CudnnApi& api, void* plan) {
  int64_t bytes = 0, n = 0;
  GC_CHECK(api.check(
      api.get_attribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &bytes),
      "a plan's workspace"));
  return static_cast<uint64_t>(std::max<int64_t>(bytes, 0));
}

std::vector<std::pair<int64_t, int>> ids_of(const CudnnGraph& g) {
  std::vector<std::pair<int64_t, int>> ids;
  for (size_t i = 0; i < g.tensors.size(); ++i)
    if (g.tensors[i].buffer >= 0) ids.emplace_back(static_cast<int64_t>(i) + 1, g.tensors[i].buffer);
  return ids;
}

}  // namespace

struct Cudnn::Built {
  CudnnDescriptor graph;
};

bool CudnnPlan::accepts(std::span<const uint64_t> buffers) {
  return std::ranges::all_of(buffers, [](uint64_t p) { return p % 16 == 0; });
}

Result<std::shared_ptr<Cudnn>> Cudnn::open(const CudaLibraries& libraries, CudnnDevice device,
                                           const DiskCache* cache, Log log) {
  GC_TRY(CudnnApi api, CudnnApi::load(libraries.cudnn));
  auto* version = reinterpret_cast<size_t (*)()>(libraries.cudnn.symbol("cudnnGetVersion"));
  if (!version || version() < kOldest)
    return unsupported(fmt::format("cuDNN {} is too old, 9.8 or later is needed", libraries.cudnn.version));
  std::shared_ptr<Cudnn> c(new Cudnn);
  c->api_ = std::make_unique<CudnnApi>(api);
  c->device_ = std::move(device);
  c->cache_ = cache;
  c->log_ = std::move(log);
  c->version_ = libraries.cudnn.version;
  c->driver_ = libraries.driver.version;
  CudnnBuilder p(*c->api_, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, "the card's properties");
  const std::string& json = c->device_.properties;
  if (json.empty())
    p.set<int32_t>(CUDNN_ATTR_DEVICEPROP_DEVICE_ID, {c->device_.number});
  else
    p.set<char>(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, json);
  GC_TRY(c->properties_, p.finish());
  return c;
}

Cudnn::~Cudnn() {
  if (handle_) api_->destroy(static_cast<cudnnHandle_t>(handle_));
}

Result<Cudnn::Built> Cudnn::build(const CudnnGraph& g) {
  if (!data_type(g.compute)) return unsupported("cuDNN computes in floats");
  std::vector<CudnnDescriptor> tensors, operations;
  for (size_t i = 0; i < g.tensors.size(); ++i) {
    GC_TRY(CudnnDescriptor t, tensor(*api_, g.tensors[i], static_cast<int64_t>(i) + 1));
    tensors.push_back(std::move(t));
  }
  for (const CudnnGraph::Operation& op : g.operations) {
    GC_TRY(CudnnDescriptor d, CudnnGraph::is_convolution(op.op) ? convolution(*api_, op, g.compute, tensors)
                                                                : pointwise(*api_, op, g.compute, tensors));
    operations.push_back(std::move(d));
  }
  CudnnBuilder b(*api_, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "the graph");
  b.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operations);
  Built out;
  GC_TRY(out.graph, b.finish());
  return out;
}

Result<std::shared_ptr<CudnnPlan>> Cudnn::search(const CudnnGraph& g, uint64_t workspace_limit,
                                                 std::vector<CudnnTrial>& trials, bool all) {
  GC_TRY(const Built built, build(g));
  std::shared_ptr<CudnnPlan> found;
  CudnnBuilder h(*api_, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "cuDNN's heuristics");
  h.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, built.graph);
  h.set<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE, {CUDNN_HEUR_MODE_A});
  h.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, properties_);
  GC_TRY(const CudnnDescriptor heuristic, h.finish());
  std::vector<CudnnDescriptor> configs;
  std::vector<void*> raw;
  for (int i = 0; i < 64; ++i) {
    CudnnBuilder slot(*api_, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "an engine");
    configs.push_back(slot.unfinished());
    if (!configs.back()) return internal_error("cuDNN gives no descriptors");
    raw.push_back(configs.back().get());
  }
  int64_t n = 0;
  GC_CHECK(api_->check(
      api_->get_attribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                          static_cast<int64_t>(raw.size()), &n, raw.data()),
      "the engines of cuDNN's heuristics"));
  for (int64_t i = 0; i < std::min<int64_t>(n, static_cast<int64_t>(raw.size())); ++i) {
    const EngineNotes notes = notes_of(*api_, raw[static_cast<size_t>(i)]);
    CudnnTrial& trial = trials.emplace_back();
    trial.engine = notes.engine;
    trial.notes = notes.to_string();
    trial.refused = notes.engine < 0 ? "its properties are unknown" : notes.refusal(g);
    if (!trial.refused.empty()) continue;
    CudnnBuilder p(*api_, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "plan");
    p.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configs[static_cast<size_t>(i)]);
    p.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, properties_);
    auto plan = p.finish();
    if (!plan.ok()) {
      trial.refused = plan.error().message;
      continue;
    }
    GC_TRY(trial.workspace_bytes, workspace_of(*api_, plan->get()));
    if (trial.workspace_bytes > workspace_limit) {
      trial.refused = fmt::format("workspace of {} bytes", trial.workspace_bytes);
      continue;
    }
    if (found) continue;
    found = std::make_shared<CudnnPlan>();
    found->plan_ = *plan;
    found->ids_ = ids_of(g);
    found->workspace_bytes_ = trial.workspace_bytes;
    found->engine_ = fmt::format("engine {}{}{}", notes.engine, trial.notes.empty() ? "" : ": ", trial.notes);
    GC_TRY(found->serialised_, json_of(*api_, plan->get()));
    if (!all) return found;
  }
  if (found) return found;
  std::string s = "cuDNN has no engine that may be used";
  for (size_t i = 0; i < trials.size() && i < 12; ++i)
    s += fmt::format("{} engine {} ({})", i ? "," : ":", trials[i].engine, trials[i].refused);
  return unsupported(std::move(s));
}

Result<std::vector<CudnnTrial>> Cudnn::trials(const CudnnGraph& graph, uint64_t workspace_limit) {
  std::vector<CudnnTrial> out;
  auto found = search(graph, workspace_limit, out, true);
  if (!found.ok() && out.empty()) return found.error();
  return out;
}

Result<std::shared_ptr<const CudnnPlan>> Cudnn::restore(const CudnnGraph& graph,
                                                        std::string_view serialised) {
  CudnnBuilder p(*api_, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "a kept plan");
  p.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, properties_);
  p.set<char>(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, serialised);
  auto plan = std::make_shared<CudnnPlan>();
  GC_TRY(plan->plan_, p.finish());
  GC_TRY(plan->workspace_bytes_, workspace_of(*api_, plan->plan_.get()));
  plan->ids_ = ids_of(graph);
  plan->serialised_ = serialised;
  return std::shared_ptr<const CudnnPlan>(std::move(plan));
}

// An entry on disk: cuDNN's version, the driver's and the engine, a line each, then the plan.
Result<std::shared_ptr<const CudnnPlan>> Cudnn::plan(const CudnnGraph& graph, uint64_t workspace_limit) {
  const std::string key = fmt::format("cudnn plan 1\n{} {} multiprocessors, workspace {}\n{}", device_.arch,
                                      device_.multiprocessors, workspace_limit, graph.to_text());
  const std::string made_by = fmt::format("cuDNN {}\n{}\n", version_, driver_);
  if (const auto kept = cache_ ? cache_->get(key) : std::nullopt) {
    std::string_view rest = *kept;
    const auto line = [&] {
      const size_t n = std::min(rest.find('\n'), rest.size());
      const std::string_view l = rest.substr(0, n);
      rest.remove_prefix(std::min(n + 1, rest.size()));
      return std::string(l);
    };
    const std::string by = line(), driver = line(), engine = line();
    std::string why;
    if (by + "\n" + driver + "\n" != made_by) {
      why = fmt::format("it was made by {}, driver {}; here are cuDNN {}, driver {}", by, driver, version_,
                        driver_);
    } else if (auto plan = restore(graph, rest); !plan.ok()) {
      why = plan.error().message;
    } else if ((*plan)->workspace_bytes() > workspace_limit) {
      why = "it needs another workspace than it did";
    } else {
      auto p = std::make_shared<CudnnPlan>(**plan);
      p->engine_ = engine;
      p->from_disk_ = true;
      return std::shared_ptr<const CudnnPlan>(std::move(p));
    }
    if (log_) log_(fmt::format("a cuDNN plan is made anew: {}", why));
  }
  std::vector<CudnnTrial> tried;
  GC_TRY(std::shared_ptr<CudnnPlan> plan, search(graph, workspace_limit, tried, false));
  if (cache_) cache_->put(key, made_by + plan->engine_ + "\n" + plan->serialised_);
  return std::shared_ptr<const CudnnPlan>(std::move(plan));
}

Status Cudnn::execute(const CudnnPlan& plan, void* stream, std::span<const uint64_t> buffers,
                      uint64_t workspace) {
  std::vector<int64_t> ids;
  std::vector<void*> pointers;
  for (const auto& [id, buffer] : plan.ids_) {
    ids.push_back(id);
    pointers.push_back(reinterpret_cast<void*>(buffers[static_cast<size_t>(buffer)]));
  }
  CudnnBuilder v(*api_, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "a call's buffers");
  v.set<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids);
  v.set<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, pointers);
  v.set<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, {reinterpret_cast<void*>(workspace)});
  GC_TRY(const CudnnDescriptor pack, v.finish());
  const std::lock_guard lock(handle_mutex_);
  const auto failed = [](const Status& s) { return Error{ErrorCode::kDevice, s.error().message}; };
  if (!handle_) {
    cudnnHandle_t h = nullptr;
    if (Status s = api_->check(api_->create(&h), "cuDNN doesn't start"); !s.ok()) return failed(s);
    handle_ = h;
  }
  auto* h = static_cast<cudnnHandle_t>(handle_);
  if (Status s = api_->check(api_->set_stream(h, static_cast<cudaStream_t>(stream)), "cuDNN's stream");
      !s.ok())
    return failed(s);
  if (Status s = api_->check(api_->execute(h, plan.plan_.get(), pack.get()), "a cuDNN plan"); !s.ok())
    return failed(s);
  return {};
}

}  // namespace graphc
