/* Linked into every library of CPU kernels: where a kernel says what is wrong with its arguments. The runner sets the
 * pointer when it loads the library. */

__attribute__((visibility("default"))) void (*penstock_raise)(const char*, const char**, int) = 0;

__attribute__((visibility("hidden"))) void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int count) {
  if (penstock_raise) penstock_raise(kind, parts, count);
}
