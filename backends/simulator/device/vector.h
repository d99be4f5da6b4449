// The short vectors of Metal and OpenCL C: float4, half8 and so on, with their parts (.x, .s0) and operators.
//
// A comparison gives a vector of booleans in Metal, and of integers as wide as the operands (0 or -1) in OpenCL C;
// define PENSTOCK_MASKS_ARE_INTEGERS for the latter.
#ifndef PENSTOCK_SIMULATOR_VECTOR_H_
#define PENSTOCK_SIMULATOR_VECTOR_H_

#include "half.h"

namespace penstock {

using uchar = uint8_t;
using ushort = uint16_t;
using uint = uint32_t;
using ulong = uint64_t;

template <class T, int N>
struct Lanes {
  T v[N];
};
template <class T>
struct Lanes<T, 2> {
  union {
    T v[2];
    struct { T x, y; };
    struct { T s0, s1; };
  };
};
template <class T>
struct Lanes<T, 3> {
  union {
    T v[3];
    struct { T x, y, z; };
    struct { T s0, s1, s2; };
  };
};
template <class T>
struct Lanes<T, 4> {
  union {
    T v[4];
    struct { T x, y, z, w; };
    struct { T s0, s1, s2, s3; };
  };
};
template <class T>
struct Lanes<T, 8> {
  union {
    T v[8];
    struct { T s0, s1, s2, s3, s4, s5, s6, s7; };
  };
};
template <class T>
struct Lanes<T, 16> {
  union {
    T v[16];
    struct { T s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, sa, sb, sc, sd, se, sf; };
    struct { T _0, _1, _2, _3, _4, _5, _6, _7, _8, _9, sA, sB, sC, sD, sE, sF; };
  };
};

template <size_t bytes>
struct Signed;
template <> struct Signed<1> { using type = int8_t; };
template <> struct Signed<2> { using type = int16_t; };
template <> struct Signed<4> { using type = int32_t; };
template <> struct Signed<8> { using type = int64_t; };

#ifdef PENSTOCK_MASKS_ARE_INTEGERS
template <class T>
using mask_of = typename Signed<sizeof(T)>::type;
constexpr int kTrue = -1;
#else
template <class T>
using mask_of = bool;
constexpr int kTrue = 1;
#endif

template <class T, int N>
struct Vec : Lanes<T, N> {
  using Scalar = T;
  using Mask = Vec<mask_of<T>, N>;
  static constexpr int size = N;

  Vec() = default;
  Vec(T every) {
    for (T& lane : this->v) lane = every;
  }
  template <class U>
  explicit Vec(const Vec<U, N>& other) {
    for (int i = 0; i < N; ++i) this->v[i] = static_cast<T>(other.v[i]);
  }
  // Of scalars and shorter vectors, one after the other.
  template <class A, class B, class... More>
  Vec(const A& a, const B& b, const More&... more) {
    T* next = this->v;
    put(next, a);
    put(next, b);
    (put(next, more), ...);
  }
  T& operator[](int i) { return this->v[i]; }
  const T& operator[](int i) const { return this->v[i]; }

#define PENSTOCK_OPERATOR(op)                                                                   \
  friend Vec operator op(Vec a, const Vec& b) {                                                 \
    for (int i = 0; i < N; ++i) a.v[i] = static_cast<T>(a.v[i] op b.v[i]);                      \
    return a;                                                                                   \
  }                                                                                             \
  Vec& operator op##=(const Vec& b) { return *this = *this op b; }
  PENSTOCK_OPERATOR(+)
  PENSTOCK_OPERATOR(-)
  PENSTOCK_OPERATOR(*)
  PENSTOCK_OPERATOR(/)
  PENSTOCK_OPERATOR(%)
  PENSTOCK_OPERATOR(&)
  PENSTOCK_OPERATOR(|)
  PENSTOCK_OPERATOR(^)
  PENSTOCK_OPERATOR(<<)
  PENSTOCK_OPERATOR(>>)
#undef PENSTOCK_OPERATOR
#define PENSTOCK_COMPARISON(op)                                                                 \
  friend Mask operator op(const Vec& a, const Vec& b) {                                         \
    Mask mask;                                                                                  \
    for (int i = 0; i < N; ++i) mask.v[i] = a.v[i] op b.v[i] ? kTrue : 0;                       \
    return mask;                                                                                \
  }
  PENSTOCK_COMPARISON(<)
  PENSTOCK_COMPARISON(<=)
  PENSTOCK_COMPARISON(>)
  PENSTOCK_COMPARISON(>=)
  PENSTOCK_COMPARISON(==)
  PENSTOCK_COMPARISON(!=)
  PENSTOCK_COMPARISON(&&)
  PENSTOCK_COMPARISON(||)
#undef PENSTOCK_COMPARISON
  friend Mask operator!(const Vec& a) { return a == Vec(T(0)); }
  friend Vec operator-(Vec a) {
    for (T& lane : a.v) lane = -lane;
    return a;
  }
  friend Vec operator~(Vec a) {
    for (T& lane : a.v) lane = static_cast<T>(~lane);
    return a;
  }
  // `b` where the mask is set.
  template <class M>
  friend Vec select(Vec a, const Vec& b, const Vec<M, N>& mask) {
    for (int i = 0; i < N; ++i) {
      if constexpr (std::is_same_v<M, bool>) {
        if (mask.v[i]) a.v[i] = b.v[i];
      } else if (mask.v[i] < 0) {
        a.v[i] = b.v[i];
      }
    }
    return a;
  }

 private:
  template <class U, int M>
  static void put(T*& next, const Vec<U, M>& part) {
    for (const U& lane : part.v) *next++ = static_cast<T>(lane);
  }
  template <class U>
  static void put(T*& next, const U& part) {
    *next++ = static_cast<T>(part);
  }
};

template <class T>
constexpr bool is_vector = false;
template <class T, int N>
constexpr bool is_vector<Vec<T, N>> = true;

// What a device asks of the address of a T: a vector lies at a multiple of its size, one of three at that of four.
template <class T>
constexpr size_t device_alignment() {
  if constexpr (is_vector<T>) return (T::size == 3 ? 4 : T::size) * sizeof(typename T::Scalar);
  return sizeof(T);
}

#define PENSTOCK_VECTORS(T)                                                                          \
  using T##2 = Vec<T, 2>;                                                                            \
  using T##3 = Vec<T, 3>;                                                                            \
  using T##4 = Vec<T, 4>;                                                                            \
  using T##8 = Vec<T, 8>;                                                                            \
  using T##16 = Vec<T, 16>;
PENSTOCK_VECTORS(half)
PENSTOCK_VECTORS(float)
PENSTOCK_VECTORS(double)
PENSTOCK_VECTORS(bool)
PENSTOCK_VECTORS(char)
PENSTOCK_VECTORS(uchar)
PENSTOCK_VECTORS(short)
PENSTOCK_VECTORS(ushort)
PENSTOCK_VECTORS(int)
PENSTOCK_VECTORS(uint)
PENSTOCK_VECTORS(long)
PENSTOCK_VECTORS(ulong)
#undef PENSTOCK_VECTORS

// The bits of one type as another.
template <class To, class From>
To as_type(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "as_type between types of different sizes");
  To to;
  std::memcpy(static_cast<void*>(&to), &from, sizeof to);
  return to;
}

}  // namespace penstock
#endif
