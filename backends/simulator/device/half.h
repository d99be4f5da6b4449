// A 16-bit float for compilers that have none in C++: IEEE binary16, rounded to nearest even after every operation.
//
// Sums, products, quotients and square roots are computed in float and rounded once more. With 24 bits against 11 that
// gives the same as rounding the exact result once (Figueroa, "When is double rounding innocuous?", 1995).
#ifndef PENSTOCK_SIMULATOR_HALF_H_
#define PENSTOCK_SIMULATOR_HALF_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace penstock {

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Exact. The exponent is moved by a multiplication, which takes subnormal numbers along.
inline float widen(uint16_t half) {
  const float magnitude = float_of(static_cast<uint32_t>(half & 0x7fff) << 13) * float_of(0x77800000);  // times 2^112
  const uint32_t special = (half & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;                                  // infinity, NaN
  return float_of(bits_of(magnitude) | special | static_cast<uint32_t>(half & 0x8000) << 16);
}

// To nearest, ties to even; what is too large becomes infinite.
[[gnu::noinline]] inline uint16_t narrow(float value) {
  const uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffff;
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  if (magnitude > 0x7f800000) return sign | 0x7e00 | static_cast<uint16_t>(magnitude >> 13 & 0x1ff);  // NaN, made quiet
  if (magnitude >= 0x47800000) return sign | 0x7c00;  // at least 2^16
  if (magnitude < 0x38800000) {                       // below 2^-14: the float adder shifts and rounds
    return sign | static_cast<uint16_t>(bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f));
  }
  const uint32_t odd = magnitude >> 13 & 1;
  return sign | static_cast<uint16_t>((magnitude - (112u << 23) + 0xfff + odd) >> 13);
}

struct half {
  uint16_t bits;

  half() = default;
  template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
  half(T value) : bits(narrow(static_cast<float>(value))) {}
  operator float() const { return widen(bits); }

  half& operator+=(half other) { return *this = static_cast<float>(*this) + static_cast<float>(other); }
  half& operator-=(half other) { return *this = static_cast<float>(*this) - static_cast<float>(other); }
  half& operator*=(half other) { return *this = static_cast<float>(*this) * static_cast<float>(other); }
  half& operator/=(half other) { return *this = static_cast<float>(*this) / static_cast<float>(other); }
};

inline half operator-(half value) {
  value.bits ^= 0x8000;
  return value;
}

// With an integer a half stays one, with a wider float it becomes that.
template <class T>
using with_half = std::conditional_t<std::is_floating_point_v<T>, T, half>;
template <class T>
using if_arithmetic = std::enable_if_t<std::is_arithmetic_v<T>>;

#define PENSTOCK_HALF_OPERATOR(op)                                                                        \
  inline half operator op(half a, half b) { return static_cast<float>(a) op static_cast<float>(b); }      \
  template <class T, class = if_arithmetic<T>>                                                            \
  with_half<T> operator op(half a, T b) {                                                                 \
    return static_cast<with_half<T>>(static_cast<float>(a)) op static_cast<with_half<T>>(b);              \
  }                                                                                                       \
  template <class T, class = if_arithmetic<T>>                                                            \
  with_half<T> operator op(T a, half b) {                                                                 \
    return static_cast<with_half<T>>(a) op static_cast<with_half<T>>(static_cast<float>(b));              \
  }
PENSTOCK_HALF_OPERATOR(+)
PENSTOCK_HALF_OPERATOR(-)
PENSTOCK_HALF_OPERATOR(*)
PENSTOCK_HALF_OPERATOR(/)
#undef PENSTOCK_HALF_OPERATOR

#define PENSTOCK_HALF_COMPARISON(op)                                                                      \
  inline bool operator op(half a, half b) { return static_cast<float>(a) op static_cast<float>(b); }      \
  template <class T, class = if_arithmetic<T>>                                                            \
  bool operator op(half a, T b) {                                                                         \
    return static_cast<float>(a) op static_cast<float>(b);                                                \
  }                                                                                                       \
  template <class T, class = if_arithmetic<T>>                                                            \
  bool operator op(T a, half b) {                                                                         \
    return static_cast<float>(a) op static_cast<float>(b);                                                \
  }
PENSTOCK_HALF_COMPARISON(<)
PENSTOCK_HALF_COMPARISON(<=)
PENSTOCK_HALF_COMPARISON(>)
PENSTOCK_HALF_COMPARISON(>=)
PENSTOCK_HALF_COMPARISON(==)
PENSTOCK_HALF_COMPARISON(!=)
#undef PENSTOCK_HALF_COMPARISON

}  // namespace penstock
#endif
