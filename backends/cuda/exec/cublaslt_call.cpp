#include "backends/cuda/exec/cublaslt_call.h"

#include <charconv>
#include <cmath>
#include <map>

#include <fmt/format.h>

namespace graphc {
namespace {

using Epilogue = CublasLtCall::Epilogue;
constexpr std::pair<Epilogue, std::string_view> kEpilogues[] = {
    {Epilogue::kNone, ""}, {Epilogue::kRelu, "relu"}, {Epilogue::kGelu, "gelu"}, {Epilogue::kDgelu, "dgelu"}};

std::string text_of(const CallSize& s) {
  return s.size < 0 ? fmt::format("{}", s.number) : fmt::format("${}", s.size);
}

template <class T>
bool read_number(std::string_view s, T& out) {
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), out);
  return error == std::errc() && end == s.data() + s.size();
}

}  // namespace

std::optional<DType> cublaslt_compute_type(DType in, DType out) {
  if (in == DType::kF64 && out == DType::kF64) return DType::kF64;
  if (in == DType::kF32 && out == DType::kF32) return DType::kF32;
  if ((in == DType::kF16 || in == DType::kBF16) && (out == in || out == DType::kF32)) return DType::kF32;
  return std::nullopt;
}

std::string CublasLtCall::epilogue_name() const {
  std::string s;
  for (const auto& [e, name] : kEpilogues)
    if (e == epilogue) s = name;
  if (aux.arg >= 0 && epilogue == Epilogue::kGelu) s += "_aux";
  if (bias >= 0) s += s.empty() ? "bias" : "_bias";
  return s.empty() ? "default" : s;
}

std::string CublasLtCall::to_string() const {
  std::string s = fmt::format("matmul in={} out={} m={} n={} k={} batch={}", dtype_name(in), dtype_name(out),
                              text_of(m), text_of(n), text_of(k), text_of(batch));
  const auto matrix = [&](char name, const Matrix& x) {
    if (x.arg < 0) return;
    const std::string word = name == 'x' ? "aux" : std::string(1, name);
    s += fmt::format(" {}=%{} {}_ld={}", word, x.arg, word, text_of(x.ld));
    if (x.trans) s += fmt::format(" {}_trans=1", word);
    if (x.stride != CallSize{}) s += fmt::format(" {}_stride={}", word, text_of(x.stride));
    if (x.offset != CallSize{}) s += fmt::format(" {}_offset={}", word, text_of(x.offset));
  };
  matrix('a', a);
  matrix('b', b);
  matrix('c', c);
  matrix('d', d);
  if (alpha != 1) s += fmt::format(" alpha={}", alpha);
  if (c.arg >= 0) s += fmt::format(" beta={}", beta);
  if (bias >= 0) s += fmt::format(" bias=%{}", bias);
  for (const auto& [e, name] : kEpilogues)
    if (e == epilogue && !name.empty()) s += fmt::format(" epilogue={}", name);
  matrix('x', aux);
  return s;
}

Result<CublasLtCall> CublasLtCall::parse(std::string_view text, size_t num_args, size_t num_sizes) {
  const std::string whole(text);
  const auto bad = [&](std::string_view what) {
    return invalid(fmt::format("a cuBLASLt call is malformed: {} in \"{}\"", what, whole));
  };
  const auto next_word = [&]() -> std::string_view {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return word;
  };
  if (next_word() != "matmul") return bad("no \"matmul\"");
  std::map<std::string_view, std::string_view> words;
  while (!text.empty()) {
    const std::string_view word = next_word();
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos ||
        !words.emplace(word.substr(0, equals), word.substr(equals + 1)).second)
      return bad(word);
  }
  CublasLtCall call;
  std::string wrong;
  const auto take = [&](const std::string& key) {
    const auto it = words.find(key);
    const std::string_view value = it == words.end() ? "" : it->second;
    if (it != words.end()) words.erase(it);
    return value;
  };
  const auto size = [&](const std::string& key, CallSize& out, bool required) {
    const std::string_view v = take(key);
    if (v.empty() && !required) return;
    const bool ok = v.starts_with('$') ? read_number(v.substr(1), out.size) && out.size >= 0 &&
                                             static_cast<size_t>(out.size) < num_sizes
                                       : read_number(v, out.number) && out.number >= 0;
    if (!ok) wrong = key;
  };
  const auto argument = [&](const std::string& key, int& out, bool required) {
    const std::string_view v = take(key);
    if (v.empty() && !required) return;
    if (!v.starts_with('%') || !read_number(v.substr(1), out) || out < 0 ||
        static_cast<size_t>(out) >= num_args)
      wrong = key;
  };
  const auto number = [&](const std::string& key, double& out) {
    const std::string_view v = take(key);
    if (!v.empty() && (!read_number(v, out) || !std::isfinite(out))) wrong = key;
  };
  const auto type = [&](const std::string& key, DType& out) {
    const auto t = dtype_from_name(take(key));
    if (t) out = *t;
    if (!t) wrong = key;
  };
  const auto matrix = [&](const std::string& key, Matrix& out, bool required) {
    argument(key, out.arg, required);
    if (out.arg < 0) return;
    size(key + "_ld", out.ld, true);
    size(key + "_stride", out.stride, false);
    size(key + "_offset", out.offset, false);
    const std::string_view trans = take(key + "_trans");
    out.trans = trans == "1";
    if (!trans.empty() && trans != "1") wrong = key + "_trans";
  };
  type("in", call.in);
  type("out", call.out);
  size("m", call.m, true);
  size("n", call.n, true);
  size("k", call.k, true);
  size("batch", call.batch, true);
  matrix("a", call.a, true);
  matrix("b", call.b, true);
  matrix("c", call.c, false);
  matrix("d", call.d, true);
  matrix("aux", call.aux, false);
  argument("bias", call.bias, false);
  number("alpha", call.alpha);
  number("beta", call.beta);
  if (const std::string_view e = take("epilogue"); !e.empty()) {
    wrong = "epilogue";
    for (const auto& [value, name] : kEpilogues)
      if (name == e) {
        call.epilogue = value;
        wrong.clear();
      }
  }
  if (!wrong.empty()) return bad(wrong);
  if (!words.empty()) return bad(words.begin()->first);
  if (!cublaslt_compute_type(call.in, call.out)) return bad("the types");
  if (call.c.trans || call.d.trans || call.aux.trans) return bad("a transposed result");
  const bool needs_aux = call.epilogue == Epilogue::kDgelu,
             may_aux = needs_aux || call.epilogue == Epilogue::kGelu;
  if ((call.aux.arg >= 0 && !may_aux) || (call.aux.arg < 0 && needs_aux)) return bad("aux");
  if (needs_aux && call.bias >= 0) return bad("bias");
  return call;
}

}  // namespace graphc
