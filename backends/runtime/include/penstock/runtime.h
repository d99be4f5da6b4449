/* Penstock's native runner: loads an artifact that `penstock compile` wrote and runs it, without Python and without TVM.
 *
 *     penstock_model* model = NULL;
 *     if (penstock_load("unet.penstock", NULL, &model) != PENSTOCK_OK) puts(penstock_error());
 *     penstock_run(model, inputs, outputs);
 *     penstock_free(model);
 *
 * Functions that return int return PENSTOCK_OK or one of the codes below; penstock_error() then says what went wrong.
 * A model may be used by one thread at a time, different models by different threads at once. */
#ifndef PENSTOCK_RUNTIME_H_
#define PENSTOCK_RUNTIME_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define PENSTOCK_API __declspec(dllexport)
#else
#define PENSTOCK_API __attribute__((visibility("default")))
#endif

enum {
  PENSTOCK_OK = 0,
  PENSTOCK_BAD_ARGUMENT = 1, /* a null pointer, an index out of range, a wrong size */
  PENSTOCK_BAD_ARTIFACT = 2, /* a file is missing, damaged, or says what cannot be */
  PENSTOCK_NO_DEVICE = 3,    /* the artifact's device, or its driver, is not there */
  PENSTOCK_NO_MEMORY = 4,    /* the device or the host has not enough memory */
  PENSTOCK_FAILED = 5        /* a kernel or the driver failed */
};

/* The version of the library, e.g. "0.1.0". */
PENSTOCK_API const char* penstock_runtime_version(void);

/* What went wrong in the calling thread's last failed call; "" if nothing did. Valid until its next call. */
PENSTOCK_API const char* penstock_error(void);

/* A loaded artifact: its plan checked, its weights on the device, its arenas allocated. */
typedef struct penstock_model penstock_model;

/* Zero means the default everywhere. */
typedef struct {
  int32_t threads;         /* CPU threads; default: all cores that the process may use */
  int32_t device_index;    /* which of the OpenCL devices, GPUs first */
  const char* cache;       /* an existing folder for compiled OpenCL programs; default: none are kept */
  int32_t skip_hashes;     /* 1: do not compare hashes, because the caller has just done so */
} penstock_options;

typedef struct {
  const char* name;     /* valid as long as the model */
  const char* dtype;    /* "float32", "float16", "int64", "bool", ... */
  int32_t rank;
  const int64_t* shape; /* `rank` extents, valid as long as the model */
  size_t bytes;         /* dense, row-major */
} penstock_tensor;

typedef struct {
  size_t arena_bytes;       /* all arenas: every activation, input, output and temporary */
  size_t arenas;            /* their number */
  size_t weight_bytes;      /* weights on the device */
  size_t lower_bound_bytes; /* the largest set of values alive together: no plan needs less arena */
} penstock_memory;

typedef struct {
  const char* graph;   /* the graph it is part of; "" for what the plan does itself */
  const char* kernel;  /* "copy" for a copy */
  const char* node;    /* the value it writes */
  uint64_t runs;       /* how often it ran while profiling was on */
  double seconds;      /* the sum of its times; on OpenCL by the device's clock, from its start to its end */
} penstock_launch;

/* Load an artifact. `options` may be NULL. On failure *model is NULL. */
PENSTOCK_API int penstock_load(const char* artifact, const penstock_options* options, penstock_model** model);
PENSTOCK_API void penstock_free(penstock_model* model);

/* What runs it, e.g. "cpu (8 threads)" or "opencl: Adreno 740". Valid as long as the model. */
PENSTOCK_API const char* penstock_device(const penstock_model* model);

PENSTOCK_API size_t penstock_input_count(const penstock_model* model);
PENSTOCK_API size_t penstock_output_count(const penstock_model* model);
PENSTOCK_API int penstock_input(const penstock_model* model, size_t index, penstock_tensor* tensor);
PENSTOCK_API int penstock_output(const penstock_model* model, size_t index, penstock_tensor* tensor);

/* Run the whole plan once. `inputs` and `outputs` hold a pointer for each tensor, in order, to dense row-major data of
 * exactly penstock_tensor.bytes; an output that is NULL is not copied. Returns when the outputs are there. */
PENSTOCK_API int penstock_run(penstock_model* model, const void* const* inputs, void* const* outputs);

PENSTOCK_API int penstock_memory_use(const penstock_model* model, penstock_memory* memory);

/* Time every launch of the next runs; each then waits for the one before. Turning it on forgets earlier times. */
PENSTOCK_API int penstock_profile(penstock_model* model, int on);
PENSTOCK_API size_t penstock_launch_count(const penstock_model* model);
PENSTOCK_API int penstock_launch_profile(const penstock_model* model, size_t index, penstock_launch* launch);

/* The OpenCL devices of this machine, one per line, GPUs first, as device_index counts them; "" for none. The text
 * is the calling thread's, valid until its next call. */
PENSTOCK_API const char* penstock_opencl_devices(void);

/* Swap two paths of one file system in a single step, so that a reader sees either the old or the new artifact and
 * nothing in between, and a kill at any moment loses neither.
 * Returns 0, or the errno of the failure (ENOSYS where the system has no such call). */
PENSTOCK_API int penstock_exchange_paths(const char* first, const char* second);

#ifdef __cplusplus
}
#endif
#endif /* PENSTOCK_RUNTIME_H_ */
