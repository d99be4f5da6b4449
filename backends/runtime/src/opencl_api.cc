#include "opencl_api.h"

#include <dlfcn.h>

#include <cstdlib>

namespace penstock::cl {
namespace {

const char* const kLibraries[] = {
    "libOpenCL.so.1", "libOpenCL.so", "/system/vendor/lib64/libOpenCL.so", "/vendor/lib64/libOpenCL.so", "/vendor/lib64/egl/libGLES_mali.so",
    "/System/Library/Frameworks/OpenCL.framework/OpenCL"};

// A loader, and most drivers for phones, export the functions by name.
bool by_name(void* library, Api* api) {
#define PENSTOCK_LOAD(name, place, result, parameters) \
  api->name = reinterpret_cast<result(*) parameters>(dlsym(library, "cl" #name)); \
  if (api->name == nullptr) return false;
  PENSTOCK_OPENCL_FUNCTIONS(PENSTOCK_LOAD)
#undef PENSTOCK_LOAD
  return true;
}

// A driver for a loader exports one function, which leads to a table of all (cl_khr_icd).
bool by_table(void* library, Api* api) {
  const auto address = reinterpret_cast<void* (*)(const char*)>(dlsym(library, "clGetExtensionFunctionAddress"));
  if (address == nullptr) return false;
  const auto platforms = reinterpret_cast<Code (*)(uint32_t, Platform*, uint32_t*)>(address("clIcdGetPlatformIDsKHR"));
  Platform platform = nullptr;
  uint32_t count = 0;
  if (platforms == nullptr || platforms(1, &platform, &count) != kSuccess || count == 0) return false;
  void* const* table = *reinterpret_cast<void* const* const*>(platform);
#define PENSTOCK_LOAD(name, place, result, parameters) api->name = reinterpret_cast<result(*) parameters>(table[place]);
  PENSTOCK_OPENCL_FUNCTIONS(PENSTOCK_LOAD)
#undef PENSTOCK_LOAD
  api->GetPlatformIDs = platforms;
  return true;
}

bool load(const char* path, Api* api) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  return library != nullptr && (by_name(library, api) || by_table(library, api));  // stays loaded: drivers do not like to go
}

}  // namespace

const Api* api() {
  static const Api* const found = []() -> const Api* {
    static Api api;
    if (const char* path = std::getenv("PENSTOCK_OPENCL")) return load(path, &api) ? &api : nullptr;
    for (const char* path : kLibraries)
      if (load(path, &api)) return &api;
    return nullptr;
  }();
  return found;
}

}  // namespace penstock::cl
