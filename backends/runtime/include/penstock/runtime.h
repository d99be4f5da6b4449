/* The C interface of penstock's native runtime. Every function is safe to call from any thread. */
#ifndef PENSTOCK_RUNTIME_H_
#define PENSTOCK_RUNTIME_H_

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define PENSTOCK_API __declspec(dllexport)
#else
#define PENSTOCK_API __attribute__((visibility("default")))
#endif

/* The version of the library, e.g. "0.1.0". */
PENSTOCK_API const char* penstock_runtime_version(void);

/* Swap two paths of one file system in a single step, so that a reader sees either the old or the new artifact and
 * nothing in between, and a kill at any moment loses neither.
 * Returns 0, or the errno of the failure (ENOSYS where the system has no such call). */
PENSTOCK_API int penstock_exchange_paths(const char* first, const char* second);

#ifdef __cplusplus
}
#endif
#endif /* PENSTOCK_RUNTIME_H_ */
