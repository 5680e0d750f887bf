// What the table's opaque pointers are in this backend.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backends/cuda/exec/cuda_exec.h"
#include "backends/cuda/exec/device.h"
#include "backends/host/host_device.h"

namespace graphc::cuda_table {

// Looks for driver and cards when first asked.
struct Plugin {
  HostPlugin host;
  std::once_flag once;
  std::shared_ptr<const CudaDriver> driver;
  std::vector<CudaCard> cards;
  std::string problem;  // why there is no card

  void find_cards();
};

struct DeviceHandle {
  HostPlugin host;
  std::unique_ptr<CudaDevice> device;
};
struct StreamHandle {
  DeviceHandle& d;
  std::unique_ptr<CudaStream> stream;
};
struct EventHandle {
  DeviceHandle& d;
  CUevent raw = nullptr;
  std::vector<std::shared_ptr<ErrorRecord>> records;  // of the stream it was recorded on
};
struct CapturedHandle {
  DeviceHandle& d;
  CUgraphExec raw = nullptr;
  std::shared_ptr<ErrorRecord> record;  // that its kernels write to
};
struct ExecHandle {
  DeviceHandle& d;
  std::string saved;               // the blob's bytes, of one that was compiled here
  KernelBlob unloaded;             // of one for a target: what is needed to describe it
  std::unique_ptr<CudaExec> exec;  // of one on a card
  const KernelBlob& blob() const { return exec ? exec->blob() : unloaded; }
};

inline Plugin& of(gc_plugin* p) { return *reinterpret_cast<Plugin*>(p); }
inline DeviceHandle& of(gc_device* p) { return *reinterpret_cast<DeviceHandle*>(p); }
inline StreamHandle& of(gc_stream* p) { return *reinterpret_cast<StreamHandle*>(p); }
inline EventHandle& of(gc_event* p) { return *reinterpret_cast<EventHandle*>(p); }
inline CapturedHandle& of(gc_captured* p) { return *reinterpret_cast<CapturedHandle*>(p); }
inline ExecHandle& of(gc_exec* p) { return *reinterpret_cast<ExecHandle*>(p); }
inline CudaBuffer& of(gc_buffer* p) { return *reinterpret_cast<CudaBuffer*>(p); }

gc_error* to_error(const HostPlugin& host, const Error& e);
inline gc_error* to_error(const HostPlugin& host, const Status& s) {
  return s.ok() ? nullptr : to_error(host, s.error());
}

// Fill in their part of the table.
void add_memory(gc_plugin_api& t);   // buf_*, copy, stats
void add_streams(gc_plugin_api& t);  // stream_*, event_*
const gc_ext_capture* capture_extension();

}  // namespace graphc::cuda_table
