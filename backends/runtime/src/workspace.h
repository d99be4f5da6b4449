// Scratch memory of kernels: blocks that a thread asks for again and again.
#pragma once

#include <cstddef>

namespace penstock {

// Memory of at least `bytes` bytes for the calling thread, aligned to 64 bytes; null if the system has none.
//
// A block given back stays with the thread for its next kernel, so that a kernel costs neither a call of the system's
// allocator nor fresh pages. A thread holds as many blocks as it ever used at once, each as large as the largest
// request that it met, and gives them up when it ends.
void* take_workspace(size_t bytes);
void give_back_workspace(void* memory);

}  // namespace penstock
