#include "thread_pool.h"

#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <chrono>
#include <exception>

#include "error.h"

namespace penstock {
namespace {

// Kernels follow one another within microseconds, so a worker looks for the next job for a while before it sleeps.
constexpr int kSpins = 2000;
constexpr auto kPatience = std::chrono::milliseconds(2);

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <class Done>
bool spin(Done done) {
  for (int i = 0; i < kSpins; ++i) {
    if (done()) return true;
    pause();
  }
  const auto until = std::chrono::steady_clock::now() + kPatience;
  do {
    for (int i = 0; i < 16; ++i) {
      if (done()) return true;
      std::this_thread::yield();
    }
  } while (std::chrono::steady_clock::now() < until);
  return false;
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  try {
    for (int id = 1; id < threads; ++id) workers_.emplace_back([this, id] { work(id); });
  } catch (const std::exception& error) {
    const int started = size();
    stop();
    fail(PENSTOCK_NO_MEMORY, "the system gives ", started, " of ", threads, " threads (", error.what(), "); ask for fewer");
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

int ThreadPool::run(Job job, void* context) {
  if (workers_.empty()) return job(0, 1, context);
  job_ = job;
  context_ = context;
  failures_.store(0, std::memory_order_relaxed);
  left_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  round_.fetch_add(1);  // sequentially consistent with asleep_: either we see the sleeper or it sees the round
  if (asleep_.load() != 0) {
    std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_all();
  }
  if (job(0, size(), context) != 0) failures_.fetch_add(1, std::memory_order_relaxed);
  const auto finished = [this] { return left_.load(std::memory_order_acquire) == 0; };
  while (!spin(finished)) {
  }
  return failures_.load(std::memory_order_relaxed);
}

bool ThreadPool::wait_for_job(uint64_t seen) {
  const auto there = [&] { return round_.load() != seen || stop_.load(); };
  if (!spin(there)) {
    std::unique_lock<std::mutex> lock(mutex_);
    asleep_.fetch_add(1);
    wake_.wait(lock, there);
    asleep_.fetch_sub(1);
  }
  return !stop_.load();
}

void ThreadPool::work(int id) {
  for (uint64_t seen = 0; wait_for_job(seen);) {
    seen = round_.load();
    if (job_(id, size(), context_) != 0) failures_.fetch_add(1, std::memory_order_relaxed);
    left_.fetch_sub(1, std::memory_order_release);
  }
}

int ThreadPool::cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace penstock
