// verify_program: what FlatBuffers' verifier can't know.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "runtime/program.h"

namespace graphc {
namespace {

Error bad(std::string why) { return invalid("the program is malformed: " + std::move(why)); }

class Names {
 public:
  Status add(std::string_view what, std::string_view name, const LoadLimits& limits) {
    if (name.empty()) return bad(fmt::format("{} without a name", what));
    if (name.size() > limits.max_string_bytes) return bad(fmt::format("{} with too long a name", what));
    if (!seen_.insert(name).second) return bad(fmt::format("two {}s are named '{}'", what, name));
    return {};
  }

 private:
  std::unordered_set<std::string_view> seen_;
};

bool known_dtype(DType t) { return static_cast<int>(t) < kNumDTypes; }

Status check_size(const SizeExpr& e, size_t num_symbols) {
  const auto r = SizeExpr::from_code(e.code(), num_symbols);
  return r.ok() ? Status{} : Status(bad(r.error().message));
}
Status check_sizes(const std::vector<SizeExpr>& v, size_t num_symbols, const LoadLimits& limits) {
  if (v.size() > limits.max_rank) return bad(fmt::format("rank {} is above {}", v.size(), limits.max_rank));
  for (const SizeExpr& e : v) GC_CHECK(check_size(e, num_symbols));
  return {};
}

Status verify_variable(const ProgramVariable& v, const LoadLimits& limits) {
  const auto fail = [&](std::string_view why) { return bad(fmt::format("variable '{}': {}", v.name, why)); };
  if (v.kind > VariableRole::kConst) return fail("unknown kind");
  if (!known_dtype(v.dtype)) return fail("unknown dtype");
  const auto bytes = checked_bytes(v.dtype, v.shape, limits);
  if (!bytes.ok()) return fail(bytes.error().message);
  if (!v.external_file.empty() || !v.external_tensor.empty()) {
    if (v.external_file.empty() || v.external_tensor.empty())
      return fail("an external reference needs file and tensor");
    if (v.init || !v.data.empty()) return fail("it has two initial values");
    return {};
  }
  if (v.init) {
    if (!v.data.empty()) return fail("it has two initial values");
    const Status s = check_init(*v.init, v.dtype, v.shape);
    return s.ok() ? s : Status(fail(s.error().message));
  }
  if (v.data.size() != *bytes)
    return fail(fmt::format("{} bytes of data where its shape needs {}", v.data.size(), *bytes));
  if (v.dtype == DType::kBool &&
      std::any_of(v.data.begin(), v.data.end(), [](std::byte b) { return b > std::byte{1}; }))
    return fail("a bool is neither 0 nor 1");
  return {};
}

class FunctionVerifier {
 public:
  FunctionVerifier(const Program& p, const Function& f, const LoadLimits& limits)
      : p_(p), f_(f), limits_(limits) {}

  Status run() {
    Names ins, outs;
    for (const TensorSpec& t : f_.inputs) GC_CHECK(ins.add("input", t.name, limits_));
    for (const TensorSpec& t : f_.outputs) GC_CHECK(outs.add("output", t.name, limits_));
    for (const auto* list : {&f_.inputs, &f_.outputs})
      for (const TensorSpec& t : *list) {
        if (!known_dtype(t.dtype)) return bad(fmt::format("'{}': unknown dtype", t.name));
        GC_CHECK(check_sizes(t.shape, p_.symbols.size(), limits_));
      }
    GC_CHECK(check_sizes({f_.flops, f_.bytes}, p_.symbols.size(), limits_));
    GC_CHECK(buffers());
    for (size_t s = 0; s < f_.steps.size(); ++s) {
      Status st = step(s);
      if (!st.ok()) return bad(fmt::format("step {}: {}", s, st.error().message));
    }
    for (const EndCopy& c : f_.copies) GC_CHECK(copy(c));
    for (size_t i = 0; i < f_.outputs.size(); ++i)
      if (!output_written_[i]) return bad(fmt::format("output '{}' is never written", f_.outputs[i].name));
    return {};
  }

 private:
  Status buffers() {
    const size_t n = f_.buffers.size();
    root_.resize(n);
    written_.assign(n, false);
    output_written_.assign(f_.outputs.size(), false);
    std::vector<bool> in(f_.inputs.size()), out(f_.outputs.size()), var(p_.variables.size());
    const auto claim = [&](std::vector<bool>& taken, uint32_t index, std::string_view what) -> Status {
      if (index >= taken.size())
        return bad(fmt::format("a buffer names {} {}, there are {}", what, index, taken.size()));
      if (taken[index]) return bad(fmt::format("{} {} has two buffers", what, index));
      taken[index] = true;
      return {};
    };
    for (size_t b = 0; b < n; ++b) {
      const ProgramBuffer& buffer = f_.buffers[b];
      GC_CHECK(check_size(buffer.bytes, p_.symbols.size()));
      GC_CHECK(check_size(buffer.alias_offset, p_.symbols.size()));
      root_[b] = static_cast<uint32_t>(b);
      switch (buffer.kind) {
        case ProgramBuffer::kInput:
          GC_CHECK(claim(in, buffer.index, "input"));
          written_[b] = true;
          break;
        case ProgramBuffer::kOutput: GC_CHECK(claim(out, buffer.index, "output")); break;
        case ProgramBuffer::kVariable:
          GC_CHECK(claim(var, buffer.index, "variable"));
          written_[b] = true;
          break;
        case ProgramBuffer::kArena:
          if (buffer.first_step > buffer.last_step ||
              (buffer.last_step >= f_.steps.size() && buffer.last_step != 0))
            return bad(fmt::format("buffer {} lives from step {} to {} of {}", b, buffer.first_step,
                                   buffer.last_step, f_.steps.size()));
          if (buffer.offset < -1 || (buffer.offset >= 0 && buffer.offset % 64 != 0))
            return bad(fmt::format("buffer {} has the offset {}", b, buffer.offset));
          break;
        case ProgramBuffer::kAlias:
          if (buffer.index >= n || f_.buffers[buffer.index].kind == ProgramBuffer::kAlias)
            return bad(fmt::format("buffer {} is an alias of something else than a buffer of its own", b));
          root_[b] = buffer.index;
          break;
        default: return bad(fmt::format("buffer {} has an unknown kind", b));
      }
    }
    return {};
  }

  Result<uint32_t> root_of(uint32_t buffer, size_t step) {
    if (buffer >= f_.buffers.size()) return invalid(fmt::format("there is no buffer {}", buffer));
    const uint32_t r = root_[buffer];
    const ProgramBuffer& b = f_.buffers[r];
    if (b.kind == ProgramBuffer::kArena && (step < b.first_step || step > b.last_step))
      return invalid(
          fmt::format("buffer {} is used outside its life, step {} to {}", r, b.first_step, b.last_step));
    return r;
  }
  Status may_write(uint32_t r) {
    const ProgramBuffer& b = f_.buffers[r];
    if (b.kind == ProgramBuffer::kInput)
      return invalid(fmt::format("input '{}' is written", f_.inputs[b.index].name));
    if (b.kind == ProgramBuffer::kVariable && p_.variables[b.index].kind == VariableRole::kConst)
      return invalid(fmt::format("constant '{}' is written", p_.variables[b.index].name));
    return {};
  }
  void wrote(uint32_t r) {
    written_[r] = true;
    if (f_.buffers[r].kind == ProgramBuffer::kOutput) output_written_[f_.buffers[r].index] = true;
  }
  Status view(const TensorView& v) {
    if (!known_dtype(v.dtype)) return invalid("a tensor has an unknown dtype");
    GC_CHECK(check_sizes(v.shape, p_.symbols.size(), limits_));
    GC_CHECK(check_sizes(v.strides, p_.symbols.size(), limits_));
    if (!v.strides.empty() && v.strides.size() != v.shape.size())
      return invalid("a tensor's strides don't fit its rank");
    return check_size(v.offset, p_.symbols.size());
  }

  Status step(size_t s) {
    const Step& st = f_.steps[s];
    if (st.exec >= p_.execs.size()) return invalid(fmt::format("there is no executable {}", st.exec));
    if (st.inputs.size() + st.outputs.size() > limits_.max_node_inputs)
      return invalid("it has too many tensors");
    for (const SizeExpr& e : st.symbols) GC_CHECK(check_size(e, p_.symbols.size()));
    for (const TensorView& v : st.inputs) {
      GC_CHECK(view(v));
      GC_TRY(const uint32_t r, root_of(v.buffer, s));
      if (!written_[r]) return invalid(fmt::format("buffer {} is read before it is written", r));
    }
    for (const TensorView& v : st.outputs) {
      GC_CHECK(view(v));
      GC_TRY(const uint32_t r, root_of(v.buffer, s));
      GC_CHECK(may_write(r));
      wrote(r);
    }
    if (st.workspace >= 0) {
      if (st.workspace > 0xffffffff) return invalid("there is no such workspace");
      GC_TRY(const uint32_t r, root_of(static_cast<uint32_t>(st.workspace), s));
      if (f_.buffers[r].kind != ProgramBuffer::kArena)
        return invalid("its workspace doesn't lie in the arena");
    } else if (st.workspace != -1) {
      return invalid("there is no such workspace");
    }
    return {};
  }

  Status copy(const EndCopy& c) {
    const size_t last = f_.steps.empty() ? 0 : f_.steps.size() - 1;
    const auto fail = [](const Error& e) { return bad("a copy at the end: " + e.message); };
    const auto src = root_of(c.src, last);
    if (!src.ok()) return fail(src.error());
    const auto dst = root_of(c.dst, last);
    if (!dst.ok()) return fail(dst.error());
    if (!written_[*src])
      return bad(fmt::format("a copy at the end: buffer {} is read before it is written", *src));
    if (Status s = may_write(*dst); !s.ok()) return fail(s.error());
    GC_CHECK(check_size(c.bytes, p_.symbols.size()));
    wrote(*dst);
    return {};
  }

  const Program& p_;
  const Function& f_;
  const LoadLimits& limits_;
  std::vector<uint32_t> root_;
  std::vector<bool> written_, output_written_;
};

}  // namespace

Status verify_program(const Program& p, const LoadLimits& limits) {
  if (p.variables.size() > limits.max_values || p.execs.size() > limits.max_nodes ||
      p.symbols.size() > limits.max_rank * 512u)
    return bad("it has too many variables, executables or symbols");
  Names symbols, variables, functions;
  for (const Symbol& s : p.symbols) {
    GC_CHECK(symbols.add("symbol", s.name, limits));
    if (s.min < 0 || s.min > s.max || s.max > limits.max_dim)
      return bad(fmt::format("symbol '{}' has the range {}..{}", s.name, s.min, s.max));
  }
  for (const ProgramVariable& v : p.variables) {
    GC_CHECK(variables.add("variable", v.name, limits));
    GC_CHECK(verify_variable(v, limits));
  }
  for (const Exec& e : p.execs)
    if (e.backend.empty()) return bad("an executable names no backend");
  uint64_t steps = 0, buffers = 0;
  for (const Function& f : p.functions) {
    GC_CHECK(functions.add("function", f.name, limits));
    if ((steps += f.steps.size()) > limits.max_nodes || (buffers += f.buffers.size()) > limits.max_values)
      return bad("it has too many steps or buffers");
    if (Status s = FunctionVerifier(p, f, limits).run(); !s.ok()) {
      Error e = s.error();
      e.message = fmt::format("function '{}': {}", f.name, e.message);
      return e;
    }
  }
  return {};
}

}  // namespace graphc
