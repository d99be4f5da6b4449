// A pool of threads that work on one job at a time, all together.
#ifndef PENSTOCK_THREAD_POOL_H_
#define PENSTOCK_THREAD_POOL_H_

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace penstock {

class ThreadPool {
 public:
  // The job of thread `id` out of `count`; returns 0, or something else on failure.
  using Job = int (*)(int id, int count, void* context);

  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }
  // Runs the job on all threads, the caller's being number 0. Returns 0 if every one did.
  int run(Job job, void* context);

  // The cores that this process may use.
  static int cores();

 private:
  void stop();
  void work(int id);
  bool wait_for_job(uint64_t seen);

  Job job_ = nullptr;
  void* context_ = nullptr;
  std::atomic<uint64_t> round_{0};  // grows with every job
  std::atomic<int> left_{0};        // workers that have not finished it
  std::atomic<int> failures_{0};
  std::atomic<int> asleep_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

}  // namespace penstock
#endif
