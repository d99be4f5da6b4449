// Threads of a group as fibers: each has a stack of its own and runs until it waits.
//
// A fiber is entered once through ucontext, which is slow as it asks the kernel for the signal mask; from then on it is
// left and resumed by _longjmp, which does not. It stays for all groups that a worker runs.
#ifndef PENSTOCK_SIMULATOR_FIBERS_H_
#define PENSTOCK_SIMULATOR_FIBERS_H_

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <memory>
#include <new>
#include <vector>

namespace penstock {

class Fibers {
 public:
  // `work(context, i)` is what fiber i does each time it is resumed after it has returned.
  using Work = void (*)(void* context, size_t fiber);

  Fibers(Work work, void* context) : work_(work), context_(context) {}
  ~Fibers() { clear(); }
  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  void grow(size_t count) {
    while (fibers_.size() < count) fibers_.push_back(std::make_unique<Fiber>());
  }

  // Forget all fibers, wherever they are.
  void clear() { fibers_.clear(); }

  // Run a fiber until it waits or its work returns.
  void resume(size_t index) {
    Fiber& fiber = *fibers_[index];
    current_ = index;
    if (_setjmp(home_) != 0) return;
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack;
    fiber.start.uc_stack.ss_size = kStack;
    fiber.start.uc_link = nullptr;
    const auto self = reinterpret_cast<uintptr_t>(this);
    makecontext(&fiber.start, reinterpret_cast<void (*)()>(&Fibers::begin), 2, static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
    setcontext(&fiber.start);
  }

  // Called on a fiber: go back to whoever resumed it.
  void wait() {
    if (_setjmp(fibers_[current_]->place) == 0) _longjmp(home_, 1);
  }

 private:
  static constexpr size_t kStack = 256 << 10;  // address space; what is not touched takes no memory

  struct Fiber {
    Fiber() {
      const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
      mapped = guard + kStack;
      memory = static_cast<char*>(mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
      if (memory == MAP_FAILED) throw std::bad_alloc();
      mprotect(memory, guard, PROT_NONE);
      stack = memory + guard;
    }
    ~Fiber() { munmap(memory, mapped); }
    char *memory, *stack;
    size_t mapped;
    bool begun = false;
    ucontext_t start;
    jmp_buf place;
  };

  static void begin(unsigned high, unsigned low) {
    Fibers& self = *reinterpret_cast<Fibers*>(static_cast<uintptr_t>(high) << 32 | low);
    for (const size_t index = self.current_;;) {
      self.work_(self.context_, index);
      self.wait();
    }
  }

  Work work_;
  void* context_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  size_t current_ = 0;
  jmp_buf home_;
};

}  // namespace penstock
#endif
