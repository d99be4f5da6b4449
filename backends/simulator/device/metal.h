// The Metal Shading Language for C++ compilers: its types, functions of SIMD-groups, and 8 x 8 matrices.
//
// A kernel's functions have `penstock_thread`, the thread that runs, in scope.
#ifndef PENSTOCK_SIMULATOR_METAL_H_
#define PENSTOCK_SIMULATOR_METAL_H_

#include "subgroup.h"

namespace penstock {

inline half operator""h(long double value) { return static_cast<float>(value); }

enum class mem_flags { mem_none, mem_device, mem_threadgroup, mem_texture };
#define threadgroup_barrier(...) ::penstock::barrier(penstock_thread, Scope::group, __LINE__)
#define simdgroup_barrier(...) ::penstock::barrier(penstock_thread, Scope::subgroup, __LINE__)

inline float select(float a, float b, bool condition) { return condition ? b : a; }
inline half select(half a, half b, bool condition) { return condition ? b : a; }
inline int select(int a, int b, bool condition) { return condition ? b : a; }
inline uint select(uint a, uint b, bool condition) { return condition ? b : a; }
inline long select(long a, long b, bool condition) { return condition ? b : a; }
inline float abs(float x) { return ::fabsf(x); }
inline half abs(half x) { return fabs(x); }

// What a shuffle down or up would take from beyond the SIMD-group stays as it was: Metal says that it does not wrap.
#define simd_shuffle(value, from) PENSTOCK_SHUFFLE(value, from, false, "simd_shuffle")
#define simd_broadcast(value, from) PENSTOCK_SHUFFLE(value, from, false, "simd_broadcast")
#define simd_shuffle_down(value, by) PENSTOCK_SHUFFLE(value, ::penstock::lane(penstock_thread) + static_cast<int>(by), true, "simd_shuffle_down")
#define simd_shuffle_up(value, by) PENSTOCK_SHUFFLE(value, ::penstock::lane(penstock_thread) - static_cast<int>(by), true, "simd_shuffle_up")
#define simd_shuffle_xor(value, by) PENSTOCK_SHUFFLE(value, ::penstock::lane(penstock_thread) ^ static_cast<int>(by), false, "simd_shuffle_xor")
#define simd_sum(value) PENSTOCK_REDUCE(value, a + b, "simd_sum")
#define simd_max(value) PENSTOCK_REDUCE(value, max(a, b), "simd_max")
#define simd_min(value) PENSTOCK_REDUCE(value, min(a, b), "simd_min")

// A matrix is spread over the lanes of a SIMD-group in a way that Metal does not tell. Here the first lane holds it
// whole; others hold NaN, so that only what goes through these functions gives numbers.
template <class T, int Rows, int Columns>
struct simdgroup_matrix {
  T m[Rows][Columns];
  simdgroup_matrix() { std::memset(static_cast<void*>(m), 0xff, sizeof m); }
};
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;

template <class T, int Rows, int Columns, class V>
simdgroup_matrix<T, Rows, Columns> make_filled_simdgroup_matrix(V value) {
  simdgroup_matrix<T, Rows, Columns> matrix;
  for (auto& row : matrix.m)
    for (T& item : row) item = static_cast<T>(value);
  return matrix;
}

// All lanes take part; the memory is touched by the first one.
template <class T, class P>
void load(const Thread& thread, int line, simdgroup_matrix<T, 8, 8>& matrix, P from, ulong row = 8, ulong2 origin = 0, bool transpose = false) {
  barrier(thread, Scope::lanes, line);
  if (lane(thread) != 0) return;
  for (ulong i = 0; i < 8; ++i)
    for (ulong j = 0; j < 8; ++j) (transpose ? matrix.m[j][i] : matrix.m[i][j]) = from[(origin.y + i) * row + origin.x + j];
}
template <class T, class P>
void store(const Thread& thread, int line, const simdgroup_matrix<T, 8, 8>& matrix, P to, ulong row = 8, ulong2 origin = 0, bool transpose = false) {
  barrier(thread, Scope::lanes, line);
  if (lane(thread) != 0) return;
  for (ulong i = 0; i < 8; ++i)
    for (ulong j = 0; j < 8; ++j) to[(origin.y + i) * row + origin.x + j] = transpose ? matrix.m[j][i] : matrix.m[i][j];
}
#define simdgroup_load(...) ::penstock::load(penstock_thread, __LINE__, __VA_ARGS__)
#define simdgroup_store(...) ::penstock::store(penstock_thread, __LINE__, __VA_ARGS__)

// Sums in float, rounded once to the type of the accumulator.
template <class D, class A, class B, class C>
void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                   const simdgroup_matrix<B, 8, 8>& b, const simdgroup_matrix<C, 8, 8>& c) {
  simdgroup_matrix<D, 8, 8> sums;
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < 8; ++j) {
      float sum = static_cast<float>(c.m[i][j]);
      for (int k = 0; k < 8; ++k) sum += static_cast<float>(a.m[i][k]) * static_cast<float>(b.m[k][j]);
      sums.m[i][j] = static_cast<D>(sum);
    }
  d = sums;
}
template <class D, class A, class B>
void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a, const simdgroup_matrix<B, 8, 8>& b) {
  simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<float, 8, 8>(0));
}

}  // namespace penstock
#endif
