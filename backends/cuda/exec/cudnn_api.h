// The functions of cuDNN that are called, from a library opened at run time; descriptors that are destroyed
// with their last user. For cudnn*.cpp only: cuDNN's types show in no other header.
#pragma once

#include <cudnn_graph.h>

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/cuda/exec/libraries.h"
#include "runtime/base/result.h"

namespace graphc {

struct CudnnApi {
  decltype(::cudnnCreate)* create = nullptr;
  decltype(::cudnnDestroy)* destroy = nullptr;
  decltype(::cudnnSetStream)* set_stream = nullptr;
  decltype(::cudnnGetErrorString)* error_string = nullptr;
  decltype(::cudnnGetLastErrorString)* last_error_string = nullptr;
  decltype(::cudnnBackendCreateDescriptor)* create_descriptor = nullptr;
  decltype(::cudnnBackendDestroyDescriptor)* destroy_descriptor = nullptr;
  decltype(::cudnnBackendFinalize)* finalize = nullptr;
  decltype(::cudnnBackendSetAttribute)* set_attribute = nullptr;
  decltype(::cudnnBackendGetAttribute)* get_attribute = nullptr;
  decltype(::cudnnBackendExecute)* execute = nullptr;

  static Result<CudnnApi> load(const CudaLibrary& library);
  Status check(cudnnStatus_t s, std::string_view what) const;
};

using CudnnDescriptor = std::shared_ptr<void>;

template <class T>
struct CudnnTypeOf;
#define CUDNN_TYPE_OF(type, name)                              \
  template <>                                                  \
  struct CudnnTypeOf<type> {                                   \
    static constexpr cudnnBackendAttributeType_t value = name; \
  };
CUDNN_TYPE_OF(cudnnHandle_t, CUDNN_TYPE_HANDLE)
CUDNN_TYPE_OF(cudnnDataType_t, CUDNN_TYPE_DATA_TYPE)
CUDNN_TYPE_OF(bool, CUDNN_TYPE_BOOLEAN)
CUDNN_TYPE_OF(int64_t, CUDNN_TYPE_INT64)
CUDNN_TYPE_OF(int32_t, CUDNN_TYPE_INT32)
CUDNN_TYPE_OF(float, CUDNN_TYPE_FLOAT)
CUDNN_TYPE_OF(double, CUDNN_TYPE_DOUBLE)
CUDNN_TYPE_OF(void*, CUDNN_TYPE_VOID_PTR)
CUDNN_TYPE_OF(char, CUDNN_TYPE_CHAR)
CUDNN_TYPE_OF(cudnnConvolutionMode_t, CUDNN_TYPE_CONVOLUTION_MODE)
CUDNN_TYPE_OF(cudnnBackendHeurMode_t, CUDNN_TYPE_HEUR_MODE)
CUDNN_TYPE_OF(cudnnPointwiseMode_t, CUDNN_TYPE_POINTWISE_MODE)
CUDNN_TYPE_OF(cudnnBackendNumericalNote_t, CUDNN_TYPE_NUMERICAL_NOTE)
CUDNN_TYPE_OF(cudnnBackendBehaviorNote_t, CUDNN_TYPE_BEHAVIOR_NOTE)
#undef CUDNN_TYPE_OF

// A descriptor being filled in; the first failure is kept until finish().
//
//   CudnnBuilder t(api, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "tensor x");
//   t.set<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS, {1, 2, 3, 4});
//   GC_TRY(CudnnDescriptor d, t.finish());
class CudnnBuilder {
 public:
  CudnnBuilder(const CudnnApi& api, cudnnBackendDescriptorType_t type, std::string what);
  template <class T>
  void set(cudnnBackendAttributeName_t name, std::span<const T> values) {
    put(name, CudnnTypeOf<T>::value, static_cast<int64_t>(values.size()), values.data());
  }
  template <class T>
  void set(cudnnBackendAttributeName_t name, std::initializer_list<T> values) {
    set(name, std::span<const T>(values.begin(), values.size()));
  }
  void set(cudnnBackendAttributeName_t name, const CudnnDescriptor& d) {
    void* raw = d.get();
    keep_.push_back(d);
    put(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &raw);
  }
  void set(cudnnBackendAttributeName_t name, const std::vector<CudnnDescriptor>& d);
  Result<CudnnDescriptor> finish();
  // As created, for cuDNN to fill in; null if that failed.
  CudnnDescriptor unfinished() const { return d_; }

 private:
  void put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
           const void* values);
  const CudnnApi& api_;
  std::string what_;
  CudnnDescriptor d_;
  std::vector<CudnnDescriptor> keep_;  // what it refers to lives as long as it does
  Status status_;
};

}  // namespace graphc
