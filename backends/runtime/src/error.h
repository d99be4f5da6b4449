// Failures inside the runner are exceptions; the C API turns them into a code and a message.
#ifndef PENSTOCK_ERROR_H_
#define PENSTOCK_ERROR_H_

#include <exception>
#include <sstream>
#include <string>
#include <utility>

#include "penstock/runtime.h"

namespace penstock {

class Error : public std::exception {
 public:
  Error(int code, std::string message) : code_(code), message_(std::move(message)) {}
  int code() const { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  int code_;
  std::string message_;
};

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class... Parts>
[[noreturn]] void fail(int code, const Parts&... parts) {
  throw Error(code, text(parts...));
}

// The artifact is not what the compiler writes.
template <class... Parts>
[[noreturn]] void damaged(const Parts&... parts) {
  throw Error(PENSTOCK_BAD_ARTIFACT, text(parts..., "; copy the artifact again or compile the model again"));
}

// Run the body of a C function; keep the message of what it throws for penstock_error().
int guarded(void (*body)(void*), void* context) noexcept;

template <class Body>
int guard(Body body) noexcept {
  return guarded([](void* context) { (*static_cast<Body*>(context))(); }, &body);
}

const char* last_error() noexcept;

}  // namespace penstock
#endif
