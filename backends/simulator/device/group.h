// What a simulated kernel sees of its device: its thread and group, barriers, and memory that reports misuse.
#ifndef PENSTOCK_SIMULATOR_GROUP_H_
#define PENSTOCK_SIMULATOR_GROUP_H_

#include <cstddef>

#include "vector.h"

namespace penstock {

struct Worker;  // runs groups, one after the other; of group.cc

// An array that the threads of a group share.
struct LocalArray {
  const char* name;
  uint32_t offset;  // in the group's memory
  uint32_t bytes;
  uint32_t item;    // bytes of one scalar
};

struct Buffer {
  char* data;
  size_t bytes;
  size_t item;  // bytes of one element
};

struct Thread {
  uint index;        // in its group
  uint position[3];  // likewise
  uint group[3];     // of the group in the grid
  uint block[3];     // threads of a group
  uint grid[3];      // groups
  uint subgroup;     // threads of a SIMD-group
  const Buffer* buffers;
  Worker* worker;
};

// One argument of a kernel as the runner passes it: a tagged value that points to a tensor.
struct Argument {
  int32_t kind, zero;
  void* value;
};

struct Kernel {
  const char* name;
  void (*run)(const Thread&);
  uint grid[3], block[3];
  bool cooperates;             // threads wait for each other or share memory
  uint subgroup;               // threads of a SIMD-group
  uint local_bytes;            // of all arrays together
  int buffers;
  const bool* writes;          // which of the buffers
  const char* const* names;    // of the buffers
};

// Run all groups of a kernel in two orders, one the reverse of the other, and compare what they wrote. Returns 0, or
// reports what went wrong through `penstock_raise` and returns -1.
int launch(const Kernel& kernel, const Argument* arguments, int count);

// Everything below is called by a running thread. `line` is that of the kernel's source.

// `lanes`: the SIMD-group comes together, and no memory is ordered by it.
enum class Scope { group, subgroup, lanes };
void barrier(const Thread& thread, Scope scope, int line);
// Give `bytes` (at most 16) to the other lanes of the SIMD-group and take those of the lane `from`. Leaves `value` alone
// where `keep_outside` and `from` lies outside of the SIMD-group.
void exchange(const Thread& thread, void* value, size_t bytes, int from, bool keep_outside, const char* what, int line);

// Where `bytes` at `offset` in a shared array lie, after a look at who touched them since the last barrier.
char* read_local(const Thread& thread, const LocalArray& array, ptrdiff_t offset, size_t bytes);
char* write_local(const Thread& thread, const LocalArray& array, ptrdiff_t offset, size_t bytes);

[[noreturn]] void out_of_bounds(const char* what, ptrdiff_t offset, size_t bytes, size_t size);
[[noreturn]] void misaligned(const char* what, ptrdiff_t offset, size_t alignment);

}  // namespace penstock
#endif
