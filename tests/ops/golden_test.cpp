// Ops against values of PyTorch (golden.json, made by make_golden.py), results and gradients.
#include <cmath>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/ops/differentiate.h"

namespace graphc {
namespace {

using nlohmann::json;

double number_of(const json& j) {
  if (!j.is_string()) return j.get<double>();
  std::string s = j.get<std::string>();
  return s == "nan" ? NAN : s == "inf" ? INFINITY : -INFINITY;
}

HostTensor tensor_of(const json& j) {
  HostTensor t = HostTensor::zeros(*dtype_from_name(j["dtype"].get<std::string>()),
                                   j["shape"].get<std::vector<int64_t>>());
  for (size_t k = 0; k < t.f.size(); ++k) t.f[k] = number_of(j["data"][k]);
  for (size_t k = 0; k < t.i.size(); ++k) t.i[k] = j["data"][k].get<int64_t>();
  return t;
}

Attr attr_of(const std::string& name, const json& j) {
  if (name == "dtype") return Attr(*dtype_from_name(j.get<std::string>()));
  if (j.is_boolean()) return Attr(j.get<bool>());
  if (j.is_number_integer()) return Attr(j.get<int64_t>());
  if (j.is_number()) return Attr(j.get<double>());
  if (j.is_string()) return Attr(j.get<std::string>());
  Attr::List l;
  for (const json& x : j) l.push_back(attr_of("", x));
  return Attr(l);
}

void expect_equal(const HostTensor& got, const HostTensor& want) {
  EXPECT_EQ(got.dtype, want.dtype);
  ASSERT_EQ(got.shape, want.shape);
  EXPECT_EQ(got.i, want.i);
  for (size_t k = 0; k < got.f.size(); ++k) {
    if (!std::isfinite(want.f[k])) {
      EXPECT_TRUE(std::isnan(want.f[k]) ? std::isnan(got.f[k]) : got.f[k] == want.f[k])
          << "element " << k << ": " << got.f[k] << ", not " << want.f[k];
      continue;
    }
    EXPECT_NEAR(got.f[k], want.f[k], 1e-11 * std::max(1.0, std::fabs(want.f[k]))) << "element " << k;
  }
}

TEST(Golden, PyTorch) {
  std::ifstream in(std::string(GRAPHC_OPS_TEST_DIR) + "/golden.json");
  json cases = json::parse(in);
  ASSERT_GT(cases.size(), 150u);
  int n = 0;
  for (const json& c : cases) {
    std::string name = c["op"].get<std::string>();
    SCOPED_TRACE(name + ", case " + std::to_string(n++) + " " + c["attrs"].dump());
    const OpDef* op = find_op(name);
    ASSERT_TRUE(op);
    std::vector<HostTensor> operands, cotangents;
    for (const json& t : c["operands"]) operands.push_back(tensor_of(t));
    Attrs attrs;
    for (const auto& [key, value] : c["attrs"].items()) attrs[key] = attr_of(key, value);
    auto results = interpret_op(*op, operands, attrs);
    if (!results.ok()) {
      ADD_FAILURE() << results.error().message;
      continue;
    }
    ASSERT_EQ(results->size(), c["results"].size());
    for (size_t i = 0; i < results->size(); ++i) expect_equal((*results)[i], tensor_of(c["results"][i]));
    if (!c.contains("grads")) continue;
    for (const json& t : c["cotangents"]) cotangents.push_back(tensor_of(t));
    auto gradient = op_gradient(*op, operands, attrs, cotangents);
    if (!gradient.ok()) {
      ADD_FAILURE() << gradient.error().message;
      continue;
    }
    for (size_t i = 0; i < operands.size(); ++i) {
      SCOPED_TRACE("gradient of operand " + std::to_string(i));
      if (!c["grads"][i].is_null()) expect_equal(gradient->grads[i], tensor_of(c["grads"][i]));
    }
  }
}

}  // namespace
}  // namespace graphc
