#include "error.h"

#include <new>

namespace penstock {
namespace {
thread_local std::string message;

int remember(int code, const char* text) noexcept {
  try {
    message = text;
  } catch (...) {  // not even memory for the message
    message.clear();
  }
  return code;
}
}  // namespace

int guarded(void (*body)(void*), void* context) noexcept {
  try {
    message.clear();
    body(context);
    return PENSTOCK_OK;
  } catch (const Error& error) {
    return remember(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return remember(PENSTOCK_NO_MEMORY, "the host has not enough memory");
  } catch (const std::exception& error) {
    return remember(PENSTOCK_FAILED, error.what());
  }
}

const char* last_error() noexcept { return message.c_str(); }

}  // namespace penstock
