// Mathematical functions that both languages share, for float, half and vectors of them. A half is rounded once.
#ifndef PENSTOCK_SIMULATOR_MATH_H_
#define PENSTOCK_SIMULATOR_MATH_H_

#include <cmath>

#include "memory.h"

namespace penstock {

// `name` for one operand of any of these types, from an expression of the float x.
#define PENSTOCK_UNARY(name, expression)                                        \
  inline float name(float x) { return expression; }                             \
  inline half name(half value) {                                                \
    const float x = value;                                                      \
    return static_cast<float>(expression);                                      \
  }                                                                             \
  template <class T, int N>                                                     \
  Vec<T, N> name(Vec<T, N> values) {                                            \
    for (T& value : values.v) value = name(value);                              \
    return values;                                                              \
  }                                                                             \
  template <class T, int N>                                                     \
  Vec<T, N> name(const Shared<Vec<T, N>>& values) {                             \
    return name(static_cast<Vec<T, N>>(values));                                \
  }
PENSTOCK_UNARY(acos, ::acosf(x))
PENSTOCK_UNARY(acosh, ::acoshf(x))
PENSTOCK_UNARY(asin, ::asinf(x))
PENSTOCK_UNARY(asinh, ::asinhf(x))
PENSTOCK_UNARY(atan, ::atanf(x))
PENSTOCK_UNARY(atanh, ::atanhf(x))
PENSTOCK_UNARY(ceil, ::ceilf(x))
PENSTOCK_UNARY(cos, ::cosf(x))
PENSTOCK_UNARY(cosh, ::coshf(x))
PENSTOCK_UNARY(exp, ::expf(x))
PENSTOCK_UNARY(exp10, ::powf(10.0f, x))
PENSTOCK_UNARY(exp2, ::exp2f(x))
PENSTOCK_UNARY(fabs, ::fabsf(x))
PENSTOCK_UNARY(floor, ::floorf(x))
PENSTOCK_UNARY(log, ::logf(x))
PENSTOCK_UNARY(log10, ::log10f(x))
PENSTOCK_UNARY(log2, ::log2f(x))
PENSTOCK_UNARY(rint, ::nearbyintf(x))
PENSTOCK_UNARY(round, ::roundf(x))
PENSTOCK_UNARY(rsqrt, 1.0f / ::sqrtf(x))
PENSTOCK_UNARY(sign, static_cast<float>((x > 0.0f) - (x < 0.0f)))
PENSTOCK_UNARY(sin, ::sinf(x))
PENSTOCK_UNARY(sinh, ::sinhf(x))
PENSTOCK_UNARY(sqrt, ::sqrtf(x))
PENSTOCK_UNARY(tan, ::tanf(x))
PENSTOCK_UNARY(tanh, ::tanhf(x))
PENSTOCK_UNARY(trunc, ::truncf(x))

// The same for two operands x and y.
#define PENSTOCK_BINARY(name, expression)                                       \
  inline float name(float x, float y) { return expression; }                    \
  inline half name(half a, half b) {                                            \
    const float x = a, y = b;                                                   \
    return static_cast<float>(expression);                                      \
  }                                                                             \
  PENSTOCK_LANE_BY_LANE(name)
#define PENSTOCK_LANE_BY_LANE(name)                                             \
  template <class T, int N>                                                     \
  Vec<T, N> name(Vec<T, N> a, const Vec<T, N>& b) {                             \
    for (int i = 0; i < N; ++i) a.v[i] = name(a.v[i], b.v[i]);                  \
    return a;                                                                   \
  }                                                                             \
  template <class T, int N>                                                     \
  Vec<T, N> name(const Shared<Vec<T, N>>& a, const Vec<T, N>& b) {              \
    return name(static_cast<Vec<T, N>>(a), b);                                  \
  }                                                                             \
  template <class T, int N>                                                     \
  Vec<T, N> name(const Vec<T, N>& a, const Shared<Vec<T, N>>& b) {              \
    return name(a, static_cast<Vec<T, N>>(b));                                  \
  }                                                                             \
  template <class T, int N>                                                     \
  Vec<T, N> name(const Shared<Vec<T, N>>& a, const Shared<Vec<T, N>>& b) {      \
    return name(static_cast<Vec<T, N>>(a), static_cast<Vec<T, N>>(b));          \
  }
PENSTOCK_BINARY(atan2, ::atan2f(x, y))
PENSTOCK_BINARY(copysign, ::copysignf(x, y))
PENSTOCK_BINARY(fmod, ::fmodf(x, y))
PENSTOCK_BINARY(fmax, ::fmaxf(x, y))
PENSTOCK_BINARY(fmin, ::fminf(x, y))
PENSTOCK_BINARY(pow, ::powf(x, y))
PENSTOCK_BINARY(max, x < y ? y : x)
PENSTOCK_BINARY(min, y < x ? y : x)

#define PENSTOCK_INTEGER(T)                                                     \
  inline T max(T a, T b) { return a < b ? b : a; }                              \
  inline T min(T a, T b) { return b < a ? b : a; }                              \
  inline T clamp(T x, T low, T high) { return min(max(x, low), high); }
PENSTOCK_INTEGER(int8_t)
PENSTOCK_INTEGER(uchar)
PENSTOCK_INTEGER(short)
PENSTOCK_INTEGER(ushort)
PENSTOCK_INTEGER(int)
PENSTOCK_INTEGER(uint)
PENSTOCK_INTEGER(long)
PENSTOCK_INTEGER(ulong)
#undef PENSTOCK_INTEGER

inline int abs(int x) { return x < 0 ? -x : x; }
inline long abs(long x) { return x < 0 ? -x : x; }
inline float clamp(float x, float low, float high) { return min(max(x, low), high); }
inline half clamp(half x, half low, half high) { return min(max(x, low), high); }

// With one rounding, of the exact result.
inline float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
inline half fma(half a, half b, half c) {
  return static_cast<float>(static_cast<double>(static_cast<float>(a)) * static_cast<float>(b) + static_cast<float>(c));
}
template <class T, int N>
Vec<T, N> fma(Vec<T, N> a, const Vec<T, N>& b, const Vec<T, N>& c) {
  for (int i = 0; i < N; ++i) a.v[i] = fma(a.v[i], b.v[i], c.v[i]);
  return a;
}
template <class T>
T mad(T a, T b, T c) {
  return fma(a, b, c);
}
template <class T, int N>
T dot(const Vec<T, N>& a, const Vec<T, N>& b) {
  float sum = 0;
  for (int i = 0; i < N; ++i) sum += static_cast<float>(a.v[i]) * static_cast<float>(b.v[i]);
  return sum;
}

inline bool isnan(float x) { return x != x; }
inline bool isinf(float x) { return x == INFINITY || x == -INFINITY; }
inline bool isfinite(float x) { return ::fabsf(x) < INFINITY; }

}  // namespace penstock
#endif
