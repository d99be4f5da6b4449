#ifndef PENSTOCK_SHA256_H_
#define PENSTOCK_SHA256_H_

#include <cstddef>
#include <string>

namespace penstock {

// The SHA-256 (FIPS 180-4) of some bytes, in lower-case hexadecimal.
std::string sha256(const void* data, size_t bytes);
inline std::string sha256(const std::string& text) { return sha256(text.data(), text.size()); }

}  // namespace penstock
#endif
