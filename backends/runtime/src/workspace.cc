#include "workspace.h"

#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace penstock {
namespace {

constexpr size_t kAlignment = 64;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

struct Block {
  std::unique_ptr<void, Free> memory;
  size_t bytes = 0;
  bool taken = false;

  bool grow(size_t wanted) {
    memory.reset();
    bytes = 0;
    void* fresh = nullptr;
    if (posix_memalign(&fresh, kAlignment, wanted) != 0) return false;
    memory.reset(fresh);
    bytes = wanted;
    return true;
  }
};

thread_local std::vector<Block> blocks;

}  // namespace

void* take_workspace(size_t bytes) try {
  // The smallest that is large enough, else the largest, which then grows.
  Block* best = nullptr;
  for (Block& block : blocks) {
    if (block.taken) continue;
    const bool better = best == nullptr || (best->bytes < bytes ? block.bytes > best->bytes
                                                                : block.bytes >= bytes && block.bytes < best->bytes);
    if (better) best = &block;
  }
  if (best == nullptr) best = &blocks.emplace_back();
  if ((best->memory == nullptr || best->bytes < bytes) && !best->grow(bytes == 0 ? 1 : bytes)) return nullptr;
  best->taken = true;
  return best->memory.get();
} catch (const std::bad_alloc&) {
  return nullptr;
}

void give_back_workspace(void* memory) {
  for (Block& block : blocks)
    if (block.memory.get() == memory) block.taken = false;
}

}  // namespace penstock
