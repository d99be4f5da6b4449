// What a kernel did wrong, as text.
#ifndef PENSTOCK_SIMULATOR_FAULT_H_
#define PENSTOCK_SIMULATOR_FAULT_H_

#include <sstream>
#include <string>

namespace penstock {

struct Fault {
  std::string text;
};

template <class... Parts>
[[noreturn]] void fault(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Fault{text.str()};
}

inline std::string triple(const unsigned* at) {
  std::ostringstream text;
  text << '(' << at[0] << ", " << at[1] << ", " << at[2] << ')';
  return text.str();
}

}  // namespace penstock
#endif
