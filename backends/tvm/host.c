/* Linked into every library of CPU kernels: where a kernel says what is wrong with its arguments. The runner sets the
 * pointer when it loads the library. */
#include <stdint.h>

__attribute__((visibility("default"))) void (*penstock_raise)(const char*, const char**, int32_t) = 0;

__attribute__((visibility("hidden"))) void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int32_t count) {
  if (penstock_raise) penstock_raise(kind, parts, count);
}
