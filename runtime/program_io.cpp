// The `.gcx` file: FlatBuffer + SHA-256.
#define FLATBUFFERS_MAX_ALIGNMENT 64  // constants are used in place, so they start on a cache line
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "runtime/base/sha256.h"
#include "runtime/program.h"
#include "runtime/program_generated.h"

namespace graphc {
namespace {

namespace fb = flatbuffers;

constexpr uint32_t kFormat = 1;
constexpr size_t kHashBytes = 32;

class Writer {
 public:
  Result<std::string> write(const Program& p) {
    std::vector<fb::Offset<fbs::Symbol>> symbols;
    for (const Symbol& s : p.symbols) symbols.push_back(fbs::CreateSymbol(b_, str(s.name), s.min, s.max));
    std::vector<fb::Offset<fbs::Variable>> variables;
    for (const ProgramVariable& v : p.variables) variables.push_back(variable(v));
    std::vector<fb::Offset<fbs::Exec>> execs;
    for (const Exec& e : p.execs) {
      if (too_large(e.blob.size())) return large();
      const auto blob = bytes(e.blob);
      execs.push_back(fbs::CreateExec(b_, str(e.backend), blob, str(e.label)));
    }
    std::vector<fb::Offset<fbs::Function>> functions;
    for (const Function& f : p.functions) functions.push_back(function(f));
    if (large_) return large();
    std::vector<fb::Offset<fbs::SizeCode>> sizes;
    for (const auto& code : size_list_) sizes.push_back(fbs::CreateSizeCode(b_, b_.CreateVector(code)));
    std::vector<fb::Offset<fbs::KeyValue>> provenance;
    for (const auto& [k, v] : p.meta.provenance)
      provenance.push_back(fbs::CreateKeyValue(b_, str(k), str(v)));
    std::vector<fb::Offset<fb::String>> features;
    for (const std::string& f : p.meta.cpu_features) features.push_back(str(f));
    const auto meta =
        fbs::CreateMeta(b_, str(p.meta.graphc_version), str(p.meta.target), b_.CreateVector(features),
                        str(p.meta.flags), str(p.meta.core_hash), b_.CreateVector(provenance));
    const auto root =
        fbs::CreateProgram(b_, kFormat, meta, b_.CreateVector(sizes), b_.CreateVector(symbols),
                           b_.CreateVector(variables), b_.CreateVector(execs), b_.CreateVector(functions));
    if (too_large(0)) return large();
    fbs::FinishProgramBuffer(b_, root);
    std::string out(reinterpret_cast<const char*>(b_.GetBufferPointer()), b_.GetSize());
    const Sha256::Digest d = sha256(out.data(), out.size());
    out.append(reinterpret_cast<const char*>(d.data()), d.size());
    return out;
  }

 private:
  // FlatBuffers addresses 2^31-1 bytes and aborts beyond, so the room is looked at before each large vector.
  bool too_large(uint64_t more) {
    large_ |= b_.GetSize() + more > LoadLimits{}.max_flatbuffer_bytes - (1 << 20);
    return large_;
  }
  Error large() const {
    return invalid(
        "the program is above 2 GiB; keep its weights in a safetensors file beside it (--weights at run "
        "time)");
  }

  fb::Offset<fb::String> str(const std::string& s) { return b_.CreateSharedString(s); }
  fb::Offset<fb::Vector<uint8_t>> bytes(Bytes data) {
    if (too_large(data.size())) return 0;
    b_.ForceVectorAlignment(data.size(), 1, 64);
    return b_.CreateVector(reinterpret_cast<const uint8_t*>(data.data()), data.size());
  }
  uint32_t size(const SizeExpr& e) {
    std::vector<int64_t> code(e.code().begin(), e.code().end());
    const auto [it, fresh] = sizes_.emplace(std::move(code), static_cast<uint32_t>(size_list_.size()));
    if (fresh) size_list_.push_back(it->first);
    return it->second;
  }
  fb::Offset<fb::Vector<uint32_t>> size_vector(const std::vector<SizeExpr>& v) {
    std::vector<uint32_t> ids;
    for (const SizeExpr& e : v) ids.push_back(size(e));
    return b_.CreateVector(ids);
  }

  fb::Offset<fbs::Variable> variable(const ProgramVariable& v) {
    fb::Offset<fbs::Init> init = 0;
    if (v.init) {
      std::vector<fb::Offset<fbs::InitAttr>> attrs;
      for (const auto& [k, value] : v.init->attrs) attrs.push_back(fbs::CreateInitAttr(b_, str(k), value));
      init = fbs::CreateInit(b_, str(v.init->name), b_.CreateVector(attrs));
    }
    const auto data = v.data.empty() ? fb::Offset<fb::Vector<uint8_t>>(0) : bytes(v.data);
    return fbs::CreateVariable(b_, str(v.name), static_cast<uint8_t>(v.kind), static_cast<uint8_t>(v.dtype),
                               b_.CreateVector(v.shape), init, data, str(v.external_file),
                               str(v.external_tensor));
  }
  std::vector<fb::Offset<fbs::TensorSpec>> specs(const std::vector<TensorSpec>& list) {
    std::vector<fb::Offset<fbs::TensorSpec>> out;
    for (const TensorSpec& t : list)
      out.push_back(
          fbs::CreateTensorSpec(b_, str(t.name), static_cast<uint8_t>(t.dtype), size_vector(t.shape)));
    return out;
  }
  std::vector<fb::Offset<fbs::TensorView>> views(const std::vector<TensorView>& list) {
    std::vector<fb::Offset<fbs::TensorView>> out;
    for (const TensorView& t : list) {
      const auto shape = size_vector(t.shape), strides = size_vector(t.strides);
      out.push_back(
          fbs::CreateTensorView(b_, t.buffer, size(t.offset), static_cast<uint8_t>(t.dtype), shape, strides));
    }
    return out;
  }
  fb::Offset<fbs::Function> function(const Function& f) {
    const auto inputs = b_.CreateVector(specs(f.inputs)), outputs = b_.CreateVector(specs(f.outputs));
    std::vector<fb::Offset<fbs::Buffer>> buffers;
    for (const ProgramBuffer& b : f.buffers)
      buffers.push_back(fbs::CreateBuffer(b_, static_cast<uint8_t>(b.kind), b.index, size(b.bytes),
                                          size(b.alias_offset), b.first_step, b.last_step, b.offset));
    std::vector<fb::Offset<fbs::Step>> steps;
    for (const Step& s : f.steps) {
      if (too_large(0)) return 0;
      const auto in = b_.CreateVector(views(s.inputs)), out = b_.CreateVector(views(s.outputs));
      steps.push_back(
          fbs::CreateStep(b_, s.exec, in, out, s.workspace, size_vector(s.symbols), str(s.label)));
    }
    std::vector<fb::Offset<fbs::EndCopy>> copies;
    for (const EndCopy& c : f.copies) copies.push_back(fbs::CreateEndCopy(b_, c.src, c.dst, size(c.bytes)));
    return fbs::CreateFunction(b_, str(f.name), inputs, outputs, b_.CreateVector(buffers),
                               b_.CreateVector(steps), b_.CreateVector(copies), size(f.flops), size(f.bytes));
  }

  fb::FlatBufferBuilder b_{1 << 16};
  std::map<std::vector<int64_t>, uint32_t> sizes_;
  std::vector<std::vector<int64_t>> size_list_;
  bool large_ = false;
};

// Turns the verified FlatBuffer into the plain struct; a size index out of range is remembered in status_.
class Reader {
 public:
  Result<Program> read(const fbs::Program& in) {
    Program p;
    for (const auto* s : list(in.symbols())) p.symbols.push_back({text(s->name()), s->min(), s->max()});
    for (const auto* s : list(in.sizes())) {
      if (!s->code()) return invalid("a size expression is empty");
      GC_TRY(SizeExpr e, SizeExpr::from_code(longs(s->code()), p.symbols.size()));
      sizes_.push_back(std::move(e));
    }
    if (const auto* m = in.meta()) {
      p.meta.graphc_version = text(m->graphc_version());
      p.meta.target = text(m->target());
      p.meta.flags = text(m->flags());
      p.meta.core_hash = text(m->core_hash());
      for (const auto* f : list(m->cpu_features())) p.meta.cpu_features.push_back(f->str());
      for (const auto* kv : list(m->provenance())) p.meta.provenance[text(kv->key())] = text(kv->value());
    }
    for (const auto* v : list(in.variables())) p.variables.push_back(variable(*v));
    for (const auto* e : list(in.execs()))
      p.execs.push_back({text(e->backend()), bytes(e->blob()), text(e->label())});
    for (const auto* f : list(in.functions())) p.functions.push_back(function(*f));
    if (!status_.ok()) return status_.error();
    return p;
  }

 private:
  template <class T>
  static std::vector<const T*> list(const fb::Vector<fb::Offset<T>>* v) {
    std::vector<const T*> out;
    if (v) out.assign(v->begin(), v->end());
    return out;
  }
  // The verifier looks at the alignment of a vector's length, not of its 8-byte elements.
  static std::vector<int64_t> longs(const fb::Vector<int64_t>* v) {
    std::vector<int64_t> out(v ? v->size() : 0);
    if (!out.empty()) std::memcpy(out.data(), v->Data(), out.size() * sizeof(int64_t));
    return out;
  }
  static std::string text(const fb::String* s) { return s ? s->str() : std::string(); }
  static Bytes bytes(const fb::Vector<uint8_t>* v) {
    return v ? Bytes(reinterpret_cast<const std::byte*>(v->data()), v->size()) : Bytes();
  }
  SizeExpr size(uint32_t id) {
    if (id < sizes_.size()) return sizes_[id];
    status_ = invalid("a size expression is missing");
    return {};
  }
  std::vector<SizeExpr> size_vector(const fb::Vector<uint32_t>* v) {
    std::vector<SizeExpr> out;
    if (v)
      for (const uint32_t id : *v) out.push_back(size(id));
    return out;
  }

  ProgramVariable variable(const fbs::Variable& v) {
    ProgramVariable out;
    out.name = text(v.name());
    out.kind = static_cast<VariableRole>(v.kind());
    out.dtype = static_cast<DType>(v.dtype());
    out.shape = longs(v.shape());
    if (const auto* i = v.init()) {
      out.init = InitSpec{text(i->name()), {}};
      for (const auto* a : list(i->attrs())) out.init->attrs.emplace_back(text(a->name()), a->value());
    }
    out.data = bytes(v.data());
    out.external_file = text(v.external_file());
    out.external_tensor = text(v.external_tensor());
    return out;
  }
  std::vector<TensorSpec> specs(const fb::Vector<fb::Offset<fbs::TensorSpec>>* v) {
    std::vector<TensorSpec> out;
    for (const auto* t : list(v))
      out.push_back({text(t->name()), static_cast<DType>(t->dtype()), size_vector(t->shape())});
    return out;
  }
  std::vector<TensorView> views(const fb::Vector<fb::Offset<fbs::TensorView>>* v) {
    std::vector<TensorView> out;
    for (const auto* t : list(v))
      out.push_back({t->buffer(), size(t->offset()), static_cast<DType>(t->dtype()), size_vector(t->shape()),
                     size_vector(t->strides())});
    return out;
  }
  Function function(const fbs::Function& f) {
    Function out;
    out.name = text(f.name());
    out.inputs = specs(f.inputs());
    out.outputs = specs(f.outputs());
    for (const auto* b : list(f.buffers()))
      out.buffers.push_back({static_cast<ProgramBuffer::Kind>(b->kind()), b->index(), size(b->bytes()),
                             size(b->alias_offset()), b->first_step(), b->last_step(), b->offset()});
    for (const auto* s : list(f.steps()))
      out.steps.push_back({s->exec(), views(s->inputs()), views(s->outputs()), s->workspace(),
                           size_vector(s->symbols()), text(s->label())});
    for (const auto* c : list(f.copies())) out.copies.push_back({c->src(), c->dst(), size(c->bytes())});
    out.flops = size(f.flops());
    out.bytes = size(f.bytes());
    return out;
  }

  std::vector<SizeExpr> sizes_;
  Status status_;
};

}  // namespace

Result<std::string> serialise_program(const Program& p) {
  GC_CHECK(verify_program(p));
  return Writer().write(p);
}

Status save_program(const Program& p, const std::string& path) {
  GC_TRY(const std::string text, serialise_program(p));
  return atomic_write(path, text);
}

Result<Program> parse_program(Bytes file, const std::string& name, const LoadLimits& limits) {
  const auto damaged = [&](std::string_view why) {
    return invalid(fmt::format("'{}' is not a usable artefact: {}", name, why));
  };
  if (file.size() < 8 + kHashBytes || !fbs::ProgramBufferHasIdentifier(file.data()))
    return damaged("it is no .gcx file (or cut off)");
  if (file.size() > limits.max_flatbuffer_bytes) return damaged("it is above 2 GiB");
  const Bytes body = file.first(file.size() - kHashBytes);
  const Sha256::Digest d = sha256(body.data(), body.size());
  if (std::memcmp(d.data(), file.data() + body.size(), kHashBytes) != 0)
    return damaged("its checksum doesn't match, so it is cut off, damaged or was changed");
  const auto* p = reinterpret_cast<const uint8_t*>(body.data());
  if (reinterpret_cast<uintptr_t>(p) % 8 != 0)
    return internal_error("parse_program: the bytes must be aligned to 8");
  fb::Verifier verifier(p, body.size(), limits.max_nesting, 4 * limits.max_values);
  if (!fbs::VerifyProgramBuffer(verifier)) return damaged("its structure is damaged");
  const fbs::Program& root = *fbs::GetProgram(p);
  if (root.format() != kFormat)
    return damaged(
        fmt::format("its format is version {}, this graphc reads version {}: compile the model again",
                    root.format(), kFormat));
  Result<Program> program = Reader().read(root);
  if (!program.ok()) return damaged(program.error().message);
  if (Status s = verify_program(*program, limits); !s.ok()) return damaged(s.error().message);
  return program;
}

Result<Program> load_program(const std::string& path, const LoadLimits& limits) {
  GC_TRY(MappedFile mapped, MappedFile::open(path, limits.max_flatbuffer_bytes));
  auto file = std::make_shared<const MappedFile>(std::move(mapped));
  GC_TRY(Program p, parse_program(file->bytes(), path, limits));
  p.keep_alive.push_back(file);
  p.directory = std::filesystem::path(path).parent_path().string();
  return p;
}

}  // namespace graphc
