// Exchange of values between the lanes of a SIMD-group, for both languages.
#ifndef PENSTOCK_SIMULATOR_SUBGROUP_H_
#define PENSTOCK_SIMULATOR_SUBGROUP_H_

#include "math.h"

namespace penstock {

template <class T>
struct Plain { using type = T; };
template <class T>
struct Plain<Shared<T>> { using type = T; };

inline int lane(const Thread& thread) { return static_cast<int>(thread.index % thread.subgroup); }

// The value of the lane `from`.
template <class V, class T = typename Plain<V>::type>
T shuffled(const Thread& thread, const V& value, int from, bool keep_outside, const char* what, int line) {
  T own = value;
  exchange(thread, &own, sizeof own, from, keep_outside, what, line);
  return own;
}

// Over all lanes in their order, so that each has the same result.
template <class V, class F, class T = typename Plain<V>::type>
T reduced(const Thread& thread, const V& value, F combine, const char* what, int line) {
  const uint threads = thread.block[0] * thread.block[1] * thread.block[2], first = thread.index - thread.index % thread.subgroup;
  const int lanes = static_cast<int>(threads - first < thread.subgroup ? threads - first : thread.subgroup);
  T total = shuffled(thread, value, 0, false, what, line);
  for (int i = 1; i < lanes; ++i) total = combine(total, shuffled(thread, value, i, false, what, line));
  return total;
}

#define PENSTOCK_SHUFFLE(value, from, keep_outside, what) \
  ::penstock::shuffled(penstock_thread, value, static_cast<int>(from), keep_outside, what, __LINE__)
#define PENSTOCK_REDUCE(value, expression, what) \
  ::penstock::reduced(penstock_thread, value, [](auto a, auto b) -> decltype(a) { return expression; }, what, __LINE__)

}  // namespace penstock
#endif
