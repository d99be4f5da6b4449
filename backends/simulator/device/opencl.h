// OpenCL C for C++ compilers: its types, functions of work-items, conversions, and vector loads and stores.
//
// A kernel's functions have `penstock_thread`, the work-item that runs, in scope.
#ifndef PENSTOCK_SIMULATOR_OPENCL_H_
#define PENSTOCK_SIMULATOR_OPENCL_H_

#define PENSTOCK_MASKS_ARE_INTEGERS
#define cl_khr_fp16 1
#include "subgroup.h"

namespace penstock {

#define CLK_LOCAL_MEM_FENCE 1
#define CLK_GLOBAL_MEM_FENCE 2
#define barrier(...) ::penstock::barrier(penstock_thread, Scope::group, __LINE__)
#define work_group_barrier(...) barrier(__VA_ARGS__)
#define sub_group_barrier(...) (::penstock::barrier)(penstock_thread, Scope::subgroup, __LINE__)

#define get_group_id(axis) static_cast<size_t>(penstock_thread.group[axis])
#define get_local_id(axis) static_cast<size_t>(penstock_thread.position[axis])
#define get_local_size(axis) static_cast<size_t>(penstock_thread.block[axis])
#define get_num_groups(axis) static_cast<size_t>(penstock_thread.grid[axis])
#define get_global_size(axis) (get_num_groups(axis) * get_local_size(axis))
#define get_global_id(axis) (get_group_id(axis) * get_local_size(axis) + get_local_id(axis))
#define get_sub_group_local_id() (penstock_thread.index % penstock_thread.subgroup)
#define get_sub_group_id() (penstock_thread.index / penstock_thread.subgroup)

// A scalar condition counts by its value, one of a vector by its sign.
template <class T, class M, class = if_arithmetic<M>>
T select(T a, T b, M condition) {
  return condition != 0 ? b : a;
}
PENSTOCK_UNARY(erf, ::erff(x))
inline half abs(half x) { return fabs(x); }

#define PENSTOCK_CONVERT(T, N)                       \
  template <class V>                                 \
  T##N convert_##T##N(const V& value) {              \
    return static_cast<T##N>(value);                 \
  }                                                  \
  template <class V>                                 \
  T##N as_##T##N(const V& value) {                   \
    return as_type<T##N>(value);                     \
  }
#define PENSTOCK_CONVERSIONS(T) \
  PENSTOCK_CONVERT(T, ) PENSTOCK_CONVERT(T, 2) PENSTOCK_CONVERT(T, 3) PENSTOCK_CONVERT(T, 4) PENSTOCK_CONVERT(T, 8) PENSTOCK_CONVERT(T, 16)
PENSTOCK_CONVERSIONS(half)
PENSTOCK_CONVERSIONS(float)
PENSTOCK_CONVERSIONS(double)
PENSTOCK_CONVERSIONS(char)
PENSTOCK_CONVERSIONS(uchar)
PENSTOCK_CONVERSIONS(short)
PENSTOCK_CONVERSIONS(ushort)
PENSTOCK_CONVERSIONS(int)
PENSTOCK_CONVERSIONS(uint)
PENSTOCK_CONVERSIONS(long)
PENSTOCK_CONVERSIONS(ulong)

// These ask for the alignment of a scalar only. Scalar by scalar, they go through its checks.
template <int N, class P, class T = typename std::decay_t<P>::Item>
Vec<T, N> vload(size_t index, P&& from) {
  Vec<T, N> value;
  for (int i = 0; i < N; ++i) value.v[i] = from[index * N + static_cast<size_t>(i)];
  return value;
}
template <int N, class V, class P, class T = typename std::decay_t<P>::Item>
void vstore(const V& value, size_t index, P&& to) {
  const Vec<T, N> values = value;
  for (int i = 0; i < N; ++i) to[index * N + static_cast<size_t>(i)] = values.v[i];
}
#define vload2 vload<2>
#define vload3 vload<3>
#define vload4 vload<4>
#define vload8 vload<8>
#define vload16 vload<16>
#define vstore2 vstore<2>
#define vstore3 vstore<3>
#define vstore4 vstore<4>
#define vstore8 vstore<8>
#define vstore16 vstore<16>

#define sub_group_broadcast(value, from) PENSTOCK_SHUFFLE(value, from, false, "sub_group_broadcast")
#define sub_group_shuffle(value, from) PENSTOCK_SHUFFLE(value, from, false, "sub_group_shuffle")
#define sub_group_shuffle_xor(value, by) PENSTOCK_SHUFFLE(value, ::penstock::lane(penstock_thread) ^ static_cast<int>(by), false, "sub_group_shuffle_xor")
#define sub_group_shuffle_down(value, by) PENSTOCK_SHUFFLE(value, ::penstock::lane(penstock_thread) + static_cast<int>(by), true, "sub_group_shuffle_down")
#define sub_group_shuffle_up(value, by) PENSTOCK_SHUFFLE(value, ::penstock::lane(penstock_thread) - static_cast<int>(by), true, "sub_group_shuffle_up")
#define intel_sub_group_shuffle sub_group_shuffle
#define sub_group_reduce_add(value) PENSTOCK_REDUCE(value, a + b, "sub_group_reduce_add")
#define sub_group_reduce_max(value) PENSTOCK_REDUCE(value, max(a, b), "sub_group_reduce_max")
#define sub_group_reduce_min(value) PENSTOCK_REDUCE(value, min(a, b), "sub_group_reduce_min")

}  // namespace penstock
#endif
