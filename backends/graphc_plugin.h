/* graphc_plugin.h — the backend ABI, version 1.0. C99 and C++11. Append-only inside a major version.
 *
 * A backend is a table of functions (gc_plugin_api). The built-in backends use only this table, as one in a shared
 * library does. It has two halves behind one name: compile (claim, compile, exec_save) and execute (exec_load, execute).
 * A runtime without a compiler links the second half only: there `claim` and `compile` answer GC_UNIMPLEMENTED.
 *
 * Rules:
 *  - Both sides check the major version. Every growable struct starts with struct_size, set by whoever allocates it;
 *    accept any size that covers what you need (GC_HAS), never test for equality.
 *  - A function that can fail returns a gc_error made by host->error_new, or NULL for ok. The host frees errors.
 *  - Nothing throws across the table, and nothing aborts because memory ran out (GC_NO_MEMORY).
 *  - Strings and arrays passed to a callback live until it returns; those passed to a call until the call returns.
 *  - An executable is immutable and re-entrant: bindings are passed per execute.
 */
#ifndef GRAPHC_PLUGIN_H
#define GRAPHC_PLUGIN_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#define GC_ABI_MAJOR 1u
#define GC_ABI_MINOR 0u
/* is field f inside what the other side compiled? (then still test for NULL) */
#define GC_HAS(T, p, f) ((p)->struct_size >= offsetof(T, f) + sizeof((p)->f))

typedef struct gc_error gc_error; /* made by host->error_new; the host frees it; NULL = ok */
typedef struct gc_plugin gc_plugin;
typedef struct gc_device gc_device;
typedef struct gc_buffer gc_buffer;
typedef struct gc_stream gc_stream;
typedef struct gc_event gc_event;
typedef struct gc_exec gc_exec;
typedef struct gc_comm gc_comm;
typedef struct gc_captured gc_captured;

/* error codes */
enum {
  GC_CANCELLED = 1,
  GC_UNKNOWN = 2,
  GC_INVALID = 3,        /* the caller's arguments are wrong */
  GC_TIMEOUT = 4,
  GC_NO_MEMORY = 8,
  GC_STALE = 9,          /* a blob for another version or machine: compile again */
  GC_UNIMPLEMENTED = 12,
  GC_INTERNAL = 13,
  GC_DEVICE_LOST = 14
};
/* gc_device_info.kind */
enum { GC_DEVICE_CPU = 1, GC_DEVICE_GPU = 2, GC_DEVICE_OTHER = 3 };
/* bits of gc_device_info.memspaces; `space` of buf_alloc is the bit's number. HOST: the device computes on host memory
 * (buf_import of GC_EXTERNAL_HOST). PINNED: host memory that is fast to copy; its address is what buf_export says
 * (GC_EXTERNAL_HOST), and may be given to copy as src_host or dst_host. */
enum { GC_MEM_HOST = 1, GC_MEM_DEVICE = 2, GC_MEM_PINNED = 4 };
/* gc_external.kind */
enum { GC_EXTERNAL_HOST = 1, GC_EXTERNAL_DEVICE = 2, GC_EXTERNAL_DMABUF = 3 };
/* gc_graph.flags: the weights' bytes outlive the executable, so it may keep pointers into them */
enum { GC_GRAPH_WEIGHTS_STABLE = 1 };
/* gc_claim.flags: not taken; `reason` says why (graphc explain prints it) */
enum { GC_CLAIM_REJECT = 1 };
/* level of host->log */
enum { GC_LOG_DEBUG = 0, GC_LOG_INFO = 1, GC_LOG_WARNING = 2, GC_LOG_ERROR = 3 };
/* gc_tensor.dl_code: DLPack's type codes */
enum { GC_DL_INT = 0, GC_DL_UINT = 1, GC_DL_FLOAT = 2, GC_DL_BFLOAT = 4, GC_DL_BOOL = 6 };

/* Frozen for major 1, because they are used in arrays. */
typedef struct { const void *data; size_t size; } gc_span;
typedef struct { const char *key, *value; } gc_kv;
typedef struct { void *ctx; int32_t (*write)(void *ctx, const void *p, size_t n); /* 0 = ok */ } gc_sink;
typedef struct {
  gc_buffer *buf;
  uint64_t offset;        /* bytes from the start of buf */
  int64_t *shape;         /* rank sizes; may be NULL at rank 0 */
  const int64_t *strides; /* in elements; NULL = dense, row-major */
  uint32_t rank;
  uint8_t dl_code, dl_bits;
  uint16_t dl_lanes;      /* 1 */
} gc_tensor;
typedef struct { uint64_t id; uint8_t sha256[32]; gc_span bytes; } gc_weight;
typedef struct { uint32_t output, input; } gc_alias; /* output may be written over input's memory */

/* Growable: struct_size first. */

/* What the host offers. Lives as long as the plugin. */
typedef struct gc_host {
  size_t struct_size;
  uint32_t abi_major, abi_minor;
  void *ctx; /* first argument of all functions below */
  const char *library_path;
  gc_error *(*error_new)(void *ctx, int32_t code, const char *msg, size_t n); /* never NULL */
  void (*log)(void *ctx, int32_t level, const char *msg, size_t n);
  void *(*alloc)(void *ctx, size_t size, size_t align); /* NULL: out of memory */
  void (*free)(void *ctx, void *p, size_t size);
  /* body over [0, n) in chunks [i*grain, min(n, (i+1)*grain)) on the host's threads; chunks depend on n and grain only.
   * Returns when all are done. Allocates nothing. */
  void (*parallel_for)(void *ctx, int64_t n, int64_t grain, void (*body)(void *arg, int64_t b, int64_t e), void *arg);
  int32_t (*cache_get)(void *ctx, gc_span key, const gc_sink *out); /* 0 = found */
  int32_t (*cache_put)(void *ctx, gc_span key, gc_span value);
  int32_t (*cancelled)(void *ctx, uint64_t token); /* nonzero: stop and return GC_CANCELLED */
  void (*trace)(void *ctx, uint64_t run_id, const char *name, uint64_t begin_ns, uint64_t end_ns);
} gc_host;

typedef struct gc_device_info {
  size_t struct_size;
  const char *id, *name, *arch;
  uint32_t kind, memspaces, caps, min_align;
  uint64_t mem_bytes;
  int32_t dl_type, dl_id;
} gc_device_info;

/* A graph offered to claim, or a claimed subgraph to compile: the FlatBuffers form of the IR ("GCIR"). */
typedef struct gc_graph {
  size_t struct_size;
  gc_span ir;
  const gc_weight *weights;
  size_t num_weights;
  const uint32_t *nodes; /* the nodes meant; NULL = all */
  size_t num_nodes;
  uint32_t flags;
} gc_graph;

typedef struct gc_claim {
  size_t struct_size;
  const uint32_t *nodes;
  size_t num_nodes;
  double est_seconds;
  uint64_t est_bytes; /* workspace */
  uint32_t flags;
  const char *reason;
  const gc_alias *alias; /* state is updated in place through these pairs */
  size_t num_alias;
} gc_claim;

typedef struct gc_exec_info {
  size_t struct_size;
  uint64_t workspace_bytes;
  uint32_t workspace_align, flags;
  uint8_t fingerprint[32];
} gc_exec_info;

typedef struct gc_run {
  size_t struct_size;
  const gc_tensor *in;
  size_t num_in;
  gc_tensor *out; /* shape: the planned one in, the actual one out */
  size_t num_out;
  gc_buffer *workspace; /* NULL if the executable asked for none */
  uint64_t workspace_offset, run_id, cancel_token;
  const int64_t *symbols; /* values of the symbolic dims the executable's graph declares, in declaration order */
  size_t num_symbols;
} gc_run;

typedef struct gc_copy {
  size_t struct_size;
  gc_buffer *src, *dst; /* NULL: the host pointer below */
  const void *src_host;
  void *dst_host;
  uint64_t src_off, dst_off, size;
} gc_copy;

typedef struct gc_external {
  size_t struct_size;
  uint32_t kind;
  void *handle; /* GC_EXTERNAL_HOST: the address */
  uint64_t size;
} gc_external;

typedef struct gc_plugin_api {
  size_t struct_size;
  uint32_t abi_major, abi_minor;
  uint32_t ir_min, ir_max; /* versions of the IR's FlatBuffers form it reads */
  const char *name, *vendor, *version;

  /* R = required; NULL elsewhere = unsupported */
  /*R*/ gc_error *(*create)(const gc_host *, const gc_kv *, size_t, gc_plugin **);
  /*R*/ void (*destroy)(gc_plugin *); /* joins every thread it made */
  /*R*/ gc_error *(*enumerate)(gc_plugin *, void (*cb)(void *, const gc_device_info *), void *);
  const void *(*extension)(gc_plugin *, const char *name, uint32_t version);
  /*R*/ gc_error *(*open)(gc_plugin *, const char *id, const gc_kv *, size_t, gc_device **);
  /*R*/ void (*close)(gc_device *);
  gc_error *(*stats)(gc_device *, uint64_t *free_bytes, uint64_t *peak_bytes);

  /*R*/ gc_error *(*buf_alloc)(gc_device *, uint32_t space, uint64_t size, uint64_t align, gc_buffer **);
  /*R*/ void (*buf_free)(gc_device *, gc_buffer *); /* the host guarantees it is idle; imported memory stays */
  gc_error *(*buf_import)(gc_device *, const gc_external *, gc_buffer **);
  gc_error *(*buf_export)(gc_device *, gc_buffer *, gc_external *);
  /* On a stream: in its order, and host memory named here stays as it is until the stream has passed the copy. Without
   * one: done when it returns, after all that was put on the device's streams before. */
  /*R*/ gc_error *(*copy)(gc_device *, gc_stream *, const gc_copy *);

  /* all NULL: the device is synchronous, streams are NULL */
  gc_error *(*stream_create)(gc_device *, int32_t priority, gc_stream **);
  void (*stream_destroy)(gc_stream *); /* what is still to do on it is dropped, or done first */
  gc_error *(*event_create)(gc_device *, gc_event **);
  void (*event_destroy)(gc_event *);
  gc_error *(*event_record)(gc_event *, gc_stream *);
  gc_error *(*stream_wait)(gc_stream *, gc_event *);
  gc_error *(*event_wait)(gc_event *, uint64_t timeout_ns); /* 0 polls, UINT64_MAX waits on; carries an asynchronous
                                                               error, after which the host destroys the stream */
  gc_error *(*event_notify)(gc_event *, void (*cb)(void *, gc_error *), void *);

  /*R*/ gc_error *(*claim)(gc_device *, const gc_graph *, void (*cb)(void *, const gc_claim *), void *);
  /*R*/ gc_error *(*compile)(gc_device *, const gc_graph *, const gc_kv *, size_t, gc_exec **);
  /*R*/ void (*exec_destroy)(gc_exec *);
  /*R*/ gc_error *(*exec_info)(gc_exec *, gc_exec_info *);
  gc_error *(*exec_save)(gc_exec *, const gc_sink *);
  gc_error *(*exec_check)(gc_device *, gc_span blob); /* GC_STALE: compile again */
  gc_error *(*exec_load)(gc_device *, gc_span blob, const gc_graph *weights, gc_exec **);
  /*R*/ gc_error *(*execute)(gc_exec *, gc_stream *, const gc_run *);

  /* The workspace an execute with these values of the executable's symbols needs; exec_info's figure is what it needs
   * whatever they are. NULL: that figure is the whole need. The alignment is exec_info's. */
  gc_error *(*exec_workspace)(gc_exec *, const int64_t *symbols, size_t num_symbols, uint64_t *bytes);
} gc_plugin_api;

/* Extensions, by name and version. */
typedef struct gc_ext_collectives { /* "graphc.collectives", 1 */
  size_t struct_size;
  gc_error *(*unique_id)(gc_device *, uint8_t id[128]);
  gc_error *(*comm_create)(gc_device *, const uint8_t id[128], int32_t rank, int32_t world, gc_comm **);
  void (*comm_destroy)(gc_comm *); /* aborts what is in flight */
  gc_error *(*collective)(gc_comm *, gc_stream *, uint32_t kind, uint32_t redop, int32_t root, const gc_tensor *in,
                          gc_tensor *out);
} gc_ext_collectives;
typedef struct gc_ext_profile { /* "graphc.profile", 1 */
  size_t struct_size;
  gc_error *(*start)(gc_device *);
  gc_error *(*stop)(gc_device *); /* emits host->trace */
} gc_ext_profile;
typedef struct gc_ext_emit { /* "graphc.emit", 1: what a graph is compiled to, as text; for people */
  size_t struct_size;
  const char *forms; /* comma-separated: "loops,llvm,asm" */
  gc_error *(*emit)(gc_device *, const gc_graph *, const char *form, const gc_sink *);
} gc_ext_emit;
/* What is put on a stream between begin and end is recorded and not done; launch does it all again, with the pointers,
 * sizes and symbols of then. Buffers that it names live longer than the capture. Nothing may be allocated, and no event
 * waited for, while a stream is recording. end always ends the recording: after an error of a call in between as well,
 * when it gives NULL and an error. GC_UNIMPLEMENTED from begin or end: this can't be captured, run it plainly. */
typedef struct gc_ext_capture { /* "graphc.capture", 1 */
  size_t struct_size;
  gc_error *(*begin)(gc_stream *);
  gc_error *(*end)(gc_stream *, gc_captured **);
  gc_error *(*launch)(gc_captured *, gc_stream *);
  void (*destroy)(gc_captured *); /* the host guarantees that no launch of it is under way */
} gc_ext_capture;

/* The only exported symbol of a shared library; must not allocate, throw, or touch hardware. NULL: refuses the version. */
typedef const gc_plugin_api *(*gc_plugin_entry_fn)(uint32_t host_major, uint32_t host_minor);
#if defined(GC_PLUGIN_BUILD)
# if defined(_WIN32)
__declspec(dllexport)
# else
__attribute__((visibility("default")))
# endif
const gc_plugin_api *gc_plugin_entry(uint32_t host_major, uint32_t host_minor);
#endif
#ifdef __cplusplus
}
#endif
#endif
