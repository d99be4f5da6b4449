// The memory that the threads of a group share, with a shadow that knows who touched what since which barrier.
#ifndef PENSTOCK_SIMULATOR_SHARED_H_
#define PENSTOCK_SIMULATOR_SHARED_H_

#include <vector>

#include "fault.h"
#include "group.h"

namespace penstock {

// Time is counted in ticks: one passes with each barrier and each new group.
class SharedMemory {
 public:
  void prepare(const Kernel& kernel) {
    if (memory_.size() < kernel.local_bytes) {
      memory_.resize(kernel.local_bytes);
      shadow_.resize(kernel.local_bytes);
    }
    subgroup_ = kernel.subgroup;
  }

  // A new group: nothing is written yet.
  void begin(uint threads) {
    if (now_ > UINT32_MAX / 2) {
      std::fill(shadow_.begin(), shadow_.end(), Cell{});
      now_ = 0;
    }
    started_ = group_since_ = ++now_;
    subgroup_since_.assign(threads / subgroup_ + 1, now_);
  }
  void group_barrier() { group_since_ = ++now_; }
  void subgroup_barrier(uint subgroup) { subgroup_since_[subgroup] = ++now_; }

  char* read(const Thread& thread, const LocalArray& array, ptrdiff_t offset, size_t bytes) {
    for (Cell *cell = first(thread, array, offset, bytes), *last = cell + count(array, bytes); cell != last; ++cell) {
      if (cell->written < started_) race(thread, array, cell, "reads", "which nobody wrote", 0);
      if (cell->writer != thread.index && together(thread, cell->written, cell->writer))
        race(thread, array, cell, "reads", "which another thread wrote since the last barrier: a race; the writer was", cell->writer);
      if (!together(thread, cell->read, cell->readers & kThread)) {
        cell->readers = static_cast<uint16_t>(thread.index);
      } else if (cell->readers != thread.index) {
        const bool near = (cell->readers & kThread) / subgroup_ == thread.index / subgroup_ && !(cell->readers & kFar);
        cell->readers = static_cast<uint16_t>(thread.index | kSeveral | (near ? 0 : kFar));
      }
      cell->read = now_;
    }
    return &memory_[array.offset + static_cast<size_t>(offset)];
  }

  char* write(const Thread& thread, const LocalArray& array, ptrdiff_t offset, size_t bytes) {
    for (Cell *cell = first(thread, array, offset, bytes), *last = cell + count(array, bytes); cell != last; ++cell) {
      if (cell->written >= started_ && cell->writer != thread.index && together(thread, cell->written, cell->writer))
        race(thread, array, cell, "writes", "which another thread wrote since the last barrier: a race; the other was", cell->writer);
      if (cell->read >= started_ && cell->readers != thread.index && still_read(thread, *cell))
        race(thread, array, cell, "writes", "which another thread read since the last barrier: a race; the reader was", cell->readers & kThread);
      cell->written = now_;
      cell->writer = static_cast<uint16_t>(thread.index);
    }
    return &memory_[array.offset + static_cast<size_t>(offset)];
  }

 private:
  // Of one scalar. `readers` is the last reader, whether there were several, and whether from several SIMD-groups.
  struct Cell {
    uint32_t written = 0, read = 0;
    uint16_t writer = 0, readers = 0;
  };
  static constexpr uint16_t kSeveral = 0x8000, kFar = 0x4000, kThread = 0x3fff;

  // Whether no barrier separates the thread from what `other` did at a moment.
  bool together(const Thread& thread, uint32_t moment, uint other) const {
    const uint subgroup = thread.index / subgroup_;
    return moment >= group_since_ && (other / subgroup_ != subgroup || moment >= subgroup_since_[subgroup]);
  }

  bool still_read(const Thread& thread, const Cell& cell) const {
    return cell.readers & kFar ? cell.read >= group_since_ : together(thread, cell.read, cell.readers & kThread);
  }

  static size_t count(const LocalArray& array, size_t bytes) { return (bytes + array.item - 1) / array.item; }

  Cell* first(const Thread&, const LocalArray& array, ptrdiff_t offset, size_t bytes) {
    if (static_cast<size_t>(offset) > array.bytes || array.bytes - static_cast<size_t>(offset) < bytes)
      out_of_bounds(array.name, offset, array.bytes, bytes);
    if (bytes > array.item && static_cast<size_t>(offset) % bytes != 0 && (bytes & (bytes - 1)) == 0)
      misaligned(array.name, offset, bytes);
    return &shadow_[array.offset + static_cast<size_t>(offset) / array.item];
  }

  void race(const Thread& thread, const LocalArray& array, const Cell* cell, const char* does, const char* why, uint other) const {
    const size_t element = static_cast<size_t>(cell - &shadow_[array.offset]);
    const uint at[3] = {other % thread.block[0], other / thread.block[0] % thread.block[1], other / thread.block[0] / thread.block[1]};
    fault(does, " ", array.name, "[", element, "], ", why, cell->written < started_ ? "" : " " + triple(at));
  }

  std::vector<char> memory_;
  std::vector<Cell> shadow_;
  std::vector<uint32_t> subgroup_since_;
  uint32_t now_ = 0, started_ = 0, group_since_ = 0;
  uint subgroup_ = 32;
};

}  // namespace penstock
#endif
